"""Which words of a text speak for and against each label, or raise and lower each value."""

from sk_ulmfit.explain.explanation import Explanation, Explanations, ValueExplanation

__all__ = ["Explanation", "Explanations", "ValueExplanation"]
