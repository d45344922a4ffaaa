"""A batch of whole documents, cut into windows of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sk_ulmfit.nn.modules import State, detach
from sk_ulmfit.nn.processes import Part

# Rows of a window are filled up to a multiple of this: oneDNN keeps kernels and buffers for every shape it has met.
ROWS = 8


class Documents:
    """A batch of whole documents, longest first, or the part of it that one process reads, cut into windows.

    `ids` has the shape (batch, time); `lengths`, (batch,), fall and are on the CPU, where they control the loop;
    `weight`, (batch,), tells how much each document counts in the penalties. `part` tells which rows of these are read.
    """

    def __init__(
        self,
        ids: Tensor,
        lengths: Tensor,
        bptt: int,
        max_length: int | None,
        weight: Tensor | None = None,
        part: Part | None = None,
    ):
        if int(lengths[-1]) < 1 or int(lengths[0]) > ids.shape[1]:
            raise ValueError(f"lengths must lie between 1 and {ids.shape[1]}, got {lengths.tolist()}.")
        kept = lengths if max_length is None else lengths.clamp(max=max_length)  # (batch,): pooled positions
        self.n_kept, self.n_steps = _counts(lengths, kept, bptt, weight)
        self.first_window = int((lengths - kept).min()) // bptt  # the first that has a pooled position
        if part is not None:
            lengths, kept, weight = part.of(lengths), part.of(kept), None if weight is None else part.of(weight)
            ids = part.of(ids)
        self.ids = ids
        self.lengths = lengths
        self.bptt = bptt
        self.kept = kept
        self.first_pooled = lengths - kept  # (batch,)
        self.n_pooled = len(ids) * int(kept.max())
        self.weight = weight

    def pooled(self) -> Tensor:
        """Return which positions are pooled, (batch, time) bool, on the CPU."""
        position = torch.arange(self.ids.shape[1])  # (time,)
        return (position >= self.first_pooled[:, None]) & (position < self.lengths[:, None])

    def windows(self, start: int = 0) -> Iterator[Window]:
        """Yield the windows from number `start` on."""
        for begin in range(start * self.bptt, int(self.lengths[0]), self.bptt):
            n = min(-(-int((self.lengths > begin).sum()) // ROWS) * ROWS, len(self.lengths))
            lengths = (self.lengths[:n] - begin).clamp(1, self.bptt)  # (n,); filler rows read one token
            time = int(lengths.max())
            position = torch.arange(begin, begin + time)  # (time,)
            end = self.lengths[:n, None]  # (n, 1)
            pooled = (position >= self.first_pooled[:n, None]) & (position < end)  # (n, time)
            device = self.ids.device
            yield Window(
                number=begin // self.bptt,
                begin=begin,
                ids=self.ids[:n, begin : begin + time],
                lengths=lengths,
                weight=None if self.weight is None else self.weight[:n],
                pooled=pooled.to(device, non_blocking=True),
                is_last=(position == end - 1).to(device, non_blocking=True),
                n_whole=(n_whole := int((self.lengths[:n] > begin + self.bptt).sum())),
                n_next=min(-(-n_whole // ROWS) * ROWS, len(self.lengths)),
            )


def _counts(lengths: Tensor, kept: Tensor, bptt: int, weight: Tensor | None) -> tuple[Any, Any]:
    """Return how many positions of a batch are pooled, and how many neighbours of these are in one window, weighted."""
    n_windows = (lengths - 1) // bptt - (lengths - kept) // bptt + 1  # (batch,)
    n_steps = kept - n_windows  # (batch,): neighbouring positions within a window
    if weight is None:
        return int(kept.sum()), max(int(n_steps.sum()), 1)
    steps = (weight * n_steps.to(weight.device)).sum().clamp(min=weight.min())
    return (weight * kept.to(weight.device)).sum(), steps  # tensors of shape (), which stay on the device


class Window(NamedTuple):
    """One window of a batch: the same positions of all documents that reach this far, and of a few filler rows."""

    number: int
    begin: int
    ids: Tensor  # (n, time)
    lengths: Tensor  # (n,)
    weight: Tensor | None  # (n,): how much each document counts in the penalties
    pooled: Tensor  # (n, time) bool: this position is pooled
    is_last: Tensor  # (n, time) bool: the document ends here
    n_whole: int  # documents that go on in the next window
    n_next: int  # rows of the next window


def next_state(state: State, window: Window) -> State:
    """Return the state for the rows of the next window, cut off the graph; zero in filler rows."""

    def keep(part: Tensor) -> Tensor:  # (1, n, width) to (1, n_next, width)
        return F.pad(part[:, : window.n_whole], (0, 0, 0, window.n_next - window.n_whole)).contiguous()

    return [(keep(h), keep(c)) for h, c in detach(state)]
