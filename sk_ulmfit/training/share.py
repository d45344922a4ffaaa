"""The share of the network in the mean with the linear model, learned from predictions for held-out texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.linear_head import cross_entropy, entry_costs

Floats = NDArray[np.float64]


def learn_share(
    network: Floats,
    linear: Floats,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None = None,
    pos_weight: Floats | None = None,
) -> float:
    """Return the share of the network, from 0 to 1, whose mean log-odds have the smallest cross-entropy.

    One share serves all labels: a share for each label fits the noise of its few texts.

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

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.training.share import learn_share
    >>> good, bad = np.array([[2.0], [-2.0]]), np.array([[-2.0], [2.0]])
    >>> round(learn_share(good, bad, np.array([[1.0], [0.0]])), 2)
    1.0
    """
    present, cost = entry_costs(y, document_weight, pos_weight)

    def loss(share: float) -> float:
        log_odds = average_with_linear_model(network, linear, share)
        return float(cross_entropy(log_odds, present, cost)[0].sum())

    return float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)
