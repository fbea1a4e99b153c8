"""`l2rkd inspect`: how closely students match their teacher near the data, as an HTML report.

`report.html` in `--output` needs no other file: its pictures are part of it. They are also there
as PNG files, and the numbers as `measures.json`.
"""

import os
import pathlib

from absl.flags import FlagValues

from l2rkd_command.flags.inspect import TEACHER, read_students
from l2rkd_command.run_config import read_record
from l2rkd_tf import data, geometry, regions
from l2rkd_tf.cli.common import fidelity, from_flags, plan, shape_figures
from l2rkd_tf.cli.common.console import Console
from l2rkd_tf.cli.common.pages import percent, with_settings
from l2rkd_tf.cli.common.parsing import region_of_flag
from l2rkd_tf.cli.common.report_page import render_report
from l2rkd_tf.cli.common.run_folder import config_of, run_folder, versions
from l2rkd_tf.plots.style import require_matplotlib
from l2rkd_tf.utils.files import write_json, write_text

__all__ = ["run"]


def run(flags: FlagValues) -> None:
    """Measures, draws and writes the report, or says what would be done.

    Args:
        flags: Flags of `l2rkd_command.flags.inspect`, parsed and checked.
    """
    region = region_of_flag(flags.region)  # refused before anything is read or measured
    students = read_students(flags.student)
    if flags.dry_run:
        plan.show("inspect", _plan(flags, students))
        return
    require_matplotlib()
    console = Console(flags.verbose, total=4)
    console.step(f"Loading {flags.dataset}, the teacher and {', '.join(students)}")
    test, models = load_test(flags), load_models(flags, students)
    for name, file in ({TEACHER: flags.teacher} | students).items():
        flag = "teacher" if name == TEACHER else "student"
        from_flags.check_fits(flag, file, models[name], test)
    # Made first, so that a folder that cannot be written to is told before minutes of measuring.
    with run_folder(flags.output) as folder:
        measures = _measure_and_write(flags, students, test, models, region, folder, console)
    _report(flags, students, measures, test, console)


def _measure_and_write(flags, students, test, models, region, folder, console):
    """Measures, draws, and writes the report; returns what was measured."""
    examples = fidelity.first_examples(test, flags.num_points)
    region = region or regions.default_region(examples[0], model=models[TEACHER])
    console.step(f"Measuring on {test.num_examples:,} examples of {flags.splits[-1]}")
    measures, profiles = measure(flags, models, test, examples, region)
    console.step("Drawing the decision map and how linear the models are")
    figures, refused = shape_figures.draw_all(
        models,
        profiles,
        examples,
        region,
        class_names=test.class_names,
        resolution=flags.resolution,
        batch_size=flags.batch_size,
        seed=flags.draw_seed,
    )
    console.step("Writing the report")
    notes = notes_of(flags, region, len(examples[0]), refused)
    write_report(flags, students, measures, figures, notes, pathlib.Path(folder))
    return measures


def load_test(flags):
    """The test split in batches."""
    options = from_flags.data_options(flags)
    with from_flags.data_errors():
        return data.load(
            flags.dataset,
            options.pop("splits")[-1],
            batch_size=flags.batch_size,
            shuffle=False,
            **options,
        )


def load_models(flags, students):
    """The teacher and the students by name."""
    models = {TEACHER: from_flags.load_teacher(flags)}
    from_flags.check_region(flags, models[TEACHER])
    for name, path in students.items():
        models[name] = from_flags.load_model("student", path)
    return models


def measure(flags, models, test, examples, region):
    """What compares the students with the teacher.

    Returns:
        A dict of numbers for each model, and the `FidelityProfile` of each student.
    """
    teacher, images = models[TEACHER], examples[0]
    options = {"batch_size": flags.batch_size, "seed": flags.draw_seed}
    measures = {name: fidelity.scores(model, test) for name, model in models.items()}
    profiles = {}
    for name, student in models.items():
        if name == TEACHER:
            continue
        profiles[name] = fidelity.region_profile(teacher, student, examples, region, **options)
        distance = geometry.jacobian_distance(teacher, student, images, **options)
        measures[name] |= {
            "top1_agreement": geometry.top1_agreement(
                teacher, student, test, batch_size=flags.batch_size
            ),
            "jacobian_distance": distance._asdict(),
            "profile": fidelity.profile_as_dict(profiles[name]),
        }
    return measures, profiles


def notes_of(flags, region, num_points, refused):
    """What the numbers were measured with, and what could not be measured."""
    notes = [
        f"Scores and agreement are measured on the whole split {flags.splits[-1]!r} of "
        f"{flags.dataset!r}. Everything else starts from its first {num_points} examples. The "
        f"region is {with_settings(region)}. ± is the half-width of a 95 % CI.",
        "Jacobian distance: mean squared distance between the input Jacobians of teacher and "
        "student, divided by the teacher's mean squared norm. It is 0 for equal Jacobians and 1 "
        "for a constant student.",
    ]
    # Without what the message goes on to list: all layers that would do.
    reasons = {name: ". ".join(why.split(". ")[:2]) for name, why in refused.items()}
    if num_points < shape_figures.EXAMPLES_OF_A_MAP:
        notes.append("No decision map: it needs three examples.")
    return notes + [f"No linear radius of {name}: {why}." for name, why in reasons.items()]


def write_report(flags, students, measures, figures, notes, folder):
    """Writes the files of the output folder."""
    # A teacher of several files has no run of its own.
    runs = {
        name: {part: read_record(path, part) for part in ("config", "history")}
        for name, path in ({TEACHER: flags.teacher} | students).items()
    }
    title = f"{', '.join(students)} compared with their teacher on {flags.dataset}"
    page = render_report(folder, title, notes=notes, measures=measures, figures=figures, runs=runs)
    write_text(folder / "report.html", page)
    record = {"config": config_of("inspect", flags), "versions": versions()}
    write_json(folder / "measures.json", measures | record)


def best_student(measures):
    """Name of the student with the lowest KL from the teacher at the boundary of the region."""
    students = [name for name in measures if name != TEACHER]
    return min(students, key=lambda name: measures[name]["profile"]["kl"][-1])


def _finding(measures, num_examples):
    """What was found, in one sentence."""
    best = best_student(measures)
    at_boundary = {
        name: f"{row['profile']['kl'][-1]:.3g}" for name, row in measures.items() if name != TEACHER
    }
    lowest = at_boundary.pop(best)
    others = "".join(f"; {name}: {kl}" for name, kl in at_boundary.items())
    agreement = percent(measures[best]["top1_agreement"])
    return (
        f"{best} agrees with the teacher on {agreement} of {num_examples:,} examples, and has a KL "
        f"of {lowest} nats at the boundary of the region{others}."
    )


def _report(flags, students, measures, test, console):
    """Tells what was found, where the report is, and what to run next."""
    console.result(_finding(measures, test.num_examples))
    console.result(f"Report: {os.path.join(flags.output, 'report.html')}")
    console.note(f"Its numbers: {os.path.join(flags.output, 'measures.json')}")
    console.next("export", f"--student={students[best_student(measures)]}")


def _plan(flags, students):
    """The lines of `--dry_run`."""
    paths = {TEACHER: flags.teacher} | students
    models = {
        name: f"{plan.describe_model(model)}, from {paths[name]}"
        for name, model in load_models(flags, students).items()
    }
    return models | {
        "Data": f"{flags.dataset}, split {flags.splits[-1]}",
        "Output": os.path.join(flags.output, "report.html"),
    }
