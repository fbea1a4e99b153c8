"""The pages say what works: their Python blocks run, their commands exist.

A page's Python blocks run in their order, in one namespace and in an empty folder. Comments in the
page, which a browser does not show, say what differs from a page that a reader types in:

- `<!-- given: teacher, train -->`, before a block: names, of those of `given`, that the text
  supposes, and names of files with a dot in them;
- `<!-- not run: reason -->`, immediately before a block: it is compiled only, and listed below.
"""

import ast
import functools
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap
import types
from typing import NamedTuple

import keras
import matplotlib.image
import nbformat
import numpy as np
import pytest
from absl import flags

import l2rkd_tf
from l2rkd_command import errors, main
from studies.harness import registry

ROOT = pathlib.Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]

BLOCK = re.compile(
    r"(?:<!-- (?P<kind>not run|given): (?P<words>[^>]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
# A command with its flags, which may continue on the next line.
VALUE = r"""(?:"[^"\n]*"|'[^'\n]*'|[^\s`'"|;)])+"""
ARGUMENTS = rf"((?:\s+(?:\\\n\s*)?--\w+(?:={VALUE})?)*)"
COMMAND = re.compile(rf"(?<![\w-])l2rkd ([a-z][\w-]*){ARGUMENTS}")
PROGRAM = re.compile(
    r"python (?:-m )?((?:examples|benchmarks|studies|docs)(?:[./]\w+)*(?:\.py)?)(?: (\w+))?"
    rf"{ARGUMENTS}"
)
NO_VALUE = "<"  # what stands for a value in a text, such as `--recipe=<teacher's recipe>`

# Blocks that are not run. Think twice before adding one.
NOT_RUN = {"docs/own_images.md: import numpy as np": "needs a photograph"}


class Block(NamedTuple):
    """A block of code of a page."""

    language: str
    code: str
    line: int  # Of its first line of code, from 1.
    not_run: str | None  # The reason.
    given: tuple


def read(page):
    return (ROOT / page).read_text()


def blocks_of(page, language):
    text = read(page)
    for match in BLOCK.finditer(text):
        if match["language"] == language:
            words, kind = match["words"], match["kind"]
            yield Block(
                language,
                textwrap.dedent(match["code"]),
                text.count("\n", 0, match.start("code")) + 1,
                words if kind == "not run" else None,
                tuple(words.split(", ")) if kind == "given" else (),
            )


PYTHON_PAGES = [page for page in PAGES if any(blocks_of(page, "python"))]


def given(folder):
    """What pages may suppose: models of a few weights, 40 images, and what belongs to them."""
    images, labels = next(iter(l2rkd_tf.data.load("digits", "test", batch_size=40)))
    teacher = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(8, 16, 16), name="teacher")
    student = l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(4, 8), name="student")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, seed=0)
    distiller.compile("adam", loss, metrics=["accuracy"])
    return {
        "keras": keras,
        "l2rkd_tf": l2rkd_tf,
        "teacher": teacher,
        "student": student,
        "distiller": distiller,
        "loss": loss,
        "optimizer": "adam",
        "train": l2rkd_tf.data.load("digits", "train", batch_size=20, fraction=0.04),
        "validation": l2rkd_tf.data.load("digits", "validation", batch_size=40, fraction=0.2),
        "images": images.numpy(),
        "labels": labels.numpy(),
        "decisions": np.zeros(40, int),
        "teacher.keras": lambda: teacher.save(folder / "teacher.keras"),
    }


def add_given(namespace, words, things):
    for word in words:
        if "." in word:
            things[word]()
        else:
            namespace[word] = things[word]


def accuracy(distiller, namespace):
    return distiller.evaluate(namespace["test"], verbose=0, return_dict=True)["accuracy"]


def check_readme(namespace, folder, in_full):
    assert (folder / "student.tflite").exists()
    if in_full:
        promised = re.search(r"`KD ([\d.]+) % \| L2RKD ([\d.]+) %`", read("README.md")).groups()
        found = [namespace["kd"], namespace["l2rkd"]]
        # Another machine adds floating-point numbers in another order.
        np.testing.assert_allclose(found, np.array(promised, float), atol=2)
        assert found[0] + 1 < found[1]


