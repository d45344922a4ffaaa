"""
How a training went
===================

Losses of all stages, probabilities that come true or do not, and the words behind a decision.
"""

# %%
# A short training with a part of the messages held out. Dashed lines say from which epoch on a group of layers is trained; the
# ring marks the epoch whose weights were kept.

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import ReliabilityDisplay, TrainingCurvesDisplay

train, test = load_support_messages("train"), load_support_messages("test")
clf = ULMFiTMultiLabelClassifier(
    lm_epochs=1,
    max_epochs=4,
    batch_size=16,
    early_stopping=True,
    random_state=0,
)
clf.fit(train.texts, train.labels)
display = TrainingCurvesDisplay.from_estimator(clf)

# %%
# Do its probabilities come true? Above the diagonal they are too low.

display = ReliabilityDisplay.from_estimator(clf, test.texts, test.labels, n_bins=8)

# %%
# And which words speak for the labels of a message? The darker, the more; dashes are against.

clf.explain(test.texts[:4])
