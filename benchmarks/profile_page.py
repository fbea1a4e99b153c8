"""The table of the operations that `profile_step.py` measured."""

import collections

from l2rkd_tf.utils.tables import markdown_table

PARTS = ("teacher", "student, forward", "student, backward", "neither")


def scopes_of_models(milliseconds):
    """Scopes of the operations of teacher and student: the longest one is, or is not, trained."""
    trained, run = collections.Counter(), collections.Counter()
    for (name, _), value in milliseconds.items():
        first, _, rest = name.partition("/")
        if first == "gradient_tape":
            trained[rest.partition("/")[0]] += value
        else:
            run[first] += value
    student = max(trained, key=trained.get)
    del run[student]
    return max(run, key=run.get), student


def part_of(name, models):
    """Which of `PARTS` an operation belongs to; `models` are the scopes of teacher and student."""
    first = name.removeprefix("gradient_tape/").partition("/")[0]
    if first == models[0]:
        return PARTS[0]
    if first == models[1]:
        return PARTS[2] if name.startswith("gradient_tape/") else PARTS[1]
    return PARTS[3]


def cells(pair, row, milliseconds):
    """A row of the table: milliseconds and shares of the parts, and their sum."""
    models, parts = scopes_of_models(milliseconds), collections.Counter()
    for (name, _), value in milliseconds.items():
        parts[part_of(name, models)] += value
    total = sum(parts.values())
    return [pair, row, *(_cell(parts[part], total) for part in PARTS), _milliseconds(total)]


def table(measured):
    """All pairs and rows as markdown; `measured` is `{(pair, row): milliseconds}`."""
    header = ["pair", "row", *PARTS, "all, ms"]
    return markdown_table(header, [cells(*key, found) for key, found in measured.items()]) + "\n"


def _cell(value, total):
    return f"{_milliseconds(value)} ({value / total:.0%})"


def _milliseconds(value):
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"
