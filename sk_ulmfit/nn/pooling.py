"""Whole documents through the encoder, window by window, into pooled features and label logits.

The memory of a training step and of a prediction is that of a window, however long the document.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.losses import squared_activations
from sk_ulmfit.nn.modules import AWDLSTM, DropoutMasks, State, detach

# A training batch with more pooled positions than this (twice as many in 16 bits, which take half the memory)
# recomputes its windows in the backward pass.
GRAPH_TOKENS = 9_000

# Rows of a window are filled up to a multiple of this: oneDNN keeps kernels and buffers for every shape it has met.
ROWS = 8


class Pooled(NamedTuple):
    """Pooled features of a batch and what the activation penalties need.

    Attributes
    ----------
    features : Tensor, shape (batch, 3 * emb_dim)
        [last; max; mean] over the pooled positions of each document.
    activation : Tensor, shape ()
        Mean squared output over real positions (AR).
    change : Tensor, shape ()
        Mean squared difference of neighbouring outputs (TAR).
    """

    features: Tensor
    activation: Tensor
    change: Tensor


class TextClassifier(nn.Module):
    """Encoder, concat pooling over windows, and head.

    Documents run through windows of `bptt` tokens; the state goes on from window to window but its
    gradient stops there, and every window is reached through its pooled outputs (BPT3C, Howard & Ruder
    2018, section 3.3). Batches too large for one graph are run twice, window by window, so that the
    memory of a training step does not grow with document length; without gradients pooling is always streamed.

    Parameters
    ----------
    encoder : AWDLSTM
        The body.
    head : Module
        From pooled features to logits, usually a `ConcatPoolingHead`.
    bptt : int, default=70
        Tokens per window.
    max_length : int or None, default=1400
        Only the last `max_length` tokens of a document are pooled; the ones before still shape the state.
        None pools all.
    """

    def __init__(self, encoder: AWDLSTM, head: nn.Module, bptt: int = 70, max_length: int | None = 1400):
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.bptt = bptt
        self.max_length = max_length

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Embedding, each LSTM layer, and the head, in that order."""
        return [*self.encoder.layer_groups(), list(self.head.parameters())]

    def forward(self, ids: Tensor, lengths: Tensor, weight: Tensor | None = None, precision: str = "float32") -> Any:
        """Give the logits of whole documents.

        Parameters
        ----------
        ids : Tensor of int64, shape (batch, time)
            Token ids.
        lengths : Tensor of int64, shape (batch,)
            Tokens of each document, from 1 to time.
        weight : Tensor of shape (batch,), default=None
            How much each document counts in the penalties and in what the head learns of a batch.
        precision : {"float32", "bfloat16", "int8"}, default="float32"
            Arithmetic of the LSTM layers.

        Returns
        -------
        Tensor of shape (batch, n_labels), or in training mode (logits, activation, change)
            Logits; in training also the two penalties of `Pooled`.
        """
        pooled = self.pool(ids, lengths, weight, precision)
        logits = self.head(pooled.features) if weight is None else self.head(pooled.features, weight)
        return (logits, pooled.activation, pooled.change) if self.training else logits

    def pool(self, ids: Tensor, lengths: Tensor, weight: Tensor | None = None, precision: str = "float32") -> Pooled:
        """Encode and pool whole documents."""
        order = torch.argsort(lengths.cpu(), descending=True, stable=True)
        sorted_weight = None if weight is None else weight[order.to(weight.device)]
        documents = Documents(
            ids[order.to(ids.device)], lengths.cpu()[order], self.bptt, self.max_length, sorted_weight
        )
        masks = self.encoder.draw_masks(len(ids), precision)
        trained = [p for p in self.encoder.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
        in_16_bits = precision == "bfloat16"
        if trained and documents.n_pooled > GRAPH_TOKENS * (1 + in_16_bits):
            features, activation, change = _pool_in_two_passes(self.encoder, documents, masks, precision)
        else:
            features, activation, change, _ = _pool_windows(self.encoder, documents, masks, precision, self.training)
        back = torch.argsort(order).to(features.device)
        return Pooled(features[back], activation, change)


class Documents:
    """A batch of whole documents, longest first, cut into windows."""

    def __init__(self, ids: Tensor, lengths: Tensor, bptt: int, max_length: int | None, weight: Tensor | None = None):
        if int(lengths[-1]) < 1 or int(lengths[0]) > ids.shape[1]:
            raise ValueError(f"lengths must lie between 1 and {ids.shape[1]}, got {lengths.tolist()}.")
        self.ids = ids
        self.lengths = lengths  # on the CPU: they steer the loop
        self.bptt = bptt
        kept = lengths if max_length is None else lengths.clamp(max=max_length)
        self.first_pooled = lengths - kept
        self.first_window = int(self.first_pooled.min()) // bptt  # the first that has a pooled position
        self.n_pooled = len(ids) * int(kept.max())
        n_windows = (lengths - 1) // bptt - self.first_pooled // bptt + 1
        n_steps = kept - n_windows  # neighbouring positions within a window
        self.weight = weight
        if weight is None:
            self.n_kept: Any = int(kept.sum())
            self.n_steps: Any = max(int(n_steps.sum()), 1)
        else:  # they stay on the device
            self.n_kept = (weight * kept.to(weight.device)).sum()
            self.n_steps = (weight * n_steps.to(weight.device)).sum().clamp(min=weight.min())
        self.kept = kept

    def windows(self, start: int = 0) -> Iterator[Window]:
        """Give the windows from number `start` on."""
        for begin in range(start * self.bptt, int(self.lengths[0]), self.bptt):
            n = min(-(-int((self.lengths > begin).sum()) // ROWS) * ROWS, len(self.lengths))
            lengths = (self.lengths[:n] - begin).clamp(1, self.bptt)  # a row that fills up reads one token
            time = int(lengths.max())
            position = torch.arange(begin, begin + time)
            end = self.lengths[:n, None]
            pooled = (position >= self.first_pooled[:n, None]) & (position < end)
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


class Window(NamedTuple):
    """One window of a batch: the same positions of all documents that reach this far, and of some that fill up."""

    number: int
    begin: int
    ids: Tensor  # (rows, time)
    lengths: Tensor  # (rows,)
    weight: Tensor | None  # (rows,): how much each document counts in the penalties
    pooled: Tensor  # (rows, time) bool: this position is pooled
    is_last: Tensor  # (rows, time) bool: the document ends here
    n_whole: int  # documents that go on in the next window
    n_next: int  # rows of the next window


def _pool_windows(
    encoder: AWDLSTM, documents: Documents, masks: DropoutMasks | None, precision: str, penalties: bool = True
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, State | None]]:
    """Pool window by window; also gives, for a second pass, where each maximum stands and the state to resume from.

    The penalties are zero where they are not wanted.
    """
    weight = encoder.embedding.weight
    shape = (len(documents.ids), weight.shape[1])
    first = documents.first_window * documents.bptt
    embedded = None
    if torch.is_grad_enabled() and weight.requires_grad:  # all at once: one gradient instead of one for each window
        embedded = encoder.embed(documents.ids[:, first:], masks).split(documents.bptt, 1)
    last, total = weight.new_zeros(shape), weight.new_zeros(shape)
    largest = weight.new_full(shape, -math.inf)
    where = torch.zeros(shape, dtype=torch.int64, device=weight.device)
    activation, change = weight.new_zeros(()), weight.new_zeros(())
    state: State | None = None
    resume: State | None = None
    for window in documents.windows():
        if window.number == documents.first_window:
            resume = state
        with torch.set_grad_enabled(torch.is_grad_enabled() and window.number >= documents.first_window):
            n = len(window.ids)
            rows = None if masks is None else masks.first_rows(n)
            if embedded is None or window.number < documents.first_window:
                inputs = encoder.embed(window.ids, rows)
            else:
                inputs = embedded[window.number - documents.first_window][:n, : window.ids.shape[1]]
            outputs, state = encoder.run_layers(inputs, window.lengths, state, rows, precision)
            state = next_state(state, window)
            last = _put_rows(last, last[:n] + (outputs * window.is_last[:, :, None]).sum(1))
            if window.number >= documents.first_window:
                total = _put_rows(total, total[:n] + (outputs * window.pooled[:, :, None]).sum(1))
                highest, at = outputs.masked_fill(~window.pooled[:, :, None], -math.inf).max(1)
                higher = highest > largest[:n]
                where = _put_rows(where, torch.where(higher, at + window.begin, where[:n]))
                largest = _put_rows(largest, torch.where(higher, highest, largest[:n]))
                if penalties:
                    squares, steps = squared_activations(outputs, outputs, window.pooled, window.weight)
                    activation, change = activation + squares, change + steps
    kept = documents.kept.to(total.device)[:, None]
    features = torch.cat([last, largest, total / kept], 1)
    width = shape[1]
    return (
        features,
        activation / (documents.n_kept * width),
        change / (documents.n_steps * width),
        (where, resume),
    )


def next_state(state: State, window: Window) -> State:
    """Give the state of the rows of the next window, cut off the graph: zero in those that only fill up."""

    def keep(part: Tensor) -> Tensor:
        return F.pad(part[:, : window.n_whole], (0, 0, 0, window.n_next - window.n_whole)).contiguous()

    return [(keep(h), keep(c)) for h, c in detach(state)]


def _put_rows(whole: Tensor, first: Tensor) -> Tensor:
    return first if len(first) == len(whole) else torch.cat([first, whole[len(first) :]])


def _pool_in_two_passes(
    encoder: AWDLSTM, documents: Documents, masks: DropoutMasks | None, precision: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Like `_pool_windows`, holding the graph of one window at a time."""
    dropped = [] if masks is None else [w for w in masks.recurrent if w is not None and w.requires_grad]
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    features, activation, change = _TwoPassPooling.apply(encoder, documents, masks, precision, *parameters, *dropped)
    return features, activation, change


class _TwoPassPooling(torch.autograd.Function):
    """Pool without a graph; in the backward pass run the windows again and push each one's gradient down.

    The state's gradient stops at window borders, so that given the gradient of the pooled features every
    window can be differentiated by itself: memory is that of one window, exactly.
    """

    @staticmethod
    def forward(ctx: Any, encoder: AWDLSTM, documents: Documents, masks: Any, precision: str, *tensors: Tensor) -> Any:
        features, activation, change, (where, resume) = _pool_windows(encoder, documents, masks, precision)
        ctx.precision = precision
        ctx.encoder, ctx.documents, ctx.masks, ctx.where, ctx.resume = encoder, documents, masks, where, resume
        return features, activation, change

    @staticmethod
    def backward(ctx: Any, d_features: Tensor, d_activation: Tensor, d_change: Tensor) -> Any:
        encoder, documents, where = ctx.encoder, ctx.documents, ctx.where
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        masks, leaves = _with_leaf_weights(ctx.masks)
        embedding = encoder.embedding.weight
        inner = [p for p in parameters if p is not embedding]
        d_last, d_max, d_mean = d_features.chunk(3, 1)
        d_mean = d_mean / documents.kept.to(d_mean.device)[:, None]
        width = embedding.shape[1]
        d_squares, d_steps = d_activation / (documents.n_kept * width), d_change / (documents.n_steps * width)

        gradients: dict[int, Tensor] = {id(tensor): torch.zeros_like(tensor) for tensor in [*inner, *leaves]}
        first = documents.first_window * documents.bptt
        if embedding.requires_grad:
            words, place = documents.ids[:, first:].unique(return_inverse=True)
            d_words = embedding.new_zeros(len(words), width)
        state: State | None = ctx.resume
        for window in documents.windows(documents.first_window):
            n, time = window.ids.shape
            rows = None if masks is None else masks.first_rows(n)
            embedded = encoder.embed(window.ids, rows).detach()
            with torch.enable_grad():
                embedded.requires_grad_(embedding.requires_grad)
                outputs, state = encoder.run_layers(embedded, window.lengths, state, rows, ctx.precision)
                squares, steps = squared_activations(outputs, outputs, window.pooled, window.weight)
            state = next_state(state, window)
            position = torch.arange(window.begin, window.begin + time, device=where.device)
            at_max = (where[:n, None] == position[None, :, None]) & window.pooled[:, :, None]
            d_outputs = (
                window.pooled[:, :, None] * d_mean[:n, None]
                + at_max * d_max[:n, None]
                + window.is_last[:, :, None] * d_last[:n, None]
            )
            wanted = [*inner, *leaves, *([embedded] if embedding.requires_grad else [])]
            found = torch.autograd.grad(
                [outputs, squares, steps], wanted, [d_outputs, d_squares, d_steps], allow_unused=True
            )
            for tensor, gradient in zip(wanted, found, strict=True):
                if gradient is None:
                    continue
                if tensor is not embedded:
                    gradients[id(tensor)] += gradient
                    continue
                if rows is not None and rows.embed is not None:
                    gradient = gradient * F.embedding(window.ids, rows.embed)
                columns = slice(window.begin - first, window.begin - first + time)
                d_words.index_add_(0, place[:n, columns].reshape(-1), gradient.reshape(-1, width))
        if embedding.requires_grad:
            gradients[id(embedding)] = torch.sparse_coo_tensor(
                words[None], d_words, embedding.shape, is_coalesced=True, check_invariants=False
            )
        return None, None, None, None, *(gradients[id(tensor)] for tensor in [*parameters, *leaves])


def _with_leaf_weights(masks: DropoutMasks | None) -> tuple[DropoutMasks | None, list[Tensor]]:
    """Cut the dropped weights off the graph that made them, so that gradients can be collected on them."""
    if masks is None:
        return None, []
    recurrent = [None if w is None else w.detach().requires_grad_(w.requires_grad) for w in masks.recurrent]
    return masks._replace(recurrent=recurrent), [w for w in recurrent if w is not None and w.requires_grad]
