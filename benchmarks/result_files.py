"""Files of results: read where a benchmark goes on, and written whole or not at all."""

import json
import os


def read(path, otherwise):
    """What a JSON file holds, or something else where there is none."""
    if not os.path.exists(path):
        return otherwise
    with open(path) as file:
        return json.load(file)


def write(path, content):
    """Writes a text."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(f"{path}.partial", "w") as file:
        file.write(content)
    os.replace(f"{path}.partial", path)


def write_json(path, content):
    """Writes JSON."""
    write(path, json.dumps(content, indent=1) + "\n")
