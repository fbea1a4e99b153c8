"""What holds for the package as a whole: imports point downward, names are public, examples run."""

import ast
import doctest
import importlib
import inspect
import json
import pathlib
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2rkd_tf

PACKAGE = pathlib.Path(l2rkd_tf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]

# A module imports from floors below its own only. A folder is one module.
FLOORS = [
    {"types"},
    {"checks", "order"},
    {"losses", "regions", "features", "replicas", "teacher_cache"},
    {"batches", "methods", "trainer", "watch"},
    {"geometry"},
    {"distiller"},
    {"linear_region"},
    {"plots"},
    {"callbacks", "export", "data", "models"},
    {"__init__"},
]
PRIVATE = ("keras.src", "tensorflow.python", "tensorflow.compiler", "tensorflow.core")

# Prints how long the import takes, and which packages it brings in that Keras does not.
PROBE = """
import json, sys, time
import keras
def packages():
    return {name.partition(".")[0] for name in sys.modules}
before, start = packages(), time.perf_counter()
import l2rkd_tf
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(packages() - before - set(sys.stdlib_module_names))]))
"""


def house_module(path):
    """Name of the module of the house that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(source, path):
    """Full names of what a source file imports, relative imports resolved."""
    folder = ("l2rkd_tf", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def floor_of(module):
    return next(number for number, floor in enumerate(FLOORS) if module in floor)


def imported_modules(source, path):
    """Modules of the house that a source file imports; the package's own names are its top."""
    for name in imported_names(source, path):
        first, _, rest = name.partition(".")
        if first == "l2rkd_tf":
            module = rest.partition(".")[0]
            yield module if any(module in floor for floor in FLOORS) else "__init__"


def upward_imports(source, path):
    own = house_module(path)
    return {
        module
        for module in imported_modules(source, path)
        if module != own and floor_of(module) >= floor_of(own)
    }


def is_private(name):
    return name.startswith(PRIVATE) or any(
        part.startswith("_") and not part.startswith("__") for part in name.split(".")[:-1]
    )


def import_file(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join(["l2rkd_tf", *parts]).removesuffix(".__init__"))


def public_objects(module):
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}


def test_every_module_has_a_floor():
    assert {house_module(path) for path in FILES} <= set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_point_downward(path):
    assert upward_imports(path.read_text(), path) == set()


@pytest.mark.parametrize(
    ("source", "file", "expected"),
    [
        ("from l2rkd_tf.distiller import L2RKDDistiller", "losses.py", {"distiller"}),
        ("from l2rkd_tf import regions", "losses.py", {"regions"}),
        ("def f():\n    import l2rkd_tf.plots", "distiller.py", {"plots"}),
        ("from .. import replicas", "regions/ball.py", {"replicas"}),
        ("from ..export import x", "data/loading.py", {"export"}),
        ("from l2rkd_tf import L2RKDDistiller", "callbacks.py", {"__init__"}),
        ("from . import draws\nfrom l2rkd_tf.utils.validation import x", "regions/ball.py", set()),
        ("import keras\nimport l2rkd_tf.losses", "distiller.py", set()),
    ],
)
def test_the_check_of_imports_sees_what_it_should(source, file, expected):
    assert upward_imports(source, PACKAGE / file) == expected


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_private_imports(path):
    names = imported_names(path.read_text(), path)
    assert [name for name in names if is_private(name)] == []


@pytest.fixture(scope="module")
def import_probes():
    """Up to six measured imports in fresh processes: no more than it takes to be fast once."""
    probes = []
    while len(probes) < 6 and not any(seconds <= 0.15 for seconds, _ in probes):
        run = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        )
        probes.append(json.loads(run.stdout))
    return probes


def test_importing_brings_in_nothing_but_keras(import_probes):
    assert [packages for _, packages in import_probes] == [["l2rkd_tf"]] * len(import_probes)


def test_importing_takes_no_time(import_probes):
    assert min(seconds for seconds, _ in import_probes) <= 0.15


def test_public_api():
    assert {"L2RKDDistiller", "losses", "regions"} <= set(l2rkd_tf.__all__)
    for name, value in public_objects(l2rkd_tf).items():
        origin = value.__name__ if inspect.ismodule(value) else value.__module__
        assert origin.startswith("l2rkd_tf."), name


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_public_names_exist_and_are_documented(path):
    module = import_file(path)
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(set(names))
    for name, value in public_objects(module).items():
        # Python 3.10 takes list[int] for a class.
        is_alias = isinstance(value, types.GenericAlias)
        if isinstance(value, (type, types.FunctionType)) and not is_alias:
            assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if ">>>" in path.read_text()],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_examples_of_docstrings_run(path):
    module = import_file(path)
    package = importlib.import_module(module.__name__.rpartition(".")[0])
    names = {"np": np, "tf": tf, "keras": keras, "l2rkd_tf": l2rkd_tf}
    names |= public_objects(package) | public_objects(module)
    tests = [
        test for test in doctest.DocTestFinder().find(module, extraglobs=names) if test.examples
    ]
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report = []
    for test in tests:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
