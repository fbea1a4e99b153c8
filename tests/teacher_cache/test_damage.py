"""Damaged, interrupted, killed and simultaneous builds of the cache."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from l2rkd_tf.teacher_cache import cache_teacher, caching, shards
from tests.helpers import (
    ROOT,
    batches,
    command_of,
    images,
)
from tests.teacher_cache.helpers import EXAMPLES, QUIET, asked, read


def files(folder, pattern="*.tfrecord"):
    return sorted(folder.rglob(pattern))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path):
    path.write_text(path.read_text()[:40])


def garble(path):
    path.write_bytes(b"\xff\xfe\x00")


def count_differently(path):
    path.write_text(path.read_text().replace(": 10", ": 11"))


@pytest.mark.parametrize("damage", [halve, garble, count_differently])
def test_a_damaged_manifest_is_named_and_made_again(damage, teacher, tmp_path):
    x, y = images(EXAMPLES)
    cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    (path,) = files(tmp_path, "complete.json")
    content = path.read_bytes()
    damage(path)
    assert path.read_bytes() != content
    with pytest.warns(UserWarning, match=path.name):
        cached = cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    assert len(read(cached)[0]) == EXAMPLES and path.read_bytes() == content


@pytest.mark.parametrize("damage", [cut, alter, lambda path: path.unlink()])
def test_a_damaged_shard_is_named_and_made_again(
    damage, teacher, tmp_path, small_shards, monkeypatch
):
    x, y = images(EXAMPLES)

    def cached():
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    expected = read(cached())
    path = files(tmp_path)[1]
    damage(path)
    with pytest.warns(UserWarning, match=path.name):
        number = asked(monkeypatch, cached)
    assert number == 4 + 4  # the shard, and a batch to know shapes
    for one, other in zip(read(cached()), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interrupted_build_resumes(teacher, tmp_path, small_shards, monkeypatch):
    x, y = images(EXAMPLES)
    write = shards.write_shard

    def interrupted(folder, number, *arguments):
        if number == 2:
            raise KeyboardInterrupt
        return write(folder, number, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "write_shard", interrupted)
        cache_teacher(batches(x, y), teacher, tmp_path, **QUIET)
    assert len(files(tmp_path)) == 2 and not files(tmp_path, "complete.json")
    number = asked(monkeypatch, lambda: cache_teacher(batches(x, y), teacher, tmp_path, **QUIET))
    assert number == 2 + 4  # the last shard, and a batch to know shapes
    assert len(files(tmp_path)) == 3


def test_two_builds_at_once_do_not_disturb_each_other(teacher, tmp_path, small_shards, monkeypatch):
    x, y = images(EXAMPLES)
    write, results = shards.write_shard, []

    def cached():
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    def with_another(folder, number, *arguments):
        if number == 1 and not results:
            results.append(None)
            results[0] = read(cached())  # from beginning to end, while the first one goes on
        return write(folder, number, *arguments)

    monkeypatch.setattr(shards, "write_shard", with_another)
    results.append(read(cached()))
    results.append(read(cached()))
    for parts in zip(*results, strict=True):
        for other in parts[1:]:
            np.testing.assert_array_equal(parts[0], other)
    assert not files(tmp_path, "*.partial")


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("is_complete", [False, True])
def test_partial_files_of_killed_builds_are_deleted_and_those_of_others_are_not(
    is_complete, teacher, tmp_path, monkeypatch
):
    def cached():
        return cache_teacher(batches(*images(EXAMPLES)), teacher, tmp_path, **QUIET)

    def killed(folder, *arguments):
        shards.partial_path(folder).write_bytes(b"the beginning")  # without the end, as SIGKILL
        raise KeyboardInterrupt

    if is_complete:
        cached()
        shards.partial_path(files(tmp_path)[0].parent).write_bytes(b"the beginning")
    else:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shards, "write_shard", killed)
            cached()
    (abandoned,) = files(tmp_path, "*.partial")
    of_another_process = shards.partial_path(abandoned.parent)
    of_another_process.write_bytes(b"the beginning")
    age(abandoned, 3700)
    age(of_another_process, 3500)
    assert len(read(cached())[0]) == EXAMPLES
    assert files(tmp_path, "*.partial") == [of_another_process]


def test_a_build_ends_although_another_one_makes_the_manifest_again(teacher, tmp_path, monkeypatch):
    x, y = images(EXAMPLES)
    link_or_move = caching._link_or_move

    def without_trace(partial, path):
        link_or_move(partial, path)
        path.unlink()  # by a process that has found damage before

    monkeypatch.setattr(caching, "_link_or_move", without_trace)
    assert len(read(cache_teacher(batches(x, y), teacher, tmp_path, **QUIET))[0]) == EXAMPLES


def test_of_two_builds_with_another_order_each_the_first_one_holds(
    teacher, tmp_path, small_shards, monkeypatch
):
    x, y = images(EXAMPLES)
    publish, results = caching._publish, []

    def cached(x, y):
        return cache_teacher(batches(x, y), teacher, tmp_path, shuffle=False, **QUIET)

    def after_another(*arguments):
        monkeypatch.setattr(caching, "_publish", publish)
        results.append(read(cached(x[::-1], y[::-1])))
        return publish(*arguments)

    monkeypatch.setattr(caching, "_publish", after_another)
    results.append(read(cached(x, y)))
    results.append(read(cached(x, y)))
    np.testing.assert_array_equal(results[0][0], x[::-1])
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_manifest_is_readable(teacher, tmp_path):
    cache_teacher(batches(*images(EXAMPLES)), teacher, tmp_path, **QUIET)
    (path,) = files(tmp_path, "complete.json")
    manifest = json.loads(path.read_text())
    assert len(manifest.pop("digest")) == 32
    assert manifest == {
        "num_examples": EXAMPLES,
        "components": [[[8, 8, 1], "float32"], [[], "int64"], [[3], "float32"]],
        "shards": [path.name for path in files(tmp_path)],
    }


def start(program, folder):
    return subprocess.Popen(
        command_of(program, folder), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.stress
def test_killed_builds_and_builds_at_once_end_in_the_same_cache(tmp_path):
    for count in (3, 9, 15):
        process = start("cache_building", tmp_path)
        while len(files(tmp_path)) < count and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    both = [start("cache_building", tmp_path) for _ in range(2)]
    assert [process.communicate()[0].split() for process in both] == [["20000"]] * 2
    (path,) = files(tmp_path, "complete.json")
    names = json.loads(path.read_text())["shards"]
    assert len(names) > 15 and all(shards.is_intact(path.parent / name) for name in names)


@pytest.mark.stress
def test_data_ten_times_larger_than_the_budget_are_streamed(tmp_path):
    process = start("cache_streaming", tmp_path)
    growth = float(process.communicate()[0].split()[-1])
    # Megabytes: a shard that is written has 32, the buffer 16, and the data 170.
    assert process.returncode == 0 and growth < 100
