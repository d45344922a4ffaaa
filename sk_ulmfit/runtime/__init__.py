"""Predictions of exported models with onnxruntime and numpy, without torch, scikit-learn and skorch."""

from sk_ulmfit.runtime.models import OnnxClassifier, OnnxRegressor, load

__all__ = ["OnnxClassifier", "OnnxRegressor", "load"]
