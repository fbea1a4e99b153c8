"""Searches for radius, region weight and temperature on a validation split, with KerasTuner.

    pip install -e ".[tuner]"
    python examples/tune.py --teacher=runs/teacher/model.keras --trials=20
    python examples/tune.py --teacher=... --region=ball --radius=0.01,0.5 --temperature=4

Each trial trains one student for each of `--seeds`; what counts is their mean accuracy on the
validation split after the last epoch. The students of the best setting are then trained once more,
and judged on the test split, which nobody has looked at until then. The folder holds `tuning.json`
(all trials, the best setting and its results) and a folder for each of those students.
"""

import os

import keras
import numpy as np
import run_flags
import training
import tuning
from absl import app, flags
from run_folder import check_new, run_folder, save_run, versions, write_json

FLAGS = flags.FLAGS

run_flags.define_data_flags()
run_flags.define_schedule_flags(epochs=15, steps_per_epoch=100, learning_rate=1e-2)
run_flags.define_widths_flag()
flags.adopt_module_key_flags(run_flags)
flags.DEFINE_string("teacher", None, "Keras file of the teacher.", required=True)
flags.DEFINE_float("fraction", 1.0, "Part of the training data to use.", 0.0, 1.0)
flags.DEFINE_list("seeds", ["0"], "Seeds of the students of a trial.")
flags.DEFINE_string("region", "patch:grid=4", "Region, as in distill.py, without its radius.")
flags.DEFINE_list("radius", ["0.25", "1"], "Smallest and largest radius, or one to keep.")
flags.DEFINE_list("region_weight", ["0.3", "3"], "Smallest and largest weight, or one to keep.")
flags.DEFINE_list("temperature", ["1", "8"], "Smallest and largest, or one to keep.")
flags.DEFINE_integer("trials", 20, "Settings to try.", lower_bound=1)
flags.DEFINE_integer("search_seed", 0, "Seed of the search.", lower_bound=0)
flags.DEFINE_string("output", "runs/tune", "New folder for the results.")
flags.DEFINE_string(
    "backup", "", "Folder of trials; a search that is started again goes on after the last one."
)

TUNED = ("radius", "region_weight", "temperature")


def with_radius(region, radius):
    """The text of a region with a radius, the same one for all parts of a mixture."""
    parts = [part.strip() for part in region.split("+")]
    return " + ".join(f"{part}{',' if ':' in part else ':'}radius={radius!r}" for part in parts)


def ranges():
    """Smallest and largest value of each number that is tuned, by its name."""
    return {name: [float(word) for word in FLAGS[name].value] for name in TUNED}


def _is_range(words):
    if not run_flags.are_weights(words) or len(words) not in (1, 2):
        return False
    values = [float(word) for word in words]
    return values[0] > 0 and values == sorted(values)


def _has_radii(values):
    for radius in map(float, values["radius"]):
        run_flags.is_region(with_radius(values["region"], radius))
    return True


for name in TUNED:
    flags.register_validator(name, _is_range, "must be one or two numbers above 0, in order")
flags.register_multi_flags_validator(["region", "radius"], _has_radii)
flags.register_validator("seeds", run_flags.are_seeds, "must be different integers from 0")
flags.register_validator("fraction", lambda value: value > 0, "must be above 0")
flags.register_validator(
    "splits", lambda splits: bool(splits[1]), "must have a second one, on which trials are judged"
)
flags.register_validator(
    "teacher", lambda path: path is None or os.path.isfile(path), "must be an existing .keras file"
)


def load(seed):
    """Training, validation and test split of a student."""
    return training.load_splits(
        FLAGS.dataset,
        FLAGS.batch_size,
        fraction=FLAGS.fraction,
        seed=seed,
        **run_flags.data_flags(),
    )


def train(teacher, setting, seed, dataset, verbose):
    """A student that was trained with a setting; its history; milliseconds a step."""
    student = training.build_network(dataset, run_flags.student_widths(dataset), seed)
    distiller = training.build_trainee(
        "l2rkd",
        teacher,
        student,
        region=run_flags.parse_region(with_radius(FLAGS.region, setting["radius"])),
        region_weight=setting["region_weight"],
        temperature=setting["temperature"],
        seed=seed,
    )
    schedule = run_flags.schedule_flags(dataset) | {"verbose": verbose}
    return student, *training.fit(distiller, dataset, **schedule)


def validation_accuracy(teacher, setting):
    """Mean accuracy on the validation split, over students of all seeds."""
    accuracies = []
    for seed in map(int, FLAGS.seeds):
        dataset, validation, _ = load(seed)
        student, *_ = train(teacher, setting, seed, dataset, verbose=0)
        accuracies.append(training.evaluate(student, validation)["accuracy"])
        keras.backend.clear_session()  # of the many models of a search
    return float(np.mean(accuracies))


def finish(teacher, setting, folder):
    """Trains and saves the students of the best setting; returns their accuracies on the test."""
    accuracies = []
    for seed in map(int, FLAGS.seeds):
        dataset, validation, test = load(seed)
        student, history, step_ms = train(teacher, setting, seed, dataset, FLAGS.verbose)
        metrics = training.measure(student, validation, test, step_ms)
        seed_folder = os.path.join(folder, f"seed{seed}")
        os.makedirs(seed_folder)
        save_run(seed_folder, student, run_flags.all_flags() | setting, history, metrics)
        accuracies.append(metrics["test"]["accuracy"])
    return accuracies


def report(trials, accuracies):
    """Prints the best setting, what it is worth, and how to train with it."""
    best = trials[0]
    print(
        f"Best of {len(trials)} trials: validation accuracy {best['val_accuracy']:.2%}, test "
        f"accuracy {np.mean(accuracies):.2%}; students in {FLAGS.output}"
    )
    print(
        f"distill.py --region='{with_radius(FLAGS.region, best['radius'])}' "
        f"--region_weight={best['region_weight']!r} --temperature={best['temperature']!r}"
    )


def run(folder):
    """Searches, trains the best students, and keeps what was found."""
    teacher = keras.models.load_model(FLAGS.teacher)
    trials = tuning.search(
        lambda setting: validation_accuracy(teacher, setting),
        ranges(),
        max_trials=FLAGS.trials,
        directory=FLAGS.backup or os.path.join(folder, "search"),
        seed=FLAGS.search_seed,
        verbose=int(FLAGS.verbose > 0),
    )
    best = {name: trials[0][name] for name in TUNED}
    accuracies = finish(teacher, best, folder)
    results = {"best": best, "test_accuracies": accuracies, "trials": trials}
    results |= {"config": run_flags.all_flags(), "versions": versions()}
    write_json(os.path.join(folder, "tuning.json"), results)
    return trials, accuracies


def main(argv):
    """Tunes, and judges the best setting on the test split."""
    run_flags.start(argv)
    check_new(FLAGS.output, FLAGS.overwrite)
    with run_folder(FLAGS.output, FLAGS.overwrite) as folder:
        trials, accuracies = run(folder)
    report(trials, accuracies)


if __name__ == "__main__":
    app.run(main)
