"""What an exported student is worth on a device, and the card that says so."""

import importlib
import json
import os
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import app, flags

from l2rkd_tf import data, export, geometry, models, regions

ROOT = pathlib.Path(__file__).parent.parent
FORMATS = ["float32", "float16", "dynamic", "int8"]
SPLITS = ["train[:64]", "validation[:20]", "test[:50]"]
NUM_POINTS = 40
CONFIG = {
    "dataset": "digits",
    "splits": ["train", "validation", "test"],
    "fraction": 0.25,
    "note": "a | b",
    "versions": {"keras": "3.99"},
}
METRICS = {"test": {"accuracy": 0.8125, "loss": 0.5}, "parameters": 210}
Z = 1.959963984540054


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="module")
def test_split(folder):
    return data.load("digits", SPLITS[-1], batch_size=256, data_dir=folder / "tfds")


@pytest.fixture(scope="module")
def images_and_labels(test_split):
    return next(test_split.as_numpy_iterator())


@pytest.fixture(scope="module")
def networks(folder, test_split):
    """A teacher and, in the folder of a run, a student, both of some skill."""
    keras.utils.set_random_seed(0)
    networks = {"teacher": models.convnet((8, 8, 1), 10, (6, 8))}
    networks["student"] = models.convnet((8, 8, 1), 10, (8, 12))
    for name, model in networks.items():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.02), loss)
        model.fit(test_split.repeat(), steps_per_epoch=150, verbose=0)
        (folder / name).mkdir()
        model.save(folder / name / "model.keras")
    (folder / "student/config.json").write_text(json.dumps(CONFIG))
    (folder / "student/metrics.json").write_text(json.dumps(METRICS))
    return networks


class Program:
    """An example program within this process, whose flags can be taken back."""

    def __init__(self, name, patch):
        patch.syspath_prepend(str(ROOT / "examples"))
        patch.setattr(sys, "argv", [name])
        patch.delitem(sys.modules, name, raising=False)
        before = set(flags.FLAGS)
        self.module = importlib.import_module(name)
        self._added = set(flags.FLAGS) - before

    def run(self, *arguments):
        flags.FLAGS.unparse_flags()
        for name in self._added:
            flags.FLAGS[name].value = flags.FLAGS[name].default
        self.module.main(flags.FLAGS([self.module.__name__, *arguments]))

    def forget_flags(self):
        for name in self._added:
            delattr(flags.FLAGS, name)


def program(name):
    with pytest.MonkeyPatch.context() as patch:
        opened = Program(name, patch)
        try:
            yield opened
        finally:
            opened.forget_flags()


# One after the other: they have flags of the same names.
@pytest.fixture
def benchmark_student():
    yield from program("benchmark_student")


@pytest.fixture
def export_student():
    yield from program("export_student")


@pytest.fixture
def module(monkeypatch):
    """Imports a module of the examples that is no program."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


def arguments_of(folder, **more):
    given = {"splits": ",".join(SPLITS), "data_dir": folder / "tfds"} | more
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module")
def benchmark(folder, networks):
    """The folder that the program writes."""
    arguments = arguments_of(
        folder,
        model=folder / "student/model.keras",
        teacher=folder / "teacher/model.keras",
        num_points=NUM_POINTS,
        rounds=5,
        warm_up=1,
        output=folder / "benchmark",
        intended_use="Reading digits of forms.",
    )
    opened = program("benchmark_student")
    next(opened).run(*arguments)
    opened.close()
    return folder / "benchmark"


@pytest.fixture(scope="module")
def results(benchmark):
    return json.loads((benchmark / "results.json").read_text())


def litert_outputs(path, images):
    """Outputs of a file by TensorFlow's own interpreter, independently of the program."""
    run = tf.lite.Interpreter(model_path=str(path)).get_signature_runner()
    return np.concatenate([run(image=image[None])["output_0"] for image in images])


def test_the_folder_is_whole(benchmark):
    files = {f"student_{name}.tflite{ending}" for name in FORMATS for ending in ("", ".json")}
    files |= {"model_card.md", "table.md", "results.json", "benchmark.png"}
    assert {path.name for path in benchmark.iterdir()} == files
    assert (benchmark / "benchmark.png").stat().st_size > 30_000
    assert not benchmark.with_name("benchmark.partial").exists()


