"""`Swap`: every cell is the example's or its partner's."""

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf.regions import Mixture, Patch, Segment, Swap, SwapCoefficients
from tests.references import losses as reference
from tests.regions.helpers import points

BOXES = [((12,), None), ((9, 7, 1), None), ((8, 12, 1), 4), ((6, 4, 4, 1), (3, 2, 4))]


def swapped_of(region, shape, batch=4000):
    """Which positions of many examples are swapped, shape `(batch, *positions)`."""
    x = tf.zeros((batch, *shape), tf.int32)
    return region.draw(x, [3, 4]).swapped[0].numpy()


def expected_of(x, drawn, group=0):
    """What a draw does to a tensor that has channels, or not, in NumPy."""
    x, partners, swapped = np.asarray(x), drawn.partners.numpy()[:, 0], drawn.swapped[group].numpy()
    swapped = swapped.reshape(swapped.shape + (1,) * (x.ndim - swapped.ndim))
    return np.where(swapped, x[partners], x)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (6, 4, 5, 2), (6, 2, 3, 4, 2)], ids=str)
@pytest.mark.parametrize(
    "dtype", ["int32", "int8", "uint8", "bool", "string", "float32", "bfloat16"]
)
def test_every_position_is_that_of_the_example_or_its_partner(dtype, shape):
    x = tf.cast(tf.reshape(tf.range(np.prod(shape)) % 120, shape), "int32")
    x = tf.strings.as_string(x) if dtype == "string" else tf.cast(x, dtype)
    region = Swap()
    drawn = region.draw(x, [1, 2])
    moved = region.apply(x, drawn)
    assert moved.dtype == x.dtype
    np.testing.assert_array_equal(moved, expected_of(x, drawn))
    assert drawn.swapped[0].shape == (shape if len(shape) == 2 else shape[:-1])
    assert not (drawn.partners.numpy()[:, 0] == np.arange(6)).any()


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_an_input_without_positions_is_one_cell(shape):
    x = tf.reshape(tf.constant(list("abcdef")), shape)
    region = Swap()
    drawn = region.draw(x, [1, 3])
    moved = region.apply(x, drawn).numpy().ravel()
    swapped = drawn.swapped[0].numpy()
    assert swapped.shape == (6,) and 0 < swapped.sum() < 6
    original, partners = x.numpy().ravel(), drawn.partners.numpy()[:, 0]
    np.testing.assert_array_equal(moved, np.where(swapped, original[partners], original))


@pytest.mark.parametrize("radius", [0.2, 0.5, 1.0])
@pytest.mark.parametrize(("shape", "grid"), [((5,), None), ((8, 12, 1), (4, 3))])
def test_cells_are_swapped_with_probability_radius_and_independently(shape, grid, radius):
    swapped = swapped_of(Swap(radius, grid), shape)
    cells = swapped[:, ::2, ::4] if grid else swapped
    flat = cells.reshape(4000, -1).astype(float)
    np.testing.assert_allclose(flat.mean(axis=0), np.full(flat.shape[1], radius), atol=0.035)
    if radius < 1:
        np.testing.assert_allclose(np.corrcoef(flat.T), np.eye(flat.shape[1]), atol=0.06)
    if grid:
        np.testing.assert_array_equal(cells.repeat(2, axis=1).repeat(4, axis=2), swapped)


def is_box(swapped):
    """Whether the positions are a box."""
    sides = [
        np.flatnonzero(swapped.any(axis=tuple(set(range(swapped.ndim)) - {axis})))
        for axis in range(swapped.ndim)
    ]
    full = np.prod([len(side) for side in sides])
    return full == swapped.sum() and all((np.diff(side) == 1).all() for side in sides)


@pytest.mark.parametrize("radius", [0.15, 0.5, 0.8])
@pytest.mark.parametrize(("shape", "grid"), BOXES, ids=str)
def test_a_box_has_the_expected_share_and_lies_anywhere(shape, grid, radius):
    swapped = swapped_of(Swap(radius, grid, contiguous=True), shape)
    assert all(map(is_box, swapped[:500]))
    shares = swapped.reshape(4000, -1).mean(axis=1)
    np.testing.assert_allclose(shares.mean(), radius, atol=0.02)
    width = min(radius, 1 - radius)
    cells = 12 if grid is None else 4
    assert abs(np.quantile(shares, 0.02) - (radius - width)) < 2 / cells
    assert abs(np.quantile(shares, 0.98) - (radius + width)) < 2 / cells
    for axis in range(1, swapped.ndim):  # starts and ends are distributed alike
        line = swapped.any(axis=tuple(set(range(1, swapped.ndim)) - {axis})).mean(axis=0)
        np.testing.assert_allclose(line, line[::-1], atol=0.045)


def test_the_share_of_a_span_is_uniform_for_a_radius_of_one_half():
    shares = swapped_of(Swap(contiguous=True), (1000,)).mean(axis=1)
    distance = reference.ks_distance(shares, lambda s: s)
    assert distance < 1.95 / np.sqrt(4000)


