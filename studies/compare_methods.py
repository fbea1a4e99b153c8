"""Existing methods alone, with KD and with L2RKD, on few digits: the table of docs/methods.md.

    python examples/compare_methods.py --output=docs/results/methods_digits

Each method X is trained alone (labels + X), with KD, and with L2RKD: KD plus the regions, X at
training and region points. All take the same steps and the same number of points through teacher
and student: with L2RKD half of each batch moves into its region instead of adding points. The
weight of X, all of its paper's, a tenth or a hundredth, is chosen for X + KD on the validation
split at `--tuning_fraction`, with seeds that are not used again, and kept for all three. A seed
decides the few-shot subset, initial weights, order and draws, and is the same for all, so that
differences are paired. Students are judged once, after the last step, on the test split.

Results are written as they arrive; started again, the study goes on where it stopped.
"""

import functools

import keras
import matplotlib.pyplot as plt
import numpy as np
import run_flags
import study
import training
from absl import app, flags
from run_folder import write_json

from l2rkd_tf import methods

FLAGS = flags.FLAGS

flags.DEFINE_list("fractions", ["0.05", "0.1", "0.25", "1.0"], "Fractions of the training data.")
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds of the reported runs.")
flags.DEFINE_list("tuning_seeds", ["100", "101"], "Seeds of the runs that choose the weights.")
flags.DEFINE_float("tuning_fraction", 0.1, "Fraction of the data at which they are chosen.")
flags.DEFINE_list("methods", sorted(run_flags.METHODS), "Methods to compare.")
flags.DEFINE_integer("epochs", 10, "Epochs of 100 steps.", lower_bound=1)
flags.DEFINE_string("output", "runs/methods_digits", "Results: this path with .json, .md, .png.")
flags.DEFINE_string("teacher", "runs/methods_teacher.keras", "The teacher; trained when absent.")
flags.DEFINE_integer("processes", 2, "Runs at a time, one core each.", lower_bound=1)
for name in ("seeds", "tuning_seeds"):
    flags.register_validator(name, run_flags.are_seeds, "must be different integers from 0")

NOTHING = "nothing"  # the method X of the rows without a method
COMPANIONS = {
    "alone": {"hard_weight": 1.0, "kd_weight": 0.0, "region_weight": 0.0},
    "with KD": {"region_weight": 0.0},
    "with L2RKD": {"replace_fraction": 0.5, "distillation_losses_at": "both"},
}
# Regions of other papers, at the cost of KD. Made in the processes that use them, since TensorFlow
# must not start before it is told how many cores to use.
REGION_METHODS = {
    "mixup_kd": lambda: methods.mixup_kd() | {"replace_fraction": 0.5},
    "noise_kd": lambda: methods.noise_kd(0.2) | {"replace_fraction": 0.5},
    "pe_bkd": lambda: methods.pe_bkd() | {"replace_fraction": 0.5},
}
TEACHER = {"widths": (32, 64, 128), "convs_per_block": 1}
PART_OF_WEIGHT = (1.0, 0.1, 0.01)
# What must differ from the defaults for these data and networks: CRD's memory is ten times as long
# as the data; FSP needs layers with as many channels in the teacher as in the student.
ARGUMENTS = {
    "crd": {"num_negatives": 1024},
    "fsp": {
        "teacher_layer_names": ["block1_norm", "block1"],
        "student_layer_names": ["block2_norm", "block2"],
    },
}


def make_student(job, train, teacher):
    """A new student, alone or in a distiller, as the job wants it."""
    student = training.build_network(train, (16, 32), job["seed"])
    method, companion = job["method"], job["companion"]
    if method == NOTHING and companion == "alone":
        return student, student
    options = REGION_METHODS.get(method, COMPANIONS[companion].copy)()
    if method in run_flags.METHODS:
        method = run_flags.METHODS[method](**ARGUMENTS.get(method, {}))
        weight = job["part_of_weight"] * method.default_weight
        options |= {"distillation_losses": method, "distillation_loss_weights": weight}
    else:
        options.pop("distillation_losses_at", None)
    teacher = keras.models.load_model(teacher)
    return student, training.build_trainee("l2rkd", teacher, student, seed=job["seed"], **options)


