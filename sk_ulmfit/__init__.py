"""ULMFiT for scikit-learn: multi-label text classification from raw text."""

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.language_model import ULMFiTLanguageModel

__all__ = ["ULMFiTLanguageModel", "ULMFiTMultiLabelClassifier"]
__version__ = "0.1.0"
