"""Thresholds and calibration of a classifier whose head is linear: learned from out-of-fold log-odds, from all texts."""

from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from scipy.special import expit

from sk_ulmfit.calibration import calibrate, fit_calibration
from sk_ulmfit.labels import check_labels
from sk_ulmfit.models.configs import network_configs
from sk_ulmfit.thresholds import tune_thresholds
from sk_ulmfit.training import combining, directions, held_out, linear_stage, stages
from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.batching import DocumentDataset
from sk_ulmfit.training.bounds import bound_log_odds

N_TEXTS = 60
TEXTS, LABELS = make_corpus(N_TEXTS, seed=3)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1, random_state=0).fit(TEXTS), path, dim=8)
    return path


@pytest.fixture(scope="module")
def pair(start, tmp_path_factory):
    """The same, and a file of one that reads backward."""
    path = tmp_path_factory.mktemp("start") / "backward"
    with_vector(
        tiny_lm(max_epochs=1, random_state=0, direction="backward", vocab_size=30_000).fit(TEXTS), path, dim=5, seed=1
    )
    return start, path


def classifier(language_model, **params):
    open_settings = {"max_epochs": None, "batch_size": None, "lr": None, "tfidf": True}
    return tiny_classifier(**{"language_model": language_model, **open_settings, **params})


@pytest.fixture
def seen(monkeypatch):
    """What each fit has trained: heads, linear models, and what thresholds were tuned on."""
    seen = SimpleNamespace(heads=[], linear=[], tuned=[], n_trained=0)

    def watch(module, name, note):
        work = getattr(module, name)

        def run(*args, **kwargs):
            result = work(*args, **kwargs)
            note(args, result)
            return result

        monkeypatch.setattr(module, name, run)

    watch(stages, "fit_linear_head", lambda args, head: seen.heads.append(head))
    watch(linear_stage, "fit_linear_model", lambda args, fit: seen.linear.append(fit))
    watch(held_out, "_tune", lambda args, _: seen.tuned.append(args[:2]))

    def count(args, result):
        seen.n_trained += 1

    watch(directions, "train_classifier", count)
    return seen


def out_of_fold(clf, seen, train):
    """Return rows of the training, and the mean of the networks' probabilities for them, from what was trained."""
    linear = clf._fitted.linear_model
    rows = seen.linear[0].rows if linear is not None else np.arange(len(train))
    proba = []
    for head, config in zip(seen.heads, network_configs(clf._fitted.config), strict=True):
        log_odds = head.out_of_fold[rows]
        if linear is not None:
            log_odds = average_with_linear_model(log_odds, seen.linear[0].out_of_fold, linear.share)
        proba.append(expit(bound_log_odds(log_odds, config)))
    return train[rows], np.mean(proba, axis=0)


def test_no_text_is_held_out_for_decisions(start, seen):
    plain = classifier(start).fit(TEXTS, LABELS)
    tuned = [classifier(start, threshold="tune", validation_fraction=part).fit(TEXTS, LABELS) for part in (0.1, 0.5)]
    classifier(start, calibration="platt").fit(TEXTS, LABELS)
    assert [len(head.out_of_fold) for head in seen.heads] == [N_TEXTS] * 4
    for clf in tuned:
        np.testing.assert_array_equal(clf.predict_proba(TEXTS), plain.predict_proba(TEXTS))
    np.testing.assert_array_equal(tuned[0].thresholds_, tuned[1].thresholds_)
    assert np.abs(tuned[0].thresholds_ - 0.5).max() > 0.01


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"tfidf": False},
        {"pos_weight": 3.0},
        {"unfreezing": "at_once"},
        {"early_stopping": True, "unfreezing": "at_once", "validation_fraction": 0.3},
    ],
)
def test_decisions_are_learned_from_the_mean_of_head_and_linear_model(start, seen, params, monkeypatch):
    train, hold_out = [], stages.hold_out
    monkeypatch.setattr(stages, "hold_out", lambda *args: train.append(hold_out(*args)) or train[-1])
    y, _ = check_labels(LABELS)
    weight = np.linspace(1, 3, N_TEXTS)
    y[::7, 0] = np.nan
    calibration = None if "unfreezing" in params else "platt"
    clf = classifier(start, threshold="f1_micro", calibration=calibration, **params).fit(TEXTS, y, weight)
    rows, proba = out_of_fold(clf, seen, train[0][0])
    assert len(rows) == (42 if clf.early_stopping else N_TEXTS)
    if calibration:
        coefficients = fit_calibration(y[rows], proba, sample_weight=weight[rows])
        np.testing.assert_allclose(clf._fitted.config["calibration"], coefficients, rtol=1e-6)
        proba = calibrate(proba, coefficients)
    wanted = tune_thresholds(y[rows], proba, metric="f1_micro", sample_weight=weight[rows])
    np.testing.assert_allclose(clf.thresholds_, wanted, rtol=1e-6)
    assert len(seen.linear) == clf.tfidf


def test_an_unfrozen_network_is_calibrated_on_a_held_out_part(start, monkeypatch):
    """Out-of-fold predictions are those of the frozen network; what layers learn afterwards may make log-odds larger."""
    held_out, hold_out = [], stages.hold_out
    monkeypatch.setattr(stages, "hold_out", lambda *args: held_out.append(hold_out(*args)[1]) or hold_out(*args))
    settings = {"unfreezing": "at_once", "calibration": "platt", "validation_fraction": 0.3}
    clf = classifier(start, threshold="auto", **settings).fit(TEXTS, LABELS)
    assert len(held_out[0]) == 18
    assert clf._fitted.config["threshold_metric"] == "tune"
    network = classifier(start, threshold=0.5, **{**settings, "calibration": None}).fit(TEXTS, LABELS)
    assert len(held_out[1]) == 0
    assert "calibration" not in network._fitted.config


