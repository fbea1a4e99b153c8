"""What setup.py, Makefile, the workflow and tests/oldest.txt say of each other is true."""

import re

import pytest

from tests.helpers import ROOT

SETUP = (ROOT / "setup.py").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
OLDEST = (ROOT / "tests" / "oldest.txt").read_text()


def read_workflow():
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())


def numbers(version):
    """A version as a tuple of numbers, without zeros at the end: 2 is 2.0.0."""
    parts = [int(part) for part in version.split(".")]
    while parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def make_targets():
    names = re.findall(r"^([a-z][a-z -]*):(?!=)", MAKEFILE, re.MULTILINE)
    return {target for line in names for target in line.split()}


def test_the_workflow_calls_targets_that_exist():
    steps = [step for job in read_workflow()["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    called = [re.fullmatch(r"make ([a-z-]+)( [A-Z_]+=(\S+|\"[^\"]+\"))*", c) for c in commands]
    assert all(called), commands
    assert {match[1] for match in called} == {"lint", "test", "test-oldest", "docs", "dist-check"}
    assert {match[1] for match in called} <= make_targets()


def test_variables_of_the_workflow_are_those_of_the_makefile():
    commands = re.findall(r"run: make (.*)", (ROOT / ".github/workflows/tests.yml").read_text())
    variables = set(re.findall(r"([A-Z_]+)=", " ".join(commands)))
    assert variables == {"OLDEST_PYTHON", "PYTEST_ARGS"}
    assert all(f"\n{name} ?= " in MAKEFILE for name in variables)


def test_all_supported_versions_of_python_are_tested():
    classified = re.findall(r"Python :: (3\.\d+)\"", SETUP)
    assert read_workflow()["jobs"]["newest"]["strategy"]["matrix"]["python"] == classified
    assert f'python_requires=">={classified[0]}"' in SETUP


def test_what_make_explains_exists():
    explained = set(re.findall(r'@echo "make ([a-z-]+) ', MAKEFILE))
    assert {"test", "test-oldest", "lint", "docs", "dist", "dist-check"} <= explained
    assert explained <= make_targets()


def test_the_oldest_versions_are_those_of_setup():
    least = dict(re.findall(r'"([a-z-]+)(?:\[\w+\])?>=([0-9.]+)[",]', SETUP))
    oldest = dict(re.findall(r"^([a-z-]+)==([0-9.]+)$", OLDEST, re.MULTILINE))
    # What builds and checks the project is not needed to use or test it.
    least = {name: version for name, version in least.items() if name in oldest}
    assert {"absl-py", "keras", "numpy", "tensorflow", "tensorflow-datasets"} <= set(least)
    for name, version in least.items():
        asked = numbers(version)
        assert numbers(oldest[name])[: len(asked)] == asked, name
