"""The package; everything is said in pyproject.toml, but for what only code can say."""

from setuptools import find_namespace_packages, setup

# find_packages would lose the folders of problems: they hold YAML and have no __init__.py.
# `package_dir` makes an editable install a folder on the path: as a hook behind the path, it would lose to
# the folder `ml_assets/` that holds a project's problems, wherever that project is the working directory.
setup(
    package_dir={"": "."},
    packages=find_namespace_packages(include=["ml_assets", "ml_assets.*"]),
    package_data={"": ["*.yaml", "*.csv", "py.typed"]},
)
