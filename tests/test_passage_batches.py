import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.passage_batches import PassageBatches

PAD = 1


def batches_of(lengths, tokens_per_batch=100, seed=0, **options):
    """Return batches of passages whose tokens tell the passage, and whose targets do too."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.repeat(np.arange(len(lengths)) + 10, lengths).astype(np.int32)

    def targets(rows):
        return np.stack([rows, -rows], axis=1).astype(np.float32)

    return PassageBatches(TokenIds(ids, offsets), targets, tokens_per_batch, PAD, seed, **options)


passage_lengths = st.lists(st.integers(1, 300), min_size=1, max_size=300).map(np.array)


@given(passage_lengths, st.integers(20, 3000))
@settings(max_examples=60, deadline=None)
def test_an_epoch_holds_each_passage_once_with_its_target(lengths, tokens_per_batch):
    batches = batches_of(lengths, tokens_per_batch)
    seen = []
    for x, targets in batches.batches(1):
        ids, rows = x["ids"].numpy(), targets[:, 0].long().numpy()
        assert np.array_equal(targets[:, 1], -rows)
        assert np.array_equal(x["lengths"], lengths[rows])
        assert (np.diff(x["lengths"]) <= 0).all()
        is_token = np.arange(ids.shape[1]) < x["lengths"].numpy()[:, None]
        assert np.array_equal(ids, np.where(is_token, rows[:, None] + 10, PAD))
        assert len(rows) == 1 or ids.size <= 1.1 * tokens_per_batch
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert batches.n_batches(1) == len(batches.plan(0)) == len(batches.plan(7))
    assert batches.n_batches(3) == 3 * batches.n_batches(1)


def test_rows_are_multiples_of_eight_and_little_is_padding():
    lengths = np.random.default_rng(0).integers(5, 250, size=5000)
    sizes, n_padded = [], 0
    for x, _ in batches_of(lengths, 4500).batches(0):
        sizes.append(len(x["lengths"]))
        n_padded += x["ids"].numel()
    assert sum(size % 8 != 0 for size in sizes) <= 1
    assert n_padded < 1.15 * lengths.sum()


def test_it_goes_on_from_any_batch():
    batches = batches_of(np.random.default_rng(0).integers(1, 40, size=200))
    whole = list(batches.batches(2))
    rest = list(batches.batches(2, 5))
    assert len(rest) == len(whole) - 5
    for (x, targets), (same_x, same_targets) in zip(whole[5:], rest, strict=True):
        assert torch.equal(x["ids"], same_x["ids"])
        assert torch.equal(targets, same_targets)


def test_epochs_and_seeds_put_other_passages_together_and_the_longest_come_first():
    lengths = np.random.default_rng(0).integers(1, 40, size=400)
    plans = [batches_of(lengths).plan(0), batches_of(lengths).plan(1), batches_of(lengths, seed=1).plan(0)]
    together = [{tuple(sorted(batch)) for batch in plan} for plan in plans]
    assert len(together[0] & together[1]) < 5
    assert len(together[0] & together[2]) < 5
    for plan in plans:
        longest = [lengths[batch].max() for batch in plan]
        assert longest[0] > 35
        assert longest != sorted(longest, reverse=True)


def test_only_the_passages_asked_for_are_read():
    lengths = np.full(50, 7)
    passages = np.array([3, 30, 31, 8])
    ((x, targets),) = batches_of(lengths, passages=passages).batches(0)
    assert sorted(targets[:, 0].tolist()) == [3, 8, 30, 31]
    assert sorted(x["ids"][:, 0].tolist()) == [13, 18, 40, 41]


@pytest.mark.parametrize("n", [1, 2])
def test_few_passages_make_one_batch(n):
    assert batches_of(np.full(n, 5)).n_batches(1) == 1
