"""What a step of distillation costs.

The ratios are to `keras.distillation`, to loops written by hand, and to the passes of a step.

    python -m benchmarks.speed --output=benchmarks/results/speed

Needs two cores that nothing else uses, and about an hour; it resumes where it stopped. In each
round every row is timed once, in a new random order, and a ratio is one of two times of the same
round. Peak memory is that of a process of its own for each row.
"""

import functools
import pathlib
import random
import subprocess
import sys

import keras
import tensorflow as tf
import tqdm
from absl import app, flags

import l2rkd_tf
from benchmarks import result_files, speed_page, speed_pairs, speed_rows
from l2rkd_tf.utils import files

ROOT = pathlib.Path(__file__).parent.parent

FLAGS = flags.FLAGS

flags.DEFINE_string("output", "runs/speed", "Results: this path with .json, .md and .png.")
flags.DEFINE_list("pairs", ["digits", "wrn", "heavy"], "Pairs of models, of `speed_pairs.PAIRS`.")
flags.DEFINE_list("jit_pairs", ["digits", "wrn"], "Those that are also compiled by XLA.")
flags.DEFINE_list("memory_pairs", ["wrn"], "Those whose peak memory is measured.")
flags.DEFINE_list("growth_pairs", ["wrn"], "Those timed with more points and other batches.")
flags.DEFINE_integer("rounds", 9, "Times that each row is timed.", lower_bound=2)
flags.DEFINE_string("row", None, "Prints the peak memory of this row of --pairs, in MB.")

GROWTH_POINTS = (1, 2, 4, 6, 8)
GROWTH_BATCHES = (16, 32, 64, 128, 256, 512)


def time_rows(rows, steps, times, rounds, save, label):
    """Times rows in turns until each has been timed so often, and saves after every round.

    Args:
        rows: `{name: row}`.
        steps: Steps of a block.
        times: `{name: [seconds of a step]}`, which grows.
        rounds: Number of rounds.
        save: Function to call after every round.
        label: What the progress bar shows.
    """
    done = min(len(times.setdefault(name, [])) for name in rows)
    if done >= rounds:
        return
    made = {name: make() for name, make in rows.items()}
    for row in tqdm.tqdm(made.values(), desc=f"{label}: tracing"):
        row.time(steps)
    for number in tqdm.trange(done, rounds, desc=label):
        order = list(made)
        random.Random(number).shuffle(order)
        seconds = {name: made[name].time(steps) / steps for name in order}
        for name, value in seconds.items():
            times[name].append(value)
        save()


def time_pair(pair, jit_compile, times, save):
    """Times all rows of a pair."""
    given, steps = speed_pairs.setting(pair, jit_compile)
    rows = {
        name: lambda make=make: make(given)
        for name, (make, _) in {**speed_rows.ROWS, **speed_rows.PASSES}.items()
    }
    label = f"{pair}, XLA" if jit_compile else pair
    time_rows(rows, steps, times, FLAGS.rounds, save, label)


def time_growth(pair, times, save):
    """Times L2RKD with more region points, and with batches of other sizes."""
    given, steps = speed_pairs.setting(pair, batch_size=GROWTH_BATCHES[0])
    points = {
        f"k={k}": lambda k=k: speed_rows.distiller(num_region_points=k)(given)
        for k in GROWTH_POINTS
    }
    time_rows(points, 2 * steps, times, FLAGS.rounds, save, f"{pair}, points")
    batches = {
        f"batch={size}": lambda size=size: speed_rows.distiller()(
            speed_pairs.setting(pair, False, size)[0]
        )
        for size in GROWTH_BATCHES
    }
    time_rows(batches, steps, times, FLAGS.rounds, save, f"{pair}, batches")


def measure_memory(pair, results, save):
    """Peak memory of each row, in a process of its own."""
    for row in tqdm.tqdm(speed_rows.ROWS, desc=f"{pair}, memory"):
        if row in results:
            continue
        command = [sys.executable, "-m", "benchmarks.speed", f"--pairs={pair}", f"--row={row}"]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        results[row] = float(run.stdout.split()[-1])
        save()


def print_peak_memory(pair, row):
    """Prints by how much memory grows over what was taken before the models were made, in MB."""
    given, _ = speed_pairs.setting(pair)
    before = resident("VmRSS")
    speed_rows.ROWS[row][0](given).time(4)
    print(resident("VmHWM") - before)


def resident(which):
    """Resident memory of this process, now (`VmRSS`) or at its peak (`VmHWM`), in MB."""
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith(which)).split()[1]) / 1024


def main(argv):
    """Measures what is missing, prints and writes the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}. Flags begin with two dashes.")
    if FLAGS.row:
        print_peak_memory(FLAGS.pairs[0], FLAGS.row)
        return
    path = f"{FLAGS.output}.json"
    versions = {module.__name__: module.__version__ for module in (keras, tf, l2rkd_tf)}
    results = result_files.read(path, {"versions": versions})
    save = functools.partial(files.write_json, path, results, indent=1)

    def part(*names):
        place = results
        for name in names:
            place = place.setdefault(name, {})
        return place

    for pair in FLAGS.pairs:
        part("batch_size")[pair] = speed_pairs.PAIRS[pair][3]
        time_pair(pair, False, part("times", pair), save)
    for pair in FLAGS.memory_pairs:
        measure_memory(pair, part("memory", pair), save)
    for pair in FLAGS.growth_pairs:
        time_growth(pair, part("growth", pair), save)
    for pair in FLAGS.jit_pairs:
        keras.backend.clear_session()
        time_pair(pair, True, part("times", f"{pair}, XLA"), save)
    files.write_text(f"{FLAGS.output}.md", speed_page.page(results))
    speed_page.plot(results, f"{FLAGS.output}.png")
    print(speed_page.page(results))


if __name__ == "__main__":
    app.run(main)
