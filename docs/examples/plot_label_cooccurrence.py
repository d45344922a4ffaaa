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

together = (y.T @ y).astype(float)
n_with = together.diagonal().copy()
share = together / n_with[:, None]
np.fill_diagonal(share, np.nan)

figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
image = axes.imshow(share, cmap="Blues", vmin=0)
rows = [f"{name} ({n:.0f})" for name, n in zip(names, n_with, strict=True)]
axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
axes.set_yticks(range(len(names)), rows)
axes.set(xlabel="has this label too", ylabel="of the messages with this label")
for i, j in zip(*np.nonzero(share > 0), strict=True):
    color = "white" if share[i, j] > 0.6 * np.nanmax(share) else "black"
    axes.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center", color=color)
figure.colorbar(image, shrink=0.7)

# %%
# How many labels a message has:

for n, messages in enumerate(np.bincount(y.sum(axis=1))):
    print(f"{n} labels: {messages} messages")

# %%
# The network decides on each label by itself, but from features that all labels share. Splits should keep the share of every
# label, which :class:`~sk_ulmfit.MultiLabelStratifiedKFold` does.
