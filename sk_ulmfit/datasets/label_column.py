"""The label cells of a whole column: all of them hold label names, or all of them rows of a matrix of 0 and 1.

As in y of ``fit``, a list of numbers is a row of a matrix, unless all are 2 or more; text, sets, and lists of str or of
int from 2 on hold labels. A column with both is refused, so that no cell is read by what the others are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.datasets.cells import LARGEST_EXACT, LOST_DIGITS, is_blank, label_name, labels_from_cell
from sk_ulmfit.datasets.tables import Row
from sk_ulmfit.labels import row_kind

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.0+)?")
_NUMBER = re.compile(r"-?\d+\.\d+|-?\d(\.\d+)?e\+\d+")
_ADVICE = (
    "A list of numbers is a row of 0 and 1 with one entry per label, as in fit, unless all are 2 or more. Write label "
    "numbers as text with a delimiter, such as 0;27, or as a set, such as {0, 27}."
)


class LabelColumn:
    """Label cells of one column, or of several with at most one name each, read row by row.

    Parameters
    ----------
    columns : sequence of str
        Names of the columns.
    delimiter : str
        Separator of the names in a cell of text.

    Attributes
    ----------
    rows : list of tuple
        Label names of each row, or its numbers; they are one object where they are equal.
    blanks : list of list of str
        Blank columns of each row.
    cut : set of str
        Labels from cells of text, which the delimiter has cut.
    """

    def __init__(self, columns: Sequence[str], delimiter: str):
        self.columns, self.delimiter = columns, delimiter
        self.rows: list[tuple[Any, ...]] = []
        self.blanks: list[list[str]] = []
        self.cut: set[str] = set()
        self._first: dict[str, str] = {}  # what the first cell of each kind is, for messages
        self._length: int | None = None  # of the rows of a matrix
        self._shared: dict[Any, Any] = {}

    def add(self, row: Row, where: str) -> None:
        """Read the label cells of a row."""
        entries: list[Any] = []
        blank: list[str] = []
        for column in self.columns:
            cell, place = row.get(column), f"{where}: column {short(column)}"
            if is_blank(cell):
                blank.append(column)
            else:
                entries += self._entries(cell, place)
        key = tuple(entries)
        self.rows.append(self._shared.setdefault(key, key))
        self.blanks.append(self._shared.setdefault((None, *blank), blank))

    def _entries(self, cell: Any, place: str) -> list[Any]:
        entries, is_cut = labels_from_cell(cell, self.delimiter, place)
        kind = row_kind(entries)
        holds = f"{place} holds {short(cell)}"
        self._first.setdefault(kind, holds)
        if kind == "both":
            raise ValueError(f"{holds}, names and numbers or missing values in one list. {_ADVICE}")
        if "labels" in self._first and "numbers" in self._first:
            first = self._first["numbers" if kind == "labels" else "labels"]
            raise ValueError(f"{holds}, but {first}. {_ADVICE}")
        if kind == "numbers":
            return self._numbers(list(entries), holds)
        names = [name for entry in entries if (name := label_name(entry, place))]
        if is_cut:
            self.cut.update(names)
        return sorted(set(names))

    def _numbers(self, entries: list[Any], holds: str) -> list[Any]:
        """Check a row of a matrix; None is an unknown entry."""
        if len(self.columns) > 1:
            raise ValueError(f"{holds}, a list of numbers, but several label columns hold one name each. {_ADVICE}")
        self._length = len(entries) if self._length is None else self._length
        numbers = [None if is_blank(entry) else entry for entry in entries]
        if len(numbers) != self._length or any(number not in (0, 1, None) for number in numbers):
            raise ValueError(f"{holds}, but a row of {self._length} entries, each 0 or 1, was expected. {_ADVICE}")
        return [number if number is None else int(number) for number in numbers]

    def finish(self, blank_is_unknown: bool) -> tuple[list[list[str]], list[str], list[list[str]]]:
        """Return the labels of each row, the label names, and the labels of each row that are unknown."""
        if "numbers" in self._first:
            return self._finish_matrix(blank_is_unknown)
        written = _whole_numbers({name for names in self.rows for name in names}, self.columns)
        self.cut = {written.get(name, name) for name in self.cut}
        lists = {names: sorted({written.get(name, name) for name in names}) for names in set(self.rows)}
        label_names = sorted({name for names in lists.values() for name in names})
        unknown = [label_names if blank_is_unknown and len(blank) == len(self.columns) else [] for blank in self.blanks]
        return [lists[names] for names in self.rows], label_names, unknown

    def _finish_matrix(self, blank_is_unknown: bool) -> tuple[list[list[str]], list[str], list[list[str]]]:
        if "empty" in self._first:
            raise ValueError(
                f"{self._first['empty']}, but {self._first['numbers']}; a row of {self._length} entries was expected."
            )
        label_names = [str(i) for i in range(self._length or 0)]
        marked: dict[Any, dict[tuple[Any, ...], list[str]]] = {
            value: {row: [label_names[i] for i, entry in enumerate(row) if entry == value] for row in set(self.rows)}
            for value in (1, None)
        }
        unknown = [
            label_names if blank and blank_is_unknown else marked[None][row]
            for row, blank in zip(self.rows, self.blanks, strict=True)
        ]
        return [marked[1][row] for row in self.rows], label_names, unknown


def _whole_numbers(names: set[str], columns: Sequence[str]) -> dict[str, str]:
    """Return how to write labels such as 12.0, which is 12 beside a blank; nothing if some numbers are fractions."""
    whole = {name for name in names if _WHOLE_NUMBER.fullmatch(name)}
    floats = {name for name in whole if "." in name}
    others = {name for name in names - whole if _NUMBER.fullmatch(name)}
    lost = [name for name in others if "e" in name] + [name for name in floats if abs(float(name)) >= LARGEST_EXACT]
    if lost and all("e" in name for name in others):
        raise ValueError(f"Column {short(columns[0])} holds the label {short(lost[0])}, and {LOST_DIGITS}")
    return {} if others else {name: name.split(".")[0] for name in floats}
