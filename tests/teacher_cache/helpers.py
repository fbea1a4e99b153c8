"""What tests of the teacher's cache share."""

import numpy as np

from l2rkd_tf.teacher_cache import runner

EXAMPLES = 10
QUIET = {"verbose": False}


def asked(monkeypatch, call):
    """Number of examples that the teacher is asked for in a call."""
    counts = []
    rows = runner.TeacherRunner.rows

    def counting(self, chunk):
        counts.append(chunk.num_examples)
        return rows(self, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(runner.TeacherRunner, "rows", counting)
        call()
    return sum(counts)


def read(dataset):
    """Inputs, teacher outputs and labels of one pass."""
    elements = [(x.inputs, x.teacher_outputs, y) for x, y in dataset.as_numpy_iterator()]
    return [np.concatenate(parts) for parts in zip(*elements, strict=True)]
