"""The page of results of `scaling.py`, in markdown."""

from l2rkd_tf.utils.tables import markdown_table


def table(rows):
    """A table of markdown from dicts of texts, whose keys are the columns."""
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def with_spread(values):
    """Median with smallest and largest, as text."""
    median, smallest, largest = values
    return f"{median:.3g} ({smallest:.3g} to {largest:.3g})"


def student_row(row, batch_size):
    """Measured and predicted times of a student's steps."""
    return {
        "student": row["student"],
        "gradients, kB": f"{row['gradient_bytes'] / 1000:.3g}",
        f"1 worker, batch {batch_size}, ms": with_spread(row["one_worker"]),
        f"1 worker, batch {batch_size // 2}, ms": with_spread(row["one_worker_half_batch"]),
        "exchanges in a step": str(row["messages"]),
        "their time by the fit, ms": f"{row['exchanges_ms']:.3g}",
        f"2 workers, batch {batch_size}, predicted, ms": f"{row['predicted_ms']:.3g}",
        "measured, ms": with_spread(row["two_workers"]),
        "measured / predicted": f"{row['two_workers'][0] / row['predicted_ms']:.2f}",
    }


def exchange_row(row):
    """Measured and fitted time of an exchange."""
    return {
        "exchange, kB": f"{row['bytes'] / 1000:.3g}",
        "measured, ms": with_spread(row["milliseconds"]),
        "fitted, ms": f"{row['fitted_ms']:.3g}",
    }


def extrapolation_row(row):
    """Computed times on many accelerators."""
    return {
        "accelerators": str(row["num_workers"]),
        "gradients, ms": f"{row['gradients_ms']:.3g}",
        "other exchanges, ms": f"{row['other_exchanges_ms']:.3g}",
        "fixed global batch: a step, ms": f"{row['fixed_global_batch_ms']:.3g}",
        "speed-up": f"{row['speed_up']:.3g}",
        "fixed batch each: a step, ms": f"{row['fixed_local_batch_ms']:.3g}",
        "efficiency": f"{row['efficiency']:.0%}",
    }


def markdown(results):
    """The page.

    Args:
        results: What `scaling.py` writes as JSON.
    """
    summary, settings, assumed = (results[name] for name in ("summary", "settings", "assumed"))
    students = table([student_row(row, settings["batch_size"]) for row in summary["students"]])
    return f"""\
Measured: steps of L2RKD on CPU, one process and one core for each worker, exchange through the
loopback interface. Median (smallest to largest) of {settings["repeats"]} runs:

{students}

Only the exchange (all-reduce), on 2 workers; the fit is {summary["latency_ms"]:.3g} ms and
{summary["milliseconds_per_megabyte"]:.3g} ms for each MB:

{table([exchange_row(row) for row in summary["exchanges"]])}

Not measured but computed, for a student of {assumed["parameters"]:.3g} parameters in float32,
{assumed["compute_milliseconds"]:g} ms a step on one accelerator, links of
{assumed["link_gigabytes_per_second"]:g} GB/s with {assumed["latency_microseconds"]:g} µs a message,
{summary["students"][0]["messages"]} exchanges in a step, none of them hidden behind computation,
each in a ring or a tree, whichever is faster:

{table([extrapolation_row(row) for row in summary["extrapolation"]])}
"""
