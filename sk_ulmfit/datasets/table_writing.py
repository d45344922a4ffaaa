"""Tables written to CSV, TSV and JSON-lines files."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import lzma
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short
from sk_ulmfit.datasets.tables import DELIMITED, FOREIGN, JSON_LINES, PARQUET, Row, file_type, separator_of_header

TextOut = codecs.StreamWriter


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ValueError if `write_table` does not write this type of file."""
    suffixes = {file_type(Path(path)), Path(path).suffix.lower()}
    if suffixes & {*PARQUET, *FOREIGN}:
        raise ValueError(
            f"{path} cannot be written, since its type is not supported; choose .csv, .tsv or .jsonl, or one "
            "of these with .gz or .xz."
        )


def write_table(
    path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Row], *, separator: str = ","
) -> None:
    """Write a CSV, TSV or JSON-lines file, completely or not at all.

    Parameters
    ----------
    path : path-like
        File to write: comma-separated, tab-separated (``.tsv``) or JSON lines (``.jsonl``); compressed if ``.gz`` or
        ``.xz`` follows.
    columns : sequence of str
        Names of the columns.
    rows : iterable of dict
        Cells by column. Lists are written as JSON, lone surrogates as question marks.
    separator : str, default=","
        Comma, semicolon or tab, which separates the cells of a CSV file. If a column has a comma in its name, a comma
        is taken, since `load_table` would find it in the header line.

    Raises
    ------
    ValueError
        If the type of file is not supported, or a row has a cell in none of the columns.
    """
    check_writable(path)
    path = Path(path)
    suffix = file_type(path)
    with atomic_write(path) as file, _compressing(file, path) as stream:
        out = codecs.getwriter("utf-8")(stream, "replace")
        if suffix in JSON_LINES:
            _write_json_lines(out, columns, rows)
        else:
            _write_delimited(out, columns, rows, DELIMITED.get(suffix) or _readable(separator, columns), path)


def _readable(separator: str, columns: Sequence[str]) -> str:
    """Return the separator if `open_table` will find it in the header line, else a comma."""
    return separator if separator_of_header(separator.join([*columns, ""])) == separator else ","


@contextmanager
def _compressing(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """Compress what is written to `file` if the name of `path` says so."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        with gzip.GzipFile(path.stem, "wb", fileobj=file) as stream:
            yield cast(IO[bytes], stream)
    elif suffix == ".xz":
        with lzma.LZMAFile(file, "wb") as stream:
            yield stream
    else:
        yield file


def _write_json_lines(out: TextOut, columns: Sequence[str], rows: Iterable[Row]) -> None:
    for row in rows:
        cells = {column: _json_cell(cell) for column, cell in (dict.fromkeys(columns) | row).items()}
        out.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")


def _write_delimited(out: TextOut, columns: Sequence[str], rows: Iterable[Row], separator: str, path: Path) -> None:
    dialect: Any = {"delimiter": separator, "lineterminator": "\n"}
    writer = csv.DictWriter(out, columns, **dialect)
    quoting_writer = csv.DictWriter(out, columns, **dialect, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for row in rows:
        if more := row.keys() - set(columns):
            raise ValueError(
                f"{path}: a row has {short(min(more))}, which is not one of the columns; write to a .jsonl file, "
                "or give all rows the same columns."
            )
        cells = {column: _text_cell(cell) for column, cell in row.items()}
        holds_return = any(isinstance(cell, str) and "\r" in cell for cell in cells.values())
        (quoting_writer if holds_return else writer).writerow(cells)


def _text_cell(cell: Any) -> Any:
    cell = _json_cell(cell)
    return json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, (list, dict)) else cell


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, (np.ndarray, np.generic)):
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return [_json_cell(item) for item in cell]
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
