"""`l2rkd_tf.utils.files`: complete files and folders, or those that were there before."""

import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import keras
import pytest

from l2rkd_tf.utils import files


def write(kind, path, text):
    """What the body of an `atomic_path` does for a file, and for a folder of files."""
    if kind == "folder":
        (path / "inner").mkdir(parents=True)
        path = path / "inner" / "numbers.txt"
    path.write_text(text)


def read(kind, path):
    return (path / "inner" / "numbers.txt" if kind == "folder" else path).read_text()


kinds = pytest.mark.parametrize("kind", ["file", "folder"])


@kinds
@pytest.mark.parametrize("as_type", [str, pathlib.Path])
def test_the_result_appears_when_the_body_has_ended(kind, as_type, tmp_path):
    path = tmp_path / "new" / "result"
    for text in ("first", "second"):
        with files.atomic_path(as_type(path)) as temporary:
            write(kind, temporary, text)
            assert temporary.name == "result"
            assert not path.exists() if text == "first" else read(kind, path) == "first"
        assert read(kind, path) == text
        assert os.listdir(path.parent) == ["result"]


@pytest.mark.parametrize("before, after", [("file", "folder"), ("folder", "file")])
def test_a_file_replaces_a_folder_and_a_folder_replaces_no_file(before, after, tmp_path):
    path = tmp_path / "result"
    write(before, path, "old")
    if after == "folder":
        with pytest.raises(NotADirectoryError), files.atomic_path(path) as temporary:
            write(after, temporary, "new")
        assert read(before, path) == "old"
    else:
        with files.atomic_path(path) as temporary:
            write(after, temporary, "new")
        assert read(after, path) == "new"
    assert os.listdir(tmp_path) == ["result"]


@kinds
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_keeps_what_was_there(kind, error, tmp_path):
    path = tmp_path / "result"
    write(kind, path, "old")
    with pytest.raises(error), files.atomic_path(path) as temporary:
        write(kind, temporary, "half")
        raise error
    assert read(kind, path) == "old"
    assert os.listdir(tmp_path) == ["result"]


@kinds
def test_a_body_that_writes_nothing_keeps_what_was_there(kind, tmp_path):
    path = tmp_path / "result"
    write(kind, path, "old")
    with pytest.raises(FileNotFoundError), files.atomic_path(path):
        pass
    assert read(kind, path) == "old"
    assert os.listdir(tmp_path) == ["result"]


@kinds
def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_end(kind, tmp_path, monkeypatch):
    path, steps = tmp_path / "result", []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor):
        target = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        steps.append(("flush", target.name))
        fsync(descriptor)

    def noting_replace(source, destination):
        steps.append(("move", pathlib.Path(destination).name))
        replace(source, destination)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    with files.atomic_path(path) as temporary:
        write(kind, temporary, "new")
    written = "result" if kind == "file" else "numbers.txt"
    assert steps == [("flush", written), ("move", "result"), ("flush", tmp_path.name)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@kinds
def test_a_read_only_folder_is_an_error_and_keeps_what_was_there(kind, tmp_path):
    path = tmp_path / "locked" / "result"
    path.parent.mkdir()
    write(kind, path, "old")
    path.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError), files.atomic_path(path):
            pytest.fail("the body must not run")
    finally:
        path.parent.chmod(0o700)
    assert read(kind, path) == "old"
    assert os.listdir(path.parent) == ["result"]


def test_a_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file"), files.atomic_path(tmp_path / "file" / "result"):
        pytest.fail("the body must not run")
    assert (tmp_path / "file").read_text() == "mine"


@kinds
def test_a_folder_returns_and_a_file_stays_when_the_new_one_cannot_be_moved(
    kind, tmp_path, monkeypatch
):
    path = tmp_path / "result"
    write(kind, path, "old")
    replace = os.replace

    def refusing(source, destination):
        if pathlib.Path(source).parent != tmp_path and pathlib.Path(source).name == "result":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(OSError, match="No space left"), files.atomic_path(path) as temporary:
        write(kind, temporary, "new")
    assert read(kind, path) == "old"
    assert os.listdir(tmp_path) == ["result"]


