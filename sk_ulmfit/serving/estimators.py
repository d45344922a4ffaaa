"""The estimators of this package as models to serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._messages import short
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.models.state import kind_of
from sk_ulmfit.regressor import ULMFiTRegressor
from sk_ulmfit.serving.models import Floats, Integers, ServedModel


class _Served:
    """What classifiers and regressors have in common."""

    explains = True

    def __init__(self, estimator: Any):
        check_is_fitted(estimator)
        self._estimator = estimator._as_it_is()
        self._outputs = self._estimator._fitted.names.tolist()
        self.names = [str(name) for name in self._outputs]
        self.metadata = getattr(estimator, "metadata_", {})
        for network in self._estimator._fitted.networks:
            network.module.eval()  # no thread finds it in training mode

    def explain(self, text: str, columns: list[int], method: str) -> Any:
        """Return the explanation of the outputs with these columns."""
        return self._estimator.explain([text], [self._outputs[k] for k in columns], method)[0]


class ServedClassifier(_Served):
    """A fitted `ULMFiTMultiLabelClassifier`."""

    kind = "classifier"
    ranges: list[tuple[float, float]] | None = None

    def __init__(self, clf: ULMFiTMultiLabelClassifier):
        super().__init__(clf)
        self._rule = self._estimator._decision_rule()
        self.thresholds: Floats | None = self._estimator.thresholds_
        self.top_k: int | None = self._estimator.top_k
        self.at_least_one = bool(self._rule.keywords["at_least_one"])

    def predict(self, texts: list[str]) -> Floats:
        """Return probabilities, shape (n, K)."""
        return self._estimator.predict_proba(texts)

    def decide(self, probabilities: Floats) -> Integers:
        """Return 0 and 1 by label, shape (n, K)."""
        return self._rule(probabilities)


class ServedRegressor(_Served):
    """A fitted `ULMFiTRegressor`."""

    kind = "regressor"
    thresholds: Floats | None = None
    top_k: int | None = None
    at_least_one = False

    def __init__(self, model: ULMFiTRegressor):
        super().__init__(model)
        config = self._estimator._fitted.config
        self.ranges: list[tuple[float, float]] | None = None
        if "y_range" in config:
            self.ranges = [(float(low), float(high)) for low, high in zip(*config["y_range"], strict=True)]

    def predict(self, texts: list[str]) -> Floats:
        """Return values, shape (n, K)."""
        return self._estimator.predict(texts).reshape(len(texts), -1)

    def decide(self, probabilities: Floats) -> Integers:
        """Raise an error, since nothing is decided on values."""
        raise NotImplementedError


def load_estimator(path: str | os.PathLike[str], device: str, threshold: float | None) -> ServedModel:
    """Read a saved classifier or regressor."""
    if kind_of(Path(path)) == "regressor":
        if threshold is not None:
            raise ValueError(f"--threshold is for labels, but {path} is a regressor; omit it.")
        return ServedRegressor(ULMFiTRegressor.load(path, device=device))
    clf = ULMFiTMultiLabelClassifier.load(path, device=device)
    if threshold is not None:
        clf.set_thresholds(threshold).set_params(top_k=None)
    return ServedClassifier(clf)


def serve_estimator(estimator: Any) -> ServedModel:
    """Return a fitted estimator as a model to serve; raise ValueError for any other object."""
    if isinstance(estimator, ULMFiTMultiLabelClassifier):
        return ServedClassifier(estimator)
    if isinstance(estimator, ULMFiTRegressor):
        return ServedRegressor(estimator)
    raise ValueError(
        "model must be a fitted ULMFiTMultiLabelClassifier or ULMFiTRegressor, or an exported one; got "
        f"{short(estimator)} of type {type(estimator).__name__}."
    )
