"""Pooled features of any number of documents without a graph, for prediction.

Documents run side by side in rows, a short window at a time. A row whose document has ended takes the next one, so that
the products stay large whatever the lengths are, and memory is that of one window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.nn.modules import AWDLSTM, State
from sk_ulmfit.nn.pooled_layers import pooled_layers
from sk_ulmfit.nn.vector import TextVector, join_means

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
    advance: Callable[[int], object] | None = None,
) -> Tensor:
    """Return the [last; max; mean] features of documents (Howard & Ruder 2018, section 3.3), or a head's logits.

    With a `vector` the features are the vectors of the documents.

    The encoder must be in evaluation mode. Document i, of at least one token, is ``ids[offsets[i]:offsets[i + 1]]``.
    Only the last `max_length` tokens of a document are pooled; None pools all. `head` is applied to the features of
    `HEAD_ROWS` or more documents at once. `precision` is that of the LSTM layers. `advance` is called with the number
    of tokens that each window reads.

    The result is on the CPU: (n_documents, 3 * emb_dim), with a vector (n_documents, dim), or with a head (n_documents,
    n_labels). A document's row depends on the other documents only by the rounding of sums and of the vector's product;
    `in_order` makes both independent of them, position by position and in products of one shape.
    """
    device = encoder.embedding.weight.device
    lengths = np.diff(offsets)  # (n_documents,)
    kept = lengths if max_length is None else np.minimum(lengths, max_length)  # (n_documents,): pooled positions
    first_pooled = lengths - kept  # (n_documents,)
    results = _Results(len(lengths), _in_blocks(vector) if vector is not None and in_order else vector, head)
    with torch.inference_mode(False), torch.no_grad():  # 16- and 8-bit weights are kept, to be used outside too
        n_rows = _n_rows(lengths, GPU_ROWS if device.type == "cuda" else ROWS)
        pools = _Concat(encoder, n_rows, in_order) if vector is None else _Means(encoder, vector, n_rows, in_order)
        rows = _Rows(lengths, n_rows, pools)
        while rows.n_active:
            n_now = rows.arrange()  # (rows,): tokens of each row in this window
            document, position = rows.document, rows.position  # (rows,)
            steps = np.arange(n_now[0])  # (time,)
            place = np.minimum(offsets[document][:, None] + position[:, None] + steps, len(ids) - 1)  # (rows, time)
            window = torch.from_numpy(ids[place].astype(np.int64)).to(device)  # (rows, time)
            first = first_pooled[document] - position  # (rows,)
            pooled = torch.from_numpy((steps < n_now[:, None]) & (steps >= first[:, None])).to(device)  # (rows, time)
            state = pools.read(window, torch.from_numpy(n_now), pooled, rows.state, precision)
            if advance is not None:
                advance(int(n_now[rows.active].sum()))
            ended = rows.advance(n_now)  # (n_ended,)
            if len(ended):
                at, n = torch.from_numpy(ended).to(device), torch.from_numpy(kept[document[ended]]).to(device)
                results.add(document[ended], pools.features(at, n[:, None]))
            rows.refill(ended, state)
        none = torch.empty(0, dtype=torch.int64, device=device)
        return results.all(pools.features(none, none[:, None]))


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


class _Pools:
    """What is pooled of the document in each row, added up window by window.

    A subclass runs the layers, and tells what it pools of them.
    """

    def __init__(self, encoder: AWDLSTM, layers: Sequence[Any], n_rows: int, width: int, in_order: bool):
        self.encoder, self.layers, self.in_order = encoder, layers, in_order  # the layers that run
        self.total = encoder.embedding.weight.new_zeros(n_rows, width)  # (rows, width)

    def keep(self, rows: Tensor) -> None:
        """Keep some rows, (n_kept,), in this order."""
        self.total = self.total[rows]  # (n_kept, width)

    def clear(self, rows: Tensor) -> None:
        """Forget what was pooled in some rows, (n_cleared,)."""
        self.total[rows] = 0

    def read(self, ids: Tensor, lengths: Tensor, pooled: Tensor, state: State, precision: str) -> State:
        """Run the layers over a window, pool their outputs where `pooled` is True, and return the new state.

        `ids` and `pooled` have the shape (rows, time); the rest as in `AWDLSTM.run_layers`.
        """
        raise NotImplementedError

    def features(self, rows: Tensor, n: Tensor) -> Tensor:
        """Return the features of documents that end in this window; `n`, (n_ended, 1), counts pooled positions."""
        raise NotImplementedError


class _Concat(_Pools):
    """[last; max; mean] of the outputs of the top layer."""

    def __init__(self, encoder: AWDLSTM, n_rows: int, in_order: bool):
        width = encoder.embedding.embedding_dim
        super().__init__(encoder, list(encoder.rnns), n_rows, width, in_order)
        self.largest = torch.full_like(self.total, -math.inf)  # (rows, width)
        self.last = self.total  # (rows, width)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.largest = self.largest[rows]  # (n_kept, width)

    def clear(self, rows: Tensor) -> None:
        super().clear(rows)
        self.largest[rows] = -math.inf

    def read(self, ids: Tensor, lengths: Tensor, pooled: Tensor, state: State, precision: str) -> State:
        outputs, state = self.encoder.run_layers(self.encoder.embed(ids, None), lengths, state, None, precision)
        self.last = outputs[torch.arange(len(ids)), lengths - 1]  # (rows, width)
        pooled = pooled[:, :, None]  # (rows, time, 1)
        values = outputs * pooled  # (rows, time, width)
        for part in values.unbind(1) if self.in_order else [values.sum(1)]:
            self.total += part  # (rows, width)
        self.largest = torch.maximum(self.largest, outputs.masked_fill(~pooled, -math.inf).amax(1))  # (rows, width)
        return state

    def features(self, rows: Tensor, n: Tensor) -> Tensor:
        return torch.cat([self.last[rows], self.largest[rows], self.total[rows] / n], 1)


class _Means(_Pools):
    """The means that a vector is made of: of the outputs of layers, and of the words."""

    def __init__(self, encoder: AWDLSTM, vector: TextVector, n_rows: int, in_order: bool):
        layers = pooled_layers(list[Any](encoder.rnns))
        super().__init__(encoder, layers, n_rows, vector.weight.shape[1], in_order)
        self.vector = vector

    def read(self, ids: Tensor, lengths: Tensor, pooled: Tensor, state: State, precision: str) -> State:
        embedded = self.encoder.embed(ids, None)  # (rows, time, emb_dim)
        outputs, state = self.encoder.run_lower_layers(embedded, lengths, state, None, precision, len(self.layers))
        words = embedded * F.embedding(ids, self.vector.word_weight)  # (rows, time, emb_dim)
        values = join_means(torch.cat(outputs, 2), words)  # (rows, time, n_pooled)
        if self.in_order:
            for part in (values * pooled[:, :, None]).unbind(1):
                self.total += part  # (rows, n_pooled)
        else:
            self.total += torch.bmm(pooled[:, None].to(values.dtype), values).squeeze(1)
        return state

    def features(self, rows: Tensor, n: Tensor) -> Tensor:
        return self.total[rows] / n


class _Rows:
    """The document of each row, how far it has been read, its state and its pools.

    A row whose document has ended is dropped if no other document waits. If that would leave an odd number of rows, it
    goes on reading one token at a time: oneDNN keeps kernels and buffers for every number of rows.
    """

    def __init__(self, lengths: NDArray[np.int64], n_rows: int, pools: _Pools):
        windows = -(-lengths // WINDOW)  # (n_documents,)
        self.lengths, self.pools = lengths, pools
        self.waiting = np.argsort(-windows, kind="stable")  # (n_waiting,): documents, longest first
        self.document, self.waiting = self.waiting[:n_rows], self.waiting[n_rows:]
        self.position = np.zeros(n_rows, np.int64)
        self.active = np.ones(n_rows, bool)
        total = pools.total
        self.state: State = [(z := total.new_zeros(1, n_rows, rnn.hidden_size), z) for rnn in pools.layers]

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
        index = torch.from_numpy(rows).to(self.pools.total.device)  # (n_kept,)
        self.pools.keep(index)
        self.state = [(h[:, index], c[:, index]) for h, c in self.state]

    def advance(self, n_now: NDArray[np.int64]) -> NDArray[np.int64]:
        """Move on by a window, and return the rows whose document ends there."""
        self.position = self.position + np.where(self.active, n_now, 0)
        return np.flatnonzero(self.active & (self.position == self.lengths[self.document]))

    def refill(self, ended: NDArray[np.int64], state: State) -> None:
        """Keep the state of the documents that go on, and start others in the rows where one has ended."""
        n_rows, n_whole = len(self.document), state[0][0].shape[1]
        goes_on = self.active & ~np.isin(np.arange(n_rows), ended)  # (rows,)
        keep = torch.from_numpy(goes_on[:n_whole]).to(self.pools.total.device)[None, :, None]  # (1, n_whole, 1)
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
        self.pools.clear(torch.from_numpy(ended).to(self.pools.total.device))
        n_kept = min(_round_number(self.n_active), n_rows)
        if n_kept < n_rows:
            self._keep(np.argsort(~self.active, kind="stable")[:n_kept])


def _n_rows(lengths: NDArray[np.int64], most: int) -> int:
    """Choose how many documents run side by side."""
    windows = -(-lengths // WINDOW)  # (n_documents,)
    at_once = -(-int(windows.sum()) // int(windows.max(initial=1)))  # all then end at about the same time
    return min(_round_number(at_once), most, len(lengths))


def _round_number(n: int) -> int:
    """Round up to 1, 2, 4, 8 or a multiple of 8."""
    return next((size for size in (1, 2, 4) if n <= size), -(-n // 8) * 8)
