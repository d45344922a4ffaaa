import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import DocumentBatches, DocumentDataset, StreamBatches, StreamDataset, bucket_batches
from sk_ulmfit.training.weighted_stream import WeightedStreamDataset

lengths_lists = st.lists(st.integers(1, 300), min_size=1, max_size=120)


def corpus_of(lengths):
    offsets = np.cumsum([0, *lengths])
    return TokenIds(np.arange(offsets[-1], dtype=np.int32), offsets)


@settings(max_examples=60, deadline=None)
@given(lengths_lists, st.integers(1, 9), st.integers(1, 900), st.sampled_from([None, 0, 1]))
def test_buckets_hold_every_document_once_within_the_budget(lengths, batch_size, max_tokens, seed):
    lengths = np.array(lengths)
    rng = None if seed is None else np.random.default_rng(seed)
    batches = bucket_batches(lengths, batch_size, max_tokens, rng)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= max_tokens
        assert np.all(np.diff(lengths[batch]) <= 0)
    assert lengths[batches[0][0]] == lengths.max()  # an out-of-memory shows at once


def test_batches_hold_as_many_documents_as_asked_for():
    for batch_size in (5, 12, 20):
        batches = bucket_batches(np.full(60, 10), batch_size, 10_000)
        assert [len(batch) for batch in batches] == [batch_size] * (60 // batch_size)
    cut = bucket_batches(np.full(60, 10), 20, 150)  # room for 15: a multiple of 8 is kept
    assert [len(batch) for batch in cut] == [8] * 7 + [4]


def test_one_long_document_does_not_blow_up_a_batch():
    lengths = np.array([50] * 63 + [100_000])
    batches = bucket_batches(lengths, 32, 32 * 280, np.random.default_rng(0))
    assert max(len(b) * lengths[b].max() for b in batches) == 100_000
    assert batches[0].tolist() == [63]


def test_batches_are_padded_at_the_end_and_differ_by_epoch():
    dataset = DocumentDataset(corpus_of(range(1, 30)), np.arange(29, dtype=np.float32)[:, None])
    batches = DocumentBatches(dataset, 4, 1000, pad_id=-1, seed=0)
    total = batches.n_batches(2)
    orders = []
    for _ in range(2):
        order = []
        for x, y in batches:
            total -= 1
            for ids, n, label in zip(x["ids"], x["lengths"], y[:, 0], strict=True):
                assert np.array_equal(ids[:n], dataset.corpus[int(label)])
                assert (ids[n:] == -1).all()
                order.append(int(label))
        orders.append(order)
    assert total == 0
    assert orders[0] != orders[1]
    again = DocumentBatches(dataset, 4, 1000, pad_id=-1, seed=0)
    assert [int(v) for x, y in again for v in y[:, 0]] == orders[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=30), st.integers(1, 8), st.integers(1, 20))
def test_the_stream_predicts_every_next_token_once(lengths, batch_size, bptt):
    corpus = corpus_of(lengths)
    batches = StreamBatches(StreamDataset(corpus), batch_size, bptt, pad_id=0, seed=None)
    rows = [[] for _ in range(batches.n_rows)]
    n = 0
    for x, y in batches:
        n += 1
        assert x["ids"].shape == y.shape
        assert x["ids"].shape[1] <= bptt
        for row, ids, targets in zip(rows, x["ids"].tolist(), y.tolist(), strict=True):
            row += [(i, t) for i, t in zip(ids, targets, strict=True) if t != -100]
    pairs = [pair for row in rows for pair in row]
    assert pairs == [(i, i + 1) for i in range(len(corpus.ids) - 1)]
    assert n == batches.n_batches(1)
    assert batches.n_rows <= batch_size


def test_documents_of_the_stream_are_reshuffled_each_epoch_and_stay_whole():
    corpus = corpus_of([7] * 40)
    batches = StreamBatches(StreamDataset(corpus), 1, 1000, pad_id=0, seed=3)
    first, second = (next(x["ids"][0].tolist() for x, _ in batches) for _ in range(2))
    assert first != second
    for stream in (first, second):
        starts = stream[::7]
        assert all(start % 7 == 0 for start in starts)
        assert stream[:7] == list(range(starts[0], starts[0] + 7))


def test_small_corpora_use_fewer_rows():
    batches = StreamBatches(StreamDataset(corpus_of([100] * 10)), 64, 10, pad_id=0, seed=0)
    assert batches.n_rows == 6
    assert batches.n_batches(1) >= 16


