"""Recipes of published settings, and the programs that follow them for some steps."""

import dataclasses
import json
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from l2rkd_command import recipes
from l2rkd_tf import data, models
from l2rkd_tf.cli.common import training
from tests.cli import commands

ROOT = pathlib.Path(__file__).parents[2]


def test_a_pair_of_cifar100_is_trained_as_published():
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
    lines = re.findall(r"l2rkd ([\w-]+) --recipe=(\w+)", page)
    known = {"train-teacher": recipes.teachers(), "distill": recipes.distillations()}
    assert {command for command, _ in lines} == set(known)
    assert all(name == "help" or name in known[command] for command, name in lines)


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
    """Runs a command in the folder."""
    monkeypatch.chdir(folder)

    def run(name, *words):
        return commands.succeed(name, "--data_dir=tfds", "--verbose=0", *words)

    return run


def read(path):
    return json.loads(path.read_text())


def test_the_stand_in_is_like_cifar100(folder):
    test = data.load("cifar100", "test", batch_size=8, data_dir=folder / "tfds")
    images, labels = next(iter(test))
    assert images.shape == (8, 32, 32, 3)
    assert sorted(labels.numpy()) == list(range(8))
    assert len(test.class_names) == 100


@pytest.mark.stress
def test_a_teacher_and_its_student_are_trained_by_their_recipes(run, folder):
    run("train-teacher", "--recipe=cifar100_vgg13", "--epochs=1", "--batch_size=10")
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
    config = read(teacher / "seed0/config.json")
    by_flags = {"epochs": 1, "batch_size": 10, "steps_per_epoch": 2}
    by_recipe = recipes.teachers()["cifar100_vgg13"].flags()
    assert (by_recipe | by_flags).items() <= config.items()
    assert config["recipe"] == "cifar100_vgg13"

    config = read(student / "seed0/config.json")
    by_flags = {"epochs": 2, "batch_size": 8, "steps_per_epoch": 1, "temperature": 2.0}
    by_recipe = recipes.distillations()["cifar100_vgg13_to_vgg8"].flags()
    assert (by_recipe | by_flags).items() <= config.items()
    assert config["teacher"] == "runs/cifar100_vgg13/seed0/model.keras"
    history = read(student / "seed0/history.json")
    terms = [history[name][0] for name in ("hard_loss", "kd_loss", "region_loss")]
    assert np.dot([0.1, 0.9, 0.9], terms) == pytest.approx(history["loss"][0], rel=1e-5)

    for path, parameters in ((teacher / "seed0", 9_462_180), (student / "seed0", 3_965_028)):
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
        "train-teacher",
        f"--recipe={recipe}",
        "--dataset=images",
        "--network=",
        "--widths=2",
        "--epochs=1",
    )
    config = read(folder / f"runs/{recipe}/seed0/config.json")
    assert (config["steps_per_epoch"], config["image_size"]) == (1, 64)
    network = keras.models.load_model(folder / f"runs/{recipe}/seed0/model.keras")
    assert (network.input_shape, network.output_shape) == ((None, 64, 64, 3), (None, 2))


def test_a_teacher_that_is_not_there_is_named():
    line = commands.fail("distill", "--recipe=cifar10_resnet56_to_resnet20")
    assert "--teacher must be given, or trained first by l2rkd train-teacher" in line
    assert "--recipe=cifar10_resnet56," in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train-teacher", "--recipe=cifar100_vgg"], "Did you mean cifar100_vgg13?"),
        (["train-teacher", "--recipe=cifar100_vgg13_to_vgg8"], "--recipe has no 'cifar100_vgg13_"),
        (["distill", "--recipe=cifar100_vgg13_vgg8"], "Did you mean cifar100_vgg13_to_vgg8?"),
        (["distill", "--weight_decay=0.1"], "--weight_decay needs --optimizer=sgd"),
        (
            ["train-teacher", "--recipe=cifar100_vgg13", "--optimizer=adam"],
            "Pass --weight_decay=0 --decay_epochs= to use Adam",
        ),
        (["train-teacher", "--mean=0.5,0.5,0.5"], "--std must have as many numbers as --mean"),
    ],
)
def test_what_does_not_go_together_is_refused(words, message):
    assert message in commands.fail(*words)


def test_recipes_are_listed(capsys):
    for command, known in (
        ("train-teacher", recipes.teachers()),
        ("distill", recipes.distillations()),
    ):
        with pytest.raises(SystemExit) as finished:
            commands.main([command, "--recipe=help"])
        assert finished.value.code == 0
        assert capsys.readouterr().out.split() == list(known)


@pytest.mark.parametrize(("name", "known"), [("vgg13", {}), ("cifar100_vgg", recipes.teachers())])
def test_recipes_that_are_not_there_are_refused_with_a_list(name, known):
    names = "\\n  ".join(known)
    with pytest.raises(ValueError, match=f"(?s)must be one of.*{names}.*Received: recipe='{name}'"):
        recipes.find(name, known)


@pytest.mark.parametrize(
    "argument",
    ["--decay_epochs=180,150", "--decay_epochs=x", "--mean=a", "--std=0,1,1", "--momentum=1.0",
     "--decay_factor=0.0", "--augment=flip", "--optimizer=lion", "--splits=train,,"],
)  # fmt: skip
def test_wrong_flags_are_named(argument):
    line = commands.fail("train-teacher", argument)
    assert line.startswith(f"l2rkd train-teacher: {argument.partition('=')[0]} must be")
    assert line.endswith(f". Received: {argument}")
