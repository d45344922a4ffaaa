"""The linear head: logistic regressions on the vectors of a frozen network."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from sk_ulmfit.training import linear_head
from sk_ulmfit.training.linear_head import STRENGTHS, fit_linear_head
from sk_ulmfit.training.linear_training import base_rates
from sk_ulmfit.training.task import Classification


def make_texts(n=120, d=12, seed=0, noise=1.0):
    """Vectors off the origin with a wide spectrum, and three labels: frequent, rarer, rare."""
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, d)) * np.geomspace(3, 0.1, d) + rng.normal(size=d)).astype(np.float32)
    score = (vectors - vectors.mean(axis=0)) @ rng.normal(size=(d, 3)) / 3 + noise * rng.normal(size=(n, 3))
    return vectors, (score > np.quantile(score, [0.5, 0.7, 0.9], axis=0).diagonal()).astype(np.float32)


def scale_of(vectors):
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    return np.sqrt((centred**2).sum(axis=1).mean())


def by_scikit_learn(vectors, has_label, c, weight=None):
    """Fit to convergence; return weights and bias."""
    scale = scale_of(vectors)
    model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000, solver="newton-cholesky")
    model.fit((vectors - vectors.mean(axis=0, dtype=np.float64)) / scale, has_label, weight)
    weights = model.coef_[0] / scale
    return weights, model.intercept_[0] - vectors.mean(axis=0, dtype=np.float64) @ weights


@pytest.fixture
def one_strength(monkeypatch):
    monkeypatch.setattr(linear_head, "STRENGTHS", (3.0,))
    return 3.0


def test_head_is_the_logistic_regression_of_scikit_learn(one_strength):
    vectors, y = make_texts()
    head = fit_linear_head(vectors, y, Classification())
    for label in range(3):
        weight, bias = by_scikit_learn(vectors, y[:, label], one_strength)
        np.testing.assert_allclose(head.weight[label], weight, atol=1e-4)
        np.testing.assert_allclose(head.bias[label], bias, atol=1e-4)


def test_weights_of_texts_and_of_positives_and_unknown_entries_count_as_in_scikit_learn(one_strength):
    vectors, y = make_texts()
    y[::3, 0] = np.nan
    document_weight = np.linspace(0.5, 1.5, len(y)).astype(np.float32)
    head = fit_linear_head(vectors, y, Classification(np.array([4.0, 1.0, 0.5])), document_weight)
    for label, factor in enumerate((4.0, 1.0, 0.5)):
        known = ~np.isnan(y[:, label])
        weight = document_weight * np.where(y[:, label] == 1, factor, 1)
        scale, mean = scale_of(vectors), vectors.mean(axis=0, dtype=np.float64)
        model = LogisticRegression(C=one_strength, tol=1e-10, solver="newton-cholesky")
        model.fit(((vectors - mean) / scale)[known], y[known, label], weight[known])
        np.testing.assert_allclose(head.weight[label], model.coef_[0] / scale, atol=1e-4)


def test_fewer_texts_than_dimensions(one_strength):
    vectors, y = make_texts(n=20, d=50)
    head = fit_linear_head(vectors, y, Classification())
    np.testing.assert_allclose(head.weight[0], by_scikit_learn(vectors, y[:, 0], one_strength)[0], atol=1e-4)


def test_an_out_of_fold_prediction_does_not_depend_on_the_label_of_the_text(one_strength):
    vectors, y = make_texts()
    part = linear_head._folds(y, 0)
    head = fit_linear_head(vectors, y, Classification())
    train, held_out = part[0]
    mean = vectors.mean(axis=0, dtype=np.float64)
    model = LogisticRegression(C=one_strength, tol=1e-10, solver="newton-cholesky")
    model.fit((vectors[train] - mean) / scale_of(vectors), y[train, 1])
    expected = model.decision_function((vectors[held_out] - mean) / scale_of(vectors))
    np.testing.assert_allclose(head.out_of_fold[held_out, 1], expected, atol=0.02)
    assert np.concatenate([rows for _, rows in part]).tolist() != list(range(len(y)))


def test_noise_asks_for_a_strong_penalty_and_clear_labels_for_a_weak_one():
    vectors, clear = make_texts(noise=0.02)
    noise = np.random.default_rng(1).integers(0, 2, clear.shape).astype(np.float32)
    norms = [np.linalg.norm(fit_linear_head(vectors, y, Classification()).weight) for y in (noise, clear)]
    assert norms[0] < 0.1 * norms[1]


def test_labels_without_positives_or_negatives_get_their_base_rate():
    vectors, y = make_texts()
    y = np.column_stack([y, np.zeros(len(y)), np.ones(len(y)), np.full(len(y), np.nan)]).astype(np.float32)
    head = fit_linear_head(vectors, y, Classification(np.array([1, 1, 1, 2.0, 1, 1])))
    expected = logit(base_rates(y)) + np.log([1, 1, 1, 2.0, 1, 1])
    np.testing.assert_allclose(head.bias[3:], expected[3:], rtol=1e-6)
    assert not head.weight[3:].any()
    np.testing.assert_allclose(head.out_of_fold[:, 3:], np.tile(expected[3:], (len(y), 1)))


def test_equal_vectors_and_a_single_text_give_base_rates():
    y = np.array([[1, 0], [0, 0], [0, 0], [0, 0]], np.float32)
    head = fit_linear_head(np.ones((4, 3), np.float32), y, Classification())
    assert expit(head.bias[0] + head.weight[0].sum()) == pytest.approx(0.25, abs=1e-3)
    single = fit_linear_head(np.ones((1, 3), np.float32), y[:1], Classification())
    assert expit(single.bias).round(2).tolist() == [0.75, 0.25]
    assert single.out_of_fold.shape == (1, 2)


def test_many_texts_choose_the_strength_on_one_fold_and_all_are_predicted_out_of_fold(monkeypatch):
    vectors, y = make_texts()
    whole = fit_linear_head(vectors, y, Classification())
    monkeypatch.setattr(linear_head, "MAX_FOLDED", 100)
    monkeypatch.setattr(linear_head, "CHUNK_ROWS", 7)
    quick = fit_linear_head(vectors, y, Classification())
    base = logit(base_rates(y))
    assert ((quick.out_of_fold != base).all(axis=0)).all()
    assert np.corrcoef(quick.out_of_fold[:, 0], whole.out_of_fold[:, 0])[0, 1] > 0.9


def test_the_search_stops_when_the_loss_rises(monkeypatch):
    vectors, _ = make_texts()
    noise = np.random.default_rng(1).integers(0, 2, (len(vectors), 3)).astype(np.float32)
    calls = []
    fit = linear_head._fit
    monkeypatch.setattr(linear_head, "_fit", lambda *args: calls.append(args) or fit(*args))
    fit_linear_head(vectors, noise, Classification())
    assert len(calls) < len(STRENGTHS) * linear_head.N_FOLDS


def test_a_rare_label_takes_nearly_the_strength_of_all():
    loss = np.array([[10.0, 1.0], [9.0, 1.2], [9.5, 0.9]])
    assert linear_head._choose_strengths(loss, np.array([100, 1])).tolist() == [1, 1]
    assert linear_head._choose_strengths(loss, np.array([100, 500])).tolist() == [1, 2]


def test_head_is_deterministic():
    vectors, y = make_texts()
    first, second = (fit_linear_head(vectors, y, Classification(), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.weight, second.weight)
    np.testing.assert_array_equal(first.out_of_fold, second.out_of_fold)
    assert not np.array_equal(first.out_of_fold, fit_linear_head(vectors, y, Classification(), seed=4).out_of_fold)
