"""`l2rkd launch`, with commands that take no time to start."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

LAUNCHER = [sys.executable, "-m", "l2rkd_command", "launch"]

# What the workers' programs begin with; `-S -E` make Python start fast.
PROLOGUE = """
import json, os, signal, subprocess, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def note(name, pid=None):
    with open(name + ".partial", "w") as file:
        file.write(str(pid or os.getpid()))
    os.rename(name + ".partial", name)
def wait_for(*names):
    while not all(map(os.path.exists, names)):
        time.sleep(0.01)
"""
IGNORE_SIGTERM = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
# A child that ignores SIGTERM, and outlives its parent if it is let.
GRANDCHILD = """
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
note(f"grandchild{index}", subprocess.Popen([sys.executable, "-S", "-c", code]).pid)
"""


@pytest.fixture
def start(tmp_path):
    """Starts the launcher with a program for its workers; ends it when the test is over."""
    started = []

    def start_(program, *flags, **kwargs):
        worker = [sys.executable, "-S", "-c", PROLOGUE + program]
        command = [*LAUNCHER, *flags, "--", *worker]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": tmp_path} | kwargs
        # Under `nohup` the tests ignore the signal, and so would the launcher.
        options["preexec_fn"] = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
        started.append(subprocess.Popen(command, **options))
        return started[-1]

    yield start_
    for process in started:
        process.terminate()
        process.communicate()


@pytest.fixture
def run(start):
    """Runs the launcher to its end: exit code, and lines of stdout and stderr as bytes."""

    def run_(program, *flags):
        process = start(program, *flags)
        stdout, stderr = process.communicate(timeout=30)
        return process.returncode, stdout.splitlines(), stderr.splitlines()

    return run_


def read_pid(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path.name}"
        time.sleep(0.01)
    return int(path.read_text())


def is_running(pid):
    """Whether a process is there that has not ended; one that nobody waited for has."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def refuse(*arguments):
    finished = subprocess.run([*LAUNCHER, *arguments], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (2, "")
    (line,) = finished.stderr.splitlines()
    return line


def test_each_worker_finds_the_cluster_and_itself_in_tf_config(run):
    code, stdout, stderr = run("print(os.environ['TF_CONFIG'])", "--num_workers=3")
    assert (code, stderr) == (0, [])
    configs = {}
    for line in stdout:
        index, config = re.fullmatch(rb"\[worker (\d)\] (.+)", line).groups()
        configs[int(index)] = json.loads(config)
    addresses = configs[0]["cluster"]["worker"]
    assert len({re.fullmatch(r"localhost:(\d+)", address)[1] for address in addresses}) == 3
    assert configs == {
        index: {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(3)
    }


def test_flags_after_the_dashes_are_the_commands(tmp_path):
    code = "import sys; print(sys.argv[1:])"
    arguments = ["--num_workers=7", "--help", "--", "--unknown", "word"]
    finished = subprocess.run(
        [*LAUNCHER, "--num_workers=1", "--"] + [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == f"[worker 0] {arguments}\n"


def test_lines_arrive_when_they_are_written_with_their_worker(start):
    # Each worker waits for the other, so the lines take turns; the last waits for the test.
    program = """
for line in range(3):
    if index == 1: wait_for(f"0-{line}")
    elif line: wait_for(f"1-{line - 1}")
    print("line", line)
    print("error", line, file=sys.stderr)
    note(f"{index}-{line}")
wait_for("continue")
"""
    process = start(program)
    read = {
        name: [getattr(process, name).readline() for _ in range(6)] for name in ("stdout", "stderr")
    }
    assert process.poll() is None
    for name, word in (("stdout", "line"), ("stderr", "error")):
        expected = {f"[worker {i}] {word} {line}\n".encode() for i in (0, 1) for line in range(3)}
        assert set(read[name]) == expected


def test_long_lines_stay_whole_also_without_an_end(run):
    program = """
for line in range(20):
    os.write(1, str(index).encode() * 300_000 + b"\\n")
os.write(2, b"no end %d" % index)
"""
    code, stdout, stderr = run(program)
    assert code == 0
    expected = [f"[worker {i}] ".encode() + b"%d" % i * 300_000 for i in (0, 1) for _ in range(20)]
    assert sorted(stdout) == expected
    assert sorted(stderr) == [b"[worker 0] no end 0", b"[worker 1] no end 1"]


def test_output_that_is_no_text_passes_unchanged(run):
    code, stdout, _ = run(r"os.write(1, b'\xff\xfe\x00 \r caf\xe9\n')", "--num_workers=1")
    assert (code, stdout) == (0, b"[worker 0] \xff\xfe\x00 \r caf\xe9".splitlines())


@pytest.mark.parametrize(
    ("ending", "code", "line"),
    [
        ("sys.exit(7)", 7, b"[launcher] worker 1 ended with exit code 7"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            b"[launcher] worker 1 was ended by signal 9 (Killed)",
        ),
        ("os.abort()", 134, b"[launcher] worker 1 was ended by signal 6 (Aborted)"),
    ],
    ids=["exit", "kill", "abort"],
)
def test_the_first_failure_counts_and_ends_the_others(run, tmp_path, ending, code, line):
    program = f"""
note(str(index))
if index == 1:
    wait_for("0", "2")
    print("last words", file=sys.stderr)
    {ending}
time.sleep(60)
"""
    start = time.monotonic()
    assert run(program, "--num_workers=3") == (code, [], [b"[worker 1] last words", line])
    assert time.monotonic() - start < 5  # half of the grace, which nobody needs
    assert not any(is_running(read_pid(tmp_path / str(index))) for index in range(3))


def test_a_worker_that_succeeds_ends_no_other(run):
    program = "wait_for('0') if index else note('0'); time.sleep(0.3 * index); print(index)"
    assert run(program) == (0, [b"[worker 0] 0", b"[worker 1] 1"], [])


@pytest.mark.parametrize("grandchild", ["", GRANDCHILD], ids=["alone", "grandchildren"])
def test_workers_that_do_not_listen_are_killed(run, tmp_path, grandchild):
    program = f"""
{IGNORE_SIGTERM + grandchild}
note(str(index))
wait_for("0", "1")
if index == 0: sys.exit(3)
time.sleep(60)
"""
    start = time.monotonic()
    code, _, stderr = run(program, "--grace_seconds=0.5")
    assert 0.5 < time.monotonic() - start < 5
    assert (code, stderr) == (3, [b"[launcher] worker 0 ended with exit code 3"])
    noted = [path for path in tmp_path.iterdir() if path.suffix != ".partial"]
    assert len(noted) == (4 if grandchild else 2)
    assert not any(is_running(read_pid(path)) for path in noted)


def test_nothing_is_left_of_workers_that_succeeded(run, tmp_path):
    assert run(GRANDCHILD, "--grace_seconds=0.2") == (0, [], [])
    assert not any(is_running(read_pid(tmp_path / f"grandchild{index}")) for index in (0, 1))


def test_what_a_worker_leaves_may_finish_writing(run):
    program = """
code = "import time; time.sleep(0.3); print('afterwards')"
subprocess.Popen([sys.executable, "-S", "-c", code])
"""
    assert run(program, "--num_workers=1") == (0, [b"[worker 0] afterwards"], [])


def test_a_daemon_that_keeps_the_output_open_does_not_hold_up(run, tmp_path):
    program = """
code = "import time; time.sleep(60)"
daemon = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
note("daemon", daemon.pid)
print("done")
"""
    try:
        start = time.monotonic()
        assert run(program, "--num_workers=1") == (0, [b"[worker 0] done"], [])
        assert time.monotonic() - start < 5
    finally:
        os.kill(read_pid(tmp_path / "daemon"), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_workers_and_all_that_they_started(start, tmp_path, number):
    program = f"""
def say_goodbye(number, frame):
    print("got", number)
    sys.exit(0)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, say_goodbye)
{GRANDCHILD}
note(str(index))
time.sleep(60)
"""
    process = start(program, "--grace_seconds=0.5")
    pids = [read_pid(tmp_path / name) for name in ("0", "1", "grandchild0", "grandchild1")]
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert sorted(stdout.splitlines()) == [f"[worker {i}] got {number}".encode() for i in (0, 1)]
    # A grandchild that SIGINT interrupts says so before.
    assert stderr.splitlines()[-1] == f"[launcher] received {number.name}".encode()
    assert not any(map(is_running, pids))


def test_workers_end_when_nobody_reads_their_output(start, tmp_path):
    program = """
note(str(index))
while True: print("on and on")
"""
    process = start(program)
    pids = [read_pid(tmp_path / str(index)) for index in (0, 1)]
    process.stdout.close()
    stderr = process.stderr.read()
    assert process.wait(30) == 1
    assert stderr.startswith(b"[launcher] cannot write the output of the workers:")
    assert not any(map(is_running, pids))


def test_time_may_be_limited(run, tmp_path):
    code, _, stderr = run("note(str(index)); time.sleep(60)", "--timeout_seconds=1")
    assert (code, stderr) == (124, [b"[launcher] not done after 1 seconds"])
    assert not any(is_running(read_pid(path)) for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("no-such-command", 127, "No such file"),
        ("./data.txt", 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_started(tmp_path, command, code, message):
    (tmp_path / "data.txt").write_text("no program")
    finished = subprocess.run(
        [*LAUNCHER, "--", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == code
    assert finished.stderr.startswith("[launcher] worker 0 cannot be started")
    assert message in finished.stderr and command in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Received: no command"),
        (["--num_workers=2", "--"], "Received: no command"),
        (["touch", "started"], "must follow `--`"),
        (["touch", "--", "started"], "must follow `--`"),
        (["--num_workers=0", "--", "touch", "started"], "num_workers"),
        (["--grace_seconds=-1", "--", "touch", "started"], "grace_seconds"),
        (["--grace_seconds=nan", "--", "touch", "started"], "grace_seconds"),
        (["--timeout_seconds=0", "--", "touch", "started"], "timeout_seconds"),
        (["--workers=2", "--", "touch", "started"], "workers"),
    ],
)
def test_wrong_flags_are_refused_before_anything_starts(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refuse(*arguments)
    assert not (tmp_path / "started").exists()


def test_the_launcher_starts_without_tensorflow():
    code = "from l2rkd_command.main import main; main(['launch', '--', 'true']); import sys; "
    code += "sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
