"""
What a linear model of words adds
=================================

A linear model of the texts' words and their letters decides beside the network (`tfidf`). It helps most where texts are
few. Here both are trained on more and more messages, with and without it.
"""

# %%
# The head alone is trained, on the language model as it comes; training the encoder too would lift the network's curve.

import matplotlib.pyplot as plt

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.metrics import mean_average_precision

train, test = load_support_messages("train"), load_support_messages("test")
y, y_test = train.indicator(), test.indicator(train.label_names)
sizes = (30, 60, 120, 240, 480)

scores = {}
for tfidf in (False, True):
    clf = ULMFiTMultiLabelClassifier(lm_epochs=0, unfreezing="head", tfidf=tfidf, random_state=0)
    for n in sizes:
        proba = clf.fit(train.texts[:n], y[:n]).predict_proba(test.texts)
        scores[tfidf, n] = mean_average_precision(y_test, proba)

# %%
# Mean average precision asks only how texts are ranked, whatever the thresholds:

figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for tfidf, title in ((True, "network and words"), (False, "network alone")):
    axes.plot(sizes, [scores[tfidf, n] for n in sizes], marker="o", label=title)
axes.set(xlabel="training messages", ylabel="mean average precision", xscale="log")
axes.set_xticks(sizes, sizes)
axes.minorticks_off()
axes.legend()

# %%
# What both gain with a fully trained encoder, on public data sets, is on the page of
# `benchmarks <../benchmarks.html#words-beside-the-network>`_.
