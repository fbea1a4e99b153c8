"""What an exported student is worth on a device, and the card that says so."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_command.errors import UsageError
from l2rkd_tf import data, export, geometry, models, regions
from l2rkd_tf.cli import benchmark as program
from l2rkd_tf.cli.common import benchmark_page, litert
from tests.cli import commands

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
MEASURES = {"test accuracy": "accuracy", "agrees with the teacher": "top1_agreement"}
METRICS = {"test": {"accuracy": 0.8125, "loss": 0.5}, "parameters": 210}


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
    config = CONFIG | {"teacher": str(folder / "teacher/model.keras")}
    (folder / "student/config.json").write_text(json.dumps(config))
    (folder / "student/metrics.json").write_text(json.dumps(METRICS))
    return networks


def arguments_of(folder, **more):
    given = {"splits": ",".join(SPLITS), "data_dir": folder / "tfds"} | more
    return [f"--{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module")
def benchmark(folder, networks):
    """The folder that the command writes. Dataset and teacher come from the student's run."""
    arguments = arguments_of(
        folder,
        student=folder / "student/model.keras",
        num_points=NUM_POINTS,
        rounds=5,
        warm_up=1,
        output=folder / "benchmark",
        intended_use="Reading digits of forms.",
    )
    printed = commands.succeed("benchmark", *arguments)
    assert (folder / "benchmark/table.md").read_text() in printed
    return folder / "benchmark"


@pytest.fixture(scope="module")
def results(benchmark):
    return json.loads((benchmark / "results.json").read_text())


def litert_outputs(path, images):
    """Outputs of a file by TensorFlow's own interpreter, independently of the command."""
    run = tf.lite.Interpreter(model_path=str(path)).get_signature_runner()
    return np.concatenate([run(image=image[None])["output_0"] for image in images])


