"""Times of the operations of a run, by TensorFlow's profiler."""

import collections
import pathlib
import re
import tempfile

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

# An operation of a graph: `scope/scope/name:Type`, in a loop where several steps are one call.
_OPERATION = re.compile(r"(?:.*StatefulPartitionedCall/)?([\w./]+):([\w_]+)")


def profiled(run, steps):
    """`{(name, type): milliseconds a step}` of the operations of a run of so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        run()
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
