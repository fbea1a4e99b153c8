"""Do students copy the teacher's local shape, and does the teacher alone tell the best region?

    python examples/local_shape.py --output=docs/results/shape_digits
    python examples/local_shape.py --epochs=60 --region=patch --output=docs/results/shape_patient

Students are trained on `--fraction` of the digits: alone, by KD, and by L2RKD with one region after
the other at the cost of KD (half of each batch moves into its region). After the last step they are
compared with the teacher on the test split: at points from the data (0) to the edge (1) of the
default region, in their Jacobians, decisions and calibration. `rank_regions` ranks the regions by
the teacher alone, on the training points of each seed; its order is compared with that of the
students' accuracies.

Results are written as they arrive; started again, the study goes on where it stopped.
"""

import functools

import keras
import numpy as np
import run_flags
import scipy.stats
import study
import training
from absl import app, flags
from run_folder import write_json

from l2rkd_tf import geometry, plots, regions

FLAGS = flags.FLAGS

REGIONS = (
    "patch",
    "patch:grid=2",
    "patch:grid=8",
    "patch:radius=0.5",
    "segment",
    "segment:radius=0.5",
    'segment:partner="nearest"',
    "simplex",
    'ball:radius=0.1,norm="gaussian"',
    'ball:radius=0.2,norm="gaussian"',
    'ball:radius=0.4,norm="gaussian"',
)

flags.DEFINE_multi_string("region", REGIONS, "A region to train in; may be given several times.")
flags.DEFINE_float("fraction", 0.1, "Fraction of the training data.", 0.0, 1.0)
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds.")
flags.DEFINE_integer("epochs", 15, "Epochs of 100 steps.", lower_bound=1)
flags.DEFINE_string("output", "runs/shape_digits", "Results: this path with .json, .md, .png.")
flags.DEFINE_string("teacher", "runs/digits_teacher.keras", "The teacher; trained when absent.")
flags.DEFINE_integer("processes", 2, "Runs at a time, one core each.", lower_bound=1)
flags.register_validator("seeds", run_flags.are_seeds, "must be different integers from 0")

FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)


def student_names():
    """Names of the students that are compared."""
    return ["student alone", "KD", *(f"L2RKD, {region}" for region in FLAGS.region)]


def make_trainee(name, teacher, student, seed):
    """The student itself, or a distiller that holds it."""
    if name == "student alone":
        return student
    if name == "KD":
        return training.build_trainee("kd", teacher, student, seed=seed)
    region = run_flags.parse_region(name.removeprefix("L2RKD, "))
    return training.build_trainee(
        "l2rkd", teacher, student, seed=seed, region=region, replace_fraction=0.5
    )


def train_one(job, teacher):
    """Trains one student in a process of its own; returns how it compares with the teacher."""
    keras.backend.clear_session()
    train, _, test = training.load_splits("digits", 50, fraction=job["fraction"], seed=job["seed"])
    teacher = keras.models.load_model(teacher)
    student = training.build_network(train, (16, 32), job["seed"])
    study.train(make_trainee(job["student"], teacher, student, job["seed"]), train, job["epochs"])
    return measure(teacher, student, test)


def measure(teacher, student, test):
    """Accuracy, and measures of local shape on the test split."""
    images, labels = (np.concatenate(part) for part in zip(*test.as_numpy_iterator(), strict=True))
    logits = student.predict(images, verbose=0)
    region = regions.default_region(student.inputs)
    profile = geometry.fidelity_profile(teacher, student, images, region, FRACTIONS)
    return {
        "accuracy": 100 * float(np.mean(logits.argmax(axis=-1) == labels)),
        "kl": profile.kl.tolist(),
        "agreement": profile.agreement.tolist(),
        "jacobian_distance": float(geometry.jacobian_distance(teacher, student, images).relative),
        "calibration_error": geometry.expected_calibration_error(logits, labels),
    }


def make_jobs():
    """One job for each seed and student."""
    return [
        {"fraction": FLAGS.fraction, "epochs": FLAGS.epochs, "student": name, "seed": int(seed)}
        for seed in FLAGS.seeds
        for name in student_names()
    ]


def rank_regions(teacher, seed):
    """Names of regions, best first, by what `rank_regions` sees of the teacher alone."""
    train, *_ = training.load_splits("digits", 50, fraction=FLAGS.fraction, seed=seed)
    images = np.concatenate([images for images, _ in train.as_numpy_iterator()])
    candidates = {name: run_flags.parse_region(name) for name in FLAGS.region}
    suggestions = geometry.rank_regions(
        teacher, images, list(candidates.values()), seed=seed, verbose=False
    )
    names = {id(region): name for name, region in candidates.items()}
    return [names[id(suggestion.region)] for suggestion in suggestions]


