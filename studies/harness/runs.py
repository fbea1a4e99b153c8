"""One training run of a study, in a process of its own."""

import os
import time

import keras

import l2rkd_tf
from l2rkd_tf import methods, teacher_cache
from l2rkd_tf.cli.common import optimizers, parsing, training
from l2rkd_tf.utils import files
from studies.harness import batch_norm, definitions, measures, points, tasks, variants


def teacher_path(folder, study, job):
    """File of a teacher; runs of studies that share it also share the file."""
    dataset, network = study.dataset_of(job["pair"]), study.pairs[job["pair"]].teacher
    words = [
        dataset.replace("/", "_"), network.label, study.teacher_steps,
        f"of{study.teacher_batch_size}", study.teacher_learning_rate,
    ]  # fmt: skip
    words += [study.teacher_augment] if study.teacher_augment else []
    words += [f"{key}{job[key]:.6g}" for key in study.teacher_keys]
    return os.path.join(folder, "_".join(map(str, words)) + ".keras")


def _begin(seed):
    """Sets all seeds, so that a run does not depend on the runs before it in its process."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def train_teacher(job, study, folder):
    """Trains a teacher if its file is absent; returns what is measured of it."""
    task, seed = tasks.get(study.dataset_of(job["pair"])), job["seed"]
    _begin(seed)
    path = teacher_path(folder, study, job)
    if not os.path.exists(path):
        network = study.pairs[job["pair"]].teacher
        model = task.train_teacher(study, network, seed, job.get("fraction", 1.0))
        with files.atomic_path(path) as temporary:
            model.save(temporary)
    model = keras.models.load_model(path)
    _, _, test = task.load(study.batch_size, seed=seed)
    names = [name for name in study.measures if name != "local_shape"]
    return {
        "weights_sha256": measures.weights_digest(model),
        "parameters": model.count_params(),
        **task.measure(model, test, names),
    }


def load_teacher(job, study, folder):
    """The trained teacher of a job."""
    return keras.models.load_model(teacher_path(folder, study, job))


def train_student(job, study, folder):
    """Trains one student; returns what is measured of it, and what training took.

    Args:
        job: Dict with the phase (`"validation"` or `"test"`), pair, method, fraction, length, seed
            and the chosen settings.
        study: `definitions.Study`.
        folder: Directory of the teachers.
    """
    _begin(job["seed"])
    method = study.methods[job["method"]]
    chosen = {name: job[name] for name in study.methods[study.tuned_by(job["method"])].choose}
    task = tasks.get(study.dataset_of(job["pair"]))
    train, validation, test = task.load(
        study.batch_size, job["fraction"], job["seed"], method.augment
    )
    student = task.build(study.pairs[job["pair"]].student, job["seed"])
    options = options_of(method, chosen)
    teacher = None if options is None else load_teacher(job, study, folder)
    trainee = build_trainee(method, options, teacher, student, job["seed"])
    steps = points.steps_of(study, trainee, job["length"])
    used = points.count_points(train.num_examples, steps, study.batch_size, trainee)
    if method.kind == "asked_once":
        each = method.arguments["points_per_example"]
        train = teacher_cache.cache_regions(
            getattr(train, "dataset", train),
            teacher,
            trainee.region,
            each,
            seed=job["seed"],
            verbose=False,
        )
        used["teacher_points"] = train.num_examples * (1 + each)
    training.fit(
        trainee,
        train,
        epochs=1,
        steps_per_epoch=steps,
        learning_rate=chosen.get("learning_rate", study.learning_rate),
        steps_per_execution=min(10, steps),
        callbacks=variants.callbacks(method.variant, steps),
        verbose=0,
    )
    if method.batch_norm == "recalibrated":
        batch_norm.recalibrate(student, train)
    if job["phase"] == "test":
        if "local_shape" in study.measures:
            teacher = teacher or load_teacher(job, study, folder)
        found = task.measure(student, test, study.measures, teacher)
    else:
        found = task.measure(student, validation)
    return found | used


def options_of(method, chosen):
    """Arguments of the distiller, or `None` where the student is trained on labels only."""
    if method.kind == "none" and not method.distillation_loss:
        return None
    arguments = method.arguments | {n: v for n, v in chosen.items() if n in method.arguments}
    presets = {
        "none": dict,
        "kd": lambda: {"region_weight": 0.0},
        "l2rkd": dict,
        "asked_once": lambda points_per_example: {},  # `train_student` makes them
    }
    options = presets.get(method.kind) or getattr(methods, method.kind)
    options = options(**arguments) | method.options
    names = set(method.arguments) | {"learning_rate"}
    options |= {name: value for name, value in chosen.items() if name not in names}
    if isinstance(options.get("region"), str):
        options["region"] = parsing.parse_region(options["region"])
    if method.distillation_loss:
        loss = methods.METHODS[method.distillation_loss]
        options["distillation_losses"] = loss(**method.distillation_loss_arguments)
    return options


def build_trainee(method, options, teacher, student, seed):
    """What is fitted: a distiller, or the student's layers where `options` is `None`."""
    if options is None:
        return training.build_trainee("none", None, student)
    kind = method.kind if method.kind in ("none", "kd") else "l2rkd"
    options = variants.changed(options, method.variant, teacher, student)
    student = batch_norm.wrap(student, method.batch_norm)
    return training.build_trainee(kind, teacher, student, seed=seed, **options)


def rank_regions(job, study, folder):
    """Ranks the regions of `study.ranked`, best first, as a user would who has no more labels.

    Short trainings of the student at the study's initial rate, judged at the validation images.
    """
    _begin(job["seed"])
    task = tasks.get(study.dataset_of(job["pair"]))
    train, validation, _ = task.load(study.batch_size, job["fraction"], job["seed"])
    candidates = {
        name: parsing.parse_region(study.methods[name].options["region"]) for name in study.ranked
    }
    begun = time.perf_counter()
    ranked = l2rkd_tf.rank_regions(
        load_teacher(job, study, folder),
        task.build(study.pairs[job["pair"]].student, job["seed"]),
        getattr(train, "dataset", train),
        getattr(validation, "dataset", validation),
        list(candidates.values()),
        steps=round(study.steps * definitions.SHARE_OF_RANKING),
        optimizer=lambda steps: optimizers.adam_on_cosine(study.learning_rate, 1, steps),
        seed=job["seed"],
        verbose=False,
    )
    names = {id(region): name for name, region in candidates.items()}
    return {
        "order": [names[id(entry.region)] for entry in ranked],
        "divergences": [entry.divergence for entry in ranked],
        "steps": [entry.steps for entry in ranked],
        "seconds": time.perf_counter() - begun,
    }
