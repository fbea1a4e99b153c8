r"""Measures what a student is on a device: LiteRT files of four formats, side by side.

    python examples/benchmark_student.py --model=runs/distill/seed0/model.keras \
        --teacher=runs/teacher/model.keras --dataset=digits

For float32, float16, dynamic-range and int8: bytes, latency of one image on this CPU, test
accuracy, agreement with the teacher, and fidelity to the teacher between the examples. `--output`
gets the files with their parity reports, `model_card.md`, `table.md`, `results.json` and
`benchmark.png`. Latency counts only if nothing else uses the cores.
"""

import os
import platform

import keras
import run_flags
import tensorflow as tf
import tqdm
import training
from absl import app, flags
from benchmark_card import read_record, share_row, write_card
from benchmark_litert import LiteRTModel, OneImage, time_calls
from benchmark_page import KERAS, plot, quartiles, table
from run_folder import check_new, run_folder, versions, write_json

from l2rkd_tf import export, geometry, regions

FLAGS = flags.FLAGS
FORMATS = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
FRACTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_EXAMPLES = 256  # as many as an export looks at

run_flags.define_data_flags()
flags.adopt_module_key_flags(run_flags)  # shown by --help, too
flags.DEFINE_string("model", None, "Keras file of the student.", required=True)
flags.DEFINE_string("teacher", None, "Keras file of the teacher.", required=True)
flags.DEFINE_string("region", "", "Region to look into; empty for the distiller's default.")
flags.DEFINE_integer("num_points", 256, "Test examples whose regions are looked into.", 2)
flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads that a call may use.")
flags.DEFINE_integer("rounds", 1000, "Calls that are timed, of each file.", lower_bound=1)
flags.DEFINE_integer("warm_up", 100, "Calls before these.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the draws.", lower_bound=0)
flags.DEFINE_string("intended_use", "", "What the model is for, in words, for its card.")
flags.DEFINE_string("output", "runs/benchmark", "New folder for the results.")
flags.DEFINE_boolean("overwrite", False, "Whether to replace an existing output folder.")
flags.register_validator("model", os.path.isfile, "must be an existing .keras file")
flags.register_validator("teacher", os.path.isfile, "must be an existing .keras file")
flags.register_validator("region", run_flags.is_region, "must be as in 'patch:grid=4,radius=0.5'")
flags.register_validator(
    "threads",
    lambda words: run_flags.are_counts(words) and len(set(map(int, words))) == len(words),
    "must be different integers above 0",
)


def first_examples(dataset, count):
    """The first images and labels of a data set in batches, or all if there are fewer."""
    return next(dataset.unbatch().take(count).batch(count).as_numpy_iterator())


def export_all(student, examples, folder):
    """Exports every format; returns the reports, and why formats could not be exported."""
    reports, refused = {}, {}
    for name, quantization in tqdm.tqdm(FORMATS.items(), "exports", unit="file"):
        path = os.path.join(folder, f"student_{name}.tflite")
        try:
            reports[name] = export.export_litert(student, path, quantization, examples)
        except export.ExportError as error:
            refused[name] = str(error)
    if not reports:
        raise export.ExportError(f"No format could be exported. {refused}")
    return reports, refused


def measure(model, teacher, test, points, region):
    """Accuracy and agreement on the test split, and fidelity in the region of some points."""
    x, labels = points
    profile = geometry.fidelity_profile(
        teacher, model, x, region, FRACTIONS, labels=labels, seed=FLAGS.seed
    )
    arrays = ("fractions", "kl", "kl_stderr", "agreement", "agreement_stderr")
    return {
        "accuracy": training.evaluate(model, test)["accuracy"],
        "agreement": geometry.top1_agreement(teacher, model, test),
        "profile": {name: getattr(profile, name).tolist() for name in arrays},
    }


