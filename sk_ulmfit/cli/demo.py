"""``sk-ulmfit demo``: compare ULMFiT with and without pre-training on included messages.

torch and scikit-learn take seconds to import, so that functions import them, after the first line is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sk_ulmfit.cli.answers import Answer

if TYPE_CHECKING:
    from sk_ulmfit.datasets.text_table import TextTable

LANGUAGE_MODEL = "auto"

EXAMPLES = (
    "I was charged twice this month and nobody answers my messages!",
    "Where is my parcel? The tracking page has not moved since Monday.",
    "How do I change the e-mail address I log in with?",
)

NEXT_STEPS = """
What to do next
  With your own data, a CSV file with a column of texts and a column of labels (separated by ";"):
    sk-ulmfit train FILE.csv --text TEXT --label-column LABELS --out MODEL
    sk-ulmfit predict MODEL NEW.csv --out OUT.csv
    echo "Where is my parcel?" | sk-ulmfit predict MODEL -
  In Python, three lines:
    from sk_ulmfit import ULMFiTMultiLabelClassifier
    clf = ULMFiTMultiLabelClassifier().fit(texts, y)      # y: 0/1 matrix, or a list of labels per text
    clf.predict_labels(new_texts)
  More texts help most. Texts without labels help too: fit(texts, y, unlabelled_texts=more_texts)."""


def add_options(command: argparse.ArgumentParser) -> None:
    everyday = command.add_argument_group("Everyday")
    everyday.add_argument("--random-state", type=int, default=0, metavar="N", help="seed (default: 0)")


def run(options: argparse.Namespace) -> Answer:
    say: Callable[[str], None] = _say_nothing if options.json else partial(print, flush=True)
    return Answer("", run_demo(say, verbose=int(sys.stderr.isatty()), seed=options.random_state))


def _say_nothing(line: str) -> None:
    pass


def run_demo(say: Callable[[str], None] = print, verbose: int = 0, seed: int = 0) -> dict[str, dict[str, float]]:
    """Compare ULMFiT with and without pre-training, and a linear model; return the test scores of each."""
    say(
        "Comparing ULMFiT with and without pre-training on customer messages. This trains and scores three "
        "classifiers, in less than a minute on two free cores."
    )
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline

    from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
    from sk_ulmfit.datasets.loaders import load_support_messages
    from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel

    train, test = load_support_messages("train"), load_support_messages("test")
    names = train.label_names
    say(f"{len(train.texts)} messages for training, {len(test.texts)} for testing, {len(names)} labels.")
    say("ULMFiT averages a neural network and a linear model. Thresholds are chosen on held-out training messages.")
    comparison = _Comparison(train, test, say)
    options: dict[str, Any] = {"threshold": "tune", "random_state": seed, "verbose": verbose}
    pretrained = ULMFiTMultiLabelClassifier(LANGUAGE_MODEL, **options)
    comparison.score("pretrained", "ULMFiT, pre-trained", pretrained)
    say(
        "\nThe installation works. What follows compares it with two other classifiers, in half a minute on two free "
        "cores; stop it with Ctrl-C if you like."
    )
    sizes = {name: pretrained.language_model_.state_.config[name] for name in SIZES}
    scratch = ULMFiTMultiLabelClassifier(ULMFiTLanguageModel(None, **sizes, verbose=verbose), **options)
    comparison.score("scratch", "ULMFiT, the same from random weights", scratch)
    logistic_regression = OneVsRestClassifier(LogisticRegression(C=10))
    linear = make_pipeline(TfidfVectorizer(sublinear_tf=True), logistic_regression)
    comparison.score("linear", "TF-IDF + logistic regression", linear)
    comparison.say_gains()
    say("\nNew messages")
    for text, row in zip(EXAMPLES, pretrained.predict(EXAMPLES), strict=True):
        say(f"  {text}\n    -> {', '.join(names[k] for k in np.flatnonzero(row)) or '(no label)'}")
    say(NEXT_STEPS)
    return comparison.scores


class _Comparison:
    def __init__(self, train: TextTable, test: TextTable, say: Callable[[str], None]):
        self.train, self.test, self.say = train, test, say
        self.y, self.y_test = train.indicator(), test.indicator(train.label_names)
        self.scores: dict[str, dict[str, float]] = {}

    def score(self, key: str, title: str, model: Any) -> None:
        from sklearn.metrics import average_precision_score, f1_score

        from sk_ulmfit.decisions import decide
        from sk_ulmfit.metrics import multilabel_report

        self.say(f"\n{title}")
        start = time.perf_counter()
        proba = model.fit(self.train.texts, self.y).predict_proba(self.test.texts)
        predicted = decide(proba, self._thresholds(model), at_least_one=True)
        report = multilabel_report(self.y_test, predicted, label_names=self.train.label_names)
        self.say(f"{time.perf_counter() - start:.0f} s\n{report}")
        average_precision = float(average_precision_score(self.y_test, proba))
        self.say(f"average precision, which no threshold changes: {average_precision:.3f}")
        self.scores[key] = {
            "micro F1": float(f1_score(self.y_test, predicted, average="micro", zero_division=0)),
            "macro F1": float(f1_score(self.y_test, predicted, average="macro", zero_division=0)),
            "average precision": average_precision,
        }

    def _thresholds(self, model: Any) -> Any:
        """Return the threshold of each label, chosen by the same rule for every model."""
        from sklearn.model_selection import cross_val_predict

        from sk_ulmfit.thresholds import tune_thresholds

        if hasattr(model, "thresholds_"):
            return model.thresholds_
        proba = cross_val_predict(model, self.train.texts, self.y, cv=4, method="predict_proba")
        return tune_thresholds(self.y, proba, metric="tune")

    def say_gains(self) -> None:
        self.say("\nGain of the pre-trained model")
        for key, other in (("scratch", "the same from random weights"), ("linear", "TF-IDF + logistic regression")):
            gains = (
                f"{measure} {self.scores['pretrained'][measure] - value:+.3f}"
                for measure, value in self.scores[key].items()
            )
            self.say(f"  over {other}: {', '.join(gains)}")
