"""What studies share: a teacher, many runs in processes of their own, results that are kept."""

import concurrent.futures
import datetime
import functools
import hashlib
import json
import multiprocessing
import os
import platform
import sys
import traceback

import keras
import tensorflow as tf
import tqdm
import training
from run_folder import versions, write_json

# What TensorFlow keeps of every graph that a process has traced slows it down in the end.
_JOBS_OF_A_PROCESS = 30


def load_results(path):
    """The results of an earlier start of the study, or new ones, for which it makes the folder."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    if os.path.exists(path):
        with open(path) as file:
            return json.load(file)
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "runs": [],
    }


def get_teacher(path, results, **network):
    """Trains and saves the teacher of the digits when it is absent; notes what it is.

    Args:
        path: Keras file of the teacher.
        results: Dict that gets its accuracy and a digest of its weights as `teacher`.
        **network: Arguments of `training.train_teacher`.

    Raises:
        ValueError: If the results were begun with another teacher.
    """
    if not os.path.exists(path):
        teacher, *_ = training.train_teacher("digits", **network)
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        teacher.save(path)
    teacher = keras.models.load_model(path)
    weights = b"".join(weight.tobytes() for weight in teacher.get_weights())
    digest = hashlib.sha256(weights).hexdigest()
    if results.get("teacher", {}).get("weights_sha256", digest) != digest:
        raise ValueError(
            "`teacher` must be the one that the results were begun with. Received: "
            f"teacher={path!r}, whose weights are others. Choose another --output."
        )
    _, _, test = training.load_splits("digits", 50)
    results["teacher"] = {
        "weights_sha256": digest,
        "test_accuracy": 100 * training.evaluate(teacher, test)["accuracy"],
        "parameters": teacher.count_params(),
    }


def train(trainee, dataset, epochs, learning_rate=6e-3):
    """Trains a student, or the distiller that holds it, as all studies do.

    Args:
        trainee: Student or distiller.
        dataset: Training batches.
        epochs: Epochs of 100 steps.
        learning_rate: Learning rate at the beginning; it falls to zero at the end.

    Returns:
        The time of a step in milliseconds.
    """
    _, step_ms = training.fit(
        trainee,
        dataset,
        epochs=epochs,
        steps_per_epoch=100,
        learning_rate=learning_rate,
        steps_per_execution=10,
        verbose=0,
    )
    return step_ms


def write_table(path, table):
    """Writes a table of markdown, and prints it."""
    with open(path, "w") as file:
        file.write(table)
    print(table)


def run_all(run_one, jobs, results, path, processes):
    """Runs the jobs that are not among the results yet, and saves each result as it arrives.

    A job that fails is kept with its error, and tried again when the study is started again.

    Args:
        run_one: Function of a job that returns a dict of results; runs in another process.
        jobs: Dicts of plain values, different from one another.
        results: Dict whose list `runs` holds the jobs that are done, each with its results; these
            jobs come last, in their order, whichever was done first.
        path: JSON file for `results`.
        processes: Jobs at a time, one core each.
    """
    results["runs"] = [run for run in results["runs"] if "error" not in run]
    missing = [
        job for job in jobs if not any(job.items() <= run.items() for run in results["runs"])
    ]
    with tqdm.tqdm(
        None, "runs", len(jobs), initial=len(jobs) - len(missing), unit="run", smoothing=0.1
    ) as progress:
        for some in _batches(missing, _JOBS_OF_A_PROCESS * processes):
            for job, result in _run(run_one, some, processes):
                results["runs"].append(job | result)
                results["runs"].sort(key=functools.partial(_place, jobs))
                write_json(path, results)
                progress.update()


def check_succeeded(runs):
    """Raises a `RuntimeError` that counts the runs that failed, and has the error of the first."""
    failed = [run for run in runs if "error" in run]
    if failed:
        raise RuntimeError(f"{len(failed)} runs failed, the first with:\n{failed[0]['error']}")


def _run(run_one, jobs, processes):
    """Runs jobs in new processes; gives pairs of a job and its result as they arrive."""
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
    except Exception as error:  # whatever it is, the other runs go on
        return {"error": "".join(traceback.format_exception(error))}


def _use_one_core():
    tf.get_logger().setLevel("ERROR")  # it warns of every new trace, and each run has its own
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
