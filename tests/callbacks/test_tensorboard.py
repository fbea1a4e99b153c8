"""What TensorBoard finds of a run: read back from its files, and compared with the history."""

import glob
import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import figure
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from l2rkd_tf import L2RKDDistiller, callbacks, plots, regions
from l2rkd_tf.callbacks import events, schedules

OBJECTIVE = {"temperature", "hard_weight", "kd_weight", "region_weight"}


def network(width):
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(width, "relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def make_distiller(**kwargs):
    keras.utils.set_random_seed(0)
    steps = kwargs.pop("steps_per_execution", 1)
    distiller = L2RKDDistiller(network(8), network(5), seed=0, **kwargs)
    distiller.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.InverseTimeDecay(0.1, 4, 0.5)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
        run_eagerly=steps == 1,  # so small a run is over before a graph of it is traced
        jit_compile=False,
    )
    return distiller


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(16, 4)).astype("float32")
    return x, np.arange(16) % 3


def fit(distiller, *others, epochs=3, **kwargs):
    """History of 4 steps an epoch on the same batches in each."""
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(4)
    kwargs = {"validation_data": data(), "verbose": 0, "epochs": epochs} | kwargs
    return distiller.fit(dataset, callbacks=list(others), **kwargs).history


def scalars(folder):
    """`{tag: {step: value}}` of a run, by TensorBoard's own reader; no step may be there twice."""
    reader = event_accumulator.EventAccumulator(
        str(folder), size_guidance={event_accumulator.TENSORS: 0}, purge_orphaned_data=False
    )
    reader.Reload()
    curves = {}
    for tag in reader.Tags()["tensors"]:
        if reader.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            found = reader.Tensors(tag)
            curves[tag] = {event.step: tf.make_ndarray(event.tensor_proto) for event in found}
            assert len(curves[tag]) == len(found), tag
    return curves


def values(folder):
    """`(step, value)` of all summaries in the files of a folder, in their order."""
    return [
        (event.step, value)
        for path in sorted(glob.glob(os.path.join(folder, "*tfevents*")))
        for record in tf.data.TFRecordDataset(path)
        for event in [tf.compat.v1.Event.FromString(record.numpy())]
        for value in event.summary.value
    ]


def assert_curves(folder, history, **constant):
    """Holds files against a history, and against numbers that were the same in all epochs."""
    num_epochs = len(history["loss"])
    history = history | {name: [value] * num_epochs for name, value in constant.items()}
    expected = {"train": {}, "validation": {}}
    for name, logged in history.items():
        run = "validation" if name.startswith("val_") else "train"
        expected[run][f"epoch_{name.removeprefix('val_')}"] = logged
    for run, curves in expected.items():
        found = scalars(folder / run)
        assert set(found) == set(curves)
        for tag, logged in curves.items():
            assert list(found[tag]) == list(range(num_epochs)), tag
            np.testing.assert_array_equal(list(found[tag].values()), np.float32(logged), tag)


def test_curves_are_those_of_the_history(tmp_path):
    distiller = make_distiller(steps_per_execution=3, region=regions.Segment(radius=0.5))
    history = fit(
        distiller,
        callbacks.LossWeightScheduler(schedules.linear_warmup(0.8, epochs=4)),
        callbacks.RegionRadiusScheduler(schedules.cosine(1.0, 0.25, epochs=3)),
        callbacks.LocalShapeMonitor(data(), measure_freq=2),
        callbacks.DistillationTensorBoard(tmp_path),
    )
    assert {"kd_loss", "region_loss", "hard_loss", "val_hard_loss", "val_accuracy"} <= set(history)
    assert history["region_weight"] == [0.2, 0.4, pytest.approx(0.6)]
    assert history["region_radius"] == [1.0, 0.625, 0.25]
    rates = [0.1 / (1 + 0.5 * epoch) for epoch in (1, 2, 3)]
    history["learning_rate"] = rates
    found = scalars(tmp_path / "train")["epoch_learning_rate"]
    np.testing.assert_allclose(list(found.values()), rates, rtol=1e-6)
    history["learning_rate"] = list(found.values())
    assert_curves(tmp_path, history, temperature=4.0, hard_weight=0.1, kd_weight=0.9)
    assert {0.0, 0.5, 1.0} == {
        float(tag.removeprefix("epoch_fidelity_kl_"))
        for tag in scalars(tmp_path / "validation")
        if tag.startswith("epoch_fidelity_kl")
    }


