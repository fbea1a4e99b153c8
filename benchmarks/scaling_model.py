"""What an exchange and a step cost, in formulas, and what the measured times say about them."""

import math

import numpy as np
import scipy.optimize

ACCELERATORS = (8, 64, 1024)
SMALL = 4  # bytes of an exchange of one number


def ring_seconds(num_workers, num_bytes, latency, bandwidth):
    """Time of an all-reduce in a ring: parts go around twice, in `2 (n - 1)` messages."""
    share = (num_workers - 1) / num_workers
    return 2 * (num_workers - 1) * latency + 2 * share * num_bytes / bandwidth


def tree_seconds(num_workers, num_bytes, latency, bandwidth):
    """Time of a pipelined all-reduce in a tree: up and down its levels."""
    return 2 * math.log2(num_workers) * latency + 2 * num_bytes / bandwidth


def exchange_seconds(*arguments):
    """Time of an all-reduce in the better of both ways."""
    return min(ring_seconds(*arguments), tree_seconds(*arguments))


def fit_line(num_bytes, seconds):
    """Fits `latency + num_bytes * seconds_per_byte` with least squares of the relative errors.

    Args:
        num_bytes: Sizes of exchanges, shape `(n,)`.
        seconds: Their times.

    Returns:
        Latency in seconds and seconds per byte, neither below 0.
    """
    seconds = np.asarray(seconds, np.float64)
    rows = np.stack([np.ones_like(seconds), np.asarray(num_bytes, np.float64)], axis=1)
    # Bytes in megabytes, so that both unknowns are of a size.
    scaled = rows / [1.0, 1e6] / seconds[:, None]
    (latency, per_megabyte), _ = scipy.optimize.nnls(scaled, np.ones_like(seconds))
    return float(latency), float(per_megabyte / 1e6)


def extrapolate(num_workers, messages, assumed):
    """Times of a step on many accelerators, in milliseconds, and what they amount to.

    Args:
        num_workers: Number of accelerators, each a worker.
        messages: Exchanges in a step: one of gradients, the others of a number each.
        assumed: Values of the flags of that name, a dict.

    Returns:
        A dict.
    """
    latency = 1e-6 * assumed["latency_microseconds"]
    bandwidth = 1e9 * assumed["link_gigabytes_per_second"]
    gradients = exchange_seconds(num_workers, 4 * assumed["parameters"], latency, bandwidth)
    others = (messages - 1) * exchange_seconds(num_workers, SMALL, latency, bandwidth)
    compute, exchange = assumed["compute_milliseconds"], 1000 * (gradients + others)
    return {
        "num_workers": num_workers,
        "gradients_ms": 1000 * gradients,
        "other_exchanges_ms": 1000 * others,
        "fixed_global_batch_ms": compute / num_workers + exchange,
        "speed_up": compute / (compute / num_workers + exchange),
        "fixed_local_batch_ms": compute + exchange,
        "efficiency": compute / (compute + exchange),
    }


def spread(values):
    """Median, smallest and largest of the runs, each with the median of its times."""
    medians = [float(np.median(times)) for times in values]
    return [float(np.median(medians)), min(medians), max(medians)]


def summarize(runs, batch_size, assumed):
    """What the runs say: fit, predictions and extrapolation.

    Args:
        runs: What the workers wrote, in runs of one worker and runs of two.
        batch_size: The global batch.
        assumed: Arguments of `extrapolate`, a dict.

    Returns:
        A dict; measured times are lists of median, smallest and largest in milliseconds.
    """
    one, two = ([run for run in runs if run["num_workers"] == number] for number in (1, 2))
    exchanges = summarize_exchanges(two)
    latency, per_byte = fit_line(
        [row["bytes"] for row in exchanges], [row["milliseconds"][0] / 1000 for row in exchanges]
    )
    for row in exchanges:
        row["fitted_ms"] = 1000 * (latency + row["bytes"] * per_byte)
    students = [
        summarize_student(
            [run["students"][number] for run in one],
            [run["students"][number] for run in two],
            batch_size,
            latency,
            per_byte,
        )
        for number in range(len(two[0]["students"]))
    ]
    messages = students[0]["messages"]
    return {
        "latency_ms": 1000 * latency,
        "milliseconds_per_megabyte": 1e9 * per_byte,
        "exchanges": exchanges,
        "students": students,
        "extrapolation": [extrapolate(number, messages, assumed) for number in ACCELERATORS],
    }


def summarize_student(one, two, batch_size, latency, per_byte):
    """Times of a student's steps, and their prediction.

    Args:
        one: What runs of one worker say of the student.
        two: What runs of two workers say.
        batch_size: The global batch.
        latency: Fitted seconds of an exchange.
        per_byte: Fitted seconds of a byte.
    """
    half = spread(run["steps"][str(batch_size // 2)] for run in one)
    messages, gradient_bytes = two[0]["messages"], two[0]["gradient_bytes"]
    exchanged = gradient_bytes + (messages - 1) * SMALL
    exchanges_ms = 1000 * (messages * latency + exchanged * per_byte)
    return {
        "student": two[0]["student"],
        "gradient_bytes": gradient_bytes,
        "messages": messages,
        "one_worker": spread(run["steps"][str(batch_size)] for run in one),
        "one_worker_half_batch": half,
        "two_workers": spread(run["steps"][str(batch_size)] for run in two),
        "exchanges_ms": exchanges_ms,
        "predicted_ms": half[0] + exchanges_ms,
    }


def summarize_exchanges(runs):
    """Times of all sizes of exchange, smallest first."""
    by_size = {int(size): [run["exchanges"][size] for run in runs] for size in runs[0]["exchanges"]}
    for number, student in enumerate(runs[0]["students"]):
        by_size[student["gradient_bytes"]] = [run["students"][number]["exchange"] for run in runs]
    return [
        {"bytes": size, "milliseconds": spread(values)} for size, values in sorted(by_size.items())
    ]
