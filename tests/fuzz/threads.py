"""Fits beside fits and other trainings give the bits of a fit alone; whatever is asked during a refit comes from one fit.

Run ``python tests/fuzz/threads.py --fits 50 --predictions 100 --seed 0``.
"""

from __future__ import annotations

import argparse
import pickle
import random
import tempfile
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier

SUBJECTS = ["lamp", "hub", "parcel", "invoice", "bulb", "app"]
STATES = {"late": "delivery", "broken": "technical", "wrong": "billing", "dim": "technical"}
EXPECTED = {"fit: equal to serial", "answer: of one fit"}
N_THREADS = 6


def corpus(seed, n=40):
    rng = random.Random(seed)
    states = [rng.sample(sorted(STATES), rng.randint(1, 2)) for _ in range(n)]
    texts = [f"My {rng.choice(SUBJECTS)} is {' and '.join(words)}, help me!" for words in states]
    return texts, [sorted({STATES[word] for word in words}) for words in states]


def classifier(seed=0, **params):
    lm = ULMFiTLanguageModel(max_epochs=1, emb_dim=8, hidden_dim=12, n_layers=2, min_frequency=1)
    settings = {"max_epochs": 1, "batch_size": 8, "random_state": seed, **params}
    return ULMFiTMultiLabelClassifier(lm, **settings)


VARIANTS = [
    {},
    {"direction": "both"},
    {"unfreezing": "head"},
    {"early_stopping": True, "calibration": "platt"},
    {"precision": "bfloat16"},
]


@contextmanager
def user_at_work():
    """Train SVMs, draw and seed random numbers, and open blocks of warnings, as a user may in another thread."""
    rng = np.random.default_rng(0)
    features, y = rng.random((60, 100)), rng.random(60) > 0.5
    done = threading.Event()

    def work():
        while not done.is_set():
            LinearSVC(random_state=1, dual=True, tol=1e-6).fit(features, y)
            torch.manual_seed(1)
            torch.rand(50)
            np.random.random(50)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def concurrent_fits(n, rng):
    """Count how many of n fits in threads equal the same fit alone."""
    texts, labels = corpus(rng.random())
    settings = [(rng.choice(VARIANTS), rng.randrange(2)) for _ in range(n)]

    def fit(setting):
        variant, seed = setting
        return classifier(seed, **variant).fit(texts, labels).predict_proba(texts).tobytes()

    alone = {repr(setting): fit(setting) for setting in settings}
    with user_at_work(), ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(fit, settings))
    return Counter(
        "fit: equal to serial" if result == alone[repr(setting)] else "fit: differs"
        for setting, result in zip(settings, found, strict=True)
    )


def _saved(clf, texts):
    with tempfile.TemporaryDirectory() as folder:
        clf.save(Path(folder) / "model")
        return ULMFiTMultiLabelClassifier.load(Path(folder) / "model").predict_proba(texts).tobytes()


ANSWERS = {
    "predict": lambda clf, texts: clf.predict(texts).tobytes(),
    "predict_proba": lambda clf, texts: clf.predict_proba(texts).tobytes(),
    "predict_labels": lambda clf, texts: clf.predict_labels(texts),
    "thresholds_": lambda clf, texts: clf.thresholds_.tobytes(),
    "explain": lambda clf, texts: [e.scores.tobytes() + e.thresholds.tobytes() for e in clf.explain(texts[:1])],
    "save": _saved,
    "pickle": lambda clf, texts: pickle.loads(pickle.dumps(clf)).predict_proba(texts).tobytes(),
}


def answers_during_refits(n, rng):
    """Count how many of n answers of an estimator that another thread refits are those of one of its two fits."""
    texts, labels = corpus(rng.random())
    fewer = [["any"] if "delivery" in names else ["any", "other"] for names in labels]
    clf = classifier(threshold="tune", tfidf=False)
    expected = []
    for y in (labels, fewer):
        clf.fit(texts, y)
        expected.append({name: answer(clf, texts[:4]) for name, answer in ANSWERS.items()})
    done, counts = threading.Event(), Counter()

    def refit():
        while not done.is_set():
            for y in (labels, fewer):
                clf.fit(texts, y)

    thread = threading.Thread(target=refit)
    thread.start()
    try:
        for _ in range(n):
            name = rng.choice(list(ANSWERS))
            try:
                found = ANSWERS[name](clf, texts[:4])
            except Exception as error:
                counts[f"answer: {name} raised {error!r}"] += 1
                continue
            is_of_one = any(found == of_fit[name] for of_fit in expected)
            counts["answer: of one fit" if is_of_one else f"answer: {name} of no fit"] += 1
    finally:
        done.set()
        thread.join()
    return counts


def run(n_fits, n_predictions, seed):
    """Return how often each outcome came."""
    torch.set_num_threads(1)
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return concurrent_fits(n_fits, rng) + answers_during_refits(n_predictions, rng)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=50)
    parser.add_argument("--predictions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for result, count in sorted(run(options.fits, options.predictions, options.seed).items()):
        print(f"{count:6} {result}")


if __name__ == "__main__":
    main()
