"""What a teacher's pass takes when its weights are constants: a ratio to the pass of the model.

    python -m benchmarks.frozen --output=benchmarks/results/frozen

For each network, both passes are one `tf.function` and take turns, in a new random order in each
round. Batch normalizations have random statistics, so that what is folded is not trivial.
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
    """Seconds of both passes by round, and the largest relative difference of their outputs."""
    network = make_network(name)
    images = tf.random.stateless_normal((FLAGS.batch_size, 32, 32, 3), [0, 0])
    student = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    frozen = FrozenWeights(network, student, lambda: None)

    def run(images):
        with frozen.as_constants():
            return network(images, training=False)

    passes = {
        "model": tf.function(lambda images: network(images, training=False)),
        "constants": frozen.checked(tf.function(run)),
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
    plain, constant = (passes[which](images).numpy() for which in ("model", "constants"))
    return seconds | {"difference": float(np.abs(plain - constant).max() / np.abs(plain).max())}


def table_of(found):
    """The results as markdown, with the median over networks."""
    lines = [
        "| network | ms, model | ratio with constants | middle half of the ratios | difference |",
        "|---|---|---|---|---|",
    ]
    medians = []
    for name, row in found.items():
        ratios = np.array(row["constants"]) / np.array(row["model"])
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        medians.append(middle)
        lines.append(
            f"| {name} | {1000 * np.median(row['model']):.1f} | {middle:.3f} | "
            f"{low:.3f} to {high:.3f} | {row['difference']:.0e} |"
        )
    lines.append(f"| median of {len(found)} | | {np.median(medians):.3f} | | |")
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
