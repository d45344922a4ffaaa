"""
A search that trains once
=========================

Eleven thresholds and three folds are 33 fits, and one more on all texts. With `memory` there are four trainings: one per fold,
and the last one. All other fits are read from a folder.
"""

# %%
# A small language model from random weights, so that this runs fast:

import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from sk_ulmfit import (
    MultiLabelStratifiedKFold,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
)
from sk_ulmfit.datasets import load_support_messages

train = load_support_messages("train")
texts, y = train.texts, train.indicator()

folder = tempfile.TemporaryDirectory()
small = ULMFiTLanguageModel(emb_dim=60, hidden_dim=100, n_layers=2, max_epochs=3)
clf = ULMFiTMultiLabelClassifier(small, max_epochs=5, memory=folder.name, random_state=0)

# %%
# The first fit on all texts says what a training costs. The second one finds it done.

for attempt in ("first", "second"):
    start = time.perf_counter()
    clf.fit(texts, y)
    print(f"{attempt} fit: {time.perf_counter() - start:.1f} s")

# %%
# The search trains on three folds, and then chooses among as many thresholds as one likes:

thresholds = np.linspace(0.1, 0.6, 11)
cv = MultiLabelStratifiedKFold(3, shuffle=True, random_state=0)
start = time.perf_counter()
search = GridSearchCV(clf, {"threshold": thresholds}, scoring="f1_micro", cv=cv).fit(texts, y)
print(f"34 fits: {time.perf_counter() - start:.1f} s")
print(f"best threshold: {search.best_params_['threshold']:.2f}")

# %%
# What it has found, with the spread over the folds:

mean, spread = (search.cv_results_[f"{what}_test_score"] for what in ("mean", "std"))
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.plot(thresholds, mean, marker="o")
axes.fill_between(thresholds, mean - spread, mean + spread, alpha=0.2)
axes.set(xlabel="threshold", ylabel="micro F1, mean over three folds")

folder.cleanup()
