"""Texts that are held out to learn decisions from: afterwards the linear model learns from them too."""

from contextlib import contextmanager

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector

from sk_ulmfit import ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training import combining, linear_stage, ridge, stages
from sk_ulmfit.training import held_out as held_out_predictions
from sk_ulmfit.training.ridge import fit_ridge, fit_ridge_again

N_TEXTS = 60
TEXTS, LABELS = make_corpus(N_TEXTS, seed=3)
RARE = "zebra"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Files of two language models that have vectors and know a word that is in no text; the second reads backward."""
    folder, texts = tmp_path_factory.mktemp("start"), [*TEXTS, *[f"the {RARE}"] * 5]
    for name, params, seed in (("forward", {}, 0), ("backward", {"direction": "backward", "vocab_size": 30_000}, 1)):
        with_vector(tiny_lm(max_epochs=1, random_state=0, **params).fit(texts), folder / name, dim=8, seed=seed)
    return folder / "forward", folder / "backward"


@pytest.fixture(autouse=True)
def holds_out_here(monkeypatch):
    monkeypatch.setattr("sk_ulmfit.training.recipe.FEWEST_TEXTS_HELD_OUT", N_TEXTS)


def watch_held_out(patch):
    """Collect, fit by fit, which texts are held out."""
    rows, hold_out = [], stages.hold_out
    patch.setattr(stages, "hold_out", lambda *args: rows.append(hold_out(*args)[1]) or hold_out(*args))
    return rows


@pytest.fixture(scope="module")
def held_out(pair):
    """Which texts are held out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_ulmfit.training.recipe.FEWEST_TEXTS_HELD_OUT", N_TEXTS)
        rows = watch_held_out(patch)
        classifier(pair[0]).fit(TEXTS, LABELS)
    assert len(rows[0]) == 12
    return rows[0]


def classifier(language_model, **params):
    open_settings = {"batch_size": None, "lr": None, "tfidf": True, "random_state": 0, "max_epochs": 1}
    open_settings |= {"unfreezing": "at_once", "validation_fraction": 0.2}
    return tiny_classifier(**{"language_model": language_model, **open_settings, **params})


@pytest.fixture
def texts(held_out):
    """The texts, with a rare word in those of one label that are held out."""
    rows = [row for row in held_out if "billing" in LABELS[row]]
    assert 2 <= len(rows) < len(held_out)
    return [f"{text} {RARE}" if row in rows else text for row, text in enumerate(TEXTS)]


def weight_of(word, clf, label="billing"):
    """The weight of a word in the linear model, None if it is not known."""
    model, index = clf._fitted.linear_model, clf.vocabulary_.index(word)
    if index not in model.words:
        return None
    return model.weight[np.searchsorted(model.words, index), clf.label_names_.tolist().index(label)]


def without_second_training(patch):
    patch.setattr(linear_stage, "train_again", lambda fit, *args, **kwargs: fit)


def test_a_word_that_only_held_out_texts_have_is_known(pair, texts, monkeypatch):
    clf = classifier(pair[0]).fit(texts, LABELS)
    assert weight_of(RARE, clf) > 0
    assert weight_of(RARE, classifier(pair[0], early_stopping=True).fit(texts, LABELS)) is None
    without_second_training(monkeypatch)
    assert weight_of(RARE, classifier(pair[0]).fit(texts, LABELS)) is None


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_decisions_are_learned_from_a_linear_model_that_has_not_seen_the_held_out_texts(
    pair, texts, direction, monkeypatch
):
    """Neither network is judged beside a model that knows the answers."""
    tuned, tune = [], held_out_predictions._tune
    monkeypatch.setattr(held_out_predictions, "_tune", lambda *args: tuned.append(args[1]) or tune(*args))
    params = {"language_model": pair if direction == "both" else pair[0], "direction": direction}
    clf = classifier(**params, calibration="platt").fit(texts, LABELS)
    with pytest.MonkeyPatch.context() as patch:
        without_second_training(patch)
        before = classifier(**params, calibration="platt").fit(texts, LABELS)
    np.testing.assert_array_equal(tuned[0], tuned[1])
    np.testing.assert_array_equal(clf.thresholds_, before.thresholds_)
    np.testing.assert_array_equal(clf._fitted.linear_model.share, before._fitted.linear_model.share)
    assert np.abs(clf.predict_proba(texts) - before.predict_proba(texts)).max() > 0.01


def test_the_range_of_log_odds_is_that_of_the_final_model(pair, texts):
    """Else the model that has learned from more texts could not say more than the one before."""
    clf = classifier(pair[0]).fit(texts * 2, LABELS * 2)
    low, high = np.array(clf._fitted.config["log_odds_range"])
    proba = clf.predict_proba(texts)
    odds = np.log(proba / (1 - proba))
    assert (odds.max(axis=0) > high - 0.5).all()
    assert (odds.min(axis=0) < low + 0.5).all()


def test_the_same_seed_gives_the_same_model_which_a_file_keeps(pair, texts, tmp_path):
    clf, again = (classifier(pair[0]).fit(texts, LABELS) for _ in range(2))
    np.testing.assert_array_equal(clf.predict_proba(texts), again.predict_proba(texts))
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(texts), clf.predict_proba(texts), atol=1e-6)
    np.testing.assert_array_equal(loaded.thresholds_, clf.thresholds_)


def test_no_more_texts_are_held_out_than_decisions_need(pair, texts, monkeypatch):
    monkeypatch.setattr("sk_ulmfit.training.recipe.MOST_TEXTS_HELD_OUT", 5)
    rows = watch_held_out(monkeypatch)
    for early_stopping in (False, True):
        classifier(pair[0], early_stopping=early_stopping).fit(texts, LABELS)
    assert [len(each) for each in rows] == [5, 12]  # early stopping holds out what the user asks for


