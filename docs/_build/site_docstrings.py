"""How mkdocstrings shows this library's docstrings; named in `mkdocs.yml`."""

import re

import griffe

# Methods that only Keras calls.
_HOOKS = re.compile(
    "on_.+|set_model|build|call|__call__|get_config|from_config|(save|load)_assets|"
    "(train|test)_step|compute_(loss|metrics)|get_metrics_result"
)


class Docstrings(griffe.Extension):
    """Shows `Example:` as code, and omits methods that are documented elsewhere."""

    def on_object(self, *, obj, **kwargs):
        """Renames the section of examples of one docstring."""
        if obj.docstring:
            obj.docstring.value = re.sub(
                "^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )

    def on_class(self, *, cls, **kwargs):
        """Removes what a reader of the class need not know."""
        for name, member in tuple(cls.members.items()):
            text = member.docstring.value if member.docstring else ""
            if member.is_function and (text.startswith("See `") or _HOOKS.fullmatch(name)):
                cls.del_member(name)
