"""Recipes of the literature: what they say, and the programs that follow them for some steps."""

import dataclasses
import importlib
import json
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import flags
from absl.testing import flagsaver

from l2rkd_tf import data, export, models
from tests.helpers import two_replicas

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import recipe_optimizer  # noqa: E402
import recipes  # noqa: E402
import training  # noqa: E402

SHAPES = {"kernel": (3, 2), "bias": (2,), "gamma": (4,), "beta": (4,)}


# The optimizer.


def torch_sgd(weights, gradients, learning_rates, momentum, weight_decay):
    """`torch.optim.SGD` in float64: weights after each step."""
    buffer = np.zeros_like(weights)
    for gradient, learning_rate in zip(gradients, learning_rates, strict=True):
        buffer = momentum * buffer + (gradient + weight_decay * weights)
        weights = weights - learning_rate * buffer
        yield weights


def draw(num_steps):
    random = np.random.default_rng(0)
    start = {name: random.normal(size=shape) for name, shape in SHAPES.items()}
    gradients = {name: random.normal(size=(num_steps, *shape)) for name, shape in SHAPES.items()}
    return start, gradients


def variables(start):
    return {
        name: keras.Variable(value.astype("float32"), name=name) for name, value in start.items()
    }


def apply(optimizer, weights, gradients, step):
    optimizer.apply(
        [tf.constant(gradients[name][step], tf.float32) for name in SHAPES], [*weights.values()]
    )


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.05), (0.9, 0.0), (0.0, 0.05)])
def test_sgd_is_that_of_pytorch_also_where_the_learning_rate_changes(momentum, weight_decay):
    start, gradients = draw(num_steps=9)
    weights = variables(start)
    optimizer = recipe_optimizer.sgd_in_steps(
        0.5, 3, 3, momentum=momentum, weight_decay=weight_decay, decay_epochs=[1, 2],
        decay_factor=0.1,
    )  # fmt: skip
    learning_rates = np.repeat([0.5, 0.05, 0.005], 3)
    expected = {
        name: list(torch_sgd(start[name], gradients[name], learning_rates, momentum, weight_decay))
        for name in SHAPES
    }
    for step in range(9):
        apply(optimizer, weights, gradients, step)
        for name in SHAPES:
            np.testing.assert_allclose(weights[name], expected[name][step], rtol=5e-6, atol=5e-6)


def test_sgd_of_keras_is_another_one():
    """What the optimizer here is for: the differences are not small."""
    start, gradients = draw(num_steps=9)
    weights = variables(start)
    schedule = recipe_optimizer.step_schedule(0.5, 3, [1, 2])
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, weight_decay=0.05)
    for step in range(9):
        apply(optimizer, weights, gradients, step)
    learning_rates = np.repeat([0.5, 0.05, 0.005], 3)
    *_, expected = torch_sgd(start["kernel"], gradients["kernel"], learning_rates, 0.9, 0.05)
    assert np.abs(weights["kernel"].numpy() - expected).max() > 0.5


def test_sgd_goes_on_after_it_was_saved():
    start, gradients = draw(num_steps=4)
    weights = variables(start)
    first = recipe_optimizer.TorchSGD(recipe_optimizer.step_schedule(0.5, 2, [1]), 0.8, l2=0.05)
    for step in range(3):
        apply(first, weights, gradients, step)
    copies = variables({name: weight.numpy() for name, weight in weights.items()})
    second = keras.optimizers.deserialize(keras.optimizers.serialize(first))
    second.build([*copies.values()])
    second.set_weights([variable.numpy() for variable in first.variables])
    apply(first, weights, gradients, 3)
    apply(second, copies, gradients, 3)
    for name in SHAPES:
        np.testing.assert_array_equal(copies[name], weights[name])
    *_, expected = torch_sgd(start["bias"], gradients["bias"], [0.5, 0.5, 0.05, 0.05], 0.8, 0.05)
    np.testing.assert_allclose(copies["bias"], expected, rtol=5e-6, atol=5e-6)


