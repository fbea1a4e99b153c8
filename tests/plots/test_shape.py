"""Figures of local shape and of training: they hold the data they are given."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from scipy import stats

from l2rkd_tf import geometry, plots
from l2rkd_tf.plots import style

FRACTIONS = np.array([0.0, 0.5, 1.0])
NORMAL_QUANTILE = stats.norm.ppf(0.975)


def profile(kl, agreement=(0.99, 0.9, 0.8), num_points=50):
    return geometry.FidelityProfile(
        FRACTIONS,
        np.array(kl),
        np.array(kl) / 10,
        np.array(agreement),
        np.array([0.01, 0.02, 0.03]),
        num_points,
    )


def gap(relative=(0.2, 0.4, 0.1)):
    relative = np.array(relative)
    return geometry.LinearityGap(
        np.array([0.25, 0.5, 0.75]), 3 * relative, relative, relative, relative / 20
    )


def legend(figure):
    return [entry.get_text() for entry in figure.legends[0].get_texts()]


def bands(axes):
    """Lowest and highest height of each band at each of its places on the horizontal axis."""
    found = []
    for band in axes.collections:
        vertices = band.get_paths()[0].vertices
        places = np.unique(vertices[:, 0])
        heights = [vertices[vertices[:, 0] == place, 1] for place in places]
        found.append(np.array([(values.min(), values.max()) for values in heights]).T)
    return found


def looks(axes):
    return {
        (line.get_color(), line.get_marker(), str(line.get_linestyle()), line.get_markerfacecolor())
        for line in axes.get_lines()
    }


def boxes_overlap(figure):
    """Whether the legend covers a panel."""
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    return any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


# Fidelity


def test_profiles_are_drawn_with_their_intervals():
    profiles = {"KD": profile([0.1, 0.4, 0.8]), "L2RKD": profile([0.1, 0.2, 0.3], (1, 0.97, 0.95))}
    figure = plots.fidelity_profiles(profiles)
    assert isinstance(figure, Figure)
    assert legend(figure) == ["KD", "L2RKD"]
    assert "over 50 examples" in figure.legends[0].get_title().get_text()
    kinds = [("kl", "kl_stderr"), ("agreement", "agreement_stderr")]
    for axes, (mean, stderr) in zip(figure.axes, kinds, strict=True):
        lines, areas = axes.get_lines(), bands(axes)
        for line, area, values in zip(lines, areas, profiles.values(), strict=True):
            means, errors = getattr(values, mean), getattr(values, stderr)
            np.testing.assert_array_equal(line.get_xdata(), FRACTIONS)
            np.testing.assert_array_equal(line.get_ydata(), means)
            half_widths = NORMAL_QUANTILE * errors
            expected = [means - half_widths, means + half_widths]
            np.testing.assert_allclose(area, expected, rtol=1e-12)
    assert figure.axes[0].get_yscale() == "linear" and figure.axes[0].get_ylim()[0] == 0.0
    assert figure.axes[1].get_ylim()[1] <= 1.005
    assert not boxes_overlap(figure)


@pytest.mark.parametrize(
    ("kl", "scale"),
    [([0.01, 0.05, 0.099], "linear"), ([0.01, 0.05, 0.1], "log"), ([0.0, 0.05, 5.0], "linear")],
)
def test_divergence_is_logarithmic_from_a_factor_of_ten(kl, scale):
    axes, _ = plots.fidelity_profiles(profile(kl)).axes
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low <= min(kl) and high >= max(kl)


def test_a_band_that_reaches_zero_leaves_the_logarithmic_axis_readable():
    unsure = profile([0.01, 0.05, 0.2])._replace(kl_stderr=np.array([0.02, 0.01, 0.01]))
    axes, _ = plots.fidelity_profiles(unsure).axes
    np.testing.assert_allclose(axes.get_ylim(), [0.01 / 1.5, 0.2 * 1.5])


def test_one_profile_needs_no_name_and_one_example_has_no_interval():
    alone = profile([0.1, 0.2, 0.3], num_points=1)
    alone = alone._replace(kl_stderr=np.full(3, np.nan), agreement_stderr=np.full(3, np.nan))
    figure = plots.fidelity_profiles(alone)
    assert not figure.legends or legend(figure) == []
    np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_ydata(), [0.1, 0.2, 0.3])


def test_raw_outputs_have_no_panel_of_decisions():
    raw = profile([1.0, 2.0, 3.0], [np.nan] * 3)
    (axes,) = plots.fidelity_profiles({"student": raw}).axes
    assert "squared error" in axes.get_ylabel()
    with pytest.raises(ValueError, match="`profiles` must be of one divergence"):
        plots.fidelity_profiles({"a": raw, "b": profile([1, 2, 3])})


def test_thirty_curves_all_look_different():
    profiles = {str(number): profile([0.1, 0.2, 0.3]) for number in range(30)}
    figure = plots.fidelity_profiles(profiles)
    assert len(looks(figure.axes[0])) == 30
    looks_of_five = [style.curve_style(number) for number in range(5)]
    for kind in ("color", "marker", "linestyle"):
        assert len({look[kind] for look in looks_of_five}) == 5
    assert not boxes_overlap(figure)


@pytest.mark.parametrize("name", ["_kd", "$x_1$ & $", "a\nb", 7])
def test_names_are_shown_verbatim(name, tmp_path):
    figure = plots.fidelity_profiles({name: profile([0.1, 0.2, 0.3])})
    assert [text.strip() for text in legend(figure)] == [str(name)]
    assert not figure.legends[0].get_texts()[0].get_parse_math()
    figure.savefig(tmp_path / "figure.png")


# Linearity


@pytest.mark.parametrize("radius", [None, 0.5, 1])
def test_gap_is_drawn_relative_and_the_region_is_marked(radius):
    gaps = {"teacher": gap(), "student": gap([0.1, 0.2, 0.3])}
    figure = plots.linearity_gap(gaps, radius)
    (axes,) = figure.axes
    for line, values in zip(axes.get_lines(), gaps.values(), strict=False):
        np.testing.assert_array_equal(line.get_xdata(), [0.25, 0.5, 0.75])
        np.testing.assert_array_equal(line.get_ydata(), values.relative)
    expected = 0.4 * (1 + NORMAL_QUANTILE / 20 * np.array([-1, 1]))
    np.testing.assert_allclose(bands(axes)[0][:, 1], expected)
    marks = [] if radius is None else [f"region, radius {radius:g}"]
    assert legend(figure) == ["teacher", "student", *marks]
    if radius is not None:
        assert axes.get_lines()[-1].get_xdata() == [radius, radius]
        box = axes.transData.inverted().transform(axes.patches[0].get_extents())
        np.testing.assert_allclose(box[:, 0], [0, radius], atol=1e-9)
    assert not boxes_overlap(figure)


# Radii


def test_radii_are_counted_and_what_has_no_place_is_named():
    radii = np.array([0.0, 0.01, 0.02, 0.02, np.inf, np.inf, np.inf])
    distances = np.array([1.0, 2.0, 2.0, 3.0])
    figure = plots.linear_radii(radii, distances)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert legend(figure) == [
        "linear radius: median 0.02 (1 zero, 3 infinite)",
        "nearest neighbour: median 2",
    ]
    first, second = (patch.get_path().vertices for patch in axes.patches)
    assert first[:, 1].max() == 2 and second[:, 1].max() == 2
    assert first[:, 0].min() <= 0.01 and second[:, 0].max() >= 3.0
    assert not boxes_overlap(figure)


@pytest.mark.parametrize(
    ("exact", "label"), [(True, "linear radius of a"), (False, "linear radius (upper bound) of a")]
)
def test_radii_of_balls_say_when_they_are_bounds(exact, label):
    ball = geometry.BallRadius(np.array([0.1, 0.3]), exact, 12)
    figure = plots.linear_radii({"a": ball, "b": [0.5, 0.7]}, [1.0, 1.0])
    assert legend(figure) == [
        f"{label}: median 0.2",
        "linear radius of b: median 0.6",
        "nearest neighbour: median 1",
    ]
    edges = [colors.to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]
    assert len(set(edges)) == 3
    assert [patch.get_hatch() for patch in figure.axes[0].patches] == [None, None, "///"]


def test_all_examples_fall_into_a_bin():
    radii, distances = np.geomspace(1e-6, 1e-2, 37), np.full(11, 5.0)
    figure = plots.linear_radii(radii, distances)
    for patch, count in zip(figure.axes[0].patches, (37, 11), strict=True):
        # The outline runs along the top of each bin from left to right, and back along 0.
        outline = patch.get_path().vertices
        tops = [
            top
            for (left, top), (right, height) in zip(outline[:-1], outline[1:], strict=True)
            if right > left and top == height
        ]
        assert sum(tops) == count


# Training


def test_training_is_drawn_by_kind_against_epochs():
    history = {
        "accuracy": [0.5, 0.75, 0.9],
        "hard_loss": [1.0, 0.5, 0.4],
        "kd_loss": [2.0, 1.0, 0.5],
        "fit_net_loss": [0.3, 0.2, 0.25],
        "loss": [3.0, 2.0, 1.0],
        "region_loss": [0.0, 0.0, 0.0],
        "val_loss": [1.5, 1.0, np.nan],
        "val_accuracy": [0.4, 0.6, 0.7],
        "learning_rate": [1e-3, 1e-3, 1e-4],
    }
    figure = plots.training_curves(history)
    drawn = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    assert drawn == [
        ["loss", "hard_loss", "kd_loss", "fit_net_loss", "val_loss"],
        ["accuracy", "val_accuracy"],
    ]
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    for name, line in lines.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(line.get_ydata(), history[name])
    assert sorted(legend(figure)) == sorted(lines)
    assert lines["val_loss"].get_color() == lines["loss"].get_color()
    assert lines["val_loss"].get_marker() == lines["loss"].get_marker()
    assert lines["val_loss"].get_markerfacecolor() == "white"
    assert lines["val_accuracy"].get_color() == lines["accuracy"].get_color()
    assert len(looks(figure.axes[0])) == 5
    assert figure.axes[0].get_yscale() == "log"
    assert not boxes_overlap(figure)


@pytest.mark.parametrize(
    ("history", "ylabels"),
    [
        ({"loss": [2.0, 1.0]}, ["loss"]),
        ({"sparse_top_k_categorical_accuracy": [0.4]}, ["accuracy"]),
        ({"loss": [-1.0], "accuracy": [1.0]}, ["loss", "accuracy"]),
    ],
)
def test_there_is_a_panel_for_each_kind_that_was_logged(history, ylabels):
    figure = plots.training_curves(history)
    assert [axes.get_ylabel() for axes in figure.axes] == ylabels
    for axes in figure.axes:
        low, high = axes.get_ylim()
        values = axes.get_lines()[0].get_ydata()
        assert low <= values.min() and values.max() <= high


def test_long_trainings_keep_every_value_and_few_markers():
    losses = np.linspace(1.0, 0.5, 240)
    (line,) = plots.training_curves({"loss": losses}).axes[0].get_lines()
    assert len(line.get_ydata()) == 240 and line.get_markevery() == 20


# All of them

DRAW = {
    "profiles": lambda: plots.fidelity_profiles({"a": profile([1, 2, 3])}),
    "gap": lambda: plots.linearity_gap(gap(), 0.5),
    "radii": lambda: plots.linear_radii([0.1, 0.2], [1.0, 2.0]),
    "training": lambda: plots.training_curves({"loss": [2.0, 1.0]}),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_figures_are_saved_and_not_kept_open(draw, tmp_path):
    figure = draw()
    assert plt.get_fignums() == []
    figure.savefig(tmp_path / "figure.png")
    height, width, _ = plt.imread(tmp_path / "figure.png").shape
    inches = figure.get_size_inches()
    assert (width, height) == (round(150 * inches[0]), round(150 * inches[1]))


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_without_matplotlib_the_error_names_the_package_to_install(draw, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[plots\]"):
        draw()


@pytest.mark.parametrize(
    ("draw", "arguments", "message"),
    [
        (plots.fidelity_profiles, [{}], "`profiles` must be FidelityProfile.*an empty dict"),
        (plots.fidelity_profiles, [{"a": gap()}], "`profiles` must be.*'a': 'LinearityGap'"),
        (plots.linearity_gap, [[0.1, 0.2]], "`gap` must be LinearityGap"),
        (plots.linearity_gap, [gap(), 0], "`radius` must be a fraction.*radius=0"),
        (plots.linearity_gap, [gap(), 1.5], "`radius` must be a fraction.*radius=1.5"),
        (plots.linearity_gap, [{"c": gap([np.nan] * 3)}], r"`gap` must be for models.*\['c'\]"),
        (plots.linear_radii, [{}, [1.0]], "`radii` must be BallRadius or ndarray"),
        (plots.linear_radii, [[[1.0]], [1.0]], r"`radii` must be distances.*shape \(1, 1\)"),
        (plots.linear_radii, [[np.nan], [1.0]], "`radii` must be distances"),
        (plots.linear_radii, [[1.0], [-2.0]], "`neighbour_distances` must be.*value of -2"),
        (plots.linear_radii, [[1.0], []], "`neighbour_distances` must be distances"),
        (plots.linear_radii, [[np.inf], [0.0]], "must hold a value between 0 and infinity"),
        (plots.training_curves, [[1.0]], "`history` must be a dict.*list"),
        (plots.training_curves, [{"lr": [1.0]}], r"`history` must have a loss.*\['lr'\]"),
        (plots.training_curves, [{"loss": 1.0}], r"`history` must have one number.*shape \(\)"),
        (plots.training_curves, [{"loss": []}], "`history` must have one number"),
        (
            plots.training_curves,
            [{"loss": [1.0, 2.0], "val_loss": [1.0]}],
            "a value for every epoch.*'val_loss': 1.*Fill",
        ),
    ],
)
def test_wrong_uses(draw, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(*arguments)
