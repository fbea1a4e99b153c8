"""The monitor of local shape."""

import csv
import glob

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, regions
from l2rkd_tf.callbacks import local_shape
from l2rkd_tf.callbacks.base import take_points
from l2rkd_tf.geometry import fidelity_profile
from tests.callbacks.helpers import HARD_ONLY, Along, data, make_distiller, train
from tests.references import losses as reference

# Local shape.


def numbers_in(file):
    with open(file) as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def test_monitor_logs_the_profile_of_the_current_student():
    distiller, (x, _) = make_distiller(), data(3, 40)
    region = regions.Segment(0.8)
    monitor = callbacks.LocalShapeMonitor(x, region, (0.0, 0.5, 1.0), seed=7)
    history = train(distiller, monitor, epochs=2)
    models = distiller.get_teacher(), distiller.student
    expected = fidelity_profile(*models, x, region, (0.0, 0.5, 1.0), seed=7)
    for index, fraction in enumerate(["0.0", "0.5", "1.0"]):
        for measure in ("kl", "agreement"):
            logged = history[f"val_fidelity_{measure}_{fraction}"]
            assert logged[-1] == pytest.approx(getattr(expected, measure)[index], rel=1e-5)
    assert len({*history["val_fidelity_kl_0.5"]}) == 2
    teacher, student = (model.predict(x, verbose=0) for model in models)
    at_examples = reference.kl(teacher, student).mean()
    assert history["val_fidelity_kl_0.0"][-1] == pytest.approx(at_examples, rel=1e-5)
    agreement = (teacher.argmax(-1) == student.argmax(-1)).mean()
    assert history["val_fidelity_agreement_0.0"][-1] == pytest.approx(agreement)
    assert monitor.profile.num_points == 40


def test_monitor_takes_token_ids():
    ids = np.random.default_rng(0).integers(0, 5, (8, 6)).astype("int32")

    def network():
        pooled = [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
        return keras.Sequential(
            [keras.Input((6,), dtype="int32"), keras.layers.Embedding(5, 4), *pooled]
        )

    distiller = L2RKDDistiller(network(), network(), seed=0)
    distiller.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    monitor = callbacks.LocalShapeMonitor(ids)  # the default region is Swap()
    history = distiller.fit(ids, np.arange(8) % 3, callbacks=[monitor], verbose=0).history
    assert history["val_fidelity_kl_0.0"][0] != history["val_fidelity_kl_1.0"][0]


def test_csv_logger_gets_monitored_values_which_repeat_between_measurements(tmp_path):
    x, _ = data(3, 20)
    monitor = callbacks.LocalShapeMonitor(x, regions.Segment(), measure_freq=3)
    file = str(tmp_path / "log.csv")
    history = train(make_distiller(), monitor, keras.callbacks.CSVLogger(file), epochs=8)
    rows = numbers_in(file)
    for name in ("val_fidelity_kl_0.5", "val_fidelity_agreement_1.0"):
        assert [row[name] for row in rows] == history[name]
    values = history["val_fidelity_kl_0.5"]
    changes = [epoch for epoch in range(1, 8) if values[epoch] != values[epoch - 1]]
    assert changes == [2, 5, 7]


def test_early_stopping_can_watch_monitored_values():
    monitor = callbacks.LocalShapeMonitor(data()[0], regions.Segment())
    stopping = keras.callbacks.EarlyStopping("val_fidelity_kl_1.0", patience=1, mode="min")
    history = train(make_distiller(rate=0.0), monitor, stopping, epochs=6)
    assert len(history["loss"]) == 2


def test_the_epoch_after_which_training_stops_is_measured():
    monitor = callbacks.LocalShapeMonitor(data()[0], regions.Segment(), measure_freq=50)
    stopping = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(monitor.model, "stop_training", epoch == 2)
    )
    values = train(make_distiller(), stopping, monitor, epochs=9)["val_fidelity_kl_1.0"]
    assert len(values) == 3 and values[0] == values[1] != values[2]


def test_every_fit_begins_with_a_measurement():
    distiller = make_distiller()
    monitor = callbacks.LocalShapeMonitor(data()[0], regions.Segment(), measure_freq=4)
    first = train(distiller, monitor, epochs=1)["val_fidelity_kl_1.0"]
    values = train(distiller, monitor, initial_epoch=1, epochs=6)["val_fidelity_kl_1.0"]
    changes = [i + 1 for i in range(1, 5) if values[i] != values[i - 1]]
    assert values[0] != first[0] and changes == [3, 5]


def test_without_a_region_the_monitor_takes_that_of_the_distiller(monkeypatch):
    asked = []
    monkeypatch.setattr(
        local_shape,
        "fidelity_profile",
        lambda *args, **options: asked.append(args[3]) or fidelity_profile(*args, **options),
    )
    segment = regions.Segment(0.3)
    train(make_distiller(region=segment), callbacks.LocalShapeMonitor(data()[0]))
    assert asked == [segment, segment]


