"""`l2rkd benchmark`: what a student costs and keeps on a device, for four LiteRT formats.

For float32, float16, dynamic-range and int8: bytes, latency of one image on this CPU, test
accuracy, agreement with the teacher, and fidelity to the teacher in a region around the examples.
The folder of `--output` gets the files with the reports of their comparison with the Keras model,
`model_card.md`, `table.md`, `results.json` and `benchmark.png`.
"""

import os
import pathlib
import platform

import tqdm
from absl.flags import FlagValues

from l2rkd_command.errors import UsageError
from l2rkd_command.run_config import read_record
from l2rkd_tf import export, geometry, regions
from l2rkd_tf.cli.common import fidelity, from_flags, plan, student_card, training
from l2rkd_tf.cli.common.benchmark_page import KERAS, plot, quartiles, render_table
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.litert import LiteRTModel, OneImage, time_calls
from l2rkd_tf.cli.common.pages import percent, with_settings
from l2rkd_tf.cli.common.parsing import region_of_flag
from l2rkd_tf.cli.common.run_folder import config_of, run_folder, versions
from l2rkd_tf.plots.style import require_matplotlib
from l2rkd_tf.utils.files import write_json, write_text

__all__ = ["run"]

FORMATS = {"float32": None, "float16": "float16", "dynamic": "dynamic", "int8": "int8"}
NUM_EXAMPLES = 256  # as many as an export compares


def run(flags: FlagValues) -> None:
    """Exports, measures and writes everything, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.benchmark`, parsed and checked.
    """
    region = region_of_flag(flags.region)  # refused before anything is read or measured
    if flags.dry_run:
        plan.show("benchmark", _plan(flags))
        return
    require_matplotlib()
    console = Console(flags.verbose, total=5)
    console.step(f"Loading {flags.dataset}, the student and the teacher")
    models = from_flags.load_model("student", flags.student), from_flags.load_teacher(flags)
    train, _, test = from_flags.load_splits(flags)
    for name, model in zip(("student", "teacher"), models, strict=True):
        from_flags.check_fits(name, getattr(flags, name), model, test)
    with run_folder(flags.output) as folder:
        folder = pathlib.Path(folder)
        reports, results = measure_all(flags, models, (train, test), region, folder, console)
        console.step("Writing the table, the figure and the model card")
        write_json(folder / "results.json", results)
        table = render_table(results)
        write_text(folder / "table.md", table)
        plot(results, folder / "benchmark.png")
        student_card.write_card(
            folder,
            list(reports.values()),
            model=(flags.student, models[0].name),
            record={part: read_record(flags.student, part) for part in ("config", "metrics")},
            data=(flags.dataset, flags.splits, test),
            measurements=measurements(results, reports),
            use=flags.intended_use,
        )
    _report(flags, results, table, console)


def measure_all(flags, models, splits, region, folder, console):
    """Exports to the folder, and measures what table and figure show.

    Args:
        flags: Flags of the command.
        models: Student and teacher.
        splits: Training and test split.
        region: Region in which fidelity is measured; `None` for the default of the images.
        folder: Existing folder of the exported files.
        console: `Console` of the command.

    Returns:
        The reports of the exports by format, and the results as they are written as JSON.
    """
    (student, teacher), (train, test) = models, splits
    examples = fidelity.first_examples(test, flags.num_points)
    region = region or regions.default_region(examples[0], model=student)

    def measure(model):
        return _measure(model, teacher, test, examples, region, flags.draw_seed)

    # Before the exports, since it shows whether models and data fit together.
    rows = {KERAS: measure(student)}
    console.step("Exporting LiteRT files in four formats")
    # The same examples for all formats: the split has a new order in each pass.
    examples_of_export, _ = fidelity.first_examples(train, NUM_EXAMPLES)
    reports, refused = export_all(student, examples_of_export, folder, flags.verbose)
    paths = {name: folder / report.artifact for name, report in reports.items()}
    console.step(f"Measuring the files on {test.num_examples:,} examples of {flags.splits[-1]}")
    for name, path in _progress(paths.items(), "files", flags.verbose):
        rows[name] = measure(LiteRTModel(path))
    console.step(f"Timing {flags.rounds:,} calls of each file; use the cores for nothing else")
    for name, times in latencies(flags, paths, examples[0]).items():
        rows[name] |= {"bytes": reports[name].bytes, "latency": times}
    return reports, {
        "models": rows,
        "not_exported": refused,
        "teacher_accuracy": training.evaluate(teacher, test)["accuracy"],
        "num_examples": test.num_examples,
        "num_points": len(examples[0]),
        "region": with_settings(region),
        **_circumstances(flags),
    }


