"""Regions and methods from the words of flags and studies."""

import ast

from l2rkd_tf import methods, regions

REGIONS = {
    "segment": regions.Segment,
    "simplex": regions.Simplex,
    "patch": regions.Patch,
    "ball": regions.Ball,
}
METHODS = {
    "attention_transfer": methods.AttentionTransfer,
    "correlation_congruence": methods.CorrelationCongruence,
    "crd": methods.CRD,
    "dist": methods.DIST,
    "dkd": methods.DKD,
    "fitnet": methods.FitNet,
    "fsp": methods.FSP,
    "jacobian_matching": methods.JacobianMatching,
    "logit_standardization": methods.LogitStandardization,
    "nst": methods.NeuronSelectivityTransfer,
    "pkt": methods.PKT,
    "rkd": methods.RelationalKD,
    "similarity_preserving": methods.SimilarityPreserving,
    "vid": methods.VID,
}


def parse_region(text):
    """A region from a flag: `patch`, `ball:radius=0.2,norm="linf"`, `patch:grid=8 + segment`.

    Args:
        text: Name of a region, and arguments of its class after a colon; several of them with
            `+` between are a mixture in equal parts. An empty text is `None`, the default region
            of the distiller.

    Returns:
        A `l2rkd_tf.regions.Region` or `None`.

    Raises:
        ValueError: If there is no such region or argument.
    """
    if not text:
        return None
    parts = [_parse_part(part.strip(), text) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else regions.Mixture(parts)


def _parse_part(part, text):
    name, _, arguments = part.partition(":")
    if name not in REGIONS:
        raise ValueError(f"`region` must begin with one of {sorted(REGIONS)}. Received: {text!r}")
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if call.args:
            raise ValueError("an argument without a name")
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"`region` takes arguments as in 'patch:grid=4,radius=0.5'. Received: {text!r}"
        ) from error
    try:
        return REGIONS[name](**keywords)
    except TypeError as error:
        raise ValueError(f"`region` {name!r}: {error}. Received: {text!r}") from error


def make_methods(names):
    """Distillation methods from the words of a list flag, each with its defaults."""
    return [METHODS[name]() for name in names]