def latencies(paths, images):
    """Median and middle half of the times of each file, by numbers of threads as JSON has them."""
    calls = {
        (name, number): OneImage(path, int(number))
        for name, path in paths.items()
        for number in FLAGS.threads
    }
    seconds = time_calls(calls, images, FLAGS.rounds, FLAGS.warm_up, FLAGS.seed)
    return {
        name: {str(int(number)): quartiles(seconds[name, number]) for number in FLAGS.threads}
        for name in paths
    }


def in_words(region):
    """A region with its settings."""
    settings = ", ".join(f"{name}={value!r}" for name, value in region.get_config().items())
    return f"{type(region).__name__}({settings})"


def measure_all(student, teacher, train, test, folder):
    """Exports to the folder, and measures what the table and the figure show.

    Returns:
        The reports of the exports by format, and the results as they are written as JSON.
    """
    points = first_examples(test, FLAGS.num_points)
    region = run_flags.parse_region(FLAGS.region) or regions.default_region(points[0])
    # Before the exports: it finds out whether models and data fit together.
    rows = {KERAS: measure(student, teacher, test, points, region)}
    # The same for all formats: a data set would be shuffled anew for each.
    examples, _ = first_examples(train, NUM_EXAMPLES)
    reports, refused = export_all(student, examples, folder)
    paths = {name: os.path.join(folder, report.artifact) for name, report in reports.items()}
    for name, path in tqdm.tqdm(paths.items(), "fidelity", unit="file"):
        rows[name] = measure(LiteRTModel(path), teacher, test, points, region)
    for name, times in latencies(paths, points[0]).items():
        rows[name] |= {"bytes": reports[name].bytes, "latency": times}
    return reports, {
        "models": rows,
        "not_exported": refused,
        "teacher_accuracy": training.evaluate(teacher, test)["accuracy"],
        "num_examples": test.num_examples,
        "num_points": len(points[0]),
        "region": in_words(region),
        "threads": [int(number) for number in FLAGS.threads],
        "rounds": FLAGS.rounds,
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "config": run_flags.all_flags(),
        "versions": versions(),
    }


def measurements(results, reports):
    """What has been measured, as the model card takes it."""
    for name, row in results["models"].items():
        model = reports[name].artifact if name in reports else name
        for measured, key in (("test accuracy", "accuracy"), ("decides as teacher", "agreement")):
            yield share_row(model, measured, row[key], results["num_examples"])
        profile = row["profile"]
        for number in (0, 2, 4):
            fraction = profile["fractions"][number]
            yield {
                "model": model,
                "measure": f"KL from the teacher, {fraction:g} of the way to the edge of a region",
                "value": profile["kl"][number],
                "stderr": profile["kl_stderr"][number],
                "num_examples": results["num_points"],
            }


def main(argv):
    """Exports, measures, and writes files, card, table, numbers and figure."""
    run_flags.start(argv)
    tf.get_logger().setLevel("ERROR")  # it warns of new traces, and each model has its own
    check_new(FLAGS.output, FLAGS.overwrite)
    record = read_record(FLAGS.model)
    student, teacher = map(keras.models.load_model, (FLAGS.model, FLAGS.teacher))
    train, _, test = training.load_splits(FLAGS.dataset, FLAGS.batch_size, **run_flags.data_flags())
    with run_folder(FLAGS.output, FLAGS.overwrite) as folder:
        reports, results = measure_all(student, teacher, train, test, folder)
        write_json(os.path.join(folder, "results.json"), results)
        text = table(results)
        with open(os.path.join(folder, "table.md"), "w") as file:
            file.write(text)
        plot(results, os.path.join(folder, "benchmark.png"))
        write_card(
            folder,
            list(reports.values()),
            model=(FLAGS.model, student.name),
            record=record,
            data=(FLAGS.dataset, FLAGS.splits, test),
            measurements=measurements(results, reports),
            use=FLAGS.intended_use,
        )
    print(text)
    print(f"Files, model card and figure in {FLAGS.output}")


if __name__ == "__main__":
    app.run(main)
