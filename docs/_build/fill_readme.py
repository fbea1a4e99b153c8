"""Copies committed tables of results into the README and the pages of `docs`.

    python docs/_build/fill_readme.py

A page marks the place: everything from `<!-- studies/results/patience.md -->` to `<!-- end -->` is
replaced by that file, and after `<!-- studies/results/patience.md: 2 -->` by its second table only.
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent.parent


def fill(text):
    """Returns the text of a page with every marked place filled from its file."""
    return re.sub(
        r"(<!-- (\S+\.md)(?:: (\d+))? -->\n).*?(<!-- end -->)",
        lambda match: match[1] + _content(match[2], match[3]) + match[4],
        text,
        flags=re.DOTALL,
    )


def _content(path, number):
    text = (ROOT / path).read_text()
    return re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[int(number) - 1] if number else text


if __name__ == "__main__":
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        page.write_text(fill(page.read_text()))
