"""What the programs train with: networks, schedules and measures."""

import types

import numpy as np
import pytest
import tensorflow as tf

from l2rkd_command.main import parse
from l2rkd_tf import export, models
from l2rkd_tf.cli.common import from_flags, training


def test_normalization_within_the_network_is_that_of_its_inputs(tmp_path):
    network = models.convnet((8, 8, 3), 5, widths=(4,))
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.1)
    normalized = training.normalized(network, mean, std)
    normalized.set_weights(network.get_weights())
    images = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(
        normalized(images), network((images - np.array(mean)) / np.array(std)), atol=1e-5
    )
    assert normalized.count_params() == network.count_params()
    assert [layer.name for layer in normalized.layers] == [
        "image", "normalize", *(layer.name for layer in network.layers[1:]),
    ]  # fmt: skip
    assert normalized.get_layer("block1") is not network.get_layer("block1")
    report = export.export_litert(normalized, str(tmp_path / "student.tflite"))
    assert report.max_abs_difference < 1e-5 * report.output_spread
    assert report.parameters == network.count_params()


def test_normalization_needs_a_number_for_each_channel():
    with pytest.raises(ValueError, match="each of the 1 channels"):
        training.normalized(models.convnet((8, 8, 1), 5), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("words", "size", "widths"),
    [
        ([], (8, 8), [16, 32]),
        ([], (28, 40), [16, 32, 64]),
        ([], (32, 32), [16, 32, 64, 128]),
        ([], (3, 9), [16]),
        (["--widths=4,6"], (32, 32), [4, 6]),
    ],
)
def test_a_student_has_blocks_for_the_size_of_its_images(words, size, widths, tmp_path):
    flags, _ = parse("distill", [*words, f"--output={tmp_path}/new"])
    images = types.SimpleNamespace(element_spec=(tf.TensorSpec((None, *size, 3)), None))
    assert from_flags.student_widths(flags, images) == widths


@pytest.mark.parametrize(
    ("words", "steps"), [([], 20), (["--steps_per_epoch=0"], 4), (["--steps_per_epoch=3"], 3)]
)
def test_epochs_of_a_teacher_are_not_too_short_where_images_are_few(words, steps, tmp_path):
    flags, _ = parse("train-teacher", [*words, f"--output={tmp_path}/new"])
    assert from_flags.schedule(flags, range(4))["steps_per_epoch"] == steps
    if not words:
        assert from_flags.schedule(flags, range(21))["steps_per_epoch"] == 21


def test_evaluation_is_that_of_keras():
    model = models.convnet((8, 8, 1), 10, widths=(4,))
    random = np.random.default_rng(0)
    images = random.uniform(size=(30, 8, 8, 1)).astype("float32")
    labels = random.integers(10, size=30)
    found = training.evaluate(model, tf.data.Dataset.from_tensor_slices((images, labels)).batch(8))
    logits = model.predict(images, verbose=0).astype(float)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert found == pytest.approx(
        {
            "accuracy": np.mean(logits.argmax(axis=1) == labels),
            "loss": -np.mean(log_p[np.arange(30), labels]),
            "num_examples": 30,
        },
        rel=1e-5,
    )


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [([0.5], "50.00 %"), ([0.97, 0.99], "98.00 ± 12.71 % (mean of 2 seeds, 95 % CI)")],
)
def test_accuracies_are_told_with_their_interval(accuracies, text):
    assert training.percentage(accuracies) == text
