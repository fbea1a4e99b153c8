"""Standard architectures: sizes, names, arguments, precision, saving and training."""

import functools
import re

import keras
import numpy as np
import pytest

import l2rkd_tf
from l2rkd_tf import export, methods, models
from l2rkd_tf.methods.layer_search import find_layers
from tests.helpers import ROOT, few, with_random_weights

DOCS = ROOT / "docs" / "models.md"

# Trainable parameters with 100 classes, and maps at the ends of the stages for images of 32x32.
RESNET = (32, 32, 16), (16, 16, 32), (8, 8, 64)
RESNET_X4 = (32, 32, 64), (16, 16, 128), (8, 8, 256)
WIDE = (32, 32, 32), (16, 16, 64), (8, 8, 128)
VGG = (32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512), (4, 4, 512)
TABLE = {
    "resnet20": (278_324, RESNET, 64),
    "resnet32": (472_756, RESNET, 64),
    "resnet56": (861_620, RESNET, 64),
    "resnet110": (1_736_564, RESNET, 64),
    "resnet8x4": (1_233_540, RESNET_X4, 256),
    "resnet32x4": (7_433_860, RESNET_X4, 256),
    "ResNet50": (
        23_705_252,
        ((32, 32, 256), (16, 16, 512), (8, 8, 1024), (4, 4, 2048)),
        2048,
    ),
    "wrn_16_1": (180_916, RESNET, 64),
    "wrn_16_2": (703_284, WIDE, 128),
    "wrn_40_1": (569_780, RESNET, 64),
    "wrn_40_2": (2_255_156, WIDE, 128),
    "vgg8": (3_965_028, VGG, 512),
    "vgg13": (9_462_180, VGG, 512),
    "MobileNetV2": (812_836, ((16, 16, 12), (8, 8, 16), (4, 4, 48), (2, 2, 160)), 1280),
    "ShuffleNetV1": (949_258, ((16, 16, 240), (8, 8, 480), (4, 4, 960)), 960),
    "ShuffleNetV2": (1_355_528, ((16, 16, 116), (8, 8, 232), (4, 4, 464)), 1024),
}

# One of each family, as small as it gets.
SMALL = {
    "resnet": functools.partial(models.resnet, depth=8),
    "wide_resnet": functools.partial(models.wide_resnet, depth=10, width=1, dropout=0.1),
    "vgg": functools.partial(models.vgg, depth=8),
    "mobilenet_v2": functools.partial(models.mobilenet_v2, width=0.25),
    "shufflenet_v1": models.shufflenet_v1,
    "shufflenet_v2": functools.partial(models.shufflenet_v2, width=0.5),
}
ALL = SMALL | {"resnet50": models.resnet50}


@pytest.fixture(scope="module")
def network():
    """Networks by name, each built once."""
    return functools.cache(models.get)


@pytest.fixture(scope="module")
def small():
    """Networks of `SMALL` for images of 8x8 pixels, 3 classes and replicas, each built once."""
    return functools.cache(lambda family: SMALL[family]((8, 8, 3), 3, synchronized=True))


def images(number=2, size=8):
    return np.random.RandomState(0).rand(number, size, size, 3).astype("float32")


