"""What is learned from held-out predictions: calibration and thresholds."""

from __future__ import annotations

from typing import Any

from sk_ulmfit.calibration import calibrate, fit_calibration
from sk_ulmfit.thresholds import tune_thresholds
from sk_ulmfit.training.data import LabelledTexts
from sk_ulmfit.training.stages import HeldOut


def learn_decisions(
    data: LabelledTexts, held_out: HeldOut, calibration: str | None, metric: str | float | None
) -> dict[str, Any]:
    """Learn how to correct and to threshold probabilities, as entries of the configuration of a classifier.

    Parameters
    ----------
    data : LabelledTexts
        Texts and labels of the training.
    held_out : HeldOut
        Rows that were not learned from, and the probabilities for them.
    calibration : {"platt", "temperature"} or None
        Method of `fit_calibration`; None corrects nothing.
    metric : str, float or None
        What the thresholds are chosen for, as `threshold_metric` gives it; None chooses none.

    Returns
    -------
    dict
        "calibration" (2, L), "thresholds" (L,) and "threshold_metric", as lists and numbers of JSON.
    """
    y, proba, weight = data.indicator[held_out.rows], held_out.proba, data.weight_of(held_out.rows)
    decisions: dict[str, Any] = {}
    if calibration is not None:
        coefficients = fit_calibration(y, proba, calibration, sample_weight=weight)
        decisions["calibration"] = coefficients.tolist()
        proba = calibrate(proba, coefficients)
    if metric is not None:
        thresholds = tune_thresholds(y, proba, metric=metric, sample_weight=weight, label_names=data.label_names)
        decisions |= {"thresholds": thresholds.tolist(), "threshold_metric": metric}
    return decisions
