"""The labelled sets of the benchmarks, read from local files: Reuters-21578, GoEmotions, arXiv-CS."""

from __future__ import annotations

import json
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.preprocessing import MultiLabelBinarizer

from sk_ulmfit.text.tokenizer import join_fields

# Folder and text fields of each set.
SETS = {
    "reuters": ("reuters21578", ("title", "body")),
    "goemotions": ("goemotions", ("text",)),
    "arxiv": ("arxiv_cs", ("title", "abstract")),
}
WITHOUT_DEV = {"reuters": 1_000}  # training documents held out where the set has no dev part


@dataclass
class Part:
    """Texts and their labels; y: (n, n_labels), 0 or 1."""

    texts: list[str]
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Any) -> Part:
        """Return some of the documents, in the order of `rows`."""
        return Part([self.texts[row] for row in rows], self.y[rows])


def read(folder: Path, name: str, part: str) -> tuple[list[str], list[set[str]]]:
    """Read the texts and labels of one part of a set."""
    subfolder, fields = SETS[name]
    paths = [folder / subfolder / f"{part}.jsonl{ending}" for ending in (".xz", "")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise SystemExit(f"{paths[0]} does not exist; DATA must be the folder that contains {subfolder}.")
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    texts = [join_fields([row[field] for field in fields]) if len(fields) > 1 else row[fields[0]] for row in rows]
    return texts, [set(row["labels"]) for row in rows]


def binarized(parts: dict[str, tuple[list[str], list[set[str]]]]) -> dict[str, Part]:
    """Return the parts with the labels of the part "train" as columns."""
    binarizer = MultiLabelBinarizer().fit(parts["train"][1])
    return {name: Part(texts, binarizer.transform(labels)) for name, (texts, labels) in parts.items()}


def load(folder: Path, name: str, dev: bool) -> tuple[Part, Part]:
    """Return the documents to train on and to score; with `dev`, the test part is not read."""
    if dev and name in WITHOUT_DEV:
        train = binarized({"train": read(folder, name, "train")})["train"]
        order = np.random.default_rng(21578).permutation(len(train))
        held_out, rest = np.split(order, [WITHOUT_DEV[name]])
        return train.take(np.sort(rest)), train.take(np.sort(held_out))
    scored = "dev" if dev else "test"
    parts = binarized({part: read(folder, name, part) for part in ("train", scored)})
    return parts["train"], parts[scored]


def sample(train: Part, size: int | str, seed: int) -> Part:
    """Draw training documents; a larger sample with the same seed includes the smaller ones."""
    n = len(train) if size == "full" else int(size)
    if n > len(train):
        raise SystemExit(f"The set has {len(train)} training documents, {n} were requested; pass other --sizes.")
    return train.take(np.random.default_rng(seed).permutation(len(train))[:n])
