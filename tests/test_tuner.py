import warnings
from typing import ClassVar

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.svm import LinearSVC

from sk_ulmfit import MultiLabelStratifiedKFold, MultiLabelThresholdTuner
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.labels import NamedIndicator, check_labels
from sk_ulmfit.metrics import exact_match
from sk_ulmfit.thresholds import tune_thresholds

X, Y = make_multilabel_classification(400, n_classes=6, n_labels=1, random_state=0)
X = X / X.max()
TRAIN, TEST = slice(0, 200), slice(200, 400)
CAUTIOUS = LogisticRegression(C=1e-3)  # its probabilities are near the base rates
LINEAR = OneVsRestClassifier(LogisticRegression(C=100))


class Counted(ClassifierMixin, BaseEstimator):
    """A classifier that only counts; probabilities are the first columns of X."""

    trainings: ClassVar = []

    def fit(self, X, y, sample_weight=None, more=None):
        self.trainings.append((X, y, sample_weight, more))
        self.fitted_ = True
        return self

    def predict_proba(self, X):
        return np.asarray(X)[:, :3]


@pytest.fixture
def counted():
    Counted.trainings = []
    return Counted()


def test_thresholds_are_those_for_out_of_fold_probabilities():
    cv = KFold(4, shuffle=True, random_state=0)
    tuner = MultiLabelThresholdTuner(LINEAR, cv=cv).fit(X, Y)
    expected = tune_thresholds(Y, cross_val_predict(LINEAR, X, Y, cv=cv, method="predict_proba"))
    np.testing.assert_allclose(tuner.best_thresholds_, expected)
    whole = clone(LINEAR).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(tuner.predict_proba(X), whole)
    np.testing.assert_array_equal(tuner.predict(X), whole >= expected)


@pytest.mark.parametrize(
    "estimator",
    [OneVsRestClassifier(CAUTIOUS), MultiOutputClassifier(CAUTIOUS), RandomForestClassifier(50, random_state=0)],
)
def test_it_raises_f1_on_other_texts_whatever_the_form_of_probabilities(estimator):
    plain = clone(estimator).fit(X[TRAIN], Y[TRAIN]).predict(X[TEST])
    tuner = MultiLabelThresholdTuner(estimator, random_state=0).fit(X[TRAIN], Y[TRAIN])
    proba = tuner.predict_proba(X[TEST])
    assert proba.shape == (200, 6)
    assert (
        f1_score(Y[TEST], tuner.predict(X[TEST]), average="macro")
        > f1_score(Y[TEST], plain, average="macro", zero_division=0) + 0.02
    )


def test_what_it_optimises_is_what_it_reaches():
    fit = {
        scoring: MultiLabelThresholdTuner(LINEAR, scoring=scoring, random_state=0).fit(X, Y)
        for scoring in ("f1_micro", "f1_samples", "tune", 0.8)
    }
    cv = MultiLabelStratifiedKFold(5, shuffle=True, random_state=0)
    rows = np.concatenate([test for _, test in cv.split(X, Y)])
    proba = np.concatenate([clone(LINEAR).fit(X[a], Y[a]).predict_proba(X[b]) for a, b in cv.split(X, Y)])
    for scoring, average in (("f1_micro", "micro"), ("f1_samples", "samples"), ("tune", "micro")):
        decided = (proba >= fit[scoring].best_thresholds_).astype(int)
        reached = f1_score(Y[rows], decided, average=average, zero_division=0)
        assert fit[scoring].best_score_ == pytest.approx(reached)
        assert reached > f1_score(Y[rows], proba >= 0.5, average=average, zero_division=0)
    decided = (proba >= fit[0.8].best_thresholds_).astype(int)
    assert precision_score(Y[rows], decided, average="micro") > 0.75
    assert fit[0.8].best_score_ == pytest.approx(decided[Y[rows] == 1].mean())


def test_it_trains_once_per_fold_and_once_on_everything(counted):
    MultiLabelThresholdTuner(counted, cv=5).fit(X, Y[:, :3])
    assert sorted(len(given[0]) for given in counted.trainings) == [320] * 5 + [400]


