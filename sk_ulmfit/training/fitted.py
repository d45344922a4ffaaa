"""Everything that a fit has learned, as one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import short
from sk_ulmfit.models.assembly import plain_weights, shared_weights
from sk_ulmfit.models.configs import network_configs
from sk_ulmfit.models.plain import check_keys, from_plain, to_plain
from sk_ulmfit.models.room import Room
from sk_ulmfit.models.schema import DIRECTIONS, SchemaError, is_number, output_names
from sk_ulmfit.models.state import ModelState, Weights
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.seen_tokens import SeenTokens
from sk_ulmfit.text.unknown_words import BASE_RATES, MEANS, WordCount, warn_of_texts, warn_of_texts_without_words
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.thresholds import check_thresholds, resolve_threshold, threshold_metric
from sk_ulmfit.training.bounds import has_known_words
from sk_ulmfit.training.directions import merged_weights, split
from sk_ulmfit.training.linear import LinearModel
from sk_ulmfit.training.prediction import Network, predict_log_odds, predict_scores, probabilities, restore_net
from sk_ulmfit.training.rounds import SeenTraining
from sk_ulmfit.training.seen_vectors import SeenVectors
from sk_ulmfit.training.settings import TrainingSettings, settings_of_net
from sk_ulmfit.training.task import task_of

Floats = NDArray[np.float64]

# Settings of a trained net, for training it further, and the least that each may be.
_SETTINGS_OF_NET = {"lr": 0, "lr_decay": 1, "alpha": 0, "beta": 0, "max_epochs": 0, "seed": 0}
_PLAIN = ("model", "settings", "direction", "language_models")

_REMEDY = (
    "Set it before fit, or choose thresholds with sk_ulmfit.thresholds.tune_thresholds on labelled texts of your own."
)


@dataclass(frozen=True)
class FittedModel:
    """What predictions, explanations and files are made of.

    An estimator replaces it by one assignment. A thread that takes it once works with one fit to the end, whatever is
    fitted meanwhile.

    Attributes
    ----------
    kind : str
        Kind of model, as in a file.
    networks : tuple of Network
        One or two, the forward one first.
    histories : tuple of list of dict
        Losses in each epoch of each network.
    linear_model : LinearModel or None
        The linear model.
    vocabulary : Vocabulary
        Words of all of them.
    config : mapping
        Configuration as in a file: sizes, names of outputs, what was learned besides the weights.
    names : ndarray of object, shape (K,)
        The names of the outputs as an array.
    language_models : tuple of ULMFiTLanguageModel
        The language model behind each network; empty after loading.
    direction : str or None
        The parameter `direction` that it was fitted with.
    seen : tuple of SeenVectors or None
        Vectors of the training texts by each frozen encoder, for a fit that goes on. Not in a file.
    seen_tokens : SeenTokens or None
        Tokens of the texts of a fit that went on, for the next one. Not in a file.
    seen_trainings : tuple of SeenTraining or None
        What the training of each network leaves for a fit that goes on. Not in a file.
    rooms : tuple of Room
        Where the embedding of each network lies after a fit that went on.
    """

    kind: ClassVar[str]

    networks: tuple[Network, ...]
    histories: tuple[list[dict[str, Any]], ...]
    linear_model: LinearModel | None
    vocabulary: Vocabulary
    config: dict[str, Any]
    names: NDArray[Any]
    language_models: tuple[Any, ...] = ()
    direction: str | None = None
    seen: tuple[SeenVectors | None, ...] = ()
    seen_tokens: SeenTokens | None = None
    seen_trainings: tuple[SeenTraining | None, ...] = ()
    rooms: tuple[Room, ...] = ()

    @classmethod
    def of(
        cls,
        states: Sequence[ModelState],
        linear_model: LinearModel | None,
        config: dict[str, Any],
        settings: TrainingSettings,
        language_models: Sequence[Any] = (),
        direction: str | None = None,
    ) -> Self:
        """Make the nets of trained networks, which have the configuration `config` together."""
        names = output_names(config)
        as_array = np.empty(len(names), object)
        as_array[:] = names
        nets = [restore_net(state, settings) for state in states]
        return cls(
            networks=tuple(Network(*pair) for pair in zip(nets, network_configs(config), strict=True)),
            histories=tuple(state.history for state in states),
            linear_model=linear_model,
            vocabulary=states[0].vocabulary,
            config=config,
            names=as_array,
            language_models=tuple(language_models),
            direction=direction,
        )

    def encode(self, texts: Sequence[str], n_jobs: int | None) -> TokenIds:
        """Return the token ids of texts to predict, from left to right; warn if most words are unknown."""
        language, word_count = self.config["language"], WordCount()
        corpus = encode_texts(texts, self.vocabulary, language, n_jobs, word_count=word_count)
        warn_of_texts(word_count, language)
        return corpus

    @property
    def has_vectors(self) -> bool:
        """Whether each network has a vector of a text, so that predictions by turns cost no text."""
        return all("vector_dim" in network.config for network in self.networks)

    def state(self, params: Mapping[str, Any], metadata: Mapping[str, Any]) -> ModelState:
        """Return what a file holds, with the parameters and the notes of the user."""
        config = {**self.config, "params": params, "metadata": dict(metadata)}
        return self._state_with(config, [plain_weights(network.module) for network in self.networks])

    def to_plain(self) -> dict[str, Any]:
        """Return it as text, numbers, arrays, which are those of the networks, and language models.

        Vectors of the training texts are left out: from their token ids the texts could be read.
        """
        net = self.networks[0].net
        return {
            "model": to_plain(self._state_with(self.config, [shared_weights(one.module) for one in self.networks])),
            "settings": {name: getattr(net, name) for name in _SETTINGS_OF_NET},
            "direction": self.direction,
            "language_models": list(self.language_models),
        }

    @classmethod
    def from_plain(cls, value: Any, device: str) -> Self:
        """Make what `to_plain` has returned of it again, on a device; raise ValueError unless it is whole."""
        value = check_keys(value, _PLAIN, "what was learned")
        settings, language_models = _checked_settings(value["settings"]), value["language_models"]
        state = from_plain(value["model"], cls.kind)
        n_networks = 1 + ("backward" in state.config)
        if type(language_models) is not list or len(language_models) not in (0, n_networks):
            raise SchemaError(f"language_models is not a list of {n_networks} or none")
        if value["direction"] not in (None, *DIRECTIONS, "both"):
            raise SchemaError("direction is none that there is")
        networks, linear_model = split(state)
        of_net = settings_of_net(**settings, device=device)
        return cls.of(networks, linear_model, state.config, of_net, language_models, value["direction"])

    def _state_with(self, config: dict[str, Any], weights: Sequence[Weights]) -> ModelState:
        merged = merged_weights(weights, self.linear_model)
        return ModelState(self.kind, config, self.vocabulary, merged, self.histories[0])


@dataclass(frozen=True)
class FittedClassifier(FittedModel):
    """A fitted classifier; its configuration holds calibration and tuned thresholds too."""

    kind = "classifier"

    @property
    def classes(self) -> NDArray[np.int64]:
        """0 and 1 for each label, shape (L, 2)."""
        return np.tile(np.array([0, 1]), (len(self.names), 1))

    def predict_proba(self, texts: Sequence[str], precision: str, n_jobs: int | None) -> Floats:
        """Predict calibrated probabilities, shape (n, L); `precision` is the parameter of the classifier."""
        corpus = self.encode(texts, n_jobs)
        log_odds = predict_log_odds(self.networks, self.linear_model, corpus, precision)
        if "calibration" in self.config:  # of log-odds, since a probability close to 1 does not hold them
            slope, offset = np.array(self.config["calibration"])
            log_odds = slope * log_odds + offset
        proba = probabilities(log_odds)
        if "base_rates" in self.config:  # files of version 0.1.0 have none
            has_words = has_known_words(corpus, self.vocabulary)
            warn_of_texts_without_words(texts, has_words, BASE_RATES)
            proba[~has_words] = self.config["base_rates"]
        return proba

    def thresholds(self, threshold: Any) -> Floats:
        """Return the threshold of each label, shape (L,); `threshold` is the parameter of the classifier."""
        names = self.names.tolist()
        resolved = resolve_threshold(threshold, self.has_vectors)
        metric = threshold_metric(resolved, names)
        if metric is None:
            return check_thresholds(resolved, names)
        if "thresholds" not in self.config:
            raise ValueError(f"threshold={short(threshold)} was set after fit, which chose no thresholds. {_REMEDY}")
        tuned_for = self.config.get("threshold_metric", metric)  # earlier versions did not store it
        if metric not in (tuned_for, "tune"):
            raise ValueError(
                f"threshold={short(threshold)} was set after fit, which chose thresholds for {short(tuned_for)}. "
                f"{_REMEDY}"
            )
        return np.array(self.config["thresholds"])

    def gives_at_least_one(self, at_least_one: bool | str, threshold: Any) -> bool:
        """Tell whether a text without a label gets one; `at_least_one` and `threshold` are those of the classifier.

        "auto" is True if `threshold` is what ``fit`` tuned for an F1, and every training text had a label. To force
        labels would undo a precision.
        """
        if not isinstance(at_least_one, str):
            return bool(at_least_one)
        threshold = resolve_threshold(threshold, self.has_vectors)
        is_tuned = threshold_metric(threshold, self.names.tolist()) is not None
        tuned_for_f1 = is_tuned and isinstance(self.config.get("threshold_metric"), str)
        return tuned_for_f1 and bool(self.config.get("every_text_has_label", False))


@dataclass(frozen=True)
class FittedRegressor(FittedModel):
    """A fitted regressor; its configuration holds mean, scale and range of the targets too."""

    kind = "regressor"

    def predict(self, texts: Sequence[str], precision: str, n_jobs: int | None) -> Floats:
        """Predict values, shape (n, T); `precision` is the parameter of the regressor."""
        corpus, task = self.encode(texts, n_jobs), task_of(self.config)
        scores = predict_scores(self.networks, self.linear_model, corpus, task, precision)
        values = task.predictions(task.mean_of(scores))
        has_words = has_known_words(corpus, self.vocabulary)
        warn_of_texts_without_words(texts, has_words, MEANS)
        values[~has_words] = self.config["target_mean"]
        return values


def _checked_settings(value: Any) -> dict[str, Any]:
    """Return the settings of a net; raise SchemaError unless they are numbers within their bounds."""
    value = check_keys(value, tuple(_SETTINGS_OF_NET), "settings")
    for name, least in _SETTINGS_OF_NET.items():
        is_whole = name in ("max_epochs", "seed")
        if not is_number(value[name], least) or (is_whole and type(value[name]) is not int):
            raise SchemaError(f"setting {name} is not {'an integer' if is_whole else 'a number'} from {least}")
    return value
