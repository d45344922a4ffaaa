"""Thresholds for any multi-label classifier, chosen on out-of-fold probabilities."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, get_routing_for_object, process_routing
from sklearn.utils.validation import _num_samples, check_is_fitted

from sk_ulmfit._validation import check_number, check_weights
from sk_ulmfit.labels import indicator_of, label_columns
from sk_ulmfit.metrics import exact_match, f1_score
from sk_ulmfit.splitting import MultiLabelStratifiedKFold, MultiLabelStratifiedShuffleSplit
from sk_ulmfit.thresholds import Curves, check_candidates, check_metric, check_thresholds, decide, tune_thresholds


class MultiLabelThresholdTuner(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Wrap a multi-label classifier and choose the threshold of each label by cross-validation.

    It is to many labels what scikit-learn's ``TunedThresholdClassifierCV`` is to one. The classifier is trained once
    per fold and once on everything; its probabilities for the texts left out of each fold are put together, and
    thresholds are chosen on them (`tune_thresholds`). No text is lost to the thresholds; the price is the trainings.

    Parameters
    ----------
    estimator : estimator
        Multi-label classifier with ``predict_proba``, of shape (n, n_labels) or a list of (n, 2) as that of a random
        forest. What it takes as X is its own business. How it decides itself (`threshold`, `top_k`, `at_least_one`)
        has no part in what the tuner decides.
    scoring : {"f1_macro", "f1_micro", "f1_samples"} or float, default="f1_macro"
        What to make large; a number is the least precision that each label is to reach.
    thresholds : int, array-like of float or None, default=None
        Thresholds to choose from: so many, evenly spaced as log-odds, or these. None takes 281 from 0.0009 to 0.9991.
        What is chosen lies between them where a label's own and the common one are averaged.
    cv : int, float, "prefit", cross-validation generator, iterable or None, default=None
        Folds. None and an integer: so many (5) of `MultiLabelStratifiedKFold`; a float: one part of that share
        is left out; "prefit": the estimator is fitted already and all of X is left out.
    refit : bool, default=True
        Train on everything too. False keeps the classifier of the only split; nothing with "prefit".
    n_jobs : int or None, default=None
        Folds that are trained at once, each in a process of its own.
    random_state : int, RandomState or None, default=None
        Shuffles the texts before they are dealt to folds, if `cv` is None or a number. The estimator has its own.
    store_cv_results : bool, default=False
        Keep `cv_results_`.

    Attributes
    ----------
    estimator_ : estimator
        The trained classifier.
    best_thresholds_ : ndarray of float64, shape (n_labels,)
        Threshold of each label; assign others if you like.
    best_score_ : float
        What they reach on the out-of-fold probabilities they were chosen on, which is a little more than on other
        texts: F1 as in `scoring`, or where that is a precision, the recall over all entries.
    cv_results_ : dict of ndarray
        "thresholds", shape (n_thresholds,); "scores", what each reaches if it is that of all labels; "label_scores",
        shape (n_labels, n_thresholds), F1 of each label, or its precision. Only with ``store_cv_results=True``.
    classes_ : ndarray of int64, shape (n_labels, 2)
        The classes 0 and 1 of each label.
    label_names_ : ndarray of shape (n_labels,)
        Column names of a DataFrame, labels of label lists, else 0 to n_labels - 1.

    See Also
    --------
    sk_ulmfit.thresholds.tune_thresholds : The choice itself, on probabilities.

    References
    ----------
    R.-E. Fan, C.-J. Lin (2007), "A Study on Threshold Selection for Multi-label Classification", on thresholds chosen
    by cross-validation and what rare labels do to them.

    Examples
    --------
    >>> from sklearn.datasets import make_multilabel_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from sk_ulmfit import MultiLabelThresholdTuner
    >>> X, y = make_multilabel_classification(300, n_classes=4, random_state=0)
    >>> tuner = MultiLabelThresholdTuner(OneVsRestClassifier(LogisticRegression()), random_state=0).fit(X, y)
    >>> tuner.best_thresholds_.shape, tuner.predict(X).shape
    ((4,), (300, 4))
    """

    def __init__(
        self,
        estimator: Any,
        *,
        scoring: str | float = "f1_macro",
        thresholds: Any = None,
        cv: Any = None,
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> MultiLabelThresholdTuner:
        """Choose the thresholds and train.

        Parameters
        ----------
        X : sequence of length n
            What `estimator` takes.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists
            True labels. Unknown entries (NaN) are left out of the choice; `estimator` must be able to take them too.
            It gets a DataFrame as it is, anything else as an indicator matrix, so without names.
        sample_weight : array-like of shape (n,), default=None
            How much each row counts, in the choice, and in the training of `estimator` (with metadata routing: if it
            requests that).
        **params : dict
            What else the ``fit`` of `estimator` takes; with metadata routing, whatever was requested. What has one
            entry per row is divided among the folds.

        Returns
        -------
        MultiLabelThresholdTuner
            This estimator. An interrupted fit leaves it as it was.

        Raises
        ------
        ValueError
            If a parameter is not valid, or `estimator` has no ``predict_proba``.
        """
        check_metric(self.scoring, "scoring")
        candidates = check_candidates(self.thresholds)
        if not hasattr(self.estimator, "predict_proba"):
            raise ValueError(
                f"estimator must have predict_proba, and {type(self.estimator).__name__} has none with these settings; "
                "sklearn.calibration.CalibratedClassifierCV gives one to classifiers with a decision_function."
            )
        prefit = isinstance(self.cv, str) and self.cv == "prefit"
        if prefit:
            check_is_fitted(self.estimator)
        indicator, names = indicator_of(y, getattr(self.estimator, "label_names_", None) if prefit else None)
        n = _num_samples(X)
        if n != len(indicator):
            raise ValueError(f"X has {n} rows, but y has {len(indicator)}; give one row of labels per row of X.")
        weight = check_weights(sample_weight, n)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        fit_params, split_params = self._routed(params)
        whole = indicator if np.isnan(indicator).any() else indicator.astype(np.int64)
        is_frame = hasattr(y, "columns") and hasattr(y, "shape")
        given = y if is_frame else whole  # a DataFrame has names that the estimator may want
        if prefit:
            fitted, rows = self.estimator, np.arange(n)
            proba = probabilities(fitted, X, len(names))
        else:
            splits = list(self._splitter(whole).split(X, whole, **split_params))
            if not self.refit and len(splits) > 1:
                raise ValueError(
                    f"refit=False needs a single split to take the classifier from, and cv gives {len(splits)}; pass a "
                    "share such as cv=0.2, or refit=True."
                )
            # first of all, so that what is wrong with the data shows before the folds are trained
            fitted = clone(self.estimator).fit(X, given, **fit_params) if self.refit else None
            parts = Parallel(n_jobs=self.n_jobs)(
                delayed(_fit_and_predict)(clone(self.estimator), X, given, fit_params, train, test, not self.refit)
                for train, test in splits
            )
            rows = np.concatenate([np.arange(n)[test] for _, test in splits])
            proba = np.concatenate([part[0] for part in parts])
            fitted = fitted if self.refit else parts[0][1]
        row_weight = None if weight is None else weight[rows]
        thresholds = tune_thresholds(
            indicator[rows],
            proba,
            metric=self.scoring,
            candidates=candidates,
            sample_weight=row_weight,
            label_names=names,
        )
        label_names = np.empty(len(names), object)
        label_names[:] = names
        results = {
            "estimator_": fitted,
            "best_thresholds_": thresholds,
            "best_score_": _reached(indicator[rows], proba, thresholds, self.scoring, row_weight),
            "classes_": np.tile(np.array([0, 1]), (len(names), 1)),
            "label_names_": label_names,
        }
        if self.store_cv_results:
            results["cv_results_"] = _curves(indicator[rows], proba, candidates, self.scoring, row_weight)
        self.__dict__.pop("cv_results_", None)
        self.__dict__.update(results)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give the probability of each label.

        Parameters
        ----------
        X : sequence of length n
            What `estimator` takes.

        Returns
        -------
        ndarray of float64, shape (n, n_labels)
            Probabilities, as a matrix whatever form `estimator` gives them in.
        """
        check_is_fitted(self)
        return probabilities(self.estimator_, X, len(self.label_names_))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Decide on each label by its threshold.

        Parameters
        ----------
        X : sequence of length n
            What `estimator` takes.

        Returns
        -------
        ndarray of int64, shape (n, n_labels)
            1 where the probability reaches the label's threshold.
        """
        check_is_fitted(self)
        return decide(self.predict_proba(X), check_thresholds(self.best_thresholds_, self.label_names_.tolist()))

    def predict_labels(self, X: Any) -> list[tuple[Any, ...]]:
        """Give the names of the labels of each row.

        Parameters
        ----------
        X : sequence of length n
            What `estimator` takes.

        Returns
        -------
        list of tuple
            The names of the labels predicted, in the order of `label_names_`.
        """
        return [tuple(self.label_names_[row > 0].tolist()) for row in self.predict(X)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the share of rows with all labels right (subset accuracy), as scikit-learn does.

        Parameters
        ----------
        X : sequence of length n
            What `estimator` takes.
        y : array-like of shape (n, n_labels), or n label lists or sets
            True labels; an entry that is unknown (NaN) is right either way.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row in the mean.

        Returns
        -------
        float
            From 0 to 1.
        """
        check_is_fitted(self)
        return exact_match(y, self.predict(X), self.label_names_, sample_weight)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X, if `estimator` has counted them."""
        check_is_fitted(self)
        return int(self.estimator_.n_features_in_)

    def get_metadata_routing(self) -> Any:
        """Tell what is passed on to whom, for scikit-learn's metadata routing.

        Returns
        -------
        MetadataRouter
            The requests of the estimator, of the splitter and of this estimator itself.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        if hasattr(self.cv, "split") and hasattr(get_routing_for_object(self.cv), "split"):
            router.add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router

    def _routed(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give what the fit of the estimator and what the splitter gets."""
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
                f"got {cv!r}."
            )
        return check_cv(cv, y)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_thresholds_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def _fit_and_predict(
    estimator: Any, X: Any, y: Any, fit_params: dict[str, Any], train: Any, test: Any, keep: bool
) -> tuple[NDArray[np.float64], Any]:
    n, n_labels = y.shape
    params = {
        name: _safe_indexing(value, train) if hasattr(value, "__len__") and _length(value) == n else value
        for name, value in fit_params.items()
    }
    estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **params)
    return probabilities(estimator, _safe_indexing(X, test), n_labels), estimator if keep else None


