"""What holds for the repository as a whole: layers, sizes, public names, and what imports cost."""

import ast
import doctest
import functools
import graphlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import types

import grimp
import keras
import numpy as np
import pytest
import tensorflow as tf

import l2rkd_tf
from tests.helpers import ROOT
from tests.package import FILES, IDS, PACKAGE, import_file, public_objects

PACKAGES = ("l2rkd_tf", "l2rkd_command", "studies", "benchmarks")
SOURCES = {
    folder: sorted((ROOT / folder).rglob("*.py"))
    for folder in (*PACKAGES, "examples", "tests", "docs")
}
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_MODULE, MAX_CLASS, MAX_FUNCTION, MAX_EXAMPLE = 350, 300, 40, 80  # lines
PRIVATE = ("keras.src", "tensorflow.python", "tensorflow.compiler", "tensorflow.core")
# The one module that may use what Keras marks as private.
KERAS_FIXES = PACKAGE / "distiller" / "keras_fixes.py"

# Prints the seconds of computing that the import takes, which do not depend on what else runs, and
# which packages it brings in that Keras does not.
PROBE = """
import json, sys, time
start = time.process_time()
import keras
of_keras = time.process_time() - start
def packages():
    return {name.partition(".")[0] for name in sys.modules}
before, start = packages(), time.process_time()
import l2rkd_tf
seconds = time.process_time() - start
fast = seconds <= max(0.15, 0.05 * of_keras)
print(json.dumps([fast, sorted(packages() - before - set(sys.stdlib_module_names))]))
"""


def all_sources(*folders):
    return [path for folder in folders or SOURCES for path in SOURCES[folder]]


