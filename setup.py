"""Build rules that pyproject.toml cannot express: the package folders."""

from __future__ import annotations

from setuptools import find_packages, setup

FOLDERS = {"nnunet_uhf.trainers": "trainers", "nnunet_uhf.preprocessing": "preprocessing"}


def all_packages() -> list[str]:
    """Names of all packages, those that live in folders of their own included."""
    packages = find_packages(include=["nnunet_uhf", "nnunet_uhf.*"])
    for name, folder in FOLDERS.items():
        packages += [name, *(f"{name}.{package}" for package in find_packages(folder))]
    return packages


setup(packages=all_packages(), package_dir=dict(FOLDERS))