def rows_of(text):
    """Cells of the rows of all markdown tables in a text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def cells_of(path, name):
    """The row of a markdown table whose first cell is a name."""
    (row,) = [row for row in rows_of(path.read_text()) if row[0] == name]
    return row


def test_the_folder_is_whole(benchmark):
    files = {f"student_{name}.tflite{ending}" for name in FORMATS for ending in ("", ".json")}
    files |= {"model_card.md", "table.md", "results.json", "benchmark.png"}
    assert {path.name for path in benchmark.iterdir()} == files
    names = {path.name for path in benchmark.parent.iterdir()}
    assert names == {"benchmark", "student", "teacher", "tfds"}  # nothing is left next to it


def test_sizes_are_those_of_the_files(benchmark, results):
    assert list(results["models"]) == ["Keras student", *FORMATS]
    for name in FORMATS:
        size = (benchmark / f"student_{name}.tflite").stat().st_size
        assert results["models"][name]["bytes"] == size
        assert cells_of(benchmark / "table.md", name)[1] == f"{size:,}"


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
        assert row["top1_agreement"] == pytest.approx(agreement), name
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
    rows = {tuple(row[:2]): row[2:] for row in rows_of(card)}
    for name in FORMATS:
        row, file = results["models"][name], f"student_{name}.tflite"
        for measure, key in MEASURES.items():
            low, high = export.wilson_interval(round(50 * row[key]), 50)
            interval = f"{100 * low:.2f} % to {100 * high:.2f} %"
            assert rows[file, measure] == [f"{100 * row[key]:.2f} %", interval, "50"]
        kl = rows[file, "KL from the teacher, 0.5 of the way to the boundary of the region"]
        assert kl[0] == f"{row['profile']['kl'][2]:.4g}"
    assert "Reading digits of forms." in card
    assert ("trained on", "train of digits, fraction 0.25") in rows
    assert ("test accuracy", "0.8125") in rows  # that of the training
    assert "has not been measured" not in card


def test_the_table_compares_with_the_keras_student(benchmark):
    results = json.loads((benchmark / "results.json").read_text())
    results["models"]["Keras student"]["profile"]["kl"][2] = 0.25
    results["models"]["int8"]["profile"]["kl"][2] = 0.375
    seconds = [0.001, 0.002, 0.003, 0.004, 0.009]
    results["models"]["int8"]["latency"]["2"] = benchmark_page.quartiles(seconds)
    results["not_exported"] = {"float64": "there is no such thing"}
    results["models"]["float16"]["accuracy"] = 0.5
    text = benchmark_page.render_table(results)
    rows = {row[0]: row for row in rows_of(text)}
    assert rows["model"][6] == "KL halfway, minus the Keras student's"
    assert rows["int8"][6] == "+0.12"
    assert rows["int8"][-1] == "3 (2 to 4)"
    # (0.5 + z^2 / 100 -+ z sqrt(0.25 / 50 + z^2 / 10000)) / (1 + z^2 / 50)
    assert rows["float16"][2] == "50.00% (36.64 to 63.36)"
    assert "float64 was not exported: there is no such thing" in text


def test_calls_are_timed_in_turns():
    order, images = [], np.arange(3)
    calls = {name: lambda image, name=name: order.append((name, *image)) for name in "abc"}
    seconds = litert.time_calls(calls, images, rounds=8, warm_up=2)
    assert {name: times.shape for name, times in seconds.items()} == dict.fromkeys("abc", (8,))
    rounds = [order[start : start + 3] for start in range(0, 30, 3)]
    for number, calls_of_round in enumerate(rounds):
        assert sorted(calls_of_round) == [(name, number % 3) for name in "abc"]
    assert len({tuple(name for name, _ in calls_of_round) for calls_of_round in rounds}) > 1
    assert len(order) == 30


def test_a_format_that_cannot_be_exported_is_named(monkeypatch, tmp_path):
    def export_litert(student, path, quantization, examples):
        if quantization in refused:
            raise export.ExportError(f"not as {quantization}")
        return path

    refused = ["int8"]
    monkeypatch.setattr(export, "export_litert", export_litert)
    reports, reasons = program.export_all(None, None, tmp_path)
    assert list(reports) == FORMATS[:-1]
    assert reasons == {"int8": "not as int8"}
    refused += [None, "float16", "dynamic"]
    with pytest.raises(UsageError, match="--student cannot be exported.*not as dynamic"):
        program.export_all(None, None, tmp_path)


def test_a_dry_run_only_says_what_would_be_measured(folder, networks):
    arguments = arguments_of(folder, student=folder / "student/model.keras")
    printed = commands.succeed(
        "benchmark", *arguments, "--dry_run", f"--output={folder / 'planned'}"
    )
    assert f"{networks['student'].count_params():,} parameters" in printed
    assert f"from {folder / 'teacher/model.keras'}" in printed
    assert "digits, split train[:64]: 64 examples of 8x8x1, 10 classes" in printed
    assert not (folder / "planned").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--student=missing.keras", "--student must be an existing .keras file"),
        ("--teacher=missing.keras", "--teacher must be an existing .keras file"),
        ("--teacher=", "--teacher must be given"),
        ("--region=pach", "--region must begin with one of"),
        ("--region=patch:radius=2", "--region cannot be used: `radius` must"),
        ("--threads=0", "--threads must be different integers above 0"),
        ("--threads=1,01", "--threads must be different integers above 0"),
        ("--num_points=1", "--num_points"),
        ("--rounds=0", "--rounds"),
        ("--splits=train,test", "--splits must be three splits"),
        ("--output=.", "--output must be a new folder"),
        ("rounds=5", "'rounds=5' is not a flag"),
    ],
)
def test_wrong_flags_fail_before_any_work(folder, networks, monkeypatch, flag, message):
    monkeypatch.setattr(keras.models, "load_model", commands.refuse_work)
    given = [f"--student={folder / 'student/model.keras'}", f"--output={folder / 'not_there'}"]
    assert message in commands.fail("benchmark", *given, flag)
