"""The benchmarks: their arithmetic, and that they run."""

import collections
import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from absl import app, flags

from benchmarks import (
    profile_page,
    scaling_model,
    scaling_page,
    speed_page,
    speed_pairs,
    speed_rows,
)
from l2rkd_tf import losses, models
from tests.helpers import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def program(monkeypatch):
    """Imports a benchmark with flags, which end with the test: others have the same names."""

    def load(name):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        return importlib.import_module(f"benchmarks.{name}")

    return load


ASSUMED = {
    "link_gigabytes_per_second": 10.0,
    "latency_microseconds": 50.0,
    "compute_milliseconds": 80.0,
    "parameters": 1e7,
}


def make_runs(latency_ms, ms_per_megabyte):
    """Three runs of one and of two workers; the middle one of each has the given times."""
    runs = []
    for factor in (1.0, 0.5, 3.0):
        student = {"student": "16x32", "gradient_bytes": 2_000_000}
        times = {"128": [10.0 * factor] * 3, "64": [6.0 * factor, 0.0, 100.0]}
        runs.append({"num_workers": 1, "students": [student | {"steps": times}]})

        def exchange(size, factor=factor):
            return [factor * (latency_ms + 1e-6 * size * ms_per_megabyte)]

        two = {"steps": {"128": [9.0 * factor]}, "messages": 4, "exchange": exchange(2_000_000)}
        exchanges = {str(size): exchange(size) for size in (4, 1_000_000)}
        runs.append({"num_workers": 2, "students": [student | two], "exchanges": exchanges})
    return runs


@pytest.mark.parametrize("num_workers", [2, 8])
def test_a_ring_moves_each_part_around_twice(num_workers):
    # Parts of a byte, one second each; a message takes 0.1 s to begin with.
    rounds = 2 * (num_workers - 1)
    seconds = scaling_model.ring_seconds(num_workers, num_workers, 0.1, 1.0)
    assert seconds == pytest.approx(rounds * 1.1)


def test_a_tree_is_better_for_small_messages_and_a_ring_for_large_ones():
    small, large = (64, 4, 1e-5, 1e10), (64, 1e10, 1e-5, 1e10)
    assert scaling_model.exchange_seconds(*small) == pytest.approx(2 * 6 * 1e-5, rel=1e-3)
    assert scaling_model.exchange_seconds(*large) == pytest.approx(2 * 63 / 64 + 126e-5)


@pytest.mark.parametrize(("latency", "per_byte"), [(1e-3, 2e-9), (5e-4, 0.0), (0.0, 1e-8)])
def test_the_fit_finds_latency_and_bandwidth(latency, per_byte):
    sizes = np.array([4, 20_000, 300_000, 4_000_000])
    found = scaling_model.fit_line(sizes, latency + sizes * per_byte)
    np.testing.assert_allclose(found, (latency, per_byte), rtol=1e-9, atol=1e-15)


def test_the_fit_is_never_negative():
    assert scaling_model.fit_line([4, 1_000_000], [2e-3, 1e-3])[1] == 0.0


def test_the_prediction_adds_up_its_parts():
    summary = scaling_model.summarize(make_runs(1.5, 2.0), 128, ASSUMED)
    assert summary["latency_ms"] == pytest.approx(1.5)
    assert summary["milliseconds_per_megabyte"] == pytest.approx(2.0)
    (student,) = summary["students"]
    assert student["one_worker"] == pytest.approx([10.0, 5.0, 30.0])
    assert student["one_worker_half_batch"] == pytest.approx([6.0, 3.0, 18.0])
    assert student["two_workers"] == pytest.approx([9.0, 4.5, 27.0])
    # Half of the batch, four latencies, 2 MB of gradients.
    assert student["predicted_ms"] == pytest.approx(6.0 + 4 * 1.5 + 4.0, rel=1e-4)
    assert [row["bytes"] for row in summary["exchanges"]] == [4, 1_000_000, 2_000_000]
    assert summary["exchanges"][1]["fitted_ms"] == pytest.approx(3.5)


