"""The stages of ULMFiT as functions: plain data in, plain data out.

Texts, numbers and arrays come in; a `ModelState` of numpy arrays goes out. The estimators are shells over these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import EarlyStopping
from skorch.helper import predefined_split

from sk_ulmfit.models.assembly import (
    build_classifier,
    build_language_model,
    encoder_weights,
    load_weights,
    plain_weights,
)
from sk_ulmfit.models.state import ModelState, Weights, fit_vocabulary, reads_backward
from sk_ulmfit.nn.device import seeded
from sk_ulmfit.nn.modules import ConcatPoolingHead
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.precision import prediction_precision, training_precision, widest_layer
from sk_ulmfit.splitting import hold_out
from sk_ulmfit.text.encoding import tokenize_texts
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.batching import DocumentDataset, FeatureDataset, StreamDataset
from sk_ulmfit.training.callbacks import (
    ClipGradient,
    GradualUnfreezing,
    Progress,
    StopWhenDiverged,
)
from sk_ulmfit.training.linear import base_rates, enough_documents, fit_tfidf
from sk_ulmfit.training.net import HeadNet, LanguageModelNet, fit_net
from sk_ulmfit.training.prediction import classifier_net, measure_shifts, predict_proba, restore_classifier_net
from sk_ulmfit.training.recipe import (
    classifier_batch_size,
    classifier_epochs,
    language_model_epochs,
    unfreezes_gradually,
)
from sk_ulmfit.training.settings import SCHEDULES, TrainingSettings, _net_settings


class HeldOut(NamedTuple):
    """Rows that a classifier did not learn from, and its probabilities for them.

    Attributes
    ----------
    rows : ndarray of int64
        Their numbers.
    proba : ndarray of float64, shape (len(rows), L), or (0, L) if it was not asked for
        Probabilities.
    seed : int
        What chose the rows.
    """

    rows: NDArray[np.int64]
    proba: NDArray[np.float64]
    seed: int


def finetune_language_model(
    texts: Sequence[str] | StreamedTexts,
    start: ModelState | None,
    settings: TrainingSettings,
    *,
    sizes: dict[str, int],
    vocab_size: int,
    min_frequency: int,
    language: str,
    direction: str,
    callbacks: Sequence[Any] | None = None,
) -> ModelState:
    """Train a language model on texts (stage 2 of ULMFiT; from scratch, also stage 1).

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts.
    start : ModelState or None
        Language model to start from; its sizes are kept and its vocabulary is fitted to the texts. None starts
        from random weights.
    settings : TrainingSettings
        How to train; `lr_decay` counts only with `start`.
    sizes : dict
        ``emb_dim``, ``hidden_dim`` and ``n_layers`` of a model made from scratch.
    vocab_size : int
        Most words.
    min_frequency : int
        Rarer words become unknown, unless `start` knows them.
    language : str
        Language code of spaCy's tokenizer.
    direction : {"forward", "backward"}
        The order in which texts are read. A start of the other direction learns this one from the texts.
    callbacks : sequence of skorch callbacks, default=None
        More callbacks, which come last.

    Returns
    -------
    ModelState
        The language model.
    """
    settings = replace(settings, lr_decay=1.0) if start is None else settings
    known = () if start is None else start.vocabulary.words

    def choose(words: Sequence[str], counts: NDArray[np.int64]) -> Vocabulary:
        return Vocabulary.from_counts(words, counts, max_size=vocab_size, min_frequency=min_frequency, known=known)

    config: dict[str, Any] = {**sizes, "language": language, "direction": direction}
    if start is not None:  # "pretraining" tells where its words came from
        kept = ("emb_dim", "hidden_dim", "n_layers", "pretraining")
        config |= {name: start.config[name] for name in kept if name in start.config}
    texts = _shown(texts, settings)
    corpus, vocabulary = tokenize_texts(texts, language, settings.n_jobs, choose, backward=reads_backward(config))
    if settings.max_epochs is None:
        settings = replace(settings, max_epochs=language_model_epochs(len(corpus.ids)))
    with seeded(settings.seed, settings.device):
        module = build_language_model(config, len(vocabulary), settings.dropout_multiplier)
        if start is not None:
            load_weights(module, fit_vocabulary(start.weights, start.vocabulary, vocabulary))
        history: list[dict[str, Any]] = []
        if settings.max_epochs:
            if len(corpus.ids) < 3:
                raise ValueError(
                    f"The texts hold only {len(corpus.ids)} tokens, too few for a language model; give more text, or "
                    "train none (max_epochs=0 of the language model, lm_epochs=0 of the classifier)."
                )
            net = LanguageModelNet(
                module,
                bptt=settings.bptt,
                batch_size=settings.batch_size,
                pad_id=vocabulary.pad,
                precision=training_precision(settings.precision, settings.device, widest_layer(config)),
                callbacks=[*_callbacks(_stage("language model", config), settings), *(callbacks or [])],
                **_net_settings(settings),
            )
            fit_net(net, StreamDataset(corpus))
            history = plain_history(net.history)
    return ModelState("language_model", config, vocabulary, plain_weights(module), history)


def train_classifier(
    texts: Sequence[str] | StreamedTexts,
    indicator: NDArray[np.float32],
    label_names: Sequence[Any],
    language_model: ModelState,
    settings: TrainingSettings,
    *,
    pretrained: bool,
    freeze_encoder: bool,
    gradual_unfreezing: bool | None,
    embedding_lr: float | None,
    tfidf: bool,
    max_length: int | None,
    early_stopping: bool,
    held_out_fraction: float,
    predict_held_out: bool,
    n_iter_no_change: int,
    callbacks: Sequence[Any] | None,
    document_weight: NDArray[np.float64] | None = None,
    pos_weight: NDArray[np.float64] | None = None,
    words: Weights | None = None,
) -> tuple[ModelState, HeldOut]:
    """Train a classifier on the body of a language model (stage 3 of ULMFiT).

    A pre-trained body learns at lower rates in lower groups, and with few texts it is unfrozen gradually, from the top;
    an embedding that has a rate of its own learns from the first epoch. Any other body is trained whole from the first
    epoch at one rate, since there is nothing in it to preserve. A frozen one is run over the texts once, without
    dropout; the head then learns from the pooled features.

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts.
    indicator : ndarray of float32, shape (n, L)
        0 and 1, NaN where unknown.
    label_names : sequence of length L
        Names to keep with the model.
    language_model : ModelState
        Where the body and the vocabulary come from.
    settings : TrainingSettings
        How to train.
    pretrained : bool
        Whether the body was trained on more than these texts.
    freeze_encoder : bool
        Whether to train the head alone.
    gradual_unfreezing : bool or None
        Whether a pre-trained body is unfrozen layer by layer; None goes by the amount of data, as in `recipe`.
    embedding_lr : float or None
        Largest learning rate of a pre-trained embedding; None gives it that of a layer group.
    tfidf : bool
        Whether to train a linear model of the words beside the network.
    max_length : int or None
        How many tokens, from the end, of a document are pooled.
    early_stopping : bool
        Whether to stop when the loss on held-out rows no longer falls.
    held_out_fraction : float
        Share of the rows that nothing but this is learned from; 0 holds out none.
    predict_held_out : bool
        Whether the probabilities for them are wanted.
    n_iter_no_change : int
        Epochs without improvement after which to stop.
    callbacks : sequence of skorch callbacks, or None
        The user's own.
    document_weight : ndarray of shape (n,), default=None
        How much each text counts, above 0; None counts all equally.
    pos_weight : ndarray of shape (L,), default=None
        Factor on the loss of the entries that are 1.
    words : dict of str to ndarray, default=None
        The linear model, where it was trained before, on the same texts in the same vocabulary.

    Returns
    -------
    state : ModelState
        The classifier.
    held_out : HeldOut
        What it says of the rows held out.
    """
    corpus = language_model.encode(_shown(texts, settings), settings.n_jobs)
    train, held_out = hold_out(indicator, held_out_fraction, settings.seed)
    gradual = unfreezes_gradually(len(train)) if gradual_unfreezing is None else gradual_unfreezing
    gradual = gradual and pretrained and not freeze_encoder
    if settings.max_epochs is None:
        n_groups = language_model.config["n_layers"] + 1 + (embedding_lr is None) if gradual else 1
        epochs = classifier_epochs(len(train), n_groups=n_groups, freeze_encoder=freeze_encoder)
        settings = replace(settings, max_epochs=epochs)
    if settings.batch_size is None:
        settings = replace(settings, batch_size=classifier_batch_size(len(train)))
    config = {
        **language_model.config,
        "label_names": list(label_names),
        "bptt": settings.bptt,
        "max_length": max_length,
        "batch_size": settings.batch_size,
    }
    vocabulary = language_model.vocabulary
    mean_one = None if document_weight is None else to_mean_one(document_weight[train])
    if words is None:
        words = {}
    if tfidf and not words:
        enough = enough_documents(corpus.lengths_of(train), settings.seed)
        words = fit_tfidf(
            corpus.take(train[enough]),
            vocabulary,
            indicator[train[enough]],
            settings.seed,
            settings.n_jobs,
            document_weight=None if document_weight is None else to_mean_one(document_weight[train[enough]]),
            pos_weight=pos_weight,
        )
    settings = settings if pretrained else replace(settings, lr_decay=1.0)
    all_callbacks = _callbacks(_stage("classifier", config), settings)
    if gradual:
        all_callbacks.append(("sk_ulmfit_unfreezing", GradualUnfreezing(embedding_lr is not None)))
    all_callbacks += callbacks or []
    if early_stopping:  # the last: callbacks behind it miss the epoch in which it stops
        stopping = EarlyStopping(patience=n_iter_no_change, threshold=0.0, load_best=True, sink=_say_nothing)
        all_callbacks.append(("sk_ulmfit_early_stopping", stopping))
    with seeded(settings.seed, settings.device):
        module = build_classifier(config, len(vocabulary), settings.dropout_multiplier)
        precision = training_precision(settings.precision, settings.device, widest_layer(config))
        load_weights(module.encoder, encoder_weights(language_model.weights))
        odds = 1.0 if pos_weight is None else pos_weight
        rates = base_rates(indicator[train], mean_one)
        cast(ConcatPoolingHead, module.head).start_at(odds * rates / (1 - rates + odds * rates))
        parts = [(rows, _loss_weight(indicator, document_weight, rows)) for rows in (train, held_out) if len(rows)]
        sets: list[Any]
        if freeze_encoder:
            features = _features(module, corpus, config, vocabulary, settings, precision)
            if len(held_out):
                sets = [FeatureDataset(features[rows], indicator[rows], weight) for rows, weight in parts]
            else:  # no second copy of the features
                sets = [FeatureDataset(features, indicator, parts[0][1])]
            del features
        else:
            if len(held_out):
                sets = [DocumentDataset(corpus, indicator[rows], weight, rows) for rows, weight in parts]
            else:
                sets = [DocumentDataset(corpus, indicator, parts[0][1])]
        options = {
            **_net_settings(settings),
            "callbacks": all_callbacks,
            "train_split": predefined_split(sets[-1]) if early_stopping else None,
            "criterion__pos_weight": None if pos_weight is None else torch.tensor(pos_weight, dtype=torch.float32),
        }
        if freeze_encoder:
            net = HeadNet(module.head, batch_size=settings.batch_size, pad_id=vocabulary.pad, **options)
        else:
            options |= {"embedding_lr": embedding_lr if pretrained else None, "precision": precision}
            net = classifier_net(module, config, vocabulary, **options)
        fit_net(net, sets[0])
    weights = plain_weights(module) | words
    state = ModelState("classifier", config, vocabulary, weights, plain_history(net.history))
    state.config["shifts"] = measure_shifts(state, corpus, train, settings)
    proba = np.empty((0, indicator.shape[1]))
    if predict_held_out:
        device, width = settings.device, widest_layer(config)
        precision = prediction_precision(settings.precision, device, width, state.config["shifts"])
        proba = predict_proba(restore_classifier_net(state, settings), words, corpus.take(held_out), precision)
    return state, HeldOut(held_out, proba, settings.seed)


def _features(
    module: TextClassifier,
    corpus: TokenIds,
    config: dict[str, Any],
    vocabulary: Vocabulary,
    settings: TrainingSettings,
    precision: str,
) -> torch.Tensor:
    """Give the pooled features of each document, shape (n, 3 * emb_dim)."""
    body = TextClassifier(module.encoder, torch.nn.Identity(), config["bptt"], config["max_length"])
    net = classifier_net(body, config, vocabulary, **_net_settings(settings))
    return net.initialize().logits(corpus, precision)


def to_mean_one(weight: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale weights to a mean of one: only their ratios count."""
    return (weight / weight.mean()).astype(np.float32)


