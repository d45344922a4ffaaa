"""Every form in which people have multi-label targets, turned into one indicator matrix."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

MOST_BALANCED = 20.0  # largest factor of pos_weight="balanced": larger ones make the loss of a few texts all there is
_HINT = (
    "Pass an indicator matrix of 0 and 1 (NaN: not annotated) with one column per label, or one list of labels per "
    "text; sklearn.preprocessing.MultiLabelBinarizer turns lists of labels into such a matrix, and "
    "sk_ulmfit.datasets.load_table reads columns with names of labels."
)


def check_labels(y: Any) -> tuple[NDArray[np.float32], list[Any]]:
    """Turn targets into an indicator matrix and label names.

    Parameters
    ----------
    y : array-like of shape (n, L), DataFrame, sparse matrix, or sequence of label lists or sets
        Integer, bool or float 0/1; or, for each text, the labels it has. A list of equally long lists
        of 0 and 1 is read as a matrix. An entry of a matrix that is NaN, None, ``pandas.NA`` or masked is not
        annotated.

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
    if isinstance(y, np.ma.MaskedArray) and y.dtype.kind in "biuf":
        y = np.ma.filled(y.astype(np.float64), np.nan)
    indicator = _check_indicator(np.asarray(y))
    if names is None:
        names = list(range(indicator.shape[1]))
    if len(set(names)) < len(names):
        raise ValueError(f"Label names must be distinct, got {names}. Rename the columns of y.")
    return indicator, names


def indicator_of(y: Any, names: Sequence[Any] | None) -> tuple[NDArray[np.float32], list[Any]]:
    """Turn targets into an indicator matrix of given labels: those that `y` names itself are put where they belong.

    Parameters
    ----------
    y : array-like of shape (n, L), DataFrame, sparse matrix, or sequence of label lists or sets
        As `check_labels` takes it.
    names : sequence of length L, or None
        Label names, in the order of the columns wanted; None takes those of `y`.

    Returns
    -------
    indicator : ndarray of float32, shape (n, L)
        1 where the label is present, NaN where that is unknown.
    names : list of length L
        The label names.

    Raises
    ------
    ValueError
        If `y` has a label that is not among the names, or a matrix has another number of columns.

    Examples
    --------
    >>> from sk_ulmfit.labels import indicator_of
    >>> indicator_of([["late"], []], ["broken", "late"])[0].astype(int).tolist()
    [[0, 1], [0, 0]]
    """
    if names is None:
        return check_labels(y)
    names = list(names)
    rows = label_lists(y)
    if rows is not None and not any(len(row) for row in rows):
        return np.zeros((len(rows), len(names)), np.float32), names
    indicator, own = check_labels(y)
    known = first_few(list(map(repr, names)))
    if rows is None and not hasattr(y, "columns"):
        if len(own) != len(names):
            raise ValueError(f"y has {len(own)} columns, but there are {len(names)} labels: {known}.")
        return indicator, names
    unknown = [name for name in own if name not in names]
    if unknown:
        raise ValueError(f"y has the unknown label {unknown[0]!r}. The labels are {known}.")
    if rows is None and len(own) != len(names):
        missing = next(name for name in names if name not in own)
        raise ValueError(f"y has no column for the label {missing!r}; give one for each of the {len(names)} labels.")
    placed = np.zeros((len(indicator), len(names)), np.float32)
    placed[:, [names.index(name) for name in own]] = indicator
    return placed, names


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
        shown = first_few([f"{names[i]!r} (always {int(has[i])})" for i in constant])
        warnings.warn(
            f"{len(constant)} of {len(names)} labels are the same for all {len(indicator)} training texts: {shown}. "
            "Their base rate is predicted; drop them or add texts that differ.",
            UserWarning,
            stacklevel=3,
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(names)} labels are annotated on none of the {len(indicator)} training texts: "
            f"{first_few([repr(names[i]) for i in unknown])}. The mean rate of the others is predicted; drop them or "
            "annotate some texts.",
            UserWarning,
            stacklevel=3,
        )


