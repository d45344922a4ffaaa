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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.nn.modules import AWDLSTM, State
from sk_ulmfit.nn.vector import Pools, TextVector, join_layers, join_pools

WINDOW, LONGEST_WINDOW = 32, 256  # tokens; as the state is carried over, window lengths do not change results
ROWS, GPU_ROWS = 128, 1024
HEAD_ROWS = 1024
BLOCK_ROWS = 64


def pooled_features(
    encoder: AWDLSTM,
    ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    max_length: int | None,
    head: Callable[[Tensor], Tensor] | None = None,
    precision: str = "float32",
    vector: TextVector | None = None,
    in_order: bool = False,
) -> Tensor:
    """Return the [last; max; mean] features of documents (Howard & Ruder 2018, section 3.3), or a head's logits.

    With a `vector` the features are the vectors of the documents.

    The encoder must be in evaluation mode. Document i, of at least one token, is ``ids[offsets[i]:offsets[i + 1]]``.
    Only the last `max_length` tokens of a document are pooled; None pools all. `head` is applied to the features of
    `HEAD_ROWS` or more documents at once. `precision` is that of the LSTM layers.

    The result is on the CPU: (n_documents, 3 * emb_dim), with a vector (n_documents, dim), or with a head (n_documents,
    n_labels). A document's row depends on the other documents only by the rounding of sums and of the vector's product;
    `in_order` makes both independent of them, position by position and in products of one shape.
    """
    weight = encoder.embedding.weight  # (vocab_size, emb_dim)
    device = weight.device
    lengths = np.diff(offsets)  # (n_documents,)
    kept = lengths if max_length is None else np.minimum(lengths, max_length)  # (n_documents,): pooled positions
    first_pooled = lengths - kept  # (n_documents,)
    results = _Results(len(lengths), _in_blocks(vector) if vector is not None and in_order else vector, head)
    with torch.inference_mode(False), torch.no_grad():  # 16- and 8-bit weights are kept, to be used outside too
        rows = _Rows(encoder, lengths, every_layer=vector is not None, in_order=in_order)
        while rows.n_active:
            n_now = rows.arrange()  # (rows,): tokens of each row in this window
            document, position = rows.document, rows.position  # (rows,)
            steps = np.arange(n_now[0])  # (time,)
            place = np.minimum(offsets[document][:, None] + position[:, None] + steps, len(ids) - 1)  # (rows, time)
            window = torch.from_numpy(ids[place].astype(np.int64)).to(device)  # (rows, time)
            first = first_pooled[document] - position  # (rows,)
            pooled = torch.from_numpy((steps < n_now[:, None]) & (steps >= first[:, None])).to(device)  # (rows, time)
            embedded = encoder.embed(window, None)  # (rows, time, emb_dim)
            outputs, state = rows.run(encoder, embedded, torch.from_numpy(n_now), precision)  # (rows, time, width)
            rows.pool(outputs, pooled[:, :, None])
            if vector is not None:
                rows.pool_words(vector, window, pooled, embedded)
            ended = rows.advance(n_now)  # (n_ended,)
            if len(ended):
                at = torch.from_numpy(ended).to(device)  # (n_ended,)
                last = outputs[at, torch.from_numpy(n_now[ended] - 1).to(device)]  # (n_ended, width)
                results.add(document[ended], rows.features(at, last, torch.from_numpy(kept[document[ended]])))
            rows.refill(ended, state)
        none = torch.empty(0, dtype=torch.int64, device=device)
        return results.all(rows.features(none, rows.total[none], none))


