"""`l2rkd demo`, with very few steps."""

import json
import sys

from tests.cli import commands


def test_the_demo_prints_its_table_and_writes_everything(tmp_path):
    folder = tmp_path / "demo"
    printed = commands.succeed(
        "demo", "--epochs=2", "--steps_per_epoch=3", "--teacher_epochs=1", f"--output={folder}"
    )
    table = (folder / "table.md").read_text()
    assert table in printed
    results = json.loads((folder / "results.json").read_text())
    accuracies, rows = [], [line.split("|") for line in table.splitlines()]
    assert rows[1][1].startswith(":-") and all(cell.endswith("-:") for cell in rows[1][2:4])
    for name in ("teacher", "student only", "KD", "L2RKD"):
        accuracies.append(f"{results[name]['test']['accuracy']:.1%}")
        assert [name, accuracies[-1]] in [[cell.strip() for cell in row[1:3]] for row in rows]
    assert (folder / "decision_map.png").stat().st_size > 50_000
    assert (folder / "student.tflite").exists()
    assert (folder / "student_saved_model").is_dir()
    sentence = next(line for line in printed.splitlines() if line.startswith("With 10%"))
    assert sentence == (
        f"With 10% of the training images, the L2RKD student reaches {accuracies[3]}; with plain "
        f"distillation it reaches {accuracies[2]}, without a teacher {accuracies[1]}. Its teacher, "
        f"55 times as large and trained on all images, reaches {accuracies[0]}."
    )


def test_a_dry_run_writes_nothing(tmp_path):
    printed = commands.succeed("demo", "--dry_run", f"--output={tmp_path}/demo")
    assert "student only, KD, L2RKD: 5 epochs of 800 steps each, seed 0" in printed
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = commands.fail("demo", f"--output={tmp_path}/demo")
    assert line == "l2rkd demo: needs matplotlib: pip install 'l2rkd-tf[plots]'"
    assert not list(tmp_path.iterdir())


def test_wrong_flags_are_named():
    assert "--epochs must be a positive integer" in commands.fail("demo", "--epochs=0")
