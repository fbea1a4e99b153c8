"""Wall-clock until a student is as good as plain distillation with Keras makes it.

    python -m benchmarks.time_to_accuracy --output=benchmarks/results/time_to_accuracy

Every run is whole: its learning rate falls to zero over its own number of steps, and what counts
is the test accuracy after the last step. Longer runs take more time; the question is how much time
a method takes until its mean accuracy over the seeds is that of the longest run of KD with
`keras.distillation`. Time includes tracing and, with a cache, building it. Methods take turns, and
nothing else may use the cores; it resumes where it stopped.
"""

import os
import random
import time

import keras
import numpy as np
import tqdm
from absl import app, flags, logging

import l2rkd_tf
from benchmarks import result_files
from l2rkd_tf.plots import style
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/time_to_accuracy", "Results: this path with .json, .md, .png.")
flags.DEFINE_list("data", ["digits"], "Datasets, of `DATA`.")
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of students and of subsets.")
flags.DEFINE_list("steps", ["150", "375", "750", "1500", "3000"], "Steps of the runs.")
flags.DEFINE_float("fraction", 0.1, "Fraction of the training data.")

KERAS = "KD, `keras.distillation`"
HALF = {"replace_fraction": 0.5}
NO_PASS = {"region_targets": "interpolated"}
#: Arguments of `L2RKDDistiller`, and whether the teacher's outputs are cached.
METHODS = {
    KERAS: None,
    "L2RKD": ({}, False),
    "L2RKD half": (HALF, False),
    "L2RKD half, cached, interpolated": (HALF | NO_PASS, True),
}
#: Widths of teacher and student, epochs of the teacher, batch size.
DATA = {
    "digits": ((32, 64, 128), (16, 32), 40, 50),
    "glyphs/gray16": ((32, 64, 128), (16, 32, 64), 20, 64),
}
#: Learning rate and temperature of KD, of L2RKD: what the validation split chose beforehand, of
#: rates 0.01, 0.03 and 0.09 and temperatures 4 and 8.
SETTINGS = {"digits": ((9e-2, 8.0), (3e-2, 8.0)), "glyphs/gray16": ((3e-2, 8.0), (3e-2, 8.0))}
TEACHER_LEARNING_RATE = 5e-3
STEPS_PER_EPOCH = 75


def load(name, split, **options):
    """A split of a dataset."""
    return l2rkd_tf.data.load(name, split, batch_size=DATA[name][3], **options)


def network(name, widths, seed, **options):
    """A convnet for a dataset."""
    keras.utils.set_random_seed(seed)
    data = load(name, "test")
    shape = data.element_spec[0].shape[1:]
    return l2rkd_tf.models.convnet(shape, len(data.class_names), widths, **options)


def compiled(model, steps, learning_rate):
    """A model with the optimizer of all runs."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, steps_per_execution=25)
    return model


def trained_teacher(name, results):
    """The teacher of a dataset, trained once; notes its accuracy."""
    path = f"{FLAGS.output}_{name.replace('/', '_')}.keras"
    if not os.path.exists(path):
        widths, _, epochs, _ = DATA[name]
        train = load(name, "train", augment="crop")
        teacher = network(name, widths, 0, convs_per_block=2)
        compiled(teacher, epochs * len(train), TEACHER_LEARNING_RATE)
        teacher.fit(train.repeat(), epochs=epochs, steps_per_epoch=len(train), verbose=0)
        with files.atomic_path(path) as temporary:
            teacher.save(temporary)
    teacher = keras.models.load_model(path)
    results.setdefault("teachers", {})[name] = accuracy(teacher, name)
    return teacher


def accuracy(model, name):
    """Accuracy on the test split, in percent."""
    test = load(name, "test")
    labels = np.concatenate([y for _, y in test.as_numpy_iterator()])
    return 100 * float(np.mean(model.predict(test, verbose=0).argmax(axis=-1) == labels))


def build_trainee(job, teacher, student, train, temperature):
    """A distiller, and the data to train it on: with a cache, those with the teacher's outputs."""
    if job["method"] == KERAS:
        loss = keras.distillation.LogitsDistillation(
            temperature=temperature, loss=keras.losses.KLDivergence()
        )
        return keras.distillation.Distiller(
            teacher=teacher, student=student, distillation_losses=loss, student_loss_weight=0.1
        ), train
    arguments, is_cached = METHODS[job["method"]]
    if is_cached:
        train = l2rkd_tf.teacher_cache.cache_teacher(
            train, teacher, seed=job["seed"], verbose=False
        )
    return l2rkd_tf.L2RKDDistiller(
        None if is_cached else teacher,
        student,
        temperature=temperature,
        seed=job["seed"],
        **arguments,
    ), train


