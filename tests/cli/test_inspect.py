"""The report about students, made by the command, and opened in a browser if there is one."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess

import keras
import matplotlib.image
import numpy as np
import pytest

from l2rkd_tf import data, geometry, models, regions
from tests.cli import commands

NUM_POINTS = 24
NAMES = ["teacher", "K&D <b>", "seed1"]
NASTY = "<script>alert('x')</script> & more"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


def save_run(folder, model, config, history):
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "history.json").write_text(json.dumps(history))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits, prepared where the runs' configurations say."""
    folder = tmp_path_factory.mktemp("inspect")
    test = data.load("digits", "test", batch_size=50, shuffle=False, data_dir=folder / "tfds")
    return folder, test


@pytest.fixture(scope="module")
def runs(digits):
    """A teacher that knows some digits, and two students that know a little of it."""
    folder, test = digits
    keras.utils.set_random_seed(0)
    # Two are piecewise linear, the third is not.
    smooth = [keras.layers.Flatten(), keras.layers.Dense(9, "gelu"), keras.layers.Dense(10)]
    candidates = [models.convnet((8, 8, 1), 10, widths=(4, 4 + seed)) for seed in range(2)]
    candidates.append(keras.Sequential([keras.Input((8, 8, 1)), *smooth]))
    networks = dict(zip(NAMES, candidates, strict=True))
    for seed, name in enumerate(NAMES):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        networks[name].compile("adam", loss, metrics=["accuracy"])
        networks[name].fit(test, epochs=4 - seed, verbose=0)
    history = {"loss": [2.0, 1.0], "kd_loss": [1.5, 0.5], "accuracy": [0.5, 0.75]}
    shared = {"epochs": 2, "dataset": "digits", "data_dir": str(folder / "tfds")}
    teacher, named, unnamed = networks.values()
    save_run(folder / "teacher", teacher, shared | {"widths": ["4", "4"]}, history)
    of_student = {"teacher": str(folder / "teacher/model.keras"), "note": NASTY}
    save_run(folder / "kd/seed0", named, shared | of_student, history)
    # A folder that has only a model will do.
    (folder / "seed1").mkdir()
    unnamed.save(folder / "seed1/model.keras")
    return folder, networks


@pytest.fixture(scope="module")
def report(runs):
    """The folder that the command writes. Dataset and teacher come from a student's run."""
    folder, _ = runs
    students = f"{NAMES[1]}={folder}/kd/seed0/model.keras,{folder}/seed1/model.keras"
    printed = commands.succeed(
        "inspect",
        f"--student={students}",
        "--region=segment:radius=0.5",
        f"--num_points={NUM_POINTS}",
        "--resolution=12",
        "--draw_seed=3",
        f"--output={folder}/runs/inspect",
    )
    assert f"{folder}/runs/inspect/report.html" in printed
    return folder / "runs/inspect"


