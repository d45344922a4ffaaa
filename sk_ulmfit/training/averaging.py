"""How the log-odds of several models become those of one classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def average_with_linear_model(network: Floats, linear: Floats, share: Floats | float) -> Floats:
    """Return the weighted mean of the log-odds of the network and of the linear model.

    Parameters
    ----------
    network, linear : ndarray of float64, shape (..., n_labels)
        Log-odds.
    share : float, or ndarray of float64 of shape (n_labels,)
        Weight of the network, from 0 to 1 (`LinearModel.share`).

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.training.averaging import average_with_linear_model
    >>> average_with_linear_model(np.array([[4.0]]), np.array([[0.0]]), np.array([0.25])).tolist()
    [[1.0]]
    """
    return share * network + (1 - share) * linear


def mean_log_odds(log_odds: Sequence[Floats]) -> Floats:
    """Return the log-odds of the mean probability of networks (Howard & Ruder 2018, section 3.3).

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit, logit
    >>> from sk_ulmfit.training.averaging import mean_log_odds
    >>> float(expit(mean_log_odds([logit(np.array([0.5])), logit(np.array([0.9]))]))[0].round(3))
    0.7
    """
    if len(log_odds) == 1:
        return log_odds[0]
    stacked = np.stack(log_odds)
    absent = np.logaddexp.reduce(-np.logaddexp(0, stacked))
    present = np.logaddexp.reduce(-np.logaddexp(0, -stacked))
    return np.asarray(present - absent)