def is_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def test_names_are_those_of_the_table():
    assert models.names() == list(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_trainable_parameters(network, name):
    weights = network(name).trainable_weights
    assert sum(int(np.prod(weight.shape)) for weight in weights) == TABLE[name][0]


@pytest.mark.parametrize("name", TABLE)
def test_feature_points(network, name):
    model = network(name)
    _, maps, features = TABLE[name]
    blocks = [layer.name for layer in model.layers if re.fullmatch(r"block\d+", layer.name)]
    assert blocks == [f"block{number}" for number in range(1, len(maps) + 1)]
    assert [model.get_layer(block).output.shape[1:] for block in blocks] == list(maps)
    assert model.get_layer("features").output.shape == (None, features)
    assert [layer.name for layer in model.layers[-2:]] == ["features", "logits"]
    assert model.output_shape == (None, 100)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.name == name


@pytest.mark.parametrize("name", TABLE)
def test_architectures_use_only_layers_of_keras(network, name):
    operations = network(name).operations
    assert {type(operation).__module__.split(".")[0] for operation in operations} == {"keras"}
    assert all(isinstance(operation, keras.Layer) for operation in operations)
    assert not any(isinstance(operation, keras.layers.Lambda) for operation in operations)


@pytest.mark.parametrize("name", TABLE)
def test_batch_normalization_is_that_of_pytorch(network, name):
    norms = [layer for layer in network(name).layers if is_norm(layer)]
    assert {(norm.momentum, norm.epsilon, norm.synchronized) for norm in norms} == {
        (0.9, 1e-5, False)
    }


def test_page_of_the_documentation_shows_the_table():
    rows = re.findall(r"^\| `(\w+)` \| ([0-9,]+) \| ([^|]+) \| (\d+) \|", DOCS.read_text(), re.M)
    expected = [
        (name, f"{parameters:,}", " ".join("x".join(map(str, shape)) for shape in maps), f"{size}")
        for name, (parameters, maps, size) in TABLE.items()
    ]
    assert rows == expected


@pytest.mark.parametrize(
    ("family", "kinds"),
    [
        ("resnet", ["ReLU"] * 3),
        ("wide_resnet", ["Add"] * 3),
        ("vgg", ["ReLU"] * 5),
        ("mobilenet_v2", ["Add", "Add", "Add", "BatchNormalization"]),
        ("shufflenet_v1", ["ReLU"] * 3),
        ("shufflenet_v2", ["Reshape"] * 3),
    ],
)
def test_layers_that_end_the_stages(small, family, kinds):
    blocks = [small(family).get_layer(f"block{i}") for i in range(1, len(kinds) + 1)]
    assert [type(block).__name__ for block in blocks] == kinds


@pytest.mark.parametrize(
    ("teacher", "student", "pairs"),
    [
        ("resnet32x4", "resnet8x4", ["block1 block1", "block2 block2", "block3 block3"]),
        ("resnet32x4", "ShuffleNetV1", ["block2 block1", "block3 block2"]),
        ("wrn_40_2", "ShuffleNetV2", ["block2 block1", "block3 block2"]),
        ("vgg13", "MobileNetV2", ["block2 block1", "block3 block2", "block5 block3"]),
        ("ResNet50", "vgg8", [*(f"block{i} block{i}" for i in (1, 2, 3)), "block4 block5"]),
    ],
)
def test_methods_find_the_ends_of_the_stages(network, teacher, student, pairs):
    found = find_layers("method", network(teacher), network(student), "maps")
    assert [" ".join(pair) for pair in zip(*found, strict=True)] == pairs
    embeddings = find_layers("method", network(teacher), network(student), "embedding")
    assert embeddings == (("features",), ("features",))


@pytest.mark.parametrize("family", SMALL)
def test_synchronized_norms(small, family):
    norms = [layer for layer in small(family).layers if is_norm(layer)]
    assert norms and all(norm.synchronized for norm in norms)


@pytest.mark.parametrize("family", SMALL)
def test_logits_are_float32_under_mixed_precision(family):
    keras.config.set_dtype_policy("mixed_float16")
    model = SMALL[family]((8, 8, 3), 3)
    features = keras.Model(model.input, [model.get_layer("features").output, model.output])
    inner, logits = features(images())
    assert (inner.dtype, logits.dtype) == ("float16", "float32")
    assert np.isfinite(logits.numpy()).all()


# They are made of Keras's own layers; one has all kinds of them.
@pytest.mark.parametrize("family", few(("shufflenet_v1",), SMALL))
def test_a_saved_model_outputs_the_same_logits(small, family, tmp_path):
    small(family).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = small(family)(images()).numpy()
    np.testing.assert_array_equal(loaded(images()).numpy(), expected)
    assert expected.shape == (2, 3)


def test_one_step_trains_every_weight_of_grouped_convolutions():
    model = models.shufflenet_v1((8, 8, 3), 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    model.train_on_batch(images(6), np.array([0, 1, 2] * 2))
    groups = [path for path in before if "_group" in path]
    assert len(groups) == 3 * (2 * 16 - 1)
    for weight in model.trainable_weights:
        assert np.abs(weight.numpy() - before[weight.path]).max() > 0, weight.path


def test_images_of_any_size():
    for family in ("resnet", "wide_resnet", "vgg", "mobilenet_v2"):
        model = SMALL[family]((None, None, 3), 3)
        assert model.get_layer("block3").output.shape[1:3] == (None, None)
        assert model(np.zeros((2, 9, 11, 3))).shape == (2, 3)


def test_dropout_between_the_convolutions_of_wide_resnets():
    model = models.wide_resnet((8, 8, 3), 3, depth=10, width=1, dropout=0.3)
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [(layer.name, layer.rate) for layer in dropouts] == [
        (f"block{block}_unit1_dropout", 0.3) for block in (1, 2, 3)
    ]
    plain = models.wide_resnet((8, 8, 3), 3, depth=10, width=1)
    assert len(model.layers) == len(plain.layers) + 3


def widths(model):
    return [model.get_layer(f"block{i}").output.shape[-1] for i in (1, 2, 3)]


def test_widths_beyond_the_table():
    double = models.resnet((8, 8, 3), 3, depth=8, width_multiplier=2, name="double")
    assert (double.name, widths(double)) == ("double", [32, 64, 128])
    assert double.get_layer("stem_conv").filters == 32
    wide = models.mobilenet_v2((8, 8, 3), 3, width=2)
    assert (widths(wide), wide.get_layer("last_conv").filters) == ([48, 64, 192], 2560)
    assert widths(models.shufflenet_v2((8, 8, 3), 3, width=1.5)) == [176, 352, 704]


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("RESNET8X4", "resnet8x4"),
        pytest.param("resnet14", "resnet14", marks=pytest.mark.stress),
        pytest.param("resnet14x2", "resnet14x2", marks=pytest.mark.stress),
        ("WRN-10-1", "wrn_10_1"),
        ("VGG11", "vgg11"),
        pytest.param("mobilenetv2", "MobileNetV2", marks=pytest.mark.stress),
        pytest.param("mobilenet_v2", "MobileNetV2", marks=pytest.mark.stress),
        ("Mobile Net-V2", "MobileNetV2"),
        ("ShuffleV2", "ShuffleNetV2"),
        ("shufflenet_v1", "ShuffleNetV1"),
        pytest.param("ShuffleNet-V1", "ShuffleNetV1", marks=pytest.mark.stress),
        ("ResNet-14", "resnet14"),
        pytest.param("resnet_14 x 2", "resnet14x2", marks=pytest.mark.stress),
        ("ResNet-14x2", "resnet14x2"),
        pytest.param("wrn10_1", "wrn_10_1", marks=pytest.mark.stress),
        ("WideResNet-10-1", "wrn_10_1"),
        pytest.param("wide_resnet10x1", "wrn_10_1", marks=pytest.mark.stress),
        ("VGG-8", "vgg8"),
    ],
)
def test_get_other_names(name, canonical):
    model = models.get(name, 5, (8, 8, 1), synchronized=True)
    assert model.name == canonical
    assert (model.input_shape, model.output_shape) == ((None, 8, 8, 1), (None, 5))
    assert next(layer for layer in model.layers if is_norm(layer)).synchronized


