"""Thresholds for any multi-label classifier, tuned by cross-validation."""

from __future__ import annotations

import copy
import numbers
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, get_routing_for_object, process_routing
from sklearn.utils.validation import _num_samples, check_is_fitted

from sk_ulmfit._choices import Average, NumberByLabel, Numbers, RandomState, ThresholdGoal, ThresholdMetric
from sk_ulmfit._locks import WARNING_FILTERS
from sk_ulmfit._messages import short
from sk_ulmfit._plain_state import PlainState
from sk_ulmfit._validation import check_number, check_weights, fitted_value
from sk_ulmfit.decisions import decide
from sk_ulmfit.labels import NamedIndicator, indicator_of, label_columns, label_lists, plain_targets
from sk_ulmfit.metrics import exact_match, f1_score
from sk_ulmfit.models.plain import check_keys
from sk_ulmfit.models.schema import SchemaError
from sk_ulmfit.splitting import MultiLabelStratifiedKFold, MultiLabelStratifiedShuffleSplit
from sk_ulmfit.text.streams import only_column, plain_list
from sk_ulmfit.thresholds import Curves, check_candidates, check_metric, check_thresholds, tune_thresholds

Floats = NDArray[np.float64]

_NUMBERED = re.compile(r"Label (not )?(\d+) is present in all training examples\.")


@dataclass(frozen=True)
class FittedTuner:
    """What a fit has learned, replaced by one assignment; named as the attributes of the tuner."""

    estimator: Any
    thresholds: Floats
    score: float
    names: list[Any]
    cv_results: dict[str, Floats] | None

    @property
    def classes(self) -> NDArray[np.int64]:
        """0 and 1 for each label, shape (L, 2)."""
        return np.tile(np.array([0, 1]), (len(self.names), 1))

    @property
    def label_names(self) -> NDArray[Any]:
        """The names as an array, shape (L,)."""
        names = np.empty(len(self.names), object)
        names[:] = self.names
        return names


