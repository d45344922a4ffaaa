"""What scikit-learn asks of an estimator, and its tools working on ours.

The common tests of scikit-learn generate numbers, so they see the classifier through an adapter that writes each row
as words. Those that cannot apply are named below with the reason, and fail the suite if they begin to pass.
"""

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier
from numeric_adapter import MINI_BATCHES, LearnsFromNumbers, ReadsNumbers, set_defaults, words
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer, make_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier

DIRECT = [
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_unfitted",
]


@pytest.mark.parametrize("estimator", [ULMFiTMultiLabelClassifier(), ULMFiTLanguageModel()], ids=["classifier", "lm"])
@pytest.mark.parametrize("name", DIRECT)
def test_direct_checks(name, estimator):
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


class OnNumbers(LearnsFromNumbers, ULMFiTMultiLabelClassifier):
    def predict_proba(self, X):
        return super().predict_proba(self.texts_of(X))


set_defaults(OnNumbers, ULMFiTMultiLabelClassifier())

_NEEDS_1D = "trains on a 1-D or multiclass y; only indicator matrices and label lists are targets here"
EXPECTED_FAILURES = {
    "check_classifiers_one_label_sample_weights": _NEEDS_1D,
    "check_sample_weight_equivalence_on_dense_data": MINI_BATCHES,
    "check_sample_weights_not_an_array": _NEEDS_1D,
    "check_sample_weights_not_overwritten": _NEEDS_1D,
    "check_sample_weights_pandas_series": _NEEDS_1D,
    "check_sample_weights_shape": _NEEDS_1D,
    "check_classifier_data_not_an_array": _NEEDS_1D,
    "check_classifier_not_supporting_multiclass": _NEEDS_1D,
    "check_classifiers_classes": _NEEDS_1D + ", and compares classes_ with the values of a 1-D y",
    "check_classifiers_one_label": _NEEDS_1D,
    "check_classifiers_train": _NEEDS_1D,
    "check_estimators_dtypes": _NEEDS_1D,
    "check_fit2d_1feature": _NEEDS_1D,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([OnNumbers()], expected_failed_checks=lambda estimator: EXPECTED_FAILURES, xfail_strict=True)
def test_common_checks_through_numbers(estimator, check):
    check(estimator)


class VectorsOfNumbers(ReadsNumbers, ULMFiTLanguageModel):
    def __init__(self, max_epochs=1, random_state=0):
        super().__init__(
            None, max_epochs=max_epochs, emb_dim=4, hidden_dim=6, n_layers=2, bptt=16, random_state=random_state
        )

    def fit(self, X, y=None):
        return super().fit(words(validate_data(self, X)))

    def transform(self, X):
        return super().transform(self.texts_of(X))

    def score(self, X, y=None):
        return super().score(self.texts_of(X))


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([VectorsOfNumbers()])
def test_common_checks_of_the_transformer_through_numbers(estimator, check):
    check(estimator)


def test_expected_failures_are_checks_that_exist():
    names = {check.func.__name__ for _, check in estimator_checks.estimator_checks_generator(OnNumbers(), legacy=True)}
    assert EXPECTED_FAILURES.keys() <= names


# --- scikit-learn's tools at every number of labels --------------------------

SCORERS = [
    "f1_micro", "f1_macro", "f1_weighted", "f1_samples", "precision_micro", "recall_macro", "jaccard_samples",
    "accuracy", "roc_auc", "average_precision",
]  # fmt: skip


@pytest.fixture(scope="module")
def by_n_labels():
    models = {}
    for n in (1, 2, 3, 5):
        texts = make_corpus(40)[0]
        y = np.random.default_rng(n).integers(0, 2, (40, n))
        models[n] = tiny_classifier(max_epochs=1).fit(texts, y), texts, y
    return models


@pytest.mark.parametrize("n_labels", [1, 2, 3, 5])
@pytest.mark.parametrize("scoring", SCORERS)
def test_scorers(by_n_labels, n_labels, scoring):
    if n_labels == 1 and scoring.endswith("samples"):
        pytest.skip("scikit-learn takes a single label for binary and has no per-sample average for it")
    clf, texts, y = by_n_labels[n_labels]
    value = get_scorer(scoring)(clf, texts, y)
    assert np.isfinite(value)
    if scoring == "roc_auc":
        assert value == pytest.approx(roc_auc_score(y, clf.predict_proba(texts)))
    if scoring == "accuracy":
        assert value == pytest.approx((clf.predict(texts) == y).all(1).mean()) == clf.score(texts, y)


@pytest.mark.parametrize("n_labels", [1, 2, 3, 5])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_cross_val_predict(n_labels, method):
    texts = make_corpus(24)[0]
    y = np.random.default_rng(n_labels).integers(0, 2, (24, n_labels))
    clf = tiny_classifier(max_epochs=1)
    cv = KFold(2, shuffle=True, random_state=0)
    out = cross_val_predict(clf, texts, y, cv=cv, method=method)
    assert out.shape == y.shape
    train, test = next(cv.split(texts))
    by_hand = clone(clf).fit([texts[i] for i in train], y[train])
    assert np.allclose(out[test], getattr(by_hand, method)([texts[i] for i in test]))


@pytest.fixture(scope="module")
def data():
    texts, labels = make_corpus(30)
    return texts, MultiLabelBinarizer().fit_transform(labels)


def test_pipeline(data):
    texts, y = data
    tidy = FunctionTransformer(lambda X: [text.replace("!", "") for text in X])
    pipe = Pipeline([("tidy", tidy), ("clf", tiny_classifier())]).fit(texts, y)
    assert pipe.predict(texts).shape == y.shape
    assert pipe.predict_proba(texts).shape == y.shape
    assert 0 <= pipe.score(texts, y) <= 1
    pipe.fit(texts, y, clf__unlabelled_texts=["zebra"])
    assert "zebra" in pipe["clf"].vocabulary_


def test_grid_search_over_thresholds(data):
    search = GridSearchCV(
        make_pipeline(tiny_classifier(max_epochs=1)),
        {"ulmfitmultilabelclassifier__threshold": [1.0, [0.0, 1.0, 1.0], np.zeros(3)]},
        scoring="f1_micro",
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(*data)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.cv_results_["mean_test_score"][0] == 0 < search.best_score_
    assert search.best_params_["ulmfitmultilabelclassifier__threshold"] is not None


def test_grid_search_over_training_parameters_in_workers(data):
    def search(n_jobs):
        grid = {"lr": [1e-4, 0.05], "language_model__emb_dim": [8]}
        cv = KFold(2, shuffle=True, random_state=0)
        return GridSearchCV(tiny_classifier(), grid, scoring="average_precision", cv=cv, n_jobs=n_jobs).fit(*data)

    alone, together = search(1), search(2)
    assert alone.cv_results_["mean_test_score"] == pytest.approx(together.cv_results_["mean_test_score"])
    assert together.best_estimator_.net_.module_.encoder.embedding.embedding_dim == 8
    assert together.predict(data[0]).shape == data[1].shape


def test_cross_validation_tools(data):
    texts, y = data
    clf = tiny_classifier(max_epochs=1)
    scores = cross_validate(clf, texts, y, cv=2, scoring=["f1_micro", "roc_auc"], return_estimator=True)
    assert np.isfinite(scores["test_f1_micro"]).all()
    assert len(scores["estimator"]) == 2
    assert cross_val_score(clf, np.array(texts), y, cv=2, scoring="f1_macro").shape == (2,)
    _sizes, _, held_out = learning_curve(clf, texts, y, cv=2, train_sizes=[0.5, 1.0], scoring="f1_micro")
    assert held_out.shape == (2, 2)
    search = RandomizedSearchCV(clf, {"threshold": [0.1, 0.2, 0.3]}, n_iter=2, cv=2, random_state=0).fit(texts, y)
    assert search.best_params_["threshold"] in (0.1, 0.2, 0.3)
    assert cross_val_score(DummyClassifier(), texts, y, cv=2).shape == (2,)


def test_multi_label_binarizer_round_trip():
    texts, labels = make_corpus(40)
    binarizer = MultiLabelBinarizer()
    clf = tiny_classifier().fit(texts, binarizer.fit_transform(labels))
    named = tiny_classifier().fit(texts, labels)
    assert binarizer.inverse_transform(clf.predict(texts)) == named.predict_labels(texts)


def test_frozen_estimator(fitted, data):
    frozen = FrozenEstimator(fitted)
    assert clone(frozen) is frozen
    assert np.array_equal(frozen.fit(*data).predict(data[0]), fitted.predict(data[0]))


def test_set_params_never_touches_a_fitted_net(fitted, data):
    import copy

    clf = copy.deepcopy(fitted)
    before = clf.predict_proba(data[0])
    clf.set_params(lr=1.0, max_epochs=1, batch_size=2, bptt=3, language_model__hidden_dim=4, random_state=5)
    assert np.abs(clf.predict_proba(data[0]) - before).max() < 1e-6


def test_clone_of_a_fitted_classifier_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "net_")
    assert repr(twin) == repr(fitted)
    assert clone(tiny_classifier(language_model=None)).get_params() == tiny_classifier(language_model=None).get_params()


def test_custom_scorer_over_probabilities(data, fitted):
    texts, y = data
    best = make_scorer(lambda y, p: y[np.arange(len(y)), p.argmax(1)].mean(), response_method="predict_proba")
    assert 0 <= best(fitted, texts, y) <= 1
