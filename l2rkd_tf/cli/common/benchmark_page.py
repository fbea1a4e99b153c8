"""The table and the figure of what `benchmark_student.py` measured."""

import numpy as np
from inspect_page import percent, with_interval

from l2rkd_tf import export
from l2rkd_tf.plots import style

KERAS = "Keras student"


def quartiles(seconds):
    """Median and middle half of times, in milliseconds."""
    low, middle, high = 1000 * np.percentile(seconds, [25, 50, 75])
    return {"median_ms": float(middle), "middle_half_ms": [float(low), float(high)]}


def share(value, num_examples):
    """A share of examples with its 95 % Wilson interval."""
    low, high = export.wilson_interval(round(value * num_examples), num_examples)
    return f"{percent(value)} ({100 * low:.2f} to {100 * high:.2f})"


def table(results):
    """The table, as markdown, and what one has to know to read it.

    Args:
        results: What `benchmark_student.py` writes as JSON.
    """
    threads = results["threads"]
    header = ["model", "bytes", "test accuracy", "decides as the teacher"]
    header += ["KL at the data", "KL half way", "half way, beyond the Keras student's"]
    header += [f"ms, {number} thread{'s' * (number > 1)}" for number in threads]
    rows = [header, ["---"] * len(header)]
    for name, row in results["models"].items():
        rows.append([name, *_sizes_and_shares(row, results), *_divergences(row, results)])
        rows[-1] += [_latency(row["latency"][str(number)]) if "latency" in row else ""
                     for number in threads]  # fmt: skip
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *_notes(results)]) + "\n"


def _sizes_and_shares(row, results):
    size = f"{row['bytes']:,}" if "bytes" in row else ""
    shares = [share(row[name], results["num_examples"]) for name in ("accuracy", "agreement")]
    return [size, *shares]


def _divergences(row, results):
    middle = row["profile"]["fractions"].index(0.5)
    kl, stderr = row["profile"]["kl"], row["profile"]["kl_stderr"]
    beyond = kl[middle] - results["models"][KERAS]["profile"]["kl"][middle]
    return [
        with_interval(kl[0], stderr[0]),
        with_interval(kl[middle], stderr[middle]),
        f"{beyond:+.2g}" if "bytes" in row else "",
    ]


def _latency(latency):
    low, high = latency["middle_half_ms"]
    return f"{latency['median_ms']:.3g} ({low:.3g} to {high:.3g})"


def _notes(results):
    yield (
        f"Accuracy and agreement: {results['num_examples']:,} test images, with 95 % Wilson "
        f"intervals; the teacher's accuracy is "
        f"{share(results['teacher_accuracy'], results['num_examples'])}. KL: from the teacher in "
        f"nats, ± half a 95 % interval, at {results['num_points']} test images and half way from "
        f"them to the edge of {results['region']}, at the same points for all models. ms: one "
        f"image, median (middle half) of {results['rounds']} calls, the files in turns, on "
        f"{results['machine']}."
    )
    for name, reason in results["not_exported"].items():
        yield f"\n{name} was not exported: {reason}"


def plot(results, path):
    """Draws latency by threads, and divergence from the teacher within the region, to a file."""
    style.require_matplotlib()
    figure, (latency, divergence) = style.empty_panels(2)
    _draw_latency(latency, results)
    models = results["models"]
    for number, (name, row) in enumerate(models.items()):
        profile = row["profile"]
        # One band tells how sure all curves are: they are of the same points.
        band = profile["kl_stderr"] if name == KERAS else None
        size = f", {row['bytes'] / 1000:,.1f} kB" if "bytes" in row else ""
        style.draw_curve(
            divergence,
            profile["fractions"],
            profile["kl"],
            band,
            number=number,
            label=f"{name}{size}",
        )
    if not style.use_log_axis(divergence, [row["profile"]["kl"] for row in models.values()]):
        divergence.set_ylim(bottom=0.0)
    divergence.set_xlabel("fraction of the way to the edge of the region", fontsize=11)
    divergence.set_ylabel("KL from the teacher, nats", fontsize=11)
    style.legend_below(
        figure,
        "bars: middle half of the calls; band: 95 % interval of the Keras student's mean",
        max_columns=3,
    )
    style.save(figure, path)


def _draw_latency(axes, results):
    threads, models = results["threads"], results["models"]
    for number, row in enumerate(models.values()):
        if "latency" not in row:
            continue
        times = [row["latency"][str(count)] for count in threads]
        middle = np.array([entry["median_ms"] for entry in times])
        ends = np.array([entry["middle_half_ms"] for entry in times]).T
        # Side by side, so that no bar hides another.
        places = np.arange(len(threads)) + 0.12 * (number - len(models) / 2)
        look = style.curve_style(number) | {"linestyle": "none"}
        axes.errorbar(places, middle, np.abs(ends - middle), capsize=3, **look)
    axes.set_xticks(range(len(threads)), map(str, threads))
    axes.set_xlim(-0.5, len(threads) - 0.5)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("threads", fontsize=11)
    axes.set_ylabel("ms for one image", fontsize=11)
