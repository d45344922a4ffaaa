"""Metrics that scikit-learn lacks, or refuses to compute where entries are unknown."""

from __future__ import annotations

from sk_ulmfit.metrics._checks import match_predictions, named_indicator
from sk_ulmfit.metrics.calibration import expected_calibration_error
from sk_ulmfit.metrics.decisions import exact_match, f1_score, hamming_loss
from sk_ulmfit.metrics.ranking import mean_average_precision, ndcg_at_k, precision_at_k, r_precision
from sk_ulmfit.metrics.report import multilabel_report
from sk_ulmfit.metrics.scorer import multilabel_scorer

__all__ = [
    "exact_match",
    "expected_calibration_error",
    "f1_score",
    "hamming_loss",
    "match_predictions",
    "mean_average_precision",
    "multilabel_report",
    "multilabel_scorer",
    "named_indicator",
    "ndcg_at_k",
    "precision_at_k",
    "r_precision",
]
