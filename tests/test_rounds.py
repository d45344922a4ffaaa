"""What a fit with `warm_start` takes from the fit before, so that a round of labelling is quick."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from scipy import sparse
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.models.room import Room
from sk_ulmfit.text import seen_tokens
from sk_ulmfit.text.seen_tokens import TokenStore
from sk_ulmfit.text.tokenizer import tokenize, tokenize_corpus
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training import linear_stage, linear_training, rounds, stages
from sk_ulmfit.training.dual_svms import evidence, train_svms
from sk_ulmfit.training.folds import folds_going_on
from sk_ulmfit.training.linear import tf_idf
from sk_ulmfit.training.linear_head import fit_linear_head, go_on_with_head
from sk_ulmfit.training.ngrams import VocabularyNgrams
from sk_ulmfit.training.task import Classification
from sk_ulmfit.training.term_counts import CountedDocuments

ASK = ["My parcel is late again", "the invoice is wrong and broken"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1, random_state=0).fit(make_corpus(30)[0]), path, dim=8)
    return path


def classifier(start, **params):
    given = {"max_epochs": None, "batch_size": None, "lr": None, "warm_start": True, "tfidf": True}
    return tiny_classifier(**{"language_model": start, **given, **params})


def texts_and_labels(n, seed=1):
    """Texts that all differ."""
    texts, labels = make_corpus(n, seed=seed)
    return [f"{text} No {k}." for k, text in enumerate(texts)], labels


# Tokens and words


def words_of(corpus, words):
    return [[words[i] for i in corpus[k]] for k in range(len(corpus))]


def test_only_new_texts_are_tokenized(monkeypatch):
    read = []
    monkeypatch.setattr(
        seen_tokens, "tokenize_corpus", lambda texts, *args: read.append(list(texts)) or tokenize_corpus(texts, *args)
    )
    store = TokenStore()
    store.tokenize(["A lamp.", "The hub, the hub, the hub"], "en")
    texts = ["The hub, the hub, the hub", "a KETTLE", "A lamp.", "a KETTLE"]
    corpus, words = store.tokenize(texts, "en")
    assert read == [["A lamp.", "The hub, the hub, the hub"], ["a KETTLE", "a KETTLE"]]
    assert words_of(corpus, words) == [tokenize(text) for text in texts]
    assert words_of(*store.tokenize(["a KETTLE"], "en")) == [tokenize("a KETTLE")]
    assert sorted(store.kept.words) == sorted(set(tokenize("a KETTLE")))
    assert len(read) == 2
    store.tokenize(["a KETTLE"], "de")
    assert len(read) == 3


def test_texts_beyond_the_limit_are_tokenized_again(monkeypatch):
    monkeypatch.setattr(seen_tokens, "MOST_TOKENS", 5)
    store = TokenStore()
    store.tokenize(["one two", "three four five"], "en")
    assert list(store.kept.rows) == ["one two"]
    assert words_of(*store.tokenize(["three four five", "one two"], "en")) == [
        tokenize("three four five"),
        tokenize("one two"),
    ]


def test_new_words_come_after_all_others():
    vocabulary = Vocabulary(["lamp", "hub"])
    counts = np.array([1, 3, 5, 3, 9, 9])
    words = ["once", "kettle", "pan", "cup", "xxpad", "hub"]
    grown = vocabulary.grown(words, counts, max_size=100, min_frequency=2)
    assert grown.words[:19] == [*vocabulary.words, "pan", "cup", "kettle"]
    assert len(grown) == 24
    assert len(set(grown.words)) == 24
    assert all(grown.index(word) == place for place, word in enumerate(grown.words))
    assert "pan" not in vocabulary
    assert vocabulary.grown(["hub", "once"], np.array([2, 1]), max_size=100, min_frequency=2) is vocabulary
    full = vocabulary.grown(words, counts, max_size=16, min_frequency=1)
    assert {"pan", "kettle", "cup", "hub"} <= set(full.words)


def test_rows_are_added_in_place_by_the_first_one_only():
    array, room = Room().append(np.zeros((16, 2)), np.ones((1, 2)))
    assert np.shares_memory(room.append(array, np.ones((1, 2)))[0], array)
    other, _ = room.append(array, np.full((1, 2), 5.0))
    assert not np.shares_memory(other, array)
    assert other[-1].tolist() == [5, 5]
    _, room = Room().append(np.zeros((16, 2)), np.ones((1, 2)))
    assert not np.shares_memory(room.append(array, np.ones((1, 2)))[0], array)  # of another array
    longer, _ = room.append(array, np.ones((9, 2)))
    assert longer.shape == (26, 2)
    assert pickle.loads(pickle.dumps(room))._buffer is None


def test_two_fits_that_go_on_from_one_do_not_disturb_each_other(start):
    texts, labels = texts_and_labels(40)
    one = classifier(start).fit(texts, labels).fit([*texts, "a kettle", "the kettle"], [*labels, [], []])
    two = copy.copy(one)
    one.fit([*texts, "a pan", "the pan"], [*labels, [], []])
    embedding = one.net_.module_.encoder.embedding.weight.detach().clone()
    two.fit([*texts, "a bowl", "the bowl"] * 2, [*labels, ["billing"], []] * 2)
    assert "bowl" not in one.vocabulary_
    assert torch.equal(one.net_.module_.encoder.embedding.weight, embedding)


def test_ngrams_of_more_words_are_those_of_all_words():
    old, more = (
        ["abc", "naïve", "", "a\x00bc", "zebra"],
        ["abc", "naïve", "", "a\x00bc", "abacus", "😀b😀b", "zebu", "abc"],
    )
    grown, wanted = VocabularyNgrams.of(more, VocabularyNgrams.of(old)), VocabularyNgrams.of(more)
    np.testing.assert_array_equal(grown.names, np.union1d(VocabularyNgrams.of(old).names, wanted.names))
    kept = np.isin(grown.names, wanted.names)
    np.testing.assert_array_equal(grown.counts.toarray()[:, kept], wanted.counts.toarray())
    assert not grown.counts.toarray()[:, ~kept].any()
    assert VocabularyNgrams.of(more, grown) is grown


# Folds


def test_texts_stay_in_their_folds_and_new_ones_fill_the_smallest():
    earlier = np.array([0, 0, 0, 0, 1, 2])
    rows = np.array([5, -1, 0, 1, -1, -1, 2, 3, -1])
    y = np.eye(2)[[0, 1, 0, 1, 0, 1, 0, 1, 0]]
    fold = folds_going_on(earlier, rows, y, 3, seed=0)
    assert fold[rows >= 0].tolist() == [2, 0, 0, 0, 0]
    assert np.bincount(fold[rows < 0], minlength=3).tolist() == [0, 3, 1]
    assert np.bincount(fold).tolist() == [4, 3, 2]


# SVMs


def random_documents(n, n_terms, n_labels, seed):
    rng = np.random.default_rng(seed)
    counts = sparse.random(n, n_terms, 0.1, "csr", np.float32, rng)
    counts.data[:] = rng.integers(1, 4, len(counts.data))
    y = (counts @ rng.normal(size=(n_terms, n_labels)) + rng.normal(size=(n, n_labels)) > 0.5).astype(float)
    y[rng.random(y.shape) < 0.1] = np.nan
    return CountedDocuments(counts, n_terms // 2, y, None)


@pytest.mark.parametrize("seed", range(3))
def test_svms_of_all_labels_are_those_of_scikit_learn(seed):
    documents = random_documents(60, 200, 4, seed)
    documents.y[:, 3] = 1
    svms, dual = train_svms(documents, 0.3, np.zeros(documents.y.shape), 1e-6, 0)
    features = tf_idf(documents.counts, documents.n_words, documents.idf())
    for label in range(3):
        known = ~np.isnan(documents.y[:, label])
        x, y = features[known].toarray(), documents.y[known, label]
        weights = linear_training._evidence(sparse.csr_matrix(x), y == 1, None)
        np.testing.assert_allclose(evidence(features, documents.y)[:, label], weights, atol=1e-12)
        unit = np.sqrt(((x * weights) ** 2).sum(axis=1).mean())
        svm = LinearSVC(C=0.3, tol=1e-8, max_iter=100_000).fit(x * weights / unit, y)
        np.testing.assert_allclose(svms.weight[:, label], svm.coef_[0] * weights / unit, atol=1e-4)
        assert svms.bias[label] == pytest.approx(svm.intercept_[0], abs=1e-4)
        assert (dual[~known, label] == 0).all()
    assert svms.learnable.tolist() == [True] * 3 + [False]
    assert not svms.weight[:, 3].any()
    assert np.isnan(svms.margins(documents)[:, 3]).all()


def test_svms_that_start_from_their_solution_end_at_once(monkeypatch):
    documents = random_documents(60, 200, 4, 0)
    svms, dual = train_svms(documents, 0.3, np.zeros(documents.y.shape), 1e-6, 0)
    monkeypatch.setattr("sk_ulmfit.training.dual_svms.MOST_PASSES", 1)
    again, _ = train_svms(documents, 0.3, dual, 1e-6, 1, passes=1)
    np.testing.assert_allclose(again.weight, svms.weight, atol=1e-6)
    afresh, _ = train_svms(documents, 0.3, np.zeros(documents.y.shape), 1e-6, 1)
    assert np.abs(afresh.weight - svms.weight).max() > 1e-2


# Heads


def test_a_head_that_goes_on_ends_where_one_from_the_beginning_ends():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(90, 5)).astype(np.float32)
    y = (vectors @ rng.normal(size=(5, 3)) + rng.normal(size=(90, 3)) > 0).astype(np.float32)
    task = Classification(None)
    first = fit_linear_head(vectors[:60], y[:60], task)
    rows = np.where(np.arange(90) < 60, np.arange(90), -1)
    gone_on = go_on_with_head(vectors, y, task, first.kept, rows)
    np.testing.assert_array_equal(gone_on.kept.strength, first.kept.strength)
    np.testing.assert_array_equal(gone_on.kept.fold[:60], first.kept.fold)
    wanted = fit_linear_head(vectors, y, task)
    same = gone_on.kept.strength == wanted.kept.strength
    assert same.any()
    np.testing.assert_allclose(gone_on.weight[same], wanted.weight[same], atol=0.01)
    assert np.corrcoef(gone_on.out_of_fold.ravel(), wanted.out_of_fold.ravel())[0, 1] > 0.95


# Fits


def test_nothing_is_chosen_anew_until_there_are_four_times_as_many_texts(start, monkeypatch):
    searched = []
    for module, name in ((stages, "fit_linear_head"), (stages, "measure_shifts"), (linear_stage, "fit_linear_model")):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, _f=function, _n=name, **kwargs: searched.append(_n) or _f(*args, **kwargs)
        )
    texts, labels = texts_and_labels(250)
    clf = classifier(start).fit(texts[:60], labels[:60])
    wanted = ["fit_linear_model", "fit_linear_head", "measure_shifts"]
    assert searched == wanted
    for n in (70, 100, 239):
        clf.fit(texts[:n], labels[:n])
    assert searched == wanted
    clf.fit(texts[:240], labels[:240]).fit(texts, labels)
    assert searched == wanted * 2
    clf.fit(texts[:50], labels[:50])
    assert searched == wanted * 3


@pytest.mark.parametrize("tfidf", [False, True])
def test_many_rounds_end_as_well_as_one_fit(start, tfidf):
    texts, labels = texts_and_labels(160)
    clf = classifier(start, tfidf=tfidf)
    for n in range(60, 161, 20):
        clf.fit(texts[:n], labels[:n])
    fresh = classifier(start, tfidf=tfidf).fit(texts, labels)
    asked, truth = texts_and_labels(60, seed=9)
    proba, wanted = clf.predict_proba(asked), fresh.predict_proba(asked)
    assert np.abs(proba - wanted).mean() < 0.05  # strengths were chosen with fewer texts
    y = np.array([[name in row for name in fresh.label_names_] for row in truth])
    assert average_precision_score(y, proba) > average_precision_score(y, wanted) - 0.02
    assert abs(clf.score(asked, truth) - fresh.score(asked, truth)) < 0.1
    assert np.abs(clf.thresholds_ - fresh.thresholds_).max() < 0.15


def test_rounds_of_other_texts_learn_from_these_alone(start):
    texts, labels = texts_and_labels(160)
    clf = classifier(start).fit(texts[:80], labels[:80]).fit(texts[80:], labels[80:])
    fresh = classifier(start).fit(texts[80:], labels[80:])
    assert np.abs(clf.predict_proba(ASK) - fresh.predict_proba(ASK)).mean() < 0.05


def test_a_text_with_new_labels_is_learned_anew(start):
    texts, labels = texts_and_labels(80)
    other = [["technical"] if "parcel" in text else row for text, row in zip(texts, labels, strict=True)]
    clf = classifier(start).fit(texts, labels).fit(texts, other)
    fresh = classifier(start).fit(texts, other)
    assert np.abs(clf.predict_proba(ASK) - fresh.predict_proba(ASK)).mean() < 0.05


def test_weights_and_other_labels_begin_anew(start):
    texts, labels = texts_and_labels(60)
    clf = classifier(start).fit(texts[:40], labels[:40])
    assert clf._fitted.seen_trainings[0].svms is not None
    clf.fit(texts, labels, sample_weight=[1, 2] * 30)
    assert clf._fitted.seen_trainings == (None,)
    wanted = classifier(start).fit(texts, labels, sample_weight=[1, 2] * 30)
    np.testing.assert_allclose(clf.predict_proba(ASK), wanted.predict_proba(ASK), atol=2e-3)
    clf.fit(texts, [[*row, "new"] if k % 3 else row for k, row in enumerate(labels)])
    assert clf.n_labels_ == 4


def test_vectors_of_a_network_that_was_trained_meanwhile_are_computed_anew(start):
    texts, labels = texts_and_labels(40)
    clf = classifier(start, tfidf=False).fit(texts, labels)
    with torch.no_grad():
        for parameter in clf.net_.module_.encoder.rnns.parameters():
            parameter.mul_(-1)
    without_vectors = pickle.loads(pickle.dumps(clf))
    clf.fit(texts, labels)
    np.testing.assert_allclose(clf.predict_proba(ASK), without_vectors.fit(texts, labels).predict_proba(ASK), atol=1e-6)


def test_reduced_precision_is_measured_again_once_the_network_was_trained(start, monkeypatch):
    measured, measure = [], stages.measure_shifts
    monkeypatch.setattr(stages, "measure_shifts", lambda *args: measured.append(1) or measure(*args))
    texts, labels = texts_and_labels(60)
    clf = classifier(start, tfidf=False).fit(texts, labels).fit(texts, labels)
    assert len(measured) == 1
    with torch.no_grad():
        for parameter in clf.net_.module_.encoder.rnns.parameters():
            parameter.mul_(-1)
    clf.fit(texts, labels)
    assert len(measured) == 2


def test_rounds_with_memory_are_the_same_each_time(start, tmp_path):
    texts, labels = texts_and_labels(90)
    first, second = (
        classifier(start, memory=tmp_path).fit(texts[:60], labels[:60]).fit(texts, labels) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(ASK), second.predict_proba(ASK))


def test_many_entries_are_trained_anew(start, monkeypatch):
    texts, labels = texts_and_labels(60)
    clf = classifier(start).fit(texts, labels)
    assert clf._fitted.seen_trainings[0] is not None
    monkeypatch.setattr(rounds, "MOST_ENTRIES", 179)
    clf.fit(texts, labels)
    assert clf._fitted.seen_trainings[0] is None


def test_a_fit_without_warm_start_keeps_nothing(start):
    texts, labels = texts_and_labels(30)
    fitted = classifier(start, warm_start=False).fit(texts, labels)._fitted
    assert fitted.seen_tokens is None
    assert fitted.seen_trainings == (None,)


def test_a_regressor_goes_on_round_by_round(start):
    texts, labels = texts_and_labels(120)
    y = np.array([len(row) + 0.1 * len(text) for text, row in zip(texts, labels, strict=True)])
    model = ULMFiTRegressor(start, random_state=0, warm_start=True)
    for n in (60, 80, 120):
        model.fit(texts[:n], y[:n])
    fresh = ULMFiTRegressor(start, random_state=0).fit(texts, y)
    np.testing.assert_allclose(model.predict(ASK), fresh.predict(ASK), atol=0.2 * y.std())
