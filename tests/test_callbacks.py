"""Callbacks through `fit`: schedules, checkpoints of the student, local shape, blind regions."""

import csv
import glob
import os
import pickle
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2rkd_tf import L2RKDDistiller, callbacks, methods, regions
from l2rkd_tf.callbacks import local_shape, schedules
from l2rkd_tf.callbacks.base import take_points
from l2rkd_tf.geometry import fidelity_profile
from tests import reference_losses as reference

EXAMPLES, FEATURES, CLASSES, RATE = 6, 4, 3, 0.5
NUMBERS = {
    "hard_weight": 0.3,
    "kd_weight": 0.7,
    "region_weight": 1.3,
    "temperature": 3.0,
    "region_radius": 0.5,
}
HARD_ONLY = {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0}


class Towards(regions.Region):
    """Every example goes `radius` of the way to the one before it: nothing is drawn."""

    def draw(self, inputs, seed, labels=None):
        return self.radius_variable.read_value()

    def apply(self, tensor, coefficients):
        return tensor + coefficients * (tf.roll(tensor, 1, axis=0) - tensor)


class Along(regions.Region):
    """Every example moves by `radius` along one axis: nothing is drawn."""

    interpolates_targets = False

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def draw(self, inputs, seed, labels=None):
        return self.radius_variable * tf.one_hot(self.axis, inputs.shape[-1])

    def apply(self, tensor, coefficients):
        return tensor + coefficients


class CountedDense(keras.layers.Dense):
    """Counts how often it is called, or traced."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return super().call(inputs)


def data(seed=0, count=EXAMPLES):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, count)


def linear(weights, layer=keras.layers.Dense):
    model = keras.Sequential([keras.Input((len(weights[0]),)), layer(len(weights[1]))])
    model.set_weights(weights)
    return model


def random_weights(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(FEATURES, CLASSES)), rng.normal(size=CLASSES)]


def make_distiller(
    rate=RATE, layer=keras.layers.Dense, metrics=None, run_eagerly=True, **arguments
):
    """A distiller of linear models, for `train`; eager, which small tests do faster than trace."""
    arguments = {"region": Towards(NUMBERS["region_radius"]), "seed": 0} | arguments
    numbers = {name: value for name, value in NUMBERS.items() if name != "region_radius"}
    distiller = L2RKDDistiller(
        linear(random_weights(1)), linear(random_weights(2), layer), **(numbers | arguments)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(rate), loss, metrics=metrics, run_eagerly=run_eagerly)
    return distiller


def train(distiller, *callback, epochs=2, batch_size=EXAMPLES, **options):
    x, y = data()
    options = {"shuffle": False, "verbose": 0} | options
    return distiller.fit(
        x, y, batch_size=batch_size, epochs=epochs, callbacks=[*callback], **options
    ).history


def hand_run(epochs):
    """Kernel and bias of the student after one SGD step for each dict of numbers, in float64."""
    x, y = data()
    x = x.astype("float64")
    (teacher_kernel, teacher_bias), (kernel, bias) = random_weights(1), random_weights(2)
    for number in epochs:
        near = x + number["region_radius"] * (np.roll(x, 1, axis=0) - x)

        def of_kl(points, student=(kernel, bias), temperature=number["temperature"]):
            return reference.kl_gradient(
                points @ teacher_kernel + teacher_bias,
                points @ student[0] + student[1],
                temperature,
            )

        terms = [
            (number["hard_weight"], x, reference.softmax(x @ kernel + bias) - np.eye(CLASSES)[y]),
            (number["kd_weight"], x, of_kl(x)),
            (number["region_weight"], near, of_kl(near)),
        ]
        steps = [RATE * weight / EXAMPLES * of_logits for weight, _, of_logits in terms]
        kernel = kernel - sum(points.T @ s for (_, points, _), s in zip(terms, steps, strict=True))
        bias = bias - sum(step.sum(axis=0) for step in steps)
    return kernel, bias


class TrainFunctions(keras.callbacks.Callback):
    """Keeps the training function of every epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(self.model.train_function)


# Schedulers.


def scheduler_of(name, schedule):
    if name == "temperature":
        return callbacks.TemperatureScheduler(schedule)
    if name == "region_radius":
        return callbacks.RegionRadiusScheduler(schedule)
    return callbacks.LossWeightScheduler(schedule, name)


