"""Exported models, which onnxruntime predicts, as models to serve: without torch, scikit-learn and explanations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sk_ulmfit._validation import check_number
from sk_ulmfit.decisions import decide
from sk_ulmfit.runtime import OnnxClassifier, OnnxRegressor, load
from sk_ulmfit.serving.models import Floats, Integers, ServedModel


class ServedExportedClassifier:
    """An exported classifier; a threshold replaces its own rule."""

    kind = "classifier"
    explains = False
    ranges: list[tuple[float, float]] | None = None

    def __init__(self, model: OnnxClassifier, threshold: float | None = None):
        decisions: dict[str, Any] = model._description["decisions"]
        self._model = model
        self.metadata: Mapping[str, Any] = model.metadata_
        self.names = [str(name) for name in model.label_names_]
        self.thresholds: Floats | None = model.thresholds_
        self.top_k: int | None = decisions["top_k"]
        self.at_least_one: bool = decisions["at_least_one"]
        if threshold is not None:
            check_number("threshold", threshold, low=0, high=1)
            self.thresholds, self.top_k, self.at_least_one = np.full(len(self.names), threshold), None, False

    def predict(self, texts: list[str]) -> Floats:
        """Return probabilities, shape (n, K)."""
        return self._model.predict_proba(texts)

    def decide(self, probabilities: Floats) -> Integers:
        """Return 0 and 1 by label, shape (n, K)."""
        assert self.thresholds is not None
        return decide(probabilities, self.thresholds, top_k=self.top_k, at_least_one=self.at_least_one)

    def explain(self, text: str, columns: list[int], method: str) -> Any:
        """Raise an error, since there are no gradients in a graph for predictions."""
        raise NotImplementedError


class ServedExportedRegressor:
    """An exported regressor."""

    kind = "regressor"
    explains = at_least_one = False
    thresholds: Floats | None = None
    top_k: int | None = None

    def __init__(self, model: OnnxRegressor):
        self._model = model
        self.metadata: Mapping[str, Any] = model.metadata_
        self.names = [str(name) for name in model.target_names_]
        self.ranges: list[tuple[float, float]] | None = None
        if model._y_range is not None:
            self.ranges = [(float(low), float(high)) for low, high in zip(*model._y_range, strict=True)]

    def predict(self, texts: list[str]) -> Floats:
        """Return values, shape (n, K)."""
        return self._model.predict(texts).reshape(len(texts), -1)

    def decide(self, probabilities: Floats) -> Integers:
        """Raise an error, since nothing is decided on values."""
        raise NotImplementedError

    def explain(self, text: str, columns: list[int], method: str) -> Any:
        """Raise an error, since there are no gradients in a graph for predictions."""
        raise NotImplementedError


def load_exported(path: str | os.PathLike[str], threshold: float | None, n_threads: int | None) -> ServedModel:
    """Read the folder of an exported model."""
    try:
        model = load(path, n_threads=n_threads)
    except ImportError as error:
        raise ValueError(str(error)) from None
    return serve_exported(model, threshold)


def serve_exported(model: OnnxClassifier | OnnxRegressor, threshold: float | None = None) -> ServedModel:
    """Return an exported model as a model to serve; raise ValueError for a threshold of a regressor."""
    if isinstance(model, OnnxClassifier):
        return ServedExportedClassifier(model, threshold)
    if threshold is not None:
        raise ValueError("--threshold is for labels, but this model is a regressor; omit it.")
    return ServedExportedRegressor(model)
