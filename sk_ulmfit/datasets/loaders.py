"""Texts and labels from tables and folders, and the small data set that comes with the package."""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import read_text
from sk_ulmfit._validation import check_choice
from sk_ulmfit.datasets.tables import (
    Row,
    is_blank,
    is_hidden,
    open_table,
    text_files,
    text_of_row,
)
from sk_ulmfit.labels import NamedIndicator
from sk_ulmfit.text.streams import StreamedTexts

BLANKS = ("absent", "unknown")
_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


@dataclass
class TextTable:
    """Texts and labels read from a table.

    Parameters
    ----------
    texts : list of str, or StreamedTexts
        One text per row; several text columns are joined with field marks.
    labels : list of list of str, or None
        Labels of each row; None if none were asked for.
    label_names : list of str
        All labels, those of the columns asked for or those that occur.
    columns : list of str
        Names of all columns of the table.
    rows : list of dict
        All cells of the table, by column; empty if the texts are streamed.
    unknown : list of list of str, or None
        Labels that are not annotated in each row; None if all are.
    n_blank : int
        Empty cells in columns of 0 and 1.
    """

    texts: list[str] | StreamedTexts
    labels: list[list[str]] | None
    label_names: list[str]
    columns: list[str]
    rows: list[Row]
    unknown: list[list[str]] | None = None
    n_blank: int = 0

    def __repr__(self) -> str:
        labels = f", {len(self.label_names)} labels" if self.labels is not None else ""
        return f"TextTable of {len(self.texts)} texts{labels}"

    def indicator(self, label_names: Sequence[str] | None = None) -> NDArray[Any]:
        """Give the labels as a matrix.

        Parameters
        ----------
        label_names : sequence of str, default=None
            Columns of the matrix; None takes those of the table. Labels not among them are left out.

        Returns
        -------
        ndarray of int64, or of float32 if some entries are unknown, shape (n, L)
            1 where the row has the label, NaN where that is unknown.
        """
        column = {name: i for i, name in enumerate(self.label_names if label_names is None else label_names)}
        return self._filled(column, np.int64 if self.unknown is None else np.float32)

    def named_indicator(self) -> NamedIndicator:
        """Give the labels as a matrix that knows their names, of float32."""
        column = {name: i for i, name in enumerate(self.label_names)}
        return NamedIndicator(self.label_names, self._filled(column, np.float32))

    def _filled(self, column: dict[str, int], dtype: Any) -> NDArray[Any]:
        y = np.zeros((len(self.texts), len(column)), dtype)
        for marks, value in ((self.labels, 1), (self.unknown, np.nan)):
            for i, labels in enumerate(marks or []):
                y[i, [column[label] for label in labels if label in column]] = value
        return y