class MultiLabelThresholdTuner(ClassifierMixin, MetaEstimatorMixin, PlainState):  # type: ignore[misc]
    """Meta-estimator that tunes the threshold of each label by cross-validation.

    The multi-label counterpart of scikit-learn's ``TunedThresholdClassifierCV``. The classifier is trained once per
    fold and once on all data; thresholds are chosen on the out-of-fold probabilities (`tune_thresholds`). All texts
    are used for training, at the price of more trainings.

    Parameters
    ----------
    estimator : estimator
        Multi-label classifier with ``predict_proba``, of shape (n, n_labels) or a list of (n, 2) as that of a random
        forest. Its own rules of decision (`threshold`, `top_k`, `at_least_one`) are ignored.
    scoring : {"f1_macro", "f1_micro", "f1_samples", "tune"}, dict or float, default="f1_macro"
        Score to maximize; "tune" has nearly the best of macro and micro F1. ``{"precision": 0.9}``, or the number
        alone, is the least precision that each label is to reach.
    thresholds : int, array-like of float or None, default=None
        Thresholds to choose from, or how many, evenly spaced as log-odds. None takes 281 from 0.0009 to 0.9991.
    cv : int, float, "prefit", cross-validation generator, iterable or None, default=None
        Folds. An integer is the number of folds of `MultiLabelStratifiedKFold`, and None means 5; a float holds out
        one part of that share; "prefit" takes a fitted estimator and chooses on all of X.
    refit : bool, default=True
        Train on all data too. False keeps the classifier of the only split. Ignored with "prefit".
    n_jobs : int or None, default=None
        Number of folds trained in parallel processes.
    random_state : int, RandomState or None, default=None
        Shuffles the texts before they are split, if `cv` is None or a number. The estimator has its own.
    store_cv_results : bool, default=False
        Keep `cv_results_`.

    Attributes
    ----------
    estimator_ : estimator
        The trained classifier.
    best_thresholds_ : ndarray of float64, shape (n_labels,)
        Threshold of each label; others may be assigned.
    best_score_ : float
        Score on the out-of-fold probabilities on which the thresholds were chosen, hence slightly optimistic: F1 as in
        `scoring`, for "tune" micro F1, or for a precision, the recall over all entries.
    cv_results_ : dict of ndarray
        "thresholds", shape (n_thresholds,); "scores", of each as the threshold of all labels; "label_scores", shape
        (n_labels, n_thresholds), F1 or precision of each label. Only with ``store_cv_results=True``.
    classes_ : ndarray of int64, shape (n_labels, 2)
        The classes 0 and 1 of each label.
    label_names_ : ndarray of shape (n_labels,)
        Column names of a DataFrame, labels of label lists, else 0 to n_labels - 1.

    See Also
    --------
    sk_ulmfit.thresholds.tune_thresholds : Choose thresholds on given probabilities.

    References
    ----------
    R.-E. Fan, C.-J. Lin (2007), "A Study on Threshold Selection for Multi-label Classification", on thresholds chosen
    by cross-validation and the effect of rare labels.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from sk_ulmfit import MultiLabelThresholdTuner
    >>> X, y = make_multilabel_classification(300, n_classes=4, random_state=0)
    >>> clf = OneVsRestClassifier(LogisticRegression())
    >>> tuner = MultiLabelThresholdTuner(clf, random_state=0).fit(X, y)
    >>> tuner.best_thresholds_.shape, tuner.predict(X).shape
    ((4,), (300, 4))
    """

    def __init__(
        self,
        estimator: Any,
        *,
        scoring: ThresholdGoal = "f1_macro",
        thresholds: int | Numbers | None = None,
        cv: Any = None,
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: RandomState = None,
        store_cv_results: bool = False,
    ):
        self.estimator = estimator
        self.scoring = scoring
        self.thresholds = thresholds
        self.cv = cv
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.store_cv_results = store_cv_results

    if TYPE_CHECKING:  # made by scikit-learn

        def set_fit_request(self, *, sample_weight: bool | str | None = ...) -> Self:
            """Say which metadata ``fit`` asks for."""

        def set_score_request(self, *, sample_weight: bool | str | None = ...) -> Self:
            """Say which metadata ``score`` asks for."""

    def fit(self, X: Any, y: Any, sample_weight: Numbers | None = None, **params: Any) -> Self:
        """Train the classifier and choose the thresholds.

        Parameters
        ----------
        X : sequence of length n
            Input of `estimator`.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists
            True labels: lists of numbers are rows of a matrix, lists of str and sets hold the labels of each row.
            Unknown entries (NaN) are left out of the choice, and passed to `estimator`. It receives a DataFrame
            as it is, label lists as a `NamedIndicator`, anything else as a matrix.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row in the choice and in the training of `estimator` (with metadata routing: if requested).
        **params : dict
            Further parameters for ``fit`` of `estimator`; with metadata routing, those requested. Parameters with one
            entry per row are split among the folds.

        Returns
        -------
        MultiLabelThresholdTuner
            This estimator. An interrupted fit leaves it unchanged.

        Raises
        ------
        ValueError
            If a parameter is invalid, or `estimator` has no ``predict_proba``.
        """
        scoring, candidates = check_metric(self.scoring, "scoring"), check_candidates(self.thresholds)
        self._check_estimator()
        X, y = _plain_texts(X), plain_targets(y)
        indicator, names = indicator_of(y, _label_names(self.estimator) if self._is_prefit() else None)
        n = _num_samples(X)
        if n != len(indicator):
            raise ValueError(f"X has {n} rows, but y has {len(indicator)}; pass one row of labels per row of X.")
        weight = check_weights(sample_weight, n)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        fit_params, split_params = self._routed(params)
        if self._is_prefit():
            fitted, rows = self.estimator, np.arange(n)
            proba = probabilities(fitted, X, len(names))
        else:
            targets = _targets(y, indicator, names)
            fitted, rows, proba = self._cross_fit(X, targets, indicator, names, fit_params, split_params)
        truth, weight = indicator[rows], None if weight is None else weight[rows]
        thresholds = tune_thresholds(
            truth, proba, metric=scoring, candidates=candidates, sample_weight=weight, label_names=names
        )
        self._fitted = FittedTuner(
            estimator=fitted,
            thresholds=thresholds,
            score=_score(truth, proba >= thresholds, scoring, weight),
            names=list(names),
            cv_results=_curves(truth, proba, candidates, scoring, weight) if self.store_cv_results else None,
        )
        return self

    @property
    def estimator_(self) -> Any:
        """The trained classifier."""
        return self._attribute("estimator_").estimator

    @property
    def best_thresholds_(self) -> Floats:
        """Threshold of each label, shape (n_labels,); others may be assigned."""
        return self._attribute("best_thresholds_").thresholds

    @best_thresholds_.setter
    def best_thresholds_(self, thresholds: NumberByLabel) -> None:
        fitted = self._attribute("best_thresholds_")
        self._fitted = replace(fitted, thresholds=check_thresholds(thresholds, fitted.label_names.tolist()))

    @property
    def best_score_(self) -> float:
        """Score on the out-of-fold probabilities."""
        return self._attribute("best_score_").score

    @property
    def cv_results_(self) -> dict[str, Floats]:
        """Scores of all thresholds."""
        results = self._attribute("cv_results_").cv_results
        if results is None:
            raise AttributeError("There are no cv_results_; pass store_cv_results=True.")
        return results

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The classes 0 and 1 of each label, shape (n_labels, 2)."""
        return self._attribute("classes_").classes

    @property
    def label_names_(self) -> NDArray[Any]:
        """Name of each label, shape (n_labels,)."""
        return self._attribute("label_names_").label_names

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each label.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
            Probabilities, as a matrix whatever `estimator` returns.
        """
        fitted = self._taken()
        return probabilities(fitted.estimator, X, len(fitted.label_names))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Predict the labels of each row.

        Returns
        -------
        ndarray of int64, shape (n, n_labels)
            1 where the probability reaches the label's threshold.
        """
        tuner = self._as_it_is()
        return decide(tuner.predict_proba(X), tuner.best_thresholds_)

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Predict the labels of each row as a tuple of names, in the order of `label_names_`."""
        tuner = self._as_it_is()
        return [tuple(tuner.label_names_[row > 0].tolist()) for row in tuner.predict(X)]

    def score(self, X: Any, y: Any, sample_weight: Numbers | None = None) -> float:
        """Return the share of rows with all labels right (subset accuracy), as scikit-learn does.

        Parameters
        ----------
        X : sequence of length n
            Input of `estimator`.
        y : array-like of shape (n, n_labels), DataFrame, or n label lists
            True labels; any prediction is right for an unknown entry (NaN).
        sample_weight : array-like of shape (n,), default=None
            Weight of each row in the mean.

        Returns
        -------
        float
            From 0 to 1.
        """
        tuner = self._as_it_is()
        return exact_match(y, tuner.predict(X), tuner.label_names_.tolist(), sample_weight)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X, if `estimator` counts them."""
        check_is_fitted(self)
        return int(self.estimator_.n_features_in_)

    def get_metadata_routing(self) -> Any:
        """Return the metadata requests of the estimator, the splitter and this estimator itself."""
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        if hasattr(self.cv, "split") and hasattr(get_routing_for_object(self.cv), "split"):
            router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router

    def _is_prefit(self) -> bool:
        return isinstance(self.cv, str) and self.cv == "prefit"

    def _check_estimator(self) -> None:
        if not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"estimator must have predict_proba, and {type(self.estimator).__name__} has none with these settings; "
                "sklearn.calibration.CalibratedClassifierCV gives one to classifiers with a decision_function."
            )
        if self._is_prefit():
            check_is_fitted(self.estimator)

    def _cross_fit(
        self,
        X: Any,
        targets: Any,
        indicator: NDArray[np.float32],
        names: Sequence[Any],
        fit_params: dict[str, Any],
        split_params: dict[str, Any],
    ) -> tuple[Any, NDArray[np.int64], Floats]:
        """Return the classifier to keep, the rows left out of the folds, and their probabilities, shape (rows, L)."""
        matrix = _plain_matrix(indicator)
        splits = list(self._splitter(matrix).split(X, matrix, **split_params))
        if not self.refit and len(splits) > 1:
            raise ValueError(
                f"refit=False needs a single split to take the classifier from, and cv gives {len(splits)}; pass a "
                "share such as cv=0.2, or refit=True."
            )
        # All data first: bad data fails before the folds are trained.
        with _named_labels(names):
            fitted = clone(self.estimator).fit(X, targets, **fit_params) if self.refit else None
        parts = Parallel(n_jobs=self.n_jobs)(
            delayed(_fit_and_predict)(clone(self.estimator), X, targets, fit_params, train, test, not self.refit, names)
            for train, test in splits
        )
        rows = np.concatenate([np.arange(len(matrix))[test] for _, test in splits])
        proba = np.concatenate([part[0] for part in parts])
        return fitted if self.refit else parts[0][1], rows, proba

    def _routed(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the parameters for ``fit`` of the estimator and those for ``split`` of the splitter."""
        from sklearn import get_config

        if not params or not get_config()["enable_metadata_routing"]:
            return params, {}
        routed = process_routing(self, "fit", **params)
        return dict(routed.estimator.fit), dict(routed.splitter.split) if "splitter" in routed else {}

    def _splitter(self, y: NDArray[Any]) -> Any:
        cv = 5 if self.cv is None else self.cv
        if isinstance(cv, numbers.Integral) and not isinstance(cv, bool):
            return MultiLabelStratifiedKFold(int(cv), shuffle=True, random_state=self.random_state)
        if isinstance(cv, numbers.Real):
            check_number("cv, as a share,", cv, low=0, high=1, exclusive=True)
            return MultiLabelStratifiedShuffleSplit(1, test_size=float(cv), random_state=self.random_state)
        if isinstance(cv, str) or not (hasattr(cv, "split") or isinstance(cv, Iterable)):
            raise ValueError(
                "cv must be a number of folds, a share, 'prefit', a splitter, an iterable of splits or None; "
                f"got {short(cv)}."
            )
        return check_cv(cv, y)

    _plain_name = "threshold tuner"

    def _fitted_to_plain(self, fitted: FittedTuner) -> dict[str, Any]:
        return dict(vars(fitted))

    def _fitted_from_plain(self, value: Any) -> FittedTuner:
        value = check_keys(value, tuple(field.name for field in fields(FittedTuner)), "what was learned")
        names, results = value["names"], value["cv_results"]
        if type(names) is not list or not names or not hasattr(value["estimator"], "predict_proba"):
            raise SchemaError("it has no list of names, or no classifier with predict_proba")
        if not isinstance(results, (dict, type(None))) or not isinstance(value["score"], float):
            raise SchemaError("cv_results is no dict, or score is no number")
        return FittedTuner(**value)

    def _taken(self) -> FittedTuner:
        """Return what was learned; another fit replaces it as a whole."""
        check_is_fitted(self)
        return self._fitted

    def _as_it_is(self) -> Self:
        """Return a shallow copy, which keeps what was learned and the parameters when others change them."""
        check_is_fitted(self)
        return copy.copy(self)

    def _attribute(self, name: str) -> FittedTuner:
        return cast(FittedTuner, fitted_value(self, name))

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in self.__dict__

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def _plain_texts(X: Any) -> Any:
    """Return Arrow arrays and columns of Hugging Face as a list, which can be split; anything else as it is."""
    if hasattr(X, "column_names"):
        X = only_column(X)
    return plain_list(X) if hasattr(X, "to_pylist") or hasattr(X, "column_name") else X


