"""A start that has a vector of a text: the linear head is trained first, and layers are unfrozen for many texts."""

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from scipy.special import expit
from skorch.callbacks import Callback

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.encoders import choose_language_models
from sk_ulmfit.lr_finder import lr_find
from sk_ulmfit.models.schema import LINEAR_MODEL
from sk_ulmfit.training import recipe, stages
from sk_ulmfit.training.linear_head import fit_linear_head
from sk_ulmfit.training.share import HALF_SHARE

N_TEXTS = 60


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(N_TEXTS, seed=3)


@pytest.fixture(scope="module")
def start(corpus, tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1, random_state=0).fit(corpus[0]), path, dim=8)
    return path


def classifier(start, **params):
    return tiny_classifier(**{"language_model": start, "max_epochs": None, "batch_size": None, "lr": None, **params})


def weights_of(clf):
    return {name: tensor.numpy().copy() for name, tensor in clf.net_.module_.state_dict().items()}


def test_few_texts_train_the_head_alone_on_the_vectors_of_the_frozen_network(start, corpus, monkeypatch):
    heads = []
    monkeypatch.setattr(stages, "fit_linear_head", lambda *args: heads.append(fit_linear_head(*args)) or heads[0])
    clf = classifier(start).fit(*corpus)
    lm = ULMFiTLanguageModel.load(start)
    weights = weights_of(clf)
    assert clf.history_ == []
    np.testing.assert_array_equal(weights["head.weight"], heads[0].weight)
    np.testing.assert_array_equal(weights["head.bias"], heads[0].bias)
    np.testing.assert_array_equal(weights["vector.weight"], lm.state_.weights["vector.weight"])
    np.testing.assert_array_equal(
        weights["encoder.rnns.0.weight_hh_l0"], lm.state_.weights["encoder.rnns.0.weight_hh_l0"]
    )
    logits = lm.transform(corpus[0]) @ weights["head.weight"].T + weights["head.bias"]
    bounded = expit(np.clip(logits, *clf._fitted.config["log_odds_range"]))
    np.testing.assert_allclose(clf.predict_proba(corpus[0]), bounded, atol=2e-3)


@pytest.mark.parametrize(("unfreezing", "n_read"), [("head", 1), ("at_once", 2)])
def test_the_range_is_that_of_vectors_at_hand(start, corpus, unfreezing, n_read, monkeypatch):
    read, heads = [], []
    pooled_features, fit_head, network_logits = stages.pooled_features, stages.fit_linear_head, stages.network_logits
    monkeypatch.setattr(
        stages, "pooled_features", lambda *args, **kwargs: read.append(1) or pooled_features(*args, **kwargs)
    )
    monkeypatch.setattr(stages, "network_logits", lambda *args: read.append(1) or network_logits(*args))
    monkeypatch.setattr(
        stages, "fit_linear_head", lambda *args: heads.append((args[0], fit_head(*args))) or heads[0][1]
    )
    clf = classifier(start, unfreezing=unfreezing, tfidf=False).fit(*corpus)
    assert len(read) == n_read
    (vectors, head), found = heads[0], np.array(clf._fitted.config["log_odds_range"])
    log_odds = vectors @ head.weight.T + head.bias
    edges = np.array([log_odds.min(axis=0), log_odds.max(axis=0)])
    assert np.allclose(found, edges, atol=1e-3) == (unfreezing == "head")
    np.testing.assert_allclose(clf.predict_proba(corpus[0]).max(axis=0), expit(found[1]), atol=1e-3)


@pytest.mark.parametrize("unfreezing", ["at_once", "gradual"])
def test_layers_are_unfrozen_from_the_trained_head(start, corpus, unfreezing, monkeypatch):
    first = []
    fit_net = stages.fit_net
    monkeypatch.setattr(
        stages, "fit_net", lambda net, data: first.append(net.module.head.weight.detach().clone()) or fit_net(net, data)
    )
    head = weights_of(classifier(start, unfreezing="head").fit(*corpus))["head.weight"]
    clf = classifier(start, unfreezing=unfreezing).fit(*corpus)
    np.testing.assert_array_equal(first[0], head)
    assert not np.array_equal(weights_of(clf)["head.weight"], head)
    lm = ULMFiTLanguageModel.load(start).state_.weights
    for name in ("vector.weight", "vector.word_weight", "encoder.embedding.weight"):
        assert not np.array_equal(weights_of(clf)[name], lm[name])


