"""Texts from standard input, one per line, for the commands that take - as FILE."""

from __future__ import annotations

import argparse
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.cli.estimators import load_model
from sk_ulmfit.cli.files import check_input
from sk_ulmfit.regressor import ULMFiTRegressor


def is_typed(file: Path | str) -> bool:
    """Tell whether FILE stands for standard input."""
    return str(file) == "-"


def check_file(file: Path) -> None:
    """Raise ValueError unless there is such a file or folder; a text in its place is told how it is predicted."""
    if len(str(file).split()) > 1 and not file.exists():
        raise ValueError(
            f"There is no file {short(str(file))}; to pass a text, write - for FILE: echo TEXT | ... MODEL -"
        )
    check_input(file)


def read_texts(options: argparse.Namespace) -> list[str]:
    """Return the lines of standard input that are not blank, one text each."""
    if options.text:
        raise ValueError("--text names columns of a table, but - reads one text per line; omit --text.")
    if sys.stdin.isatty():
        print("Type or paste one text per line; end with Ctrl-D (on Windows: Ctrl-Z, Enter).", file=sys.stderr)
    encoding = options.encoding or "utf-8"
    lines = TextIOWrapper(sys.stdin.buffer, encoding) if hasattr(sys.stdin, "buffer") else sys.stdin
    try:
        texts = [line.strip() for line in lines if line.strip()]
    except UnicodeError:
        raise ValueError(f"Standard input is not {encoding} text; name its encoding with --encoding.") from None
    if not texts:
        raise ValueError("Standard input has no text; pass one per line, such as: echo TEXT | ... MODEL -")
    return texts


def predict(options: argparse.Namespace) -> Answer:
    """Predict each line: a line of labels with their probabilities, or of values."""
    if options.out is not None:
        raise ValueError("With - the predictions are printed; omit --out, or pass a table as FILE.")
    check_input(options.model)
    texts, model = read_texts(options), load_model(options)
    if isinstance(model, ULMFiTRegressor):
        rows = _values(model, texts)
        lines = [", ".join(f"{name} {value:.4g}" for name, value in row["values"].items()) for row in rows]
    else:
        rows = _labels(model, texts)
        lines = [_line(row, options.delimiter or ", ") for row in rows]
    data = [{"text": text, **row} for text, row in zip(texts, rows, strict=True)]
    return Answer("\n".join(lines), {"n_texts": len(texts), "texts": data})


def _labels(clf: ULMFiTMultiLabelClassifier, texts: list[str]) -> list[dict[str, Any]]:
    names, proba = [str(name) for name in clf.label_names_], clf.predict_proba(texts)
    decisions = clf._decision_rule()(proba)
    return [
        {
            "labels": [name for name, is_predicted in zip(names, decided, strict=True) if is_predicted],
            "probabilities": dict(zip(names, of_text, strict=True)),
        }
        for decided, of_text in zip(decisions.tolist(), proba.tolist(), strict=True)
    ]


def _line(row: dict[str, Any], delimiter: str) -> str:
    proba: dict[str, float] = row["probabilities"]
    if not row["labels"]:
        likeliest = max(proba, key=lambda name: proba[name])
        return f"(no label; most probable: {likeliest} {proba[likeliest]:.2f})"
    return delimiter.join(f"{name} {proba[name]:.2f}" for name in sorted(row["labels"], key=lambda name: -proba[name]))


def _values(model: ULMFiTRegressor, texts: list[str]) -> list[dict[str, Any]]:
    names = [str(name) for name in model.target_names_]
    predicted = model.predict(texts).reshape(len(texts), -1)
    return [{"values": dict(zip(names, row, strict=True))} for row in predicted.tolist()]
