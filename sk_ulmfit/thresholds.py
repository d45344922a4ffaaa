"""From probabilities to decisions: thresholds of every form, and how they are tuned."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
from joblib import cpu_count, effective_n_jobs
from numpy.typing import NDArray
from scipy.special import expit, logit

from sk_ulmfit._choices import Numbers, ThresholdGoal, ThresholdMetric
from sk_ulmfit._dask_tasks import runs_in_task
from sk_ulmfit._messages import short, short_names
from sk_ulmfit._validation import check_number, check_weights
from sk_ulmfit.decisions import SMALLEST
from sk_ulmfit.decisions import decide as decide  # a public name of this module
from sk_ulmfit.labels import indicator_of, label_columns, per_label

Floats = NDArray[np.float64]

METRICS = get_args(ThresholdMetric)
CANDIDATES = expit(np.linspace(-7, 7, 281))
# Weight of the threshold common to all labels, in texts that have the label.
COMMON_TEXTS = 5.0
COMMON_TEXTS_OF_TUNE = 20.0  # for the metric "tune"
MOST_CANDIDATES = 10_000
LABELS_AT_ONCE, COUNTS_AT_ONCE = 64, 3_000_000
ROUNDS = 20  # at most, in the search for the best micro F1; it takes three or four
SWEEPS = 2  # over all labels, for the best samples F1


def check_thresholds(threshold: Any, names: Sequence[Any]) -> Floats:
    """Return one threshold per label, in [0, 1], shape (L,), from one for all, one for each, or some by name.

    Labels that are not named get 0.5.
    """
    values = per_label("threshold", threshold, names, 0.5)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"Every threshold must lie between 0 and 1, got {short(threshold)}.")
    return values


def resolve_threshold(threshold: Any, tuning_is_free: bool) -> Any:
    """Return what the parameter `threshold` stands for: "auto" is "tune" where tuning costs no text, else 0.5."""
    if isinstance(threshold, str) and threshold == "auto":
        return "tune" if tuning_is_free else 0.5
    return threshold


def threshold_metric(threshold: Any, label_names: Sequence[Any]) -> ThresholdMetric | float | None:
    """Return the metric that the parameter `threshold` asks to tune for, a float being a precision, or None.

    None means that `threshold` holds the thresholds themselves (see `check_thresholds`). "auto" is not accepted; see
    `resolve_threshold`.
    """
    if isinstance(threshold, str):
        if threshold not in METRICS:
            raise ValueError(
                "threshold must be 'auto', a number, one number per label, a dict from label name to number, or what "
                f"to tune for: {_choices()}; got {short(threshold)}."
            )
        return check_metric(threshold, "threshold")
    if not _is_precision(threshold):
        return None
    if "precision" in list(label_names):
        raise ValueError(
            f"threshold={short(threshold)} is ambiguous, because there is a label 'precision': pass an array or a "
            "Series to set the threshold of this label, or rename the label to tune for a precision."
        )
    return check_metric(threshold, "threshold")


def tune_thresholds(
    y: Any,
    proba: Any,
    *,
    metric: ThresholdGoal = "f1_macro",
    candidates: int | Numbers | None = None,
    sample_weight: Numbers | None = None,
    label_names: Sequence[Any] | None = None,
) -> Floats:
    """Choose the threshold of each label on texts that the probabilities were not learned from.

    For F1, the best threshold of the label alone and the best one common to all labels are averaged as log-odds. The
    common one weighs as much as five texts with the label, so that rare labels stay near it. "tune" averages the
    threshold that is best for the F1 of the label with the common one that is best for micro F1, which weighs as much
    as twenty texts. Among equally good thresholds the middle one is taken.

    Parameters
    ----------
    y : array-like of shape (n, L), DataFrame, sparse matrix, or n label lists
        True labels; unknown entries (NaN) are left out.
    proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
        Probabilities.
    metric : {"f1_macro", "f1_micro", "f1_samples", "tune"}, dict or float, default="f1_macro"
        Score to maximize; "tune" has nearly the best of macro and micro F1. ``{"precision": 0.9}``, or the number
        alone, is the least precision wanted: each label gets the lowest threshold that reaches it, counting its own
        texts and, with the weight of five, those of all labels. A label that never reaches it gets 1.
    candidates : array-like of float, default=None
        Thresholds to choose from. None takes 281 between 0.0009 and 0.9991, evenly spaced as log-odds.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.
    label_names : sequence of length L, default=None
        Label of each column of `proba`; labels that `y` names are matched to it. None takes those of `y`.

    Returns
    -------
    ndarray of float64, shape (L,)
        Thresholds.

    Raises
    ------
    ValueError
        If shapes do not match, a candidate lies outside [0, 1], or `metric` is unknown.

    Warns
    -----
    UserWarning
        If a label is in none or all of the texts (it gets the common threshold), or never reaches the precision.

    References
    ----------
    Lipton, Z. C., Elkan, C., Naryanaswamy, B. (2014), "Optimal Thresholding of Classifiers to Maximize F1 Measure", on
    macro F1 and rare labels; I. Pillai, G. Fumera, F. Roli (2013), "Threshold optimisation for multi-label
    classifiers", on micro F1.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.thresholds import tune_thresholds
    >>> proba = np.array([[0.3], [0.2], [0.04], [0.01]])
    >>> y = [[1], [1], [0], [0]]
    >>> tune_thresholds(y, proba).round(2).tolist()  # between 0.04 and 0.2
    [0.09]
    """
    goal = check_metric(metric)
    candidates = check_candidates(candidates)
    truth, names = indicator_of(y, label_names)
    proba = check_proba(proba, truth.shape)
    weight = check_weights(sample_weight, len(truth))
    if weight is not None and not weight.all():
        truth, proba, weight = truth[weight > 0], proba[weight > 0], weight[weight > 0]
    return choose_thresholds(Curves.of(truth, proba, candidates, weight), goal, names)


def choose_thresholds(
    curves: Curves, goal: str | float, names: Sequence[Any], known_constant: NDArray[np.bool_] | None = None
) -> Floats:
    """Choose the threshold of each label from its counts, shape (L,); `goal` is what `check_metric` returns.

    Labels that are `known_constant`, shape (L,), cause no warning, since the user has been told of them.
    """
    worth_saying = np.full(len(names), True) if known_constant is None else ~known_constant
    if (one_sided := ~curves.has_both & worth_saying).any():
        _warn(names, one_sided, "are in none or all of the held-out texts and get the common threshold")
    if not isinstance(goal, str):
        return _best_for_precision(curves, goal, names, worth_saying)
    if not curves.has_both.any():
        return np.full(len(names), 0.5)
    if goal == "f1_samples":
        return _best_for_samples(curves)
    own = _best_micro(curves) if goal == "f1_micro" else _best_macro(curves)
    n_texts = COMMON_TEXTS_OF_TUNE if goal == "tune" else COMMON_TEXTS
    return curves.shrink(curves.candidates[own], curves.common(goal), n_texts)


def check_metric(metric: Any, parameter: str = "metric") -> ThresholdMetric | float:
    """Return the name of the score to maximize, or the precision to reach as a float."""
    if isinstance(metric, str) and metric in METRICS:
        return cast(ThresholdMetric, metric)
    precision = metric["precision"] if _is_precision(metric) else metric
    if precision is None or isinstance(precision, (str, Mapping)):
        raise ValueError(f"{parameter} must be one of {_choices()}; got {short(metric)}.")
    check_number(f"{parameter}, as a precision,", precision, low=0, high=1)
    return float(precision)


def check_candidates(candidates: Any) -> Floats:
    """Return the thresholds to choose from, ascending, shape (G,); an integer asks for so many of them."""
    if candidates is None:
        return CANDIDATES
    if np.ndim(candidates) == 0:
        check_number("thresholds", candidates, low=2, high=MOST_CANDIDATES, integer=True)
        return expit(np.linspace(-7, 7, int(candidates)))
    try:
        values = np.unique(np.asarray(candidates, np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"thresholds must be numbers between 0 and 1, got {short(candidates)}.") from None
    if values.ndim != 1 or not len(values) or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"thresholds must be numbers between 0 and 1, got {short(candidates)}.")
    if len(values) > MOST_CANDIDATES:
        raise ValueError(f"thresholds must be at most {MOST_CANDIDATES} numbers, got {len(values)}; pass fewer.")
    return values


def check_proba(proba: Any, shape: tuple[int, ...]) -> Floats:
    """Return probabilities as a matrix of this shape, (n, L); see `label_columns` for the forms."""
    try:
        values = np.asarray(label_columns(proba), np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"proba must be a matrix of probabilities, got a {type(proba).__name__} that is not numeric."
        ) from None
    if values.shape != shape:
        raise ValueError(f"proba must have the shape of y, {shape}; got {values.shape}.")
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("proba must hold probabilities from 0 to 1, and no NaN.")
    return values


@dataclass
class Curves:
    """Counts of each label at each candidate threshold."""

    candidates: Floats  # (G,), ascending
    right: Floats  # (L, G), weight of the texts that have the label and are predicted
    predicted: Floats  # (L, G), weight of the texts that are predicted
    n_with: Floats  # (L,), weight of the texts that have the label
    evidence: Floats  # (L,), number of texts that have the label or lack it, whichever is smaller
    steps: NDArray[np.uint16]  # (L, n), number of candidates that each probability reaches; 0 for an unknown entry
    has: NDArray[np.bool_]  # (L, n), whether the text has the label
    weight: Floats  # (n,)

    @classmethod
    def of(cls, y: NDArray[np.float32], proba: Floats, candidates: Floats, sample_weight: Any = None) -> Curves:
        """Count blocks of labels in threads."""
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

        n_threads = 1 if runs_in_task() else min(effective_n_jobs(-1), cpu_count())  # Dask counts its whole cluster
        with ThreadPoolExecutor(max_workers=n_threads) as pool:
            list(pool.map(count, range(0, n_labels, LABELS_AT_ONCE)))

        def at_least(counts: Floats) -> Floats:
            return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1][:, 1:]

        row_weight = np.ones(n) if weight is None else weight
        return cls(candidates, at_least(right), at_least(predicted), n_with, evidence, steps, has, row_weight)

    @property
    def has_both(self) -> NDArray[np.bool_]:
        """Whether some texts have the label and some do not, shape (L,)."""
        return self.evidence > 0

    def f1(self) -> Floats:
        """F1 of each label at each candidate, shape (L, G); 0 for a label that no text has."""
        return _f1(self.right, self.predicted, self.n_with[:, None])

    def common_scores(self, metric: str) -> Floats:
        """Metric at each candidate as the threshold of all labels, shape (G,); micro F1 for "tune"."""
        if metric == "f1_samples":
            return self._row_f1()
        if metric in ("f1_micro", "tune"):
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
        """Return the best threshold common to all labels."""
        return float(self.candidates[_middle_of_best(self.common_scores(metric)[None])[0]])

    def shrink(self, own: Floats, common: float, n_texts: float) -> Floats:
        """Average the labels' own thresholds, shape (L,), with a common one as log-odds.

        The own ones weigh as much as there is evidence, the common one as much as `n_texts`.
        """
        share = self.evidence / (self.evidence + n_texts)
        odds = _log_odds([own, np.full_like(own, common)])
        return np.asarray(expit(share * odds[0] + (1 - share) * odds[1]))


def _log_odds(values: Any) -> Floats:
    return np.asarray(logit(np.clip(values, SMALLEST, 1 - SMALLEST)))


def _f1(right: Any, predicted: Any, n_with: Any) -> Floats:
    total = predicted + n_with
    return np.asarray(2 * right / np.where(total > 0, total, 1))


def _middle_of_best(scores: Floats) -> NDArray[np.int64]:
    """Return the middle of the first run of largest values of each row."""
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-12
    first = best.argmax(axis=1)
    ends = np.where(np.arange(scores.shape[1]) < first[:, None], True, best)
    last = np.where(ends.all(axis=1), scores.shape[1], (~ends).argmax(axis=1)) - 1
    return (first + last) // 2


def _best_macro(curves: Curves) -> NDArray[np.int64]:
    return _middle_of_best(curves.f1())


def _best_micro(curves: Curves) -> NDArray[np.int64]:
    """Return the candidate of each label for the largest micro F1.

    Given the micro F1 that is reached, the best candidate of a label does not depend on the others.
    """
    labels = np.arange(len(curves.n_with))
    score = float(curves.common_scores("f1_micro").max())
    for _ in range(ROUNDS):
        chosen = _middle_of_best(2 * curves.right - score * curves.predicted)
        reached = float(
            _f1(curves.right[labels, chosen].sum(), curves.predicted[labels, chosen].sum(), curves.n_with.sum())
        )
        if reached <= score + 1e-12:
            break
        score = reached
    return chosen


def _best_for_samples(curves: Curves) -> Floats:
    """Return thresholds, shape (L,), for a large samples F1: from those for micro F1, improve label by label."""
    common, has = curves.common("f1_samples"), curves.has
    n_steps = len(curves.candidates) + 1
    chosen = curves.shrink(curves.candidates[_best_micro(curves)], common, COMMON_TEXTS)
    n_with = has.sum(axis=0).astype(np.float32)
    n_right, n_predicted = np.zeros_like(n_with), np.zeros_like(n_with)

    def count(label: int, sign: int) -> None:
        """Add the decisions on a label to the counts (sign 1) or subtract them (-1)."""
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
            chosen[label] = curves.shrink(np.full(len(chosen), own), common, COMMON_TEXTS)[label]
            count(label, 1)
    return chosen


def _best_for_precision(curves: Curves, wanted: float, names: Sequence[Any], worth_saying: NDArray[np.bool_]) -> Floats:
    """Return the lowest thresholds, shape (L,), that reach a precision; 1, with a warning, where none does."""
    n_with = curves.n_with.sum()
    prior = COMMON_TEXTS / n_with if n_with else 0.0
    right = curves.right + prior * curves.right.sum(0)
    predicted = curves.predicted + prior * curves.predicted.sum(0)
    reached = (right > 0) & (right >= wanted * predicted)
    never = ~reached.any(axis=1)
    if (unreached := never & worth_saying).any():
        why = f"do not reach a precision of {wanted:g} on the held-out texts"
        _warn(names, unreached, f"{why} and get the threshold 1")
    return np.where(never, 1.0, curves.candidates[reached.argmax(axis=1)])


def _warn(names: Sequence[Any], which: NDArray[np.bool_], what: str) -> None:
    labels = np.flatnonzero(which).tolist()
    shown = short_names([names[label] for label in labels])
    warnings.warn(f"{len(labels)} of {len(names)} labels {what}: {shown}.", UserWarning, stacklevel=3)


def _is_precision(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"precision"}


def _choices() -> str:
    return f"{', '.join(map(repr, METRICS))}, or a precision such as {{'precision': 0.9}}"
