"""Cells trained again on other machines: the page tells what the runs say."""

import pathlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studies.harness import another_machine, registry, reproduce, summary
from studies.harness.tables import plus_minus

NUMBERS = ("none", "one", "two", "three", "four")
ROOT = pathlib.Path(__file__).parents[2]
#: The third machine itself ran the committed results of these.
OF_THE_THIRD = ("bench_permuted_sizes", "bench_fashion_longer", "bench_fashion_longer_large")


def test_the_page_has_the_cells_of_the_runs():
    page = (reproduce.RESULTS / "another_machine.md").read_text()
    for machine in (2, 3):
        assert another_machine.table(machine) in page


def test_a_cell_of_every_study_was_trained_again():
    again = {study for machine, study, *_ in another_machine.cells() if machine == 3}
    assert again == set(registry.all_studies()) - set(OF_THE_THIRD)
    names = ", ".join(f"`{name}`" for name in OF_THE_THIRD)
    page = " ".join((reproduce.RESULTS / "another_machine.md").read_text().split())
    assert f"that the third machine itself ran later: {names}.)" in page


def test_what_the_page_says_of_all_cells():
    page = " ".join((reproduce.RESULTS / "another_machine.md").read_text().split())
    found = {key: pair for key, pair in another_machine.cells().items() if key[0] == 3}
    whole = [pair for pair in found.values() if len(pair[0]) == len(pair[1])]
    part = [pair for pair in found.values() if len(pair[0]) > len(pair[1])]
    for kind, pairs in (("with all", whole), ("with some", part)):
        inside = sum(another_machine.is_within(*pair) for pair in pairs)
        assert f"{inside} of the {len(pairs)} cells {kind} of their seeds" in page
    outside = sum(not another_machine.is_within(*pair) for pair in found.values())
    assert f"all but {NUMBERS[outside]} are inside" in (reproduce.RESULTS / "README.md").read_text()
    by_kind = another_machine.changes_by_kind(3)
    changes = np.concatenate(list(by_kind.values()))
    assert len(changes) == sum(len(again) for _, again in found.values())
    size = {kind: f"{np.mean(np.abs(values)):.1f}" for kind, values in by_kind.items()}
    largest, same = np.max(np.abs(changes)), np.sum(np.abs(changes) < 0.006)
    of_tables = np.sum(np.abs(by_kind["tables"]) < 0.006)
    assert f"Over all {len(changes)} runs, the mean change is {np.mean(changes):+.2f} pp" in page
    assert f"In {same} runs, {of_tables} of them of tables, nothing changed" in page
    sizes = (
        f"{size['tables']} pp on average on tables, {size['images']} on images, {size['texts']} on "
        f"texts and {size['series']} on series, and by up to {largest:.1f} pp"
    )
    benchmarks = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert sizes in page and sizes in benchmarks


def test_changes_of_the_lead_are_those_of_the_runs():
    page = " ".join((reproduce.RESULTS / "another_machine.md").read_text().split())
    found = another_machine.cells()
    runs = {
        method: found[2, "fewshot_digits", "digits", method, 0.05, 1.0]
        for method in ("KD", "KD, augmented", "L2RKD")
    }
    for other in ("KD", "KD, augmented"):
        then, now = (runs["L2RKD"][when] - runs[other][when] for when in (0, 1))
        texts = [plus_minus(*summary.mean_and_interval(one)) for one in (now, then, now - then)]
        assert f"{texts[0]} instead of {texts[1]}" in page.replace(" pp", "")
        assert texts[2] in page


def test_expected_means_have_the_intervals_of_the_text_books():
    committed = pd.Series([90.0, 91.0, 93.0, 94.0], index=range(4))
    t, deviation = stats.t.ppf(0.975, 3), np.std(committed, ddof=1)
    assert another_machine.expected(committed, 4) == pytest.approx((92, t * deviation / 2))
    one_more = t * deviation * (1 + 1 / 4) ** 0.5
    assert another_machine.expected(committed, 1) == pytest.approx((92, one_more))


def test_means_that_are_not_where_they_were_expected_are_marked(monkeypatch, tmp_path):
    path = tmp_path / "again.csv"
    lines = pathlib.Path(another_machine.PATH).read_text().splitlines()
    monkeypatch.setattr(another_machine, "PATH", path)
    first = lines[1].rsplit(",", 1)[0]
    path.write_text(f"{lines[0]}\n{first},10.0\n")
    ((key, (committed, again)),) = another_machine.cells().items()
    assert not another_machine.is_within(committed, again)
    assert "10.0 (outside)" in another_machine.table(key[0])
    change, half = another_machine.change(committed, again)
    assert change == pytest.approx(10.0 - committed[again.index[0]]) and half is None
