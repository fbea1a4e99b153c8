"""Packaging of l2rkd-tf; tool settings live in pyproject.toml."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "l2rkd_tf/__init__.py").read_text(), re.MULTILINE
).group(1)

EXTRAS = {
    # scikit-learn holds the images of the `digits` data set, matplotlib draws `l2rkd_tf.plots`,
    # scipy has the quantiles of the intervals, tqdm the progress of a study.
    "examples": ["matplotlib>=3.8", "scikit-learn>=1.4", "scipy>=1.11", "tqdm"],
    "litert": ["ai-edge-litert"],
    "tensorboard": ["tensorboard"],
}
EXTRAS["test"] = [
    *EXTRAS["examples"],
    *EXTRAS["litert"],
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-xdist>=3",
]
EXTRAS["dev"] = [*EXTRAS["test"], "ruff>=0.9"]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

setuptools.setup(
    name="l2rkd-tf",
    version=VERSION,
    description="Locally linear region knowledge distillation (L2RKD) for Keras 3 on TensorFlow",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=setuptools.find_packages(include=["l2rkd_tf", "l2rkd_tf.*"]),
    install_requires=[
        "absl-py>=2.0",
        "importlib_resources",  # tensorflow-datasets imports it without declaring it.
        "keras>=3.12",
        "tensorflow>=2.18",
        "tensorflow-datasets>=4.9.9",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