def values_of(results, student, name):
    """One value, or row of values, of a student for each seed."""
    runs = {
        run["seed"]: run[name]
        for run in results["runs"]
        if (run["student"], run["fraction"], run["epochs"])
        == (student, FLAGS.fraction, FLAGS.epochs)
    }
    return np.array([runs[int(seed)] for seed in FLAGS.seeds])


def summarize(results, teacher):
    """Means with their intervals, and how well the teacher alone ranks the regions."""
    middle = FRACTIONS.index(0.5)
    summary = {}
    for student in student_names():
        kl, agreement = (values_of(results, student, name) for name in ("kl", "agreement"))
        measures = {
            "accuracy": values_of(results, student, "accuracy"),
            "kl_at_data": kl[:, 0],
            "kl_at_mid_region": kl[:, middle],
            "agreement_at_mid_region": 100 * agreement[:, middle],
            "jacobian_distance": values_of(results, student, "jacobian_distance"),
            "calibration_error": 100 * values_of(results, student, "calibration_error"),
        }
        summary[student] = {
            name: training.mean_and_interval(values) for name, values in measures.items()
        }
    if len(FLAGS.region) > 2:
        summary["spearman_of_suggest_region"] = training.mean_and_interval(
            [rank_correlation(results, teacher, seed) for seed in map(int, FLAGS.seeds)]
        )
    return summary


def rank_correlation(results, teacher, seed):
    """Spearman's correlation of the order by the teacher alone with that of the accuracies."""
    number = [int(other) for other in FLAGS.seeds].index(seed)
    order = rank_regions(teacher, seed)
    accuracies = [values_of(results, f"L2RKD, {name}", "accuracy")[number] for name in order]
    return float(scipy.stats.spearmanr(range(len(order)), -np.array(accuracies))[0])


def markdown(summary):
    """The table of the study, and a line on the order of regions."""
    columns = {
        "accuracy": "test accuracy, %",
        "kl_at_data": "KL at the data",
        "kl_at_mid_region": "KL at mid-region",
        "agreement_at_mid_region": "same class at mid-region, %",
        "jacobian_distance": "Jacobian distance",
        "calibration_error": "calibration error, %",
    }
    lines = [f"| student | {' | '.join(columns.values())} |", "|---" * (1 + len(columns)) + "|"]
    for student in student_names():
        cells = (f"{mean:.3g} ± {half:.2g}" for mean, half in map(summary[student].get, columns))
        lines.append(f"| {student} | {' | '.join(cells)} |")
    if "spearman_of_suggest_region" in summary:
        mean, half = summary["spearman_of_suggest_region"]
        lines.append(
            "\nRank correlation (Spearman) of the order of `rank_regions`, from the teacher "
            f"alone, with that of the students' accuracies: {mean:.2f} ± {half:.2f} over "
            f"{len(FLAGS.seeds)} seeds."
        )
    return "\n".join(lines) + "\n"


def draw(results, path):
    """Fidelity profiles of the students: means over seeds with their 95 % intervals."""
    profiles = {}
    for student in student_names()[:3]:
        statistics = []
        for name in ("kl", "agreement"):
            columns = values_of(results, student, name).T
            means, halves = np.transpose([training.mean_and_interval(c) for c in columns])
            # The bands of the figure are 1.96 standard errors wide, on each side.
            statistics += [means, halves / 1.96]
        profiles[student] = geometry.FidelityProfile(
            np.array(FRACTIONS), *statistics, len(FLAGS.seeds)
        )
    plots.fidelity_profiles(profiles, averaged_over="seeds").savefig(path)


def main(argv):
    """Trains the students, measures them, writes JSON, table and figure."""
    run_flags.start(argv)
    path = f"{FLAGS.output}.json"
    results = study.load_results(path)
    study.get_teacher(FLAGS.teacher, results)
    run = functools.partial(train_one, teacher=FLAGS.teacher)
    study.run_all(run, make_jobs(), results, path, FLAGS.processes)
    study.check_succeeded(results["runs"])
    results["summary"] = summarize(results, keras.models.load_model(FLAGS.teacher))
    write_json(path, results)
    study.write_table(f"{FLAGS.output}.md", markdown(results["summary"]))
    draw(results, f"{FLAGS.output}.png")


if __name__ == "__main__":
    app.run(main)
