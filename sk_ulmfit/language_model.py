"""The language model as an estimator on raw text."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._choices import Cache, Container, Direction, RandomState, Schedule, TrainingPrecision
from sk_ulmfit._files import as_path
from sk_ulmfit._messages import short
from sk_ulmfit._plain_state import PlainState
from sk_ulmfit._validation import (
    check_bool,
    check_choice,
    check_number,
    check_training_parameters,
    fitted_value,
    random_generator,
)
from sk_ulmfit.models.bundled import default_model, model_file
from sk_ulmfit.models.fastai import load_fastai_language_model
from sk_ulmfit.models.plain import check_keys, from_plain, to_plain
from sk_ulmfit.models.schema import DIRECTIONS, SchemaError
from sk_ulmfit.models.state import ModelState, holds_vector, load_state, reads_backward, save_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.nn.precision import PRECISIONS, prediction_precision, widest_layer
from sk_ulmfit.nn.processes import current
from sk_ulmfit.text.streams import StreamedTexts, check_texts
from sk_ulmfit.text.tokenizer import get_tokenizer
from sk_ulmfit.text.unknown_words import WordCount, warn_of_texts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.caching import check_memory, remembered
from sk_ulmfit.training.callbacks import SCHEDULES
from sk_ulmfit.training.components import Components
from sk_ulmfit.training.likelihood import negative_log_likelihood
from sk_ulmfit.training.settings import LanguageModelSettings
from sk_ulmfit.training.sharing import check_parameters_alike
from sk_ulmfit.training.stages import finetune_language_model
from sk_ulmfit.training.teacher import Encode, Teacher, check_teacher, fingerprint, load_teacher
from sk_ulmfit.training.text_vectors import text_vectors, vector_width
from sk_ulmfit.training.user_callbacks import check_callbacks

VOCAB_SIZE, NEW_WORDS = 30_000, 10_000  # of a model by default, and beside the words of its start
SIZES = {"emb_dim": 400, "hidden_dim": 1152, "n_layers": 3}  # of a model from random weights
IN_MEMORY = "memory"
PRETRAINED_NONE = "pretrained=None to start from random weights"


class Start(NamedTuple):
    """What a training starts from: a model, or None for random weights, and the file that it comes from, if any."""

    state: ModelState | None
    file: Path | None

    @property
    def origin(self) -> str | None:
        """The attribute `pretrained_` of a language model that was trained from here."""
        if self.state is None:
            return None
        return IN_MEMORY if self.file is None else str(self.file)


@dataclass(frozen=True)
class FittedLanguageModel:
    """What a fit has learned, replaced by one assignment; `origin` is the attribute `pretrained_`."""

    state: ModelState
    origin: str | None


class ULMFiTLanguageModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, PlainState):  # type: ignore[misc]
    """AWD-LSTM language model on raw texts, and a transformer from texts to vectors.

    It learns from texts without labels. Its encoder is the start of a `ULMFiTMultiLabelClassifier`.

    Parameters by group:

    * Everyday: `pretrained`, `language`, `max_epochs`, `lr`, `teacher`, `direction`, `warm_start`, `device`,
      `random_state`, `verbose`
    * Language model: `emb_dim`, `hidden_dim`, `n_layers`, `vocab_size`, `min_frequency`
    * Training: `batch_size`, `lr_decay`, `schedule`, `bptt`, `dropout_multiplier`, `alpha`, `beta`,
      `gradient_clip`, `callbacks`
    * Machine: `precision`, `n_jobs`, `memory`

    Parameters
    ----------
    pretrained : "auto", "en", "en-small", path-like, ModelState or None, default="auto"
        Language model to fine-tune: the name of a bundled model, the path of a saved one, or a model in memory. Its
        sizes are kept. Words that it knows keep their embedding; new words get the mean embedding. "auto" takes the
        bundled English model, "en-small", if `language` is English and no size is given, otherwise random weights.
        None starts from random weights. "en", a larger model for GPUs, is not published yet.
    language : str or None, default=None
        Language code of spaCy's tokenizer. None takes that of `pretrained`, or "en".
    max_epochs : int or None, default=None
        Passes over the texts. None chooses 1 to 10, so that about four million tokens are read. 0 only builds the
        vocabulary: weights stay as they are, and words that `pretrained` does not know get the mean embedding.
    lr : float, default=0.004
        Maximum learning rate, that of the top layer group.
    teacher : path-like, callable or None, default=None
        Sentence encoder from which the vectors of `pretrained` were learned, to go on learning from it: the folder of
        a sentence-transformers model (extra ``teacher``), or a function from a list of n texts to their vectors,
        array-like of shape (n, n_dims). A teacher from which it has not learned is refused. Each text, cut where it has
        more than 200 words, learns the vector that the teacher gives it, beside the next word; `max_epochs` is then 1
        by default. Results are not cached if it is a function.
    direction : {"forward", "backward"} or None, default=None
        Reading order of the texts. None takes that of `pretrained`, or forward. If `pretrained` reads in the other
        direction, words keep their embedding, and the layers learn the new direction from their present weights.
    warm_start : bool, default=False
        Whether ``fit`` goes on from `state_`, of an earlier ``fit`` or of ``load``, in place of `pretrained`; new words
        are added. Sizes, `language` and `direction` must stay. With ``max_epochs=0`` only the vocabulary grows.
    device : str, default="auto"
        Torch device; "auto" uses a GPU if there is one.
    random_state : int, RandomState or None, default=None
        Source of all randomness.
    verbose : int, default=0
        1 shows a progress bar for each stage on stderr: counting words, training.
    emb_dim, hidden_dim, n_layers : int or None, default=None
        Width of the embedding, width of the inner LSTM layers, number of LSTM layers. None keeps the sizes of
        `pretrained`; from random weights they are 400, 1152 and 3.
    vocab_size : int or None, default=None
        Maximum number of words. Words of `pretrained` fill the places that the texts leave free. None means 30,000, or
        10,000 more than `pretrained` has if that is more.
    min_frequency : int, default=2
        Rarer words become unknown, unless `pretrained` knows them.
    batch_size : int, default=32
        Maximum number of parallel text streams. A small corpus uses fewer, so that an epoch has enough steps.
    lr_decay : float, default=2.6
        Each lower layer group learns at the rate of the group above divided by this. Ignored from random weights.
    schedule : {"slanted_triangular", "one_cycle"}, default="slanted_triangular"
        Learning-rate schedule over all steps.
    bptt : int, default=70
        Tokens per window of backpropagation through time.
    dropout_multiplier : float, default=1.0
        Factor on all five dropout rates.
    alpha : float, default=2.0
        Weight of activation regularisation (AR).
    beta : float, default=1.0
        Weight of temporal activation regularisation (TAR).
    gradient_clip : float or None, default=0.3
        Maximum norm of the gradient; None does not clip.
    callbacks : list or None, default=None
        skorch callbacks for the training, as instances or (name, instance) pairs: loggers, checkpoints. There are no
        held-out texts, so they watch "train_loss". A training with callbacks is not cached.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the matrix products. "auto" trains in bfloat16 where that is faster; `score` and `transform`
        then use float32. Weights are always stored in float32.
    n_jobs : int or None, default=None
        Worker processes that tokenize large corpora.
    memory : path-like, joblib.Memory or None, default=None
        Folder in which trained models are cached, as in `ULMFiTMultiLabelClassifier`.

    Attributes
    ----------
    vocabulary_ : Vocabulary
        Words and their ids.
    pretrained_ : str or None
        File that ``fit`` started from or that ``load`` read, "memory" for a model in memory, None for random weights.
    history_ : list of dict
        Losses of each epoch; the training loss includes the penalties.
    state_ : ModelState
        Weights and configuration as plain data.

    See Also
    --------
    ULMFiTMultiLabelClassifier : Uses the encoder of a language model.

    References
    ----------
    Merity, S., Keskar, N. S., Socher, R. (2017), "Regularizing and Optimizing LSTM Language Models".
    Howard, J., Ruder, S. (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.2.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel
    >>> texts = ["the lamp is on", "the lamp is off", "the hub is off"] * 10
    >>> lm = ULMFiTLanguageModel(
    ...     max_epochs=5, emb_dim=8, hidden_dim=12, n_layers=2, random_state=0
    ... ).fit(texts)
    >>> 1 < lm.perplexity(["the hub is on"]) < 16
    True
    """

    def __init__(
        self,
        pretrained: str | os.PathLike[str] | ModelState | None = "auto",
        *,
        language: str | None = None,
        max_epochs: int | None = None,
        lr: float = 4e-3,
        teacher: str | os.PathLike[str] | Encode | None = None,
        direction: Direction | None = None,
        warm_start: bool = False,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
        # language model
        emb_dim: int | None = None,
        hidden_dim: int | None = None,
        n_layers: int | None = None,
        vocab_size: int | None = None,
        min_frequency: int = 2,
        # training
        batch_size: int = 32,
        lr_decay: float = 2.6,
        schedule: Schedule = "slanted_triangular",
        bptt: int = 70,
        dropout_multiplier: float = 1.0,
        alpha: float = 2.0,
        beta: float = 1.0,
        gradient_clip: float | None = 0.3,
        callbacks: list[Any] | None = None,
        # machine
        precision: TrainingPrecision = "auto",
        n_jobs: int | None = None,
        memory: Cache = None,
    ):
        self.pretrained = pretrained
        self.language = language
        self.max_epochs = max_epochs
        self.lr = lr
        self.teacher = teacher
        self.direction = direction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.emb_dim = emb_dim
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency
        self.batch_size = batch_size
        self.lr_decay = lr_decay
        self.schedule = schedule
        self.bptt = bptt
        self.dropout_multiplier = dropout_multiplier
        self.alpha = alpha
        self.beta = beta
        self.gradient_clip = gradient_clip
        self.callbacks = callbacks
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory

    if TYPE_CHECKING:  # made by scikit-learn

        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[np.float32]:
            """Fit, and return the vectors of the texts."""

        def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
            """Return the names of the dimensions, shape (d,)."""

        def set_output(self, *, transform: Container | None = None) -> Self:
            """Choose the container that ``transform`` returns."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on raw texts.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts.
        y : None
            Ignored.

        Returns
        -------
        ULMFiTLanguageModel
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter or a text is not valid, or `pretrained` cannot be read.
        """
        texts, start, settings = training_input(self, X)
        check_parameters_alike(self, len(texts))
        current().check_device(settings.device)
        _warn_if_other_direction(start, settings)
        key = {
            "stage": "language model",
            "texts": texts,
            "start": start.state,
            "settings": settings.key(any_seed=self.random_state is None),
        }
        memory = check_memory(self.memory)
        if callable(self.teacher) or self.callbacks:
            memory = check_memory(None)  # nothing identifies a function, or what a callback does
        if self.teacher is not None and not callable(self.teacher):
            key["teacher"] = fingerprint(as_path(self.teacher, ValueError))

        def train() -> ModelState:
            teacher = teacher_of(self, settings.device)
            return finetune_language_model(
                texts, start.state, settings, teacher=teacher, callbacks=self.callbacks or ()
            )

        state = remembered(memory, key, train)
        if self.callbacks and settings.max_epochs == 0:
            warnings.warn(
                "callbacks were not called, since no language model was trained: max_epochs is 0, or a classifier had "
                "too few texts for it. Set max_epochs to train some.",
                stacklevel=2,
            )
        origin = self.pretrained_ if _goes_on(self) else start.origin
        self._fitted = FittedLanguageModel(state, origin)
        return self

    @property
    def state_(self) -> ModelState:
        """Weights and configuration as plain data."""
        return self._attribute("state_").state

    @property
    def pretrained_(self) -> str | None:
        """File that ``fit`` started from or that ``load`` read, "memory", or None for random weights."""
        return self._attribute("pretrained_").origin

    @property
    def vocabulary_(self) -> Vocabulary:
        """Words and their ids."""
        return self._attribute("vocabulary_").state.vocabulary

    @property
    def history_(self) -> list[dict[str, Any]]:
        """Losses of each epoch."""
        return self._attribute("history_").state.history

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the cross-entropy per token; larger is better.

        Each text is read by itself from an empty state, so the score does not depend on their order. Words outside the
        vocabulary count as the unknown word.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.
        y : None
            Ignored.

        Returns
        -------
        float
            Minus the mean number of nats per token, over all tokens except the start mark of each text.
        """
        state = self._taken()
        word_count = WordCount()
        corpus = state.encode(check_texts(X), self.n_jobs, word_count)
        warn_of_texts(word_count, state.config["language"])
        device, precision = self._arithmetic(state.config)
        total, n_tokens = negative_log_likelihood(
            state, corpus, bptt=self.bptt, batch_size=self.batch_size, device=device, precision=precision
        )
        if not n_tokens:
            raise ValueError("X holds no words, so there is nothing to score; pass at least one text that has words.")
        return -total / n_tokens

    def perplexity(self, X: Any) -> float:
        """Return the perplexity per token, ``exp(-score(X))``; smaller is better.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        float
            Perplexity, 1 at best. Only models of the same vocabulary and language can be compared.
        """
        return math.exp(-self.score(X))

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the vectors of raw texts.

        All tokens of a text are read. Its vector depends neither on the other texts nor on their order. A loaded model
        needs no fit.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts; n may be 0.

        Returns
        -------
        ndarray of float32, shape (n, d), or DataFrame
            Vectors, of length 1 if the model has learned from a teacher; a DataFrame if ``set_output`` asks for one.

        Raises
        ------
        ValueError
            If a text is not a str, or the device or precision is not usable.

        Examples
        --------
        >>> from sk_ulmfit import ULMFiTLanguageModel
        >>> from sklearn.neighbors import NearestNeighbors
        >>> texts = ["Where is my parcel?", "How do I cook rice?", "The lamp is broken."]
        >>> lm = ULMFiTLanguageModel.load("en-small")
        >>> index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(lm.transform(texts))
        >>> index.kneighbors(lm.transform(["The lamp is broken!"]), return_distance=False)
        array([[2]])
        """
        state = self._taken()
        device, precision = self._arithmetic(state.config)
        word_count = WordCount()
        corpus = state.encode(check_texts(X, allow_none=True), self.n_jobs, word_count)
        warn_of_texts(word_count, state.config["language"])
        return text_vectors(state, corpus, device, precision)

    def save(self, path: str | os.PathLike[str], *, compact: bool = False, overwrite: bool = True) -> None:
        """Write the fitted language model to one file (safetensors with a JSON header).

        Parameters
        ----------
        path : path-like
            File to write.
        compact : bool, default=False
            Round the weights to 8 bits with one scale per row: a quarter of the size. It costs the bundled models less
            than 1 % in perplexity.
        overwrite : bool, default=True
            Replace a model that is in the file already. A file that is not a model is never replaced.

        Raises
        ------
        ModelFileError
            If the file cannot be written, or must not be replaced.
        """
        save_state(self._taken(), path, compact=compact, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> Self:
        """Read a language model that `save` or ``sk-ulmfit pretrain`` wrote, or a bundled one.

        Parameters
        ----------
        path : path-like
            File to read, or the name of a bundled model, or "auto". No code from the file is run.
        device : str, default="auto"
            Device to use from now on.

        Returns
        -------
        ULMFiTLanguageModel
            A fitted language model. `path` is its parameter `pretrained`: ``fit``, and ``clone`` followed by ``fit``,
            start from that file.

        Raises
        ------
        ModelFileError
            If the file is missing, foreign, damaged or of a later version, or holds what no language model has.
        """
        file = model_file(path, resolve_device(device))
        return cls._from_state(load_state(file, "language_model"), path, str(file), device)

    @classmethod
    def from_fastai(
        cls,
        state_dict_path: str | os.PathLike[str],
        vocab: Sequence[str] | str | os.PathLike[str],
        *,
        language: str = "en",
    ) -> Self:
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
            A fitted language model, whose weights are also its parameter `pretrained`.

        Raises
        ------
        ModelFileError
            If the file does not hold such a model.
        """
        state = load_fastai_language_model(state_dict_path, vocab, language)
        return cls._from_state(state, state, IN_MEMORY, "auto")

    @classmethod
    def _from_state(cls, state: ModelState, pretrained: Any, origin: str, device: str) -> Self:
        config = state.config
        sizes = {name: config[name] for name in SIZES}
        direction: Direction | None = "backward" if reads_backward(config) else None
        model = cls(pretrained, **sizes, language=config["language"], direction=direction, device=device)
        model._fitted = FittedLanguageModel(state, origin)
        return model

    _plain_name = "language_model"

    def _fitted_to_plain(self, fitted: FittedLanguageModel) -> dict[str, Any]:
        return {"model": to_plain(fitted.state), "origin": fitted.origin}

    def _fitted_from_plain(self, value: Any) -> FittedLanguageModel:
        value = check_keys(value, ("model", "origin"), "what was learned")
        if not isinstance(value["origin"], (str, type(None))):
            raise SchemaError("origin is neither a file nor nothing")
        return FittedLanguageModel(from_plain(value["model"], "language_model"), value["origin"])

    def _taken(self) -> ModelState:
        """Return the trained model; another fit replaces it as a whole."""
        check_is_fitted(self)
        return self._fitted.state

    def _arithmetic(self, config: dict[str, Any]) -> tuple[str, str]:
        """Return the device and the precision of everything but training; "auto" is float32."""
        check_choice("precision", self.precision, PRECISIONS[:3])
        device = resolve_device(self.device)
        return device, prediction_precision(self.precision, device, widest_layer(config), shifts={})

    @property
    def _n_features_out(self) -> int:
        """Number of dimensions of the vectors, from which scikit-learn makes their names."""
        return vector_width(self._attribute("_n_features_out").state.config)

    def _attribute(self, name: str) -> FittedLanguageModel:
        return cast(FittedLanguageModel, fitted_value(self, name))

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []  # vectors are float32
        return tags


def training_input(
    model: ULMFiTLanguageModel, X: Any
) -> tuple[list[str] | StreamedTexts, Start, LanguageModelSettings]:
    """Check the parameters of a language model and its texts, and return what `finetune_language_model` takes."""
    check_parameters(model)
    texts = check_texts(X)
    start = find_start(model)
    _check_taught(model, start)
    language = model.language or ("en" if start.state is None else start.state.config["language"])
    get_tokenizer(language)
    inherited = "backward" if start.state is not None and reads_backward(start.state.config) else "forward"
    sizes = SIZES if start.state is None else start.state.config
    settings = LanguageModelSettings.of(
        model,
        seed=current().from_first(lambda: int(random_generator(model.random_state).randint(2**31 - 1))),
        device=resolve_device(model.device),
        language=language,
        direction=model.direction or inherited,
        vocab_size=most_words(model, start.state),
        **{name: int(getattr(model, name) or sizes[name]) for name in SIZES},
    )
    return texts, start, settings


def teacher_of(model: ULMFiTLanguageModel, device: str) -> Teacher | None:
    """Return the teacher of a language model; None if it has none."""
    return None if model.teacher is None else load_teacher(model.teacher, device)


def find_start(model: ULMFiTLanguageModel) -> Start:
    """Find the model that the training of a language model starts from."""
    pretrained = model.pretrained
    if _goes_on(model):
        start = Start(model.state_, None)
        _check_unchanged(model, model.state_.config)
    elif isinstance(pretrained, ModelState):
        start = Start(pretrained, None)
    else:
        file = _start_file(model, pretrained)
        start = Start(None if file is None else load_state(file, "language_model"), file)
    if start.state is not None:
        _check_sizes(model, start.state)
    return start


def most_words(model: ULMFiTLanguageModel, start: ModelState | None) -> int:
    """Return the maximum number of words of a language model that is trained from `start`."""
    if model.vocab_size is not None:
        return int(model.vocab_size)
    return VOCAB_SIZE if start is None else max(VOCAB_SIZE, len(start.vocabulary) + NEW_WORDS)


def starts_from_vector(model: ULMFiTLanguageModel) -> bool:
    """Tell whether the model that the training of a language model starts from has a vector of a text."""
    if isinstance(model.pretrained, ModelState):
        return "vector_dim" in model.pretrained.config
    file = _start_file(model, model.pretrained)
    return file is not None and holds_vector(file)


def starts_from_random_weights(model: ULMFiTLanguageModel) -> bool:
    """Tell whether the training of an unfitted language model starts from random weights."""
    return not isinstance(model.pretrained, ModelState) and _start_file(model, model.pretrained) is None


def known_words(model: ULMFiTLanguageModel) -> tuple[str, ...] | None:
    """Return the words of a language model, or of its start before it is fitted; None for random weights."""
    state = model.state_ if hasattr(model, "state_") else find_start(model).state
    return None if state is None else tuple(state.vocabulary.words)


def check_parameters(model: ULMFiTLanguageModel) -> None:
    """Raise ValueError unless the parameters of a language model are valid."""
    check_training_parameters(model, tuple(SCHEDULES), PRECISIONS[:3])
    check_number("max_epochs", model.max_epochs, low=0, integer=True, none=True)
    check_number("batch_size", model.batch_size, low=1, integer=True)
    check_bool("warm_start", model.warm_start)
    check_callbacks(model.callbacks)
    check_number("min_frequency", model.min_frequency, low=1, integer=True)
    for name in SIZES:
        check_number(name, getattr(model, name), low=1, integer=True, none=True)
    check_number("vocab_size", model.vocab_size, low=16, integer=True, none=True)
    if model.teacher is not None:
        check_teacher(model.teacher)
    if model.direction is not None:
        check_choice("direction", model.direction, DIRECTIONS)
    if not isinstance(model.language, (str, type(None))):
        raise ValueError(f"language must be a language code such as 'en', or None; got {short(model.language)}.")
    if not isinstance(model.pretrained, (str, os.PathLike, ModelState, type(None))):
        raise ValueError(
            "pretrained must be 'auto', the name of a bundled model, the path of a saved one, or None; "
            f"got {short(model.pretrained)}. Save a fitted language model with save(path) and pass the path."
        )


def _start_file(model: ULMFiTLanguageModel, pretrained: str | os.PathLike[str] | None) -> Path | None:
    if pretrained is None:
        return None
    if pretrained != "auto":
        return model_file(pretrained)
    if any(getattr(model, name) is not None for name in SIZES):
        return None
    return default_model(model.language or "en", resolve_device(model.device))


def _goes_on(model: ULMFiTLanguageModel) -> bool:
    """Tell whether the next fit goes on from an earlier one."""
    return bool(model.warm_start) and hasattr(model, "state_")


def _check_unchanged(model: ULMFiTLanguageModel, config: dict[str, Any]) -> None:
    """Raise ValueError if a model that goes on is to read another language, or in another direction."""
    fitted = {"language": config["language"], "direction": "backward" if reads_backward(config) else "forward"}
    for name, value in fitted.items():
        if getattr(model, name) not in (None, value):
            raise ValueError(
                f"{name}={getattr(model, name)!r}, but the earlier fit, from which warm_start=True goes on, had "
                f"{name}={value!r}; set it back, or warm_start=False for a new fit."
            )


def _check_sizes(model: ULMFiTLanguageModel, start: ModelState) -> None:
    for name in SIZES:
        wanted, size = getattr(model, name), start.config[name]
        if wanted is not None and wanted != size:
            raise ValueError(
                f"{name}={wanted}, but the model to start from has {name}={size}; leave {name} at None, or pass "
                f"{'warm_start=False for a new fit' if _goes_on(model) else PRETRAINED_NONE}."
            )


def _check_taught(model: ULMFiTLanguageModel, start: Start) -> None:
    """Raise ValueError if there is a teacher, and the start has learned from none."""
    if model.teacher is None or (start.state is not None and Components.from_arrays(start.state.weights) is not None):
        return
    origin = {None: "random weights do", IN_MEMORY: "the model in memory does"}
    raise ValueError(
        "teacher needs a model to start from that holds what it has learned from this teacher, but "
        f"{origin.get(start.origin, f'{start.origin} does')} not. Pass one that pretrain(..., teacher=...) made to "
        "pretrained, or teacher=None."
    )


def _warn_if_other_direction(start: Start, settings: LanguageModelSettings) -> None:
    backward = settings.direction == "backward"
    if start.state is None or settings.max_epochs != 0 or reads_backward(start.state.config) == backward:
        return
    warnings.warn(
        f"This language model is to read {settings.direction}, but {start.file or 'its start'} has learned the other "
        "direction, and nothing is trained (max_epochs=0, or lm_epochs=0 of the classifier). Train at least one epoch.",
        UserWarning,
        stacklevel=3,
    )
