"""Commands of `l2rkd` in this process, as a user writes them."""

import contextlib
import io

from l2rkd_command.main import main


def run(*words):
    """Exit status, stdout and stderr of a command."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        status = main(list(map(str, words)))
    return status, stdout.getvalue(), stderr.getvalue()


def succeed(*words):
    """What a command prints."""
    status, printed, errors = run(*words)
    assert status == 0, errors
    return printed


def fail(*words):
    """The one line that a command says about a wrong use."""
    status, printed, errors = run(*words)
    assert (status, printed) == (2, ""), errors
    (line,) = errors.splitlines()
    assert line.startswith(f"l2rkd {words[0]}: ")
    return line


def refuse_work(*args, **kwargs):
    """Takes the place of a function that must not be reached."""
    raise AssertionError("work was begun")
