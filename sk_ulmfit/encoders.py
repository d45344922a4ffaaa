"""Where the encoder of each network comes from: the language models of a classifier."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._choices import Direction
from sk_ulmfit._messages import short
from sk_ulmfit.language_model import (
    SIZES,
    ULMFiTLanguageModel,
    check_parameters,
    find_start,
    known_words,
    most_words,
    starts_from_random_weights,
    starts_from_vector,
    training_input,
)
from sk_ulmfit.models.assembly import shared_weights
from sk_ulmfit.models.room import Room
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.models.state import ModelState, reads_backward
from sk_ulmfit.text.seen_tokens import TokenStore
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.training.directions import Encoder
from sk_ulmfit.training.fitted import FittedModel
from sk_ulmfit.training.growing import grow_language_model
from sk_ulmfit.training.progress import COUNTING, LANGUAGE_MODEL, TEACHER, Start
from sk_ulmfit.training.recipe import trains_language_model
from sk_ulmfit.training.rounds import TrainingStore
from sk_ulmfit.training.seen_vectors import VectorStore


class Frozen(Protocol):
    """A ``FrozenEstimator`` that holds a language model."""

    estimator: ULMFiTLanguageModel


# What the parameter `language_model` may be
LanguageModelChoice: TypeAlias = str | os.PathLike[str] | ULMFiTLanguageModel | Frozen | None
LanguageModels: TypeAlias = LanguageModelChoice | tuple[LanguageModelChoice, LanguageModelChoice]


def choose_language_models(classifier: Any, seed: int | None) -> list[ULMFiTLanguageModel]:
    """Return the language model of each network, fitted or to be fitted, the forward one first.

    Parameters
    ----------
    classifier : ULMFiTMultiLabelClassifier
        Its parameters say what is wanted; language models that are made here take theirs from it.
    seed : int or None
        ``random_state`` of language models that have none.

    Raises
    ------
    ValueError
        If `language_model` or `direction` cannot be used, alone or together.
    """
    wanted, direction = classifier.language_model, classifier.direction
    if direction != "both":
        return [_language_model(classifier, wanted, direction, seed)]
    pair = wanted if isinstance(wanted, (tuple, list)) and len(wanted) == 2 else (wanted, wanted)
    if pair is wanted:
        _check_pair(pair)
    first, second = (_language_model(classifier, *one, seed) for one in zip(pair, DIRECTIONS, strict=True))
    if pair is wanted and not _may_know_the_same_words(first, second):
        raise ValueError(
            "The two models of language_model know different words; pre-train both on one corpus (sk-ulmfit "
            "pretrain, the second time on the folder 'tokens' of the first run, with --backward), or fit both on "
            "the same texts."
        )
    return [first, second]


def leave_untrained(
    language_models: Sequence[ULMFiTLanguageModel], classifier: Any, y: NDArray[np.floating[Any]], n_unlabelled: int
) -> None:
    """Train no epoch of language models from random weights where it gains too little, unless epochs are asked for.

    A frozen encoder has learned nothing else, and without a linear model (`tfidf`) what it learns counts for more; so
    then it is trained.

    Parameters
    ----------
    language_models : sequence of ULMFiTLanguageModel
        From `choose_language_models`; the unfitted ones are changed.
    classifier : ULMFiTMultiLabelClassifier or ULMFiTRegressor
        With the parameters `unfreezing` and `tfidf`.
    y : ndarray, shape (n, K)
        Labels or values, NaN where unknown; a text without a known one counts as unlabelled.
    n_unlabelled : int
        Number of further texts.
    """
    n_unknown = int(np.isnan(y).all(axis=1).sum())
    is_worth_it = trains_language_model(len(y) - n_unknown, n_unlabelled + n_unknown)
    if is_worth_it or classifier.unfreezing == "head" or not classifier.tfidf:
        return
    for model in language_models:
        if not hasattr(model, "state_") and model.max_epochs is None and starts_from_random_weights(model):
            model.set_params(max_epochs=0)


def planned_starts(classifier: Any, language_models: Sequence[ULMFiTLanguageModel]) -> list[Start]:
    """Tell, before the fit, where each network starts and whether its language model is trained."""
    wanted = classifier.language_model
    pair = wanted if isinstance(wanted, (tuple, list)) else [wanted] * len(language_models)
    return [_planned_start(classifier.lm_epochs, *each) for each in zip(pair, language_models, strict=True)]


def _planned_start(lm_epochs: int | None, wanted: Any, model: ULMFiTLanguageModel) -> Start:
    is_fitted = hasattr(model, "state_")
    state = model.state_ if is_fitted else find_start(model).state
    has_vector = state is not None and "vector_dim" in state.config
    inherits_backward = state is not None and reads_backward(state.config)
    backward = inherits_backward if is_fitted or model.direction is None else model.direction == "backward"
    if is_fitted:
        return Start(backward, [], "not trained further, since it is fitted already", True, has_vector)
    stages = [COUNTING]
    if model.max_epochs != 0:
        stages += [LANGUAGE_MODEL] if model.teacher is None else [TEACHER, LANGUAGE_MODEL]
    return Start(backward, stages, _training(lm_epochs, wanted, model, has_vector), state is not None, has_vector)


def _training(lm_epochs: int | None, wanted: Any, model: ULMFiTLanguageModel, has_vector: bool) -> str:
    """Say whether a language model is trained, and why."""
    name, asked = "lm_epochs", lm_epochs
    if asked is None and isinstance(wanted, ULMFiTLanguageModel):
        name, asked = "max_epochs", wanted.max_epochs
    if model.max_epochs is None:
        return f"trained, in as many epochs as suit the number of tokens ({name}={asked})"
    if model.max_epochs:
        return f"trained ({name}={asked})"
    if asked is None and has_vector:
        return f"not trained further, since it has a vector of a text ({name}={asked})"
    if asked is None:
        return f"not trained, since so few texts teach random weights too little ({name}={asked})"
    return f"not trained ({name}={asked})"


def fit_encoders(
    language_models: Sequence[ULMFiTLanguageModel], texts: list[str] | StreamedTexts, has_unlabelled: bool
) -> list[Encoder]:
    """Fit the language models that are not fitted yet, and return the encoder of each.

    Parameters
    ----------
    language_models : sequence of ULMFiTLanguageModel
        From `choose_language_models`.
    texts : list of str or StreamedTexts
        All texts, labelled or not.
    has_unlabelled : bool
        Whether some of them are unlabelled; a fitted language model does not read these, which is worth a warning.

    Raises
    ------
    ValueError
        If the language models have different words afterwards.
    """
    encoders = []
    for model in language_models:
        is_fitted = hasattr(model, "state_")
        if is_fitted and has_unlabelled:
            warnings.warn(
                "unlabelled_texts are not used, since language_model is already fitted. Fit it on them beforehand, or "
                "pass an unfitted one or a path.",
                UserWarning,
                stacklevel=3,
            )
        if not is_fitted:
            model.fit(texts)
        encoders.append(Encoder(model.state_, is_fitted or model.pretrained_ is not None))
    if len({tuple(encoder.language_model.vocabulary.words) for encoder in encoders}) > 1:
        raise ValueError(
            "The two models of language_model have different words after training on the texts; fit both on the same "
            "texts, with the same settings."
        )
    return encoders


def starts_of_fitted(fitted: FittedModel) -> list[Start]:
    """Tell, before a fit that goes on, where each network starts."""
    why = "not trained further, since the fit goes on (warm_start=True)"
    return [
        Start(reads_backward(network.config), [COUNTING], why, True, "vector_dim" in network.config, reads_once=True)
        for network in fitted.networks
    ]


def grown_encoders(
    estimator: Any, fitted: FittedModel, texts: list[str] | StreamedTexts, n_labelled: int, store: TokenStore
) -> list[Encoder]:
    """Return the encoders of fitted networks, whose training goes on, with the new words of the texts added.

    The first `n_labelled` texts are those of the training; their tokens are kept in `store`.
    """
    wanted = estimator.language_model
    is_pair = isinstance(wanted, (tuple, list)) and len(wanted) == len(fitted.networks)
    pair = wanted if is_pair else [wanted] * len(fitted.networks)
    rooms = fitted.rooms or [Room() for _ in pair]
    encoders = []
    for network, model, room in zip(fitted.networks, pair, rooms, strict=True):
        arrays = shared_weights(network.module)
        body = {name: array for name, array in arrays.items() if not name.startswith("head.")}
        head = {name: array for name, array in arrays.items() if name.startswith("head.")}
        start = ModelState("language_model", dict(network.config), fitted.vocabulary, body)
        texts, _, settings = training_input(_grower(estimator, model, start), texts)
        grown, corpus, room = grow_language_model(texts, start, settings, store, room)
        earlier = ModelState(fitted.kind, dict(network.config), fitted.vocabulary, head)
        encoders.append(Encoder(grown, True, earlier, corpus=corpus.first(n_labelled), room=room))
    return encoders


def with_stores(encoders: Sequence[Encoder], earlier: FittedModel | None, is_cached: bool) -> list[Encoder]:
    """Give each encoder what an earlier fit has kept, if any, and a place to keep what this one leaves.

    No training goes on from another one if the results are cached: one that is read from the cache leaves nothing, and
    the next one must not depend on that.
    """
    nothing = (None,) * len(encoders)
    vectors = earlier.seen if earlier is not None and earlier.seen else nothing
    trainings = earlier.seen_trainings if earlier is not None and earlier.seen_trainings else nothing
    return [
        encoder._replace(store=VectorStore(seen), rounds=None if is_cached else TrainingStore(training))
        for encoder, seen, training in zip(encoders, vectors, trainings, strict=True)
    ]


def _grower(estimator: Any, wanted: Any, start: ModelState) -> ULMFiTLanguageModel:
    """Return a language model that has words added to `start`, as many as the one that the user passed allows."""
    wanted = getattr(wanted, "estimator", wanted)  # of a FrozenEstimator
    own = {}
    if isinstance(wanted, ULMFiTLanguageModel):
        own = {name: getattr(wanted, name) for name in (*SIZES, "vocab_size", "min_frequency")}
    return ULMFiTLanguageModel(
        start,
        max_epochs=0,
        device=estimator.device,
        n_jobs=estimator.n_jobs,
        verbose=estimator.verbose,
        **own,
    )


def _language_model(classifier: Any, wanted: Any, direction: Direction, seed: int | None) -> ULMFiTLanguageModel:
    """Return the language model of one network: a fitted one as it is, or one to fit."""
    if isinstance(wanted, FrozenEstimator):
        wanted = _thawed(wanted)
    if isinstance(wanted, ULMFiTLanguageModel) and hasattr(wanted, "state_"):
        _check_direction(wanted, direction, classifier.direction)
        return wanted
    if isinstance(wanted, ULMFiTLanguageModel):
        model = _copy_for(classifier, wanted, direction, seed)
    elif wanted is None or isinstance(wanted, (str, os.PathLike)):
        model = ULMFiTLanguageModel(
            wanted,
            direction=None if classifier.direction == "forward" else direction,
            bptt=classifier.bptt,
            device=classifier.device,
            precision="auto" if classifier.precision == "int8" else classifier.precision,
            n_jobs=classifier.n_jobs,
            memory=classifier.memory,
            random_state=seed,
            verbose=classifier.verbose,
        )
    else:
        raise ValueError(
            "language_model must be 'auto', the name of a bundled model, a path, a ULMFiTLanguageModel or None, or "
            f"with direction='both' a pair of these; got {short(wanted)} of type {type(wanted).__name__}."
        )
    if classifier.lm_epochs is not None:
        model.set_params(max_epochs=classifier.lm_epochs)
    check_parameters(model)
    if model.max_epochs is None and model.teacher is None and starts_from_vector(model):
        model.set_params(max_epochs=0)  # the loss of the next word alone spoils the vectors
    return model


def _thawed(frozen: FrozenEstimator) -> ULMFiTLanguageModel:
    model = frozen.estimator
    if not isinstance(model, ULMFiTLanguageModel):
        raise ValueError(f"language_model holds a frozen {type(model).__name__}, expected a ULMFiTLanguageModel.")
    check_is_fitted(model)
    return model


def _copy_for(classifier: Any, wanted: ULMFiTLanguageModel, direction: str, seed: int | None) -> ULMFiTLanguageModel:
    """Copy an unfitted language model of the user; it takes from the classifier what it leaves open."""
    model = clone(wanted)
    if model.random_state is None:
        model.set_params(random_state=seed)
    if model.memory is None:
        model.set_params(memory=classifier.memory)
    if not model.verbose:
        model.set_params(verbose=classifier.verbose)
    if classifier.direction == "forward":
        return model
    if model.direction not in (None, direction):
        raise ValueError(
            f"language_model has direction={model.direction!r}, but that of the classifier is "
            f"{classifier.direction!r}; leave direction of the language model at None."
        )
    return model.set_params(direction=direction)


def _check_pair(pair: Sequence[Any]) -> None:
    """Raise ValueError if a fitted model of a pair reads in the direction of the other one."""
    models = [model.estimator if isinstance(model, FrozenEstimator) else model for model in pair]
    for which, model, direction in zip(("first", "second"), models, DIRECTIONS, strict=True):
        if hasattr(model, "state_") and (reads := direction_of(model)) != direction:
            raise ValueError(
                f"The {which} model of language_model reads {reads}; of the pair, the first one must read forward "
                "and the second one backward."
            )


def _check_direction(fitted: ULMFiTLanguageModel, direction: str, wanted: str) -> None:
    """Raise ValueError unless a fitted language model reads in the direction of its network."""
    reads = direction_of(fitted)
    if reads != direction and wanted != "forward":
        other = "its file, which is then fine-tuned" if wanted == "backward" else "a pair of fitted ones"
        raise ValueError(
            f"language_model is fitted and reads {reads}, but direction={short(wanted)} needs one that reads "
            f"{direction}: pass {other}, or an unfitted one."
        )


def direction_of(fitted: ULMFiTLanguageModel) -> str:
    """Return the direction in which a fitted language model reads."""
    return "backward" if reads_backward(fitted.state_.config) else "forward"


def _may_know_the_same_words(first: ULMFiTLanguageModel, second: ULMFiTLanguageModel) -> bool:
    """Tell whether two language models can have the same words once both are fitted, as far as is known beforehand."""
    words, others = known_words(first), known_words(second)
    if words is None or others is None:
        return True
    if hasattr(first, "state_") == hasattr(second, "state_"):
        return words == others
    if hasattr(second, "state_"):
        second, words, others = first, others, words
    # Only the first one is fitted. The second one keeps the words that it knows, up to vocab_size.
    return set(others) <= set(words) or len(words) >= most_words(second, find_start(second).state)
