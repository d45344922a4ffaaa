"""Multi-label metrics that scikit-learn lacks, or that it refuses to compute if entries are unknown.

The metrics share these parameters:

* `y_true` of shape (n, L): 0, 1, or NaN where unknown. Unknown entries are ignored.
* `y_score` of shape (n, L): probabilities or other scores; or a list of L arrays of shape (n, 2), as a random forest
  returns it. `y_proba` must be probabilities.
* `y_pred` of shape (n, L): decisions, 0 and 1.
* `sample_weight` of shape (n,): weight of each text; by default all weigh the same.

They return a float from 0 to 1, or NaN with a warning if there is nothing to judge. They raise ValueError if shapes do
not match.
"""

from __future__ import annotations

from sk_ulmfit.metrics._checks import align_predictions, align_truth, check_probabilities
from sk_ulmfit.metrics.calibration import expected_calibration_error
from sk_ulmfit.metrics.decisions import exact_match, f1_score, hamming_loss
from sk_ulmfit.metrics.ranking import mean_average_precision, ndcg_at_k, precision_at_k, r_precision
from sk_ulmfit.metrics.report import multilabel_report
from sk_ulmfit.metrics.scorer import multilabel_scorer

__all__ = [
    "align_predictions",
    "align_truth",
    "check_probabilities",
    "exact_match",
    "expected_calibration_error",
    "f1_score",
    "hamming_loss",
    "mean_average_precision",
    "multilabel_report",
    "multilabel_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "r_precision",
]
