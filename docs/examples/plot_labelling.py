"""
Which texts to label next
=========================

Labels cost time, texts often do not. Here a classifier chooses which texts a person should label next: those that it is
least sure of, and that differ from each other. It is compared with texts drawn at random.
"""

# %%
# The pool of texts without labels are the training messages that come with the package; their labels stay hidden until a
# message is chosen. The vectors of all messages are computed once.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages

pool, test = load_support_messages("train"), load_support_messages("test")
texts, y, y_test = np.array(pool.texts), pool.indicator(), test.indicator()
lm = ULMFiTLanguageModel("en-small", max_epochs=0).fit(pool.texts)
vectors = lm.transform(pool.texts)

# %%
# A text is uncertain if many of its labels are about as likely as not: the entropy of each label, summed. The most
# uncertain texts are often much alike. So the vectors of all texts are clustered, each with its uncertainty as a weight, and
# of each cluster the text nearest to its centre is taken (Zhdanov 2019, "Diverse mini-batch Active Learning").

N_EACH_TIME = 20


def uncertainty(proba):
    """Return the sum of the entropies of the labels, shape (n_texts,)."""
    return -(proba * np.log(proba) + (1 - proba) * np.log1p(-proba)).sum(axis=1)


def choose_uncertain(clf, unlabelled, rng):
    """Return the rows of uncertain texts that differ from each other."""
    weights = uncertainty(clf.predict_proba(texts[unlabelled]))
    clusters = KMeans(N_EACH_TIME, n_init=2, random_state=0).fit(vectors[unlabelled], sample_weight=weights)
    by_distance = np.argsort(clusters.transform(vectors[unlabelled]).min(axis=1))
    _, nearest = np.unique(clusters.labels_[by_distance], return_index=True)
    return unlabelled[by_distance[nearest]]


def choose_at_random(clf, unlabelled, rng):
    """Return rows drawn at random."""
    return rng.choice(unlabelled, N_EACH_TIME, replace=False)


# %%
# The loop: train, choose, ask for the labels, and again. Each ``fit`` goes on from the one before. A person would look at
# ``texts[chosen]`` here.


def label_by_turns(choose, seed, n_rounds=6):
    """Return the mean average precision on the test messages after each round."""
    rng = np.random.default_rng(seed)
    labelled = rng.choice(len(texts), N_EACH_TIME, replace=False)
    clf = ULMFiTMultiLabelClassifier(FrozenEstimator(lm), warm_start=True, random_state=0)
    precisions = []
    for _ in range(n_rounds):
        clf.fit(texts[labelled], y[labelled])
        precisions.append(average_precision_score(y_test, clf.predict_proba(test.texts)))
        unlabelled = np.setdiff1d(np.arange(len(texts)), labelled)
        chosen = choose(clf, unlabelled, rng)
        labelled = np.append(labelled, chosen)
    return precisions


# %%
# Both begin with the same 20 messages, from three different draws. The lines are means.

fig, ax = plt.subplots()
for name, choose in (("uncertain and different", choose_uncertain), ("at random", choose_at_random)):
    means = np.mean([label_by_turns(choose, seed) for seed in range(3)], axis=0)
    sizes = N_EACH_TIME * np.arange(1, len(means) + 1)
    print(f"{name}: {', '.join(f'{size} {mean:.3f}' for size, mean in zip(sizes, means, strict=True))}")
    ax.plot(sizes, means, marker="o", label=name)
ax.set(xlabel="labelled messages", ylabel="mean average precision", title="480 messages, 8 labels")
ax.legend(title="next messages")
plt.show()
