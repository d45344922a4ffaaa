"""Which words of a text drive each label or value: integrated gradients and occlusion.

Both give a number of log-odds, or of the units of a value, for each word, of the whole model: network, linear model of
the words, calibration. Scores are those of `training/task.py`: log-odds before calibration, or standardised values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sk_ulmfit._choices import ExplainMethod
from sk_ulmfit._messages import short, short_names
from sk_ulmfit.explain.explanation import Explanation, Explanations, ValueExplanation
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.nn.pooled_layers import pooled_layers
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.vector import join_means
from sk_ulmfit.text.alignment import Alignment, align
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.averaging import average_with_linear_model, mean_log_odds
from sk_ulmfit.training.linear import LinearModel
from sk_ulmfit.training.prediction import Network, predict_scores
from sk_ulmfit.training.task import Classification, Regression, Task, task_of

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

METHODS = get_args(ExplainMethod)
STEPS, MAX_STEPS = 16, 128  # Integration steps; doubled until the attributions sum to the difference
TOLERANCE, RELATIVE_TOLERANCE = 0.1, 0.02  # of that sum: in log-odds, or relative to the sum of absolute values
TOLERANCE_OF_VALUES = 0.02  # in standard deviations, in place of log-odds
POSITIONS, GRAPH_POSITIONS = 16_384, 4_096  # most that run at once, and most that have an autograd graph at once
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(64)  # quadrature of `mean_shares`
OCCLUDED_TOKENS = 500_000  # in copies that are predicted at once
OF_LABELS = Classification()


class Document(NamedTuple):
    """A text as a model reads it.

    Attributes
    ----------
    alignment : Alignment
        Its words and tokens.
    ids : ndarray of int32, shape (n_tokens,)
        Ids of the tokens, from left to right.
    baseline : ndarray of int32, shape (n_tokens,)
        The same with every token of a word unknown; borders (``xxbos``, ``xxfld 1``) stay.
    unk : ndarray of int32, shape (1,)
        Id of ``xxunk``.
    """

    alignment: Alignment
    ids: NDArray[np.int32]
    baseline: NDArray[np.int32]
    unk: NDArray[np.int32]

    @classmethod
    def of(cls, text: str, vocabulary: Vocabulary, language: str) -> Document:
        """Tokenize a text and look its tokens up."""
        alignment = align(text, language)
        ids = vocabulary.lookup(alignment.tokens)
        in_word = np.repeat(np.diff(alignment.word_offsets) > 0, np.diff(alignment.token_offsets))
        unk = np.array([vocabulary.unk], np.int32)
        return cls(alignment, ids, np.where(in_word, unk, ids), unk)

    def as_corpus(self) -> TokenIds:
        """Return a corpus of this document alone."""
        return TokenIds(self.ids, np.array([0, len(self.ids)]))

    def reading_order(self, network: Network) -> NDArray[np.int64]:
        """Return the positions of the tokens in the order in which a network reads them, shape (n_tokens,)."""
        positions = TokenIds(np.arange(len(self.ids), dtype=np.int32), np.array([0, len(self.ids)]))
        return network.in_reading_order(positions).ids.astype(np.int64)

    def per_word(self, unit_scores: Floats) -> Floats:
        """Divide the score of each unit, shape (n_units, K), equally among its words: shape (n_words, K)."""
        n_words = np.diff(self.alignment.word_offsets)
        return np.repeat(unit_scores / np.maximum(n_words, 1)[:, None], n_words, axis=0)


class Attribution(NamedTuple):
    """Scores of a document for K labels, in log-odds before calibration.

    Attributes
    ----------
    scores : ndarray of float64, shape (n_units, K)
        What each unit contributes. A unit is one spaCy token with its markers.
    log_odds : ndarray of float64, shape (K,)
        Log-odds of the document.
    baseline : ndarray of float64, shape (K,)
        Log-odds of the baseline: the document with every word unknown, or the base rates.
    """

    scores: Floats
    log_odds: Floats
    baseline: Floats


def label_indices(labels: Any, names: Sequence[Any], what: str = "labels", model: str = "classifier") -> Labels:
    """Find labels, or targets, by name: one name, or several, among the names of a model.

    Return their columns, shape (K,), each once, in the order asked for. Raise ValueError if none is given, or one is
    unknown.
    """
    several = isinstance(labels, np.ndarray) or (isinstance(labels, (list, tuple, set)) and labels not in names)
    wanted = list(labels) if several else [labels]
    shown = short_names(names)
    if not wanted:
        default = "the predicted ones" if what == "labels" else "all"
        raise ValueError(f"{what} is empty; choose from {shown}, or pass None for {default}.")
    unknown = [label for label in wanted if label not in names]
    if unknown:
        raise ValueError(
            f"{what} has {short(unknown[0])}, which is not one of this {model}'s {len(names)} {what}: {shown}."
        )
    return np.array(list(dict.fromkeys(names.index(label) for label in wanted)), np.int64)


def explain(
    networks: Sequence[Network],
    linear_model: LinearModel | None,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    texts: Sequence[str],
    labels: Sequence[Labels],
    proba: Floats,
    thresholds: Floats,
    method: ExplainMethod,
) -> Explanations[Explanation]:
    """Explain some labels of texts by their words.

    Parameters
    ----------
    networks : sequence of Network
        Networks of the classifier.
    linear_model : LinearModel or None
        Its linear model.
    vocabulary : Vocabulary
        Its words.
    config : dict
        Its configuration: language, names of labels, calibration.
    texts : sequence of str of length n
        Raw texts.
    labels : sequence of length n of ndarray of int64
        Columns of the labels to explain, for each text.
    proba : ndarray of float64, shape (n, L)
        Probabilities to show.
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
    found = _attributions(networks, linear_model, vocabulary, config, texts, labels, method)
    return Explanations(
        [
            Explanation(
                text=document.alignment.text,
                words=document.alignment.words,
                spans=document.alignment.spans,
                labels=[names[label] for label in chosen],
                proba=p[chosen],
                thresholds=thresholds[chosen],
                log_odds=result.log_odds,
                baseline=result.baseline,
                scores=result.scores,
                method=method,
            )
            for (document, result), chosen, p in zip(found, labels, proba, strict=True)
        ]
    )


