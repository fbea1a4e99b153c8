"""Checks of what `compile` was given: losses and metrics that read the student's outputs right."""

import functools
import inspect
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.distiller.heads import Heads

__all__ = ["check_labels_of_loss", "check_loss", "check_metrics", "only_entry"]

# Functions that are metrics of probabilities.
_OF_PROBABILITIES = (
    "binary_accuracy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "kl_divergence",
    "sparse_categorical_crossentropy",
)

# Keras's losses whose labels have the shape of the outputs. Some of them compare labels of shape
# (batch, 1) with each output, and say nothing.
_LOSSES_OF_OUTPUTS = frozenset(
    {
        "binarycrossentropy", "binaryfocalcrossentropy", "categoricalcrossentropy",
        "categoricalfocalcrossentropy", "categoricalhinge", "cosinesimilarity", "dice", "hinge",
        "huber", "kldivergence", "logcosh", "meanabsoluteerror", "meanabsolutepercentageerror",
        "meansquarederror", "meansquaredlogarithmicerror", "poisson", "squaredhinge", "tversky",
    }
)  # fmt: skip

# Metrics of one class among several.
_OF_ONE_CLASS = (keras.metrics.CategoricalAccuracy, keras.metrics.SparseCategoricalAccuracy)


def only_entry(argument: str, given: Any) -> Any:
    """What a list or a dict by output name holds for the only output; else what was given.

    Args:
        argument: Name of the argument of `compile`, for messages.
        given: Its value.

    Raises:
        ValueError: If it has an entry for more than one output.
    """
    if not isinstance(given, (list, tuple, dict)):
        return given
    entries = list(given.values()) if isinstance(given, dict) else list(given)
    if len(entries) > 1:
        raise ValueError(
            f"`{argument}` must be one for the student's only output. Received: {argument}="
            f"{given!r}, with {len(entries)} entries. Where a student's outputs are not known "
            "before its first call, pass the distiller `divergence` as a dict by output name."
        )
    return entries[0] if entries else None


def check_loss(loss: Any, heads: Heads) -> None:
    """Warns if the compiled loss expects logits and the distiller probabilities, or the reverse.

    Args:
        loss: A name, function, class or object of a Keras loss, or a dict by output name; others
            cannot be judged.
        heads: The compared outputs.
    """
    for head, one in _of_heads(loss, heads):
        takes_logits = _loss_takes_logits(one)
        if head.divergence == "mse" or takes_logits in (None, heads.from_logits):
            continue
        warnings.warn(
            f"`loss` {_name_of(one)!r} has from_logits={takes_logits} and the distiller has "
            f"from_logits={heads.from_logits}: one of them misinterprets the student's outputs. "
            f"Pass a loss object with from_logits={heads.from_logits} to compile().",
            stacklevel=2,
        )


def _of_heads(loss, heads):
    """Pairs of a compared output and its loss, as far as it is known which loss is whose."""
    if isinstance(loss, dict):
        return [(head, loss[head.name]) for head in heads.heads if head.name in loss]
    return [] if isinstance(loss, (list, tuple)) else [(head, loss) for head in heads.heads[:1]]


def _loss_takes_logits(loss):
    """Whether a loss takes logits; `None` where that cannot be known, or makes no difference."""
    if isinstance(loss, functools.partial) and "from_logits" in loss.keywords:
        return bool(loss.keywords["from_logits"])
    made = _made(loss)
    if isinstance(made, keras.losses.Loss):
        return made.get_config().get("from_logits")
    if not inspect.isfunction(made):
        return None
    # Functions of Keras's: others may have an argument of this name that means something else.
    is_of_keras = getattr(keras.losses, made.__name__, None) is made
    parameter = inspect.signature(made).parameters.get("from_logits")
    return parameter.default if is_of_keras and parameter is not None else None


def _made(loss):
    if _is_chosen_by_labels(loss):
        return keras.losses.categorical_crossentropy  # or the sparse one: they agree here
    if inspect.isclass(loss):
        return loss()
    return keras.losses.get(loss) if isinstance(loss, str) else loss


def _is_chosen_by_labels(loss):
    return isinstance(loss, str) and loss.lower() in ("crossentropy", "ce")


def _name_of(loss):
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or str(loss)


def _keras_name(made):
    """Name of the Keras loss that something is or extends, without underscores; or empty."""
    is_object = isinstance(made, keras.losses.Loss)
    for one in type(made).__mro__ if is_object else [made]:
        name = getattr(one, "__name__", "")
        if getattr(keras.losses, name or " ", None) is one:
            return name.replace("_", "").lower()
    return ""


