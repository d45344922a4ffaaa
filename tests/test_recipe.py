import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given
from hypothesis import strategies as st
from skorch.callbacks import Callback

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.training import recipe

BY_SIZE = {"max_epochs": None, "batch_size": None}
FEW = ((10, 3, 2), (30, 2, 8), (float("inf"), 1, 16))


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_data_means_fewer_epochs_in_larger_batches(a, b):
    a, b = min(a, b), max(a, b)
    assert recipe.classifier_epochs(a) >= recipe.classifier_epochs(b) >= 1
    assert recipe.classifier_batch_size(a) <= recipe.classifier_batch_size(b)
    assert recipe.language_model_epochs(a) >= recipe.language_model_epochs(b) >= 1


@pytest.mark.parametrize(("n", "epochs", "batches"), [(10, 3, 5), (11, 2, 2), (40, 1, 3)])
def test_a_classifier_is_trained_by_the_number_of_its_texts(monkeypatch, n, epochs, batches):
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    clf = tiny_classifier(**BY_SIZE).fit(*make_corpus(n))
    assert len(clf.history_) == epochs
    assert {row["train_batch_count"] for row in clf.history_} == {batches}
    assert clf.net_.max_epochs == epochs


def test_texts_held_out_do_not_count(monkeypatch):
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    settings = {**BY_SIZE, "early_stopping": True, "validation_fraction": 0.5, "n_iter_no_change": 9}
    assert len(tiny_classifier(**settings).fit(*make_corpus(20)).history_) == 3


def test_a_head_alone_gets_more(monkeypatch):
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    assert len(tiny_classifier(**BY_SIZE, unfreezing="head").fit(*make_corpus(40)).history_) == 10


@pytest.fixture
def pretrained(tmp_path):
    texts, labels = make_corpus(40)
    tiny_lm(max_epochs=1, n_layers=2).fit(texts).save(tmp_path / "model")
    return {"language_model": tmp_path / "model", "lm_epochs": 0, "embedding_lr": None}, texts, labels


@pytest.mark.parametrize(("embedding_lr", "epochs"), [(0.01, 3), (None, 4)])
def test_no_layer_stays_frozen(monkeypatch, pretrained, embedding_lr, epochs):
    settings, texts, labels = pretrained
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    history = tiny_classifier(**BY_SIZE, **{**settings, "embedding_lr": embedding_lr}).fit(texts, labels).history_
    assert len(history) == epochs
    assert history[-1]["trained_groups"] == "head, layer 2, layer 1, embedding"


@pytest.mark.parametrize(("most", "is_gradual"), [(40, True), (39, False)])
def test_many_texts_train_all_layers_from_the_first_epoch(monkeypatch, pretrained, most, is_gradual):
    settings, texts, labels = pretrained
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    monkeypatch.setattr(recipe, "MOST_TEXTS_GRADUALLY", most)
    begun = tiny_classifier(**settings, max_epochs=1).fit(texts, labels)
    asked = tiny_classifier(**settings, max_epochs=1, unfreezing="gradual" if is_gradual else "at_once")
    other = tiny_classifier(**settings, max_epochs=1, unfreezing="at_once" if is_gradual else "gradual")
    proba = begun.predict_proba(texts)
    assert np.array_equal(proba, asked.fit(texts, labels).predict_proba(texts))
    assert not np.allclose(proba, other.fit(texts, labels).predict_proba(texts), atol=1e-4)
    layer = "encoder.rnns.0.weight_ih_l0"
    before, after = begun.language_model_.state_.weights[layer], begun.net_.module_.state_dict()[layer].numpy()
    assert np.array_equal(before, after) == is_gradual
    assert len(tiny_classifier(**BY_SIZE, **settings).fit(texts, labels).history_) == (4 if is_gradual else 1)


@pytest.mark.parametrize("value", ["yes", 1])
def test_gradually_or_not(value):
    with pytest.raises(ValueError, match="unfreezing must be one of"):
        tiny_classifier(unfreezing=value).fit(*make_corpus(4))


def test_what_is_asked_for_is_done(monkeypatch):
    monkeypatch.setattr(recipe, "CLASSIFIER", FEW)
    clf = tiny_classifier(max_epochs=2, batch_size=4).fit(*make_corpus(10))
    assert [row["train_batch_count"] for row in clf.history_] == [3, 3]