@pytest.mark.parametrize("tfidf", [True, False])
def test_two_networks_share_linear_model_and_texts(pair, seen, tfidf):
    clf = classifier(pair, direction="both", threshold="tune", tfidf=tfidf).fit(TEXTS, LABELS)
    assert len(seen.linear) == tfidf
    assert len(seen.heads) == 2
    rows, proba = out_of_fold(clf, seen, np.arange(N_TEXTS))
    truth, tuned_on = seen.tuned[0]
    np.testing.assert_array_equal(truth, check_labels(LABELS)[0][rows])
    np.testing.assert_allclose(tuned_on, proba)
    np.testing.assert_array_equal(clf.thresholds_, tune_thresholds(truth, tuned_on, metric="tune"))


@pytest.mark.parametrize("which", [0, 1])
def test_two_networks_of_which_one_has_no_vector_hold_out_the_same_texts(pair, seen, which):
    language_models = list(pair)
    language_models[which] = tiny_lm(max_epochs=0)
    classifier(tuple(language_models), direction="both", threshold="tune", max_epochs=1).fit(TEXTS, LABELS)
    truth, proba = seen.tuned[0]
    assert len(seen.heads[0].out_of_fold) == N_TEXTS - N_TEXTS // 10
    assert len(truth) == len(proba) == N_TEXTS // 10


def test_a_memory_keeps_one_training_whatever_decides(start, seen, tmp_path):
    settings = {"memory": tmp_path / "memory"}
    classifier(start, **settings).fit(TEXTS, LABELS)
    tuned = classifier(start, threshold="tune", calibration="platt", **settings).fit(TEXTS, LABELS)
    assert seen.n_trained == 1
    alone = classifier(start, threshold="tune", calibration="platt").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(tuned.thresholds_, alone.thresholds_)


@pytest.mark.parametrize("seed", [0, None])
def test_a_memory_keeps_two_networks_apart_from_one(pair, tmp_path, monkeypatch, seed):
    """A second network has the share that the first one learned, also if it was trained by itself before."""
    monkeypatch.setattr(combining, "learn_share", lambda network, *args: expit(network.std(axis=0)))  # one for each
    settings = {"memory": tmp_path / "memory", "threshold": "tune", "random_state": seed}
    backward = classifier(pair[1], direction="backward", **settings).fit(TEXTS, LABELS)
    forward = classifier(pair[0], **settings).fit(TEXTS, LABELS)
    both, again = (classifier(pair, direction="both", **settings).fit(TEXTS, LABELS) for _ in range(2))
    share = both._fitted.linear_model.share
    np.testing.assert_array_equal(share, forward._fitted.linear_model.share)
    assert not np.array_equal(share, backward._fitted.linear_model.share)
    np.testing.assert_array_equal(again.thresholds_, both.thresholds_)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), both.predict_proba(TEXTS))


@pytest.mark.filterwarnings("ignore:.*labels? (is|are|occur|has|have) .*")
def test_few_texts_and_constant_labels_have_thresholds(start):
    one = classifier(start, threshold="tune", calibration="platt").fit(TEXTS[:1], [["billing"]])
    np.testing.assert_array_equal(one.thresholds_, [0.5])
    two = classifier(start, threshold="tune").fit(TEXTS[:2], [["billing"], ["delivery"]])
    assert ((two.thresholds_ > 0) & (two.thresholds_ < 1)).all()
    y = np.array([[1, 0, "billing" in row] for row in LABELS])
    constant = classifier(start, threshold="tune", calibration="platt").fit(TEXTS, y)
    assert ((constant.thresholds_ > 0) & (constant.thresholds_ < 1)).all()
    assert constant.predict_proba(TEXTS)[:, 0].min() > 0.9 > 0.1 > constant.predict_proba(TEXTS)[:, 1].max()


def test_a_large_unfrozen_network_decides_by_texts_that_are_held_out(start, monkeypatch):
    """Out-of-fold predictions are those of the frozen network: their thresholds and share do not suit the trained one."""
    monkeypatch.setattr("sk_ulmfit.training.recipe.FEWEST_TEXTS_HELD_OUT", N_TEXTS)
    held_out, shares = [], []
    hold_out, learn_share = stages.hold_out, combining.learn_share
    monkeypatch.setattr(stages, "hold_out", lambda *args: held_out.append(hold_out(*args)[1]) or hold_out(*args))
    monkeypatch.setattr(
        combining, "learn_share", lambda *args: shares.append((args[0], learn_share(*args))) or shares[-1][1]
    )
    clf = classifier(start, unfreezing="at_once", validation_fraction=0.3, random_state=0).fit(TEXTS, LABELS)
    assert len(held_out[0]) == 18
    assert clf._fitted.config["threshold_metric"] == "tune"
    texts = [TEXTS[row] for row in held_out[0]]
    network = clf.net_.predict_proba(DocumentDataset(clf.language_model_.state_.encode(texts)))
    np.testing.assert_allclose(expit(shares[-1][0]), network, atol=1e-5)
    np.testing.assert_allclose(clf._fitted.linear_model.network_share, shares[-1][1], rtol=1e-6)
