"""Times training steps and exchanges on one of several workers; `scaling.py` starts it.

    l2rkd launch --num_workers=2 -- python -m benchmarks.scaling_worker --output=times.json

Each worker computes on one core. Worker 0 writes the times of all steps and exchanges, which take
the slowest worker's time, since every step waits for all.
"""

import json
import math
import os
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from l2rkd_tf import L2RKDDistiller, models
from l2rkd_tf.cli.common.run_folder import versions
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_list("students", ["16x32", "64x128"], "Widths of the blocks of each student.")
flags.DEFINE_list("batch_sizes", ["128"], "Global batch sizes.")
flags.DEFINE_list(
    "exchange_bytes", ["4"], "Sizes of all-reduces, in addition to those of gradients."
)
flags.DEFINE_integer("steps", 20, "Steps of an epoch, for one time.", lower_bound=1)
flags.DEFINE_integer("epochs", 5, "Epochs that are timed, after one that is not.", lower_bound=1)
flags.DEFINE_string("output", None, "JSON file for the times.", required=True)

IMAGE_SHAPE, NUM_CLASSES = (8, 8, 1), 10
TEACHER_WIDTHS = (32, 64, 128)
# Exchanges in one call, so that the time to call TensorFlow does not count.
EXCHANGES_OF_A_CALL = 10


class EpochTimer(keras.callbacks.Callback):
    """Milliseconds a step in each epoch but the first, which also traces the step."""

    def __init__(self):
        super().__init__()
        self.milliseconds, self._start, self._end = [], 0.0, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Starts the clock at the first step of an epoch."""
        if batch == 0:
            self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Notes the end of what may be the last step."""
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Takes the time from the first step to the last."""
        if epoch > 0:
            seconds = self._end - self._start
            self.milliseconds.append(1000 * seconds / self.params["steps"])


def make_strategy():
    """The strategy of the workers in `TF_CONFIG`; the default one for a single worker."""
    workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
    if len(workers) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MultiWorkerMirroredStrategy()


def make_batches(batch_size):
    """The same random batch again and again, without end."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(batch_size, *IMAGE_SHAPE)).astype("float32")
    labels = np.arange(batch_size) % NUM_CLASSES
    return tf.data.Dataset.from_tensor_slices((images, labels)).cache().repeat().batch(batch_size)


def make_distiller(strategy, widths):
    """A compiled distiller with default settings."""
    with strategy.scope(), warnings.catch_warnings():
        # Statistics of each worker's share are as they should be here: nothing else is exchanged.
        warnings.filterwarnings("ignore", "The batch normalizations")
        teacher = models.convnet(IMAGE_SHAPE, NUM_CLASSES, TEACHER_WIDTHS, convs_per_block=2)
        student = models.convnet(IMAGE_SHAPE, NUM_CLASSES, widths)
        distiller = L2RKDDistiller(teacher, student, seed=0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile("sgd", loss, metrics=["accuracy"])
    return distiller


def time_steps(distiller, batches):
    """Milliseconds of a step of `fit`, one value for each epoch."""
    timer = EpochTimer()
    distiller.fit(
        batches,
        epochs=1 + FLAGS.epochs,
        steps_per_epoch=FLAGS.steps,
        callbacks=[timer],
        verbose=0,
    )
    return timer.milliseconds


def count_messages(strategy, distiller, batches):
    """Number of exchanges between workers in one step of `fit`, counted in its graph."""
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    # Keras's own function, without what the distiller does with the logs outside the graph.
    keras.Model.make_train_function(distiller, force=True)
    step = distiller.train_function
    traced = tf.function(lambda iterator: step([iterator.get_next()]), autograph=False)
    graph = traced.get_concrete_function(iterator).graph.as_graph_def()
    distiller.make_train_function(force=True)
    functions = [graph.node, *(function.node_def for function in graph.library.function)]
    return sum(node.op.startswith("Collective") for nodes in functions for node in nodes)


def time_exchange(strategy, shapes):
    """Milliseconds of one all-reduce of tensors of these shapes, one value for each epoch."""

    def on_replica():
        tensors = [tf.zeros(shape) for shape in shapes]
        context = tf.distribute.get_replica_context()
        for _ in range(EXCHANGES_OF_A_CALL):  # each waits for the one before
            tensors = context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)
        return tensors

    exchange = tf.function(lambda: strategy.run(on_replica))
    exchange()
    milliseconds = []
    for _ in range(FLAGS.epochs):
        start = time.perf_counter()
        for _ in range(FLAGS.steps):
            exchange()
        seconds = time.perf_counter() - start
        milliseconds.append(1000 * seconds / (FLAGS.steps * EXCHANGES_OF_A_CALL))
    return milliseconds


def measure_student(strategy, student):
    """Times of the steps of a student with each batch size, and of exchanging its gradients."""
    widths = [int(width) for width in student.split("x")]
    result = {"student": student, "steps": {}}
    for size in FLAGS.batch_sizes:
        # A new one for each, since a step that is traced again takes shapes to be unknown.
        distiller, batches = make_distiller(strategy, widths), make_batches(int(size))
        result["steps"][size] = time_steps(distiller, batches)
    shapes = [tuple(weight.shape) for weight in distiller.student.trainable_weights]
    result["gradient_bytes"] = 4 * sum(map(math.prod, shapes))
    if strategy.num_replicas_in_sync > 1:
        result["messages"] = count_messages(strategy, distiller, batches)
        result["exchange"] = time_exchange(strategy, shapes)
    return result


def main(argv):
    """Measures everything; worker 0 writes it."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("ERROR")  # it logs every exchange that is traced
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    strategy = make_strategy()
    result = {"num_workers": strategy.num_replicas_in_sync, "versions": versions()}
    result["students"] = [measure_student(strategy, student) for student in FLAGS.students]
    if strategy.num_replicas_in_sync > 1:
        result["exchanges"] = {
            size: time_exchange(strategy, [(int(size) // 4,)]) for size in FLAGS.exchange_bytes
        }
    if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
        files.write_json(FLAGS.output, result)


if __name__ == "__main__":
    app.run(main)