def test_a_radius_of_1_is_the_partner():
    for contiguous in (False, True):
        region, x = (
            Swap(1.0, contiguous=contiguous),
            tf.range(6)[:, None] * tf.ones((1, 4), "int32"),
        )
        drawn = region.draw(x, [1, 2])
        np.testing.assert_array_equal(region.apply(x, drawn), tf.gather(x, drawn.partners[:, 0]))


def test_outputs_without_the_positions_move_by_the_share_of_cells():
    region, x = Swap(), tf.zeros((6, 7), tf.int32)
    drawn, logits = region.draw(x, [1, 2]), points((6, 3))
    share = drawn.swapped[0].numpy().mean(axis=1, keepdims=True)
    expected = reference.move(logits, drawn.partners.numpy(), share)
    for moved in (region.apply(logits, drawn), region.targets(logits, drawn)):
        np.testing.assert_allclose(moved, expected, rtol=0.0, atol=1e-6)
    one_hot = tf.constant(np.eye(3)[[0, 1, 2, 0, 1, 2]], tf.int32)
    moved = region.apply(one_hot, drawn)
    np.testing.assert_allclose(moved, reference.move(one_hot, drawn.partners.numpy(), share))


@pytest.mark.parametrize("outputs", [(6, 5), (6, 8, 5)])
def test_outputs_of_a_vector_move_by_the_share_even_if_sizes_agree(outputs):
    region, x = Swap(), points((6, 5))
    drawn, y = region.draw(x, [1, 2]), points(outputs, seed=1)
    share = drawn.swapped[0].numpy().mean(axis=1, keepdims=True)
    expected = reference.move(y, drawn.partners.numpy(), share)
    np.testing.assert_allclose(region.targets(y, drawn), expected, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [((6, 7), (6, 7, 3)), ((6, 7, 2), (6, 7, 3)), ((6, 4, 6, 1), (6, 4, 6, 5))],
)
def test_dense_outputs_move_position_by_position(inputs, outputs):
    region, y = Swap(grid=2), points(outputs)
    drawn = region.draw(points(inputs), [1, 2])
    for moved in (region.targets(y, drawn), region.apply(y, drawn)):
        np.testing.assert_array_equal(moved, expected_of(y, drawn))


def test_segmentation_at_another_resolution_moves_by_relative_place():
    region, y = Swap(grid=2), points((6, 2, 3, 5))
    drawn = region.draw(points((6, 4, 6, 1)), [1, 2])
    small = SwapCoefficients(drawn.partners, (drawn.swapped[0][:, ::2, ::2],))
    np.testing.assert_array_equal(region.targets(y, drawn), expected_of(y, small))


@pytest.mark.parametrize("dtype", ["bool", "float32"])
@pytest.mark.parametrize("inputs", [(6, 4), (6, 4, 3), (6, 4, 5, 2)])
def test_masks_and_weights_move_with_their_cells(inputs, dtype):
    region = Swap()
    drawn = region.draw(points(inputs), [1, 2])
    mask = points(inputs[:2] if len(inputs) < 4 else inputs[:3], seed=3)
    mask = mask > 0.5 if dtype == "bool" else mask
    np.testing.assert_array_equal(region.move_mask(mask, drawn), expected_of(mask, drawn))


def test_a_mask_of_other_positions_is_true_where_both_are():
    region, mask = Swap(), points((6, 9)) > 0.4
    drawn = region.draw(tf.zeros((6, 4), tf.int32), [1, 2])
    share = drawn.swapped[0].numpy().mean(axis=1, keepdims=True)
    other = mask.numpy()[drawn.partners.numpy()[:, 0]] | (share == 0)
    own = mask.numpy() | (share == 1)
    np.testing.assert_array_equal(region.move_mask(mask, drawn), own & other)


@pytest.mark.parametrize("shape", [(6, 2, 5), (6, 2, 3, 4)])
def test_channels_first_move_together(shape):
    region, x = Swap(data_format="channels_first"), points(shape)
    drawn = region.draw(x, [1, 2])
    moved = np.moveaxis(region.apply(x, drawn), 1, -1)
    np.testing.assert_array_equal(moved, expected_of(np.moveaxis(x, 1, -1), drawn))
    of_models = Swap()
    of_models.set_data_format("channels_first")
    np.testing.assert_array_equal(
        of_models.apply(x, of_models.draw(x, [1, 2])), region.apply(x, drawn)
    )


