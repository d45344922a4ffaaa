"""Metrics as scorers for scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, Literal, TypeAlias

from sklearn.metrics import make_scorer

from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_choice
from sk_ulmfit.metrics.calibration import expected_calibration_error
from sk_ulmfit.metrics.decisions import f1_score, hamming_loss
from sk_ulmfit.metrics.ranking import mean_average_precision, ndcg_at_k, precision_at_k, r_precision

Metric: TypeAlias = Literal[
    "precision_at_k",
    "r_precision",
    "ndcg_at_k",
    "mean_average_precision",
    "expected_calibration_error",
    "f1_micro",
    "f1_macro",
    "f1_samples",
    "hamming_loss",
]
# For each name the metric, the method whose output it takes, and its fixed options
SCORERS: dict[Metric, tuple[Callable[..., float], str, dict[str, Any]]] = {
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


def multilabel_scorer(metric: Metric, **options: Any) -> Callable[..., float]:
    """Make a scorer for scikit-learn, such as for ``GridSearchCV(scoring=...)``.

    The scorer of an error or loss returns minus its value. If a label is in all training texts of a fold, and the
    classifier returns a single column for it, as a random forest does, this column is taken for the class 0.

    Parameters
    ----------
    metric : str
        "precision_at_k", "r_precision", "ndcg_at_k", "mean_average_precision", "expected_calibration_error",
        "f1_micro", "f1_macro", "f1_samples" or "hamming_loss".
    **options : dict
        Options of the metric, such as ``k=3``.

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
            f"{metric} has no option {short(min(wrong))}; it has {', '.join(map(repr, sorted(known))) or 'none'}."
        )
    return make_scorer(function, response_method=response_method, **{**fixed, **options})