def check_first_student(namespace, folder, in_full):
    text = read("docs/first_student.md")
    for name in ("teacher", "student"):
        assert f"{name} with {namespace[name].count_params():,} parameters" in text
    assert (folder / "student.tflite").exists()
    assert namespace["report"].top1_agreement > 0.9
    if in_full:
        kd, l2rkd = (accuracy(namespace[name], namespace) for name in ("kd", "l2rkd"))
        assert l2rkd > max(kd, 0.8)
        profiles = namespace["profiles"]
        assert profiles["L2RKD"].kl[2] < profiles["KD"].kl[2]


# What a reader is told to expect, after all training steps or a few.
CHECKS = {"README.md": check_readme, "docs/first_student.md": check_first_student}


@pytest.mark.parametrize(
    ("page", "in_full"),
    [
        *[(page, page == "README.md") for page in PYTHON_PAGES],
        pytest.param("docs/first_student.md", True, marks=pytest.mark.stress),
    ],
)
def test_python_blocks_run(page, in_full, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not in_full:  # training takes its course, but not its time
        monkeypatch.setattr(keras.Model, "fit", for_few_steps(keras.Model.fit))
    monkeypatch.setattr(l2rkd_tf.models, "application", a_small_application)
    namespace = {"__name__": "page"}
    things = given(tmp_path) if any(block.given for block in blocks_of(page, "python")) else {}
    for block in blocks_of(page, "python"):
        # Tracebacks then tell the line of the page.
        code = compile("\n" * (block.line - 1) + block.code, ROOT / page, "exec")
        add_given(namespace, block.given, things)
        if block.not_run is None:
            exec(code, namespace)
    CHECKS.get(page, lambda *_: None)(namespace, tmp_path, in_full)


def a_small_application(name, *arguments, pretrained=False, **options):
    """A network that needs no download and little time."""
    assert name in l2rkd_tf.models.application_names()
    return APPLICATION("MobileNet", *arguments, **options)


APPLICATION = l2rkd_tf.models.application


def for_few_steps(fit):
    """`fit` of Keras models, for two epochs at most, of ten steps where their number is given."""

    @functools.wraps(fit)  # the distiller reads its signature
    def short(self, *args, epochs=1, steps_per_epoch=None, **kwargs):
        steps = steps_per_epoch and min(steps_per_epoch, 10)
        return fit(self, *args, epochs=min(epochs, 2), steps_per_epoch=steps, **kwargs)

    return short


def test_all_other_blocks_run():
    found = {
        f"{page}: {block.code.splitlines()[0]}": block.not_run
        for page in PAGES
        for block in blocks_of(page, "python")
        if block.not_run is not None
    }
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_read(page):
    """A block that the pattern misses would never be run, and a comment would have no effect."""
    text = read(page)
    blocks = list(BLOCK.finditer(text))
    unnamed = re.sub(BLOCK, "", text).count("```")
    plain = len(re.findall(r"^ *```\n.*?^ *```$", re.sub(BLOCK, "", text), re.M | re.S))
    assert unnamed == 2 * plain
    comments = len(re.findall(r"<!-- (?:not run|given):", text))
    assert comments == sum(match["kind"] is not None for match in blocks)


@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_a_paragraph_begins_like_a_list(page):
    """Markdown would show it as one: a sentence with a line that begins with "1. The" or "- 3"."""
    lines = re.sub(r"^ *```.*?^ *```$", "", read(page), flags=re.M | re.S).split("\n")
    begins = re.compile(r"\s*(?:\d+[.)]|[-+*])\s")
    after_text = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if begins.match(line) and re.match(r"[^\s|<-]", before) and not begins.match(before)
    ]
    assert after_text == []


def test_what_is_given_is_used():
    for page in PAGES:
        code = "\n".join(block.code for block in blocks_of(page, "python"))
        words = [word for block in blocks_of(page, "python") for word in block.given]
        assert [word for word in words if not re.search(rf"\b{re.escape(word)}\b", code)] == []


def without_results(page):
    """The text of a page without tables that were copied from committed results."""
    return re.sub(r"<!-- \S+\.md(?:: \d+)? -->\n.*?<!-- end -->", "", read(page), flags=re.S)


def words_of(arguments):
    words = shlex.split((arguments or "").replace("\\\n", " "))
    return [word for word in words if not word.endswith("help") and NO_VALUE not in word]


def commands_of(page):
    """Commands of `l2rkd` with their flags, anywhere on a page."""
    for match in COMMAND.finditer(without_results(page)):
        yield match[1], words_of(match[2])


