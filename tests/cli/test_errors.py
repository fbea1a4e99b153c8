"""What a user gets wrong is told in one line that names the flag."""

import pytest

from l2rkd_command.errors import UsageError, blame, error_of_argument
from tests.cli import commands

QUICK = ("--epochs=1", "--steps_per_epoch=1", "--verbose=0")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--hard_weight=0", "--kd_weight=0", "--region_weight=0"],
            "--hard_weight, --kd_weight and --region_weight must not all be 0",
        ),
        (
            ["--region_targets=interpolated", "--region=ball:radius=1"],
            "--region_targets=interpolated needs a region with a linear map of logits",
        ),
        (["--region=patch:grid=20"], "--region cannot be used: `grid` must not have more cells"),
        (["--network=nope"], "--network must be one of resnet20"),
        (["--widths=4,4,4,4,4,4"], "--widths cannot be used: `input_shape` must have at least"),
        (
            ["--method=none", "--methods=fsp", "--widths=4"],
            "--methods cannot be used: `teacher_layer_names` and `student_layer_names` must name",
        ),
    ],
)
def test_distill(words, line, teacher_file, tmp_path):
    words = [f"--teacher={teacher_file}", f"--output={tmp_path}/new", *QUICK, *words]
    assert commands.fail("distill", *words).startswith(f"l2rkd distill: {line}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["distill", "tune", "inspect"])
@pytest.mark.parametrize("dry", [False, True])
def test_a_region_that_images_are_too_small_for(command, dry, teacher_file, tmp_path):
    models = [f"--teacher={teacher_file}"]
    models += [f"--student={teacher_file}", "--dataset=digits"] if command == "inspect" else []
    words = [*models, "--region=patch:grid=50", f"--output={tmp_path}/new"]
    line = commands.fail(command, *words, *(["--dry_run"] if dry else []), "--verbose=0")
    assert "--region cannot be used: `grid` must not have more cells" in line


def test_a_teacher_with_too_many_blocks(tmp_path):
    line = commands.fail("train-teacher", "--widths=4,4,4,4,4,4", f"--output={tmp_path}/x")
    assert "--widths cannot be used: `input_shape` must have at least 32x32 pixels" in line


@pytest.mark.parametrize("flag", ["output", "tensorboard", "teacher_cache", "backup"])
@pytest.mark.parametrize("below", ["", "/one/two"])
def test_a_folder_that_is_a_file_or_in_one(flag, below, teacher_file, tmp_path):
    (tmp_path / "file").touch()
    folder = f"{tmp_path}/file{below}"
    words = [f"--teacher={teacher_file}", f"--{flag}={folder}"]
    if flag != "output":
        words.append(f"--output={tmp_path}/new")
    line = commands.fail("distill", *words)
    assert line.startswith(f"l2rkd distill: --{flag} must be a folder. Received: --{flag}={folder}")
    assert f"{tmp_path}/file is not one" in line


def test_what_the_system_refuses(tmp_path):
    line = commands.fail("train-teacher", "--output=/proc/new", *QUICK)
    assert line.startswith("l2rkd train-teacher: No such file or directory: '/proc/")


def test_seeds_that_are_too_large(tmp_path):
    line = commands.fail("train-teacher", "--seeds=2147483648", f"--output={tmp_path}/new")
    assert "--seeds must be different integers from 0 to 2147483647. Received" in line


def test_an_error_that_is_not_of_a_named_argument_stays_as_it_is():
    with pytest.raises(ValueError, match="no argument"), blame(None, name="network"):
        raise ValueError("no argument")
    with pytest.raises(UsageError, match="--network must be known"), blame(None, name="network"):
        raise ValueError("`name` must be known")


def test_the_message_within_what_autograph_adds():
    error = ValueError('in user code:\n\n    File "x.py"\n\n    ValueError: `grid` must be 4\n')
    assert str(error_of_argument(error, {"grid": "region"})) == "--region must be 4"
    assert error_of_argument(ValueError("in user code: ValueError: 4"), {"grid": "region"}) is None
    assert error_of_argument(ValueError("`logits` must be"), {}) is None
