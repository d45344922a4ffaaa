"""Every form in which people have multi-label targets, turned into one indicator matrix."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_HINT = (
    "Pass an indicator matrix of 0 and 1 (NaN: not annotated) with one column per label, or one list of labels per text; "
    "sklearn.preprocessing.MultiLabelBinarizer turns lists of labels into such a matrix."
)


def check_labels(y: Any) -> tuple[NDArray[np.float32], list[Any]]:
    """Turn targets into an indicator matrix and label names.

    Parameters
    ----------
    y : array-like of shape (n, L), DataFrame, sparse matrix, or sequence of label lists or sets
        Integer, bool or float 0/1; or, for each text, the labels it has. A list of equally long lists
        of 0 and 1 is read as a matrix. An entry of a matrix that is NaN, None, ``pandas.NA`` or masked is not annotated.

    Returns
    -------
    indicator : ndarray of float32, shape (n, L)
        1 where the label is present, NaN where that is unknown.
    names : list
        Column names of a DataFrame, sorted labels of label lists, else 0 to L - 1.

    Raises
    ------
    ValueError
        If `y` is one-dimensional, holds anything but 0, 1 and unknown entries, or has no label.

    Examples
    --------
    >>> from sk_ulmfit.labels import check_labels
    >>> indicator, names = check_labels([["late", "broken"], [], {"late"}])
    >>> names, indicator.astype(int).tolist()
    (['broken', 'late'], [[1, 1], [0, 0], [0, 1]])
    """
    if y is None:
        raise ValueError(f"This estimator requires y to be passed, but the target y is None. {_HINT}")
    if isinstance(y, (str, bytes, dict)):
        raise ValueError(f"y must be a matrix or a sequence of label lists, got a {type(y).__name__}. {_HINT}")
    names: list[Any] | None = None
    if hasattr(y, "columns") and hasattr(y, "to_numpy"):
        names = [name if isinstance(name, (str, int)) else str(name) for name in y.columns]
        y = y.to_numpy()
    elif sparse.issparse(y):
        y = y.toarray()
    elif getattr(getattr(y, "dtype", None), "kind", "O") == "O":
        rows = label_lists(y)
        if rows is not None:
            return _binarize(rows)
        y = _as_array(y)
    if np.ma.isMaskedArray(y) and y.dtype.kind in "biuf":
        y = y.astype(np.float64).filled(np.nan)
    indicator = _check_indicator(np.asarray(y))
    if names is None:
        names = list(range(indicator.shape[1]))
    if len(set(names)) < len(names):
        raise ValueError(f"Label names must be distinct, got {names}. Rename the columns of y.")
    return indicator, names


def warn_constant(indicator: NDArray[np.float32], names: list[Any]) -> None:
    """Warn about labels of which nothing can be learned: every text has them, none has, or no text is annotated.

    Parameters
    ----------
    indicator : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    names : list of length L
        Label names.

    Raises
    ------
    ValueError
        If no entry at all is known.
    """
    has, lacks = (indicator == 1).any(0), (indicator == 0).any(0)
    if not (has | lacks).any():
        raise ValueError(f"y has {len(indicator)} rows, and all their entries are unknown (NaN). {_HINT}")
    constant, unknown = np.flatnonzero(has != lacks), np.flatnonzero(~(has | lacks))
    if len(constant):
        shown = _some([f"{names[i]!r} (always {int(has[i])})" for i in constant])
        warnings.warn(
            f"{len(constant)} of {len(names)} labels are the same for all {len(indicator)} training texts: {shown}. "
            "Their base rate is predicted; drop them or add texts that differ.",
            UserWarning,
            stacklevel=3,
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(names)} labels are annotated on none of the {len(indicator)} training texts: "
            f"{_some([repr(names[i]) for i in unknown])}. The mean rate of the others is predicted; drop them or "
            "annotate some texts.",
            UserWarning,
            stacklevel=3,
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def label_lists(y: Any) -> list[Any] | None:
    """Give targets that are one collection of labels per text as a list; None if they are a matrix.

    Parameters
    ----------
    y : object
        Targets.

    Returns
    -------
    list of list, tuple, set or ndarray, or None
        The labels of each text, unless all are equally long rows of numbers.
    """
    if hasattr(y, "to_list") and not hasattr(y, "columns"):
        y = y.to_list()  # a Series of pandas or polars
    if getattr(y, "ndim", 1) != 1:
        return None
    try:
        rows = list(y)
    except TypeError:
        return None
    if not rows or not all(isinstance(row, (list, tuple, set, frozenset, np.ndarray)) for row in rows):
        return None
    if any(isinstance(row, (set, frozenset)) for row in rows):
        return rows
    if any(row.ndim != 1 for row in rows if isinstance(row, np.ndarray)):
        return None
    is_matrix = len({len(row) for row in rows}) == 1 and all(
        item is None or isinstance(item, (bool, int, float, np.bool_, np.number)) for row in rows for item in row
    )
    return None if is_matrix and len(rows[0]) else rows


def _binarize(rows: list[Any]) -> tuple[NDArray[np.float32], list[Any]]:
    try:
        distinct = {label for row in rows for label in row}
    except TypeError:
        raise ValueError(f"Labels must be str or int, got a nested list in y. {_HINT}") from None
    for label in distinct:
        if not isinstance(label, (str, int, np.integer)) or isinstance(label, bool):
            raise ValueError(f"Labels must be str or int, got {label!r} of type {type(label).__name__} in y. {_HINT}")
    if not distinct:
        raise ValueError(f"y has {len(rows)} label lists, all empty: there is no label to learn. {_HINT}")
    try:
        names = sorted(distinct)
    except TypeError:
        names = sorted(distinct, key=lambda label: (isinstance(label, str), label))
    names = [int(name) if isinstance(name, np.integer) else name for name in names]
    column = {name: i for i, name in enumerate(names)}
    indicator = np.zeros((len(rows), len(names)), np.float32)
    for i, row in enumerate(rows):
        for label in row:
            indicator[i, column[label]] = 1
    return indicator, names


def _as_array(y: Any) -> NDArray[Any]:
    try:
        rows = y if hasattr(y, "shape") else list(y)
        array = np.asarray(rows)
        return np.stack(list(array)) if array.dtype == object and array.ndim == 1 else array
    except TypeError:
        raise ValueError(
            f"y must be a matrix or a sequence of label lists, got a {type(y).__name__}. {_HINT}"
        ) from None
    except ValueError:
        raise ValueError(f"y mixes rows of different kinds or lengths. {_HINT}") from None


def _check_indicator(y: NDArray[Any]) -> NDArray[np.float32]:
    if y.ndim != 2:
        kind = "" if y.dtype.kind in "iub" else "Unknown label type: "
        raise ValueError(f"{kind}y should be a 2-D indicator matrix, got an array of shape {y.shape} instead. {_HINT}")
    if y.shape[1] == 0:
        raise ValueError(f"y has 0 labels (shape {y.shape}), while a minimum of 1 is required. {_HINT}")
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: y holds complex numbers; every entry must be 0 or 1. {_HINT}")
    if y.dtype == object:
        y = np.where([[item is None or type(item).__name__ == "NAType" for item in row] for row in y], np.nan, y)
    try:
        numeric = y.astype(np.float32 if y.dtype.kind in "biu" else np.float64, copy=False)
    except (TypeError, ValueError):
        raise ValueError(f"Unknown label type: y has dtype {y.dtype} and is not numeric. {_HINT}") from None
    wrong = np.argwhere((numeric != 0) & (numeric != 1) & ~np.isnan(numeric))
    if len(wrong):
        row, column = wrong[0]
        value = numeric[row, column]
        if np.isinf(value):
            raise ValueError(
                f"Input y contains infinity, first at row {row}, column {column}; every entry must be 0, 1, or NaN "
                "where it is not annotated."
            )
        raise ValueError(
            f"Unknown label type: y must hold only 0 and 1, got {value:g} at row {row}, column {column}. "
            "Graded targets, for which a scaled sigmoid (fastai's y_range) is made, are a regression task and are "
            "not supported: binarise them first, for example y >= 0.5."
        )
    return numeric.astype(np.float32)
