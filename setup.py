"""The folder `configs` travels in the wheel as `gcp/recipes`; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

RECIPES = "gcp.recipes"
folders = sorted({".".join((RECIPES, *path.parent.parts[1:])) for path in Path("configs").rglob("*.yaml")} - {RECIPES})

setup(
    packages=[*find_namespace_packages(include=["gcp", "gcp.*"]), RECIPES, *folders],
    package_dir={RECIPES: "configs"},
    package_data={RECIPES: ["*.json", "**/*.yaml"], "gcp": ["py.typed"], "gcp.kernels": ["*.cu"]},
)
