"""Copies the tables of `docs/results` into the README and the pages of `docs`.

python docs/_build/fill_readme.py
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def fill(text):
    """The text with every `<!-- path.md -->` ... `<!-- end -->` filled from its file.

    `<!-- path.md: 2 -->` takes the second table of the file alone, without its caption.
    """
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
