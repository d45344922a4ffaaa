"""What is learned: labels or values on a scale, with losses, links and units."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import Ridge

from sk_ulmfit.nn.losses import MultiLabelLoss
from sk_ulmfit.training import linear_head
from sk_ulmfit.training.linear_head import fit_linear_head
from sk_ulmfit.training.link import CROSS_ENTROPY
from sk_ulmfit.training.share import HALF_SHARE, PRIOR_TEXTS, learn_share
from sk_ulmfit.training.task import Classification, Regression

LOSSES = ("labels", "plain", "range", "soft")
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10_000))


def one_range_each(n_targets, low=1.0, high=5.0):
    return np.array([[low] * n_targets, [high] * n_targets])


def make_problem(kind, n, n_targets, seed):
    """Return a task, outputs, y with unknown entries, and weights of texts."""
    rng = np.random.default_rng(seed)
    outputs, weight = 2 * rng.normal(size=(n, n_targets)), (rng.random(n) + 0.1).astype(np.float32)
    if kind == "labels":
        y, task = rng.integers(0, 2, (n, n_targets)).astype(float), Classification(rng.random(n_targets) + 0.5)
    elif kind == "soft":
        y = rng.random((n, n_targets))
        task = Regression.of_values(y, weight, one_range_each(n_targets, 0, 1), CROSS_ENTROPY)
    else:
        y = rng.uniform(1, 5, (n, n_targets))
        task = Regression.of_values(y, weight, one_range_each(n_targets) if kind == "range" else None)
    y[rng.random(y.shape) < 0.2] = np.nan
    return task, outputs, y, weight


def plain_loss(kind, task, outputs, y, weight):
    """Compute the loss in torch from its formula, entry by entry; return the sum of the known entries."""
    total = torch.zeros((), dtype=torch.float64)
    for i, j in np.argwhere(~np.isnan(y)):
        x, target = outputs[i, j], float(y[i, j])
        if kind in ("labels", "soft"):
            factor = task.pos_weight[j] if kind == "labels" else 1.0
            p = torch.sigmoid(x)
            loss = -factor * target * torch.log(p) - (1 - target) * torch.log(1 - p)
        else:
            value = 0.8 + 4.4 * torch.sigmoid(x) if kind == "range" else task.mean[j] + task.scale[j] * x
            loss = 0.5 * ((value - target) / task.scale[j]) ** 2
        total = total + float(weight[i]) * loss
    return total


@pytest.mark.parametrize("kind", LOSSES)
@settings(max_examples=15, deadline=None)
@given(SHAPES)
def test_losses_and_derivatives_are_those_of_the_formula(kind, shape):
    task, outputs, y, weight = make_problem(kind, *shape)
    losses, derivative = task.losses(outputs, *task.entries(y, weight))
    x = torch.tensor(outputs, requires_grad=True)
    wanted = plain_loss(kind, task, x, y, weight)
    assert losses.sum() == pytest.approx(wanted.item(), rel=1e-4, abs=1e-9)
    if not np.isnan(y).all():
        wanted.backward()
        np.testing.assert_allclose(derivative, x.grad.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_derivatives_are_those_of_finite_differences(kind):
    task, outputs, y, weight = make_problem(kind, 5, 3, 0)
    entries, step = task.entries(y, weight), 1e-5
    above, below = (task.losses(outputs + way * step, *entries)[0] for way in (1, -1))
    np.testing.assert_allclose(task.losses(outputs, *entries)[1], (above - below) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("kind", LOSSES)
@settings(max_examples=15, deadline=None)
@given(SHAPES)
def test_the_criterion_of_the_network_is_the_same_loss(kind, shape):
    task, outputs, y, weight = make_problem(kind, *shape)
    losses, derivative = task.losses(outputs, *task.entries(y, weight))
    x = torch.tensor(outputs, dtype=torch.float32, requires_grad=True)
    loss = task.criterion()(x, torch.tensor(task.targets(y)), torch.tensor(weight))
    loss.backward()
    assert loss.item() == pytest.approx(losses.sum() / y.size, rel=1e-4, abs=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), derivative / y.size, rtol=1e-3, atol=1e-5)
    known = np.nan_to_num(y, nan=1.0)
    whole = task.criterion()(x, torch.tensor(task.targets(known)))
    wanted = task.losses(outputs, *task.entries(known, None))[0].mean()
    assert whole.item() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", ["labels", "plain", "range", "soft"])
def test_the_curvature_is_the_second_derivative_where_learning_starts(kind):
    task, outputs, y, weight = make_problem(kind, 400, 3, 1)
    entries = task.entries(y, weight)
    start = np.broadcast_to(task.start(y, weight), outputs.shape)
    above, below = (task.losses(start + way * 1e-4, *entries)[1].sum(axis=0) for way in (1, -1))
    if kind == "labels":  # the rates of entries that weigh more are a little different
        np.testing.assert_allclose(task.curvature(*entries), (above - below) / 2e-4, rtol=0.02)
    else:  # without the bend of the sigmoid, whose mean is 0 where the mean is predicted
        np.testing.assert_allclose(task.curvature(*entries), (above - below) / 2e-4, rtol=0.1)


@pytest.mark.parametrize("kind", ["plain", "range", "soft"])
def test_learning_starts_from_the_means(kind):
    task, _, y, weight = make_problem(kind, 2_000, 3, 2)
    task = Regression.of_values(y, weight, task.y_range, task.loss)
    means = np.nansum(y * weight[:, None], axis=0) / (~np.isnan(y) * weight[:, None]).sum(axis=0)
    predicted = task.predictions(task.scores(task.start(y, weight)[None]))
    np.testing.assert_allclose(predicted[0], means, rtol=1e-3)
    np.testing.assert_allclose(np.nanmean(task.standardise(y), axis=0), 0, atol=0.05)
    np.testing.assert_allclose(np.nanstd(task.standardise(y), axis=0), 1, atol=0.05)


def test_both_ends_of_a_range_are_reached_and_never_left():
    y = np.array([[1.0, 0.0], [5.0, 1.0], [3.0, 0.5]])
    task = Regression.of_values(y, y_range=np.array([[1.0, 0.0], [5.0, 1.0]]))
    outputs = np.linspace(-40, 40, 801)[:, None].repeat(2, axis=1)
    values = task.predictions(task.scores(outputs))
    assert values.min(axis=0).tolist() == [1, 0]
    assert values.max(axis=0).tolist() == [5, 1]
    assert (np.diff(values, axis=0) >= 0).all()
    unclipped = task.mean + task.scale * task.scores(outputs)
    np.testing.assert_allclose(unclipped[[0, -1]], [[0.8, -0.05], [5.2, 1.05]])
    half = task.predictions(task.scores(np.array([[0.0, 0.0], [4.0, 4.0], [-4.0, -4.0]])))
    np.testing.assert_allclose(half, [[3, 0.5], [5, 1], [1, 0]])  # within 4 of the middle


def test_values_of_the_cross_entropy_are_the_plain_sigmoid():
    y = np.array([[0.2], [0.9]])
    task = Regression.of_values(y, y_range=one_range_each(1, 0, 1), loss=CROSS_ENTROPY)
    outputs = np.array([[-2.0], [3.0]])
    np.testing.assert_allclose(task.predictions(task.scores(outputs)), expit(outputs))


@settings(max_examples=15, deadline=None)
@given(SHAPES)
def test_soft_labels_of_0_and_1_are_labels(shape):
    _, outputs, y, weight = make_problem("labels", *shape)
    task = Regression.of_values(y, weight, one_range_each(y.shape[1], 0, 1), CROSS_ENTROPY)
    for soft, hard in zip(
        task.losses(outputs, *task.entries(y, weight)),
        Classification().losses(outputs, *Classification().entries(y, weight)),
        strict=True,
    ):
        np.testing.assert_array_equal(soft, hard)
    np.testing.assert_array_equal(task.n_telling(y), Classification().n_telling(y))
    batch = [torch.tensor(part, dtype=torch.float32) for part in (outputs, y, weight)]
    assert task.criterion()(*batch).equal(MultiLabelLoss()(*batch))
    if not np.isnan(y).all():
        np.testing.assert_allclose(task.start(y, weight), Classification().start(y, weight), rtol=1e-5, atol=1e-6)


def make_vectors(n=400, d=8, seed=0):
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(n, d)) * np.geomspace(2, 0.3, d) + rng.normal(size=d)).astype(np.float32)
    return vectors, rng.normal(size=(d, 2)) * [1, 30] / 3, rng


def test_the_head_recovers_a_linear_relation():
    vectors, slopes, rng = make_vectors()
    y = vectors @ slopes + [5, -100] + 0.05 * rng.normal(size=(len(vectors), 2)) * [1, 30]
    y[::7, 0] = np.nan
    task = Regression.of_values(y)
    head = fit_linear_head(vectors, y, task)
    np.testing.assert_allclose(head.weight.T * task.scale, slopes, rtol=0.15, atol=0.03 * task.scale.max())
    predicted = task.predictions(task.scores(head.out_of_fold))
    known = ~np.isnan(y[:, 0])
    assert np.corrcoef(predicted[known, 0], y[known, 0])[0, 1] > 0.99
    assert np.corrcoef(predicted[:, 1], y[:, 1])[0, 1] > 0.99


def test_the_plain_head_is_the_ridge_regression_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(linear_head, "STRENGTHS", (3.0,))
    vectors, slopes, rng = make_vectors(n=80)
    y = vectors @ slopes + rng.normal(size=(len(vectors), 2)) * [1, 30]
    y[::5, 1] = np.nan
    weight = rng.uniform(0.5, 1.5, len(y)).astype(np.float32)
    task = Regression.of_values(y, weight)
    head = fit_linear_head(vectors, y, task, weight)
    mean = vectors.mean(axis=0, dtype=np.float64)
    size = np.sqrt(((vectors - mean) ** 2).sum(axis=1).mean())
    for target in range(2):
        known = ~np.isnan(y[:, target])
        z = task.standardise(y)[known, target]
        ridge = Ridge(alpha=4 / 3).fit((vectors[known] - mean) / size, z, weight[known])
        np.testing.assert_allclose(head.weight[target], ridge.coef_ / size, atol=1e-3)


@pytest.mark.parametrize("loss", ["squared_error", CROSS_ENTROPY])
def test_the_head_learns_through_the_sigmoid(loss):
    vectors, slopes, _ = make_vectors()
    y = expit(vectors @ slopes[:, :1])
    task = Regression.of_values(y, y_range=one_range_each(1, 0, 1), loss=loss)
    predicted = task.predictions(task.scores(fit_linear_head(vectors, y, task).out_of_fold))
    assert np.abs(predicted - y).mean() < 0.02
    assert predicted.min() >= 0
    assert predicted.max() <= 1


def test_the_head_for_soft_labels_of_0_and_1_is_that_of_the_classifier():
    vectors, slopes, _ = make_vectors()
    y = (vectors @ slopes > 0).astype(np.float32)
    task = Regression.of_values(y, y_range=one_range_each(2, 0, 1), loss=CROSS_ENTROPY)
    soft, hard = fit_linear_head(vectors, y, task), fit_linear_head(vectors, y, Classification())
    for name in ("weight", "bias", "out_of_fold"):
        np.testing.assert_array_equal(getattr(soft, name), getattr(hard, name))


@pytest.mark.parametrize("y_range", [None, one_range_each(3)])
def test_constant_and_unknown_targets_get_mean_and_middle(y_range):
    vectors, slopes, _ = make_vectors(n=40)
    y = np.column_stack([3 + np.tanh(vectors @ slopes[:, 0]), np.full(40, 2.0), np.full(40, np.nan)])
    task = Regression.of_values(y, y_range=y_range)
    assert task.scale[1:].tolist() == [1, 1]
    head = fit_linear_head(vectors, y, task)
    assert not head.weight[1:].any()
    values = task.predictions(task.scores(head.out_of_fold))
    np.testing.assert_allclose(values[:, 1], 2)
    np.testing.assert_allclose(values[:, 2], 0 if y_range is None else 3)
    assert np.corrcoef(values[:, 0], y[:, 0])[0, 1] > 0.8


def test_large_and_far_off_values_keep_their_digits():
    rng = np.random.default_rng(0)
    y = 1e12 + rng.normal(size=(300, 1))
    task = Regression.of_values(y)
    assert task.scale[0] == pytest.approx(y.std(), rel=1e-3)
    np.testing.assert_allclose(task.predictions(task.targets(y).astype(float)) - 1e12, y - 1e12, atol=1e-3)


def test_the_head_of_a_range_does_not_depend_on_the_unit():
    vectors, slopes, rng = make_vectors(n=100)
    y = (3 + 1.9 * np.tanh(vectors @ slopes[:, :1] + rng.normal(size=(100, 1)))).clip(1, 5)
    first = fit_linear_head(vectors, y, Regression.of_values(y, y_range=one_range_each(1)))
    other = fit_linear_head(vectors, 100 * y - 7, Regression.of_values(100 * y - 7, y_range=one_range_each(1, 93, 493)))
    np.testing.assert_allclose(first.out_of_fold, other.out_of_fold, atol=1e-2)


@pytest.mark.parametrize(("noise", "wanted"), [((1, 1), 0.5), ((0.5, 5), 1), ((5, 0.5), 0)])
@pytest.mark.parametrize("kind", ["plain", "range", "soft"])
def test_the_share_of_values_has_the_least_squared_error(kind, noise, wanted):
    rng = np.random.default_rng(0)
    y = rng.random((20_000, 2))
    if kind == "plain":
        task = Regression.of_values(y)
    else:
        loss = CROSS_ENTROPY if kind == "soft" else "squared_error"
        task = Regression.of_values(y, y_range=one_range_each(2, 0, 1), loss=loss)
    y[::9] = np.nan
    scores = [np.nan_to_num(task.standardise(y)) + scale * rng.normal(size=y.shape) for scale in noise]
    share = learn_share(*scores, y, task)
    assert share[0] == pytest.approx(share[1], rel=1e-3)
    assert share[0] == pytest.approx(wanted, abs=0.05)


def test_few_values_draw_the_share_towards_one_half():
    rng = np.random.default_rng(0)
    y = rng.random((PRIOR_TEXTS, 1))
    task = Regression.of_values(y)
    share = learn_share(task.standardise(y), rng.normal(size=y.shape), y, task)
    assert share[0] == pytest.approx(0.75 * PRIOR_TEXTS / (PRIOR_TEXTS + HALF_SHARE), abs=0.01)


def test_the_task_of_some_columns_has_their_numbers():
    task = Regression.of_values(np.arange(12.0).reshape(4, 3), y_range=np.array([[0, 1, 2], [9, 10, 11.0]]))
    part = task.of_columns(np.array([2, 0]))
    assert part.mean.tolist() == task.mean[[2, 0]].tolist()
    assert part.y_range.tolist() == [[2, 0], [11, 9]]
    assert Classification(np.array([1.0, 2.0])).of_columns(np.array([1])).pos_weight.tolist() == [2]
    y = np.array([[1, 0.0]] * 3 + [[0, 1.0]])
    assert Classification(np.array([2.0, 1.0])).start(y, None)[0] == pytest.approx(logit(0.7) + np.log(2))