def load_table(
    source: Any,
    *,
    text: str | Sequence[str],
    labels: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    delimiter: str = ";",
    blank: str = "absent",
    stream: bool = False,
) -> TextTable:
    """Read texts and labels from a table.

    Parameters
    ----------
    source : path-like or DataFrame
        A CSV file with a header line (cells separated by commas, or by semicolons or tabs if that line has no comma),
        a TSV file (``.tsv``), JSON lines (``.jsonl``: one object a line), each UTF-8 and
        plain or compressed (``.gz``, ``.xz``), a Parquet file (``.parquet``), or a DataFrame of pandas or polars. An
        empty cell is an empty text.
    text : str or sequence of str
        Column or columns with the text. Several are joined with field marks, in this order; keep it for prediction.
    labels : str or sequence of str, default=None
        Columns with 0 or 1 (also true and false, yes and no), one per label.
    label_column : str or sequence of str, default=None
        Instead of `labels`: the column with the names of a row's labels, separated by `delimiter`, or as a list
        (JSON in a cell of a text file); or several columns with one name, or none, in each.
    delimiter : str, default=";"
        What separates the names in `label_column` (not the cells of the file).
    blank : {"absent", "unknown"}, default="absent"
        What an empty label cell (NaN, null) means: that the row does not have the label, or that nobody has looked. In
        `label_column`, a row all of whose cells are empty is then unknown throughout.
    stream : bool, default=False
        Keep nothing but the labels in memory: `texts` are then read from `source` whenever they are gone through, which
        ``fit`` and ``predict`` do a few times. For files larger than memory.

    Returns
    -------
    TextTable
        The table.

    Raises
    ------
    ValueError
        If the table cannot be read, a column is missing, or a cell is not valid; the message names the line.

    Examples
    --------
    >>> import pandas as pd
    >>> from sk_ulmfit.datasets import load_table
    >>> frame = pd.DataFrame({"body": ["Where is it?", "Hello"], "Label 1": ["late", None], "Label 2": ["lost", None]})
    >>> load_table(frame, text="body", label_column=["Label 1", "Label 2"]).labels
    [['late', 'lost'], []]
    """
    check_choice("blank", blank, BLANKS)
    text_columns, name_columns = _as_list(text), _as_list(label_column)
    indicator_columns = _as_list(labels)
    if indicator_columns and name_columns:
        raise ValueError("Give labels or label_column, not both.")
    if both := sorted(set(text_columns) & {*indicator_columns, *name_columns}):
        raise ValueError(f"Column {both[0]!r} cannot be both text and label; name two columns.")
    if name_columns and not delimiter:
        raise ValueError("delimiter must not be empty; pass what separates the labels, such as ';'.")
    if not text_columns:
        raise ValueError("text names no column; name the one that holds the text, or several.")
    reader = open_table(source)
    state = _state_of(source) if stream else None
    for names in (text_columns, indicator_columns, name_columns):
        reader.check_columns(names)
    texts: list[str] = []
    rows: list[Row] = []
    found: list[list[str]] = []
    unknown: list[list[str]] = []
    blank_rows: list[int] = []
    n_rows = n_blank = 0
    same: dict[tuple[str, ...], list[str]] = {}  # of very many rows, those with the same labels share one list
    for place, row in reader.rows:
        n_rows += 1
        where = f"{reader.name}, {place}"
        text_here = text_of_row(row, text_columns, where)
        if not stream:
            texts.append(text_here)
            rows.append(row)
        if indicator_columns:
            said = {name: _yes(row.get(name), f"{where}: column {name!r}") for name in indicator_columns}
            found.append([name for name, yes in said.items() if yes])
            n_blank += sum(yes is None for yes in said.values())
            blanks = [name for name, yes in said.items() if yes is None]
            unknown.append(same.setdefault(tuple(blanks), blanks) if stream else blanks)
        elif name_columns:
            names = [
                name
                for column in name_columns
                for name in _names(row.get(column), delimiter, f"{where}: column {column!r}")
            ]
            found.append(sorted(set(names)))
            if all(is_blank(row.get(column)) for column in name_columns):
                blank_rows.append(n_rows - 1)
        if stream and found:
            found[-1] = same.setdefault(tuple(found[-1]), found[-1])
    if not n_rows:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    label_names = indicator_columns or sorted({name for names in found for name in names})
    if name_columns:
        _warn_of_other_delimiter(reader.name, label_names, delimiter)
        _warn_of_labels_that_occur_once(reader.name, found, label_names)
        unknown = [[] for _ in range(n_rows)] if blank_rows else []
        for i in blank_rows:
            unknown[i] = label_names

    def read_texts() -> Iterator[str]:
        if _state_of(source) != state:
            raise ValueError(
                f"{reader.name} has changed since it was opened, so its labels may be others; load it again."
            )
        again = open_table(source)
        return (text_of_row(row, text_columns, f"{again.name}, {place}") for place, row in again.rows)

    return TextTable(
        StreamedTexts(read_texts, n_rows) if stream else texts,
        found if indicator_columns or name_columns else None,
        label_names,
        reader.columns,
        rows,
        unknown if blank == "unknown" and any(unknown) else None,
        n_blank,
    )


