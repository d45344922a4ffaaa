"""Values on a scale: the estimator, scikit-learn's common tests and tools, ranges, losses, files, bad input."""

import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import make_corpus, tiny_lm, with_vector
from numeric_adapter import MINI_BATCHES, LearnsFromNumbers, set_defaults
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import get_scorer, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_sklearn_contract import DIRECT

from sk_ulmfit import ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.explain.attribution import Document, evaluation_mode, integrated_gradients
from sk_ulmfit.models.state import ModelFileError
from sk_ulmfit.training import stages
from sk_ulmfit.training.task import task_of

TEXTS, LABELS = make_corpus(60, seed=3)
STARS = np.array([5.0 - 2 * len(labels) + ("delivery" in labels) for labels in LABELS])
Y = np.column_stack([STARS, [100.0 * ("technical" in labels) for labels in LABELS]])


def tiny_regressor(**params):
    settings = {
        "language_model": tiny_lm(),
        "max_epochs": 2,
        "lr": 0.03,
        "batch_size": 8,
        "bptt": 10,
        "tfidf": False,
        "random_state": 0,
    }
    return ULMFiTRegressor(**{**settings, **params})


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(random_state=0).fit(TEXTS), path, dim=8)
    return path


@pytest.fixture(scope="module")
def fitted(start):
    """A regressor of two targets that has learned its texts well; tests must not change it."""
    return linear(start).fit(TEXTS, pd.DataFrame(Y, columns=["stars", "broken"]))


def linear(start, **params):
    """A regressor that trains a linear head and a ridge regression, in a moment."""
    return ULMFiTRegressor(start, random_state=0, **params)


# --- scikit-learn's common tests ---------------------------------------------


@pytest.mark.parametrize("name", DIRECT)
def test_direct_checks(name):
    getattr(estimator_checks, name)("ULMFiTRegressor", ULMFiTRegressor())


class OnNumbers(LearnsFromNumbers, ULMFiTRegressor):
    def predict(self, X):
        return super().predict(self.texts_of(X))


set_defaults(OnNumbers, ULMFiTRegressor())

EXPECTED_FAILURES = {"check_sample_weight_equivalence_on_dense_data": MINI_BATCHES}


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks([OnNumbers()], expected_failed_checks=lambda estimator: EXPECTED_FAILURES, xfail_strict=True)
def test_common_checks_through_numbers(estimator, check):
    check(estimator)


def test_expected_failures_are_checks_that_exist():
    names = {check.func.__name__ for _, check in estimator_checks.estimator_checks_generator(OnNumbers(), legacy=True)}
    assert EXPECTED_FAILURES.keys() <= names


# --- scikit-learn's tools ----------------------------------------------------


def test_grid_search(start):
    cv = KFold(2, shuffle=True, random_state=0)
    grid = {"ulmfitregressor__tfidf": [True, False]}
    search = GridSearchCV(make_pipeline(linear(start)), grid, cv=cv).fit(TEXTS, Y)
    assert search.cv_results_["mean_test_score"].shape == (2,)
    assert search.best_score_ > 0
    assert search.predict(TEXTS[:3]).shape == (3, 2)


def test_cross_validation_with_scorers_of_several_targets(start):
    scoring = ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error", "explained_variance"]
    scores = cross_validate(linear(start), TEXTS, Y, cv=2, scoring=scoring)
    assert all(np.isfinite(scores[f"test_{name}"]).all() for name in scoring)


def test_pipeline(start):
    tidy = FunctionTransformer(lambda X: [text.replace("!", "") for text in X])
    pipe = Pipeline([("tidy", tidy), ("model", linear(start))]).fit(TEXTS, STARS, model__sample_weight=np.ones(60))
    assert pipe.predict(TEXTS).shape == (60,)
    assert pipe.score(TEXTS, STARS) > 0.5


def test_transformed_targets(start):
    model = TransformedTargetRegressor(linear(start), transformer=StandardScaler())
    plain = linear(start).fit(TEXTS, STARS)
    np.testing.assert_allclose(model.fit(TEXTS, STARS).predict(TEXTS), plain.predict(TEXTS), atol=0.1)


def test_a_clone_is_unfitted_with_equal_parameters(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "target_names_")
    assert repr(twin) == repr(fitted)
    assert clone(linear(None, y_range=(1, 5))).y_range == (1, 5)


