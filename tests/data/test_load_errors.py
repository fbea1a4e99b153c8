"""Wrong arguments of `load`."""

import socket
import time

import pytest

from l2rkd_tf import data
from l2rkd_tf.data import sources


def test_an_unprepared_dataset_is_an_error_at_once(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("tried the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    start = time.perf_counter()
    with pytest.raises(ValueError, match="`download=True`") as error:
        data.load("cifar100", "train", batch_size=8, data_dir=tmp_path)
    assert time.perf_counter() - start < 2
    assert "'cifar100'" in str(error.value)
    assert str(tmp_path / "cifar100") in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar1o"}, r"`name` .* Received: name='cifar1o'.* Close matches: \['cifar10'"),
        ({"name": "zzzzzz"}, "`name` .* which is neither in tfds nor a directory.$"),
        ({"name": "./no/such/folder"}, "is neither in tfds nor a directory"),
        ({"name": "cifar10:9.9.9"}, "'cifar10:9.9.9'.* only: 3.0.2"),
        ({"name": "imagenet_resized/9x9"}, "9x9 not found"),
        ({"name": None}, "`name` .* Received: name=None"),
        ({"split": "trian"}, r"`split` .*\['test', 'train', 'validation'\].* Received: .*'trian'"),
        ({"split": "train[1"}, "`split`"),
        ({"split": "train[:0]"}, "`split` must hold at least one example"),
        ({"split": "train[5:2]"}, "`split` must hold at least one example"),
        ({"split": None}, "`split`"),
        ({"batch_size": 0}, "`batch_size` .* Received: batch_size=0"),
        ({"batch_size": 2.0}, "`batch_size`"),
        ({"batch_size": True}, "`batch_size`"),
        ({"fraction": 0}, "`fraction` .* Received: fraction=0"),
        ({"fraction": 1.01}, "`fraction`"),
        ({"fraction": float("nan")}, "`fraction`"),
        ({"fraction": "0.1"}, "`fraction`"),
        ({"seed": -1}, "`seed` .* Received: seed=-1"),
        ({"seed": 1.5}, "`seed`"),
        ({"split_seed": -1}, "`split_seed` .* Received: split_seed=-1"),
        ({"on_error": "ignore"}, "`on_error` .* Received: on_error='ignore'"),
        ({"on_error": None}, "`on_error`"),
        (
            {"augment": "flop"},
            r"`augment` .*\['affine', 'crop', 'crop_flip'\].* Received: augment='flop'",
        ),
        ({"augment": ["crop"]}, "`augment`"),
        ({"shuffle": 1000}, "`shuffle` .* Received: shuffle=1000"),
        ({"image_size": 0}, "`image_size`"),
        ({"image_size": (8, 8, 1)}, "`image_size`"),
    ],
)
def test_arguments_out_of_range(digits_dir, arguments, message):
    arguments = {"name": "digits", "split": "train", "batch_size": 8, **arguments}
    with pytest.raises(ValueError, match=message):
        data.load(**arguments, data_dir=digits_dir)


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("image", {}, "`image_size` must be given"),
        ("vector", {"image_size": 8}, "`image_size` is for images"),
        ("vector", {"augment": "crop"}, "`augment`"),
        ("number", {"fraction": 0.5}, "`fraction` must be 1"),
        ("unlabelled", {}, "`supervised_keys` are None"),
    ],
)
def test_arguments_that_do_not_fit_the_data(varying_dir, config, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(
            f"varying_images/{config}", "train", batch_size=8, data_dir=varying_dir, **arguments
        )


def test_path_that_is_no_directory(tmp_path):
    with pytest.raises(ValueError, match="`name` must be an existing directory"):
        sources.find_dataset(tmp_path / "digits")


def test_a_folder_with_a_similar_name_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"Received: name='photo'.* Close matches: \['photos'"):
        data.load("photo", "train", batch_size=8)