def explain_values(
    networks: Sequence[Network],
    linear_model: LinearModel | None,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    texts: Sequence[str],
    targets: Labels,
    method: ExplainMethod,
) -> Explanations[ValueExplanation]:
    """Explain some targets of a regressor, with the columns `targets`, by the words of texts; the rest as `explain`."""
    names = [config["target_names"][target] for target in targets]
    found = _attributions(networks, linear_model, vocabulary, config, texts, [targets] * len(texts), method)
    return Explanations(
        [
            ValueExplanation(
                text=document.alignment.text,
                words=document.alignment.words,
                spans=document.alignment.spans,
                labels=names,
                values=result.log_odds,
                baseline=result.baseline,
                scores=result.scores,
                method=method,
            )
            for document, result in found
        ]
    )


def _attributions(
    networks: Sequence[Network],
    linear_model: LinearModel | None,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    texts: Sequence[str],
    columns: Sequence[Labels],
    method: ExplainMethod,
) -> Iterator[tuple[Document, Attribution]]:
    """Yield each text as a model reads it, and scores of words in calibrated log-odds or in units of the targets."""
    task = task_of(config)
    attribute = gradient_scores if method == "gradient" else occlusion_scores
    slope, offset, base = _units(task, config)
    with evaluation_mode([network.module for network in networks]):
        for text, chosen in zip(texts, columns, strict=True):
            document = Document.of(text, vocabulary, config["language"])
            result = attribute(networks, linear_model, document, chosen, task)
            if base is not None:
                log_odds = _log_odds(networks, linear_model, [document.ids], task)[0, chosen]
                result = measured_from(base[chosen], result, document, log_odds, add_up=method == "gradient")
            a, b = slope[chosen], offset[chosen]
            scores = a * document.per_word(result.scores)
            yield document, Attribution(scores, a * result.log_odds + b, a * result.baseline + b)


def _units(task: Task, config: Mapping[str, Any]) -> tuple[Floats, Floats, Floats | None]:
    """Return slope and offset that turn scores into what is shown, and the scores of a text without known words.

    These are unknown, None, of files of version 0.1.0.
    """
    if isinstance(task, Regression):
        return task.scale, task.mean, np.zeros_like(task.mean)
    n_labels = len(config["label_names"])
    slope, offset = np.array(config.get("calibration", [[1.0] * n_labels, [0.0] * n_labels]))
    return slope, offset, (logit(config["base_rates"]) - offset) / slope if "base_rates" in config else None