# --- what it learns and predicts ---------------------------------------------


def test_targets_and_their_names(fitted):
    assert fitted.target_names_.tolist() == ["stars", "broken"]
    assert fitted.n_targets_ == 2
    predicted = fitted.predict(TEXTS)
    assert predicted.shape == Y.shape
    assert fitted.score(TEXTS, Y) == pytest.approx(r2_score(Y, predicted)) == get_scorer("r2")(fitted, TEXTS, Y)
    assert fitted.score(TEXTS, Y) > 0.7


def test_one_value_per_text_comes_back_as_such(start):
    model = linear(start).fit(TEXTS, pd.Series(STARS, name="stars"))
    assert model.target_names_.tolist() == ["stars"]
    assert model.predict(TEXTS).shape == (60,)
    assert linear(start).fit(TEXTS, STARS[:, None]).predict(TEXTS).shape == (60, 1)


def test_a_network_without_vector_learns_values():
    model = tiny_regressor(max_epochs=20, dropout_multiplier=0.1, language_model=tiny_lm(emb_dim=24, hidden_dim=32))
    model.fit(TEXTS, Y)
    assert len(model.history_) == 20
    assert model.score(TEXTS, Y) > 0.5
    assert model.net_.threshold is None  # it predicts values


def test_unknown_values_are_neither_learned_from_nor_scored(fitted, start):
    y = Y.copy()
    y[::3, 0], y[1::3, 1] = np.nan, np.nan
    model = linear(start).fit(TEXTS, y)
    assert model.score(TEXTS, y) > 0.5
    known = ~np.isnan(y[:, 0])
    expected = r2_score(Y[known, 0], fitted.predict(TEXTS)[known, 0])
    only_stars = np.column_stack([y[:, 0], np.full(60, np.nan)])
    assert fitted.score(TEXTS, only_stars) == pytest.approx(expected)
    assert np.isnan(fitted.score(TEXTS, np.full((60, 2), np.nan)))


def test_weights_count_in_fit_and_score(start):
    texts, y = ["late lamp"] * 20 + ["lost hub"] * 20, np.r_[np.zeros(10), np.ones(10), np.zeros(20)]
    weight = np.r_[np.ones(10), 3 * np.ones(10), np.ones(20)]
    late, lost = linear(start, tfidf=False).fit(texts, y, weight).predict(["late lamp", "lost hub"])
    assert abs(late - 0.75) < 0.1
    assert abs(lost) < 0.1
    model = linear(start, tfidf=False).fit(texts, y)
    assert model.score(texts, y, weight) == pytest.approx(r2_score(y, model.predict(texts), sample_weight=weight))


def test_a_text_without_a_known_word_gets_the_means(fitted):
    np.testing.assert_allclose(fitted.predict(["qzxvjk wqqzt"]), Y.mean(axis=0)[None])


def test_precision_is_measured_on_a_net_that_knows_its_task(start, monkeypatch):
    tasks = []
    monkeypatch.setattr(stages, "measure_shifts", lambda state, *_: tasks.append(task_of(state.config)) or {})
    model = linear(start, y_range=(0, 101)).fit(TEXTS, Y)
    np.testing.assert_allclose(tasks[0].mean, Y.mean(axis=0))
    assert model.net_.threshold is None  # it predicts values


def test_both_ends_of_a_range_are_reached_and_never_left(start):
    texts = [f"{'broken' if star == 1 else 'fine' if star == 5 else 'late'} lamp" for star in (1, 3, 5)] * 30
    y = np.array([1.0, 3.0, 5.0] * 30)
    lm = tiny_lm(random_state=0, max_epochs=3).fit(texts)
    model = linear(lm, y_range=(1, 5), tfidf=False, lr=0.03, max_epochs=80, dropout_multiplier=0.0).fit(texts, y)
    predicted = model.predict([*texts, "broken broken broken broken", "fine fine fine fine fine", "parcel", ""])
    assert predicted.min() >= 1
    assert predicted.max() <= 5
    low, high = model.predict(["broken lamp", "fine lamp"])
    assert low < 1.05
    assert high > 4.95