def test_sizes_are_those_of_the_files(benchmark, results):
    assert list(results["models"]) == ["Keras student", *FORMATS]
    for name in FORMATS:
        size = (benchmark / f"student_{name}.tflite").stat().st_size
        assert results["models"][name]["bytes"] == size
        assert f"| {name} | {size:,} |" in (benchmark / "table.md").read_text()


def test_the_files_were_compared_on_the_same_examples(benchmark):
    paths = [benchmark / f"student_{name}.tflite.json" for name in FORMATS]
    reports = [json.loads(path.read_text()) for path in paths]
    assert {report["num_examples"] for report in reports} == {64}
    assert len({report["output_spread"] for report in reports}) == 1


def test_accuracy_and_agreement_are_those_of_the_files(
    benchmark, results, networks, images_and_labels
):
    images, labels = images_and_labels
    decisions = {name: networks[name](images).numpy().argmax(-1) for name in networks}
    assert results["teacher_accuracy"] == pytest.approx(np.mean(decisions["teacher"] == labels))
    files = {name: benchmark / f"student_{name}.tflite" for name in FORMATS}
    decisions |= {name: litert_outputs(path, images).argmax(-1) for name, path in files.items()}
    decisions["Keras student"] = decisions["student"]
    for name, row in results["models"].items():
        assert row["accuracy"] == pytest.approx(np.mean(decisions[name] == labels)), name
        agreement = np.mean(decisions[name] == decisions["teacher"])
        assert row["agreement"] == pytest.approx(agreement), name
    accuracy = results["models"]["Keras student"]["accuracy"]
    assert results["models"]["float32"]["accuracy"] == accuracy > 0.3


def test_fidelity_in_the_region_is_that_of_the_profile(results, networks, images_and_labels):
    images = images_and_labels[0][:NUM_POINTS]
    expected = geometry.fidelity_profile(
        networks["teacher"], networks["student"], images, regions.Patch(grid=4)
    )
    profiles = {name: row["profile"] for name, row in results["models"].items()}
    np.testing.assert_allclose(profiles["Keras student"]["kl"], expected.kl, rtol=1e-5)
    np.testing.assert_allclose(profiles["float32"]["kl"], expected.kl, atol=1e-4)
    np.testing.assert_allclose(profiles["float32"]["kl_stderr"], expected.kl_stderr, atol=1e-4)
    # int8 is of other outputs, but of the same points.
    difference = np.subtract(profiles["int8"]["kl"], expected.kl)
    assert 1e-5 < np.abs(difference).max() < 0.2 * expected.kl.max()
    assert profiles["int8"]["fractions"] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_fidelity_of_int8_at_the_data_is_that_of_its_outputs(
    benchmark, results, networks, images_and_labels
):
    images = images_and_labels[0][:NUM_POINTS]
    outputs = litert_outputs(benchmark / "student_int8.tflite", images)
    teacher = networks["teacher"](images).numpy()
    logs = [z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in (teacher, outputs)]
    kl = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(-1)
    # Older LiteRT rounds a level of int8 the other way in batches of another size.
    assert results["models"]["int8"]["profile"]["kl"][0] == pytest.approx(kl.mean(), rel=5e-3)


def test_latencies_are_medians_within_their_middle_half(results):
    assert results["threads"] == [1, 2]
    for name in FORMATS:
        for number in "12":
            latency = results["models"][name]["latency"][number]
            low, high = latency["middle_half_ms"]
            assert 0 < low <= latency["median_ms"] <= high
    assert "latency" not in results["models"]["Keras student"]


def test_the_card_of_the_benchmark_says_what_was_measured(benchmark, results):
    card = (benchmark / "model_card.md").read_text()
    for name in FORMATS:
        row = results["models"][name]
        low, high = export.wilson_interval(round(50 * row["accuracy"]), 50)
        assert (
            f"| student_{name}.tflite | test accuracy | {100 * row['accuracy']:.2f} % "
            f"| {100 * low:.2f} % to {100 * high:.2f} % | 50 |"
        ) in card
        kl = f"| {row['profile']['kl'][2]:.4g} |"
        assert f"0.5 of the way to the edge of a region {kl}" in card
    assert "Reading digits of forms." in card
    assert "| trained on | train of digits, fraction 0.25 |" in card
    assert "| test accuracy | 0.8125 |" in card  # that of the training
    assert "has not been measured" not in card


