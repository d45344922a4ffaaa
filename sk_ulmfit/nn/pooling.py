"""Whole documents through the encoder, window by window, into pooled features and label logits.

The memory of a training step or a prediction is that of one window, however long the document is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.losses import squared_activations
from sk_ulmfit.nn.modules import AWDLSTM, DropoutMasks, State
from sk_ulmfit.nn.vector import Pools, TextVector, join_layers
from sk_ulmfit.nn.windows import Documents, Window, next_state

# A training batch with more pooled positions than this (twice as many in 16 bits, which take half the memory)
# recomputes its windows in the backward pass.
GRAPH_TOKENS = 9_000


class Pooled(NamedTuple):
    """What the head gets of a batch, and the two activation penalties."""

    features: Tensor  # (batch, 3 * emb_dim): [last; max; mean] over the pooled positions; or (batch, dim): the vector
    activation: Tensor  # (): mean squared output over real positions (AR)
    change: Tensor  # (): mean squared difference of neighbouring outputs (TAR)


class TextClassifier(nn.Module):
    """Encoder, concat pooling over windows, and head; with a `vector`, pooled are all layers and the words.

    Documents run through windows of `bptt` tokens. The state goes on from window to window, but its gradient stops
    there; every window is reached through its pooled outputs (BPT3C, Howard & Ruder 2018, section 3.3). Only the last
    `max_length` tokens of a document are pooled, or all if it is None; the ones before still shape the state. `head`
    turns the [last; max; mean] of the top layer into logits, usually a `ConcatPoolingHead`; or the vector of each
    document, usually a `LinearHead`.

    Batches too large for one graph are run twice, window by window, so that the memory of a training step does not grow
    with document length.
    """

    def __init__(
        self,
        encoder: AWDLSTM,
        head: nn.Module,
        bptt: int = 70,
        max_length: int | None = 1400,
        vector: TextVector | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.vector = vector
        self.head = head
        self.bptt = bptt
        self.max_length = max_length

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embedding, of each LSTM layer, and of vector and head, in that order."""
        vector = [] if self.vector is None else list(self.vector.parameters())
        return [*self.encoder.layer_groups(), [*vector, *self.head.parameters()]]

    def forward(self, ids: Tensor, lengths: Tensor, weight: Tensor | None = None, precision: str = "float32") -> Any:
        """Return the logits of whole documents, (batch, n_labels); in training also the two penalties of `Pooled`.

        `ids` has the shape (batch, time); `lengths`, (batch,), are from 1 to time. `weight`, (batch,), tells how much
        each document counts in the penalties and in the head's batch statistics. `precision` is that of the LSTM.
        """
        pooled = self.pool(ids, lengths, weight, precision)
        logits = self.head(pooled.features) if weight is None else self.head(pooled.features, weight)
        return (logits, pooled.activation, pooled.change) if self.training else logits

    def pool(self, ids: Tensor, lengths: Tensor, weight: Tensor | None = None, precision: str = "float32") -> Pooled:
        """Encode and pool whole documents; arguments as in `forward`."""
        order = torch.argsort(lengths.cpu(), descending=True, stable=True)  # (batch,)
        sorted_weight = None if weight is None else weight[order.to(weight.device)]  # (batch,)
        documents = Documents(
            ids[order.to(ids.device)], lengths.cpu()[order], self.bptt, self.max_length, sorted_weight
        )
        masks = self.encoder.draw_masks(len(ids), precision)
        trained = [p for p in self.encoder.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
        in_16_bits = precision == "bfloat16"
        reading = _Reading(self.encoder, documents, masks, precision, self.vector is not None)
        if trained and documents.n_pooled > GRAPH_TOKENS * (1 + in_16_bits):
            pools, activation, change = _pool_in_two_passes(reading)
        else:
            pools, activation, change, _ = _pool_windows(reading, self.training)
        features = torch.cat(pools, 1) if self.vector is None else self._vectors(self.vector, documents, pools, masks)
        back = torch.argsort(order).to(features.device)  # (batch,)
        return Pooled(features[back], activation, change)

    def _vectors(self, vector: TextVector, documents: Documents, pools: Pools, masks: DropoutMasks | None) -> Tensor:
        """Return the vectors of documents, (batch, dim)."""
        pooled = documents.pooled().to(documents.ids.device)  # (batch, time)
        kept = None if masks is None else masks.embed
        return vector.of_texts(pools, documents.ids, pooled, self.encoder.embedding.weight, kept)


class _Reading(NamedTuple):
    """How a batch is read: by which encoder, and which outputs of its windows are pooled."""

    encoder: AWDLSTM
    documents: Documents
    masks: DropoutMasks | None
    precision: str
    every_layer: bool  # pool the outputs of all layers side by side, not only of the top one

    @property
    def width(self) -> int:
        """Width of the outputs that are pooled."""
        layers: list[Any] = list(self.encoder.rnns)
        return sum(rnn.hidden_size for rnn in (layers if self.every_layer else layers[-1:]))

    def run(
        self, inputs: Tensor, window: Window, state: State | None, rows: DropoutMasks | None
    ) -> tuple[Tensor, Tensor, State]:
        """Run the layers over a window; `rows` are the masks of its documents.

        Return the outputs of the top layer, (n, time, emb_dim), those to pool, (n, time, width), and the next state.
        """
        arguments = (inputs, window.lengths, state, rows, self.precision)
        if self.every_layer:
            outputs, state = self.encoder.run_every_layer(*arguments)
            return outputs[-1], join_layers(outputs), next_state(state, window)
        top, state = self.encoder.run_layers(*arguments)
        return top, top, next_state(state, window)


class _Pools:
    """The pools of a batch, (batch, width) each, while its windows are run."""

    def __init__(self, weight: Tensor, batch: int, width: int):
        shape = (batch, width)
        self.last, self.total = weight.new_zeros(shape), weight.new_zeros(shape)
        self.largest = weight.new_full(shape, -math.inf)
        self.where = torch.zeros(shape, dtype=torch.int64, device=weight.device)  # the position of each maximum

    def add_last(self, outputs: Tensor, window: Window) -> None:
        """Keep the outputs, (n, time, width), of the documents that end in a window."""
        at_end = (outputs * window.is_last[:, :, None]).sum(1)  # (n, width)
        self.last = _put_rows(self.last, self.last[: len(outputs)] + at_end)

    def add_pooled(self, outputs: Tensor, window: Window) -> None:
        """Add the outputs, (n, time, width), of the pooled positions of a window."""
        n, pooled = len(outputs), window.pooled[:, :, None]  # (n, time, 1)
        self.total = _put_rows(self.total, self.total[:n] + (outputs * pooled).sum(1))
        highest, at = outputs.masked_fill(~pooled, -math.inf).max(1)  # (n, width)
        higher = highest > self.largest[:n]  # (n, width)
        self.where = _put_rows(self.where, torch.where(higher, at + window.begin, self.where[:n]))
        self.largest = _put_rows(self.largest, torch.where(higher, highest, self.largest[:n]))

    def finish(self, kept: Tensor) -> Pools:
        """Return the pools of documents with `kept` pooled positions, (batch,)."""
        return Pools(self.last, self.largest, self.total / kept.to(self.total.device)[:, None])


def _put_rows(whole: Tensor, first: Tensor) -> Tensor:
    """Replace the first rows of (batch, width) by others, (n, width)."""
    return first if len(first) == len(whole) else torch.cat([first, whole[len(first) :]])


def _pool_windows(
    reading: _Reading, penalties: bool = True
) -> tuple[Pools, Tensor, Tensor, tuple[Tensor, State | None]]:
    """Pool window by window.

    Returns the pools and the penalties of `Pooled`, and for a second pass the position of each maximum, (batch, width),
    and the state before the first window with a pooled position. Without `penalties` they are zero.
    """
    encoder, documents, masks = reading.encoder, reading.documents, reading.masks
    weight = encoder.embedding.weight  # (vocab_size, emb_dim)
    first = documents.first_window
    embedded = None
    if torch.is_grad_enabled() and weight.requires_grad:  # all at once: one gradient instead of one for each window
        ids = documents.ids[:, first * documents.bptt :]  # (batch, pooled time)
        embedded = encoder.embed(ids, masks).split(documents.bptt, 1)  # (batch, time, emb_dim) each
    pools = _Pools(weight, len(documents.ids), reading.width)
    activation, change = weight.new_zeros(()), weight.new_zeros(())
    state: State | None = None
    resume: State | None = None
    for window in documents.windows():
        if window.number == first:
            resume = state
        with torch.set_grad_enabled(torch.is_grad_enabled() and window.number >= first):
            n, time = window.ids.shape
            rows = None if masks is None else masks.first_rows(n)
            if embedded is None or window.number < first:
                inputs = encoder.embed(window.ids, rows)  # (n, time, emb_dim)
            else:
                inputs = embedded[window.number - first][:n, :time]  # (n, time, emb_dim)
            top, outputs, state = reading.run(inputs, window, state, rows)  # (n, time, emb_dim), (n, time, width)
            pools.add_last(outputs, window)
            if window.number >= first:
                pools.add_pooled(outputs, window)
                if penalties:
                    squares, steps = squared_activations(top, top, window.pooled, window.weight)  # ()
                    activation, change = activation + squares, change + steps
    emb_dim = weight.shape[1]
    activation, change = activation / (documents.n_kept * emb_dim), change / (documents.n_steps * emb_dim)
    return pools.finish(documents.kept), activation, change, (pools.where, resume)


def _pool_in_two_passes(reading: _Reading) -> tuple[Pools, Tensor, Tensor]:
    """Return pools and penalties as `_pool_windows` does, with the graph of one window at a time in memory."""
    masks = reading.masks
    dropped = [] if masks is None else [w for w in masks.recurrent if w is not None and w.requires_grad]
    parameters = [p for p in reading.encoder.parameters() if p.requires_grad]
    *pools, activation, change = _TwoPassPooling.apply(reading, *parameters, *dropped)
    return Pools(*pools), activation, change


class _TwoPassPooling(torch.autograd.Function):
    """Pool without a graph; in the backward pass run the windows again, each with its own graph.

    The state's gradient stops at window borders, so that every window can be differentiated by itself once the gradient
    of the pooled features is known.
    """

    @staticmethod
    def forward(ctx: Any, reading: _Reading, *tensors: Tensor) -> Any:
        pools, activation, change, (where, resume) = _pool_windows(reading)
        ctx.reading, ctx.where, ctx.resume = reading, where, resume
        return *pools, activation, change

    @staticmethod
    def backward(
        ctx: Any, d_last: Tensor, d_max: Tensor, d_mean: Tensor, d_activation: Tensor, d_change: Tensor
    ) -> Any:
        masks, leaves = _with_leaf_weights(ctx.reading.masks)
        reading = ctx.reading._replace(masks=masks)
        encoder, documents = reading.encoder, reading.documents
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        embedding = encoder.embedding.weight  # (vocab_size, emb_dim)
        emb_dim = embedding.shape[1]
        inner = [*(p for p in parameters if p is not embedding), *leaves]
        d_pools = d_last, d_max, d_mean / documents.kept.to(d_mean.device)[:, None]  # (batch, width) each
        d_squares, d_steps = d_activation / (documents.n_kept * emb_dim), d_change / (documents.n_steps * emb_dim)  # ()

        gradients: dict[int, Tensor] = {id(tensor): torch.zeros_like(tensor) for tensor in inner}
        by_word = _EmbeddingGradient(embedding, documents) if embedding.requires_grad else None
        state: State | None = ctx.resume
        for window in documents.windows(documents.first_window):
            rows = None if masks is None else masks.first_rows(len(window.ids))
            embedded = encoder.embed(window.ids, rows).detach()  # (n, time, emb_dim)
            with torch.enable_grad():
                embedded.requires_grad_(embedding.requires_grad)
                top, outputs, state = reading.run(embedded, window, state, rows)
                squares, steps = squared_activations(top, top, window.pooled, window.weight)  # ()
            d_outputs = _output_gradient(window, ctx.where, *d_pools)  # (n, time, width)
            d_all = torch.autograd.grad(
                [outputs, squares, steps],
                [*inner, embedded] if by_word else inner,
                [d_outputs, d_squares, d_steps],
                allow_unused=True,
            )
            for tensor, gradient in zip(inner, d_all, strict=False):
                if gradient is not None:
                    gradients[id(tensor)] += gradient
            if by_word:
                by_word.add(window, d_all[-1], rows)
        if by_word:
            gradients[id(embedding)] = by_word.sparse()
        return None, *(gradients[id(tensor)] for tensor in [*parameters, *leaves])


def _output_gradient(window: Window, where: Tensor, d_last: Tensor, d_max: Tensor, d_mean: Tensor) -> Tensor:
    """Return the gradient of a window's outputs, (n, time, width), given those of the pools, (batch, width) each."""
    n, time = window.ids.shape
    pooled = window.pooled[:, :, None]  # (n, time, 1)
    position = torch.arange(window.begin, window.begin + time, device=where.device)  # (time,)
    at_max = (where[:n, None] == position[None, :, None]) & pooled  # (n, time, width)
    return pooled * d_mean[:n, None] + at_max * d_max[:n, None] + window.is_last[:, :, None] * d_last[:n, None]


class _EmbeddingGradient:
    """The gradient of the embedding of the words that a batch looks up."""

    def __init__(self, embedding: Tensor, documents: Documents):
        self.embedding = embedding
        self.begin = documents.first_window * documents.bptt
        words, place = documents.ids[:, self.begin :].unique(return_inverse=True)
        self.words, self.place = words, place  # (n_words,), (batch, pooled time): which of the words
        self.total = embedding.new_zeros(len(words), embedding.shape[1])  # (n_words, width)

    def add(self, window: Window, gradient: Tensor, masks: DropoutMasks | None) -> None:
        """Add the gradient of the embedded tokens of a window, (n, time, width)."""
        if masks is not None and masks.embed is not None:
            gradient = gradient * F.embedding(window.ids, masks.embed)
        n, time = window.ids.shape
        place = self.place[:n, window.begin - self.begin :][:, :time]  # (n, time)
        self.total.index_add_(0, place.reshape(-1), gradient.reshape(-1, gradient.shape[2]))

    def sparse(self) -> Tensor:
        """Return the gradient as a sparse matrix, (vocab_size, width)."""
        return torch.sparse_coo_tensor(
            self.words[None], self.total, self.embedding.shape, is_coalesced=True, check_invariants=False
        )


def _with_leaf_weights(masks: DropoutMasks | None) -> tuple[DropoutMasks | None, list[Tensor]]:
    """Cut the dropped weights off the graph that made them, so that gradients can be collected on them."""
    if masks is None:
        return None, []
    recurrent = [None if w is None else w.detach().requires_grad_(w.requires_grad) for w in masks.recurrent]
    return masks._replace(recurrent=recurrent), [w for w in recurrent if w is not None and w.requires_grad]
