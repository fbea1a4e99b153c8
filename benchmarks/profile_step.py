"""Where the time of a step goes, by TensorFlow's profiler.

    python -m benchmarks.profile_step --output=benchmarks/results/profile

The operations of a step belong to the teacher, to the student's forward or backward pass, or to
neither: what distillation itself adds, and the optimizer. Operations may run in parallel, so their
sum exceeds the time of a step.
"""

import itertools

from absl import app, flags

from benchmarks import profile_page, profiling, speed_pairs, speed_rows
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/profile", "Results: this path with .md.")
flags.DEFINE_list("pairs", ["digits", "wrn", "heavy"], "Pairs of models, of those of `speed.py`.")
flags.DEFINE_list(
    "rows", [speed_rows.KERAS, "KD", "L2RKD half", "L2RKD k=1"], "Rows of `speed.py`."
)


def operations(pair, row):
    """`{(name, type): milliseconds a step}` of the operations of a step."""
    given, steps = speed_pairs.setting(pair)
    made = speed_rows.ROWS[row][0](given)
    made.time(steps)
    return profiling.profiled(lambda: made.time(steps), steps)


def main(argv):
    """Profiles, prints and writes the table."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    measured = {
        (pair, row): operations(pair, row)
        for pair, row in itertools.product(FLAGS.pairs, FLAGS.rows)
    }
    table = profile_page.table(measured)
    files.write_text(f"{FLAGS.output}.md", table)
    print(table)


if __name__ == "__main__":
    app.run(main)
