"""The pictures of the page on regions, drawn by the library's own regions.

    python docs/_build/draw_regions.py

writes `region_shapes.png` and `region_images.png` to `docs/images`, or to `--output`.
"""

import pathlib

import numpy as np
import tensorflow as tf
from absl import app, flags
from matplotlib import figure as figures

import l2rkd_tf
from l2rkd_tf.utils.files import atomic_path

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "output", str(pathlib.Path(__file__).parent.parent / "images"), "Folder of the pictures."
)

# The first is the training point, the others are the rest of its batch.
POINTS = np.array([[0.25, 0.25], [0.9, 0.35], [0.45, 0.95], [0.75, 0.75]], "float32")
NUM_DRAWS = 500
NUM_IMAGES = 7

PLANE_REGIONS = {
    "Segment()": l2rkd_tf.regions.Segment(),
    "Simplex(num_partners=2)": l2rkd_tf.regions.Simplex(num_partners=2),
    "Patch(): a box": l2rkd_tf.regions.Patch(grid=(1, 2)),
    "Ball(radius=0.15)": l2rkd_tf.regions.Ball(radius=0.15),
}
IMAGE_REGIONS = {
    "Segment()": l2rkd_tf.regions.Segment(),
    "Simplex()": l2rkd_tf.regions.Simplex(),
    "Patch(grid=4)": l2rkd_tf.regions.Patch(grid=4),
    'Ball(0.2,\nnorm="gaussian")': l2rkd_tf.regions.Ball(0.2, norm="gaussian"),
}


def region_points(region, batch, num_draws):
    """Points drawn from the region of the first example of a batch.

    Args:
        region: A `l2rkd_tf.regions.Region`.
        batch: Examples, shape `(batch, ...)`.
        num_draws: Number of draws.

    Returns:
        Array of shape `(num_draws, ...)`.
    """
    batch = tf.convert_to_tensor(batch)

    def point(draw):
        return region.apply(batch, region.draw(batch, seed=tf.stack([0, tf.cast(draw, "int32")])))[
            0
        ]

    return np.stack(list(tf.data.Dataset.range(num_draws).map(point).as_numpy_iterator()))


def draw_shapes():
    """One panel for each region: a training point of the plane, its batch, and region points."""
    figure = figures.Figure(figsize=(9, 2.6), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(PLANE_REGIONS), sharex=True, sharey=True)
    # Two pixels are two coordinates, so that `Patch` has something to divide.
    images = POINTS.reshape(-1, 1, 2, 1)
    for axes, (name, region) in zip(panels, PLANE_REGIONS.items(), strict=True):
        drawn = region_points(region, images, NUM_DRAWS).reshape(-1, 2)
        axes.plot(*drawn.T, ".", color="#56B4E9", markersize=3, label="region points")
        axes.plot(*POINTS[1:].T, "s", color="#D55E00", markersize=6, label="others of the batch")
        axes.plot(*POINTS[0], "o", color="black", markersize=7, label="training point")
        axes.set_title(name, fontsize=10)
        axes.set(xlim=(0, 1), ylim=(0, 1.05), xticks=[], yticks=[], aspect="equal")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def draw_images():
    """One row for each region: a training image and points of its region."""
    dataset = l2rkd_tf.data.load("digits", "train", batch_size=50, shuffle=False)
    images, _ = next(iter(dataset))
    figure = figures.Figure(figsize=(9, 4.6), dpi=110, layout="constrained")
    rows = figure.subplots(len(IMAGE_REGIONS), 1 + NUM_IMAGES)
    for row, (name, region) in zip(rows, IMAGE_REGIONS.items(), strict=True):
        drawn = region_points(region, images, NUM_IMAGES)
        for axes, image in zip(row, [images[0], *drawn], strict=True):
            axes.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
    rows[0, 0].set_title("training image", fontsize=9)
    rows[0, 4].set_title("seven points of its region", fontsize=9)
    return figure


def main(argv):
    """Draws both pictures."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    output = pathlib.Path(FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, figure in {"shapes": draw_shapes(), "images": draw_images()}.items():
        with atomic_path(output / f"region_{name}.png") as path:
            figure.savefig(path, format="png")


if __name__ == "__main__":
    app.run(main)
