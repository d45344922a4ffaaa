"""Texts and labels from tables and folders, and the small data set that comes with the package."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, get_args, overload

from sk_ulmfit._choices import Blank
from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_choice
from sk_ulmfit.datasets.cells import label_from_cell, text_of_row
from sk_ulmfit.datasets.delimiters import warn_of_other_delimiter
from sk_ulmfit.datasets.label_column import LabelColumn
from sk_ulmfit.datasets.tables import (
    Row,
    RowReader,
    open_table,
)
from sk_ulmfit.datasets.text_table import TextTable
from sk_ulmfit.labels import warn_similar
from sk_ulmfit.text.streams import StreamedTexts

BLANKS = get_args(Blank)

Columns: TypeAlias = str | Sequence[str]
LabelLists: TypeAlias = list[list[str]]


class _Cells(TypedDict, total=False):
    """How the cells of a table are read."""

    delimiter: str
    blank: Blank
    encoding: str | None


@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: Columns,
    label_column: None = ...,
    stream: Literal[False] = ...,
    **how: Unpack[_Cells],
) -> TextTable[list[str], LabelLists]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: None = ...,
    label_column: Columns,
    stream: Literal[False] = ...,
    **how: Unpack[_Cells],
) -> TextTable[list[str], LabelLists]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: None = ...,
    label_column: None = ...,
    stream: Literal[False] = ...,
    **how: Unpack[_Cells],
) -> TextTable[list[str], None]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: Columns,
    label_column: None = ...,
    stream: Literal[True],
    **how: Unpack[_Cells],
) -> TextTable[StreamedTexts, LabelLists]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: None = ...,
    label_column: Columns,
    stream: Literal[True],
    **how: Unpack[_Cells],
) -> TextTable[StreamedTexts, LabelLists]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: None = ...,
    label_column: None = ...,
    stream: Literal[True],
    **how: Unpack[_Cells],
) -> TextTable[StreamedTexts, None]: ...
@overload
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: Columns | None = ...,
    label_column: Columns | None = ...,
    stream: bool = ...,
    **how: Unpack[_Cells],
) -> TextTable: ...
def load_table(
    source: Any,
    *,
    text: Columns,
    labels: Columns | None = None,
    label_column: Columns | None = None,
    delimiter: str = ";",
    blank: Blank = "absent",
    stream: bool = False,
    encoding: str | None = None,
) -> TextTable:
    """Read texts and labels from a table.

    Parameters
    ----------
    source : path-like or DataFrame
        A file with a header line, its cells separated by commas (by semicolons or tabs if that line has no comma), or
        by tabs (``.tsv``); JSON (``.jsonl``, one object per line; ``.json``, also one array of objects); Parquet
        (``.parquet``); or a DataFrame of pandas or polars, a Table of pyarrow, or a Dataset of Hugging Face. Text files
        may be compressed with gzip or xz. A blank cell is an empty text.
    text : str or sequence of str
        Columns with the text. Several are joined as fields in this order; keep the order for prediction.
    labels : str or sequence of str, default=None
        Columns with 0 or 1 (or true and false, yes and no), one per label.
    label_column : str or sequence of str, default=None
        In place of `labels`: the column with the label names of a row, separated by `delimiter` or as a list (in text
        files as JSON, Python or NumPy write it), or with a list of 0 and 1 per row; or several columns with at most one
        name each.
    delimiter : str, default=";"
        Separator of the names in `label_column`.
    blank : {"absent", "unknown"}, default="absent"
        Meaning of a blank label cell: the row does not have the label, or it is unknown whether it has it. With
        `label_column`, all labels of a row are unknown if all its label cells are blank.
    stream : bool, default=False
        Whether to keep only the labels in memory. `texts` are then read from `source` whenever they are iterated over,
        a few times in ``fit`` and ``predict``. For files larger than memory.

    encoding : str, default=None
        Encoding of a text file, such as "cp1252". None is UTF-8, or UTF-16 or UTF-32 if the file begins with a byte
        order mark.

    Raises
    ------
    ValueError
        If the table cannot be read, a column is missing, or a cell is invalid; the message names the line.

    Warns
    -----
    UserWarning
        If labels consist of other labels, with the delimiter to pass; or look alike.

    Examples
    --------
    >>> import pandas as pd
    >>> from sk_ulmfit.datasets import load_table
    >>> labels = {"Label 1": ["late", None], "Label 2": ["lost", None]}
    >>> frame = pd.DataFrame({"body": ["Where is it?", "Hello"], **labels})
    >>> load_table(frame, text="body", label_column=["Label 1", "Label 2"]).labels
    [['late', 'lost'], []]
    """
    check_choice("blank", blank, BLANKS)
    columns = _Columns(_as_list(text), _as_list(labels), _as_list(label_column), delimiter)
    columns.check()
    table = open_table(source, encoding)
    version = _file_version(source) if stream else None
    for names in (columns.text, columns.labels, columns.label_names):
        table.check_columns(names)
    texts, rows, cells = _read_rows(table, columns, stream)
    row_labels, label_names, unknown = cells.finish(blank == "unknown")
    if isinstance(cells, LabelColumn) and columns.label_names:
        warn_of_other_delimiter(table.name, cells.cut, delimiter)
        _warn_of_labels_that_occur_once(table.name, row_labels, label_names)
        warn_similar(label_names)
    if not stream:
        row_labels = [list(names) for names in row_labels]  # no two rows share a list that a caller may change
    streamed = StreamedTexts(
        lambda: _texts_again(source, version, table.name, columns.text, encoding), len(cells.blanks)
    )
    return TextTable(
        streamed if stream else texts,
        row_labels if columns.labels or columns.label_names else None,
        label_names,
        table.columns,
        rows,
        unknown if any(unknown) else None,
        sum(map(len, cells.blanks)) if columns.labels else 0,
    )


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what: the text, labels as 0 and 1, or label names separated by `delimiter`."""

    text: list[str]
    labels: list[str]
    label_names: list[str]
    delimiter: str

    def check(self) -> None:
        """Raise ValueError if the columns contradict each other."""
        if self.labels and self.label_names:
            raise ValueError("Pass labels or label_column, not both.")
        if both := sorted({*self.text} & {*self.labels, *self.label_names}):
            raise ValueError(
                f"Column {short(both[0])} cannot be both a text and a label; name another column for one of them."
            )
        if self.label_names and not self.delimiter:
            raise ValueError("delimiter must not be empty; pass what separates the labels, such as ';'.")
        if not self.text:
            raise ValueError("text must name at least one column.")

    def label_cells(self) -> LabelColumn | _LabelColumns:
        """Return what reads the label cells of each row."""
        return _LabelColumns(self.labels) if self.labels else LabelColumn(self.label_names, self.delimiter)


