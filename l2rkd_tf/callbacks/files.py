"""Room for the files that callbacks write."""

import errno
import math
import os
import shutil
from collections.abc import Iterable

import keras
import tensorflow as tf

from l2rkd_tf.types import PathLike

__all__ = ["check_space"]

_BYTES_OF_A_VARIABLE = 4096  # beside its values: its name and place in the file


def check_space(folder: PathLike, variables: Iterable[keras.Variable]) -> None:
    """Checks that a disk has room for variables, since HDF5 crashes Python where it has not.

    Args:
        folder: A folder on the disk, which exists.
        variables: What will be written.

    Raises:
        OSError: If there is not enough room.
    """
    needed = sum(
        tf.as_dtype(variable.dtype).size * math.prod(variable.shape) + _BYTES_OF_A_VARIABLE
        for variable in variables
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free:,} bytes free, {needed:,} needed"
        )