def _label_names(estimator: Any) -> Any:
    """Return the label names of a fitted classifier, a search or a pipeline; None if it has none."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    return getattr(estimator[-1] if hasattr(estimator, "steps") else estimator, "label_names_", None)


def _targets(y: Any, indicator: NDArray[np.float32], names: list[Any]) -> Any:
    """Return the targets for the inner estimator: with names if y has them, and with all columns for each fold."""
    if hasattr(y, "columns") and hasattr(y, "shape") and not isinstance(y, np.ndarray):
        return y  # a DataFrame
    has_names = hasattr(y, "columns") or label_lists(y) is not None
    return NamedIndicator(names, _plain_matrix(indicator)) if has_names else _plain_matrix(indicator)


def _plain_matrix(indicator: NDArray[np.float32]) -> NDArray[Any]:
    """Return an indicator as integers, which all classifiers take, unless some entries are unknown."""
    return indicator if np.isnan(indicator).any() else indicator.astype(np.int64)


def _fit_and_predict(
    estimator: Any, X: Any, y: Any, fit_params: dict[str, Any], train: Any, test: Any, keep: bool, names: Sequence[Any]
) -> tuple[Floats, Any]:
    n, n_labels = y.shape
    params = {
        name: _safe_indexing(value, train) if hasattr(value, "__len__") and _length(value) == n else value
        for name, value in fit_params.items()
    }
    with _named_labels(names):
        estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **params)
    return probabilities(estimator, _safe_indexing(X, test), n_labels), estimator if keep else None


@contextmanager
def _named_labels(names: Sequence[Any]) -> Iterator[None]:
    """Name the label in the warning of ``OneVsRestClassifier`` that a label is the same for all rows.

    It counts columns, from 0. Filters of warnings belong to the process, so other threads keep the warning as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[warnings.WarningMessage] = []
    try:
        with WARNING_FILTERS, warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for warning in caught:
            found = _NUMBERED.fullmatch(str(warning.message))
            message = warning.message if found is None else UserWarning(_constant(names[int(found[2])], not found[1]))
            warnings.warn_explicit(message, warning.category, warning.filename, warning.lineno)


