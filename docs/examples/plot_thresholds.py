"""
Thresholds for rare labels
==========================

With few texts of a label no probability is large, and 0.5 finds hardly any of them. Here two labels are made rare, and each
label gets a threshold of its own.
"""

# %%
# Most messages with the labels "refund" and "cancellation" are taken out of the training part. The head alone is trained, so
# that this runs fast.

import numpy as np
from sklearn.metrics import f1_score

from sk_ulmfit import MultiLabelThresholdTuner, ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import ThresholdCurveDisplay

train, test = load_support_messages("train"), load_support_messages("test")
names = train.label_names
rare = [names.index("refund"), names.index("cancellation")]
y, y_test = train.indicator(), test.indicator(names)

has_rare = np.flatnonzero(y[:, rare].any(axis=1))
left_out = np.random.default_rng(0).permutation(has_rare)[24:]
kept = np.setdiff1d(np.arange(len(y)), left_out)
texts, y = [train.texts[i] for i in kept], y[kept]
for name, n in zip(names, y.sum(axis=0), strict=True):
    print(f"{name:12} {n} texts")

# %%
# The tuner trains on four fifths of the texts and asks for the probabilities of the others, five times over; then it chooses
# the thresholds, and trains on everything.

clf = ULMFiTMultiLabelClassifier(lm_epochs=0, unfreezing="head", random_state=0)
tuner = MultiLabelThresholdTuner(clf, random_state=0).fit(texts, y)
proba = tuner.predict_proba(test.texts)

# %%
# The two rare labels and a common one on the test messages, whatever the threshold. The black lines mark the thresholds that
# were chosen; the test messages had no part in that.

shown = [*(names[k] for k in rare), "delivery"]
display = ThresholdCurveDisplay.from_predictions(
    y_test, proba, label_names=names, labels=shown, thresholds=tuner.best_thresholds_
)

# %%
# Over all labels:

for title, decided in (("0.5", proba >= 0.5), ("tuned", tuner.predict(test.texts))):
    macro, micro = (f1_score(y_test, decided, average=a) for a in ("macro", "micro"))
    print(f"threshold {title:6} macro F1 {macro:.3f}, micro F1 {micro:.3f}")
