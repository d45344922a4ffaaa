"""Checks of truth and predictions, and the warning if there is nothing to judge."""

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


def align_truth(y_true: Any, label_names: Sequence[Any] | None) -> tuple[NDArray[np.float32], list[Any]]:
    """Return true labels in the column order of the predictions, shape (n, L), and the label names.

    `label_names` are the columns of the predictions; None takes the columns of a DataFrame, or numbers.
    """
    if label_names is None and label_lists(y_true) is not None:
        raise ValueError(
            "label_names is needed if y_true holds label lists; pass the names of the columns of the predictions."
        )
    return indicator_of(y_true, label_names)


def align_predictions(
    y_true: Any, y_score: Any, label_names: Sequence[Any] | None, *, decisions: bool = False
) -> tuple[NDArray[np.float32], NDArray[Any], list[Any]]:
    """Return true labels (NaN where unknown) and predictions, both of shape (n, L), and the label names."""
    truth, names = align_truth(y_true, label_names)
    truth, scores, _ = check_predictions(truth, y_score, None, decisions)
    return truth, scores, names


def check_predictions(
    y_true: Any, y_score: Any, sample_weight: Any, decisions: bool = False
) -> tuple[NDArray[np.float32], NDArray[Any], Floats]:
    """Return truth (NaN where unknown) and predictions, both of shape (n, L), and the weights of the texts, shape (n,).

    With `decisions`, predictions must be 0 and 1.
    """
    if label_lists(y_true) is not None:
        raise ValueError(
            "y_true must be a matrix of 0 and 1 with one column per label, got label lists; convert them with "
            "sklearn.preprocessing.MultiLabelBinarizer."
        )
    truth = check_labels(y_true)[0]
    scores = _check_scores(y_score)
    if scores.shape != truth.shape:
        raise ValueError(
            f"y_true has the shape {truth.shape}, the predictions have {scores.shape}; pass one row per text and one "
            "column per label in both."
        )
    is_decision = np.isin(scores, (0, 1))
    if decisions and not is_decision.all():
        raise ValueError(
            f"y_pred must hold decisions, 0 and 1 only, got {scores[~is_decision][0]:g}; pass the output of predict, "
            "not of predict_proba."
        )
    if np.isnan(scores).any():
        raise ValueError("The predictions contain NaN; only y_true may contain it, where entries are unknown.")
    weight = check_weights(sample_weight, len(truth))
    return truth, scores, np.ones(len(truth)) if weight is None else weight


def _check_scores(y_score: Any) -> NDArray[Any]:
    try:
        scores = label_columns(y_score.toarray() if hasattr(y_score, "toarray") else y_score)
    except ValueError:
        raise ValueError("Predictions must be a matrix with one column per label, not lists of labels.") from None
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"Predictions must be numbers, one column per label; got dtype {scores.dtype}.")
    return scores


def check_probabilities(proba: NDArray[Any]) -> None:
    """Check that all values lie in [0, 1]."""
    if not np.all((proba >= 0) & (proba <= 1)):
        raise ValueError(
            f"y_proba must hold probabilities from 0 to 1, got values from {proba.min():g} to {proba.max():g}; pass "
            "the output of predict_proba."
        )


def mean_of_known(values: Floats, what: str) -> float:
    """Return the mean of the values that are not NaN; `what` names what is missing if all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else warn_undefined(what)


def warn_undefined(what: str) -> float:
    """Warn that a metric is undefined because there is no `what`, and return NaN."""
    warnings.warn(f"There is no {what}, so the metric is undefined (NaN).", UndefinedMetricWarning, stacklevel=4)
    return float("nan")
