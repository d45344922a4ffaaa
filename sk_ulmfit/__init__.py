"""ULMFiT for scikit-learn: multi-label text classification from raw text."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
    from sk_ulmfit.language_model import ULMFiTLanguageModel

__all__ = ["ULMFiTLanguageModel", "ULMFiTMultiLabelClassifier"]
__version__ = "0.1.0"

_HOMES = {"ULMFiTLanguageModel": "language_model", "ULMFiTMultiLabelClassifier": "classifier"}


def __getattr__(name: str) -> Any:
    """Import an estimator or a module when it is first asked for: pre-training needs neither of the estimators."""
    try:
        module = import_module(f"sk_ulmfit.{_HOMES.get(name, name)}")
    except ModuleNotFoundError as error:
        if error.name != f"sk_ulmfit.{name}":
            raise
        raise AttributeError(f"module 'sk_ulmfit' has no attribute {name!r}") from None
    return getattr(module, name) if name in _HOMES else module


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
