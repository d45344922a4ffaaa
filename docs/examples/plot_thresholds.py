"""
Thresholds for rare labels
==========================

A label that few texts have rarely gets a probability of 0.5. With that threshold it is hardly ever predicted. This example
makes two labels rare and compares 0.5 with the thresholds that ``fit`` chooses.
"""

# %%
# We take out most training messages with the labels "refund" and "cancellation".

import numpy as np
from sklearn.metrics import f1_score

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.plotting import ThresholdCurveDisplay

train, test = load_support_messages("train"), load_support_messages("test")
names = train.label_names
rare = ["refund", "cancellation"]
columns = [names.index(name) for name in rare]
y, y_test = train.indicator(), test.indicator(names)

has_rare = np.flatnonzero(y[:, columns].any(axis=1))
left_out = np.random.default_rng(0).permutation(has_rare)[24:]
kept = np.setdiff1d(np.arange(len(y)), left_out)
texts, labels = [train.texts[i] for i in kept], [train.labels[i] for i in kept]
for name, n in zip(names, y[kept].sum(axis=0), strict=True):
    print(f"{name:12} {n} texts")

# %%
# By default, ``fit`` chooses a threshold for each label by cross-validation.

clf = ULMFiTMultiLabelClassifier(random_state=0).fit(texts, labels)
for name, threshold in zip(clf.label_names_, clf.thresholds_, strict=True):
    print(f"{name:12} {threshold:.2f}")

# %%
# Precision, recall and F1 on the test messages at every threshold, for the two rare labels and a frequent one. The black
# lines mark the thresholds that ``fit`` has chosen. It has not seen the test messages.

display = ThresholdCurveDisplay.from_estimator(
    clf, test.texts, test.labels, labels=[*rare, "delivery"]
)

# %%
# Over all labels, and for the two rare ones:

for threshold in (0.5, "auto"):
    decided = clf.set_thresholds(threshold).predict(test.texts)
    f1 = f1_score(y_test, decided, average=None)
    print(f"threshold {threshold!s:4}: macro F1 {f1.mean():.3f}", end="")
    print(f", of the rare labels {f1[columns].mean():.3f}")

# %%
# :class:`~sk_ulmfit.MultiLabelThresholdTuner` does the same for any classifier of scikit-learn.

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sk_ulmfit import MultiLabelThresholdTuner

linear = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
tuner = MultiLabelThresholdTuner(linear, random_state=0).fit(texts, y[kept])
untuned = tuner.predict_proba(test.texts) >= 0.5
for title, decided in (("0.5", untuned), ("tuned", tuner.predict(test.texts))):
    macro = f1_score(y_test, decided, average="macro", zero_division=0)
    print(f"TF-IDF + logistic regression, threshold {title:5}: macro F1 {macro:.3f}")
