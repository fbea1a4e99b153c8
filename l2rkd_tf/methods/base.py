"""Base classes of the distillation methods."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from l2rkd_tf.features import has_graph, layer_outputs, layer_path
from l2rkd_tf.methods.layer_search import EMBEDDING, MAPS, find_layers, shapes_of
from l2rkd_tf.utils.types import Config, TensorLike, Tensors

__all__ = [
    "FeatureMethod",
    "LayersMethod",
    "Method",
    "TrainableMethod",
]


class Method(keras.distillation.DistillationLoss):
    """A distillation method: one value per example, from teacher and student outputs.

    A subclass is one formula, `per_example`. It compares the models' logits; subclasses of
    `FeatureMethod` and `LayersMethod` compare features of inner layers. As a
    `keras.distillation.DistillationLoss`, a method also works in `keras.distillation.Distiller`,
    which takes the mean over the batch.

    Attributes:
        default_weight: The weight in the method's own paper or code.
        uses_labels: Whether `per_example` takes a third argument, `labels`: class numbers, int32,
            shape `(batch,)`, -1 where a point has no label, or several; `None` if no point has one.
            A method that compares dense logits gets one for each position, shape `(batch, ...)`.
        num_projections: Number of random projections of the input gradients of the outputs to
            compare, instead of outputs or features.
        teacher_layers: Paths of the compared layers of the teacher; empty for the logits.
        student_layers: Paths of the compared layers of the student; empty for the logits.
    """

    default_weight = 1.0
    uses_labels = False
    num_projections = 0
    teacher_layers: tuple[str, ...] = ()
    student_layers: tuple[str, ...] = ()

    def per_example(self, teacher: Any, student: Any) -> tf.Tensor:
        """Loss of each example.

        Args:
            teacher: Logits, or features of one layer, or a list with those of several layers,
                float32, shape `(batch, ...)`.
            student: The same of the student.

        Returns:
            float32, shape `(batch,)`; one value for each position, shape `(batch, ...)`, where
            logits are dense.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `per_example`.")

    def values(
        self, teacher_outputs: Tensors, student_outputs: Tensors, labels: TensorLike | None = None
    ) -> tf.Tensor:
        """`per_example` of outputs of any float dtype; labels go to methods that use them."""
        self._check_number_of_layers(teacher_outputs)
        # Squares of half-precision features overflow.
        teacher, student = keras.tree.map_structure(
            lambda tensor: tf.cast(tensor, tf.float32), (teacher_outputs, student_outputs)
        )
        if self.uses_labels:
            return self.per_example(teacher, student, labels)  # type: ignore[call-arg]
        return self.per_example(teacher, student)

    def _check_number_of_layers(self, outputs):
        if not keras.tree.is_nested(outputs) and len(self.teacher_layers) > 1:
            raise ValueError(
                f"{type(self).__name__} compares the layers {self.teacher_layers} of the teacher. "
                "Received: the output of one layer. keras.distillation.Distiller supplies only "
                "one: name one layer of each model, or use L2RKDDistiller."
            )

    def compute_loss(
        self, teacher_outputs: Tensors, student_outputs: Tensors, **kwargs: Any
    ) -> tf.Tensor:
        """The mean of `values` over the batch, for `keras.distillation.Distiller`."""
        return tf.reduce_mean(self.values(teacher_outputs, student_outputs, **kwargs))

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: Config) -> "Method":
        """Makes a method from `get_config()`."""
        return cls(**config)


