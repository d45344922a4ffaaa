import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.nn import features
from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.nn.modules import AWDLSTM


def make_encoder():
    torch.manual_seed(0)
    return AWDLSTM(20, emb_dim=5, hidden_dim=7, n_layers=2).eval()


def make_documents(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.random.default_rng(0).integers(0, 20, offsets[-1]).astype(np.int32), offsets


def formula(encoder, ids, max_length):
    """Pool one document as the paper says, in one run."""
    with torch.no_grad():
        outputs, _ = encoder(torch.from_numpy(ids.astype(np.int64))[None], torch.tensor([len(ids)]))
    pooled = outputs[0] if max_length is None else outputs[0, -max_length:]
    return torch.cat([outputs[0, -1], pooled.max(0).values, pooled.mean(0)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.sampled_from([None, 1, 3, 12]),
    st.sampled_from([1, 2, 3, 8, 128]),
    st.sampled_from([1, 4, 7, 32]),
)
def test_features_equal_the_formula_whatever_other_documents_there_are(lengths, max_length, rows, window):
    encoder = make_encoder()
    ids, offsets = make_documents(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "ROWS", rows)
        patch.setattr(features, "WINDOW", window)
        patch.setattr(features, "LONGEST_WINDOW", 3 * window)
        found = pooled_features(encoder, ids, offsets, max_length)
    assert found.shape == (len(lengths), 15)
    for row, (a, b) in enumerate(itertools.pairwise(offsets)):
        assert torch.allclose(found[row], formula(encoder, ids[a:b], max_length), atol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-3), ("int8", 1e-5)])
def test_a_document_alone_has_the_same_features(precision, tolerance):
    encoder = make_encoder()
    lengths = [40, 3, 33, 64, 1, 90, 32, 31, 2, 65, 8, 8, 8]
    ids, offsets = make_documents(lengths)
    together = pooled_features(encoder, ids, offsets, 50, precision=precision)
    for row, (a, b) in enumerate(itertools.pairwise(offsets)):
        alone = pooled_features(encoder, ids[a:b], np.array([0, b - a]), 50, precision=precision)
        assert torch.allclose(together[row], alone[0], atol=tolerance)


def test_rows_are_refilled_and_few_in_kind(monkeypatch):
    monkeypatch.setattr(features, "ROWS", 16)
    encoder = make_encoder()
    seen = []
    encoder.rnns[0].register_forward_hook(lambda module, args, output: seen.append(tuple(args[0].shape[:2])))
    lengths = [20] * 100 + [200]
    pooled_features(encoder, *make_documents(lengths), None)
    rows = [n for n, _ in seen]
    assert all(n * time <= 32 * features.WINDOW for n, time in seen if n > 4)
    assert set(rows) <= {1, 2, 4, 8, 16}
    assert rows[0] == 16
    assert sum(rows) < 1.5 * (100 + 4)  # hardly a row runs empty, though one document takes several windows


def test_nothing_in_nothing_out():
    assert pooled_features(make_encoder(), np.empty(0, np.int32), np.array([0]), None).shape == (0, 15)
