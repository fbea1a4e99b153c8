"""Wilson intervals, and the model card that says what is known of exports."""

import dataclasses
import json
import os
import re

import numpy as np
import pytest

from l2rkd_tf import export

Z = 1.959963984540054
CONFIG = {
    "dataset": "digits",
    "splits": ["train", "validation", "test"],
    "fraction": 0.25,
    "note": "a | b",
    "versions": {"keras": "3.99"},
}
METRICS = {"test": {"accuracy": 0.8125, "loss": 0.5}, "parameters": 210}


def lines_of(card):
    """The lines, without the padding of the tables."""
    return set(re.sub(" +", " ", card).splitlines())


@pytest.mark.parametrize(("successes", "trials"), [(351, 360), (1, 3), (5, 10), (np.int64(0), 7)])
def test_wilson_interval_solves_its_equation(successes, trials):
    """Its ends are the shares `q` with `(p - q)^2 = z^2 q (1 - q) / n`."""
    share = successes / trials
    roots = np.roots([1 + Z**2 / trials, -(2 * share + Z**2 / trials), share**2])
    np.testing.assert_allclose(
        export.wilson_interval(successes, trials), np.sort(roots), rtol=1e-9, atol=1e-12
    )


def test_wilson_interval_ends_at_0_and_1():
    assert export.wilson_interval(0, 4)[0] == 0.0
    assert export.wilson_interval(4, 4)[1] == 1.0
    # n / (n + z^2), the lower end of a share of 1
    assert export.wilson_interval(4, 4)[0] == pytest.approx(4 / (4 + Z**2))


@pytest.mark.parametrize(
    ("successes", "trials", "message"),
    [(5, 4, "`successes`"), (-1, 4, "`successes`"), (1.5, 4, "`successes`"), (0, 0, "`trials`")],
)
def test_wilson_interval_refuses_what_is_no_count(successes, trials, message):
    with pytest.raises(ValueError, match=message):
        export.wilson_interval(successes, trials)


REPORT = export.ExportReport(
    artifact="digits.tflite",
    format="litert",
    quantization="int8",
    bytes=12345,
    files={"digits.tflite": 12345},
    parameters=5274,
    max_abs_difference=0.125,
    mean_abs_difference=0.03125,
    output_spread=20.5,
    tolerance=0.15,
    top1_agreement=0.9921875,
    min_top1_agreement=0.95,
    num_examples=128,
    example_source="representative_data",
    input_range={"image": [-0.25, 0.75]},
    inputs=[{"name": "image", "shape": [None, 8, 8, 1], "dtype": "float32"}],
    outputs=[{"name": "output_0", "shape": [1, 10], "dtype": "float32"}],
    rebuilt_in_float32=True,
    rebuild_max_abs_difference=0.0625,
    versions={"keras": "3.98", "ai-edge-litert": "2.97"},
)


def test_the_card_says_what_it_was_given():
    card = export.model_card_text(
        json.loads(REPORT.to_json()),
        title="Digits",
        intended_use="Reading forms.",
        meaning="logits.",
        data={"dataset": "digits"},
        config=CONFIG,
        metrics=METRICS,
        measurements=[
            {"model": "digits.tflite", "measure": "accuracy", "correct": 0, "num_examples": 4},
            {"model": "digits.tflite", "measure": "KL", "value": 0.5, "stderr": 0.1},
            {"model": "digits.tflite", "measure": "loss", "value": 2.25},
        ],
    )
    low, high = 0.5 - Z * 0.1, 0.5 + Z * 0.1
    assert lines_of(card) >= {
        "# Digits",
        "Reading forms.",
        "Of the outputs: logits.",
        "| digits.tflite | litert | weights and activations int8 | 12,345 | 5,274 |",
        "| digits.tflite | input | image | (any, 8, 8, 1) | float32 | -0.25 to 0.75 |",
        "| digits.tflite | output | output_0 | (1, 10) | float32 | not known |",
        "| digits.tflite | 0.125 | 0.0312 | 20.5 | 0.15 | 99.22 % | 95.00 % | 128 | "
        "representative_data |",
        "| digits.tflite | accuracy | 0.00 % | 0.00 % to 48.99 % | 4 |",
        f"| digits.tflite | KL | 0.5 | {low:.4g} to {high:.4g} | not known |",
        "| digits.tflite | loss | 2.25 | not known | not known |",
        "| dataset | digits |",
        "| fraction | 0.25 |",
        "| note | a \\| b |",
        "| test loss | 0.5 |",
        "| parameters | 210 |",
        "| export of digits.tflite | keras 3.98, ai-edge-litert 2.97 |",
        "| training | keras 3.99 |",
    }
    assert "Wilson" in card and "| versions | {" not in card
    assert "differ by up to 0.0625" in card and "clips values\n  outside them" in card
    assert "has not been measured" not in card


