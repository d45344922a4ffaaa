"""What the classifier and other estimators on a language model share: parameters, the stages of ``fit``, files."""

from __future__ import annotations

import copy
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.utils.validation import check_is_fitted

from sk_ulmfit import _saved_parameters
from sk_ulmfit._messages import short, short_text
from sk_ulmfit._plain_state import PlainState
from sk_ulmfit._validation import (
    check_bool,
    check_choice,
    check_number,
    check_training_parameters,
    fitted_value,
    random_generator,
)
from sk_ulmfit.encoders import (
    choose_language_models,
    fit_encoders,
    grown_encoders,
    leave_untrained,
    planned_starts,
    starts_of_fitted,
    with_stores,
)
from sk_ulmfit.language_model import ULMFiTLanguageModel
from sk_ulmfit.models.container import DEEPEST, depth
from sk_ulmfit.models.room import Room
from sk_ulmfit.models.schema import DIRECTIONS, SchemaError
from sk_ulmfit.models.state import ModelFileError, ModelState, describing, load_state, save_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.nn.precision import PRECISIONS, prediction_precision
from sk_ulmfit.nn.processes import current
from sk_ulmfit.onnx_export import export_folder
from sk_ulmfit.text.seen_tokens import TokenStore
from sk_ulmfit.text.streams import StreamedTexts, chained, check_texts
from sk_ulmfit.text.unknown_words import one_warning, warn_of_empty_texts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.caching import check_memory
from sk_ulmfit.training.callbacks import SCHEDULES
from sk_ulmfit.training.data import TrainingTexts
from sk_ulmfit.training.directions import Encoder, merged_config, split, train_networks
from sk_ulmfit.training.fitted import FittedModel
from sk_ulmfit.training.going_on import keep_untrained_entries
from sk_ulmfit.training.held_out import HeldOut
from sk_ulmfit.training.net import MultiLabelNet
from sk_ulmfit.training.progress import Start, duration, plan, say
from sk_ulmfit.training.settings import UNFREEZING, ClassifierSettings, TrainingSettings
from sk_ulmfit.training.sharing import check_parameters_alike
from sk_ulmfit.training.user_callbacks import check_callbacks


