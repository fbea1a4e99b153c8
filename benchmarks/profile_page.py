"""Tables of the operations that `profile_step.py` measured."""

import collections

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


def table(pair, row, milliseconds, largest):
    """Shares of the parts, and the largest operations of none, as markdown."""
    models = scopes_of_models(milliseconds)
    parts, rest = collections.Counter(), []
    for (name, kind), value in milliseconds.items():
        part = part_of(name, models)
        parts[part] += value
        if part == PARTS[3]:
            rest.append((value, name, kind))
    total = sum(parts.values())
    lines = [f"### {pair}: {row}", "", "| | ms a step | share |", "|:--|--:|--:|"]
    lines += [f"| {part} | {parts[part]:.3f} | {parts[part] / total:.1%} |" for part in PARTS]
    lines += ["", "| operations of neither model | ms a step | share |", "|:--|--:|--:|"]
    for value, name, kind in sorted(rest, reverse=True)[:largest]:
        lines.append(f"| `{name}`, {kind} | {value:.3f} | {value / total:.1%} |")
    return "\n".join([*lines, ""])