def test_a_region_that_needs_labels_gets_them():
    monitor = callbacks.LocalShapeMonitor(data(), regions.Segment(partner="same_class"))
    history = train(make_distiller(), monitor, epochs=1)
    assert history["val_fidelity_kl_1.0"] != history["val_fidelity_kl_0.0"]


@pytest.mark.parametrize(
    ("divergence", "names"),
    [("mse", ["mse_0.5"]), ("binary_kl", ["agreement_0.5", "kl_0.5"])],
)
def test_names_of_other_divergences(divergence, names):
    distiller = make_distiller(
        divergence=divergence, **(HARD_ONLY | {"hard_weight": 0.0, "kd_weight": 1.0})
    )
    monitor = callbacks.LocalShapeMonitor(data()[0], regions.Segment(), fractions=[0.5])
    history = train(distiller, monitor, epochs=1)
    logged = sorted(name for name in history if "fidelity" in name)
    assert logged == [f"val_fidelity_{name}" for name in names]


def test_monitor_writes_the_profile_as_an_image(tmp_path):
    folder = tmp_path / "logs"
    monitor = callbacks.LocalShapeMonitor(
        data()[0], regions.Segment(), measure_freq=2, log_dir=folder
    )
    train(make_distiller(), monitor, epochs=4)
    (file,) = glob.glob(str(folder / "*tfevents*"))
    events = [
        tf.compat.v1.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(file)
    ]
    images = [(event.step, value) for event in events for value in event.summary.value]
    assert [step for step, _ in images] == [0, 1, 3]
    for _, value in images:
        assert value.tag == "fidelity_profile"
        assert value.metadata.plugin_data.plugin_name == "images"
        width, height, png = tf.make_ndarray(value.tensor)
        assert (width, height) == (b"1350", b"555")
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.shape == (555, 1350, 4)
        assert pixels.std() > 10.0


# Points.


def test_points_of_arrays_are_a_subset_and_keep_their_labels():
    x = np.arange(50.0)
    inputs, labels = take_points(({"a": x[:, None], "b": -x[:, None]}, 2 * x), 9, seed=1)
    assert sorted({*inputs["a"][:, 0]}) == list(inputs["a"][:, 0]) and len(inputs["a"]) == 9
    np.testing.assert_array_equal(inputs["b"], -inputs["a"])
    np.testing.assert_array_equal(labels, 2 * inputs["a"][:, 0])
    other, _ = take_points(({"a": x[:, None]}, x), 9, seed=2)
    assert not np.array_equal(other["a"], inputs["a"])


@pytest.mark.parametrize("kind", ["inputs", "labels", "weights"])
def test_points_of_a_dataset_are_its_first_ones(kind):
    x = np.arange(20)
    parts = {"inputs": x, "labels": (x, -x), "weights": (x, -x, x)}[kind]
    dataset = tf.data.Dataset.from_tensor_slices(parts).batch(4).repeat()
    inputs, labels = take_points(dataset, 6, seed=0)
    assert inputs.tolist() == [0, 1, 2, 3, 4, 5]
    assert labels is None if kind == "inputs" else labels.tolist() == [0, -1, -2, -3, -4, -5]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 4)),
        3.0,
        (np.zeros((3, 4)), np.zeros(2)),
        tf.data.Dataset.from_tensor_slices(np.zeros((0, 4))).batch(2),
    ],
    ids=["empty", "number", "lengths", "dataset"],
)
def test_data_without_points(bad):
    with pytest.raises(ValueError, match="`data` must (hold|be arrays)"):
        train(make_distiller(), callbacks.LocalShapeMonitor(bad, regions.Segment()))


def test_data_of_single_examples():
    single = tf.data.Dataset.from_tensor_slices(data())
    with pytest.raises(ValueError, match=r"`data` must be a batched dataset.*`data.batch"):
        train(make_distiller(), callbacks.LocalShapeMonitor(single, regions.Segment()))


def late_search(points, region):
    return callbacks.BlindRegionSearch([regions.Segment(), region], points, start_epoch=1)


@pytest.mark.covering
@pytest.mark.parametrize("make", [callbacks.LocalShapeMonitor, late_search])
@pytest.mark.parametrize(
    ("points", "region", "message"),
    [
        (data()[0], regions.Patch(), "needs images"),
        (data()[0], regions.Segment(partner="same_class"), "needs labels"),
        (data()[0].astype("int32"), regions.Segment(), "must be floating-point"),
        (data()[0][:, :3], regions.Segment(), "to have value 4"),
    ],
    ids=["images", "labels", "integers", "features"],
)
def test_what_cannot_be_measured_fails_before_training(make, points, region, message):
    distiller = make_distiller()
    with pytest.raises(ValueError, match=message):
        train(distiller, make(points, region))
    assert distiller.optimizer.iterations == 0


def test_a_region_without_a_boundary_fails_before_training():
    distiller = make_distiller(region=Along(0))
    with pytest.raises(NotImplementedError, match="Along must implement `at_fraction"):
        train(distiller, callbacks.LocalShapeMonitor(data()[0]))
    assert distiller.optimizer.iterations == 0
