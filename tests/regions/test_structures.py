"""Inputs of several tensors: what is interpolated, what is swapped, and what stays."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.models import convnet
from l2rkd_tf.regions import Ball, LinearRegion, Mixture, Patch, Segment, Simplex, Swap
from tests.references import losses as reference
from tests.regions.helpers import assert_same, points

ROWS = tf.range(6)
INTERPOLATING = {
    "segment": Segment(0.7),
    "patch": Patch(grid=2),
    "simplex": Simplex(num_partners=2),
}


def inputs_of(rows=ROWS):
    """An image, and ids, a mask, towns and a label map that tell which row they are from."""
    rows = tf.cast(rows, tf.int32)
    return {
        "image": points((6, 4, 4, 1))[: len(rows)],
        "text": {
            "ids": rows[:, None] * tf.ones((1, 5), tf.int32),
            "mask": tf.one_hot(rows, 6)[:, :5] > 0,
        },
        "town": tf.strings.as_string(rows),
        "day": rows[:, None],
    }


def chosen_rows(moved):
    return {
        "ids": moved["text"]["ids"].numpy()[:, 0],
        "town": moved["town"].numpy().astype(int),
        "day": moved["day"].numpy()[:, 0],
    }


@pytest.mark.parametrize("region", INTERPOLATING.values(), ids=INTERPOLATING)
def test_what_cannot_be_interpolated_is_from_the_example_or_a_partner(region):
    inputs = inputs_of()
    drawn = region.draw(inputs, [1, 2])
    moved = region.apply(inputs, drawn)
    expected = reference.move(inputs["image"], drawn.partners.numpy(), drawn.lam.numpy())
    np.testing.assert_allclose(moved["image"], expected, rtol=0.0, atol=1e-6)
    assert moved["town"].dtype == tf.string and moved["day"].dtype == tf.int32
    lam = drawn.lam.numpy().reshape(6, drawn.partners.shape[1], -1).mean(axis=2)
    assert len(drawn.marks) == 3
    marks = dict(zip(("day", "ids", "town"), drawn.marks, strict=True))
    for name, rows in chosen_rows(moved).items():
        bounds = np.cumsum(lam, axis=1)
        sources = np.concatenate([drawn.partners.numpy(), np.arange(6)[:, None]], axis=1)
        choice = (marks[name].numpy()[:, None] >= bounds).sum(axis=1)
        np.testing.assert_array_equal(rows, sources[np.arange(6), choice])
    ids_and_mask = moved["text"]
    np.testing.assert_array_equal(
        ids_and_mask["mask"], tf.one_hot(ids_and_mask["ids"][:, 0], 6)[:, :5] > 0
    )


def test_the_image_of_a_structure_is_drawn_as_it_is_alone():
    inputs = inputs_of()
    for region in INTERPOLATING.values():
        assert_same(region.draw(inputs, [1, 2])[:2], region.draw(inputs["image"], [1, 2])[:2])


def test_categories_are_swapped_with_probability_lambda_and_independently():
    x = {"a": tf.range(8000), "b": tf.range(8000), "x": tf.zeros((8000, 1))}
    region = Segment(0.8)
    drawn = region.draw(x, [1, 2])
    moved = region.apply(x, drawn)
    a, b = ((moved[name].numpy() != np.arange(8000)).astype(float) for name in "ab")
    lam = drawn.lam.numpy()[:, 0]
    for swapped in (a, b):
        np.testing.assert_allclose(swapped.mean(), 0.4, atol=0.02)
        np.testing.assert_allclose(swapped[lam > 0.6].mean(), 0.7, atol=0.03)
    np.testing.assert_allclose(np.mean((a - lam) * (b - lam)), 0.0, atol=0.01)


def test_categories_return_to_the_example_with_the_fraction():
    x = {"a": tf.range(200), "x": tf.zeros((200, 1))}
    region = Segment()
    drawn = region.draw(x, [1, 2])
    swapped = [
        region.apply(x, region.at_fraction(drawn, fraction))["a"].numpy() != np.arange(200)
        for fraction in (0.0, 0.3, 1.0)
    ]
    assert not swapped[0].any() and swapped[2].all()
    assert 0.15 < swapped[1].mean() < 0.45


def test_a_mask_of_floats_is_true_where_both_are():
    mask = points((6, 5), seed=3) > 0.4
    x = {"series": points((6, 5, 2)), "events": tf.zeros((6, 5), tf.int32), "mask": mask}
    region = Segment()
    drawn = region.draw(x, [1, 2])
    both = mask.numpy() & mask.numpy()[drawn.partners.numpy()[:, 0]]
    np.testing.assert_array_equal(region.apply(x, drawn)["mask"], both)


def test_swapped_inputs_of_the_same_positions_share_their_cells():
    rows = ROWS[:, None] * tf.ones((1, 9), tf.int32)
    image = tf.cast(tf.reshape(ROWS, (6, 1, 1, 1)), tf.float32) * tf.ones((1, 3, 4, 2))
    x = {
        "ids": rows,
        "is_data": rows % 2 == 1,
        "series": tf.cast(rows, tf.float32)[..., None],
        "image": image,
        "classes": tf.cast(image[..., 0], tf.int32),
        "table": tf.cast(rows[:, :6], tf.float32),
        "a": ROWS,
        "b": ROWS[:, None],
    }
    region = Swap()
    drawn = region.draw(x, [1, 2])
    assert len(drawn.swapped) == 5
    moved = {name: leaf.numpy() for name, leaf in region.apply(x, drawn).items()}
    np.testing.assert_array_equal(moved["ids"], moved["series"][..., 0])
    np.testing.assert_array_equal(moved["ids"] % 2 == 1, moved["is_data"])
    np.testing.assert_array_equal(moved["classes"], moved["image"][..., 0])
    partners = drawn.partners.numpy()[:, 0]
    for leaf in moved.values():
        own = np.arange(6).reshape((6,) + (1,) * (leaf.ndim - 1))
        if leaf.dtype != bool:
            assert ((leaf == own) | (leaf == partners.reshape(own.shape))).all()
    assert (moved["a"] != moved["b"][:, 0]).any()
    logits = points((6, 2))
    share = np.mean([np.mean(one.numpy().reshape(6, -1), axis=1) for one in drawn.swapped], axis=0)
    expected = reference.move(logits, partners[:, None], share[:, None])
    np.testing.assert_allclose(region.targets(logits, drawn), expected, rtol=0.0, atol=1e-6)
    dense = region.targets(x["series"], drawn).numpy()
    np.testing.assert_array_equal(dense, moved["series"])


def test_a_grid_belongs_to_the_inputs_of_as_many_directions():
    image, series = points((6, 4, 4, 1)), points((6, 8, 2))
    x = [image, series]
    assert Patch(grid=2).draw(x, [1, 2]).lam.shape == (6, 1, 2, 2)
    region = Patch(grid=(4,))
    drawn = region.draw(x, [1, 2])
    assert drawn.lam.shape == (6, 1, 4)
    moved = region.apply(x, drawn)
    arguments = drawn.partners.numpy(), drawn.lam.numpy()
    np.testing.assert_allclose(moved[0], reference.move(image, *arguments), rtol=0, atol=1e-6)
    np.testing.assert_allclose(moved[1], reference.move(series, *arguments), rtol=0, atol=1e-6)
    swapped = Swap(grid=2).draw(x, [1, 2]).swapped
    blocks = swapped[0].numpy().reshape(6, 2, 2, 2, 2)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert len(np.unique(swapped[1].numpy(), axis=1).T) > 2


FIXED = {
    "segment": lambda fixed: Segment(fixed=fixed),
    "patch": lambda fixed: Patch(fixed=fixed),
    "simplex": lambda fixed: Simplex(fixed=fixed),
    "swap": lambda fixed: Swap(fixed=fixed),
    "ball": lambda fixed: Ball(0.1, fixed=fixed),
}


@pytest.mark.parametrize("make", FIXED.values(), ids=FIXED)
def test_fixed_inputs_stay_as_they_are(make):
    inputs = inputs_of() | {"grey": points((6, 3), "uint8")}
    region = make(["text/ids", "town", "grey"])
    text = json.dumps(keras.saving.serialize_keras_object(region))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert repr(copy) == repr(region) and copy.fixed == ("text/ids", "town", "grey")
    moved = region.apply(inputs, region.draw(inputs, [1, 2]))
    for fixed, before in [
        (moved["text"]["ids"], inputs["text"]["ids"]),
        (moved["town"], inputs["town"]),
        (moved["grey"], inputs["grey"]),
    ]:
        assert fixed.dtype == before.dtype
        np.testing.assert_array_equal(fixed, before)
    assert (moved["image"] != inputs["image"]).numpy().any()
    if region.interpolates_targets:
        drawn = region.draw(inputs, [1, 2])
        logits = points((6, 3))
        assert (region.targets(logits, drawn) != logits).numpy().any()


def test_a_mixture_fixes_what_all_its_members_fix():
    assert Mixture([Segment(fixed=("a", "b")), Swap(fixed=("c", "b"))]).fixed == ("b",)
    assert Mixture([Segment(), Swap(fixed=("b",))]).fixed == ()


@pytest.mark.parametrize("make", [Segment, Patch, Simplex, Swap])
def test_outputs_of_the_name_of_a_fixed_input_move(make):
    x, region = {"a": points((6, 4, 4, 2)), "b": points((6, 1))}, make(fixed=("b",))
    drawn = region.draw(x, [1, 2])
    moved = region.targets({"b": points((6, 3))}, drawn)
    assert_same(moved, {"b": region.targets(points((6, 3)), drawn)})
    assert (moved["b"] != points((6, 3))).numpy().any()


def test_items_of_a_list_are_fixed_by_number():
    x = [points((6, 3)), points((6, 3))]
    for fixed in ((1,), ("1",)):
        region = Segment(fixed=fixed)
        moved = region.apply(x, region.draw(x, [1, 2]))
        np.testing.assert_array_equal(moved[1], x[1])
        assert (moved[0] != x[0]).numpy().any()


def test_a_ball_moves_floats_only():
    inputs, region = inputs_of(), Ball(0.1)
    moved = region.apply(inputs, region.draw(inputs, [1, 2]))
    np.testing.assert_array_equal(moved["town"], inputs["town"])
    assert moved["text"]["ids"].dtype == tf.int32
    assert_same(chosen_rows(moved), dict.fromkeys(["ids", "town", "day"], np.arange(6)))
    assert (moved["image"] != inputs["image"]).numpy().all()
    half = region.apply(inputs, region.at_fraction(region.draw(inputs, [1, 2]), 1.0))
    np.testing.assert_array_equal(half["day"], inputs["day"])


def test_the_nearest_partner_is_that_of_the_floats_that_move():
    x = {"a": points((6, 3)), "b": 100 * points((6, 3), seed=5), "ids": 1000 * ROWS}
    for make in (Segment, Swap):
        drawn = make(partner="nearest", fixed=("b",)).draw(x, [1, 2])
        np.testing.assert_array_equal(drawn.partners[:, 0], reference.nearest(x["a"].numpy()))


@pytest.mark.parametrize("batch", [0, 1], ids=["empty", "one"])
@pytest.mark.parametrize(
    "region",
    [Segment(), Simplex(), Swap(), Swap(contiguous=True), Mixture([Patch(2), Swap(grid=2)])],
    ids=lambda region: type(region).__name__,
)
def test_structures_without_a_partner_stay(region, batch):
    inputs = inputs_of(ROWS[:batch])
    assert_same(chosen_rows(region.apply(inputs, region.draw(inputs, [1, 2]))), chosen_rows(inputs))


@pytest.mark.parametrize("region", [Patch(2), Simplex(), Swap(contiguous=True)], ids=repr)
def test_structures_are_drawn_in_graph_and_xla_as_in_eager_mode(region):
    inputs = inputs_of()
    del inputs["town"]  # XLA has no strings

    def step():
        return region.apply(inputs, region.draw(inputs, [1, 2]))

    for compiled in (False, True):
        assert_same(tf.function(step, jit_compile=compiled)(), step(), 1e-6)


@pytest.mark.parametrize(
    ("region", "inputs", "message"),
    [
        (
            Segment(fixed=("c",)),
            {"a": ROWS, "b": points((6, 2))},
            r"\['c'\] isn't an.*\['a', 'b'\]",
        ),
        (Swap(fixed=("a",)), ROWS, "A single input has no name"),
        (Swap(fixed=("a",)), {"a": ROWS}, "must leave at least one"),
        (Segment(), {"a": ROWS}, r"input 'a' of dtype int32. Use regions.Swap\(\)"),
        (Segment(fixed=("b",)), {"a": ROWS, "b": points((6, 2))}, "input 'a' of dtype int32"),
        (Ball(0.1), tf.constant(["a", "b"]), "of dtype string. Use regions.Swap"),
    ],
)
def test_wrong_structures(region, inputs, message):
    with pytest.raises(ValueError, match=message):
        region.draw(inputs, [0, 0])


@pytest.mark.parametrize("fixed", ["mask", None, 3, (1.5,)])
def test_fixed_must_be_names(fixed):
    with pytest.raises(ValueError, match="`fixed` must be a sequence of names"):
        Segment(fixed=fixed)


def test_a_linear_region_takes_only_what_can_be_interpolated():
    teacher = convnet((4, 4, 1), 3, widths=(2,))
    with pytest.raises(ValueError, match="needs inputs that can all be interpolated"):
        LinearRegion(teacher).draw({"image": points((6, 4, 4, 1)), "ids": ROWS}, [0, 0])
