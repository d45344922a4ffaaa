"""Types of parameters: the names to choose from, and forms that a value may have. What is checked is read from here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

# --- Names to choose from; `typing.get_args` returns them ---

Direction: TypeAlias = Literal["forward", "backward"]
Directions: TypeAlias = Literal["forward", "backward", "both"]
Schedule: TypeAlias = Literal["slanted_triangular", "one_cycle"]
Unfreezing: TypeAlias = Literal["auto", "gradual", "at_once", "head"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "int8"]
TrainingPrecision: TypeAlias = Literal["auto", "float32", "bfloat16"]
Loss: TypeAlias = Literal["squared_error", "cross_entropy"]
Calibration: TypeAlias = Literal["temperature", "platt"]
ThresholdMetric: TypeAlias = Literal["f1_macro", "f1_micro", "f1_samples", "tune"]
ExplainMethod: TypeAlias = Literal["gradient", "occlusion"]
Average: TypeAlias = Literal["micro", "macro", "samples"]
Blank: TypeAlias = Literal["absent", "unknown"]
Container: TypeAlias = Literal["default", "pandas", "polars"]

# --- Forms of a value ---


class HasArray(Protocol):
    """An array, or a Series of pandas or polars."""

    def __array__(self) -> NDArray[Any]: ...


class Memory(Protocol):
    """A ``joblib.Memory``."""

    def cache(self, *args: Any, **kwargs: Any) -> Any: ...


Numbers: TypeAlias = Sequence[float] | HasArray
NumberByLabel: TypeAlias = float | Numbers | Mapping[Any, float]
Threshold: TypeAlias = Literal["auto"] | ThresholdMetric | NumberByLabel
ThresholdGoal: TypeAlias = ThresholdMetric | float | Mapping[str, float]
PosWeight: TypeAlias = Literal["balanced"] | NumberByLabel | None
RandomState: TypeAlias = int | np.integer[Any] | np.random.RandomState | None
Cache: TypeAlias = str | os.PathLike[str] | Memory | None
