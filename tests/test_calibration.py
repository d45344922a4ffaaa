import warnings

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.calibration import METHODS, calibrate, fit_calibration
from sk_ulmfit.labels import check_labels
from sk_ulmfit.metrics import expected_calibration_error
from sk_ulmfit.training import fitted

SLOPE, OFFSET = np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 1.5])


def draw(seed, n, slope=SLOPE, offset=OFFSET):
    rng = np.random.default_rng(seed)
    odds = rng.normal(-1, 2, (n, len(slope)))
    return (rng.random(odds.shape) < expit(slope * odds + offset)).astype(float), odds


def test_with_many_texts_it_is_logistic_regression_on_the_log_odds():
    y, odds = draw(0, 5_000)
    found = fit_calibration(y, expit(odds), "platt")
    for label in range(3):
        model = LogisticRegression(C=1e9).fit(odds[:, [label]], y[:, label])
        np.testing.assert_allclose(found[:, label], [model.coef_[0, 0], model.intercept_[0]], atol=0.05)


def test_temperature_is_the_best_slope_without_an_offset():
    y, odds = draw(1, 5_000, offset=np.zeros(3))
    found = fit_calibration(y, expit(odds), "temperature")
    assert (found[1] == 0).all()
    np.testing.assert_allclose(found[0], SLOPE, rtol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_few_texts_hardly_move_a_label_away_from_all_others(method):
    y, odds = draw(2, 2_000, slope=np.full(20, 0.5), offset=np.full(20, -0.5))
    y[:, 0] = np.nan
    y[:3, 0] = [1, 1, 0]
    found = fit_calibration(y, expit(odds), method)
    assert np.abs(found[:, 0] - found[:, 1:].mean(axis=1)).max() < 0.4
    alone = fit_calibration(y[:3, :1], expit(odds[:3, :1]), method)
    assert np.abs(alone - [[1], [0]]).max() < 0.5


def test_it_lowers_the_calibration_error_on_other_texts():
    (y, odds), (others, odds_of_others) = draw(3, 5_000), draw(4, 30_000)
    before, after = expit(odds_of_others), calibrate(expit(odds_of_others), fit_calibration(y, expit(odds)))
    for average in ("micro", "macro"):
        errors = [expected_calibration_error(others, proba, average=average) for proba in (before, after)]
        assert errors[1] < 0.5 * errors[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), method=st.sampled_from(METHODS), n=st.integers(1, 40))
def test_order_and_bounds_hold_whatever_comes(seed, method, n):
    rng = np.random.default_rng(seed)
    y = rng.choice([0.0, 1.0, np.nan], (n, 4))
    proba = rng.choice([0.0, 1e-300, 0.2, 0.5, 1.0], (n, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_calibration(y, proba, method)
        corrected = calibrate(proba, found)
    assert np.isfinite(found).all()
    assert (found[0] > 0).all()
    assert ((corrected > 0) & (corrected < 1)).all()
    for label in range(4):
        order = np.argsort(proba[:, label], kind="stable")
        assert (np.diff(corrected[order, label]) >= 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weights_and_unknown_entries_count_as_they_should(seed):
    y, odds = draw(seed, 60)
    rng = np.random.default_rng(seed)
    y[rng.random(y.shape) < 0.2] = np.nan
    expected = fit_calibration(y, expit(odds))
    np.testing.assert_allclose(fit_calibration(y, expit(odds), sample_weight=np.full(60, 3.0)), expected, atol=1e-6)
    other = np.where(np.isnan(y), rng.normal(size=y.shape), odds)
    np.testing.assert_allclose(fit_calibration(y, expit(other)), expected, atol=1e-6)
    weight = rng.choice([0.0, 1.0, 2.0], 60)
    weight[0] = 1.0
    kept = weight > 0
    weighted = fit_calibration(y, expit(odds), sample_weight=weight)
    without = fit_calibration(y[kept], expit(odds[kept]), sample_weight=weight[kept])
    np.testing.assert_allclose(weighted, without, atol=1e-6)
    assert np.abs(weighted - expected).max() > 1e-3


def test_the_classifier_learns_it_on_texts_it_holds_out_and_keeps_it(tmp_path):
    texts, labels = make_corpus(60)
    settings = {"language_model": tiny_lm(max_epochs=0), "validation_fraction": 0.5}
    plain = tiny_classifier(**settings, early_stopping=True, max_epochs=1).fit(texts, labels)
    clf = tiny_classifier(**settings, early_stopping=True, max_epochs=1, calibration="platt").fit(texts, labels)
    before, after = plain.predict_proba(texts), clf.predict_proba(texts)
    y = check_labels(labels)[0]
    log_loss = [-(np.log(p) * y + np.log1p(-p) * (1 - y)).mean() for p in (before, after)]
    assert log_loss[1] < log_loss[0]
    for label in range(y.shape[1]):
        np.testing.assert_array_equal(np.argsort(before[:, label]), np.argsort(after[:, label]))
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(texts), after)
    assert loaded.calibration == "platt"


def test_thresholds_are_tuned_on_what_is_corrected():
    texts, labels = make_corpus(60)
    settings = {
        "language_model": tiny_lm(max_epochs=0),
        "validation_fraction": 0.5,
        "threshold": "tune",
        "max_epochs": 10,
    }
    plain = tiny_classifier(**settings).fit(texts, labels)
    clf = tiny_classifier(**settings, calibration="platt").fit(texts, labels)
    assert (clf.predict(texts) == plain.predict(texts)).mean() > 0.95  # the same texts are above them
    assert np.abs(clf.thresholds_ - plain.thresholds_).max() > 0.01


def test_calibration_keeps_apart_texts_whose_probability_is_almost_1(monkeypatch):
    clf = tiny_classifier().fit(*make_corpus(10))
    n_labels = len(clf.label_names_)
    clf._fitted.config["calibration"] = [[0.2] * n_labels, [-1.0] * n_labels]
    log_odds = np.array([40.0, 60.0, 80.0])[:, None].repeat(n_labels, 1)
    monkeypatch.setattr(fitted, "predict_log_odds", lambda *_: log_odds)
    np.testing.assert_allclose(clf.predict_proba(["lamp", "lamp", "lamp"]), expit(0.2 * log_odds - 1), rtol=1e-12)


def test_wrong_input():
    with pytest.raises(ValueError, match="calibration must be one of 'temperature', 'platt'; got 'isotonic'"):
        tiny_classifier(calibration="isotonic").fit(*make_corpus(10))
    with pytest.raises(ValueError, match=r"proba must have the shape of y, \(2, 1\); got \(2, 2\)"):
        fit_calibration([[0], [1]], np.full((2, 2), 0.5))
    for wrong in (np.nan, 1.5):
        with pytest.raises(ValueError, match="proba must hold probabilities from 0 to 1"):
            fit_calibration([[0], [1]], np.full((2, 1), wrong))
    with pytest.raises(ValueError, match="method must be one of"):
        fit_calibration([[0], [1]], np.full((2, 1), 0.5), "isotonic")
