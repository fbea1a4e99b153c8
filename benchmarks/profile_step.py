"""Where the time of a step of L2RKD goes, by TensorFlow's profiler.

    python -m benchmarks.profile_step --output=benchmarks/results/profile

The operations of a step belong to the teacher, to the student's forward or backward pass, or to
neither: what distillation itself adds, and the optimizer. Operations may run in parallel, so their
sum exceeds the time of a step.
"""

import collections
import pathlib
import re
import tempfile

import tensorflow as tf
from absl import app, flags
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import profile_page, speed_pairs, speed_rows
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/profile", "Results: this path with .md.")
flags.DEFINE_list("pairs", ["digits", "wrn", "heavy"], "Pairs of models, of those of `speed.py`.")
flags.DEFINE_string("row", "L2RKD k=1", "What is profiled, of the rows of `speed.py`.")
flags.DEFINE_integer("largest", 6, "Operations of no model to be listed.", lower_bound=0)

# An operation of a graph: `scope/scope/name:Type`, in a loop where several steps are one call.
_OPERATION = re.compile(r"(?:.*StatefulPartitionedCall/)?([\w./]+):([\w_]+)")


def operations(pair, row):
    """`{(name, type): milliseconds a step}` of the operations of a step."""
    given, steps = speed_pairs.setting(pair)
    made = speed_rows.ROWS[row][0](given)
    made.time(steps)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        made.time(steps)
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    (plane,) = (plane for plane in space.planes if "host:CPU" in plane.name)
    milliseconds = collections.Counter()
    for line in plane.lines:
        for event in line.events:
            found = _OPERATION.fullmatch(plane.event_metadata[event.metadata_id].name)
            if found and not found[0].startswith(("EagerLocalExecute", "Iterator")):
                milliseconds[found.groups()] += event.duration_ps / 1e9 / steps
    return milliseconds


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
