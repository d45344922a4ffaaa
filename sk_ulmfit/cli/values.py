"""What the commands do with values on a scale: columns of numbers, predicted columns, scores by target."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sk_ulmfit._messages import count, short, short_names
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.cli.data import text_columns
from sk_ulmfit.cli.estimators import predict_in_blocks
from sk_ulmfit.datasets.cells import number_from_cell
from sk_ulmfit.datasets.loaders import load_table
from sk_ulmfit.datasets.predicted_columns import VALUE as PREDICTED
from sk_ulmfit.datasets.tables import Row, open_table
from sk_ulmfit.labels import NamedIndicator
from sk_ulmfit.metrics.regression import regression_scores
from sk_ulmfit.models.schema import LOSSES
from sk_ulmfit.regressor import ULMFiTRegressor
from sk_ulmfit.text.streams import StreamedTexts

MEAN = "mean"
IN_UNITS = ("mean_absolute_error",)  # of a target, so that a mean of several says nothing


def add_values(group: Any) -> None:
    """Add the columns of values, their range and their loss."""
    group.add_argument(
        "--values",
        nargs="+",
        action="extend",
        metavar="COL",
        help="in place of labels, for a regressor: columns of numbers on a scale, such as stars (blank: unknown)",
    )
    group.add_argument(
        "--y-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="least and greatest value of --values (default: no limits)",
    )
    group.add_argument(
        "--loss",
        choices=LOSSES,
        help="loss of --values; cross_entropy is for shares and needs --y-range 0 1 (default: squared_error)",
    )


def check_values_options(options: argparse.Namespace) -> None:
    """Raise ValueError if there are both labels and values, or options for values without values."""
    if options.values and (options.labels or options.label_column or options.labels_file):
        raise ValueError("Pass labels or --values, not both.")
    if not options.values and (options.y_range or options.loss):
        raise ValueError("--y-range and --loss are for numbers on a scale; name their columns with --values.")
    if options.loss == "cross_entropy" and options.y_range != [0.0, 1.0]:
        raise ValueError("--loss cross_entropy is for shares from 0 to 1 and needs --y-range 0 1.")


def load_valued(options: argparse.Namespace, text: Sequence[str], columns: Sequence[str]) -> tuple[Any, NamedIndicator]:
    """Return the texts of a table, read when they are needed, and the named values of some columns, NaN if blank."""
    if options.file.is_dir():
        raise ValueError(f"{options.file} is a folder, but --values are columns of a table; pass a table.")
    if both := sorted({*text} & {*columns}):
        raise ValueError(
            f"Column {short(both[0])} cannot be both a text and a value; name another one with --text or --values."
        )
    table = open_table(options.file, options.encoding)
    for names in (text, columns):
        table.check_columns(names)
    values = [
        [number_from_cell(row.get(name), f"{table.name}, {place}: column {short(name)}") for name in columns]
        for place, row in table.rows
    ]
    texts: list[str] | StreamedTexts = load_table(options.file, text=text, stream=True, encoding=options.encoding).texts
    return texts, NamedIndicator(columns, np.array(values, np.float64).reshape(-1, len(columns)))


def evaluate_values(model: ULMFiTRegressor, options: argparse.Namespace) -> Answer:
    """Score a regressor on the columns that the options name, or on those of the training."""
    names = [str(name) for name in model.target_names_]
    columns = options.values or names
    if unknown := [name for name in columns if name not in names]:
        raise ValueError(f"The model has no target {short(unknown[0])}. Its targets are {short_names(names)}.")
    texts, y = load_valued(options, text_columns(model, options), columns)
    predicted = predict_in_blocks(model.predict, texts, options).reshape(len(y), -1)
    predicted = predicted[:, [names.index(name) for name in columns]]
    scores = regression_scores(np.asarray(y), predicted)
    rows = {
        name: {**{metric: by_target[i] for metric, by_target in scores.items()}, "n": int((~np.isnan(y[:, i])).sum())}
        for i, name in enumerate(columns)
    }
    means = {metric: _mean(by_target) for metric, by_target in scores.items() if metric not in IN_UNITS}
    if options.json:
        targets = {name: {metric: _or_none(value) for metric, value in row.items()} for name, row in rows.items()}
        return Answer("", {"n_texts": len(y), "targets": targets, MEAN: {k: _or_none(v) for k, v in means.items()}})
    shown = [*rows.items(), *([(MEAN, means)] if len(rows) > 1 else [])]
    return Answer(_as_table([*scores, "n"], shown), {})


def _mean(by_target: Any) -> float:
    return float(np.nanmean(by_target)) if np.isfinite(by_target).any() else np.nan


def _or_none(value: Any) -> float | int | None:
    return value if isinstance(value, int) else None if np.isnan(value) else float(value)


def _as_table(columns: list[str], rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    titles = [column.replace("_", " ") for column in columns]
    width = max(len(name) for name, _ in rows)
    lines = [" " * width + "".join(f"  {title:>8}" for title in titles)]
    for name, row in rows:
        cells = [
            _cell(row.get(column)).rjust(max(len(title), 8)) for column, title in zip(columns, titles, strict=True)
        ]
        lines.append(f"{name:<{width}}" + "".join(f"  {cell}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None or np.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


class Valuer:
    """Add the predictions of a regressor to rows, and count them."""

    def __init__(self, model: ULMFiTRegressor, json_lines: bool):
        self.model, self.json_lines = model, json_lines
        self.columns = [f"{PREDICTED}{name}" for name in model.target_names_]
        self.n_texts = 0

    def add(self, blocks: Iterator[tuple[list[Row], list[str]]]) -> Iterator[Row]:
        """Yield rows with predictions; `blocks` holds some rows and their texts at a time."""
        for rows, texts in blocks:
            predicted = self.model.predict(texts).reshape(len(rows), -1)
            self.n_texts += len(rows)
            for row, values in zip(rows, predicted.tolist(), strict=True):
                cells = values if self.json_lines else [f"{value:.6g}" for value in values]
                kept = {column: cell for column, cell in row.items() if column not in self.columns}
                yield {**kept, **dict(zip(self.columns, cells, strict=True))}

    def answer(self, out: Any) -> Answer:
        """Return what the command says in the end."""
        return Answer(
            f"Predicted {count(self.n_texts, 'text')}; written to {out}.", {"out": str(out), "n_texts": self.n_texts}
        )
