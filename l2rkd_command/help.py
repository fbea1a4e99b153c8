"""Help pages: the commands, and the flags of a command in groups."""

import os
import shutil
import sys
import textwrap

__all__ = ["page_of_command", "page_of_commands", "show"]

_INDENT = " " * 6
# How flags without a default are shown, by the types of absl.
_PLACEHOLDERS = {"int": "INTEGER", "float": "NUMBER", "comma separated list of strings": "LIST"}


def show(page):
    """Prints a page, also where the reader stops early, as `| head` does."""
    try:
        print(page, flush=True)
    except BrokenPipeError:
        # What is left must not be written again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def page_of_commands(summaries):
    """The page of `l2rkd --help`.

    Args:
        summaries: One line about each command, by its name.
    """
    width = max(map(len, summaries))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join(
        [
            "l2rkd distills large image classifiers into small ones (Keras 3 on TensorFlow).",
            "",
            "Usage: l2rkd COMMAND [--flags]",
            "",
            *lines,
            "",
            "`l2rkd COMMAND --help` lists the flags of a command.",
        ]
    )


def page_of_command(name, summary, usage, flags):
    """The page of `l2rkd COMMAND --help`.

    Args:
        name: Name of the command.
        summary: One line about it.
        usage: Command lines to show, a string of several lines.
        flags: Its `absl.flags.FlagValues`, whose modules are the headings of the page.
    """
    parts = [_wrap(f"l2rkd {name}: {summary}"), f"Usage:\n{textwrap.indent(usage.strip(), '  ')}"]
    for heading, group in flags.flags_by_module_dict().items():
        parts.append("\n".join([heading, *map(_entry, group)]))
    return "\n\n".join(parts)


def _entry(flag):
    return f"  --{flag.name}={_default(flag)}\n{_wrap(_help(flag), _INDENT)}"


def _wrap(text, indent=""):
    width = min(100, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _default(flag):
    if flag.default is None:
        return _PLACEHOLDERS.get(flag.flag_type(), "TEXT")
    return (
        flag.serialize().partition("=")[2]
        if flag.flag_type() != "bool"
        else str(flag.default).lower()
    )


def _help(flag):
    values = getattr(flag.parser, "enum_values", None)
    if not values:
        return flag.help
    # absl puts the values in front of an enum's help.
    return f"{flag.help.partition('>: ')[2]} One of {', '.join(values)}."
