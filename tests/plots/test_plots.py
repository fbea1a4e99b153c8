import importlib
import io
import sys

import keras
import numpy as np
import pytest
from matplotlib import colors, image, text
from matplotlib.figure import Figure

import l2rkd_tf
from l2rkd_tf import plots

TRIANGLE = [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]


def linear_model(kernel, bias=None):
    kernel = np.asarray(kernel, "float32")
    model = keras.Sequential([keras.Input(kernel.shape[:1]), keras.layers.Dense(kernel.shape[1])])
    model.set_weights([kernel, np.zeros(kernel.shape[1]) if bias is None else np.asarray(bias)])
    return model


def halfplane_model(threshold, gain=1.0):
    """Predicts class 1 where the first feature exceeds the threshold, else class 0."""
    return linear_model([[0.0, gain], [0.0, 0.0]], [0.0, -gain * threshold])


def titles(figure):
    return [
        item.get_text()
        for axes in figure.axes
        for item in axes.findobj(text.Text)
        if item.get_text().startswith("agrees")
    ]


# The plane


@pytest.mark.parametrize("shape", [(2,), (5,), (8, 8, 1)])
def test_plane_is_an_isometry_that_holds_the_examples(shape):
    examples = np.random.default_rng(0).normal(size=(3, *shape))
    plane = plots.plane_grid(examples, resolution=7)
    np.testing.assert_allclose(plane.basis @ plane.basis.T, np.eye(2), atol=1e-12)
    assert plane.points(plane.corners).shape == (3, *shape)
    np.testing.assert_allclose(plane.points(plane.corners), examples, atol=1e-6)
    flat = examples.reshape(3, -1)
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        np.testing.assert_allclose(
            np.linalg.norm(plane.corners[one] - plane.corners[other]),
            np.linalg.norm(flat[one] - flat[other]),
            rtol=1e-12,
        )
    assert plane.corners[1, 1] == 0.0 and plane.corners[2, 1] > 0.0


