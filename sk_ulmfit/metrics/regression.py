"""Scores of predicted values on a scale, by target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

Floats = NDArray[np.float64]


def r2_by_target(y: Floats, predicted: Floats, sample_weight: Floats | None = None) -> Floats:
    """Compute R² of each target on its known values, shape (T,); NaN where fewer than two are known.

    `y` and `predicted` have the shape (n, T); NaN in `y` is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.metrics.regression import r2_by_target
    >>> y = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, np.nan]])
    >>> r2_by_target(y, np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])).tolist()
    [1.0, nan]
    """
    return _by_target(y, predicted, r2_score, sample_weight)


def regression_scores(y: Floats, predicted: Floats) -> dict[str, Floats]:
    """Compute R², mean absolute error, and the correlations of Spearman and Pearson, shape (T,) each.

    They count the known values of each target; NaN where they are not defined.
    """
    return {
        "r2": r2_by_target(y, predicted),
        "mean_absolute_error": _by_target(y, predicted, mean_absolute_error, fewest=1),
        "spearman": _by_target(y, predicted, _correlation(spearmanr)),
        "pearson": _by_target(y, predicted, _correlation(pearsonr)),
    }


def _correlation(of: Callable[..., Any]) -> Callable[[Floats, Floats], float]:
    """Return a correlation that is NaN, without a warning, where values or predictions are constant."""

    def correlation(y: Floats, predicted: Floats) -> float:
        return float(of(y, predicted).statistic) if min(np.ptp(y), np.ptp(predicted)) > 0 else np.nan

    return correlation


def _by_target(
    y: Floats,
    predicted: Floats,
    score: Callable[..., float],
    sample_weight: Floats | None = None,
    fewest: int = 2,
) -> Floats:
    scores = np.full(y.shape[1], np.nan)
    for target, (true, values) in enumerate(zip(y.T, predicted.T, strict=True)):
        known = ~np.isnan(true)
        if known.sum() >= fewest:
            weight = {} if sample_weight is None else {"sample_weight": sample_weight[known]}
            scores[target] = score(true[known], values[known], **weight)
    return scores
