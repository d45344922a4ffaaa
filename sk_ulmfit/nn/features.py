"""Pooled features of any number of documents without a graph, for prediction.

Documents run side by side in rows, a short window at a time. A row whose document has ended takes the next one, so that
the products stay large whatever the lengths are, and memory is that of one window.
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

WINDOW, LONGEST_WINDOW = 32, 256  # tokens; as the state is carried over, window lengths do not change results
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
    """Return the [last; max; mean] features of documents (Howard & Ruder 2018, section 3.3), or a head's logits.

    The encoder must be in evaluation mode. Document i, of at least one token, is ``ids[offsets[i]:offsets[i + 1]]``.
    Only the last `max_length` tokens of a document are pooled; None pools all. `head` is applied to the features of
    `HEAD_ROWS` or more documents at once. `precision` is that of the LSTM layers.

    The result, (n_documents, 3 * emb_dim) or (n_documents, n_labels), is on the CPU. A document's row does not depend
    on the other documents.
    """
    weight = encoder.embedding.weight  # (vocab_size, emb_dim)
    device = weight.device
    lengths = np.diff(offsets)  # (n_documents,)
    kept = lengths if max_length is None else np.minimum(lengths, max_length)  # (n_documents,): pooled positions
    first_pooled = lengths - kept  # (n_documents,)
    results = _Results(len(lengths), head)
    with torch.inference_mode(False), torch.no_grad():  # 16- and 8-bit weights are kept, to be used outside too
        rows = _Rows(encoder, lengths)
        while rows.n_active:
            n_now = rows.arrange()  # (rows,): tokens of each row in this window
            document, position = rows.document, rows.position  # (rows,)
            steps = np.arange(n_now[0])  # (time,)
            place = np.minimum(offsets[document][:, None] + position[:, None] + steps, len(ids) - 1)  # (rows, time)
            window = torch.from_numpy(ids[place].astype(np.int64)).to(device)  # (rows, time)
            outputs, state = encoder(window, torch.from_numpy(n_now), rows.state, precision=precision)
            first = first_pooled[document] - position  # (rows,)
            pooled = (steps < n_now[:, None]) & (steps >= first[:, None])  # (rows, time)
            rows.pool(outputs, torch.from_numpy(pooled).to(device)[:, :, None])
            ended = rows.advance(n_now)  # (n_ended,)
            if len(ended):
                at = torch.from_numpy(ended).to(device)  # (n_ended,)
                last = outputs[at, torch.from_numpy(n_now[ended] - 1).to(device)]  # (n_ended, emb_dim)
                mean = rows.total[at] / torch.from_numpy(kept[document[ended]]).to(device)[:, None]
                results.add(document[ended], torch.cat([last, rows.largest[at], mean], 1))  # (n_ended, 3 * emb_dim)
            rows.refill(ended, state)
        return results.all(weight.new_empty(0, 3 * weight.shape[1]))


class _Results:
    """Features or logits in the order of the documents; the head runs on `HEAD_ROWS` or more documents at once."""

    def __init__(self, n: int, head: Callable[[Tensor], Tensor] | None):
        self.n, self.head = n, head
        self.documents: list[NDArray[np.int64]] = []
        self.features: list[Tensor] = []
        self.values: Tensor | None = None

    def add(self, documents: NDArray[np.int64], features: Tensor) -> None:
        """Add the features, (n, 3 * emb_dim), of some documents, (n,)."""
        self.documents.append(documents)
        self.features.append(features)
        if sum(map(len, self.documents)) >= HEAD_ROWS:
            self._flush()

    def _flush(self) -> None:
        features = torch.cat(self.features)  # (n, 3 * emb_dim)
        values = (features if self.head is None else self.head(features)).cpu()  # (n, n_labels) with a head
        if self.values is None:
            self.values = values.new_empty(self.n, values.shape[1])  # (n_documents, n_labels) with a head
        self.values[torch.from_numpy(np.concatenate(self.documents))] = values
        self.documents, self.features = [], []

    def all(self, none: Tensor) -> Tensor:
        """Return all rows; `none`, (0, 3 * emb_dim), are the features if there were no documents."""
        if self.features:
            self._flush()
        if self.values is None:
            return (none if self.head is None else self.head(none)).cpu()
        return self.values


class _Rows:
    """The document of each row, how far it has been read, its state and its pools.

    A row whose document has ended is dropped if no other document waits. If that would leave an odd number of rows, it
    goes on reading one token at a time: oneDNN keeps kernels and buffers for every number of rows.
    """

    def __init__(self, encoder: AWDLSTM, lengths: NDArray[np.int64]):
        weight = encoder.embedding.weight  # (vocab_size, emb_dim)
        self.lengths = lengths
        windows = -(-lengths // WINDOW)  # (n_documents,)
        self.waiting = np.argsort(-windows, kind="stable")  # (n_waiting,): documents, longest first
        at_once = -(-int(windows.sum()) // int(windows.max(initial=1)))  # all then end at about the same time
        n_rows = min(_round_number(at_once), GPU_ROWS if weight.is_cuda else ROWS, len(lengths))
        self.document, self.waiting = self.waiting[:n_rows], self.waiting[n_rows:]
        self.position = np.zeros(n_rows, np.int64)
        self.active = np.ones(n_rows, bool)
        self.total = weight.new_zeros(n_rows, weight.shape[1])  # (rows, emb_dim)
        self.largest = torch.full_like(self.total, -math.inf)  # (rows, emb_dim)
        layers: list[Any] = list(encoder.rnns)
        self.state: State = [(z := weight.new_zeros(1, n_rows, rnn.hidden_size), z) for rnn in layers]

    @property
    def n_active(self) -> int:
        """Number of rows whose document has not ended."""
        return int(self.active.sum())

    def arrange(self) -> NDArray[np.int64]:
        """Put the rows with most tokens in the next window first, and return their numbers of tokens, (rows,)."""
        left = np.where(self.active, self.lengths[self.document] - self.position, 1)  # (rows,)
        n_rows = len(self.document)  # few rows take longer windows: each run of the layers has a cost of its own
        n_now = np.minimum(left, min(max(WINDOW, 32 * WINDOW // n_rows), LONGEST_WINDOW))  # (rows,)
        self._keep(np.argsort(-n_now, kind="stable"))
        return np.sort(n_now)[::-1].copy()

    def _keep(self, rows: NDArray[np.int64]) -> None:
        """Keep some rows, in this order."""
        if np.array_equal(rows, np.arange(len(self.document))):
            return
        self.document, self.position, self.active = self.document[rows], self.position[rows], self.active[rows]
        index = torch.from_numpy(rows).to(self.total.device)  # (n_kept,)
        self.total, self.largest = self.total[index], self.largest[index]  # (n_kept, emb_dim)
        self.state = [(h[:, index], c[:, index]) for h, c in self.state]

    def pool(self, outputs: Tensor, pooled: Tensor) -> None:
        """Pool the outputs of a window, (rows, time, emb_dim), where `pooled`, (rows, time, 1), is True."""
        self.total += (outputs * pooled).sum(1)  # (rows, emb_dim)
        self.largest = torch.maximum(self.largest, outputs.masked_fill(~pooled, -math.inf).amax(1))  # (rows, emb_dim)

    def advance(self, n_now: NDArray[np.int64]) -> NDArray[np.int64]:
        """Move on by a window, and return the rows whose document ends there."""
        self.position = self.position + np.where(self.active, n_now, 0)
        return np.flatnonzero(self.active & (self.position == self.lengths[self.document]))

    def refill(self, ended: NDArray[np.int64], state: State) -> None:
        """Keep the state of the documents that go on, and start others in the rows where one has ended."""
        n_rows, n_whole = len(self.document), state[0][0].shape[1]
        goes_on = self.active & ~np.isin(np.arange(n_rows), ended)  # (rows,)
        keep = torch.from_numpy(goes_on[:n_whole]).to(self.total.device)[None, :, None]  # (1, n_whole, 1)
        self.state = [
            tuple(torch.nn.functional.pad(part * keep, (0, 0, 0, n_rows - n_whole)) for part in layer)  # type: ignore[misc]
            for layer in state
        ]
        if not len(ended):
            return
        self.document, self.active = self.document.copy(), goes_on
        start = ended[: len(self.waiting)]  # (n_started,): rows that take another document
        self.document[start], self.waiting = self.waiting[: len(start)], self.waiting[len(start) :]
        self.position[ended] = 0
        self.active[start] = True
        fresh = torch.from_numpy(ended).to(self.total.device)  # (n_ended,)
        self.total[fresh], self.largest[fresh] = 0, -math.inf
        n_kept = min(_round_number(self.n_active), n_rows)
        if n_kept < n_rows:
            self._keep(np.argsort(~self.active, kind="stable")[:n_kept])


def _round_number(n: int) -> int:
    """Round up to 1, 2, 4, 8 or a multiple of 8."""
    return next((size for size in (1, 2, 4) if n <= size), -(-n // 8) * 8)