def test_every_epoch_of_gradual_unfreezing_unfreezes_a_layer_that_learns(start, corpus):
    trained = [row["trained_groups"] for row in classifier(start, unfreezing="gradual").fit(*corpus).history_]
    assert trained == ["head, embedding", *["head, layer 1, embedding"] * (recipe.EPOCHS_AFTER_HEAD - 1)]
    trained = classifier(start, unfreezing="gradual", embedding_lr=None).fit(*corpus).history_[-1]["trained_groups"]
    assert trained == "head, layer 1, embedding"


@pytest.mark.parametrize(("fewest", "epochs"), [(N_TEXTS + 1, 0), (N_TEXTS, recipe.EPOCHS_AFTER_HEAD)])
def test_the_number_of_texts_decides_whether_layers_are_unfrozen(monkeypatch, start, corpus, fewest, epochs):
    monkeypatch.setattr(recipe, "FEWEST_TEXTS_UNFROZEN", fewest)
    assert len(classifier(start).fit(*corpus).history_) == epochs


def test_rates_are_lower_after_the_head_unless_they_are_given(start, corpus):
    rates = []

    class Rates(Callback):
        def on_train_begin(self, net, **kwargs):
            rates.append([group["lr"] for group in net.optimizer_.param_groups])

    for params in ({}, {"lr": 0.5, "embedding_lr": 0.25}):
        classifier(start, unfreezing="at_once", callbacks=[Rates()], **params).fit(*corpus)
    classifier(tiny_lm(max_epochs=1), unfreezing="at_once", callbacks=[Rates()]).fit(*corpus)
    head, embedding = recipe.RATES_AFTER_HEAD
    assert (rates[0][-1], rates[0][0]) == (head, embedding)
    assert rates[0][1:-1] == [pytest.approx(head / 2.6**2)]  # layer 2 counts, although it does not learn
    assert (rates[1][-1], rates[1][0]) == (0.5, 0.25)
    assert rates[2][-1] == recipe.RATES[0]


def test_the_language_model_is_not_trained_unless_epochs_are_given(start, corpus):
    assert classifier(start).fit(*corpus).language_model_.history_ == []
    assert len(classifier(start, lm_epochs=1).fit(*corpus).language_model_.history_) == 1
    own = ULMFiTLanguageModel(start)
    assert classifier(own).fit(*corpus).language_model_.history_ == []
    assert len(classifier(own.set_params(max_epochs=2)).fit(*corpus).language_model_.history_) == 2
    assert len(ULMFiTLanguageModel(start).fit(corpus[0]).history_) > 0


def test_a_language_model_with_a_teacher_is_trained(start):
    own = ULMFiTLanguageModel(start, teacher=lambda texts: np.ones((len(texts), 8)))
    (model,) = choose_language_models(classifier(own), seed=0)
    assert model.max_epochs is None
    (model,) = choose_language_models(classifier(own.set_params(teacher=None)), seed=0)
    assert model.max_epochs == 0


def test_a_start_that_cannot_be_read_raises_the_error_of_its_file(tmp_path, corpus):
    (tmp_path / "damaged").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is not a model of sk_ulmfit"):
        classifier(tmp_path / "damaged").fit(*corpus)


def test_weights_unknown_entries_and_positive_weights_reach_the_head(start, corpus, monkeypatch):
    texts, labels = corpus
    y = np.array([[float("a" in str(row)), float(len(row) > 1)] for row in labels])
    y[:, 0] = np.arange(len(y)) % 2
    y[::5, 1] = np.nan
    sample_weight = np.linspace(1, 2, len(y))
    seen = {}

    def fit(vectors, y, task, document_weight, *args):
        seen.update(y=y, document_weight=document_weight, pos_weight=task.pos_weight)
        return fit_linear_head(vectors, y, task, document_weight, *args)

    monkeypatch.setattr(stages, "fit_linear_head", fit)
    classifier(start, pos_weight=3.0).fit(texts, y, sample_weight)
    np.testing.assert_array_equal(seen["y"], y.astype(np.float32))
    np.testing.assert_allclose(seen["document_weight"], sample_weight / sample_weight.mean(), rtol=1e-6)
    assert seen["pos_weight"].tolist() == [3.0, 3.0]


