"""Student alone, KD and L2RKD on few digits: the study behind the table of the README.

    python examples/fewshot.py --output=docs/results/fewshot_digits

For each method and fraction of the training data, temperature and learning rate are chosen on the
validation split with seeds that are not used again; then the chosen setting is trained with each
of `--seeds` and judged once, after the last epoch, on the test split. A seed decides the few-shot
subset, initial weights, order and draws, and is the same for all methods, so that differences are
paired. All methods take the same number of steps; `l2rkd_equal_compute` also the same number of
teacher and student passes as `kd`.

Results are written as they arrive; started again, the study goes on where it stopped.
"""

import functools
import itertools

import keras
import run_flags
import study
import training
from absl import app, flags
from run_folder import write_json

FLAGS = flags.FLAGS

flags.DEFINE_list("fractions", ["0.05", "0.1"], "Fractions of the training data.")
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of the reported runs.")
flags.DEFINE_list("tuning_seeds", ["100", "101"], "Seeds of the runs that choose the settings.")
flags.DEFINE_integer("epochs", 60, "Epochs of 100 steps.", lower_bound=1)
flags.DEFINE_string("output", "runs/fewshot_digits", "Results: this path with .json and .md.")
flags.DEFINE_string("teacher", "runs/fewshot_teacher.keras", "The teacher; trained when absent.")
flags.DEFINE_integer("processes", 2, "Runs at a time, one core each.", lower_bound=1)
for name in ("seeds", "tuning_seeds"):
    flags.register_validator(name, run_flags.are_seeds, "must be different integers from 0")

METHODS = {
    "student alone": {"method": "none"},
    "kd": {"method": "kd"},
    "l2rkd": {"method": "l2rkd"},
    "l2rkd_equal_compute": {"method": "l2rkd", "replace_fraction": 0.5},
}
LEARNING_RATES = (2e-3, 6e-3)
TEMPERATURES = (4.0, 8.0)


def settings(method):
    """The settings among which validation chooses: as many for each distillation method."""
    temperatures = (None,) if method == "student alone" else TEMPERATURES
    pairs = itertools.product(LEARNING_RATES, temperatures)
    return [{"learning_rate": rate, "temperature": tau} for rate, tau in pairs]


def train_one(job, teacher):
    """Trains one student in a process of its own; returns its results."""
    keras.backend.clear_session()
    train, validation, test = training.load_splits(
        "digits", 50, fraction=job["fraction"], seed=job["seed"]
    )
    student = training.build_network(train, (16, 32), job["seed"])
    options = dict(METHODS[job["method"]])
    if job["temperature"] is not None:
        options |= {"temperature": job["temperature"], "seed": job["seed"]}
    teacher = keras.models.load_model(teacher)
    trainee = training.build_trainee(options.pop("method"), teacher, student, **options)
    step_ms = study.train(trainee, train, job["epochs"], job["learning_rate"])
    split = test if job["phase"] == "test" else validation
    accuracy = 100 * training.evaluate(student, split)["accuracy"]
    return {"accuracy": accuracy, "milliseconds_per_step": step_ms}


def make_jobs(phase, seeds, settings_of):
    """One job for each fraction, method, seed and setting."""
    return [
        {"phase": phase, "fraction": fraction, "method": method, "seed": seed}
        | {"epochs": FLAGS.epochs}
        | setting
        for fraction in map(float, FLAGS.fractions)
        for method in METHODS
        for setting in settings_of(fraction, method)
        for seed in map(int, seeds)
    ]


def choose(runs, fraction, method):
    """The setting with the best mean validation accuracy; the first of equals."""

    def validation_accuracy(setting):
        return training.mean_and_interval(
            [
                run["accuracy"]
                for run in runs
                if run["phase"] == "validation"
                and (run["fraction"], run["method"], run["epochs"])
                == (fraction, method, FLAGS.epochs)
                and setting.items() <= run.items()
            ]
        )[0]

    return max(settings(method), key=validation_accuracy)


def summarize(runs, fraction, method, setting):
    """Mean accuracy with its interval, and the paired difference from KD."""

    def accuracies(name):
        chosen = {
            run["seed"]: run["accuracy"]
            for run in runs
            if run["phase"] == "test"
            and (run["fraction"], run["method"], run["epochs"]) == (fraction, name, FLAGS.epochs)
        }
        return [chosen[int(seed)] for seed in FLAGS.seeds]

    own, kd = accuracies(method), accuracies("kd")
    mean, interval = training.mean_and_interval(own)
    gain, gain_interval = training.mean_and_interval(
        [one - other for one, other in zip(own, kd, strict=True)]
    )
    return {
        "fraction": fraction,
        "method": method,
        **setting,
        "seeds": len(own),
        "accuracy": mean,
        "accuracy_interval": interval,
        "gain_over_kd": gain,
        "gain_over_kd_interval": gain_interval,
    }


def markdown(summary, teacher_accuracy):
    """The table of the study."""
    names = {
        "student alone": "student alone",
        "kd": "KD",
        "l2rkd": "L2RKD, equal steps",
        "l2rkd_equal_compute": "L2RKD, equal compute",
    }
    lines = ["| data | method | test accuracy, % | paired gain over KD |", "|---|---|---|---|"]
    for row in summary:
        gain = f"{row['gain_over_kd']:+.1f} ± {row['gain_over_kd_interval']:.1f}"
        lines.append(
            f"| {row['fraction']:.0%} | {names[row['method']]} | {row['accuracy']:.1f} ± "
            f"{row['accuracy_interval']:.1f} | {'' if row['method'] == 'kd' else gain} |"
        )
    lines.append(f"| 100 % | the teacher | {teacher_accuracy:.1f} | |")
    return "\n".join(lines) + "\n"


def main(argv):
    """Chooses the settings, trains the reported runs, writes JSON and table."""
    run_flags.start(argv)
    path = f"{FLAGS.output}.json"
    results = study.load_results(path)
    study.get_teacher(FLAGS.teacher, results)
    run = functools.partial(train_one, teacher=FLAGS.teacher)
    jobs = make_jobs("validation", FLAGS.tuning_seeds, lambda _, method: settings(method))
    study.run_all(run, jobs, results, path, FLAGS.processes)
    chosen = {
        (fraction, method): choose(results["runs"], fraction, method)
        for fraction in map(float, FLAGS.fractions)
        for method in METHODS
    }
    jobs = make_jobs("test", FLAGS.seeds, lambda fraction, method: [chosen[fraction, method]])
    study.run_all(run, jobs, results, path, FLAGS.processes)
    results["summary"] = [
        summarize(results["runs"], fraction, method, setting)
        for (fraction, method), setting in chosen.items()
    ]
    write_json(path, results)
    study.write_table(
        f"{FLAGS.output}.md", markdown(results["summary"], results["teacher"]["test_accuracy"])
    )


if __name__ == "__main__":
    app.run(main)