KILLED = """
import os, pathlib, signal, sys
from l2rkd_tf.utils import files
with files.atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_keeps_what_was_there_and_its_rest_goes_after_a_day(tmp_path):
    path = tmp_path / "result"
    path.write_text("old")
    finished = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert finished.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    (abandoned,) = set(os.listdir(tmp_path)) - {"result"}
    files.write_text(path, "new")  # by a process that cannot know whether the other one lives
    assert sorted(os.listdir(tmp_path)) == [abandoned, "result"]
    os.utime(tmp_path / abandoned, (time.time() - 25 * 3600,) * 2)
    files.write_text(tmp_path / "another", "new")
    assert (tmp_path / abandoned).exists()
    files.write_text(path, "newer")
    assert sorted(os.listdir(tmp_path)) == ["another", "result"]
    assert path.read_text() == "newer"


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_folder_that_a_killed_process_had_moved_aside_is_not_lost(is_replaced, tmp_path):
    path, abandoned = tmp_path / "result", tmp_path / ".result.abc.partial"
    write("folder", abandoned / "result.previous", "old")
    if is_replaced:
        write("folder", path, "new")
    os.utime(abandoned, (time.time() - 25 * 3600,) * 2)
    files.remove_abandoned(tmp_path)
    assert read("folder", path) == ("new" if is_replaced else "old")
    assert os.listdir(tmp_path) == ["result"]


def test_temporaries_are_told_apart_by_name_and_age(tmp_path):
    for name in (".a.1.partial", ".b.1.partial", ".a.2.partial", "a.partial", ".[a].3.partial"):
        (tmp_path / name).mkdir()
        hours = 23 if name == ".a.2.partial" else 25
        os.utime(tmp_path / name, (time.time() - hours * 3600,) * 2)
    files.remove_abandoned(tmp_path, "a")
    assert sorted(os.listdir(tmp_path)) == [
        ".[a].3.partial",
        ".a.2.partial",
        ".b.1.partial",
        "a.partial",
    ]
    files.remove_abandoned(tmp_path, "[a]")
    files.remove_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".a.2.partial", "a.partial"]
    files.remove_abandoned(tmp_path / "missing")


def test_the_first_of_several_writers_wins_if_nothing_is_to_be_replaced(tmp_path):
    path = tmp_path / "result"
    with files.atomic_path(path, replace=False) as slower:
        slower.write_text("second")
        with files.atomic_path(path, replace=False) as faster:
            faster.write_text("first")
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["result"]


def test_without_links_a_file_is_moved(tmp_path, monkeypatch):
    def unsupported(source, destination):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", unsupported)
    with files.atomic_path(tmp_path / "result", replace=False) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "result").read_text() == "new"


def test_a_scratch_path_is_published_under_a_name_that_its_content_decides(tmp_path):
    with files.scratch_path(tmp_path / "shard") as temporary:
        temporary.write_text("123")
        files.publish(temporary, tmp_path / f"shard-{temporary.stat().st_size}")
    assert os.listdir(tmp_path) == ["shard-3"]
    with pytest.raises(KeyboardInterrupt), files.scratch_path(tmp_path / "shard") as temporary:
        temporary.write_text("1")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["shard-3"]


def test_text_is_utf_8_and_json_is_indented(tmp_path):
    files.write_text(tmp_path / "text", "±½")
    assert (tmp_path / "text").read_bytes() == "±½".encode()
    content = {"accuracy": [0.5, None]}
    files.write_json(tmp_path / "content.json", content)
    text = (tmp_path / "content.json").read_text()
    assert json.loads(text) == content
    assert text.startswith('{\n  "accuracy"') and text.endswith("}\n")


def test_json_has_no_nan(tmp_path):
    content = {"loss": [float("nan"), 1.0, (float("-inf"), 2)], "time": float("inf")}
    files.write_json(tmp_path / "content.json", content)
    found = json.loads((tmp_path / "content.json").read_text(), parse_constant=pytest.fail)
    assert found == {"loss": [None, 1.0, [None, 2]], "time": None}


def test_space_is_that_of_values_and_names(tmp_path, monkeypatch):
    variable = keras.Variable([[1.0] * 1000] * 10)
    needed = 4 * 10_000 + 4096
    for free in (needed, needed - 1):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _, f=free: shutil._ntuple_diskusage(0, 0, f)
        )
        if free == needed:
            files.check_space(tmp_path, [variable])
        else:
            with pytest.raises(OSError, match="44,095 bytes free, 44,096 needed") as error:
                files.check_space(tmp_path, [variable])
            assert error.value.errno == errno.ENOSPC