def test_the_table_compares_with_the_keras_student(benchmark, module):
    page = module("benchmark_page")
    results = json.loads((benchmark / "results.json").read_text())
    results["models"]["Keras student"]["profile"]["kl"][2] = 0.25
    results["models"]["int8"]["profile"]["kl"][2] = 0.375
    results["models"]["int8"]["latency"]["2"] = page.quartiles([0.001, 0.002, 0.003, 0.004, 0.009])
    results["not_exported"] = {"float64": "there is no such thing"}
    results["models"]["float16"]["accuracy"] = 0.5
    text = page.table(results)
    (row,) = [line for line in text.splitlines() if line.startswith("| int8 |")]
    assert " | +0.12 | " in row
    assert row.endswith("| 3 (2 to 4) |")
    # (0.5 + z^2 / 100 -+ z sqrt(0.25 / 50 + z^2 / 10000)) / (1 + z^2 / 50)
    assert "| 50.00% (36.64 to 63.36) |" in text
    assert "float64 was not exported: there is no such thing" in text


def test_calls_are_timed_in_turns(module):
    time_calls = module("benchmark_litert").time_calls
    order, images = [], np.arange(3)
    calls = {name: lambda image, name=name: order.append((name, *image)) for name in "abc"}
    seconds = time_calls(calls, images, rounds=8, warm_up=2)
    assert {name: times.shape for name, times in seconds.items()} == dict.fromkeys("abc", (8,))
    rounds = [order[start : start + 3] for start in range(0, 30, 3)]
    for number, calls_of_round in enumerate(rounds):
        assert sorted(calls_of_round) == [(name, number % 3) for name in "abc"]
    assert len({tuple(name for name, _ in calls_of_round) for calls_of_round in rounds}) > 1
    assert len(order) == 30


def test_a_format_that_cannot_be_exported_is_named(benchmark_student, monkeypatch, tmp_path):
    def export_litert(student, path, quantization, examples):
        if quantization in refused:
            raise export.ExportError(f"not as {quantization}")
        return path

    refused = ["int8"]
    monkeypatch.setattr(export, "export_litert", export_litert)
    reports, reasons = benchmark_student.module.export_all(None, None, str(tmp_path))
    assert list(reports) == FORMATS[:-1]
    assert reasons == {"int8": "not as int8"}
    refused += [None, "float16", "dynamic"]
    with pytest.raises(export.ExportError, match="No format.*not as dynamic"):
        benchmark_student.module.export_all(None, None, str(tmp_path))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--model=missing.keras", "existing .keras file"),
        ("--teacher=missing.keras", "existing .keras file"),
        ("--region=pach", "`region` must begin with one of"),
        ("--threads=0", "different integers above 0"),
        ("--threads=1,01", "different integers above 0"),
        ("--num_points=1", "num_points"),
        ("--rounds=0", "rounds"),
        ("--splits=train,test", "three splits"),
        ("--output=.", "must be a new folder"),
        ("rounds=5", "Unknown arguments"),
    ],
)
def test_flag_mistakes_fail_before_any_work(
    benchmark_student, folder, networks, monkeypatch, flag, message
):
    def refuse(*args, **kwargs):
        raise AssertionError("work was begun")

    monkeypatch.setattr(keras.models, "load_model", refuse)
    paths = {"model": "student/model.keras", "teacher": "teacher/model.keras"}
    given = [f"--{name}={folder / path}" for name, path in paths.items()]
    with pytest.raises((flags.Error, app.UsageError, ValueError), match=re.escape(message)):
        benchmark_student.run(*given, flag)


def test_a_record_that_is_no_json_is_named(module, tmp_path):
    read_record = module("benchmark_card").read_record
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json.*must be JSON"):
        read_record(str(tmp_path / "model.keras"))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold a dict"):
        read_record(str(tmp_path / "model.keras"))
    (tmp_path / "config.json").unlink()
    assert read_record(str(tmp_path / "model.keras")) == {"config": {}, "metrics": {}}


