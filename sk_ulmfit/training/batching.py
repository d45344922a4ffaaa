"""Batches: the language-model stream and length-bucketed documents under a token budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sk_ulmfit.nn.losses import IGNORED
from sk_ulmfit.text.vocabulary import TokenIds

Batch = tuple[dict[str, Tensor], Tensor]

BUCKETS_PER_POOL = 50  # training sorts by length within pools of this many batches

# A batch holds at most this many windows per document on average: fewer documents if they are longer.
WINDOWS_PER_DOCUMENT = 20


class DocumentDataset(Dataset[Any]):
    """Documents as token ids, with their labels.

    `corpus` may be memory-mapped, since a batch reads only its own tokens. `documents`, (n,), are the indices of the
    documents in the data set; None means all. `y` is their indicator matrix, (n, n_labels), or None for prediction;
    `weight`, (n,), tells how much each document counts.
    """

    def __init__(
        self,
        corpus: TokenIds,
        y: NDArray[np.float32] | None = None,
        weight: NDArray[np.float32] | None = None,
        documents: NDArray[np.int64] | None = None,
    ):
        self.corpus, self.weight = corpus, weight
        self.documents = np.arange(len(corpus)) if documents is None else documents
        self.y = np.zeros((len(self.documents), 0), np.float32) if y is None else y
        self.is_whole = documents is None

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], NDArray[np.float32]]:
        ids = self.corpus[int(self.documents[index])].astype(np.int64)
        return {"ids": ids, "lengths": len(ids)}, self.y[index]

    def chosen(self) -> TokenIds:
        """Return its documents in its order; a copy unless they are the whole corpus."""
        return self.corpus if self.is_whole else self.corpus.take(self.documents)


def bucket_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    max_tokens: int,
    rng: np.random.Generator | None = None,
) -> list[NDArray[np.int64]]:
    """Group documents of similar length, given by their `lengths`, (n_documents,), into batches of indices.

    A batch has at most `batch_size` documents, longest first, and `max_tokens` positions, padding included; a longer
    document is a batch of its own. With `rng`, documents and batches are shuffled, but the batch with the longest
    document comes first, so that too little memory shows at once. Without it, all documents are sorted, longest first.
    """
    n = len(lengths)
    if rng is None:
        return _cut(np.argsort(-lengths, kind="stable"), lengths, batch_size, max_tokens)
    shuffled = rng.permutation(n)
    pool = BUCKETS_PER_POOL * batch_size
    batches = []
    for start in range(0, n, pool):
        part = shuffled[start : start + pool]
        batches += _cut(part[np.argsort(-lengths[part], kind="stable")], lengths, batch_size, max_tokens)
    longest = max(range(len(batches)), key=lambda i: int(lengths[batches[i][0]]))
    order = [longest, *(int(i) for i in rng.permutation(len(batches)) if i != longest)]
    return [batches[i] for i in order]


def _cut(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Cut indices of documents, longest first, into batches."""
    batches = []
    start = 0
    while start < len(order):
        rows = max(1, max_tokens // int(lengths[order[start]]))
        rows -= rows % 8 if rows > 8 else 0  # oneDNN keeps kernels and buffers for each shape: use few
        rows = min(batch_size, rows)
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(corpus: TokenIds, indices: NDArray[np.int64], pad_id: int) -> dict[str, Tensor]:
    """Return some documents, padded at the end, as ``{"ids": (batch, time) int64, "lengths": (batch,) int64}``."""
    lengths = corpus.lengths_of(indices)
    ids = np.full((len(indices), int(lengths.max())), pad_id, np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = corpus.take(indices).ids
    return {"ids": torch.from_numpy(ids), "lengths": torch.from_numpy(lengths)}


class DocumentBatches:
    """Batches of documents of similar length, as in `bucket_batches`, padded with `pad_id`.

    Every epoch is shuffled in its own way that follows from `seed`; None means the order by length.
    """

    def __init__(self, dataset: DocumentDataset, batch_size: int, max_tokens: int, pad_id: int, seed: int | None):
        self.dataset, self.batch_size, self.max_tokens = dataset, batch_size, max_tokens
        self.pad_id, self.seed = pad_id, seed
        self.epoch = 0

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the indices of each batch of an epoch."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, epoch])
        lengths = self.dataset.corpus.lengths_of(self.dataset.documents)
        return bucket_batches(lengths, self.batch_size, self.max_tokens, rng)

    def n_batches(self, n_epochs: int) -> int:
        """Count the batches of the first `n_epochs` epochs together."""
        return sum(len(self.plan(epoch)) for epoch in range(n_epochs))

    def n_units(self, n_epochs: int) -> int:
        """Count the tokens of `n_epochs` epochs."""
        return n_epochs * int(self.dataset.corpus.lengths_of(self.dataset.documents).sum())

    def __iter__(self) -> Iterator[Batch]:
        plan = self.plan(self.epoch)
        self.epoch += 1
        for indices in plan:
            x = pad(self.dataset.corpus, self.dataset.documents[indices], self.pad_id)
            if self.dataset.weight is not None:
                x["weight"] = torch.from_numpy(self.dataset.weight[indices])
            yield x, torch.from_numpy(self.dataset.y[indices])


class FeatureDataset(Dataset[Any]):
    """Pooled features of documents, (n_documents, n_features), with their labels, (n_documents, n_labels).

    `weight`, (n_documents,), tells how much each document counts.
    """

    def __init__(self, features: Tensor, y: NDArray[np.float32], weight: NDArray[np.float32] | None = None):
        self.features, self.y, self.weight = features, y, weight

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, NDArray[np.float32]]:
        return self.features[index], self.y[index]


class FeatureBatches:
    """Batches of features of one size, except for the last; `seed` shuffles each epoch, None keeps the order."""

    def __init__(self, dataset: FeatureDataset, batch_size: int, seed: int | None):
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.epoch = 0

    def n_batches(self, n_epochs: int) -> int:
        """Count the batches of `n_epochs` epochs."""
        return n_epochs * -(-len(self.dataset) // self.batch_size)

    def n_units(self, n_epochs: int) -> int:
        """Count the documents of `n_epochs` epochs."""
        return n_epochs * len(self.dataset)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.dataset)
        order = np.arange(n) if self.seed is None else np.random.default_rng([self.seed, self.epoch]).permutation(n)
        self.epoch += 1
        for start in range(0, n, self.batch_size):
            rows = order[start : start + self.batch_size]
            x = {"features": self.dataset.features[rows]}
            if self.dataset.weight is not None:
                x["weight"] = torch.from_numpy(self.dataset.weight[rows])
            yield x, torch.from_numpy(self.dataset.y[rows])


class StreamDataset(Dataset[Any]):
    """Documents that a language model reads one after another.

    `corpus` may be memory-mapped, since a batch reads only its own tokens. `documents` are the indices of those to be
    read; None means all.
    """

    def __init__(self, corpus: TokenIds, documents: NDArray[np.int64] | None = None):
        self.corpus = corpus
        self.documents = np.arange(len(corpus)) if documents is None else documents

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.corpus[self.documents[index]]

    @property
    def n_tokens(self) -> int:
        """Number of tokens in an epoch."""
        return int(self.corpus.lengths_of(self.documents).sum())

    def draw(self, rng: np.random.Generator | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the documents of an epoch, shuffled unless `rng` is None, and how many tokens of each are read."""
        documents = self.documents if rng is None else rng.permutation(self.documents)
        return documents, self.corpus.lengths_of(documents)


class StreamBatches:
    """Windows of parallel text streams.

    All documents form one stream, in an order that `seed` draws for each epoch; None keeps their order. The stream has
    at least two tokens. It is cut into at most `batch_size` rows that are read side by side, `bptt` tokens at a time,
    so that the state after a window is the one before the next. A small corpus gets fewer rows, so that an epoch has
    `MIN_STEPS` windows or one row. `pad_id` fills the last row; its targets do not count in the loss.
    """

    MIN_STEPS = 16

    def __init__(self, dataset: StreamDataset, batch_size: int, bptt: int, pad_id: int, seed: int | None):
        self.dataset, self.bptt, self.pad_id, self.seed = dataset, bptt, pad_id, seed
        self.n_targets = dataset.n_tokens - 1
        self.n_rows = max(1, min(batch_size, self.n_targets // (self.MIN_STEPS * bptt)))
        self.row_length = -(-self.n_targets // self.n_rows)
        self.epoch = 0

    def n_batches(self, n_epochs: int) -> int:
        """Count the windows of `n_epochs` epochs."""
        return n_epochs * -(-self.row_length // self.bptt)

    def n_units(self, n_epochs: int) -> int:
        """Count the tokens of `n_epochs` epochs, those that fill the last row included."""
        return n_epochs * self.n_rows * self.row_length

    def __iter__(self) -> Iterator[Batch]:
        self.epoch += 1
        yield from self.windows(self.epoch - 1)

    def windows(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield the windows of an epoch, from number `first` on."""
        corpus = self.dataset.corpus
        documents, lengths = self.dataset.draw(None if self.seed is None else np.random.default_rng([self.seed, epoch]))
        ends = np.cumsum(lengths)  # (n_documents,)
        shifts = corpus.offsets[documents] + lengths - ends  # (n_documents,): from places in the stream to the corpus
        row_starts = self.row_length * np.arange(self.n_rows)[:, None]  # (n_rows, 1)
        for start in range(first * self.bptt, self.row_length, self.bptt):
            stop = min(start + self.bptt, self.row_length)
            places = row_starts + np.arange(start, stop + 1)  # (n_rows, time + 1)
            real = np.minimum(places, self.n_targets)  # (n_rows, time + 1)
            tokens = corpus.ids[real + shifts[np.searchsorted(ends, real, side="right")]].astype(np.int64)
            tokens[places > self.n_targets] = self.pad_id
            ids, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()  # (n_rows, time)
            targets[places[:, 1:] > self.n_targets] = IGNORED
            row_lengths = torch.full((self.n_rows,), stop - start, dtype=torch.int64)
            yield {"ids": torch.from_numpy(ids), "lengths": row_lengths}, torch.from_numpy(targets)