def test_the_extrapolation_follows_from_its_assumptions():
    row = scaling_model.extrapolate(8, 3, ASSUMED)
    gradients = 14 * 0.05 + 2 * 7 / 8 * 4.0  # 40 MB in 4 ms, in a ring
    others = 2 * 2 * 3 * 0.05  # two messages, in a tree
    assert row["gradients_ms"] == pytest.approx(gradients)
    assert row["other_exchanges_ms"] == pytest.approx(others, rel=1e-4)
    exchange = gradients + others
    assert row["fixed_global_batch_ms"] == pytest.approx(10 + exchange, rel=1e-5)
    assert row["speed_up"] == pytest.approx(80 / (10 + exchange), rel=1e-5)
    assert row["efficiency"] == pytest.approx(80 / (80 + exchange), rel=1e-5)


def run(program, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.stress
def test_scaling_measures_two_workers_and_writes_a_page(tmp_path):
    arguments = ["--repeats=1", "--students=4", "--batch_size=8", "--steps=2", "--epochs=1"]
    finished = run(
        "scaling", tmp_path, *arguments, "--exchange_bytes=4,4096", "--output=new/scaling"
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    page = (tmp_path / "new/scaling.md").read_text()
    assert page in finished.stdout
    assert page.count("| 4 | 0.376 |") == 1  # the student, with 94 trainable weights
    assert [f"| {number} |" in page for number in (8, 64, 1024)] == [True] * 3
    results = json.loads((tmp_path / "new/scaling.json").read_text())
    assert [run["num_workers"] for run in results["runs"]] == [1, 2]
    assert [row["bytes"] for row in results["summary"]["exchanges"]] == [4, 376, 4096]
    (student,) = results["summary"]["students"]
    assert student["messages"] >= 2  # of gradients and of numbers of examples
    assert student["predicted_ms"] > student["one_worker_half_batch"][0] > 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "scaling.json", "scaling.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "flag", ["--batch_size=7", "--students=4x", "--exchange_bytes=2", "--parameters=inf", "word"]
)
def test_scaling_refuses_wrong_flags(program, flag):
    scaling = program("scaling")
    with pytest.raises((flags.Error, app.UsageError), match=flag.strip("-").partition("=")[0]):
        scaling.main(scaling.FLAGS(["scaling", flag]))


def test_the_floor_of_a_step_is_that_of_its_passes():
    times = {"student, 2 batches": [4.0, 6.0], "teacher, 2 batches": [1.0, 3.0]}
    assert speed_page.floor(times, speed_rows.Points(student=2, teacher=2)).tolist() == [5.0, 9.0]
    assert speed_page.floor(times, speed_rows.Points(student=2, teacher=0)).tolist() == [4.0, 6.0]
    assert {f"student, {points.student} batches" for _, points in speed_rows.ROWS.values()} <= set(
        speed_rows.PASSES
    )


def test_growth_is_compared_with_a_straight_line():
    times = {"k=1": [3.0, 3.0], "k=4": [9.0], "k=8": [17.0], "batch=16": [0.0]}
    numbers, seconds, line = speed_page.fitted(times, "k")
    assert numbers.tolist() == [1, 4, 8] and seconds.tolist() == [3.0, 9.0, 17.0]
    np.testing.assert_allclose(line, seconds)
    bent = speed_page.fitted(times | {"k=8": [34.0]}, "k")[2]
    assert np.abs(bent / [3.0, 9.0, 34.0] - 1).max() > 0.1


def test_ratios_are_those_of_the_same_round():
    times = {name: [2.0, 4.0, 6.0] for name in (*speed_rows.ROWS, *speed_rows.PASSES)}
    times["KD"] = [3.0, 6.0, 9.0]
    text = speed_page.page({"times": {"digits": times}, "batch_size": {"digits": 30}})
    (row,) = [line for line in text.splitlines() if line.startswith("| KD |")]
    same = "1.500 (1.500 to 1.500)"
    passes = "0.750 (0.750 to 0.750)"  # of one pass of each model
    assert row == f"| KD | 6000.0 | 5 | 1, 1 | {same} | {same} | {passes} |  |"


def test_the_loop_by_hand_has_the_mathematics_of_the_distiller():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 6, 4)).astype("float32") * 5
    expected = np.mean(losses.kl_divergence(teacher, student, speed_rows.TEMPERATURE))
    assert float(speed_rows.divergence(teacher, student)) == pytest.approx(
        float(expected), rel=1e-5
    )
    images = rng.uniform(size=(5, 8, 8, 1)).astype("float32")
    moved = speed_rows.patches(images).numpy()
    share = (moved - images).reshape(5, speed_rows.GRID, 2, speed_rows.GRID, 2)
    candidates = (images[None] - images[:, None]).reshape(
        5, 5, speed_rows.GRID, 2, speed_rows.GRID, 2
    )
    for own, others in zip(share, candidates, strict=True):
        # One partner explains every cell, by a coefficient between 0 and 1 of its own.
        with np.errstate(divide="ignore", invalid="ignore"):
            cells = np.nan_to_num(own / others, nan=0.0)
        spread = np.ptp(cells, axis=(2, 4)).max(axis=(1, 2))
        best = cells[np.argmin(spread)]
        assert spread.min() < 1e-3 and best.min() > -1e-4 and best.max() < 1 + 1e-4