def _in_blocks(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Apply a function of rows to blocks of one size, filled up with zeros: rounding depends on the size."""

    def apply(rows: Tensor) -> Tensor:
        filled = F.pad(rows, (0, 0, 0, -len(rows) % BLOCK_ROWS))  # (n_blocks * BLOCK_ROWS, width)
        return torch.cat([function(block) for block in filled.split(BLOCK_ROWS)])[: len(rows)]

    return apply


class _Results:
    """Features or logits in the order of the documents.

    Vector and head are computed for `HEAD_ROWS` or more documents at once.
    """

    def __init__(self, n: int, *maps: Callable[[Tensor], Tensor] | None):
        self.n = n
        self.maps = [each for each in maps if each is not None]
        self.documents: list[NDArray[np.int64]] = []
        self.features: list[Tensor] = []
        self.values: Tensor | None = None

    def add(self, documents: NDArray[np.int64], features: Tensor) -> None:
        """Add the pooled features, (n, n_features), of some documents, (n,)."""
        self.documents.append(documents)
        self.features.append(features)
        if sum(map(len, self.documents)) >= HEAD_ROWS:
            self._flush()

    def _map(self, features: Tensor) -> Tensor:
        for each in self.maps:
            features = each(features)
        return features.cpu()

    def _flush(self) -> None:
        values = self._map(torch.cat(self.features))  # (n, n_labels) with a head
        if self.values is None:
            self.values = values.new_empty(self.n, values.shape[1])  # (n_documents, n_labels) with a head
        self.values[torch.from_numpy(np.concatenate(self.documents))] = values
        self.documents, self.features = [], []

    def all(self, none: Tensor) -> Tensor:
        """Return all rows; `none`, (0, n_features), are the pooled features if there were no documents."""
        if self.features:
            self._flush()
        if self.values is None:
            return self._map(none)
        return self.values


class _Rows:
    """The document of each row, how far it has been read, its state and its pools: of the top layer, or of every one.

    A row whose document has ended is dropped if no other document waits. If that would leave an odd number of rows, it
    goes on reading one token at a time: oneDNN keeps kernels and buffers for every number of rows.
    """

    def __init__(self, encoder: AWDLSTM, lengths: NDArray[np.int64], every_layer: bool, in_order: bool):
        weight = encoder.embedding.weight  # (vocab_size, emb_dim)
        self.lengths, self.in_order = lengths, in_order
        windows = -(-lengths // WINDOW)  # (n_documents,)
        self.waiting = np.argsort(-windows, kind="stable")  # (n_waiting,): documents, longest first
        at_once = -(-int(windows.sum()) // int(windows.max(initial=1)))  # all then end at about the same time
        n_rows = min(_round_number(at_once), GPU_ROWS if weight.is_cuda else ROWS, len(lengths))
        self.document, self.waiting = self.waiting[:n_rows], self.waiting[n_rows:]
        self.position = np.zeros(n_rows, np.int64)
        self.active = np.ones(n_rows, bool)
        layers: list[Any] = list(encoder.rnns)
        width = sum(rnn.hidden_size for rnn in (layers if every_layer else layers[-1:]))
        self.every_layer = every_layer
        self.total = weight.new_zeros(n_rows, width)  # (rows, width)
        self.largest = torch.full_like(self.total, -math.inf)  # (rows, width)
        self.words = weight.new_zeros(n_rows, weight.shape[1] * every_layer)  # (rows, emb_dim): weighted sums
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
        self.total, self.largest = self.total[index], self.largest[index]  # (n_kept, width)
        self.words = self.words[index]  # (n_kept, emb_dim)
        self.state = [(h[:, index], c[:, index]) for h, c in self.state]

    def run(self, encoder: AWDLSTM, embedded: Tensor, n_now: Tensor, precision: str) -> tuple[Tensor, State]:
        """Run a window, and return the outputs to pool, (rows, time, width), and the new state."""
        if not self.every_layer:
            return encoder.run_layers(embedded, n_now, self.state, None, precision)
        outputs, state = encoder.run_every_layer(embedded, n_now, self.state, None, precision)
        return join_layers(outputs), state

    def pool(self, outputs: Tensor, pooled: Tensor) -> None:
        """Pool the outputs of a window, (rows, time, width), where `pooled`, (rows, time, 1), is True."""
        self._add(self.total, outputs * pooled)
        self.largest = torch.maximum(self.largest, outputs.masked_fill(~pooled, -math.inf).amax(1))  # (rows, width)

    def pool_words(self, vector: TextVector, ids: Tensor, pooled: Tensor, embedded: Tensor) -> None:
        """Pool the words of a window; arguments as in `TextVector.window_words`."""
        if self.in_order:
            self._add(self.words, embedded * (F.embedding(ids, vector.word_weight) * pooled[:, :, None]))
        else:
            self.words += vector.window_words(ids, pooled, embedded)  # (rows, emb_dim)

    def _add(self, total: Tensor, values: Tensor) -> None:
        """Add up the values of a window, (rows, time, width), in `total`, (rows, width)."""
        for part in values.unbind(1) if self.in_order else [values.sum(1)]:
            total += part  # (rows, width)

    def features(self, rows: Tensor, last: Tensor, kept: Tensor) -> Tensor:
        """Return the pooled features, (n, n_features), of rows, (n,), given last outputs and numbers of positions."""
        n = kept.to(last.device)[:, None]  # (n, 1)
        pools = Pools(last, self.largest[rows], self.total[rows] / n)
        return join_pools(pools, self.words[rows] / n) if self.every_layer else torch.cat(pools, 1)

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
            tuple(F.pad(part * keep, (0, 0, 0, n_rows - n_whole)) for part in layer)  # type: ignore[misc]
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
        self.total[fresh], self.largest[fresh], self.words[fresh] = 0, -math.inf, 0
        n_kept = min(_round_number(self.n_active), n_rows)
        if n_kept < n_rows:
            self._keep(np.argsort(~self.active, kind="stable")[:n_kept])


def _round_number(n: int) -> int:
    """Round up to 1, 2, 4, 8 or a multiple of 8."""
    return next((size for size in (1, 2, 4) if n <= size), -(-n // 8) * 8)
