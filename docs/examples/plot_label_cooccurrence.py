"""
Which labels go together
========================

A multi-label data set is more than its labels one by one: some come together, some never do. Here are the messages that
come with the package.
"""

# %%
# Each row says which share of the messages with that label has the other one too.

import matplotlib.pyplot as plt
import numpy as np

from sk_ulmfit.datasets import load_support_messages

train = load_support_messages("train")
y, names = train.indicator(), train.label_names
together = y.T @ y
share = together / together.diagonal()[:, None]

figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
image = axes.imshow(np.where(np.eye(len(names)), np.nan, share), cmap="Blues", vmin=0)
axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
axes.set_yticks(range(len(names)), [f"{name} ({n})" for name, n in zip(names, y.sum(axis=0), strict=True)])
axes.set(xlabel="has this label too", ylabel="of the messages with this label")
for i, j in zip(*np.nonzero(together - np.diag(together.diagonal())), strict=True):
    axes.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center", color="white" if share[i, j] > 0.3 else "black")
figure.colorbar(image, shrink=0.7)

# %%
# How many labels a message has:

counts = np.bincount(y.sum(axis=1))
for n, messages in enumerate(counts):
    print(f"{n} labels: {messages} messages")

# %%
# The network decides on each label by itself but from the same features, which learn what the labels share. Splits should
# keep the share of every label, which :class:`~sk_ulmfit.MultiLabelStratifiedKFold` does.
