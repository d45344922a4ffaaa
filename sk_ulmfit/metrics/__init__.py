"""Metrics that scikit-learn lacks, or refuses to compute where entries are unknown."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, make_scorer

from sk_ulmfit._validation import check_choice, check_number, check_weights
from sk_ulmfit.labels import check_labels, indicator_of, label_columns, label_lists

Floats = NDArray[np.float64]

AVERAGES = ("micro", "macro", "samples")
ROWS_AT_ONCE = 10_000


def precision_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Any = None) -> float:
    """Give the share of true labels among the `k` that a text is most likely to have, as a mean over texts.

    Of equal scores the label that comes first ranks first.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1; an entry that is unknown (NaN) is not ranked, and a text with fewer than `k` known ones is judged by
        those.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores; a list is what some classifiers of scikit-learn give.
    k : int, default=5
        How many labels of each text are looked at; at most L.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1. Texts with fewer than `k` true labels cannot reach 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are not so many labels.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schütze (2008), "Introduction to Information Retrieval", section 8.4.

    Examples
    --------
    >>> from sk_ulmfit.metrics import precision_at_k
    >>> precision_at_k([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]], k=1)
    1.0
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    _check_k(k, truth.shape[1])
    n_known = (~np.isnan(truth)).sum(axis=1)
    right = np.concatenate([hits[:, :k].sum(axis=1) for hits in _ranked(truth, scores)])
    return _mean_of_texts(right / np.clip(n_known, 1, k), n_known > 0, weight, "an entry that is known")


def r_precision(y_true: Any, y_score: Any, *, sample_weight: Any = None) -> float:
    """Give the precision at R, R being the number of true labels of a text, as a mean over the texts that have any.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; such entries are not ranked.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; 1 where all true labels rank above all others.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schütze (2008), "Introduction to Information Retrieval", section 8.4.

    Examples
    --------
    >>> from sk_ulmfit.metrics import r_precision
    >>> r_precision([[1, 0, 1], [0, 1, 0]], [[0.9, 0.8, 0.1], [0.2, 0.9, 0.3]])
    0.75
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    n_true = (truth == 1).sum(axis=1)
    right: list[Floats] = []
    for hits in _ranked(truth, scores):
        n_here = n_true[sum(map(len, right)) :][: len(hits)]
        right.append((hits * (np.arange(hits.shape[1]) < n_here[:, None])).sum(axis=1))
    return _mean_of_texts(np.concatenate(right) / np.clip(n_true, 1, None), n_true > 0, weight, "a label")


def ndcg_at_k(y_true: Any, y_score: Any, *, k: int = 5, sample_weight: Any = None) -> float:
    """Give the normalised discounted cumulative gain of the first `k` labels, as a mean over the texts that have any.

    A true label at place i counts 1 / log2(i + 1), divided by what the best order of all labels would reach. Unlike
    scikit-learn's ``ndcg_score``, texts without true labels are left out instead of counting 0, and of equal scores the
    label that comes first ranks first.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; such entries are not ranked.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
    k : int, default=5
        How many labels of each text are looked at; at most L.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are not so many labels.

    References
    ----------
    K. Järvelin, J. Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import ndcg_at_k
    >>> round(ndcg_at_k([[1, 0, 1]], [[0.9, 0.8, 0.1]], k=2), 3)
    0.613
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    _check_k(k, truth.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))
    n_true = (truth == 1).sum(axis=1)
    gain = np.concatenate([hits[:, :k] @ discount for hits in _ranked(truth, scores)])
    best = discount.cumsum()[np.clip(n_true, 1, k) - 1]
    return _mean_of_texts(gain / best, n_true > 0, weight, "a label")


def mean_average_precision(y_true: Any, y_score: Any, *, sample_weight: Any = None) -> float:
    """Give the mean of the average precision over labels, of those that some texts have.

    scikit-learn's ``average_precision_score`` refuses unknown entries and counts a label that no text has as 0.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown; each label is judged by the texts that it is known of.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities or other scores.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sk_ulmfit.metrics import mean_average_precision
    >>> mean_average_precision([[1, 0], [0, 0], [float("nan"), 0]], [[0.9, 0.8], [0.2, 0.9], [1.0, 0.3]])
    1.0
    """
    truth, scores, weight = _checked(y_true, y_score, sample_weight)
    return _nan_mean(_average_precision(truth, scores, weight), "label that some text has")


