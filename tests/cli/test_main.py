"""The command `l2rkd`: help, errors and what it imports."""

import os
import subprocess
import sys
import time

import pytest

from l2rkd_command import main as command
from l2rkd_command.errors import UsageError
from l2rkd_command.flags import checks
from l2rkd_tf import methods, regions
from l2rkd_tf.cli.common import parsing
from tests.cli import commands

PAGES = [["--help"], *([name, "--help"] for name in command.COMMANDS)]
L2RKD = [sys.executable, "-m", "l2rkd_command"]


def test_help_does_not_import_tensorflow():
    code = f"""
import sys
from l2rkd_command.main import main
assert [main(words) for words in {PAGES!r}] == [0] * {len(PAGES)}
assert main(["distill", "--fraction=0"]) == main(["distil"]) == 2
found = {{name.partition(".")[0] for name in sys.modules}}
assert not found & {{"tensorflow", "keras", "numpy", "l2rkd_tf"}}, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_takes_less_than_a_second_and_a_half():
    seconds = []
    for _ in range(3):
        start = time.perf_counter(), cpu_seconds()
        subprocess.run([*L2RKD, "distill", "--help"], check=True, stdout=subprocess.DEVNULL)
        # On a busy machine the clock tells more of other processes than of this one.
        seconds.append(min(time.perf_counter() - start[0], cpu_seconds() - start[1]))
    assert min(seconds) < 1.5


def cpu_seconds():
    """Processor time of the processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def test_help_lists_all_commands():
    printed = commands.succeed()
    assert printed == commands.succeed("--help") == commands.succeed("help")
    for name in command.COMMANDS:
        (line,) = [line for line in printed.splitlines() if line.startswith(f"  {name} ")]
        assert len(line) <= 100 and line.endswith(".")


@pytest.mark.parametrize("name", command.COMMANDS)
def test_help_of_a_command_has_all_flags_in_groups(name):
    printed = commands.succeed(name, "--help")
    entries = [line[2:] for line in printed.splitlines() if line.startswith("  --")]
    defined = command.define(name)
    assert sorted(entry[2:].partition("=")[0] for entry in entries) == sorted(defined)
    for heading, group in defined.flags_by_module_dict().items():
        assert f"\n{heading}\n  --{group[0].name}=" in printed
        for flag in group:
            assert flag.help.endswith("."), flag.name
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_help_shows_defaults_and_values_of_flags():
    printed = commands.succeed("distill", "--help")
    for entry in (
        "  --splits=train,validation,test\n",
        "  --image_size=INTEGER\n",
        "  --download=false\n",
        "  --temperature=4.0\n",
        "  --teacher=\n",
    ):
        assert entry in printed
    assert "One of default, mirrored, multi_worker, tpu." in " ".join(printed.split())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["distil"], "l2rkd: 'distil' is not a command. Did you mean distill?"),
        (
            ["--epochs=3"],
            "l2rkd: '--epochs=3' is not a command. `l2rkd --help` lists the commands.",
        ),
        (
            ["distill", "--epoch=3"],
            "l2rkd distill: --epoch is not a flag of this command. Did you mean: epochs?",
        ),
        (
            ["distill", "--epochs=x"],
            "l2rkd distill: --epochs must be a positive integer. Received: --epochs=x",
        ),
        (["distill", "--epochs"], "l2rkd distill: --epochs needs a value"),
        (
            ["distill", "--download=maybe"],
            "l2rkd distill: --download must be true or false. Received: --download=maybe",
        ),
        (["distill", "--", "x"], "l2rkd distill: takes only flags. Received: -- x"),
        (
            ["distill", "--seeds=1,x"],
            "l2rkd distill: --seeds must be different integers from 0 to 2147483647. Received: "
            "--seeds=1,x",
        ),
    ],
)
def test_wrong_use_is_told_in_one_line(words, line):
    status, printed, errors = commands.run(*words)
    assert (status, printed) == (2, "")
    assert errors.startswith(line) and errors.count("\n") == 1


