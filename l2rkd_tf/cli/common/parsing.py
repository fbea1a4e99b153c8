"""Regions and methods from the words of flags and studies."""

from collections.abc import Iterable

from l2rkd_command.errors import UsageError
from l2rkd_command.flags.checks import read_region
from l2rkd_tf import methods, regions

__all__ = ["make_methods", "parse_region", "region_of_flag"]


def parse_region(text: str) -> regions.Region | None:
    """A region from a text: `patch`, `ball:radius=0.2,norm="linf"`, `patch:grid=8 + segment`.

    Args:
        text: Name of a region, and arguments of its class after a colon; several of them with
            `+` between are a mixture in equal parts, with `then` between one after the other. An
            empty text is `None`, the default region of the distiller.

    Returns:
        A `l2rkd_tf.regions.Region` or `None`.

    Raises:
        ValueError: If there is no such region or argument, or an argument is out of range.
    """
    try:
        parts = read_region(text)
    except ValueError as error:
        raise ValueError(f"`region` {error}") from error
    built = [
        _joined([_build(name, arguments, text) for name, arguments in part], regions.Compose)
        for part in parts
    ]
    return _joined(built, regions.Mixture) if built else None


def _joined(built, kind):
    return built[0] if len(built) == 1 else kind(built)


def _build(name, arguments, text):
    try:
        return regions.REGIONS[name](**arguments)
    except TypeError as error:
        raise ValueError(f"`region` {name!r}: {error}. Received: {text!r}") from error


def region_of_flag(text: str) -> regions.Region | None:
    """The region of `--region`, as `parse_region`.

    Raises:
        UsageError: If the library refuses it.
    """
    try:
        return parse_region(text)
    except ValueError as error:
        raise UsageError("region", f"cannot be used: {error}") from error


def make_methods(names: Iterable[str]) -> list[methods.Method]:
    """Distillation methods from their names, each with its defaults."""
    return [methods.get(name) for name in names]
