"""Tables, numbers and pages for people, from templates next to this module."""

import math

import jinja2

from l2rkd_tf import export
from l2rkd_tf.geometry import evaluation

# What is inserted into HTML is escaped; Markdown has no such rule, see `utils.tables`.
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


def render(template, **values):
    """Fills in a template.

    Args:
        template: File name in the folder `templates`. Values are escaped in `*.html.jinja`.
        **values: What the template needs.

    Returns:
        The text.
    """
    return _TEMPLATES.get_template(template).render(values)


def percent(fraction):
    """A fraction as a percentage with two decimals."""
    return f"{fraction:.2%}"


def percent_with_interval(fraction, num_examples):
    """A fraction of counted examples as a percentage, with its 95 % Wilson interval."""
    low, high = export.wilson_interval(round(fraction * num_examples), num_examples)
    return f"{percent(fraction)} ({100 * low:.2f} to {100 * high:.2f})"


def with_interval(mean, stderr):
    """A mean ± the half-width of its 95 % CI, with two significant digits of the latter."""
    half_width = float(evaluation.half_width(stderr))
    if not 0 < half_width < math.inf:
        return f"{mean:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{mean:.{decimals}f} ± {half_width:.{decimals}f}"


def with_settings(item):
    """A region with the arguments that make it, as in `Patch(radius=1.0, grid=(4, 4))`."""
    settings = ", ".join(f"{name}={value!r}" for name, value in item.get_config().items())
    return f"{type(item).__name__}({settings})"
