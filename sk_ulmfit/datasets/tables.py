"""Rows of tables, read one by one from files, folders and DataFrames."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from sk_ulmfit._files import (
    LONGEST_LINE,
    UnreadableFileError,
    as_path,
    json_objects,
    open_text,
    read_text,
    reading,
    whole_lines,
)
from sk_ulmfit._messages import short, short_names, short_text
from sk_ulmfit.labels import class_names_of, with_class_names

Row = dict[str, Any]
NumberedRow = tuple[str, Row]  # the place of the row, such as "line 3", and its cells by column

DELIMITED = {".csv": None, ".tsv": "\t"}  # None: what the header line has
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
COMPRESSED = (".gz", ".xz")
FOREIGN = {".xlsx", ".xls", ".ods", ".zip", ".bz2", ".zst", ".7z", ".rar", ".pkl", ".feather", ".docx", ".pdf"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how files of Excel and its like begin, whatever their names
_BATCH = 1_000  # rows of a Parquet file that are read at once
_FIRST_ROWS = 1_000  # of JSON lines, whose keys are the columns


@dataclass
class RowReader:
    """The rows of a table, read as they are iterated over; a cell that a row lacks is None.

    `name` is for messages; `separator` is what separates the cells of a text file.
    """

    name: str
    columns: list[str]
    rows: Iterator[NumberedRow]
    separator: str = ""

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise ValueError if a column is missing, or named twice."""
        if len(set(names)) < len(names):
            raise ValueError(f"Columns {short_names(names)}: each may be named only once.")
        for name in names:
            if name not in self.columns:
                alone = self.separator and len(self.columns) == 1
                hint = " Separate the cells by commas, semicolons or tabs." if alone else ""
                raise ValueError(
                    f"{self.name} has no column {short(name)}. Its columns are {short_names(self.columns)}.{hint}"
                )


def open_table(source: Any) -> RowReader:
    """Open a file, a folder or a DataFrame as a table; the first line of a file, or the DataFrame, names the columns.

    The name says what a file is: comma-separated (any other name), tab-separated (``.tsv``), JSON lines (``.jsonl``,
    ``.ndjson``, ``.json``) or Parquet (``.parquet``, ``.pq``). Text files must be UTF-8, and may be compressed with
    gzip or xz. Without a comma in the header, semicolons or tabs separate the cells. The columns of JSON lines are the
    keys of the first thousand rows. A folder has one row per text file, with the columns "file" and "text".

    Raises ValueError if the file cannot be read, is empty, or has two columns of the same name. An invalid row raises
    ValueError when it is read.
    """
    if not isinstance(source, (str, os.PathLike)):
        reader = _data_frame(source)
    else:
        path = as_path(source)
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"There is no file {path}.")
        suffix = file_type(path)
        if suffix in FOREIGN or path.suffix.lower() in FOREIGN or (path.is_file() and _is_workbook(path)):
            raise ValueError(
                f"{path} is no table that can be read; save it as .csv (in Excel: CSV UTF-8), .tsv, .jsonl or .parquet."
            )
        if path.is_dir():
            reader = RowReader(str(path), ["file", "text"], _text_files(path))
        elif suffix in PARQUET:
            reader = _parquet(path)
        elif suffix in JSON_LINES:
            reader = _json_lines(path)
        else:
            reader = _delimited(path, DELIMITED.get(suffix))
    twice = sorted(column for column, n in Counter(reader.columns).items() if n > 1)
    if twice:
        raise ValueError(f"{reader.name} has columns of the same name: {short(twice[0])}. Rename them.")
    if not reader.columns or not any(reader.columns):
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    return reader


def file_type(path: Path) -> str:
    """Return the suffix of a file without that of a compression: ".csv" for "mail.csv.gz"."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def _readable(path: Path, rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    """Yield rows, with every error of reading as one line that names the file."""
    with reading(path):
        yield from rows


def _is_workbook(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _WORKBOOKS


def _delimited(path: Path, separator: str | None) -> RowReader:
    """Open a file of separated cells; None finds the separator in the header line."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    with reading(path):
        separator = separator or _separator(path)
        lines = _RowLines(path, open_text(path))
        cells = csv.reader(lines, delimiter=separator, strict=True)
        try:
            columns = next(filter(None, cells), [])
        except csv.Error as error:
            raise ValueError(f"{path}, line {cells.line_num}: {short_text(error)}.") from None
    return RowReader(str(path), columns, _readable(path, _delimited_rows(lines, cells, columns)), separator)


def _separator(path: Path) -> str:
    """Return what separates the cells of the header line: a comma if it has one, else a semicolon or a tab."""
    with open_text(path) as file:
        header = file.readline(LONGEST_LINE)
    return next((mark for mark in ",;\t" if mark in header), ",")