def test_held_out_texts_are_not_learned_from(start, corpus, monkeypatch):
    n_seen = []
    monkeypatch.setattr(
        stages, "fit_linear_head", lambda vectors, *rest: n_seen.append(len(vectors)) or fit_linear_head(vectors, *rest)
    )
    stopped = classifier(start, early_stopping=True, unfreezing="at_once").fit(*corpus)
    assert n_seen == [N_TEXTS - N_TEXTS // 10]
    assert "valid_loss" in stopped.history_[0]


@pytest.mark.parametrize(("fewest", "n_learned_from"), [(N_TEXTS + 1, N_TEXTS), (N_TEXTS, N_TEXTS - N_TEXTS // 10)])
def test_early_stopping_holds_out_nothing_if_nothing_has_epochs(start, corpus, monkeypatch, fewest, n_learned_from):
    n_seen = []
    monkeypatch.setattr(recipe, "FEWEST_TEXTS_UNFROZEN", fewest)
    monkeypatch.setattr(
        stages, "fit_linear_head", lambda vectors, *rest: n_seen.append(len(vectors)) or fit_linear_head(vectors, *rest)
    )
    clf = classifier(start, early_stopping=True).fit(*corpus)
    assert n_seen == [n_learned_from]
    assert ["valid_loss" in row for row in clf.history_] == [True] * len(clf.history_)
    assert bool(clf.history_) == (n_learned_from < N_TEXTS)


def test_callbacks_of_a_head_alone_are_not_called_and_a_warning_says_so(start, corpus):
    with pytest.warns(UserWarning, match="callbacks were not called, since only a linear head"):
        classifier(start, callbacks=[Callback()]).fit(*corpus)


def test_the_share_of_the_network_is_learned(start, corpus):
    clf = classifier(start, tfidf=True).fit(*corpus)
    n_with = np.sum([[name in row for name in clf.label_names_] for row in corpus[1]], axis=0)
    n_rarer = np.minimum(n_with, N_TEXTS - n_with)
    of_frequent = clf._fitted.linear_model.share * (n_rarer + HALF_SHARE) / n_rarer
    np.testing.assert_allclose(of_frequent, of_frequent[0], rtol=1e-5)
    assert 0 < of_frequent[0] < 1


def test_a_memory_gives_the_same_classifier(start, corpus, tmp_path):
    one, two = (classifier(start, memory=tmp_path / "memory", tfidf=True).fit(*corpus) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(corpus[0]), two.predict_proba(corpus[0]))


def test_a_saved_classifier_predicts_the_same(start, corpus, tmp_path):
    clf = classifier(start, tfidf=True).fit(*corpus)
    clf.save(tmp_path / "clf")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "clf")
    np.testing.assert_array_equal(loaded.predict_proba(corpus[0]), clf.predict_proba(corpus[0]))
    assert loaded.lr is None
    assert loaded.embedding_lr == "auto"
    assert loaded._fitted.state({}, {}).weights.keys() >= {"head.weight", "vector.weight", f"{LINEAR_MODEL}weight"}


def test_both_directions_have_a_head_and_share_one_linear_model(start, corpus, tmp_path):
    backward = tmp_path / "backward"
    lm = tiny_lm(max_epochs=1, direction="backward", vocab_size=30_000).fit(corpus[0])
    with_vector(lm, backward, dim=5, seed=1)
    clf = classifier((start, backward), direction="both", tfidf=True).fit(*corpus)
    assert clf.history_ == clf.backward_history_ == []
    assert clf.predict_proba(corpus[0][:2]).shape == (2, clf.n_labels_)


@pytest.mark.filterwarnings("ignore:The loss does not fall")
def test_learning_rates_are_found_with_all_layers_unfrozen(start, corpus):
    curve = lr_find(classifier(start, unfreezing="head"), *corpus, n_steps=20, start_lr=1e-4, end_lr=1.0)
    assert len(curve.losses) >= 10
