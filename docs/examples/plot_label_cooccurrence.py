"""
Which labels occur together
===========================

In multi-label data, some labels often occur together and some never do. This example shows both for the messages that the
package includes, and whether a classifier predicts the same pairs.
"""

# %%
# Each row shows the share of the messages with that label that also have the other label. The true labels are on the left,
# the predicted ones on the right.

import numpy as np

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import LabelCooccurrenceDisplay

train, test = load_support_messages("train"), load_support_messages("test")
clf = ULMFiTMultiLabelClassifier(random_state=0).fit(train.texts, train.labels)
display = LabelCooccurrenceDisplay.from_estimator(clf, test.texts, test.labels)

# %%
# The number of labels per message:

for n, messages in enumerate(np.bincount(train.indicator().sum(axis=1))):
    print(f"{n} labels: {messages} messages")

# %%
# The classifier decides on each label separately, but all labels share the same features of a text. Use
# :class:`~sk_ulmfit.MultiLabelStratifiedKFold` to split such data: it keeps the share of every label.