def test_data_that_are_not_there_are_named(tmp_path):
    words = ["distill", f"--output={tmp_path}/new", "--method=none"]
    line = commands.fail(*words, "--dataset=no_such_data")
    assert line.startswith("l2rkd distill: --dataset must be")
    line = commands.fail(*words, "--dataset=cifar10", f"--data_dir={tmp_path}")
    assert "--download" in line and "--data_dir" in line
    line = commands.fail(*words, "--splits=train,,exam")
    assert line.startswith("l2rkd distill: --splits") and "exam" in line
    assert not list(tmp_path.iterdir())


def test_existing_results_are_kept_unless_told_otherwise(tmp_path):
    words = ["distill", f"--output={tmp_path}", "--method=none"]
    line = commands.fail(*words)
    assert line.endswith("Choose another one, or pass --overwrite.")
    assert "Output" in commands.succeed(*words, "--overwrite", "--dry_run")


class Program:
    """A program that raises an error."""

    def __init__(self, error):
        self.error = error

    def run(self, flags):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            ValueError("`temperature` must be positive.\nReceived: temperature=0."),
            2,
            "l2rkd distill: --temperature must be positive. Received: temperature=0.\n",
        ),
        (
            UsageError("teacher", "needs the `student`, `download=True` and `x`"),
            2,
            "l2rkd distill: --teacher needs the `student`, --download and `x`\n",
        ),
        (
            ModuleNotFoundError("No module named 'keras_tuner'", name="keras_tuner.engine"),
            2,
            "l2rkd distill: needs keras_tuner: pip install 'l2rkd-tf[tuner]'\n",
        ),
        (KeyboardInterrupt(), 130, "l2rkd distill: interrupted\n"),
    ],
)
def test_errors_of_users_are_told_in_one_line(error, status, line, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.import_module", importing(Program(error)))
    words = ["distill", f"--output={tmp_path}/new"]
    assert commands.run(*words) == (status, "", line)


@pytest.mark.parametrize(
    "error", [ValueError("`logits` must be"), TypeError("a mistake"), ImportError("x", name="x")]
)
def test_other_errors_keep_their_traceback(error, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.import_module", importing(Program(error)))
    with pytest.raises(type(error), match=str(error)):
        commands.run("distill", f"--output={tmp_path}/new")


def test_with_verbose_2_all_errors_of_the_library_keep_their_traceback(monkeypatch, tmp_path):
    error = ValueError("`temperature` must be positive")
    monkeypatch.setattr("importlib.import_module", importing(Program(error)))
    with pytest.raises(ValueError, match="must be positive"):
        commands.run("distill", f"--output={tmp_path}/new", "--verbose=2")


def importing(program):
    """In place of `importlib.import_module`, gives a program for that of `distill`."""
    original = command.importlib.import_module
    return lambda name: program if name == "l2rkd_tf.cli.distill" else original(name)


def test_one_call_leaves_no_flags_for_the_next():
    first, _ = command.parse("distill", ["--epochs=3", "--output=new"])
    second, _ = command.parse("distill", ["--output=new"])
    assert (first.epochs, second.epochs) == (3, 15)


def test_names_of_flags_are_those_of_the_library():
    assert set(checks.REGIONS) < set(regions.REGIONS)
    assert tuple(sorted(methods.METHODS)) == checks.METHODS


def test_regions_with_a_plus_are_a_mixture_in_equal_parts():
    region = parsing.parse_region("patch:grid=2 + segment")
    assert [type(part).__name__ for part in region.regions] == ["Patch", "Segment"]
    assert region.regions[0].grid == 2
    assert list(region.weights) == [0.5, 0.5]
    assert parsing.parse_region("") is None


def test_tensorflow_is_quiet(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    finished = subprocess.run(
        [*L2RKD, "distill", "--dry_run", "--method=none", f"--output={tmp_path}/new"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stderr == ""
