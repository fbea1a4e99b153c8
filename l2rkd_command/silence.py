"""Silence of native code, which writes to stderr whatever the level of the log is."""

import contextlib
import importlib
import os
import sys
import tempfile

__all__ = ["import_tensorflow", "stderr_only_of_failures"]


def import_tensorflow():
    """Imports TensorFlow and has it look for devices; only errors are shown."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read by TensorFlow when it is imported
    # Lines such as "Could not find cuda drivers" are written before the level applies.
    with stderr_only_of_failures():
        tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.list_physical_devices()
    absl_logging = importlib.import_module("absl.logging")
    absl_logging.set_verbosity(absl_logging.WARNING)


@contextlib.contextmanager
def stderr_only_of_failures():
    """Holds back what is written to file descriptor 2, and shows it if the body raises.

    For calls into native code, such as TensorFlow's import and the converter of LiteRT, that print
    their settings. A call that takes long must not be quiet: what it says may be needed.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
