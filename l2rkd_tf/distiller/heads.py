"""The outputs in which a student is compared with its teacher: the only one, or several by name.

To compare an output in another way, see `Head`; to add one, nothing: those that both models have
are found by their names.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2rkd_tf.distiller import keras_fixes
from l2rkd_tf.distiller.settings import Number
from l2rkd_tf.losses import DIVERGENCES, logits_from_probabilities
from l2rkd_tf.utils.output_checks import check_from_logits, check_outputs
from l2rkd_tf.utils.outputs import named_outputs, names_of_outputs, only_output
from l2rkd_tf.utils.types import Divergence
from l2rkd_tf.utils.validation import check_choice, is_weight

__all__ = ["Head", "Heads", "Outputs", "make_heads"]


class Head(NamedTuple):
    """An output that both models have, and how it is compared.

    Attributes:
        name: Its name; `None` for the only output of each model.
        divergence: Name of a divergence of `l2rkd_tf.losses`.
        temperature: Temperature `tau`.
        weight: Its weight among the outputs.
    """

    name: str | None
    divergence: Divergence
    temperature: Number
    weight: float = 1.0

    def logs_as(self, term: str) -> str:
        """Name in the logs of a term's part for this output, as Keras names losses."""
        return term if self.name is None else f"{self.name}_{term}"


class Outputs:
    """Finds the compared outputs in what a model returns.

    Args:
        argument: `"teacher"` or `"student"`, for messages.
        heads: The compared outputs.
        names: Names of the model's outputs, where it returns a list of them.
        from_logits: Whether models output logits, and not probabilities.
    """

    def __init__(
        self, argument: str, heads: Sequence[Head], names: Sequence[str] | None, from_logits: bool
    ) -> None:
        self._argument = argument
        self._heads = heads
        self._names = names
        self._from_logits = from_logits

    @property
    def are_classes(self) -> bool:
        """Whether outputs are those of classes or yes/no questions, and not numbers."""
        return all(head.divergence != "mse" for head in self._heads)

    def each(self, outputs: Any) -> list[Any]:
        """The compared outputs, in the order of the heads; also of labels or weights.

        Raises:
            ValueError: If one of them is not there.
        """
        if self._heads[0].name is None:
            return [self._only(outputs)]
        if len(self._heads) == 1 and not keras.tree.is_nested(outputs):
            return [outputs]  # data may carry no more than what is compared
        found = named_outputs(outputs, self._names)
        names = [str(head.name) for head in self._heads]
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"`divergence` names the outputs {missing}, which `{self._argument}` does not "
                f"return. Received: outputs {list(found)}"
            )
        return [found[name] for name in names]

    def of_only(self, values: Any) -> Any:
        """What belongs to the only compared output, among labels, weights or losses.

        Args:
            values: One, or a list or dict of them by output, which may lack some.

        Returns:
            The one of the output; `None` if there is none, or if several outputs are compared.
        """
        if len(self._heads) > 1:
            return None
        values = values if isinstance(values, dict) else only_output(values)
        if not keras.tree.is_nested(values):
            return values
        return named_outputs(values, self._names).get(str(self._heads[0].name))

    def _only(self, outputs):
        outputs = only_output(outputs)
        if keras.tree.is_nested(outputs):
            raise ValueError(
                f"`divergence` must be a dict by output name where `{self._argument}` has several "
                "outputs that are not known before its first call. Received: outputs "
                f"{keras.tree.map_structure(lambda output: output.shape, outputs)}"
            )
        return outputs

    def logits(self, outputs: Any) -> Any:
        """Float32 logits of the compared outputs: a tensor, or a dict by name of several.

        Args:
            outputs: What the model returned.

        Returns:
            Tensors of shape `(batch, ..., outputs)`, with the masks of the outputs.
        """
        pairs = zip(self._heads, self.each(outputs), strict=True)
        logits = [self._as_logits(output, head.divergence) for head, output in pairs]
        if len(logits) == 1:
            return logits[0]
        return {str(head.name): one for head, one in zip(self._heads, logits, strict=True)}

    def _as_logits(self, outputs, divergence):
        mask = keras_fixes.mask_of(outputs)
        if len(outputs.shape) == 1:  # one number for each example
            outputs = outputs[:, None]
        if self._from_logits or divergence == "mse":
            logits = tf.cast(outputs, tf.float32)
        else:
            logits = logits_from_probabilities(outputs, divergence)
        return logits if mask is None else keras_fixes.with_mask(logits, mask)


