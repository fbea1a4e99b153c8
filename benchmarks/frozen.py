"""What a teacher's pass takes with its weights as constants, in float32 and in bfloat16.

    python -m benchmarks.frozen --output=benchmarks/results/frozen

For each network, all passes are one `tf.function` and take turns, in a new random order in each
round; a ratio is that of two times of a round, to the pass of the model. Batch normalizations have
random statistics, so that what is folded is not trivial.
"""

import random
import sys
import time

import numpy as np
import tqdm
from absl import app, flags

import l2rkd_tf
from benchmarks import frozen_passes, result_files
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_list("networks", None, "Names as for l2rkd_tf.models.get; all by default.")
flags.DEFINE_integer("rounds", 15, "Times that each pass is timed.", lower_bound=2)
flags.DEFINE_integer("batch_size", 64, "Images of 32x32x3 in a batch.", lower_bound=1)
flags.DEFINE_string("output", "runs/frozen", "Results: this path with .json and .md.")


def measure(name):
    """Seconds of the passes by round, and how outputs differ at most from those of the model."""
    passes, images = frozen_passes.make_passes(name, FLAGS.batch_size)
    seconds = {which: [] for which in passes}
    for number in range(FLAGS.rounds):
        order = list(passes)
        random.Random(number).shuffle(order)
        for which in order:
            start = time.perf_counter()
            passes[which](images).numpy()
            seconds[which].append(time.perf_counter() - start)
    outputs = {which: function(images).numpy() for which, function in passes.items()}
    plain = outputs.pop("model")
    differences = {
        which: float(np.abs(plain - other).max() / np.abs(plain).max())
        for which, other in outputs.items()
    }
    return {"seconds": seconds, "differences": differences}


def table_of(found):
    """The results as markdown, with the median over networks."""
    lines = [
        "| network | ms, model | constants, ratio | middle half | difference "
        "| bfloat16, ratio | middle half | difference |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    medians = {"constants": [], "bfloat16": []}
    for name, row in found.items():
        seconds = {which: np.array(times) for which, times in row["seconds"].items()}
        cells = [name, f"{1000 * np.median(seconds['model']):.1f}"]
        for which in medians:
            low, middle, high = np.percentile(seconds[which] / seconds["model"], [25, 50, 75])
            medians[which].append(middle)
            cells += [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
            cells += [f"{row['differences'][which]:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    middles = [f"{np.median(ratios):.2f} | | " for ratios in medians.values()]
    lines.append(f"| median of {len(found)} | | {' | '.join(middles)} |")
    return "\n".join(lines) + "\n"


def main(argv):
    """Measures, prints and writes the ratios; resumes where it stopped."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    all_names = [*l2rkd_tf.models.names(), "convnet 16 32", "convnet 32 64 128"]
    command = " ".join(["python -m benchmarks.frozen", *sys.argv[1:]])
    results = result_files.read(f"{FLAGS.output}.json", {"command": command, "networks": {}})
    for name in tqdm.tqdm(FLAGS.networks or all_names):
        if name not in results["networks"]:
            results["networks"][name] = measure(name)
            files.write_json(f"{FLAGS.output}.json", results, indent=None)
    files.write_text(f"{FLAGS.output}.md", table_of(results["networks"]))
    print(table_of(results["networks"]))


if __name__ == "__main__":
    app.run(main)
