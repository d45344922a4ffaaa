import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.training.callbacks import ClipGradient


def train(optimizer_class, sparse, steps):
    torch.manual_seed(0)
    embedding = torch.randn(10, 4).requires_grad_()
    weight = torch.randn(4, 3).requires_grad_()
    optimizer = optimizer_class([embedding, weight], lr=0.05, betas=(0.7, 0.99), weight_decay=0.1, fused=True)
    for ids in steps:
        optimizer.zero_grad()
        (F.embedding(torch.tensor(ids), embedding, sparse=sparse) @ weight).square().sum().backward()
        optimizer.step()
    return embedding.detach(), weight.detach()


def test_rows_in_every_batch_move_as_in_adamw():
    steps = [[1, 2, 2, 5], [5, 1, 2], [2, 5, 1]]
    wanted, weight = train(torch.optim.AdamW, False, steps)
    found, same_weight = train(RowAdamW, True, steps)
    rows = [1, 2, 5]
    assert torch.allclose(found[rows], wanted[rows], atol=1e-6)
    assert torch.allclose(same_weight, weight, atol=1e-6)


def test_rows_that_no_batch_reads_stand_still():
    start, _ = train(RowAdamW, True, [])
    found, _ = train(RowAdamW, True, [[1, 2], [1, 3]])
    assert torch.equal(found[[0, 4, 5, 6, 7, 8, 9]], start[[0, 4, 5, 6, 7, 8, 9]])
    assert not torch.isclose(found[[1, 2, 3]], start[[1, 2, 3]]).any()


def test_dense_gradients_take_the_way_of_torch():
    steps = [[1, 2], [3]]
    for found, wanted in zip(train(RowAdamW, False, steps), train(torch.optim.AdamW, False, steps), strict=True):
        assert torch.equal(found, wanted)


def test_the_closure_is_called_once_and_gives_the_loss():
    weight = torch.ones(3, requires_grad=True)
    optimizer = RowAdamW([weight])
    calls = []

    def closure():
        calls.append(1)
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert len(calls) == 1
    assert (weight < 1).all()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_equals_that_of_torch(sparse, max_norm):
    def gradients(sparse):
        torch.manual_seed(0)
        embedding, weight = torch.randn(10, 4).requires_grad_(), torch.randn(4, 3).requires_grad_()
        (F.embedding(torch.tensor([1, 2, 2, 5]), embedding, sparse=sparse) @ weight).square().sum().backward()
        return embedding, weight

    wanted = gradients(False)
    torch.nn.utils.clip_grad_norm_(wanted, max_norm)
    found = gradients(sparse)
    ClipGradient(max_norm).on_grad_computed(None, named_parameters=[("a", found[0]), ("b", found[1])])
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a.grad.to_dense(), b.grad, rtol=1e-4)


def test_nets_that_only_predict_do_not_import_the_compiler_of_torch():
    code = """
import sys, torch
from sk_ulmfit.nn.device import without_contents
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.nn.optimizer import RowAdamW
with without_contents():
    encoder = AWDLSTM(8, 4, 6, 2)
assert all(weight.is_meta for weight in encoder.parameters())
assert len(RowAdamW([{"params": [torch.zeros(2)]}], lr=0.1, fused=True).param_groups) == 1
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
