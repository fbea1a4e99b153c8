r"""Methods on parts of the data, over seeds and pairs of networks, at equal compute.

    python examples/compare.py --study=fewshot_digits --output=docs/results/fewshot_digits
    python examples/compare.py --study=fewshot_digits --output=runs/cell --methods=KD \
        --fractions=0.05 --seeds=3          # one cell again

`studies.py` holds the studies. Settings are chosen on the validation split with seeds that are not
used again; then each method is trained with each of the seeds and judged once, after the last step,
on the test split. Every run is kept as it arrives: started again, the comparison goes on where it
stopped, and ends with the same file. A run that fails is kept with its error and reported; it is
tried again at the next start.
"""

import dataclasses
import functools
import os
import sys

import compare_jobs
import compare_page
import compare_run
import compare_table
import run_flags
import study
from absl import app, flags
from run_folder import write_json

import studies

FLAGS = flags.FLAGS

flags.DEFINE_enum("study", "fewshot_digits", sorted(studies.STUDIES), "What is compared.")
flags.DEFINE_string("output", None, "Results: this path with .json, .md, .csv, .png and .html.")
flags.DEFINE_string("teachers", "runs/teachers", "Folder of the teachers; trained when absent.")
flags.DEFINE_list("methods", None, "Only these methods; the others by default, too.")
flags.DEFINE_list("fractions", None, "Other fractions of the training data than the study's.")
flags.DEFINE_list("seeds", None, "Other seeds of the reported runs.")
flags.DEFINE_list("tuning_seeds", None, "Other seeds of the runs that choose the settings.")
flags.DEFINE_integer("steps", None, "Other steps of plain distillation.", lower_bound=1)
flags.DEFINE_integer("teacher_steps", None, "Other steps of the teachers.", lower_bound=1)
flags.DEFINE_integer("processes", os.cpu_count(), "Runs at a time, one core each.", 1)
for _name in ("seeds", "tuning_seeds"):
    flags.register_validator(
        _name,
        lambda words: words is None or run_flags.are_seeds(words),
        "must be different integers from 0",
    )


def selected_study():
    """The study of `--study`, changed by the other flags.

    Raises:
        ValueError: If there is no such method, or a number is out of range.
    """
    chosen = studies.get(FLAGS.study)
    changes = {
        "fractions": FLAGS.fractions and tuple(map(float, FLAGS.fractions)),
        "seeds": FLAGS.seeds and tuple(map(int, FLAGS.seeds)),
        "tuning_seeds": FLAGS.tuning_seeds and tuple(map(int, FLAGS.tuning_seeds)),
        "steps": FLAGS.steps,
        "teacher_steps": FLAGS.teacher_steps,
        "methods": FLAGS.methods and _selected(chosen.methods, FLAGS.methods),
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if {"fractions", "methods"} & set(changes):
        changes["contrasts"] = ()
    return dataclasses.replace(chosen, **changes)


def _selected(methods, names):
    """Methods of these names, and those that they are compared with."""
    unknown = sorted(set(names) - set(methods))
    if unknown:
        raise ValueError(f"`methods` must be among {list(methods)}. Received: {unknown}")
    wanted = set(names) | {methods[name].against for name in names}
    return {name: method for name, method in methods.items() if name in wanted}


def run_phase(function, jobs, chosen, results, path):
    """Runs the jobs that are not among the results yet."""
    run = functools.partial(function, study=chosen, folder=FLAGS.teachers)
    study.run_all(run, jobs, results, path, FLAGS.processes)


def get_teachers(chosen, results, path):
    """Trains the teachers that are absent; notes what they are.

    Raises:
        ValueError: If the results were begun with other teachers.
        RuntimeError: If one could not be trained.
    """
    found = {"runs": []}
    jobs = compare_jobs.teacher_jobs(chosen)
    run_phase(compare_run.train_teacher, jobs, chosen, found, f"{path}.teachers")
    os.remove(f"{path}.teachers")
    study.check_succeeded(found["runs"])
    teachers = compare_jobs.teachers_of_pairs(chosen, found["runs"])
    if results.setdefault("teachers", teachers) != teachers:
        raise ValueError(
            "`teachers` must hold those that the results were begun with. Received: "
            f"teachers={FLAGS.teachers!r}, whose weights are others. Choose another --output."
        )


def begin(path, chosen):
    """The results of an earlier start, or new ones.

    Raises:
        ValueError: If they are of another study; seeds and fractions may be added.
    """
    results = study.load_results(path)
    text = str(dataclasses.replace(chosen, seeds=(), fractions=(), contrasts=()))
    if results.setdefault("study", text) != text:
        raise ValueError(
            f"`output` must be new, or hold results of the same study. Received: {path!r}, begun "
            "with other settings. Choose another --output."
        )
    return results


def main(argv):
    """Chooses settings, trains the reported runs, writes JSON, tables, plot and report."""
    run_flags.start(argv)
    chosen = selected_study()
    output = FLAGS.output or f"runs/{FLAGS.study}"
    path = f"{output}.json"
    results = begin(path, chosen)
    print(f"{chosen.title}\n{chosen}")
    get_teachers(chosen, results, path)
    run_phase(compare_run.train_student, compare_jobs.tuning_jobs(chosen), chosen, results, path)
    settings = compare_jobs.choose(chosen, results["runs"])
    run_phase(
        compare_run.train_student, compare_jobs.test_jobs(chosen, settings), chosen, results, path
    )
    results["summary"] = compare_table.summarize(chosen, results["runs"])
    write_json(path, results)
    print(compare_page.write(output, chosen, results))
    study.check_succeeded(results["runs"])


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
