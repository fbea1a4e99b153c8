"""The library's modules and their public objects, for tests of the package as a whole."""

import importlib
import pathlib

import l2rkd_tf

PACKAGE = pathlib.Path(l2rkd_tf.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]


def import_file(path):
    """Imports a file of the package as the module that it is."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join(["l2rkd_tf", *parts]).removesuffix(".__init__"))


def public_objects(module):
    """Objects of a module's `__all__`, by name."""
    return {name: getattr(module, name) for name in getattr(module, "__all__", ())}