def load_folders(
    folder: str | os.PathLike[str],
    *,
    labels_file: str | os.PathLike[str] | None = None,
    labels: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    delimiter: str = ";",
    blank: str = "absent",
) -> TextTable:
    """Read one text per file.

    Parameters
    ----------
    folder : path-like
        Folder with a folder for each label, which holds the UTF-8 text files (``*.txt``) that have it; a file that lies
        in several of them, under the same path below each, has several labels. With `labels_file`: a folder of texts.
        Hidden files and folders, and folders without text files, are left out.
    labels_file : path-like, default=None
        Table (see `load_table`) whose first column is the path of a file, relative to `folder`. Files that it does not
        list have no label, or with ``blank="unknown"`` are not annotated.
    labels, label_column : str or sequence of str, default=None
        How labels stand in `labels_file`, as in `load_table`. Without either, all columns but the first hold names.
    delimiter : str, default=";"
        What separates names in `labels_file`.
    blank : {"absent", "unknown"}, default="absent"
        What an empty label cell means, and that a file is not listed.

    Returns
    -------
    TextTable
        One row per file, in the order of their paths; "file" is the path.

    Raises
    ------
    ValueError
        If there is no text file, one is not UTF-8, a listed one is missing, or files of the same path differ.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sk_ulmfit.datasets import load_folders
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for label in ("late", "lost"):
    ...     (folder / label).mkdir()
    ...     _ = (folder / label / "1.txt").write_text("Where is it?")
    >>> load_folders(folder).labels
    [['late', 'lost']]
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}.")
    if labels_file is None:
        if labels or label_column:
            raise ValueError("labels and label_column say how labels stand in a labels_file; name that too.")
        return _by_label(root)
    texts = {file.relative_to(root).as_posix(): read_text(file) for file in text_files(root)}
    if not texts:
        raise ValueError(f"{root} has no text files (*.txt).")
    first, *others = open_table(labels_file).columns
    names = label_column if labels or label_column else others
    table = load_table(labels_file, text=first, labels=labels, label_column=names, delimiter=delimiter, blank=blank)
    found: dict[str, set[str]] = {}
    unknown = {} if blank == "absent" else {name: set(table.label_names) for name in texts}
    for i, listed in enumerate(table.texts):
        name = listed.strip()
        if name not in texts:
            raise ValueError(f"{labels_file}, row {i + 1}: there is no text file {name!r} in {root}.")
        found.setdefault(name, set()).update((table.labels or [])[i])
        if unknown:
            unknown[name] &= set(table.unknown[i] if table.unknown is not None else ())
    return _of_files(texts, found, table.label_names, unknown)


def _by_label(root: Path) -> TextTable:
    """Read texts whose labels are the folders that they lie in."""
    texts: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for class_folder in sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name)):
        for file in text_files(class_folder):
            name, text = file.relative_to(class_folder).as_posix(), read_text(file)
            if texts.setdefault(name, text) != text:
                raise ValueError(
                    f"{file} differs from the file {name} of another label. A text with several labels has the "
                    "same content everywhere; give different texts different names."
                )
            found.setdefault(name, set()).add(class_folder.name)
    if not texts:
        raise ValueError(f"{root} has no text files (*.txt) in folders named after labels.")
    astray = sum(file.suffix == ".txt" and not is_hidden(file.name) for file in root.iterdir() if file.is_file())
    if astray:
        warnings.warn(
            f"{astray} text files directly in {root} are left out, since no folder says their labels; list all files "
            "in a labels_file instead.",
            UserWarning,
            stacklevel=3,
        )
    return _of_files(texts, found, sorted({label for labels in found.values() for label in labels}), {})


def _of_files(
    texts: dict[str, str], found: dict[str, set[str]], label_names: list[str], unknown: dict[str, set[str]]
) -> TextTable:
    names = sorted(texts)
    return TextTable(
        [texts[name] for name in names],
        [sorted(found.get(name, ())) for name in names],
        label_names,
        ["file"],
        [{"file": name} for name in names],
        [sorted(unknown[name]) for name in names] if any(unknown.values()) else None,
    )


def _state_of(source: Any) -> Any:
    """Give size and time of a file, which change when it does."""
    if not isinstance(source, (str, os.PathLike)) or Path(source).is_dir():
        return None
    status = os.stat(source)
    return status.st_size, status.st_mtime_ns


def _as_list(names: Any) -> list[str]:
    listed = [] if names is None else [names] if isinstance(names, (str, int)) else list(names)
    return [str(name) for name in listed]


def _yes(cell: Any, where: str) -> bool | None:
    """Read a cell of 0 or 1; None if it is empty."""
    if is_blank(cell):
        return None
    value = str(cell).strip().lower()
    if value not in _YES and value not in _NO:
        raise ValueError(
            f"{where} holds {cell!r}; a label column holds 0 or 1. "
            "If it holds label names, pass it as the label column instead."
        )
    return value in _YES


def _names(cell: Any, delimiter: str, where: str) -> Iterator[str]:
    """Read a cell of label names."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        cell = _list_in(cell, where)
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)) or hasattr(cell, "to_list"):
        parts = list(cell)
    elif is_blank(cell):
        parts = []
    else:
        parts = cell.split(delimiter) if isinstance(cell, str) else [cell]
    for part in parts:
        if isinstance(part, (float, np.floating)) and float(part).is_integer():
            part = int(part)  # numbers in a column with blanks
        if not isinstance(part, (str, int, np.integer)) or isinstance(part, bool):
            raise ValueError(f"{where} holds the label {part!r} of type {type(part).__name__}; names are text.")
        if name := str(part).strip():
            yield name


def _list_in(cell: str, where: str) -> Any:
    """Read a list as JSON or as Python writes it; what only begins like one is given as it is."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = read(cell.strip())
            if isinstance(found, list):
                return found
    if set(cell) & set("\"',"):
        raise ValueError(f"{where} holds {cell[:80]!r}, which begins like a list but is none; write it as JSON.")
    return cell


def _warn_of_labels_that_occur_once(source: str, found: list[list[str]], label_names: Sequence[str]) -> None:
    counts = Counter(name for names in found for name in names)
    n_once = sum(count == 1 for count in counts.values())
    if len(label_names) > 20 and n_once > 0.9 * len(label_names):
        warnings.warn(
            f"{source}: {n_once} of {len(label_names)} labels occur once, such as {label_names[0][:40]!r}; is that the "
            "column of labels?",
            UserWarning,
            stacklevel=3,
        )


def _warn_of_other_delimiter(source: str, label_names: Sequence[str], delimiter: str) -> None:
    odd = next(((name, mark) for name in label_names for mark in ";|\t" if mark in name and mark != delimiter), None)
    if odd:
        warnings.warn(
            f"{source}: label {odd[0]!r} holds {odd[1]!r}; is that the delimiter, and not {delimiter!r}?",
            UserWarning,
            stacklevel=3,
        )


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
    with resources.as_file(resources.files("sk_ulmfit.datasets") / "data" / f"support_{part}.csv") as path:
        return load_table(path, text="text", label_column="labels")
