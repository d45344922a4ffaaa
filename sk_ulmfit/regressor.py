"""The regressor as an estimator on raw text: values on a scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length

from sk_ulmfit._choices import (
    Cache,
    Directions,
    ExplainMethod,
    HasArray,
    Loss,
    Numbers,
    Precision,
    RandomState,
    Schedule,
    Unfreezing,
)
from sk_ulmfit._text_estimator import TextEstimator
from sk_ulmfit._validation import check_choice, check_weights
from sk_ulmfit.encoders import LanguageModels
from sk_ulmfit.explain.attribution import METHODS, explain_values, label_indices
from sk_ulmfit.explain.explanation import Explanations, ValueExplanation
from sk_ulmfit.metrics.regression import r2_by_target
from sk_ulmfit.models.schema import LOSSES
from sk_ulmfit.nn.precision import PRECISIONS
from sk_ulmfit.text.streams import check_texts
from sk_ulmfit.training.directions import Encoder
from sk_ulmfit.training.fitted import FittedRegressor
from sk_ulmfit.training.progress import Start
from sk_ulmfit.training.recipe import holds_out_for_decisions
from sk_ulmfit.training.settings import unfreezing_after_head
from sk_ulmfit.training.valued_texts import ValuedTexts, check_loss, check_valued_texts, check_values, check_y_range

Range: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | HasArray


class ULMFiTRegressor(RegressorMixin, TextEstimator):  # type: ignore[misc]
    """Regressor after ULMFiT, on raw texts: one or several values on a scale for each text.

    The encoder of a language model turns each text into a vector, and a linear head predicts each target from it. A
    ridge regression on words is trained as well (`tfidf`), and the predictions of both are averaged, in standard
    deviations of each target. That is all for the bundled language model and fewer than 5,000 texts. With more texts,
    ``fit`` then trains the layers of the encoder too. A language model without a vector of a text is first fine-tuned
    on the texts, as for `ULMFiTMultiLabelClassifier`.

    Use it for grades, such as stars, strengths or shares of annotators; use the classifier for labels that a text has
    or lacks.

    Parameters by group:

    * Everyday: `language_model`, `y_range`, `loss`, `direction`, `unfreezing`, `max_epochs`, `warm_start`,
      `device`, `random_state`, `verbose`
    * Language model: `lm_epochs`
    * Training: `batch_size`, `lr`, `embedding_lr`, `lr_decay`, `schedule`, `bptt`, `max_length`,
      `dropout_multiplier`, `alpha`, `beta`, `gradient_clip`, `early_stopping`, `validation_fraction`,
      `n_iter_no_change`, `callbacks`
    * Linear model: `tfidf`
    * Machine: `precision`, `n_jobs`, `memory`

    Parameters
    ----------
    language_model : "auto", "en", "en-small", path-like, ULMFiTLanguageModel or None, default="auto"
        Language model whose encoder the regressor starts from, as for the classifier. "auto" is the bundled "en-small".
    y_range : None, (low, high) or list of such pairs, default=None
        Least and greatest value of all targets, or of each target. The outputs of the network pass through a sigmoid
        that goes 5 % of the width beyond both ends, so that the ends can be reached, and predictions stay within the
        range. None: plain outputs, and predictions within what was predicted for the training texts.
    loss : {"squared_error", "cross_entropy"}, default="squared_error"
        Squared error of targets in standard deviations, so that targets of all scales count alike. "cross_entropy"
        takes targets as probabilities, such as the share of annotators who chose a label; it needs ``y_range=(0, 1)``.
    direction : {"forward", "backward", "both"}, default="forward"
        Reading order of the texts. "both" trains a network for each direction and averages their predictions.
    unfreezing : {"auto", "gradual", "at_once", "head"}, default="auto"
        Which layers of a pre-trained encoder are trained, as for the classifier. If the language model has a vector of
        a text, like the bundled one, a linear head is trained on the vectors first; for fewer than 5,000 texts, "auto"
        stops there.
    max_epochs : int or None, default=None
        Epochs of the training of the network. None depends on the number of texts, as for the classifier.
    warm_start : bool, default=False
        Whether ``fit`` goes on from what an earlier ``fit`` or the file of ``load`` has learned, as for the classifier;
        `y_range` and `loss` must stay the same. `save` does not store this parameter.
    device : str, default="auto"
        Torch device; "auto" uses a GPU if there is one.
    random_state : int, RandomState or None, default=None
        Source of all randomness. With `memory`, None takes the first model that was trained with any seed.
    verbose : int, default=0
        1 shows on stderr which stages there are and why, a progress bar for each, and the total time.
    lm_epochs : int or None, default=None
        Epochs of language-model training on the texts; 0 trains none. None leaves it to the language model, as in the
        classifier.
    batch_size : int or None, default=None
        Maximum number of documents in a batch. None: 16 for up to 500 texts, 32 for up to 10,000 and 64 for more.
    lr : float or None, default=None
        Maximum learning rate, that of the head. None: 0.01, or 0.003 after a linear head was trained.
    embedding_lr : float, "auto" or None, default="auto"
        Maximum learning rate of a pre-trained embedding. None treats it as one more layer group.
    lr_decay : float, default=2.6
        Each lower layer group of a pre-trained encoder learns at the rate of the group above divided by this.
    schedule : {"slanted_triangular", "one_cycle"}, default="slanted_triangular"
        Learning-rate schedule over all steps.
    bptt : int, default=70
        Tokens per window of backpropagation through time.
    max_length : int or None, default=1400
        Number of tokens, counted from the end of a document, that are pooled. None pools all.
    dropout_multiplier : float, default=0.5
        Factor on the dropout rates of the encoder and on the first one of the head.
    alpha : float, default=2.0
        Weight of activation regularisation (AR).
    beta : float, default=1.0
        Weight of temporal activation regularisation (TAR).
    gradient_clip : float or None, default=0.25
        Maximum norm of the gradient; None does not clip.
    early_stopping : bool, default=False
        Hold out a part of the texts, stop when the loss of the network on it no longer falls, and keep the weights of
        the best epoch. Where a linear head is trained alone, nothing is held out.
    validation_fraction : float, default=0.1
        Share of the texts that `early_stopping` holds out. With `tfidf`, a language model that has a vector of a text,
        and 5,000 texts or more whose layers are unfrozen, as many, at most 2,000, are held out to learn the network's
        share from. Without `early_stopping` the ridge regression learns from them afterwards.
    n_iter_no_change : int, default=3
        Epochs without improvement after which `early_stopping` stops.
    callbacks : list or None, default=None
        skorch callbacks for the training of the network, as instances or (name, instance) pairs. Scores that they
        compute compare values in standard deviations.
    tfidf : bool, default=True
        Average the network with a ridge regression on TF-IDF of words and of character n-grams. If the language model
        has a vector of a text, the network's share is learned from predictions for held-out texts.
    precision : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Arithmetic of the matrix products. "auto" uses 16 bits, and 8 for prediction, where the processor is faster at
        it and no prediction for a sample of training texts moves by more than 0.005 standard deviations.
    n_jobs : int or None, default=None
        Worker processes that tokenize large corpora.
    memory : path-like, joblib.Memory or None, default=None
        Folder in which trained models are cached: a fit that was done before is read instead. Trust it like code.

    Attributes
    ----------
    target_names_ : ndarray of shape (n_targets,)
        Column names of a DataFrame, the name of a Series, else 0 to n_targets - 1.
    n_targets_ : int
        Number of targets.
    net_ : MultiLabelNet
        The trained skorch net; ``net_.module_`` is the torch module, whose outputs are values in standard deviations
        from the mean or, with `y_range`, what the sigmoid takes. The ridge regression is not part of it.
    history_ : list of dict
        Losses of the network in each epoch. Empty if only a linear head was trained on vectors.
    language_model_ : ULMFiTLanguageModel
        The language model behind the encoder. It is not part of a saved regressor.
    backward_net_, backward_history_, backward_language_model_
        The same of the second network, with ``direction="both"`` only.

    See Also
    --------
    ULMFiTMultiLabelClassifier : Labels that a text has or lacks; describes the shared parameters in full.

    References
    ----------
    Howard, J., Ruder, S. (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTRegressor
    >>> texts = ["the lamp is fine", "the lamp is late", "late and broken"] * 8
    >>> stars = [5, 3, 1] * 8
    >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> model = ULMFiTRegressor(lm, y_range=(1, 5), lr=0.05, batch_size=4, random_state=0)
    >>> model = model.fit(texts, stars)
    >>> fine, broken = model.predict(["the lamp is fine", "the lamp is broken"])
    >>> bool(1 <= broken < fine <= 5)
    True
    """

    _fitted_type, _plain_name = FittedRegressor, "regressor"

    def __init__(
        self,
        language_model: LanguageModels = "auto",
        *,
        y_range: Range | None = None,
        loss: Loss = "squared_error",
        direction: Directions = "forward",
        unfreezing: Unfreezing = "auto",
        max_epochs: int | None = None,
        warm_start: bool = False,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 0,
        # language model
        lm_epochs: int | None = None,
        # training
        batch_size: int | None = None,
        lr: float | None = None,
        embedding_lr: float | Literal["auto"] | None = "auto",
        lr_decay: float = 2.6,
        schedule: Schedule = "slanted_triangular",
        bptt: int = 70,
        max_length: int | None = 1400,
        dropout_multiplier: float = 0.5,
        alpha: float = 2.0,
        beta: float = 1.0,
        gradient_clip: float | None = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        callbacks: list[Any] | None = None,
        # linear model
        tfidf: bool = True,
        # machine
        precision: Precision = "auto",
        n_jobs: int | None = None,
        memory: Cache = None,
    ):
        self.language_model = language_model
        self.y_range = y_range
        self.loss = loss
        self.direction = direction
        self.unfreezing = unfreezing
        self.max_epochs = max_epochs
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.lm_epochs = lm_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.embedding_lr = embedding_lr
        self.lr_decay = lr_decay
        self.schedule = schedule
        self.bptt = bptt
        self.max_length = max_length
        self.dropout_multiplier = dropout_multiplier
        self.alpha = alpha
        self.beta = beta
        self.gradient_clip = gradient_clip
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.tfidf = tfidf
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory

    def fit(self, X: Any, y: Any, sample_weight: Numbers | None = None, *, unlabelled_texts: Any = None) -> Self:
        """Train on raw texts and their values.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts; an empty text is a document without words.
        y : array-like of shape (n,) or (n, n_targets)
            Values. An entry that is NaN (None, ``pandas.NA``, masked) is unknown: nothing is learned from it.
        sample_weight : array-like of shape (n,), default=None
            Weight of each text in what is learned from values; only ratios matter. A text of weight 0 is left out.
        unlabelled_texts : sequence of str or StreamedTexts, default=None
            Further texts for the language model, which needs no values.

        Returns
        -------
        ULMFiTRegressor
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter, a text, a value or a weight is not valid.
        """
        return self._fit(X, y, sample_weight, unlabelled_texts)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict the values of each text.

        The result for a text does not depend on the other texts. A text without a known word gets the means of the
        training texts.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, n_targets)
            Values, within `y_range` if it was given to ``fit``; of shape (n,) if y was.
        """
        fitted = self._taken()
        texts = check_texts(X)
        check_choice("precision", self.precision, PRECISIONS)
        values = fitted.predict(texts, self.precision, self.n_jobs)
        return values[:, 0] if fitted.config["one_dimensional"] else values

    def explain(
        self, texts: Any, targets: Any = None, method: ExplainMethod = "gradient"
    ) -> Explanations[ValueExplanation]:
        """Attribute the predicted values to the words of each text, in units of each target.

        Parameters
        ----------
        texts : sequence of str of length n
            Raw texts.
        targets : target name or list of target names, default=None
            Targets to explain; None explains all.
        method : {"gradient", "occlusion"}, default="gradient"
            As of the classifier: "gradient", whose scores add up to the value beyond the mean of the training texts, to
            a few per cent; or "occlusion", the loss of value if the word alone is unknown.

        Returns
        -------
        Explanations
            A `ValueExplanation` for each text. ``print`` and notebooks show them; ``save_html`` writes a page.

        Raises
        ------
        ValueError
            If a text, a target or the method is not valid.
        """
        fitted = self._taken()
        check_choice("method", method, METHODS)
        texts = check_texts(texts, "texts")
        names = fitted.names.tolist()
        chosen = np.arange(len(names)) if targets is None else label_indices(targets, names, "targets", "regressor")
        networks, config = fitted.networks, fitted.config
        return explain_values(networks, fitted.linear_model, fitted.vocabulary, config, texts, chosen, method)

    def score(self, X: Any, y: Any, sample_weight: Numbers | None = None) -> float:
        """Compute the coefficient of determination (R²), the mean of those of the targets.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.
        y : array-like of shape (n,) or (n, n_targets)
            True values. An unknown entry (NaN) is left out, and so is a target with fewer than two known ones.
        sample_weight : array-like of shape (n,), default=None
            Weight of each text.

        Returns
        -------
        float
            1 at best; 0 for the mean of y; NaN if no target has two known values.
        """
        model = self._as_it_is()
        values = check_values(y).y
        check_consistent_length(X, values, sample_weight)
        predicted = model.predict(X).reshape(len(values), -1)
        if predicted.shape[1] != values.shape[1]:
            raise ValueError(f"y has {values.shape[1]} targets, but this regressor has {predicted.shape[1]}.")
        scores = r2_by_target(values, predicted, check_weights(sample_weight, len(values)))
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan

    @property
    def target_names_(self) -> NDArray[Any]:
        """Name of each target, shape (n_targets,)."""
        return self._attribute("target_names_").names

    @property
    def n_targets_(self) -> int:
        """Number of targets."""
        return len(self._attribute("n_targets_").names)

    def _check_params(self) -> None:
        super()._check_params()
        check_choice("loss", self.loss, LOSSES)

    def _check_saved_params(self, fitted: FittedRegressor) -> None:
        super()._check_saved_params(fitted)
        check_loss(self.loss, check_y_range(self.y_range, fitted.names.tolist()))

    def _check_data(self, X: Any, y: Any, sample_weight: Any, earlier: FittedRegressor | None) -> ValuedTexts:
        config = None if earlier is None else earlier.config
        return check_valued_texts(X, y, sample_weight, self.y_range, self.loss, config)

    def _learned_from_data(self, data: ValuedTexts) -> dict[str, Any]:
        return {"one_dimensional": data.one_dimensional}

    def _decisions_from(self, data: ValuedTexts, encoders: Sequence[Encoder | Start]) -> str:
        learns_share = self.tfidf and all(encoder.has_vector for encoder in encoders)
        n_texts = len(data.texts)
        is_frozen = unfreezing_after_head(self.unfreezing, n_texts) == "head"
        # folds are predicted by the frozen network, which knows less than the one whose layers have learned
        return "held_out" if learns_share and not is_frozen and holds_out_for_decisions(n_texts) else "nothing"