class _RowLines:
    """The lines of a file for csv.reader; a row of more than `LONGEST_LINE` characters is refused while it is read."""

    def __init__(self, path: Path, file: IO[str]):
        self.path, self.file = path, file
        self.n_lines = self.n_characters = 0  # read so far: of the file, and of the row
        self.begin_row()

    def begin_row(self) -> None:
        """Count from here."""
        self.first_line, self.n_characters = self.n_lines + 1, 0

    def __iter__(self) -> _RowLines:
        return self

    def __next__(self) -> str:
        line = self.file.readline(LONGEST_LINE + 1)
        self.n_lines += 1
        self.n_characters += len(line)
        if self.n_characters > LONGEST_LINE:
            raise UnreadableFileError(
                f"{self.path}, the row that begins in line {self.first_line}: longer than {LONGEST_LINE:,} characters; "
                "is a double quote never closed?"
            )
        if not line:
            raise StopIteration
        return line


def _delimited_rows(lines: _RowLines, cells: Any, columns: list[str]) -> Iterator[NumberedRow]:
    path = lines.path
    lines.begin_row()
    with lines.file:
        try:
            for row in cells:
                lines.begin_row()
                if not row:
                    continue
                if len(row) != len(columns):
                    raise ValueError(
                        f"{path}, line {cells.line_num}: {len(row)} cells where the header has {len(columns)}; "
                        "put texts that hold commas into double quotes."
                    )
                yield f"line {cells.line_num}", dict(zip(columns, row, strict=True))
        except csv.Error as error:
            raise ValueError(
                f"{path}, the row that begins in line {lines.first_line}: {error}; is a double quote never closed?"
            ) from None


def _json_lines(path: Path) -> RowReader:
    rows = _readable(path, _json_rows(path))
    first = list(islice(rows, _FIRST_ROWS))
    columns = list(dict.fromkeys(key for _, row in first for key in row))
    return RowReader(str(path), columns, chain(first, rows))


def _json_rows(path: Path) -> Iterator[NumberedRow]:
    with open_text(path) as file:
        for number, row in json_objects(path, whole_lines(path, file)):
            yield f"line {number}", row


def _parquet(path: Path) -> RowReader:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            f"{path} is a Parquet file, which needs pyarrow; install it, or save the table as CSV."
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a Parquet file, or is damaged ({short_text(error)}).") from None

    def rows() -> Iterator[NumberedRow]:
        number = 0
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row

    return RowReader(str(path), list(file.schema_arrow.names), _readable(path, rows()))


def _data_frame(frame: Any) -> RowReader:
    if hasattr(frame, "column_names"):
        return _arrow_table(frame)
    is_polars = hasattr(frame, "iter_rows")
    if not is_polars and not hasattr(frame, "itertuples"):
        raise ValueError(
            f"A {type(frame).__name__} is neither a path nor a DataFrame of pandas or polars, nor a table of "
            "pyarrow; convert it to one (a LazyFrame by collect())."
        )
    columns = [str(column) for column in frame.columns]

    def rows() -> Iterator[NumberedRow]:
        cells = frame.iter_rows() if is_polars else frame.itertuples(index=False, name=None)
        for number, row in enumerate(cells, 1):
            yield f"row {number}", dict(zip(columns, row, strict=True))

    return RowReader("The DataFrame", columns, rows())


def _arrow_table(table: Any) -> RowReader:
    """Open a table of pyarrow, or a data set of Hugging Face with the names of its classes."""
    columns = [str(column) for column in table.column_names]

    def rows() -> Iterator[NumberedRow]:
        features = getattr(table, "features", None) or {}
        names = {column: class_names_of(features[column]) for column in columns if column in features}
        plain = (
            chain.from_iterable(batch.to_pylist() for batch in table.to_batches())
            if not features
            else table.with_format(None)
        )
        for number, row in enumerate(plain, 1):
            yield f"row {number}", {column: with_class_names(row[column], names.get(column)) for column in columns}

    return RowReader("The table", columns, rows())


def text_files(folder: Path) -> list[Path]:
    """Return the text files (``*.txt``) in a folder and its subfolders, sorted by path, without hidden ones."""
    files = (file for file in folder.rglob("*.txt") if file.is_file())
    return sorted(file for file in files if not any(map(is_hidden, file.relative_to(folder).parts)))


def is_hidden(name: str) -> bool:
    """Tell from its name whether a file or folder was not made by the user."""
    return name.startswith(".") or name == "__MACOSX"


def _text_files(folder: Path) -> Iterator[NumberedRow]:
    for file in text_files(folder):
        name = file.relative_to(folder).as_posix()
        yield name, {"file": name, "text": read_text(file)}
