"""The command `l2rkd`: answers help and wrong flags itself, and runs a program for all else."""

import ast
import difflib
import importlib
import os
import re
import sys

from absl import flags

from l2rkd_command import help, launch, silence
from l2rkd_command.errors import UsageError, error_of_argument, one_line

__all__ = ["COMMANDS", "define", "main", "parse"]

#: In the order of the help page. Their flags are in `l2rkd_command.flags`, their programs in
#: `l2rkd_tf.cli`, under these names with `_` for `-`.
COMMANDS = (
    "train-teacher",
    "distill",
    "export",
    "benchmark",
    "inspect",
    "tune",
    "demo",
    "launch",
)
_EXIT_OF_USAGE, _EXIT_OF_INTERRUPT = 2, 130
# Extras of `pip install` by the modules that they bring.
_EXTRAS = {
    "keras_tuner": "tuner",
    "matplotlib": "plots",
    "sklearn": "data",
    "tensorboard": "tensorboard",
}


def main(argv=None):
    """Runs a command.

    Args:
        argv: Words after `l2rkd`; those of the command line by default.

    Returns:
        The exit status: 0, or 2 after a wrong flag or another error of the user's, which is told in
        one line on stderr; 130 after Ctrl-C; that of the workers, for `launch`.
    """
    name, *words = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("--help", "-h", "help"):
        help.show(help.page_of_commands({name: _flags_module(name).SUMMARY for name in COMMANDS}))
        return 0
    if name not in COMMANDS:
        nearest = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"Did you mean {nearest[0]}?" if nearest else "`l2rkd --help` lists the commands."
        return _refuse("l2rkd", f"{name!r} is not a command. {hint}")
    if {"--help", "-h"} & set(_before_dashes(words)):
        module = _flags_module(name)
        help.show(help.page_of_command(name, module.SUMMARY, module.USAGE, define(name)))
        return 0
    try:
        return _run(name, *parse(name, words)) or 0
    except (UsageError, flags.Error) as error:
        return _refuse(f"l2rkd {name}", _told(error, define(name)))
    except KeyboardInterrupt:
        return _refuse(f"l2rkd {name}", "interrupted", _EXIT_OF_INTERRUPT)


def parse(name, words):
    """Flags of a command, checked as far as that is possible without TensorFlow.

    Args:
        name: One of `COMMANDS`.
        words: Words after the command.

    Returns:
        The parsed `absl.flags.FlagValues`, and the words after `--`.

    Raises:
        absl.flags.Error: If a flag is unknown or its value is refused.
        UsageError: If flags do not go together, or a word is not a flag.
    """
    parsed, before = define(name), list(map(_at_home, _before_dashes(words)))
    try:
        rest = parsed([f"l2rkd {name}", *before])[1:]
    except ValueError as error:  # absl says so of a switch that gets no boolean
        raise UsageError("", str(error)) from error
    if rest and name != "launch":
        raise UsageError("", f"{rest[0]!r} is not a flag. Flags begin with two dashes.")
    command = words[len(before) + 1 :]
    if name == "launch" and (rest or not command):
        raise UsageError(
            "",
            "the command to start must follow `--`, as in l2rkd launch --num_workers=2 -- python "
            f"train.py. Received: {' '.join(rest) or 'no command'}",
        )
    if command and name != "launch":
        raise UsageError("", f"takes only flags. Received: -- {' '.join(command)}")
    _flags_module(name).check(parsed)
    return parsed, command


def _run(name, parsed, command):
    """Runs the program of a command; returns its exit status, if it has one."""
    if name == "launch":
        return launch.run(command, parsed.num_workers, parsed.grace_seconds, parsed.timeout_seconds)
    try:
        if parsed.verbose < 2:
            silence.import_tensorflow()
        program = importlib.import_module(f"l2rkd_tf.cli.{_module_name(name)}")
        return program.run(parsed)
    except (ValueError, OSError, ImportError) as error:
        usage = _error_of_user(error, parsed)
        if usage is None or parsed.verbose == 2:
            raise
        raise usage from error


def _error_of_user(error, parsed):
    """An error that the user can mend, in words for the user; `None` for a mistake of ours."""
    if isinstance(error, ImportError):
        missing = _missing_module(error)
        wanted = f"needs {missing}: pip install 'l2rkd-tf[{_EXTRAS.get(missing)}]'"
        return UsageError("", wanted) if missing in _EXTRAS else None
    if isinstance(error, ValueError):
        # Errors of the library that name an argument which is also a flag.
        return error_of_argument(error, {name: name for name in parsed})
    return UsageError("", f"{error.strerror}: {error.filename!r}" if error.filename else str(error))


def _missing_module(error):
    """The package that is missing; errors of the library have the original error as their cause."""
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    return (cause.name or "").partition(".")[0]


def _module_name(name):
    return name.replace("-", "_")


def _flags_module(name):
    return importlib.import_module(f"l2rkd_command.flags.{_module_name(name)}")


def define(name):
    """New flags of a command, not parsed, so that one call leaves nothing for the next."""
    flag_values = flags.FlagValues()
    _flags_module(name).define(flag_values)
    return flag_values


def _at_home(word):
    """A word with the home folder for `~` at the beginning of each path, as shells do not do it."""
    return re.sub(r"(?<=[=,])~(?=/|,|$)", os.path.expanduser("~"), word)


def _before_dashes(words):
    return words[: words.index("--")] if "--" in words else words


def _refuse(who, message, status=_EXIT_OF_USAGE):
    print(f"{who}: {message}", file=sys.stderr)
    return status


def _told(error, names):
    """The message of an error on one line, which begins with the flag where one is to blame."""
    text = one_line(str(error), names)
    # As absl writes: "flag --epochs=x: invalid literal", "Unknown command line flag 'x'".
    if match := re.match(r"flag --(\w+)=(.*?): (.*)", text):
        return _refused_value(names[match[1]], match[2], match[3])
    if match := re.match(r"Unknown command line flag '(\w+)'\.?(.*)", text):
        return f"--{match[1]} is not a flag of this command.{match[2].replace(' ?', '?')}"
    if match := re.match(r"Missing value for flag (--\w+)", text):
        return f"{match[1]} needs a value"
    if match := re.match(r"Flag (--\w+) must have a value", text):
        return f"{match[1]} must be given"
    return text


def _refused_value(flag, value, message):
    if not message.startswith("must"):  # it is the parser that refuses the text
        values = getattr(flag.parser, "enum_values", None)
        wanted = f"one of {', '.join(values)}" if values else flag.parser.syntactic_help
        message = f"must be {wanted or 'true or false'}"
    if value.startswith("["):
        value = ",".join(ast.literal_eval(value))
    received = "" if "Received" in message else f". Received: --{flag.name}={value}"
    return f"--{flag.name} {message.rstrip('.')}{received}"