def train_one(job, teacher):
    """Trains one student in a process of its own; returns its results."""
    keras.backend.clear_session()
    train, validation, test = training.load_splits(
        "digits", 50, fraction=job["fraction"], seed=job["seed"]
    )
    student, trainee = make_student(job, train, teacher)
    step_ms = study.train(trainee, train, job["epochs"])
    split = test if job["phase"] == "test" else validation
    accuracy = 100 * training.evaluate(student, split)["accuracy"]
    return {"accuracy": accuracy, "milliseconds_per_step": step_ms}


def job(phase, fraction, method, companion, seed, part_of_weight=1.0):
    """One training run."""
    return {
        "phase": phase,
        "fraction": float(fraction),
        "method": method,
        "companion": companion,
        "part_of_weight": part_of_weight,
        "seed": int(seed),
        "epochs": FLAGS.epochs,
    }


def tuning_jobs():
    """Runs that choose the weight of each method."""
    return [
        job("validation", FLAGS.tuning_fraction, method, "with KD", seed, part)
        for method in FLAGS.methods
        for part in PART_OF_WEIGHT
        for seed in FLAGS.tuning_seeds
    ]


def choose_weights(runs):
    """`{method: part of its weight}` with the best validation accuracy; the first of equals."""

    def accuracy(method, part):
        return np.mean(
            [
                run["accuracy"]
                for run in runs
                if (run["phase"], run["method"], run["part_of_weight"])
                == ("validation", method, part)
                and (run["fraction"], run["epochs"]) == (FLAGS.tuning_fraction, FLAGS.epochs)
            ]
        )

    return {m: max(PART_OF_WEIGHT, key=lambda part: accuracy(m, part)) for m in FLAGS.methods}


def test_jobs(part_of_weight):
    """The reported runs, seed by seed, so that an unfinished study has whole seeds."""
    rows = [(method, companion) for method in [NOTHING, *FLAGS.methods] for companion in COMPANIONS]
    rows += [(method, "alone") for method in REGION_METHODS]
    return [
        job("test", fraction, method, companion, seed, part_of_weight.get(method, 1.0))
        for seed in FLAGS.seeds
        for fraction in FLAGS.fractions
        for method, companion in rows
    ]


def summarize(runs):
    """Accuracies with their intervals, and paired differences from X + KD and from L2RKD."""
    accuracy = {
        (run["fraction"], run["method"], run["companion"], run["seed"]): run["accuracy"]
        for run in runs
        if run["phase"] == "test" and run["epochs"] == FLAGS.epochs
    }
    seeds = [int(seed) for seed in FLAGS.seeds]

    def difference(fraction, method, companion, *other):
        return training.mean_and_interval(
            [
                accuracy[fraction, method, companion, s] - accuracy[(fraction, *other, s)]
                for s in seeds
            ]
        )

    return [
        {
            "fraction": fraction,
            "method": method,
            "companion": companion,
            "seeds": len(seeds),
            "accuracy": training.mean_and_interval(
                [accuracy[fraction, method, companion, s] for s in seeds]
            ),
            "gain_over_method_with_kd": difference(fraction, method, companion, method, "with KD")
            if (fraction, method, "with KD", seeds[0]) in accuracy
            else None,
            "gain_over_l2rkd": difference(fraction, method, companion, NOTHING, "with L2RKD"),
        }
        for fraction, method, companion in dict.fromkeys(key[:3] for key in accuracy)
    ]


def counts(cells):
    """A table of how many methods gain and lose beyond the interval of the difference."""
    lines = [
        f"**Of {len(FLAGS.methods)} methods X, how many change beyond the 95 % interval**\n",
        "| data | better with L2RKD than with KD | worse | better than L2RKD without X | worse |",
        "|---|---|---|---|---|",
    ]
    for fraction in map(float, FLAGS.fractions):
        rows = [cells[fraction, method, "with L2RKD"] for method in FLAGS.methods]
        numbers = [
            sum(sign * mean > half for mean, half in (row[gain] for row in rows))
            for gain in ("gain_over_method_with_kd", "gain_over_l2rkd")
            for sign in (1, -1)
        ]
        lines.append(f"| {fraction:.0%} | " + " | ".join(map(str, numbers)) + " |")
    return [*lines, ""]