def test_the_card_has_a_row_for_each_output():
    measured = ("max_abs_difference", "mean_abs_difference", "output_spread", "top1_agreement")
    rows = [
        {"name": name, "shape": [1, 3], "dtype": "float32", **dict(zip(measured, row, strict=True))}
        for name, row in {"a": (0.125, 0.0625, 20.5, 0.75), "b": (1.0, 0.5, 8.0, None)}.items()
    ]
    card = export.model_card_text([dataclasses.replace(REPORT, outputs=rows)])
    assert lines_of(card) >= {
        "| digits.tflite | output | b | (1, 3) | float32 | not known |",
        "| digits.tflite: a | 0.125 | 0.0625 | 20.5 | 0.15 | 75.00 % | 95.00 % | 128 | "
        "representative_data |",
        "| digits.tflite: b | 1 | 0.5 | 8 | 0.15 | not known | not known | 128 | "
        "representative_data |",
    }


@pytest.mark.parametrize("license", [None, "apache-2.0"])
def test_hugging_face_reads_the_card(license):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(export.model_card_text([REPORT, REPORT], title="A: b", license=license))
    data = {"library_name": "keras", "tags": ["knowledge-distillation", "litert"]}
    assert card.data.to_dict() == data | ({"license": license} if license else {})
    assert card.text.lstrip().startswith("# A: b\n")


def test_the_card_invents_nothing():
    card = export.model_card_text([REPORT])
    parts = dict(re.findall(r"^## (.+)\n\n((?:.|\n)+?)\n\n(?=## |\Z)", card + "\n", re.MULTILINE))
    assert parts["Data"] == parts["Configuration of the training"] == "Not known."
    assert parts["Intended use"].startswith("Not known")
    assert parts["Metrics"] == (
        "Measured at export: nothing.\n\nRecorded by the training: not known."
    )
    assert parts["Input and output"].endswith("Of the outputs: Not known.")
    assert re.search(r"\| training +\| not known +\|$", parts["Versions"])
    assert "that Metrics does not name has not been measured" in parts["Limits"]
    assert list(parts)[-1] == "Limits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exports": []}, "`exports` must hold at least one"),
        ({"exports": [{"bytes": 3}]}, "`exports`.*without \\['artifact'"),
        ({"exports": "student.tflite"}, "`exports`.*str"),
        ({"measurements": [{"model": "a", "measure": "b"}]}, "`measurements`"),
        ({"measurements": [{"correct": 1, "num_examples": 2}]}, "`measurements`"),
        (
            {"measurements": [{"model": "a", "measure": "b", "correct": 3, "num_examples": 2}]},
            "`successes`",
        ),
    ],
)
def test_the_card_refuses_what_it_cannot_read(arguments, message):
    with pytest.raises(ValueError, match=message):
        export.model_card_text(**({"exports": [REPORT]} | arguments))


def test_a_card_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "model_card.md"
    export.write_model_card(str(path), "# First, ±1\n")
    assert path.read_text(encoding="utf-8") == "# First, ±1\n"

    def fail(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        export.write_model_card(path, "# Second\n")
    assert [file.name for file in path.parent.iterdir()] == ["model_card.md"]
    assert path.read_text(encoding="utf-8") == "# First, ±1\n"


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [("card.txt", "x", "`path`"), (3, "x", "`path`"), ("card.md", "", "`text`")],
)
def test_wrong_cards_are_not_written(tmp_path, monkeypatch, path, text, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        export.write_model_card(path, text)
    assert list(tmp_path.iterdir()) == []
