"""Many runs, each in a process with one core; results are kept as they arrive."""

import concurrent.futures
import datetime
import functools
import json
import multiprocessing
import os
import platform
import sys
import traceback

import tensorflow as tf
import tqdm

from l2rkd_tf.cli.common import run_folder
from l2rkd_tf.utils import files

# What TensorFlow keeps of every graph that a process has traced slows it down in the end.
_JOBS_OF_A_PROCESS = 30


def load_results(path, command):
    """The results of an earlier start of the study, or new ones."""
    if os.path.exists(path):
        with open(path) as file:
            return json.load(file)
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": run_folder.versions(),
        "runs": [],
    }


def run_all(run_one, jobs, results, path, processes):
    """Runs the jobs that are not among the results yet, and saves each result as it arrives.

    A job that fails is kept with its error, and tried again when the study is started again.

    Args:
        run_one: Function of a job that returns a dict of results; runs in another process.
        jobs: Dicts of plain values, different from one another.
        results: Dict whose list `runs` holds the jobs that are done, each with its results; these
            jobs come last, in their order, whichever was done first.
        path: JSON file for `results`; empty for none.
        processes: Jobs at a time, one core each.
    """
    results["runs"] = [
        run
        for run in results["runs"]
        if "error" not in run or not any(job.items() <= run.items() for job in jobs)
    ]
    missing = [
        job for job in jobs if not any(job.items() <= run.items() for run in results["runs"])
    ]
    # Without a terminal, a line now and then instead of a bar that is drawn again and again.
    seconds = 0.1 if sys.stderr.isatty() else 60
    with tqdm.tqdm(
        None, "runs", len(jobs), initial=len(jobs) - len(missing), unit="run", smoothing=0.1,
        mininterval=seconds, maxinterval=2 * seconds,
    ) as progress:  # fmt: skip
        for some in _batches(missing, _JOBS_OF_A_PROCESS * processes):
            for job, result in _run(run_one, some, processes):
                results["runs"].append(job | result)
                results["runs"].sort(key=functools.partial(_place, jobs))
                if path:
                    files.write_json(path, results, indent=None)
                progress.update()


def check_succeeded(runs):
    """Raises a `RuntimeError` that counts the runs that failed, and has the error of the first."""
    failed = [run for run in runs if "error" in run]
    if failed:
        raise RuntimeError(f"Runs failed: {len(failed)}. The first:\n{failed[0]['error']}")


def _run(run_one, jobs, processes):
    """Runs jobs in new processes; yields pairs of a job and its result as they arrive."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, spawn, _use_one_core) as pool:
        futures = {pool.submit(run_one, job): job for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], _result(future)


def _place(jobs, run):
    """Where the job of a run stands among the jobs; before all of them if it is not there."""
    return next((i for i, job in enumerate(jobs) if job.items() <= run.items()), -1)


def _batches(jobs, size):
    return [jobs[start : start + size] for start in range(0, len(jobs), size)]


def _result(future):
    try:
        return future.result()
    except Exception as error:  # whatever it is, the other runs continue
        return {"error": "".join(traceback.format_exception(error))}


def _use_one_core():
    tf.get_logger().setLevel("ERROR")  # it warns of every new trace, and each run has its own
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
