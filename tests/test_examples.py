"""The example programs, run as a user runs them, with very few steps."""

import json
import os
import pathlib
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


def run(program, *arguments, folder):
    environment = os.environ | {"TFDS_DATA_DIR": str(folder / "tfds"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / program), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(program, *arguments, folder):
    finished = run(program, *arguments, folder=folder)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


@pytest.fixture(scope="module")
def teacher(folder):
    succeed("train_teacher.py", "--epochs=2", "--steps_per_epoch=3", "--widths=4,8", folder=folder)
    return folder / "runs/teacher/model.keras"


@pytest.fixture(scope="module")
def distilled(folder, teacher):
    output = succeed(
        "distill.py",
        f"--teacher={teacher}",
        "--fraction=0.1",
        "--seeds=0,3",
        "--epochs=2",
        "--steps_per_epoch=3",
        "--region=patch:grid=2,radius=0.5",
        "--mixed_precision=mixed_bfloat16",
        "--teacher_cache=runs/cache",
        "--verbose=2",
        folder=folder,
    )
    return output, folder / "runs/distill"


def read(path):
    return json.loads(path.read_text())


def test_distill_keeps_what_the_teacher_says(distilled):
    output, folder = distilled
    numbers = [
        read(path)["num_examples"] for path in (folder.parent / "cache").rglob("complete.json")
    ]
    assert numbers == [100, 100]  # the subsets of the two seeds


def test_train_teacher_leaves_a_whole_run(teacher):
    assert sorted(path.name for path in teacher.parent.iterdir()) == [
        "config.json", "history.json", "log.csv", "metrics.json", "model.keras",
    ]  # fmt: skip
    assert read(teacher.parent / "config.json")["widths"] == ["4", "8"]
    assert len(read(teacher.parent / "history.json")["loss"]) == 2
    assert not (teacher.parent.parent / "teacher.partial").exists()


def test_distill_trains_one_student_for_each_seed(distilled):
    output, runs = distilled
    accuracies = []
    for seed in (0, 3):
        student = keras.models.load_model(runs / f"seed{seed}" / "model.keras")
        assert student.count_params() == 5274
        metrics = read(runs / f"seed{seed}" / "metrics.json")
        accuracies.append(metrics["test"]["accuracy"])
        config = read(runs / f"seed{seed}" / "config.json")
        assert (config["seed"], config["region"]) == (seed, "patch:grid=2,radius=0.5")
        history = read(runs / f"seed{seed}" / "history.json")
        assert {"loss", "hard_loss", "kd_loss", "region_loss", "val_accuracy"} <= set(history)
        assert history["region_loss"][0] > 0
        lines = (runs / f"seed{seed}" / "log.csv").read_text().splitlines()
        assert len(lines) == 3
    mean = f"test accuracy {100 * sum(accuracies) / 2:.2f} %"
    assert mean in output


@pytest.mark.parametrize(
    ("flag", "size", "widths"),
    [
        ([], (8, 8), [16, 32]),
        ([], (28, 40), [16, 32, 64]),
        ([], (32, 32), [16, 32, 64, 128]),
        ([], (3, 9), [16]),
        (["--widths=4,6"], (32, 32), [4, 6]),
    ],
)
def test_a_student_has_blocks_for_the_size_of_its_images(flag, size, widths, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import run_flags

    run_flags.define_widths_flag()
    flags.FLAGS(["program", *flag])
    images = types.SimpleNamespace(element_spec=(tf.TensorSpec((None, *size, 3)), None))
    assert run_flags.student_widths(images) == widths


def test_regions_with_a_plus_are_a_mixture_in_equal_parts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import run_flags
    import tune

    for text in ("patch:grid=2 + segment", tune.with_radius("patch:grid=2+segment", 0.5)):
        region = run_flags.parse_region(text)
        assert [type(part).__name__ for part in region.regions] == ["Patch", "Segment"]
        assert region.regions[0].grid == (2, 2)
        np.testing.assert_array_equal(region.weights, [0.5, 0.5])
    assert [part.radius for part in region.regions] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("flag", "steps"), [([], 20), (["--steps_per_epoch=0"], 4), (["--steps_per_epoch=3"], 3)]
)
def test_epochs_of_a_teacher_are_not_too_short_where_images_are_few(flag, steps, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import run_flags

    run_flags.define_schedule_flags(epochs=1, steps_per_epoch=None, learning_rate=0.1)
    flags.FLAGS(["program", *flag])
    assert run_flags.schedule_flags(range(4))["steps_per_epoch"] == steps
    if not flag:
        assert run_flags.schedule_flags(range(21))["steps_per_epoch"] == 21


@pytest.mark.stress
def test_distill_trains_alike_on_replicas_and_workers(folder, teacher):
    program = "distill.py"
    common = ["--epochs=2", "--steps_per_epoch=3", f"--teacher={teacher}", "--verbose=2"]
    common.append("--backup=runs/backups")
    mirrored = ["--strategy=mirrored", "--cpu_devices=2", "--output=runs/mirrored"]
    succeed(program, *common, *mirrored, folder=folder)
    launched = [sys.executable, str(ROOT / "examples" / program), *common]
    output = succeed(
        "launch_workers.py",
        "--num_workers=2",
        "--",
        *launched,
        "--strategy=multi_worker",
        "--output=runs/workers",
        folder=folder,
    )
    assert output.count("students in runs/workers") == 1
    results = [read(folder / f"runs/{name}/seed0/metrics.json") for name in ("mirrored", "workers")]
    for split in ("validation", "test"):
        assert results[0][split] == pytest.approx(results[1][split], rel=1e-5)
    assert not list((folder / "runs/backups").rglob("epoch-*"))
    assert not list((folder / "runs").glob("*.partial"))


def test_distill_adds_methods_to_labels_alone(folder, teacher):
    output = succeed(
        "distill.py",
        f"--teacher={teacher}",
        "--method=none",
        "--methods=attention_transfer,dkd",
        "--method_weights=10,0.5",
        "--epochs=1",
        "--steps_per_epoch=3",
        "--output=runs/methods",
        "--verbose=0",
        folder=folder,
    )
    assert "attention_transfer_loss: ('block1', 'block2') of the teacher" in output
    history = read(folder / "runs/methods/seed0/history.json")
    terms = ("hard_loss", "attention_transfer_loss", "dkd_loss", "kd_loss")
    hard, attention, decoupled, kd = (history[name][0] for name in terms)
    assert history["loss"][0] == pytest.approx(hard + 10 * attention + 0.5 * decoupled, rel=1e-5)
    assert kd == 0


@pytest.mark.stress
@pytest.mark.parametrize(
    ("program", "arguments", "job"),
    [
        (
            "compare_methods.py",
            ["--methods=fitnet", "--fractions=0.1", "--tuning_seeds=9"],
            {"phase": "test", "method": "fitnet", "companion": "with L2RKD"},
        ),
        ("local_shape.py", ["--region=patch"], {"student": "L2RKD, patch"}),
    ],
)
def test_studies_finish_and_go_on_where_they_stopped(program, arguments, job, folder, teacher):
    """Takes a run out of the results: the second start trains that one alone, to the same value."""

    def study():
        succeed(
            program,
            *arguments,
            "--seeds=0",
            "--epochs=1",
            f"--teacher={teacher}",
            "--output=runs/study",
            folder=folder,
        )
        return read(folder / "runs/study.json")

    first = study()
    table = (folder / "runs/study.md").read_text()
    (removed,) = [run for run in first["runs"] if job.items() <= run.items()]
    kept = [run for run in first["runs"] if run != removed]
    (folder / "runs/study.json").write_text(json.dumps(first | {"runs": kept}))
    second = study()
    assert second["runs"][:-1] == kept
    assert second["runs"][-1]["accuracy"] == removed["accuracy"]
    assert (folder / "runs/study.md").read_text() == table
    (folder / "runs/study.json").unlink()


def test_export_student_writes_both_formats_with_their_reports(distilled, folder):
    student = distilled[1] / "seed0" / "model.keras"
    output = succeed(
        "export_student.py", f"--student={student}", "--quantization=int8", folder=folder
    )
    report = read(folder / "runs/export/student.tflite.json")
    assert report["quantization"] == "int8"
    assert report["bytes"] == (folder / "runs/export/student.tflite").stat().st_size
    assert f"{report['bytes']:,} bytes" in output
    assert (folder / "runs/export/student_saved_model/saved_model.pb").exists()


def test_demo_prints_its_table_and_writes_everything(folder):
    output = succeed(
        "demo.py", "--epochs=2", "--steps_per_epoch=3", "--teacher_epochs=1", folder=folder
    )
    table = (folder / "runs/demo/table.md").read_text()
    assert table in output
    results = read(folder / "runs/demo/results.json")
    for name in ("teacher", "student alone", "KD", "L2RKD"):
        assert f"| {name} | {results[name]['test']['accuracy']:.1%} |" in table
    assert (folder / "runs/demo/decision_map.png").stat().st_size > 50_000
    assert (folder / "runs/demo/student.tflite").exists()
    assert (folder / "runs/demo/student_saved_model").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--region=pach"], "`region` must begin with one of"),
        (["--region=patch:radius=2"], "`radius` must be"),
        (["--region=patch:size=2"], "size"),
        (["--region=patch:grid"], "patch:grid=4,radius=0.5"),
        (["--region=patch + pach"], "Received: 'patch + pach'"),
        (["--method=l3rkd"], "method"),
        (["--fraction=0"], "must be above 0"),
        (["--fraction=1.5"], "fraction"),
        (["--seeds=1,1"], "must be different integers"),
        (["--widths=16,x"], "must be integers above 0"),
        (["--temperature=0"], "must be above 0"),
        (["--replace_fraction=1"], "must be between 0 and 1"),
        (["--teacher=missing.keras"], "existing .keras file"),
        (["--methods=dkd,fitnets"], "'fitnet'"),
        (["--methods=dkd", "--method_weights=-1"], "must be numbers from 0"),
        (["--methods=dkd,fitnet", "--method_weights=1"], "one entry for each"),
        (["--methods=dkd", "--methods_at=test"], "must be data, region or both"),
        (["epochs=3"], "Unknown arguments"),
        (["--output=."], "must be a new folder"),
    ],
)
def test_flag_mistakes_fail_before_any_work(arguments, message, flag_error):
    assert message in flag_error(arguments)


_ASK_FLAGS = f"""
import contextlib, json, sys
sys.path.insert(0, {str(ROOT / "examples")!r})
import distill, training
from absl import app, flags

def refuse(*args, **kwargs):
    raise AssertionError("work was begun")

training.load_splits = distill.get_teacher = refuse
for line in sys.stdin:
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].value = flags.FLAGS[name].default
    try:
        distill.main(flags.FLAGS(["distill.py", *json.loads(line)]))
    except (flags.Error, app.UsageError, ValueError) as error:
        print(json.dumps(str(error)), flush=True)
"""


@pytest.fixture(scope="module")
def flag_error(folder):
    """What distill.py says of its arguments; one process for all, in which work is refused."""
    process = subprocess.Popen(
        [sys.executable, "-c", _ASK_FLAGS],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ask(arguments):
        process.stdin.write(json.dumps(arguments) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.wait(30)
