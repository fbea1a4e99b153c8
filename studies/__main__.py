r"""Comparisons of distillation methods, over seeds and fractions of the data, at equal compute.

    python -m studies                                 # lists the studies
    python -m studies fewshot_digits --dry_run        # what a study would do
    python -m studies fewshot_digits --processes=4
    python -m studies fewshot_digits --reproduce --methods=KD --fractions=0.05 --seeds=3

Settings are chosen on the validation split with seeds that are not used again; then each method is
trained with each of the seeds and judged once, after the last step, on the test split. Every run is
kept as it arrives: started again, the study resumes and ends with the same file. A run that fails
is kept with its error and reported; it is tried again at the next start.
"""

import dataclasses
import os
import shlex
import sys

from absl import app, flags

from studies.harness import jobs, registry

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "output", None, "Results: this path with .json, .md, .csv, .png and .html. Default: runs/NAME."
)
flags.DEFINE_string("teachers", "runs/teachers", "Directory of the teachers; trained if absent.")
flags.DEFINE_list("methods", None, "Only these methods, and those that they are compared with.")
flags.DEFINE_list("fractions", None, "Fractions of the training data.")
flags.DEFINE_list("seeds", None, "Seeds of the reported runs.")
flags.DEFINE_list("tuning_seeds", None, "Seeds of the runs that choose the settings.")
flags.DEFINE_integer("steps", None, "Steps of plain distillation.", lower_bound=1)
flags.DEFINE_integer("teacher_steps", None, "Steps of the teachers.", lower_bound=1)
flags.DEFINE_integer("processes", os.cpu_count(), "Runs at a time, one core each.", 1)
flags.DEFINE_boolean("dry_run", False, "Print the study and the number of runs, and stop.")
flags.DEFINE_boolean("tables_only", False, "Only write tables, plot and page of --output again.")
flags.DEFINE_boolean(
    "reproduce",
    False,
    "Train the selected cells of the committed results again, with the settings that were chosen "
    "for them, and print both accuracies.",
)


def _numbers(flag, kind):
    """The numbers of a list flag as a tuple; `None` where it is not given."""
    words = FLAGS[flag].value
    if words is None:
        return None
    try:
        numbers = tuple(map(kind, words))
    except ValueError:
        numbers = ()
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise ValueError(f"--{flag} must be different numbers from 0. Received: {','.join(words)}")
    return numbers


def selected_study(name):
    """The study of this name, changed by the flags.

    Raises:
        ValueError: If there is no such study or method, or a number is out of range.
    """
    chosen = registry.get(name)
    changes = {
        "fractions": _numbers("fractions", float),
        "seeds": _numbers("seeds", int),
        "tuning_seeds": _numbers("tuning_seeds", int),
        "steps": FLAGS.steps,
        "teacher_steps": FLAGS.teacher_steps,
        "methods": FLAGS.methods and _selected(chosen, FLAGS.methods),
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if {"fractions", "methods"} & set(changes):
        changes["contrasts"] = ()
    if "methods" in changes:
        changes |= {"grid": None, "ranked": ()}
    return dataclasses.replace(chosen, **changes)


def _selected(study, names):
    """Methods of these names, and all that they refer to."""
    unknown = sorted(set(names) - set(study.methods))
    if unknown:
        known = "; ".join(study.methods)
        raise ValueError(f"--methods must be among: {known}. Received: {', '.join(unknown)}")
    wanted = set()
    while names:
        wanted |= set(names)
        referred = {study.methods[name].against for name in names}
        names = (referred | {study.tuned_by(name) for name in names}) - wanted
    return {name: method for name, method in study.methods.items() if name in wanted}


def list_studies():
    """Prints a line for each study."""
    found = registry.all_studies()
    width = max(map(len, found))
    print("python -m studies NAME, where NAME is one of")
    for name, study in found.items():
        print(f"  {name:{width}}  {study.title}")


def print_plan(study, output):
    """Prints the study and what a run of it would do."""
    settings = {(pair, name): {} for pair in study.pairs for name in study.methods}
    print(f"{study}\n")
    print(f"Teachers: {len(jobs.teacher_jobs(study))}")
    print(f"Runs that choose settings: {len(jobs.tuning_jobs(study))}")
    print(f"Reported runs: {len(jobs.test_jobs(study, settings))}")
    print(f"Results: {output}.json, .md, .csv, .png, .html")


def main(argv):
    """Runs a study, or does what another flag says."""
    if len(argv) == 1:
        list_studies()
        return
    try:
        if len(argv) > 2:
            raise ValueError(f"One study at a time. Received: {' '.join(argv[1:])}")
        study = selected_study(argv[1])
        output = FLAGS.output or f"runs/{argv[1]}"
        if FLAGS.dry_run:
            print_plan(study, output)
            return
        _run(argv[1], study, output)
    except ValueError as error:
        sys.exit(_one_line(error))


def _one_line(error):
    print(f"studies: {error}", file=sys.stderr)
    return 2


def _run(name, study, output):
    # Imports TensorFlow, which takes seconds: lists and wrong flags are answered before.
    from studies.harness import reproduce, run_study

    settings = run_study.Settings(
        output, FLAGS.teachers, FLAGS.processes, f"python -m studies {shlex.join(sys.argv[1:])}"
    )
    if FLAGS.reproduce:
        reproduce.reproduce(name, study, FLAGS.methods or list(study.methods), settings)
    elif FLAGS.tables_only:
        run_study.write_again(study, settings)
    else:
        run_study.run(study, settings)


if __name__ == "__main__":
    app.run(main)