def test_a_range_for_each_target(start):
    model = linear(start, y_range=[(0, 5), (-10, 110)]).fit(TEXTS, Y)
    predicted = model.predict(TEXTS)
    assert ((predicted >= [0, -10]) & (predicted <= [5, 110])).all()
    assert model.score(TEXTS, Y) > 0.5


def test_soft_labels_with_cross_entropy_are_the_head_of_the_classifier_where_they_are_0_and_1(start):
    y = (Y[:, 1:] > 0).astype(float)
    model = linear(start, y_range=(0, 1), loss="cross_entropy", tfidf=False).fit(TEXTS, y)
    clf = ULMFiTMultiLabelClassifier(start, random_state=0, tfidf=False).fit(TEXTS, y)
    head, of_labels = (one.net_.module_.head.state_dict() for one in (model, clf))
    np.testing.assert_allclose(head["weight"], of_labels["weight"], atol=1e-5)
    np.testing.assert_allclose(head["bias"], of_labels["bias"], atol=1e-5)
    np.testing.assert_allclose(model.predict(TEXTS), clf.predict_proba(TEXTS), atol=2e-3)


def test_two_directions_average_their_predictions(tmp_path):
    model = tiny_regressor(direction="both", tfidf=True, y_range=(0, 101)).fit(TEXTS, Y)
    assert len(model.backward_history_) == 2
    assert model.predict(TEXTS[:2]).shape == (2, 2)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(ULMFiTRegressor.load(tmp_path / "m").predict(TEXTS), model.predict(TEXTS))


def test_early_stopping_holds_out_texts_of_any_values():
    model = tiny_regressor(early_stopping=True, validation_fraction=0.2).fit(TEXTS, STARS)
    assert "valid_loss" in model.history_[0]


def test_a_memory_gives_the_same_regressor_and_keeps_ranges_apart(start, tmp_path):
    one, two = (linear(start, memory=tmp_path).fit(TEXTS, Y) for _ in range(2))
    np.testing.assert_array_equal(one.predict(TEXTS), two.predict(TEXTS))
    other = linear(start, memory=tmp_path, y_range=(0, 100)).fit(TEXTS, Y)
    assert np.abs(other.predict(TEXTS) - one.predict(TEXTS)).max() > 1e-3


def test_verbose_counts_targets(start, capsys):
    linear(start, verbose=1).fit(TEXTS, Y)
    assert "Fit on 60 texts with 2 targets:" in capsys.readouterr().err


# --- explanations --------------------------------------------------------------


def test_words_add_up_to_the_predicted_values(start):
    for y_range in (None, (-1, 101)):
        model = linear(start, y_range=y_range, precision="float32").fit(
            TEXTS, pd.DataFrame(Y, columns=["stars", "broken"])
        )
        explained = model.explain(TEXTS[:5])
        values = np.array([e.values for e in explained])
        np.testing.assert_allclose(values, model.predict(TEXTS[:5]), atol=1e-3)
        for e in explained:
            np.testing.assert_allclose(e.baseline, Y.mean(axis=0))
            np.testing.assert_allclose(e.scores.sum(axis=0), e.values - e.baseline, atol=1e-6)
            assert e.labels == ["stars", "broken"]


def test_gradients_are_those_of_the_values_through_the_sigmoid(start):
    model = linear(start, y_range=(-1, 101), tfidf=False).fit(TEXTS, Y)
    (network,), task = model._fitted.networks, task_of(model._fitted.config)
    document = Document.of(TEXTS[0], model.vocabulary_, "en")
    with evaluation_mode([network.module]):
        found = integrated_gradients(network.module, document.ids, document.baseline, np.arange(2), task)
    outputs = network.logits(document.as_corpus(), "float32")
    np.testing.assert_allclose(found.log_odds, task.scores(outputs)[0], atol=1e-4)
    np.testing.assert_allclose(found.scores.sum(axis=0), found.log_odds - found.baseline, atol=0.03)


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_the_words_that_raise_a_value_are_found(fitted, method):
    text = "My lamp is flickering and broken again, please help me with the lamp!"
    (e,) = fitted.explain([text], "broken", method)
    assert {word for word, _ in e.top_words("broken", 2)} == {"flickering", "broken"}
    assert "broken" in str(e)
    assert "mean" in e.to_html()