@pytest.mark.parametrize("name", NUMBERS)
def test_scheduled_numbers_train_as_by_hand_in_one_trace(name):
    values = [0.25, 0.9, 0.6]
    distiller = make_distiller(layer=CountedDense, run_eagerly=False)
    train(distiller, epochs=1, batch_size=EXAMPLES)
    distiller.student.set_weights(random_weights(2))
    traced, before = distiller.student.layers[-1].calls, distiller.train_function
    history = train(distiller, scheduler_of(name, values.__getitem__), epochs=3)
    expected = hand_run([NUMBERS | {name: value} for value in values])
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)
    assert history[name] == values
    assert distiller.train_function is before
    assert distiller.student.layers[-1].calls == traced


def test_a_weight_that_stops_being_zero_is_traced_again_once():
    distiller, functions = make_distiller(run_eagerly=False), TrainFunctions()
    scheduler = callbacks.LossWeightScheduler(schedules.start_at(1, NUMBERS["region_weight"]))
    history = train(distiller, scheduler, functions, epochs=3)
    first, second, third = functions.seen
    assert first is not second and second is third
    assert history["region_weight"] == [0.0, 1.3, 1.3]
    assert history["region_loss"][0] == 0.0 and min(history["region_loss"][1:]) > 0.0
    expected = hand_run([NUMBERS | {"region_weight": 0.0}, NUMBERS, NUMBERS])
    for actual, wanted in zip(distiller.student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=0.0, atol=2e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda epoch, value: value / 2, [1.5, 0.75]),
        (lambda epoch, scale=2.0: scale * (epoch + 1), [2.0, 4.0]),
        (keras.optimizers.schedules.ExponentialDecay(4.0, 1, 0.5), [4.0, 2.0]),
        (lambda epoch: np.float32(0.5), [0.5, 0.5]),
        (lambda epoch: 1 + epoch, [1.0, 2.0]),
    ],
    ids=["epoch and value", "default", "keras", "numpy", "integer"],
)
def test_kinds_of_schedules(schedule, expected):
    scheduler = callbacks.TemperatureScheduler(schedule)
    assert train(make_distiller(), scheduler)["temperature"] == expected


def test_a_resumed_run_goes_on_with_its_epoch():
    asked = []
    scheduler = callbacks.TemperatureScheduler(lambda epoch: asked.append(epoch) or 1.0 + epoch)
    history = train(make_distiller(), scheduler, initial_epoch=3, epochs=5)
    assert asked == [3, 4]
    assert history["temperature"] == [4.0, 5.0]


def test_an_error_inside_a_schedule_is_not_hidden():
    def schedule(epoch):
        raise TypeError("inside")

    with pytest.raises(TypeError, match="inside"):
        train(make_distiller(), callbacks.TemperatureScheduler(schedule))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("region_weight", -1.0, "Received: -1.0 for epoch 1 .*`region_weight` must be"),
        ("hard_weight", float("nan"), "Received: nan for epoch 1 .*`hard_weight` must be"),
        ("temperature", 0.0, "Received: 0.0 for epoch 1 .*`temperature` must be"),
        ("temperature", None, "give a temperature.*Received: None for epoch 1 .*one number"),
        ("temperature", [1.0], "Received: .1.0. for epoch 1 .*one number"),
        ("region_radius", 1.5, "give a region_radius.*Received: 1.5 for epoch 1 .*at most 1"),
    ],
)
def test_a_wrong_value_names_number_and_epoch(name, value, message):
    scheduler = scheduler_of(name, lambda epoch: 0.5 if epoch == 0 else value)
    with pytest.raises(ValueError, match=f"`schedule` must.*{message}"):
        train(make_distiller(), scheduler)


def test_a_radius_needs_a_region_that_has_one():
    distiller = make_distiller(region=regions.Mixture([regions.Segment()]))
    scheduler = callbacks.RegionRadiusScheduler(schedules.cosine(0.1, 1.0, 2))
    with pytest.raises(ValueError, match="`region` must have one radius.*Received: region=Mixture"):
        train(distiller, scheduler)