def test_get_resnet50_is_the_one_with_bottlenecks():
    model = models.get("resnet50", 5, (8, 8, 3), synchronized=True)
    assert model.name == "ResNet50"
    assert all(layer.synchronized for layer in model.layers if is_norm(layer))
    assert model.get_layer("features").output.shape == (None, 2048)


@pytest.mark.parametrize(
    "name",
    [
        *["resnet21", "resnet2", "resnet8x0", "resnet", "resnet8x", "resnet020", "wrn161"],
        *["wrn_16", "wrn_15_1", "wrn_4_1", "wrn_16_0", "vgg12", "vgg", "convnet", "", None, 20],
    ],
)
def test_get_unknown_names(name):
    with pytest.raises(ValueError, match="`name` must be one of resnet20, .*ShuffleNetV2, .*vgg<8"):
        models.get(name)


@pytest.mark.parametrize(
    ("name", "closest"),
    [("wrn402", "wrn_40_2"), ("mobilenet", "MobileNetV2"), ("ResNt-20", "resnet20")],
)
def test_get_suggests_the_nearest_names(name, closest):
    with pytest.raises(ValueError, match=f"Received: name='{name}'. Close matches: {closest}"):
        models.get(name)


@pytest.mark.parametrize("family", ALL)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8, 8)}, "`input_shape` must be .* Received: input_shape="),
        ({"num_classes": 0}, "`num_classes` must be a positive integer. Received: num_classes=0"),
        ({"synchronized": "yes"}, "`synchronized` must be True or False"),
    ],
)
def test_arguments_of_all_networks_out_of_range(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        ALL[family](**{"input_shape": (8, 8, 3), "num_classes": 3, **arguments})


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (models.resnet, {"depth": 21}, "`depth` must be 6n .* 2 .* Received: depth=21"),
        (models.resnet, {"depth": 2}, "`depth`"),
        (models.resnet, {"depth": 20.0}, "`depth`"),
        (models.resnet, {"depth": 8, "width_multiplier": 0}, "`width_multiplier` must be a"),
        (models.resnet, {"depth": 8, "width_multiplier": 1.5}, "`width_multiplier`"),
        (models.wide_resnet, {"depth": 20, "width": 1}, "`depth` must be 6n .* 4 .*depth=20"),
        (models.wide_resnet, {"depth": 4, "width": 1}, "`depth`"),
        (models.wide_resnet, {"depth": 10, "width": 0}, "`width` must be a positive integer"),
        (models.wide_resnet, {"depth": 10, "width": 1, "dropout": 1}, "`dropout`"),
        (models.vgg, {"depth": 12}, r"`depth` must be one of \(8, 11, 13, 16, 19\)"),
        (models.vgg, {"depth": [8]}, "`depth`"),
        (models.vgg, {"depth": 8, "input_shape": (8, 7, 3)}, "at least 8x8 pixels.* larger"),
        (models.mobilenet_v2, {"width": 0.06}, "`width` must be .* at least 1/16"),
        (models.mobilenet_v2, {"width": float("inf")}, "`width`"),
        (models.shufflenet_v1, {"input_shape": (None, 8, 3)}, "must have a height and a width"),
        (models.shufflenet_v2, {"input_shape": (8, None, 3)}, "must have a height and a width"),
        (models.shufflenet_v2, {"width": 3}, r"`width` must be one of \(0.5, 1, 1.5, 2\)"),
        (models.shufflenet_v2, {"width": [1]}, "`width`"),
    ],
)
def test_arguments_out_of_range(build, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**{"input_shape": (8, 8, 3), "num_classes": 3, **arguments})


