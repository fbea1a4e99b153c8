"""Objects from what Keras calls identifiers: an object, a name, or a config."""

import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras

__all__ = ["from_identifier"]


def from_identifier(
    argument: str, identifier: Any, base: type, classes: Mapping[str, type], example: str
) -> Any:
    """An object of a class, from any identifier that Keras would take.

    Args:
        argument: Name of the argument, for messages.
        identifier: An object of `base`; a name among `classes`, in any spelling; or a dict with
            `class_name` and `config`, as `keras.saving.serialize_keras_object` returns it.
        base: The class of which the result is.
        classes: Classes by their names.
        example: Code of an object, for messages.

    Returns:
        An object of `base`: the one given, or a new one.

    Raises:
        ValueError: If the identifier is none of these, or a class instead of an object, or its
            class cannot be made without arguments.
    """
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, str):
        return _made(argument, _class_named(argument, identifier, classes), identifier)
    if isinstance(identifier, Mapping) and "class_name" in identifier:
        return _from_config(argument, dict(identifier), base, classes)
    if inspect.isclass(identifier):
        advice = f"Did you mean `{identifier.__name__}()`?"
    else:
        advice = f"Pass an object, such as {example}, or a name: {sorted(classes)}."
    raise ValueError(
        f"`{argument}` must be an object of {base.__name__}, a name or a config. "
        f"Received: {argument}={identifier!r}. {advice}"
    )


def _class_named(argument, name, classes):
    spellings = {_plain(spelling): found for spelling, found in classes.items()}
    spellings |= {_plain(found.__name__): found for found in classes.values()}
    if _plain(name) in spellings:
        return spellings[_plain(name)]
    close = difflib.get_close_matches(_plain(name), spellings, n=1)
    advice = f" Did you mean {_name_of(spellings[close[0]], classes)!r}?" if close else ""
    raise ValueError(
        f"`{argument}` must be one of {sorted(classes)}. Received: {argument}={name!r}.{advice}"
    )


def _name_of(found, classes):
    return next(name for name, each in classes.items() if each is found)


def _plain(name):
    """A name without case and separators: `RelationalKD`, `relational_kd`, `relational-kd`."""
    return re.sub(r"[\W_]", "", name).lower()


def _made(argument, found, identifier):
    try:
        return found()
    except TypeError as error:
        parameters = inspect.signature(found).parameters.values()
        needed = [one.name for one in parameters if one.default is inspect.Parameter.empty]
        words = ", ".join(f"{name}=..." for name in needed)
        raise ValueError(
            f"`{argument}`={identifier!r} is not enough: {found.__name__} has no default for "
            f"{needed}. Pass the object: {found.__name__}({words})."
        ) from error


def _from_config(argument, identifier, base, classes):
    config = identifier.get("config", {})
    try:
        if "module" in identifier:  # in the format of `serialize_keras_object`
            made = keras.saving.deserialize_keras_object(identifier)
        else:
            name = str(identifier["class_name"]).rpartition(">")[2]
            made = _class_named(argument, name, classes).from_config(config)
    except TypeError as error:
        raise ValueError(f"`{argument}`={identifier!r} cannot be made: {error}") from error
    if not isinstance(made, base):
        raise ValueError(
            f"`{argument}` must be a config of {base.__name__}. Received: "
            f"{argument}={identifier!r}, which is that of {type(made).__name__}"
        )
    return made
