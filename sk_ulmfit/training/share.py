"""The share of the network in the mean with the linear model, learned from predictions for held-out texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.task import Task

Floats = NDArray[np.float64]

PRIOR_TEXTS = 500  # texts that speak for one half; the linear model gains more from the held-out part than the head
HALF_SHARE = 3  # with so many texts of a label, the network has half of the share that it has for frequent labels


def learn_share(
    network: Floats,
    linear: Floats,
    y: NDArray[np.floating[Any]],
    task: Task,
    document_weight: NDArray[np.float32] | None = None,
    n_telling: NDArray[Any] | None = None,
) -> Floats:
    """Return the share of the network for each label or target, shape (L,), from 0 to 1.

    One number is learned for all labels, since one for each fits the noise of its few texts: that whose mean scores
    have the smallest cross-entropy, or squared error of values, drawn towards one half. For a label that c texts have,
    or lack if these are fewer, it is multiplied by c / (c + 3), since rare labels hang on single words; for a target,
    c counts the texts with a known value.

    Parameters
    ----------
    network, linear : ndarray of float64, shape (n, L)
        Scores of texts that neither model was trained on: log-odds, or standardised values.
    y : ndarray, shape (n, L)
        Labels or values, NaN where unknown.
    task : Task
        What both models have learned.
    document_weight : ndarray of float32, shape (n,), default=None
        Weight of each text.
    n_telling : ndarray, shape (L,), default=None
        The counts c of the texts that the models were trained on; None counts these texts.
    """
    of_scores = task.without_link()
    targets, cost = of_scores.entries(y, document_weight)

    def loss(share: float) -> float:
        return float(of_scores.losses(average_with_linear_model(network, linear, share), targets, cost)[0].sum())

    best, n = float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x), len(y)
    share = (n * best + PRIOR_TEXTS * 0.5) / (n + PRIOR_TEXTS)
    n_telling = task.n_telling(y) if n_telling is None else n_telling
    return np.asarray(share * n_telling / (n_telling + HALF_SHARE))