def test_radii_of_a_mixture_are_numbered(tmp_path):
    region = regions.Mixture([regions.Segment(radius=0.5), regions.Ball(2.0)])
    fit(make_distiller(region=region), callbacks.DistillationTensorBoard(tmp_path), epochs=1)
    found = scalars(tmp_path / "train")
    radii = {tag: float(curve[0]) for tag, curve in found.items() if "radius" in tag}
    assert radii == {"epoch_region_radius_0": 0.5, "epoch_region_radius_1": 2.0}


def test_temperatures_of_outputs_are_named(tmp_path):
    inputs = keras.Input((4,))
    teacher, student = (
        keras.Model(inputs, {name: keras.layers.Dense(3)(inputs) for name in ("kind", "place")})
        for _ in range(2)
    )
    given = {"kind": 2.0, "place": 8.0}
    distiller = L2RKDDistiller(teacher, student, temperature=given, hard_weight=0.0, seed=0)
    distiller.compile("sgd", run_eagerly=True)
    board = callbacks.DistillationTensorBoard(tmp_path)
    distiller.fit(data()[0], callbacks=[board], verbose=0)
    found = scalars(tmp_path / "train")
    temperatures = {tag: float(curve[0]) for tag, curve in found.items() if "temperature" in tag}
    assert temperatures == {"epoch_kind_temperature": 2.0, "epoch_place_temperature": 8.0}


def test_a_plain_model_has_no_objective(tmp_path):
    model = network(3)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = fit(model, callbacks.DistillationTensorBoard(tmp_path, histogram_freq=1), epochs=2)
    tags = {value.tag for _, value in values(tmp_path / "train")}
    assert not {f"epoch_{name}" for name in OBJECTIVE} & tags
    assert any(tag.endswith("/histogram") for tag in tags)
    assert_curves(tmp_path, history, learning_rate=0.01)


def test_settings_are_texts_and_hyperparameters(tmp_path):
    config = {"region": "patch:grid=4", "widths": ["4", "8"], "odd": "a|b\nc"}
    hparams = {"temperature": 4.0, "epochs": 2, "method": "kd", "jit": True, "rate": np.float32(2)}
    board = callbacks.DistillationTensorBoard(tmp_path, config=config, hparams=hparams)
    fit(make_distiller(), board, epochs=2)
    (text_step, text), (hparams_step, session) = values(tmp_path)
    assert (text_step, text.tag) == (0, "configuration")
    assert text.metadata.plugin_data.plugin_name == "text"
    assert tf.make_ndarray(text.tensor).item().decode().splitlines() == [
        "| setting   | value        |",
        "|:----------|:-------------|",
        "| region    | patch:grid=4 |",
        "| widths    | ['4', '8']   |",
        r"| odd       | a\|b c       |",
    ]
    assert (hparams_step, session.tag) == (0, "_hparams_/session_start_info")
    content = plugin_data_pb2.HParamsPluginData.FromString(session.metadata.plugin_data.content)
    found = {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in content.session_start_info.hparams.items()
    }
    assert found == hparams


def test_figures_are_images_of_their_epochs(tmp_path):
    monitor = callbacks.LocalShapeMonitor(data(), measure_freq=2)
    drawn = []

    def decisions(distiller):
        drawn.append(distiller)
        models = {"teacher": distiller.get_teacher(), "student": distiller.student}
        return plots.decision_map(models, data()[0][:3], resolution=5)

    figures = {
        "fidelity_profile": lambda _: plots.fidelity_profiles(monitor.profile),
        "decision_map": decisions,
    }
    distiller = make_distiller()
    fit(
        distiller,
        monitor,
        callbacks.DistillationTensorBoard(tmp_path, figures=figures, figure_freq=2),
        epochs=3,
    )
    images = values(tmp_path)
    assert [(step, value.tag) for step, value in images] == [
        (step, name) for step in (0, 1, 2) for name in figures
    ]
    assert drawn == [distiller] * 3
    for _, value in images:
        assert value.metadata.plugin_data.plugin_name == "images"
        width, height, png = tf.make_ndarray(value.tensor)
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.shape == (int(height), int(width), 4)
        assert pixels.std() > 10.0


