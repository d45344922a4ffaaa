"""Displays after scikit-learn's: training, thresholds, labels that go together, reliability and learning rates.

A display holds what was computed; matplotlib is imported when it is drawn. `from_estimator` and `from_predictions`
compute and draw, ``plot(ax=...)`` draws again. No window is opened: call ``matplotlib.pyplot.show``, or save `figure_`.
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
