"""Images and labels of the glyphs never change."""

import hashlib

import numpy as np
import pytest

from l2rkd_tf.data import glyphs_draws
from tests.data.glyphs_helpers import CONFIGS, examples, stream

SPLITS = ("train", "validation", "test")


def sha256(chunks):
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk.tobytes())
    return digest.hexdigest()


FIRST_IMAGES = {
    ("gray16", "train"): "9d1d99403aad40717756cd81885bcf3abf10e71cb0e43f34bc7a87fa522459c8",
    ("gray16", "validation"): "65b66c21ed59072f3aaa348c73684043dfa96366381630096e3bcaa3fc2f2cff",
    ("gray16", "test"): "edf5f9617dd8858fadaa1c4db4b5dfb0aec86202887e2bb6bf0883dae2c74e14",
    ("rgb32", "train"): "d710de8df53ae1edf558cebbdeb4114322d9294ea72b7e64a5a8a93ffd127c35",
    ("rgb32", "validation"): "d1e485ba2e27acc52cd5744300bb316b72693dfe43b63fce2e15c7b6517d4bbb",
    ("rgb32", "test"): "3780d7337619ff0053f61f74bdfbcd577a56af9a58fa868d72ea51b54028b0ab",
}


@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_first_images_never_change(masks, name, split):
    images, _ = examples(masks, name, split, 0, 62)
    assert sha256([images]) == FIRST_IMAGES[name, split]


LABELS = {
    ("gray16", "train"): "cbfed99d1df2e00f5ab90baff2fada9a88c86f5a34224d00e5ad8743045f650f",
    ("gray16", "validation"): "c27f833d115cd41e60fc72c55ff49368b5891db473bb15f47b403485e83d79f3",
    ("gray16", "test"): "540b48e95949f03b342deac2a52533e1f0a1716f1082465e0333a04d57f22dd3",
    ("rgb32", "train"): "28907fa4c5c555a1508292b2fe4af5b9b1b63fcd767af79daf9605297df8b5f1",
    ("rgb32", "validation"): "613f85275f74972dc0442b029c1acd00d615640a5c2152bc6d57936f0c859bb1",
    ("rgb32", "test"): "324f75aabad27c2c8fba3e83ff77af7175aa696cbe57f5e57733eb4220f35462",
}


@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_labels_never_change_and_are_balanced(name, split):
    count = CONFIGS[name].num_examples[split]
    labels = glyphs_draws.draw_labels(stream(name, split), 0, count)
    assert labels.shape == (count,)
    assert sha256([labels.astype("<i8")]) == LABELS[name, split]
    sizes = np.bincount(labels, minlength=62)
    assert len(sizes) == 62
    assert (sizes.min(), sizes.max()) == (count // 62, -(-count // 62))


ALL_IMAGES = {
    ("gray16", "train"): "74b3e8180176944a115f697f78e52c878437fefa09cf32240e8d0456b8fe8f19",
    ("gray16", "validation"): "2834f5f2e81cd6eac53b717e82319bbab498cae31c1fe331ec62da8c27403885",
    ("gray16", "test"): "24b6644799f9c38c01bfc4dd238b614841b3325c95b7673f7b17611abbc836e8",
    ("rgb32", "train"): "1b37b33f8035f4d7a29a04662d95d395345e6e12ee81ddf700f03cd8f9bd70f0",
    ("rgb32", "validation"): "bd97926cdbfafbf3d1de86e2375eb9ece14928b812c77e12f0da82494d255560",
    ("rgb32", "test"): "6354279a9ef33429ee98cbcfaadb1a28a07e75db075a6be34bf9d63970c0e24c",
}


@pytest.mark.stress
@pytest.mark.parametrize(("name", "split"), [(n, s) for n in CONFIGS for s in SPLITS])
def test_all_images_never_change(masks, name, split):
    count = CONFIGS[name].num_examples[split]
    spans = ((start, min(start + 62, count)) for start in range(0, count, 62))
    assert (
        sha256(examples(masks, name, split, *span)[0] for span in spans) == ALL_IMAGES[name, split]
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_an_example_depends_only_on_its_number(masks, name):
    images, labels = examples(masks, name, "train", 0, 130)
    for start, stop in [(0, 1), (61, 62), (62, 63), (129, 130), (40, 100)]:
        some_images, some_labels = examples(masks, name, "train", start, stop)
        np.testing.assert_array_equal(some_images, images[start:stop])
        np.testing.assert_array_equal(some_labels, labels[start:stop])


def test_no_two_examples_are_alike(masks):
    images = [examples(masks, "gray16", split, 0, 620)[0] for split in SPLITS]
    assert len({image.tobytes() for image in np.concatenate(images)}) == 3 * 620


def test_each_62_labels_hold_every_class_in_an_order_of_their_own():
    orders = glyphs_draws.draw_labels("any", 0, 62 * 50).reshape(50, 62)
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(62), (50, 1)))
    assert len({order.tobytes() for order in orders}) == 50
