"""What a teacher's pass takes with its weights as constants, in float32 and in bfloat16.

    python -m benchmarks.frozen --output=benchmarks/results/frozen

For each network, all passes are one `tf.function` and take turns, in a new random order in each
round; a ratio is that of two times of a round, to the pass of the model. Batch normalizations have
random statistics, so that what is folded is not trivial.
"""

import random
import sys
import time

import keras
import numpy as np
import tensorflow as tf
import tqdm
from absl import app, flags

import l2rkd_tf
from benchmarks import result_files
from l2rkd_tf.distiller.frozen import FrozenWeights
from l2rkd_tf.distiller.precision import Precision
from l2rkd_tf.utils import files

FLAGS = flags.FLAGS

flags.DEFINE_list("networks", None, "Names as for l2rkd_tf.models.get; all by default.")
flags.DEFINE_integer("rounds", 15, "Times that each pass is timed.", lower_bound=2)
flags.DEFINE_integer("batch_size", 64, "Images of 32x32x3 in a batch.", lower_bound=1)
flags.DEFINE_string("output", "runs/frozen", "Results: this path with .json and .md.")


def make_network(name):
    """A network with random statistics in its batch normalizations."""
    keras.utils.set_random_seed(0)
    if name.startswith("convnet"):
        widths = [int(width) for width in name.split()[1:]]
        network = l2rkd_tf.models.convnet((32, 32, 3), 10, widths)
    else:
        network = l2rkd_tf.models.get(name, input_shape=(32, 32, 3), num_classes=10)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.8, 1.2, weight.shape) for weight in layer.weights])
    return network


def measure(name):
    """Seconds of the passes by round, and how outputs differ at most from those of the model."""
    network = make_network(name)
    images = tf.random.stateless_normal((FLAGS.batch_size, 32, 32, 3), [0, 0])
    student = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def constants(dtype):
        frozen, precision = FrozenWeights(network, student, lambda: None), Precision(network, dtype)

        def run(images):
            with frozen.as_constants(), precision.applied():
                return tf.cast(network(images, training=False), tf.float32)

        return frozen.checked(tf.function(run))

    passes = {
        "model": tf.function(lambda images: network(images, training=False)),
        "constants": constants(None),
        "bfloat16": constants("bfloat16"),
    }
    for function in passes.values():
        for _ in range(8):  # traces; later, looks for changes are rare
            function(images)
    seconds = {which: [] for which in passes}
    for number in range(FLAGS.rounds):
        order = list(passes)
        random.Random(number).shuffle(order)
        for which in order:
            start = time.perf_counter()
            passes[which](images).numpy()
            seconds[which].append(time.perf_counter() - start)
    outputs = {which: function(images).numpy() for which, function in passes.items()}
    plain = outputs.pop("model")
    differences = {
        which: float(np.abs(plain - other).max() / np.abs(plain).max())
        for which, other in outputs.items()
    }
    return {"seconds": seconds, "differences": differences}


def table_of(found):
    """The results as markdown, with the median over networks."""
    lines = [
        "| network | ms, model | constants, ratio | middle half | difference "
        "| bfloat16, ratio | middle half | difference |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    medians = {"constants": [], "bfloat16": []}
    for name, row in found.items():
        seconds = {which: np.array(times) for which, times in row["seconds"].items()}
        cells = [name, f"{1000 * np.median(seconds['model']):.1f}"]
        for which in medians:
            low, middle, high = np.percentile(seconds[which] / seconds["model"], [25, 50, 75])
            medians[which].append(middle)
            cells += [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
            cells += [f"{row['differences'][which]:.0e}"]
        lines.append(f"| {' | '.join(cells)} |")
    middles = [f"{np.median(ratios):.2f} | | " for ratios in medians.values()]
    lines.append(f"| median of {len(found)} | | {' | '.join(middles)} |")
    return "\n".join(lines) + "\n"


def main(argv):
    """Measures, prints and writes the ratios; resumes where it stopped."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    all_names = [*l2rkd_tf.models.names(), "convnet 16 32", "convnet 32 64 128"]
    command = " ".join(["python -m benchmarks.frozen", *sys.argv[1:]])
    results = result_files.read(f"{FLAGS.output}.json", {"command": command, "networks": {}})
    for name in tqdm.tqdm(FLAGS.networks or all_names):
        if name not in results["networks"]:
            results["networks"][name] = measure(name)
            files.write_json(f"{FLAGS.output}.json", results, indent=None)
    files.write_text(f"{FLAGS.output}.md", table_of(results["networks"]))
    print(table_of(results["networks"]))


if __name__ == "__main__":
    app.run(main)
