"""Command lines of the pages, checked without running them."""

from absl import flags

from l2rkd_command.errors import UsageError
from l2rkd_command.main import define, parse

NO_VALUE = "<"  # what stands for a value in a text, such as `--recipe=<teacher's recipe>`
# Files and folders of an earlier command are not here.
_OF_FILES = ("existing", "which exists", "there is no file")


def complaint(name, words):
    """What `l2rkd NAME WORDS` finds wrong with its flags, or `None`.

    Args:
        name: A command, such as `distill`.
        words: Its flags. Of those whose value is a placeholder such as `<name>`, only the name is
            checked.
    """
    placeholders = [word for word in words if NO_VALUE in word]
    names = {word.lstrip("-").partition("=")[0] for word in placeholders}
    if names - set(define(name)):
        return f"no flags {sorted(names - set(define(name)))}"
    try:
        parse(name, [word for word in words if word not in placeholders])
    except (UsageError, flags.Error) as error:
        text = str(error)
        is_left_open = any(name in text for name in names) or any(map(text.count, _OF_FILES))
        return None if is_left_open else text
    return None
