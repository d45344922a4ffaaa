"""Results as JSON lines, one per finished unit of work, so that a run can be stopped and resumed."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


def carry_on(options: argparse.Namespace, run: Callable[[], None]) -> None:
    """Run what is not done yet, in the folder and with the number of threads of the options."""
    # expected: small samples lack some labels
    warnings.filterwarnings("ignore", "Label .* is present in all training examples", UserWarning)
    warnings.filterwarnings("ignore", r"\d+ of \d+ labels are the same for all", UserWarning)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        run()
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; the same command resumes from here.") from None


def results_file(options: argparse.Namespace) -> Path:
    """Return the file of the results; scores on held-out documents have their own."""
    return options.out / ("dev.jsonl" if options.dev else "results.jsonl")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the results so far, without a line that was cut off when a run was killed."""
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
    """Format the mean and, for several values, the standard deviation; empty for no values."""
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
