"""Cells of a table: what is blank, which text a row has, and which labels a cell names."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from sk_ulmfit._messages import short
from sk_ulmfit.text.tokenizer import join_fields

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


def is_blank(cell: Any) -> bool:
    """Tell whether a cell is None, NaN, ``pandas.NA``, or only white space."""
    if isinstance(cell, str):
        return not cell.strip()
    is_nan = isinstance(cell, (float, np.floating)) and cell != cell
    return bool(cell is None or type(cell).__name__ in ("NAType", "NaTType") or is_nan)


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
            f"{where} holds {short(cell)}; expected 0 or 1 in a column of one label. "
            "If it holds label names, pass it as label_column instead."
        )
    return value in _YES


def label_names_from_cell(cell: Any, delimiter: str, where: str) -> Iterator[str]:
    """Read a cell with label names: a list, a list as JSON or Python writes it, or text cut at the delimiter."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        cell = _list_or_text(cell, where)
    if isinstance(cell, (list, tuple, set, frozenset, np.ndarray)) or hasattr(cell, "to_list"):
        names = list(cell)
    elif is_blank(cell):
        names = []
    else:
        names = cell.split(delimiter) if isinstance(cell, str) else [cell]
    for name in names:
        if isinstance(name, (float, np.floating)) and float(name).is_integer():
            name = int(name)  # a column of integers with blanks is read as floats
        if not isinstance(name, (str, int, np.integer)) or isinstance(name, bool):
            raise ValueError(
                f"{where} holds the label {short(name)} of type {type(name).__name__}; label names must be text "
                "or integers."
            )
        if stripped := str(name).strip():
            yield stripped


def _list_or_text(cell: str, where: str) -> Any:
    """Parse a list; return a cell that only starts with a bracket, such as ``[urgent]``, as it is."""
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            parsed = parse(cell.strip())
            if isinstance(parsed, list):
                return parsed
    if set(cell) & set("\"',"):
        raise ValueError(f"{where} holds {short(cell)}, which begins like a list but is none; write it as JSON.")
    return cell
