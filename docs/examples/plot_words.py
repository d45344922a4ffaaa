"""
What the linear model of words adds
===================================

``fit`` also trains a linear model on the words and letters of the texts, and averages its scores with those of the network
(``tfidf=True``). It helps most if texts are few. This example trains with and without it, on more and more messages.
"""

# %%
# With so few texts, the network stays as it is, and a linear head is trained on its vectors.

import matplotlib.pyplot as plt

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.metrics import mean_average_precision

train, test = load_support_messages("train"), load_support_messages("test")
y, y_test = train.indicator(), test.indicator(train.label_names)
sizes = (30, 60, 120, 240, 480)

scores = {}
for tfidf in (False, True):
    clf = ULMFiTMultiLabelClassifier(tfidf=tfidf, random_state=0)
    for n in sizes:
        proba = clf.fit(train.texts[:n], y[:n]).predict_proba(test.texts)
        scores[tfidf, n] = mean_average_precision(y_test, proba)

# %%
# Mean average precision measures how well the texts are ranked for each label, whatever the thresholds.

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for tfidf, title in ((True, "network and words"), (False, "network alone")):
    axes.plot(sizes, [scores[tfidf, n] for n in sizes], marker="o", label=title)
axes.set(xlabel="training messages", ylabel="mean average precision", xscale="log")
axes.set_xticks(sizes, sizes)
axes.minorticks_off()
axes.legend()

# %%
# For public data sets, see the page `Benchmarks <../benchmarks.html>`_.
