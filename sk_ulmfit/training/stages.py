"""The stages of ULMFiT as functions: plain data in, plain data out.

Texts, numbers and arrays come in; a `ModelState` of numpy arrays goes out. The estimators are thin shells over these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from skorch.helper import predefined_split
from torch import Tensor, nn

from sk_ulmfit.models.assembly import (
    build_language_model,
    load_weights,
    plain_weights,
    shared_weights,
)
from sk_ulmfit.models.state import ModelState, reads_backward
from sk_ulmfit.models.vocabulary import fit_vocabulary
from sk_ulmfit.nn.device import seeded
from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.nn.modules import AWDLSTM, LanguageModel
from sk_ulmfit.nn.pooled_layers import pooled_layers
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.precision import training_precision
from sk_ulmfit.nn.processes import current
from sk_ulmfit.splitting import hold_out
from sk_ulmfit.text.encoding import tokenize_texts
from sk_ulmfit.text.streams import Advance, StreamedTexts
from sk_ulmfit.text.unknown_words import WordCount, warn_of_training_texts
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.batching import DocumentDataset, FeatureDataset, StreamBatches, StreamDataset
from sk_ulmfit.training.bounds import sample_for_range
from sk_ulmfit.training.callbacks import early_stopping, history_of, training_callbacks
from sk_ulmfit.training.combining import (
    outputs_of,
    outputs_of_head,
    predictions_of,
    range_of_scores,
    with_share_by_held_out,
    with_share_by_turns,
)
from sk_ulmfit.training.components import Components
from sk_ulmfit.training.data import TrainingTexts, mean_one
from sk_ulmfit.training.going_on import (
    keep_untrained_entries,
    keep_untrained_rows,
    leave_to_network,
    load_head,
)
from sk_ulmfit.training.held_out import HeldOut, held_out_by_turns
from sk_ulmfit.training.linear_head import fit_linear_head, go_on_with_head, most_trainings
from sk_ulmfit.training.linear_stage import train_linear_model
from sk_ulmfit.training.linear_training import LinearFit
from sk_ulmfit.training.net import HeadNet, LanguageModelNet, TaughtLanguageModelNet, fit_net, net_arguments
from sk_ulmfit.training.new_network import frozen_network, network_config, new_network
from sk_ulmfit.training.prediction import (
    arguments_of_task,
    measure_shifts,
    network_logits,
    new_net,
    restore_net,
    sample_for_shifts,
)
from sk_ulmfit.training.progress import (
    COUNTING,
    LANGUAGE_MODEL,
    LINEAR_HEAD,
    NETWORK,
    READING,
    SAMPLE,
    VECTORS,
    show_stage,
)
from sk_ulmfit.training.recipe import EPOCHS_WITH_TEACHER, language_model_epochs
from sk_ulmfit.training.rounds import TrainingStore, can_be_kept
from sk_ulmfit.training.seen_vectors import VectorStore, checksum
from sk_ulmfit.training.settings import ClassifierSettings, LanguageModelSettings, TrainingSettings
from sk_ulmfit.training.sharing import check_batch_size, check_data_alike, shared_out, warn_of_idle_processes
from sk_ulmfit.training.teacher import Teacher
from sk_ulmfit.training.teaching import TaughtPassages
from sk_ulmfit.training.user_callbacks import callbacks_of_language_model, callbacks_of_network

Rows = NDArray[np.int64]

TEACHER_WEIGHT = 1.0  # of the distance to a teacher's vectors beside the loss of the next word


class TrainedClassifier(NamedTuple):
    """What `train_classifier` gives: the network, the linear model or None, and predictions to decide by."""

    network: ModelState
    linear_fit: LinearFit | None
    held_out: HeldOut


def finetune_language_model(
    texts: Sequence[str] | StreamedTexts,
    start: ModelState | None,
    settings: LanguageModelSettings,
    *,
    teacher: Teacher | None = None,
    callbacks: Sequence[Any] = (),
    max_steps: int | None = None,
) -> ModelState:
    """Train a language model on texts (stage 2 of ULMFiT; without a start also stage 1).

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts.
    start : ModelState or None
        Language model to start from; its sizes are kept and its vocabulary is fitted to the texts. None starts
        from random weights.
    settings : LanguageModelSettings
        How to train; `lr_decay` counts only with `start`.
    teacher : Teacher or None, default=None
        Sentence encoder from which `start` has learned, and which goes on teaching it.
    callbacks : sequence of skorch callbacks, default=()
        Further callbacks, called last.
    max_steps : int or None, default=None
        Train for so many batches, at rates that `callbacks` set, whatever `max_epochs` and `schedule`.

    Returns
    -------
    ModelState
        The language model.
    """
    settings = replace(settings, lr_decay=1.0) if start is None else settings
    config = _language_model_config(start, settings)
    components = None if start is None else Components.from_arrays(start.weights)
    corpus, vocabulary = _tokenize(texts, start, settings, backward=reads_backward(config))
    if settings.max_epochs is None:
        n_epochs = language_model_epochs(len(corpus.ids)) if teacher is None else EPOCHS_WITH_TEACHER
        settings = replace(settings, max_epochs=n_epochs)
    weights = None if start is None else fit_vocabulary(start.weights, start.vocabulary, vocabulary)
    if weights is not None and not (settings.max_epochs or max_steps):
        return ModelState("language_model", config, vocabulary, dict(weights), [])
    check_data_alike(settings, corpus)
    with seeded(settings.seed, settings.device):
        module = build_language_model(config, len(vocabulary), settings.dropout_multiplier)
        if weights is not None:
            load_weights(module, weights)
        history: list[dict[str, Any]] = []
        if settings.max_epochs or max_steps:
            if len(corpus.ids) < 3:
                raise ValueError(
                    f"The texts hold only {len(corpus.ids)} tokens, too few for a language model; give more text, or "
                    "train none (max_epochs=0 of the language model, lm_epochs=0 of the classifier)."
                )
            passages = None
            if teacher is not None and start is not None and components is not None:
                passages = TaughtPassages(texts, teacher, start, vocabulary, settings)
            if max_steps is None:
                callbacks = callbacks_of_language_model(callbacks)
            net = _language_model_net(module, config, vocabulary, settings, callbacks, max_steps, passages)
            dataset = StreamDataset(corpus)
            check_batch_size(settings.batch_size)
            warn_of_idle_processes(StreamBatches(dataset, settings.batch_size or 1, settings.bptt, 0, None).n_rows)
            fit_net(net, dataset)
            history = history_of(net)
    weights = plain_weights(module) | ({} if components is None else components.to_arrays())
    return current().from_first(lambda: ModelState("language_model", config, vocabulary, weights, history))


def train_classifier(
    data: TrainingTexts,
    language_model: ModelState,
    settings: ClassifierSettings,
    *,
    pretrained: bool,
    earlier: ModelState | None = None,
    store: VectorStore | None = None,
    corpus: TokenIds | None = None,
    rounds: TrainingStore | None = None,
    shared_fit: LinearFit | None = None,
    callbacks: Sequence[Any] | None = None,
    threshold: Any = None,
    max_steps: int | None = None,
) -> TrainedClassifier:
    """Train a network on the encoder of a language model (stage 3 of ULMFiT), and the linear model beside it.

    A pre-trained encoder learns at lower rates in lower layers, and with few texts it is unfrozen from the top, one
    layer in each epoch; an embedding with a rate of its own learns from the first epoch. An encoder from random weights
    is trained whole at one rate. A frozen encoder runs over the texts once, without dropout; the head learns from its
    features. A network that has a vector of a text starts with a linear head that is trained to convergence on these
    vectors; with few texts that is all.

    Parameters
    ----------
    data : TrainingTexts
        What to learn from, labels or values; its task says how.
    language_model : ModelState
        Holds the encoder and the vocabulary.
    settings : ClassifierSettings
        How to train.
    pretrained : bool
        Whether the encoder has learned from more than these texts.
    earlier : ModelState or None, default=None
        Network whose training goes on, with the arrays of its head. Its outputs are the first ones of `data`; the row
        of one without a known target stays.
    store : VectorStore or None, default=None
        Vectors that an earlier training has left; those of a frozen encoder are kept in it.
    corpus : TokenIds or None, default=None
        The texts as token ids of the language model, in its reading direction; None tokenizes them.
    rounds : TrainingStore or None, default=None
        What an earlier training of the frozen network has left; what this one leaves is kept in it.
    shared_fit : LinearFit or None, default=None
        The linear model, if it was trained before, with another network on the same texts and vocabulary; its share
        stays.
    callbacks : sequence of skorch callbacks, default=None
        Callbacks of the user.
    threshold : float or ndarray of shape (L,), default=None
        Thresholds by which the net decides if `callbacks` ask it; None means 0.5. Nothing is learned from them.
    max_steps : int or None, default=None
        Train for so many batches, with all layers unfrozen and at rates that `callbacks` set.

    Returns
    -------
    TrainedClassifier
        The network, the linear model, and what is predicted of rows without learning from them.
    """
    backward = reads_backward(language_model.config)
    corpus = _read(data, language_model, settings) if corpus is None else corpus
    has_vector = "vector_dim" in language_model.config
    if has_vector:
        settings = settings.after_head(len(corpus))
    train, held_out = hold_out(data.strata, settings.n_held_out(len(corpus)), settings.seed)
    settings = settings.resolved(len(train), _n_trained_layers(language_model.config), pretrained, has_vector)
    is_frozen = settings.unfreezing == "head"
    check_data_alike(settings, corpus, data.y)
    if not (has_vector and is_frozen and len(train) == len(corpus) and can_be_kept(data)):
        rounds = None
    if rounds is not None:
        rounds.begin(data)
    linear_fit = shared_fit
    if settings.tfidf and linear_fit is None:
        work = partial(train_linear_model, data, corpus, language_model.vocabulary, train, settings, rounds)
        linear_fit = work() if rounds is not None else current().from_first(work)  # rounds stay in each process
    if linear_fit is not None:
        linear_fit = leave_to_network(linear_fit, data.untrained)
    config = network_config(language_model, data, settings)
    y, weight = data.y[train], mean_one(data.weight_of(train))
    history: list[dict[str, Any]] = []
    out_of_fold = np.empty((0, data.y.shape[1]))
    bias, module = data.task.first_bias(y, weight), None
    if has_vector and is_frozen:
        module = frozen_network(language_model, config, bias, copied=earlier is None)
    with seeded(settings.seed, settings.device):
        if module is None:
            module = new_network(language_model, config, bias, settings)
        if earlier is not None:
            load_head(module.head, earlier)
        store = VectorStore() if store is None else store
        features = None
        if has_vector or is_frozen:
            features = _frozen_features(module, corpus, language_model.vocabulary, store, settings, backward)
        if not is_frozen:
            store.kept = None  # layers are going to change
        if has_vector and features is not None:
            out_of_fold = _train_head_first(module, data, features, train, settings, backward, rounds)
            if earlier is not None:
                keep_untrained_rows(module.head, earlier, data.untrained)
            if linear_fit is not None and shared_fit is None and settings.decisions_from != "held_out":
                linear_fit = with_share_by_turns(linear_fit, out_of_fold, data, train)
        features = features if is_frozen else None
        if not (has_vector and is_frozen):
            datasets = _datasets(data, corpus, features, train, held_out)
            callbacks = callbacks_of_network(callbacks, settings) if max_steps is None else callbacks or ()
            net = _classifier_net(
                module, data, language_model.vocabulary, config, datasets[-1], settings, callbacks, threshold, max_steps
            )
            if not is_frozen:
                check_batch_size(settings.batch_size)
            fit_net(net, datasets[0])
            history = history_of(net)
        if earlier is not None:
            keep_untrained_rows(module.head, earlier, data.untrained)
    weights = shared_weights(module) if has_vector and is_frozen else plain_weights(module)
    state = ModelState(data.kind, config, language_model.vocabulary, weights, history)
    sampled = sample_for_range(corpus.lengths, train, data.y, settings.seed)
    sample, probe = corpus.take(sampled), sample_for_shifts(corpus, train, settings.seed)
    known = None if features is None else outputs_of_head(module.head, features[sampled])
    asked = corpus.take(held_out if settings.decisions_from == "held_out" else held_out[:0])
    n_tokens = 3 * len(probe.ids) + len(asked.ids) + (len(sample.ids) if known is None else 0)
    with show_stage(SAMPLE, n_tokens, "tokens", settings, backward) as advance:
        advance(0)
        config |= data.task.config(y, weight)
        before = None if rounds is None else rounds.going_on_from
        if before is not None and store.is_of_same_network:
            config["shifts"] = dict(before.shifts)
        else:
            config["shifts"] = measure_shifts(state, probe, data.task, settings, advance)
        asked_outputs = None
        if settings.decisions_from == "held_out":
            asked_outputs = outputs_of(state, asked, settings, advance)
            if has_vector and linear_fit is not None and shared_fit is None:  # of the network as it is now
                scores = data.task.scores(asked_outputs)
                linear_fit = with_share_by_held_out(linear_fit, scores, asked, data, held_out, train)
        if known is None:
            known = network_logits(restore_net(state, settings), sample, "float32", advance)
        known = data.task.scores(known)
        linear_model = None if linear_fit is None else linear_fit.model
        config["log_odds_range"] = range_of_scores(known, linear_model, sample)
        if earlier is not None:
            keep_untrained_entries(config, earlier.config, data.untrained)
        if settings.decisions_from == "folds":
            predicted = held_out_by_turns(out_of_fold, linear_fit, train, config, settings.seed)
        elif asked_outputs is not None:
            predicted = HeldOut(
                held_out, predictions_of(asked_outputs, linear_model, asked, data.task, config), settings.seed
            )
        else:
            predicted = HeldOut(held_out[:0], out_of_fold[:0], settings.seed)
        if linear_fit is not None and linear_fit.final is not None:
            config["log_odds_range"] = range_of_scores(known, linear_fit.final, sample)
            if earlier is not None:
                keep_untrained_entries(config, earlier.config, data.untrained)
    trained = TrainedClassifier(state, linear_fit, predicted)
    if rounds is not None:
        rounds.keep(data, config["shifts"])
        return trained
    return current().from_first(lambda: trained)


def _read(data: TrainingTexts, language_model: ModelState, settings: ClassifierSettings) -> TokenIds:
    """Return the token ids of the texts, in the direction in which the language model reads."""
    word_count, backward = WordCount(), reads_backward(language_model.config)
    with show_stage(READING, len(data.texts), "texts", settings, backward) as advance:
        corpus = language_model.encode(data.texts, settings.n_jobs, word_count, advance)
    warn_of_training_texts(word_count, language_model.config["language"])
    return corpus


def _n_trained_layers(config: Mapping[str, Any]) -> int:
    """Count the LSTM layers that a classifier on a language model runs."""
    layers = range(config["n_layers"])
    return len(pooled_layers(layers)) if "vector_dim" in config else len(layers)


def _language_model_config(start: ModelState | None, settings: LanguageModelSettings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "emb_dim": settings.emb_dim,
        "hidden_dim": settings.hidden_dim,
        "n_layers": settings.n_layers,
        "language": settings.language,
        "direction": settings.direction,
    }
    if start is not None:  # "pretraining" tells where the words came from
        kept = ("emb_dim", "hidden_dim", "n_layers", "vector_dim", "pretraining")
        config |= {name: start.config[name] for name in kept if name in start.config}
    return config


def _tokenize(
    texts: Sequence[str] | StreamedTexts, start: ModelState | None, settings: LanguageModelSettings, backward: bool
) -> tuple[TokenIds, Vocabulary]:
    known = () if start is None else start.vocabulary.words
    word_count = WordCount()

    def choose(words: Sequence[str], counts: NDArray[np.int64]) -> Vocabulary:
        vocabulary = Vocabulary.from_counts(
            words, counts, max_size=settings.vocab_size, min_frequency=settings.min_frequency, known=known
        )
        word_count.add(len(texts), words, counts, vocabulary if start is None else start.vocabulary)
        return vocabulary

    with show_stage(COUNTING, len(texts), "texts", settings, backward) as advance:
        corpus, vocabulary = tokenize_texts(
            texts, settings.language, settings.n_jobs, choose, backward=backward, advance=advance
        )
    warn_of_training_texts(word_count, settings.language)
    return corpus, vocabulary


def _language_model_net(
    module: LanguageModel,
    config: dict[str, Any],
    vocabulary: Vocabulary,
    settings: LanguageModelSettings,
    callbacks: Sequence[Any],
    max_steps: int | None,
    passages: TaughtPassages | None,
) -> LanguageModelNet:
    net: Callable[..., LanguageModelNet] = LanguageModelNet
    if passages is not None:
        net = partial(TaughtLanguageModelNet, passages=passages, teacher_weight=TEACHER_WEIGHT)
    return net(
        module,
        bptt=settings.bptt,
        batch_size=settings.batch_size,
        pad_id=vocabulary.pad,
        max_steps=max_steps,
        precision=_training_precision(module.encoder, settings),
        callbacks=[*training_callbacks(LANGUAGE_MODEL, config, settings, max_steps), *callbacks],
        **{**net_arguments(settings), "verbose": len(callbacks) * current().is_first},
    )


def _train_head_first(
    module: TextClassifier,
    data: TrainingTexts,
    features: Tensor,
    train: Rows,
    settings: ClassifierSettings,
    backward: bool,
    rounds: TrainingStore | None,
) -> NDArray[np.float64]:
    """Train the linear head on the vectors of the frozen network; return its out-of-fold outputs, (len(train), K)."""
    vectors, y = features.numpy()[train], data.y[train]
    weight, seed = mean_one(data.weight_of(train)), settings.seed
    before = None if rounds is None else rounds.going_on_from
    with show_stage(LINEAR_HEAD, most_trainings(len(y)), "trainings", settings, backward) as advance:
        if before is not None and before.heads is not None and rounds is not None and rounds.rows is not None:
            head = go_on_with_head(vectors, y, data.task, before.heads, rounds.rows, seed, advance)
        else:
            work = partial(fit_linear_head, vectors, y, data.task, weight, seed, advance)
            head = work() if rounds is not None else current().from_first(work)
    if rounds is not None:
        rounds.heads = head.kept
    load_weights(module.head, {"weight": head.weight, "bias": head.bias})
    return head.out_of_fold


def _datasets(data: TrainingTexts, corpus: TokenIds, features: Tensor | None, train: Rows, held_out: Rows) -> list[Any]:
    """Return the training set and the held-out set, if any: documents, or features if only the head learns."""
    parts = [(rows, _loss_weight(data, rows)) for rows in (train, held_out) if len(rows)]
    y = data.task.targets(data.y)
    if features is None:
        if len(held_out):
            return [DocumentDataset(corpus, y[rows], weight, rows) for rows, weight in parts]
        return [DocumentDataset(corpus, y, parts[0][1])]
    if len(held_out):
        return [FeatureDataset(features[rows], y[rows], weight) for rows, weight in parts]
    return [FeatureDataset(features, y, parts[0][1])]  # without a second copy of the features


def _frozen_features(
    module: TextClassifier,
    corpus: TokenIds,
    vocabulary: Vocabulary,
    store: VectorStore,
    settings: ClassifierSettings,
    backward: bool,
) -> Tensor:
    """Compute what the head gets of each document without dropout: pooled features, (n, 3 * emb_dim), or vectors."""
    module.to(settings.device).eval()
    precision = _training_precision(module.encoder, settings)

    def compute(corpus: TokenIds) -> Tensor:
        with show_stage(VECTORS, len(corpus.ids), "tokens", settings, backward) as advance:
            return shared_out(corpus, partial(read, advance=lambda n: advance(n * current().size)))

    def read(corpus: TokenIds, advance: Advance) -> Tensor:
        return pooled_features(
            module.encoder,
            corpus.ids,
            corpus.offsets,
            module.max_length,
            precision=precision,
            vector=module.vector,
            advance=advance,
        )

    conditions = (module.max_length, precision, settings.device, checksum(module, vocabulary))
    return store.vectors_of(corpus, vocabulary, conditions, compute)


def _training_precision(encoder: AWDLSTM, settings: TrainingSettings) -> str:
    width = max(cast(nn.LSTM, rnn).hidden_size for rnn in encoder.rnns)
    return training_precision(settings.precision, settings.device, width)


def _classifier_net(
    module: TextClassifier,
    data: TrainingTexts,
    vocabulary: Vocabulary,
    config: dict[str, Any],
    validation_set: Any | None,
    settings: ClassifierSettings,
    callbacks: Sequence[Any],
    threshold: Any,
    max_steps: int | None,
) -> Any:
    """Make the skorch net to train: of the head alone if the encoder is frozen."""
    arguments = {
        **net_arguments(settings),
        "callbacks": [
            *training_callbacks(NETWORK, config, settings, max_steps),
            *callbacks,
            *early_stopping(settings),
        ],
        "verbose": len(callbacks) * current().is_first,  # 0 would silence PrintLog
        "train_split": predefined_split(validation_set) if settings.early_stopping else None,
        **arguments_of_task(data.task),
        "max_steps": max_steps,
    }
    if threshold is not None:
        arguments["threshold"] = threshold
    if settings.unfreezing == "head":
        return HeadNet(module.head, batch_size=settings.batch_size, pad_id=vocabulary.pad, **arguments)
    precision = _training_precision(module.encoder, settings)
    return new_net(module, config, vocabulary, embedding_lr=settings.embedding_lr, precision=precision, **arguments)


def _loss_weight(data: TrainingTexts, rows: Rows) -> NDArray[np.float32] | None:
    """Compute the factor on the loss of each row, None if every factor is 1.

    The mean factor of all entries is 1, unknown entries included. So the loss of some rows is that of the known
    entries, and a label that is annotated nowhere changes nothing for the others.
    """
    n_known = (~np.isnan(data.y[rows])).sum(axis=1)
    n_labels = data.y.shape[1]
    if data.document_weight is None and (n_known == n_labels).all():
        return None
    weight = np.ones(len(rows)) if data.document_weight is None else data.document_weight[rows]
    total = (weight * n_known).sum()
    return (weight * (len(rows) * n_labels / total if total else 0.0)).astype(np.float32)
