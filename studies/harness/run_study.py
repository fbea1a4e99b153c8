"""Runs a study from its teachers to its page."""

import dataclasses
import functools
import os

from l2rkd_tf.utils import files
from studies.harness import jobs, page, processes, runs, summary


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where and how a study runs.

    Attributes:
        output: Path of the results without an ending.
        teachers: Directory of the teachers.
        processes: Runs at a time.
        command: The command, as the results record it.
    """

    output: str
    teachers: str
    processes: int
    command: str = ""

    @property
    def path(self):
        """JSON file of the results."""
        return f"{self.output}.json"


def run_phase(function, phase, study, results, path, settings):
    """Runs the jobs that are not among the results yet."""
    one = functools.partial(function, study=study, folder=settings.teachers)
    processes.run_all(one, phase, results, path, settings.processes)


def train_teachers(study, settings):
    """Trains the teachers that are absent.

    Returns:
        The results of their runs, for `jobs.teachers_of_pairs`.

    Raises:
        RuntimeError: If one could not be trained.
    """
    found = {"runs": []}
    run_phase(runs.train_teacher, jobs.teacher_jobs(study), study, found, "", settings)
    processes.check_succeeded(found["runs"])
    return found["runs"]


def begin(path, study, command=""):
    """The results of an earlier start, or new ones.

    Raises:
        ValueError: If they are of another study; seeds, fractions and ranked regions may be added.
    """
    results = processes.load_results(path, command)
    text = str(dataclasses.replace(study, seeds=(), fractions=(), contrasts=(), ranked=()))
    if results.setdefault("study", text) != text:
        raise ValueError(
            f"--output must be new, or hold results of the same study. Received: {path!r}, begun "
            "with other settings. Choose another --output."
        )
    return results


def are_those_of(begun, study, trained):
    """Whether teachers are those that results were begun with, perhaps with fewer seeds."""
    for name, teacher in begun.items():
        some = dataclasses.replace(study, seeds=study.seeds[: teacher.get("teachers", 1)])
        found = jobs.teachers_of_pairs(some, trained)[name]
        if found["weights_sha256"] != teacher["weights_sha256"]:
            return False
    return True


def run(study, settings):
    """Chooses settings, trains the reported runs, writes JSON, tables, plot and page.

    Raises:
        ValueError: If the results were begun with another study or other teachers.
        RuntimeError: If a run failed; the results are written all the same.
    """
    results = begin(settings.path, study, settings.command)
    print(f"{study.title}\n{study}")
    trained = train_teachers(study, settings)
    if not are_those_of(results.get("teachers", {}), study, trained):
        raise ValueError(
            "--teachers must hold those that the results were begun with. Received: "
            f"{settings.teachers!r}, whose weights differ. Choose another --output."
        )
    results["teachers"] = jobs.teachers_of_pairs(study, trained)
    phase = functools.partial(
        run_phase, study=study, results=results, path=settings.path, settings=settings
    )
    phase(runs.train_student, jobs.tuning_jobs(study))
    chosen = jobs.choose(study, results["runs"])
    phase(runs.rank_regions, jobs.ranking_jobs(study))
    phase(runs.train_student, jobs.test_jobs(study, chosen))
    print(write(study, results, settings))
    processes.check_succeeded(results["runs"])


def write_again(study, settings):
    """Writes summary, tables, plot and page of results again, from their runs.

    Raises:
        ValueError: If there are no results, or they are of another study.
    """
    if not os.path.exists(settings.path):
        raise ValueError(f"--output must have results. There is no {settings.path}")
    print(write(study, begin(settings.path, study), settings))


def write(study, results, settings):
    """Writes what the runs amount to; returns the tables as markdown."""
    results["summary"] = summary.summarize(study, results["runs"])
    correlation = summary.rank_correlation(study, results["runs"])
    if correlation:
        results["rank_correlation"] = correlation
    files.write_json(settings.path, results, indent=None)
    return page.write(settings.output, study, results)
