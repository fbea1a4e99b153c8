"""Reports and errors of exports."""

import dataclasses
import json

__all__ = ["ExportError", "ExportReport"]


class ExportError(RuntimeError):
    """An artifact cannot be made, or does not compute the same as the student."""


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported, and how closely it matches the Keras student.

    The differences and the spread of a student with several outputs are those of the output that
    differs most, as a fraction of its spread, and `top1_agreement` is the lowest of all.

    Attributes:
        artifact: Name of the exported file or folder, without its parents.
        format: `"saved_model"` or `"litert"`.
        quantization: `None`, `"dynamic"`, `"float16"` or `"int8"`.
        bytes: Total size of the artifact.
        files: Size in bytes of each file, by its path inside the artifact.
        parameters: Number of weights of the student.
        max_abs_difference: Largest absolute difference between an output of the artifact and
            the same output of the float32 Keras student.
        mean_abs_difference: Mean of these absolute differences.
        output_spread: How far the outputs of the Keras student spread: twice the distance from
            their median that all outputs of 90 % of the examples keep.
        tolerance: Largest accepted `max_abs_difference / output_spread`.
        top1_agreement: Fraction of examples (of positions, when the output has more than two
            axes) with the same largest output; `None` for outputs of one number.
        min_top1_agreement: Smallest accepted `top1_agreement`.
        num_examples: Number of inputs compared.
        example_source: `"representative_data"` or `"uniform [0, 1]"`.
        input_range: Smallest and largest value given to each input, by its name; without inputs
            that take text.
        inputs: Name, shape (`None` for any size) and dtype of each input of the artifact.
        outputs: The same of its outputs; of several, in addition the `max_abs_difference`,
            `mean_abs_difference`, `output_spread` and `top1_agreement` of each.
        rebuilt_in_float32: Whether the student is in mixed precision and a float32 copy of it
            was exported.
        rebuild_max_abs_difference: Largest absolute difference between that copy and the
            student itself; `None` without a copy.
        versions: Versions of Keras, TensorFlow and the interpreter that ran the artifact.
    """

    artifact: str
    format: str
    quantization: str | None
    bytes: int
    files: dict
    parameters: int
    max_abs_difference: float
    mean_abs_difference: float
    output_spread: float
    tolerance: float
    top1_agreement: float | None
    min_top1_agreement: float
    num_examples: int
    example_source: str
    input_range: dict
    inputs: list
    outputs: list
    rebuilt_in_float32: bool
    rebuild_max_abs_difference: float | None
    versions: dict

    def to_json(self) -> str:
        """The report as indented JSON text, as written next to the artifact."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
