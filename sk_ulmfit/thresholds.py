"""From probabilities to decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
    n = len(names)
    if isinstance(threshold, Mapping):
        unknown = [name for name in threshold if name not in names]
        if unknown:
            known = ", ".join(map(repr, names[:10])) + (", ..." if n > 10 else "")
            raise ValueError(f"threshold names the unknown label {unknown[0]!r}. The labels are {known}.")
        threshold = [threshold.get(name, 0.5) for name in names]
    try:
        if isinstance(threshold, str):
            raise TypeError
        values = np.asarray(threshold, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"threshold must be a number, one number per label, or a dict from label name to number; got {threshold!r}."
        ) from None
    if values.ndim > 1 or (values.ndim == 1 and len(values) != n):
        raise ValueError(f"threshold must be one number or {n} numbers, one per label; got shape {values.shape}.")
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"Every threshold must lie between 0 and 1, got {threshold!r}.")
    return np.broadcast_to(values, (n,)).copy()
