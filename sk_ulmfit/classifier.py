"""The multi-label classifier as an estimator on raw text."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._validation import check_choice, check_number, check_training_parameters, check_weights, plain_number
from sk_ulmfit.calibration import METHODS, calibrate, fit_calibration
from sk_ulmfit.explain.attribution import METHODS as EXPLAIN_METHODS
from sk_ulmfit.explain.attribution import explain, label_indices, left_as_they_were
from sk_ulmfit.explain.explanation import Explanations
from sk_ulmfit.labels import check_labels, check_pos_weight, warn_constant
from sk_ulmfit.language_model import ULMFiTLanguageModel
from sk_ulmfit.metrics import exact_match
from sk_ulmfit.models.assembly import plain_weights
from sk_ulmfit.models.state import (
    DIRECTIONS,
    ModelFileError,
    ModelState,
    load_state,
    reads_backward,
    save_state,
)
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.nn.precision import PRECISIONS, prediction_precision
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.streams import StreamedTexts, chained, check_texts
from sk_ulmfit.thresholds import check_metric, check_thresholds, decide, tune_thresholds
from sk_ulmfit.training.caching import check_memory, remembered
from sk_ulmfit.training.directions import configs, merge, of_second, split
from sk_ulmfit.training.linear import split_tfidf
from sk_ulmfit.training.prediction import Reader, probabilities, read, restore_classifier_net
from sk_ulmfit.training.settings import SCHEDULES, TrainingSettings
from sk_ulmfit.training.stages import HeldOut, train_classifier


class ULMFiTMultiLabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Multi-label text classifier after ULMFiT: raw texts in, one decision per label out.

    ``fit`` fine-tunes a language model on the texts (stage 2) and trains a classifier on its body (stage 3): an
    AWD-LSTM, concat pooling and one output per label, binary cross-entropy, discriminative learning rates, and with few
    texts gradual unfreezing from the top. A linear model of words and their letters is trained beside it (`tfidf`). A
    body that began from random weights has nothing to preserve: it is trained whole from the first epoch, at one rate.
    The network is a skorch net in `net_`.

    Parameters
    ----------
    language_model : "auto", "en", "en-small", path-like, ULMFiTLanguageModel or None, default="auto"
        Where the body comes from. The name of a model that comes with the package, or the path of a saved one: it
        is fine-tuned on the texts for `lm_epochs`. "auto" is English: "en" on a GPU and "en-small" on a CPU, as far as
        they are there. An unfitted `ULMFiTLanguageModel`: a clone is fitted on the texts. A fitted one, or one
        in a ``FrozenEstimator``: used as it is (only the frozen one outlives ``clone``, hence cross-validation).
        None: the full body (400/1152/3) from random weights. With ``direction="both"`` also a pair of these, the one
        that reads forward first; both must know the same words, as two that were pre-trained on one corpus do.
    lm_epochs : int or None, default=None
        Epochs of language-model training on the texts; 0 trains none. None takes ``max_epochs`` of the
        language model.
    max_epochs : int or None, default=None
        Epochs of classifier training, those of gradual unfreezing included. None: 20 for up to 500 texts, 12 for up to
        1,000, 8 for up to 10,000, 4 for up to 50,000 and 3 for more, but never so few that a layer stays frozen; with
        `freeze_encoder` at least 10.
    lr : float, default=0.01
        Largest learning rate, that of the head.
    lr_decay : float, default=2.6
        Each lower layer group of a pre-trained body learns at the rate of the one above divided by this.
    embedding_lr : float or None, default=0.04
        Largest learning rate of a pre-trained embedding, which is not among the groups of `lr_decay` then and learns
        from the first epoch: the words of a few texts decide on most labels, and each is seen a few times only. None
        treats it as one more group, the last to be unfrozen, as the paper does.
    schedule : {"slanted_triangular", "one_cycle"}, default="slanted_triangular"
        How the learning rate moves over all steps.
    batch_size : int or None, default=None
        Most documents of a batch. None: 16 for up to 500 texts, 32 for up to 10,000 and 64 for more. Batches of very
        long documents hold fewer: at most ``batch_size * 20 * bptt`` tokens, padding included.
    freeze_encoder : bool, default=False
        Train the head alone. The body runs over the texts once and its features are kept (5 kB a text at full size), so
        that an epoch takes seconds, whatever the body; `lr_decay`, `embedding_lr`, `gradual_unfreezing`, `alpha` and
        `beta` then mean nothing. For a first result on a slow machine, or for very few texts; training the body is
        usually better.
    gradual_unfreezing : bool or None, default=None
        Train the head of a pre-trained body in the first epoch and one more layer in each that follows, from the top,
        as the paper does; else all layers from the first epoch on. None: gradually for up to 5,000 texts.
    tfidf : bool, default=True
        Let a linear model of the texts' words, and of runs of three and four letters in them, decide beside the
        network: TF-IDF, weighed by what each term says of a label by itself, and one linear SVM per label, its margins
        scaled to log-odds on held-out texts. The log-odds of both are averaged; the network's share is c / (2 c + 60)
        on a label that c texts have (or lack, if these are fewer), since a rare label is decided by its words, and 1 on
        a label about which words say nothing. Seven SVMs per label are trained (five for more than 20,000 texts); each
        word or run of letters adds two bytes per label to a saved model. Read by ``fit``.
    direction : {"forward", "backward", "both"}, default="forward"
        The order in which texts are read. "both": two language models and two networks are trained, one for each
        direction, and their probabilities averaged, for twice the time, memory and size. "backward" and "both" begin
        from a model that reads forward where none that reads backward is given, as `ULMFiTLanguageModel` does. With
        "forward", a `language_model` that was trained backward goes on reading so.
    bptt : int, default=70
        Tokens per window, through which gradients flow.
    max_length : int or None, default=1400
        How many tokens, from the end, of a document are pooled; the ones before still shape the state.
        None pools all.
    dropout_multiplier : float, default=0.5
        Factor on the dropout rates of the body and on the head's first.
    alpha : float, default=2.0
        Weight of activation regularisation (AR).
    beta : float, default=1.0
        Weight of temporal activation regularisation (TAR).
    gradient_clip : float or None, default=0.25
        Largest norm of the gradient; None does not clip.
    pos_weight : None, "balanced", float, array-like of shape (n_labels,) or dict, default=None
        Factor on the loss of the entries that are 1, which multiplies the odds that are predicted: for more recall of
        rare labels. One for all, one per label, or by label name (labels not named keep 1). "balanced" is the number of
        texts without the label divided by that with it, from 1/20 to 20. The ranking of texts gains nothing by it, and
        probabilities no longer are those of the texts at hand; to decide otherwise than at 0.5, change `threshold`.
    threshold : float, array-like of shape (n_labels,), dict or "tune", default=0.5
        A label is predicted where its probability reaches its threshold: one for all, one per label, or by label
        name (labels not named keep 0.5). Read by ``predict`` only, so it can be changed after ``fit``. "tune": ``fit``
        holds out a part of the texts and chooses a threshold for each label on it, rare labels staying near one that
        is common to all; `sk_ulmfit.thresholds.tune_thresholds` does the same with texts of your own.
    threshold_metric : {"f1_macro", "f1_micro", "f1_samples"} or float, default="f1_macro"
        What "tune" makes large; a number is the least precision that each label is to reach.
    top_k : int or None, default=None
        Predict the `top_k` most probable labels of every text instead, whatever `threshold`. Read by ``predict``.
    at_least_one : bool, default=False
        Predict the most probable label of a text none of whose labels reaches its threshold. Read by ``predict``.
    calibration : None, "platt" or "temperature", default=None
        Hold out a part of the texts and correct the probabilities on it, so that they come true as often as they say:
        log-odds get a slope and an offset for each label ("platt") or a slope alone; labels that few of those texts
        have get nearly the same ones. The order of texts within a label stays. Read by ``fit``, saved with the model.
    early_stopping : bool, default=False
        Hold out a part of the texts, stop when the network's loss on it no longer falls, and keep the best epoch's
        weights.
    validation_fraction : float, default=0.1
        Share of the texts that `early_stopping`, `calibration` and "tune" hold out; nothing else is learned from it.
    n_iter_no_change : int, default=3
        Epochs without improvement after which `early_stopping` stops.
    callbacks : list or None, default=None
        Callbacks of skorch for the classifier's training, as instances or (name, instance) pairs. The gradient of the
        embedding is sparse; to clip, use `gradient_clip`. With `freeze_encoder` they see a net of the head alone; with
        ``direction="both"`` the same instances see the training of the forward network and then of the backward one.
    device : str, default="auto"
        Device of torch; "auto" is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Arithmetic of the matrix products. "auto" trains and predicts in 16 bits, or predicts in 8, where the processor
        is faster at it and no probability of a sample of training texts moves by more than 0.005 for it; "int8"
        predicts in 8 bits and trains as "auto" does. Weights are kept in float32 either way. Can be changed after
        ``fit``. A `language_model` that is given as an estimator has its own.
    n_jobs : int or None, default=None
        Worker processes that tokenize large corpora and train SVMs on them.
    memory : path-like, joblib.Memory or None, default=None
        Folder in which trained language models and classifiers are kept, so that a fit that was done before is read
        instead (a second instead of minutes): a search over thresholds trains once per fold, one over other parameters
        of the classifier fine-tunes the language model once per fold. What counts is the texts, labels, weights and
        parameters, the language model's content and this package's version; not `threshold` and what else decides,
        and neither `n_jobs` nor `verbose`. Each model takes its size in memory on disk, until the folder is removed or
        ``joblib.Memory.reduce_size`` called. It is pickle, so trust the folder like code. An interrupted fit is not
        kept.
    random_state : int, RandomState or None, default=None
        Source of all randomness. With `memory`, None finds the first model that was trained so; a RandomState draws
        its numbers before, so that it moves on whether a model is found or not.
    verbose : int, default=0
        1 shows a progress bar for each stage.

    Attributes
    ----------
    classes_ : ndarray of int64, shape (n_labels, 2)
        The classes 0 and 1 of each label, as scikit-learn's multi-output tools expect.
    label_names_ : ndarray of shape (n_labels,)
        Column names of a DataFrame, labels of label lists, else 0 to n_labels - 1.
    n_labels_ : int
        Number of labels.
    thresholds_ : ndarray of float64, shape (n_labels,)
        Threshold of each label, from `threshold`, tuned ones included.
    net_ : MultiLabelNet
        The trained skorch net, ready to predict; ``net_.module_`` is the torch module, in evaluation mode. What `tfidf`
        adds is not in it.
    history_ : list of dict
        Losses of each epoch of classifier training, of the network alone; with gradual unfreezing, `trained_groups`
        names what was trained.
    language_model_ : ULMFiTLanguageModel
        The language model behind the body. Not part of a saved classifier; save it by itself.
    backward_net_, backward_history_, backward_language_model_
        The same of the second network, with ``direction="both"`` only.

    See Also
    --------
    ULMFiTLanguageModel : Stage 2 by itself.

    References
    ----------
    J. Howard, S. Ruder (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
    >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
    >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
    >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> clf = ULMFiTMultiLabelClassifier(lm, lr=0.05, batch_size=4, random_state=0).fit(texts, y)
    >>> clf.predict_proba(["the lamp is late"]).shape
    (1, 2)
    >>> clf.predict_labels(["the lamp is late"])
    [('late',)]
    """

    def __init__(
        self,
        language_model: str | os.PathLike[str] | ULMFiTLanguageModel | None = "auto",
        *,
        lm_epochs: int | None = None,
        max_epochs: int | None = None,
        lr: float = 1e-2,
        lr_decay: float = 2.6,
        embedding_lr: float | None = 0.04,
        schedule: str = "slanted_triangular",
        batch_size: int | None = None,
        freeze_encoder: bool = False,
        gradual_unfreezing: bool | None = None,
        tfidf: bool = True,
        direction: str = "forward",
        bptt: int = 70,
        max_length: int | None = 1400,
        dropout_multiplier: float = 0.5,
        alpha: float = 2.0,
        beta: float = 1.0,
        gradient_clip: float | None = 0.25,
        pos_weight: Any = None,
        threshold: Any = 0.5,
        threshold_metric: str | float = "f1_macro",
        top_k: int | None = None,
        at_least_one: bool = False,
        calibration: str | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        callbacks: list[Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        memory: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.language_model = language_model
        self.lm_epochs = lm_epochs
        self.max_epochs = max_epochs
        self.lr = lr
        self.lr_decay = lr_decay
        self.embedding_lr = embedding_lr
        self.schedule = schedule
        self.batch_size = batch_size
        self.freeze_encoder = freeze_encoder
        self.gradual_unfreezing = gradual_unfreezing
        self.tfidf = tfidf
        self.direction = direction
        self.bptt = bptt
        self.max_length = max_length
        self.dropout_multiplier = dropout_multiplier
        self.alpha = alpha
        self.beta = beta
        self.gradient_clip = gradient_clip
        self.pos_weight = pos_weight
        self.threshold = threshold
        self.threshold_metric = threshold_metric
        self.top_k = top_k
        self.at_least_one = at_least_one
        self.calibration = calibration
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, unlabelled_texts: Any = None
    ) -> ULMFiTMultiLabelClassifier:
        """Train on raw texts and their labels.

        Parameters
        ----------
        X : sequence of str of length n, or StreamedTexts
            Raw texts; an empty text is a document without words. `StreamedTexts`, which ``load_table(stream=True)``
            gives, need not fit into memory.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists or sets
            Indicator of 0 and 1, or the labels of each text: a list of str, or a set of str or int. Lists of numbers
            are always rows of an indicator, whichever rows there are. An entry of an indicator that is NaN (None,
            ``pandas.NA``, masked) is not annotated: it takes no part in anything that is learned from labels.
        sample_weight : array-like of shape (n,), default=None
            How much each text counts in what is learned from labels; only ratios matter. A text of weight 2 counts like
            one that is there twice, and one of weight 0 like one that is not there. The language model reads every
            text of a weight above 0 once.
        unlabelled_texts : sequence of str or StreamedTexts, default=None
            More texts for the language model, which needs no labels.

        Returns
        -------
        ULMFiTMultiLabelClassifier
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter, a text, a label or a weight is not valid.
        """
        self._check_params()
        texts = check_texts(X)
        indicator, names = check_labels(y)
        if len(texts) != len(indicator):
            raise ValueError(
                f"X has {len(texts)} texts, but y has {len(indicator)} rows; give one row of labels per text."
            )
        has_more = unlabelled_texts is not None and (not hasattr(unlabelled_texts, "__len__") or len(unlabelled_texts))
        more_texts = check_texts(unlabelled_texts, "unlabelled_texts") if has_more else []
        check_number("top_k", self.top_k, low=1, high=len(names), integer=True, none=True)
        tune = _is_tune(self.threshold)
        learns_decisions = tune or self.calibration is not None
        if not tune:
            check_thresholds(self.threshold, names)
        weight = check_weights(sample_weight, len(texts))
        if weight is not None and not weight.all():
            counts = weight > 0
            texts = texts.chosen(counts) if isinstance(texts, StreamedTexts) else list(compress(texts, counts))
            indicator, weight = indicator[weight > 0], weight[weight > 0]
        if weight is not None:
            weight = None if (weight == weight[0]).all() else weight / weight.mean()
        warn_constant(indicator, names)
        pos_weight = check_pos_weight(self.pos_weight, indicator, names, weight)
        device = resolve_device(self.device)
        prediction_precision(self.precision, device, 0, {})  # an error now, not after the training
        rng = check_random_state(self.random_state)
        lm_seed, seed = (int(number) for number in rng.randint(2**31 - 1, size=2))
        memory = check_memory(self.memory)
        any_seed = self.random_state is None
        bodies = []
        for model in self._language_models(None if any_seed else lm_seed):
            is_fitted = hasattr(model, "state_")
            if is_fitted and more_texts:
                warnings.warn(
                    "unlabelled_texts are left out: language_model is fitted and used as it is. "
                    "Fit it on them before, or pass an unfitted one or a path.",
                    UserWarning,
                    stacklevel=2,
                )
            body = model if is_fitted else model.fit(chained(texts, more_texts))
            bodies.append((body, is_fitted or body.pretrained_ is not None))
        if len({tuple(body.vocabulary_.words) for body, _ in bodies}) > 1:
            raise ValueError(
                "The two models of language_model have different words after they have seen the texts; fit both on the "
                "same texts, with the same settings."
            )
        if self.freeze_encoder and any(not pretrained and not body.history_ for body, pretrained in bodies):
            warnings.warn(
                "freeze_encoder=True keeps a body with random weights: no language model was trained (lm_epochs=0) and "
                "none was given. Pass language_model, or let lm_epochs be at least 1.",
                UserWarning,
                stacklevel=2,
            )
        settings = TrainingSettings.of(self, seed, device)
        data: dict[str, Any] = {
            "texts": texts,
            "indicator": np.ascontiguousarray(indicator),
            "label_names": names,
            "document_weight": weight,
            "pos_weight": pos_weight,
        }
        options: dict[str, Any] = {
            "freeze_encoder": bool(self.freeze_encoder),
            "gradual_unfreezing": None if self.gradual_unfreezing is None else bool(self.gradual_unfreezing),
            "embedding_lr": plain_number(self.embedding_lr),
            "tfidf": bool(self.tfidf),
            "max_length": plain_number(self.max_length),
            "early_stopping": bool(self.early_stopping),
            "held_out_fraction": float(self.validation_fraction) if self.early_stopping or learns_decisions else 0.0,
            "predict_held_out": learns_decisions,
            "n_iter_no_change": int(self.n_iter_no_change),
        }

        if self.callbacks and self.memory is not None:
            warnings.warn(
                "Training with callbacks is not remembered, since what they do cannot be told from their values; "
                "memory keeps the language model alone.",
                UserWarning,
                stacklevel=2,
            )
            memory = check_memory(None)
        states, rows, proba = self._train_networks({**data, **options}, bodies, settings, memory)
        state = merge(states)
        config = dict(state.config)  # what was remembered stays as it is
        held_out_weight = None if weight is None else weight[rows]
        if self.calibration is not None:
            coefficients = fit_calibration(indicator[rows], proba, self.calibration, sample_weight=held_out_weight)
            config["calibration"] = coefficients.tolist()
            proba = calibrate(proba, coefficients)
        if tune:
            config["thresholds"] = tune_thresholds(
                indicator[rows],
                proba,
                metric=self.threshold_metric,
                sample_weight=held_out_weight,
                label_names=names,
            ).tolist()
        names_of_bodies = ("language_model_", "backward_language_model_")
        of_bodies = {name: body for name, (body, _) in zip(names_of_bodies, bodies, strict=False)}
        self._set_fitted(replace(state, config=config), settings, **of_bodies)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give the probability of each label for each text.

        Labels are independent: rows do not add up to 1. A text's result does not depend on the other texts.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
            Probabilities strictly between 0 and 1, columns as `label_names_`.
        """
        check_is_fitted(self)
        config = self._config
        corpus = encode_texts(check_texts(X), self.vocabulary_, config["language"], self.n_jobs)
        check_choice("precision", self.precision, PRECISIONS)
        proba = probabilities(read(self._readers, self._tfidf, corpus, self.precision))
        return calibrate(proba, np.array(config["calibration"])) if "calibration" in config else proba

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Decide on each label for each text.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        ndarray of int64, shape (n, n_labels)
            1 where the probability reaches the label's threshold, unless `top_k` or `at_least_one` decide otherwise.
        """
        check_is_fitted(self)
        self._check_decision()
        thresholds = self.thresholds_
        check_number("top_k", self.top_k, low=1, high=self.n_labels_, integer=True, none=True)
        return decide(self.predict_proba(X), thresholds, top_k=self.top_k, at_least_one=self.at_least_one)

    def set_thresholds(self, threshold: Any) -> ULMFiTMultiLabelClassifier:
        """Decide by other thresholds from now on; nothing is trained.

        Parameters
        ----------
        threshold : float, array-like of shape (n_labels,), dict or "tune"
            As the parameter `threshold`; "tune" goes back to those that ``fit`` has chosen.

        Returns
        -------
        ULMFiTMultiLabelClassifier
            This estimator.

        Raises
        ------
        ValueError
            If a threshold is not valid, or "tune" is asked for and none were tuned.
        """
        check_is_fitted(self)
        self._thresholds(threshold)
        self.threshold = threshold
        return self

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Give the names of the labels of each text.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.

        Returns
        -------
        list of tuple
            For each text the names of the labels predicted, in the order of `label_names_`.
        """
        return [tuple(self.label_names_[row > 0].tolist()) for row in self.predict(X)]

    def explain(self, texts: Any, labels: Any = None, method: str = "gradient") -> Explanations:
        """Tell which words of each text speak for and against labels.

        Parameters
        ----------
        texts : sequence of str of length n
            Raw texts.
        labels : label name or list of label names, default=None
            What to explain. None explains the labels that ``predict`` gives to each text; if there are none, the most
            probable one.
        method : {"gradient", "occlusion"}, default="gradient"
            "gradient": the network's log-odds less those of the same text with every word unknown, shared among the
            words by integrated gradients, and each word's own part of the linear model (`tfidf`). The scores of a text
            add up, to a few per cent, and the time grows with its length. "occlusion": what a label's log-odds lose if
            the word alone is unknown; a word that occurs twice loses little, since the other one is still there, and
            the time grows with the square of the length. Which words matter, both tell equally well.

        Returns
        -------
        Explanations
            One for each text, with a score in log-odds for each word and label, calibration included. ``print`` and
            notebooks show them; ``save_html`` writes a page.

        Raises
        ------
        ValueError
            If a text, a label or the method is not valid.

        Notes
        -----
        Computed in float32, whatever `precision`. With the small English model on one CPU core, a text of 25 words
        takes half a second with "gradient" and a third with "occlusion", one of 200 words 5 and 11 seconds. That a
        word drives a label is a statement about the model, not about the world.

        References
        ----------
        M. Sundararajan, A. Taly, Q. Yan (2017), "Axiomatic Attribution for Deep Networks", sections 3 and 5;
        M. D. Zeiler, R. Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2.

        Examples
        --------
        >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
        >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
        >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
        >>> lm = ULMFiTLanguageModel(max_epochs=5, emb_dim=10, hidden_dim=16, n_layers=2)
        >>> clf = ULMFiTMultiLabelClassifier(lm, lr=0.05, batch_size=4, random_state=0).fit(texts, y)
        >>> explained = clf.explain(["The lamp is late"])
        >>> explained[0].labels, explained[0].top_words("late", 1)[0][0]
        (['late'], 'late')
        """
        check_is_fitted(self)
        check_choice("method", method, EXPLAIN_METHODS)
        texts = check_texts(texts, "texts")
        names = self.label_names_.tolist()
        self._check_decision()
        with left_as_they_were([reader.net.module_ for reader in self._readers]):
            proba = self.predict_proba(texts)
        if labels is None:
            decided = decide(proba, self.thresholds_, top_k=self.top_k, at_least_one=True)
            chosen = [np.flatnonzero(row) for row in decided]
        else:
            chosen = [label_indices(labels, names)] * len(texts)
        return explain(
            self._readers, self._tfidf, self.vocabulary_, self._config, texts, chosen, proba, self.thresholds_, method
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the share of texts with all labels right (subset accuracy), as scikit-learn does.

        Parameters
        ----------
        X : sequence of str of length n
            Raw texts.
        y : array-like of shape (n, n_labels), or n label lists or sets
            True labels; a label that the classifier does not know makes its text wrong. An entry that is not annotated
            is right either way.
        sample_weight : array-like of shape (n,), default=None
            Weight of each text in the mean.

        Returns
        -------
        float
            From 0 to 1.
        """
        check_is_fitted(self)
        return exact_match(y, self.predict(X), self.label_names_, sample_weight)

    @property
    def thresholds_(self) -> NDArray[np.float64]:
        """Threshold of each label, shape (n_labels,)."""
        check_is_fitted(self)
        return self._thresholds(self.threshold)

    def _thresholds(self, threshold: Any) -> NDArray[np.float64]:
        if not _is_tune(threshold):
            return check_thresholds(threshold, self.label_names_.tolist())
        if "thresholds" not in self._config:
            raise ValueError(
                "threshold='tune' was set after fit, which held out no texts to tune on; set it before, or choose "
                "thresholds with sk_ulmfit.thresholds.tune_thresholds on labelled texts of your own."
            )
        return np.array(self._config["thresholds"])

    def save(self, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> None:
        """Write the fitted classifier to one file (safetensors with a JSON header).

        Parameters
        ----------
        path : path-like
            File to write. A model there is replaced; any other file is left alone.
        metadata : mapping, default=None
            Notes of your own to keep with the model, of types that JSON knows; `load` gives them
            back as `metadata_`. None keeps those that a loaded model came with.

        Raises
        ------
        ModelFileError
            If the file cannot be written there.
        """
        check_is_fitted(self)
        if metadata is None:
            metadata = getattr(self, "metadata_", {})
        try:
            json.dumps(dict(metadata))
        except (TypeError, ValueError) as error:
            raise ValueError(f"metadata must be a mapping of what JSON can hold: {error}.") from None
        params = {name: _plain(name, value) for name, value in self.get_params(deep=False).items()}
        config = {**self._config, "params": params, "metadata": dict(metadata)}
        first, *others = (plain_weights(reader.net.module_) for reader in self._readers)
        weights = first | self._tfidf
        for second in others:
            weights |= of_second(second)
        save_state(ModelState("classifier", config, self.vocabulary_, weights, self.history_), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto") -> ULMFiTMultiLabelClassifier:
        """Read a classifier that `save` wrote, wherever it was trained.

        Parameters
        ----------
        path : path-like
            File to read; no code from it is run.
        device : str, default="auto"
            Device to predict on.

        Returns
        -------
        ULMFiTMultiLabelClassifier
            A fitted classifier with the parameters it was saved with. Callbacks, a RandomState object, a
            fitted language model and `memory` among them are not saved and come back as None.

        Raises
        ------
        ModelFileError
            If the file is missing, foreign or damaged.
        """
        state, device_name = load_state(path, "classifier"), resolve_device(device)
        try:
            given = state.config.pop("params")
            params = {"tfidf": False, **given, "device": device}  # the first files know no such parameter
            metadata = state.config.pop("metadata")
            params["language_model"] = _from_plain(params["language_model"])
            for name in ("threshold", "pos_weight"):
                if isinstance(params.get(name), dict):
                    params[name] = dict(params[name]["by_name"])
            model = cls(**params)
            if model.precision == "int8" and device == "auto":
                device_name = "cpu"
            model._set_fitted(state, TrainingSettings.of(model, 0, device_name))
        except (KeyError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(f"{path} does not describe a whole classifier ({reason}); save it again.") from None
        model.metadata_ = metadata
        return model

    def _set_fitted(self, state: ModelState, settings: TrainingSettings, **more: Any) -> None:
        names = state.config["label_names"]
        label_names = np.empty(len(names), object)
        label_names[:] = names
        networks = split(state)
        net, *others = (restore_classifier_net(network, settings) for network in networks)
        fitted = {
            "net_": net,
            "_tfidf": split_tfidf(networks[0].weights)[1],
            "_config": state.config,
            "vocabulary_": state.vocabulary,
            "history_": state.history,
            "n_labels_": len(names),
            "classes_": np.tile(np.array([0, 1]), (len(names), 1)),
            "label_names_": label_names,
        }
        for other in others:
            fitted |= {"backward_net_": other, "backward_history_": networks[1].history}
        fitted |= more
        self.__dict__.update(fitted)  # all at once: an interrupt finds the old model or the new one
        for name in [name for name in self.__dict__ if name.startswith("backward_") and name not in fitted]:
            del self.__dict__[name]  # of a fit before

    @property
    def _readers(self) -> list[Reader]:
        nets = [self.net_, self.backward_net_] if "backward" in self._config else [self.net_]
        return [Reader(net, config) for net, config in zip(nets, configs(self._config), strict=True)]

    def _language_models(self, seed: int | None) -> list[ULMFiTLanguageModel]:
        """Give the language model of each network, fitted or to be fitted; refuse what could not be trained."""
        given: Any = self.language_model
        if self.direction != "both":
            return [self._language_model(given, seed, self.direction)]
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            return [self._language_model(given, seed, direction) for direction in DIRECTIONS]
        bare = [model.estimator if isinstance(model, FrozenEstimator) else model for model in given]
        for which, model, direction in zip(("first", "second"), bare, DIRECTIONS, strict=True):
            if hasattr(model, "state_") and (reads := _reads(model)) != direction:
                raise ValueError(
                    f"The {which} model of language_model reads {reads}; of the pair the first one must read forward "
                    "and the second one backward."
                )
        first, second = (self._language_model(*one) for one in zip(given, (seed, seed), DIRECTIONS, strict=True))
        if not _may_know_the_same_words(first, second):
            raise ValueError(
                "The two models of language_model know different words; pre-train both on one corpus (sk-ulmfit "
                "pretrain, the second time on the folder 'tokens' of the first run, with --backward), or fit both on "
                "the same texts."
            )
        return [first, second]

    def _language_model(self, given: Any, seed: int | None, direction: str) -> ULMFiTLanguageModel:
        """Give the language model of a network: a fitted one as it is, or one to fit."""
        if isinstance(given, FrozenEstimator):
            given = given.estimator
            if not isinstance(given, ULMFiTLanguageModel):
                raise ValueError(
                    f"language_model holds a frozen {type(given).__name__}, expected a ULMFiTLanguageModel."
                )
            check_is_fitted(given)
        if isinstance(given, ULMFiTLanguageModel):
            if hasattr(given, "state_"):
                self._check_direction(given, direction)
                return given
            model = clone(given)
            if model.random_state is None:
                model.set_params(random_state=seed)
            if model.memory is None:
                model.set_params(memory=self.memory)
            if model.direction is not None and self.direction != "forward" and model.direction != direction:
                raise ValueError(
                    f"language_model has direction={model.direction!r}, but that of the classifier is "
                    f"{self.direction!r}; leave it None there, and the classifier decides."
                )
            if self.direction != "forward":
                model.set_params(direction=direction)
        elif given is None or isinstance(given, (str, os.PathLike)):
            model = ULMFiTLanguageModel(
                given,
                direction=None if self.direction == "forward" else direction,
                bptt=self.bptt,
                device=self.device,
                precision="auto" if self.precision == "int8" else self.precision,
                n_jobs=self.n_jobs,
                memory=self.memory,
                random_state=seed,
                verbose=self.verbose,
            )
        else:
            raise ValueError(
                "language_model must be 'auto', the name of a bundled model, a path, a ULMFiTLanguageModel or None, or "
                "with direction='both' a pair of these; "
                f"got {given!r} of type {type(given).__name__}."
            )
        if self.lm_epochs is not None:
            model.set_params(max_epochs=self.lm_epochs)
        model._check_params()
        return model

    def _train_networks(
        self,
        arguments: dict[str, Any],
        bodies: list[tuple[ULMFiTLanguageModel, bool]],
        settings: TrainingSettings,
        memory: Any,
    ) -> tuple[list[ModelState], NDArray[np.int64], NDArray[np.float64]]:
        """Train a network on each body; give them, the rows that they held out, and the mean of what they say of these.

        With each body comes whether it has learned from more than these texts.
        """
        states: list[ModelState] = []
        held_out: list[HeldOut] = []
        any_seed = self.random_state is None
        for model, pretrained in bodies:
            given = {**arguments, "pretrained": pretrained, "language_model": model.state_}
            words = split_tfidf(states[0].weights)[1] if states else None
            train = partial(train_classifier, **given, settings=settings, callbacks=self.callbacks, words=words)
            key = {**given, "stage": "classifier", "settings": settings.key(any_seed)}
            state, found = remembered(memory, key, train)
            states.append(state)
            held_out.append(found)
            # A second network holds out the same rows, wherever the first one came from.
            settings, any_seed = replace(settings, seed=found.seed), False
        return states, held_out[0].rows, np.mean([found.proba for found in held_out], axis=0)

    def _check_direction(self, given: ULMFiTLanguageModel, direction: str) -> None:
        """See that a fitted language model reads in a direction that was asked for."""
        reads = _reads(given)
        if reads != direction and self.direction != "forward":
            other = "its file, which is fine-tuned then" if self.direction == "backward" else "a pair of fitted ones"
            raise ValueError(
                f"language_model is fitted and reads {reads}, but direction={self.direction!r} needs one that reads "
                f"{direction}: pass {other}, or an unfitted one."
            )

    def _check_params(self) -> None:
        check_choice("direction", self.direction, (*DIRECTIONS, "both"))
        check_training_parameters(self, tuple(SCHEDULES), PRECISIONS)
        check_number("lm_epochs", self.lm_epochs, low=0, integer=True, none=True)
        check_number("embedding_lr", self.embedding_lr, low=0, none=True, exclusive=True)
        check_number("max_length", self.max_length, low=1, integer=True, none=True)
        for name in ("max_epochs", "batch_size"):
            check_number(name, getattr(self, name), low=1, integer=True, none=True)
        check_number("n_iter_no_change", self.n_iter_no_change, low=1, integer=True)
        check_number("validation_fraction", self.validation_fraction, low=0, high=1, exclusive=True)
        self._check_decision()
        check_metric(self.threshold_metric, "threshold_metric")
        if self.calibration is not None:
            check_choice("calibration", self.calibration, METHODS)
        for name in ("early_stopping", "freeze_encoder", "tfidf"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.gradual_unfreezing is not None and not isinstance(self.gradual_unfreezing, (bool, np.bool_)):
            raise ValueError(f"gradual_unfreezing must be True, False or None, got {self.gradual_unfreezing!r}.")
        callbacks = [] if self.callbacks is None else self.callbacks
        if not isinstance(callbacks, (list, tuple)) or not all(map(_is_callback, callbacks)):
            raise ValueError(
                "callbacks must be a list of skorch callbacks, as instances or (name, instance) pairs, or None; "
                f"got {self.callbacks!r}."
            )

    def _check_decision(self) -> None:
        check_number("top_k", self.top_k, low=1, integer=True, none=True)
        if not isinstance(self.at_least_one, (bool, np.bool_)):
            raise ValueError(f"at_least_one must be True or False, got {self.at_least_one!r}.")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def _is_tune(threshold: Any) -> bool:
    return isinstance(threshold, str) and threshold == "tune"


def _is_callback(item: Any) -> bool:
    if isinstance(item, tuple):
        return len(item) == 2 and isinstance(item[0], str) and _is_callback(item[1])
    return hasattr(item, "on_train_begin") and not isinstance(item, type)


def _plain(name: str, value: Any) -> Any:
    """Give a parameter as JSON can hold it; None where that cannot be."""
    if name == "memory":  # a folder of this machine
        return None
    if isinstance(value, ULMFiTLanguageModel):
        if hasattr(value, "state_"):
            return None
        return {key: _plain(key, item) for key, item in value.get_params(deep=False).items()}
    if name == "language_model" and isinstance(value, (tuple, list)):
        pair = [_plain(name, item) for item in value]
        is_whole = all(kept is not None or item is None for kept, item in zip(pair, value, strict=True))
        return pair if is_whole else None
    if name in ("threshold", "pos_weight") and not isinstance(value, (str, type(None))):
        if isinstance(value, Mapping):
            return {"by_name": [[plain_number(key), float(number)] for key, number in value.items()]}
        return np.asarray(value, float).tolist()
    if isinstance(value, Path):  # "./en" stays a path; "en" would name a bundled model
        return str(value) if value.parent != Path() else os.path.join(os.curdir, value)
    value = plain_number(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _reads(fitted: ULMFiTLanguageModel) -> str:
    return "backward" if reads_backward(fitted.state_.config) else "forward"


def _may_know_the_same_words(first: ULMFiTLanguageModel, second: ULMFiTLanguageModel) -> bool:
    """Tell whether two language models can have the same words once both are fitted, as far as that can be told."""
    known, others = first._known_words(), second._known_words()
    if known is None or others is None:
        return True
    if hasattr(first, "state_") == hasattr(second, "state_"):
        return known == others
    if hasattr(second, "state_"):
        first, second, known, others = second, first, others, known
    # Only the first one is fitted. What the second one knows it keeps, up to vocab_size.
    return set(others) <= set(known) or len(known) >= second.vocab_size


def _from_plain(value: Any) -> Any:
    """Give the parameter `language_model` as `_plain` has taken it."""
    if isinstance(value, list):
        return tuple(map(_from_plain, value))
    return ULMFiTLanguageModel(**value) if isinstance(value, dict) else value
