"""
Which labels go together
========================

A multi-label data set is more than its labels one by one: some come together, some never do. Here are the messages that
come with the package.
"""

# %%
# Each row says which share of the messages with that label has the other one too: on the left the true labels, on the right
# those that a first classifier predicts. It finds most pairs, but not as often as they occur.

import numpy as np

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import LabelCooccurrenceDisplay

train, test = load_support_messages("train"), load_support_messages("test")
y = train.indicator()
clf = ULMFiTMultiLabelClassifier(lm_epochs=0, unfreezing="head", random_state=0).fit(train.texts, train.labels)
display = LabelCooccurrenceDisplay.from_estimator(clf, test.texts, test.labels)

# %%
# How many labels a message has:

for n, messages in enumerate(np.bincount(y.sum(axis=1))):
    print(f"{n} labels: {messages} messages")

# %%
# The network decides on each label by itself, but from features that all labels share. Splits should keep the share of every
# label, which :class:`~sk_ulmfit.MultiLabelStratifiedKFold` does.
