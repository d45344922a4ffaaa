"""Checks of truth and predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning

from sk_ulmfit._validation import check_weights
from sk_ulmfit.labels import check_labels, indicator_of, label_columns, label_lists

Floats = NDArray[np.float64]


def named_indicator(y_true: Any, label_names: Sequence[Any] | None) -> tuple[NDArray[np.float32], list[Any]]:
    """Put true labels in the order of the columns of predictions.

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels.
    label_names : sequence of length L, or None
        What the columns of the predictions stand for; None takes the columns of a DataFrame, or numbers.

    Returns
    -------
    indicator : ndarray of float32, shape (n, L)
        0 and 1, NaN where unknown.
    names : list of length L
        The label names.

    Raises
    ------
    ValueError
        If a label is not among the names, or there are label lists and no names.
    """
    if label_names is None and label_lists(y_true) is not None:
        raise ValueError("label_names must be given with label lists: what the columns of the predictions stand for.")
    return indicator_of(y_true, label_names)


def match_predictions(
    y_true: Any, y_score: Any, label_names: Sequence[Any] | None, *, decisions: bool = False
) -> tuple[NDArray[np.float32], NDArray[Any], list[Any]]:
    """Check predictions, and put true labels in the order of their columns.

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores, or decisions.
    label_names : sequence of length L, or None
        What the columns of `y_score` stand for.
    decisions : bool, default=False
        Whether `y_score` must be 0 and 1.

    Returns
    -------
    truth : ndarray of float32, shape (n, L)
        0 and 1, NaN where unknown.
    scores : ndarray, shape (n, L)
        The predictions.
    names : list of length L
        The label names.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is not among the names, or predictions are not numbers.
    """
    indicator, names = named_indicator(y_true, label_names)
    truth, scores, _ = _checked(indicator, y_score, None, decisions)
    return truth, scores, names


def _checked(
    y_true: Any, y_score: Any, sample_weight: Any, decisions: bool = False
) -> tuple[NDArray[np.float32], NDArray[Any], Floats]:
    if label_lists(y_true) is not None:
        raise ValueError(
            "y_true must be a matrix of 0 and 1 with a column per label, got label lists; "
            "sklearn.preprocessing.MultiLabelBinarizer turns them into one."
        )
    truth = check_labels(y_true)[0]
    try:
        scores = label_columns(y_score.toarray() if hasattr(y_score, "toarray") else y_score)
    except ValueError:
        raise ValueError("Predictions must be a matrix with one column per label, not lists of labels.") from None
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"Predictions must be numbers, one column per label; got dtype {scores.dtype}.")
    if scores.shape != truth.shape:
        raise ValueError(
            f"y_true has the shape {truth.shape}, the predictions have {scores.shape}; give one row per text and one "
            "column per label in both."
        )
    if decisions and not np.isin(scores, (0, 1)).all():
        raise ValueError("y_pred must hold decisions, 0 and 1 only; pass what predict gives, not predict_proba.")
    if np.isnan(scores).any():
        raise ValueError("The predictions hold NaN; only entries of y_true may be unknown.")
    weight = check_weights(sample_weight, len(truth))
    return truth, scores, np.ones(len(truth)) if weight is None else weight


def _nan_mean(values: Floats, what: str) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else _undefined(what)


def _undefined(what: str) -> float:
    warnings.warn(f"There is no {what}, so the metric is undefined (NaN).", UndefinedMetricWarning, stacklevel=4)
    return float("nan")
