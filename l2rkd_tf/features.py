"""Outputs and inner features of a model in one forward pass."""

import keras

__all__ = ["OUTPUT", "feature_model"]

#: Key of a model's own output among its features; no layer has an empty name.
OUTPUT = ""


def feature_model(model, layer_names):
    """A function that gives a model's output and features of named layers in one pass.

    Args:
        model: A Functional or Sequential Keras model; any model if `layer_names` is empty.
        layer_names: Names of layers of the model.

    Returns:
        A callable `(inputs, training) -> {OUTPUT: output, name: feature, ...}` that shares all
        layers with `model`.

    Raises:
        ValueError: If the model has no such layer, or no graph to take a layer's output from.
    """
    if not layer_names:
        return lambda inputs, training: {OUTPUT: model(inputs, training=training)}
    if not isinstance(model, keras.Sequential) and not hasattr(model, "operations"):
        raise ValueError(
            f"`distillation_losses` asks for layers {sorted(layer_names)} of the model "
            f"{model.name!r}, whose layers are not connected in a graph. Use a Functional or "
            "Sequential model."
        )
    existing = [layer.name for layer in model.layers]
    missing = sorted(set(layer_names) - set(existing))
    if missing:
        raise ValueError(
            f"`distillation_losses` asks for layers {missing}, which the model {model.name!r} "
            f"does not have. Its layers: {existing}"
        )
    names = sorted(set(layer_names))
    outputs = [model.outputs[0], *(model.get_layer(name).output for name in names)]
    extractor = keras.Model(model.inputs, outputs)

    def features(inputs, training):
        output, *inner = extractor(inputs, training=training)
        return {OUTPUT: output, **dict(zip(names, inner, strict=True))}

    return features