class TextEstimator(PlainState):
    """Base of the estimators that train networks on the encoders of language models, and a linear model beside them.

    A subclass names its `_fitted_type`, checks its data, and may learn decisions from held-out predictions.
    """

    _fitted_type: ClassVar[type[FittedModel]]

    metadata_: dict[str, Any]  # of `save`, after `load`

    if TYPE_CHECKING:  # made by scikit-learn

        def set_fit_request(
            self, *, sample_weight: bool | str | None = ..., unlabelled_texts: bool | str | None = ...
        ) -> Self:
            """Say which metadata ``fit`` asks for."""

        def set_score_request(self, *, sample_weight: bool | str | None = ...) -> Self:
            """Say which metadata ``score`` asks for."""

    def _check_data(self, X: Any, y: Any, sample_weight: Any, earlier: Any) -> TrainingTexts:
        """Return texts and targets, checked together with the parameters that depend on them.

        The outputs of `earlier`, a fitted model that goes on or None, come first, NaN where y has none of them.
        """
        raise NotImplementedError

    def _learned_from_data(self, data: Any) -> dict[str, Any]:
        """Return what predictions need to know of the data, as entries of the configuration of the model."""
        return {}

    def _decisions_from(self, data: Any, encoders: Sequence[Encoder | Start]) -> str:
        """Say which predictions decisions are learned from, as `ClassifierSettings` names them."""
        return "nothing"

    def _learn_decisions(self, data: Any, held_out: HeldOut, has_vectors: bool) -> dict[str, Any]:
        """Learn how to decide on predictions, as entries of the configuration of the model."""
        return {}

    @one_warning()
    def _fit(self, X: Any, y: Any, sample_weight: Any, unlabelled_texts: Any) -> Self:
        """Run the stages of ``fit``; the last one replaces what an earlier fit has learned."""
        began = time.perf_counter()
        self._check_params()
        earlier = self._goes_on_from()
        data = self._check_data(X, y, sample_weight, earlier)
        check_parameters_alike(self, len(data.texts))
        if not isinstance(data.texts, StreamedTexts):  # to read a stream once more costs time
            warn_of_empty_texts(data.texts)
        unlabelled = _check_unlabelled(unlabelled_texts)
        device = resolve_device(self.device)
        current().check_device(device)
        prediction_precision(self.precision, device, 0, {})  # an error now, not after the training
        memory, any_seed = check_memory(self.memory), self.random_state is None
        seeds = current().from_first(lambda: random_generator(self.random_state).randint(2**31 - 1, size=2).tolist())
        lm_seed, seed = seeds
        if earlier is None:
            language_models = choose_language_models(self, None if any_seed else lm_seed)
            leave_untrained(language_models, self, data.y, len(unlabelled))
        else:
            language_models = list(earlier.language_models)
        settings_with = partial(ClassifierSettings.of, self, seed=seed, device=device)
        if self.verbose:
            starts = planned_starts(self, language_models) if earlier is None else starts_of_fitted(earlier)
            planned = settings_with(decisions_from=self._decisions_from(data, starts))
            say(plan(len(data.texts), f"{len(data.names):,} {data.outputs}", starts, planned))
        tokens = TokenStore(None if earlier is None else earlier.seen_tokens)
        if earlier is None:
            encoders = fit_encoders(language_models, chained(data.texts, unlabelled), bool(len(unlabelled)))
            self._warn_if_encoder_stays_random(language_models, encoders)
        else:
            texts = chained(data.texts, unlabelled)
            encoders = grown_encoders(self, earlier, texts, len(data.texts), tokens)
        if self.warm_start:
            encoders = with_stores(encoders, earlier, is_cached=self.memory is not None)
        settings = settings_with(decisions_from=self._decisions_from(data, encoders))
        networks, linear_model, held_out = train_networks(
            data,
            encoders,
            settings,
            memory=self._memory_of_networks(memory),
            any_seed=any_seed,
            callbacks=self.callbacks,
            threshold=self._threshold_of_nets(data.names),
        )
        self._warn_if_callbacks_are_not_called(networks)
        has_vectors = all(encoder.has_vector for encoder in encoders)
        config = merged_config(networks) | self._learned_from_data(data)
        config |= self._learn_decisions(data, held_out, has_vectors)
        if earlier is not None:
            keep_untrained_entries(config, earlier.config, data.untrained)
        fitted = self._fitted_type.of(networks, linear_model, config, settings, language_models, self.direction)
        self._fitted = replace(
            fitted,
            seen=tuple(encoder.kept for encoder in encoders),
            seen_tokens=tokens.kept,
            rooms=tuple(each.room or Room() for each in encoders),
            seen_trainings=tuple(None if each.rounds is None else each.rounds.kept for each in encoders),
        )
        if self.verbose:
            say(f"Fitted in {duration(time.perf_counter() - began)}.")
        return self

    @property
    def vocabulary_(self) -> Vocabulary:
        """Words and their ids."""
        return self._attribute("vocabulary_").vocabulary

    @property
    def net_(self) -> MultiLabelNet:
        """The trained network."""
        return self._attribute("net_").networks[0].net

    @property
    def history_(self) -> list[dict[str, Any]]:
        """Losses of the network in each epoch."""
        return self._attribute("history_").histories[0]

    @property
    def language_model_(self) -> ULMFiTLanguageModel:
        """The language model behind the encoder."""
        return self._language_model(0, "language_model_")

    @property
    def backward_net_(self) -> MultiLabelNet:
        """The second network."""
        return self._of_network(self._attribute("backward_net_").networks, 1, "backward_net_").net

    @property
    def backward_history_(self) -> list[dict[str, Any]]:
        """Losses of the second network in each epoch."""
        return self._of_network(self._attribute("backward_history_").histories, 1, "backward_history_")

    @property
    def backward_language_model_(self) -> ULMFiTLanguageModel:
        """The language model behind the second network."""
        return self._language_model(1, "backward_language_model_")

    def save(
        self, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None, overwrite: bool = True
    ) -> None:
        """Write the fitted model to one file (safetensors with a JSON header).

        Parameters
        ----------
        path : path-like
            File to write.
        metadata : mapping, default=None
            Notes of your own to store with the model, of JSON types; `load` returns them as `metadata_`. None keeps
            those that a loaded model came with.
        overwrite : bool, default=True
            Replace a model that is in the file already. A file that is not a model is never replaced.

        Raises
        ------
        ModelFileError
            If the file cannot be written or must not be replaced, or a parameter that was set after ``fit`` is not
            valid.
        """
        fitted = self._taken()
        if metadata is None:
            metadata = getattr(self, "metadata_", {})
        try:
            levels = depth(json.loads(json.dumps(dict(metadata))))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata must be a mapping of what JSON can hold: {short_text(error)}.") from None
        if levels >= DEEPEST:
            raise ValueError(f"metadata must have fewer than {DEEPEST} levels; pass a flatter mapping.")
        try:
            self._check_saved_params(fitted)
        except ValueError as error:
            raise ModelFileError(f"The {fitted.kind} was not saved, since a parameter is not valid: {error}") from None
        params = _saved_parameters.to_json(self.get_params(deep=False), fitted.names.tolist())
        save_state(fitted.state(params, metadata), path, overwrite=overwrite)

    def export_onnx(
        self, path: str | os.PathLike[str], *, int8: bool = False, overwrite: bool = True, texts: Any = None
    ) -> float:
        """Write the fitted model to a folder that `sk_ulmfit.runtime.load` predicts from, without torch.

        The network is one ONNX graph, ``network.onnx``, that reads windows of any length and carries its state; with
        ``direction="both"`` there is a second one, ``backward.onnx``. Beside it are vocabulary, linear model,
        calibration and rules of decision. The folder is compared with this model before it takes its place.

        Parameters
        ----------
        path : path-like
            Folder to write; its parent must exist.
        int8 : bool, default=False
            Store the matrices of the network in 8 bits, with a scale for each row: a quarter of the size on disk. They
            are computed with in 32 bits.
        overwrite : bool, default=True
            Replace an exported model that is in the folder already. Any other folder is never replaced.
        texts : sequence of str, default=None
            Texts on which both are compared; None makes up 64 of random words.

        Returns
        -------
        float
            Largest difference between predictions of both in 32 bits: of a probability, or of a value in standard
            deviations. It is in ``model.json`` too.

        Raises
        ------
        ModelFileError
            If the folder cannot be written or something is there, or if a difference exceeds 0.0001 without `int8`.
        ImportError
            If onnxruntime is not installed.
        """
        fitted = self._taken()
        texts = None if texts is None else check_texts(texts, "texts")
        decisions, metadata = self._decisions(fitted), getattr(self, "metadata_", {})
        return export_folder(fitted, decisions, metadata, path, int8=int8, overwrite=overwrite, texts=texts)

    def _decisions(self, fitted: Any) -> dict[str, Any]:
        """Return how to decide on predictions, as an exported model keeps it."""
        return {}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Self:
        """Read a model that `save` wrote on any machine.

        Parameters
        ----------
        path : path-like
            File to read; no code from it is run.
        device : str, default="auto"
            Device to predict on.

        Returns
        -------
        object
            A fitted estimator of this class with the parameters that it was saved with. A language model that was
            passed as an estimator comes back unfitted, with its parameters. `memory`, `callbacks`, `n_jobs`,
            `verbose`, `warm_start` and a RandomState object are not saved and have their defaults.

        Raises
        ------
        ModelFileError
            If the file is missing, foreign, damaged or of a later version, or holds what no such model has.
        """
        kind = cls._fitted_type.kind
        resolve_device(device)
        state = load_state(path, kind)
        metadata, saved = state.config.pop("metadata"), state.config.pop("params")
        with describing(path, kind):
            parameters = _saved_parameters.from_json(saved, device)
            _saved_parameters.check_names(parameters, cls)
            model = cls(**parameters, device=device)
            _saved_parameters.check_random_state(model.random_state)
            model._check_params()
        networks, linear_model = split(state)
        settings = TrainingSettings.of(model, seed=0, device=model._device_to_predict_on())
        fitted = cls._fitted_type.of(networks, linear_model, state.config, settings, direction=model.direction)
        with describing(path, kind):
            model._check_saved_params(fitted)
        model._fitted, model.metadata_ = fitted, metadata
        return model

    def _fitted_to_plain(self, fitted: Any) -> dict[str, Any]:
        plain: dict[str, Any] = fitted.to_plain()
        return plain

    def _fitted_from_plain(self, value: Any) -> Any:
        try:
            device = self._device_to_predict_on()
        except ValueError:  # it was pickled on another machine
            warnings.warn(f"device={short(self.device)} is not available here; the CPU is used.", stacklevel=3)
            device = "cpu"
        fitted = self._fitted_type.from_plain(value, device)
        models = fitted.language_models
        if not all(isinstance(model, ULMFiTLanguageModel) and hasattr(model, "state_") for model in models):
            raise SchemaError("one of language_models is no fitted language model")
        return fitted

    def _device_to_predict_on(self) -> str:
        """Return the device of nets that were not trained in this process; 8 bits are for the CPU."""
        if [self.precision, self.device] == ["int8", "auto"]:
            return "cpu"
        return resolve_device(self.device)

    def _threshold_of_nets(self, names: Sequence[Any]) -> Any:
        """Return the thresholds by which the nets alone decide, for callbacks and ``net_.predict``; None if unknown."""
        return None

    def _goes_on_from(self) -> Any:
        """Return what an earlier fit has learned if this one goes on from it, else None."""
        fitted = vars(self).get("_fitted")
        if fitted is None or not self.warm_start:
            return None
        if fitted.direction != self.direction:
            raise ValueError(
                f"direction={self.direction!r}, but the earlier fit, from which warm_start=True goes on, had "
                f"direction={fitted.direction!r}; set it back, or warm_start=False for a new fit."
            )
        return fitted

    def _taken(self) -> Any:
        """Return what was learned; another fit replaces it as a whole."""
        check_is_fitted(self)
        return self._fitted

    def _as_it_is(self) -> Self:
        """Return a shallow copy, which keeps what was learned and the parameters when others change them."""
        check_is_fitted(self)
        return copy.copy(self)

    def _attribute(self, name: str) -> Any:
        return fitted_value(self, name)

    def _language_model(self, which: int, name: str) -> ULMFiTLanguageModel:
        fitted = self._attribute(name)
        if not fitted.language_models and which < len(fitted.networks):
            raise AttributeError(
                f"This {fitted.kind} has no {name}: it was loaded, and the file of a {fitted.kind} does not hold the "
                f"language model. After fit, save it to a file of its own with {name}.save(path); "
                "ULMFiTLanguageModel.load(path) reads it."
            )
        return self._of_network(fitted.language_models, which, name)

    def _of_network(self, values: Sequence[Any], which: int, name: str) -> Any:
        """Return the value of a network; AttributeError if there is none, since the attribute is not there then."""
        if which >= len(values):
            raise AttributeError(f"This {self._fitted_type.kind} has no {name}.")
        return values[which]

    def _memory_of_networks(self, memory: Any) -> Any:
        """Return the memory in which networks are cached: none if there are callbacks."""
        if not self.callbacks or self.memory is None:
            return memory
        warnings.warn(
            "A training with callbacks is not cached, since their effect cannot be told from their parameters; memory "
            "keeps only the language model.",
            UserWarning,
            stacklevel=3,
        )
        return check_memory(None)

    def _warn_if_encoder_stays_random(
        self, language_models: Sequence[ULMFiTLanguageModel], encoders: Sequence[Encoder]
    ) -> None:
        untrained = [
            not encoder.pretrained and not model.history_
            for model, encoder in zip(language_models, encoders, strict=True)
        ]
        if self.unfreezing == "head" and any(untrained):
            warnings.warn(
                "unfreezing='head' keeps an encoder with random weights: no language model was trained (lm_epochs=0) "
                "and none was given. Pass language_model, or set lm_epochs to at least 1.",
                UserWarning,
                stacklevel=3,
            )

    def _warn_if_callbacks_are_not_called(self, networks: Sequence[ModelState]) -> None:
        if self.callbacks and not all(network.history for network in networks):
            warnings.warn(
                "callbacks were not called, since only a linear head was trained, which has no epochs. Pass "
                "unfreezing='at_once' to train the layers below it too.",
                UserWarning,
                stacklevel=3,
            )

    def _check_params(self) -> None:
        check_choice("direction", self.direction, (*DIRECTIONS, "both"))
        check_choice("unfreezing", self.unfreezing, UNFREEZING)
        check_training_parameters(self, tuple(SCHEDULES), PRECISIONS, lr_none=True)
        check_number("lm_epochs", self.lm_epochs, low=0, integer=True, none=True)
        check_number("embedding_lr", self.embedding_lr, low=0, none=True, auto=True, exclusive=True)
        check_number("max_length", self.max_length, low=1, integer=True, none=True)
        for name in ("max_epochs", "batch_size"):
            check_number(name, getattr(self, name), low=1, integer=True, none=True)
        check_number("n_iter_no_change", self.n_iter_no_change, low=1, integer=True)
        check_number("validation_fraction", self.validation_fraction, low=0, high=1, exclusive=True)
        for name in ("early_stopping", "tfidf", "warm_start"):
            check_bool(name, getattr(self, name))
        check_callbacks(self.callbacks)

    def _check_saved_params(self, fitted: Any) -> None:
        """Check the parameters, as ``fit`` and ``predict`` do, against what was learned."""
        self._check_params()
        if isinstance(self.language_model, tuple) and self.direction != "both":
            raise ValueError("language_model is a pair, which needs direction='both'.")

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.multi_output = True
        return tags


def _check_unlabelled(texts: Any) -> list[str] | StreamedTexts:
    if texts is None or (hasattr(texts, "__len__") and not len(texts)):
        return []
    return check_texts(texts, "unlabelled_texts")
