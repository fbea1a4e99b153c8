"""Adds a notebook of each tutorial to the site, with a link to it. See `mkdocs.yml`.

`tests/test_docs.py` runs the cells.
"""

import pathlib
import re

import nbformat
from mkdocs.structure.files import File

DOCS = pathlib.Path(__file__).parent.parent
TUTORIALS = (
    "first_student", "pretrained_teacher", "tables", "text", "time_series", "segmentation",
)  # fmt: skip
_CODE = re.compile(r"^```python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^<!-- .* -->\n", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]+\)")


def notebook(text):
    """A page of Markdown as a notebook: its Python blocks are the cells of code.

    Links to other pages become their text.
    """
    texts_and_code = _CODE.split(text)
    cells = []
    for index, part in enumerate(texts_and_code):
        if index % 2:
            cells.append(nbformat.v4.new_code_cell(part.strip("\n")))
        elif part.strip():
            text = _LINK.sub(r"\1", _COMMENT.sub("", part))
            cells.append(nbformat.v4.new_markdown_cell(text.strip("\n")))
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # random ones would change with each build
    made = nbformat.v4.new_notebook(cells=cells)
    made.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    return made


def on_files(files, config):
    """Called by mkdocs with the files of the site."""
    for name in TUTORIALS:
        content = nbformat.writes(notebook((DOCS / f"{name}.md").read_text()))
        files.append(File.generated(config, f"notebooks/{name}.ipynb", content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Called by mkdocs with the text of each page: puts the link below the title of a tutorial."""
    name = page.file.src_uri.removesuffix(".md")
    if name not in TUTORIALS:
        return markdown
    title, rest = markdown.split("\n", 1)
    return f"{title}\n\n[Download this page as a notebook](notebooks/{name}.ipynb)\n{rest}"
