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
    "examples": ["matplotlib>=3.8", "scikit-learn>=1.4", "scipy>=1.11.2", "tqdm>=4.60"],
    "litert": ["ai-edge-litert>=1.1.1"],
    "tensorboard": ["tensorboard>=2.18"],
    "tuner": ["keras-tuner>=1.4.7"],
}
EXTRAS["test"] = [
    *EXTRAS["examples"],
    *EXTRAS["litert"],
    *EXTRAS["tensorboard"],
    *EXTRAS["tuner"],
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-xdist>=3",
]
EXTRAS["docs"] = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.30"]
EXTRAS["dist"] = ["build>=1.2", "twine>=6"]
EXTRAS["dev"] = [
    *EXTRAS["test"],
    *EXTRAS["docs"],
    *EXTRAS["dist"],
    "mypy>=1.15",
    "ruff>=0.9",
]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

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
    packages=setuptools.find_packages(include=["l2rkd_tf", "l2rkd_tf.*"]),
    package_data={"l2rkd_tf": ["py.typed"]},
    install_requires=[
        "absl-py>=2.0",
        "importlib-resources>=5.12",  # tensorflow-datasets imports it without declaring it.
        "keras>=3.12",
        "numpy>=1.26",
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
