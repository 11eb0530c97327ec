"""The package; everything is said in pyproject.toml, but for what only code can say."""

from setuptools import find_namespace_packages, setup

# find_packages would lose the folders of problems: they hold YAML and have no __init__.py.
setup(
    packages=find_namespace_packages(include=["ml_assets", "ml_assets.*"]),
    package_data={"": ["*.yaml", "*.csv", "py.typed"]},
)
