"""What README and committed results say is what commands printed."""

import json
import pathlib
import re
import runpy

import pytest

from l2rkd_tf import methods
from studies.harness import summary
from tests.studies.comparisons import COMPARISONS, difference, paired_by_seed
from tests.studies.many_images import differences_by_seed, table_with_many_images, with_many_images

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "studies" / "results"


def test_quickstart_is_short():
    """It runs in `test_docs.py`, which compares what it prints with what the README says."""
    code = re.search(r"```python\n(.+?)```", README, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line]) <= 25


@pytest.mark.parametrize(
    ("page", "tables"),
    [
        ("README.md", 1),
        ("docs/method.md", 1),
        ("docs/published_methods.md", 1),
        ("docs/performance.md", 3),
        ("docs/scaling.md", 1),
        ("docs/shape.md", 1),
    ],
)
def test_tables_are_those_that_commands_printed(page, tables):
    fill_readme = runpy.run_path(str(ROOT / "docs/_build/fill_readme.py"))
    text = (ROOT / page).read_text()
    marked = re.findall(r"^<!-- (studies|benchmarks)/results/\S+\.md.* -->$", text, re.MULTILINE)
    assert len(marked) >= tables
    assert fill_readme["fill"](text) == text


#: Tables, and accuracies of teachers, of each study.
RESULTS_OF = {
    path.stem: (
        path.with_suffix(".md").read_text(),
        [
            accuracy
            for teacher in json.loads(path.read_text())["teachers"].values()
            for accuracy in (teacher["accuracy"], *teacher.get("accuracy_by_fraction", ()))
        ],
    )
    for path in RESULTS.glob("*.json")
}
#: Pages about results of studies: each links to those that its numbers are from.
PAGES = [
    "README.md", "docs/index.md",
    *(
        f"docs/{name}.md"
        for name in (
            "fashion", "mnist", "all_data", "same_data", "little_data", "longer_training",
            "sizes", "ablation", "ideas", "run_once", "published_methods", "shape", "inputs",
        )
    ),
]  # fmt: skip


#: Other pages that quote differences of studies.
WITH_DIFFERENCES = ("benchmarks", "choosing_a_region", "tuning")


@pytest.mark.parametrize("page", PAGES)
def test_numbers_in_texts_are_in_results(page):
    text = (ROOT / page).read_text()
    names = set(re.findall(r"studies/results/(\w+)\.md", text)) - {"README", "another_machine"}
    names = names or {"f1_fashion"}
    words = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    number = re.compile(r"(?<![\d.:-])\d+\.\d(?![\d.])")
    tables = "".join(RESULTS_OF[name][0] for name in names).replace("-", " ")
    known = set(number.findall(tables))
    known |= {f"{accuracy:.1f}" for name in names for accuracy in RESULTS_OF[name][1]}
    known |= {one for text in COMPARISONS.get(page, ()) for one in number.findall(text)}
    assert set(number.findall(words)) <= known


@pytest.mark.parametrize("page", [*PAGES, *(f"docs/{name}.md" for name in WITH_DIFFERENCES)])
def test_differences_in_texts_are_in_results_with_their_intervals(page):
    text = (ROOT / page).read_text()
    names = set(re.findall(r"studies/results/(\w+)\.md", text)) & set(RESULTS_OF)
    lines = re.sub(r"```.*?```|\]\([^)]*\)", "", text, flags=re.DOTALL).splitlines()
    words = " ".join(" ".join(line for line in lines if not line.startswith("|")).split())
    # Without signs: a text may name the two methods in the other order.
    difference = re.compile(r"\d+\.\d ± \d+\.\d")
    sources = [RESULTS_OF[name][0] for name in names or {"f1_fashion"}]
    known = {
        one for text in (*sources, *COMPARISONS.get(page, ())) for one in difference.findall(text)
    }
    assert set(difference.findall(words)) <= known


@pytest.mark.parametrize("page", COMPARISONS)
def test_differences_that_no_table_holds_are_those_of_the_runs(page):
    words = " ".join((ROOT / page).read_text().split())
    for text, cells in COMPARISONS[page].items():
        assert text in re.sub(r"(\d)\]\([^)]*\)", r"\1", words), text
        mean, half = difference(*cells)
        given, other = (float(number) for number in re.findall(r"-?\d+\.\d", text))
        assert (round(mean, 1), round(half, 1)) == (given, other), (text, mean, half)


