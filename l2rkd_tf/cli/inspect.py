r"""Measures how well students mimic their teacher between the examples; writes a report.

    python examples/inspect_student.py --teacher=runs/teacher/model.keras \
        --students=KD=runs/kd/seed0,L2RKD=runs/l2rkd/seed0 --output=runs/inspect

`--students` are folders that `distill.py` wrote, with or without a name. `report.html` in
`--output` needs no other file: its pictures are part of it. They lie beside it as PNG, too, and
the numbers as `measures.json`.
"""

import json
import os

import keras
import numpy as np
import run_flags
from absl import app, flags
from inspect_page import TEACHER, parts_of_page, write_page
from run_folder import check_new, run_folder, versions, write_json

from l2rkd_tf import data, geometry, plots, regions

FLAGS = flags.FLAGS
PARTS = ("config", "history")
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
GAP_FRACTIONS = tuple(np.linspace(0.1, 0.9, 9).round(1).tolist())

run_flags.define_data_flags()
flags.adopt_module_key_flags(run_flags)  # shown by --help, too
flags.DEFINE_string("teacher", None, "Keras file of the teacher.", required=True)
flags.DEFINE_list("students", None, "NAME=FOLDER of each student's run.", required=True)
flags.DEFINE_string("region", "", "Region to look into; empty for the distiller's default.")
flags.DEFINE_integer("num_points", 256, "Test examples to start from, from the first.", 3)
flags.DEFINE_integer("resolution", 120, "Points along each side of the decision map.", 2)
flags.DEFINE_integer("seed", 0, "Seed of the draws.", lower_bound=0)
flags.DEFINE_string("output", "runs/inspect", "New folder for the report.")
flags.DEFINE_boolean("overwrite", False, "Whether to replace an existing output folder.")
flags.register_validator("teacher", os.path.isfile, "must be an existing .keras file")
flags.register_validator("region", run_flags.is_region, "must be as in 'patch:grid=4,radius=0.5'")


def parse_students(words):
    """Folders of the students' runs by name, from `NAME=FOLDER` or `FOLDER`.

    Raises:
        ValueError: If a folder holds no model, or two students have one name.
    """
    students = {}
    for word in words:
        name, separator, folder = word.partition("=")
        if not separator or os.path.isdir(word):
            name, folder = os.path.basename(os.path.normpath(word)), word
        if not os.path.isfile(os.path.join(folder, "model.keras")):
            raise ValueError(f"{folder!r} must be the folder of a run, with a model.keras in it")
        if not name or name in (TEACHER, *students):
            raise ValueError(f"the name {name!r} is taken: write NAME=FOLDER with other names")
        students[name] = folder
    if not students:
        raise ValueError("must be at least one folder of a run")
    return students


def are_students(words):
    """Validator of `--students`: raises what `parse_students` finds wrong."""
    try:
        parse_students(words)
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True


flags.register_validator("students", are_students)