@pytest.mark.stress
def test_speed_measures_every_row_and_resumes_where_it_stopped(tmp_path):
    arguments = ["--pairs=digits", "--jit_pairs=digits", "--memory_pairs=digits"]
    arguments += ["--growth_pairs=", "--output=new/speed"]
    for rounds in (2, 3):
        finished = run("speed", tmp_path, *arguments, f"--rounds={rounds}")
        assert finished.returncode == 0, finished.stderr[-2000:]
        results = json.loads((tmp_path / "new/speed.json").read_text())
        for times in results["times"].values():
            assert {len(seconds) for seconds in times.values()} == {rounds}
    assert set(results["times"]) == {"digits", "digits, XLA"}
    assert all(peak > 0 for peak in results["memory"]["digits"].values())
    assert (tmp_path / "new/speed.md").read_text() in finished.stdout
    assert (tmp_path / "new/speed.png").exists()


@pytest.mark.stress
def test_time_to_accuracy_trains_every_method_and_resumes_where_it_stopped(tmp_path):
    arguments = ["--seeds=0", "--steps=75", "--output=new/time"]
    for expected in (0, 1):
        finished = run("time_to_accuracy", tmp_path, *arguments)
        assert finished.returncode == 0, finished.stderr[-2000:]
        results = json.loads((tmp_path / "new/time.json").read_text())
        assert len(results["runs"]) == 4
        removed = results["runs"].pop(expected)
        (tmp_path / "new/time.json").write_text(json.dumps(results))
    assert removed["seconds"] > 0 and results["teachers"]["digits"] > 95
    assert (tmp_path / "new/time.md").read_text() in finished.stdout


def test_l2rkd_is_as_good_as_the_longest_kd_in_a_third_of_its_time(program):
    results = json.loads((RESULTS / "time_to_accuracy.json").read_text())
    module = program("time_to_accuracy")
    found = module.curves(results, "digits")
    _, kd_seconds, kd_accuracies = found[module.KERAS]
    for method in ("L2RKD", "L2RKD half"):
        _, seconds, accuracies = found[method]
        assert seconds[accuracies >= kd_accuracies[-1]].min() < kd_seconds[-1] / 3


def test_the_profile_tells_the_models_apart():
    milliseconds = {
        ("big_1/conv/Conv2D", "Conv2D"): 5.0,
        ("small_1/conv/Conv2D", "Conv2D"): 2.0,
        ("gradient_tape/small_1/conv/Conv2DBackpropFilter", "Conv2DBackpropFilter"): 3.0,
        ("gradient_tape/other/Reshape", "Reshape"): 0.1,
        ("GatherV2", "GatherV2"): 0.4,
        ("loss/sub", "Sub"): 0.1,
        ("loss/mul", "Mul"): 0.1,
    }
    assert profile_page.scopes_of_models(milliseconds) == ("big_1", "small_1")
    *_, last = profile_page.table({("digits", "L2RKD"): milliseconds}).splitlines()
    cells = [cell.strip() for cell in last.strip("|").split("|")]
    parts = ["5.00 (47%)", "2.00 (19%)", "3.00 (28%)", "0.70 (7%)"]
    assert cells == ["digits", "L2RKD", *parts, "11"]


@pytest.mark.parametrize("name", ["scaling", "finite", "frozen"])
def test_committed_results_record_the_command_that_reproduces_them(name):
    command = json.loads((RESULTS / f"{name}.json").read_text())["command"]
    assert command == f"python -m benchmarks.{name} --output=benchmarks/results/{name}"


