import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sk_ulmfit.nn.modules import AWDLSTM, BatchNorm, ConcatPoolingHead, LanguageModel, dropout_mask


def make(n_layers=3, **dropout):
    torch.manual_seed(0)
    return AWDLSTM(24, emb_dim=6, hidden_dim=10, n_layers=n_layers, **dropout)


def plain_stack(encoder):
    """The same weights in layers of torch alone."""
    layers = []
    for rnn in encoder.rnns:
        layer = nn.LSTM(rnn.input_size, rnn.hidden_size, batch_first=True)
        layer.load_state_dict(rnn.state_dict())
        layers.append(layer)
    return layers


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_eval_mode_equals_a_plain_stack_of_lstms(n_layers):
    encoder = make(n_layers, input_p=0.4, hidden_p=0.3, weight_p=0.5, embed_p=0.1).eval()
    ids = torch.randint(0, 24, (4, 13))
    x = encoder.embedding(ids)
    states = []
    for layer in plain_stack(encoder):
        x, state = layer(x)
        states.append(state)
    outputs, state = encoder(ids, torch.full((4,), 13))
    assert torch.allclose(outputs, x, atol=1e-6, rtol=0)
    for (h, c), (h0, c0) in zip(state, states, strict=True):
        assert torch.allclose(h, h0, atol=1e-6, rtol=0)
        assert torch.allclose(c, c0, atol=1e-6, rtol=0)


def test_layer_sizes_follow_the_paper():
    encoder = AWDLSTM(16)
    assert [(r.input_size, r.hidden_size) for r in encoder.rnns] == [(400, 1152), (1152, 1152), (1152, 400)]
    assert encoder.embedding.weight.abs().max() <= 0.1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(["float32", "bfloat16"]))
def test_padding_touches_neither_outputs_nor_state(lengths, precision):
    encoder = make().eval()
    lengths = sorted(lengths, reverse=True)
    ids = torch.randint(0, 24, (len(lengths), 9), generator=torch.Generator().manual_seed(1))
    outputs, state = encoder(ids, torch.tensor(lengths), precision=precision)
    for i, n in enumerate(lengths):
        alone, state_alone = encoder(ids[i : i + 1, :n], torch.tensor([n]), precision=precision)
        assert torch.allclose(outputs[i, :n], alone[0], atol=1e-6)
        assert not outputs[i, n:].any()
        for (h, c), (h1, c1) in zip(state, state_alone, strict=True):
            assert h.shape[1] == c.shape[1] == lengths.count(lengths[0])  # rows that ended have no state
            if n == lengths[0]:
                assert torch.allclose(h[:, i], h1[:, 0], atol=1e-6)
                assert torch.allclose(c[:, i], c1[:, 0], atol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 1e-3), ("int8", 1e-5)])
def test_neighbours_change_nothing_in_reduced_precision(precision, tolerance):
    torch.manual_seed(0)
    encoder = AWDLSTM(50, 40, 64, 3).eval()
    lengths = list(range(24, 0, -1))
    ids = torch.randint(0, 50, (24, 24))
    with torch.no_grad():
        together, _ = encoder(ids, torch.tensor(lengths), precision=precision)
        for row, n in enumerate(lengths):
            alone, _ = encoder(ids[row : row + 1, :n], torch.tensor([n]), precision=precision)
            assert torch.allclose(together[row, :n], alone[0], atol=tolerance)


def test_state_carries_over_windows():
    encoder = make().eval()
    ids = torch.randint(0, 24, (2, 12))
    whole, _ = encoder(ids, torch.tensor([12, 12]))
    first, state = encoder(ids[:, :5], torch.tensor([5, 5]))
    second, _ = encoder(ids[:, 5:], torch.tensor([7, 7]), state)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-6)


@pytest.mark.parametrize("lengths", [[0, 3], [3, 4], [3]])
def test_wrong_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be 2 numbers from 1 to 3"):
        make()(torch.zeros(2, 3, dtype=torch.int64), torch.tensor(lengths))


def test_rows_out_of_order_are_refused():
    with pytest.raises(ValueError, match="put the longest row first"):
        make()(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([2, 3]))


def test_training_mode_drops_and_evaluation_mode_does_not():
    encoder = make(input_p=0.4, hidden_p=0.3, weight_p=0.5, embed_p=0.1)
    ids, lengths = torch.randint(0, 24, (2, 7)), torch.tensor([7, 7])
    assert not torch.equal(encoder(ids, lengths)[0], encoder(ids, lengths)[0])
    encoder.eval()
    assert encoder.draw_masks(2) is None
    assert torch.equal(encoder(ids, lengths)[0], encoder(ids, lengths)[0])


def test_masks_are_shared_over_windows():
    encoder = make(input_p=0.4, hidden_p=0.3, weight_p=0.5, embed_p=0.3)
    ids = torch.randint(0, 24, (2, 12))
    masks = encoder.draw_masks(2)
    whole, _ = encoder(ids, torch.tensor([12, 12]), masks=masks)
    first, state = encoder(ids[:, :5], torch.tensor([5, 5]), masks=masks)
    second, _ = encoder(ids[:, 5:], torch.tensor([7, 7]), state, masks)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-6)


