"""From probabilities to decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.labels import per_label


def check_thresholds(threshold: Any, names: Sequence[Any]) -> NDArray[np.float64]:
    """Give one threshold per label.

    Parameters
    ----------
    threshold : float, array-like of shape (L,), or dict
        One for all labels, one per label, or by label name (labels not named keep 0.5).
    names : sequence of length L
        Label names.

    Returns
    -------
    ndarray of float64, shape (L,)
        Thresholds in [0, 1]; a label is predicted where its probability reaches its threshold.

    Raises
    ------
    ValueError
        If a threshold lies outside [0, 1], a name is unknown, or the number does not fit.

    Examples
    --------
    >>> from sk_ulmfit.thresholds import check_thresholds
    >>> check_thresholds({"late": 0.3}, ["broken", "late"]).tolist()
    [0.5, 0.3]
    """
    values = per_label("threshold", threshold, names, 0.5)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"Every threshold must lie between 0 and 1, got {threshold!r}.")
    return values
