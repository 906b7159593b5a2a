"""Packages only; everything else is in pyproject.toml, which cannot find packages and rename one at once."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["sparcode", "sparcode.*"]), "sparcode_cli"])
