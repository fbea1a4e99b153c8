"""Tables in Markdown."""

import json
import re
from collections.abc import Iterable, Sequence


def cell(value: object) -> str:
    """A value as text that fits into a table's cell: without line breaks, and `|` escaped."""
    if isinstance(value, float):
        value = f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = text.encode("utf-8", "backslashreplace").decode()  # names of files may be other bytes
    return " ".join(text.split()).replace("|", "\\|")


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown whose columns of numbers are aligned to the right.

    Args:
        header: Text for each column.
        rows: Rows of as many values, at least one row.

    Returns:
        Lines of text without a line break at the end.
    """
    import tabulate  # here, since importing the library is to bring in nothing but Keras

    cells = [[cell(value) for value in row] for row in rows]
    sides = ["right" if _are_numbers(column) else "left" for column in zip(*cells, strict=True)]
    return tabulate.tabulate(cells, header, tablefmt="pipe", disable_numparse=True, colalign=sides)


def _are_numbers(column: Sequence[str]) -> bool:
    """Whether all texts that are not empty begin with a number, in bold or not."""
    texts = [text for text in column if text]
    return bool(texts) and all(re.match(r"(\*\*)?[+-]?\d", text) for text in texts)
