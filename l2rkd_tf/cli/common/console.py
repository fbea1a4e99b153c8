"""What the programs tell people: announced steps, progress and the result."""

import shlex
import sys

__all__ = ["Console"]


class Console:
    """Lines on stdout, as many as `--verbose` asks for.

    Args:
        verbose: The flag: 0 for the result only.
        total: Number of steps that the program will announce.
        is_chief: False for a worker that leaves talking to another one.
    """

    def __init__(self, verbose: int, total: int, is_chief: bool = True) -> None:
        self._verbose = verbose if is_chief else 0
        self._is_chief = is_chief
        self._number, self._total = 0, total

    def step(self, text: str) -> None:
        """Announces the next step: `[2/4] Training the student`."""
        self._number += 1
        self.note(f"[{self._number}/{self._total}] {text}")

    def note(self, text: str) -> None:
        """Tells something, unless `--verbose=0`."""
        if self._verbose:
            print(text, flush=True)

    def next(self, *words: str) -> None:
        """Tells a command to run next, quoted for a shell; the words are those after `l2rkd`."""
        self.note(f"Next: l2rkd {shlex.join(words)}")

    def result(self, text: str) -> None:
        """Tells what was found, also with `--verbose=0`."""
        if self._is_chief:
            print(text, flush=True)

    @property
    def keras_verbose(self) -> int:
        """Keras's `verbose`: bars with the time left on a terminal, else a line an epoch."""
        if not self._verbose:
            return 0
        return 1 if sys.stdout.isatty() else 2