def _constant(name: Any, has: bool) -> str:
    return (
        f"In one of the trainings, every row {'has' if has else 'lacks'} the label {short(name)}, so its probability "
        f"there is {int(has)}. Pass fewer folds, or more rows that differ in it."
    )


def _length(value: Any) -> int:
    return -1 if isinstance(value, (str, bytes, dict)) else _num_samples(value)


def probabilities(estimator: Any, X: Any, n_labels: int) -> Floats:
    """Return the probabilities of any fitted multi-label classifier as one matrix, shape (n, n_labels)."""
    output = estimator.predict_proba(X)
    if n_labels == 1 and np.ndim(output) == 2 and np.shape(output)[1] == 2:
        output = [output]
    proba = np.asarray(label_columns(output, getattr(estimator, "classes_", None)), np.float64)
    if proba.ndim != 2 or proba.shape[1] != n_labels:
        raise ValueError(
            f"predict_proba of {type(estimator).__name__} gave the shape {proba.shape} for {n_labels} labels; a "
            "multi-label classifier was expected, with one probability per label."
        )
    return proba


def _score(y: NDArray[np.float32], decided: NDArray[np.bool_], scoring: ThresholdMetric | float, weight: Any) -> float:
    """Return the F1 of decisions, or if a precision was wanted, their recall over all entries."""
    if isinstance(scoring, str):
        average = "micro" if scoring == "tune" else scoring.removeprefix("f1_")
        return f1_score(y, decided, average=cast(Average, average), sample_weight=weight)
    weight = np.ones(len(y)) if weight is None else weight
    n_with = (y == 1).sum(axis=1) @ weight
    right = ((y == 1) & decided).sum(axis=1) @ weight
    return float(right / n_with) if n_with else 0.0


def _curves(
    y: NDArray[np.float32], proba: Floats, candidates: Floats, scoring: ThresholdMetric | float, weight: Any
) -> dict[str, Floats]:
    """Return the scores of each candidate, for all labels and for each, as in `cv_results_`."""
    curves = Curves.of(y, proba, candidates, weight)
    if isinstance(scoring, str):
        scores, label_scores = curves.common_scores(scoring), curves.f1()
    else:
        scores = curves.right.sum(0) / np.clip(curves.predicted.sum(0), 1e-12, None)
        label_scores = curves.right / np.clip(curves.predicted, 1e-12, None)
    return {"thresholds": candidates, "scores": scores, "label_scores": label_scores}
