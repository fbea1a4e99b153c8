"""Where the time of a frozen teacher's pass goes, by TensorFlow's profiler.

    python -m benchmarks.profile_frozen --output=benchmarks/results/profile_frozen

The same network as a model, and with its weights as constants: milliseconds of its operations, by
their type. A fused convolution contains the batch normalization and the activation behind it.
"""

import collections

from absl import app, flags

from benchmarks import frozen_passes, profiling
from l2rkd_tf.utils import files
from l2rkd_tf.utils.tables import markdown_table

FLAGS = flags.FLAGS

flags.DEFINE_list("of", ["vgg13", "resnet32x4", "wrn_40_2", "resnet56"], "Networks.")
flags.DEFINE_integer("passes", 20, "Passes that are profiled.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Images of 32x32x3 in a batch.", lower_bound=1)
flags.DEFINE_string("output", "runs/profile_frozen", "Results: this path with .md.")


def milliseconds_by_type(name):
    """`{pass: {type of operation: milliseconds}}`."""
    passes, images = frozen_passes.make_passes(name, FLAGS.batch_size)
    found = {}
    for which in ("model", "constants"):

        def run(function=passes[which]):
            for _ in range(FLAGS.passes):
                function(images).numpy()

        found[which] = collections.Counter()
        for (_, kind), value in profiling.profiled(run, FLAGS.passes).items():
            found[which][kind] += value
    return found


def table_of(name, found, smallest=0.01):
    """Types of operations, those that take most first; the small ones together."""
    totals = {which: sum(values.values()) for which, values in found.items()}
    kinds = sorted(
        set().union(*found.values()), key=lambda kind: -max(row[kind] for row in found.values())
    )
    large = [
        kind for kind in kinds if any(found[row][kind] > smallest * totals[row] for row in found)
    ]
    rows = [[kind, *(_cell(found[which][kind]) for which in found)] for kind in large]
    rest = [totals[which] - sum(found[which][kind] for kind in large) for which in found]
    rows += [["others", *map(_cell, rest)], ["all", *map(_cell, totals.values())]]
    table = markdown_table(["operation", "ms, model", "ms, constants"], rows)
    return f"### {name}\n\n{table}\n"


def _cell(value):
    return f"{value:.2f}"


def main(argv):
    """Profiles, prints and writes the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    text = "\n".join(table_of(name, milliseconds_by_type(name)) for name in FLAGS.of)
    files.write_text(f"{FLAGS.output}.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
