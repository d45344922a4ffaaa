"""Print the lowest version of each dependency in pyproject.toml as constraints for pip, all but torch."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"

for dependency in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
    name, lowest = re.fullmatch(r"([\w-]+)>=([\w.]+)", dependency).groups()
    if name != "torch":
        print(f"{name}=={lowest}")
