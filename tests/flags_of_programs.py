"""Reads lists of programs and arguments, and says which arguments the programs refuse.

python tests/flags_of_programs.py < commands.json

`commands.json` holds pairs of a path and a list of arguments. One line is printed for each that is
refused. No program starts: only its flags are defined.
"""

import json
import pathlib
import runpy
import sys

from absl import flags

FLAGS = flags.FLAGS
NO_VALUE = "<"  # what stands for a value in a text, such as `--recipe=<teacher's recipe>`


def define_flags(program, general):
    """Defines the flags of one program, and forgets those of the one before."""
    for name in set(FLAGS) - general:
        delattr(FLAGS, name)
    folder = str(pathlib.Path(program).resolve().parent)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]
    sys.path.insert(0, folder)
    runpy.run_path(program, run_name="program")
    sys.path.remove(folder)


def complaint(program, arguments):
    """What a program finds wrong with its arguments, or None."""
    FLAGS.unparse_flags()
    placeholders = [argument for argument in arguments if NO_VALUE in argument]
    names = {argument.lstrip("-").partition("=")[0] for argument in placeholders}
    if names - set(FLAGS):
        return f"no flags {sorted(names - set(FLAGS))}"
    try:
        FLAGS([program, *(argument for argument in arguments if argument not in placeholders)])
    except flags.Error as error:
        # Files of an earlier command are not here.
        return None if "existing" in str(error) else str(error)


def main():
    """Checks all commands, program by program."""
    general = set(FLAGS)
    commands = json.load(sys.stdin)
    for program in sorted({program for program, _ in commands}):
        define_flags(program, general)
        for _, arguments in (command for command in commands if command[0] == program):
            found = complaint(program, arguments)
            if found:
                print(f"{program} {' '.join(arguments)}: {found}")


if __name__ == "__main__":
    main()
