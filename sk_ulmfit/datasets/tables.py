"""Rows of tables, read one by one from files, folders and DataFrames."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from sk_ulmfit._files import (
    LONGEST_LINE,
    UnreadableFileError,
    as_path,
    check_encoding,
    check_exists,
    json_objects,
    open_text,
    read_text,
    reading,
    whole_lines,
)
from sk_ulmfit._json_arrays import begins_with_bracket, json_array
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
_FIRST_ROWS = 1_000  # of JSON, whose keys are the columns
_NUMBER, _MARKS = re.compile(r"[-+]?\d+(?:[.,]\d+)?"), re.compile("[;,|]")


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
                hint = _header_hint(self) or hint
                raise ValueError(
                    f"{self.name} has no column {short(name)}. Its columns are {short_names(self.columns)}.{hint}"
                )


def open_table(source: Any, encoding: str | None = None) -> RowReader:
    """Open a file, a folder or a DataFrame as a table; the first line of a file, or the DataFrame, names the columns.

    The name says what a file is: comma-separated (any other name), tab-separated (``.tsv``), JSON lines (``.jsonl``,
    ``.ndjson``, ``.json``; also one array of objects) or Parquet (``.parquet``, ``.pq``). Text files are UTF-8 unless
    `encoding` or a byte order mark says otherwise, and may be compressed with gzip or xz. Without a comma in the
    header, semicolons or tabs separate the cells. The columns of JSON are the keys of the first thousand rows. A folder
    has one row per text file, with the columns "file" and "text".

    Raises ValueError if the file cannot be read, is empty, or has two columns of the same name. An invalid row raises
    ValueError when it is read.
    """
    check_encoding(encoding)
    if not isinstance(source, (str, os.PathLike)):
        reader = _data_frame(source)
    else:
        path = as_path(source)
        check_exists(path)
        suffix = file_type(path)
        if suffix in FOREIGN or path.suffix.lower() in FOREIGN or (path.is_file() and _is_workbook(path)):
            raise ValueError(
                f"{path} is not a table of a known type; save it as .csv (in Excel: CSV UTF-8), .tsv, .jsonl or "
                ".parquet."
            )
        if path.is_dir():
            reader = RowReader(str(path), ["file", "text"], _text_files(path, encoding))
        elif suffix in PARQUET:
            reader = _parquet(path)
        elif suffix in JSON_LINES:
            reader = _json(path, encoding)
        else:
            reader = _delimited(path, DELIMITED.get(suffix), encoding)
    twice = sorted(column for column, n in Counter(reader.columns).items() if n > 1)
    if twice:
        raise ValueError(
            f"{reader.name} has columns of the same name: {short(twice[0])}. Rename them.{_header_hint(reader)}"
        )
    if not reader.columns or not any(reader.columns):
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    return reader


def _header_hint(reader: RowReader) -> str:
    """Return what to do if the first line of a text file reads like a row: a text, a number or a label."""
    if not reader.separator:
        return ""
    seen: dict[str, set[str]] = {column: set() for column in reader.columns}
    with suppress(ValueError):
        for _, row in islice(reader.rows, _FIRST_ROWS):
            for column, cell in row.items():
                seen[column].update({cell.strip(), *map(str.strip, _MARKS.split(cell))})
    if not any(_is_text_or_number(column) or column.strip() in seen[column] for column in reader.columns if column):
        return ""
    return " The first line reads like a row, not like a header; put a line with the names of the columns above it."


def _is_text_or_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.strip())) or len(cell.split()) > 5 or cell.rstrip().endswith((".", "!", "?"))


def file_type(path: Path) -> str:
    """Return the suffix of a file without that of a compression: ".csv" for "mail.csv.gz"."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def _readable(path: Path, rows: Iterator[NumberedRow], encoding: str | None = None) -> Iterator[NumberedRow]:
    """Yield rows, with every error of reading as one line that names the file."""
    with reading(path, encoding):
        yield from rows


def _is_workbook(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _WORKBOOKS


def _delimited(path: Path, separator: str | None, encoding: str | None) -> RowReader:
    """Open a file of separated cells; None finds the separator in the header line."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    with reading(path, encoding):
        separator = separator or _separator(path, encoding)
        lines = _RowLines(path, open_text(path, encoding=encoding))
        cells = csv.reader(lines, delimiter=separator, strict=True)
        try:
            columns = next(filter(None, cells), [])
        except csv.Error as error:
            raise ValueError(f"{path}, line {cells.line_num}: {short_text(error)}.") from None
    return RowReader(str(path), columns, _readable(path, _delimited_rows(lines, cells, columns), encoding), separator)


def _separator(path: Path, encoding: str | None) -> str:
    with open_text(path, encoding=encoding) as file:
        header = file.readline(LONGEST_LINE)
    return separator_of_header(header)


def separator_of_header(header: str) -> str:
    """Return what separates the cells of a header line: a comma if it has one, else a semicolon or a tab."""
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
                        "put double quotes around texts that contain commas."
                    )
                yield f"line {cells.line_num}", dict(zip(columns, row, strict=True))
        except csv.Error as error:
            raise ValueError(
                f"{path}, the row that begins in line {lines.first_line}: {error}; is a double quote never closed?"
            ) from None


def _json(path: Path, encoding: str | None) -> RowReader:
    rows = _readable(path, _json_rows(path, encoding), encoding)
    first = list(islice(rows, _FIRST_ROWS))
    columns = list(dict.fromkeys(key for _, row in first for key in row))
    return RowReader(str(path), columns, chain(first, rows))


def _json_rows(path: Path, encoding: str | None) -> Iterator[NumberedRow]:
    with open_text(path, encoding=encoding) as file:
        is_array = begins_with_bracket(file)
    with open_text(path, encoding=encoding) as file:
        if is_array:
            yield from ((f"object {number}", row) for number, row in json_array(path, file))
            return
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
            "pyarrow; convert it to one of these (a LazyFrame with collect())."
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


def text_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files in a folder and its subfolders, without hidden ones, sorted by path: texts, then all others.

    Texts are files that end in ``.txt``, in any case, or have no suffix.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    files = [file for file in files if not any(map(is_hidden, file.relative_to(folder).parts))]
    texts = [file for file in files if is_text_file(file)]
    return texts, [file for file in files if not is_text_file(file)]


def is_text_file(file: Path) -> bool:
    """Tell from its name whether a file is a text."""
    return file.suffix.lower() in ("", ".txt")


def warn_of_files_left_out(folder: Path, files: Sequence[Path], without_texts: Sequence[str] = ()) -> None:
    """Warn of files that are no texts, and of the subfolders that have no texts."""
    parts = []
    if files:
        parts.append(
            f"{len(files)} file{'s are' if len(files) > 1 else ' is'} left out, such as {short(files[0].name)}"
        )
    if without_texts:
        parts.append(f"the labels {short_names(without_texts)} have no texts")
    if parts:
        warnings.warn(
            f"{folder}: {'; '.join(parts)}. Texts are files that end in .txt or have no suffix.",
            UserWarning,
            stacklevel=4,
        )


def is_hidden(name: str) -> bool:
    """Tell from its name whether a file or folder was not made by the user."""
    return name.startswith(".") or name == "__MACOSX"


def _text_files(folder: Path, encoding: str | None) -> Iterator[NumberedRow]:
    files, others = text_files(folder)
    warn_of_files_left_out(folder, others)
    for file in files:
        name = file.relative_to(folder).as_posix()
        yield name, {"file": name, "text": read_text(file, encoding)}
