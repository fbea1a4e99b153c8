"""Installs the distributions where nothing else is, and does what a newcomer does.

Usage: `python -m tests.programs.check_dist dist`, after `make dist`. The source distribution must
hold what its tests need, and the wheel must run the README's quickstart and those tests.
"""

import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

# A few that read documents, examples and modules of tests next to them.
TESTS = ("tests/test_losses.py", "tests/test_readme.py", "tests/test_typing.py")
PACKAGES = {"l2rkd_tf", "l2rkd_command"}
IN_WHEEL = {"l2rkd_command/__init__.py", "l2rkd_tf/__init__.py", "l2rkd_tf/py.typed"}
IN_SOURCE = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"),
    *("docs/architecture.md", "docs/images/decision_map.png", "benchmarks/results/demo.md"),
    *("benchmarks/speed.py", "examples/web/train_models.py", "studies/fewshot.py"),
    *("l2rkd_command/__init__.py", "l2rkd_tf/py.typed", "tests/oldest.txt", *TESTS),
}


def only(folder, pattern):
    """The one file of a folder that fits a pattern."""
    (found,) = folder.glob(pattern)
    return found.resolve()


def check_contents(wheel, source):
    """Checks what the archives hold; returns the name of the source's folder."""
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    assert in_wheel >= IN_WHEEL, IN_WHEEL - in_wheel
    tops = {name.partition("/")[0] for name in in_wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES, tops
    with tarfile.open(source) as archive:
        names = archive.getnames()
    folder = names[0].partition("/")[0]
    in_source = {name.removeprefix(f"{folder}/") for name in names}
    assert in_source >= IN_SOURCE, IN_SOURCE - in_source
    strangers = {name for name in in_source if re.search(r"node_modules|\.venv|^runs|\.pyc$", name)}
    assert not strangers, sorted(strangers)[:5]
    return folder


def install(wheel, folder):
    """Makes a virtual environment with the wheel; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    # The pip that came with Python 3.10 looks for versions that fit together for many minutes.
    for package in ("pip", f"{wheel}[test]"):
        command = [python, "-m", "pip", "install", "--quiet", "--upgrade", package]
        subprocess.run(command, check=True)
    return python


def run_quickstart(python, readme, folder):
    """Runs the first program of the README in an empty folder, with the installed package."""
    folder.mkdir()
    code = re.search(r"```python\n(.+?)```", readme, re.DOTALL).group(1)
    code += "\nassert 'site-packages' in l2rkd_tf.__file__, l2rkd_tf.__file__\n"
    subprocess.run([python, "-I", "-c", code], cwd=folder, check=True)
    assert (folder / "student.tflite").stat().st_size > 0


def run_programs(python, folder):
    """Plans, distills and exports a student in an empty folder, with the installed command."""
    folder.mkdir()
    distill = ["distill", "--dataset=digits", "--fraction=0.1", "--data_dir=data", "--epochs=2"]
    for words in (
        [*distill, "--dry_run"],
        distill,
        ["export", "--student=runs/distill/seed0/model.keras"],
    ):
        subprocess.run([python.parent / "l2rkd", *words], cwd=folder, check=True)
        written = (folder / "runs").exists()
        assert written != ("--dry_run" in words), words
    assert (folder / "runs" / "export" / "student.tflite").stat().st_size > 0


def main(folder):
    """Checks the distributions in a folder."""
    wheel, source = only(folder, "*.whl"), only(folder, "*.tar.gz")
    name = check_contents(wheel, source)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        python = install(wheel, scratch / "venv")
        with tarfile.open(source) as archive:
            archive.extractall(scratch, filter="data")
        unpacked = scratch / name
        run_quickstart(python, (unpacked / "README.md").read_text(), scratch / "empty")
        run_programs(python, scratch / "programs")
        subprocess.run([python, "-m", "pytest", "-q", *TESTS], cwd=unpacked, check=True)
    print("The distributions hold what they should, and work.")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