def f1_score(y_true: Any, y_pred: Any, *, average: str = "macro", sample_weight: Any = None) -> float:
    """Give the F1 of decisions, as scikit-learn's ``f1_score`` does, but with unknown entries left out.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    average : {"micro", "macro", "samples"}, default="macro"
        Over all entries at once, a mean over labels, or one over texts. A label or text without true and predicted
        entries counts 0, one of which nothing is known is left out.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit, or `average` is not known.

    Examples
    --------
    >>> from sk_ulmfit.metrics import f1_score
    >>> f1_score([[1, 0], [float("nan"), 1]], [[1, 0], [1, 1]], average="micro")
    1.0
    """
    check_choice("average", average, AVERAGES)
    averages = _averages(*_checked(y_true, y_pred, sample_weight, decisions=True))
    return float(averages[average][2]) if averages else _undefined("entry that is known")


def hamming_loss(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Give the share of entries decided wrongly, as scikit-learn's ``hamming_loss`` does, unknown ones left out.

    One minus it is what fastai calls ``accuracy_thresh`` and ``accuracy_multi``.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; smaller is better.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sk_ulmfit.metrics import hamming_loss
    >>> hamming_loss([[1, 0], [0, 1]], [[1, 1], [0, 1]])
    0.25
    """
    truth, decided, weight = _checked(y_true, y_pred, sample_weight, decisions=True)
    known = ~np.isnan(truth)
    wrong = ((truth == 1) != (decided > 0)) & known
    total = float(weight @ known.sum(axis=1))
    return float(weight @ wrong.sum(axis=1)) / total if total else _undefined("entry that is known")


def expected_calibration_error(
    y_true: Any, y_proba: Any, *, n_bins: int = 15, average: str = "micro", sample_weight: Any = None
) -> float:
    """Give the mean distance between probabilities and how often they come true.

    Probabilities are sorted into bins of equal width; each bin's mean probability is compared to the share of its
    entries that are 1, and the differences are averaged by the number of entries.

    Parameters
    ----------
    y_true : array-like of shape (n, L)
        0 and 1, NaN where unknown.
    y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    n_bins : int, default=15
        Number of bins between 0 and 1.
    average : {"micro", "macro"}, default="micro"
        Over all entries at once, or a mean over labels of each one's error. Where labels are rare, most entries are
        near 0 for certain, and either is small.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1; 0 is best.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a probability lies outside [0, 1].

    References
    ----------
    M. P. Naeini, G. F. Cooper, M. Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning";
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017), "On Calibration of Modern Neural Networks", section 2.

    Examples
    --------
    >>> from sk_ulmfit.metrics import expected_calibration_error
    >>> round(expected_calibration_error([[1], [0], [0], [0]], [[0.3], [0.3], [0.3], [0.3]]), 3)
    0.05
    """
    check_number("n_bins", n_bins, low=1, integer=True)
    check_choice("average", average, AVERAGES[:2])
    truth, proba, weight = _checked(y_true, y_proba, sample_weight)
    if not np.all((proba >= 0) & (proba <= 1)):
        raise ValueError("y_proba must hold probabilities from 0 to 1; scores of another kind have no calibration.")
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    n_labels = truth.shape[1]
    gap, count = np.zeros((n_labels, n_bins)), np.zeros((n_labels, n_bins))
    for label in range(n_labels):
        rows = ~np.isnan(truth[:, label])
        where = np.searchsorted(edges, proba[rows, label], side="left")
        count[label] = np.bincount(where, weight[rows], n_bins)
        gap[label] = np.bincount(where, weight[rows] * (truth[rows, label] - proba[rows, label]), n_bins)
    if average == "micro":
        gap, count = gap.sum(axis=0, keepdims=True), count.sum(axis=0, keepdims=True)
    total = count.sum(axis=1)
    errors = np.abs(gap).sum(axis=1) / np.where(total > 0, total, np.nan)
    return _nan_mean(errors, "entry that is known")


def multilabel_report(
    y_true: Any,
    y_pred: Any,
    y_score: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    sample_weight: Any = None,
    digits: int = 3,
    as_frame: bool = False,
    output_dict: bool = False,
) -> Any:
    """Tabulate how well each label is predicted, and averages.

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels; unknown entries (NaN) are left out.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2), default=None
        Probabilities or other scores; with them average precision, which no threshold has a part in, is another column.
    label_names : sequence of length L, default=None
        What the columns of `y_pred` stand for; labels that `y_true` names are put there. None takes the columns of a
        DataFrame, or numbers.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.
    digits : int, default=3
        Digits behind the point, in text.
    as_frame : bool, default=False
        Give a DataFrame of pandas instead of text.
    output_dict : bool, default=False
        Give a dict instead: "labels" and "averages", and in these by row a dict of numbers by column, None where there
        is none.

    Returns
    -------
    str, DataFrame or dict
        A row for each label and for the micro, macro, weighted (by texts with the label) and samples averages; columns
        "precision", "recall", "f1", "average precision" if there are scores, "texts" (that have the label) and
        "predicted" (texts that get it). What is undefined (no text has the label, or gets it) counts 0, as in
        scikit-learn's ``classification_report``; average precision is then empty and left out of its means, the
        macro and the weighted one.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no pandas for a DataFrame.

    Examples
    --------
    >>> from sk_ulmfit.metrics import multilabel_report
    >>> y, names = [["late"], ["late", "lost"]], ["late", "lost"]
    >>> print(multilabel_report(y, [[1, 0], [1, 0]], label_names=names, digits=2))
                      precision  recall    f1  texts  predicted
    late                   1.00    1.00  1.00      2          2
    lost                   0.00    0.00  0.00      1          0
    micro average          1.00    0.67  0.80      3          2
    macro average          0.50    0.50  0.50      3          2
    weighted average       0.67    0.67  0.67      3          2
    samples average        1.00    0.75  0.83      3          2
    """
    check_number("digits", digits, low=0, integer=True)
    indicator, names = named_indicator(y_true, label_names)
    truth, decided, weight = _checked(indicator, y_pred, sample_weight, decisions=True)
    columns = ["precision", "recall", "f1", "texts", "predicted"]
    of_label = np.zeros((3, len(names)))
    known = ~np.isnan(truth).all(axis=0)
    of_label[:, known] = _precision_recall_f1(*_counts(truth, decided, weight, axis=0))
    n_with, predicted = weight @ (truth == 1), weight @ ((decided > 0) & ~np.isnan(truth))
    averages = _averages(truth, decided, weight)
    averages = averages or dict.fromkeys(("micro", "macro", "weighted", "samples"), np.zeros(3))
    index = [*names, *(f"{average} average" for average in averages)]
    table = np.vstack([of_label.T, *averages.values()])
    if y_score is not None:
        columns.insert(3, "average precision")
        each = _average_precision(truth, _checked(indicator, y_score, None)[1], weight)
        some = ~np.isnan(each)
        macro = each[some].mean() if some.any() else np.nan
        weighted = each[some] @ n_with[some] / n_with[some].sum() if some.any() else np.nan
        table = np.column_stack([table, [*each, np.nan, macro, weighted, np.nan]])
    counts = np.column_stack([np.append(a, [a.sum()] * len(averages)) for a in (n_with, predicted)])
    table = np.column_stack([table, counts])
    if output_dict:
        rows = ([None if np.isnan(number) else float(number) for number in row] for row in table)
        dicts = [dict(zip(columns, row, strict=True)) for row in rows]
        of_labels, of_averages = dicts[: len(names)], dicts[len(names) :]
        return {
            "labels": dict(zip(names, of_labels, strict=True)),
            "averages": dict(zip(averages, of_averages, strict=True)),
        }
    if as_frame:
        try:
            import pandas as pd
        except ImportError:
            raise ValueError("as_frame=True needs pandas; install it, or take the text (as_frame=False).") from None
        frame = pd.DataFrame(table, index=index, columns=columns)
        whole = all(float(number).is_integer() for number in counts.ravel())
        return frame.astype(dict.fromkeys(columns[-2:], int)) if whole else frame
    width = max(len(str(name)) for name in index)
    lines = [" " * width + "".join(f"  {name:>{max(len(name), digits + 2)}}" for name in columns)]
    for name, row in zip(index, table, strict=True):
        cells = [("" if np.isnan(v) else f"{v:.{digits}f}") for v in row[:-2]] + [f"{v:.10g}" for v in row[-2:]]
        lines.append(
            f"{name!s:<{width}}"
            + "".join(f"  {cell:>{max(len(c), digits + 2)}}" for c, cell in zip(columns, cells, strict=True))
        )
    return "\n".join(lines)


SCORERS: dict[str, tuple[Callable[..., float], str, dict[str, Any]]] = {
    "precision_at_k": (precision_at_k, "predict_proba", {}),
    "r_precision": (r_precision, "predict_proba", {}),
    "ndcg_at_k": (ndcg_at_k, "predict_proba", {}),
    "mean_average_precision": (mean_average_precision, "predict_proba", {}),
    "expected_calibration_error": (expected_calibration_error, "predict_proba", {"greater_is_better": False}),
    "f1_micro": (f1_score, "predict", {"average": "micro"}),
    "f1_macro": (f1_score, "predict", {"average": "macro"}),
    "f1_samples": (f1_score, "predict", {"average": "samples"}),
    "hamming_loss": (hamming_loss, "predict", {"greater_is_better": False}),
}


def multilabel_scorer(metric: str, **options: Any) -> Any:
    """Give a metric of this module in the form that ``GridSearchCV(scoring=...)`` takes.

    Parameters
    ----------
    metric : str
        "precision_at_k", "r_precision", "ndcg_at_k", "mean_average_precision", "expected_calibration_error",
        "f1_micro", "f1_macro", "f1_samples" or "hamming_loss".
    **options : dict
        Options of the metric, such as ``k=3``.

    Returns
    -------
    callable
        A scorer of scikit-learn. Larger is better: of errors and losses it gives minus the value.

    Raises
    ------
    ValueError
        If there is no such metric, or it has no such option.

    Notes
    -----
    A label that is in all training texts of a fold has one class only there; where a classifier then gives one column
    for it, as a random forest does, it is read as that of 0.

    Examples
    --------
    >>> from sk_ulmfit.metrics import multilabel_scorer
    >>> multilabel_scorer("precision_at_k", k=3)
    make_scorer(precision_at_k, response_method='predict_proba', k=3)
    """
    check_choice("metric", metric, tuple(SCORERS))
    function, response_method, fixed = SCORERS[metric]
    known = set(signature(function).parameters) - {"y_true", "y_pred", "y_score", "y_proba", "sample_weight", *fixed}
    if wrong := options.keys() - known:
        raise ValueError(
            f"{metric} has no option {min(wrong)!r}; it has {', '.join(map(repr, sorted(known))) or 'none'}."
        )
    return make_scorer(function, response_method=response_method, **{**fixed, **options})


def exact_match(y_true: Any, y_pred: Any, label_names: Sequence[Any], sample_weight: Any = None) -> float:
    """Give the share of texts with all labels right (subset accuracy, exact match ratio).

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels; one that is not among the names makes its text wrong. An entry that is unknown (NaN) is right
        either way. Columns of a DataFrame that have these names may stand in any order.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    label_names : sequence of length L
        What the columns of `y_pred` stand for.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> from sk_ulmfit.metrics import exact_match
    >>> exact_match([["late"], ["late", "lost"]], [[1, 0], [1, 0]], ["late", "lost"])
    0.5
    """
    decided, rows = np.asarray(y_pred) > 0, label_lists(y_true)
    if rows is not None:
        if len(rows) != len(decided):
            raise ValueError(f"y_true has {len(rows)} rows, the predictions have {len(decided)}; give as many.")
        names = np.empty(len(label_names), object)
        names[:] = list(label_names)
        right = np.array([set(labels) == set(names[row]) for labels, row in zip(rows, decided, strict=True)])
    else:
        if hasattr(y_true, "columns") and set(y_true.columns) == set(label_names):
            y_true = indicator_of(y_true, label_names)[0]
        truth = _checked(y_true, decided, None)[0]
        right = (np.isnan(truth) | ((truth == 1) == decided)).all(axis=1)
    weight = check_weights(sample_weight, len(right))
    return float(np.average(right, weights=weight))


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


def _check_k(k: Any, n_labels: int) -> None:
    check_number("k", k, low=1, high=n_labels, integer=True)


def _ranked(truth: NDArray[np.float32], scores: Floats) -> Iterator[Floats]:
    """Give truths in the order of scores, some texts at a time; unknown ones are 0 and come last."""
    for start in range(0, len(truth), ROWS_AT_ONCE):
        part = truth[start : start + ROWS_AT_ONCE]
        known = ~np.isnan(part)
        order = np.argsort(-np.where(known, scores[start : start + ROWS_AT_ONCE], -np.inf), axis=1, kind="stable")
        yield np.take_along_axis(np.where(known, part, 0.0).astype(np.float64), order, axis=1)


def _mean_of_texts(values: Floats, counts: NDArray[np.bool_], weight: Floats, what: str) -> float:
    total = float(weight[counts].sum())
    return float(values[counts] @ weight[counts]) / total if total else _undefined(f"text with {what}")


def _nan_mean(values: Floats, what: str) -> float:
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else _undefined(what)


def _undefined(what: str) -> float:
    warnings.warn(f"There is no {what}, so the metric is undefined (NaN).", UndefinedMetricWarning, stacklevel=4)
    return float("nan")


def _counts(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats, axis: int) -> tuple[Floats, ...]:
    """Weigh what is right, what is predicted and what is true, of each label (axis 0) or text (axis 1).

    Labels and texts of which nothing is known are left out.
    """
    known = ~np.isnan(truth)
    has, yes = truth == 1, (decided > 0) & known
    some = known.any(axis=axis)
    if axis == 0:
        return tuple((weight @ part)[some] for part in (has & yes, yes, has))
    return (*(part.sum(axis=1)[some] for part in (has & yes, yes, has)), weight[some])


def _precision_recall_f1(right: Any, predicted: Any, n_with: Any) -> Floats:
    def share(part: Any, whole: Any) -> Any:
        return part / np.where(whole > 0, whole, 1)

    return np.asarray([share(right, predicted), share(right, n_with), share(2 * right, predicted + n_with)])


def _averages(truth: NDArray[np.float32], decided: NDArray[Any], weight: Floats) -> dict[str, Floats]:
    """Give precision, recall and F1 of each kind of average; empty if nothing is known."""
    *counts, of_text = _counts(truth, decided, weight, axis=1)
    if not len(of_text):
        return {}
    labels = _counts(truth, decided, weight, axis=0)
    each, n_with = _precision_recall_f1(*labels), labels[2]
    return {
        "micro": _precision_recall_f1(*(count.sum() for count in labels)),
        "macro": each.mean(axis=1),
        "weighted": each @ (n_with / n_with.sum() if n_with.any() else np.full(len(n_with), 1 / len(n_with))),
        "samples": _precision_recall_f1(*counts) @ of_text / of_text.sum(),
    }


def _average_precision(truth: NDArray[np.float32], scores: Floats, weight: Floats) -> Floats:
    """Give the average precision of each label, NaN for one that no text has."""
    values = np.full(truth.shape[1], np.nan)
    for label in range(truth.shape[1]):
        rows = ~np.isnan(truth[:, label])
        if (truth[rows, label] * weight[rows]).any():
            values[label] = average_precision_score(
                truth[rows, label].astype(np.int64), scores[rows, label], sample_weight=weight[rows]
            )
    return values
