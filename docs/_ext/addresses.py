"""Where the pages are published, and where their sources are.

Both addresses come from ``[tool.hatch.metadata.hooks.custom]`` in pyproject.toml. While they are empty, the pages have no
link to edit them and no choice of versions.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELEASE = re.compile(r"^## (\d+\.\d+\.\d+)\b", re.MULTILINE)
OTHER_SOURCES = {
    "changelog": "CHANGELOG.md",
    "auto_examples/index": "docs/examples/README.rst",
}


def configured():
    """Return the address of the repository and that of the site, each without a slash at the end."""
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    return [hooks["custom"].get(name, "").rstrip("/") for name in ("repository", "site")]


def source_of(page, suffix):
    """Return the file behind a page, from the root of the repository, or None if there is none."""
    if page in OTHER_SOURCES:
        return OTHER_SOURCES[page]
    if page.startswith("auto_examples/plot_"):
        return f"docs/examples/{page.removeprefix('auto_examples/')}.py"
    if page.startswith("api/generated/"):
        return _module_of(page.removeprefix("api/generated/"))
    return f"docs/{page}{suffix}" if suffix and "sg_execution_times" not in page else None


def _module_of(name):
    module, _, member = name.rpartition(".")
    described = inspect.unwrap(getattr(importlib.import_module(module), member))  # not a decorator's file
    return Path(inspect.getfile(described)).relative_to(ROOT).as_posix()


def versions(changelog, site, current):
    """Return the versions to choose from, the newest first, as the theme reads them.

    Each version is published in the folder SITE/VERSION.
    """
    released = RELEASE.findall(changelog)
    names = released if current in released else [current, *released]
    newest = released[0] if released else current
    return [
        {
            "version": name,
            "name": f"{name} (stable)" if name == newest else name,
            "url": f"{site}/{name}/",
        }
        | ({"preferred": True} if name == newest else {})
        for name in names
    ]


def write_versions(folder, site, current):
    """Write ``versions.json``, which is published as SITE/versions.json."""
    listed = versions((ROOT / "CHANGELOG.md").read_text(), site, current)
    Path(folder, "versions.json").write_text(json.dumps(listed, indent=1) + "\n")
