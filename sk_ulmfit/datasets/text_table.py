"""Texts and labels read from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.datasets.tables import Row
from sk_ulmfit.labels import NamedIndicator
from sk_ulmfit.text.streams import StreamedTexts

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Texts = TypeVar("Texts", bound=list[str] | StreamedTexts, default=list[str] | StreamedTexts, covariant=True)
    Labels = TypeVar("Labels", bound=list[list[str]] | None, default=list[list[str]] | None, covariant=True)
else:
    from typing import TypeVar  # before Python 3.13 it takes no default

    Texts, Labels = TypeVar("Texts", covariant=True), TypeVar("Labels", covariant=True)


@dataclass
class TextTable(Generic[Texts, Labels]):
    """Texts and labels read from a table.

    Parameters
    ----------
    texts : list of str, or StreamedTexts
        One text per row; several text columns are joined as fields.
    labels : list of list of str, or None
        Labels of each row; None if no label column was named.
    label_names : list of str
        Names of the label columns, or all labels that occur.
    columns : list of str
        All columns of the table.
    rows : list of dict
        All cells by column; empty if the texts are streamed.
    unknown : list of list of str, or None
        Labels that are unknown in each row; None if every label is known.
    n_blank : int
        Number of blank cells in columns of 0 and 1.
    """

    texts: Texts
    labels: Labels
    label_names: list[str]
    columns: list[str]
    rows: list[Row]
    unknown: list[list[str]] | None = None
    n_blank: int = 0

    def __repr__(self) -> str:
        labels = f", {len(self.label_names)} labels" if self.labels is not None else ""
        return f"TextTable of {len(self.texts)} texts{labels}"

    def indicator(self, label_names: Sequence[str] | None = None) -> NDArray[Any]:
        """Return the labels as a matrix, 1 where a row has a label and NaN where that is unknown.

        Parameters
        ----------
        label_names : sequence of str, default=None
            Columns of the matrix; other labels are left out. None means all labels of the table.

        Returns
        -------
        ndarray of shape (n, L)
            Indicator matrix of int64, or of float32 if some labels are unknown.
        """
        column = {name: i for i, name in enumerate(self.label_names if label_names is None else label_names)}
        return self._filled(column, np.int64 if self.unknown is None else np.float32)

    def named_indicator(self) -> NamedIndicator:
        """Return the labels as a float32 indicator matrix with the names of its columns."""
        column = {name: i for i, name in enumerate(self.label_names)}
        return NamedIndicator(self.label_names, self._filled(column, np.float32))

    def _filled(self, column: dict[str, int], dtype: Any) -> NDArray[Any]:
        y = np.zeros((len(self.texts), len(column)), dtype)
        marks: list[tuple[list[list[str]] | None, float]] = [(self.labels, 1), (self.unknown, np.nan)]
        for marked, value in marks:
            for i, labels in enumerate(marked or []):
                y[i, [column[label] for label in labels if label in column]] = value
        return y
