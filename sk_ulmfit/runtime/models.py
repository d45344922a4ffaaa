"""Exported models that predict: `load`, `OnnxClassifier`, `OnnxRegressor`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import short_names
from sk_ulmfit._validation import check_number
from sk_ulmfit.decisions import decide
from sk_ulmfit.models.schema import output_names
from sk_ulmfit.models.state import reads_backward
from sk_ulmfit.runtime.folder import ExportedModel, read_folder
from sk_ulmfit.runtime.linear import OnnxLinearModel
from sk_ulmfit.runtime.network import OnnxNetwork, count_threads
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.streams import check_texts
from sk_ulmfit.text.unknown_words import BASE_RATES, MEANS, WordCount, warn_of_texts, warn_of_texts_without_words
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.averaging import average_with_linear_model, mean_log_odds
from sk_ulmfit.training.bounds import bound_log_odds, has_known_words
from sk_ulmfit.training.link import sigmoid_of

Floats = NDArray[np.float64]

SMALLEST, LARGEST = float(np.finfo(np.float64).tiny), float(np.nextafter(1.0, 0.0))  # probabilities


def load(path: str | os.PathLike[str], *, n_threads: int | None = None) -> OnnxClassifier | OnnxRegressor:
    """Load a model that ``export_onnx`` or ``sk-ulmfit export`` has written.

    It needs onnxruntime and numpy, but neither torch, scikit-learn, scipy nor spaCy (for languages with spaces).

    Parameters
    ----------
    path : path-like
        Folder of the model. It may come from a stranger: no code from it is run, and nothing outside it is read.
    n_threads : int or None, default=None
        Threads of each prediction. None: the environment variable OMP_NUM_THREADS or, if it is not set, one for each
        processor, as in torch.

    Returns
    -------
    OnnxClassifier or OnnxRegressor
        Threads may share it. Processes may not: load it after a fork.

    Raises
    ------
    ModelFileError
        A ValueError: the folder is not an exported model, is damaged, or was written by a later version.
    ImportError
        If onnxruntime is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, runtime
    >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
    >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
    >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> clf = ULMFiTMultiLabelClassifier(lm, lr=0.05, batch_size=4, random_state=0)
    >>> clf = clf.fit(texts, y)
    >>> folder = tempfile.mkdtemp() + "/model"
    >>> shift = clf.export_onnx(folder)
    >>> runtime.load(folder).predict_labels(["the lamp is late"])
    [('late',)]
    """
    check_number("n_threads", n_threads, low=1, integer=True, none=True)
    check_onnxruntime()
    exported = read_folder(path)
    kind = OnnxClassifier if exported.description["kind"] == "classifier" else OnnxRegressor
    return kind(exported, count_threads(n_threads))


def check_onnxruntime() -> None:
    """Raise ImportError, with what to do, unless onnxruntime is installed."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise ImportError(
            "ONNX models need onnxruntime, which is not installed: pip install onnxruntime, or sk-ulmfit[runtime]."
        ) from None


class _OnnxModel:
    """What both kinds share: the scores of networks and linear model."""

    def __init__(self, exported: ExportedModel, n_threads: int):
        names = output_names(exported.config)
        self._names = np.empty(len(names), object)
        self._names[:] = names
        self._config, self._vocabulary = exported.config, exported.vocabulary
        self._description = exported.description
        self._networks = [OnnxNetwork(*network, n_threads) for network in exported.networks]
        self._linear_model = None if exported.linear_model is None else OnnxLinearModel(exported.linear_model)

    def __repr__(self) -> str:
        what = "labels" if self._description["kind"] == "classifier" else "targets"
        return f"{type(self).__name__} of {len(self._names)} {what}: {short_names(self._names.tolist())}"

    @property
    def metadata_(self) -> dict[str, Any]:
        """Notes that were stored with the model."""
        return self._config["metadata"]

    def _encode(self, texts: Any) -> TokenIds:
        language, word_count = self._config["language"], WordCount()
        corpus = encode_texts(texts, self._vocabulary, language, word_count=word_count)
        warn_of_texts(word_count, language)
        return corpus

    def _scores(self, corpus: TokenIds) -> list[Floats]:
        """Compute the scores of each network, shape (n, K) each: averaged with the linear model, and bounded."""
        scores = [self._scores_of_outputs(self._outputs(network, corpus)) for network in self._networks]
        if self._linear_model is not None:
            linear, share = self._linear_model.logits(corpus), self._linear_model.share
            scores = [average_with_linear_model(of_network, linear, share) for of_network in scores]
        return [bound_log_odds(part, network.config) for part, network in zip(scores, self._networks, strict=True)]

    def _outputs(self, network: OnnxNetwork, corpus: TokenIds) -> Floats:
        return network.outputs(corpus.reversed() if reads_backward(network.config) else corpus)

    def _scores_of_outputs(self, outputs: Floats) -> Floats:
        return outputs