def _circumstances(flags):
    """What the measurements were made with."""
    return {
        "threads": [int(number) for number in flags.threads],
        "rounds": flags.rounds,
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}",
        "config": config_of("benchmark", flags),
        "versions": versions(),
    }


def _progress(items, unit, verbose):
    """A bar with the time left, if stderr is a terminal and `verbose` is not 0."""
    return tqdm.tqdm(items, unit=unit, disable=None if verbose else True)


def export_all(student, examples, folder, verbose=0):
    """Exports every format; returns the reports, and why formats could not be exported."""
    reports, refused = {}, {}
    for name, quantization in _progress(FORMATS.items(), "files", verbose):
        path = folder / f"student_{name}.tflite"
        try:
            reports[name] = export.export_litert(student, path, quantization, examples)
        except export.ExportError as error:
            refused[name] = str(error)
    if not reports:
        raise UsageError("student", f"cannot be exported in any format: {refused}")
    return reports, refused


def _measure(model, teacher, test, examples, region, seed):
    """Accuracy and agreement on the test split, and fidelity in the region of some examples."""
    profile = fidelity.region_profile(teacher, model, examples, region, seed=seed)
    return {
        "accuracy": training.evaluate(model, test)["accuracy"],
        "top1_agreement": geometry.top1_agreement(teacher, model, test),
        "profile": fidelity.profile_as_dict(profile),
    }


def latencies(flags, paths, images):
    """Median and middle half of each file's times, by number of threads as JSON has them."""
    calls = {
        (name, number): OneImage(path, int(number))
        for name, path in paths.items()
        for number in flags.threads
    }
    seconds = time_calls(
        calls, images, flags.rounds, flags.warm_up, flags.draw_seed, show_progress=flags.verbose > 0
    )
    return {
        name: {str(int(number)): quartiles(seconds[name, number]) for number in flags.threads}
        for name in paths
    }


def measurements(results, reports):
    """What was measured, as the model card takes it."""
    columns = {"accuracy": "test accuracy", "top1_agreement": "agrees with the teacher"}
    for name, row in results["models"].items():
        model = reports[name].artifact if name in reports else name
        for key, measure_name in columns.items():
            yield student_card.counted(model, measure_name, row[key], results["num_examples"])
        profile = row["profile"]
        for number in (0, 2, 4):
            where = f"{profile['fractions'][number]:g} of the way to the boundary of the region"
            yield {
                "model": model,
                "measure": f"KL from the teacher, {where}",
                "value": profile["kl"][number],
                "stderr": profile["kl_stderr"][number],
                "num_examples": results["num_points"],
            }


def _report(flags, results, table, console):
    """Tells what the smallest file costs and keeps, where everything is, and what to run next."""
    exported = {name: row for name, row in results["models"].items() if name != KERAS}
    smallest = min(exported, key=lambda name: exported[name]["bytes"])
    row, keras_row = exported[smallest], results["models"][KERAS]
    change = 100 * (row["accuracy"] - keras_row["accuracy"])
    console.result(table)
    console.result(
        f"The smallest file, {smallest}, has {row['bytes']:,} bytes and a test accuracy of "
        f"{percent(row['accuracy'])} ({change:+.2f} percentage points from the Keras student). It "
        f"agrees with the teacher on {percent(row['top1_agreement'])} of the test images."
    )
    names = ("table.md", "results.json", "benchmark.png", student_card.CARD)
    console.note(f"LiteRT files, {', '.join(names)}: in {flags.output}")
    console.next("inspect", f"--student={flags.student}")


def _plan(flags):
    """The lines of `--dry_run`."""
    student, teacher = (
        from_flags.load_model("student", flags.student),
        from_flags.load_teacher(flags),
    )
    return {
        "Student": f"{plan.describe_model(student)}, from {flags.student}",
        "Teacher": f"{plan.describe_model(teacher)}, from {flags.teacher}",
        "Data": plan.describe_data(flags, plan.load_or_none(flags)),
        "Formats": ", ".join(FORMATS),
        "Timing": f"{flags.rounds:,} calls of each file with {' and '.join(flags.threads)} threads",
        "Output": flags.output,
    }
