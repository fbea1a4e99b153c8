"""Files of results, which a benchmark continues from."""

import json
import os


def read(path, otherwise):
    """What a JSON file holds, or something else where there is none."""
    if not os.path.exists(path):
        return otherwise
    with open(path) as file:
        return json.load(file)
