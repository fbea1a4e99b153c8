"""Copies committed tables of results into the README and the pages of `docs`.

    python docs/_build/fill_readme.py

A page marks the place: everything from `<!-- studies/results/f3_mnist.md -->` to `<!-- end -->` is
replaced by that file, and after `<!-- studies/results/f3_mnist.md: 2 -->` by its second table only;
after `<!-- studies/results/f3_mnist.md: 1 (50 images; 2,000 images) -->` by the first column of the first table
and those of these names.
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent.parent


def fill(text):
    """Returns the text of a page with every marked place filled from its file."""
    return re.sub(
        r"(<!-- (\S+\.md)(?:: (\d+))?(?: \(([^)\n]+)\))? -->\n).*?(<!-- end -->)",
        lambda match: match[1] + _content(*match.group(2, 3, 4)) + match[5],
        text,
        flags=re.DOTALL,
    )


def _content(path, number, columns):
    text = (ROOT / path).read_text()
    if not number:
        return text
    table = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[int(number) - 1]
    return _selected(table, columns.split("; ")) if columns else table


def _selected(table, names):
    """The first column of a table, and those of these names."""
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    header = [cell.strip() for cell in rows[0]]
    places = [0, *map(header.index, names)]
    return "".join(f"|{'|'.join(row[place] for place in places)}|\n" for row in rows)


if __name__ == "__main__":
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        page.write_text(fill(page.read_text()))
