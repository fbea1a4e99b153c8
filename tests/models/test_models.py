import keras
import numpy as np
import pytest

from l2rkd_tf import models


@pytest.fixture
def mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def test_public_names():
    assert models.__all__ == [
        *["convnet", "get", "mobilenet_v2", "names", "resnet", "resnet50"],
        *["shufflenet_v1", "shufflenet_v2", "vgg", "wide_resnet"],
    ]


def test_layers_of_one_convolution_per_block():
    model = models.convnet((8, 8, 1), 10, dropout=0.5)
    assert [layer.name for layer in model.layers] == [
        "image",
        *["block1_conv", "block1_norm", "block1", "block1_pool"],
        *["block2_conv", "block2_norm", "block2"],
        *["features", "dropout", "logits"],
    ]
    assert model.name == "convnet"
    assert isinstance(model.get_layer("block2"), keras.layers.ReLU)
    assert model.get_layer("dropout").rate == 0.5


def test_layers_of_two_convolutions_per_block():
    model = models.convnet((8, 8, 1), 10, widths=(4,), convs_per_block=2, name="student")
    assert [layer.name for layer in model.layers] == [
        "image",
        *["block1_conv1", "block1_norm1", "block1_relu1"],
        *["block1_conv2", "block1_norm2", "block1"],
        *["features", "logits"],
    ]
    assert model.name == "student"


@pytest.mark.parametrize(
    ("arguments", "trainable", "frozen"),
    [
        # Kernels 3*3*in*out, scale and shift of each norm, dense layer; moving mean and variance.
        (
            {"input_shape": (8, 8, 1), "num_classes": 10},
            9 * 1 * 16 + 2 * 16 + 9 * 16 * 32 + 2 * 32 + 32 * 10 + 10,
            2 * 16 + 2 * 32,
        ),
        (
            {"input_shape": (8, 6, 3), "num_classes": 5, "widths": [7], "convs_per_block": 2},
            9 * 3 * 7 + 2 * 7 + 9 * 7 * 7 + 2 * 7 + 7 * 5 + 5,
            2 * 7 + 2 * 7,
        ),
    ],
)
def test_parameter_count(arguments, trainable, frozen):
    model = models.convnet(**arguments)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == trainable
    assert sum(int(np.prod(w.shape)) for w in model.non_trainable_weights) == frozen


def test_shapes_of_the_feature_points():
    model = models.convnet((9, 13, 3), 4, widths=(5, 6, 7))
    shapes = {name: model.get_layer(name).output.shape for name in ("block1", "block2", "block3")}
    assert shapes == {
        "block1": (None, 9, 13, 5),
        "block2": (None, 4, 6, 6),
        "block3": (None, 2, 3, 7),
    }
    assert model.get_layer("features").output.shape == (None, 7)
    assert model.output_shape == (None, 4)


def test_output_is_the_dense_layer_without_softmax():
    model = models.convnet((8, 8, 1), 3, widths=(4,))
    images = np.random.RandomState(0).rand(5, 8, 8, 1).astype("float32")
    features = keras.Model(model.input, model.get_layer("features").output)(images).numpy()
    kernel, bias = (w.numpy() for w in model.get_layer("logits").weights)
    np.testing.assert_allclose(model(images).numpy(), features @ kernel + bias, rtol=1e-5)
    assert (features >= 0).all()


def test_logits_are_float32_under_mixed_precision(mixed_precision):
    model = models.convnet((8, 8, 1), 3)
    assert model.get_layer("block2").output.dtype == "float16"
    assert model(np.zeros((2, 8, 8, 1))).dtype == "float32"


@pytest.mark.parametrize("synchronized", [False, True])
def test_synchronized_norms(synchronized):
    model = models.convnet((8, 8, 1), 3, synchronized=synchronized)
    assert [model.get_layer(f"block{i}_norm").synchronized for i in (1, 2)] == [synchronized] * 2


def test_images_of_any_size():
    model = models.convnet((None, None, 1), 3)
    assert model(np.zeros((2, 5, 7, 1))).shape == (2, 3)


def test_a_saved_model_outputs_the_same_logits(tmp_path):
    model = models.convnet((8, 8, 1), 3, dropout=0.2)
    model.save(tmp_path / "model.keras")
    images = np.random.RandomState(0).rand(5, 8, 8, 1).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images).numpy(), model(images).numpy())


def test_smallest_image():
    assert models.convnet((4, 4, 1), 3, widths=(2, 2, 2)).get_layer("block3").output.shape == (
        None,
        *(1, 1, 2),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8, 8)}, "`input_shape` must be .* Received: input_shape="),
        ({"input_shape": 8}, "`input_shape`"),
        ({"input_shape": (8, 8, None)}, "`input_shape`"),
        ({"input_shape": (8, 0, 1)}, "`input_shape`"),
        ({"input_shape": (8, 3, 1), "widths": (2, 2, 2)}, "at least 4x4 pixels"),
        ({"num_classes": 0}, "`num_classes`"),
        ({"num_classes": 2.5}, "`num_classes`"),
        ({"widths": ()}, "`widths`"),
        ({"widths": 16}, "`widths`"),
        ({"widths": (16, 0)}, "`widths`"),
        ({"convs_per_block": 0}, "`convs_per_block`"),
        ({"convs_per_block": True}, "`convs_per_block`"),
        ({"dropout": 1.0}, "`dropout`"),
        ({"dropout": float("nan")}, "`dropout`"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.convnet(**{"input_shape": (8, 8, 1), "num_classes": 10, **arguments})
