"""Displays in scikit-learn's style: training curves, learning rates, thresholds, label co-occurrence and reliability.

A display holds computed values. `from_estimator` and `from_predictions` compute and draw them; `plot` draws them again.
Matplotlib is imported when a display is drawn. No window opens: call ``matplotlib.pyplot.show`` or save `figure_`. All
raise ValueError if shapes do not match, a label is unknown, or there is nothing to draw.
"""

from __future__ import annotations

from sk_ulmfit.plotting.label_cooccurrence import LabelCooccurrenceDisplay
from sk_ulmfit.plotting.learning_rate import LearningRateDisplay
from sk_ulmfit.plotting.reliability import ReliabilityCurve, ReliabilityDisplay
from sk_ulmfit.plotting.threshold_curve import ThresholdCurve, ThresholdCurveDisplay
from sk_ulmfit.plotting.training_curves import TrainingCurvesDisplay

__all__ = [
    "LabelCooccurrenceDisplay",
    "LearningRateDisplay",
    "ReliabilityCurve",
    "ReliabilityDisplay",
    "ThresholdCurve",
    "ThresholdCurveDisplay",
    "TrainingCurvesDisplay",
]