@pytest.mark.stress
@pytest.mark.parametrize(
    # The roundings of 8 bits add up in networks as deep as these, whose weights are random.
    ("quantization", "tolerance", "agreement"),
    [(None, 1e-4, 1.0), ("int8", 0.25, 0.8)],
)
@pytest.mark.parametrize("family", ALL)
def test_export_to_litert(family, quantization, tolerance, agreement, tmp_path):
    model = with_random_weights(ALL[family]((16, 16, 3), 3))
    report = export.export_litert(
        model,
        tmp_path / "model.tflite",
        quantization,
        representative_data=images(32, 16),
        tolerance=tolerance,
        min_top1_agreement=agreement,
    )
    assert report.max_abs_difference <= tolerance * report.output_spread
    assert report.top1_agreement >= agreement


@pytest.mark.stress
@pytest.mark.parametrize(
    ("teacher", "student"), [("resnet8x4", "ShuffleNetV1"), ("wrn_10_2", "MobileNetV2")]
)
def test_distillation_with_features(teacher, student):
    distiller = l2rkd_tf.L2RKDDistiller(
        models.get(teacher, 3, (16, 16, 3)),
        models.get(student, 3, (16, 16, 3)),
        distillation_losses=[methods.AttentionTransfer(), methods.FitNet()],
        distillation_loss_weights=[1.0, 1.0],
        seed=0,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    x, y = images(12, 16), np.array([0, 1, 2] * 4)
    losses = distiller.fit(x, y, batch_size=12, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.97 * losses[0]
    assert distiller.distillation_loss_layers["fit_net_loss"] == (("block2",), ("block1",))
