"""Tables of labelled texts, and the small data set that comes with the package."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text import join_fields

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}


@dataclass
class NamedIndicator:
    """A 0/1 matrix with column names, which `fit` takes like a DataFrame.

    Parameters
    ----------
    columns : list of str
        Label names.
    values : ndarray of int64, shape (n, L)
        0 and 1.
    """

    columns: list[str]
    values: NDArray[np.int64]

    def to_numpy(self) -> NDArray[np.int64]:
        """Give the matrix."""
        return self.values


@dataclass
class TextTable:
    """Texts and labels read from a table.

    Parameters
    ----------
    texts : list of str
        One text per row; several text columns are joined with field marks.
    labels : list of list of str, or None
        Labels of each row; None if none were asked for.
    label_names : list of str
        All labels, those of the columns asked for or those that occur.
    columns : list of str
        Names of all columns of the file.
    rows : list of dict
        All cells of the file, by column.
    """

    texts: list[str]
    labels: list[list[str]] | None
    label_names: list[str]
    columns: list[str]
    rows: list[dict[str, str]]

    def indicator(self, label_names: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Give the labels as a 0/1 matrix.

        Parameters
        ----------
        label_names : sequence of str, default=None
            Columns of the matrix; None takes those of the table. Labels not among them are left out.

        Returns
        -------
        ndarray of int64, shape (n, L)
            1 where the row has the label.
        """
        column = {name: i for i, name in enumerate(self.label_names if label_names is None else label_names)}
        y = np.zeros((len(self.texts), len(column)), np.int64)
        for i, labels in enumerate(self.labels or []):
            y[i, [column[label] for label in labels if label in column]] = 1
        return y

    def named_indicator(self) -> NamedIndicator:
        """Give the labels as a 0/1 matrix that knows their names."""
        return NamedIndicator(self.label_names, self.indicator())


def load_table(
    path: str | os.PathLike[str],
    *,
    text: str | Sequence[str],
    labels: str | Sequence[str] | None = None,
    label_column: str | None = None,
    delimiter: str = ";",
) -> TextTable:
    """Read texts and labels from a CSV or TSV file with a header line.

    Parameters
    ----------
    path : path-like
        UTF-8 file; tab-separated if it ends in ``.tsv``, else comma-separated. An empty cell is an empty text.
    text : str or sequence of str
        Column or columns with the text.
    labels : str or sequence of str, default=None
        Columns with 0 or 1 (also true and false, yes and no; an empty cell is 0), one per label.
    label_column : str, default=None
        Instead of `labels`: one column with the labels of each row.
    delimiter : str, default=";"
        What separates the labels in `label_column` (not the cells of the file).

    Returns
    -------
    TextTable
        The table.

    Raises
    ------
    ValueError
        If the file cannot be read, a column is missing, or a cell is not valid; the message names the line.
    """
    path = Path(path)
    columns, rows, lines = _read_csv(path)
    text_columns = [text] if isinstance(text, str) else list(text)
    labels = [labels] if isinstance(labels, str) else labels
    if labels and label_column:
        raise ValueError("Give labels or label_column, not both.")
    for names in (text_columns, list(labels or [])):
        if len(set(names)) < len(names):
            raise ValueError(f"Columns {', '.join(map(repr, names))}: each may be named only once.")
    for name in [*text_columns, *(labels or []), *([label_column] if label_column else [])]:
        if name not in columns:
            hint = "" if len(columns) > 1 else " In this file cells are separated by commas (in .tsv files by tabs)."
            raise ValueError(f"{path} has no column {name!r}. Its columns are {', '.join(map(repr, columns))}.{hint}")
    table = TextTable(
        [
            row[text_columns[0]] if len(text_columns) == 1 else join_fields([row[c] for c in text_columns])
            for row in rows
        ],
        None,
        [],
        columns,
        rows,
    )
    if label_column:
        if not delimiter:
            raise ValueError("delimiter must not be empty; pass what separates the labels, such as ';'.")
        split = ([part.strip() for part in row[label_column].split(delimiter)] for row in rows)
        table.labels = [sorted({part for part in parts if part}) for parts in split]
        table.label_names = sorted({label for found in table.labels for label in found})
        odd = next(((name, mark) for name in table.label_names for mark in ";|\t" if mark in name), None)
        if odd:
            warnings.warn(
                f"{path}: label {odd[0]!r} holds {odd[1]!r}; is that the delimiter, and not {delimiter!r}?",
                UserWarning,
                stacklevel=2,
            )
    elif labels:
        table.label_names = list(labels)
        table.labels = [
            [name for name in labels if _is_yes(row[name], path, line, name)]
            for row, line in zip(rows, lines, strict=True)
        ]
    return table


def _is_yes(cell: str, path: Path, line: int, column: str) -> bool:
    value = cell.strip().lower()
    if value not in _YES and value not in _NO:
        raise ValueError(
            f"{path}, line {line}: column {column!r} holds {cell!r}; a label column holds 0 or 1. "
            "If it holds label names, pass it as the label column instead."
        )
    return value in _YES


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]], list[int]]:
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    csv.field_size_limit(2**31 - 1)
    rows, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            columns = next(reader, [])
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(columns)}; "
                        "put texts that hold commas into double quotes."
                    )
                rows.append(dict(zip(columns, cells, strict=True)))
                lines.append(reader.line_num)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from None
    if not rows:
        raise ValueError(f"{path} has no rows; a header line and at least one row were expected.")
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path} has columns of the same name: {', '.join(map(repr, columns))}. Rename them.")
    return columns, rows, lines


def write_table(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Write a CSV or TSV file, completely or not at all.

    Parameters
    ----------
    path : path-like
        File to write; tab-separated if it ends in ``.tsv``.
    columns : sequence of str
        Header.
    rows : iterable of dict
        Cells by column.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, columns, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_support_messages(part: str = "train") -> TextTable:
    """Load the customer-support messages that come with the package.

    Written for this project: short messages to the support of a maker of smart lamps, which exists only here, with
    eight labels (account, billing, cancellation, complaint, delivery, product, refund, technical), 1.5 on
    average. 480 messages for training, 180 for testing.

    Parameters
    ----------
    part : {"train", "test"}, default="train"
        Which part.

    Returns
    -------
    TextTable
        Texts and labels.

    Examples
    --------
    >>> from sk_ulmfit.datasets import load_support_messages
    >>> messages = load_support_messages()
    >>> len(messages.texts), len(messages.label_names)
    (480, 8)
    """
    if part not in ("train", "test"):
        raise ValueError(f"part must be 'train' or 'test', got {part!r}.")
    with resources.as_file(resources.files("sk_ulmfit") / "data" / f"support_{part}.csv") as path:
        return load_table(path, text="text", label_column="labels")
