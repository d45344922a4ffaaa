"""Pictures of the table of quality: minutes of training against mean average precision, one per set.

python benchmarks/plot_quality.py benchmarks/quality/results.jsonl docs/_static
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from quality import DOCUMENTS, MODEL_NAMES, RECIPE, SET_NAMES
from result_rows import read_rows

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"svm": "#b5651d", "logistic": "#e0a458", "embeddings": "#3b7dd8", "both": "#6a4fb3", "ulmfit": "#c2185b"}
MARKERS = {"500": "o", "all": "s"}


def minutes(row: dict[str, Any]) -> float:
    """Return the minutes of choosing settings and of training."""
    return sum(row.get(name, 0.0) for name in ("choice_seconds", "lm_seconds", "train_seconds")) / 60


def draw(name: str, rows: list[dict[str, Any]], path: Path) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 5), layout="constrained")
    for model, label in MODEL_NAMES.items():
        for documents in DOCUMENTS:
            of_model = [row for row in rows if (row["unit"]["model"], row["unit"]["documents"]) == (model, documents)]
            if not of_model:
                continue
            x, y = np.mean([(minutes(row), row["map"]) for row in of_model], axis=0)
            name_of_model = label.strip("*") if documents == DOCUMENTS[-1] else None
            ax.scatter(
                x, y, 70, COLOURS[model], marker=MARKERS[documents], edgecolors="white", label=name_of_model, zorder=3
            )
    ax.set(xscale="log", xlabel="minutes of training, choice of settings included (log scale)")
    ax.set(
        ylabel="mean average precision, test part",
        title=f"{SET_NAMES[name]}: 500 documents (circles) and all (squares)",
    )
    ax.margins(0.12)
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    results, folder = map(Path, sys.argv[1:])
    plt.rcParams.update({"svg.hashsalt": "quality", "svg.fonttype": "none"})  # the same file for the same rows
    rows = [row for row in read_rows(results) if row["unit"]["kind"] == "score"]
    rows = [row for row in rows if row["unit"].get("recipe", RECIPE) == RECIPE and "language_model" not in row["unit"]]
    for name in SET_NAMES:
        draw(name, [row for row in rows if row["unit"]["set"] == name], folder / f"quality-{name}.svg")


if __name__ == "__main__":
    main()
