"""Times training on one and on two local workers, predicts the second from parts, extrapolates.

    python -m benchmarks.scaling --output=benchmarks/results/scaling

Needs two cores that nothing else uses, and less than ten minutes. The workers are processes of one
core each, which exchange through the loopback interface; GPUs are hidden from them. Measured are

- steps of `fit` with the global batch on one worker, with half of it on one worker, and with all
  of it on two workers, for two students;
- only the exchange (all-reduce) of each student's gradients, and of other sizes.

Latency and bandwidth are fitted to the exchanges. The prediction for two workers is the time of
one worker with half of the batch, plus that of all exchanges of a step. The table for many
accelerators is arithmetic: it follows from the flags `--link_gigabytes_per_second`,
`--latency_microseconds`, `--compute_milliseconds` and `--parameters`, and from the number of
exchanges in a step that was counted here.
"""

import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from absl import app, flags

from benchmarks import scaling_model, scaling_page
from l2rkd_tf.utils import files

ROOT = pathlib.Path(__file__).parent.parent

FLAGS = flags.FLAGS

SETTINGS = ("repeats", "students", "batch_size", "steps", "epochs")
ASSUMED = (
    "link_gigabytes_per_second",
    "latency_microseconds",
    "compute_milliseconds",
    "parameters",
)

flags.DEFINE_string("output", "runs/scaling", "Results: this path with .json and .md.")
flags.DEFINE_integer("repeats", 5, "Runs of each number of workers, in turns.", lower_bound=1)
flags.DEFINE_list("students", ["16x32", "64x128"], "Widths of the blocks of each student.")
flags.DEFINE_integer("batch_size", 128, "Examples in the global batch.", lower_bound=2)
flags.DEFINE_integer("steps", 20, "Steps that are timed together.", lower_bound=1)
flags.DEFINE_integer("epochs", 5, "Times in a run, each of --steps steps.", lower_bound=1)
flags.DEFINE_list(
    "exchange_bytes",
    ["4", "16384", "262144", "4194304"],
    "Sizes of exchanges, in addition to those of the students' gradients.",
)
flags.DEFINE_float("link_gigabytes_per_second", 12.5, "Assumed bandwidth of each link.")
flags.DEFINE_float("latency_microseconds", 20.0, "Assumed time of a message without content.")
flags.DEFINE_float("compute_milliseconds", 100.0, "Assumed time of a step on one accelerator.")
flags.DEFINE_float("parameters", 1e7, "Assumed trainable weights of the student.")
flags.register_validator(
    "students",
    lambda words: bool(words) and all(re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", w) for w in words),
    "must be widths such as 16x32",
)
flags.register_validator("batch_size", lambda size: size % 2 == 0, "must be even")
flags.register_validator(
    "exchange_bytes",
    lambda words: bool(words) and all(w.isdecimal() and int(w) >= 4 for w in words),
    "must be integers from 4",
)
for name in ASSUMED:
    flags.register_validator(name, lambda value: 0 < value < math.inf, "must be above 0")


def measure(num_workers, folder):
    """Runs the workers once; returns what worker 0 wrote."""
    path = os.path.join(folder, "times.json")
    half = f",{FLAGS.batch_size // 2}" if num_workers == 1 else ""
    launcher = [sys.executable, "-m", "l2rkd_command", "launch"]
    worker = [sys.executable, "-m", "benchmarks.scaling_worker"]
    worker += [
        f"--output={path}",
        f"--students={','.join(FLAGS.students)}",
        f"--batch_sizes={FLAGS.batch_size}{half}",
        f"--exchange_bytes={','.join(FLAGS.exchange_bytes)}",
        f"--steps={FLAGS.steps}",
        f"--epochs={FLAGS.epochs}",
    ]
    environment = os.environ | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        # Both packages are in the root of the repository, from wherever this is started.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    subprocess.run(
        [*launcher, f"--num_workers={num_workers}", "--", *worker], env=environment, check=True
    )
    with open(path) as file:
        return json.load(file)


def collect_runs():
    """Runs of one and of two workers in turns."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(FLAGS.repeats):
            for num_workers in (1, 2):
                print(f"repeat {repeat + 1} of {FLAGS.repeats}, {num_workers} workers", flush=True)
                runs.append(measure(num_workers, folder))
    return runs


def main(argv):
    """Measures, summarizes, writes JSON and markdown."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    runs = collect_runs()
    results = {
        "command": " ".join(["python -m benchmarks.scaling", *sys.argv[1:]]),
        "versions": runs[0]["versions"],
        "settings": {name: FLAGS[name].value for name in SETTINGS},
        "assumed": {name: FLAGS[name].value for name in ASSUMED},
        "runs": runs,
    }
    results["summary"] = scaling_model.summarize(runs, FLAGS.batch_size, results["assumed"])
    page = scaling_page.markdown(results)
    files.write_json(f"{FLAGS.output}.json", results)
    files.write_text(f"{FLAGS.output}.md", page)
    print(page)


if __name__ == "__main__":
    app.run(main)
