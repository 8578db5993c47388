"""Metadata and installation of mrigen."""

import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"', (HERE / "mrigen" / "__init__.py").read_text(), re.MULTILINE)[1]
PACKAGES = [
    str(path.parent.relative_to(HERE)).replace("/", ".") for path in sorted((HERE / "mrigen").rglob("__init__.py"))
]

setup(
    name="mrigen",
    version=VERSION,
    description="Autoencoders and variational autoencoders of whole 3D brain MRI: fit, sample, probe.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The mrigen developers",
    python_requires=">=3.11,<3.14",
    packages=[*PACKAGES, "mrigen_cli", "mrigen_recipes"],
    package_dir={"mrigen_cli": "cli", "mrigen_recipes": "recipes"},
    package_data={"mrigen": ["py.typed"], "mrigen_recipes": ["*.yaml", "*/*.yaml"]},
    install_requires=[
        "click>=8.1",
        "h5py>=3.11",
        "joblib>=1.3",
        "keras>=3.15",
        "matplotlib>=3.8",
        "nibabel>=5.2",
        "nilearn>=0.11",
        "numpy>=1.26",
        "optuna>=4.2,<7",
        "packaging>=23",
        "pandas>=2.2",
        "pillow>=10",
        "platformdirs>=4.2",
        "pydantic>=2.8",
        "rich>=13.7",
        "ruamel.yaml>=0.18",
        "scikit-image>=0.24",
        "scikit-learn>=1.5",
        "scipy>=1.12",
        "setuptools",  # TensorFlow Probability imports distutils, which Python 3.12 no longer brings.
        "tensorboard>=2.21",  # TensorFlow 2.21 no longer brings it, and the Keras callback needs it.
        "tensorflow>=2.21",
        "tensorflow-probability[tf]>=0.25",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "bench": ["monai>=1.4", "prdc>=0.2", "pythae>=0.1.2", "torch>=2.4"],
        "cuda": ["tensorflow[and-cuda]>=2.21"],
        "mlflow": ["mlflow>=3"],
        "wandb": ["wandb>=0.19"],
        "prepare": ["deepbet>=1.0.2", "quickshear>=1.2", "SimpleITK>=2.4"],
        "umap": ["umap-learn>=0.5.6"],
        "docs": ["furo>=2024.8", "myst-parser>=4", "sphinx>=8", "sphinx-copybutton>=0.5", "sphinx-gallery>=0.18"],
        "test": [
            "hypothesis>=6.100",
            "import-linter>=2.3",
            "mypy>=1.13",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "quickshear>=1.2",
            "ruff>=0.9",
            "SimpleITK>=2.4",
        ],
    },
    entry_points={"console_scripts": ["mrigen = mrigen_cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
