"""
A search that trains once per fold
==================================

A grid of six thresholds and three folds needs 18 fits, and one more on all texts. With ``memory``, only four of them train a
model: one for each fold, and the last one. All others read a trained model from a folder.
"""

# %%
# ``memory`` names the folder. The first fit trains, the second one finds its result there.

import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from sk_ulmfit import MultiLabelStratifiedKFold, ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages

train = load_support_messages("train")
texts, y = train.texts, train.indicator()

folder = tempfile.TemporaryDirectory()
clf = ULMFiTMultiLabelClassifier(memory=folder.name, random_state=0)
for attempt in ("first", "second"):
    start = time.perf_counter()
    clf.fit(texts, y)
    print(f"{attempt} fit: {time.perf_counter() - start:.1f} s")

# %%
# The search trains on three folds. It may then compare as many thresholds as you like.

thresholds = np.linspace(0.1, 0.6, 6)
cv = MultiLabelStratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, {"threshold": thresholds}, scoring="f1_micro", cv=cv)
start = time.perf_counter()
search.fit(texts, y)
print(f"19 fits: {time.perf_counter() - start:.1f} s")
print(f"best threshold: {search.best_params_['threshold']:.2f}")

# %%
# Micro F1 at each threshold: the mean over the folds, and one standard deviation.

mean = search.cv_results_["mean_test_score"]
spread = search.cv_results_["std_test_score"]
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.plot(thresholds, mean, marker="o")
axes.fill_between(thresholds, mean - spread, mean + spread, alpha=0.2)
axes.set(xlabel="threshold", ylabel="micro F1, mean over three folds")

folder.cleanup()
