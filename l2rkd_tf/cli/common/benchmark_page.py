"""The table and the figure of what `l2rkd benchmark` measured."""

import numpy as np

from l2rkd_tf.cli.common.pages import percent_with_interval, render, with_interval
from l2rkd_tf.plots import style
from l2rkd_tf.utils.tables import markdown_table

KERAS = "Keras student"


def quartiles(seconds):
    """Median and middle half of times, in milliseconds."""
    low, middle, high = 1000 * np.percentile(seconds, [25, 50, 75])
    return {"median_ms": float(middle), "middle_half_ms": [float(low), float(high)]}


def render_table(results):
    """The table, as markdown, and what a reader has to know about it.

    Args:
        results: What `l2rkd benchmark` writes as JSON.

    Returns:
        Markdown, which ends with a line break.
    """
    threads = results["threads"]
    header = ["model", "bytes", "test accuracy", "agrees with the teacher"]
    header += ["KL at the data", "KL halfway", "KL halfway, minus the Keras student's"]
    header += [f"ms, {number} thread{'s' * (number > 1)}" for number in threads]
    rows = [
        [name, *_size_and_fractions(row, results), *_divergences(row, results)]
        + _latencies(row, threads)
        for name, row in results["models"].items()
    ]
    accuracy = percent_with_interval(results["teacher_accuracy"], results["num_examples"])
    return render(
        "benchmark.md.jinja",
        table=markdown_table(header, rows),
        num_examples=f"{results['num_examples']:,}",
        teacher_accuracy=accuracy,
        **{name: results[name] for name in ("num_points", "region", "rounds", "machine")},
        not_exported=results["not_exported"],
    )


def _size_and_fractions(row, results):
    names = ("accuracy", "top1_agreement")
    fractions = [percent_with_interval(row[name], results["num_examples"]) for name in names]
    return [f"{row['bytes']:,}" if "bytes" in row else "", *fractions]


def _divergences(row, results):
    middle = row["profile"]["fractions"].index(0.5)
    kl, stderr = row["profile"]["kl"], row["profile"]["kl_stderr"]
    beyond = kl[middle] - results["models"][KERAS]["profile"]["kl"][middle]
    return [
        with_interval(kl[0], stderr[0]),
        with_interval(kl[middle], stderr[middle]),
        f"{beyond:+.2g}" if "bytes" in row else "",
    ]


def _latencies(row, threads):
    if "latency" not in row:
        return [""] * len(threads)
    return [_latency(row["latency"][str(number)]) for number in threads]


def _latency(latency):
    low, high = latency["middle_half_ms"]
    return f"{latency['median_ms']:.3g} ({low:.3g} to {high:.3g})"


def plot(results, path):
    """Draws latency by threads, and divergence from the teacher within the region, to a file."""
    style.require_matplotlib()
    figure, (latency, divergence) = style.empty_panels(2)
    _draw_latency(latency, results)
    _draw_divergence(divergence, results["models"])
    style.legend_below(
        figure,
        "bars: middle half of the calls; band: 95 % CI of the Keras student's mean",
        max_columns=3,
    )
    style.save(figure, path)


def _draw_divergence(axes, models):
    for number, (name, row) in enumerate(models.items()):
        profile = row["profile"]
        # One band shows the uncertainty of all curves: they are measured at the same points.
        band = profile["kl_stderr"] if name == KERAS else None
        size = f", {row['bytes'] / 1000:,.1f} kB" if "bytes" in row else ""
        style.draw_curve(
            axes, profile["fractions"], profile["kl"], band, number=number, label=f"{name}{size}"
        )
    if not style.use_log_axis(axes, [row["profile"]["kl"] for row in models.values()]):
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel("fraction of the way to the boundary of the region", fontsize=11)
    axes.set_ylabel("KL from the teacher, nats", fontsize=11)


def _draw_latency(axes, results):
    threads, models = results["threads"], results["models"]
    for number, row in enumerate(models.values()):
        if "latency" not in row:
            continue
        times = [row["latency"][str(count)] for count in threads]
        middle = np.array([entry["median_ms"] for entry in times])
        ends = np.array([entry["middle_half_ms"] for entry in times]).T
        # Side by side, so that no bar hides another.
        positions = np.arange(len(threads)) + 0.12 * (number - len(models) / 2)
        look = style.curve_style(number) | {"linestyle": "none"}
        axes.errorbar(positions, middle, np.abs(ends - middle), capsize=3, **look)
    axes.set_xticks(range(len(threads)), map(str, threads))
    axes.set_xlim(-0.5, len(threads) - 0.5)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("threads", fontsize=11)
    axes.set_ylabel("ms for one image", fontsize=11)
