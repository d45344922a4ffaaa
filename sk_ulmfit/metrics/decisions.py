"""Metrics of decisions, 0 or 1 for each label of each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._choices import Average, Numbers
from sk_ulmfit._validation import check_choice, check_weights
from sk_ulmfit.labels import indicator_of, label_lists
from sk_ulmfit.metrics._checks import Floats, check_predictions, warn_undefined

AVERAGES = get_args(Average)


def f1_score(y_true: Any, y_pred: Any, *, average: Average = "macro", sample_weight: Numbers | None = None) -> float:
    """Compute the F1 score; scikit-learn's ``f1_score`` without the unknown entries.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n, L)
        See `sk_ulmfit.metrics`.
    average : {"micro", "macro", "samples"}, default="macro"
        Over all entries at once, over labels, or over texts. Labels and texts without any true or predicted entry count
        as 0; those without known entries are ignored.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.

    Examples
    --------
    >>> from sk_ulmfit.metrics import f1_score
    >>> f1_score([[1, 0], [float("nan"), 1]], [[1, 0], [1, 1]], average="micro")
    1.0
    """
    check_choice("average", average, AVERAGES)
    averages = average_scores(*check_predictions(y_true, y_pred, sample_weight, decisions=True))
    return float(averages[average][2]) if averages else warn_undefined("entry that is known")


def hamming_loss(y_true: Any, y_pred: Any, *, sample_weight: Numbers | None = None) -> float:
    """Compute the share of wrong decisions; scikit-learn's ``hamming_loss`` without the unknown entries.

    fastai's ``accuracy_thresh`` and ``accuracy_multi`` are one minus this.

    Parameters
    ----------
    y_true, y_pred, sample_weight : array-like of shape (n, L), (n, L) and (n,)
        See `sk_ulmfit.metrics`.

    Examples
    --------
    >>> from sk_ulmfit.metrics import hamming_loss
    >>> hamming_loss([[1, 0], [0, 1]], [[1, 1], [0, 1]])
    0.25
    """
    truth, decided, weight = check_predictions(y_true, y_pred, sample_weight, decisions=True)
    known = ~np.isnan(truth)
    wrong = ((truth == 1) != (decided > 0)) & known
    total = float(weight @ known.sum(axis=1))
    return float(weight @ wrong.sum(axis=1)) / total if total else warn_undefined("entry that is known")


def exact_match(y_true: Any, y_pred: Any, label_names: Sequence[Any], sample_weight: Any = None) -> float:
    """Compute the share of texts whose labels are all right (subset accuracy); unknown entries count as right.

    `y_true` may be label lists, and a label outside `label_names` makes its text wrong. Columns of a DataFrame are
    matched by name.
    """
    decided, rows = np.asarray(y_pred) > 0, label_lists(y_true)
    if rows is not None:
        right = _matching_lists(rows, decided, label_names)
    else:
        if hasattr(y_true, "columns") and set(y_true.columns) == set(label_names):
            y_true = indicator_of(y_true, label_names)[0]
        truth = check_predictions(y_true, decided, None)[0]
        right = (np.isnan(truth) | ((truth == 1) == decided)).all(axis=1)
    weight = check_weights(sample_weight, len(right))
    return float(np.average(right, weights=weight))


def _matching_lists(rows: list[Any], decided: NDArray[np.bool_], label_names: Sequence[Any]) -> NDArray[np.bool_]:
    """Return for each text whether its label list equals the decisions, shape (n,)."""
    if len(rows) != len(decided):
        raise ValueError(
            f"y_true has {len(rows)} rows, the predictions have {len(decided)}; pass one row per text in both."
        )
    names = np.empty(len(label_names), object)
    names[:] = list(label_names)
    return np.array([set(labels) == set(names[row]) for labels, row in zip(rows, decided, strict=True)])


def average_scores(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats) -> dict[str, Floats]:
    """Return precision, recall and F1, shape (3,), of each kind of average; empty if nothing is known."""
    *text_counts, text_weight = count_texts(truth, decided, weight)
    if not len(text_weight):
        return {}
    label_counts = count_labels(truth, decided, weight)
    of_labels, n_true = precision_recall_f1(*label_counts), label_counts[2]
    share = n_true / n_true.sum() if n_true.any() else np.full(len(n_true), 1 / len(n_true))
    return {
        "micro": precision_recall_f1(*(count.sum() for count in label_counts)),
        "macro": of_labels.mean(axis=1),
        "weighted": of_labels @ share,
        "samples": precision_recall_f1(*text_counts) @ text_weight / text_weight.sum(),
    }


def count_labels(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats) -> tuple[Floats, ...]:
    """Return the weights of true positives, predictions and true entries of each label with known entries."""
    known = ~np.isnan(truth)
    has_label, gets_label = truth == 1, (decided > 0) & known
    some = known.any(axis=0)
    return tuple((weight @ part)[some] for part in (has_label & gets_label, gets_label, has_label))


def count_texts(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats) -> tuple[Floats, ...]:
    """Return the numbers of true positives, predictions and true entries, and the weight, of each such text."""
    known = ~np.isnan(truth)
    has_label, gets_label = truth == 1, (decided > 0) & known
    some = known.any(axis=1)
    return (*(part.sum(axis=1)[some] for part in (has_label & gets_label, gets_label, has_label)), weight[some])


def precision_recall_f1(n_right: Any, n_predicted: Any, n_true: Any) -> Floats:
    """Return precision, recall and F1 as rows; 0 where undefined."""
    parts = ((n_right, n_predicted), (n_right, n_true), (2 * n_right, n_predicted + n_true))
    return np.asarray([part / np.where(whole > 0, whole, 1) for part, whole in parts])