def test_the_committed_comparison_with_peers_is_that_of_its_measurements(program):
    results = json.loads((RESULTS / "peers.json").read_text())
    assert results["command"] == "python -m benchmarks.peers --output=benchmarks/results/peers"
    assert (RESULTS / "peers.md").read_text() == program("peers").page_of(results)


def test_committed_tables_are_those_of_their_measurements():
    speed, scaling = (json.loads((RESULTS / f"{n}.json").read_text()) for n in ("speed", "scaling"))
    assert (RESULTS / "speed.md").read_text() == speed_page.page(speed)
    assert (RESULTS / "scaling.md").read_text() == scaling_page.markdown(scaling)


def test_the_pass_with_constants_is_compared_with_that_of_the_model(program, tmp_path):
    frozen = program("frozen")
    flags.FLAGS.unparse_flags()
    output = f"--output={tmp_path}/frozen"
    flags.FLAGS(["frozen", output, "--networks=convnet 4", "--rounds=2", "--batch_size=2"])
    frozen.main([""])
    row = json.loads((tmp_path / "frozen.json").read_text())["networks"]["convnet 4"]
    assert [len(times) for times in row["seconds"].values()] == [2, 2, 2]
    assert 0 < row["differences"]["constants"] < 1e-5 < 1e-4 < row["differences"]["bfloat16"] < 0.1
    seconds = {
        "model": [1.0, 2.0, 4.0],
        "constants": [0.5, 1.8, 3.2],
        "bfloat16": [0.5, 1.0, 2.4],
    }
    rows = {"a": {"seconds": seconds, "differences": {"constants": 1e-6, "bfloat16": 0.01}}}
    table = frozen.table_of(rows).splitlines()
    cells = "| a | 2000.0 | 0.80 | 0.65 to 0.85 | 1e-06 | 0.50 | 0.50 to 0.55 | 1e-02 |"
    assert table[2] == cells
    assert table[3].split() == "| median of 1 | | 0.80 | | | 0.50 | | |".split()


def test_peers_are_compared_round_by_round(program):
    peers = program("peers")
    times = {"KD": [0.1, 0.2, 0.4], "PyTorch, channels_last": [0.2, 0.2, 0.2]}
    results = {
        "command": "python -m benchmarks.peers",
        "versions": ["torch 1"],
        "times": {"wrn": times},
        "skipped": {"wrn": {"PyTorch, channels_last, compiled": "no compiler"}},
    }
    lines = peers.page_of(results).splitlines()
    row = "| wrn | KD | PyTorch, channels_last | 1.00 | 0.75 to 1.50 | 1.00 |"
    assert row in lines and "| wrn | KD | 200 |" in lines
    assert lines[-1] == "wrn, PyTorch, channels_last, compiled: not timed. no compiler"


def test_a_step_of_a_bank_needs_no_teacher(program):
    peers = program("peers")
    setting, _ = speed_pairs.setting("digits")
    assert peers.bank_row(setting, 50).time(2) > 0.0


def test_the_networks_of_pytorch_are_those_of_keras():
    pytest.importorskip("torch")
    from benchmarks import peers_torch

    for name in ("wrn_16_1", "wrn_16_2", "wrn_40_2"):
        network = peers_torch.wide_resnet(name)
        trained = sum(weight.numel() for weight in network.parameters())
        ours = models.get(name, num_classes=100)
        assert trained == sum(int(np.prod(weight.shape)) for weight in ours.trainable_weights)


def test_operations_of_a_frozen_pass_are_summed_by_their_type(program):
    found = {
        "model": {"Conv2D": 6.0, "Mul": 2.0, "Mean": 0.02},
        "constants": {"Conv2D": 5.5, "Mean": 0.01},
    }
    found = {which: collections.Counter(values) for which, values in found.items()}
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in program("profile_frozen").table_of("network", found).splitlines()
        if line.startswith("|")
    ]
    assert rows[2:] == [
        ["Conv2D", "6.00", "5.50"],
        ["Mul", "2.00", "0.00"],
        ["others", "0.02", "0.01"],
        ["all", "8.02", "5.51"],
    ]
