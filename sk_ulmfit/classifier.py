"""The multi-label classifier as an estimator on raw text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin

from sk_ulmfit._choices import (
    Cache,
    Calibration,
    Directions,
    ExplainMethod,
    Numbers,
    PosWeight,
    Precision,
    RandomState,
    Schedule,
    Threshold,
    ThresholdMetric,
    Unfreezing,
)
from sk_ulmfit._text_estimator import TextEstimator
from sk_ulmfit._validation import check_bool, check_choice, check_number
from sk_ulmfit.calibration import METHODS
from sk_ulmfit.decisions import decide
from sk_ulmfit.encoders import LanguageModels
from sk_ulmfit.explain.attribution import METHODS as EXPLAIN_METHODS
from sk_ulmfit.explain.attribution import evaluation_mode, explain, label_indices
from sk_ulmfit.explain.explanation import Explanation, Explanations
from sk_ulmfit.labels import check_pos_weight
from sk_ulmfit.metrics import exact_match
from sk_ulmfit.nn.precision import PRECISIONS
from sk_ulmfit.text.streams import check_texts
from sk_ulmfit.thresholds import check_thresholds, resolve_threshold, threshold_metric
from sk_ulmfit.training.data import LabelledTexts, check_labelled_texts
from sk_ulmfit.training.directions import Encoder, decisions_from
from sk_ulmfit.training.fitted import FittedClassifier
from sk_ulmfit.training.held_out import HeldOut, learn_decisions
from sk_ulmfit.training.net import MultiLabelNet
from sk_ulmfit.training.progress import Start
from sk_ulmfit.training.recipe import holds_out_for_decisions
from sk_ulmfit.training.settings import unfreezing_after_head


class ULMFiTMultiLabelClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]
    """Multi-label text classifier after ULMFiT, on raw texts.

    The encoder of a language model turns each text into a vector, and a linear head gives each label a score. A linear
    model of words is trained as well (`tfidf`), and the log-odds of both are averaged. That is all for the bundled
    language model and fewer than 5,000 texts. With more texts, ``fit`` then trains the layers of the encoder too.

    A language model without a vector of a text is first fine-tuned on the texts (stage 2 of ULMFiT, see `lm_epochs`). A
    classifier is then trained on its encoder (stage 3): an AWD-LSTM with concat pooling, a head with a hidden layer,
    and binary cross-entropy. In both cases the network is a skorch net in `net_`.

    Parameters by group:

    * Everyday: `language_model`, `threshold`, `at_least_one`, `direction`, `unfreezing`, `max_epochs`,
      `warm_start`, `device`, `random_state`, `verbose`
    * Language model: `lm_epochs`
    * Training: `batch_size`, `lr`, `embedding_lr`, `lr_decay`, `schedule`, `bptt`, `max_length`,
      `dropout_multiplier`, `alpha`, `beta`, `gradient_clip`, `pos_weight`, `early_stopping`, `validation_fraction`,
      `n_iter_no_change`, `callbacks`
    * Linear model: `tfidf`
    * Decisions: `top_k`, `calibration`
    * Machine: `precision`, `n_jobs`, `memory`

    Parameters
    ----------
    language_model : "auto", "en", "en-small", path-like, ULMFiTLanguageModel or None, default="auto"
        Language model whose encoder the classifier starts from. "auto" is the bundled English model, "en-small", which
        is used as it is. ("en", a larger model for GPUs, is not published yet.) A path is that of a saved model: it is
        used as it is if it has a vector of a text, else it is fine-tuned on the texts (see `lm_epochs`). Of an unfitted
        `ULMFiTLanguageModel`, a clone is fitted on the texts, as `lm_epochs` says. A fitted one, or one in a
        ``FrozenEstimator``, is used as it is (``clone``, and so cross-validation, keeps only the frozen one fitted).
        None: random weights (400/1152/3). With ``direction="both"`` also a pair of these, the forward one first, with
        the same words.
    threshold : float, array-like of shape (n_labels,), dict or str, default="auto"
        A label is predicted if its probability reaches its threshold. Pass numbers, or a goal for which ``fit`` chooses
        a threshold per label.

        Numbers: one for all labels, one per label, or by label name (other labels get 0.5). Goals: "f1_macro",
        "f1_micro" and "f1_samples" maximise this F1, "tune" comes close to the best macro F1 and the best micro F1, and
        ``{"precision": 0.9}`` reaches this precision. "auto" is "tune" if the language model has a vector of a text,
        like the bundled one, else 0.5 for all labels.

        For a goal, ``fit`` needs predictions for texts that were not learned from (see `tune_thresholds`). They come
        from cross-validation if the language model has a vector, and the encoder is not trained or there are fewer than
        5,000 texts. Otherwise a part of the texts is held out (`validation_fraction`). ``predict`` reads the numbers,
        so you can change them after ``fit``.
    at_least_one : bool or "auto", default="auto"
        Whether each text gets at least one label: if no label reaches its threshold, the one that comes nearest to it,
        in log-odds. "auto" is True if ``fit`` chose the thresholds for an F1 or by "tune", and every training text
        whose labels are all known had a label. It changed micro F1 on held-out texts of three sets by -0.02 to
        0.01. ``predict`` reads it.
    direction : {"forward", "backward", "both"}, default="forward"
        Reading order of the texts. "both" trains a language model and a network for each direction and averages their
        probabilities; it takes twice the time, memory and disk. A `language_model` that was trained backward reads
        backward even with "forward".
    unfreezing : {"auto", "gradual", "at_once", "head"}, default="auto"
        Which layers of a pre-trained encoder are trained. If the language model has a vector of a text, like the
        bundled one, a linear head is trained on the vectors first, which takes seconds. "auto" stops there for fewer
        than 5,000 texts, and is "at_once" from 5,000 texts on. For other language models, it is "gradual" for up to
        5,000 texts, else "at_once".

        "head" trains the head alone, on features that are computed once, so an epoch takes seconds; `lr_decay`,
        `embedding_lr`, `alpha` and `beta` have no effect then. "gradual" trains the head in the first epoch and one
        more layer, from the top, in each that follows, as in the paper. "at_once" trains all layers from the first
        epoch. So is an encoder from random weights, unless "head" is set.
    max_epochs : int or None, default=None
        Epochs of classifier training. None: 20 for up to 500 texts, 12 for up to 1,000, 8 for up to 10,000, 4 for up to
        50,000 and 3 for more, at least one for each layer that is unfrozen, and at least 10 for ``unfreezing="head"``.
        After a linear head was trained: 4, at least one for each layer.
    warm_start : bool, default=False
        Whether ``fit`` continues from what an earlier ``fit``, or the loaded file, has learned: encoder, vector, head
        and vocabulary. New words and new labels are added. Labels are matched by name, columns without names by
        position. A label that y lacks counts as unknown in all texts: what was learned about it stays, and so do its
        threshold and calibration.

        The linear model is trained anew, on these texts alone. So pass the earlier texts together with the new ones.
        For a label that y lacks, the network alone decides.

        `direction` must stay the same. `language_model` and `lm_epochs` have no effect, and `unlabelled_texts` only add
        words. With a frozen encoder, the result is close to that of a new fit on the same texts: folds and
        regularisation stay until there are four times or a quarter as many texts. What was computed for the texts stays
        in memory until the next fit, but not in files and pickles; with `memory`, only tokens and vectors do. `save`
        does not store this parameter.
    device : str, default="auto"
        Torch device; "auto" uses a GPU if there is one.
    random_state : int, RandomState or None, default=None
        Source of all randomness. With `memory`, None takes the first model that was trained with any seed.
    verbose : int, default=0
        1 shows on stderr which stages there are and why, a progress bar for each, and the total time.
    lm_epochs : int or None, default=None
        Epochs of language-model training on the texts; 0 trains none. None takes ``max_epochs`` of the language model;
        if that is None too, a model that has a vector of a text trains none without a `teacher`, since it would forget
        what texts mean. One from random weights trains none on fewer than 5,000 texts without `unlabelled_texts`,
        which teach it too little, unless ``unfreezing="head"`` or ``tfidf=False``.
    batch_size : int or None, default=None
        Maximum number of documents in a batch. None: 16 for up to 500 texts, 32 for up to 10,000 and 64 for more.
        Batches of very long documents hold fewer: at most ``batch_size * 20 * bptt`` tokens, padding included.
    lr : float or None, default=None
        Maximum learning rate, that of the head. None: 0.01, or 0.003 after a linear head was trained.
    embedding_lr : float, "auto" or None, default="auto"
        Maximum learning rate of a pre-trained embedding, which then learns from the first epoch. "auto": 0.04, or 0.001
        after a linear head was trained. None treats the embedding as one more layer group, the last to be unfrozen, as
        in the paper.
    lr_decay : float, default=2.6
        Each lower layer group of a pre-trained encoder learns at the rate of the group above divided by this.
    schedule : {"slanted_triangular", "one_cycle"}, default="slanted_triangular"
        Learning-rate schedule over all steps.
    bptt : int, default=70
        Tokens per window of backpropagation through time.
    max_length : int or None, default=1400
        Number of tokens, counted from the end of a document, that are pooled; earlier ones still shape the state.
        None pools all.
    dropout_multiplier : float, default=0.5
        Factor on the dropout rates of the encoder and on the first one of the head.
    alpha : float, default=2.0
        Weight of activation regularisation (AR).
    beta : float, default=1.0
        Weight of temporal activation regularisation (TAR).
    gradient_clip : float or None, default=0.25
        Maximum norm of the gradient; None does not clip.
    pos_weight : None, "balanced", float, array-like of shape (n_labels,) or dict, default=None
        Factor on the loss of the entries that are 1, for more recall of rare labels; it multiplies the predicted odds.
        One for all labels, one per label, or by label name (other labels keep 1). "balanced" is the number of texts
        without the label divided by the number with it, clipped to the range from 1/20 to 20.
    early_stopping : bool, default=False
        Hold out a part of the texts, stop when the loss of the network on it no longer falls, and keep the weights of
        the best epoch. It applies to what is trained in epochs: where a linear head is trained alone, on vectors of
        the language model (see `unfreezing`), nothing is held out for it.
    validation_fraction : float, default=0.1
        Share of the texts that are held out, if any are: for `early_stopping`, and for `calibration` and `threshold`
        where they do not use cross-validation (see `threshold`). Without `early_stopping` at most 2,000 are held out,
        and the linear model learns from them afterwards.
    n_iter_no_change : int, default=3
        Epochs without improvement after which `early_stopping` stops.
    callbacks : list or None, default=None
        skorch callbacks for the classifier training, as instances or (name, instance) pairs. With ``unfreezing="head"``
        they see a net of the head alone; with ``direction="both"`` they see two trainings. None is called for a linear
        head that is trained on vectors. A warning says which have no effect here, and what to use instead.
    tfidf : bool, default=True
        Average the network with a linear model: one linear SVM per label on TF-IDF of words and of character n-grams,
        scaled to log-odds. The share of the network is c / (2 c + 60) for a label that c texts have, or lack if these
        are fewer; it is 1 for a label about which words say nothing. If the language model has a vector of a text, the
        share is learned from predictions for held-out texts; it is smaller for rare labels.
    top_k : int or None, default=None
        Predict the `top_k` most probable labels of every text, and ignore `threshold`. ``predict`` reads it.
    calibration : None, "platt" or "temperature", default=None
        Calibrate the probabilities, on predictions for texts that were not learned from: a slope and an offset of the
        log-odds for each label ("platt"), or a slope alone. The ranking of texts within a label stays. These
        predictions are those that `threshold` is chosen on; if layers below a linear head are unfrozen (see
        `unfreezing`), a part of the texts is held out for both.
    precision : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Arithmetic of the matrix products. "auto" uses 16 bits, and 8 for prediction, where the processor is faster at
        it and no probability of a sample of training texts moves by more than 0.005. "int8" predicts in 8 bits and
        trains as "auto" does. Weights are stored in float32. Can be changed after ``fit``. A `language_model` that is
        an estimator has its own.
    n_jobs : int or None, default=None
        Worker processes that tokenize large corpora and train the SVMs.
    memory : path-like, joblib.Memory or None, default=None
        Folder in which trained models are cached: a fit that was done before, with the same texts, labels, weights,
        parameters and version of this package, is read instead. So a search over thresholds trains once per fold. The
        cache consists of pickles: trust it like code.

    Attributes
    ----------
    classes_ : ndarray of int64, shape (n_labels, 2)
        The classes 0 and 1 of each label, as multi-output tools of scikit-learn expect.
    label_names_ : ndarray of shape (n_labels,)
        Column names of a DataFrame, labels of label lists, else 0 to n_labels - 1.
    n_labels_ : int
        Number of labels.
    thresholds_ : ndarray of float64, shape (n_labels,)
        Threshold of each label, whatever `threshold` is.
    net_ : MultiLabelNet
        The trained skorch net; ``net_.module_`` is the torch module, in evaluation mode. The linear model is not part
        of it. ``net_.predict`` decides by the numbers of `threshold`, or by 0.5.
    history_ : list of dict
        Losses of the network in each epoch; `trained_groups` names the layers that were trained, if unfrozen gradually.
        Empty if only a linear head was trained on vectors.
    language_model_ : ULMFiTLanguageModel
        The language model behind the encoder, as the first fit left it. It is not part of a saved classifier.
    backward_net_, backward_history_, backward_language_model_
        The same of the second network, with ``direction="both"`` only.

    See Also
    --------
    ULMFiTLanguageModel : Stage 2 by itself.

    References
    ----------
    Howard, J., Ruder, S. (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
    >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
    >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
    >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> clf = ULMFiTMultiLabelClassifier(lm, lr=0.05, batch_size=4, random_state=0)
    >>> clf = clf.fit(texts, y)
    >>> clf.predict_proba(["the lamp is late"]).shape
    (1, 2)
    >>> clf.predict_labels(["the lamp is late"])
    [('late',)]
    """

    _fitted_type, _plain_name = FittedClassifier, "classifier"

    def __init__(
        self,
        language_model: LanguageModels = "auto",
        *,
        threshold: Threshold = "auto",
        at_least_one: bool | Literal["auto"] = "auto",
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
        pos_weight: PosWeight = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        callbacks: list[Any] | None = None,
        # linear model
        tfidf: bool = True,
        # decisions
        top_k: int | None = None,
        calibration: Calibration | None = None,
        # machine
        precision: Precision = "auto",
        n_jobs: int | None = None,
        memory: Cache = None,
    ):
        self.language_model = language_model
        self.threshold = threshold
        self.at_least_one = at_least_one
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
        self.pos_weight = pos_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.tfidf = tfidf
        self.top_k = top_k
        self.calibration = calibration
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory

    def fit(self, X: Any, y: Any, sample_weight: Numbers | None = None, *, unlabelled_texts: Any = None) -> Self:
        """Train on raw texts and their labels.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts; an empty text is a document without words. `StreamedTexts`, as ``load_table(stream=True)``
            returns them, need not fit into memory.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists or sets
            Indicator matrix of 0 and 1, or the labels of each text: a list of str, or a set of str or int. Lists of
            0 and 1 are always rows of a matrix. An entry of a matrix that is NaN (None, ``pandas.NA``, masked) is
            unknown: nothing is learned from it.
        sample_weight : array-like of shape (n,), default=None
            Weight of each text in what is learned from labels; only ratios matter. A text of weight 2 counts like two
            copies; a text of weight 0 is left out. The language model reads every other text once.
        unlabelled_texts : sequence of str or StreamedTexts, default=None
            Further texts for the language model, which needs no labels.

        Returns
        -------
        ULMFiTMultiLabelClassifier
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter, a text, a label or a weight is not valid.
        """
        return self._fit(X, y, sample_weight, unlabelled_texts)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each label for each text.

        Labels are independent, so rows do not sum to 1. The result for a text does not depend on the other texts.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
            Probabilities strictly between 0 and 1, columns as `label_names_`.
        """
        fitted = self._taken()
        texts = check_texts(X)
        check_choice("precision", self.precision, PRECISIONS)
        return fitted.predict_proba(texts, self.precision, self.n_jobs)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict the labels of each text as an indicator matrix.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of int64, shape (n, n_labels)
            1 where the probability reaches the threshold of the label, unless `top_k` or `at_least_one` say otherwise.
        """
        clf = self._as_it_is()
        decide_on = clf._decision_rule()
        return decide_on(clf.predict_proba(X))

    def set_thresholds(self, threshold: Threshold) -> Self:
        """Set other thresholds; nothing is trained.

        Parameters
        ----------
        threshold : float, array-like of shape (n_labels,), dict or str
            As the parameter `threshold`; "tune" returns to the thresholds that ``fit`` has chosen, "auto" to the
            default.

        Returns
        -------
        ULMFiTMultiLabelClassifier
            This estimator.

        Raises
        ------
        ValueError
            If a threshold is not valid, or ``fit`` has not chosen such thresholds.
        """
        self._taken().thresholds(threshold)
        self.threshold = threshold
        return self

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
        clf = self._as_it_is()
        return [tuple(clf.label_names_[row > 0].tolist()) for row in clf.predict(X)]

    def explain(self, texts: Any, labels: Any = None, method: ExplainMethod = "gradient") -> Explanations[Explanation]:
        """Attribute the prediction of labels to the words of each text.

        Parameters
        ----------
        texts : sequence of str of length n
            Raw texts.
        labels : label name or list of label names, default=None
            Labels to explain. None explains the labels that ``predict`` gives to each text or, if there are none, the
            label that is nearest to its threshold.
        method : {"gradient", "occlusion"}, default="gradient"
            "gradient": integrated gradients of the network from the same text with every word unknown, and the exact
            part of each word in the linear model. The scores of a text add up, to a few per cent, and the time grows
            with its length. "occlusion": the loss of log-odds if the word alone is unknown. A word that occurs twice
            loses little, and the time grows with the square of the length. Both rank words equally well.

        Returns
        -------
        Explanations
            One for each text, with a score in log-odds, calibration included, for each word and label. ``print`` and
            notebooks show them; ``save_html`` writes a page.

        Raises
        ------
        ValueError
            If a text, a label or the method is not valid.

        Notes
        -----
        Computed in float32, whatever `precision`. An explanation is a statement about the model, not about the world.

        References
        ----------
        Sundararajan, M., Taly, A., Yan, Q. (2017), "Axiomatic Attribution for Deep Networks", sections 3 and 5.
        Zeiler, M. D., Fergus, R. (2014), "Visualizing and Understanding Convolutional Networks", section 4.2.

        Examples
        --------
        >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
        >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
        >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
        >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
        >>> clf = ULMFiTMultiLabelClassifier(lm, lr=0.05, batch_size=4, random_state=0)
        >>> clf = clf.fit(texts, y)
        >>> explained = clf.explain(["The lamp is late"])
        >>> explained[0].labels, explained[0].top_words("late", 1)[0][0]
        (['late'], 'late')
        """
        clf = self._as_it_is()
        fitted = clf._fitted
        check_choice("method", method, EXPLAIN_METHODS)
        texts = check_texts(texts, "texts")
        names, thresholds = fitted.names.tolist(), clf.thresholds_
        clf._check_decision()
        with evaluation_mode([network.module for network in fitted.networks]):
            proba = clf.predict_proba(texts)
        if labels is None:
            decided = decide(proba, thresholds, top_k=clf.top_k, at_least_one=True)
            chosen = [np.flatnonzero(row) for row in decided]
        else:
            chosen = [label_indices(labels, names)] * len(texts)
        return explain(
            fitted.networks,
            fitted.linear_model,
            fitted.vocabulary,
            fitted.config,
            texts,
            chosen,
            proba,
            thresholds,
            method,
        )

    def score(self, X: Any, y: Any, sample_weight: Numbers | None = None) -> float:
        """Compute the subset accuracy: the share of texts whose labels are all right.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.
        y : array-like of shape (n, n_labels), or n label lists or sets
            True labels. A label that the classifier does not know makes its text wrong; an unknown entry counts as
            right.
        sample_weight : array-like of shape (n,), default=None
            Weight of each text in the mean.

        Returns
        -------
        float
            From 0 to 1.
        """
        clf = self._as_it_is()
        return exact_match(y, clf.predict(X), clf.label_names_.tolist(), sample_weight)

    @property
    def thresholds_(self) -> NDArray[np.float64]:
        """Threshold of each label, shape (n_labels,)."""
        return self._taken().thresholds(self.threshold)

    @property
    def label_names_(self) -> NDArray[Any]:
        """Name of each label, shape (n_labels,)."""
        return self._attribute("label_names_").names

    @property
    def n_labels_(self) -> int:
        """Number of labels."""
        return len(self._attribute("n_labels_").names)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The classes 0 and 1 of each label, shape (n_labels, 2)."""
        return self._attribute("classes_").classes

    def _check_params(self) -> None:
        super()._check_params()
        self._check_decision()
        if self.calibration is not None:
            check_choice("calibration", self.calibration, METHODS)

    def _check_saved_params(self, fitted: FittedClassifier) -> None:
        super()._check_saved_params(fitted)
        names = fitted.names.tolist()
        self._check_decision_parameters(names)
        fitted.thresholds(self.threshold)
        check_pos_weight(self.pos_weight, np.zeros((0, len(names)), np.float32), names)

    def _check_data(self, X: Any, y: Any, sample_weight: Any, earlier: FittedClassifier | None) -> LabelledTexts:
        names = None if earlier is None else earlier.names.tolist()
        data = check_labelled_texts(X, y, sample_weight, self.pos_weight, names)
        self._check_decision_parameters(data.names)
        return data

    @property
    def net_(self) -> MultiLabelNet:
        """The trained network; its ``predict`` decides by the numbers of `threshold`, or by 0.5 if there are none."""
        return self._deciding(super().net_)

    @property
    def backward_net_(self) -> MultiLabelNet:
        """The second network, as `net_`."""
        return self._deciding(super().backward_net_)

    def _deciding(self, net: MultiLabelNet) -> MultiLabelNet:
        given = self._threshold_of_nets(self.label_names_.tolist())
        net.threshold = 0.5 if given is None else given
        return net

    def _threshold_of_nets(self, names: Sequence[Any]) -> Any:
        try:
            return None if self._metric(names, tuning_is_free=False) else check_thresholds(self.threshold, names)
        except ValueError:  # "auto", or not valid, which `predict` says
            return None

    def _decisions_from(self, data: LabelledTexts, encoders: Sequence[Encoder | Start]) -> str:
        metric = self._metric(data.names, tuning_is_free=False)
        source = decisions_from(encoders, metric is not None or self.calibration is not None)
        n_texts = len(data.texts)
        if source == "folds" and unfreezing_after_head(self.unfreezing, n_texts) != "head":
            # folds are predicted by the frozen network, whose log-odds may be much smaller
            return "held_out" if self.calibration is not None or holds_out_for_decisions(n_texts) else "folds"
        return source

    def _learn_decisions(self, data: LabelledTexts, held_out: HeldOut, has_vectors: bool) -> dict[str, Any]:
        metric = self._metric(data.names, tuning_is_free=has_vectors)
        return learn_decisions(data, held_out, self.calibration, metric)

    def _check_decision(self) -> None:
        check_number("top_k", self.top_k, low=1, integer=True, none=True)
        check_bool("at_least_one", self.at_least_one, auto=True)

    def _decision_rule(self) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
        """Check how labels are decided on; return the function from probabilities to decisions, both (n, n_labels)."""
        fitted = self._taken()
        self._check_decision()
        thresholds = fitted.thresholds(self.threshold)
        check_number("top_k", self.top_k, low=1, high=len(fitted.names), integer=True, none=True)
        at_least_one = fitted.gives_at_least_one(self.at_least_one, self.threshold)
        return partial(decide, thresholds=thresholds, top_k=self.top_k, at_least_one=at_least_one)

    def _decisions(self, fitted: FittedClassifier) -> dict[str, Any]:
        self._decision_rule()
        return {
            "thresholds": fitted.thresholds(self.threshold).tolist(),
            "top_k": None if self.top_k is None else int(self.top_k),
            "at_least_one": fitted.gives_at_least_one(self.at_least_one, self.threshold),
        }

    def _check_decision_parameters(self, names: Sequence[Any]) -> None:
        """Check `top_k` and `threshold` for these labels."""
        check_number("top_k", self.top_k, low=1, high=len(names), integer=True, none=True)
        if self._metric(names, tuning_is_free=False) is None:
            check_thresholds(resolve_threshold(self.threshold, False), names)

    def _metric(self, names: Sequence[Any], tuning_is_free: bool) -> ThresholdMetric | float | None:
        """Return the metric to tune thresholds for, or None; "auto" asks for tuning only if `tuning_is_free`."""
        return threshold_metric(resolve_threshold(self.threshold, tuning_is_free), names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags
