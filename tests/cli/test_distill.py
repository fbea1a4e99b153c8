"""`l2rkd distill`, with very few steps."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import regions
from l2rkd_tf.cli.common import from_flags, training
from tests.cli import commands

SHORT = ["--epochs=2", "--steps_per_epoch=3"]


def read(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, teacher_file):
    """What is printed, and the folder."""
    folder = tmp_path_factory.mktemp("distill")
    printed = commands.succeed(
        "distill",
        *SHORT,
        f"--teacher={teacher_file}",
        "--fraction=0.1",
        "--seeds=0,3",
        "--region=patch:grid=2,radius=0.5",
        "--mixed_precision=mixed_bfloat16",
        f"--teacher_cache={folder}/cache",
        f"--output={folder}/students",
    )
    return printed, folder


def test_teacher_outputs_are_cached(distilled):
    numbers = [read(path)["num_examples"] for path in distilled[1].rglob("complete.json")]
    assert numbers == [100, 100]  # the subsets of the two seeds


def test_one_student_is_trained_for_each_seed(distilled, teacher_file):
    printed, folder = distilled
    accuracies = []
    for seed in (0, 3):
        run = folder / f"students/seed{seed}"
        student = keras.models.load_model(run / "model.keras")
        assert student.count_params() == 5274
        metrics = read(run / "metrics.json")
        accuracies.append(metrics["test"]["accuracy"])
        config = read(run / "config.json")
        assert (config["seed"], config["region"]) == (seed, "patch:grid=2,radius=0.5")
        assert (config["command"], config["teacher"]) == ("distill", str(teacher_file))
        assert set(config["versions"]) == {"l2rkd_tf", "keras", "tensorflow", "numpy"}
        history = read(run / "history.json")
        assert {"loss", "hard_loss", "kd_loss", "region_loss", "val_accuracy"} <= set(history)
        assert history["region_loss"][0] > 0
        assert len((run / "log.csv").read_text().splitlines()) == 3
    assert f"test accuracy {100 * sum(accuracies) / 2:.2f} ± " in printed


def test_steps_are_announced_and_what_to_run_next(distilled, teacher_file):
    printed, folder = distilled
    lines = printed.splitlines()
    assert lines[0] == f"[1/3] Reading the teacher from {teacher_file}"
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/3]", "[2/3]", "[3/3]"]
    assert sum(line.startswith("Epoch 2/2") for line in lines) == 2
    assert not any("\b" in line or "\r" in line for line in lines)  # this isn't a terminal
    student = folder / "students/seed0/model.keras"
    assert lines[-1] == f"Next: l2rkd export --student={student} --quantization=int8"


def test_region_points_are_cached(tmp_path, teacher_file):
    options = [
        *SHORT, f"--teacher={teacher_file}", "--fraction=0.1", "--replace_fraction=0.5",
        "--cached_region_points=2", f"--teacher_cache={tmp_path}/cache",
    ]  # fmt: skip
    plan = commands.succeed("distill", *options, "--dry_run")
    assert "0 to the teacher" in plan
    commands.succeed("distill", *options, f"--output={tmp_path}/students")
    names = sorted(path.name[:5] for path in tmp_path.rglob("regions-*/*.npy"))
    assert names == ["00000", "00001"]
    assert read(tmp_path / "students/seed0/history.json")["region_loss"][0] > 0


def test_without_a_teacher_one_is_trained_and_kept(tmp_path, monkeypatch):
    original = training.train_teacher

    def train_teacher(*args, **kwargs):
        return original(*args, **kwargs, epochs=1, steps_per_epoch=2, widths=(4,))

    monkeypatch.setattr(training, "train_teacher", train_teacher)
    printed = commands.succeed(
        "distill", *SHORT, "--fraction=0.1", "--verbose=0", f"--output={tmp_path}/students"
    )
    teacher = tmp_path / "students/teacher"
    assert read(tmp_path / "students/seed0/config.json")["teacher"] == f"{teacher}/model.keras"
    model = keras.models.load_model(teacher / "model.keras")
    _, _, test = training.load_splits("digits", 50)
    found = read(teacher / "metrics.json")["test"]
    assert training.evaluate(model, test) == pytest.approx(found, rel=1e-4)
    (line,) = printed.splitlines()  # with --verbose=0 the result only
    assert line.startswith("L2RKD student, 10% of digits: test accuracy")


def test_published_methods_are_added_to_labels_alone(tmp_path, teacher_file):
    printed = commands.succeed(
        "distill",
        f"--teacher={teacher_file}",
        "--method=none",
        "--methods=attention_transfer,dkd",
        "--method_weights=10,0.5",
        "--kd_weight=0.5",
        "--epochs=1",
        "--steps_per_epoch=3",
        f"--output={tmp_path}/methods",
    )
    assert printed.startswith("Without effect: --kd_weight with --method=none --methods=attention")
    assert printed.count("AttentionTransfer compares teacher 'block1' (None, 8, 8, ") == 1
    history = read(tmp_path / "methods/seed0/history.json")
    terms = ("hard_loss", "attention_transfer_loss", "dkd_loss", "kd_loss")
    hard, attention, decoupled, kd = (history[name][0] for name in terms)
    assert history["loss"][0] == pytest.approx(hard + 10 * attention + 0.5 * decoupled, rel=1e-5)
    assert kd == 0


def dense(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers], name="teacher")


def test_two_teachers_are_an_ensemble_and_tensorboard_shows_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        dense(seed).save(f"{seed}.keras")
    commands.succeed(
        "distill",
        "--teacher=0.keras,1.keras",
        "--tensorboard=board",
        "--method=kd",
        "--epochs=1",
        "--steps_per_epoch=2",
        "--verbose=0",
    )
    history = read(tmp_path / "runs/distill/seed0/history.json")
    board = tmp_path / "board/seed0"
    tags = {
        run.name: {
            value.tag: tf.make_ndarray(value.tensor)
            for path in run.glob("*tfevents*")
            for record in tf.data.TFRecordDataset(str(path))
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
        }
        for run in (board, *board.iterdir())
        if run.is_dir()
    }
    assert set(tags) == {"seed0", "train", "validation"}
    assert set(tags["seed0"]) == {
        "configuration", "_hparams_/session_start_info", "fidelity_profile", "decision_map",
    }  # fmt: skip
    assert tags["train"]["epoch_kd_loss"] == np.float32(history["kd_loss"][0])
    measured = history["val_fidelity_agreement_0.0"][0]
    assert tags["validation"]["epoch_fidelity_agreement_0.0"] == np.float32(measured)
    table = tags["seed0"]["configuration"].item().decode()
    assert re.search(r"\| teacher +\| 0.keras,1.keras +\|", table)


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path, teacher_file, monkeypatch):
    monkeypatch.setattr(training, "fit", commands.refuse_work)
    words = ["distill", "--dry_run", "--fraction=0.1", "--seeds=0,1", f"--output={tmp_path}/new"]
    printed = commands.succeed(*words, f"--teacher={teacher_file}")
    assert "digits, split train: 100 examples of 8x8x1, 10 classes" in printed
    assert f"convnet, 1,230 parameters, from {teacher_file}" in printed
    assert "convnet, 5,274 parameters" in printed
    assert "100 inputs to the student, 100 to the teacher" in printed
    assert "15 epochs of 100 steps" in printed and "2 seeds" in printed
    assert f"{tmp_path}/new/seed0, {tmp_path}/new/seed1" in printed
    assert "convnet, 289,066 parameters, which would be trained first" in commands.succeed(*words)
    assert not list(tmp_path.iterdir())


def test_methods_at_region_points_use_the_region_of_the_flag(monkeypatch, tmp_path):
    built = []

    def build_trainee(*args, **kwargs):
        built.append(make(*args, **kwargs))
        return built[-1]

    make = training.build_trainee
    monkeypatch.setattr(training, "build_trainee", build_trainee)
    words = ["--method=kd", "--methods=dkd", "--methods_at=region", "--region=segment"]
    commands.succeed("distill", "--dry_run", f"--output={tmp_path}/new", *words)
    assert [type(trainee.region) for trainee in built] == [regions.Segment]
    assert built[0].region_weight == 0.0


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (
            ["--method=kd", "--replace_fraction=0.5", "--region_weight=3"],
            "  --region_weight, --replace_fraction with --method=kd\n",
        ),
        (
            ["--method=none", "--temperature=2", "--kd_weight=1"],
            "  --kd_weight, --temperature with --method=none\n",
        ),
        (
            ["--method=none", "--methods=dkd", "--temperature=2", "--kd_weight=1"],
            "  --kd_weight with",
        ),
        (["--methods_at=both"], "  --methods_at with --method=l2rkd\n"),
        (["--method=kd", "--methods=dkd", "--methods_at=both", "--region=segment"], ""),
        (["--replace_fraction=0.5", "--kd_weight=1"], ""),
        (["--method=kd", "--fraction=0.1"], ""),
    ],
)
def test_flags_without_effect_are_told(words, unused, tmp_path):
    printed = commands.succeed("distill", "--dry_run", f"--output={tmp_path}/new", *words)
    assert ("Without effect" in printed) == bool(unused)
    assert unused in printed


def test_a_teacher_of_other_images_is_named(tmp_path):
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]).save(tmp_path / "t.keras")
    words = [f"--teacher={tmp_path}/t.keras", f"--output={tmp_path}/new", "--dry_run"]
    assert "teacher" in commands.fail("distill", *words)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "teacher.keras").write_text("no model")
    words = [f"--teacher={tmp_path}/teacher.keras", f"--output={tmp_path}/new", "--verbose=0"]
    assert "--teacher cannot be used:" in commands.fail("distill", *words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--region=pach"], "--region must begin with one of"),
        (["--region=patch:radius=2"], "--region cannot be used: `radius` must be"),
        (["--region=patch:size=2"], "size"),
        (["--region=patch:grid"], "patch:grid=4,radius=0.5"),
        (["--region=patch + pach"], "Received: 'patch + pach'"),
        (["--method=l3rkd"], "--method must be one of none, kd, l2rkd"),
        (["--fraction=0"], "--fraction must be above 0"),
        (["--fraction=1.5"], "--fraction must be"),
        (["--seeds=1,1"], "--seeds must be different integers"),
        (["--widths=16,x"], "--widths must be integers above 0"),
        (["--temperature=0"], "--temperature must be above 0"),
        (["--replace_fraction=1"], "--replace_fraction must be between 0 and 1"),
        (["--teacher=missing.keras"], "--teacher must be an existing .keras file"),
        (["--methods=dkd,fitnets"], "fitnet,"),
        (["--methods=dkd", "--method_weights=-1"], "must be numbers from 0"),
        (["--methods=dkd,fitnet", "--method_weights=1"], "one entry for each"),
        (["--methods=dkd,fitnet,vid", "--methods_at=data,data"], "one entry for each"),
        (["--methods=dkd", "--methods_at=test"], "must be data, region or both"),
        (["--method=none", "--teacher_cache=x"], "--teacher_cache needs a --method"),
        (["--method=kd", "--cached_region_points=9"], "--cached_region_points needs --method=l2"),
        (
            ["--cached_region_points=9", "--region_targets=interpolated"],
            "--cached_region_points needs --region_targets=teacher",
        ),
        (
            ["--cached_region_points=9", "--num_region_points=2"],
            "--cached_region_points needs --num_region_points=1",
        ),
        (["epochs=3"], "'epochs=3' is not a flag"),
        (["--output=."], "--output must be a new folder"),
    ],
)
def test_wrong_flags_are_refused_before_any_work(arguments, message, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "load_splits", commands.refuse_work)
    monkeypatch.setattr(from_flags, "load_teacher", commands.refuse_work)
    monkeypatch.chdir(tmp_path)
    assert message in commands.fail("distill", *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.stress
def test_replicas_and_workers_train_alike(tmp_path, teacher_file):
    l2rkd = [sys.executable, "-m", "l2rkd_command"]
    common = [*SHORT, f"--teacher={teacher_file}", f"--backup={tmp_path}/backups"]
    commands_ = {
        "mirrored": ["distill", *common, "--strategy=mirrored", "--cpu_devices=2"],
        "workers": ["launch", "--num_workers=2", "--", *l2rkd, "distill", *common]
        + ["--strategy=multi_worker"],
    }
    printed, results = {}, {}
    for name, words in commands_.items():
        output = tmp_path / name
        finished = subprocess.run(
            [*l2rkd, *words, f"--output={output}"], capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        printed[name] = finished.stdout
        results[name] = read(output / "seed0/metrics.json")
    assert printed["workers"].count(f"students in {tmp_path}/workers") == 1
    for split in ("validation", "test"):
        assert results["mirrored"][split] == pytest.approx(results["workers"][split], rel=1e-5)
    assert not list((tmp_path / "backups").rglob("epoch-*"))
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob(".*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_teacher_computes_in_the_dtype_of_the_flag(dtype, tmp_path, teacher_file, monkeypatch):
    made = []
    original = training.build_trainee

    def build_trainee(*args, **kwargs):
        made.append(original(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(training, "build_trainee", build_trainee)
    words = ["distill", "--epochs=1", "--steps_per_epoch=1", "--verbose=0", "--fraction=0.1"]
    words += [f"--teacher={teacher_file}", f"--output={tmp_path}/student"]
    commands.succeed(*words, f"--teacher_dtype={dtype}")
    assert [one.teacher_dtype for one in made] == [None if dtype == "float32" else dtype]
