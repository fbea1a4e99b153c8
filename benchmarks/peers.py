"""A step of distillation next to one of `keras.distillation` and one of a PyTorch loop.

    pip install -e ".[peers]"
    python -m benchmarks.peers --output=benchmarks/results/peers

Rows take turns, in a new random order in each round; a ratio is one of two times of the same round.
PyTorch runs in a process of its own, which waits while TensorFlow works. Needs two cores that
nothing else uses; it resumes where it stopped.
"""

import functools
import json
import random
import subprocess
import sys
from importlib import metadata

import keras
import numpy as np
import tqdm
from absl import app, flags

import l2rkd_tf
from benchmarks import result_files, speed_pairs, speed_rows
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/peers", "Results: this path with .json and .md.")
flags.DEFINE_list("pairs", ["wrn", "heavy"], "Pairs of models, of `speed_pairs.PAIRS`.")
flags.DEFINE_integer("rounds", 15, "Times that each row is timed.", lower_bound=2)

#: Names of the networks of a pair, for PyTorch.
NETWORKS = {"wrn": ("wrn_16_2", "wrn_16_1"), "heavy": ("wrn_40_2", "wrn_16_2")}
TORCH = ("PyTorch", "PyTorch, channels_last", "PyTorch, channels_last, compiled")
OURS = (speed_rows.STUDENT, speed_rows.KERAS, "KD", "L2RKD half", "L2RKD k=1", "KD, cached")
BANK = "L2RKD half, bank"
#: Rows whose teacher computes in bfloat16, with their options.
BFLOAT16 = {
    "KD, bfloat16 teacher": {"region_weight": 0.0},
    "L2RKD half, bfloat16 teacher": speed_rows.HALF,
}
#: What each row is divided by; the goals are upper bounds of the ratio.
RATIOS = {
    ("KD", speed_rows.KERAS): 0.95,
    ("L2RKD half", speed_rows.KERAS): 0.96,
    ("L2RKD k=1", speed_rows.KERAS): 1.9,
    ("KD", TORCH[0]): None,
    ("KD", TORCH[1]): 1.0,
    ("KD", TORCH[2]): None,
    ("L2RKD half", TORCH[1]): None,
    ("KD, bfloat16 teacher", "KD"): None,
    ("L2RKD half, bfloat16 teacher", "L2RKD half"): None,
    ("KD, bfloat16 teacher", TORCH[1]): None,
    (BANK, "KD, cached"): 1.05,
}


class Torch:
    """The worker of a pair.

    Args:
        pair: Name of the pair.
        batch_size: Images in a batch.
    """

    def __init__(self, pair, batch_size):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers_torch", *NETWORKS[pair], str(batch_size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def row(self, name):
        """A row with a method `time`."""
        return functools.partial(self._ask, name)

    def _ask(self, name, steps):
        self._process.stdin.write(json.dumps({"row": name, "steps": steps}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["seconds"]

    def close(self):
        """Ends the worker."""
        self._process.stdin.close()
        self._process.wait()


def bank_row(setting, batch_size):
    """L2RKD of a bank: half of each batch at its points, and no teacher."""
    data = setting.plain.take(speed_pairs.NUM_BATCHES)
    bank = l2rkd_tf.teacher_cache.cache_regions(
        data, setting.make_teacher(), None, 2, batch_size=batch_size, seed=0, verbose=False
    )
    model = l2rkd_tf.L2RKDDistiller(None, setting.make_student(), seed=0, **speed_rows.HALF)
    return speed_rows.Fit(setting.compiled(model), bank.repeat())


def time_pair(pair, times, skipped, save):
    """Times the rows of a pair in turns until each has been timed so often."""
    done = min((len(found) for found in times.values()), default=0)
    if done >= FLAGS.rounds:
        return
    setting, steps = speed_pairs.setting(pair)
    batch_size = speed_pairs.PAIRS[pair][3]
    worker = Torch(pair, batch_size)
    rows = {name: speed_rows.ROWS[name][0](setting).time for name in OURS}
    for name, options in BFLOAT16.items():
        make = speed_rows.distiller(teacher_dtype="bfloat16", **options)
        rows[name] = make(setting).time
    rows |= {BANK: bank_row(setting, batch_size).time} | {name: worker.row(name) for name in TORCH}
    for name, row in tqdm.tqdm(list(rows.items()), desc=f"{pair}: first steps"):
        try:
            row(steps)
            row(steps)
        except RuntimeError as error:
            del rows[name]
            skipped[name] = str(error)
    for number in tqdm.trange(done, FLAGS.rounds, desc=pair):
        order = list(rows)
        random.Random(number).shuffle(order)
        for name in order:
            times.setdefault(name, []).append(rows[name](steps) / steps)
        save()
    worker.close()


def page_of(results):
    """The results as markdown."""
    lines = [f"`{results['command']}`, {', '.join(results['versions'])}.", ""]
    lines += ["| pair | row | divided by | ratio, median | middle half | goal, at most |"]
    lines += ["|:--|:--|:--|--:|--:|--:|"]
    for pair, times in results["times"].items():
        for (row, other), goal in RATIOS.items():
            if row in times and other in times:
                ratios = np.array(times[row]) / np.array(times[other])
                low, middle, high = np.percentile(ratios, [25, 50, 75])
                spread = f"{low:.2f} to {high:.2f}"
                goal = "" if goal is None else f"{goal:.2f}"
                lines.append(f"| {pair} | {row} | {other} | {middle:.2f} | {spread} | {goal} |")
    lines += ["", "| pair | row | ms a step, median |", "|:--|:--|--:|"]
    for pair, times in results["times"].items():
        for row, found in times.items():
            lines.append(f"| {pair} | {row} | {1000 * np.median(found):.0f} |")
    for pair, skipped in results["skipped"].items():
        lines += [f"\n{pair}, {row}: not timed. {error}" for row, error in skipped.items()]
    return "\n".join(lines) + "\n"


def main(argv):
    """Measures what is missing, prints and writes the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    versions = [f"{name} {metadata.version(name)}" for name in ("keras", "tensorflow", "torch")]
    versions += [f"l2rkd_tf {l2rkd_tf.__version__}"]
    command = " ".join(["python -m benchmarks.peers", *sys.argv[1:]])
    path = f"{FLAGS.output}.json"
    results = result_files.read(
        path, {"command": command, "versions": versions, "times": {}, "skipped": {}}
    )
    save = functools.partial(files.write_json, path, results, indent=1)
    for pair in FLAGS.pairs:
        keras.backend.clear_session()
        times = results["times"].setdefault(pair, {})
        time_pair(pair, times, results["skipped"].setdefault(pair, {}), save)
    files.write_text(f"{FLAGS.output}.md", page_of(results))
    print(page_of(results))


if __name__ == "__main__":
    app.run(main)
