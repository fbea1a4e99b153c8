"""What a command does to the folder of `--output`: it replaces earlier runs only."""

import os
import pathlib

import pytest

from tests.cli import commands

DEMO = ("demo", "--overwrite")


def test_a_folder_of_other_things_is_never_replaced(tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("all of it")
    (tmp_path / "table.md").touch()
    line = commands.fail(*DEMO, f"--output={tmp_path}")
    assert line == (
        "l2rkd demo: --output must be a new folder, or one that holds only what a command wrote. "
        f"Received: --output={tmp_path}, with thesis.txt in it. Choose another one."
    )
    monkeypatch.chdir(tmp_path)
    assert "thesis.txt" in commands.fail(*DEMO, "--output=.")
    (tmp_path / "thesis.txt").unlink()
    assert "must not hold the working directory" in commands.fail(*DEMO, "--output=.")


def test_a_folder_of_pictures_is_not_taken_for_a_run(tmp_path):
    (tmp_path / "cat.png").touch()
    assert "with cat.png in it" in commands.fail(*DEMO, f"--output={tmp_path}")


def test_the_demo_replaces_nothing_unasked(tmp_path):
    (tmp_path / "table.md").touch()
    assert "pass --overwrite" in commands.fail("demo", f"--output={tmp_path}")


def test_an_earlier_run_is_replaced(tmp_path):
    for name in ("table.md", "results.json", "decision_map.png", "student.tflite"):
        (tmp_path / name).touch()
    commands.succeed(*DEMO, "--dry_run", f"--output={tmp_path}")


@pytest.mark.parametrize("link", [False, True])
def test_what_is_no_folder_is_refused_before_training(tmp_path, link):
    path = tmp_path / "it"
    if link:
        path.symlink_to(tmp_path / "absent")
    else:
        path.touch()
    line = commands.fail(*DEMO, f"--output={path}")
    assert f"--output must be a folder. Received: --output={path}, but {path} is not one." in line


@pytest.mark.parametrize(
    ("command", "flag", "inside"),
    [
        ("distill", "teacher", "teacher/model.keras"),
        ("distill", "backup", "seed0"),
        ("distill", "tensorboard", "seed0/board"),
        ("train-teacher", "dataset", "seed0"),
        ("export", "student", "seed0/model.keras"),
        ("inspect", "student", "seed0/model.keras"),
    ],
)
def test_what_a_command_reads_is_not_replaced(tmp_path, command, flag, inside):
    path = tmp_path / inside
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix else path.mkdir()
    named = f"KD={path}" if command == "inspect" else path
    dataset = [] if flag == "dataset" else ["--dataset=digits"]
    others = {"teacher": str(path)} if command == "inspect" else {}
    words = [f"--{flag}={named}", *dataset, *(f"--{key}={value}" for key, value in others.items())]
    line = commands.fail(command, *words, f"--output={tmp_path}", "--overwrite")
    assert f"--output must not hold --{flag}={path}, since --overwrite replaces" in line
    assert path.exists()


def test_a_student_is_not_replaced_by_its_export(tmp_path):
    """Its own folder holds more than exports."""
    student = tmp_path / "seed0/model.keras"
    student.parent.mkdir()
    student.touch()
    words = [f"--student={student}", "--dataset=digits", f"--output={student.parent}"]
    assert "with model.keras in it" in commands.fail("export", *words, "--overwrite")


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("one", "other"):
        (tmp_path / f"{name}.keras").touch()
    teachers = "--teacher=~/one.keras,~/absent.keras"
    assert f"{tmp_path}/absent.keras" in commands.fail("distill", teachers, "--output=new")
    assert not pathlib.Path("~").exists()
    assert os.path.expanduser("~") == str(tmp_path)