class _LabelColumns:
    """Cells of 0 and 1 in one column per label, read row by row; as `LabelColumn`."""

    def __init__(self, columns: list[str]):
        self.columns = columns
        self.rows: list[list[str]] = []
        self.blanks: list[list[str]] = []
        self._shared: dict[tuple[str, ...], list[str]] = {}  # equal lists are one object

    def add(self, row: Row, where: str) -> None:
        has = {name: label_from_cell(row.get(name), f"{where}: column {short(name)}") for name in self.columns}
        for value, lists in ((True, self.rows), (None, self.blanks)):
            names = [name for name in has if has[name] is value]
            lists.append(self._shared.setdefault(tuple(names), names))

    def finish(self, blank_is_unknown: bool) -> tuple[list[list[str]], list[str], list[list[str]]]:
        return self.rows, self.columns, self.blanks if blank_is_unknown else []


def _read_rows(
    table: RowReader, columns: _Columns, stream: bool
) -> tuple[list[str], list[Row], LabelColumn | _LabelColumns]:
    """Return texts and rows, both empty when streaming, and the label cells."""
    texts: list[str] = []
    rows: list[Row] = []
    cells = columns.label_cells()
    for place, row in table.rows:
        where = f"{table.name}, {place}"
        text = text_of_row(row, columns.text, where)
        if not stream:
            texts.append(text)
            rows.append(row)
        cells.add(row, where)
    if not cells.blanks:
        raise ValueError(f"{table.name} has no rows; a header line and at least one row were expected.")
    return texts, rows, cells


def _texts_again(source: Any, version: Any, name: str, columns: Sequence[str], encoding: str | None) -> Iterator[str]:
    """Return the texts of a table that has been read before; raise ValueError if its file has changed."""
    if _file_version(source) != version:
        raise ValueError(
            f"{name} has changed since it was opened, so its labels may no longer fit its texts; load it again."
        )
    table = open_table(source, encoding)
    return (text_of_row(row, columns, f"{table.name}, {place}") for place, row in table.rows)


def _file_version(source: Any) -> Any:
    """Return size and time of change of a file; None for a folder or a DataFrame."""
    if not isinstance(source, (str, os.PathLike)) or os.path.isdir(source):
        return None
    status = os.stat(source)
    return status.st_size, status.st_mtime_ns


def _as_list(names: Any) -> list[str]:
    listed = [] if names is None else [names] if isinstance(names, (str, int)) else list(names)
    return [str(name) for name in listed]


def _warn_of_labels_that_occur_once(source: str, row_labels: list[list[str]], label_names: Sequence[str]) -> None:
    counts = Counter(name for names in row_labels for name in names)
    n_once = sum(count == 1 for count in counts.values())
    if len(label_names) > 20 and n_once > 0.9 * len(label_names):
        warnings.warn(
            f"{source}: {n_once} of {len(label_names)} labels occur once, such as {short(label_names[0])}; is that the "
            "column of labels?",
            UserWarning,
            stacklevel=3,
        )


def load_support_messages(part: Literal["train", "test"] = "train") -> TextTable[list[str], list[list[str]]]:
    """Load the customer-support messages that come with the package.

    Short messages to the support of a fictitious maker of smart lamps, written for this project: 480 for training, 180
    for testing. Each has 1.5 of eight labels on average: account, billing, cancellation, complaint, delivery, product,
    refund, technical.

    Parameters
    ----------
    part : {"train", "test"}, default="train"
        Part of the data to load.

    Examples
    --------
    >>> from sk_ulmfit.datasets import load_support_messages
    >>> messages = load_support_messages()
    >>> len(messages.texts), len(messages.label_names)
    (480, 8)
    """
    if part not in ("train", "test"):
        raise ValueError(f"part must be 'train' or 'test', got {short(part)}.")
    with resources.as_file(resources.files("sk_ulmfit.datasets") / "data" / f"support_{part}.csv") as path:
        return load_table(path, text="text", label_column="labels")
