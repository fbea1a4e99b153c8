"""Runs that are killed at random moments and started again; ten times in `make stress`."""

import json
import os
import random
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from tests.helpers import ROOT, command_of

KILLS = 10 if "L2RKD_STRESS" in os.environ else 1
EPOCHS = {1: 12 * KILLS, 2: 6 * KILLS}  # by number of workers


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(digits_dir, folder, num_workers):
    """Starts the run, as one process or as several workers."""
    addresses = [f"localhost:{port}" for port in free_ports(num_workers)]
    processes = []
    for index in range(num_workers):
        environment = dict(os.environ)
        environment.pop("TF_CONFIG", None)
        if num_workers > 1:
            task = {"type": "worker", "index": index}
            environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        where = digits_dir, folder / "backup", folder / "results"
        processes.append(
            subprocess.Popen(
                command_of("killed_run", *where, EPOCHS[num_workers]),
                env=environment,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def newest_backup(folder):
    numbers = [
        int(path.name.removeprefix("epoch-"))
        for path in (folder / "backup").rglob("epoch-*")
        if not path.name.endswith(".partial")
    ]
    return max(numbers, default=0)


def wait_for_progress(folder, processes, epochs):
    """Waits until so many more epochs are backed up; a run that ends before fails the test."""
    wanted = newest_backup(folder) + epochs
    while newest_backup(folder) < wanted:
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, ended[0].stderr.read()[-3000:]
        time.sleep(0.01)


def finish(processes):
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors[0][-3000:]


def results(folder, num_workers):
    return [dict(np.load(folder / f"results.{task}.npz")) for task in range(num_workers)]


@pytest.mark.stress  # `test_backup.py` has a run that is killed once
@pytest.mark.parametrize(("num_workers", "tolerance"), [(1, 0.0), (2, 1e-6)])
def test_a_repeatedly_killed_run_equals_an_uninterrupted_one(
    num_workers, tolerance, digits_dir, tmp_path
):
    draw = random.Random(num_workers)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    finish(start(digits_dir, whole, num_workers))
    for _ in range(KILLS if num_workers == 1 else max(1, KILLS // 5)):
        processes = start(digits_dir, killed, num_workers)
        wait_for_progress(killed, processes, draw.randint(1, 3))
        time.sleep(draw.uniform(0.0, 0.1))
        victim = draw.choice(processes)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL
        for other in set(processes) - {victim}:
            _, errors = other.communicate(timeout=60)
            assert other.returncode not in (0, -signal.SIGKILL)
            assert "another worker has ended or cannot be reached" in errors
    assert newest_backup(killed) < EPOCHS[num_workers]
    finish(start(digits_dir, killed, num_workers))
    assert not list((killed / "backup").rglob("epoch-*"))
    for found, expected in zip(
        results(killed, num_workers), results(whole, num_workers), strict=True
    ):
        assert set(found) == set(expected)
        assert len(expected["log of loss"]) == EPOCHS[num_workers]
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)