def test_export_student_writes_a_card_and_the_page_runs_its_file(
    export_student, folder, networks, images_and_labels, monkeypatch
):
    images, labels = images_and_labels
    (folder / "stranger").mkdir()
    networks["student"].save(folder / "stranger/model.keras")  # in no folder of a run
    arguments = arguments_of(
        folder, student=folder / "stranger/model.keras", output=folder / "export"
    )
    export_student.run(*arguments, "--quantization=dynamic")
    card = (folder / "export/model_card.md").read_text()
    report = json.loads((folder / "export/student.tflite.json").read_text())
    assert (
        f"| student.tflite | litert | weights int8, activations float32 | {report['bytes']:,}"
        in card
    )
    assert "| student_saved_model | saved_model |" in card
    correct = np.sum(networks["student"](images).numpy().argmax(-1) == labels)
    assert f"| Keras student | test accuracy | {2 * correct:.2f} % |" in card
    assert "| trained on | not known |" in card
    assert "Recorded by the training: not known." in card
    assert "that Metrics does not name has not been measured" in card
    # What docs/deploying.md says of running a file.
    page = (ROOT / "docs/deploying.md").read_text()
    (code,) = re.findall(r"```python\n(from ai_edge_litert.+?)```", page, re.DOTALL)
    monkeypatch.chdir(folder / "export")
    names = {"images": images}
    exec(code, names)
    expected = networks["student"](images[:1]).numpy()
    np.testing.assert_allclose(names["logits"], expected, atol=0.05 * np.ptp(expected))

    def export_litert(*args, **kwargs):
        raise export.ExportError("not as the student")

    # A card of earlier files is not left beside new ones.
    monkeypatch.setattr(export, "export_litert", export_litert)
    monkeypatch.setattr(export, "export_saved_model", lambda *args, **kwargs: None)
    with pytest.raises(export.ExportError):
        export_student.run(*arguments)
    assert not (folder / "export/model_card.md").exists()


@pytest.mark.parametrize(("successes", "trials"), [(351, 360), (1, 3), (5, 10), (np.int64(0), 7)])
def test_wilson_interval_solves_its_equation(successes, trials):
    """Its ends are the shares `q` with `(p - q)^2 = z^2 q (1 - q) / n`."""
    share = successes / trials
    roots = np.roots([1 + Z**2 / trials, -(2 * share + Z**2 / trials), share**2])
    np.testing.assert_allclose(
        export.wilson_interval(successes, trials), np.sort(roots), rtol=1e-9, atol=1e-12
    )


def test_wilson_interval_ends_at_0_and_1():
    assert export.wilson_interval(0, 4)[0] == 0.0
    assert export.wilson_interval(4, 4)[1] == 1.0
    # n / (n + z^2), the lower end of a share of 1
    assert export.wilson_interval(4, 4)[0] == pytest.approx(4 / (4 + Z**2))


@pytest.mark.parametrize(
    ("successes", "trials", "message"),
    [(5, 4, "`successes`"), (-1, 4, "`successes`"), (1.5, 4, "`successes`"), (0, 0, "`trials`")],
)
def test_wilson_interval_refuses_what_is_no_count(successes, trials, message):
    with pytest.raises(ValueError, match=message):
        export.wilson_interval(successes, trials)


REPORT = export.ExportReport(
    artifact="digits.tflite",
    format="litert",
    quantization="int8",
    bytes=12345,
    files={"digits.tflite": 12345},
    parameters=5274,
    max_abs_difference=0.125,
    mean_abs_difference=0.03125,
    output_spread=20.5,
    tolerance=0.15,
    top1_agreement=0.9921875,
    num_examples=128,
    example_source="representative_data",
    input_range={"image": [-0.25, 0.75]},
    inputs=[{"name": "image", "shape": [None, 8, 8, 1], "dtype": "float32"}],
    outputs=[{"name": "output_0", "shape": [1, 10], "dtype": "float32"}],
    rebuilt_in_float32=True,
    rebuild_max_abs_difference=0.0625,
    versions={"keras": "3.98", "ai-edge-litert": "2.97"},
)


