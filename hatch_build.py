"""What a package index shows of this project: the README with links that lead somewhere, and the addresses.

An index shows the README without the files around it. Its links to files become links into the repository if
`pyproject.toml` gives the address (``[tool.hatch.metadata.hooks.custom] repository``), and plain text if not. Pictures
come from there too, and are left out without an address.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^]]*)\]\((?!https?:)([^)]*)\)")
LINK = re.compile(r"\[([^]]*)\]\((?!https?:|#)([^)]*)\)")
PAPER = "https://arxiv.org/abs/1801.06146"


def for_index(readme: str, repository: str, version: str) -> str:
    """Return the README as an index is to show it; `repository` may be empty."""
    readme = PICTURE.sub(rf"![\1]({repository}/raw/v{version}/\2)" if repository else "", readme)
    return LINK.sub(rf"[\1]({repository}/blob/v{version}/\2)" if repository else r"\1", readme)


def addresses(repository: str, version: str, site: str = "") -> dict[str, str]:
    """Return the addresses of the project by name; `site` is that of the documentation, if it is published."""
    if not repository:
        return {"Paper": PAPER}
    files = f"{repository}/blob/v{version}"
    return {
        "Source": repository,
        "Issues": f"{repository}/issues",
        "Documentation": f"{site}/{version}/" if site else f"{files}/docs/quickstart.md",
        "Changelog": f"{files}/CHANGELOG.md",
        "Paper": PAPER,
    }


class IndexPage(MetadataHookInterface):
    """Set `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the fields that pyproject.toml calls dynamic."""
        root = Path(self.root)
        repository, site = (self.config.get(name, "").rstrip("/") for name in ("repository", "site"))
        version = re.search(r'"(.+)"', (root / "sk_ulmfit" / "_version.py").read_text()).group(1)
        text = for_index((root / "README.md").read_text(encoding="utf-8"), repository, version)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = addresses(repository, version, site)