def test_a_radius_needs_a_region_that_is_known():
    unbuilt = keras.Sequential([keras.layers.Dense(CLASSES)])
    distiller = L2RKDDistiller(linear(random_weights(1)), unbuilt, hard_weight=0)
    distiller.compile("sgd")
    scheduler = callbacks.RegionRadiusScheduler(schedules.cosine(0.1, 1.0, 2))
    with pytest.raises(ValueError, match="`region` must be given.*Received: region=None"):
        train(distiller, scheduler)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.linear_warmup(2.0, 4), [0.5, 1.0, 1.5, 2.0, 2.0]),
        (schedules.linear_warmup(1.0, 2, start_epoch=2), [0.0, 0.0, 0.5, 1.0, 1.0]),
        (schedules.start_at(3, 0.7), [0.0, 0.0, 0.0, 0.7, 0.7]),
        (schedules.start_at(0, 1), [1.0] * 5),
        (schedules.cosine(1.0, 0.0, 5), [1.0, 0.5 + 0.125**0.5, 0.5, 0.5 - 0.125**0.5, 0.0]),
        (schedules.cosine(1.0, 3.0, 3), [1.0, 2.0, 3.0, 3.0, 3.0]),
        (schedules.cosine(1.0, 3.0, 1), [1.0, 3.0, 3.0, 3.0, 3.0]),
    ],
)
def test_values_of_schedules_also_after_pickling(schedule, expected):
    for function in (schedule, pickle.loads(pickle.dumps(schedule))):
        np.testing.assert_allclose([function(e) for e in range(5)], expected, atol=1e-15)


# Checkpoints.

# Name of the files, options, and how many files six epochs of three batches leave.
CHECKPOINTS = [
    ("{epoch:02d}-{val_loss:.2f}.keras", {}, 6),
    ("{epoch:02d}-{val_accuracy:.3f}.weights.h5", {"save_weights_only": True}, 6),
    ("{epoch}.keras", {"save_best_only": True}, 4),
    ("{epoch}.keras", {"save_best_only": True, "monitor": "val_accuracy"}, 4),
    ("{epoch}.keras", {"save_best_only": True, "monitor": "val_loss", "mode": "max"}, 1),
    ("{epoch}.keras", {"save_best_only": True, "initial_value_threshold": 1.0}, 2),
    ("{epoch}-{batch}.keras", {"save_freq": 2}, 9),
    ("{epoch}-{batch}-{loss:.3f}.weights.h5", {"save_freq": 5, "save_weights_only": True}, 3),
]


