"""ULMFiT for scikit-learn: multi-label classification of raw texts, and regression on them."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sk_ulmfit._version import __version__ as __version__

if TYPE_CHECKING:
    from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
    from sk_ulmfit.datasets import TextFieldJoiner
    from sk_ulmfit.language_model import ULMFiTLanguageModel
    from sk_ulmfit.regressor import ULMFiTRegressor
    from sk_ulmfit.splitting import MultiLabelStratifiedKFold, MultiLabelStratifiedShuffleSplit
    from sk_ulmfit.tuner import MultiLabelThresholdTuner

__all__ = [
    "MultiLabelStratifiedKFold",
    "MultiLabelStratifiedShuffleSplit",
    "MultiLabelThresholdTuner",
    "TextFieldJoiner",
    "ULMFiTLanguageModel",
    "ULMFiTMultiLabelClassifier",
    "ULMFiTRegressor",
]

_HOMES = {
    "MultiLabelStratifiedKFold": "splitting",
    "MultiLabelStratifiedShuffleSplit": "splitting",
    "MultiLabelThresholdTuner": "tuner",
    "TextFieldJoiner": "datasets",
    "ULMFiTLanguageModel": "language_model",
    "ULMFiTMultiLabelClassifier": "classifier",
    "ULMFiTRegressor": "regressor",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import an estimator or a module when it is first asked for: pre-training needs neither of the estimators."""
        module = _HOMES.get(name, name)
        if module.startswith("_") or find_spec(f"sk_ulmfit.{module}") is None:
            raise AttributeError(f"module 'sk_ulmfit' has no attribute {name!r}")
        loaded = import_module(f"sk_ulmfit.{module}")
        return getattr(loaded, name) if name in _HOMES else loaded


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
