"""The flag of a trained teacher."""

from absl import flags

from l2rkd_command.flags import checks
from l2rkd_command.flags.groups import under

_FILES = "Keras file of the teacher, or several with commas between: their ensemble."


def define(FLAGS, without=""):
    """Defines the flag.

    Args:
        FLAGS: `absl.flags.FlagValues` of the command.
        without: What happens if it is empty, a sentence.
    """
    text = f"{_FILES} Empty: {without}" if without else _FILES
    flags.DEFINE_string("teacher", "", text, **under("Teacher", FLAGS))
    checks.require(
        "teacher",
        checks.are_files,
        "must be an existing .keras file, or several with commas between",
        FLAGS,
    )
