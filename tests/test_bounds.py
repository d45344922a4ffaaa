"""What a classifier says of texts unlike anything it knows."""

import itertools

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, TokenIds, Vocabulary
from sk_ulmfit.training.bounds import bound_log_odds, has_known_words, sample_for_range

TEXTS, LABELS = make_corpus(60)
NEW = make_corpus(20, seed=5)[0]
UNKNOWN = ["qzxvjk", "QZXVJK", "", "Zqzxv qzxvjk", "\x1fqzxvjk\x1fbqzk", "qzxvjk " * 30]
SETTINGS = {
    "network": {},
    "with words": {"tfidf": True},
    "head": {"unfreezing": "head", "max_epochs": 10},
    "both": {"direction": "both", "tfidf": True},
    "calibrated": {"calibration": "platt", "validation_fraction": 0.3},
    "weighed": {"pos_weight": "balanced"},
}


@pytest.fixture(scope="module", params=SETTINGS)
def clf(request):
    lm = tiny_lm(random_state=0)
    return tiny_classifier(language_model=lm, **SETTINGS[request.param]).fit(TEXTS, LABELS)


def test_a_text_of_unknown_words_gets_the_base_rates(clf):
    rates = np.array([[label in row for label in clf.label_names_] for row in LABELS]).mean(axis=0)
    proba = clf.predict_proba(UNKNOWN)
    assert (proba == proba[0]).all()
    if clf.pos_weight is None:
        assert proba[0] == pytest.approx(rates, abs=0.06)
        assert (clf.predict(UNKNOWN) == (proba >= 0.5)).all()
    else:
        assert proba[0] == pytest.approx(np.full(3, 0.5), abs=0.06)


def test_log_odds_stay_within_those_of_the_training_texts(clf):
    reached = logit(clf.predict_proba(TEXTS))
    low, high = reached.min(axis=0) - 0.01, reached.max(axis=0) + 0.01
    rng = np.random.default_rng(0)
    words = [word for word in clf.vocabulary_.words if word not in SPECIAL_TOKENS]
    odd = [" ".join(rng.choice(words, rng.integers(1, 60))) for _ in range(60)] + [word * 9 + " x" for word in words]
    proba = clf.predict_proba([*NEW, *odd, "! " * 200, "lamp " * 300, "qzxvjk"])
    odds = logit(proba[(proba != proba[-1]).any(axis=1)])  # without texts that get the base rates
    assert len(odds) > 60
    assert (odds >= low).all()
    assert (odds <= high).all()


def test_explanations_measure_from_the_base_rates(clf, tmp_path):
    base = logit(clf.predict_proba(["qzxvjk"]))[0]
    for explanation in clf.explain(NEW[:5], labels=clf.label_names_.tolist()):
        assert explanation.baseline == pytest.approx(base, abs=1e-6)
        assert explanation.scores.sum(axis=0) == pytest.approx(explanation.log_odds - base, abs=1e-6)
        assert explanation.log_odds == pytest.approx(logit(clf.predict_proba([explanation.text]))[0], abs=0.01)
    unknown = clf.explain(["qzxvjk"])[0]
    assert not unknown.scores.any()
    assert "from base rate" in clf.explain(NEW[:1]).to_html()


def test_saving_keeps_range_and_base_rates(clf, tmp_path):
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba([*UNKNOWN, *NEW]), clf.predict_proba([*UNKNOWN, *NEW]))


@given(st.lists(st.floats(-60, 60), min_size=2, max_size=20), st.floats(-5, 0), st.floats(0, 5))
def test_bounding_keeps_the_order_and_the_range(values, low, high):
    odds = np.array(values)[:, None]
    bounded = bound_log_odds(odds, {"log_odds_range": [[low], [high]]})
    assert (bounded >= low - 0.0011).all()
    assert (bounded <= high + 0.0011).all()
    order = np.argsort(odds[:, 0])
    assert (np.diff(bounded[order, 0]) >= 0).all()
    inside = (odds >= low) & (odds <= high)
    np.testing.assert_array_equal(bounded[inside], odds[inside])


WORDS = ["xxunk", "xxbos", "xxmaj", "xxup", "xxfld", "xxrep", "xxwrep", "lamp", "hub", "3"]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=1, max_size=5))
@settings(max_examples=200)
def test_markers_and_their_numbers_are_no_words(documents):
    vocabulary = Vocabulary(["lamp", "hub", "3"])
    documents = [["xxbos", *document] for document in documents]
    ids = np.concatenate([vocabulary.lookup(document) for document in documents])
    corpus = TokenIds(ids, np.cumsum([0, *map(len, documents)]))
    wanted = [
        any(
            word in ("lamp", "hub", "3") and before not in ("xxfld", "xxrep", "xxwrep")
            for before, word in itertools.pairwise(document)
        )
        for document in documents
    ]
    assert has_known_words(corpus, vocabulary).tolist() == wanted


@pytest.mark.parametrize("n_labels", [3, 200])
def test_the_range_is_taken_from_texts_with_each_label(n_labels):
    """A label that none of them had could never be predicted, whatever its text says."""
    rng = np.random.default_rng(0)
    y = np.zeros((5_000, n_labels))
    for label in range(n_labels):
        y[rng.choice(len(y), 5, replace=False), label] = 1
    y[rng.choice(len(y), 50), 0] = np.nan
    rows = np.arange(100, len(y))
    sample = sample_for_range(np.full(len(y), 100), rows, y, seed=0)
    assert len(np.unique(sample)) == len(sample) < 3_000
    assert np.isin(sample, rows).all()
    assert (y[sample] == 1).any(axis=0).all()
    assert (y[sample] == 0).any(axis=0).all()


def test_the_range_is_taken_from_texts_with_extreme_values():
    y = np.random.default_rng(0).normal(size=(4_000, 2))
    sample = sample_for_range(np.full(len(y), 100), np.arange(len(y)), y, seed=0)
    assert (y[sample].min(axis=0) == y.min(axis=0)).all()
    assert (y[sample].max(axis=0) == y.max(axis=0)).all()


def test_a_rare_label_of_many_texts_can_be_predicted(monkeypatch):
    monkeypatch.setattr("sk_ulmfit.training.bounds.MAX_TOKENS", 100)
    monkeypatch.setattr("sk_ulmfit.training.bounds.MIN_DOCUMENTS", 8)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["lamp", "hub", "cable", "box"], 8)) for _ in range(300)]
    labels = [["common"] if "hub" in text else [] for text in texts]
    for i in range(0, 300, 100):
        texts[i], labels[i] = texts[i] + " volcano volcano", ["rare"]
    clf = tiny_classifier(language_model=tiny_lm(random_state=0), tfidf=True, random_state=2).fit(texts, labels)
    rare = clf.label_names_.tolist().index("rare")
    proba = clf.predict_proba(["a volcano volcano", "a lamp and a hub"])[:, rare]
    assert proba[0] > 10 * proba[1]
    assert clf.predict(["a volcano volcano"])[0, rare]
