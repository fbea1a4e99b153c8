"""Adds committed results, which are kept outside `docs`, to the site. See `mkdocs.yml`.

Pages link to them by paths that also work on a code host, `../studies/results/f3_mnist.png`. In the
site, where the folder of the pages is the root, they are at `studies/results/f3_mnist.png`.
"""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent.parent
FOLDERS = ("studies/results", "benchmarks/results")
_TO_RESULTS = re.compile(rf"\]\(\.\./({'|'.join(FOLDERS)})/")


def on_files(files, config):
    """Called by mkdocs with the files of the site: adds pages, pictures and runs of results."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).iterdir()):
            if path.suffix in (".md", ".png", ".csv"):
                uri = f"{folder}/{path.name}"
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Called by mkdocs with the text of each page: makes links to and from results work in the site."""
    return _TO_RESULTS.sub(r"](\1/", markdown).replace("](../../docs/", "](../../")
