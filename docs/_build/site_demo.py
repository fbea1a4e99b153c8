"""Adds the browser demo to the site, in `demo/`, if `make web` has built it. See `mkdocs.yml`."""

import pathlib

from mkdocs.structure.files import File

DEMO = pathlib.Path(__file__).parent.parent.parent / "examples/web/dist"
_LINK = "[**Open the demo**](demo/index.html)\n\n"
_PLACE = "```sh\nmake web "


def on_files(files, config):
    """Called by mkdocs with the files of the site."""
    for path in sorted(DEMO.rglob("*")):
        if path.is_file():
            uri = f"demo/{path.relative_to(DEMO).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Called by mkdocs with the text of each page: links to the demo where there is one."""
    if page.file.src_uri == "browser.md" and files.get_file_from_path("demo/index.html"):
        return markdown.replace(_PLACE, _LINK + _PLACE, 1)
    return markdown
