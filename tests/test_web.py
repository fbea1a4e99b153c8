"""The browser demo: trained shortly, built, served, and used in a browser next to Keras."""

import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
WEB = ROOT / "examples/web"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
NAMES = ("teacher", "kd", "l2rkd")
UNREACHABLE = re.compile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")


def what_is_missing():
    """What the test needs and the machine has not; empty if it has everything."""
    if BROWSER is None:
        return "chromium is not installed"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js with npm is not installed"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.lstrip("v").partition(".")[0])
    return "" if major >= 20 else f"Node.js 20 or later is needed, this is {version.stdout.strip()}"


MISSING = what_is_missing()


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def succeed(*command, **kwargs):
    finished = run(*command, **kwargs)
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-3000:]
    return finished.stdout


def install_packages():
    """Installs what the page is built of, unless that is done already."""
    lock, installed = WEB / "package-lock.json", WEB / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    finished = run("npm", "ci", "--fetch-retries=1", cwd=WEB)
    if UNREACHABLE.search(finished.stderr):
        pytest.skip("npm cannot reach its registry")
    assert finished.returncode == 0, finished.stderr[-3000:]


def train_models(folder):
    """Models of a few steps: they differ from each other, which is enough here."""
    environment = os.environ | {"TFDS_DATA_DIR": str(folder / "tfds"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    succeed(
        sys.executable,
        str(WEB / "train_models.py"),
        "--teacher_epochs=2",
        "--epochs=1",
        "--steps_per_epoch=20",
        f"--output={folder / 'models'}",
        env=environment,
    )
    return folder / "models"


def use_page(models, folder):
    """Builds and serves the page; returns what `browse.mjs` saw of it, and the page's address."""
    page = folder / "page"
    succeed("node", str(WEB / "build.mjs"), f"--models={models}", f"--output={page}")
    handler = functools.partial(QuietHandler, directory=page)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        arguments = [f"--address={address}", f"--browser={BROWSER}"]
        try:
            return json.loads(succeed("node", str(WEB / "browse.mjs"), *arguments)), address
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """A server of files that reports nothing."""

    def log_message(self, *args):
        pass


def ask(networks, images):
    """Keras's probabilities in per cent of images of shape `(n, 64)`, by the model's name."""
    images = np.reshape(images, (-1, 8, 8, 1)).astype(np.float32)
    return {
        name: 100 * keras.ops.convert_to_numpy(keras.ops.softmax(network(images)))
        for name, network in networks.items()
    }


def pixels(levels):
    return np.rint(np.array(levels) * 255 / 16) / 255


def check_answers(seen, networks):
    """The page rounds to tenths of a per cent: to 1e-3 both say the same."""
    expected = ask(networks, [pixels(seen["levels"])])
    for name in NAMES:
        np.testing.assert_allclose(seen["answers"][name], expected[name][0], atol=0.1)
    said = [int(digit) for digit in re.findall(r"(?:Teacher|student) (\d)", seen["spoken"])]
    assert said == [int(expected[name].argmax()) for name in NAMES]


def check_examples(seen, description, networks):
    """The first example of each digit, as the buttons show it and as the program noted it."""
    first = [
        next(example for example in description["examples"] if example["label"] == label)
        for label in range(10)
    ]
    assert [example["levels"] for example in seen] == [example["levels"] for example in first]
    for shown, noted in zip(seen, first, strict=True):
        check_answers(shown, networks)
        for name in NAMES:
            noted_percent = 100 * np.array(noted["probabilities"][name])
            np.testing.assert_allclose(shown["answers"][name], noted_percent, atol=0.1)


def check_walk(walk, start, end, networks):
    """Places that the slider reached by keys, and where the students depart."""
    assert [place["step"] for place in walk["places"]] == [0, 1, 11, 21, 31, 100]
    parts = np.arange(101)[:, None] / 100
    answers = ask(networks, (1 - parts) * pixels(start) + parts * pixels(end))
    tops = {name: answers[name].argmax(axis=-1) for name in NAMES}
    for place in walk["places"]:
        for name, text in zip(NAMES, place["texts"], strict=True):
            digit, sure = re.search(r"(?:Teacher|student) (\d) ([\d.]+) %", text).groups()
            assert float(sure) == pytest.approx(answers[name][place["step"]].max(), abs=0.1)
            assert int(digit) == tops[name][place["step"]]
    departed = [float(part) for part in re.findall(r"(\d+) %", walk["summary"])]
    expected = [100 * np.mean(tops[name] != tops["teacher"]) for name in NAMES[1:]]
    assert departed == pytest.approx(expected, abs=1.5)
    assert (walk["departed"] > 0) == (sum(departed) > 0)


def test_lock_file_names_no_other_registry():
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name, package in packages.items():
        assert not name or package["integrity"].startswith("sha512-"), name
        address = package.get("resolved", "https://registry.npmjs.org/")
        assert address.startswith("https://registry.npmjs.org/"), name


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_the_page_answers_as_keras_does(tmp_path):
    install_packages()
    folder = train_models(tmp_path)
    networks = {name: keras.models.load_model(folder / f"{name}.keras") for name in NAMES}
    description = json.loads((folder / "models.json").read_text())
    seen, address = use_page(folder, tmp_path)
    assert seen["errors"] == []
    assert {request for request in seen["requests"] if not request.startswith(address)} == set()
    assert f"{address}wasm/litert_wasm_internal.wasm" in seen["requests"]

    check_examples(seen["examples"], description, networks)
    assert all(np.isnan(np.array(seen["cleared"]["answers"][name], float)).all() for name in NAMES)
    line = np.reshape(seen["line"]["levels"], (8, 8))
    np.testing.assert_array_equal(line, line[:, ::-1])  # drawn in the middle, from top to bottom
    assert line[:, [0, 1, 6, 7]].sum() == 0 and line[1:7, 3:5].min() == 16
    # The ink of the dataset, to two columns of the bitmap: a line gets wider by one on each side.
    assert line.sum() == pytest.approx(312, abs=64)
    for drawn in ("line", "key", "tap"):
        check_answers(seen[drawn], networks)
    eights = [example for example in description["examples"] if example["label"] == 8]
    assert seen["key"]["levels"] in [example["levels"] for example in eights]
    check_walk(seen["walk"], seen["line"]["levels"], seen["key"]["levels"], networks)
    assert seen["phoneWidth"] == 390
