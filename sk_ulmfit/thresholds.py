"""From probabilities to decisions: thresholds in every form, how they are chosen, and what else may decide."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.special import expit, logit

from sk_ulmfit._validation import check_number, check_weights
from sk_ulmfit.labels import first_few, indicator_of, label_columns, per_label

Floats = NDArray[np.float64]

METRICS = ("f1_macro", "f1_micro", "f1_samples")
CANDIDATES = expit(np.linspace(-7, 7, 281))
PRIOR = (
    5.0  # texts with a label that the threshold common to all labels counts as much as, when one is chosen for a label
)
MOST_CANDIDATES = 10_000
LABELS_AT_ONCE, COUNTS_AT_ONCE = 64, 3_000_000
ROUNDS = 20  # most, of the search for the best micro F1; it takes three or four
SWEEPS = 2  # over all labels, for the best F1 of samples
SMALLEST = 1e-6  # threshold, and distance of the largest from 1, as log-odds are taken of them


def check_thresholds(threshold: Any, names: Sequence[Any]) -> Floats:
    """Give one threshold per label.

    Parameters
    ----------
    threshold : float, array-like of shape (L,), or dict
        One for all labels, one per label, or by label name (labels not named keep 0.5).
    names : sequence of length L
        Label names.

    Returns
    -------
    ndarray of float64, shape (L,)
        Thresholds in [0, 1]; a label is predicted where its probability reaches its threshold.

    Raises
    ------
    ValueError
        If a threshold lies outside [0, 1], a name is unknown, or the number does not fit.

    Examples
    --------
    >>> from sk_ulmfit.thresholds import check_thresholds
    >>> check_thresholds({"late": 0.3}, ["broken", "late"]).tolist()
    [0.5, 0.3]
    """
    values = per_label("threshold", threshold, names, 0.5)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"Every threshold must lie between 0 and 1, got {threshold!r}.")
    return values


def tune_thresholds(
    y: Any,
    proba: Any,
    *,
    metric: str | float = "f1_macro",
    candidates: Any = None,
    sample_weight: Any = None,
    label_names: Sequence[Any] | None = None,
) -> Floats:
    """Choose a threshold for each label on texts that the probabilities were not learned from.

    For F1, the best threshold of each label by itself and the best one that is common to all are averaged as log-odds,
    the common one with the weight of five texts that have the label: the fewer texts show what a label needs, the
    nearer it stays to what is good for all. Of thresholds that are equally good the middle one is taken.

    Parameters
    ----------
    y : array-like of shape (n, L), DataFrame, sparse matrix, or n label lists
        True labels; unknown entries (NaN) are left out.
    proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    metric : {"f1_macro", "f1_micro", "f1_samples"} or float, default="f1_macro"
        What to make large. A number is the least precision wanted: each label gets the lowest threshold that reaches
        it, by its own texts and, with the weight of five, those of all labels; one that never does gets 1.
    candidates : array-like of float, default=None
        Thresholds to choose from; None takes 281 between 0.0009 and 0.9991, evenly spaced as log-odds. What is chosen
        lies between them where a label's own and the common one are averaged.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.
    label_names : sequence of length L, default=None
        What the columns of `proba` stand for; labels that `y` names are put there. None takes those of `y` as they are.

    Returns
    -------
    ndarray of float64, shape (L,)
        Thresholds.

    Raises
    ------
    ValueError
        If the shapes do not fit, a candidate lies outside [0, 1], or `metric` is not known.

    Warns
    -----
    UserWarning
        If a label is in none or all of the texts (it gets the common threshold), or never reaches the precision wanted.

    References
    ----------
    Z. C. Lipton, C. Elkan, B. Naryanaswamy (2014), "Optimal Thresholding of Classifiers to Maximize F1 Measure", on
    macro F1 and rare labels; I. Pillai, G. Fumera, F. Roli (2013), "Threshold optimisation for multi-label
    classifiers", on micro F1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.thresholds import tune_thresholds
    >>> proba = np.array([[0.3], [0.2], [0.04], [0.01]])
    >>> tune_thresholds([[1], [1], [0], [0]], proba).round(2).tolist()  # between 0.04 and 0.2
    [0.09]
    """
    check_metric(metric)
    candidates = check_candidates(candidates)
    truth, names = indicator_of(y, label_names)
    proba = check_proba(proba, truth.shape)
    weight = check_weights(sample_weight, len(truth))
    if weight is not None and not weight.all():
        truth, proba, weight = truth[weight > 0], proba[weight > 0], weight[weight > 0]
    curves = Curves.of(truth, proba, candidates, weight)
    if not curves.has_both.all():
        _warn(names, ~curves.has_both, "are in none or all of the held-out texts and get the common threshold")
    if not isinstance(metric, str):
        return _for_precision(curves, float(metric), names)
    if not curves.has_both.any():
        return np.full(len(names), 0.5)
    if metric == "f1_samples":
        return _for_samples(curves)
    own = _best_macro(curves) if metric == "f1_macro" else _best_micro(curves)
    return curves.towards(curves.candidates[own], curves.common(metric))


def check_metric(metric: Any, name: str = "metric") -> None:
    """Raise ValueError unless thresholds can be chosen for this metric: a name, or a precision from 0 to 1."""
    if isinstance(metric, str) and metric in METRICS:
        return
    if isinstance(metric, str) or metric is None:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, METRICS))}, or a precision; got {metric!r}.")
    check_number(f"{name}, as a precision,", metric, low=0, high=1)


def check_candidates(candidates: Any) -> Floats:
    """Give the thresholds to choose from, rising; None stands for the usual ones, a number for so many of them."""
    if candidates is None:
        return CANDIDATES
    if np.ndim(candidates) == 0:
        check_number("thresholds", candidates, low=2, high=MOST_CANDIDATES, integer=True)
        return expit(np.linspace(-7, 7, int(candidates)))
    try:
        values = np.unique(np.asarray(candidates, np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"thresholds must be numbers between 0 and 1, got {candidates!r}.") from None
    if values.ndim != 1 or not len(values) or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"thresholds must be numbers between 0 and 1, got {candidates!r}.")
    if len(values) > MOST_CANDIDATES:
        raise ValueError(
            f"thresholds must be at most {MOST_CANDIDATES} numbers, got {len(values)}; give fewer, or their number."
        )
    return values


def check_proba(proba: Any, shape: tuple[int, ...]) -> Floats:
    """Check probabilities.

    Parameters
    ----------
    proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    shape : tuple of int
        The shape wanted.

    Returns
    -------
    ndarray of float64, shape (n, L)
        The same.

    Raises
    ------
    ValueError
        If the shape is another, or an entry is not from 0 to 1.
    """
    try:
        values = np.asarray(label_columns(proba), np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"proba must be a matrix of probabilities, got a {type(proba).__name__} of other things."
        ) from None
    if values.shape != shape:
        raise ValueError(f"proba must have the shape of y, {shape}; got {values.shape}.")
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("proba must hold probabilities from 0 to 1, and no NaN.")
    return values


@dataclass
class Curves:
    """What each label gets right at each candidate.

    Parameters
    ----------
    candidates : ndarray, shape (G,)
        Thresholds, rising.
    right : ndarray, shape (L, G)
        Weight of the texts that have the label and are predicted.
    predicted : ndarray, shape (L, G)
        Weight of the texts that are predicted.
    n_with : ndarray, shape (L,)
        Weight of the texts that have the label.
    evidence : ndarray, shape (L,)
        Number of texts that have the label or lack it, whichever are fewer.
    steps : ndarray of uint16, shape (L, n)
        How many candidates each probability reaches; 0 for an entry that is unknown.
    has : ndarray of bool, shape (L, n)
        Whether the text has the label.
    weight : ndarray, shape (n,)
        Weight of each text.
    """

    candidates: Floats
    right: Floats
    predicted: Floats
    n_with: Floats
    evidence: Floats
    steps: NDArray[np.uint16]
    has: NDArray[np.bool_]
    weight: Floats

    @classmethod
    def of(cls, y: NDArray[np.float32], proba: Floats, candidates: Floats, sample_weight: Any = None) -> Curves:
        """Count, some labels at a time."""
        (n, n_labels), n_steps = y.shape, len(candidates) + 1
        weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        right, predicted = np.zeros((n_labels, n_steps)), np.zeros((n_labels, n_steps))
        n_with, evidence = np.zeros(n_labels), np.zeros(n_labels)
        steps, has = np.zeros((n_labels, n), np.uint16), np.zeros((n_labels, n), np.bool_)

        def count(start: int) -> None:
            part = slice(start, start + LABELS_AT_ONCE)
            columns = zip(np.ascontiguousarray(y[:, part].T), np.ascontiguousarray(proba[:, part].T), strict=True)
            for label, (truth, scores) in enumerate(columns, start):
                has[label] = truth == 1
                rows = np.flatnonzero(has[label])
                step = np.searchsorted(candidates, scores, side="right")
                step[np.isnan(truth)] = 0
                predicted[label] = np.bincount(step, weight, n_steps)
                right[label] = np.bincount(step[rows], None if weight is None else weight[rows], n_steps)
                n_with[label] = len(rows) if weight is None else weight[rows].sum()
                evidence[label] = min(len(rows), int(np.count_nonzero(truth == 0)))
                steps[label] = step

        with ThreadPoolExecutor(max_workers=effective_n_jobs(-1)) as pool:
            list(pool.map(count, range(0, n_labels, LABELS_AT_ONCE)))

        def from_there(counts: Floats) -> Floats:
            return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1][:, 1:]

        row_weight = np.ones(n) if weight is None else weight
        return cls(candidates, from_there(right), from_there(predicted), n_with, evidence, steps, has, row_weight)

    @property
    def has_both(self) -> NDArray[np.bool_]:
        """Whether some texts have the label and some do not, shape (L,)."""
        return self.evidence > 0

    def f1(self) -> Floats:
        """F1 of each label at each candidate, shape (L, G); 0 for a label that no text has."""
        return _f1(self.right, self.predicted, self.n_with[:, None])

    def common_scores(self, metric: str) -> Floats:
        """Metric where all labels share a threshold, shape (G,)."""
        if metric == "f1_samples":
            return self._row_f1()
        if metric == "f1_micro":
            return _f1(self.right.sum(0), self.predicted.sum(0), self.n_with.sum())
        return self.f1()[self.has_both].mean(0)

    def _row_f1(self) -> Floats:
        n, n_steps = len(self.weight), len(self.candidates) + 1
        total = np.zeros(n_steps - 1)
        n_rows = max(COUNTS_AT_ONCE // n_steps, 1)
        for start in range(0, n, n_rows):
            part = slice(start, start + n_rows)
            has = self.has[:, part]
            size = has.shape[1]
            key = self.steps[:, part] + np.arange(size) * n_steps
            right = np.bincount(key[has], minlength=size * n_steps).reshape(size, n_steps)
            predicted = np.bincount(key.ravel(), minlength=size * n_steps).reshape(size, n_steps)
            right, predicted = (np.cumsum(a[:, ::-1], axis=1)[:, ::-1][:, 1:] for a in (right, predicted))
            total += self.weight[part] @ _f1(right, predicted, has.sum(axis=0)[:, None])
        return total / self.weight.sum()

    def common(self, metric: str) -> float:
        """Give the best threshold for all labels."""
        return float(self.candidates[_middle_of_best(self.common_scores(metric)[None])[0]])

    def towards(self, own: Floats, common: float) -> Floats:
        """Average own thresholds and a common one as log-odds, by the texts that speak for the former."""
        share = self.evidence / (self.evidence + PRIOR)
        odds = logit(np.clip([own, np.full_like(own, common)], SMALLEST, 1 - SMALLEST))
        return np.asarray(expit(share * odds[0] + (1 - share) * odds[1]))


def decide(
    proba: Floats, thresholds: Floats, *, top_k: int | None = None, at_least_one: bool = False
) -> NDArray[np.int64]:
    """Decide on each label.

    Parameters
    ----------
    proba : ndarray, shape (n, L)
        Probabilities.
    thresholds : ndarray, shape (L,)
        A label is predicted where its probability reaches its threshold.
    top_k : int, default=None
        Predict the `top_k` most probable labels of each text instead, or all if there are not so many.
    at_least_one : bool, default=False
        Predict the most probable label of a text that would get none.

    Returns
    -------
    ndarray of int64, shape (n, L)
        0 and 1.
    """
    if top_k is not None:
        chosen = np.argsort(-proba, axis=1, kind="stable")[:, :top_k]
        decided = np.zeros(proba.shape, np.int64)
        np.put_along_axis(decided, chosen, 1, axis=1)
        return decided
    decided = (proba >= thresholds).astype(np.int64)
    if at_least_one and len(proba):
        without = np.flatnonzero(~decided.any(axis=1))
        decided[without, proba[without].argmax(axis=1)] = 1
    return decided


def _f1(right: Any, predicted: Any, n_with: Any) -> Floats:
    total = predicted + n_with
    return np.asarray(2 * right / np.where(total > 0, total, 1))


def _middle_of_best(scores: Floats) -> NDArray[np.int64]:
    """Give, for each row, the middle of the first run of largest values."""
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-12
    first = best.argmax(axis=1)
    ends = np.where(np.arange(scores.shape[1]) < first[:, None], True, best)
    last = np.where(ends.all(axis=1), scores.shape[1], (~ends).argmax(axis=1)) - 1
    return (first + last) // 2


def _best_macro(curves: Curves) -> NDArray[np.int64]:
    return _middle_of_best(curves.f1())


def _best_micro(curves: Curves) -> NDArray[np.int64]:
    """Give the candidates of the largest micro F1, exactly: a label's best one follows from the F1 that is reached."""
    labels = np.arange(len(curves.n_with))
    score = float(curves.common_scores("f1_micro").max())
    for _ in range(ROUNDS):
        chosen = _middle_of_best(2 * curves.right - score * curves.predicted)
        found = float(
            _f1(curves.right[labels, chosen].sum(), curves.predicted[labels, chosen].sum(), curves.n_with.sum())
        )
        if found <= score + 1e-12:
            break
        score = found
    return chosen


