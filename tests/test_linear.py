import pickle

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MultiLabelBinarizer, Normalizer
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.models.state import ModelFileError, load_state, save_state
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, UNK, TokenIds, Vocabulary
from sk_ulmfit.training import linear, linear_training, stages, term_counts
from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.batching import DocumentDataset
from sk_ulmfit.training.linear_training import fit_linear_model
from sk_ulmfit.training.ngrams import count_ngrams
from sk_ulmfit.training.term_counts import CountedDocuments


def token_ids(documents):
    lengths = [len(document) for document in documents]
    return TokenIds(np.concatenate([[], *documents]).astype(np.int32), np.cumsum([0, *lengths]))


VOCABULARY = Vocabulary.from_counts([str(i) for i in range(40)], np.ones(40), max_size=64, min_frequency=1)


def train(documents, y, **params):
    """Train on documents of numbers; those of special tokens are below `len(SPECIAL_TOKENS)`."""
    fit = fit_linear_model(token_ids(documents), VOCABULARY, y, **params)
    return None if fit is None else fit.model


def assert_equal_models(model, other):
    arrays, others = model.to_arrays(), other.to_arrays()
    assert arrays.keys() == others.keys()
    assert all(np.array_equal(arrays[name], others[name]) for name in arrays)


def random_documents(n, seed):
    """Documents of numbers from 10 to 29; a label means that its number is in the document."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(10, 30, rng.integers(1, 12)) for _ in range(n)]
    return documents, np.array([[number in document for number in (10, 14, 18)] for document in documents], np.float32)


@pytest.fixture(scope="module")
def trained():
    documents, y = random_documents(80, 0)
    return train(documents, y)


@pytest.fixture(scope="module")
def both():
    """A classifier whose network and linear model are both at work."""
    return tiny_classifier(tfidf=True, max_epochs=2).fit(*make_corpus(60))


class WeighedSVM(ClassifierMixin, BaseEstimator):
    """A linear SVM on features times how much more or less often the documents of its class have them."""

    def __init__(self, c):
        self.c = c

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        has, rates = x.toarray() > 0, []
        for documents in (has[y == 1], has[y == 0]):
            rates.append((documents.sum(0) + 0.5) / (len(documents) + 1))
        evidence = np.abs(np.log(rates[0] / rates[1])) ** (1 / 3)
        self.factor = evidence / np.sqrt(np.square(x.toarray() * evidence).sum(1).mean())
        self.svm = LinearSVC(C=self.c, tol=0.1, random_state=0).fit(sparse.csr_matrix(x.multiply(self.factor)), y)
        return self

    def decision_function(self, x):
        return self.svm.decision_function(sparse.csr_matrix(x.multiply(self.factor)))


def test_margins_are_those_of_the_best_svm_of_scikit_learn_on_one_scale():
    documents, y = random_documents(80, 0)
    y = np.where(np.random.default_rng(0).random(y.shape) < 0.1, 1 - y, y)
    new, _ = random_documents(30, 1)
    texts, new_texts = (
        [" ".join(VOCABULARY.words[number] for number in document) for document in some] for some in (documents, new)
    )

    def svm(c):
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+")
        ngrams = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4))
        return make_pipeline(make_union(words, ngrams), Normalizer(), OneVsRestClassifier(WeighedSVM(c)))

    fold, rest = next(KFold(3, shuffle=True, random_state=0).split(texts))[::-1]
    first, others = ([texts[row] for row in rows] for rows in (fold, rest))
    margins = {c: svm(c).fit(others, y[rest]).decision_function(first) for c in (1.0, 0.3, 0.1, 0.03)}
    precision = {c: average_precision_score(y[fold], of_fold) for c, of_fold in margins.items()}
    assert len(set(precision.values())) == 4
    assert max(precision, key=precision.get) != 1.0  # the first one tried
    margins = svm(max(precision, key=precision.get)).fit(texts, y).decision_function(new_texts)
    logits = train(documents, y).logits(token_ids(new))
    for margin, logit_ in zip(margins.T, logits.T, strict=True):
        slope, offset = np.polyfit(margin, logit_, 1)
        assert slope > 1
        assert np.allclose(logit_, slope * margin + offset, atol=0.02)  # stored in 16 bits


@given(st.integers(0, 10_000))
def test_a_document_that_counts_k_times_is_k_documents(seed):
    rng = np.random.default_rng(seed)
    features = sparse.csr_matrix(rng.random((12, 5)) * (rng.random((12, 5)) < 0.5))
    y, weight = np.arange(12) % 2, rng.integers(1, 4, 12)
    repeated = np.repeat(np.arange(12), weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_training, "TOLERANCE", 1e-6)
        found = linear_training._fit_svm(features, y, weight.astype(np.float32), 1.0, 0)
        wanted = linear_training._fit_svm(features[repeated], y[repeated], None, 1.0, 0)
    assert np.allclose(found[0], wanted[0], atol=1e-3)
    assert np.isclose(found[1], wanted[1], atol=1e-3)


def test_words_say_the_same_of_every_text_about_a_label_known_only_of_texts_without_words():
    documents, y = random_documents(80, 0)
    documents += [[]] * 6
    y = np.vstack([y, np.zeros((6, 3))])
    empty_only = np.append(np.full(80, np.nan), [1, 0] * 3)
    logits = train(documents, np.column_stack([y, empty_only])).logits(token_ids(documents))
    assert np.ptp(logits[:, 3]) == 0
    assert abs(logits[0, 3]) < 5
    assert (np.ptp(logits[:, :3], axis=0) > 1).all()


def test_log_odds_are_learned_from_held_out_documents_for_each_label():
    """Labels that are words, one that is mere chance, and one that two documents have: none is worse than its rate."""
    rng = np.random.default_rng(5)
    documents, y = random_documents(400, 5)
    documents = [np.append(document, 31) if i in (7, 90) else document for i, document in enumerate(documents)]
    rare = np.isin(np.arange(400), (7, 90))
    weights = train(documents, np.column_stack([y, rng.random(400) < 0.4, rare]))
    new, y_new = random_documents(400, 6)
    proba = expit(weights.logits(token_ids(new)))
    wanted = np.column_stack([y_new, rng.random(400) < 0.4, np.zeros(400)])
    surprise = -np.log(np.where(wanted > 0, proba, 1 - proba)).mean(0)
    rates = np.append(y_new.mean(0), 0.4)
    entropy = -(rates * np.log(rates) + (1 - rates) * np.log(1 - rates))
    assert (surprise[:3] < 0.5 * entropy[:3]).all()
    assert surprise[3] < 1.1 * entropy[3]
    assert surprise[4] < 0.05
    one_more = weights.logits(token_ids([[31, 20], [20]]))[:, 4]
    assert one_more[0] > one_more[1] + 0.5


@given(st.lists(st.lists(st.integers(0, 30), max_size=9), min_size=1, max_size=8), st.integers(1, 12))
def test_a_document_does_not_depend_on_the_others(trained, documents, tokens_at_once):
    corpus = token_ids(documents)
    together = trained.logits(corpus)
    assert np.array_equal(corpus.ids, token_ids(documents).ids)
    alone = [trained.logits(token_ids([document]))[0] for document in documents]
    assert np.array_equal(together, alone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "TOKENS_AT_ONCE", tokens_at_once)
        assert np.array_equal(together, trained.logits(token_ids(documents)))


def test_no_documents(trained):
    assert trained.logits(token_ids([])).shape == (0, 3)


def test_labels_that_all_or_no_documents_have_keep_their_base_rate():
    documents, y = random_documents(80, 0)
    y[:, 1], y[:, 2] = 0, 1
    logits = train(documents, y).logits(token_ids(documents))
    assert np.allclose(expit(logits[:, 1:]), [0.5 / 81, 80.5 / 81])
    assert np.ptp(logits[:, 0]) > 1


def test_labels_about_which_words_say_nothing_are_left_to_the_network():
    documents, y = random_documents(80, 0)
    assert train([[15], [16]], np.zeros((2, 1))) is None
    assert train([[15]], np.ones((1, 1))) is None
    assert train([[]], np.ones((1, 1))) is None
    some = train(documents, np.column_stack([y, np.random.default_rng(3).random((80, 6)) < 0.5]))
    left = some.share == 1
    assert not left[:3].any()
    assert left[3:].any()
    corpus = token_ids(documents[:5])
    assert np.array_equal(
        average_with_linear_model(np.full((5, 9), 3.0), some.logits(corpus), some.share)[:, left],
        np.full((5, left.sum()), 3.0),
    )


def test_documents_that_are_all_the_same_get_the_rates_of_the_labels():
    y = np.random.default_rng(0).random((80, 3)) < [0.7, 0.3, 0.05]
    weights = train([[15, 16, 17]] * 80, y)
    network = np.log(y.mean(0) / (1 - y.mean(0)))[None]
    logits = average_with_linear_model(network, weights.logits(token_ids([[15, 16, 17]])), weights.share)
    assert np.abs(expit(logits) - y.mean(0)).max() < 0.05


def test_labels_of_one_document_each_are_learned_on_a_scale_for_all():
    """No held-out document shows how a margin of such a label is to be read."""
    documents = [[20, 21, 10 + i] for i in range(8)]
    logits = train(documents, np.eye(8)).logits(token_ids(documents))
    assert np.array_equal(logits.argmax(1), np.arange(8))


def test_markers_of_the_begin_and_of_unknown_words_are_no_words():
    documents, y = random_documents(80, 0)
    bos, unk = VOCABULARY.index("xxbos"), VOCABULARY.index(UNK)
    marked = [np.concatenate([[bos], document, [unk] * i]) for i, document in enumerate(documents)]
    plain, with_markers = train(documents, y), train(marked, y)
    assert_equal_models(plain, with_markers)
    assert len(SPECIAL_TOKENS) <= 10


def test_workers_and_parts_change_nothing(trained):
    documents, y = random_documents(80, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "TOKENS_AT_ONCE", 50)
        patch.setattr(linear_training, "MIN_WORK_FOR_WORKERS", 0)
        again = train(documents, y, n_jobs=2)
    assert_equal_models(trained, again)


def test_of_many_documents_one_fold_is_held_out(trained):
    documents, y = random_documents(80, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_counts, "MAX_FOLDED", 20)
        once = train(documents, y)
    logits, wanted = (weights.logits(token_ids(documents)) for weights in (once, trained))
    assert np.array_equal(logits > 0, wanted > 0)
    assert not np.allclose(logits, wanted, atol=0.01)


def test_share_of_the_network_grows_with_the_texts_of_a_label(both):
    labels = make_corpus(60)[1]
    new = make_corpus(10, seed=5)[0]
    corpus = both.language_model_.state_.encode(new)
    network = logit(both.net_.predict_proba(DocumentDataset(corpus)).astype(float))
    words = both._fitted.linear_model.logits(corpus)
    c = MultiLabelBinarizer().fit_transform(labels).sum(0)
    c = np.minimum(c, 60 - c)
    share = c / (2 * c + 60)
    assert np.allclose(logit(both.predict_proba(new)), share * network + (1 - share) * words, atol=1e-4)


def test_a_label_with_two_texts_is_found_by_its_word():
    texts, labels = make_corpus(60)
    texts += ["The palladium hub is late.", "My bulb of palladium is broken!"]
    labels += [["delivery", "metal"], ["metal", "technical"]]
    clf = tiny_classifier(tfidf=True, max_epochs=1).fit(texts, labels)
    new = [*make_corpus(30, seed=4)[0], "Where is the palladium app?"]
    assert clf.predict_proba(new)[:, clf.label_names_.tolist().index("metal")].argmax() == 30


def test_saved_classifiers_keep_it(both, tmp_path):
    texts = make_corpus(8, seed=6)[0]
    both.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.tfidf is True
    assert np.array_equal(loaded.predict_proba(texts), both.predict_proba(texts))


def test_held_out_texts_are_not_learned(monkeypatch):
    """The labels of held-out texts change nothing but the loss on them; those of all others do."""
    texts, labels = make_corpus(12)
    monkeypatch.setattr(stages, "hold_out", lambda y, fraction, seed: (np.arange(6), np.arange(6, 12)))
    settings = {"tfidf": True, "max_epochs": 1, "early_stopping": True, "validation_fraction": 0.5}
    first = tiny_classifier(**settings).fit(texts, labels)
    new = make_corpus(10, seed=5)[0]
    same = []
    for row in range(12):
        changed = [["billing", "delivery", "technical"] if i == row else old for i, old in enumerate(labels)]
        again = tiny_classifier(**settings).fit(texts, changed)
        same.append(np.array_equal(again.predict_proba(new), first.predict_proba(new)))
    assert same == [False] * 6 + [True] * 6


def test_files_from_before_it_counted_letters_can_be_read(both, tmp_path):
    """Without its n-grams, the model decides by words alone."""
    both.save(tmp_path / "model")
    state = load_state(tmp_path / "model", "classifier")
    n_words = len(state.weights["tfidf.words"])
    for name in ("tfidf.idf", "tfidf.weight"):
        state.weights[name] = state.weights[name][:n_words]
    for name in ("ngram_offsets", "ngrams", "ngram_counts"):
        del state.weights[f"tfidf.{name}"]
    save_state(state, tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    texts = make_corpus(8, seed=6)[0]
    found = loaded.predict_proba(texts)
    assert not np.array_equal(found, both.predict_proba(texts))
    assert np.abs(found - both.predict_proba(texts)).max() < 0.5


def test_a_word_that_no_text_had_is_known_by_its_letters():
    words = ["paint", "painted", "painter", "lamp", "lamps", "hub", "hubs", "painting", "lampshade"]
    vocabulary = Vocabulary(words)
    ids = {word: vocabulary.index(word) for word in words}
    texts = [["paint", "hub"], ["painted", "hubs"], ["painter"], ["lamp", "hub"], ["lamps"], ["lamp", "hubs"]] * 6
    documents = [[ids[word] for word in text] for text in texts]
    y = np.array([[any(word.startswith("paint") for word in text)] for text in texts], np.float32)
    model = fit_linear_model(token_ids(documents), vocabulary, y).model
    painting, lampshade = model.logits(token_ids([[ids["painting"]], [ids["lampshade"]]]))[:, 0]
    assert painting > 2 > -2 > lampshade
    nothing = model.logits(token_ids([[vocabulary.unk], []]))[:, 0]
    assert nothing[0] == nothing[1]


def test_ngrams_in_fewer_than_three_texts_and_of_markers_are_not_counted():
    vocabulary = Vocabulary(["xxmaj", "abcd", "efgh", "ijkl"])
    ids = [vocabulary.index(word) for word in ("xxmaj", "abcd", "efgh", "ijkl")]
    documents = [[ids[0], ids[1]]] * 4 + [[ids[0], ids[2]]] * 2 + [[ids[0], ids[3], ids[3]]] * 3
    model = fit_linear_model(token_ids(documents), vocabulary, np.eye(2)[[0] * 4 + [1] * 5]).model
    n_ngrams = np.diff(model.ngram_offsets)
    assert n_ngrams[ids].tolist() == [0, 7, 0, 7]  # " ab" "abc" "bcd" "cd " " abc" "abcd" "bcd "


def test_ngrams_are_those_of_scikit_learn():
    words = ["", "a", "ab", "abc", "abab abab", "naïve", "😀b😀b😀", "xyz" * 9, "日本語", "a\u3000bc", "\ud800z", "ab"]
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4), lowercase=False, dtype=np.float32)
    wanted, found = vectorizer.fit_transform(words), count_ngrams(words)
    assert found.dtype == wanted.dtype
    assert found.has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), wanted.toarray())
    assert count_ngrams(["", " "]).shape == (2, 0)


@pytest.mark.parametrize(
    ("precisions", "tried", "chosen"),
    [
        ({0.3: 0.2, 0.1: 0.3, 0.03: 0.1}, [0.3, 0.1, 0.03], 0.1),
        ({0.3: 0.2, 0.1: 0.3, 0.03: 0.4}, [0.3, 0.1, 0.03], 0.03),
        ({0.3: 0.2, 0.1: 0.1, 1.0: 0.4}, [0.3, 0.1, 1.0], 1.0),
        ({0.3: 0.2, 0.1: 0.2, 1.0: 0.1}, [0.3, 0.1, 1.0], 0.3),
        ({0.3: 0.0, 0.1: 0.0, 1.0: 0.0}, [0.3, 0.1, 1.0], 1.0),
    ],
)
def test_three_strengths_are_tried_and_the_largest_of_the_best_is_taken(monkeypatch, precisions, tried, chosen):
    strengths = []

    def margins(documents, folds, strength, solver):
        strengths.append(strength)
        return np.full((sum(len(held_out) for _, held_out in folds), 2), strength)

    monkeypatch.setattr(linear_training, "_held_out_margins", margins)
    monkeypatch.setattr(linear_training, "mean_average_precision", lambda truth, found, weight: precisions[found[0, 0]])
    documents = CountedDocuments(sparse.csr_matrix((9, 1)), 1, np.zeros((9, 2)), None)
    strength, rows, found = linear_training._choose_strength(documents, linear_training._Solver(0, 1, None))
    assert strengths == [*tried, chosen]
    assert strength == chosen
    assert (found == chosen).all()
    assert sorted(rows) == list(range(9))


def test_with_very_many_labels_the_rarest_ngrams_are_left_out(monkeypatch, trained):
    documents, y = random_documents(80, 0)
    n_all = len(trained.idf) - len(trained.words)
    monkeypatch.setattr(term_counts, "MAX_NGRAM_WEIGHTS", 3 * (n_all - 5))
    fewer = train(documents, y)
    assert len(fewer.idf) - len(fewer.words) == n_all - 5


def test_pickles_and_copies_keep_it(both):
    texts = make_corpus(8, seed=6)[0]
    assert np.array_equal(pickle.loads(pickle.dumps(both)).predict_proba(texts), both.predict_proba(texts))


def test_files_from_before_it_was_there_can_be_read(tmp_path):
    old = tiny_classifier(tfidf=False, max_epochs=1).fit(*make_corpus(20))
    old.save(tmp_path / "model")
    state = load_state(tmp_path / "model", "classifier")
    del state.config["params"]["tfidf"]
    save_state(state, tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.tfidf is False
    assert np.array_equal(loaded.predict_proba(["The lamp."]), old.predict_proba(["The lamp."]))


def test_a_file_with_half_of_it_is_refused(both, tmp_path):
    both.save(tmp_path / "model")
    state = load_state(tmp_path / "model", "classifier")
    del state.weights["tfidf.idf"]
    save_state(state, tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"does not describe a whole classifier .*tfidf\.idf"):
        ULMFiTMultiLabelClassifier.load(tmp_path / "model")


@pytest.mark.parametrize("unfreezing", ["auto", "head"])
def test_it_is_on_by_default_and_can_be_left_out(unfreezing):
    assert ULMFiTMultiLabelClassifier().tfidf is True
    texts, labels = make_corpus(40)
    alone = tiny_classifier(tfidf=False, max_epochs=1, unfreezing=unfreezing).fit(texts, labels)
    network = alone.net_.predict_proba(DocumentDataset(alone.language_model_.state_.encode(texts)))
    assert np.allclose(alone.predict_proba(texts), network, atol=1e-6)
    with_words = tiny_classifier(tfidf=True, max_epochs=1, unfreezing=unfreezing).fit(texts, labels)
    assert np.abs(with_words.predict_proba(texts) - alone.predict_proba(texts)).max() > 0.1


@pytest.mark.parametrize("wrong", ["yes", None, 1])
def test_it_must_be_true_or_false(wrong):
    with pytest.raises(ValueError, match=r"tfidf must be True or False, got"):
        tiny_classifier(tfidf=wrong).fit(*make_corpus(8))