def check_pos_weight(
    pos_weight: Any,
    indicator: NDArray[np.float32],
    names: list[Any],
    document_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64] | None:
    """Give the factor on the loss of the entries that are 1, for each label.

    Parameters
    ----------
    pos_weight : None, "balanced", float, array-like of shape (L,), or dict
        As the classifier takes it.
    indicator : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    names : list of length L
        Label names.
    document_weight : ndarray of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    ndarray of float64, shape (L,), or None
        Finite and above 0; None where all are 1.

    Raises
    ------
    ValueError
        If a factor is not finite or not above 0, a name is unknown, or the number does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.labels import check_pos_weight
    >>> check_pos_weight("balanced", np.array([[1, 0], [0, 0], [0, 0], [0, 1]]), ["a", "b"]).tolist()
    [3.0, 3.0]
    """
    if pos_weight is None:
        return None
    if isinstance(pos_weight, str) and pos_weight == "balanced":
        weight = np.ones(len(indicator)) if document_weight is None else document_weight
        n_with, n_without = weight @ (indicator == 1), weight @ (indicator == 0)
        both = (n_with > 0) & (n_without > 0)
        ratio = np.where(both, n_without, 1.0) / np.where(both, n_with, 1.0)
        return ratio.clip(1 / MOST_BALANCED, MOST_BALANCED)
    values = per_label("pos_weight", pos_weight, names, 1.0)
    if not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"Every pos_weight must be finite and above 0, got {pos_weight!r}.")
    return values


def per_label(name: str, value: Any, names: Sequence[Any], default: float) -> NDArray[np.float64]:
    """Give one number per label from one for all, one for each, or some by name.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : float, array-like of shape (L,), dict, or Series whose index is label names
        What the user set.
    names : sequence of length L
        Label names.
    default : float
        Number of the labels that a dict does not name.

    Returns
    -------
    ndarray of float64, shape (L,)
        The numbers.

    Raises
    ------
    ValueError
        If a name is unknown, or there are not as many numbers as labels.
    """
    n = len(names)
    if hasattr(value, "to_dict") and list(value.index) != list(range(len(value))):
        value = value.to_dict()  # a Series of pandas with the names as its index
    if isinstance(value, Mapping):
        unknown = [label for label in value if label not in names]
        if unknown:
            known = ", ".join(map(repr, names[:10])) + (", ..." if n > 10 else "")
            raise ValueError(f"{name} names the unknown label {unknown[0]!r}. The labels are {known}.")
        value = [value.get(label, default) for label in names]
    try:
        if isinstance(value, (str, bool, np.bool_)):
            raise TypeError
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} must be a number, one number per label, or a dict from label name to number; got {value!r}."
        ) from None
    if values.ndim > 1 or (values.ndim == 1 and len(values) != n):
        raise ValueError(f"{name} must be one number or {n} numbers, one per label; got shape {values.shape}.")
    return np.broadcast_to(values, (n,)).copy()


def first_few(names: Sequence[str]) -> str:
    """Name the first five of some labels, for a message."""
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


def label_columns(scores: Any, classes: Any = None) -> NDArray[Any]:
    """Give the scores of labels as one matrix, whatever form a classifier gives them in.

    Parameters
    ----------
    scores : array-like of shape (n, L), or list of L arrays of shape (n, 1) or (n, 2)
        What ``predict_proba`` gave.
    classes : sequence, default=None
        ``classes_`` of the classifier, which tells what a label's only column stands for.

    Returns
    -------
    ndarray, shape (n, L)
        Score of each label being 1. Without `classes` a label's only column is read as that of 0.
    """
    if not isinstance(scores, (list, tuple)) or not len(scores) or np.ndim(scores[0]) != 2:
        return np.asarray(scores)
    columns = []
    for label, column in enumerate(scores):
        if np.shape(column)[1] == 2:
            columns.append(np.asarray(column)[:, 1])
        else:  # one class in training: all have the label, or none does
            only = 0 if classes is None else np.ravel(classes[label])[0]
            columns.append(np.full(len(column), float(only)))
    return np.column_stack(columns)


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
        exact = np.float32 if y.dtype.kind in "biu" or y.dtype == np.float32 else np.float64
        numeric = y.astype(exact, copy=False)
    except (TypeError, ValueError):
        raise ValueError(f"Unknown label type: y has dtype {y.dtype} and is not numeric. {_HINT}") from None
    wrong = (numeric != 0) & (numeric != 1) & ~np.isnan(numeric)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
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
