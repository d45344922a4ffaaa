import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTMultiLabelClassifier, tfidf
from sk_ulmfit.batching import DocumentDataset
from sk_ulmfit.text import TokenIds
from sk_ulmfit.tfidf import blend, fit_tfidf, tfidf_logits


def token_ids(documents):
    lengths = [len(document) for document in documents]
    return TokenIds(np.concatenate([[], *documents]).astype(np.int32), np.cumsum([0, *lengths]))


def random_documents(n, seed):
    """Documents of numbers from 5 to 24; a label means that its number is in the document."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(5, 25, rng.integers(1, 12)) for _ in range(n)]
    return documents, np.array([[number in document for number in (5, 9, 13)] for document in documents], np.float32)


@pytest.fixture(scope="module")
def trained():
    documents, y = random_documents(80, 0)
    return fit_tfidf(token_ids(documents), y)


@pytest.fixture(scope="module")
def both():
    """A classifier whose network and linear model are both at work."""
    return tiny_classifier(tfidf=True, max_epochs=2).fit(*make_corpus(60))


def test_margins_are_those_of_the_best_svm_of_scikit_learn_on_one_scale(trained):
    documents, y = random_documents(80, 0)
    new, _ = random_documents(30, 1)
    texts, new_texts = ([" ".join(map(str, document)) for document in some] for some in (documents, new))

    def svm(c):
        vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+")
        return make_pipeline(vectorizer, OneVsRestClassifier(LinearSVC(C=c, random_state=0)))

    folds = KFold(3, shuffle=True, random_state=0)
    held_out = {c: cross_val_predict(svm(c), texts, y, cv=folds, method="decision_function") for c in (1.0, 0.3, 0.1)}
    precision = {c: average_precision_score(y, margins) for c, margins in held_out.items()}
    assert len(set(precision.values())) == 3
    margins = svm(max(precision, key=precision.get)).fit(texts, y).decision_function(new_texts)
    logits = tfidf_logits(trained, token_ids(new))
    slope, offset = np.polyfit(margins.ravel(), logits.ravel(), 1)
    assert slope > 1
    assert np.allclose(logits, slope * margins + offset, atol=0.01)  # stored in 16 bits


def test_log_odds_are_learned_from_held_out_documents(trained):
    """The labels are words, so held-out documents are mostly right, and the odds say so."""
    new, y = random_documents(300, 2)
    proba = expit(tfidf_logits(trained, token_ids(new)))
    surprise = -np.log(np.where(y > 0, proba, 1 - proba)).mean()
    rates = y.mean(0)
    assert surprise < 0.7 * -(rates * np.log(rates) + (1 - rates) * np.log(1 - rates)).mean()
    assert abs(proba.mean() - y.mean()) < 0.05


@given(st.lists(st.lists(st.integers(0, 30), max_size=9), min_size=1, max_size=8), st.integers(1, 12))
def test_a_document_does_not_depend_on_the_others(trained, documents, tokens_at_once):
    together = tfidf_logits(trained, token_ids(documents))
    alone = [tfidf_logits(trained, token_ids([document]))[0] for document in documents]
    assert np.array_equal(together, alone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfidf, "TOKENS_AT_ONCE", tokens_at_once)
        assert np.array_equal(together, tfidf_logits(trained, token_ids(documents)))


def test_no_documents(trained):
    assert tfidf_logits(trained, token_ids([])).shape == (0, 3)


def test_labels_that_all_or_no_documents_have_keep_their_base_rate():
    documents, y = random_documents(80, 0)
    y[:, 1], y[:, 2] = 0, 1
    logits = tfidf_logits(fit_tfidf(token_ids(documents), y), token_ids(documents))
    assert np.allclose(expit(logits[:, 1:]), [0.5 / 81, 80.5 / 81])
    assert np.ptp(logits[:, 0]) > 1


def test_words_that_say_nothing_are_left_out():
    _, y = random_documents(80, 0)
    assert fit_tfidf(token_ids([[5, 6, 7]] * 80), y) == {}
    assert fit_tfidf(token_ids([[5], [6]]), np.zeros((2, 1))) == {}
    assert fit_tfidf(token_ids([[5]]), np.ones((1, 1))) == {}
    network = np.ones((1, 1))
    assert blend(network, {}, token_ids([[5]])) is network


def test_workers_and_parts_change_nothing(trained):
    documents, y = random_documents(80, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfidf, "TOKENS_AT_ONCE", 50)
        again = fit_tfidf(token_ids(documents), y, n_jobs=2)
    assert trained.keys() == again.keys()
    assert all(np.array_equal(trained[name], again[name]) for name in trained)


def test_many_documents_are_scaled_on_one_fold(trained):
    documents, y = random_documents(80, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfidf, "MOST_FOLDED", 79)
        once = fit_tfidf(token_ids(documents), y)
    ratio = once["tfidf.weight"].astype(float) / trained["tfidf.weight"].astype(float)
    assert 0.5 < ratio.min() < 2
    assert np.allclose(ratio, ratio.mean(), rtol=0.01)
    assert not np.isclose(ratio.mean(), 1, rtol=1e-3)


def test_share_of_the_network_grows_with_the_texts_of_a_label(both):
    labels = make_corpus(60)[1]
    new = make_corpus(10, seed=5)[0]
    corpus = both.language_model_.state_.encode(new)
    network = logit(both.net_.predict_proba(DocumentDataset(corpus)).astype(float))
    words = tfidf_logits(both._tfidf, corpus)
    c = MultiLabelBinarizer().fit_transform(labels).sum(0)
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


def test_held_out_texts_are_not_learned():
    texts, labels = make_corpus(60)
    texts = [f"{text} number{i}" for i, text in enumerate(texts)]
    clf = tiny_classifier(tfidf=True, max_epochs=1, early_stopping=True, validation_fraction=0.5).fit(texts, labels)
    known = clf._tfidf["tfidf.words"]
    seen = [clf.vocabulary_.index(f"number{i}") in known for i in range(60)]
    assert sum(seen) == 30


@pytest.mark.parametrize("freeze_encoder", [False, True])
def test_it_is_on_by_default_and_can_be_left_out(freeze_encoder):
    assert ULMFiTMultiLabelClassifier().tfidf is True
    texts, labels = make_corpus(40)
    alone = tiny_classifier(tfidf=False, max_epochs=1, freeze_encoder=freeze_encoder).fit(texts, labels)
    network = alone.net_.predict_proba(DocumentDataset(alone.language_model_.state_.encode(texts)))
    assert np.allclose(alone.predict_proba(texts), network, atol=1e-6)
    with_words = tiny_classifier(tfidf=True, max_epochs=1, freeze_encoder=freeze_encoder).fit(texts, labels)
    assert np.abs(with_words.predict_proba(texts) - alone.predict_proba(texts)).max() > 0.1


@pytest.mark.parametrize("wrong", ["yes", None, 1])
def test_it_must_be_true_or_false(wrong):
    with pytest.raises(ValueError, match=r"tfidf must be True or False, got"):
        tiny_classifier(tfidf=wrong).fit(*make_corpus(8))
