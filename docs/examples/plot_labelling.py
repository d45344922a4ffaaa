"""
Which texts to label next
=========================

Labels cost time; texts often do not. Here a classifier chooses the texts that a person should label next: those it is
least sure of, and that differ from each other. The example compares this with texts drawn at random.
"""

# %%
# The training messages serve as texts without labels: a label stays hidden until its message is chosen. The vectors of all
# messages are computed once.

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
# A text is uncertain if many of its labels have a probability near 0.5. We measure this by the entropy of each label, summed
# over the labels. The most uncertain texts are often alike, so we cluster the vectors of all texts, weighted by uncertainty,
# and take the text nearest to the centre of each cluster (Zhdanov 2019, "Diverse mini-batch Active Learning").

N_EACH_TIME = 20


def uncertainty(proba):
    """Return the sum of the entropies of the labels, shape (n_texts,)."""
    return -(proba * np.log(proba) + (1 - proba) * np.log1p(-proba)).sum(axis=1)


def choose_uncertain(clf, unlabelled, rng):
    """Return the rows of uncertain texts that differ from each other."""
    candidates = vectors[unlabelled]
    weights = uncertainty(clf.predict_proba(texts[unlabelled]))
    clusters = KMeans(N_EACH_TIME, n_init=2, random_state=0)
    distances = clusters.fit_transform(candidates, sample_weight=weights).min(axis=1)
    by_distance = np.argsort(distances)
    _, nearest = np.unique(clusters.labels_[by_distance], return_index=True)
    return unlabelled[by_distance[nearest]]


def choose_at_random(clf, unlabelled, rng):
    """Return rows drawn at random."""
    return rng.choice(unlabelled, N_EACH_TIME, replace=False)


# %%
# The loop: train, choose, ask for the labels, and repeat. With ``warm_start``, each ``fit`` continues from the one before. In
# real life, a person would now read ``texts[chosen]``.


def label_by_turns(choose, seed, n_rounds=6):
    """Return the mean average precision on the test messages after each round."""
    rng = np.random.default_rng(seed)
    labelled = rng.choice(len(texts), N_EACH_TIME, replace=False)
    encoder = FrozenEstimator(lm)
    clf = ULMFiTMultiLabelClassifier(encoder, warm_start=True, random_state=0)
    precisions = []
    for _ in range(n_rounds):
        clf.fit(texts[labelled], y[labelled])
        proba = clf.predict_proba(test.texts)
        precisions.append(average_precision_score(y_test, proba))
        unlabelled = np.setdiff1d(np.arange(len(texts)), labelled)
        chosen = choose(clf, unlabelled, rng)
        labelled = np.append(labelled, chosen)
    return precisions


# %%
# Both strategies start from the same 20 messages. The lines are means of three draws.

strategies = {
    "uncertain and different": choose_uncertain,
    "at random": choose_at_random,
}
fig, ax = plt.subplots()
for name, choose in strategies.items():
    means = np.mean([label_by_turns(choose, seed) for seed in range(3)], axis=0)
    sizes = N_EACH_TIME * np.arange(1, len(means) + 1)
    print(f"{name}: {means.round(3)}")
    ax.plot(sizes, means, marker="o", label=name)
ax.set(xlabel="labelled messages", ylabel="mean average precision")
ax.legend(title="next messages")
plt.show()
