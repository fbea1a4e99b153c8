"""Errors of the user's, which end a command with one line that names the flag."""

import contextlib
import re

__all__ = ["UsageError", "blame", "error_of_argument", "one_line"]


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
        flag: Flag to name where the message does not begin with an argument that is known; `None`
            leaves such an error as it is.
        **flags_of_arguments: Names of flags by the arguments that the library names.

    Raises:
        UsageError: If the body raises a `ValueError`.
    """
    try:
        yield
    except ValueError as error:
        usage = error_of_argument(error, flags_of_arguments)
        if usage is None and flag is None:
            raise
        raise usage or UsageError(flag, f"cannot be used: {error}") from error


def error_of_argument(error, flags_of_arguments):
    """The error of a flag, from one of the library that begins with an argument.

    Args:
        error: The `ValueError`.
        flags_of_arguments: Names of flags by those of arguments, a dict.

    Returns:
        A `UsageError`; `None` if the message does not begin with one of these arguments.
    """
    message = _without_stack(str(error))
    match = re.match(r"`(\w+)(=[^`]*)?`", message)
    if match is None or match[1] not in flags_of_arguments:
        return None
    flag, rest = flags_of_arguments[match[1]], message[match.end() :].lstrip()
    if flag == match[1]:  # with its value, and with others that are flags as well
        return UsageError("", message)
    stands_alone = match[2] is None and not rest.startswith((",", "and ", "or "))
    return UsageError(flag, rest if stands_alone else f"cannot be used: {message}")


def _without_stack(message):
    """The message of an error within a `tf.function`, to which AutoGraph adds where it was."""
    is_within = message.startswith("in user code:")
    return message.rpartition("ValueError: ")[2].strip() if is_within else message


def one_line(message, names):
    """A message on one line, with flags where the library writes of arguments.

    Args:
        message: Text of an error.
        names: Names of the command's flags.
    """

    def as_flag(match):
        name, value = match[1], (match[2] or "").replace("'", "").replace("=True", "")
        return f"--{name}{value}" if name in names else match[0]

    return re.sub(r"`(\w+)(=[^`]*)?`", as_flag, " ".join(message.split()))
