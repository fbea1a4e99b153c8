"""The search for radius, region weight and temperature."""

import builtins
import json
import sys

import keras
import numpy as np
import pytest

from l2rkd_command.flags import checks
from l2rkd_command.flags.tune import TUNED, with_radius
from l2rkd_tf.cli.common import search
from l2rkd_tf.cli.common.parsing import parse_region
from tests.cli import commands

RANGES = {"radius": [0.1, 1.0], "region_weight": [2.0], "temperature": [1.0, 8.0]}


def test_a_search_finds_the_best_of_its_trials_and_resumes(tmp_path):
    asked = []

    def accuracy(setting):
        if len(asked) == 3:
            asked.append("killed")
            raise KeyboardInterrupt
        asked.append(setting)
        return 1.0 - abs(setting["radius"] - 0.5)

    with pytest.raises(KeyboardInterrupt):
        search.search(accuracy, RANGES, max_trials=5, directory=tmp_path)
    trials = search.search(accuracy, RANGES, max_trials=5, directory=tmp_path)
    asked.remove("killed")
    assert len(asked) == len(trials) == 5  # none twice
    assert [trial["val_accuracy"] for trial in trials] == sorted(
        (1.0 - abs(setting["radius"] - 0.5) for setting in asked), reverse=True
    )
    for trial in trials:
        assert {name: trial[name] for name in RANGES} in asked
        assert 0.1 <= trial["radius"] <= 1.0 and 1.0 <= trial["temperature"] <= 8.0
        assert trial["region_weight"] == 2.0
    assert len({trial["temperature"] for trial in trials}) == 5


@pytest.mark.parametrize("text", ["patch:grid=2 + segment", "patch:grid=2+segment"])
def test_all_parts_of_a_mixture_share_the_radius(text):
    region = parse_region(with_radius(text, 0.5))
    assert [type(part).__name__ for part in region.regions] == ["Patch", "Segment"]
    assert region.regions[0].grid == 2
    np.testing.assert_array_equal(region.weights, [0.5, 0.5])
    assert [part.radius for part in region.regions] == [0.5, 0.5]
    assert checks.read_region(with_radius(text, 0.5)) == [
        [("patch", {"grid": 2, "radius": 0.5})],
        [("segment", {"radius": 0.5})],
    ]


def test_all_that_comes_one_after_the_other_shares_the_radius():
    text = with_radius('swap then ball:norm="gaussian" + patch', 0.5)
    assert text == 'swap:radius=0.5 then ball:norm="gaussian",radius=0.5 + patch:radius=0.5'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a teacher."""
    folder = tmp_path_factory.mktemp("tune")
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    keras.Sequential(layers, name="teacher").save(folder / "teacher.keras")
    return folder


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("trials", "seeds"), [(1, [0]), pytest.param(2, [0, 1], marks=pytest.mark.stress)]
)
def test_the_best_setting_and_its_test_accuracy_are_told(folder, trials, seeds):
    output = folder / f"tuned_{trials}"
    printed = commands.succeed(
        "tune",
        f"--teacher={folder}/teacher.keras",
        f"--data_dir={folder}/tfds",
        f"--trials={trials}",
        "--temperature=4",
        f"--seeds={','.join(map(str, seeds))}",
        "--widths=4",
        "--epochs=1",
        "--steps_per_epoch=2",
        f"--output={output}",
    )
    results = read(output / "tuning.json")
    accuracies = [trial["val_accuracy"] for trial in results["trials"]]
    assert len(accuracies) == trials and accuracies == sorted(accuracies, reverse=True)
    first = results["trials"][0]
    assert results["best"] == {name: first[name] for name in TUNED}
    assert results["best"]["temperature"] == 4.0
    metrics = [read(output / f"seed{seed}/metrics.json") for seed in seeds]
    # The students of the end are those of the trial.
    assert np.mean([m["validation"]["accuracy"] for m in metrics]) == first["val_accuracy"]
    assert results["test_accuracies"] == [m["test"]["accuracy"] for m in metrics]
    region = f"patch:grid=4,radius={first['radius']}"
    assert f"--region={region}" in printed
    assert f"--teacher={folder}/teacher.keras" in printed
    assert f"validation accuracy {first['val_accuracy']:.2%}" in printed
    assert f"test accuracy {100 * np.mean(results['test_accuracies']):.2f} " in printed
    # What later commands read.
    config = read(output / f"seed{seeds[-1]}/config.json")
    assert (config["region"], config["seed"], config["temperature"]) == (region, seeds[-1], 4.0)


def test_a_dry_run_only_says_what_would_be_tried(folder):
    printed = commands.succeed(
        "tune",
        f"--teacher={folder}/teacher.keras",
        f"--data_dir={folder}/tfds",
        "--dry_run",
        f"--output={folder}/planned",
    )
    assert "teacher, 650 parameters" in printed
    assert "radius 0.25 to 1, region_weight 0.3 to 3, temperature 1 to 8" in printed
    assert "20 trials" in printed and not (folder / "planned").exists()


def test_without_kerastuner_nothing_is_trained(folder, monkeypatch):
    real_import = builtins.__import__

    def without_kerastuner(name, *args, **kwargs):
        if name == "keras_tuner":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "l2rkd_tf.cli.common.search")
    monkeypatch.setattr(builtins, "__import__", without_kerastuner)
    monkeypatch.setattr(keras.models, "load_model", commands.refuse_work)
    error = commands.fail("tune", f"--teacher={folder}/teacher.keras", f"--output={folder}/none")
    assert "keras_tuner" in error and "l2rkd-tf[tuner]" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--teacher="], "--teacher must be given"),
        (["--teacher=missing.keras"], "--teacher must be an existing .keras file"),
        (["--radius=0.5,2"], "--radius must be"),
        (["--radius=0.5,0.1"], "--radius must be one or two numbers above 0, in order"),
        (["--temperature=8,1"], "--temperature must be one or two numbers above 0, in order"),
        (["--region_weight=0"], "--region_weight must be one or two numbers above 0"),
        (["--region=patch:radius=0.5"], "--region must be a region without a radius"),
        (["--region=pach"], "--region must begin with one of"),
        (["--splits=train,,test"], "--splits must have a second one"),
        (["--fraction=0"], "--fraction must be above 0"),
        (["--seeds=1,1"], "--seeds must be different integers"),
        (["--trials=0"], "--trials"),
    ],
)
def test_wrong_flags_fail_before_any_work(folder, arguments, message, monkeypatch):
    monkeypatch.setattr(keras.models, "load_model", commands.refuse_work)
    given = [f"--teacher={folder}/teacher.keras", f"--output={folder}/not_there"]
    assert message in commands.fail("tune", *given, *arguments)