def _for_samples(curves: Curves) -> Floats:
    """Choose label by label, given the decisions on all others, from what is best for micro F1."""
    common, has = curves.common("f1_samples"), curves.has
    n_steps = len(curves.candidates) + 1
    chosen = curves.towards(curves.candidates[_best_micro(curves)], common)
    n_with = has.sum(axis=0).astype(np.float32)
    n_right, n_predicted = np.zeros_like(n_with), np.zeros_like(n_with)

    def count(label: int, sign: int) -> None:
        """Add the decisions on a label, to the next candidate, or take them away."""
        yes = curves.steps[label] > np.searchsorted(curves.candidates, chosen[label])
        n_predicted[yes] += sign
        n_right[yes & has[label]] += sign

    for label in range(len(chosen)):
        count(label, 1)
    for _ in range(SWEEPS):
        for label in np.flatnonzero(curves.has_both).tolist():
            count(label, -1)
            total = n_predicted + n_with
            gain = 2 * (n_right + has[label]) / (total + 1) - 2 * n_right / np.maximum(total, 1)
            gains = np.bincount(curves.steps[label], curves.weight * gain, n_steps)[::-1].cumsum()[::-1][1:]
            own = curves.candidates[_middle_of_best(gains[None])[0]]
            chosen[label] = curves.towards(np.full(len(chosen), own), common)[label]
            count(label, 1)
    return chosen


def _for_precision(curves: Curves, wanted: float, names: Sequence[Any]) -> Floats:
    """Give the lowest thresholds of this precision, 1 where there is none."""
    n_with = curves.n_with.sum()
    prior = PRIOR / n_with if n_with else 0.0
    right = curves.right + prior * curves.right.sum(0)
    predicted = curves.predicted + prior * curves.predicted.sum(0)
    reached = (right > 0) & (right >= wanted * predicted)
    never = ~reached.any(axis=1)
    if never.any():
        why = f"have too few held-out texts, or too many wrong ones, for a precision of {wanted:g}"
        _warn(names, never, f"{why} and get the threshold 1")
    return np.where(never, 1.0, curves.candidates[reached.argmax(axis=1)])


def _warn(names: Sequence[Any], which: NDArray[np.bool_], what: str) -> None:
    found = np.flatnonzero(which).tolist()
    shown = first_few([repr(names[i]) for i in found])
    warnings.warn(f"{len(found)} of {len(names)} labels {what}: {shown}.", UserWarning, stacklevel=3)
