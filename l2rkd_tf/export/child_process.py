"""The child process in which LiteRT's converter and interpreter run.

Both are native code that can crash, which would end the caller's process with everything in it. One
child serves all exports of a process, since importing TensorFlow takes seconds. It starts with the
first one, is replaced when it dies, and ends with its parent.
"""

import atexit
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

import tensorflow as tf

__all__ = ["ChildDied", "ChildError", "call", "start"]

_PROGRAM = pathlib.Path(__file__).with_name("child")
_LAST_WORDS = 2000  # bytes of what a dead child printed

_lock = threading.RLock()  # the child does one job at a time
_current: "_Child | None" = None


class ChildError(Exception):
    """A job raised an error, with its message."""


class ChildDied(Exception):
    """The child ended in the middle of a job; the message says how."""


class _Child:
    """A running program of `child/`."""

    def __init__(self):
        # A file without a name: a pipe that nobody reads would fill up.
        self._printed = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            env=_environment(),
        )
        self._owner = os.getpid()

    def is_usable(self):
        """Whether it runs, and was started by this process rather than by one it forked from."""
        return self._owner == os.getpid() and self._process.poll() is None

    def answer(self, job):
        """Sends a job and waits for the answer."""
        self._printed.seek(0)  # for the child as well, which writes to the same open file
        self._printed.truncate()
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise ChildDied(self._obituary())
        return json.loads(line)

    def _obituary(self):
        status = self._process.wait()
        self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - _LAST_WORDS))
        lines = self._printed.read().decode(errors="replace").split("\n")
        last = [line.strip() for line in lines if line.strip()][-1:]
        return _cause(status) + "".join(f"; it last printed: {line}" for line in last)

    def end(self):
        """Ends the program, at once and without a trace."""
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._printed):
            try:
                stream.close()
            except BrokenPipeError:  # a job that it never read
                pass


def _cause(status):
    """How a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    return f"signal {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")


def _environment():
    """That of this process, with TensorFlow from the same place, on the CPU, and quiet."""
    packages = str(pathlib.Path(tf.__file__).parent.parent)
    paths = [packages, os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def start() -> None:
    """Starts the child unless it runs, so that it gets ready while the caller does other work."""
    global _current
    with _lock:
        if _current is None or not _current.is_usable():
            _end()
            _current = _Child()


@atexit.register
def _end():
    global _current
    if _current is not None:
        _current.end()
        _current = None


def call(function: str, folder: pathlib.Path, **arguments: Any) -> Any:
    """Calls a function of `child/__main__.py` in the child process.

    Args:
        function: Its name.
        folder: Existing folder for temporary files.
        **arguments: Its arguments; paths become text.

    Returns:
        What the function returned.

    Raises:
        ChildError: If the function raised an error.
        ChildDied: If the child died. The next call starts another one.
    """
    job = {"function": function, "folder": folder, **arguments}
    job = {
        key: str(value) if isinstance(value, os.PathLike) else value for key, value in job.items()
    }
    with _lock:
        start()
        assert _current is not None
        try:
            answer = _current.answer(job)
        except BaseException:  # Also Ctrl-C: the job is no longer wanted.
            _end()
            raise
    if "error" in answer:
        raise ChildError(answer["error"])
    return answer["result"]