def test_a_language_model_reads_so_many_tokens(monkeypatch):
    texts = make_corpus(40)[0]
    n = len(tiny_lm(max_epochs=0).fit(texts).state_.encode(texts).ids)
    assert len(tiny_lm(max_epochs=None).fit(texts).history_) == 10
    monkeypatch.setattr(recipe, "LANGUAGE_MODEL_TOKENS", 2.2 * n)
    assert len(tiny_lm(max_epochs=None).fit(texts).history_) == 2


def test_a_saved_classifier_keeps_what_was_asked_for(tmp_path):
    texts, labels = make_corpus(12)
    clf = tiny_classifier(**BY_SIZE, tfidf=False).fit(texts, labels)
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.max_epochs is None
    assert loaded.batch_size is None
    assert loaded.net_.max_epochs == 20
    assert np.array_equal(loaded.predict_proba(texts), clf.predict_proba(texts))


# Defaults of the language model, with tiny sizes
OPEN = {"emb_dim": 12, "hidden_dim": 16, "n_layers": 2, "bptt": 10, "min_frequency": 1, "random_state": 0}
MORE = ["one more text about a parcel"]


def from_random_weights(**params):
    settings = {"language_model": ULMFiTLanguageModel(None, **OPEN), "max_epochs": 1, "tfidf": True}
    return tiny_classifier(**{**settings, **params})


@pytest.mark.parametrize(
    ("fewest", "params", "unlabelled", "is_trained"),
    [
        (20, {}, None, True),
        (21, {}, None, False),
        (21, {}, MORE, True),
        (21, {"unfreezing": "head"}, None, True),  # a frozen encoder learns nothing else
        (21, {"tfidf": False}, None, True),
        (21, {"lm_epochs": 1}, None, True),
        (20, {"lm_epochs": 0}, None, False),
    ],
)
def test_from_random_weights_few_labelled_texts_train_no_language_model(
    monkeypatch, fewest, params, unlabelled, is_trained
):
    monkeypatch.setattr(recipe, "FEWEST_TEXTS_OF_LANGUAGE_MODEL", fewest)
    clf = from_random_weights(**params).fit(*make_corpus(20), unlabelled_texts=unlabelled)
    assert bool(clf.language_model_.history_) == is_trained
    assert clf.language_model.max_epochs is None  # the parameters of the user stay


def test_a_language_model_of_its_own_is_trained_on_few_texts():
    assert len(ULMFiTLanguageModel(None, **OPEN, max_epochs=None).fit(make_corpus(4)[0]).history_) == 10


def test_the_same_goes_for_values_and_for_two_directions():
    texts, labels = make_corpus(20)
    settings = {"max_epochs": 1, "batch_size": 8, "random_state": 0}
    regressor = ULMFiTRegressor(ULMFiTLanguageModel(None, **OPEN), **settings).fit(texts, [len(x) for x in labels])
    assert regressor.language_model_.history_ == []
    both = from_random_weights(direction="both").fit(texts, labels)
    assert both.language_model_.history_ == both.backward_language_model_.history_ == []


def test_texts_without_a_known_label_count_as_unlabelled():
    texts, labels = make_corpus(20)
    y = np.array([[name in row for name in ("billing", "delivery", "technical")] for row in labels], float)
    assert from_random_weights().fit(texts, y).language_model_.history_ == []
    y[3] = np.nan
    assert from_random_weights().fit(texts, y).language_model_.history_


def test_a_pretrained_language_model_without_vector_is_always_fine_tuned(pretrained):
    settings, texts, labels = pretrained
    clf = from_random_weights(language_model=settings["language_model"]).fit(texts, labels)
    assert clf.language_model_.history_


def test_a_language_model_that_is_not_trained_says_why(capsys):
    from_random_weights(verbose=1).fit(*make_corpus(20))
    shown = capsys.readouterr().err
    assert (
        "  language model: not trained, since so few texts teach random weights too little (max_epochs=None)" in shown
    )
    assert "counting words, reading texts" in shown


def test_callbacks_of_a_language_model_that_is_not_trained_are_said():
    model = ULMFiTLanguageModel(None, **OPEN, callbacks=[Callback()])
    with pytest.warns(UserWarning, match="callbacks were not called, since .* a classifier had too few texts for it"):
        from_random_weights(language_model=model).fit(*make_corpus(20))
