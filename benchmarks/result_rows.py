"""Results as lines of JSON: each finished unit of work is one, so that a run can be stopped and started again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the results so far; a line that was cut off when a run was killed is left out."""
    rows = []
    for line in path.read_text(encoding="utf8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf8") as file:
        file.write("\n" * cut_off + json.dumps(row) + "\n")


def find(path: Path, unit: dict[str, Any]) -> dict[str, Any] | None:
    return next((row for row in read_rows(path) if row["unit"] == unit), None)


def cell(values: list[float], digits: int) -> str:
    """Give the mean, and the standard deviation of several values; nothing for none."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
