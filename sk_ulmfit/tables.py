"""Rows of tables, from files and data frames, one by one."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

Row = dict[str, Any]

DELIMITED = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open}
_BATCH = 1_000  # rows of a Parquet file that are read at once


@dataclass
class RowReader:
    """The rows of a table, read when they are asked for.

    Parameters
    ----------
    name : str
        What to call the table in messages.
    columns : list of str
        Names of its columns.
    rows : iterator of (str, dict)
        Where each row stands, for messages, and its cells by column. A column that a row lacks is None.
    """

    name: str
    columns: list[str]
    rows: Iterator[tuple[str, Row]]


def open_table(source: Any) -> RowReader:
    """Open a table.

    Parameters
    ----------
    source : path-like or DataFrame
        A file of comma- (``.csv``) or tab-separated cells (``.tsv``) with a header line, JSON lines (``.jsonl``,
        ``.ndjson``, ``.json``: one object a line), each UTF-8 and plain or compressed (``.gz``, ``.xz``), or Parquet
        (``.parquet``); any other name is read as comma-separated. Or a DataFrame of pandas or polars.

    Returns
    -------
    RowReader
        Its columns and rows. Of JSON lines, the columns are the keys of the first one.

    Raises
    ------
    ValueError
        If the file cannot be read, is empty, or has columns of the same name. What is wrong with a row is raised when
        that row is read.
    """
    if hasattr(source, "columns") and not isinstance(source, (str, os.PathLike)):
        reader = _data_frame(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise ValueError(f"There is no file {path}.")
        suffix = _suffix(path)
        if suffix in PARQUET:
            reader = _parquet(path)
        elif suffix in JSON_LINES:
            reader = _json_lines(path)
        else:
            reader = _delimited(path, DELIMITED.get(suffix, ","))
    twice = sorted({column for column in reader.columns if reader.columns.count(column) > 1})
    if twice:
        raise ValueError(f"{reader.name} has columns of the same name: {twice[0]!r}. Rename them.")
    if not reader.columns:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    return reader


def is_blank(cell: Any) -> bool:
    """Tell whether a cell is empty: None, NaN, ``pandas.NA``, or nothing but white space."""
    if isinstance(cell, str):
        return not cell.strip()
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def write_table(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV, TSV or JSON-lines file, completely or not at all.

    Parameters
    ----------
    path : path-like
        File to write; tab-separated if it ends in ``.tsv``, JSON lines if in ``.jsonl``, compressed if in ``.gz`` or
        ``.xz`` behind that.
    columns : sequence of str
        Header.
    rows : iterable of dict
        Cells by column, taken one by one.
    """
    path = Path(path)
    suffix = _suffix(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    opener: Any = COMPRESSED.get(path.suffix, open)
    try:
        with opener(temporary, "wt", encoding="utf-8", newline="") as file:
            if suffix in JSON_LINES:
                for row in rows:
                    file.write(
                        json.dumps({column: _json_cell(row.get(column)) for column in columns}, ensure_ascii=False)
                    )
                    file.write("\n")
            else:
                separator = DELIMITED.get(suffix, ",")
                writer = csv.DictWriter(file, columns, delimiter=separator, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _suffix(path: Path) -> str:
    """Give what the file is, whatever compresses it."""
    name = path.with_suffix("") if path.suffix in COMPRESSED else path
    return name.suffix.lower()


def _lines(path: Path) -> IO[str]:
    opener: Any = COMPRESSED.get(path.suffix, open)
    return TextIOWrapper(cast(Any, opener(path, "rb")), encoding="utf-8-sig", newline="")


def _explained(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Pass rows on, and say in one line what is wrong with the file."""
    try:
        yield from rows
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except (EOFError, OSError, lzma.LZMAError) as error:
        raise ValueError(f"{path} cannot be read ({error}); it may be damaged or cut off.") from None


def _delimited(path: Path, separator: str) -> RowReader:
    csv.field_size_limit(2**31 - 1)
    file = _lines(path)
    reader = csv.reader(file, delimiter=separator, strict=True)

    def header() -> Iterator[tuple[str, Row]]:
        yield "", {"columns": next(reader, [])}

    try:
        columns = next(_explained(path, header()))[1]["columns"]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from None

    def rows() -> Iterator[tuple[str, Row]]:
        with file:
            try:
                for cells in reader:
                    if not cells:
                        continue
                    if len(cells) != len(columns):
                        raise ValueError(
                            f"{path}, line {reader.line_num}: {len(cells)} cells where the header has {len(columns)}; "
                            "put texts that hold commas into double quotes."
                        )
                    yield f"line {reader.line_num}", dict(zip(columns, cells, strict=True))
            except csv.Error as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}.") from None

    return RowReader(str(path), columns, _explained(path, rows()))


def _json_lines(path: Path) -> RowReader:
    def rows() -> Iterator[tuple[str, Row]]:
        with _lines(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(
                        f"{path}, line {number}: not JSON ({error}); one object a line is expected."
                    ) from None
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path}, line {number}: a {type(row).__name__}, where one object a line is expected."
                    )
                yield f"line {number}", row

    found = _explained(path, rows())
    first = next(found, None)
    if first is None:
        return RowReader(str(path), [], iter(()))

    def all_rows() -> Iterator[tuple[str, Row]]:
        yield first
        yield from found

    return RowReader(str(path), list(first[1]), all_rows())


def _parquet(path: Path) -> RowReader:
    try:
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            f"{path} is Parquet, for which pyarrow is needed; install it, or save the table as CSV."
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a Parquet file, or a damaged one ({error}).") from None

    def rows() -> Iterator[tuple[str, Row]]:
        number = 0
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row

    return RowReader(str(path), list(file.schema_arrow.names), _explained(path, rows()))


def _data_frame(frame: Any) -> RowReader:
    columns = [str(column) for column in frame.columns]

    def rows() -> Iterator[tuple[str, Row]]:
        is_polars = hasattr(frame, "iter_rows")
        cells = frame.iter_rows() if is_polars else frame.itertuples(index=False, name=None)
        for number, row in enumerate(cells, 1):
            yield f"row {number}", dict(zip(columns, row, strict=True))

    return RowReader("The DataFrame", columns, rows())


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    return cell.item() if isinstance(cell, np.generic) else cell