def _length(value: Any) -> int:
    return -1 if isinstance(value, (str, bytes, dict)) else _num_samples(value)


def probabilities(estimator: Any, X: Any, n_labels: int) -> NDArray[np.float64]:
    """Give the probabilities of any multi-label classifier as one matrix.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier with ``predict_proba``.
    X : sequence of length n
        What it takes.
    n_labels : int
        Number of labels.

    Returns
    -------
    ndarray of float64, shape (n, n_labels)
        Probability of each label.

    Raises
    ------
    ValueError
        If it gives another number of columns.
    """
    found = estimator.predict_proba(X)
    if n_labels == 1 and np.ndim(found) == 2 and np.shape(found)[1] == 2:
        found = [found]
    proba = np.asarray(label_columns(found, getattr(estimator, "classes_", None)), np.float64)
    if proba.ndim != 2 or proba.shape[1] != n_labels:
        raise ValueError(
            f"predict_proba of {type(estimator).__name__} gave the shape {proba.shape} for {n_labels} labels; a "
            "multi-label classifier was expected, with one probability per label."
        )
    return proba


def _reached(
    y: NDArray[np.float32], proba: NDArray[np.float64], thresholds: NDArray[np.float64], scoring: Any, weight: Any
) -> float:
    decided = proba >= thresholds
    if isinstance(scoring, str):
        return f1_score(y, decided, average=scoring.removeprefix("f1_"), sample_weight=weight)
    n_with = (y == 1).sum(axis=1) @ (np.ones(len(y)) if weight is None else weight)
    right = ((y == 1) & decided).sum(axis=1) @ (np.ones(len(y)) if weight is None else weight)
    return float(right / n_with) if n_with else 0.0


def _curves(
    y: NDArray[np.float32], proba: NDArray[np.float64], candidates: NDArray[np.float64], scoring: Any, weight: Any
) -> dict[str, NDArray[np.float64]]:
    curves = Curves.of(y, proba, candidates, weight)
    if isinstance(scoring, str):
        scores, label_scores = curves.common_scores(scoring), curves.f1()
    else:
        scores = curves.right.sum(0) / np.clip(curves.predicted.sum(0), 1e-12, None)
        label_scores = curves.right / np.clip(curves.predicted, 1e-12, None)
    return {"thresholds": candidates, "scores": scores, "label_scores": label_scores}
