"""Where the time of a step of L2RKD goes, by TensorFlow's profiler.

    python -m benchmarks.profile_step --output=benchmarks/results/profile

The operations of a step belong to the teacher, to the student's forward or backward pass, or to
neither: what distillation itself adds, and the optimizer. Operations may run in parallel, so their
sum exceeds the time of a step.
"""

from absl import app, flags

from benchmarks import profile_page, profiling, speed_pairs, speed_rows
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/profile", "Results: this path with .md.")
flags.DEFINE_list("pairs", ["digits", "wrn", "heavy"], "Pairs of models, of those of `speed.py`.")
flags.DEFINE_string("row", "L2RKD k=1", "What is profiled, of the rows of `speed.py`.")
flags.DEFINE_integer("largest", 6, "Operations of no model to be listed.", lower_bound=0)


def operations(pair, row):
    """`{(name, type): milliseconds a step}` of the operations of a step."""
    given, steps = speed_pairs.setting(pair)
    made = speed_rows.ROWS[row][0](given)
    made.time(steps)
    return profiling.profiled(lambda: made.time(steps), steps)


def main(argv):
    """Profiles, prints and writes the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    tables = [
        profile_page.table(pair, FLAGS.row, operations(pair, FLAGS.row), FLAGS.largest)
        for pair in FLAGS.pairs
    ]
    files.write_text(f"{FLAGS.output}.md", "\n".join(tables))
    print("\n".join(tables))


if __name__ == "__main__":
    app.run(main)
