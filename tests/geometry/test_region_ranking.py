"""The ranking of regions by what they add to the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import geometry, regions
from l2rkd_tf.geometry import rank_regions, region_ranking
from tests.helpers import few
from tests.regions.bent_teachers import CLASSES, mlp, points


class Mirror(regions.Region):
    """Goes to the other side of the origin: the mean over both sides is always 1/2."""

    def draw(self, inputs, seed, labels=None):
        return -tf.ones(())

    def apply(self, tensor, coefficients):
        return tensor * coefficients


class Stay(Mirror):
    """Repeats the example."""

    def draw(self, inputs, seed, labels=None):
        return tf.ones(())


def sigmoid_teacher():
    """Probabilities `(s(x), s(-x))`."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[0.5, -0.5]])])
    return model


def test_a_region_that_adds_what_the_data_lack_is_ranked_first(capsys):
    x = points(200, 1)
    teacher, options = sigmoid_teacher(), {"num_draws": 20, "num_points": 50, "seed": 4}
    candidates = [Stay(), regions.Segment(0.5), Mirror()]
    ranking = rank_regions(teacher, x, candidates, **options)
    assert ranking[0].region is candidates[2]
    assert ranking[0].score < 1e-6 < 0.01 < ranking[1].score
    scores = [geometry.teacher_stddev(teacher, x, entry.region, **options) for entry in ranking]
    assert [entry.score for entry in ranking] == scores == sorted(scores)
    assert [entry.radius for entry in ranking] == [entry.region.radius for entry in ranking]
    gaps = {entry.region: entry.linearity_gap for entry in ranking}
    assert gaps[candidates[1]] < 1e-5 and np.isnan(gaps[candidates[0]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["region", "radius", "T.", "stddev", "linearity", "gap"]
    for line, entry in zip(lines[1:4], ranking, strict=True):
        assert line.startswith(repr(entry.region))
        assert line.split()[-2] == f"{entry.score:.5f}"


def test_the_linearity_gap_is_that_on_the_way_to_the_region_points():
    x = points(200)
    teacher = mlp(1, 16)
    (entry,) = rank_regions(teacher, x, Mirror(), num_draws=2, verbose=False)
    expected = geometry.linearity_gap(teacher, x, -x).relative.mean()
    np.testing.assert_allclose(entry.linearity_gap, expected, rtol=1e-6)


def test_nothing_is_printed_without_verbose(capsys):
    rank_regions(mlp(1), points(), [regions.Segment()], num_draws=2, verbose=False)
    assert capsys.readouterr().out == ""


FLAT = geometry.LinearityGap(*5 * [np.zeros(1)])


@pytest.mark.parametrize("shape", few([(4,), (8, 8, 1)], [(4,), (8, 8, 1), (3, 8, 1)]))
def test_default_candidates_fit_the_data(shape, monkeypatch):
    monkeypatch.setattr(region_ranking, "teacher_stddev", lambda *_, **options: 0.0)
    monkeypatch.setattr(region_ranking, "linearity_gap", lambda *_, **options: FLAT)
    x = np.random.default_rng(0).normal(scale=2.0, size=(256, *shape)).astype("float32")
    teacher = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    ranking = rank_regions(teacher, x, num_draws=2, num_points=128, verbose=False)
    found = sorted((type(entry.region).__name__, entry.radius) for entry in ranking)
    balls, others = [f for f in found if f[0] == "Ball"], [f for f in found if f[0] != "Ball"]
    patches = {(4,): [], (8, 8, 1): [0.5, 1.0, 1.0], (3, 8, 1): [1.0]}[shape]
    assert others == [
        *(("Patch", radius) for radius in patches),
        *(("Segment", radius) for radius in (0.5, 1.0, 1.0)),
        ("Simplex", 1.0),
        *([("Swap", 0.5)] * (shape == (4,))),
    ]
    expected = np.outer([0.1, 0.3], np.sqrt(x.var(axis=0).mean()))[:, 0]
    np.testing.assert_allclose([radius for _, radius in balls], expected, rtol=0.01)


def test_labels_come_from_a_dataset_or_next_to_arrays():
    x, y = points(64), np.arange(64) % CLASSES
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    teacher, region = mlp(1, 8), regions.Segment(partner="same_class")
    options = {"num_draws": 3, "num_points": 16, "verbose": False}
    of_dataset = rank_regions(teacher, dataset, [region], **options)
    assert of_dataset == rank_regions(teacher, x, [region], labels=y, **options)
    with pytest.raises(ValueError, match="needs labels"):
        rank_regions(teacher, x, [region], **options)


def test_rankings_repeat_with_their_seed(capsys):
    teacher, x = mlp(1, 8), points(300)
    region = regions.Mixture([regions.Segment()])
    options = {"num_draws": 2, "num_points": 64}  # of more examples than the draws use
    first, again, other = (
        rank_regions(teacher, x, [region], seed=seed, **options) for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0].score != other[0].score
    assert first[0].radius == (1.0,) and "mixed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"teacher": None}, "`teacher` must be a keras.Model"),
        ({"regions": []}, "`regions` must hold at least one region"),
        ({"regions": 3}, "`regions` must hold at least one region.*regions=3"),
        ({"regions": ["segment"]}, "`region` must be a l2rkd_tf.regions.Region.*'segment'"),
        ({"num_draws": 1}, "`num_draws` must be an integer of at least 2.*num_draws=1"),
        ({"num_points": 0}, "`num_points` must be an integer of at least 1.*num_points=0"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"seed": -1}, "`seed` must be"),
        ({"data": np.zeros((0, 4), "float32")}, "`x` and `labels` must be arrays"),
    ],
)
def test_wrong_arguments_of_the_ranking(arguments, message):
    teacher = arguments.pop("teacher") if "teacher" in arguments else mlp(1)
    data = arguments.pop("data") if "data" in arguments else points()
    with pytest.raises(ValueError, match=message):
        rank_regions(teacher, data, **arguments)