def test_a_single_split_without_refit_and_a_fitted_classifier(counted):
    scores = X
    tuner = MultiLabelThresholdTuner(counted, cv=0.25, refit=False, random_state=0).fit(scores, Y[:, :3])
    assert [len(given[0]) for given in counted.trainings] == [300]
    assert tuner.estimator_ is not counted
    counted.fit(scores[:10], Y[:10, :3])
    tuner = MultiLabelThresholdTuner(counted, cv="prefit").fit(scores, Y[:, :3])
    assert len(counted.trainings) == 2
    assert tuner.estimator_ is counted
    np.testing.assert_allclose(tuner.best_thresholds_, tune_thresholds(Y[:, :3], scores[:, :3]))


def test_what_comes_with_the_rows_is_divided_among_the_folds(counted):
    weight = np.arange(1.0, 401.0)
    tuner = MultiLabelThresholdTuner(counted, cv=KFold(2))
    tuner.fit(X, Y[:, :3], sample_weight=weight, more=["a text", "another"])
    for rows, _, w, more in counted.trainings:
        assert more == ["a text", "another"]
        np.testing.assert_array_equal(w, weight[[np.flatnonzero((row == X).all(axis=1))[0] for row in rows]])


def test_weights_count_in_the_choice(counted):
    scores, y = X[:60], Y[:60, :3]
    weight = np.random.default_rng(0).integers(0, 3, 60)
    cv = [(np.arange(60), np.arange(60))]
    found = MultiLabelThresholdTuner(counted, cv=cv).fit(scores, y, sample_weight=weight).best_thresholds_
    np.testing.assert_allclose(found, tune_thresholds(y, scores[:, :3], sample_weight=weight))
    assert np.abs(found - tune_thresholds(y, scores[:, :3])).max() > 1e-3


def test_metadata_routing_without_metadata():
    with sklearn.config_context(enable_metadata_routing=True):
        assert MultiLabelThresholdTuner(LINEAR, cv=2).fit(X, Y).predict(X).shape == Y.shape


def test_metadata_routing():
    weight = np.random.default_rng(0).random(400)
    with sklearn.config_context(enable_metadata_routing=True):
        asks = Counted().set_fit_request(sample_weight=True)
        Counted.trainings = []
        tuner = MultiLabelThresholdTuner(asks, cv=2).set_fit_request(sample_weight=True)
        tuner.fit(X, Y[:, :3], sample_weight=weight)
        assert all(given[2] is not None for given in Counted.trainings)
        with pytest.raises(Exception, match="sample_weight"):
            MultiLabelThresholdTuner(Counted(), cv=2).fit(X, Y[:, :3], sample_weight=weight)


def test_the_classifier_of_this_package_with_label_lists_and_unknown_entries():
    texts, labels = make_corpus(40)
    clf = tiny_classifier(language_model=tiny_lm(max_epochs=0), max_epochs=2)
    tuner = MultiLabelThresholdTuner(clf, cv=2, random_state=0).fit(texts, labels)
    assert list(tuner.label_names_) == list(tuner.estimator_.label_names_) == ["billing", "delivery", "technical"]
    right = [set(a) == set(b) for a, b in zip(labels, tuner.predict_labels(texts), strict=True)]
    assert tuner.score(texts, labels) == pytest.approx(np.mean(right))
    frame = pd.DataFrame({"late": [len(row) > 1 for row in labels], "all": [i % 3 == 0 for i in range(40)]}).astype(int)
    named = MultiLabelThresholdTuner(clone(clf).set_params(pos_weight={"late": 2.0}), cv=2).fit(texts, frame)
    assert named.estimator_.label_names_.tolist() == ["late", "all"]
    assert set(sum(tuner.predict_labels(texts), ())) <= {"billing", "delivery", "technical"}
    y = MultiLabelBinarizer().fit_transform(labels).astype(float)
    y[::4, 0] = np.nan
    partly = MultiLabelThresholdTuner(clf, cv=2, random_state=0).fit(texts, y, unlabelled_texts=["more"])
    assert partly.predict(texts).shape == y.shape


