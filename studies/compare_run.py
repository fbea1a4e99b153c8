"""One training run of `compare.py`, in a process of its own."""

import hashlib
import os

import corruptions
import keras
import numpy as np
import run_flags
import tensorflow as tf
import training

import studies
from l2rkd_tf import methods

_TEACHER_LEARNING_RATE = 4e-3
_CALIBRATION_STEPS = 100
_CORRUPTED_IMAGES = 1000  # the first of the test split


class TwoPasses(keras.Model):
    """A student that sees the halves of a training batch one after the other, for the ablation.

    Args:
        student: The student. Its weights are used, not copied.
        frozen: Whether the second half, that of the region points, is normalized by the
            statistics of inference.
    """

    def __init__(self, student, frozen):
        super().__init__()
        self.student, self.frozen = student, frozen

    def call(self, inputs, training=False):
        """Logits of the batch."""
        if not training:
            return self.student(inputs, training=False)
        half = keras.ops.shape(inputs)[0] // 2
        first = self.student(inputs[:half], training=True)
        second = self.student(inputs[half:], training=not self.frozen)
        return keras.ops.concatenate([first, second], axis=0)


def teacher_path(folder, study, network):
    """File of a teacher; runs of studies that share it also share the file."""
    widths = "x".join(map(str, network.widths))
    data = study.dataset.replace("/", "_")
    return os.path.join(
        folder, f"{data}_{widths}_{network.convs_per_block}_{study.teacher_steps}.keras"
    )


def train_teacher(job, study, folder):
    """Trains a teacher if its file is absent; returns what it is."""
    keras.backend.clear_session()
    network = study.pairs[job["pair"]].teacher
    path = teacher_path(folder, study, network)
    if not os.path.exists(path):
        model, *_ = training.train_teacher(
            study.dataset,
            widths=network.widths,
            convs_per_block=network.convs_per_block,
            batch_size=study.batch_size,
            steps_per_epoch=study.teacher_steps,
            epochs=1,
            learning_rate=_TEACHER_LEARNING_RATE,
            verbose=0,
        )
        os.makedirs(folder, exist_ok=True)
        model.save(f"{path}.partial.keras")
        os.replace(f"{path}.partial.keras", path)
    model = keras.models.load_model(path)
    weights = b"".join(weight.tobytes() for weight in model.get_weights())
    _, _, test = training.load_splits(study.dataset, study.batch_size)
    return {
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "parameters": model.count_params(),
        **judge(model, test, with_corruptions=True),
    }


def judge(model, split, with_corruptions):
    """Accuracy on a split in percent, and under corruptions of its images if asked for."""
    images, labels = (np.concatenate(part) for part in zip(*split.as_numpy_iterator(), strict=True))

    def accuracy(inputs, labels):
        """Mean over sets of images with the same labels."""
        logits = model.predict(np.concatenate(inputs), batch_size=1024, verbose=0)
        right = logits.argmax(axis=-1).reshape(len(inputs), -1) == labels
        return 100 * right.mean(axis=-1)

    found = {"accuracy": float(accuracy([images], labels)[0])}
    if with_corruptions:
        some = images[:_CORRUPTED_IMAGES]
        sets = [corrupt(some) for corrupt in corruptions.CORRUPTIONS.values()]
        each = iter(accuracy([image for one in sets for image in one], labels[: len(some)]))
        found["corrupted"] = {
            name: float(np.mean([next(each) for _ in one]))
            for name, one in zip(corruptions.CORRUPTIONS, sets, strict=True)
        }
    return found


def train_student(job, study, folder):
    """Trains one student; returns its accuracy, and how often both networks were asked.

    Args:
        job: Dict with the phase (`"validation"` or `"test"`), pair, method, fraction, length, seed
            and the chosen settings.
        study: `studies.Study`.
        folder: Where the teachers are.
    """
    keras.backend.clear_session()
    method = study.methods[job["method"]]
    chosen = {name: job[name] for name in method.choose}
    options = options_of(method, chosen)
    train, validation, test = _splits(study, job)
    student = _build(study.pairs[job["pair"]].student, train, job["seed"])
    trainee = _trainee(method, options, job, study, folder, student)
    steps = studies.steps_of(study, method, options, job["length"])
    training.fit(
        trainee,
        train,
        epochs=1,
        steps_per_epoch=steps,
        learning_rate=chosen.get("learning_rate", study.learning_rate),
        steps_per_execution=min(10, steps),
        verbose=0,
    )
    if method.batch_norm == "recalibrated":
        recalibrate(student, train)
    report = job["phase"] == "test"
    counts = count_points(train.num_examples, steps, study.batch_size, options)
    return judge(student, test if report else validation, with_corruptions=report) | counts


def recalibrate(student, dataset):
    """Estimates the statistics of BatchNorm anew, from training points alone."""
    norms = [
        layer for layer in student.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for norm in norms:
        norm.momentum = 0.9
    update = tf.function(lambda images: student(images, training=True), reduce_retracing=True)
    for images, _ in dataset.repeat().take(_CALIBRATION_STEPS):
        update(images)


def count_points(num_examples, steps, batch_size, options):
    """Points at which student and teacher were asked in a training run, exactly.

    Args:
        num_examples: Examples of a pass through the data; its last batch may be smaller.
        steps: Steps of the run.
        batch_size: Examples in a full batch.
        options: As for `studies.points_of_step`.
    """
    sizes = np.diff([*range(0, num_examples, batch_size), num_examples])
    whole, rest = divmod(steps, len(sizes))
    each = np.array([studies.points_of_step(size, options) for size in sizes])
    student, teacher = whole * each.sum(axis=0) + each[:rest].sum(axis=0)
    return {"steps": steps, "student_points": int(student), "teacher_points": int(teacher)}


def _splits(study, job):
    return training.load_splits(
        study.dataset, study.batch_size, fraction=job["fraction"], seed=job["seed"]
    )


def _build(network, dataset, seed):
    return training.build_network(dataset, network.widths, seed, network.convs_per_block)


def options_of(method, chosen):
    """Arguments of the distiller, `region` as a text or a region; `None` for labels alone."""
    if method.kind == "none":
        return None
    arguments = method.arguments | {n: v for n, v in chosen.items() if n in method.arguments}
    preset = {"kd": lambda: {"region_weight": 0.0}, "l2rkd": dict}.get(method.kind)
    preset = preset or getattr(methods, method.kind)
    return preset(**arguments) | studies.distiller_options(method, chosen)


def _trainee(method, options, job, study, folder, student):
    if options is None:
        return training.build_trainee("none", None, student)
    teacher = keras.models.load_model(teacher_path(folder, study, study.pairs[job["pair"]].teacher))
    if isinstance(options.get("region"), str):
        options = options | {"region": run_flags.parse_region(options["region"])}
    if method.batch_norm in ("two passes", "frozen in regions"):
        student = TwoPasses(student, frozen=method.batch_norm == "frozen in regions")
    kind = "kd" if method.kind == "kd" else "l2rkd"
    return training.build_trainee(kind, teacher, student, seed=job["seed"], **options)
