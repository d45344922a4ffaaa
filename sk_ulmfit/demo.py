"""The demo: train on the messages that come with the package and compare with a linear model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.language_model import ULMFiTLanguageModel

# Sizes for some hundred short texts without a pre-trained body, chosen by cross-validation on the training messages.
LANGUAGE_MODEL: dict[str, Any] = {"emb_dim": 200, "n_layers": 1, "max_epochs": 10}
CLASSIFIER: dict[str, Any] = {"max_epochs": 20, "batch_size": 16}

EXAMPLES = (
    "I was charged twice this month and nobody answers my messages!",
    "Where is my parcel? The tracking page has not moved since Monday.",
    "How do I change the e-mail address I log in with?",
)

NEXT_STEPS = """
What to do next
  Your own data, a CSV file with a text column and one column of labels:
    sk-ulmfit train FILE.csv --text TEXT --label-column LABELS --delimiter ";" --out MODEL
    sk-ulmfit predict MODEL NEW.csv --out OUT.csv
  In Python, three lines:
    from sk_ulmfit import ULMFiTMultiLabelClassifier
    clf = ULMFiTMultiLabelClassifier().fit(texts, y)      # y: 0/1 matrix, or a list of labels per text
    clf.predict_labels(new_texts)
  More texts, labelled or not, help most: pass those without labels as fit(..., unlabelled_texts=...)."""


def report(y: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str]) -> str:
    """Tabulate precision, recall and F1 by label, with micro and macro averages.

    Parameters
    ----------
    y, predicted : ndarray of int, shape (n, L)
        True and predicted labels.
    names : sequence of str, length L
        Label names.

    Returns
    -------
    str
        A table as text.
    """
    width = max(12, *(len(str(name)) for name in names))
    lines = [f"{'label':<{width}}  precision  recall      F1  texts"]
    options: dict[str, Any] = {"zero_division": 0}
    if len(names) == 1:  # scikit-learn takes one column for a binary target, with a score for each of 0 and 1
        y, predicted = y[:, 0], predicted[:, 0]
        options["labels"] = [1]
    rows = list(zip(names, *precision_recall_fscore_support(y, predicted, average=None, **options), strict=True))
    for average in ("micro", "macro"):
        p, r, f, _ = precision_recall_fscore_support(y, predicted, average=average, **options)
        rows.append((f"{average} average", p, r, f, int(y.sum())))
    lines += [f"{name!s:<{width}}  {p:9.3f}  {r:6.3f}  {f:6.3f}  {n:5d}" for name, p, r, f, n in rows]
    return "\n".join(lines)


def run_demo(say: Callable[[str], None] = print, verbose: int = 0, seed: int = 0) -> dict[str, float]:
    """Train, score and compare on the support messages.

    Parameters
    ----------
    say : callable, default=print
        Where the lines go.
    verbose : int, default=0
        1 shows progress bars.
    seed : int, default=0
        Seed of the training.

    Returns
    -------
    dict
        Micro and macro F1 of both models on the test part.
    """
    train, test = load_support_messages("train"), load_support_messages("test")
    names = train.label_names
    y, y_test = train.indicator(), test.indicator(names)
    say(f"{len(train.texts)} customer messages to learn from, {len(test.texts)} to test on, {len(names)} labels.")

    start = time.perf_counter()
    language_model = ULMFiTLanguageModel(**LANGUAGE_MODEL)
    clf = ULMFiTMultiLabelClassifier(language_model, **CLASSIFIER, random_state=seed, verbose=verbose)
    clf.fit(train.texts, train.labels)
    proba = clf.predict_proba(test.texts)
    decided = (proba >= clf.thresholds_).astype(np.int64)
    say(f"\nULMFiT, from scratch, {time.perf_counter() - start:.0f} s\n{report(y_test, decided, names)}")
    say(f"average precision, whatever the thresholds: {average_precision_score(y_test, proba):.3f}")

    start = time.perf_counter()
    linear = make_pipeline(TfidfVectorizer(sublinear_tf=True), OneVsRestClassifier(LogisticRegression(C=10)))
    linear.fit(train.texts, y)
    linear_decided, linear_proba = linear.predict(test.texts), linear.predict_proba(test.texts)
    say(f"\nTF-IDF + logistic regression, {time.perf_counter() - start:.0f} s\n{report(y_test, linear_decided, names)}")
    say(f"average precision, whatever the thresholds: {average_precision_score(y_test, linear_proba):.3f}")
    say("\nNew messages")
    for text, labels in zip(EXAMPLES, clf.predict_labels(EXAMPLES), strict=True):
        say(f"  {text}\n    -> {', '.join(labels) or '(no label)'}")
    say(NEXT_STEPS)
    figures = {}
    for model, predicted in (("ulmfit", decided), ("linear", linear_decided)):
        for average in ("micro", "macro"):
            f1 = precision_recall_fscore_support(y_test, predicted, average=average, zero_division=0)[2]
            figures[f"{model}_{average}_f1"] = float(f1)
    return figures
