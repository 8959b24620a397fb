"""The folder `configs` travels in the wheel as `gcp/recipes`; everything else is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

RECIPES = "gcp.recipes"

setup(
    packages=[*find_namespace_packages(include=["gcp", "gcp.*"]), RECIPES],
    package_dir={RECIPES: "configs"},
    package_data={RECIPES: ["*.json", "**/*.yaml"], "gcp": ["py.typed"], "gcp.kernels": ["*.cu"]},
)
