"""What a server needs of a model, and models from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.serving.threads import default_threads

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class ServedModel(Protocol):
    """A fitted model as a server uses it: from two threads, each with one call at a time.

    Attributes
    ----------
    kind : {"classifier", "regressor"}
        What it predicts.
    names : list of str
        Names of its K labels or targets.
    thresholds : ndarray of float64, shape (K,), or None
        Thresholds of the labels.
    ranges : list of (float, float) or None
        Range of each target, if it is known.
    top_k : int or None
        Labels of each text, if it is a fixed number.
    at_least_one : bool
        Whether a text without a label gets one.
    metadata : mapping
        Notes of the file; those of ``sk-ulmfit train`` name the text columns and the delimiter.
    explains : bool
        Whether it has explanations.
    """

    kind: str
    names: list[str]
    thresholds: Floats | None
    ranges: list[tuple[float, float]] | None
    top_k: int | None
    at_least_one: bool
    metadata: Mapping[str, Any]
    explains: bool

    def predict(self, texts: list[str]) -> Floats:
        """Return probabilities or values, shape (n, K)."""

    def decide(self, probabilities: Floats) -> Integers:
        """Return 0 and 1 by label, shape (n, K); not called of a regressor."""

    def explain(self, text: str, columns: list[int], method: str) -> Any:
        """Return an `Explanation`, or a `ValueExplanation`, of the outputs with these columns."""


def load_served(
    path: str | os.PathLike[str], device: str = "auto", threshold: float | None = None, n_threads: int | None = None
) -> ServedModel:
    """Read a saved model, or the folder of an exported one; a threshold replaces those of a classifier."""
    if Path(path).is_dir():
        from sk_ulmfit.serving.exported import load_exported

        return load_exported(path, threshold, n_threads or default_threads())
    from sk_ulmfit.serving.estimators import load_estimator

    return load_estimator(path, device, threshold)


def as_served(model: Any) -> ServedModel:
    """Return a fitted estimator as a model to serve; any other model is taken as it is."""
    if hasattr(model, "explains"):
        served: ServedModel = model
        return served
    if type(model).__name__ in ("OnnxClassifier", "OnnxRegressor"):
        from sk_ulmfit.serving.exported import serve_exported

        return serve_exported(model)
    from sk_ulmfit.serving.estimators import serve_estimator

    return serve_estimator(model)