class Named(ClassifierMixin, BaseEstimator):
    """A classifier that notes the names and the matrix of every fit and predicts base rates."""

    fits: ClassVar = []

    def fit(self, X, y):
        indicator, names = check_labels(y)
        self.fits.append((names, np.shape(y), isinstance(y, np.ndarray)))
        self.label_names_, self.rates_ = np.array(names, object), (indicator == 1).mean(axis=0)
        return self

    def predict_proba(self, X):
        return np.tile(self.rates_, (len(X), 1))

    def score(self, X, y):
        return exact_match(y, self.predict_proba(X) > 0.5, self.label_names_)


ROWS = [{"billing"}, {"delivery", "billing"}, set(), {"delivery"}, {"rare"}, {"billing"}, {"delivery"}, set()]
NAMES = ["billing", "delivery", "rare"]
MATRIX = np.array([[int(name in row) for name in NAMES] for row in ROWS])
FORMS = {
    "lists": [sorted(row) for row in ROWS],
    "tuples": [tuple(row) for row in ROWS],
    "sets": ROWS,
    "series": pd.Series([sorted(row) for row in ROWS], index=range(8, 0, -1)),
    "numbers": [{NAMES.index(name) + 7 for name in row} for row in ROWS],
    "pandas": pd.DataFrame(MATRIX, columns=NAMES),
    "polars": pl.DataFrame(dict(zip(NAMES, MATRIX.T, strict=True))),
    "named indicator": NamedIndicator(NAMES, MATRIX),
    "unknown entries": NamedIndicator(NAMES, np.where(MATRIX + np.eye(8, 3), MATRIX, np.nan)),
}
INSIDE = {
    "itself": lambda: Named(),
    "pipeline": lambda: make_pipeline(FunctionTransformer(), Named()),
    "search": lambda: GridSearchCV(Named(), {}, cv=KFold(2)),
    "tuner": lambda: MultiLabelThresholdTuner(Named(), cv=KFold(2)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("inside", INSIDE)
@pytest.mark.parametrize("form", FORMS)
def test_names_reach_every_estimator_inside(form, inside):
    Named.fits = []
    names = [7, 8, 9] if form == "numbers" else NAMES
    tuner = MultiLabelThresholdTuner(INSIDE[inside](), cv=KFold(4)).fit(np.zeros((8, 1)), FORMS[form])
    assert tuner.label_names_.tolist() == names
    assert len(Named.fits) >= 5
    for seen, shape, is_array in Named.fits:
        assert seen == names
        assert shape[1] == 3
        assert is_array == (form not in ("pandas", "polars"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=2, max_size=8).filter(any), st.booleans(), st.data())
def test_a_fold_in_which_a_label_does_not_occur_has_all_columns(rows, as_sets, data):
    n_splits = data.draw(st.integers(2, len(rows)))
    Named.fits = []
    y = rows if as_sets else [sorted(row) for row in rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MultiLabelThresholdTuner(Named(), cv=KFold(n_splits)).fit(np.zeros((len(rows), 1)), y)
    assert [names for names, _, _ in Named.fits] == [sorted(set().union(*rows))] * (n_splits + 1)


@pytest.mark.parametrize("estimator", [LINEAR, MultiOutputClassifier(CAUTIOUS), KNeighborsClassifier()])
def test_classifiers_that_know_no_names_get_the_same_matrix(estimator):
    named = pd.DataFrame(Y, columns=list("abcdef"))
    lists = [[name for name, has in zip("abcdef", row, strict=True) if has] for row in Y]
    wanted = MultiLabelThresholdTuner(estimator, cv=2, random_state=0).fit(X, Y)
    for y in (named, lists, NamedIndicator("abcdef", Y), [set(row) for row in lists]):
        tuner = MultiLabelThresholdTuner(estimator, cv=2, random_state=0).fit(X, y)
        assert np.array_equal(tuner.best_thresholds_, wanted.best_thresholds_)
        assert np.array_equal(tuner.predict(X), wanted.predict(X))
        assert tuner.label_names_.tolist() == list("abcdef")


def test_warnings_of_folds_name_labels():
    texts, labels = make_corpus(24)
    labels = [[*row, "rare"] if i == 5 else row for i, row in enumerate(labels)]
    clf = tiny_classifier(language_model=tiny_lm(max_epochs=0), max_epochs=1)
    with pytest.warns(UserWarning, match=r"1 of 4 labels are the same for all 12 training texts: 'rare' \(always 0\)"):
        tuner = MultiLabelThresholdTuner(clf, cv=KFold(2)).fit(texts, labels)
    assert tuner.estimator_.label_names_.tolist() == ["billing", "delivery", "rare", "technical"]


def test_warnings_of_other_classifiers_name_labels_too():
    y = [["late"] if i % 2 else ["lost"] for i in range(12)]
    y[3] = ["late", "rare"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MultiLabelThresholdTuner(LINEAR, cv=KFold(2)).fit(X[:12], y)
    shown = {str(warning.message) for warning in caught}
    assert any("every row lacks the label 'rare', so its probability there is 0" in message for message in shown)
    assert not any("Label" in message for message in shown)


@pytest.mark.parametrize("wrap", [lambda fitted: fitted, lambda fitted: make_pipeline(fitted)])
def test_prefit_names_are_found(wrap, fitted):
    texts, labels = make_corpus(20, seed=3)
    some = [i for i, row in enumerate(labels) if "billing" not in row]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner = MultiLabelThresholdTuner(wrap(fitted), cv="prefit")
        tuner.fit([texts[i] for i in some], [labels[i] for i in some])
    assert tuner.label_names_.tolist() == ["billing", "delivery", "technical"]


@pytest.mark.parametrize(("scoring", "same"), [({"precision": 0.8}, 0.8), ({"precision": 0.4}, 0.4)])
def test_scoring_is_spelled_as_the_threshold_of_the_classifier(scoring, same):
    one, other = (
        MultiLabelThresholdTuner(LINEAR, scoring=kind, cv=2, random_state=0, store_cv_results=True).fit(X, Y)
        for kind in (scoring, same)
    )
    assert np.array_equal(one.best_thresholds_, other.best_thresholds_)
    assert one.best_score_ == other.best_score_
    assert np.array_equal(one.cv_results_["scores"], other.cv_results_["scores"])


def test_in_a_search_in_cross_validation_and_with_workers():
    texts, labels = make_corpus(80)
    y = MultiLabelBinarizer().fit_transform(labels)
    pipe = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
    tuner = MultiLabelThresholdTuner(pipe, cv=2, n_jobs=2, random_state=0)
    plain, tuned = (
        cross_val_score(model, texts, y, scoring="f1_macro", cv=2, error_score="raise").mean()
        for model in (pipe, tuner)
    )
    assert tuned > plain
    grid = {"estimator__onevsrestclassifier__estimator__C": [1e-6, 10], "scoring": ["f1_micro"]}
    search = GridSearchCV(tuner, grid, scoring="average_precision", cv=2, error_score="raise").fit(texts, y)
    assert search.best_params_["estimator__onevsrestclassifier__estimator__C"] == 10
    assert search.best_estimator_.predict(texts).shape == y.shape


def test_results_of_all_thresholds_are_kept_on_demand():
    tuner = MultiLabelThresholdTuner(LINEAR, thresholds=[0.1, 0.5, 0.9], store_cv_results=True).fit(X, Y)
    results = tuner.cv_results_
    assert results["thresholds"].tolist() == [0.1, 0.5, 0.9]
    assert results["scores"].shape == (3,)
    assert results["label_scores"].shape == (6, 3)
    assert results["scores"][1] == pytest.approx(results["label_scores"][:, 1].mean())
    assert not hasattr(MultiLabelThresholdTuner(LINEAR).fit(X, Y), "cv_results_")
    precise = MultiLabelThresholdTuner(LINEAR, scoring=0.7, thresholds=9, store_cv_results=True).fit(X, Y).cv_results_
    assert len(precise["thresholds"]) == 9
    assert precise["scores"][-2] > precise["scores"][2]


def test_a_label_that_a_fold_lacks():
    y = np.column_stack([Y[:, 0], np.arange(400) == 5])
    forest = RandomForestClassifier(20, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner = MultiLabelThresholdTuner(forest, cv=KFold(4)).fit(X, y)
    assert tuner.predict_proba(X).shape == (400, 2)


@pytest.mark.parametrize("form", ["sets", "sparse"])
def test_forms_of_labels_that_scikit_learn_does_not_take(form):
    y = [set(np.flatnonzero(row)) for row in Y] if form == "sets" else sparse.csr_matrix(Y)
    forest = RandomForestClassifier(10, random_state=0)
    tuner = MultiLabelThresholdTuner(forest, cv=2, random_state=0).fit(X, y)
    expected = MultiLabelThresholdTuner(forest, cv=2, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(tuner.best_thresholds_, expected.best_thresholds_)
    assert tuner.n_features_in_ == 20


def test_labels_of_a_table_of_this_package():
    table = load_support_messages("train")
    pipe = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(LogisticRegression()))
    tuner = MultiLabelThresholdTuner(pipe, cv=2, random_state=0).fit(table.texts, table.named_indicator())
    assert tuner.label_names_.tolist() == table.label_names


def test_prefit_labels_are_put_where_the_classifier_has_them(fitted):
    texts, labels = make_corpus(40, seed=3)
    some = [i for i, row in enumerate(labels) if "billing" not in row]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuner = MultiLabelThresholdTuner(fitted, cv="prefit").fit([texts[i] for i in some], [labels[i] for i in some])
    assert tuner.label_names_.tolist() == fitted.label_names_.tolist() == ["billing", "delivery", "technical"]
    with pytest.raises(ValueError, match="y has the unknown label 'zebra'"):
        MultiLabelThresholdTuner(fitted, cv="prefit").fit(texts, [["zebra"]] * 40)


def test_one_label_in_a_column():
    tuner = MultiLabelThresholdTuner(OneVsRestClassifier(LogisticRegression()), cv=2).fit(X, Y[:, :1])
    assert tuner.predict(X).shape == (400, 1)


def test_an_interrupted_fit_leaves_it_as_it_was(counted, monkeypatch):
    tuner = MultiLabelThresholdTuner(counted, cv=2).fit(X, Y[:, :3])
    before = tuner.best_thresholds_

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Counted, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tuner.fit(X, Y[:, :3])
    assert tuner.best_thresholds_ is before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"estimator": OneVsRestClassifier(LinearSVC())}, "must have predict_proba, and OneVsRestClassifier has none"),
        ({"scoring": "accuracy"}, "scoring must be one of 'f1_macro'"),
        ({"scoring": {"precision": -1}}, "scoring, as a precision, must be a number from 0 to 1"),
        ({"scoring": {"recall": 0.9}}, "scoring must be one of 'f1_macro'"),
        ({"scoring": 1.5}, "scoring, as a precision, must be a number from 0 to 1"),
        ({"thresholds": [0.5, 2]}, "thresholds must be numbers between 0 and 1"),
        ({"thresholds": 1}, "thresholds must be an integer from 2 to 10000"),
        ({"thresholds": np.linspace(0, 1, 20_000)}, "at most 10000 numbers, got 20000"),
        ({"cv": 1.5}, "cv, as a share, must be a number between 0 and 1"),
        ({"cv": "fit"}, "cv must be a number of folds, a share, 'prefit'"),
        ({"cv": 3, "refit": False}, "refit=False needs a single split"),
        ({"cv": 500}, "500"),
    ],
)
def test_wrong_parameters(counted, params, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelThresholdTuner(**{"estimator": counted, **params}).fit(X, Y[:, :3])
    assert counted.trainings == []


def test_wrong_data(counted):
    with pytest.raises(ValueError, match="X has 400 rows, but y has 3"):
        MultiLabelThresholdTuner(counted).fit(X, Y[:3])
    with pytest.raises(ValueError, match=r"gave the shape \(\d+, 3\) for 6 labels"):
        MultiLabelThresholdTuner(counted).fit(X, Y)
    with pytest.raises(NotFittedError):
        MultiLabelThresholdTuner(counted).predict(X)
    with pytest.raises(NotFittedError):
        MultiLabelThresholdTuner(LINEAR, cv="prefit").fit(X, Y)
    with pytest.raises(ValueError, match="y should be a 2-D indicator matrix"):
        MultiLabelThresholdTuner(counted).fit(X, Y[:, 0])
