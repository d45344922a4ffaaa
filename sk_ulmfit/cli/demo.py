"""The demo: train on the messages that come with the package, with and without the pre-trained language model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets.loaders import load_support_messages
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.metrics import multilabel_report

LANGUAGE_MODEL = "auto"

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


def run_demo(say: Callable[[str], None] = print, verbose: int = 0, seed: int = 0) -> dict[str, dict[str, float]]:
    """Train, score and compare on the support messages.

    The same classifier is trained from the pre-trained language model and from random weights, and for comparison a
    logistic regression on TF-IDF.

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
    dict of dict
        By model, "pretrained", "scratch" and "linear": "micro F1", "macro F1" and "average precision" on the test part.
    """
    train, test = load_support_messages("train"), load_support_messages("test")
    names = train.label_names
    y, y_test = train.indicator(), test.indicator(names)
    say(f"{len(train.texts)} customer messages to learn from, {len(test.texts)} to test on, {len(names)} labels.")
    say("ULMFiT stands for a network and a linear model of words that decide together.")
    figures: dict[str, dict[str, float]] = {}

    def score(key: str, title: str, model: Any) -> None:
        start = time.perf_counter()
        proba = model.fit(train.texts, y).predict_proba(test.texts)
        decided = (proba >= 0.5).astype(np.int64)
        table = multilabel_report(y_test, decided, label_names=names)
        say(f"\n{title}, {time.perf_counter() - start:.0f} s\n{table}")
        f1 = {f"{a} F1": float(f1_score(y_test, decided, average=a, zero_division=0)) for a in ("micro", "macro")}
        figures[key] = {**f1, "average precision": float(average_precision_score(y_test, proba))}
        say(f"average precision, whatever the thresholds: {figures[key]['average precision']:.3f}")

    options: dict[str, Any] = {"random_state": seed, "verbose": verbose}
    pretrained = ULMFiTMultiLabelClassifier(LANGUAGE_MODEL, **options)
    score("pretrained", "ULMFiT, pre-trained on Wikipedia", pretrained)
    sizes = {name: pretrained.language_model_.state_.config[name] for name in SIZES}
    scratch = ULMFiTMultiLabelClassifier(ULMFiTLanguageModel(None, **sizes, verbose=verbose), **options)
    score("scratch", "ULMFiT, the same from random weights", scratch)
    linear = OneVsRestClassifier(LogisticRegression(C=10))
    score("linear", "TF-IDF + logistic regression", make_pipeline(TfidfVectorizer(sublinear_tf=True), linear))
    say("\nGain of the pre-trained model")
    for key, other in (("scratch", "the same from random weights"), ("linear", "TF-IDF + logistic regression")):
        gains = (f"{measure} {figures['pretrained'][measure] - value:+.3f}" for measure, value in figures[key].items())
        say(f"  over {other}: {', '.join(gains)}")
    say("\nNew messages")
    for text, row in zip(EXAMPLES, pretrained.predict(EXAMPLES), strict=True):
        say(f"  {text}\n    -> {', '.join(names[k] for k in np.flatnonzero(row)) or '(no label)'}")
    say(NEXT_STEPS)
    return figures
