"""The share of the network beside the linear model, learned from out-of-fold log-odds."""

import numpy as np
import pytest
from scipy.special import expit

from sk_ulmfit.training.share import HALF_SHARE, PRIOR_TEXTS, learn_share
from sk_ulmfit.training.task import Classification

LABELS = Classification()


def make_log_odds(n=20_000, noise=(1.0, 1.0), seed=0):
    """True labels of one column, and the log-odds of two models that see the truth with noise of their own."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, 1)) < 0.5).astype(np.float32)
    seen = [(2 * y - 1 + rng.normal(scale=scale, size=y.shape)) * 2 / scale**2 for scale in noise]
    return *seen, y


@pytest.mark.parametrize(("noise", "low", "high"), [((1, 1), 0.45, 0.55), ((0.5, 3), 0.9, 1), ((3, 0.5), 0, 0.1)])
def test_the_better_model_gets_the_larger_share(noise, low, high):
    network, linear, y = make_log_odds(noise=noise)
    assert low < learn_share(network, linear, y, LABELS)[0] < high


def test_both_together_are_better_than_either():
    network, linear, y = make_log_odds()
    share = learn_share(network, linear, y, LABELS)
    error = [np.mean((expit(s * network + (1 - s) * linear) - y) ** 2) for s in (0, share, 1)]
    assert error[1] < min(error[0], error[2])


def test_few_texts_draw_the_share_towards_one_half():
    network, linear, y = make_log_odds(n=PRIOR_TEXTS, noise=(0.3, 5))
    n_rarer = min((y == 1).sum(), (y == 0).sum())
    assert learn_share(network, linear, y, LABELS)[0] == pytest.approx(
        0.75 * n_rarer / (n_rarer + HALF_SHARE), abs=0.01
    )


def test_the_network_has_less_of_rare_labels_and_nothing_of_labels_without_texts():
    network, linear, y = make_log_odds()
    rare = np.zeros_like(y)
    rare[:HALF_SHARE] = 1
    share = learn_share(
        *(np.repeat(part, 3, axis=1) for part in (network, linear)), np.hstack([y, rare, 0 * y]), LABELS
    )
    assert share[1] == pytest.approx(share[0] / 2, abs=0.01)
    assert share[2] == 0


def test_unknown_entries_and_texts_of_little_weight_do_not_count():
    network, linear, y = make_log_odds(n=4_000, noise=(0.5, 3))
    wrong = y.copy()
    wrong[2_000:] = 1 - y[2_000:]
    unknown = np.where(np.arange(len(y))[:, None] < 2_000, y, np.nan)
    weight = np.where(np.arange(len(y)) < 2_000, 1, 1e-6).astype(np.float32)
    assert learn_share(network, linear, unknown, LABELS)[0] > 0.9
    assert learn_share(network, linear, wrong, LABELS, weight)[0] > 0.9
    assert learn_share(network, linear, wrong, LABELS)[0] < 0.9


def test_the_positive_weight_counts():
    network, linear, y = make_log_odds(n=4_000)
    linear = np.where(y == 1, 4.0, linear)  # knows the positives alone
    heavy, light = (learn_share(network, linear, y, Classification(np.array([factor])))[0] for factor in (50.0, 0.02))
    assert heavy < light


def test_rare_labels_are_those_of_the_texts_that_the_models_learned_from():
    rng = np.random.default_rng(0)
    y = (rng.random((200, 2)) < 0.5).astype(np.float64)
    network = linear = (2 * y - 1) * 3.0
    share = learn_share(network, linear, y, LABELS, n_telling=np.array([3, 300]))
    assert share[1] / share[0] == pytest.approx(2 * 300 / 303)