def programs_of(page):
    """Other programs of the project, with their first word and their flags."""
    for match in PROGRAM.finditer(without_results(page)):
        if not match[1].endswith(".NAME"):
            yield match[1], match[2], words_of(match[3])


def complaint(command, words):
    """What a command finds wrong with its flags, or an empty text."""
    try:
        main.parse(command, [*words, *REQUIRED.get(command, ())])
    except (flags.Error, errors.UsageError) as error:
        # Files of an earlier command are not here.
        return (
            ""
            if re.search("existing|is not a file|must be given|no file", str(error))
            else str(error)
        )
    return ""


REQUIRED = {"launch": ["--", "true"]}


@pytest.mark.parametrize(
    ("text", "command", "words"),
    [
        ("run `l2rkd distill --a=1 --b` now", "distill", ["--a=1", "--b"]),
        ("l2rkd tune \\\n    --s='x y',2 # no\n", "tune", ["--s=x y,2"]),
        ("l2rkd distill --recipe=<a name> --help", "distill", []),
    ],
)
def test_commands_are_found(text, command, words, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "read", lambda page: text)
    assert list(commands_of("page")) == [(command, words)]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands_of(page))])
def test_commands_take_the_flags_of_the_pages(page):
    commands = list(commands_of(page))
    assert {command for command, _ in commands} <= set(main.COMMANDS)
    complaints = [(command, complaint(command, words)) for command, words in commands]
    assert [both for both in complaints if both[1]] == []


def test_a_wrong_flag_is_noticed():
    assert "no_such_flag" in complaint("distill", ["--no_such_flag=1"])
    assert "epochs" in complaint("demo", ["--epochs=0"])
    assert sum(len(list(commands_of(page))) for page in PAGES) > 30


def flags_defined_in(path):
    """Names of the flags that a program defines, by its text."""
    return set(re.findall(r"""DEFINE_\w+\(\s*["'](\w+)""", path.read_text()))


def program_file(name):
    """The file behind `python NAME` or `python -m NAME`."""
    path = ROOT / name if name.endswith(".py") else ROOT / name.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def test_programs_have_the_flags_of_the_pages():
    programs = [program for page in PAGES for program in programs_of(page)]
    assert len(programs) > 10
    for name, _, words in programs:
        path = program_file(name)
        assert path.is_file(), name
        named = {word.lstrip("-").partition("=")[0] for word in words}
        assert named <= flags_defined_in(path), (name, words)


def test_studies_of_the_pages_exist():
    named = {word for page in PAGES for name, word, _ in programs_of(page) if name == "studies"}
    named |= {word for page in PAGES for word in re.findall(r"make study NAME=(\w+)", read(page))}
    assert "fewshot_digits" in named
    assert named - {None, "NAME"} <= set(registry.all_studies())


def test_targets_of_make_exist():
    rules = re.findall(r"^([\w -]+):", read("Makefile"), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([\w-]+)(?=`|\s|$)", read(page), re.MULTILINE)
    }
    assert {"demo", "test", "bench"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks_of(page, "sh"))])
def test_shell_blocks_are_shell(page):
    for block in blocks_of(page, "sh"):
        # `<name>` stands for something in a text, and for redirection in a shell.
        code = re.sub(r"<[\w' ]+>", "name", block.code)
        finished = subprocess.run(
            ["bash", "-n"], input=code, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, f"{page}, line {block.line}: {finished.stderr}"


def test_extras_of_pip_exist():
    extras = set(re.findall(r'^    "(\w+)": \[|^EXTRAS\["(\w+)"\]', read("setup.py"), re.MULTILINE))
    extras = {name for pair in extras for name in pair if name}
    named = {
        extra
        for page in PAGES
        for words in re.findall(r"pip install [^\n`]*\[([\w,]+)\]", read(page))
        for extra in words.split(",")
    }
    assert {"data", "plots", "litert"} <= named <= extras