class Heads:
    """The compared outputs of a pair of models.

    Args:
        heads: They, at least one; the first one has no name where it is the only output.
        teacher_names: Names of the teacher's outputs, where it returns a list of several.
        student_names: Those of the student.
        from_logits: Whether models output logits, and not probabilities.
        only_names: Names of the only output of each model, as a dict may call it; empty where they
            are not known.

    Attributes:
        teacher: `Outputs` of the teacher.
        student: `Outputs` of the student.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        teacher_names: Sequence[str] | None,
        student_names: Sequence[str] | None,
        from_logits: bool,
        only_names: Sequence[str] = (),
    ) -> None:
        self.heads = tuple(heads)
        self.from_logits = from_logits
        self._only_names = only_names
        self.teacher = Outputs("teacher", self.heads, teacher_names, from_logits)
        self.student = Outputs("student", self.heads, student_names, from_logits)

    @property
    def divergence(self) -> Divergence | dict[str, Divergence]:
        """The divergence of the only output, or a dict by output name."""
        if self.heads[0].name is None:
            return self.heads[0].divergence
        return {str(head.name): head.divergence for head in self.heads}

    @property
    def temperature(self) -> float | dict[str, float]:
        """The temperature of all, or a dict by output name where they differ."""
        values = {str(head.name): head.temperature.value for head in self.heads}
        return values if len(set(values.values())) > 1 else self.heads[0].temperature.value

    @temperature.setter
    def temperature(self, value: float | dict[str, float]) -> None:
        _check_names("temperature", value, [head.name for head in self.heads], self._only_names)
        # All are checked before the first one is set.
        values = [head.temperature.checked(_of_output(value, head.name)) for head in self.heads]
        for head, one in zip(self.heads, values, strict=True):
            head.temperature.assign(one)

    def check(self, teacher: keras.Model | None, student: keras.Model) -> None:
        """Checks, as far as graphs show, that both models output what is compared.

        Raises:
            ValueError: If they do not.
        """
        models = {"teacher": teacher, "student": student}
        graphs = {name: model for name, model in models.items() if getattr(model, "outputs", None)}
        for head in self.heads:
            check_outputs(graphs, head.divergence, self.from_logits, head.name)


def make_heads(
    teacher: keras.Model | None,
    student: keras.Model,
    divergence: Any,
    temperature: Any,
    output_weights: Any,
    from_logits: bool,
) -> Heads:
    """Finds the outputs that both models have, and how each is compared.

    Args:
        teacher: Keras model, or `None`.
        student: Keras model.
        divergence: As the argument of `L2RKDDistiller`.
        temperature: As the argument of `L2RKDDistiller`.
        output_weights: As the argument of `L2RKDDistiller`.
        from_logits: As the argument of `L2RKDDistiller`.

    Raises:
        ValueError: If the models share no output that is compared, an argument names none, or
            graphs show that an output is not what its divergence compares.
    """
    of_teacher = None if teacher is None else names_of_outputs(teacher)
    of_student = names_of_outputs(student)
    compared = _compared(of_teacher, of_student, divergence)
    only_names = _only_names(teacher, of_teacher, of_student)
    for argument, value in (
        ("divergence", divergence),
        ("temperature", temperature),
        ("output_weights", output_weights),
    ):
        if argument != "divergence" or compared == [None]:
            _check_names(argument, value, compared, only_names)
    heads = [
        _head(
            name,
            _of_output(divergence, name),
            Number("temperature", _of_output(temperature, name), may_be_zero=False),
            1.0 if output_weights is None else _of_output(output_weights, name),
        )
        for name in compared
    ]
    check_from_logits([head.divergence for head in heads], from_logits)
    found = Heads(heads, of_teacher, of_student, from_logits, only_names)
    found.check(teacher, student)
    return found


def _compared(teacher, student, divergence):
    """Names of the compared outputs; `[None]` for the only one of each model."""
    if not isinstance(divergence, (str, dict)):
        raise ValueError(
            "`divergence` must be a name, or a dict by output name. Received: "
            f"divergence={divergence!r}"
        )
    known = [names for names in (teacher, student) if names is not None]
    if all(len(names) == 1 for names in known):
        if not isinstance(divergence, dict) or (teacher and len(divergence) == 1):
            return [None]
    for names in known:
        if len(set(names)) < len(names):
            raise ValueError(
                "`teacher` and `student` must give several outputs different names. Received: "
                f"outputs {names}. Return a dict: `keras.Model(inputs, {{name: output, ...}})`."
            )
    given = divergence if isinstance(divergence, dict) else None
    unknown = [name for name in given or () if known and not any(name in of for of in known)]
    if unknown:
        raise ValueError(
            f"`divergence` must name outputs of the models. Received: {unknown}; the models have "
            f"the outputs {' and '.join(map(str, map(list, known)))}"
        )
    candidates = student or teacher or tuple(given or ())
    shared = [name for name in candidates if name in (teacher or candidates)]
    shared = [name for name in shared if given is None or given.get(name) is not None]
    if not shared:
        raise ValueError(
            "`teacher` and `student` must share an output that is compared, by its name. Received: "
            f"outputs {list(teacher or ())} of the teacher and {list(student or ())} of the "
            f"student, divergence={divergence!r}. Name outputs by the layers that make them, or "
            "return a dict."
        )
    return shared


def _only_names(teacher, of_teacher, of_student):
    """Names of the only output of each model; empty where one of them is not known."""
    known = [of_student] if teacher is None else [of_teacher, of_student]
    return [] if None in known else list(dict.fromkeys(name for names in known for name in names))


def _check_names(argument, value, compared, only_names):
    """Checks that a dict by output name has an entry for each compared output, and no other."""
    is_dict = isinstance(value, dict)
    if argument == "output_weights" and value is not None and not (is_dict and any(value.values())):
        raise ValueError(
            "`output_weights` must be a dict by output name, of numbers that are not all 0, or "
            f"None. Received: output_weights={value!r}"
        )
    if not is_dict or set(value) == set(compared):
        return
    is_only = compared == [None] and len(value) == 1
    if not is_only or (only_names and not set(value) <= set(only_names)):
        one = "" if argument == "output_weights" else "one for all, or "
        names = (only_names or "one") if compared == [None] else list(compared)
        raise ValueError(
            f"`{argument}` must be {one}a dict with an entry for each compared output. Received: "
            f"{argument}={value!r}; compared outputs: {names}"
        )


def _of_output(value, name):
    """What an argument, one for all or a dict by name, holds for an output."""
    if not isinstance(value, dict):
        return value
    return next(iter(value.values())) if name is None else value[name]


def _head(name, divergence, temperature, weight):
    check_choice("divergence", divergence, tuple(DIVERGENCES))
    if not is_weight(weight):
        raise ValueError(
            "`output_weights` must be finite numbers not below 0. Received: "
            f"output_weights={weight!r} for the output {name!r}"
        )
    return Head(name, divergence, temperature, weight)
