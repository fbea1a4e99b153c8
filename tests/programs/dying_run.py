"""A training run that kills itself while it trains, or while it writes its third backup.

python -m tests.programs.dying_run training|writing data_dir backup_dir
"""

import os
import signal
import sys

import numpy as np

from tests.callbacks.backup_runs import Interrupt, train


def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_the_third_backup():
    """What was written before it is on the disk by then."""
    savez = np.savez

    def savez_or_die(path, *states):
        if "epoch-000003" in path:
            die()
        savez(path, *states)

    np.savez = savez_or_die


def main(moment, data_dir, directory):
    if moment == "writing":
        die_at_the_third_backup()
    train("distiller", data_dir, directory, [Interrupt(12, die)] if moment == "training" else [])


if __name__ == "__main__":
    main(*sys.argv[1:])
