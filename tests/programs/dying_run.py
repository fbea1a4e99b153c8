"""A training run that kills itself while it writes its third backup.

python -m tests.programs.dying_run data_dir backup_dir
"""

import os
import signal
import sys

import numpy as np

from tests.callbacks.backup_runs import train


def die_at_the_third_backup():
    """What was written before it is on the disk by then."""
    savez = np.savez

    def savez_or_die(path, *states):
        if "epoch-000003" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        savez(path, *states)

    np.savez = savez_or_die


def main(data_dir, directory):
    die_at_the_third_backup()
    train("distiller", data_dir, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