def page_module(name):
    """A program of `docs/_build`, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_build/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notebooks_hold_the_blocks_of_their_pages():
    """Which run in `test_python_blocks_run`, without anything given."""
    notebooks = page_module("site_notebooks")
    for name in notebooks.TUTORIALS:
        made = notebooks.notebook(read(f"docs/{name}.md"))
        nbformat.validate(made)
        blocks = list(blocks_of(f"docs/{name}.md", "python"))
        cells = [cell.source for cell in made.cells if cell.cell_type == "code"]
        assert cells == [block.code.strip("\n") for block in blocks]
        assert len(cells) > 2 and not any(block.given or block.not_run for block in blocks)
        texts = "".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
        assert texts.startswith("# ") and ".md" not in texts


def test_the_page_of_regions_lists_all_of_them():
    names = re.findall(r"^        - (\w+)$", read("docs/api/regions.md"), re.MULTILINE)
    constants = {name for name in l2rkd_tf.regions.__all__ if name.isupper()}
    assert set(names) == set(l2rkd_tf.regions.__all__) - constants


def strings_of(tree):
    """The string literals of a module, with `{}` for values."""
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [part.value if isinstance(part, ast.Constant) else "{}" for part in parts]
        if isinstance(node, (ast.JoinedStr, ast.Constant)) and isinstance(texts[0], str):
            yield "".join(map(str, texts))


def test_messages_of_the_page_are_those_of_the_library():
    sources = [*ROOT.glob("l2rkd_tf/**/*.py"), *ROOT.glob("l2rkd_command/**/*.py")]
    said = "\n".join(text for path in sources for text in strings_of(ast.parse(path.read_text())))
    rows = re.findall(r"^\| (`[^|]+) \| ", read("docs/troubleshooting.md"), re.MULTILINE)
    assert len(rows) > 15
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    assert [message for message in messages if message not in said] == []


def test_pictures_of_regions_are_of_regions():
    draw = page_module("draw_regions")
    points = draw.POINTS.reshape(-1, 1, 2, 1)
    own, others = draw.POINTS[0], draw.POINTS[1:]
    segment, _, patch, ball = (
        draw.region_points(region, points, 50).reshape(-1, 2)
        for region in draw.PLANE_REGIONS.values()
    )
    steps = segment[:, None] - own
    ways = others - own
    across = steps[..., 0] * ways[:, 1] - steps[..., 1] * ways[:, 0]
    assert np.abs(across).min(axis=1).max() < 1e-6  # on one of the segments
    assert np.all((patch >= own - 1e-6) & (patch <= others.max(axis=0) + 1e-6))
    assert 0.1 < np.linalg.norm(ball - own, axis=1).max() <= 0.15
    for name, figure in {"shapes": draw.draw_shapes, "images": draw.draw_images}.items():
        picture = matplotlib.image.imread(ROOT / f"docs/images/region_{name}.png")
        drawn = figure()
        size = tuple(np.round(drawn.get_size_inches()[::-1] * drawn.dpi).astype(int))
        assert picture.shape[:2] == size


@pytest.mark.parametrize(
    ("html", "is_fetched"),
    [
        ('<a href="https://arxiv.org">', False),
        ('<script src="assets/bundle.js">', False),
        ('<script async src="https://example.org/x.js">', True),
        ('<link rel="stylesheet" href="//fonts.example.org/css">', True),
        ("<img alt='x' src='http://example.org/x.png'>", True),
    ],
)
def test_the_site_may_not_fetch(html, is_fetched):
    checks = page_module("site_checks")
    page = types.SimpleNamespace(file=types.SimpleNamespace(src_path="page.md"))
    if is_fetched:
        with pytest.raises(ValueError, match="page.md would have a browser fetch"):
            checks.on_post_page(html, page, None)
    else:
        checks.on_post_page(html, page, None)


def test_a_built_browser_demo_becomes_a_page_of_the_site(tmp_path, monkeypatch):
    config_of = pytest.importorskip("mkdocs.config").load_config
    structure = pytest.importorskip("mkdocs.structure.files")
    demo = page_module("site_demo")
    monkeypatch.setattr(demo, "DEMO", tmp_path)
    config = config_of(str(ROOT / "mkdocs.yml"))
    config.plugins._current_plugin = "test"  # what `File.generated` asks for
    markdown = read("docs/browser.md")
    for built in (False, True):
        if built:
            (tmp_path / "wasm").mkdir()
            for name in ("index.html", "wasm/litert.wasm"):
                (tmp_path / name).write_text("x")
        files = demo.on_files(structure.Files([]), config)
        page = types.SimpleNamespace(file=types.SimpleNamespace(src_uri="browser.md"))
        text = demo.on_page_markdown(markdown, page, config, files)
        assert ("(demo/index.html)" in text) == built
        assert (files.get_file_from_path("demo/wasm/litert.wasm") is not None) == built


def test_the_site_builds_without_a_warning(tmp_path):
    """Warnings are links to pages, anchors or pictures that are not there, among others."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "from_keras.html").is_file()
