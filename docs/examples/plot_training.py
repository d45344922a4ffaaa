"""
How a training went
===================

Losses by epoch, probabilities compared with what happened, and the words behind a decision.
"""

# %%
# With a few hundred texts, the encoder is not trained by default, so there are no epochs to show. Here its layers are
# unfrozen one by one. A part of the messages is held out. Dashed lines mark the epoch from which a group of layers is trained,
# and the ring marks the epoch whose weights were kept.

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import ReliabilityDisplay, TrainingCurvesDisplay

train, test = load_support_messages("train"), load_support_messages("test")
clf = ULMFiTMultiLabelClassifier(
    unfreezing="gradual", early_stopping=True, random_state=0
)
clf.fit(train.texts, train.labels)
display = TrainingCurvesDisplay.from_estimator(clf)

# %%
# Are its probabilities right? Above the diagonal, labels are more frequent than predicted.

display = ReliabilityDisplay.from_estimator(clf, test.texts, test.labels, n_bins=8)

# %%
# Which words speak for the labels of a message? The darker a word, the more it counts. Dashes mark words against the label.

clf.explain(test.texts[:4])
