"""Crashes of LiteRT's native code, which a child process keeps from the caller."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
from keras import layers

from l2rkd_tf import export
from l2rkd_tf.export import child_process
from tests.export.helpers import dense_student, listing
from tests.helpers import ROOT


@pytest.fixture
def data():
    return np.random.default_rng(0).random((12, 4), dtype="float32")


def current_pid():
    return child_process._current._process.pid


@pytest.fixture
def pid():
    """Process that serves the exports."""
    child_process.start()
    return current_pid()


def recurrent(unroll=False):
    inner = layers.GRU(4, unroll=unroll, name="steps")
    return keras.Sequential([keras.Input((2, 3)), inner, layers.Dense(3)])


@pytest.mark.stress
def test_a_rolled_recurrent_student_in_int8_names_layer_and_way_out(tmp_path):
    """The calibrator ends its process; the caller's goes on, and its older file stays."""
    steps = np.random.default_rng(0).random((12, 2, 3), dtype="float32")
    path = tmp_path / "student.tflite"
    student, unrolled = recurrent(), recurrent(unroll=True)
    unrolled.set_weights(student.get_weights())
    export.export_litert(unrolled, path, "int8", steps)
    before = path.read_bytes()
    with pytest.raises(export.ExportError, match=r"'steps' \(GRU\).*unroll=True"):
        export.export_litert(student, path, "int8", steps)
    assert path.read_bytes() == before
    assert listing(tmp_path) == ["student.tflite", "student.tflite.json"]
    assert export.export_litert(student, path, None, steps).top1_agreement == 1.0


def test_one_child_serves_all_exports_and_is_replaced_when_it_has_died(tmp_path, data, pid):
    export.export_litert(dense_student(), tmp_path / "a.tflite", None, data)
    assert current_pid() == pid
    os.kill(pid, signal.SIGKILL)
    export.export_litert(dense_student(), tmp_path / "b.tflite", None, data)
    assert current_pid() != pid
    with pytest.raises(ProcessLookupError):  # not even as a zombie
        os.kill(pid, 0)


@contextlib.contextmanager
def in_the_middle_of_a_job(pid, signal_number, receiver):
    """Sends a signal when a call waits for its answer, which a stopped child does not give."""

    def wait():
        waiting = 0
        while waiting < 5:
            is_free = child_process._lock.acquire(blocking=False)
            if is_free:
                child_process._lock.release()
            waiting = 0 if is_free else waiting + 1
            time.sleep(0.01)
        os.kill(receiver, signal_number)

    os.kill(pid, signal.SIGSTOP)
    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def test_death_in_the_middle_of_a_conversion_is_an_error(tmp_path, data, pid):
    with in_the_middle_of_a_job(pid, signal.SIGKILL, pid):
        with pytest.raises(export.ExportError, match="crashed.*signal SIGKILL, perhaps for lack"):
            export.export_litert(dense_student(), tmp_path / "a.tflite", None, data)
    assert listing(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path, data, pid, request):
    # A shell starts what it runs in the background with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with in_the_middle_of_a_job(pid, signal.SIGINT, os.getpid()):
        with pytest.raises(KeyboardInterrupt):
            export.export_litert(dense_student(), tmp_path / "a.tflite", None, data)
    assert listing(tmp_path) == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# A script without `if __name__ == "__main__"`, with closed standard streams and two devices.
SCRIPT = """
import os, sys
os.close(0)
import keras, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from l2rkd_tf import export
from l2rkd_tf.export import child_process
student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
report = export.export_litert(student, sys.argv[1])
print(report.top1_agreement, child_process._current._process.pid)
"""


@pytest.mark.stress
def test_a_script_without_a_guard_and_standard_input_runs_once_and_leaves_no_process(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    finished = subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "a.tflite"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    ((agreement, pid),) = map(str.split, finished.stdout.splitlines())
    assert agreement == "1.0"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