def read_json(folder, name):
    """Content of a file of a run; empty where the run has no such file."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return {}
    with open(path) as file:
        return json.load(file)


def load_test():
    """The test split in batches, and its first examples with their labels."""
    options = run_flags.data_flags()
    test = data.load(
        FLAGS.dataset,
        options.pop("splits")[-1],
        batch_size=FLAGS.batch_size,
        shuffle=False,
        **options,
    )
    first = test.unbatch().take(FLAGS.num_points).batch(FLAGS.num_points)
    return test, *next(first.as_numpy_iterator())


def scores(model, test):
    """What one model scores on the whole test split."""
    labels = np.concatenate([labels for _, labels in test.as_numpy_iterator()])
    logits = model.predict(test, verbose=0)
    return {
        "accuracy": float(np.mean(logits.argmax(axis=-1) == labels)),
        "parameters": model.count_params(),
        "expected_calibration_error": geometry.expected_calibration_error(logits, labels),
    }


def fidelity(teacher, student, test, x, labels, region):
    """What compares one student with its teacher: numbers, and the profile."""
    options = {"batch_size": FLAGS.batch_size, "seed": FLAGS.seed}
    distance = geometry.jacobian_distance(teacher, student, x, **options)
    profile = geometry.fidelity_profile(
        teacher, student, x, region, FRACTIONS, labels=labels, **options
    )
    agreement = geometry.top1_agreement(teacher, student, test, batch_size=FLAGS.batch_size)
    return {"agreement": agreement, "jacobian_distance": distance, "profile": profile}


def as_json(value):
    """A structure of named tuples and arrays as one of dicts and lists."""
    if isinstance(value, dict):
        return {name: as_json(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return as_json(value._asdict())
    return value.tolist() if isinstance(value, np.ndarray) else value


def random_partners(x):
    """Another example for each, drawn without replacement."""
    order = np.random.default_rng(FLAGS.seed).permutation(len(x))
    partners = np.empty_like(x)
    partners[order] = x[np.roll(order, 1)]
    return partners


def towards_neighbours(x):
    """Directions of length 1 to the nearest different example, and its distance."""
    flat = x.reshape(len(x), -1).astype("float64")
    distances = np.stack([np.linalg.norm(flat - point, axis=1) for point in flat])
    distances[distances == 0.0] = np.inf
    nearest = distances.argmin(axis=1)
    distances = distances.min(axis=1)
    directions = (flat[nearest] - flat) / distances[:, None]
    return directions.reshape(x.shape), distances


def three_examples(x, labels):
    """The first example of each of the first three classes; any three of fewer classes."""
    firsts = np.sort(np.unique(labels, return_index=True)[1]).tolist()
    others = [row for row in range(len(x)) if row not in firsts]
    return x[(firsts + others)[:3]]


def draw_linearity(models, x, region):
    """The gap on the way to random partners, with the radius of a region towards such."""
    partners = random_partners(x)
    gaps = {
        name: geometry.linearity_gap(model, x, partners, GAP_FRACTIONS, batch_size=FLAGS.batch_size)
        for name, model in models.items()
    }
    towards_them = region.get_config().get("partner") == "random"
    return plots.linearity_gap(gaps, region.radius if towards_them else None)


def draw_radii(models, x):
    """Exact linear radii of the piecewise-linear models; the others by name, with the reason."""
    directions, distances = towards_neighbours(x)
    radii, refused = {}, {}
    for name, model in models.items():
        try:
            radii[name] = geometry.linear_radius(model, x, directions, batch_size=FLAGS.batch_size)
        except ValueError as error:
            refused[name] = str(error)
    return (plots.linear_radii(radii, distances) if radii else None), refused


def draw_all(models, measures, test, x, labels, region):
    """The pictures of the models by file name, and which models have no linear radius."""
    profiles = {name: measures[name]["profile"] for name in models if name != TEACHER}
    radii, refused = draw_radii(models, x)
    figures = {
        "fidelity": plots.fidelity_profiles(profiles),
        "decision_map": plots.decision_map(
            models,
            three_examples(x, labels),
            class_names=test.class_names,
            resolution=FLAGS.resolution,
        ),
        "linearity_gap": draw_linearity(models, x, region),
        "linear_radii": radii,
    }
    return {name: figure for name, figure in figures.items() if figure}, refused


def notes_of(region, num_points, refused):
    """What the numbers were measured with, and what could not be."""
    settings = ", ".join(f"{name}={value!r}" for name, value in region.get_config().items())
    notes = [
        f"Scores and agreement are those of the whole split {FLAGS.splits[-1]!r} of "
        f"{FLAGS.dataset!r}; all else starts from its first {num_points} examples. "
        f"The region is {type(region).__name__}({settings}); ± is half a 95 % interval.",
        "Jacobian distance: squared distance of the slopes over the teacher's squared slopes; 0 "
        "for equal slopes, 1 for a constant student.",
    ]
    return notes + [f"No linear radius of {name}: {why}" for name, why in refused.items()]


def main(argv):
    """Measures, draws and writes the report."""
    run_flags.start(argv)
    check_new(FLAGS.output, FLAGS.overwrite)
    folders = parse_students(FLAGS.students)
    test, x, labels = load_test()
    region = run_flags.parse_region(FLAGS.region) or regions.default_region(x)
    paths = {TEACHER: FLAGS.teacher}
    paths |= {name: os.path.join(folder, "model.keras") for name, folder in folders.items()}
    models = {name: keras.models.load_model(path) for name, path in paths.items()}
    measures = {name: scores(model, test) for name, model in models.items()}
    for name in folders:
        measures[name] |= fidelity(models[TEACHER], models[name], test, x, labels, region)
    figures, refused = draw_all(models, measures, test, x, labels, region)
    runs = {
        name: {part: read_json(os.path.dirname(path), f"{part}.json") for part in PARTS}
        for name, path in paths.items()
    }
    with run_folder(FLAGS.output, FLAGS.overwrite) as folder:
        notes = notes_of(region, len(x), refused)
        parts = parts_of_page(folder, measures, figures, runs, notes)
        title = f"{', '.join(folders)} beside the teacher on {FLAGS.dataset}"
        write_page(os.path.join(folder, "report.html"), title, parts)
        write_json(
            os.path.join(folder, "measures.json"),
            {**as_json(measures), "config": run_flags.all_flags(), "versions": versions()},
        )
    print(f"Report in {os.path.join(FLAGS.output, 'report.html')}")


if __name__ == "__main__":
    app.run(main)
