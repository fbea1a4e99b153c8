"""Starts several copies of a command on this machine, as workers that train together.

    l2rkd launch --num_workers=2 -- l2rkd distill --strategy=multi_worker

Everything after `--` is the command. Each copy gets its own `TF_CONFIG`, which lists the workers at
free ports of this machine and says which of them it is. Their output is passed on line by line,
with the number of the worker in front: `[worker 0] epoch 1 ...`.

When a worker fails, or the launcher receives SIGINT, SIGTERM or SIGHUP, all processes of all
workers get SIGTERM (or that signal), and SIGKILL `--grace_seconds` later. When all workers have
succeeded, the processes that they left running have the same time to end. A process that starts a
session of its own, as daemons do, no longer belongs to its worker.

The exit status is 0 when all workers succeed; otherwise that of the first worker that failed, or
128 plus the number of the signal that ended it; 126 or 127 for a command that cannot be started;
124 after `--timeout_seconds`; 128 plus the number of a signal that the launcher received; 1 when
nobody reads the output; 2 for wrong flags.

All copies see all devices of the machine. To use its GPUs from one process, use
`tf.distribute.MirroredStrategy`: `l2rkd distill --strategy=mirrored`.
"""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

__all__ = ["run"]


class Event(NamedTuple):
    """What the launcher waits for; the first with an exit code other than 0 ends all workers.

    Attributes:
        exit_code: What the launcher returns because of it.
        description: What happened.
        forward: The signal that the workers get.
    """

    exit_code: int
    description: str
    forward: int = signal.SIGTERM


class Output:
    """A stream to which several threads write, each a whole line at a time, without delay."""

    def __init__(self, stream):
        self._file = open(stream.fileno(), "wb", buffering=0, closefd=False)
        self._lock = threading.Lock()

    def write_line(self, prefix, line):
        """Writes bytes after a prefix, and ends the line where they do not."""
        rest = memoryview(prefix + line.removesuffix(b"\n") + b"\n")
        with self._lock:
            while rest:  # one write need not take all
                rest = rest[self._file.write(rest) :]


class Worker:
    """A copy of the command, with all that it starts: a process group of its own.

    Args:
        index: Its number, from 0.
        command: Program and arguments.
        environment: Environment variables, with `TF_CONFIG`.
        outputs: `Output` for its stdout, and one for its stderr.
        events: Queue that gets an `Event` when the command ends or its output cannot be written.

    Raises:
        OSError: If the command cannot be started.
    """

    def __init__(self, index, command, environment, outputs, events):
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._group_has_ended = False
        prefix = f"[worker {index}] ".encode()
        self._threads = [
            threading.Thread(target=copy_lines, args=(pipe, output, prefix, events), daemon=True)
            for pipe, output in zip(
                (self._process.stdout, self._process.stderr), outputs, strict=True
            )
        ]
        self._threads.append(threading.Thread(target=self._wait, args=(index, events), daemon=True))
        for thread in self._threads:
            thread.start()

    def _wait(self, index, events):
        code = self._process.wait()
        # The number of a group that has ended may be given to another: find out at once.
        self.is_alive()
        if code < 0:
            how = f"was ended by signal {-code} ({signal.strsignal(-code)})"
        else:
            how = f"ended with exit code {code}"
        events.put(Event(128 - code if code < 0 else code, f"worker {index} {how}"))

    def is_alive(self):
        """Whether the command, or anything else of its process group, still runs."""
        if self._process.poll() is None:
            return True
        self._group_has_ended = self._group_has_ended or not group_exists(self._process.pid)
        return not self._group_has_ended

    def send(self, number):
        """Sends a signal to the command and all that it started."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def finish_output(self, seconds):
        """Waits until all that was written has been copied, but no longer than that."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def group_exists(group):
    """Whether a process group has members to which signals may be sent."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def copy_lines(pipe, output, prefix, events):
    """Copies a worker's output line by line, bytes as they are, until nobody can write more."""
    try:
        for line in pipe:
            output.write_line(prefix, line)
    except OSError as error:  # nobody reads, as after `| head`, or the disk is full
        events.put(Event(1, f"cannot write the output of the workers: {error}"))


def find_free_ports(count):
    """Different ports that are free now; each is held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("", 0))
        return [opened.getsockname()[1] for opened in sockets]


def make_environment(addresses, index):
    """Environment of a worker: `TF_CONFIG`, and Python output that is not held back."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    return os.environ | {"TF_CONFIG": json.dumps(config), "PYTHONUNBUFFERED": "1"}


def handle_signals(events):
    """Turns signals to the launcher into events; `nohup` keeps its effect."""

    def note(number, frame):
        events.put(Event(128 + number, f"received {signal.Signals(number).name}", number))

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, note)


def wait_for_end(events, num_workers, timeout_seconds):
    """The first event that is not a success, or the last of `num_workers` successes."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    for _ in range(num_workers):
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            event = events.get(timeout=seconds)
        except queue.Empty:
            return Event(124, f"not done after {timeout_seconds:g} seconds")
        if event.exit_code:
            break
    return event


def end(workers, event, grace_seconds):
    """Ends whatever of the workers still runs: with the event's signal, after the grace SIGKILL."""
    if event.exit_code:
        for worker in workers:
            worker.send(event.forward)
    deadline = time.monotonic() + grace_seconds
    while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    for worker in workers:
        worker.send(signal.SIGKILL)
    for worker in workers:
        worker.finish_output(1.0)


def run(command, num_workers, grace_seconds, timeout_seconds):
    """Runs copies of a command until all succeed or one fails.

    Args:
        command: Program and arguments.
        num_workers: Number of copies.
        grace_seconds: Time between the first signal to the workers and SIGKILL.
        timeout_seconds: Time after which all are ended, or `None`.

    Returns:
        The exit code of the launcher.
    """
    events = queue.SimpleQueue()  # the one queue that a signal handler may use
    handle_signals(events)
    outputs = Output(sys.stdout), Output(sys.stderr)
    addresses = [f"localhost:{port}" for port in find_free_ports(num_workers)]
    workers, event = [], Event(1, "the launcher failed")
    try:
        for index in range(num_workers):
            environment = make_environment(addresses, index)
            workers.append(Worker(index, command, environment, outputs, events))
        event = wait_for_end(events, num_workers, timeout_seconds)
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        event = Event(code, f"worker {len(workers)} cannot be started: {error}")
    finally:
        end(workers, event, grace_seconds)
    if event.exit_code:
        with contextlib.suppress(OSError):
            outputs[1].write_line(b"[launcher] ", os.fsencode(event.description))
    return event.exit_code
