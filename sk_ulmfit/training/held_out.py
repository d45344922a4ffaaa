"""Predictions for texts that the predicting models did not learn from; calibration and thresholds learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._choices import Calibration, ThresholdMetric
from sk_ulmfit.calibration import calibrate, fit_calibration
from sk_ulmfit.thresholds import CANDIDATES, Curves, choose_thresholds
from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.bounds import bound_log_odds
from sk_ulmfit.training.data import LabelledTexts
from sk_ulmfit.training.linear_training import LinearFit
from sk_ulmfit.training.prediction import probabilities

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class HeldOut(NamedTuple):
    """Rows, and probabilities by models that did not learn from them.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Row numbers; none if no predictions were asked for.
    proba : ndarray of float64, shape (m, L)
        Probabilities.
    seed : int
        Seed of the training, which chose the rows.
    """

    rows: Rows
    proba: Floats
    seed: int


def held_out_by_turns(
    head: Floats, linear_fit: LinearFit | None, train: Rows, config: Mapping[str, Any], seed: int
) -> HeldOut:
    """Compute what a classifier says of training texts, each by a head and a linear model trained without it.

    Log-odds are averaged and bounded as in prediction. They are those of heads on the vectors of the frozen network,
    even if its layers are unfrozen afterwards: folds of such trainings would take as many times longer.

    Parameters
    ----------
    head : ndarray of float64, shape (len(train), L)
        Out-of-fold log-odds of the linear head.
    linear_fit : LinearFit or None
        The linear model with its out-of-fold log-odds, whose rows are numbers of `train`; only these rows are used.
    train : ndarray of int64
        Row numbers of the training texts.
    config : mapping
        Configuration of the network, with the range of its log-odds.
    seed : int
        Seed of the training.
    """
    log_odds, rows = head, train
    if linear_fit is not None:
        rows = train[linear_fit.rows]
        log_odds = average_with_linear_model(head[linear_fit.rows], linear_fit.out_of_fold, linear_fit.model.share)
    return HeldOut(rows, probabilities(bound_log_odds(log_odds, config)), seed)


def learn_decisions(
    data: LabelledTexts, held_out: HeldOut, calibration: Calibration | None, metric: ThresholdMetric | float | None
) -> dict[str, Any]:
    """Learn how to correct and to decide on probabilities, as entries of the configuration of a classifier.

    Parameters
    ----------
    data : LabelledTexts
        Texts and labels of the training.
    held_out : HeldOut
        Rows, and probabilities by models that did not learn from them.
    calibration : {"platt", "temperature"} or None
        Method of `fit_calibration`; None corrects nothing.
    metric : str, float or None
        What the thresholds are chosen for, as `threshold_metric` gives it; None chooses none.

    Returns
    -------
    dict
        "every_text_has_label" and, if learned, "calibration" (2, L), "thresholds" (L,) and "threshold_metric", as types
        of JSON.
    """
    y, proba, weight = data.y[held_out.rows], held_out.proba, data.weight_of(held_out.rows)
    decisions: dict[str, Any] = {"every_text_has_label": data.every_text_has_label}
    if calibration is not None:
        coefficients = fit_calibration(y, proba, calibration, sample_weight=weight)
        decisions["calibration"] = coefficients.tolist()
        proba = calibrate(proba, coefficients)
    if metric is not None and not data.untrained.all():
        tuned = np.flatnonzero(~data.untrained)
        thresholds = np.full(len(data.names), 0.5)
        names = [data.names[label] for label in tuned]
        thresholds[tuned] = _tune(y[:, tuned], proba[:, tuned], weight, metric, names, data.constant[tuned])
        decisions |= {"thresholds": thresholds.tolist(), "threshold_metric": metric}
    return decisions


def _tune(
    y: NDArray[np.floating[Any]],
    proba: Floats,
    weight: NDArray[np.float64] | None,
    metric: str | float,
    names: list[Any],
    known_constant: NDArray[np.bool_],
) -> Floats:
    """Do what `tune_thresholds` does, without a second warning about labels that are known to be constant."""
    return choose_thresholds(Curves.of(y, proba, CANDIDATES, weight), metric, names, known_constant)
