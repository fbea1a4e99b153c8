"""Statistics of runs against closed forms, and the files that show them."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats

from studies.harness import fractions, jobs, page, plots, summary, tables, tasks
from studies.harness.definitions import Method, Study
from studies.harness.pairs import Network, Pair
from tests.studies.made_up import made_up_runs


def test_interval_of_three_values_in_closed_form():
    # t(0.975, 2) = 4.302653; the standard deviation of 1, 2, 6 is sqrt(7).
    mean, half = summary.mean_and_interval([1.0, 2.0, 6.0])
    assert mean == pytest.approx(3.0)
    assert half == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)
    assert summary.mean_and_interval([5.0]) == [5.0, None]


def test_p_value_of_three_differences_in_closed_form():
    # With two degrees of freedom: p = 1 - t / sqrt(2 + t^2), t = mean / standard error.
    t = 3.0 / math.sqrt(7 / 3)
    found = summary.paired_statistics(np.array([1.0, 2.0, 6.0]))
    assert found["p_value"] == pytest.approx(1 - t / math.sqrt(2 + t**2))
    assert summary.paired_statistics(np.zeros(3))["p_value"] is None
    assert summary.paired_statistics(np.array([2.0])) == {
        "difference": 2.0, "difference_interval": None, "p_value": None,
    }  # fmt: skip
    assert summary.paired_statistics(np.array([])) == {}


def test_p_values_are_corrected_as_by_holm():
    # By hand: 3 * 0.01; 2 * 0.04; the third keeps 0.08, since a correction may not fall.
    rows = [{"p_value": value} for value in (0.04, None, 0.01, 0.05)] + [{}]
    found = [row.get("corrected_p_value") for row in summary.correct(rows)]
    assert found == [pytest.approx(0.08), None, pytest.approx(0.03), pytest.approx(0.08), None]
    assert summary.correct([{"p_value": 0.7}, {"p_value": 0.6}])[0]["corrected_p_value"] == 1.0


def test_the_summary_is_paired_over_seeds(small, runs):
    rows = {(row["method"], row["fraction"]): row for row in summary.summarize(small, runs)}
    row = rows["L2RKD", 0.5]
    own, other = np.array([86.0, 90.0, 97.0]), np.array([85.0, 88.0, 91.0])
    assert row["accuracy"] == pytest.approx(own.mean())
    assert row["difference"] == pytest.approx(3.0)
    test = scipy.stats.ttest_rel(own, other)
    assert row["p_value"] == pytest.approx(test.pvalue)
    low, high = test.confidence_interval(0.95)
    assert row["difference_interval"] == pytest.approx((high - low) / 2)
    assert row["corrupted"]["noise 0.1"][0] == pytest.approx(own.mean() - 10)
    failed = rows["L2RKD", 1.0]
    assert (failed["seeds"], failed["failed"]) == (2, 1)
    assert failed["difference"] == pytest.approx(3.5)  # of the seeds that both have


@pytest.mark.parametrize(("order", "expected"), [(["KD", "L2RKD"], -1.0), (["L2RKD", "KD"], 1.0)])
def test_rank_correlation_compares_an_order_with_accuracies(small, runs, order, expected):
    ranking = {"phase": "ranking", "pair": "pair", "fraction": 0.5, "order": order}
    rankings = [ranking | {"seed": seed} for seed in (0, 1)]
    assert summary.rank_correlation(small, runs) is None
    assert summary.rank_correlation(small, runs + rankings) == [pytest.approx(expected), 0.0]


def test_the_files_show_what_failed_and_what_was_named(small, runs, tmp_path):
    results = {
        "command": "python -m studies small",
        "date": "2026-01-01",
        "machine": "m",
        "versions": {"keras": "3"},
        "teachers": {"pair": {"accuracy": 99.0, "corrupted": {"noise 0.1": 98.0}}},
        "runs": runs,
        "summary": summary.summarize(small, runs),
    }
    text = page.write(str(tmp_path / "out"), small, results)
    assert (tmp_path / "out.md").read_text() == text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["L2RKD", "**91.0 ± 13.8**", "**96.5 ± 69.9 (1 failed)**"] in rows
    assert ["L2RKD at 50% − KD at 100%", "-2.0 ± 6.6 (0.321)"] in rows
    assert ["teacher", "99.0", "98.0"] in rows
    assert any(row and row[0].endswith("length 1.0, seed 1") and row[1] == "b: c" for row in rows)
    html = (tmp_path / "out.html").read_text()
    assert html.count("data:image/png;base64,") == 1
    assert "<td>failed</td>" in html
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert lines[0].startswith("pair,fraction,length,method,seeds,failed,against,accuracy")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".md", ".png"]


@pytest.fixture
def two_tables():
    """A study of two datasets with made-up results."""
    pair = Pair(teacher=Network(widths=(8,)), student=Network(widths=(4,)))
    study = Study(
        title="Tables",
        dataset="",
        pairs={"tables/wine": pair, "tables/digits": pair},
        methods={"KD": Method(kind="kd"), "swap": Method(kind="l2rkd")},
        fractions=(0.05, 0.1),
        seeds=(0, 1, 2),
        measures=(),
    )
    gains = {"tables/wine": (1.0, 2.0, 6.0), "tables/digits": (3.0, 4.0, 8.0)}

    def accuracy(job):
        gain = gains[job["pair"]][job["seed"]] if job["method"] == "swap" else 0.0
        return 80.0 + job["seed"] + gain

    return study, made_up_runs(jobs.test_jobs(study, dict.fromkeys(_runs_of(study), {})), accuracy)


def _runs_of(study):
    return [(pair, name) for pair in study.pairs for name in study.methods]


def test_differences_are_averaged_over_data_sets_seed_by_seed(two_tables):
    study, runs = two_tables
    found = summary.mean_differences(study, runs)
    assert set(found) == {("swap", 0.05, 1.0), ("swap", 0.1, 1.0)}
    # The means over the two sets are 2, 3, 7: their standard deviation is sqrt(7).
    row = found["swap", 0.1, 1.0]
    assert row["difference"] == pytest.approx(4.0)
    assert row["difference_interval"] == pytest.approx(4.302653 * math.sqrt(7 / 3), rel=1e-6)


@pytest.mark.parametrize(
    ("shares", "lengths", "header"),
    [
        ((0.05,), (1.0,), ["5%"]),
        ((0.05,), (1.0, 4.0), ["1x compute", "4x compute"]),
        ((0.05, 0.1), (1.0,), ["5%", "10%"]),
        ((0.05, 0.1), (4.0,), ["5%", "10%"]),
        (
            (0.1, 1.0),
            (1.0, 4.0),
            [
                "10%, 1x compute",
                "10%, 4x compute",
                "100%, 1x compute",
                "100%, 4x compute",
            ],
        ),
    ],
)
def test_means_over_data_sets_have_a_column_for_each_fraction_and_length(
    two_tables, shares, lengths, header
):
    study = dataclasses.replace(two_tables[0], fractions=shares, lengths=lengths)

    def accuracy(job):
        return 80.0 + (job["method"] == "swap") * (job["length"] + 10 * job["fraction"])

    chosen = dict.fromkeys(_runs_of(study), {})
    runs = made_up_runs(jobs.test_jobs(study, chosen), accuracy)
    summarized = {"runs": runs, "summary": summary.summarize(study, runs), "teachers": {}}
    table = next(t for t in tables.all_tables(study, summarized) if t.caption.startswith("Mean of"))
    assert table.header[2:] == header
    gains = [length + 10 * share for share in shares for length in lengths]
    assert [float(cell.strip("*").split()[0]) for cell in table.rows[0][2:]] == pytest.approx(gains)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((1.0,), "swap at 5% − KD at 10%"),
        ((0.5, 1.0), "swap at 5%, 0.5x compute − KD at 10%, 1x compute"),
    ],
)
def test_other_comparisons_say_what_they_compare(two_tables, lengths, expected):
    contrast = ("swap", 0.05, lengths[0]), ("KD", 0.1, 1.0)
    study = dataclasses.replace(two_tables[0], lengths=lengths, contrasts=(contrast,))
    ((text, row),) = summary.contrasts(study, two_tables[1])
    assert text == expected
    found = {0.5: {}, 1.0: {"difference": pytest.approx(3.0)}}[lengths[0]]
    assert found.items() <= row.items()


def test_each_data_set_has_its_table_and_its_panel(two_tables, tmp_path):
    study, runs = two_tables
    results = {
        "command": "python -m studies tables",
        "versions": {"keras": "3"},
        "teachers": {"tables/wine": {"accuracy": 99.0}, "tables/digits": {"accuracy": 98.0}},
        "runs": runs,
        "summary": summary.summarize(study, runs),
    }
    text = page.write(str(tmp_path / "out"), study, results)
    assert "Test accuracy, %: tables/wine" in text
    assert "Mean of the 2 datasets: paired difference, pp (corrected p-value)" in text
    assert "| swap" in text.split("Mean of the 2 datasets")[1]
    panels = plots.curves(study, results, "fraction").axes
    assert [panel.get_title() for panel in panels] == ["tables/wine", "tables/digits"]
    assert [panel.get_lines()[-1].get_ydata()[0] for panel in panels] == [99.0, 98.0]
    assert study.score == "accuracy"
    assert tasks.score_of("scenes/ink") == "mean IoU"


def test_the_rankings_of_a_seed_count_once(small, runs):
    ranking = {"phase": "ranking", "pair": "pair", "fraction": 0.5}
    orders = [(0, ["KD", "L2RKD"]), (0, ["L2RKD", "KD"]), (1, ["L2RKD", "KD"])]
    rankings = [ranking | {"seed": seed, "order": order} for seed, order in orders]
    mean, half = summary.rank_correlation(small, runs + rankings)
    assert mean == pytest.approx(0.5)  # of 0 and 1
    assert half == pytest.approx(scipy.stats.t.ppf(0.975, 1) * 0.5)


def test_fractions_of_known_images_are_called_by_their_numbers():
    assert fractions.of_known(50, 6000) == (49 / 55_000, 6000 / 55_000)
    names = [
        fractions.name_of(value) for value in (*fractions.of_known(50, 6000), 1.0, 0.1, 0.0025)
    ]
    assert names == ["50 images", "6,000 images", "100%", "10%", "0.25%"]
    assert fractions.axis_of(fractions.of_known(50, 6000)) == ("training images", ["50", "6,000"])
    assert fractions.axis_of((0.05, 1.0)) == ("fraction of the training data, %", ["5", "100"])
    _, names = fractions.axis_of((*fractions.of_known(100), 1.0))
    assert names == ["100", "55,000"]


def test_methods_with_one_colour_of_their_own_are_told_apart():
    names = ["KD", "segment", "L2RKD", "1 added each"]
    colours = [style["color"] for style in plots._styles(names).values()]
    assert len(set(colours)) == 4 and "0.7" not in colours