def test_a_new_radius_takes_effect_without_a_new_trace():
    region, traces = Swap(0.2), []

    @tf.function
    def share(step):
        traces.append(1)
        drawn = region.draw(tf.zeros((500, 20), tf.int32), [7, step])
        return tf.reduce_mean(tf.cast(drawn.swapped[0], tf.float32))

    for radius in (0.2, 0.7):
        region.radius = radius
        np.testing.assert_allclose(share(tf.constant(1)), radius, atol=0.02)
    assert len(traces) == 1


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("contiguous", [False, True])
def test_ids_of_unknown_length_are_drawn_as_in_eager_mode(contiguous, compiled):
    region = Swap(grid=None, contiguous=contiguous)

    def step(ids, logits):
        drawn = region.draw(ids, [1, 2])
        return region.apply(ids, drawn), region.targets(logits, drawn)

    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, 3))]
    run = tf.function(step, input_signature=signature, jit_compile=compiled)
    for batch, length in ((7, 5), (2, 9)):
        ids = tf.reshape(tf.range(batch * length), (batch, length))
        logits = tf.cast(ids, tf.float32)[..., None] * tf.ones(3)
        moved, targets = run(ids, logits)
        np.testing.assert_array_equal(moved, step(ids, logits)[0])
        np.testing.assert_array_equal(targets, tf.cast(moved, tf.float32)[..., None] * tf.ones(3))


def test_boxes_of_volumes_are_drawn_by_xla_as_in_eager_mode():
    region, x = Swap(contiguous=True), tf.zeros((300, 5, 6, 7, 1))
    compiled = tf.function(lambda: region.draw(x, [5, 6]).swapped[0], jit_compile=True)
    np.testing.assert_array_equal(compiled(), region.draw(x, [5, 6]).swapped[0])


def test_same_class_partners_of_ids():
    labels, ids = np.array([0, 1, 0, 1]), tf.range(4)[:, None] * tf.ones((1, 3), tf.int32)
    drawn = Swap(partner="same_class").draw(ids, [0, 0], labels)
    assert drawn.partners.numpy()[:, 0].tolist() == [2, 3, 0, 1]


def test_a_mixture_with_swap_keeps_ids_and_mixes_images():
    x, ids = points((6, 4, 4, 1), "uint8"), tf.range(6)[:, None] * tf.ones((1, 3), tf.int32)
    region = Mixture([Segment(), Swap(grid=2)])
    moved = region.apply(x, region.draw(x, [1, 3]))
    assert moved.dtype == tf.float32
    both = {"image": x, "ids": ids}
    drawn = region.draw(both, [1, 3])
    assert len(set(drawn.choice.numpy())) == 2
    moved = region.apply(both, drawn)["ids"].numpy()
    assert moved.dtype == np.int32 and (moved == ids.numpy()).mean() < 1.0


@pytest.mark.parametrize("region", [Swap(), Swap(contiguous=True), Swap(grid=2)])
def test_on_the_way_to_a_corner_positions_are_swapped_one_after_the_other(region):
    ids = tf.reshape(tf.range(40 * 9), (40, 9))
    drawn = region.draw(ids, [0, 5])
    corner = region.apply(ids, drawn).numpy() != ids.numpy()
    earlier = np.zeros_like(corner)
    for fraction in (0.0, 0.3, 0.7, 1.0):
        part = region.apply(ids, region.at_fraction(drawn, fraction)).numpy()
        swapped = part != ids.numpy()
        partners = tf.gather(ids, drawn.partners[:, 0]).numpy()
        np.testing.assert_array_equal(part[swapped], partners[swapped])
        np.testing.assert_array_equal(swapped.sum(1), np.round(fraction * corner.sum(1)))
        assert (earlier <= swapped).all()
        earlier = swapped
    np.testing.assert_array_equal(earlier, corner)


def test_each_example_may_have_its_own_fraction():
    inputs = {"ids": tf.reshape(tf.range(32), (4, 8)), "town": tf.range(4)}
    region = Swap(radius=1.0)
    drawn = region.draw(inputs, [0, 0])
    moved = region.apply(inputs, region.at_fraction(drawn, tf.constant([0.0, 0.25, 0.5, 1.0])))
    changed = moved["ids"].numpy() != inputs["ids"].numpy()
    assert changed.sum(1).tolist() == [0, 2, 4, 8]
    assert changed[1, :2].all()
    assert (moved["town"].numpy() != inputs["town"].numpy()).tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: Swap(contiguous=1), None, "`contiguous` must be True or False"),
        (lambda: Swap(grid=0), None, "`grid` must be an integer of at least 1"),
        (lambda: Swap(radius=1.5), None, "`radius` must be"),
        (lambda: Swap(partner="closest"), None, "`partner` must be one of"),
        (lambda: Swap(data_format="NHWC"), None, "`data_format` must be one of"),
        (lambda: Swap(grid=(2, 2)), (6, 4), "`grid` must have one number for each direction"),
        (lambda: Swap(grid=5), (6, 4), r"`grid` must not have more cells.*grid=\(5,\)"),
        (lambda: Swap(partner="nearest"), (6, 4), "`partner='nearest'` needs .*dtype int32"),
        (lambda: Patch(grid=(2, 2, 2)), (6, 4, 4, 1), "needs images"),
        (lambda: Patch(grid=3), (6, 2, 4), "`grid` must not have more cells"),
    ],
)
def test_wrong_use(make, shape, message):
    with pytest.raises(ValueError, match=message):
        region = make()
        dtype = "int32" if isinstance(region, Swap) else "float32"
        region.draw(tf.zeros(shape, dtype), [0, 0])
