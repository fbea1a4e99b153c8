"""The short examples run, with a few steps each, and print and write what they promise."""

import functools
import pathlib
import re
import runpy

import keras
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import l2rkd_tf
from l2rkd_tf.data import glyph_scenes

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run(name, *arguments):
    """Runs `main` of an example with these flags, which are forgotten afterwards."""
    with flagsaver.flagsaver():
        program = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)
        program["main"](flags.FLAGS([name, *arguments]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def teacher(folder):
    """`teacher.keras`, the file that several examples read, with two blocks of maps."""
    l2rkd_tf.models.convnet((8, 8, 1), 10, widths=(4, 8)).save(folder / "teacher.keras")


@pytest.fixture
def photos(folder):
    """`photos/split/class/*.png`: six pictures of two classes, three quarters to train on."""
    for split, number in (("train", 4), ("test", 2)):
        for label, name in enumerate(("dark", "light")):
            target = folder / "photos" / split / name
            target.mkdir(parents=True)
            for index in range(number):
                image = np.full((20, 24, 3), 60 + 130 * label + 5 * index, np.uint8)
                keras.utils.save_img(target / f"{index}.png", image, scale=False)


def accuracies(text):
    return [float(word) for word in re.findall(r"([\d.]+) ?%", text)]


def test_quickstart_prints_the_comparison_of_the_readme(folder, capsys):
    run("quickstart", "--teacher_epochs=1", "--steps=50", "--fraction=0.05")
    last = capsys.readouterr().out.splitlines()[-1]
    form = r"KD \d+\.\d % \| L2RKD \d+\.\d %"
    assert re.fullmatch(form, last)
    readme = (EXAMPLES.parent / "README.md").read_text()
    (promised,) = re.findall(f"`({form})`", readme)
    assert accuracies(promised)[0] < accuracies(promised)[1]


@pytest.mark.stress
def test_quickstart_finds_what_the_readme_says(folder, capsys):
    run("quickstart")
    found = accuracies(capsys.readouterr().out.splitlines()[-1])
    readme = (EXAMPLES.parent / "README.md").read_text()
    promised = accuracies(re.search(r"`(KD [\d.]+ % \| L2RKD [\d.]+ %)`", readme)[1])
    # Another machine adds floating-point numbers in another order.
    np.testing.assert_allclose(found, promised, atol=2)
    assert found[0] + 1 < found[1]


def test_a_teacher_goes_from_file_to_file(folder, capsys):
    """Trains a teacher, distills it and exports the student, by the three programs in turn."""
    run("train_teacher", "--epochs=1", "--widths=4,8")
    teacher = keras.models.load_model("teacher.keras")
    assert teacher.output_shape == (None, 10)
    run("distill", "--epochs=2", "--steps_per_epoch=3")
    student = keras.models.load_model("student.keras")
    assert student.count_params() == 5274
    capsys.readouterr()
    run("export_student", "--quantization=float16")
    size = (folder / "student.tflite").stat().st_size
    lines = capsys.readouterr().out.splitlines()
    assert f"student.tflite: {size:,} bytes" in lines
    test = l2rkd_tf.data.load("digits", "test", batch_size=256)
    labels = np.concatenate([labels for _, labels in test.as_numpy_iterator()])
    expected = 100 * np.mean(student.predict(test, verbose=0).argmax(axis=-1) == labels)
    (of_file,) = accuracies(lines[-1])
    assert of_file == pytest.approx(expected, abs=0.4)


def test_own_images(photos, folder, capsys):
    run("own_images", "--images=photos", "--image_size=16", "--teacher_epochs=2", "--steps=3")
    output = capsys.readouterr().out
    assert "8 training images of dark, light" in output
    assert f"student.tflite: {(folder / 'student.tflite').stat().st_size:,} bytes" in output


def test_own_images_takes_a_teacher_of_ones_own(photos, folder, capsys):
    l2rkd_tf.models.convnet((16, 16, 3), 2, widths=(4,)).save("own.keras")
    # A folder of classes, of which each has two images to train on.
    run(
        "own_images", "--images=photos/train", "--image_size=16", "--teacher=own.keras", "--steps=1"
    )
    output = capsys.readouterr().out
    assert "4 training images of dark, light" in output
    assert "Test accuracy of the student" in output


def test_feature_methods_are_terms_of_the_objective(teacher, capsys):
    names = ("fitnet", "attention_transfer", "dkd")
    run("feature_methods", *(f"--methods={name}" for name in names), "--at=both", "--steps=2")
    terms = re.findall(
        r"^(\w+_loss), before its weight: ([\d.e+-]+)$", capsys.readouterr().out, re.M
    )
    values = {name: float(value) for name, value in terms}
    added = {"attention_transfer_loss", "dkd_loss", "fit_net_loss"}
    assert set(values) == added | {"hard_loss", "kd_loss", "region_loss"}
    assert min(values.values()) > 0


def test_cached_teacher_is_run_once(teacher, folder, capsys):
    run("cached_teacher", "--steps=2", "--cache=outputs", "--points=2")
    files = sorted((folder / "outputs").rglob("*"))
    times = [path.stat().st_mtime_ns for path in files]
    run("cached_teacher", "--steps=2", "--cache=outputs", "--points=2")
    assert sorted((folder / "outputs").rglob("*")) == files
    assert times == [path.stat().st_mtime_ns for path in files]
    assert sorted(path.suffix for path in files if path.is_file()) == [
        ".json",
        *[".npy"] * 2,
        ".tfrecord",
    ]


def test_several_gpus_on_two_parts_of_the_cpu(teacher, capsys):
    run("several_gpus", "--cpu_devices=2", "--steps=2", "--batch_size=16")
    assert capsys.readouterr().out.splitlines()[0] == "2 replicas"


def test_keras_application_teacher(folder, capsys, monkeypatch):
    load = l2rkd_tf.data.load

    def load_few(name, split, **options):
        return load(name, f"{split}[:100]", **options)

    def two_layers(weights, include_top, pooling, input_tensor=None, input_shape=None):
        """In place of a MobileNet, which takes long to build; a page builds one."""
        image = keras.Input(input_shape) if input_tensor is None else input_tensor
        maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(image))
        inputs = image if input_tensor is None else keras.utils.get_source_inputs(image)
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(maps))

    monkeypatch.setattr(l2rkd_tf.data, "load", load_few)
    monkeypatch.setattr(keras.applications, "MobileNet", two_layers)
    run("keras_application_teacher", "--teacher_epochs=1", "--steps=1")
    teacher, student = re.findall(r"(\w+): ([\d,]+) parameters", capsys.readouterr().out)
    network = keras.applications.MobileNet(
        input_shape=(32, 32, 3), include_top=False, pooling="avg", weights=None
    )
    assert teacher == ("Teacher", f"{network.count_params() + 10 * (6 + 1):,}")
    assert student == ("Student", "5,274")


