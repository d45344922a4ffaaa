"""Networks that read in different directions, as one classifier: their training, and the one file that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.configs import network_configs
from sk_ulmfit.models.room import Room
from sk_ulmfit.models.schema import LINEAR_MODEL, SECOND_NETWORK
from sk_ulmfit.models.state import ModelState, Weights
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.caching import remembered
from sk_ulmfit.training.data import TrainingTexts
from sk_ulmfit.training.held_out import HeldOut
from sk_ulmfit.training.linear import LinearModel
from sk_ulmfit.training.linear_training import LinearFit
from sk_ulmfit.training.progress import Start
from sk_ulmfit.training.rounds import TrainingStore
from sk_ulmfit.training.seen_vectors import SeenVectors, VectorStore
from sk_ulmfit.training.settings import ClassifierSettings
from sk_ulmfit.training.stages import train_classifier

Floats = NDArray[np.float64]


class Encoder(NamedTuple):
    """Where a network starts.

    Attributes
    ----------
    language_model : ModelState
        Holds the encoder and the vocabulary.
    pretrained : bool
        Whether it has learned from more than the texts of the classifier.
    earlier : ModelState or None
        An earlier network whose training goes on, with the arrays of its head only.
    store : VectorStore or None
        Where vectors of texts are kept for a fit that goes on; None keeps none.
    corpus : TokenIds or None
        The labelled texts in the words and the reading direction of the language model, if they are tokenized.
    rounds : TrainingStore or None
        What an earlier training has left, and what this one leaves for a fit that goes on; None keeps nothing.
    room : Room or None
        Where the embedding of a language model that has grown lies.
    """

    language_model: ModelState
    pretrained: bool
    earlier: ModelState | None = None
    store: VectorStore | None = None
    corpus: TokenIds | None = None
    rounds: TrainingStore | None = None
    room: Room | None = None

    @property
    def kept(self) -> SeenVectors | None:
        """Vectors of the training texts that are kept for a fit that goes on."""
        return None if self.store is None else self.store.kept

    @property
    def has_vector(self) -> bool:
        """Whether the network has a vector of a text, from which a linear head is trained first."""
        return "vector_dim" in self.language_model.config


class TrainedNetworks(NamedTuple):
    """The networks of one classifier, the forward one first, and the linear model that they share.

    `held_out` holds the mean of the probabilities that are predicted without learning from a row.
    """

    networks: list[ModelState]
    linear_model: LinearModel | None
    held_out: HeldOut


def decisions_from(encoders: Sequence[Encoder | Start], wanted: bool) -> str:
    """Say which predictions calibration and thresholds are learned from, as `ClassifierSettings` names them.

    Folds need a vector in each network. They cost nearly nothing, so one training serves whatever is `wanted`.
    """
    if all(encoder.has_vector for encoder in encoders):
        return "folds"
    return "held_out" if wanted else "nothing"


def train_networks(
    data: TrainingTexts,
    encoders: Sequence[Encoder],
    settings: ClassifierSettings,
    *,
    memory: Any,
    any_seed: bool,
    callbacks: Sequence[Any] | None = None,
    threshold: Any = None,
) -> TrainedNetworks:
    """Train a network on each encoder, or read it from `memory` if it was trained before.

    Parameters
    ----------
    data : TrainingTexts
        What to learn from.
    encoders : sequence of Encoder
        One, or two of one vocabulary.
    settings : ClassifierSettings
        How to train.
    memory : joblib.Memory
        From `check_memory`.
    any_seed : bool
        Whether a result of any seed in `memory` will do.
    callbacks : sequence of skorch callbacks, default=None
        Callbacks of the user, for each training.
    threshold : float or ndarray of shape (L,), default=None
        Thresholds by which the nets decide when callbacks ask them; None means 0.5.
    """
    networks: list[ModelState] = []
    held_out: list[HeldOut] = []
    linear_fit: LinearFit | None = None
    learns_share = any(encoder.has_vector for encoder in encoders)
    for encoder in encoders:
        train = partial(
            train_classifier,
            data,
            encoder.language_model,
            settings,
            pretrained=encoder.pretrained,
            earlier=encoder.earlier,
            store=encoder.store,
            corpus=encoder.corpus,
            rounds=encoder.rounds,
            shared_fit=linear_fit,
            callbacks=callbacks,
            threshold=threshold,
        )
        # The first network learns the share of both: a second one is not what it would be by itself.
        share = linear_fit.model.network_share if linear_fit is not None and learns_share else None
        start = encoder._asdict()
        # The result does not depend on these; there are no rounds where results are cached.
        del start["store"], start["corpus"], start["room"], start["rounds"]
        key = {"stage": data.kind, **vars(data), **start, "settings": settings.key(any_seed)}
        network, linear_fit, rows = remembered(memory, {**key, "share": share}, train)
        networks.append(network)
        held_out.append(rows)
        # A second network holds out the same rows, wherever the first one came from.
        settings, any_seed = replace(settings, seed=rows.seed), False
    proba = np.mean([rows.proba for rows in held_out], axis=0)
    linear_model = None if linear_fit is None else linear_fit.for_new_documents
    return TrainedNetworks(networks, linear_model, held_out[0]._replace(proba=proba))


def merged_config(networks: Sequence[ModelState]) -> dict[str, Any]:
    """Return the configuration of a classifier of one or two networks; `network_configs` undoes it."""
    first, *others = networks
    if not others:
        return dict(first.config)
    (second,) = others
    differing = {name: value for name, value in second.config.items() if first.config.get(name) != value}
    if "vector_dim" in first.config and "vector_dim" not in second.config:
        differing["vector_dim"] = None
    return {**first.config, "direction": "both", "backward": {"config": differing, "history": second.history}}


def merged_weights(networks: Sequence[Weights], linear_model: LinearModel | None) -> Weights:
    """Return the arrays of a classifier under the names that they have in a file."""
    first, *others = networks
    weights = dict(first)
    if linear_model is not None:
        weights |= _with_prefix(LINEAR_MODEL, linear_model.to_arrays())
    for second in others:
        weights |= _with_prefix(SECOND_NETWORK, second)
    return weights


def split(state: ModelState) -> tuple[list[ModelState], LinearModel | None]:
    """Split a classifier, as a file holds it, into its networks and its linear model."""
    second, rest = _split_off(SECOND_NETWORK, state.weights)
    linear, first = _split_off(LINEAR_MODEL, rest)
    histories = [state.history, state.config.get("backward", {}).get("history", [])]
    networks = [
        ModelState(state.kind, config, state.vocabulary, weights, history)
        for config, weights, history in zip(network_configs(state.config), (first, second), histories, strict=False)
    ]
    return networks, _linear_model(linear, n_ids=len(first["encoder.embedding.weight"]))


def _linear_model(arrays: Weights, n_ids: int) -> LinearModel | None:
    try:
        return LinearModel.from_arrays(arrays, n_ids) if arrays else None
    except KeyError as error:
        raise KeyError(f"{LINEAR_MODEL}{error.args[0]}") from None


def _with_prefix(prefix: str, arrays: Weights) -> Weights:
    return {prefix + name: array for name, array in arrays.items()}


def _split_off(prefix: str, arrays: Weights) -> tuple[Weights, Weights]:
    """Return the arrays whose names begin with a prefix, without it, and the others."""
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return own, {name: array for name, array in arrays.items() if not name.startswith(prefix)}