class _OnLayers(Method):
    """Holds the names of layers, given or found."""

    layers_when_omitted: str
    _arguments: tuple[str, str]

    def __init__(
        self, teacher_layers: Sequence[str] | str | None, student_layers: Sequence[str] | str | None
    ) -> None:
        super().__init__()
        self._given = {
            argument: _checked_names(argument, names)
            for argument, names in zip(
                self._arguments, (teacher_layers, student_layers), strict=True
            )
        }
        self.teacher_layers, self.student_layers = (names or () for names in self._given.values())
        if len(self.teacher_layers) != len(self.student_layers):
            raise ValueError(
                f"`{self._arguments[0]}` and `{self._arguments[1]}` must name as many layers of "
                f"the teacher as of the student, or both be None. Received: {self._given}"
            )

    @property
    def teacher_layer_name(self) -> str | None:
        """The teacher's layer, if there is one: the attribute that `keras.distillation` reads."""
        return self.teacher_layers[0] if len(self.teacher_layers) == 1 else None

    @property
    def student_layer_name(self) -> str | None:
        """The student's layer, if there is one: the attribute that `keras.distillation` reads."""
        return self.student_layers[0] if len(self.student_layers) == 1 else None

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Finds the layers if no names were given, else their paths in nested models."""
        if None in self._given.values():
            self.teacher_layers, self.student_layers = find_layers(
                type(self).__name__, teacher, student, self.layers_when_omitted
            )
        else:
            self.teacher_layers, self.student_layers = (
                tuple(layer_path(model, name) for name in names) if has_graph(model) else names
                for model, names in zip((teacher, student), self._given.values(), strict=True)
            )
            self._check_is_trained(student)

    def _check_is_trained(self, student):
        layers = layer_outputs(student)
        untrained = [path for path in self.student_layers if layers and not layers[path].learned]
        if untrained:
            raise ValueError(
                f"`{self._arguments[1]}` must name layers whose output depends on trained weights, "
                f"or {type(self).__name__} trains nothing. Received: {untrained} of the model "
                f"{student.name!r}. Such layers: {[p for p in layers if layers[p].learned]}"
            )

    def use_given_layers(self) -> None:
        """Takes the names as they were given, where a callable `features` knows them.

        Raises:
            ValueError: If none were given.
        """
        if None in self._given.values():
            arguments = " and ".join(f"`{argument}`" for argument in self._arguments)
            raise ValueError(
                f"{arguments} must be given to {type(self).__name__} where `features` is given: "
                "names of features that it returns."
            )
        self.teacher_layers, self.student_layers = self._given.values()


class FeatureMethod(_OnLayers):
    """A method that compares features of one layer of each model.

    Args:
        teacher_layer_name: Name of the teacher's layer, such as `"conv1"`, or `"backbone/conv1"` in
            a nested model. `None` finds one by `l2rkd_tf.methods.find_layers`.
        student_layer_name: Name of the student's layer, or `None`.
    """

    layers_when_omitted = EMBEDDING
    _arguments = ("teacher_layer_name", "student_layer_name")

    def __init__(
        self, teacher_layer_name: str | None = None, student_layer_name: str | None = None
    ) -> None:
        super().__init__(teacher_layer_name, student_layer_name)

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        names = {argument: names and names[0] for argument, names in self._given.items()}
        return super().get_config() | names


class LayersMethod(_OnLayers):
    """A method that compares features of several layers of each model.

    Args:
        teacher_layer_names: Names of the teacher's layers, a list, or one name; those of nested
            models as `"model/layer"`. `None` finds them by `l2rkd_tf.methods.find_layers`.
        student_layer_names: Names of as many layers of the student, or `None`.
    """

    layers_when_omitted = MAPS
    _arguments = ("teacher_layer_names", "student_layer_names")

    def __init__(
        self,
        teacher_layer_names: Sequence[str] | str | None = None,
        student_layer_names: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__(teacher_layer_names, student_layer_names)

    def per_example(self, teacher: Any, student: Any) -> tf.Tensor:
        """The sum of `per_layer` over the pairs of layers."""
        pairs = zip(keras.tree.flatten(teacher), keras.tree.flatten(student), strict=True)
        return tf.add_n([self.per_layer(*pair) for pair in pairs])

    def per_layer(self, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        """Loss of each example at one pair of layers; arguments as those of `per_example`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `per_layer`.")

    def get_config(self) -> Config:
        """Arguments of the constructor."""
        names = {argument: names and list(names) for argument, names in self._given.items()}
        return super().get_config() | names


class TrainableMethod(Method, keras.layers.Layer):
    """Mixin for methods with trainable or stateful sublayers, such as a projector.

    A subclass creates them, in float32, in `build(teacher_shapes, student_shapes)`, with the shapes
    of the arguments of `per_example`. A distiller trains and saves the method as one of its layers;
    the student does not contain them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dtype_policy = "float32"

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Finds the layers if no names were given, and creates the sublayers."""
        super().validate_model_compatibility(teacher, student)
        shapes = (
            shapes_of(teacher, self.teacher_layers),
            shapes_of(student, self.student_layers),
        )
        if None not in shapes:
            self.build_from_shapes(*shapes)

    def values(
        self, teacher_outputs: Tensors, student_outputs: Tensors, labels: TensorLike | None = None
    ) -> tf.Tensor:
        """As in `Method`; creates the sublayers if no shapes were known before."""
        outputs = (teacher_outputs, student_outputs)
        self.build_from_shapes(
            *(keras.tree.map_structure(lambda tensor: tuple(tensor.shape), o) for o in outputs)
        )
        return super().values(*outputs, labels=labels)

    def build_from_shapes(self, teacher_shapes: Any, student_shapes: Any) -> None:
        """Creates the sublayers, once, for features of these shapes."""
        if self.built:
            return
        try:
            self.build(teacher_shapes, student_shapes)
        except ValueError as error:
            raise ValueError(
                f"{type(self).__name__} cannot compare the teacher's {self.teacher_layers} of "
                f"shape {teacher_shapes} with the student's {self.student_layers} of shape "
                f"{student_shapes}: {error}"
            ) from error


def _checked_names(argument, names):
    """A tuple of names from the user's argument, or `None`."""
    if names is None:
        return None
    several = argument.endswith("names")
    listed = [names] if isinstance(names, str) else names
    if (
        not isinstance(listed, (list, tuple))
        or not listed
        or not all(isinstance(name, str) and name for name in listed)
        or (len(listed) > 1 and not several)
    ):
        wanted = "a list of names of layers" if several else "the name of a layer"
        raise ValueError(f"`{argument}` must be {wanted}, or None. Received: {argument}={names!r}")
    return tuple(listed)
