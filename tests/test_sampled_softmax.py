import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.nn.losses import linear_cross_entropy
from sk_ulmfit.nn.sampled_softmax import draw_candidates


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 200), st.integers(1, 60), st.integers(0, 30), st.integers(1, 40), st.integers(0, 10_000))
def test_every_target_is_a_candidate_and_no_word_twice(vocab_size, n_candidates, n_frequent, n_targets, seed):
    torch.manual_seed(seed)
    targets = torch.randint(0, vocab_size, (n_targets,))
    targets[torch.rand(n_targets) < 0.2] = -100
    drawn = draw_candidates(targets, vocab_size, n_candidates, n_frequent)
    counted = targets >= 0
    assert (drawn.words[drawn.targets[counted]] == targets[counted]).all()
    assert (drawn.targets[~counted] == -100).all()
    assert len(drawn.words.unique()) == len(drawn.words) == len(drawn.log_weight)
    assert set(range(min(n_frequent, vocab_size))) <= set(drawn.words.tolist())
    assert drawn.log_weight.exp().sum().item() == pytest.approx(vocab_size, rel=1e-4)  # they stand for all words


def test_all_words_as_candidates_give_the_exact_loss():
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(7, 4), torch.randn(20, 4), torch.randn(20)
    targets = torch.tensor([3, 19, 0, -100, 7, 7, 2])
    drawn = draw_candidates(targets, 20, 20, 5)
    sampled = linear_cross_entropy(hidden, weight[drawn.words], bias[drawn.words] + drawn.log_weight, drawn.targets)
    assert torch.allclose(sampled, linear_cross_entropy(hidden, weight, bias, targets), atol=1e-6)


def test_the_mean_of_many_draws_is_close_to_the_exact_loss_and_gradient():
    torch.manual_seed(1)
    hidden = torch.randn(30, 8, dtype=torch.float64)
    weight = (0.5 * torch.randn(400, 8, dtype=torch.float64)).requires_grad_()
    bias = torch.linspace(1, -1, 400, dtype=torch.float64)
    targets = torch.randint(0, 400, (30,))
    exact = linear_cross_entropy(hidden, weight, bias, targets)
    (wanted,) = torch.autograd.grad(exact, weight)
    losses, gradients = [], []
    for _ in range(300):
        drawn = draw_candidates(targets, 400, 120, 40)
        shifted = bias[drawn.words] + drawn.log_weight.double()
        loss = linear_cross_entropy(hidden, weight[drawn.words], shifted, drawn.targets)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, weight)[0])
    assert np.mean(losses) == pytest.approx(exact.item(), abs=0.05)
    error = torch.stack(gradients).mean(0) - wanted
    assert error.norm() < 0.1 * wanted.norm()


def test_the_number_of_candidates_hardly_varies():
    counts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        counts.add(len(draw_candidates(torch.randint(0, 5_000, (300,)), 5_000, 1_024, 512).words))
    assert counts == {1_024}
