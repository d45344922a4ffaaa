"""Which words of a text drive each label: integrated gradients and occlusion.

Both give a number of log-odds for each word, of the whole model: network, linear model of the words, calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sk_ulmfit.explain.explanation import Explanation, Explanations
from sk_ulmfit.models.state import Weights
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.text.alignment import Alignment, align
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.linear import PREFIX, tfidf_logits, token_logits
from sk_ulmfit.training.prediction import Reader, mean_log_odds, read

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

METHODS = ("gradient", "occlusion")
STEPS, MOST_STEPS = 16, 128  # of the way from the baseline to the text: they are halved until the scores add up
TOLERANCE, RELATIVE_TOLERANCE = 0.1, 0.02  # within this, in log-odds or as a part of the sum of their sizes
POSITIONS, GRAPH_POSITIONS = 16_384, 4_096  # most that are run at once, and of these most that have a graph at once
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)  # of the way of a mean, which is a formula
OCCLUDED_TOKENS = 500_000  # of copies that are predicted at once


class Reading(NamedTuple):
    """A text as a model reads it.

    Attributes
    ----------
    words : Alignment
        Its words and tokens.
    ids : ndarray of int32, shape (n_tokens,)
        Ids of the tokens, from left to right.
    baseline : ndarray of int32, shape (n_tokens,)
        The same with every token of a word unknown; borders (``xxbos``, ``xxfld 1``) stay.
    unk : ndarray of int32, shape (1,)
        Id of ``xxunk``.
    """

    words: Alignment
    ids: NDArray[np.int32]
    baseline: NDArray[np.int32]
    unk: NDArray[np.int32]

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary, language: str) -> Reading:
        """Read a text with the vocabulary of a model."""
        words = align(text, language)
        ids = vocabulary.lookup(words.tokens)
        of_word = np.repeat(np.diff(words.word_offsets) > 0, np.diff(words.token_offsets))
        unk = np.array([vocabulary.unk], np.int32)
        return cls(words, ids, np.where(of_word, unk, ids), unk)

    def order(self, reader: Reader) -> NDArray[np.int64]:
        """Give the places of the tokens in the order in which a network reads them, shape (n_tokens,)."""
        places = TokenIds(np.arange(len(self.ids), dtype=np.int32), np.array([0, len(self.ids)]))
        return reader.order(places).ids.astype(np.int64)

    def per_word(self, unit_scores: Floats) -> Floats:
        """Share what each unit has got, shape (n_units, K), equally among its words: shape (n_words, K)."""
        n_words = np.diff(self.words.word_offsets)
        return np.repeat(unit_scores / np.maximum(n_words, 1)[:, None], n_words, axis=0)


def label_indices(labels: Any, names: Sequence[Any]) -> Labels:
    """Find labels by name.

    Parameters
    ----------
    labels : label name, or sequence of label names
        One or several.
    names : sequence of length L
        All labels of a classifier.

    Returns
    -------
    ndarray of int64, shape (K,)
        Their places among `names`, each once, in the order asked for.

    Raises
    ------
    ValueError
        If none is given, or one is not among `names`.
    """
    several = isinstance(labels, np.ndarray) or (isinstance(labels, (list, tuple, set)) and labels not in names)
    asked = list(labels) if several else [labels]
    shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
    if not asked:
        raise ValueError(f"labels is empty; name some of {shown}, or leave it None for those predicted.")
    unknown = [label for label in asked if label not in names]
    if unknown:
        raise ValueError(f"labels has {unknown[0]!r}, which is none of this classifier's {len(names)} labels: {shown}.")
    return np.array(list(dict.fromkeys(names.index(label) for label in asked)), np.int64)


def explain(
    readers: Sequence[Reader],
    tfidf: Weights,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    texts: Sequence[str],
    labels: Sequence[Labels],
    proba: Floats,
    thresholds: Floats,
    method: str,
) -> Explanations:
    """Explain some labels of texts by their words.

    Parameters
    ----------
    readers : sequence of Reader
        The networks.
    tfidf : dict of str to ndarray
        The linear model beside them, empty if there is none.
    vocabulary : Vocabulary
        Words of the model.
    config : dict
        Configuration of the classifier: language, names of labels, calibration.
    texts : sequence of str of length n
        Raw texts.
    labels : sequence of length n of ndarray of int64
        Which labels to explain, for each text.
    proba : ndarray of float64, shape (n, L)
        Probabilities to show beside the words.
    thresholds : ndarray of float64, shape (L,)
        Thresholds of the labels.
    method : {"gradient", "occlusion"}
        See `gradient_scores` and `occlusion_scores`.

    Returns
    -------
    Explanations
        One for each text.
    """
    names = config["label_names"]
    slope, offset = np.array(config.get("calibration", [[1.0] * len(names), [0.0] * len(names)]))
    score = gradient_scores if method == "gradient" else occlusion_scores
    found = []
    with left_as_they_were([reader.net.module_ for reader in readers]):
        for text, chosen, p in zip(texts, labels, proba, strict=True):
            reading = Reading.of(text, vocabulary, config["language"])
            scores, log_odds, baseline = score(readers, tfidf, reading, chosen)
            found.append(
                Explanation(
                    text=reading.words.text,
                    words=reading.words.words,
                    spans=reading.words.spans,
                    labels=[names[label] for label in chosen],
                    proba=p[chosen],
                    thresholds=thresholds[chosen],
                    log_odds=slope[chosen] * log_odds + offset[chosen],
                    baseline=slope[chosen] * baseline + offset[chosen],
                    scores=slope[chosen] * reading.per_word(scores),
                    method=method,
                )
            )
    return Explanations(found)


def gradient_scores(
    readers: Sequence[Reader], tfidf: Weights, reading: Reading, labels: Labels
) -> tuple[Floats, Floats, Floats]:
    """Score units by integrated gradients of each network and by their exact share of the linear model.

    Parameters
    ----------
    readers : sequence of Reader
        The networks, in evaluation mode.
    tfidf : dict of str to ndarray
        The linear model beside them, empty if there is none.
    reading : Reading
        A text.
    labels : ndarray of int64, shape (K,)
        Which labels.

    Returns
    -------
    scores : ndarray of float64, shape (n_units, K)
        Log-odds before calibration.
    log_odds : ndarray of float64, shape (K,)
        Those of the text.
    baseline : ndarray of float64, shape (K,)
        Those of the baseline: `log_odds` less the sum of the scores, but for the error of the integral.
    """
    found = [_of_reader(reader, tfidf, reading, labels) for reader in readers]
    scores, log_odds, baseline = (list(parts) for parts in zip(*found, strict=True))
    if len(found) == 1:
        return scores[0], log_odds[0], baseline[0]
    mean = np.einsum("rk,ruk->uk", mean_shares(baseline, log_odds), np.stack(scores))
    return mean, mean_log_odds(log_odds), mean_log_odds(baseline)


def mean_shares(baselines: Sequence[Floats], log_odds: Sequence[Floats]) -> Floats:
    """Tell what each network's change of log-odds, from a baseline to a text, counts in that of their mean.

    Parameters
    ----------
    baselines, log_odds : sequence of ndarray of float64, shape (K,)
        Of each network.

    Returns
    -------
    ndarray of float64, shape (n_networks, K)
        Factors: the changes times these add up to that of the mean. They are the mean of its derivative on the straight
        way from the baselines to the texts, as in integrated gradients.
    """
    start, end = np.stack(baselines), np.stack(log_odds)
    points = start + (NODES[:, None, None] + 1) / 2 * (end - start)
    mean = mean_log_odds(list(points.swapaxes(0, 1)))

    def log_variance(x: Floats) -> Floats:
        return -np.logaddexp(0, x) - np.logaddexp(0, -x)

    slopes = np.exp(log_variance(points) - log_variance(mean)[:, None]) / len(start)
    return np.asarray(np.tensordot(NODE_WEIGHTS / 2, slopes, 1))


def _of_reader(reader: Reader, tfidf: Weights, reading: Reading, labels: Labels) -> tuple[Floats, Floats, Floats]:
    """Give what `gradient_scores` does for one network."""
    order, starts = reading.order(reader), reading.words.token_offsets[:-1]
    module = reader.net.module_
    read, log_odds, baseline = integrated_gradients(module, reading.ids[order], reading.baseline[order], labels)
    scores = np.empty_like(read)
    scores[order] = read
    if tfidf:
        share = tfidf[PREFIX + "network_share"][labels].astype(np.float64)
        linear = token_logits(tfidf, reading.ids, labels)
        of_border = reading.ids == reading.baseline
        of_text = tfidf_logits(tfidf, TokenIds(reading.ids, np.array([0, len(order)])))[0, labels]
        log_odds = share * log_odds + (1 - share) * of_text
        baseline = share * baseline + (1 - share) * (of_text - linear[~of_border].sum(axis=0))
        scores = share * scores + (1 - share) * linear
    return np.add.reduceat(scores, starts), log_odds, baseline


def occlusion_scores(
    readers: Sequence[Reader], tfidf: Weights, reading: Reading, labels: Labels
) -> tuple[Floats, Floats, Floats]:
    """Score units by the change of the log-odds when ``xxunk`` stands in place of one.

    Parameters
    ----------
    readers : sequence of Reader
        The networks, in evaluation mode.
    tfidf : dict of str to ndarray
        The linear model beside them, empty if there is none.
    reading : Reading
        A text.
    labels : ndarray of int64, shape (K,)
        Which labels.

    Returns
    -------
    scores : ndarray of float64, shape (n_units, K)
        Log-odds before calibration; 0 for units of which the model knows no token, and for borders.
    log_odds : ndarray of float64, shape (K,)
        Those of the text.
    baseline : ndarray of float64, shape (K,)
        Those of the text with every word unknown.

    References
    ----------
    M. D. Zeiler, R. Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2; J. Li,
    W. Monroe, D. Jurafsky (2016), "Understanding Neural Networks through Representation Erasure", section 3.
    """
    ids, offsets = reading.ids, reading.words.token_offsets
    log_odds, baseline = _predicted(readers, tfidf, [ids, reading.baseline])[:, labels]
    scores = np.zeros((len(offsets) - 1, len(labels)))
    known = np.add.reduceat(ids != reading.baseline, offsets[:-1]) > 0
    units = np.flatnonzero(known)
    at_once = max(1, OCCLUDED_TOKENS // len(ids))
    for start in range(0, len(units), at_once):
        some = units[start : start + at_once]
        copies = [np.concatenate([ids[: offsets[i]], reading.unk, ids[offsets[i + 1] :]]) for i in some]
        scores[some] = log_odds - _predicted(readers, tfidf, copies)[:, labels]
    return scores, log_odds, baseline


def _predicted(readers: Sequence[Reader], tfidf: Weights, documents: list[NDArray[np.int32]]) -> Floats:
    """Give the log-odds of all labels for documents that stand from left to right, shape (n, L)."""
    offsets = np.cumsum([0, *map(len, documents)])
    return read(readers, tfidf, TokenIds(np.concatenate(documents).astype(np.int32), offsets))


def integrated_gradients(
    module: TextClassifier, ids: NDArray[np.int32], baseline: NDArray[np.int32], labels: Labels
) -> tuple[Floats, Floats, Floats]:
    """Share the difference of a network's log-odds for a document and for a baseline among its tokens.

    The embeddings move on a straight line from baseline to document. A token gets the integral of the gradient along
    it times the way that its embedding goes. The gradient is that of the whole document; it is not cut at windows. The
    integral is taken by the trapezoidal rule in 16 steps, which are halved until the scores of every label add up to
    its difference within 0.1, or within 2 per cent of the sum of their sizes, or there are 128 of them. Maxima and
    rectifiers have kinks, so that no rule of higher order does better.

    Parameters
    ----------
    module : TextClassifier
        The network, in evaluation mode.
    ids : ndarray of int32, shape (n_tokens,)
        The document, as the network reads it.
    baseline : ndarray of int32, shape (n_tokens,)
        The baseline.
    labels : ndarray of int64, shape (K,)
        Which labels.

    Returns
    -------
    scores : ndarray of float64, shape (n_tokens, K)
        Log-odds; 0 where document and baseline have the same token.
    log_odds, baseline : ndarray of float64, shape (K,)
        Those of the document and of the baseline.

    Notes
    -----
    The activations of `GRAPH_POSITIONS` tokens are held at once, and a few embeddings for each of `POSITIONS`, or of
    the document where it is longer.

    References
    ----------
    M. Sundararajan, A. Taly, Q. Yan (2017), "Axiomatic Attribution for Deep Networks", sections 3 and 5.
    """
    weight = module.encoder.embedding.weight.detach()
    start, end = (weight[torch.from_numpy(part.astype(np.int64)).to(weight.device)] for part in (baseline, ids))
    ends_half = np.ones(STEPS + 1)
    ends_half[[0, -1]] = 0.5
    total, logits = _gradients(module, start, end, np.linspace(0, 1, STEPS + 1), ends_half, labels)
    difference, n = logits[-1] - logits[0], STEPS
    while n < MOST_STEPS:
        error = np.abs(total.sum(axis=0) / n - difference)
        if (error <= np.maximum(TOLERANCE, RELATIVE_TOLERANCE * np.abs(total).sum(axis=0) / n)).all():
            break
        total += _gradients(module, start, end, (np.arange(n) + 0.5) / n, np.ones(n), labels)[0]
        n *= 2
    return total / n, logits[-1], logits[0]


def _gradients(
    module: TextClassifier, start: Tensor, end: Tensor, points: Floats, shares: Floats, labels: Labels
) -> tuple[Floats, Floats]:
    """Add up gradients, times the way from start to end, at points between 0 and 1.

    Gives the sums, shape (n_tokens, K), and the logits at each point, shape (len(points), K).
    """
    at_once = max(1, POSITIONS // len(start))
    total, logits = np.zeros((len(start), len(labels))), []
    columns = torch.from_numpy(labels).to(start.device)
    for first in range(0, len(points), at_once):
        part = slice(first, first + at_once)
        with torch.enable_grad():
            embedded = torch.lerp(start[None], end[None], start.new_tensor(points[part])[:, None, None])
            found = _logits(module, embedded.requires_grad_())[:, columns]
            summed = start.new_tensor(shares[part]) @ found
            for k in range(len(labels)):
                (gradient,) = torch.autograd.grad(summed[k], embedded, retain_graph=k < len(labels) - 1)
                total[:, k] += (gradient.sum(0) * (end - start)).sum(1).cpu().numpy()
        logits.append(found.detach().cpu().double().numpy())
    return total, np.concatenate(logits)


def _logits(module: TextClassifier, embedded: Tensor) -> Tensor:
    """Give the logits of documents of one length, as `TextClassifier` does but for the gradient, which is whole.

    Parameters stand outside the graph. The layers run as in training, since cuDNN knows no other gradient; nothing is
    dropped.
    """
    encoder: AWDLSTM = module.encoder
    weights = [[w.detach() for w in rnn.parameters()] for rnn in encoder.rnns]
    rows, time = embedded.shape[:2]
    window = max(1, GRAPH_POSITIONS // rows)
    state = [embedded.new_zeros(1, rows, w[1].shape[1]) for w in weights for _ in ("h", "c")]
    outputs = []
    for begin in range(0, time, window):
        part = embedded[:, begin : begin + window]
        if window < time:
            found = checkpoint(_run_layers, weights, part, *state, use_reentrant=False, preserve_rng_state=False)
        else:
            found = _run_layers(weights, part, *state)
        outputs.append(found[0])
        state = list(found[1:])
    pooled = torch.cat(outputs, 1)[:, -module.max_length if module.max_length else 0 :]
    return module.head(torch.cat([pooled[:, -1], pooled.amax(1), pooled.mean(1)], 1))


def _run_layers(weights: list[list[Tensor]], x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    """Run LSTM layers over embedded input (rows, time, emb_dim); give the output and the new h and c of each layer."""
    after: list[Tensor] = []
    for layer, parameters in enumerate(weights):
        x, h, c = torch.lstm(x, state[2 * layer : 2 * layer + 2], parameters, True, 1, 0.0, True, False, True)
        after += [h, c]
    return (x, *after)


@contextmanager
def left_as_they_were(modules: Sequence[TextClassifier]) -> Iterator[None]:
    """Put networks into evaluation mode; afterwards their modes are those that they had before."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
