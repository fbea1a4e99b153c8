"""TensorBoard's event files: writes figures, and drops epochs that will be trained again."""

import glob
import os
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from l2rkd_tf.utils.files import publish, scratch_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drop_epochs", "write_figure"]


def write_figure(writer: tf.summary.SummaryWriter, tag: str, figure: "Figure", step: int) -> None:
    """Writes a figure as an image.

    The same as `tf.summary.image`, which needs TensorBoard to be installed.

    Args:
        writer: Open `tf.summary.SummaryWriter`.
        tag: Name of the image.
        figure: A `matplotlib.figure.Figure`.
        step: Epoch that it shows.
    """
    image = _image(figure)
    height, width = (str(size).encode() for size in image.shape[:2])
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
    with writer.as_default():
        tf.summary.write(
            tag,
            tf.stack([width, height, tf.io.encode_png(image)]),
            step=step,
            metadata=tf.compat.v1.SummaryMetadata(plugin_data=plugin),
        )
    writer.flush()


def drop_epochs(folder: str, first_epoch: int) -> int:
    """Removes all events of an epoch and of later ones from the event files of a folder.

    Files are replaced atomically. An incomplete last record of a killed run is also removed.

    Args:
        folder: Folder of event files whose steps are epochs; it need not exist.
        first_epoch: The first epoch to remove, counted from 0.

    Returns:
        The number of remaining events.
    """
    num_left = 0
    for path in glob.glob(os.path.join(glob.escape(folder), "*tfevents*")):
        records = list(_records(path))
        kept = [record for record in records if not _is_of(record, first_epoch)]
        if len(kept) < len(records):
            _replace(path, kept)
        num_left += sum(_is_of(record, 0) for record in kept)
    return num_left


def _image(figure):
    """Renders a figure: RGBA, uint8, shape `(height, width, 4)`."""
    from matplotlib.backends import backend_agg

    canvas = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def _records(path):
    try:
        for record in tf.data.TFRecordDataset(path):
            yield record.numpy()
    except tf.errors.DataLossError:  # the process was killed while it wrote
        return


def _is_of(record, first_epoch):
    """Whether an event belongs to this epoch or a later one."""
    event = tf.compat.v1.Event.FromString(record)
    return event.HasField("summary") and event.step >= first_epoch


def _replace(path, records):
    # Under a name that TensorBoard does not take for an event file.
    with scratch_path(os.path.join(os.path.dirname(path), "events")) as temporary:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for record in records:
                writer.write(record)
        publish(temporary, path)
