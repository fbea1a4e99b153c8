"""Copies the tables of `docs/results` into the README and the pages of `docs`.

python docs/fill_readme.py
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def fill(text):
    """The text with every `<!-- path.md -->` ... `<!-- end -->` filled from its file."""
    return re.sub(
        r"(<!-- (\S+\.md) -->\n).*?(<!-- end -->)",
        lambda match: match[1] + (ROOT / match[2]).read_text() + match[3],
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        page.write_text(fill(page.read_text()))
