"""Weights of texts and of labels, and entries of y that nobody knows."""

import warnings

import numpy as np
import pytest
import sklearn
from conftest import make_corpus, tiny_classifier, tiny_lm
from scipy.special import logit
from sklearn.model_selection import GridSearchCV, KFold

from sk_ulmfit.labels import check_pos_weight
from sk_ulmfit.text.tokenizer import tokenize_corpus
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.data import LabelledTexts
from sk_ulmfit.training.linear_training import base_rates, fit_linear_model
from sk_ulmfit.training.stages import _loss_weight
from sk_ulmfit.training.task import Classification


@pytest.fixture(scope="module")
def data():
    texts, labels = make_corpus(40)
    names = ["billing", "delivery", "technical"]
    return texts, np.array([[name in row for name in names] for row in labels], float)


# --- weights of texts --------------------------------------------------------


@pytest.mark.parametrize("tfidf", [False, True])
def test_a_text_of_weight_zero_is_not_there(data, tfidf):
    texts, y = data
    weight = np.random.default_rng(0).integers(0, 2, len(texts))
    kept = np.flatnonzero(weight)
    weighted = tiny_classifier(tfidf=tfidf).fit(texts, y, sample_weight=weight)
    without = tiny_classifier(tfidf=tfidf).fit([texts[i] for i in kept], y[kept])
    assert np.array_equal(weighted.predict_proba(texts), without.predict_proba(texts))


@pytest.mark.parametrize("unfreezing", ["auto", "head"])
def test_only_ratios_of_weights_matter(data, unfreezing):
    texts, y = data
    clf = tiny_classifier(tfidf=True, unfreezing=unfreezing)
    weight = np.random.default_rng(0).random(len(texts)) + 0.1
    proba = [clf.fit(texts, y, w).predict_proba(texts) for w in (None, np.full(len(texts), 3.0), weight, 1e4 * weight)]
    assert np.array_equal(proba[0], proba[1])
    assert np.allclose(proba[2], proba[3], atol=1e-3)
    assert np.abs(proba[2] - proba[0]).max() > 0.01


@pytest.mark.parametrize("params", [{}, {"unfreezing": "head"}, {"tfidf": True}, {"early_stopping": True}])
def test_contradicting_texts_are_decided_by_their_weights(params):
    texts = ["the lamp is late", "the hub is lost"] * 40
    y = np.array([[0], [0]] * 20 + [[1], [1]] * 20)
    for heavy in (0, 1):
        weight = np.where(y[:, 0] == heavy, 9.0, 1.0)
        clf = tiny_classifier(max_epochs=6, **params).fit(texts, y, weight)
        assert np.abs(clf.predict_proba(texts[:2]) - (0.9 if heavy else 0.1)).max() < 0.15


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), r"1-D with 40 numbers, one per text; got an array of shape \(3,\)"),
        (np.ones((40, 2)), r"got an array of shape \(40, 2\)"),
        (2.0, r"got an array of shape \(\)"),
        ([-1.0] + [1.0] * 39, r"sample_weight\[0\] is -1; every weight must be finite and at least 0"),
        ([1.0] * 39 + [np.nan], r"sample_weight\[39\] is nan"),
        ([1.0] * 39 + [np.inf], r"sample_weight\[39\] is inf"),
        (np.zeros(40), "Every sample_weight of the 40 texts is zero"),
        ("balanced", "must be 40 numbers"),
    ],
)
def test_bad_weights_get_one_clear_line(data, weight, message):
    with pytest.raises(ValueError, match=message):
        tiny_classifier().fit(*data, sample_weight=weight)


