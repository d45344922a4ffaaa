"""Which words of a text speak for and against each label."""

from sk_ulmfit.explain.explanation import Explanation, Explanations

__all__ = ["Explanation", "Explanations"]
