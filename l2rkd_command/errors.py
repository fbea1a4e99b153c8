"""Errors of the user's, which end a command with one line that names the flag."""

import contextlib
import re

__all__ = ["UsageError", "blame", "one_line"]


class UsageError(Exception):
    """A flag whose value cannot be used.

    Args:
        flag: Name of the flag, without dashes; empty for what no flag is to blame for.
        message: What is wrong with it, to be read after the flag: `"must be above 0"`.
    """

    def __init__(self, flag, message):
        super().__init__(f"--{flag} {message}" if flag else message)
        self.flag = flag


@contextlib.contextmanager
def blame(flag, **flags_of_arguments):
    """Turns a `ValueError` of the library into an error of a flag.

    Args:
        flag: Flag to name where the message does not begin with an argument that is known.
        **flags_of_arguments: Names of flags by the arguments that the library names.

    Raises:
        UsageError: If the body raises a `ValueError`.
    """
    try:
        yield
    except ValueError as error:
        argument, rest = split_argument(str(error))
        if argument in flags_of_arguments:
            raise UsageError(flags_of_arguments[argument], rest) from error
        raise UsageError(flag, f"cannot be used: {error}") from error


def split_argument(message):
    """The argument that a message of the library begins with, or `None`; and the rest."""
    match = re.match(r"`(\w+)` ", message)
    return (match[1], message[match.end() :]) if match else (None, message)


def one_line(message, names):
    """A message on one line, with flags where the library writes of arguments.

    Args:
        message: Text of an error.
        names: Names of the command's flags.
    """
    text = re.sub(
        r"`(\w+)(?:=True)?`",
        lambda match: f"--{match[1]}" if match[1] in names else match[0],
        " ".join(message.split()),
    )
    return text