def test_occlusion_is_the_difference_of_two_predictions(fitted):
    (e,) = fitted.explain(["My lamp is broken, again"], "broken", "occlusion")
    with_word, without = fitted.explain(["My lamp is broken, again", "My lamp is qzxvjk, again"], "broken")
    np.testing.assert_allclose(e.scores[e.words.index("broken")], with_word.values - without.values, atol=1e-3)


def test_both_directions_are_explained_together():
    model = tiny_regressor(direction="both", tfidf=True, precision="float32").fit(TEXTS, STARS)
    (e,) = model.explain(TEXTS[:1])
    np.testing.assert_allclose(e.values, model.predict(TEXTS[:1]), atol=1e-3)
    np.testing.assert_allclose(e.scores.sum(axis=0), e.values - e.baseline, atol=1e-6)


def test_targets_that_are_not_there_are_refused(fitted):
    with pytest.raises(ValueError, match="targets has 'late', which is not one of this regressor's 2 targets: 'stars'"):
        fitted.explain(TEXTS[:1], "late")


# --- files -------------------------------------------------------------------


@pytest.mark.parametrize("y_range", [None, (0, 100), [(0, 5), (0.0, 100.0)]])
def test_a_saved_regressor_predicts_the_same_bits(start, y_range, tmp_path):
    model = linear(start, y_range=y_range).fit(TEXTS, Y)
    model.save(tmp_path / "m", metadata={"by": "me"})
    loaded = ULMFiTRegressor.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(TEXTS), model.predict(TEXTS))
    assert loaded.y_range == y_range
    assert loaded.metadata_ == {"by": "me"}
    assert loaded.target_names_.tolist() == [0, 1]
    loaded.save(tmp_path / "again")
    np.testing.assert_array_equal(ULMFiTRegressor.load(tmp_path / "again").predict(TEXTS), model.predict(TEXTS))


def test_a_pickled_regressor_predicts_the_same(fitted):
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(TEXTS), fitted.predict(TEXTS))


def test_the_file_of_another_kind_is_refused_in_one_line(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match="holds a regressor, not a classifier; load it with the class that saved"):
        ULMFiTMultiLabelClassifier.load(tmp_path / "m")


def test_a_range_set_to_nonsense_after_fit_is_not_saved(fitted, tmp_path):
    with pytest.raises(
        ModelFileError, match="The regressor was not saved, since a parameter is not valid: The low end"
    ):
        pickle.loads(pickle.dumps(fitted)).set_params(y_range=(5, 1)).save(tmp_path / "m")


# --- bad input: one clear line each ------------------------------------------


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({}, np.where(STARS > 3, np.inf, STARS), "Input y contains infinity"),
        ({}, ["many"] * 60, r"y\[0\] is 'many' of type str; every value must be a number"),
        ({}, STARS[:-1], "X has 60 texts, but y has 59 rows"),
        ({}, np.full(60, np.nan), "all their values are unknown"),
        ({}, None, "requires y to be passed"),
        ({"y_range": (5, 1)}, STARS, r"low end of y_range must be below its high end, both finite; got \(5, 1\)"),
        ({"y_range": "0-5"}, STARS, r"y_range must be None, one pair \(low, high\)"),
        ({"y_range": (0, 2)}, STARS, r"outside of y_range=\(0, 2\)"),
        ({"loss": "absolute"}, STARS, "loss must be one of"),
        ({"loss": "cross_entropy"}, STARS, r"needs y_range=\(0, 1\), got y_range=None"),
    ],
)
def test_bad_input_to_fit(params, y, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny_regressor(**params).fit(TEXTS, y)
    assert "\n" not in str(caught.value)


def test_constant_targets_warn_and_are_predicted(start):
    with pytest.warns(UserWarning, match=r"1 of 2 targets are the same for all 60 training texts: 1 \(always 7\)"):
        model = linear(start).fit(TEXTS, np.column_stack([STARS, np.full(60, 7.0)]))
    np.testing.assert_allclose(model.predict(TEXTS)[:, 1], 7, atol=2e-3)


def test_bad_input_after_fit(fitted):
    with pytest.raises(NotFittedError):
        tiny_regressor().predict(TEXTS)
    with pytest.raises(ValueError, match="y has 1 targets, but this regressor has 2"):
        fitted.score(TEXTS, STARS)
    with pytest.raises(ValueError, match="got a single str"):
        fitted.predict("one text")
