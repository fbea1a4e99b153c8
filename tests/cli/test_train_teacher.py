"""`l2rkd train-teacher`, with very few steps."""

import json

import keras
import pytest

from tests.cli import commands

FILES = ["config.json", "history.json", "log.csv", "metrics.json", "model.keras"]


def read(path):
    return json.loads(path.read_text())


def test_each_seed_leaves_a_whole_run(tmp_path):
    output = tmp_path / "teacher"
    printed = commands.succeed(
        "train-teacher",
        "--epochs=2",
        "--steps_per_epoch=3",
        "--widths=4,8",
        "--seeds=0,5",
        f"--output={output}",
    )
    assert sorted(path.name for path in output.iterdir()) == ["seed0", "seed5"]
    weights, accuracies = [], []
    for seed in (0, 5):
        folder = output / f"seed{seed}"
        assert sorted(path.name for path in folder.iterdir()) == FILES
        config = read(folder / "config.json")
        assert config["widths"] == ["4", "8"]
        assert (config["command"], config["seed"]) == ("train-teacher", seed)
        assert (config["dataset"], config["steps_per_epoch"]) == ("digits", 3)
        assert {"loss", "val_accuracy"} <= set(history := read(folder / "history.json"))
        assert len(history["loss"]) == 2
        weights.append(keras.models.load_model(folder / "model.keras").get_weights()[0])
        accuracies.append(read(folder / "metrics.json")["test"]["accuracy"])
    assert (weights[0] != weights[1]).any()
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]  # nothing half written
    lines = printed.splitlines()
    assert lines[0].startswith("[1/2] Training convnet (1,230 parameters) on 1,000 examples")
    assert f"test accuracy {50 * sum(accuracies):.2f} ± " in lines[-2]
    assert lines[-1] == f"Next: l2rkd distill --teacher={output}/seed0/model.keras"


def test_what_is_said_next_reads_the_same_data(tmp_path):
    splits = "train[:60],validation[:20],test[:20]"
    printed = commands.succeed(
        "train-teacher",
        "--epochs=1",
        "--steps_per_epoch=1",
        "--widths=4",
        f"--splits={splits}",
        f"--output={tmp_path}/teacher",
    )
    teacher = f"--teacher={tmp_path}/teacher/seed0/model.keras"
    assert printed.splitlines()[-1] == f"Next: l2rkd distill {teacher} '--splits={splits}'"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pretrained"], "--pretrained needs --application"),
        (["--trained=head"], "--trained needs --application"),
        (["--application=VGG16", "--network=vgg13"], "--application must be empty if --network"),
    ],
)
def test_flags_of_networks_that_do_not_go_together(words, message):
    assert message in commands.fail("train-teacher", *words)


def test_an_application_that_is_not_there_is_named(tmp_path):
    line = commands.fail(
        "train-teacher", "--application=MobileNetV9", f"--output={tmp_path}/teacher"
    )
    assert "--application must be one of" in line and "MobileNetV2" in line
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path):
    printed = commands.succeed("train-teacher", "--dry_run", f"--output={tmp_path}/teacher")
    assert "digits, split train: 1,000 examples of 8x8x1, 10 classes" in printed
    assert "convnet, 289,066 parameters" in printed
    assert "40 epochs of 20 steps" in printed
    assert f"{tmp_path}/teacher/seed0" in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.stress
def test_an_application_is_trained_watched_and_distilled(tmp_path):
    short = ["--epochs=1", "--steps_per_epoch=2", "--verbose=0"]
    commands.succeed(
        "train-teacher",
        *short,
        "--application=MobileNetV2",
        "--trained=head",
        f"--tensorboard={tmp_path}/of_teacher",
        f"--output={tmp_path}/teacher",
    )
    path = tmp_path / "teacher/seed0/model.keras"
    assert keras.models.load_model(path).count_params() == 2_257_984 + 1280 * 10 + 10
    assert list((tmp_path / "of_teacher/seed0/validation").glob("*tfevents*"))
    commands.succeed("distill", *short, f"--teacher={path}", f"--output={tmp_path}/of_app")
    assert read(tmp_path / "of_app/seed0/history.json")["region_loss"][0] > 0
