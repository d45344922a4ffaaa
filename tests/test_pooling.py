import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.nn import pooling
from sk_ulmfit.nn.losses import MultiLabelLoss
from sk_ulmfit.nn.modules import AWDLSTM, ConcatPoolingHead
from sk_ulmfit.nn.pooling import TextClassifier


def make(bptt=4, max_length=None, n_labels=2, **dropout):
    torch.manual_seed(0)
    encoder = AWDLSTM(20, emb_dim=5, hidden_dim=7, n_layers=2, **dropout).double()
    return TextClassifier(encoder, ConcatPoolingHead(15, n_labels).double(), bptt, max_length)


def random_batch(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 20, (len(lengths), max(lengths)), generator=generator), torch.tensor(lengths)


def reference(model, ids, length):
    """Pool one document as the formulas say, without windows."""
    outputs, _ = model.encoder(ids[None, :length], torch.tensor([length]))
    pooled = outputs[0] if model.max_length is None else outputs[0][-model.max_length :]
    return torch.cat([outputs[0, -1], pooled.max(0).values, pooled.mean(0)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=6), st.sampled_from([None, 1, 3, 6]))
def test_pooled_features_equal_the_formula_for_every_row(lengths, max_length):
    model = make(max_length=max_length).eval()
    ids, lengths = random_batch(lengths)
    with torch.no_grad():
        features = model.pool(ids, lengths).features
        for row, length in zip(range(len(ids)), lengths.tolist(), strict=True):
            assert torch.allclose(features[row], reference(model, ids[row], length), atol=1e-10)


def test_padding_behind_a_document_does_not_matter():
    model = make().eval()
    ids, lengths = random_batch([9, 3, 6])
    other = ids.clone()
    for row, n in enumerate(lengths):
        other[row, n:] = 19
    assert torch.equal(model(ids, lengths), model(other, lengths))


def test_penalties_are_means_over_real_tokens_of_each_window():
    model = make(max_length=6)
    model.encoder.eval()
    ids, lengths = random_batch([9, 3, 6, 1])
    pooled = model.pool(ids, lengths)
    squares, steps = [], []
    for row, n in zip(ids, lengths.tolist(), strict=True):
        outputs, _ = model.encoder(row[None, :n], torch.tensor([n]))
        first = max(n - 6, 0)
        for p in range(first, n):
            squares += outputs[0, p].square().tolist()
            if p > first and p % model.bptt:
                steps += (outputs[0, p] - outputs[0, p - 1]).square().tolist()
    assert pooled.activation.item() == pytest.approx(np.mean(squares))
    assert pooled.change.item() == pytest.approx(np.mean(steps))


@pytest.mark.parametrize("max_length", [None, 5])
@pytest.mark.parametrize("dropout", [{}, {"input_p": 0.3, "hidden_p": 0.3, "weight_p": 0.5, "embed_p": 0.2}])
@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_passes_give_the_gradients_of_one_graph(monkeypatch, max_length, dropout, frozen, precision):
    model = make(max_length=max_length, **dropout)
    in_16_bits = precision == "bfloat16"
    model = model.float() if in_16_bits else model
    for group in model.layer_groups()[:frozen]:
        for parameter in group:
            parameter.requires_grad_(False)
    ids, lengths = random_batch([13, 1, 8, 4, 9])
    weights = torch.randn(5, 15, dtype=torch.float32 if in_16_bits else torch.float64)
    if in_16_bits:  # which of two nearly equal numbers is the maximum is a matter of rounding
        weights[:, 5:10] = 0

    def gradients(graph_tokens):
        monkeypatch.setattr(pooling, "GRAPH_TOKENS", graph_tokens)
        model.zero_grad()
        torch.manual_seed(3)
        pooled = model.pool(ids, lengths, precision=precision)
        loss = (pooled.features * weights).sum() + 2 * pooled.activation + 3 * pooled.change
        loss.backward()
        return loss.item(), {n: p.grad.to_dense() for n, p in model.encoder.named_parameters() if p.grad is not None}

    loss, one_graph = gradients(10**9)
    loss_again, two_passes = gradients(0)
    assert loss == pytest.approx(loss_again, abs=3e-2 if in_16_bits else 1e-12)
    assert one_graph.keys() == two_passes.keys()
    assert len(one_graph) == sum(p.requires_grad for p in model.encoder.parameters())
    for name, gradient in one_graph.items():
        # in 16 bits the first of the passes rounds in other places than a graph does
        tolerance = 0.05 * gradient.norm() if in_16_bits else 1e-10
        assert (gradient - two_passes[name]).norm() <= tolerance, name
        assert gradient.abs().sum() > 0, name


def test_gradient_stops_at_window_borders():
    model = make(bptt=4, max_length=4)
    ids, lengths = random_batch([8])
    model.pool(ids, lengths).features.sum().backward()
    gradient = model.encoder.embedding.weight.grad.to_dense()
    touched = set(torch.nonzero(gradient.abs().sum(1)).flatten().tolist())
    assert touched == set(ids[0, 4:].tolist())


def test_pooling_without_gradients_holds_one_window():
    model = make(bptt=4).eval()
    seen = []
    model.encoder.rnns[0].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    ids, lengths = random_batch([50] * 2 + [21] * 9 + [3] * 9)
    with torch.no_grad():
        model(ids, lengths)
    assert [len(x) for x in seen] == [20] + [16] * 5 + [8] * 7  # rows leave, eight at a time, when their text ends
    assert max(x.shape[1] for x in seen) == 4


def test_a_fully_frozen_encoder_builds_no_graph():
    model = make()
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(False)
    pooled = model.pool(*random_batch([9, 3]))
    assert not pooled.features.requires_grad


@pytest.mark.parametrize("two_passes", [False, True])
@pytest.mark.parametrize("max_length", [None, 6])
def test_a_document_of_weight_two_is_two_documents(monkeypatch, two_passes, max_length):
    if two_passes:
        monkeypatch.setattr(pooling, "GRAPH_TOKENS", 0)
    model = make(max_length=max_length)
    model.head = ConcatPoolingHead(15, 2, hidden_p=0.0).double()
    ids, lengths = random_batch([9, 3, 6, 1])
    y = torch.tensor([[1.0, 0.0], [0.0, float("nan")], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    repeats = torch.tensor([1, 3, 2, 1])

    def gradients(ids, lengths, y, weight):
        model.zero_grad()
        logits, activation, change = model(ids, lengths, weight)
        (MultiLabelLoss()(logits, y, weight) + activation + change).backward()
        found = [p.grad.to_dense() for p in model.parameters()]
        return [logits, activation, change, *found]

    weighted = gradients(ids, lengths, y, repeats / repeats.double().mean())
    twice = [part.repeat_interleave(repeats, 0) for part in (ids, lengths, y)]
    repeated = gradients(*twice, torch.ones(len(twice[0]), dtype=torch.float64))
    assert torch.allclose(weighted[0].repeat_interleave(repeats, 0), repeated[0])
    for one, other in zip(weighted[1:], repeated[1:], strict=True):
        assert torch.allclose(one, other, atol=1e-10)