def gradient_scores(
    networks: Sequence[Network], linear_model: LinearModel | None, document: Document, labels: Labels, task: Task
) -> Attribution:
    """Score units by integrated gradients of each network, and by their exact part of the linear model.

    The scores add up to the difference between the log-odds of document and baseline, up to the error of the integral.
    `labels` holds K columns.
    """
    parts = [_of_network(network, linear_model, document, labels, task) for network in networks]
    if len(parts) == 1:
        return parts[0]
    scores, log_odds, baselines = zip(*parts, strict=True)
    shares = np.full((len(parts), len(labels)), 1 / len(parts))
    if isinstance(task, Classification):
        shares = mean_shares(baselines, log_odds)
    mean = np.einsum("rk,ruk->uk", shares, np.stack(scores))
    return Attribution(mean, task.mean_of(log_odds), task.mean_of(baselines))


def measured_from(
    base: Floats, result: Attribution, document: Document, log_odds: Floats, *, add_up: bool
) -> Attribution:
    """Measure scores from the base rates of the labels, and to the log-odds that the classifier predicts.

    What a network says of a text without known words means nothing, so the classifier predicts the base rates instead.
    The difference of the two belongs to no single word, nor does what bounding the log-odds takes away, nor the error
    of the integral: if scores are to `add_up`, the units with known tokens share it equally. `base` and `log_odds` have
    the shape (K,), before calibration.
    """
    known = np.add.reduceat(document.ids != document.baseline, document.alignment.token_offsets[:-1]) > 0
    if not known.any():
        return Attribution(np.zeros_like(result.scores), base, base)
    if not add_up:
        return Attribution(result.scores, log_odds, base)
    shared = log_odds - base - result.scores.sum(axis=0)
    return Attribution(result.scores + known[:, None] * shared / known.sum(), log_odds, base)


def mean_shares(baselines: Sequence[Floats], log_odds: Sequence[Floats]) -> Floats:
    """Compute the factor of each network's change of log-odds in the change of their mean, shape (n_networks, K).

    `baselines` and `log_odds` hold the log-odds of each network, shape (K,) each. The changes times these factors add
    up to the change of `mean_log_odds`. As in integrated gradients, a factor is the mean derivative on the straight
    line from the baselines to the document.
    """
    start, end = np.stack(baselines), np.stack(log_odds)
    points = start + (NODES[:, None, None] + 1) / 2 * (end - start)  # (n_nodes, n_networks, K)
    mean = mean_log_odds(list(points.swapaxes(0, 1)))

    def log_variance(x: Floats) -> Floats:
        return -np.logaddexp(0, x) - np.logaddexp(0, -x)

    slopes = np.exp(log_variance(points) - log_variance(mean)[:, None]) / len(start)
    return np.asarray(np.tensordot(NODE_WEIGHTS / 2, slopes, 1))


def _of_network(
    network: Network, linear_model: LinearModel | None, document: Document, labels: Labels, task: Task
) -> Attribution:
    """Score units by one network, averaged with the linear model."""
    order = document.reading_order(network)
    in_order, log_odds, baseline = integrated_gradients(
        network.module, document.ids[order], document.baseline[order], labels, task
    )
    scores = np.empty_like(in_order)
    scores[order] = in_order
    if linear_model is not None:
        share = linear_model.share[labels]
        linear = linear_model.token_logits(document.ids, labels)
        is_border = document.ids == document.baseline
        of_text = linear_model.logits(document.as_corpus())[0, labels]
        of_baseline = of_text - linear[~is_border].sum(axis=0)
        log_odds = average_with_linear_model(log_odds, of_text, share)
        baseline = average_with_linear_model(baseline, of_baseline, share)
        scores = average_with_linear_model(scores, linear, share)
    return Attribution(np.add.reduceat(scores, document.alignment.token_offsets[:-1]), log_odds, baseline)


