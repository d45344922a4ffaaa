import itertools
import math

import numpy as np
import pytest
import torch
from conftest import tiny_classifier, tiny_lm
from skorch.callbacks import Callback

from sk_ulmfit.training.schedules import one_cycle, slanted_triangular


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 3.125e-4), (5, 5.15625e-3), (10, 0.01), (55, 5.15625e-3), (99, 4.20139e-4)]
)
def test_slanted_triangular_equals_the_papers_numbers(step, rate):
    assert 0.01 * slanted_triangular(step, 100) == pytest.approx(rate, rel=1e-5)


def test_slanted_triangular_never_turns_negative():
    # the paper's own denominator gives -1.12e-3 here
    assert 0.01 * slanted_triangular(34, 35) == pytest.approx(6.15e-4, rel=1e-3)
    for n in range(1, 60):
        factors = [slanted_triangular(t, n) for t in range(n)]
        assert min(factors) >= 1 / 32
        assert max(factors) <= 1


@pytest.mark.parametrize("n", [100, 1000])
def test_slanted_triangular_equals_the_formula(n):
    cut = math.floor(n * 0.1)
    for t in range(n):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1))
        assert slanted_triangular(t, n) == pytest.approx((1 + p * 31) / 32)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 8e-5), (10, 7.43344e-4), (25, 2e-3), (50, 1.50001e-3), (75, 5.00015e-4), (99, 8.97161e-7)],
)
def test_one_cycle_equals_fastais_numbers(step, rate):
    assert 2e-3 * one_cycle(step, 100)[0] == pytest.approx(rate, rel=1e-5)


def test_one_cycle_momentum_dips_where_the_rate_peaks():
    momenta = [one_cycle(t, 100)[1] for t in range(100)]
    assert momenta[0] == pytest.approx(0.8)
    assert momenta[25] == pytest.approx(0.7)
    assert momenta[99] == pytest.approx(0.8, abs=1e-3)


class Recorder(Callback):
    """Notes what the optimiser and the network look like at each training batch."""

    def __init__(self, log):
        self.log = log

    def __deepcopy__(self, memo):
        return self

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            groups = net.module_.layer_groups()
            self.log.append(
                {
                    "epoch": len(net.history),
                    "rates": [g["lr"] for g in net.optimizer_.param_groups],
                    "betas": [g["betas"] for g in net.optimizer_.param_groups],
                    "frozen": [not any(p.requires_grad for p in g) for g in groups],
                    "n_steps": net.n_steps_,
                    "weights": [torch.cat([p.detach().flatten() for p in g]).clone() for g in groups],
                }
            )


def record(corpus, **params):
    log = []
    language_model = tiny_lm(random_state=0).fit(corpus[0])
    settings = {"language_model": language_model, "max_epochs": 6, "lr": 0.02, "callbacks": [Recorder(log)], **params}
    tiny_classifier(**settings).fit(*corpus)
    return log


def test_training_follows_schedule_rates_and_unfreezing(corpus):
    log = record(corpus)
    n_steps = log[0]["n_steps"]
    assert len(log) == n_steps
    for step, entry in enumerate(log):
        factor = slanted_triangular(step, n_steps)
        wanted = [0.04 * factor, *(0.02 * factor / 2.6**depth for depth in (2, 1, 0))]  # embedding, two layers, head
        assert entry["rates"] == pytest.approx(wanted)
        n_trained = min(entry["epoch"], 4)
        layers_and_head = [True] * (4 - n_trained) + [False] * n_trained
        assert entry["frozen"] == [False, *layers_and_head[1:]]
        assert {b[0] for b in entry["betas"]} == {0.7}


def test_the_embedding_can_be_one_more_layer_group_as_in_the_paper(corpus):
    log = record(corpus, embedding_lr=None)
    for step, entry in enumerate(log):
        factor = slanted_triangular(step, len(log))
        assert entry["rates"] == pytest.approx([0.02 * factor / 2.6**depth for depth in (3, 2, 1, 0)])
        n_trained = min(entry["epoch"], 4)
        assert entry["frozen"] == [True] * (4 - n_trained) + [False] * n_trained


def test_frozen_groups_do_not_move(corpus):
    log = record(corpus)
    for before, after in itertools.pairwise(log):
        for frozen, a, b in zip(before["frozen"], before["weights"], after["weights"], strict=True):
            assert torch.equal(a, b) == frozen


def test_one_cycle_sets_rates_and_momentum(corpus):
    log = record(corpus, schedule="one_cycle")
    for step, entry in enumerate(log):
        factor, momentum = one_cycle(step, len(log))
        assert entry["rates"][-1] == pytest.approx(0.02 * factor)
        assert {b[0] for b in entry["betas"]} == {momentum}


@pytest.mark.parametrize("lm_epochs", [0, 1])
def test_an_encoder_from_scratch_is_trained_whole_at_one_rate(corpus, lm_epochs):
    log = record(corpus, language_model=tiny_lm(), lm_epochs=lm_epochs)
    for step, entry in enumerate(log):
        assert not any(entry["frozen"])
        assert entry["rates"] == pytest.approx([0.02 * slanted_triangular(step, len(log))] * 4)


def test_an_encoder_from_a_path_is_unfrozen_gradually(corpus, tmp_path):
    tiny_lm(random_state=0).fit(corpus[0]).save(tmp_path / "lm")
    log = record(corpus, language_model=tmp_path / "lm", lm_epochs=0)
    assert log[0]["frozen"] == [False, True, True, False]
    assert not any(log[-1]["frozen"])


def test_nothing_is_left_frozen(fitted):
    assert all(p.requires_grad for p in fitted.net_.module_.parameters())


def test_users_callbacks_reach_skorch(corpus):
    seen = []

    class Count(Callback):
        def __deepcopy__(self, memo):
            return self

        def on_epoch_end(self, net, **kwargs):
            seen.append(net.history[-1]["train_loss"])

    clf = tiny_classifier(callbacks=[("count", Count())]).fit(*corpus)
    assert seen == [row["train_loss"] for row in clf.history_]
    assert len(clf.net_.history) == 3


def test_language_model_rates(corpus, tmp_path, monkeypatch):
    from sk_ulmfit.training import stages as training
    from sk_ulmfit.training.stages import LanguageModelNet

    nets = []
    monkeypatch.setattr(training, "fit_net", lambda net, data: nets.append(net.initialize()))
    monkeypatch.setattr(LanguageModelNet, "history", [], raising=False)
    lm = tiny_lm(max_epochs=0, random_state=0).fit(corpus[0])
    lm.save(tmp_path / "lm")
    for pretrained, decay in ((None, 1.0), (tmp_path / "lm", 2.6)):
        tiny_lm(pretrained=pretrained, lr=0.01).fit(corpus[0])
        rates = [g["lr"] for g in nets[-1].optimizer_.param_groups]
        assert np.allclose(rates, [0.01 / decay**2, 0.01 / decay, 0.01])
