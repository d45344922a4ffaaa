"""The share of the network in the mean with the linear model, learned from predictions for held-out texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.linear_head import cross_entropy, entry_costs

Floats = NDArray[np.float64]

PRIOR_TEXTS = 500  # texts that speak for one half; the linear model gains more from the held-out part than the head
HALF_SHARE = 3  # with so many texts of a label, the network has half of the share that it has for frequent labels


def learn_share(
    network: Floats,
    linear: Floats,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None = None,
    pos_weight: Floats | None = None,
) -> Floats:
    """Return the share of the network for each label, shape (L,), from 0 to 1.

    One number is learned for all labels, since one for each fits the noise of its few texts: that whose mean log-odds
    have the smallest cross-entropy, drawn towards one half. For a label that c texts have, or lack if these are fewer,
    it is multiplied by c / (c + 3): rare labels hang on single words.

    Parameters
    ----------
    network, linear : ndarray of float64, shape (n, L)
        Log-odds of texts that neither model was trained on.
    y : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    document_weight : ndarray of float32, shape (n,), default=None
        Weight of each text.
    pos_weight : ndarray of float64, shape (L,), default=None
        Factor on the loss of the entries that are 1.
    """
    present, cost = entry_costs(y, document_weight, pos_weight)

    def loss(share: float) -> float:
        return float(cross_entropy(average_with_linear_model(network, linear, share), present, cost)[0].sum())

    best, n = float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x), len(y)
    share = (n * best + PRIOR_TEXTS * 0.5) / (n + PRIOR_TEXTS)
    n_rarer = np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0))
    return np.asarray(share * n_rarer / (n_rarer + HALF_SHARE))