def test_the_card_says_what_it_was_given():
    card = export.model_card_text(
        json.loads(REPORT.to_json()),
        title="Digits",
        intended_use="Reading forms.",
        meaning="logits.",
        data={"dataset": "digits"},
        config=CONFIG,
        metrics=METRICS,
        measurements=[
            {"model": "digits.tflite", "measure": "accuracy", "correct": 0, "num_examples": 4},
            {"model": "digits.tflite", "measure": "KL", "value": 0.5, "stderr": 0.1},
            {"model": "digits.tflite", "measure": "loss", "value": 2.25},
        ],
    )
    low, high = 0.5 - Z * 0.1, 0.5 + Z * 0.1
    assert set(card.splitlines()) >= {
        "# Digits",
        "Reading forms.",
        "Of the outputs: logits.",
        "| digits.tflite | litert | weights and activations int8 | 12,345 | 5,274 |",
        "| digits.tflite | input | image | (any, 8, 8, 1) | float32 | -0.25 to 0.75 |",
        "| digits.tflite | output | output_0 | (1, 10) | float32 | not known |",
        "| digits.tflite | 0.125 | 0.0312 | 20.5 | 0.15 | 99.22 % | 128 | representative_data |",
        "| digits.tflite | accuracy | 0.00 % | 0.00 % to 48.99 % | 4 |",
        f"| digits.tflite | KL | 0.5 | {low:.4g} to {high:.4g} | not known |",
        "| digits.tflite | loss | 2.25 | not known | not known |",
        "| dataset | digits |",
        "| fraction | 0.25 |",
        "| note | a \\| b |",
        "| test loss | 0.5 |",
        "| parameters | 210 |",
        "| export of digits.tflite | keras 3.98, ai-edge-litert 2.97 |",
        "| training | keras 3.99 |",
    }
    assert "Wilson" in card and "| versions | {" not in card
    assert "differ by up to 0.0625" in card and "clips values\n  outside them" in card
    assert "has not been measured" not in card


@pytest.mark.parametrize("license", [None, "apache-2.0"])
def test_hugging_face_reads_the_card(license):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(export.model_card_text([REPORT, REPORT], title="A: b", license=license))
    data = {"library_name": "keras", "tags": ["knowledge-distillation", "litert"]}
    assert card.data.to_dict() == data | ({"license": license} if license else {})
    assert card.text.lstrip().startswith("# A: b\n")


def test_the_card_invents_nothing():
    card = export.model_card_text([REPORT])
    parts = dict(re.findall(r"^## (.+)\n\n((?:.|\n)+?)\n\n(?=## |\Z)", card + "\n", re.MULTILINE))
    assert parts["Data"] == parts["Configuration of the training"] == "Not known."
    assert parts["Intended use"].startswith("Not known")
    assert parts["Metrics"] == (
        "Measured at export: nothing.\n\nRecorded by the training: not known."
    )
    assert parts["Input and output"].endswith("Of the outputs: Not known.")
    assert parts["Versions"].endswith("| training | not known |")
    assert "that Metrics does not name has not been measured" in parts["Limits"]
    assert list(parts)[-1] == "Limits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exports": []}, "`exports` must hold at least one"),
        ({"exports": [{"bytes": 3}]}, "`exports`.*without \\['artifact'"),
        ({"exports": "student.tflite"}, "`exports`.*str"),
        ({"measurements": [{"model": "a", "measure": "b"}]}, "`measurements`"),
        ({"measurements": [{"correct": 1, "num_examples": 2}]}, "`measurements`"),
        (
            {"measurements": [{"model": "a", "measure": "b", "correct": 3, "num_examples": 2}]},
            "`successes`",
        ),
    ],
)
def test_the_card_refuses_what_it_cannot_read(arguments, message):
    with pytest.raises(ValueError, match=message):
        export.model_card_text(**({"exports": [REPORT]} | arguments))


def test_a_card_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "model_card.md"
    export.write_model_card(str(path), "# First, ±1\n")
    assert path.read_text(encoding="utf-8") == "# First, ±1\n"

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        export.write_model_card(path, "# Second\n")
    assert [file.name for file in path.parent.iterdir()] == ["model_card.md"]
    assert path.read_text(encoding="utf-8") == "# First, ±1\n"


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [("card.txt", "x", "`path`"), (3, "x", "`path`"), ("card.md", "", "`text`")],
)
def test_wrong_cards_are_not_written(tmp_path, monkeypatch, path, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export.write_model_card(path, text)
    assert list(tmp_path.iterdir()) == []