def test_embedding_dropout_drops_whole_words_and_scales_the_others():
    encoder = make(embed_p=0.5)
    masks = encoder.draw_masks(1)
    ids = torch.arange(24).repeat(2, 1)
    embedded, plain = encoder.embed(ids, masks), encoder.embedding(ids)
    kept = embedded.abs().sum(2) > 0
    assert torch.equal(kept[0], kept[1])
    assert 0 < kept[0].sum() < 24
    assert torch.allclose(embedded[kept], 2 * plain[kept])


def test_variational_masks_are_constant_in_time_and_keep_the_mean():
    mask = dropout_mask(torch.zeros(1), (1000, 1, 20), 0.3)
    assert set(np.round(mask.unique().numpy(), 5)) == {0.0, np.float32(np.round(1 / 0.7, 5))}
    assert mask.mean().item() == pytest.approx(1, abs=0.03)
    assert dropout_mask(torch.zeros(1), (2, 2), 0.0) is None


def test_weight_drop_reaches_the_raw_weight_and_leaves_it_alone():
    encoder = make(weight_p=0.5)
    before = copy.deepcopy(encoder.state_dict())
    outputs, _ = encoder(torch.randint(0, 24, (2, 7)), torch.tensor([7, 7]))
    outputs.sum().backward()
    for rnn in encoder.rnns:
        share = (rnn.weight_hh_l0.grad == 0).float().mean().item()
        assert 0.3 < share < 0.7  # dropped entries get no gradient
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_modules_pickle_and_copy():
    encoder = make(weight_p=0.5)
    encoder(torch.zeros(1, 3, dtype=torch.int64), torch.tensor([3]))
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        ids, lengths = torch.randint(0, 24, (2, 7)), torch.tensor([7, 7])
        assert torch.equal(twin.eval()(ids, lengths)[0], encoder.eval()(ids, lengths)[0])


def test_layer_groups_hold_every_parameter_once():
    encoder = make()
    groups = encoder.layer_groups()
    assert [len(g) for g in groups] == [1, 4, 4, 4]
    assert groups[0][0] is encoder.embedding.weight
    lm = LanguageModel(encoder)
    assert [len(g) for g in lm.layer_groups()] == [4, 4, 4, 2]
    for module in (encoder, lm):
        flat = [id(p) for group in module.layer_groups() for p in group]
        assert sorted(flat) == sorted(map(id, module.parameters()))


def test_language_model_ties_its_decoder_and_drops_only_in_training():
    lm = LanguageModel(make(), output_p=0.5)
    assert lm.decoder_weight is lm.encoder.embedding.weight
    assert "decoder_weight" not in lm.state_dict()
    ids, lengths = torch.randint(0, 24, (2, 7)), torch.tensor([7, 7])
    dropped, raw, _ = lm(ids, lengths)
    zero = dropped == 0
    assert torch.equal(zero.all(1), zero.any(1))  # one mask per sequence
    assert torch.allclose(dropped[~zero], 2 * raw[~zero])
    dropped, raw, _ = lm.eval()(ids, lengths)
    assert torch.equal(dropped, raw)


def test_head_is_the_papers():
    head = ConcatPoolingHead(1200, 7, output_p=0.2)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["BatchNorm", "Dropout", "Linear", "ReLU", "BatchNorm", "Dropout", "Linear"]
    assert (head[2].out_features, head[6].out_features, head[1].p, head[5].p) == (50, 7, 0.2, 0.1)


def test_batch_norm_equals_torch_on_batches_and_takes_a_batch_of_one():
    torch.manual_seed(0)
    x = torch.randn(8, 5)
    ours, theirs = BatchNorm(5), nn.BatchNorm1d(5)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert torch.allclose(ours.running_mean, x.mean(0) / 2, atol=1e-6)  # the first batch counts as much as the start
    assert torch.allclose(ours.running_var, (1 + x.var(0)) / 2, atol=1e-6)
    for _ in range(8):
        ours(x)
    assert torch.allclose(ours.running_mean, 0.9 * x.mean(0), atol=1e-6)
    before = copy.deepcopy(ours.state_dict())
    one = ours(x[:1])
    assert torch.isfinite(one).all()
    assert torch.equal(one, ours.eval()(x[:1]))
    assert all(torch.equal(before[k], v) for k, v in ours.state_dict().items())


def test_a_row_of_weight_two_is_two_rows_for_batch_norm():
    torch.manual_seed(0)
    x, weight = torch.randn(5, 3, dtype=torch.float64), torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    one, other = (BatchNorm(3).double() for _ in range(2))
    repeats = weight.long()
    weighted, repeated = one(x, weight), other(x.repeat_interleave(repeats, 0))
    assert torch.allclose(weighted.repeat_interleave(repeats, 0), repeated)
    assert torch.allclose(one.running_mean, other.running_mean)
    assert torch.allclose(BatchNorm(3).double()(x, torch.full((5,), 7.0)), BatchNorm(3).double()(x))


def test_equal_weights_leave_the_statistics_of_batch_norm_alone():
    x = torch.randn(6, 3)
    one, other = BatchNorm(3), BatchNorm(3)
    one(x, torch.full((6,), 0.3)), other(x)
    assert torch.allclose(one.running_var, other.running_var)
