"""A distiller on one page: both models side by side, the objective, and what a step costs."""

from typing import Any

__all__ = ["summary_of"]

_BATCH = 32


def summary_of(distiller: Any) -> str:
    """The text that `L2RKDDistiller.summary` prints, of this distiller."""
    return "\n\n".join(
        [f"Distiller {distiller.name!r}", _models(distiller), _terms(distiller), _step(distiller)]
    )


def _table(*arguments, **options):
    import tabulate  # here, since importing the library is to bring in nothing but Keras

    return tabulate.tabulate(*arguments, **options)


def _models(distiller):
    teacher = distiller.get_teacher()
    columns = [None if model is None else _facts(model) for model in (teacher, distiller.student)]
    names = list(columns[1] or ())
    rows = [[name, *("-" if facts is None else facts[name] for facts in columns)] for name in names]
    return _table(rows, ["", "teacher", "student"], disable_numparse=True, colalign=("left",) * 3)


def _facts(model):
    is_known = bool(getattr(model, "inputs", None))
    count = model.count_params() if model.built else None
    trained = sum(int(weight.shape.num_elements() or 0) for weight in model.trainable_weights)
    return {
        "model": f"{model.name} ({type(model).__name__})",
        "parameters": "not built" if count is None else f"{count:,}",
        "trainable": "not built" if count is None else f"{trained:,}",
        "inputs": _shapes(model.inputs) if is_known else "not known",
        "outputs": _shapes(model.outputs) if is_known else "not known",
        "precision": model.dtype_policy.name,
    }


def _shapes(symbols):
    return ", ".join(f"{tuple(symbol.shape)}" for symbol in symbols)


def _terms(distiller):
    rows = [
        ["hard_loss", distiller.hard_weight, "data", "labels and the compiled loss"],
        ["kd_loss", distiller.kd_weight, "data", _divergence(distiller)],
        ["region_loss", distiller.region_weight, "region", _divergence(distiller)],
    ]
    weights, at = distiller.distillation_loss_weights, distiller.distillation_losses_at
    layers = distiller.distillation_loss_layers.items()
    for weight, where, (name, pair) in zip(weights, at, layers, strict=True):
        rows.append([name, weight, where, _layers(*pair)])
    table = _table(rows, ["term", "weight", "at", "compares"], floatfmt="g")
    region = distiller.region or "chosen for the first batch"
    if distiller.region_at is not None:
        region = f"{region}, after the layers " + " - ".join(map(str, distiller.region_at))
    return f"{table}\n\nRegion: {region}"


def _divergence(distiller):
    settings = [f"divergence {distiller.divergence!r}"]
    if distiller.divergence != "mse":
        settings.append(f"temperature {_short(distiller.temperature)}")
    if not distiller.from_logits:
        settings.append("of probabilities")
    return "outputs: " + ", ".join(settings)


def _short(number):
    return number if isinstance(number, dict) else f"{number:g}"


def _layers(teacher, student):
    if not teacher and not student:
        return "outputs"
    pairs = [f"{one} - {other}" for one, other in zip(teacher, student, strict=False)]
    return "layers " + ", ".join(pairs)


def _step(distiller):
    points = distiller.points_per_step(_BATCH)
    passes = "one pass" if points.teacher else "no pass"
    return (
        f"A step with a batch of {_BATCH}: {points.student} points through the student, in one "
        f"pass forward and back; {points.teacher} through the teacher, in {passes}."
    )