def _loss_weight(
    indicator: NDArray[np.float32], document_weight: NDArray[np.float64] | None, rows: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Give the factor on the loss of each row that makes the mean factor of all entries one, those unknown included.

    So the loss of some rows is that of the known entries, and a label that is annotated nowhere changes nothing for the
    others. None if every factor is one.
    """
    n_known = (~np.isnan(indicator[rows])).sum(axis=1)
    n_labels = indicator.shape[1]
    if document_weight is None and (n_known == n_labels).all():
        return None
    weight = np.ones(len(rows)) if document_weight is None else document_weight[rows]
    total = (weight * n_known).sum()
    return (weight * (len(rows) * n_labels / total if total else 0.0)).astype(np.float32)


def plain_history(history: Any) -> list[dict[str, Any]]:
    """Give a skorch history without its batches, as plain dicts of JSON types."""
    return [
        {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in row.items()
            if isinstance(value, (bool, int, float, str, np.generic))
        }
        for row in history
    ]


def _stage(name: str, config: dict[str, Any]) -> str:
    return f"backward {name}" if reads_backward(config) else name


def _callbacks(stage: str, settings: TrainingSettings) -> list[Any]:
    callbacks: list[Any] = [SCHEDULES[settings.schedule](), StopWhenDiverged()]
    if settings.gradient_clip is not None:
        callbacks.append(ClipGradient(settings.gradient_clip))
    if settings.verbose:
        callbacks.append(Progress(stage))
    return [(f"sk_ulmfit_{type(callback).__name__}", callback) for callback in callbacks]


def _shown(texts: Sequence[str] | StreamedTexts, settings: TrainingSettings) -> Sequence[str] | StreamedTexts:
    """Show how far streamed texts have been read, where progress is wanted."""
    return texts.with_progress("reading") if isinstance(texts, StreamedTexts) and settings.verbose else texts


def _say_nothing(message: str) -> None:
    pass