class OnnxClassifier(_OnnxModel):
    """A classifier in onnxruntime, from `load`; it predicts what the exported one did.

    Attributes
    ----------
    label_names_ : ndarray of shape (n_labels,)
        Names of the labels.
    n_labels_ : int
        Number of labels.
    thresholds_ : ndarray of float64, shape (n_labels,)
        Threshold of each label when the model was exported.
    classes_ : ndarray of int64, shape (n_labels, 2)
        The classes 0 and 1 of each label.
    metadata_ : dict
        Notes that were stored with the model.
    """

    def predict_proba(self, X: Any) -> Floats:
        """Predict the probability of each label for each text.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
            Probabilities strictly between 0 and 1, columns as `label_names_`. The result for a text does not depend on
            the other texts, but for rounding.
        """
        texts = check_texts(X)
        corpus = self._encode(texts)
        log_odds = mean_log_odds(self._scores(corpus))
        if "calibration" in self._config:
            slope, offset = np.array(self._config["calibration"])
            log_odds = slope * log_odds + offset
        proba = _probabilities(log_odds)
        if "base_rates" in self._config:
            has_words = has_known_words(corpus, self._vocabulary)
            warn_of_texts_without_words(texts, has_words, BASE_RATES)
            proba[~has_words] = self._config["base_rates"]
        return proba

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict the labels of each text as an indicator matrix.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of int64, shape (n, n_labels)
            0 and 1, by the thresholds and rules of the exported classifier.
        """
        decisions = self._description["decisions"]
        return decide(
            self.predict_proba(X),
            self.thresholds_,
            top_k=decisions["top_k"],
            at_least_one=decisions["at_least_one"],
        )

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Predict the labels of each text by name.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        list of tuple
            Names of the predicted labels of each text, in the order of `label_names_`.
        """
        return [tuple(self._names[row > 0].tolist()) for row in self.predict(X)]

    @property
    def label_names_(self) -> NDArray[Any]:
        """Name of each label, shape (n_labels,)."""
        return self._names

    @property
    def n_labels_(self) -> int:
        """Number of labels."""
        return len(self._names)

    @property
    def thresholds_(self) -> Floats:
        """Threshold of each label, shape (n_labels,)."""
        return np.array(self._description["decisions"]["thresholds"], np.float64)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The classes 0 and 1 of each label, shape (n_labels, 2)."""
        return np.tile(np.array([0, 1]), (len(self._names), 1))


class OnnxRegressor(_OnnxModel):
    """A regressor in onnxruntime, from `load`; it predicts what the exported one did.

    Attributes
    ----------
    target_names_ : ndarray of shape (n_targets,)
        Names of the targets.
    n_targets_ : int
        Number of targets.
    metadata_ : dict
        Notes that were stored with the model.
    """

    def __init__(self, exported: ExportedModel, n_threads: int):
        super().__init__(exported, n_threads)
        config = self._config
        self._mean, self._scale = np.array(config["target_mean"]), np.array(config["target_scale"])
        self._y_range = np.array(config["y_range"]) if "y_range" in config else None
        self._link = sigmoid_of(self._mean, self._scale, self._y_range, config["loss"])

    def predict(self, X: Any) -> Floats:
        """Predict the values of each text.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, n_targets)
            Values, as the exported regressor predicts them.
        """
        texts = check_texts(X)
        corpus = self._encode(texts)
        values = self._mean + self._scale * np.mean(self._scores(corpus), axis=0)
        if self._y_range is not None:
            values = values.clip(*self._y_range)
        has_words = has_known_words(corpus, self._vocabulary)
        warn_of_texts_without_words(texts, has_words, MEANS)
        values[~has_words] = self._mean
        return values[:, 0] if self._config["one_dimensional"] else values

    @property
    def target_names_(self) -> NDArray[Any]:
        """Name of each target, shape (n_targets,)."""
        return self._names

    @property
    def n_targets_(self) -> int:
        """Number of targets."""
        return len(self._names)

    def _scores_of_outputs(self, outputs: Floats) -> Floats:
        return outputs if self._link is None else self._link.offset + self._link.gain * _sigmoid(outputs)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1 + small))


def _probabilities(log_odds: Floats) -> Floats:
    return np.clip(_sigmoid(log_odds), SMALLEST, LARGEST)