# --- values ------------------------------------------------------------------


def regressor(language_model, **params):
    settings = {"random_state": 0, "max_epochs": 1, "unfreezing": "at_once", "validation_fraction": 0.2}
    return ULMFiTRegressor(language_model, **{**settings, **params})


def test_a_regressor_learns_its_share_from_held_out_texts_and_then_words_from_them(pair, monkeypatch):
    values = np.array([float("billing" in labels) for labels in LABELS])
    with pytest.MonkeyPatch.context() as patch:
        rows = watch_held_out(patch)
        regressor(pair[0]).fit(TEXTS, values)
    texts = [f"{text} {RARE}" if row in rows[0] else text for row, text in enumerate(TEXTS)]
    judged, learn_share = [], combining.learn_share
    monkeypatch.setattr(
        combining, "learn_share", lambda *args: judged.append((args[0], learn_share(*args))) or judged[-1][1]
    )
    model = regressor(pair[0]).fit(texts, values)
    network, share = judged[-1]
    assert network.shape == (12, 1)  # what the trained network says of the held-out texts
    np.testing.assert_allclose(model._fitted.linear_model.network_share, share, rtol=1e-6)
    index = model.vocabulary_.index(RARE)
    assert index in model._fitted.linear_model.words
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_stage, "fit_ridge_again", lambda fit, *args, **kwargs: fit)
        before = regressor(pair[0]).fit(texts, values)
    assert index not in before._fitted.linear_model.words
    np.testing.assert_array_equal(judged[-1][0], network)
    np.testing.assert_array_equal(judged[-1][1], share)


def test_fewer_texts_or_frozen_layers_hold_nothing_out_for_a_regressor(pair, monkeypatch):
    values, rows = np.arange(N_TEXTS, dtype=float), watch_held_out(monkeypatch)
    for n, params in ((N_TEXTS, {}), (N_TEXTS - 1, {}), (N_TEXTS, {"unfreezing": "head"}), (N_TEXTS, {"tfidf": False})):
        regressor(pair[0], **params).fit(TEXTS[:n], values[:n])
    assert [len(each) for each in rows] == [12, 0, 0, 0]


def test_the_ridge_regression_of_all_texts_has_the_strength_of_the_first_one(monkeypatch):
    """Of two targets, words tell one; each learns from the texts whose value is known, by their weights."""
    vocabulary = Vocabulary.from_counts([f"w{i}" for i in range(30)], np.full(30, 9), max_size=100, min_frequency=1)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice([f"w{i}" for i in range(30)], 12)) for _ in range(200)]
    corpus = encode_texts(texts, vocabulary, "en")
    told = np.array([text.split().count("w1") - text.split().count("w2") for text in texts], float)
    z = np.column_stack([told, rng.normal(size=200)])
    z[::9, 0] = np.nan
    weight = rng.uniform(0.5, 1.5, 200).astype(np.float32)
    first = np.arange(150)
    fit = fit_ridge(corpus.take(first), vocabulary, z[first], document_weight=weight[first])
    again = fit_ridge_again(fit, corpus, vocabulary, z, document_weight=weight)
    assert again.model is fit.model
    assert again.final.share.tolist() == fit.model.share.tolist()
    assert fit.model.share[0] < 1 == fit.model.share[1]
    assert not again.final.weight[:, 1].any()
    monkeypatch.setattr(ridge, "STRENGTHS", (fit.strength,))
    alone = fit_ridge(corpus, vocabulary, z, document_weight=weight)
    np.testing.assert_allclose(again.final.weight[:, 0], alone.model.weight[:, 0], atol=1e-3)
    assert np.abs(again.final.weight[:, 0].astype(float) - fit.model.weight[:, 0]).max() > 1e-3


def test_early_stopping_trains_no_second_ridge_regression(pair, monkeypatch):
    called, values = [], [float("billing" in labels) for labels in LABELS]
    monkeypatch.setattr(linear_stage, "fit_ridge_again", lambda fit, *args, **kwargs: called.append(fit) or fit)
    regressor(pair[0], early_stopping=True).fit(TEXTS, values)
    assert not called
    regressor(pair[0]).fit(TEXTS, values)
    assert called


def test_a_regressor_with_held_out_texts_is_the_same_again_from_a_file_and_from_memory(pair, tmp_path):
    values = np.column_stack([[float("billing" in row) for row in LABELS], np.arange(N_TEXTS, dtype=float)])
    params = {"language_model": pair, "direction": "both", "memory": tmp_path / "memory"}
    models = [regressor(**params).fit(TEXTS, values) for _ in range(2)]
    models[0].save(tmp_path / "model")
    for other in (models[1], ULMFiTRegressor.load(tmp_path / "model")):
        np.testing.assert_allclose(other.predict(TEXTS), models[0].predict(TEXTS), atol=1e-4)
    share = models[0]._fitted.linear_model.share
    np.testing.assert_array_equal(models[1]._fitted.linear_model.share, share)


def test_the_bar_of_the_linear_model_counts_the_second_ridge_regression(pair, monkeypatch):
    totals, done = [], []

    @contextmanager
    def stage(name, total, *args):
        totals.append(total)
        yield done.append

    monkeypatch.setattr(linear_stage, "show_stage", stage)
    monkeypatch.setattr(ridge, "STRENGTHS", (1.0,))  # with several, the search may end before the last one
    regressor(pair[0]).fit(TEXTS, [float("billing" in labels) for labels in LABELS])
    assert sum(done) == totals[0] > 0