class Page(html.parser.HTMLParser):
    """What a reader sees of a page: tables by caption, pictures, title and text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.pictures, self.tags, self.text = {}, [], set(), {"title": ""}
        self._table, self._open = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self._open = tag
        if tag == "img":
            self.pictures.append(dict(attributes))
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        self._open = None
        if tag == "table":
            self.tables[self._caption], self._table = self._table, []

    def handle_data(self, data):
        if self._open in ("td", "th"):
            self._table[-1][-1] += data
        elif self._open == "caption":
            self._caption = data
        elif self._open:
            self.text[self._open] = self.text.get(self._open, "") + data


@pytest.fixture(scope="module")
def page(report):
    return Page((report / "report.html").read_text())


@pytest.fixture(scope="module")
def measured(runs, digits):
    """The numbers of the report, measured here."""
    (_, networks), (_, test) = runs, digits
    x, y = (np.concatenate(parts) for parts in zip(*test.as_numpy_iterator(), strict=True))
    teacher = networks["teacher"]
    results = {}
    for name, model in networks.items():
        logits = model.predict(test, verbose=0)
        results[name] = {
            "accuracy": np.mean(logits.argmax(axis=-1) == y),
            "ece": geometry.expected_calibration_error(logits, y),
            "agreement": geometry.top1_agreement(teacher, model, x),
            "jacobian": geometry.jacobian_distance(
                teacher, model, x[:NUM_POINTS], batch_size=50, seed=3
            ),
            "profile": geometry.fidelity_profile(
                teacher, model, x[:NUM_POINTS], regions.Segment(0.5), batch_size=50, seed=3
            ),
        }
    return results


def number(text):
    """The first number of a cell."""
    value = float(re.match(r"[-0-9.,]+", text).group().replace(",", ""))
    return value / 100 if "%" in text else value


def test_scores_are_those_of_the_models(page, measured, runs):
    header, *rows = page.tables["Accuracy, size, agreement, input Jacobians and calibration"]
    assert header[0] == "model" and [row[0] for row in rows] == NAMES
    for row, (name, expected) in zip(rows, measured.items(), strict=True):
        accuracy, parameters, agreement, distance, calibration = row[1:]
        assert number(accuracy) == pytest.approx(expected["accuracy"], abs=6e-5)
        assert number(parameters) == runs[1][name].count_params()
        assert number(calibration) == pytest.approx(expected["ece"], abs=6e-5)
        if name == "teacher":
            assert agreement == distance == ""
            continue
        assert number(agreement) == pytest.approx(expected["agreement"], abs=6e-5)
        mean, half_width = map(float, distance.split(" ± "))
        assert mean == pytest.approx(expected["jacobian"].relative, rel=0.05)
        assert half_width == pytest.approx(1.96 * expected["jacobian"].relative_stderr, rel=0.06)


@pytest.mark.parametrize(
    ("caption", "field", "tolerance"),
    [
        ("KL from the teacher in nats, by fraction of the way to the boundary", "kl", 0.03),
        ("Agrees with the teacher, by fraction of the way to the boundary", "agreement", 1e-4),
    ],
)
def test_fidelity_is_that_of_the_region(page, measured, caption, field, tolerance):
    header, *rows = page.tables[caption]
    assert header == ["student", "0", "0.25", "0.5", "0.75", "1"]
    assert [row[0] for row in rows] == NAMES[1:]
    for name, *cells in rows:
        expected = getattr(measured[name]["profile"], field)
        np.testing.assert_allclose(list(map(number, cells)), expected, atol=tolerance)


def test_what_has_no_linear_radius_is_named(page):
    assert page.text["p"].count("No linear radius of") == 1
    assert re.search(r"No linear radius of seed1: `model` .*gelu", page.text["p"])


def test_measures_are_kept_in_full(report, measured):
    measures = json.loads((report / "measures.json").read_text())
    for name in NAMES[1:]:
        profile = measures[name]["profile"]
        np.testing.assert_allclose(profile["kl"], measured[name]["profile"].kl, rtol=1e-4)
        assert measures[name]["top1_agreement"] == measured[name]["agreement"]
        distance = measures[name]["jacobian_distance"]["relative"]
        assert distance == pytest.approx(measured[name]["jacobian"].relative, rel=1e-4)
    assert measures["config"]["region"] == "segment:radius=0.5"
    assert measures["config"]["dataset"] == "digits"  # from the student's run
    assert "tensorflow" in measures["versions"]


def test_settings_that_differ_come_first_and_texts_are_escaped(page, report, runs):
    header, *rows = page.tables["Configuration of each run"]
    assert header == ["setting", *NAMES]
    folder, _ = runs
    # Runs without a record have empty cells, which differ from all others.
    assert {row[0]: row[1:] for row in rows} == {
        "epochs": ["2", "2", ""],
        "dataset": ["digits", "digits", ""],
        "data_dir": [str(folder / "tfds"), str(folder / "tfds"), ""],
        "widths": ["4,4", "", ""],
        "teacher": ["", str(folder / "teacher/model.keras"), ""],
        "note": ["", NASTY, ""],
    }
    assert "<script" not in (report / "report.html").read_text()
    assert "script" not in page.tags and "b" not in page.tags


def test_the_page_is_one_file_with_its_pictures(page, report):
    text = re.sub(r'base64,[^"]*', "", (report / "report.html").read_text())
    assert page.text["title"] == "K&D <b>, seed1 compared with their teacher on digits"
    assert not re.search(r"https?:|//[a-z]|<link|<script|@import|url\(", text)
    assert not page.tags & {"link", "script", "iframe", "object"}
    sources = [image["src"].split(",", 1) for image in page.pictures]
    assert {kind for kind, _ in sources} == {"data:image/png;base64"}
    embedded = [base64.b64decode(content, validate=True) for _, content in sources]
    for content in embedded:
        picture = matplotlib.image.imread(io.BytesIO(content))
        assert picture.ndim == 3 and picture.min() < picture.max()
    assert all(image["alt"] for image in page.pictures)
    files = {path.name: path.read_bytes() for path in report.glob("*.png")}
    assert sorted(files) == [
        "decision_map.png", "fidelity.png", "linear_radii.png", "linearity_gap.png",
        "training_1.png", "training_2.png",
    ]  # fmt: skip
    assert sorted(embedded) == sorted(files.values())


def test_nothing_is_left_next_to_the_report(report):
    assert [path.name for path in report.parent.iterdir()] == ["inspect"]
    names = {path.name for path in report.iterdir() if path.suffix != ".png"}
    assert names == {"report.html", "measures.json"}


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chromium-browser on the PATH")
def test_a_browser_shows_title_and_pictures(page, report, tmp_path):
    """Adds a line to a copy of the page that notes which pictures have loaded, and reads it."""
    check = (
        "<script>addEventListener('load', () => { document.title += ' | ' + "
        "[...document.images].map(i => i.complete && i.naturalWidth > 100).join() })</script>"
    )
    text = (report / "report.html").read_text()
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace("</body>", f"{check}</body>"))
    dumped = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout  # fmt: skip
    loaded = ",".join(["true"] * len(page.pictures))
    assert Page(dumped).text["title"] == f"{page.text['title']} | {loaded}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--student must be given"),
        (["--student="], "--student must be given"),
        (["--student=missing.keras"], "'missing.keras'"),
        (["--student=kd/seed0"], "'kd/seed0'"),
        (["--student=a=seed1/model.keras,a=kd/seed0/model.keras"], "the name 'a' is taken"),
        (["--student=teacher/model.keras"], "the name 'teacher' is taken"),
        (["--student=seed1/model.keras,x=other.keras"], "'other.keras'"),
        (["--student=seed1/model.keras", "--teacher=none.keras"], "--teacher"),
        (["--student=seed1/model.keras", "--dataset=digits"], "--teacher"),
        (["--student=seed1/model.keras", "--teacher=teacher/model.keras"], "--dataset"),
        (["--student=kd/seed0/model.keras,b/model.keras"], "--dataset"),
        (["--student=kd/seed0/model.keras", "--region=pach"], "--region"),
        (["--student=kd/seed0/model.keras", "--num_points=2"], "--num_points"),
        (["--student=kd/seed0/model.keras", "--resolution=1"], "--resolution"),
        (["--student=kd/seed0/model.keras", "--output=teacher"], "--output must be a new folder"),
        (["--student=kd/seed0/model.keras", "points=3"], "points=3"),
    ],
)
def test_mistakes_fail_before_any_work(runs, arguments, message, monkeypatch):
    folder, _ = runs
    monkeypatch.chdir(folder)
    other = folder / "b"  # of another dataset
    other.mkdir(exist_ok=True)
    shutil.copy("seed1/model.keras", other)
    (other / "config.json").write_text(json.dumps({"dataset": "glyphs/gray16"}))
    monkeypatch.setattr(keras.models, "load_model", commands.refuse_work)
    assert message in commands.fail("inspect", *arguments)