@pytest.mark.parametrize("seed", [None, 4])
def test_the_stream_can_be_read_from_any_window_on(seed):
    corpus = corpus_of([5, 1, 9, 30, 2, 8, 17])
    batches = StreamBatches(StreamDataset(corpus, np.array([1, 2, 3, 5, 6])), 2, 4, pad_id=0, seed=seed)
    batches.MIN_STEPS = 1
    whole = list(batches.windows(3))
    assert len(whole) == batches.n_batches(1)
    for first in range(len(whole) + 1):
        rest = list(batches.windows(3, first))
        assert len(rest) == len(whole) - first
        for (x, y), (found_x, found_y) in zip(whole[first:], rest, strict=True):
            assert torch.equal(x["ids"], found_x["ids"])
            assert torch.equal(y, found_y)


def test_a_stream_reads_only_the_documents_asked_for():
    corpus = corpus_of([5, 6, 7])
    batches = StreamBatches(StreamDataset(corpus, np.array([0, 2])), 1, 100, pad_id=0, seed=None)
    ((x, y),) = list(batches)
    expected = np.concatenate([corpus[0], corpus[2]])
    assert x["ids"][0].tolist() == expected[:-1].tolist()
    assert y[0].tolist() == expected[1:].tolist()


def test_a_dataset_of_some_documents_gives_them_in_its_order():
    corpus = corpus_of([3, 1, 2])
    order = np.array([2, 0, 1])  # as many as there are
    chosen = DocumentDataset(corpus, documents=order).chosen()
    assert [document.tolist() for document in map(chosen.__getitem__, range(3))] == [corpus[i].tolist() for i in order]
    assert DocumentDataset(corpus).chosen() is corpus


def weighted(parts, weights):
    """Return a data set of corpora with documents of the given lengths."""
    ends = np.cumsum([len(lengths) for lengths in parts])
    documents = np.split(np.arange(ends[-1]), ends[:-1])
    return WeightedStreamDataset(corpus_of([n for lengths in parts for n in lengths]), documents, weights)


def reads_of(dataset, epoch):
    """Return how many tokens of each document an epoch reads, one array for each document."""
    documents, lengths = dataset.draw(np.random.default_rng([7, epoch]))
    return [lengths[documents == i] for i in range(len(dataset.corpus))]


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=2, max_size=4),
    weights=st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4),
    epoch=st.integers(0, 3),
)
def test_each_corpus_has_its_share_of_an_epoch_and_its_documents_are_read_equally_often(parts, weights, epoch):
    weights = weights[: len(parts)]
    dataset = weighted(parts, weights)
    reads = reads_of(dataset, epoch)
    assert sum(lengths.sum() for lengths in reads) == dataset.n_tokens == sum(map(sum, parts))
    begin = 0
    for lengths, weight in zip(parts, weights, strict=True):
        of_corpus = reads[begin : begin + len(lengths)]
        begin += len(lengths)
        n_read = sum(found.sum() for found in of_corpus)
        assert abs(n_read - dataset.n_tokens * weight / sum(weights)) <= 1 + 1e-6
        n_times = [len(found) for found in of_corpus]
        assert max(n_times) - min(n_times) <= 1  # all before any twice
        whole = [(found == n).sum() for found, n in zip(of_corpus, lengths, strict=True)]
        assert sum(n_times) - sum(whole) <= 1  # only the last one ends early
        assert min(whole) >= n_read // sum(lengths)


def test_what_is_left_of_a_share_is_drawn_anew_each_epoch_and_in_the_end_everything_is_read():
    dataset = weighted([[10] * 40, [10] * 10], [1, 1])
    first, second, again = (reads_of(dataset, epoch) for epoch in (0, 1, 0))
    assert [len(found) for found in first[:40]].count(1) == 25
    assert [list(found) for found in first] == [list(found) for found in again]
    assert [len(found) for found in first] != [len(found) for found in second]
    assert all(any(len(reads_of(dataset, epoch)[i]) for epoch in range(30)) for i in range(40))


def test_a_weighted_stream_reads_documents_from_their_begin_and_can_be_read_from_any_window_on():
    dataset = weighted([[5, 9, 30], [4, 3]], [1, 2])
    batches = StreamBatches(dataset, 1, 1000, pad_id=0, seed=2)
    ((x, y),) = batches.windows(1)
    documents, lengths = dataset.draw(np.random.default_rng([2, 1]))
    expected = np.concatenate([dataset.corpus[i][:n] for i, n in zip(documents, lengths, strict=True)])
    assert x["ids"][0].tolist() == expected[:-1].tolist()
    assert y[0].tolist() == expected[1:].tolist()
    short = StreamBatches(dataset, 2, 4, pad_id=0, seed=2)
    short.MIN_STEPS = 1
    whole, rest = list(short.windows(1)), list(short.windows(1, 3))
    assert len(whole) == short.n_batches(1)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(whole[3:], rest, strict=True))