def ids(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def nodes(path, *kinds):
    return [node for node in ast.walk(parsed(path)) if isinstance(node, kinds)]


def imported_names(path):
    """Full names of what a source file imports, relative imports resolved."""
    folder = path.relative_to(ROOT).parts[:-1]
    for node in nodes(path, ast.Import):
        yield from (alias.name for alias in node.names)
    for node in nodes(path, ast.ImportFrom):
        base = ".".join(folder[: len(folder) - node.level + 1]) if node.level else ""
        origin = ".".join(part for part in (base, node.module) if part)
        yield from (f"{origin}.{alias.name}" for alias in node.names)


# Imports.


def test_layers_are_kept():
    code = "import sys; from importlinter.cli import lint_imports as f; sys.exit(f(no_cache=True))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_through_others(package):
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {one: graph.find_modules_directly_imported_by(one) for one in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises an error that lists the circle


@pytest.mark.parametrize("path", all_sources(*PACKAGES), ids=ids(all_sources(*PACKAGES)))
def test_no_private_imports(path):
    def is_private(name):
        parts = name.split(".")[:-1]
        return name.startswith(PRIVATE) or any(re.match("_[^_]", part) for part in parts)

    assert [name for name in imported_names(path) if is_private(name)] == []


def test_no_test_module_imports_another():
    found = {
        str(path.relative_to(ROOT)): name
        for path in SOURCES["tests"]
        for name in imported_names(path)
        if name.startswith("tests.") and ".test_" in name
    }
    assert found == {}


def test_no_program_changes_where_python_looks_for_modules():
    """A module that is not found belongs into a package, or the program is started with `-m`."""
    pattern = re.compile(r"\bsys\s*\.\s*path\b")
    assert [path for path in all_sources() if pattern.search(path.read_text())] == []


# Sizes.


def code_lines(node):
    """Lines from `class` or `def` to the last one, without the docstring."""
    length = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node, clean=False) is None:
        return length
    return length - (node.body[0].end_lineno - node.body[0].lineno + 1)


def longer_than(limit, *kinds):
    return {
        f"{path.relative_to(ROOT)}: {node.name}": code_lines(node)
        for path in all_sources("l2rkd_tf", "l2rkd_command")
        for node in nodes(path, *kinds)
        if code_lines(node) > limit
    }


def files_longer_than(limit, paths):
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    return {
        str(path.relative_to(ROOT)): length for path, length in lengths.items() if length > limit
    }


def test_no_module_is_longer_than_350_lines():
    assert files_longer_than(MAX_MODULE, all_sources("l2rkd_tf", "l2rkd_command")) == {}


def test_no_class_is_longer_than_300_lines_without_its_docstring():
    assert longer_than(MAX_CLASS, ast.ClassDef) == {}


def test_no_function_is_longer_than_40_lines_without_its_docstring():
    assert longer_than(MAX_FUNCTION, ast.FunctionDef, ast.AsyncFunctionDef) == {}


def test_no_example_is_longer_than_80_lines():
    assert files_longer_than(MAX_EXAMPLE, EXAMPLES) == {}


# What Keras marks as private. Other objects' underscores are refused by ruff (SLF001).


@functools.cache
def private_names_of(keras_class):
    """Underscored names that a class of Keras defines, or sets on `self`."""
    names = set(vars(keras_class))
    names |= set(re.findall(r"\bself\.(_\w+)", inspect.getsource(keras_class)))
    return {name for name in names if re.match("_[^_]", name)}


def private_names_used(path):
    """Names of Keras's with an underscore that classes of a file use or define, by class."""
    module = import_file(path)
    found = {}
    for node in nodes(path, ast.ClassDef):
        own = getattr(module, node.name, None)
        bases = own.__mro__ if isinstance(own, type) else ()
        of_keras = [base for base in bases if base.__module__.partition(".")[0] == "keras"]
        private = set().union(*map(private_names_of, of_keras))
        used = {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
        used |= {part.name for part in ast.walk(node) if isinstance(part, ast.FunctionDef)}
        if private & used:
            found[node.name] = sorted(private & used)
    return found


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_underscores_of_keras_are_in_keras_fixes_only(path):
    used = private_names_used(path)
    assert used == {} or path == KERAS_FIXES


def test_keras_fixes_are_still_needed():
    assert private_names_used(KERAS_FIXES) != {}


# What an import costs.


@pytest.fixture(scope="module")
def import_probes():
    """Up to three measured imports in fresh processes: no more than it takes to be fast once."""
    probes = []
    while len(probes) < 3 and not any(fast for fast, _ in probes):
        run = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True
        )
        probes.append(json.loads(run.stdout))
    return probes


def test_import_brings_in_nothing_but_keras(import_probes):
    assert [packages for _, packages in import_probes] == [["l2rkd_tf"]] * len(import_probes)


def test_import_takes_at_most_150_ms_or_a_twentieth_of_that_of_keras(import_probes):
    assert any(fast for fast, _ in import_probes)


# Public names.


def test_public_names_are_those_of_the_package():
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


def is_public(name):
    """Whether each module on the way to a full name lists the next part in its `__all__`."""
    value = l2rkd_tf
    for part in name.split(".")[1:]:
        if inspect.ismodule(value) and part not in getattr(value, "__all__", ()):
            return False
        value = getattr(value, part)
    return True


def names_of_the_library(path):
    """Full names of the library's that a file imports or reaches from what it imports."""
    imported = [name for name in imported_names(path) if name.partition(".")[0] == "l2rkd_tf"]
    origins = {name.rpartition(".")[2]: name for name in imported}
    reached = [ast.unparse(node) for node in nodes(path, ast.Attribute)]
    paths = [name.partition(".") for name in reached if re.fullmatch(r"[\w.]+", name)]
    return imported + [f"{origins[first]}.{rest}" for first, _, rest in paths if first in origins]


@pytest.mark.parametrize("path", EXAMPLES, ids=ids(EXAMPLES))
def test_examples_use_public_names_only(path):
    names = names_of_the_library(path)
    assert names and [name for name in names if not is_public(name)] == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if ">>>" in path.read_text()],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_code_of_docstrings_runs(path):
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