def test_weights_are_routed_through_a_search(data):
    texts, y = data
    seen = []

    class Spy(type(tiny_classifier())):
        def fit(self, X, y, sample_weight=None, *, unlabelled_texts=None):
            seen.append(sample_weight)
            return super().fit(X, y, sample_weight, unlabelled_texts=unlabelled_texts)

        def score(self, X, y, sample_weight=None):
            return super().score(X, y, sample_weight)

    weight = np.arange(1.0, 41.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = Spy(**tiny_classifier(max_epochs=1).get_params(deep=False))
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        GridSearchCV(clf, {"lr": [0.01]}, cv=KFold(2)).fit(texts, y, sample_weight=weight)
    assert [list(part) for part in seen] == [list(weight[20:]), list(weight[:20]), list(weight)]


# --- entries that nobody knows -----------------------------------------------


@pytest.mark.parametrize(
    "params", [{}, {"unfreezing": "head"}, {"tfidf": True}, {"early_stopping": True, "n_iter_no_change": 20}]
)
def test_an_unknown_entry_is_not_a_no(params):
    texts = ["the lamp is late", "the hub is lost"] * 40
    y = np.tile([[1.0, 1.0], [0.0, 0.0]], (40, 1))
    y[16:, 0] = np.nan  # of 40 lamps only 8 are annotated, all with a yes
    clf = tiny_classifier(max_epochs=10, lr=0.05, **params).fit(texts, y)
    lamp, hub = clf.predict_proba(texts[:2])
    assert lamp.min() > 0.7
    assert hub.max() < 0.3
    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()


def test_a_label_that_is_annotated_nowhere_gets_the_mean_rate_and_a_warning(data):
    texts, y = data
    y = np.column_stack([y, np.full(len(y), np.nan)])
    for tfidf in (False, True):
        with pytest.warns(UserWarning, match="1 of 4 labels are annotated on none of the 40 training texts: 3"):
            clf = tiny_classifier(tfidf=tfidf).fit(texts, y)
        assert np.abs(clf.predict_proba(texts)[:, 3] - y[:, :3].mean()).max() < 0.25
    with pytest.raises(ValueError, match="all their entries are unknown"):
        tiny_classifier().fit(texts, np.full((40, 2), np.nan))


def test_texts_without_any_annotation_change_nothing_but_the_language_model(data):
    texts, y = data
    more = np.vstack([y, np.full((10, 3), np.nan)])
    loss_weight = _loss_weight(LabelledTexts([], more.astype(np.float32), [], Classification()), np.arange(50))
    assert loss_weight == pytest.approx(50 / 40)
    rates = base_rates(more.astype(np.float32))
    assert rates == pytest.approx((y.sum(0) + 0.5) / 41)
    clf = tiny_classifier(tfidf=True).fit(texts + ["zebra"] * 10, more)
    assert "zebra" in clf.vocabulary_
    assert np.isfinite(clf.predict_proba(texts)).all()


def test_score_leaves_unknown_entries_out(fitted):
    texts = make_corpus(10, seed=5)[0]
    decided = fitted.predict(texts).astype(float)
    wrong = 1 - decided
    assert fitted.score(texts, np.where(decided == 1, np.nan, decided)) == 1
    assert fitted.score(texts, np.column_stack([wrong[:, 0], np.full((10, 2), np.nan)])) == 0


def test_svm_learns_from_the_known_rows_by_their_weights():
    texts, labels = make_corpus(60, seed=3)
    corpus, words = tokenize_corpus(texts, "en", None)
    vocabulary = Vocabulary(words)
    y = np.array([["delivery" in row] for row in labels], np.float32)
    y[::3] = np.nan
    weight = np.random.default_rng(0).random(60).astype(np.float32) + 0.5
    weight /= weight.mean()
    logits = fit_linear_model(corpus, vocabulary, y, document_weight=weight).model.logits(corpus)[:, 0]
    other = fit_linear_model(corpus, vocabulary, y).model.logits(corpus)[:, 0]
    known = ~np.isnan(y[:, 0])
    assert np.abs(logits - other).max() > 0.01
    rows = corpus.take(np.flatnonzero(known))
    alone = fit_linear_model(rows, vocabulary, y[known]).model.logits(rows)[:, 0]
    assert np.corrcoef(other[known], alone)[0, 1] > 0.95
    assert ((logits > 0) == y[:, 0])[known].mean() > 0.9


# --- weights of the entries that are 1 ----------------------------------------


def test_pos_weight_multiplies_the_odds():
    texts = ["the lamp is late", "the hub is lost"] * 60
    y = np.array([[1, 0]] * 24 + [[0, 0]] * 72 + [[0, 1]] * 24)
    for params in ({}, {"tfidf": True}, {"unfreezing": "head"}):
        plain, weighted = (
            tiny_classifier(max_epochs=6, pos_weight=pos_weight, **params).fit(texts, y)
            for pos_weight in (None, [4.0, 1.0])
        )
        gain = logit(weighted.predict_proba(texts[:2])) - logit(plain.predict_proba(texts[:2]))
        assert gain[:, 0] == pytest.approx(np.log(4), abs=0.5)
        assert gain[:, 1] == pytest.approx(0, abs=0.8)  # other processors, other rounding, other paths of training


def test_balanced_is_the_ratio_of_the_known_entries_and_finite():
    y = np.array([[1, 0, 1, 1], [0, 0, np.nan, 1], [0, 0, 0, 1], [np.nan, 1, 0, 1]])
    assert check_pos_weight("balanced", y, list("abcd")).tolist() == [2, 3, 2, 1]
    weight = np.array([1.0, 3.0, 1.0, 1.0])
    assert check_pos_weight("balanced", y, list("abcd"), weight).tolist() == [4, 5, 2, 1]
    rare = np.zeros((1_000, 2))
    rare[0, 0] = rare[1:, 1] = 1
    assert check_pos_weight("balanced", rare, list("ab")).tolist() == [20, 1 / 20]
    assert check_pos_weight({"b": 3}, y, list("abcd")).tolist() == [1, 3, 1, 1]
    assert check_pos_weight(2, y, list("abcd")).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("pos_weight", "message"),
    [
        ("auto", "pos_weight must be a number, one number per label, or a dict"),
        ([1.0], r"pos_weight must be one number or 3 numbers, one per label; got shape \(1,\)"),
        ([1.0, 2.0, np.inf], "Every pos_weight must be finite and above 0"),
        (0, "Every pos_weight must be finite and above 0, got 0"),
        (-1.0, "above 0"),
        ({"late": 2.0}, "pos_weight names the unknown label 'late'"),
    ],
)
def test_bad_pos_weights_get_one_clear_line(data, pos_weight, message):
    with pytest.raises(ValueError, match=message):
        tiny_classifier(pos_weight=pos_weight).fit(*data)


@pytest.mark.parametrize("pos_weight", [None, "balanced", 2.0, [1.0, 2.0, 3.0], np.ones(3), {0: 2.0}])
def test_pos_weight_is_saved(data, pos_weight, tmp_path):
    clf = tiny_classifier(max_epochs=1, language_model=tiny_lm(max_epochs=0), pos_weight=pos_weight).fit(*data)
    clf.save(tmp_path / "m")
    found = clf.load(tmp_path / "m").pos_weight
    assert found == (pos_weight.tolist() if isinstance(pos_weight, np.ndarray) else pos_weight)


@pytest.mark.parametrize("seed", range(3))
def test_the_only_text_that_is_annotated_is_learned_from_not_held_out(seed):
    texts, _ = make_corpus(12)
    y = np.full((12, 2), np.nan)
    y[5] = 0
    clf = tiny_classifier(
        language_model=tiny_lm(max_epochs=0),
        threshold="tune",
        calibration="platt",
        early_stopping=True,
        validation_fraction=0.5,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        proba = clf.fit(texts, y).predict_proba(texts)
    assert np.isfinite(proba).all()
    assert (proba < 0.5).all()
    assert clf.thresholds_.tolist() == [0.5, 0.5]