class Crash(keras.callbacks.Callback):
    """Ends a run before the backup of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


def test_a_resumed_run_leaves_the_files_of_an_uninterrupted_one(tmp_path):
    def run(folder, *crashes):
        board = callbacks.DistillationTensorBoard(
            folder / "board",
            config={"seed": 0},
            hparams={"seed": 0},
            figures={"nothing": lambda _: figure.Figure(figsize=(1, 1))},
        )
        backup = callbacks.TrainingBackup(folder / "backup", save_freq=2)
        return fit(make_distiller(), board, *crashes, backup, epochs=4)

    def read(folder):
        texts = [(step, value.tag) for step, value in values(folder / "board")]
        return [scalars(folder / "board" / name) for name in ("train", "validation")], texts

    history = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Crash(3))
    (path,) = glob.glob(str(tmp_path / "killed/board/train/*"))
    with open(path, "ab") as file:
        file.write(b"half a record")
    # Two epochs are on the board, but not backed up: they are trained again.
    assert list(scalars(tmp_path / "killed/board/train")["epoch_loss"]) == [0, 1, 2, 3]
    assert run(tmp_path / "killed") == history
    (whole, whole_own), (killed, own) = read(tmp_path / "whole"), read(tmp_path / "killed")
    assert whole == killed
    assert list(whole[0]["epoch_loss"]) == list(range(4))
    assert sorted(own) == sorted([*whole_own, (2, "configuration")])  # one for each start
    assert [tag for _, tag in own].count("_hparams_/session_start_info") == 1


def test_a_new_run_replaces_an_earlier_one(tmp_path):
    board = callbacks.DistillationTensorBoard(tmp_path, hparams={"a": 1})
    first = fit(make_distiller(), board, epochs=3)
    second = fit(make_distiller(kd_weight=0.5), board, epochs=2)
    found = scalars(tmp_path / "train")["epoch_loss"]
    np.testing.assert_array_equal(list(found.values()), np.float32(second["loss"]))
    assert first["loss"][:2] != second["loss"]
    assert [value.tag for _, value in values(tmp_path)] == ["_hparams_/session_start_info"]
    fit(make_distiller(), board, epochs=4, initial_epoch=2)
    assert list(scalars(tmp_path / "validation")["epoch_loss"]) == [0, 1, 2, 3]


def test_everything_is_on_the_disk_when_an_epoch_ends(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(list(scalars(tmp_path / "train")["epoch_loss"]))

    fit(make_distiller(), callbacks.DistillationTensorBoard(tmp_path), Look(), epochs=2)
    assert seen == [[0], [0, 1]]


def test_epochs_of_no_folder_are_none(tmp_path):
    assert events.drop_epochs(str(tmp_path / "missing"), 0) == 0
    assert not (tmp_path / "missing").exists()


def test_a_missing_tensorboard_is_told_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install l2rkd-tf\[tensorboard\]"):
        callbacks.DistillationTensorBoard("logs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_dir": ""}, "`log_dir` must be the path.*Received: log_dir=''"),
        ({"log_dir": 3}, "`log_dir` must be the path.*Received: log_dir=3"),
        (
            {"figure_freq": 0},
            "`figure_freq` must be an integer of at least 1. Received: figure_freq=0",
        ),
        ({"hparams": {"widths": [1]}}, r"`hparams` must be numbers.*Received: widths=\[1\]"),
        (
            {"figures": {"map": 3}},
            "`figures` must be a dict of names and functions.*Received: map=3",
        ),
        ({"update_freq": 5}, "`update_freq` must be 'epoch'.*Received: update_freq=5"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        callbacks.DistillationTensorBoard(**{"log_dir": "logs"} | arguments)
