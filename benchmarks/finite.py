"""What `check_finite`, the search for NaN and Inf, costs: a ratio of step times.

    python -m benchmarks.finite --output=benchmarks/results/finite

Distillers with and without the check take turns, block by block, in one process; each pair of
neighbouring blocks gives a ratio. Student convnet 16-32, teacher 32-64-128, images 32x32x3.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import app, flags

import l2rkd_tf
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_integer("pairs", 30, "Pairs of blocks.", lower_bound=2)
flags.DEFINE_integer("steps", 20, "Steps of a block.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Examples in a batch.", lower_bound=1)
flags.DEFINE_string("output", "runs/finite", "Results: this path with .json and .md.")


def make_distiller(check_finite):
    """A compiled distiller of small convnets."""
    keras.utils.set_random_seed(0)
    teacher = l2rkd_tf.models.convnet((32, 32, 3), 10, (32, 64, 128))
    student = l2rkd_tf.models.convnet((32, 32, 3), 10)
    distiller = l2rkd_tf.L2RKDDistiller(teacher, student, check_finite=check_finite, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return distiller


def time_block(distiller, iterator, steps):
    """Seconds that a number of steps take."""
    start = time.perf_counter()
    for _ in range(steps):
        logs = distiller.train_function(iterator)
    float(logs["loss"])
    return time.perf_counter() - start


def measure():
    """Seconds of the blocks, shape `(pairs, 2)`: with and without the check."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(FLAGS.batch_size, 32, 32, 3)).astype("float32")
    data = tf.data.Dataset.from_tensors((images, rng.integers(0, 10, FLAGS.batch_size))).repeat()
    distillers = [make_distiller(True), make_distiller(False)]
    iterators = []
    for distiller in distillers:
        distiller.make_train_function()
        iterators.append(iter(data))
        time_block(distiller, iterators[-1], 5)  # traces the step
    seconds = np.zeros((FLAGS.pairs, 2))
    for pair in tqdm.trange(FLAGS.pairs, desc="pairs"):
        for which in (0, 1) if pair % 2 else (1, 0):
            seconds[pair, which] = time_block(distillers[which], iterators[which], FLAGS.steps)
    return seconds


def main(argv):
    """Measures, prints and writes the ratio."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    seconds = measure()
    ratios = seconds[:, 0] / seconds[:, 1]
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    step_ms = 1000 * float(np.median(seconds[:, 1])) / FLAGS.steps
    table = (
        "| step without the check | ratio with it, median | middle half of the ratios |\n"
        "|--:|--:|--:|\n"
        f"| {step_ms:.1f} ms | {middle:.4f} | {low:.4f} to {high:.4f} |\n"
    )
    settings = {name: FLAGS[name].value for name in ("pairs", "steps", "batch_size")}
    results = {
        "command": " ".join(["python -m benchmarks.finite", *sys.argv[1:]]),
        "settings": settings,
    }
    files.write_json(f"{FLAGS.output}.json", results | {"seconds": seconds.tolist()})
    files.write_text(f"{FLAGS.output}.md", table)
    print(table)


if __name__ == "__main__":
    app.run(main)
