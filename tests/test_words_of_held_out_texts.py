"""Texts that are held out to learn decisions from: afterwards the linear model learns from them too."""

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.training import held_out as held_out_predictions
from sk_ulmfit.training import linear_stage, stages

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


@pytest.fixture(scope="module")
def held_out(pair):
    """Which texts are held out."""
    rows, hold_out = [], stages.hold_out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_ulmfit.training.recipe.FEWEST_TEXTS_HELD_OUT", N_TEXTS)
        patch.setattr(stages, "hold_out", lambda *args: rows.append(hold_out(*args)[1]) or hold_out(*args))
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
    rows, hold_out = [], stages.hold_out
    monkeypatch.setattr(stages, "hold_out", lambda *args: rows.append(len(hold_out(*args)[1])) or hold_out(*args))
    for early_stopping in (False, True):
        classifier(pair[0], early_stopping=early_stopping).fit(texts, LABELS)
    assert rows == [5, 12]  # early stopping holds out what the user asks for