def outputs_of_file(path, inputs):
    """Outputs of a LiteRT file for a dict of inputs, or for its only input."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(str(path))
    named = inputs if isinstance(inputs, dict) else {"input_0": inputs}
    return interpreter.get_signature_runner()(**named)["output_0"]


@pytest.fixture
def exported(monkeypatch):
    """What an example exports: a list of the students."""
    students = []
    export_litert = l2rkd_tf.export.export_litert

    def export(student, *arguments, **options):
        students.append(student)
        return export_litert(student, *arguments, **options)

    monkeypatch.setattr(l2rkd_tf.export, "export_litert", export)
    return students


def test_table(folder, exported, capsys):
    run("table", "--members=1", "--teacher_epochs=1", "--steps=2")
    random = np.random.default_rng(0)
    rows = {
        "numbers": random.normal(size=(8, 8)).astype("float32"),
        "sex": random.integers(2, size=(8, 1), dtype="int32"),
        "decade": random.integers(8, size=(8, 1), dtype="int32"),
    }
    expected = exported[0].predict(rows, verbose=0)
    np.testing.assert_allclose(outputs_of_file("student.tflite", rows), expected, atol=1e-5)
    assert "Student: mean absolute error" in capsys.readouterr().out


def test_text(folder, exported, capsys):
    run("text", "--teacher_steps=2", "--steps=2")
    text = b"Diese Seite ist nicht da".ljust(48, b"\0")
    ids = np.frombuffer(text, np.uint8)[np.newaxis].astype("int32")
    expected = exported[0].predict(ids, verbose=0)
    found = outputs_of_file("student.tflite", ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(accuracies(capsys.readouterr().out)) == 3


def test_messages_of_the_text_example_are_in_one_part(folder):
    load = runpy.run_path(str(EXAMPLES / "text.py"), run_name="text")["load_messages"]
    with flagsaver.flagsaver():
        x, y, is_test = load()
    assert set(y) == set(range(10))
    assert 0.1 < is_test.mean() < 0.3
    rows = np.c_[x, y]
    parts = [{row.tobytes() for row in rows[mask]} for mask in (is_test, ~is_test)]
    assert parts[0].isdisjoint(parts[1])


def test_time_series(folder, exported, capsys):
    run("time_series", "--teacher_steps=2", "--steps=2")
    days = np.random.default_rng(0).normal(size=(8, 24, 1)).astype("float32")
    expected = exported[0].predict(days, verbose=0)
    found = outputs_of_file("student.tflite", days)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "Student: 794 parameters, test accuracy" in capsys.readouterr().out


def test_segmentation(folder, exported, capsys, monkeypatch):
    counts = {"train": 32, "validation": 16, "test": 16}
    monkeypatch.setattr(glyph_scenes, "NUM_EXAMPLES", counts)
    load = functools.partial(l2rkd_tf.data.load, data_dir=folder)
    monkeypatch.setattr(l2rkd_tf.data, "load", load)
    run("segmentation", "--teacher_steps=2", "--steps=2")
    scenes = next(iter(load("glyph_scenes", "test", batch_size=16)))[0].numpy()
    expected = exported[0].predict(scenes, verbose=0)
    found = outputs_of_file("student.tflite", scenes)
    assert found.shape == (16, 32, 32, 2)
    # Integers of 8 bits.
    assert np.abs(found - expected).max() < 0.15 * np.ptp(expected)
    assert "of the pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("quickstart", "--fraction=0", "fraction=0.0: must be above 0"),
        ("distill", "--teacher=none.keras", "run train_teacher.py first"),
        ("distill", "--temperature=-1", "must be above 0"),
        ("own_images", "--images=nowhere", "must be a folder"),
        ("export_student", "--student=none.keras", "run distill.py first"),
    ],
)
def test_wrong_flags_are_refused(name, argument, message, teacher):
    with pytest.raises(flags.Error, match=re.escape(message)):
        run(name, argument)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_is_short_and_stands_alone(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert 30 <= text.count("\n") <= 80
    assert f"python examples/{name}.py" in text.split('"""')[1]
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", text, re.M))
    assert not imported & {*PROGRAMS, "sys"}
    assert "l2rkd_tf" in imported
    assert not re.search(r"l2rkd_tf\.\w+ import|\bl2rkd_command\b|\._[a-z]", text)
    order = [match[1] for match in re.finditer(r"^def (\w+)", text, re.M)]
    assert order[0] == "main"
