"""Packaging of l2rkd-tf; tool settings live in pyproject.toml."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "l2rkd_tf/__init__.py").read_text(), re.MULTILINE
).group(1)

EXTRAS = {
    # The images of `digits` are those of scikit-learn, the shapes of `glyphs` those of matplotlib.
    "data": ["matplotlib>=3.8", "scikit-learn>=1.4"],
    # Figures: `l2rkd_tf.plots`, and those of `l2rkd inspect`, `benchmark` and `demo`.
    "plots": ["matplotlib>=3.8"],
    # The runtime that runs exported files on devices; without it TensorFlow's own is used.
    "litert": ["ai-edge-litert>=1.1.1"],
    # `callbacks.DistillationTensorBoard` and `--tensorboard`.
    "tensorboard": ["tensorboard>=2.18"],
    # `l2rkd tune`.
    "tuner": ["keras-tuner>=1.4.7"],
    # Data of `examples/table.py`, `text.py` and `time_series.py`, which these packages contain.
    "examples": ["django>=4.2", "scikit-learn>=1.4", "sktime>=0.30"],
}
# `python -m studies` and `python -m benchmarks.NAME`, from a clone.
EXTRAS["studies"] = [*EXTRAS["data"], "pandas>=2.1"]
# The PyTorch loop of `python -m benchmarks.peers`.
EXTRAS["peers"] = ["torch>=2.4"]
# Tests, checks, documentation and distributions: what `make` needs.
EXTRAS["test"] = [
    *EXTRAS["studies"],
    *EXTRAS["examples"],
    *EXTRAS["litert"],
    *EXTRAS["tensorboard"],
    *EXTRAS["tuner"],
    "huggingface-hub>=0.24",
    "hypothesis>=6.100",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "pytest>=8",
    "pytest-xdist>=3",
]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    "build>=1.2",
    "import-linter>=2.1",
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=0.30",
    "mypy>=1.15",
    "nbformat>=5.9",
    "ruff>=0.9",
    "twine>=6",
]

setuptools.setup(
    name="l2rkd-tf",
    version=VERSION,
    description="Locally linear region knowledge distillation (L2RKD) for Keras 3 on TensorFlow",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    author="The l2rkd_tf authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["knowledge distillation", "model compression", "Keras", "TensorFlow", "LiteRT"],
    project_urls={"Paper": "https://arxiv.org/abs/2010.04812"},
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["l2rkd_tf*", "l2rkd_command*"]),
    package_data={"l2rkd_tf": ["py.typed", "**/*.jinja", "**/*.mplstyle"]},
    entry_points={"console_scripts": ["l2rkd=l2rkd_command.main:main"]},
    install_requires=[
        "absl-py>=2.0",
        "importlib-resources>=5.12",  # tensorflow-datasets imports it without declaring it.
        "jinja2>=3.1",
        "keras>=3.12",
        "numpy>=1.26",
        "pillow>=10.3",
        "scipy>=1.11.2",
        "tabulate>=0.9",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
