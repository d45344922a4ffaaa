"""The language model as an estimator on raw text."""

from __future__ import annotations

import math
import os
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._validation import check_choice, check_number, check_training_parameters
from sk_ulmfit.models.bundled import default_model, model_file
from sk_ulmfit.models.fastai import load_fastai_language_model
from sk_ulmfit.models.state import DIRECTIONS, ModelState, load_state, reads_backward, save_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.nn.precision import PRECISIONS
from sk_ulmfit.text.streams import check_texts
from sk_ulmfit.text.tokenizer import get_tokenizer
from sk_ulmfit.training.caching import check_memory, remembered
from sk_ulmfit.training.likelihood import negative_log_likelihood
from sk_ulmfit.training.settings import SCHEDULES, TrainingSettings
from sk_ulmfit.training.stages import finetune_language_model

SIZES = ("emb_dim", "hidden_dim", "n_layers")


class ULMFiTLanguageModel(BaseEstimator):  # type: ignore[misc]
    """AWD-LSTM language model, trained on raw texts.

    It learns from texts alone, without labels. Its body then carries a
    `ULMFiTMultiLabelClassifier`.

    Parameters
    ----------
    pretrained : "auto", "en", "en-small", path-like or None, default="auto"
        Language model to fine-tune: the name of one that comes with the package, or the path of a saved one. Its sizes
        are kept, words it knows keep their embedding, new words get the mean embedding. "auto" takes the bundled
        English model, "en" on a GPU and "en-small" on a CPU, as far as they are there, if `language` is English and
        no size differs from its default; else random weights. None starts from random weights; pass it for a search
        over sizes, since one of them may be the default.
    max_epochs : int or None, default=None
        Passes over the texts; 0 only builds the vocabulary. None: as many as read four million tokens, from 1 to 10.
    lr : float, default=0.004
        Largest learning rate, that of the top group.
    lr_decay : float, default=2.6
        Each lower group learns at the rate of the one above divided by this. Used when starting from
        `pretrained`; from scratch all groups learn at `lr`.
    schedule : {"slanted_triangular", "one_cycle"}, default="slanted_triangular"
        How the learning rate moves over all steps.
    emb_dim : int, default=400
        Width of embedding and output of a model from random weights.
    hidden_dim : int, default=1152
        Width of its inner LSTM layers.
    n_layers : int, default=3
        Number of its LSTM layers.
    vocab_size : int, default=30000
        Most words; the words of `pretrained` fill places that the texts leave free.
    min_frequency : int, default=2
        Rarer words become unknown, unless `pretrained` knows them.
    language : str or None, default=None
        Language code of spaCy's tokenizer; None takes that of `pretrained`, or else "en".
    direction : {"forward", "backward"} or None, default=None
        The order in which texts are read; None takes that of `pretrained`, or else forward. With a `pretrained` of the
        other direction, words keep their embedding, and the layers learn the new direction from what they know.
    batch_size : int, default=32
        Most text streams read side by side; a small corpus uses fewer, so that an epoch has enough steps.
    bptt : int, default=70
        Tokens per window, through which gradients flow.
    dropout_multiplier : float, default=1.0
        Factor on all five dropout rates.
    alpha : float, default=2.0
        Weight of activation regularisation (AR).
    beta : float, default=1.0
        Weight of temporal activation regularisation (TAR).
    gradient_clip : float or None, default=0.3
        Largest norm of the gradient; None does not clip.
    device : str, default="auto"
        Device of torch; "auto" is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the matrix products; "auto" trains in 16 bits where the device is faster at it, and scores in 32.
        Weights are kept in float32 either way.
    n_jobs : int or None, default=None
        Worker processes that tokenize large corpora.
    memory : path-like, joblib.Memory or None, default=None
        Folder in which trained models are kept, so that a fit that was done before is read instead, as in
        `ULMFiTMultiLabelClassifier`.
    random_state : int, RandomState or None, default=None
        Source of all randomness.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    vocabulary_ : Vocabulary
        Words and their ids.
    pretrained_ : str or None
        File of the language model that `fit` started from; None after a start from random weights.
    history_ : list of dict
        Losses of each epoch; the training loss includes the penalties.
    state_ : ModelState
        Weights and configuration as plain data.

    See Also
    --------
    ULMFiTMultiLabelClassifier : Uses the body of a language model.

    References
    ----------
    S. Merity, N. S. Keskar, R. Socher (2017), "Regularizing and Optimizing LSTM Language Models".
    J. Howard, S. Ruder (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.2.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel
    >>> texts = ["the lamp is on", "the lamp is off", "the hub is off"] * 10
    >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=8, hidden_dim=12, n_layers=2, random_state=0).fit(texts)
    >>> 1 < lm.perplexity(["the hub is on"]) < 16
    True
    """

    def __init__(
        self,
        pretrained: str | os.PathLike[str] | None = "auto",
        *,
        max_epochs: int | None = None,
        lr: float = 4e-3,
        lr_decay: float = 2.6,
        schedule: str = "slanted_triangular",
        emb_dim: int = 400,
        hidden_dim: int = 1152,
        n_layers: int = 3,
        vocab_size: int = 30_000,
        min_frequency: int = 2,
        language: str | None = None,
        direction: str | None = None,
        batch_size: int = 32,
        bptt: int = 70,
        dropout_multiplier: float = 1.0,
        alpha: float = 2.0,
        beta: float = 1.0,
        gradient_clip: float | None = 0.3,
        device: str = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        memory: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.pretrained = pretrained
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_decay = lr_decay
        self.schedule = schedule
        self.emb_dim = emb_dim
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency
        self.language = language
        self.direction = direction
        self.batch_size = batch_size
        self.bptt = bptt
        self.dropout_multiplier = dropout_multiplier
        self.alpha = alpha
        self.beta = beta
        self.gradient_clip = gradient_clip
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> ULMFiTLanguageModel:
        """Train on raw texts.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts.
        y : None
            Ignored; a language model needs no labels.

        Returns
        -------
        ULMFiTLanguageModel
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter or a text is not valid, or `pretrained` cannot be read.
        """
        file, arguments = self._arguments(X)
        start, direction = arguments["start"], arguments["direction"]
        if start is not None and self.max_epochs == 0 and reads_backward(start.config) != (direction == "backward"):
            warnings.warn(
                f"This language model is to read {direction}, but {file} has learned the other direction, and nothing "
                "is trained (max_epochs=0, or lm_epochs=0 of the classifier). Train an epoch or more.",
                UserWarning,
                stacklevel=2,
            )
        memory = check_memory(self.memory)
        key = {**arguments, "settings": arguments["settings"].key(any_seed=self.random_state is None)}
        self.state_ = remembered(
            memory, {"stage": "language model", **key}, lambda: finetune_language_model(**arguments)
        )
        self.pretrained_ = None if file is None else str(file)
        return self

    def _arguments(self, X: Any) -> tuple[Path | None, dict[str, Any]]:
        """Check everything, and give the file to start from and what `finetune_language_model` takes."""
        self._check_params()
        texts = check_texts(X)
        file = self._start()
        start = None if file is None else load_state(file, "language_model")
        language = self.language or ("en" if start is None else start.config["language"])
        get_tokenizer(language)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        inherited = "backward" if start is not None and reads_backward(start.config) else "forward"
        return file, {
            "texts": texts,
            "start": start,
            "settings": TrainingSettings.of(self, seed, resolve_device(self.device)),
            "sizes": {name: int(getattr(self, name)) for name in SIZES},
            "vocab_size": int(self.vocab_size),
            "min_frequency": int(self.min_frequency),
            "language": language,
            "direction": self.direction or inherited,
        }

    def _start(self) -> Path | None:
        """Give the file to start from."""
        if self.pretrained != "auto":
            return None if self.pretrained is None else model_file(self.pretrained)
        defaults = signature(type(self)).parameters
        asks_for_sizes = any(getattr(self, name) != defaults[name].default for name in SIZES)
        return None if asks_for_sizes else default_model(self.language or "en", resolve_device(self.device))

    def _known_words(self) -> tuple[str, ...] | None:
        """Give the words that it knows, or before it is fitted those of its start; None if that is random weights."""
        if hasattr(self, "state_"):
            return tuple(self.vocabulary_.words)
        file = self._start()
        return None if file is None else tuple(load_state(file, "language_model").vocabulary.words)

    @property
    def vocabulary_(self) -> Any:
        """Words and their ids."""
        return self._fitted().vocabulary

    @property
    def history_(self) -> list[dict[str, Any]]:
        """Losses of each epoch."""
        return self._fitted().history

    def score(self, X: Any, y: Any = None) -> float:
        """Give minus the cross-entropy per token; larger is better.

        Every text is read by itself from an empty state, so that the score does not depend on their order. Words
        outside the vocabulary are predicted as the unknown word.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the mean of nats per token, over all tokens but the start mark of each text.
        """
        state = self._fitted()
        corpus = state.encode(check_texts(X), self.n_jobs)
        device = resolve_device(self.device)
        check_choice("precision", self.precision, PRECISIONS[:3])
        precision = "float32" if self.precision == "auto" else self.precision
        total, n_tokens = negative_log_likelihood(
            state, corpus, bptt=self.bptt, batch_size=self.batch_size, device=device, precision=precision
        )
        if not n_tokens:
            raise ValueError(
                "X holds no words, so there is nothing to score; give at least one text that is not empty."
            )
        return -total / n_tokens

    def perplexity(self, X: Any) -> float:
        """Give the perplexity per token, ``exp(-score(X))``; smaller is better.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        float
            Perplexity, 1 at best. Comparable only between models of one vocabulary and language.
        """
        return math.exp(-self.score(X))

    def save(self, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write the fitted language model to one file (safetensors with a JSON header).

        Parameters
        ----------
        path : path-like
            File to write. A model there is replaced; any other file is left alone.
        compact : bool, default=False
            Round the weights to 8 bits with one scale per row: a quarter of the size. It costs the bundled models less
            than 1 % in perplexity.

        Raises
        ------
        ModelFileError
            If the file cannot be written there.
        """
        save_state(self._fitted(), path, compact=compact)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> ULMFiTLanguageModel:
        """Read a language model that `save` or ``sk-ulmfit pretrain`` wrote, or a bundled one.

        Parameters
        ----------
        path : path-like
            File to read, of which no code is run; or the name of a bundled model, or "auto".
        device : str, default="auto"
            Device to use from now on.

        Returns
        -------
        ULMFiTLanguageModel
            A fitted language model.

        Raises
        ------
        ModelFileError
            If the file is missing, foreign or damaged.
        """
        return cls._from_state(load_state(model_file(path, resolve_device(device)), "language_model"), device)

    @classmethod
    def from_fastai(
        cls, state_dict_path: str | os.PathLike[str], vocab: Any, *, language: str = "en"
    ) -> ULMFiTLanguageModel:
        """Make a fitted language model from weights published for fastai.

        Parameters
        ----------
        state_dict_path : path-like
            ``.pth`` state dict of fastai 0.7, 1 or 2 (hidden layers of any width, usually 1150 or 1152).
        vocab : sequence of str, or path-like
            Words in id order; as a file, a JSON list, or text with one word a line.
        language : str, default="en"
            Language code of spaCy's tokenizer for the texts to come.

        Returns
        -------
        ULMFiTLanguageModel
            A fitted language model. Save it to use it as `pretrained`.

        Raises
        ------
        ModelFileError
            If the file does not hold such a model.
        """
        return cls._from_state(load_fastai_language_model(state_dict_path, vocab, language), "auto")

    @classmethod
    def _from_state(cls, state: ModelState, device: str) -> ULMFiTLanguageModel:
        config = state.config
        sizes = {name: config[name] for name in SIZES}
        direction = "backward" if reads_backward(config) else None
        model = cls(None, **sizes, language=config["language"], direction=direction, device=device)
        model.state_, model.pretrained_ = state, None
        return model

    def _fitted(self) -> ModelState:
        check_is_fitted(self, "state_")
        return self.state_

    def _check_params(self) -> None:
        check_training_parameters(self, tuple(SCHEDULES), PRECISIONS[:3])
        check_number("max_epochs", self.max_epochs, low=0, integer=True, none=True)
        check_number("batch_size", self.batch_size, low=1, integer=True)
        for name in (*SIZES, "min_frequency"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number("vocab_size", self.vocab_size, low=16, integer=True)
        if self.direction is not None:
            check_choice("direction", self.direction, DIRECTIONS)
        if not isinstance(self.language, (str, type(None))):
            raise ValueError(f"language must be a language code such as 'en', or None; got {self.language!r}.")
        if not isinstance(self.pretrained, (str, os.PathLike, type(None))):
            raise ValueError(
                "pretrained must be 'auto', the name of a bundled model, the path of a saved one, or None; "
                f"got {self.pretrained!r}. Save a fitted language model with save(path) and pass the path."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "state_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags
