"""Public names say all their types, and a type checker of a user's finds what is wrong."""

import inspect
import subprocess
import sys
import types

import pytest

from tests.helpers import ROOT
from tests.package import FILES, IDS, PACKAGE, import_file, public_objects

DOWNSTREAM = ROOT / "tests" / "programs" / "downstream.py"
# What makes an object, and what Python calls without a name.
SPECIAL = ("__call__", "__init__")


def functions_of(value, name):
    """Functions of the library that a public function or class consists of, by full name."""
    if isinstance(value, type):
        members = {
            key: member for base in value.__mro__[::-1] for key, member in vars(base).items()
        }
        for key, member in members.items():
            if key in SPECIAL or not key.startswith("_"):
                yield from functions_of_member(member, f"{name}.{key}")
    elif isinstance(value, types.FunctionType):
        yield name, inspect.unwrap(value)


def functions_of_member(member, name):
    if isinstance(member, property):
        parts = member.fget, member.fset
    else:
        parts = (getattr(member, "__func__", member),)
    for part in parts:
        if isinstance(part, types.FunctionType) and part.__module__.startswith("l2rkd_tf"):
            yield name, inspect.unwrap(part)


def names_without_type(function):
    """Arguments without annotation, and `return`."""
    signature = inspect.signature(function)
    first, *others = [*signature.parameters.values()] or [None]
    arguments = others if first is None or first.name in ("self", "cls") else [first, *others]
    missing = [one.name for one in arguments if one.annotation is inspect.Parameter.empty]
    return missing + ["return"] * (signature.return_annotation is inspect.Signature.empty)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_public_functions_say_their_types(path):
    module = import_file(path)
    missing = {
        name: names
        for public, value in public_objects(module).items()
        if getattr(value, "__module__", "").startswith("l2rkd_tf.")
        for name, function in functions_of(value, public)
        if (names := names_without_type(function)) and function.__qualname__ != "<lambda>"
    }
    assert missing == {}


def test_the_package_is_marked_as_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.stress
def test_a_type_checker_finds_what_a_user_does_wrong():
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", DOWNSTREAM]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    refused = {int(line.split(":")[1]) for line in run.stdout.splitlines() if " error: " in line}
    lines = DOWNSTREAM.read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line.endswith("# wrong")}
    assert refused == wrong, run.stdout
