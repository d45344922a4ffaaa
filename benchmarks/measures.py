"""The scores of the benchmarks, over the labels that occur."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score, f1_score

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.training.batching import DocumentDataset


def mean_average_precision(y: np.ndarray, ranking: np.ndarray) -> float:
    """Return the mean over the labels that occur."""
    present = y.any(axis=0)
    return float(average_precision_score(y[:, present], ranking[:, present], average="macro"))


def micro_f1(y: np.ndarray, decisions: np.ndarray) -> float:
    return float(f1_score(y, decisions, average="micro", zero_division=0))


def macro_f1(y: np.ndarray, decisions: np.ndarray) -> float:
    """Return the mean over the labels that occur."""
    present = y.any(axis=0)
    return float(f1_score(y[:, present], decisions[:, present], average="macro", zero_division=0))


def best_thresholds(y: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return the common threshold that maximizes micro F1, and the one that maximizes macro F1."""
    values = np.unique(scores)
    candidates = np.append(values[:1], (values[1:] + values[:-1]) / 2)
    hits, predicted, macro = (np.zeros(len(candidates)) for _ in range(3))
    for has_label, column in zip(y.T > 0, scores.T, strict=True):
        label_hits = reaching(candidates, column[has_label])
        label_predicted = reaching(candidates, column)
        hits += label_hits
        predicted += label_predicted
        if has_label.any():  # the mean is over the labels that occur
            macro += 2 * label_hits / (label_predicted + has_label.sum())
    micro = 2 * hits / (predicted + y.sum())
    return {"micro": float(candidates[micro.argmax()]), "macro": float(candidates[macro.argmax()])}


def reaching(thresholds: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the number of values that reach each threshold."""
    return len(values) - np.searchsorted(np.sort(values), thresholds)


def network_alone(clf: ULMFiTMultiLabelClassifier, texts: list[str]) -> np.ndarray:
    """Return the probabilities of the network, or of both networks, without the linear model."""
    networks = [(clf.net_, clf.language_model_)]
    if clf.direction == "both":
        networks.append((clf.backward_net_, clf.backward_language_model_))
    proba = [
        net.predict_proba(DocumentDataset(language_model.state_.encode(texts))) for net, language_model in networks
    ]
    return np.mean(proba, axis=0)


def linear_model_alone(clf: ULMFiTMultiLabelClassifier, texts: list[str]) -> np.ndarray:
    """Return the log-odds of the linear model, without the network."""
    state = clf.language_model_.state_
    return clf._fitted.linear_model.logits(encode_texts(texts, state.vocabulary, state.config["language"]))
