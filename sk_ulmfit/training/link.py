"""How the outputs of a network become standardised values within a range. This file needs numpy alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.schema import LOSSES

Floats = NDArray[np.float64]

SQUARED_ERROR, CROSS_ENTROPY = LOSSES
WIDENING = 0.05  # part of the width of a range by which a sigmoid goes beyond either end, so that it can reach it


class Sigmoid(NamedTuple):
    """Scores as a function of outputs x: offset + gain * sigmoid(x), both of shape (K,)."""

    offset: Floats
    gain: Floats


def sigmoid_of(mean: Floats, scale: Floats, y_range: Any, loss: str) -> Sigmoid | None:
    """Return the sigmoid of each target, None without a range; arguments as of `Regression`."""
    if y_range is None:
        return None
    low, high = y_range
    margin = 0.0 if loss == CROSS_ENTROPY else WIDENING * (high - low)
    return Sigmoid((low - margin - mean) / scale, (high - low + 2 * margin) / scale)
