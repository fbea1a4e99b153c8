"""The characters of Matplotlib's fonts as masks, bit for bit the same on every machine."""

import hashlib
import pathlib
import string

import numpy as np

__all__ = ["CHARACTERS", "FONTS", "read_masks"]

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
# Left out: cmti10, which only Matplotlib 3.11 and later contain, and cmmi10, whose old-style 0
# looks like an o.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmr10",
    "cmb10",
    "cmss10",
    "cmtt10",
)
_SIDE = 192
_SHA256 = "65659a4037e6d2b62cba681a4beb29196ed6a129d6f0c18a3ed2a4c02d7fe487"
# Multiples of 1/8, which floating point holds exactly.
_STEPS = np.linspace(0, 1, 9)[:, np.newaxis]


def read_masks() -> np.ndarray:
    """Reads the outlines of all characters and fills them.

    FreeType, which differs between releases of matplotlib, only reads the outlines, in their own
    units; filling them is additions, multiplications and divisions of float64 numbers.

    Returns:
        Bool array of shape `(fonts, characters, 192, 192)`, True inside a character. A mask is
        two heights of the font's capitals wide and high: rows 48 to 144 are those from the top
        of an H to the baseline. Its columns are centred on the character.

    Raises:
        ImportError: If Matplotlib is not installed.
        RuntimeError: If its fonts differ from those that the dataset is made from.
    """
    paths = _font_paths()
    found = [_font_masks(path) for path in paths if path.exists()]
    masks = np.stack(found) if len(found) == len(paths) else np.zeros(0, bool)
    if hashlib.sha256(np.packbits(masks).tobytes()).hexdigest() != _SHA256:
        import matplotlib

        raise RuntimeError(
            "The dataset 'glyphs' is made from fonts of matplotlib 3.8 to 3.11 as PyPI has them, "
            f"and those of the installed matplotlib {matplotlib.__version__} differ. Prepare the "
            "dataset with one of these releases; any release can read it afterwards"
        )
    return masks


def _font_paths():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "The dataset 'glyphs' is made from matplotlib's fonts. Install it with "
            "`pip install l2rkd-tf[data]`"
        ) from error
    folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    return [folder / f"{font}.ttf" for font in FONTS]


def _font_masks(path):
    outlines = _outlines(path)
    capital_height = outlines[CHARACTERS.index("H")][..., 1].max()
    return np.stack([_fill(_place(outline, capital_height)) for outline in outlines])


def _outlines(path):
    """Straight edges of each outline, shape `(edges, 2 ends, x and y)`, y = 0 on the baseline."""
    from matplotlib import font_manager, textpath

    reader = textpath.TextToPath()
    # A pixel is a unit of the font, so that FreeType has nothing to round: releases differ in it.
    reader.FONT_SCALE = font_manager.get_font(path).units_per_EM
    font = font_manager.FontProperties(fname=path)
    return [_edges(*reader.get_text_path(font, character)) for character in CHARACTERS]


def _edges(vertices, codes):
    from matplotlib.path import Path

    curves = Path(vertices, codes).iter_bezier(simplify=False)
    lines = [_flatten(curve.control_points) for curve, _ in curves]
    return np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])


def _flatten(control_points):
    """Points of a Bezier curve by de Casteljau's algorithm, shape `(points, x and y)`."""
    points = control_points[:, np.newaxis]
    while len(points) > 1:
        points = points[:-1] + _STEPS * (points[1:] - points[:-1])
    return points[0]


def _place(outline, capital_height):
    """The outline in columns and rows of its mask."""
    x, y = outline[..., 0], outline[..., 1]
    centre = (x.min() + x.max()) / 2
    columns = _SIDE / 2 * (1 + (x - centre) / capital_height)
    rows = _SIDE / 2 * (1.5 - y / capital_height)
    return np.stack([columns, rows], axis=-1)


def _fill(outline):
    """Pixels whose centres an outline winds around, as fonts are meant to be filled."""
    (x0, y0), (x1, y1) = outline[:, 0].T, outline[:, 1].T
    centres = np.arange(_SIDE) + 0.5
    passed = outline[:, :, 1] <= centres[:, np.newaxis, np.newaxis]
    direction = passed[..., 1].astype(np.int8) - passed[..., 0]
    rows, edges = np.nonzero(direction)
    along = (centres[rows] - y0[edges]) / (y1[edges] - y0[edges])
    crossings = x0[edges] + along * (x1[edges] - x0[edges])
    winding = np.zeros((_SIDE, _SIDE), np.int64)
    # Counted from the first pixel whose centre lies on the crossing or to the right of it.
    columns = np.ceil(crossings - 0.5).astype(np.int64)
    np.add.at(winding, (rows, columns), direction[rows, edges])
    return winding.cumsum(axis=1) != 0
