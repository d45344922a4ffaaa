"""The linear model of values: ridge regression on TF-IDF."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from test_linear import VOCABULARY, random_documents, token_ids

from sk_ulmfit.training import ridge, term_counts
from sk_ulmfit.training.linear import LinearModel, count_terms, tf_idf
from sk_ulmfit.training.linear_training import HALF_SHARE
from sk_ulmfit.training.ridge import fit_ridge, most_ridges
from sk_ulmfit.training.task import Regression
from sk_ulmfit.training.term_counts import held_out_folds


def make_values(n=90, seed=0, noise=0.1):
    """Documents of numbers, and standardised values: a sum of what two words add, that of another word, noise."""
    documents, y = random_documents(n, seed)
    rng = np.random.default_rng(seed)
    values = np.column_stack([y @ [1, -2, 0], y[:, 2], rng.normal(size=n)]) + noise * rng.normal(size=(n, 3))
    return documents, Regression.of_values(values).standardise(values)


def fit(documents, z, **params):
    return fit_ridge(token_ids(documents), VOCABULARY, z, **params)


def features_of(model, documents):
    (counts,) = count_terms(token_ids(documents), model._terms())
    return tf_idf(counts, len(model.words), model.idf).toarray()


def test_it_is_the_ridge_regression_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(ridge, "STRENGTHS", (0.3,))
    documents, z = make_values()
    z[::4, 1] = np.nan
    weight = np.random.default_rng(1).uniform(0.5, 1.5, len(z)).astype(np.float32)
    model = fit(documents, z, document_weight=weight).model
    features = features_of(model, documents)
    for target in range(2):
        known = ~np.isnan(z[:, target])
        wanted = Ridge(0.3, solver="cholesky").fit(features[known], z[known, target], weight[known])
        np.testing.assert_allclose(model.weight[:, target], wanted.coef_, atol=2e-3)
        np.testing.assert_allclose(model.bias[target], wanted.intercept_, atol=2e-3)


def test_predictions_out_of_fold_do_not_depend_on_the_values_of_their_documents(monkeypatch):
    monkeypatch.setattr(ridge, "STRENGTHS", (0.3,))
    documents, z = make_values()
    first = fit(documents, z)
    assert sorted(first.rows.tolist()) == list(range(len(z)))
    held_out = held_out_folds(len(z), 0)[0][1]
    n = len(held_out)
    assert first.rows[:n].tolist() == held_out.tolist()
    changed = z.copy()
    changed[held_out] += 0.1
    second = fit(documents, changed)
    np.testing.assert_array_equal(first.out_of_fold[:n, :2], second.out_of_fold[:n, :2])
    assert (first.out_of_fold[n:, :2] != second.out_of_fold[n:, :2]).all()
    errors = (first.out_of_fold - z[first.rows])[:, :2] ** 2
    in_sample = (first.model.logits(token_ids(documents)) - z)[:, :2] ** 2
    assert in_sample.mean() < errors.mean() < 0.7


def test_the_strength_has_the_least_error_on_held_out_documents(monkeypatch):
    documents, z = make_values(noise=0.5)
    z = z[:, :2]
    tried = []
    original = ridge._fit

    def watch(features, values, weight, strength, advance):
        tried.append(strength)
        return original(features, values, weight, strength, advance)

    monkeypatch.setattr(ridge, "_fit", watch)
    whole = fit(documents, z)
    chosen = tried[-1]
    assert tried[: len(tried) - 3] == list(ridge.STRENGTHS[: len(tried) - 3])
    assert tried[-3:] == [chosen] * 3
    n_first = len(held_out_folds(len(z), 0)[0][1])
    error = ((whole.out_of_fold - z[whole.rows])[:n_first] ** 2).sum()
    for strength in ridge.STRENGTHS:
        monkeypatch.setattr(ridge, "STRENGTHS", (strength,))
        other = fit(documents, z)
        assert error <= ((other.out_of_fold - z[other.rows])[:n_first] ** 2).sum()


def test_targets_that_words_do_not_predict_are_left_to_the_network():
    documents, z = make_values()
    found = fit(documents, z)
    n = len(z)
    assert found.model.network_share.tolist() == pytest.approx([0.5 * n / (n + HALF_SHARE)] * 2 + [1])
    assert not found.model.weight[:, 2].any()
    assert not found.out_of_fold[:, 2].any()
    assert fit(documents, z[:, 2:]) is None


def test_constant_and_unknown_targets_keep_their_mean():
    documents, z = make_values()
    z[:, 1], z[:, 2] = 0, np.nan
    model = fit(documents, z).model
    assert not model.weight[:, 1:].any()
    assert model.bias[1:].tolist() == [0, 0]


def test_documents_without_words_and_a_single_one_teach_nothing():
    assert fit([[2], [2]], np.array([[1.0], [-1.0]])) is None
    assert fit([[10, 11]], np.array([[0.0]])) is None


def test_a_document_that_counts_twice_is_two_documents(monkeypatch):
    monkeypatch.setattr(ridge, "STRENGTHS", (1.0,))
    documents, z = make_values(n=60)
    weight = np.where(np.arange(60) < 20, 2, 1).astype(np.float32)
    features = tf_idf(next(iter(count_terms(token_ids(documents), fit(documents, z).model._terms()))), 20, np.ones(99))
    repeated = np.repeat(np.arange(60), weight.astype(int))
    once = ridge._fit(features, z, weight, 1.0, None)
    twice = ridge._fit(features[repeated], z[repeated], None, 1.0, None)
    for ours, wanted in zip(once, twice, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=2e-3)


@pytest.mark.parametrize("most_folded", [20, 20_000])
def test_every_training_is_counted_and_of_many_documents_one_fold_is_held_out(monkeypatch, most_folded):
    monkeypatch.setattr(term_counts, "MAX_FOLDED", most_folded)
    documents, z = make_values(noise=0.01)
    done = []
    found = fit(documents, z, advance=done.append)
    assert sum(done) <= most_ridges(len(z))
    assert done[0] == 0
    assert len(found.rows) == (20 if most_folded == 20 else len(z))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(1, 4), st.integers(0, 10_000))
def test_any_shape_gives_finite_predictions(n, n_targets, seed):
    documents, _ = random_documents(n, seed)
    rng = np.random.default_rng(seed)
    z = np.where(rng.random((n, n_targets)) < 0.3, np.nan, rng.normal(size=(n, n_targets)))
    found = fit(documents, z)
    if found is not None:
        assert isinstance(found.model, LinearModel)
        assert np.isfinite(found.model.logits(token_ids(documents))).all()
        assert found.out_of_fold.shape == (n, n_targets)
        assert np.isfinite(found.out_of_fold).all()
