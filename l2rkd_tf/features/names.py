"""Keys of what isn't a layer's output, among the features of a model."""

__all__ = ["INPUT_GRADIENT", "LOGITS", "OUTPUT"]

#: Key of a model's own output among its features; no layer has an empty name.
OUTPUT = ""
#: Key of the model's output as float32 logits; in no layer's path is a name empty.
LOGITS = "//logits"
#: Key of the projected gradient of a model's output with respect to its inputs; no layer's path.
INPUT_GRADIENT = "//gradient"
