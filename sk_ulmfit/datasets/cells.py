"""Cells of a table: what is blank, which text a row has, and which labels a cell names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sk_ulmfit._messages import short
from sk_ulmfit.datasets.written_lists import UnreadableListError, parse_collection
from sk_ulmfit.labels import is_missing
from sk_ulmfit.text.tokenizer import join_fields

LARGEST_EXACT = 2**53  # beyond it, a float does not hold every integer
LOST_DIGITS = "a float of this size has lost digits of an id; read that column as text (dtype=str)."
_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


def is_blank(cell: Any) -> bool:
    """Tell whether a cell is None, NaN, ``pandas.NA``, or only white space."""
    return not cell.strip() if isinstance(cell, str) else is_missing(cell)


def text_of_row(row: dict[str, Any], columns: Sequence[str], where: str) -> str:
    """Return the text of a row: the cell of one column, or those of several joined as fields.

    A blank cell is an empty text. Raises ValueError, naming the row by `where`, if a cell is not text.
    """
    fields: list[str] = []
    for column in columns:
        cell = row.get(column)
        if not isinstance(cell, str) and not is_blank(cell):
            raise ValueError(
                f"{where}: column {short(column)} holds {short(cell)} of type {type(cell).__name__}, not text."
            )
        fields.append(cell if isinstance(cell, str) else "")
    return fields[0] if len(fields) == 1 else join_fields(fields)


def label_from_cell(cell: Any, where: str) -> bool | None:
    """Read a cell with 0 or 1: whether the row has the label, None if the cell is blank."""
    if is_blank(cell):
        return None
    value = str(cell).strip().lower()
    if value not in _YES and value not in _NO:
        raise ValueError(
            f"{where} holds {short(cell)}; expected 0 or 1 in a column of one label (blank: not annotated). "
            "If the column holds label names, pass it as label_column instead."
        )
    return value in _YES


def number_from_cell(cell: Any, where: str) -> float:
    """Read a cell with a number, NaN if it is blank."""
    if is_blank(cell):
        return np.nan
    try:
        number = float(cell.strip() if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        number = np.inf
    if not np.isfinite(number):
        raise ValueError(f"{where} holds {short(cell)}; expected a finite number, such as 3 or 0.5 (blank: unknown).")
    return number


def labels_from_cell(cell: Any, delimiter: str, where: str) -> tuple[list[Any] | set[Any], bool]:
    """Read a cell that is not blank: its labels, or its row of numbers, and whether the delimiter cut it.

    A cell is a list, tuple, set or array, the same as JSON, Python or NumPy write it, or text cut at the delimiter.
    """
    for name in ("as_py", "to_pylist", "to_list"):  # of pyarrow, pandas and polars
        if hasattr(cell, name):
            cell = getattr(cell, name)()
    if isinstance(cell, str):
        encloses = _encloses(delimiter, cell.strip())
        collection = None if encloses else _parsed(cell, where)
        if collection is not None:
            return collection, False
        parts = (cell.strip()[1:-1] if encloses else cell).split(delimiter)
        if len(parts) > 1 and any(_parsed(part, where) is not None for part in parts):
            raise ValueError(f"{where} holds {short(cell)}, several lists; write one list as JSON.")
        return {stripped for part in parts if (stripped := part.strip())}, True
    if isinstance(cell, (set, frozenset)):
        return {*cell}, False
    if isinstance(cell, (list, tuple)) or (isinstance(cell, np.ndarray) and cell.ndim == 1):
        return list(cell.tolist() if isinstance(cell, np.ndarray) else cell), False
    return {label_name(_number_as_id(cell, where), where)}, False


def label_name(label: Any, where: str) -> str:
    """Return a label as text; raise ValueError unless it is text or an integer."""
    if not isinstance(label, (str, int, np.integer)) or isinstance(label, bool):
        raise ValueError(
            f"{where} holds the label {short(label)} of type {type(label).__name__}; label names must be text or "
            "integers."
        )
    return str(label).strip()


def _number_as_id(cell: Any, where: str) -> Any:
    """Return a float that is whole as an integer: a column of integers with blanks is read as floats."""
    if not isinstance(cell, (float, np.floating)) or not float(cell).is_integer():
        return cell
    if abs(float(cell)) >= LARGEST_EXACT:
        raise ValueError(f"{where} holds {cell!s}, and {LOST_DIGITS}")
    return int(cell)


def _encloses(delimiter: str, cell: str) -> bool:
    """Tell whether a delimiter such as ``><`` closes one label and opens the next, as in ``<x><y>``."""
    brackets = delimiter[0] + delimiter[-1]
    is_pair = len(delimiter) > 1 and brackets in (")(", "][", "}{", "><", '""', "''", "»«", "”“")
    return is_pair and len(cell) > 1 and cell[0] == brackets[1] and cell[-1] == brackets[0]


def _parsed(cell: str, where: str) -> list[Any] | set[Any] | None:
    try:
        return parse_collection(cell)
    except UnreadableListError:
        raise ValueError(
            f"{where} holds {short(cell)}, which begins like a list but cannot be read as one; write it as "
            'JSON, such as ["joy", "love"].'
        ) from None