def test_gains_with_many_images_are_those_of_the_runs():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert "\n".join(table_with_many_images()) in page
    found = with_many_images()
    best, row = max(found.items(), key=lambda item: item[1]["difference"])
    text = f"{row['difference']:.1f} ± {row['difference_interval']:.1f}"
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert len(found) == 16 and "highest mean difference is" in readme
    assert f"difference is [{text}](studies/results/{best[0]}.md)" in readme
    assert "not significant after correction for all sixteen" in readme
    assert sum(one["difference"] < 0 for one in found.values()) == 13
    assert "Thirteen of the sixteen means are below zero" in readme
    assert all(max(differences_by_seed(*key)) < 0 for key in found if key[2] == 55_000)
    assert "every seed is negative" in page
    significant = {
        (name, n) for (name, _, n), one in found.items() if one["corrected_p_value"] < 0.05
    }
    assert significant == {
        (name, 6000) for name in ("f1_others", "bench_schedules", "bench_fashion_longer")
    }


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_no_row_of_a_table_is_broken(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    rows = [line for line in text.splitlines() if line.startswith("|") or line.endswith(" |")]
    assert all(row.startswith("|") and row.endswith("|") for row in rows)


def test_short_answers_have_the_numbers_of_their_pages():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = re.findall(r"^\| (?!question)([^|]+)\|([^|]+)\|([^|]+)\|$", page, re.MULTILINE)
    assert len(rows) > 12
    for question, answer, link in rows:
        names = re.findall(r"\]\((\w+)\.md", answer + link)
        known = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in names)
        numbers = set(re.findall(r"\d+\.\d", answer))
        assert numbers <= set(re.findall(r"\d+\.\d", known)), question


def test_defaults_in_the_table_of_methods_are_those_of_the_code():
    text = (ROOT / "docs" / "methods.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|(?:[^|]*\|){2} ([^|]*) \| ([0-9.]+)", text, re.MULTILINE)
    classes = {
        name: getattr(methods, name)
        for name in methods.__all__
        if isinstance(getattr(methods, name), type) and "per_example" in dir(getattr(methods, name))
    }
    bases = {"Method", "FeatureMethod", "LayersMethod", "TrainableMethod"}
    assert {name for name, *_ in rows} == set(classes) - bases
    for name, layers, weight in rows:
        assert float(weight) == classes[name].default_weight, name
        found = getattr(classes[name], "layers_when_omitted", "outputs")
        assert layers.removesuffix(" (two or more)") == found, name


def test_committed_students_of_l2rkd_are_closer_to_the_teacher_within_the_region():
    results = json.loads((RESULTS / "shape_digits.json").read_text())

    def at_mid_region(method):
        values = [run["kl"][2] for run in results["runs"] if run["method"] == method]
        (row,) = [row for row in results["summary"] if row["method"] == method]
        mean, _ = row["shape"]["kl_at_mid_region"]
        assert len(values) == 5
        assert mean == pytest.approx(sum(values) / 5)
        return mean

    assert at_mid_region("L2RKD, patch") * 3.5 < at_mid_region("KD")
    assert at_mid_region("L2RKD, patch") * 1.2 < at_mid_region("KD, augmented")


def test_what_the_page_of_local_shape_says_of_augmented_kd():
    shape = paired_by_seed("shape_digits", "L2RKD, patch", "KD, augmented")
    for measure, sign in (("kl", -1), ("agreement", 1)):
        for place, clear in ((2, False), (3, True), (4, True)):
            mean, half = summary.mean_and_interval(shape(measure, place))
            assert (sign * mean > half) == clear


def test_what_the_page_of_digits_says_of_shifted_images():
    lost = []
    for fraction in (0.05, 0.1, 0.25, 1.0):
        shifted = paired_by_seed("fewshot_digits", "L2RKD", "KD, augmented", fraction)
        mean, half = summary.mean_and_interval(shifted("corrupted", "shift 1"))
        assert mean + half < 0
        lost.append(-mean)
    text = f"by {min(lost):.1f} to {max(lost):.1f} points at the four sizes"
    assert text in " ".join((ROOT / "docs" / "little_data.md").read_text().split())


def test_a_page_may_show_some_columns_of_a_table():
    fill = runpy.run_path(str(ROOT / "docs/_build/fill_readme.py"))["fill"]
    place = "<!-- studies/results/fewshot_digits.md: 1 (100%; 5%) -->\n<!-- end -->"
    shown = [line.strip("|").split("|") for line in fill(place).splitlines()[1:-1]]
    tables = (RESULTS / "fewshot_digits.md").read_text()
    whole = re.search(r"(?:^\|.*\n)+", tables, re.MULTILINE)[0].splitlines()
    rows = [line.strip("|").split("|") for line in whole]
    assert [[row[0], row[4], row[1]] for row in rows] == shown