@pytest.fixture(scope="module")
def checkpoint_folders(tmp_path_factory):
    """Folders of a distiller that trains on labels alone, and of its student without one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("distiller", "student")]
    kinds = [callbacks.StudentCheckpoint, keras.callbacks.ModelCheckpoint]
    distiller = make_distiller(**HARD_ONLY)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for folder, kind, model in zip(folders, kinds, [distiller, distiller.student], strict=True):
        distiller.student.set_weights(random_weights(2))
        model.compile(keras.optimizers.SGD(9.0), loss, metrics=["accuracy"], run_eagerly=True)
        checkpoints = []
        for number, (name, options, _) in enumerate(CHECKPOINTS):
            (folder / str(number)).mkdir()
            checkpoints.append(kind(folder / str(number) / name, **options))
        # Up and down, so that not every epoch is better than the one before.
        rates = keras.callbacks.LearningRateScheduler([-0.1, 0.5, -0.5, 2.0, 0.5, -0.1].__getitem__)
        callback = [rates, *checkpoints]
        train(model, *callback, batch_size=2, epochs=6, validation_data=data())
    return folders


@pytest.mark.parametrize("number", range(len(CHECKPOINTS)))
def test_checkpoints_are_those_of_keras_for_the_student(checkpoint_folders, number):
    folders = [folder / str(number) for folder in checkpoint_folders]
    files, expected = (sorted(os.listdir(folder)) for folder in folders)
    assert files == expected and len(files) == CHECKPOINTS[number][2]
    for file in files:
        weights = []
        for folder in folders:
            if file.endswith(".keras"):
                model = keras.models.load_model(folder / file, compile=False)
            else:
                model = linear(random_weights(9))
                model.load_weights(folder / file)
            weights.append(model.get_weights())
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_checkpoint_holds_the_student_and_nothing_else(tmp_path):
    teacher, student = (
        keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(width, "relu", name=f"{name}_hidden"),
                keras.layers.Dense(CLASSES, name=f"{name}_outputs"),
            ]
        )
        for name, width in (("teacher", 7), ("student", 5))
    )
    distiller = L2RKDDistiller(
        teacher,
        student,
        hard_weight=0,
        distillation_losses=methods.FitNet("teacher_hidden", "student_hidden"),
    )
    distiller.compile("adam")
    x, _ = data()
    path = tmp_path / "new" / "student.keras"
    checkpoint = callbacks.StudentCheckpoint(path, monitor="loss", save_best_only=True)
    distiller.fit(x, callbacks=[checkpoint], verbose=0)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), student.predict(x, verbose=0))
    assert [v.shape for v in loaded.variables] == [v.shape for v in student.variables]
    config = zipfile.ZipFile(path).read("config.json").decode()
    assert "student_hidden" in config and "teacher" not in config and "l2rkd" not in config


# Local shape.


def numbers_in(file):
    with open(file) as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def test_monitor_logs_the_profile_of_the_student_as_it_is():
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


def test_csv_logger_sees_the_monitor_and_values_are_repeated_between(tmp_path):
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


def test_early_stopping_sees_the_monitor():
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
def test_points_of_a_data_set_are_its_first_ones(kind):
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
    ids=["empty", "number", "lengths", "data set"],
)
def test_data_without_points(bad):
    with pytest.raises(ValueError, match="`data` must hold"):
        train(make_distiller(), callbacks.LocalShapeMonitor(bad, regions.Segment()))


def test_data_of_single_examples():
    single = tf.data.Dataset.from_tensor_slices(data())
    with pytest.raises(ValueError, match=r"`data` must be a data set of batches.*`data.batch"):
        train(make_distiller(), callbacks.LocalShapeMonitor(single, regions.Segment()))


def late_search(points, region):
    return callbacks.BlindRegionSearch([regions.Segment(), region], points, start_epoch=1)


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


def test_a_region_without_an_edge_fails_before_training():
    distiller = make_distiller(region=Along(0))
    with pytest.raises(NotImplementedError, match="Along must implement `at_fraction"):
        train(distiller, callbacks.LocalShapeMonitor(data()[0]))
    assert distiller.optimizer.iterations == 0


# Blind regions.


def planted(rate=0.0, **arguments):
    """Teacher and student that differ along feature 1 alone, at points where it is 0."""
    kernel, bias = random_weights(1)
    blind = kernel.copy()
    blind[1] = 0.0
    distiller = make_distiller(rate=rate, **({"region": Along(3)} | arguments))
    distiller.student.set_weights([blind, bias])
    x, _ = data(4, 30)
    x[:, 1] = 0.0
    return distiller, x, kernel, blind, bias


def test_search_finds_the_planted_blind_region():
    distiller, x, kernel, blind, bias = planted()
    candidates = [Along(0), Along(1), Along(2)]
    search = callbacks.BlindRegionSearch(candidates, x)
    history = train(distiller, search, epochs=1)
    moved = x + np.eye(FEATURES)[1]
    expected = reference.kl(moved @ kernel + bias, moved @ blind + bias).mean()
    np.testing.assert_allclose(search.divergences, [0.0, expected, 0.0], rtol=1e-5, atol=1e-9)
    assert distiller.region is candidates[1]
    assert history["blind_region"] == [1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 1, 0, 0, 0]),
        ({"every": 3}, [1, 1, 1, 0, 0]),
        ({"start_epoch": 1, "every": 2}, [-1, 1, 1, 0, 0]),
        ({"start_epoch": 9}, [-1] * 5),
    ],
)
def test_search_follows_the_student_and_traces_anew_only_for_another_region(options, expected):
    distiller, x, kernel, _, bias = planted()
    blind_to_0 = kernel.copy()
    blind_to_0[0] = 0.0
    x[:, 0] = 0.0
    functions = TrainFunctions()
    change = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            distiller.student.set_weights([blind_to_0, bias]) if epoch == 1 else None
        )
    )
    search = callbacks.BlindRegionSearch([Along(0), Along(1)], x, **options)
    history = train(distiller, search, functions, change, epochs=5)
    assert history["blind_region"] == expected
    for epoch in range(1, 5):
        anew = functions.seen[epoch] is not functions.seen[epoch - 1]
        assert anew == (expected[epoch] != expected[epoch - 1])


def test_a_resumed_search_begins_at_once():
    distiller, x, *_ = planted()
    search = callbacks.BlindRegionSearch([Along(0), Along(1)], x, search_freq=4)
    assert train(distiller, search, initial_epoch=5, epochs=7)["blind_region"] == [1, 1]


def test_the_region_that_was_found_is_trained_in():
    distiller, x, *_ = planted(rate=0.5)
    train(distiller, callbacks.BlindRegionSearch([Along(0), Along(1)], x), epochs=1)
    other, *_ = planted(rate=0.5, region=Along(1))
    train(other, epochs=1)
    for one, wanted in zip(
        distiller.student.get_weights(), other.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, wanted)


def test_search_draws_points_batch_by_batch_and_reports(capsys):
    # Teacher and student differ in proportion to the inputs, of which two balls have two sizes.
    kernel, bias = random_weights(1)
    distiller = make_distiller(
        divergence="mse", **(HARD_ONLY | {"hard_weight": 0.0, "kd_weight": 1.0})
    )
    distiller.student.set_weights([np.zeros_like(kernel), bias])
    candidates = [regions.Ball(radius, "gaussian") for radius in (2.0, 3.0)]
    x = np.zeros((3000, FEATURES), "float32")
    search = callbacks.BlindRegionSearch(candidates, x, max_points=2000, verbose=1)
    train(distiller, search, epochs=1)
    expected = np.array([4.0, 9.0]) * (kernel**2).sum(axis=0).mean()
    np.testing.assert_allclose(search.divergences, expected, rtol=0.1)
    assert "Epoch 1: blind region 1 of divergences" in capsys.readouterr().out


# Wrong use.


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: callbacks.LossWeightScheduler(0.5), "schedule"),
        (lambda: callbacks.LossWeightScheduler(lambda: 1.0), "schedule"),
        (lambda: callbacks.TemperatureScheduler(lambda a, b, c: 1.0), "schedule"),
        (lambda: callbacks.LossWeightScheduler(lambda e: 1.0, "temperature"), "weight"),
        (lambda: schedules.linear_warmup(-1.0, 2), "value"),
        (lambda: schedules.linear_warmup(1.0, 0), "epochs"),
        (lambda: schedules.linear_warmup(1.0, 2, -1), "start_epoch"),
        (lambda: schedules.start_at(1.5, 1.0), "epoch"),
        (lambda: schedules.start_at(1, "1"), "value"),
        (lambda: schedules.cosine(float("inf"), 0.0, 3), "start"),
        (lambda: schedules.cosine(1.0, None, 3), "end"),
        (lambda: schedules.cosine(1.0, 0.0, 2.5), "epochs"),
        (lambda: callbacks.LocalShapeMonitor([], region="segment"), "region"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=()), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=(0.0, 1.5)), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions=(0.5, 0.5)), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], fractions="0.5"), "fractions"),
        (lambda: callbacks.LocalShapeMonitor([], measure_freq=0), "measure_freq"),
        (lambda: callbacks.LocalShapeMonitor([], max_points=0), "max_points"),
        (lambda: callbacks.LocalShapeMonitor([], seed=-1), "seed"),
        (lambda: callbacks.BlindRegionSearch([], []), "regions"),
        (lambda: callbacks.BlindRegionSearch(Towards(), []), "regions"),
        (lambda: callbacks.BlindRegionSearch([Towards()], [], search_freq=True), "search_freq"),
        (lambda: callbacks.BlindRegionSearch([Towards()], [], start_epoch=-1), "start_epoch"),
    ],
)
def test_wrong_arguments_are_named(make, argument):
    with pytest.raises(ValueError, match=f"^`{argument}` .*Received: "):
        make()


@pytest.mark.parametrize(("name", "weights_only"), [("student", False), ("student.keras", True)])
def test_a_file_name_that_does_not_fit(name, weights_only):
    with pytest.raises(ValueError, match=f"filepath={name}"):
        callbacks.StudentCheckpoint(name, save_weights_only=weights_only)


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.LossWeightScheduler(schedules.start_at(0, 1.0)),
        callbacks.TemperatureScheduler(schedules.start_at(0, 1.0)),
        callbacks.RegionRadiusScheduler(schedules.start_at(0, 1.0)),
        callbacks.StudentCheckpoint("student.keras"),
        callbacks.LocalShapeMonitor(np.zeros((3, FEATURES))),
        callbacks.BlindRegionSearch([regions.Segment()], np.zeros((3, FEATURES))),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_are_for_distillers(callback):
    model = linear(random_weights(1))
    model.compile("sgd", "mse")
    name = type(callback).__name__
    with pytest.raises(ValueError, match=f"`callbacks` may hold a {name} .* of type Sequential"):
        model.fit(*data(), callbacks=[callback], verbose=0)


def test_candidates_must_suit_interpolated_targets():
    distiller = make_distiller(region_targets="interpolated")
    search = callbacks.BlindRegionSearch([regions.Segment(), regions.Ball(0.1)], data()[0])
    with pytest.raises(ValueError, match=r"`regions` must .*Received: \[Ball"):
        train(distiller, search)
