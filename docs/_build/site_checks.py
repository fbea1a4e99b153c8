"""Checks that pages of the site can be read without the network. See `mkdocs.yml`."""

import re

# Links that a reader clicks are welcome; what a browser fetches by itself is not.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'> ]+"""
)


def on_post_page(output, page, config):
    """Called by mkdocs with the HTML of each page."""
    found = _FETCHED.findall(output)
    if found:
        raise ValueError(f"{page.file.src_path} would have a browser fetch {found}")
