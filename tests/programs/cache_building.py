"""Builds a cache of many small shards, to be killed.

python -m tests.programs.cache_building FOLDER
"""

import sys

import numpy as np

from l2rkd_tf.teacher_cache import cache_teacher, runner
from tests import conftest  # noqa: F401
from tests.helpers import batches, convnet

EXAMPLES = 20_000


def main(folder):
    runner._SHARD_BYTES = 2**18
    x = np.random.default_rng(0).uniform(size=(EXAMPLES, 8, 8, 1)).astype("float32")
    data = batches(x, np.arange(EXAMPLES), size=100)
    cached = cache_teacher(data, convnet(0, 8), folder, verbose=False)
    print(sum(len(y) for _, y in cached))


if __name__ == "__main__":
    main(sys.argv[1])