def occlusion_scores(
    networks: Sequence[Network], linear_model: LinearModel | None, document: Document, labels: Labels, task: Task
) -> Attribution:
    """Score units by the change of the log-odds when ``xxunk`` replaces one unit.

    The score is 0 for units without any token that the model knows, and for borders. `labels` holds K columns.

    References
    ----------
    Zeiler, M. D., Fergus, R. (2014), "Visualizing and Understanding Convolutional Networks", section 4.2.
    Li, J., Monroe, W., Jurafsky, D. (2016), "Understanding Neural Networks through Representation Erasure", section 3.
    """
    ids, offsets = document.ids, document.alignment.token_offsets
    log_odds, baseline = _log_odds(networks, linear_model, [ids, document.baseline], task)[:, labels]
    scores = np.zeros((len(offsets) - 1, len(labels)))
    known = np.add.reduceat(ids != document.baseline, offsets[:-1]) > 0
    units = np.flatnonzero(known)
    at_once = max(1, OCCLUDED_TOKENS // len(ids))
    for start in range(0, len(units), at_once):
        some = units[start : start + at_once]
        copies = [np.concatenate([ids[: offsets[i]], document.unk, ids[offsets[i + 1] :]]) for i in some]
        scores[some] = log_odds - _log_odds(networks, linear_model, copies, task)[:, labels]
    return Attribution(scores, log_odds, baseline)


def _log_odds(
    networks: Sequence[Network], linear_model: LinearModel | None, documents: list[NDArray[np.int32]], task: Task
) -> Floats:
    """Compute all scores, log-odds of a classifier, for documents from left to right, shape (n, L)."""
    offsets = np.cumsum([0, *map(len, documents)])
    corpus = TokenIds(np.concatenate(documents).astype(np.int32), offsets)
    return task.reached(task.mean_of(predict_scores(networks, linear_model, corpus, task, "float32")))


def integrated_gradients(
    module: TextClassifier, ids: NDArray[np.int32], baseline: NDArray[np.int32], labels: Labels, task: Task = OF_LABELS
) -> Attribution:
    """Split the difference between a network's log-odds for a document and for a baseline among the tokens.

    The embeddings move on a straight line from the baseline to the document; so do, if the network has a vector of the
    text, the weighted embeddings whose mean is part of it. The score of a token is the integral of the gradient along
    that line times its change. The gradient is that of the whole document, not cut
    at windows. The trapezoidal rule starts with 16 steps; they are doubled, up to 128, until the scores of every label
    add up to its difference within 0.1, or within 2 per cent of the sum of their absolute values.

    Parameters
    ----------
    module : TextClassifier
        The network, in evaluation mode.
    ids, baseline : ndarray of int32, shape (n_tokens,)
        Document and baseline, in the reading order of the network.
    labels : ndarray of int64, shape (K,)
        Columns of the labels.

    Returns
    -------
    Attribution
        Scores of tokens, shape (n_tokens, K); 0 where document and baseline have the same token.

    References
    ----------
    Sundararajan, M., Taly, A., Yan, Q. (2017), "Axiomatic Attribution for Deep Networks", sections 3 and 5.
    """
    start, end = _inputs(module, baseline), _inputs(module, ids)
    ends_half = np.ones(STEPS + 1)
    ends_half[[0, -1]] = 0.5
    total, logits = _gradients(module, start, end, np.linspace(0, 1, STEPS + 1), ends_half, labels, task)
    difference, n = logits[-1] - logits[0], STEPS
    tolerance = TOLERANCE if isinstance(task, Classification) else TOLERANCE_OF_VALUES
    while n < MAX_STEPS:
        error = np.abs(total.sum(axis=0) / n - difference)
        if (error <= np.maximum(tolerance, RELATIVE_TOLERANCE * np.abs(total).sum(axis=0) / n)).all():
            break
        total += _gradients(module, start, end, (np.arange(n) + 0.5) / n, np.ones(n), labels, task)[0]
        n *= 2
    return Attribution(total / n, logits[-1], logits[0])


def _inputs(module: TextClassifier, ids: NDArray[np.int32]) -> Tensor:
    """Return what a network reads of each token: its embedding, (n_tokens, emb_dim).

    With a vector the weighted embedding stands beside it, (n_tokens, 2 * emb_dim).
    """
    weight = module.encoder.embedding.weight.detach()
    place = torch.from_numpy(ids.astype(np.int64)).to(weight.device)
    embedded = weight[place]  # (n_tokens, emb_dim)
    if module.vector is None:
        return embedded
    return torch.cat([embedded, module.vector.word_weight.detach()[place] * embedded], 1)


def _gradients(
    module: TextClassifier,
    start: Tensor,
    end: Tensor,
    points: Floats,
    shares: Floats,
    labels: Labels,
    task: Task = OF_LABELS,
) -> tuple[Floats, Floats]:
    """Add up gradients of scores times (end - start) at points between 0 and 1.

    Return the sums, shape (n_tokens, K), and the scores at each point, shape (len(points), K).
    """
    at_once = max(1, POSITIONS // len(start))
    total, logits = np.zeros((len(start), len(labels))), []
    columns = torch.from_numpy(labels).to(start.device)
    for first in range(0, len(points), at_once):
        part = slice(first, first + at_once)
        with torch.enable_grad():
            inputs = torch.lerp(start[None], end[None], start.new_tensor(points[part])[:, None, None])
            values = task.scores_of_tensor(_logits(module, inputs.requires_grad_()))[:, columns]
            summed = start.new_tensor(shares[part]) @ values
            for k in range(len(labels)):
                (gradient,) = torch.autograd.grad(summed[k], inputs, retain_graph=k < len(labels) - 1)
                total[:, k] += (gradient.sum(0) * (end - start)).sum(1).cpu().numpy()
        logits.append(values.detach().cpu().double().numpy())
    return total, np.concatenate(logits)


def _logits(module: TextClassifier, inputs: Tensor) -> Tensor:
    """Compute the logits of documents of one length, like `TextClassifier`, but with the whole gradient.

    `inputs` are those of `_inputs` for each document: (rows, time, emb_dim or 2 * emb_dim). Parameters are not part of
    the graph. The layers run in training mode, since cuDNN has no other gradient, but without dropout.
    """
    encoder: AWDLSTM = module.encoder
    every_layer = module.vector is not None
    layers = pooled_layers(list(encoder.rnns)) if every_layer else list(encoder.rnns)
    weights = [[w.detach() for w in rnn.parameters()] for rnn in layers]
    embedded, weighted = inputs.tensor_split([encoder.embedding.embedding_dim], 2)  # (rows, time, emb_dim) each
    rows, time = embedded.shape[:2]
    window = max(1, GRAPH_POSITIONS // rows)
    state = [embedded.new_zeros(1, rows, w[1].shape[1]) for w in weights for _ in ("h", "c")]
    outputs = []
    for begin in range(0, time, window):
        part = embedded[:, begin : begin + window]
        if window < time:
            result = checkpoint(
                _run_layers, weights, every_layer, part, *state, use_reentrant=False, preserve_rng_state=False
            )
        else:
            result = _run_layers(weights, every_layer, part, *state)
        outputs.append(result[0])
        state = list(result[1:])
    first_pooled = -module.max_length if module.max_length else 0
    pooled = torch.cat(outputs, 1)[:, first_pooled:]
    if module.vector is None:
        return module.head(torch.cat([pooled[:, -1], pooled.amax(1), pooled.mean(1)], 1))
    return module.head(module.vector(join_means(pooled.mean(1), weighted[:, first_pooled:].mean(1))))


def _run_layers(weights: list[list[Tensor]], every_layer: bool, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    """Run LSTM layers over embedded input (rows, time, emb_dim).

    Return the output, of the top layer or of every layer side by side, and the new h, c of each layer.
    """
    outputs: list[Tensor] = []
    after: list[Tensor] = []
    for layer, parameters in enumerate(weights):
        x, h, c = torch.lstm(x, state[2 * layer : 2 * layer + 2], parameters, True, 1, 0.0, True, False, True)
        outputs.append(x)
        after += [h, c]
    return (torch.cat(outputs, 2) if every_layer else x, *after)


@contextmanager
def evaluation_mode(modules: Sequence[TextClassifier]) -> Iterator[None]:
    """Put networks into evaluation mode, outside ``torch.inference_mode``, and afterwards back into their mode."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.inference_mode(False):
            yield
    finally:
        for part, mode in modes:
            part.training = mode