def train_one(job, teacher):
    """Trains one student; its accuracy, and the seconds that training took."""
    name, steps = job["data"], job["steps"]
    train = load(name, "train", fraction=FLAGS.fraction, seed=job["seed"], shuffle=True)
    student = network(name, DATA[name][1], job["seed"])
    len(list(train))  # reads and decodes it, for every method alike
    learning_rate, temperature = SETTINGS[name][job["method"] != KERAS]
    start = time.perf_counter()
    trainee, train = build_trainee(job, teacher, student, train, temperature)
    compiled(trainee, steps, learning_rate).fit(
        train.repeat(), epochs=steps // STEPS_PER_EPOCH, steps_per_epoch=STEPS_PER_EPOCH, verbose=0
    )
    seconds = time.perf_counter() - start
    return job | {"seconds": seconds, "accuracy": accuracy(student, name)}


def curves(results, name):
    """`{method: (steps, mean seconds, mean accuracies)}`."""
    found = {}
    for method in METHODS:
        runs = [r for r in results["runs"] if (r["data"], r["method"]) == (name, method)]
        steps = sorted({run["steps"] for run in runs})
        means = [
            [np.mean([run[key] for run in runs if run["steps"] == number]) for number in steps]
            for key in ("seconds", "accuracy")
        ]
        found[method] = (steps, *map(np.array, means))
    return found


def table(results):
    """What each length of training gives, and the time to the accuracy of KD, as markdown."""
    lines = []
    for name, teacher_accuracy in results["teachers"].items():
        found = curves(results, name)
        _, kd_seconds, kd_accuracies = found[KERAS]
        goal, whole = kd_accuracies[-1], kd_seconds[-1]
        lines += [
            f"### {name}, {FLAGS.fraction:.0%} of the data, teacher {teacher_accuracy:.1f} %",
            "",
            f"The longest run of KD reaches {goal:.1f} % in {whole:.1f} s.",
            "",
            "| | test accuracy, % (seconds), by steps | first run as good: seconds "
            "| share of the time of the longest run of KD |",
            "|:--|--:|--:|--:|",
        ]
        for method, (steps, seconds, accuracies) in found.items():
            cells = [
                f"{number}: {one:.1f} ({second:.1f})"
                for number, second, one in zip(steps, seconds, accuracies, strict=True)
            ]
            good = np.flatnonzero(accuracies >= goal)
            first = seconds[good[0]] if len(good) else np.nan
            lines.append(f"| {method} | {'; '.join(cells)} | {first:.1f} | {first / whole:.2f} |")
        lines.append("")
    return "\n".join(lines)


def plot(results, path):
    """Accuracy against wall-clock."""
    style.require_matplotlib()
    import matplotlib.figure
    from matplotlib import ticker

    names = list(results["teachers"])
    figure = matplotlib.figure.Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        found = curves(results, name)
        for method, (_, seconds, accuracies) in found.items():
            axes.plot(seconds, accuracies, "o-", label=method.replace("`", ""))
        axes.axhline(found[KERAS][2][-1], color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("test accuracy, %")
        axes.set_title(f"{name}, {FLAGS.fraction:.0%} of the data")
        axes.legend()
    with files.atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def main(argv):
    """Trains what is missing, prints and writes table and figure."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    logging.set_verbosity(logging.ERROR)  # TensorFlow Datasets logs each read
    path = f"{FLAGS.output}.json"
    results = result_files.read(path, {"runs": []})
    for name in FLAGS.data:
        teacher = trained_teacher(name, results)
        jobs = [
            {"data": name, "method": method, "steps": steps, "seed": seed}
            for seed in map(int, FLAGS.seeds)
            for method in METHODS
            for steps in map(int, FLAGS.steps)
        ]
        random.Random(0).shuffle(jobs)
        done = [{key: run[key] for key in jobs[0]} for run in results["runs"]]
        for job in tqdm.tqdm([job for job in jobs if job not in done], desc=name):
            results["runs"].append(train_one(job, teacher))
            files.write_json(path, results, indent=1)
    files.write_text(f"{FLAGS.output}.md", table(results))
    plot(results, f"{FLAGS.output}.png")
    print(table(results))


if __name__ == "__main__":
    app.run(main)