def test_sgd_sums_the_gradients_of_replicas_and_decays_once():
    start, gradients = draw(num_steps=3)
    strategy = two_replicas()
    with strategy.scope():
        weight = keras.Variable(start["kernel"].astype("float32"))
        optimizer = recipe_optimizer.TorchSGD(0.5, 0.9, l2=0.05)
        optimizer.build([weight])

        @tf.function
        def step(gradient):
            strategy.run(lambda: optimizer.apply([gradient / 2], [weight]))

    for gradient in gradients["kernel"]:
        step(tf.constant(gradient, tf.float32))
    *_, expected = torch_sgd(start["kernel"], gradients["kernel"], [0.5] * 3, 0.9, 0.05)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=5e-6, atol=5e-6)


@pytest.mark.parametrize("arguments", [{"momentum": 1.0}, {"momentum": -0.1}, {"l2": -1e-4}])
def test_sgd_refuses_what_is_out_of_range(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        recipe_optimizer.TorchSGD(0.1, **arguments)


@pytest.mark.parametrize(
    ("epoch", "learning_rate"),
    [(0, 0.05), (149, 0.05), (150, 5e-3), (179, 5e-3), (180, 5e-4), (209, 5e-4), (210, 5e-5),
     (239, 5e-5)],
)  # fmt: skip
def test_learning_rate_of_first_and_last_step_of_an_epoch(epoch, learning_rate):
    recipe = recipes.for_teacher("cifar100", "vgg13")
    steps = -(-50_000 // recipe.batch_size)
    assert steps == 782
    schedule = recipe_optimizer.step_schedule(
        recipe.learning_rate, steps, recipe.decay_epochs, recipe.decay_factor
    )
    for step in (epoch * steps, (epoch + 1) * steps - 1):
        assert float(schedule(tf.constant(step, tf.int64))) == pytest.approx(learning_rate)


# The network.


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


# What recipes say.


def test_a_pair_of_cifar100_is_trained_as_in_the_literature():
    recipe = recipes.distillations()["cifar100_vgg13_to_mobilenetv2"]
    assert dataclasses.asdict(recipe) == {
        "name": "cifar100_vgg13_to_mobilenetv2",
        "network": "MobileNetV2",
        "dataset": "cifar100",
        "splits": ("train", "", "test"),
        "image_size": None,
        "mean": (0.5071, 0.4867, 0.4408),
        "std": (0.2675, 0.2565, 0.2761),
        "augment": "crop_flip",
        "batch_size": 64,
        "epochs": 240,
        "steps_per_epoch": 0,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay_epochs": (150, 180, 210),
        "decay_factor": 0.1,
        "teacher_recipe": "cifar100_vgg13",
        "fraction": 1.0,
        "temperature": 4.0,
        "hard_weight": 0.1,
        "kd_weight": 0.9,
        "region_weight": 0.9,
    }
    assert recipes.teachers()[recipe.teacher_recipe].learning_rate == 0.05


def test_all_pairs_of_all_data_sets_have_a_recipe_and_their_teachers_too():
    teachers, distillations = recipes.teachers(), recipes.distillations()
    assert len(teachers) == 3 * 6
    assert len(distillations) == 3 * 13
    networks = {recipe.network for recipe in (teachers | distillations).values()}
    assert networks == set(models.names()) - {"wrn_16_1"}
    for name, recipe in distillations.items():
        assert recipe.name == name
        teacher = teachers[recipe.teacher_recipe]
        assert (teacher.mean, teacher.splits) == (recipe.mean, recipe.splits)
        slow = recipe.network.startswith(("Mobile", "Shuffle"))
        assert recipe.learning_rate == (0.01 if slow else 0.05)


def test_recipes_print_each_value():
    lines = str(recipes.for_pair("cifar10", "vgg13", "vgg8")).splitlines()
    assert lines[:4] == [
        "Distillation",
        "  name = 'cifar10_vgg13_to_vgg8'",
        "  network = 'vgg8'",
        "  dataset = 'cifar10'",
    ]
    assert "  decay_epochs = (150, 180, 210)" in lines


@pytest.mark.parametrize(
    ("name", "value"),
    [("splits", ("train", "test")), ("splits", ("", "", "test")), ("image_size", 0),
     ("mean", (0.5, 0.5, 128.0)), ("std", (0.2, 0.2)), ("std", (0.2, 0.0, 0.2)),
     ("augment", "flip"), ("batch_size", 0), ("batch_size", 64.5), ("epochs", 0),
     ("steps_per_epoch", -1), ("optimizer", "lion"), ("learning_rate", 0.0), ("momentum", 1.0),
     ("weight_decay", -5e-4), ("weight_decay", float("nan")), ("decay_epochs", (180, 150)),
     ("decay_epochs", (0, 150)), ("decay_epochs", [150]), ("decay_factor", 0.0), ("fraction", 0.0),
     ("temperature", 0.0), ("hard_weight", -0.1), ("kd_weight", "0.9"), ("region_weight", None)],
)  # fmt: skip
def test_recipes_name_a_wrong_value(name, value):
    recipe = recipes.for_pair("cifar100", "vgg13", "vgg8")
    with pytest.raises(ValueError, match=re.escape(f"Received: {name}={value!r}")):
        dataclasses.replace(recipe, **{name: value})


def test_the_page_lists_the_pairs_and_its_commands_name_recipes():
    page = (ROOT / "docs" / "recipes.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| [0-9.]+ \| [0-9.]+ \|", page, re.MULTILINE)
    assert rows == [
        (f"cifar100_{teacher}".lower(), f"cifar100_{teacher}_to_{student}".lower())
        for teacher, student in recipes.PAIRS
    ]
    commands = re.findall(r"(\w+)\.py --recipe=(\w+)", page)
    known = {"train_teacher": recipes.teachers(), "distill": recipes.distillations()}
    assert {program for program, _ in commands} == set(known)
    assert all(name in known[program] for program, name in commands)


# The programs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a few images in the form of CIFAR-100, as tfds prepares it."""
    folder = tmp_path_factory.mktemp("recipes")
    builder = tfds.builder("cifar100", data_dir=folder / "tfds")
    random = np.random.default_rng(0)

    def examples(count):
        for index in range(count):
            yield (
                index,
                {
                    "id": str(index),
                    "image": random.integers(256, size=(32, 32, 3), dtype=np.uint8),
                    "label": index,
                    "coarse_label": index % 20,
                },
            )

    tfds.dataset_builders.store_as_tfds_dataset(
        "cifar100",
        builder.version,
        builder.info.features,
        {"train": examples(20), "test": examples(8)},
        data_dir=folder / "tfds",
    )
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Runs a program in this process, with flags of its own."""
    monkeypatch.chdir(folder)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name])
        sys.modules.pop(name, None)
        with flagsaver.flagsaver():
            program = importlib.import_module(name)
            program.main(flags.FLAGS([name, "--data_dir=tfds", "--verbose=0", *arguments]))

    return run


def read(path):
    return json.loads(path.read_text())


def test_the_stand_in_is_like_cifar100(folder):
    test = data.load("cifar100", "test", batch_size=8, data_dir=folder / "tfds")
    images, labels = next(iter(test))
    assert images.shape == (8, 32, 32, 3)
    assert sorted(labels.numpy()) == list(range(8))
    assert len(test.class_names) == 100


def test_a_teacher_and_its_student_are_trained_by_their_recipes(run, folder):
    run("train_teacher", "--recipe=cifar100_vgg13", "--epochs=1", "--batch_size=10")
    run(
        "distill",
        "--recipe=cifar100_vgg13_to_vgg8",
        "--epochs=2",
        "--batch_size=8",
        "--steps_per_epoch=1",
        "--temperature=2",
        "--jit_compile=off",
    )
    teacher, student = folder / "runs/cifar100_vgg13", folder / "runs/cifar100_vgg13_to_vgg8_l2rkd"
    config = read(teacher / "config.json")
    by_flags = {"epochs": 1, "batch_size": 10, "steps_per_epoch": 2}
    by_recipe = recipes.teachers()["cifar100_vgg13"].flags()
    assert (by_recipe | by_flags).items() <= config.items()
    assert config["recipe"] == "cifar100_vgg13"

    config = read(student / "seed0/config.json")
    by_flags = {"epochs": 2, "batch_size": 8, "steps_per_epoch": 1, "temperature": 2.0}
    by_recipe = recipes.distillations()["cifar100_vgg13_to_vgg8"].flags()
    assert (by_recipe | by_flags).items() <= config.items()
    assert config["teacher"] == "runs/cifar100_vgg13/model.keras"
    history = read(student / "seed0/history.json")
    terms = [history[name][0] for name in ("hard_loss", "kd_loss", "region_loss")]
    assert np.dot([0.1, 0.9, 0.9], terms) == pytest.approx(history["loss"][0], rel=1e-5)

    for path, parameters in ((teacher, 9_462_180), (student / "seed0", 3_965_028)):
        network = keras.models.load_model(path / "model.keras")
        assert not network.compiled
        assert sum(np.prod(weight.shape) for weight in network.trainable_weights) == parameters
        metrics = read(path / "metrics.json")
        assert set(metrics) == {"test", "parameters", "milliseconds_per_step"}
        test = data.load("cifar100", "test", batch_size=8, data_dir=folder / "tfds")
        assert training.evaluate(network, test) == pytest.approx(metrics["test"], rel=1e-4)


@pytest.fixture(scope="module")
def small_teacher(folder):
    """A small network as the recipe's teacher, for programs that shall not take long."""
    path = folder / "teacher.keras"
    training.normalized(models.convnet((32, 32, 3), 100, (4,)), (0.5,) * 3, (0.2,) * 3).save(path)
    return path


@pytest.mark.parametrize("method", ["none", "kd"])
def test_flags_go_before_the_recipe(method, run, folder, small_teacher):
    run(
        "distill",
        "--recipe=cifar100_wrn_40_2_to_wrn_16_2",
        f"--method={method}",
        f"--teacher={small_teacher}",
        "--network=",
        "--widths=2",
        "--splits=train[:60%],train[60%:],test",
        "--augment=none",
        "--learning_rate=0.1",
        "--decay_epochs=1",
        "--weight_decay=0.01",
        "--batch_size=4",
        "--epochs=2",
    )
    output = folder / f"runs/cifar100_wrn_40_2_to_wrn_16_2_{method}/seed0"
    config = read(output / "config.json")
    assert config["steps_per_epoch"] == 3
    assert (config["decay_epochs"], config["momentum"]) == (["1"], 0.9)
    assert "validation" in read(output / "metrics.json")
    assert keras.models.load_model(output / "model.keras").get_layer("block1_conv").filters == 2


def test_tiny_imagenet_is_a_folder_of_images(run, folder):
    for path in ("train/n01/a", "train/n01/b", "train/n02/a", "val/n01/a", "val/n02/a"):
        file = folder / f"images/{path}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(tf.io.encode_jpeg(np.full((64, 64, 3), 9 * len(path), np.uint8)).numpy())
    recipe = "tiny_imagenet_resnet110"
    run(
        "train_teacher",
        f"--recipe={recipe}",
        "--dataset=images",
        "--network=",
        "--widths=2",
        "--epochs=1",
    )
    config = read(folder / f"runs/{recipe}/config.json")
    assert (config["steps_per_epoch"], config["image_size"]) == (1, 64)
    network = keras.models.load_model(folder / f"runs/{recipe}/model.keras")
    assert (network.input_shape, network.output_shape) == ((None, 64, 64, 3), (None, 2))


def test_a_teacher_that_is_not_there_is_named(run):
    with pytest.raises(ValueError, match="train_teacher.py --recipe=cifar10_resnet56"):
        run("distill", "--recipe=cifar10_resnet56_to_resnet20")


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("train_teacher", ["--recipe=cifar100_vgg"], "(?s)must be one of.*cifar100_vgg13\n"),
        ("train_teacher", ["--recipe=cifar100_vgg13_to_vgg8"], "Received: recipe='cifar100_vgg13_"),
        ("distill", ["--recipe=cifar100_vgg13"], "(?s)must be one of.*cifar10_vgg13_to_vgg8\n"),
        ("distill", ["--weight_decay=0.1"], "`weight_decay` must be 0"),
        ("train_teacher", ["--recipe=cifar100_vgg13", "--optimizer=adam"], "--decay_epochs=, too"),
        ("train_teacher", ["--mean=0.5,0.5,0.5"], "`std` must have as many numbers as `mean`"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(program, arguments, message, run):
    with pytest.raises(ValueError, match=message):
        run(program, *arguments)


@pytest.mark.parametrize(
    "argument",
    ["--decay_epochs=180,150", "--decay_epochs=x", "--mean=a", "--std=0,1,1", "--momentum=1",
     "--decay_factor=0", "--augment=flip", "--optimizer=lion", "--splits=train,,"],
)  # fmt: skip
def test_wrong_flags_are_named(argument, run):
    with pytest.raises(flags.IllegalFlagValueError, match=argument.partition("=")[0]):
        run("train_teacher", argument)
