"""Pooled features of any number of documents without a graph, for prediction.

Documents run side by side in rows, a short window at a time. A row that has come to the end of its document takes the
next one, so that the products stay large whatever the lengths are, and memory is that of one window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.nn.modules import AWDLSTM, State

WINDOW, LONGEST_WINDOW = 32, 256  # tokens; the state goes on from window to window, so their length changes nothing
ROWS, GPU_ROWS = 128, 1024
HEAD_ROWS = 1024


def pooled_features(
    encoder: AWDLSTM,
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    max_length: int | None,
    head: Callable[[Tensor], Tensor] | None = None,
    precision: str = "float32",
) -> Tensor:
    """Give the [last; max; mean] features of documents (Howard & Ruder 2018, section 3.3), or a head's logits for them.

    Parameters
    ----------
    encoder : AWDLSTM
        The body, in evaluation mode.
    ids : ndarray of int32, shape (n_tokens,)
        All documents, one behind the other.
    offsets : ndarray of int64, shape (n_documents + 1,)
        Document i is ``ids[offsets[i]:offsets[i + 1]]``, one token long at least.
    max_length : int or None
        Only the last `max_length` tokens of a document are pooled; None pools all.
    head : callable, default=None
        Applied to the features of documents that have ended, `HEAD_ROWS` or more at once; None gives the features.
    precision : {"float32", "bfloat16", "int8"}, default="float32"
        Arithmetic of the LSTM layers.

    Returns
    -------
    Tensor of float32, shape (n_documents, 3 * emb_dim) or (n_documents, n_labels)
        Features or logits, on the CPU. Those of a document do not depend on the others.
    """
    weight = encoder.embedding.weight
    lengths = np.diff(offsets)
    kept = lengths if max_length is None else np.minimum(lengths, max_length)
    first_pooled = lengths - kept
    found = _Found(len(lengths), head)
    with torch.no_grad():
        rows = _Rows(encoder, lengths)
        while rows.n_active:
            n_now = rows.arrange()
            time, document, position = int(n_now[0]), rows.document, rows.position
            steps = np.arange(time)
            place = np.minimum(offsets[document][:, None] + position[:, None] + steps, len(ids) - 1)
            window = torch.from_numpy(ids[place].astype(np.int64)).to(weight.device)
            outputs, state = encoder(window, torch.from_numpy(n_now), rows.state, precision=precision)
            first = first_pooled[document] - position
            pooled = (steps < n_now[:, None]) & (steps >= first[:, None])
            mask = torch.from_numpy(pooled).to(weight.device)[:, :, None]
            rows.total += (outputs * mask).sum(1)
            rows.largest = torch.maximum(rows.largest, outputs.masked_fill(~mask, -math.inf).amax(1))
            ended = rows.advance(n_now)
            if len(ended):
                at = torch.from_numpy(ended).to(weight.device)
                last = outputs[at, torch.from_numpy(n_now[ended] - 1).to(weight.device)]
                mean = rows.total[at] / torch.from_numpy(kept[document[ended]]).to(weight.device)[:, None]
                found.add(document[ended], torch.cat([last, rows.largest[at], mean], 1))
            rows.refill(ended, state)
        return found.all(weight.new_empty(0, 3 * weight.shape[1]))


class _Found:
    """What has been found, in the order of the documents; waits for `HEAD_ROWS` of them before it runs the head."""

    def __init__(self, n: int, head: Callable[[Tensor], Tensor] | None):
        self.n, self.head = n, head
        self.documents: list[NDArray[np.int64]] = []
        self.features: list[Tensor] = []
        self.values: Tensor | None = None

    def add(self, documents: NDArray[np.int64], features: Tensor) -> None:
        """Take the features of some documents."""
        self.documents.append(documents)
        self.features.append(features)
        if sum(map(len, self.documents)) >= HEAD_ROWS:
            self._flush()

    def _flush(self) -> None:
        features = torch.cat(self.features)
        values = (features if self.head is None else self.head(features)).cpu()
        if self.values is None:
            self.values = values.new_empty(self.n, values.shape[1])
        self.values[torch.from_numpy(np.concatenate(self.documents))] = values
        self.documents, self.features = [], []

    def all(self, none: Tensor) -> Tensor:
        """Give everything; what the head makes of `none` if there were no documents."""
        if self.features:
            self._flush()
        if self.values is None:
            return (none if self.head is None else self.head(none)).cpu()
        return self.values


class _Rows:
    """Which document stands in which row, how far it has been read, and what was found so far.

    A row whose document has ended while no other waits is dropped, or, where the number of rows would not be a round
    one, goes on reading one token at a time: oneDNN keeps kernels and buffers for every number of rows.
    """

    def __init__(self, encoder: AWDLSTM, lengths: NDArray[np.int64]):
        weight = encoder.embedding.weight
        self.lengths = lengths
        windows = -(-lengths // WINDOW)
        self.waiting = np.argsort(-windows, kind="stable")
        at_once = -(-int(windows.sum()) // int(windows.max(initial=1)))  # all then end at about the same time
        n_rows = min(_round_number(at_once), GPU_ROWS if weight.is_cuda else ROWS, len(lengths))
        self.document, self.waiting = self.waiting[:n_rows], self.waiting[n_rows:]
        self.position = np.zeros(n_rows, np.int64)
        self.active = np.ones(n_rows, bool)
        self.total = weight.new_zeros(n_rows, weight.shape[1])
        self.largest = torch.full_like(self.total, -math.inf)
        layers: list[Any] = list(encoder.rnns)
        self.state: State = [(z := weight.new_zeros(1, n_rows, rnn.hidden_size), z) for rnn in layers]

    @property
    def n_active(self) -> int:
        """Rows whose document has not ended."""
        return int(self.active.sum())

    def arrange(self) -> NDArray[np.int64]:
        """Put the rows with most tokens in the next window first, and give these numbers of tokens."""
        left = np.where(self.active, self.lengths[self.document] - self.position, 1)
        n_rows = len(self.document)  # few rows take longer windows: each run of the layers has a cost of its own
        n_now = np.minimum(left, min(max(WINDOW, 32 * WINDOW // n_rows), LONGEST_WINDOW))
        self._keep(np.argsort(-n_now, kind="stable"))
        return np.sort(n_now)[::-1].copy()

    def _keep(self, rows: NDArray[np.int64]) -> None:
        if np.array_equal(rows, np.arange(len(self.document))):
            return
        self.document, self.position, self.active = self.document[rows], self.position[rows], self.active[rows]
        index = torch.from_numpy(rows).to(self.total.device)
        self.total, self.largest = self.total[index], self.largest[index]
        self.state = [(h[:, index], c[:, index]) for h, c in self.state]

    def advance(self, n_now: NDArray[np.int64]) -> NDArray[np.int64]:
        """Move on by a window; give the rows whose document ends there."""
        self.position = self.position + np.where(self.active, n_now, 0)
        return np.flatnonzero(self.active & (self.position == self.lengths[self.document]))

    def refill(self, ended: NDArray[np.int64], state: State) -> None:
        """Keep the state of the documents that go on, and let others begin where one has ended."""
        n_rows, n_whole = len(self.document), state[0][0].shape[1]
        goes_on = self.active & ~np.isin(np.arange(n_rows), ended)
        keep = torch.from_numpy(goes_on[:n_whole]).to(self.total.device)[None, :, None]
        self.state = [
            tuple(torch.nn.functional.pad(part * keep, (0, 0, 0, n_rows - n_whole)) for part in layer)  # type: ignore[misc]
            for layer in state
        ]
        if not len(ended):
            return
        self.document, self.active = self.document.copy(), goes_on
        begin = ended[: len(self.waiting)]
        self.document[begin], self.waiting = self.waiting[: len(begin)], self.waiting[len(begin) :]
        self.position[ended] = 0
        self.active[begin] = True
        fresh = torch.from_numpy(ended).to(self.total.device)
        self.total[fresh], self.largest[fresh] = 0, -math.inf
        n_kept = min(_round_number(self.n_active), n_rows)
        if n_kept < n_rows:
            self._keep(np.argsort(~self.active, kind="stable")[:n_kept])


def _round_number(n: int) -> int:
    """Round up to 1, 2, 4, 8 or a multiple of 8."""
    return next((size for size in (1, 2, 4) if n <= size), -(-n // 8) * 8)