def test_grid_of_a_right_triangle():
    plane = plots.plane_grid(TRIANGLE, resolution=5, extent=0.25)
    np.testing.assert_allclose(plane.corners, TRIANGLE)
    # The bounding box is 4 by 3 around (2, 1.5); a side of the square is 4 + 2 * 0.25 * 4 = 6.
    np.testing.assert_allclose(plane.horizontal, [-1.0, 0.5, 2.0, 3.5, 5.0])
    np.testing.assert_allclose(plane.vertical, [-1.5, 0.0, 1.5, 3.0, 4.5])
    points = plane.points()
    assert points.shape == (5, 5, 2) and points.dtype == np.float32
    np.testing.assert_allclose(points[0, -1], [5.0, -1.5], atol=1e-6)
    np.testing.assert_allclose(points[3, 2], [2.0, 3.0], atol=1e-6)
    np.testing.assert_allclose(points, plane.coordinates, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"examples": np.zeros((4, 2))}, "`examples` must be three inputs"),
        ({"examples": np.zeros(3)}, "`examples` must be three inputs"),
        (
            {"examples": [[0, 0], [1, np.nan], [0, 1]]},
            "`examples` must be three inputs with finite",
        ),
        ({"examples": [[0, 0], [1, 1], [2, 2]]}, "do not lie on one line"),
        ({"examples": [[0, 0], [0, 0], [2, 2]]}, "do not lie on one line"),
        ({"examples": [[1, 2], [0, 5], [1, 2]]}, "do not lie on one line"),
        ({"resolution": 1}, "`resolution` must be an integer of at least 2"),
        ({"resolution": 2.5}, "`resolution` must be an integer of at least 2"),
        ({"extent": -0.1}, "`extent` must be a finite number"),
        ({"extent": np.inf}, "`extent` must be a finite number"),
    ],
)
def test_wrong_uses_of_plane_grid(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.plane_grid(**{"examples": TRIANGLE, **arguments})


# Agreement


def test_class_agreement_counts_points_of_the_same_class():
    scores = np.array([[[3.0, 1.0, 2.0], [0.0, 1.0, 5.0]], [[1.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])
    other = np.array([[[1.0, 0.0, 0.0], [9.0, 1.0, 5.0]], [[0.5, 0.0, 0.0], [0.0, 0.1, 0.0]]])
    assert plots.top1_agreement(scores, other) == 0.75
    assert plots.top1_agreement(scores, scores) == 1.0
    with pytest.raises(ValueError, match="must have the same shape"):
        plots.top1_agreement(scores, other[0])


@pytest.mark.parametrize("resolution", [20, 50])
def test_panel_titles_show_the_agreement_on_the_plane(resolution):
    # The plane spans -1.2 to 5.2; class 1 begins at 2.0 and at 3.28, which is 20 % further.
    models = {
        "teacher": halfplane_model(2.0),
        "same": halfplane_model(2.0, gain=3.0),
        "shifted": halfplane_model(3.28),
    }
    figure = plots.decision_map(models, TRIANGLE, resolution=resolution)
    assert titles(figure) == ["agrees with teacher: 100.0 %", "agrees with teacher: 80.0 %"]
    assert [axes.get_title() for axes in figure.axes] == ["teacher", "same", "shifted"]


# The picture


def test_colour_is_the_class_and_strength_the_confidence():
    models = {"sure": halfplane_model(2.0, gain=1e4), "unsure": halfplane_model(2.0, gain=1e-6)}
    figure = plots.decision_map(models, TRIANGLE, resolution=10)
    sure, unsure = (axes.findobj(image.AxesImage)[0].get_array() for axes in figure.axes)
    first, second = np.array(colors.to_rgb("#0072B2")), np.array(colors.to_rgb("#E69F00"))
    np.testing.assert_allclose(sure[:, :5], np.broadcast_to(first, (10, 5, 3)), atol=1e-6)
    np.testing.assert_allclose(sure[:, 5:], np.broadcast_to(second, (10, 5, 3)), atol=1e-6)
    palest = 1.0 - 0.4 * (1.0 - first)
    np.testing.assert_allclose(unsure[:, :5], np.broadcast_to(palest, (10, 5, 3)), atol=1e-5)


def test_probabilities_are_taken_as_they_are():
    logits = halfplane_model(2.0)
    softmax = keras.Sequential([logits, keras.layers.Softmax()])
    softmax.build((None, 2))
    pictures = [
        plots.decision_map({"model": model}, TRIANGLE, resolution=10, from_logits=from_logits)
        .axes[0]
        .findobj(image.AxesImage)[0]
        .get_array()
        for model, from_logits in [(logits, True), (softmax, False)]
    ]
    np.testing.assert_allclose(*pictures, atol=1e-6)


@pytest.mark.parametrize("class_names", [None, ["cat", "dog", "never"]])
def test_legend_names_the_classes_that_occur(class_names):
    kernel = [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    model = linear_model(kernel, [0.0, -2.0, -99.0])
    models = {"teacher": model, "student": model}
    figure = plots.decision_map(models, TRIANGLE, class_names=class_names, resolution=10)
    labels = [entry.get_text() for entry in figure.legends[0].get_texts()]
    expected = ["0", "1"] if class_names is None else ["cat", "dog"]
    assert labels == [*expected, "boundaries of teacher"]


def test_many_classes_keep_ten_colours_for_the_largest():
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    kernel = np.stack([np.cos(angles), np.sin(angles)])
    model = linear_model(kernel, -kernel.T @ np.array([2.0, 1.5]))
    figure = plots.decision_map({"model": model}, TRIANGLE, resolution=40)
    labels = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert len(labels) == 11 and labels[-1] == "other"


@pytest.mark.parametrize(
    ("shape", "thumbnails"), [((6, 6, 1), 3), ((6, 6, 3), 3), ((6, 6, 2), 0), ((12,), 0)]
)
def test_images_are_shown_next_to_their_points_and_inside_the_panel(shape, thumbnails):
    examples = np.random.default_rng(0).random((3, *shape))
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])
    figure = plots.decision_map({"model": model}, examples, resolution=12)
    plane, *pictures = figure.axes[0].findobj(image.AxesImage)
    assert len(pictures) == thumbnails
    left, right, bottom, top = plane.get_extent()
    assert figure.axes[0].axis() == pytest.approx((left, right, bottom, top))
    for picture, example in zip(pictures, examples, strict=False):
        x0, x1, y0, y1 = picture.get_extent()
        assert left < x0 < x1 < right and bottom < y0 < y1 < top
        span = example.max() - example.min()
        expected = ((example - example.min()) / span).squeeze()
        np.testing.assert_allclose(picture.get_array(), expected, atol=1e-6)


@pytest.mark.parametrize(("count", "positions"), [(1, 1), (4, 4), (5, 3), (8, 4)])
def test_panels_stand_side_by_side_without_overlap(count, positions):
    model = halfplane_model(2.0)
    models = {f"model {index}": model for index in range(count)}
    figure = plots.decision_map(models, TRIANGLE, resolution=5, title="A title")
    boxes = [axes.get_position() for axes in figure.axes]
    assert len({round(box.x0, 6) for box in boxes}) == positions
    width, height = figure.get_size_inches()
    assert width == 9.0
    for box in boxes:
        assert 0 < box.x0 < box.x1 < 1 and 0 < box.y0 < box.y1 < 1
        assert box.width * width == pytest.approx(box.height * height)
    assert not any(
        one.overlaps(other)
        for index, one in enumerate(boxes)
        for other in boxes[:index]
        if one.y0 != other.y0
    )


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_picture_is_saved_atomically_in_a_new_folder(tmp_path, suffix):
    path = tmp_path / "figures" / f"map.{suffix}"
    models = {"teacher": halfplane_model(2.0), "student": halfplane_model(3.0)}
    figure = plots.decision_map(models, TRIANGLE, resolution=10, path=str(path))
    assert isinstance(figure, Figure)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    if suffix == "png":
        picture = image.imread(path)
        assert picture.shape[1] == 1800
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png")
        drawn.seek(0)
        np.testing.assert_array_equal(picture, image.imread(drawn))


def test_a_failed_save_leaves_the_older_picture(tmp_path):
    path = tmp_path / "map.unknown"
    path.write_text("precious")
    with pytest.raises(ValueError, match="unknown"):
        plots.decision_map({"m": halfplane_model(2.0)}, TRIANGLE, resolution=5, path=path)
    assert path.read_text() == "precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map.unknown"]


def test_names_with_dollar_signs_are_shown_as_they_are(tmp_path):
    """As prices are classes: `$`, `$$` and `$$$`."""
    models = {"$": halfplane_model(1.0), "$x_": halfplane_model(1.5)}
    figure = plots.decision_map(
        models, TRIANGLE, class_names=["$$", "$x_"], title="$$", path=tmp_path / "map.png"
    )
    found = {item.get_text() for item in figure.findobj(text.Text)}
    assert {"$$", "$x_", "$", "boundaries of $"} <= found
    assert (tmp_path / "map.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {}}, "`models` must be a dict"),
        ({"models": [halfplane_model(2.0)]}, "`models` must be a dict"),
        ({"models": {"m": linear_model([[1.0], [1.0]])}}, "`models` must output scores of shape"),
        (
            {"models": {"a": halfplane_model(2.0), "b": linear_model(np.eye(2, 3))}},
            "`models` must all have the same classes.*'a': 2, 'b': 3",
        ),
        ({"class_names": ["only one"]}, "`class_names` must hold one name for each of the 2"),
        ({"examples": np.zeros((2, 2))}, "`examples` must be three inputs"),
    ],
)
def test_wrong_uses_of_decision_map(arguments, message):
    arguments = {"models": {"m": halfplane_model(2.0)}, "examples": TRIANGLE, **arguments}
    with pytest.raises(ValueError, match=message):
        plots.decision_map(**arguments, resolution=5)


def test_without_matplotlib_the_error_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[plots\]"):
        plots.decision_map({"m": halfplane_model(2.0)}, TRIANGLE)


def test_the_module_can_be_imported_without_matplotlib(monkeypatch):
    # Not a look at `sys.modules` afterwards: Keras itself imports Matplotlib where it is installed.
    monkeypatch.setattr(l2rkd_tf, "plots", plots)  # puts it back
    for name in [name for name in sys.modules if name.startswith("l2rkd_tf.plots")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert importlib.import_module("l2rkd_tf.plots") is not plots