def markdown(summary, part_of_weight):
    """What changes for how many methods, and one table for each fraction."""
    cells = {(row["fraction"], row["method"], row["companion"]): row for row in summary}
    lines = counts(cells)
    for fraction in map(float, FLAGS.fractions):
        lines += [
            f"**{fraction:.0%} of the training data**\n",
            "| X | weight | X alone | X + KD | X + L2RKD | L2RKD's gain over KD, with X | X's gain "
            "over nothing, with L2RKD |",
            "|---|---|---|---|---|---|---|",
        ]
        for method in [NOTHING, *FLAGS.methods]:
            row = [cells[fraction, method, companion] for companion in COMPANIONS]
            gains = row[2]["gain_over_method_with_kd"], row[2]["gain_over_l2rkd"]
            weight = f"{weight_of(method, part_of_weight):g}" if method != NOTHING else ""
            lines.append(
                f"| {method} | {weight} | "
                + " | ".join(
                    f"{mean:.1f} ± {half:.1f}" for mean, half in (r["accuracy"] for r in row)
                )
                + f" | {_signed(gains[0])} | {'' if method == NOTHING else _signed(gains[1])} |"
            )
        for method in REGION_METHODS:
            mean, half = cells[fraction, method, "alone"]["accuracy"]
            lines.append(f"| {method} | | {mean:.1f} ± {half:.1f} | | | | |")
        lines.append("")
    return "\n".join(lines)


def weight_of(method, part_of_weight):
    """The weight that a method was trained with."""
    return run_flags.METHODS[method].default_weight * part_of_weight[method]


def _signed(gain):
    mean, half = gain
    return f"**{mean:+.1f} ± {half:.1f}**" if abs(mean) > half else f"{mean:+.1f} ± {half:.1f}"


def draw(summary, path):
    """What L2RKD adds to each method, by fraction of the data: mean and 95 % interval."""
    fractions = [float(fraction) for fraction in FLAGS.fractions]
    rows = [NOTHING, *FLAGS.methods]
    figure, panels = plt.subplots(
        1, len(fractions), figsize=(2.6 * len(fractions), 0.3 * len(rows) + 1.2), sharey=True
    )
    gains = {
        (row["fraction"], row["method"]): row["gain_over_method_with_kd"]
        for row in summary
        if row["companion"] == "with L2RKD"
    }
    for panel, fraction in zip(np.atleast_1d(panels), fractions, strict=True):
        means, halves = np.transpose([gains[fraction, method] for method in rows])
        panel.axvline(0, color="0.6", linewidth=1)
        panel.errorbar(means, range(len(rows)), xerr=halves, fmt="o", color="#0072b2", capsize=3)
        panel.set_title(f"{fraction:.0%} of the data")
        panel.set_xlabel("points of accuracy")
    first = np.atleast_1d(panels)[0]
    first.set_yticks(range(len(rows)), [f"{method}".replace("_", " ") for method in rows])
    first.invert_yaxis()
    figure.suptitle("(X + L2RKD) − (X + KD), equal compute")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv):
    """Chooses the weights, trains the reported runs, writes JSON, tables and figure."""
    run_flags.start(argv)
    path = f"{FLAGS.output}.json"
    results = study.load_results(path)
    study.get_teacher(FLAGS.teacher, results, **TEACHER)
    run = functools.partial(train_one, teacher=FLAGS.teacher)
    study.run_all(run, tuning_jobs(), results, path, FLAGS.processes)
    study.check_succeeded(results["runs"])
    part_of_weight = choose_weights(results["runs"])
    study.run_all(run, test_jobs(part_of_weight), results, path, FLAGS.processes)
    study.check_succeeded(results["runs"])
    results["part_of_weight"] = part_of_weight
    results["summary"] = summarize(results["runs"])
    write_json(path, results)
    study.write_table(f"{FLAGS.output}.md", markdown(results["summary"], part_of_weight))
    draw(results["summary"], f"{FLAGS.output}.png")


if __name__ == "__main__":
    app.run(main)
