"""Validators of flags, and what the texts of flags mean."""

import ast
import math
import os

from absl import flags

__all__ = [
    "METHODS",
    "REGIONS",
    "are_counts",
    "are_files",
    "are_methods",
    "are_numbers",
    "are_positive",
    "are_seeds",
    "are_weights",
    "is_file",
    "is_region",
    "read_region",
    "require",
]

#: Names of regions and of published methods, as `l2rkd_tf.cli.common.parsing` builds them.
REGIONS = ("ball", "patch", "segment", "simplex", "swap")
METHODS = (
    "attention_transfer",
    "correlation_congruence",
    "crd",
    "dist",
    "dkd",
    "fitnet",
    "fsp",
    "jacobian_matching",
    "logit_standardization",
    "nst",
    "pkt",
    "rkd",
    "similarity_preserving",
    "vid",
)


def require(name, is_right, message, flag_values):
    """Registers a validator: `message` continues the name of the flag, as in "must be above 0".

    Args:
        name: Name of a flag.
        is_right: Function of its value that returns a boolean or raises `ValidationError`. It is
            not called without a value.
        message: What the value must be.
        flag_values: The `absl.flags.FlagValues` of the command.
    """
    flags.register_validator(
        name, lambda value: value is None or is_right(value), message, flag_values=flag_values
    )


def are_counts(words):
    """Whether all words of a list are integers above 0, and there is one."""
    return bool(words) and all(word.isdecimal() and int(word) > 0 for word in words)


def are_seeds(words):
    """Whether all words of a list are different seeds of the library, and there is one."""
    are_right = all(word.isdecimal() and int(word) < 2**31 for word in words)
    return bool(words) and are_right and len(set(map(int, words))) == len(words)


def are_numbers(words, lowest=-math.inf):
    """Whether all words of a list are finite numbers above a lowest one."""
    try:
        return all(lowest < float(word) < math.inf for word in words)
    except ValueError:
        return False


def are_positive(words):
    """Whether all words of a list are finite numbers above 0."""
    return are_numbers(words, lowest=0.0)


def are_weights(words):
    """Whether all words of a list are finite numbers, 0 or more."""
    try:
        return all(0 <= float(word) < math.inf for word in words)
    except ValueError:
        return False


def is_file(path):
    """Whether a path is that of an existing file, or empty."""
    return not path or os.path.isfile(path)


def are_files(paths):
    """Whether paths with commas between them are those of existing files, or empty."""
    return all(map(is_file, paths.split(",")))


def are_methods(words):
    """Whether all words of a list are names of published methods; raises those that are not."""
    unknown = sorted(set(words) - set(METHODS))
    if unknown:
        raise flags.ValidationError(f"must be among {', '.join(METHODS)}. Received: {unknown}")
    return True


def is_region(text):
    """Whether a text has the form of a region; raises what is wrong with it."""
    try:
        read_region(text)
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True


def read_region(text):
    """Names and arguments of the regions in a text.

    Args:
        text: Name of a region, and arguments of its class after a colon, such as `patch`,
            `ball:radius=0.2,norm="linf"`, `patch:grid=8 + segment` or `swap then ball:radius=0.2`.

    Returns:
        A list for each part between the `+`, of pairs `(name, arguments)` for what comes one after
        the other; empty for an empty text.

    Raises:
        ValueError: If a name is not one of `REGIONS`, or the arguments are not written as
            `name=value` with literal values.
    """
    parts = text.split("+") if text.strip() else []
    return [[_read_one(one.strip(), text) for one in part.split(" then ")] for part in parts]


def _read_one(part, text):
    name, _, arguments = part.partition(":")
    if name not in REGIONS:
        raise ValueError(f"must begin with one of {', '.join(REGIONS)}. Received: {text!r}")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if call.args:
            raise ValueError("an argument without a name")
        return name, {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"must have arguments as in 'patch:grid=4,radius=0.5'. Received: {text!r}"
        ) from error
