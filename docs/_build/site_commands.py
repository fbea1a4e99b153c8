"""Adds a page with the help of each command of `l2rkd` to the site. See `mkdocs.yml`."""

import importlib

from mkdocs.structure.files import File

from l2rkd_command import help, main

_HEAD = """# Commands

`l2rkd COMMAND --help` prints these pages. A flag is shown with its default.
"""


def page():
    """The text of the page, in Markdown."""
    sections = [_HEAD]
    for name in main.COMMANDS:
        flags = importlib.import_module(f"l2rkd_command.flags.{name.replace('-', '_')}")
        text = help.page_of_command(name, flags.SUMMARY, flags.USAGE, main.define(name))
        sections.append(f"## l2rkd {name}\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


def on_files(files, config):
    """Called by mkdocs with the files of the site."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files