def check_labels_of_loss(loss: Any, labels: Any, outputs: Any) -> None:
    """Checks that labels are class numbers for a sparse loss, and as outputs for one that is not.

    Args:
        loss: As in `check_loss`.
        labels: Labels of a batch.
        outputs: The student's outputs.

    Raises:
        ValueError: If they are the other kind.
    """
    if all(isinstance(one, dict) for one in (loss, labels, outputs)):
        for name in set(loss) & set(labels) & set(outputs):
            check_labels_of_loss(loss[name], labels[name], outputs[name])
    elif not any(map(keras.tree.is_nested, (loss, labels, outputs))):
        _check_labels(loss, labels, tf.TensorShape(outputs.shape))


def _check_labels(loss, labels, outputs):
    num_outputs = outputs[-1]
    if loss is None or not num_outputs or num_outputs < 2 or outputs.rank < 2:
        return
    if _is_chosen_by_labels(loss):
        return
    name = _keras_name(_made(loss))
    shape = tf.TensorShape(labels.shape)
    is_one_hot = shape.rank == outputs.rank and shape[-1] == num_outputs
    is_sparse = shape.rank == outputs.rank - 1 or (shape.rank == outputs.rank and shape[-1] == 1)
    axes = "" if outputs.rank == 2 else " ...,"
    if name == "sparsecategoricalcrossentropy" and is_one_hot:
        raise ValueError(
            f"`loss` {_name_of(loss)!r} needs class numbers, of shape (batch,{axes}). Received: "
            f"labels of shape {tuple(shape)}, which are one-hot. Use CategoricalCrossentropy, or "
            "numpy.argmax(labels, axis=-1)."
        )
    if name in _LOSSES_OF_OUTPUTS and is_sparse:
        raise ValueError(
            f"`loss` {_name_of(loss)!r} needs labels of the shape of the outputs, (batch,{axes} "
            f"{num_outputs}), such as one-hot labels. Received: labels of shape {tuple(shape)}, "
            "one number for each example. For class numbers, use SparseCategoricalCrossentropy, or "
            f"keras.utils.to_categorical(y, {num_outputs})."
        )


def check_metrics(metrics: Iterable[keras.metrics.Metric], heads: Heads) -> None:
    """Warns of compiled metrics that take logits for probabilities, or the reverse.

    Args:
        metrics: The metrics, which Keras has made of what was given.
        heads: The compared outputs. Where they are compared in several ways, it is not known which
            metric is whose, and none is judged.
    """
    divergence, *others = {head.divergence for head in heads.heads}
    if others or divergence == "mse":
        return
    for metric in metrics:
        if divergence == "binary_kl" and type(metric) in _OF_ONE_CLASS:
            warnings.warn(
                f"`metrics`: {metric.name!r} ({type(metric).__name__}) compares the largest output "
                "only, where each is a yes or no of its own. Use keras.metrics.BinaryAccuracy("
                f"name={metric.name!r}, threshold={0.0 if heads.from_logits else 0.5}).",
                stacklevel=2,
            )
        takes_logits = _metric_takes_logits(metric)
        if takes_logits in (None, heads.from_logits):
            continue
        if heads.from_logits:
            mistake, advice = "takes the student's logits for probabilities", _remedy(metric)
        else:
            mistake, advice = "takes the student's probabilities for logits", "from_logits=False"
        warnings.warn(
            f"`metrics`: {metric.name!r} ({type(metric).__name__}) {mistake}, so that its value "
            f"is wrong. Use {advice}.",
            stacklevel=2,
        )


def _metric_takes_logits(metric):
    """Whether a metric takes logits; `None` where it takes both."""
    if not _is_of_keras(metric):
        return None
    config = metric.get_config()
    if "from_logits" in config:
        return bool(config["from_logits"])
    of_function = isinstance(config.get("fn"), dict) and config["fn"].get("config")
    if isinstance(metric, keras.metrics.KLDivergence) or of_function in _OF_PROBABILITIES:
        return False
    thresholds = _thresholds(metric, config)
    if thresholds is None:
        return None
    # Zero is the threshold of a logit at which the probability is one half.
    return None if any(value == 0.0 for value in thresholds) else False


def _is_of_keras(metric):
    return getattr(keras.metrics, type(metric).__name__, None) is type(metric)


def _thresholds(metric, config):
    """At which values a metric cuts the outputs; `None` for a metric without any."""
    if config.get("top_k") is not None:
        return None
    if "num_thresholds" in config:
        return [0.5]  # many between 0 and 1
    return _as_list(config.get("threshold", getattr(metric, "thresholds", None)))


def _as_list(value):
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _remedy(metric):
    if isinstance(metric, keras.metrics.BinaryAccuracy):
        return f"keras.metrics.BinaryAccuracy(name={metric.name!r}, threshold=0.0)"
    config = metric.get_config()
    if "from_logits" in config:
        return f"keras.metrics.{type(metric).__name__}(from_logits=True)"
    if "thresholds" in config:
        return f"keras.metrics.{type(metric).__name__}(thresholds=0.0)"
    return "a metric of logits, or models that output probabilities (from_logits=False)"
