"""Whole documents through the encoder, window by window, into pooled features and label logits.

The memory of a training step or a prediction is that of one window, however long the document is.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.losses import squared_activations
from sk_ulmfit.nn.modules import AWDLSTM, DropoutMasks, State
from sk_ulmfit.nn.pooled_layers import pooled_layers
from sk_ulmfit.nn.processes import ALONE, Processes
from sk_ulmfit.nn.vector import TextVector
from sk_ulmfit.nn.windows import Documents, Window, next_state

# A training batch with more pooled positions than this (twice as many in 16 bits, which take half the memory)
# recomputes its windows in the backward pass.
GRAPH_TOKENS = 9_000


class Pooled(NamedTuple):
    """What the head gets of a batch, and the two activation penalties."""

    features: Tensor  # (batch, 3 * emb_dim): [last; max; mean] over the pooled positions; or (batch, dim): the vector
    activation: Tensor  # (): mean squared pooled output over real positions (AR)
    change: Tensor  # (): mean squared difference of neighbouring pooled outputs (TAR)


class TextClassifier(nn.Module):
    """Encoder, concat pooling over windows, and head; with a `vector`, the mean of lower layers and of the words.

    Documents run through windows of `bptt` tokens. The state goes on from window to window, but its gradient stops
    there; every window is reached through its pooled outputs (BPT3C, Howard & Ruder 2018, section 3.3). Only the last
    `max_length` tokens of a document are pooled, or all if it is None; the ones before still shape the state. `head`
    turns the [last; max; mean] of the top layer into logits, usually a `ConcatPoolingHead`; or the vector of each
    document, usually a `LinearHead`. The last of several layers does not run then, and gets no gradient.

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

    @property
    def n_layers(self) -> int:
        """Number of LSTM layers that run."""
        rnns = list(self.encoder.rnns)
        return len(rnns if self.vector is None else pooled_layers(rnns))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embedding, of each LSTM layer that runs, and of vector and head, in order."""
        vector = [] if self.vector is None else list(self.vector.parameters())
        return [*self.encoder.layer_groups()[: 1 + self.n_layers], [*vector, *self.head.parameters()]]

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        weight: Tensor | None = None,
        precision: str = "float32",
        processes: Processes = ALONE,
    ) -> Any:
        """Return the logits of whole documents, (batch, n_labels); in training also the two penalties of `Pooled`.

        `ids` has the shape (batch, time); `lengths`, (batch,), are from 1 to time. `weight`, (batch,), tells how much
        each document counts in the penalties and in the head's batch statistics. `precision` is that of the LSTM.

        If `processes` share the batch, the encoder reads the documents of this one and the head all of them; the
        penalties are this process's share.
        """
        pooled = self.pool(ids, lengths, weight, precision, processes)
        logits = self.head(pooled.features) if weight is None else self.head(pooled.features, weight)
        return (logits, pooled.activation, pooled.change) if self.training else logits

    def pool(
        self,
        ids: Tensor,
        lengths: Tensor,
        weight: Tensor | None = None,
        precision: str = "float32",
        processes: Processes = ALONE,
    ) -> Pooled:
        """Encode and pool whole documents; arguments as in `forward`."""
        order = torch.argsort(lengths.cpu(), descending=True, stable=True)  # (batch,)
        sorted_weight = None if weight is None else weight[order.to(weight.device)]  # (batch,)
        part = processes.part(len(ids))
        documents = Documents(
            ids[order.to(ids.device)], lengths.cpu()[order], self.bptt, self.max_length, sorted_weight, part
        )
        masks = self.encoder.draw_masks(len(ids), precision, self.n_layers, part)
        reading = _Reading(self.encoder, documents, masks, precision, self.n_layers, self.vector is not None)
        trained = torch.is_grad_enabled() and bool(reading.parameters())
        in_16_bits = precision == "bfloat16"
        if trained and documents.n_pooled > GRAPH_TOKENS * (1 + in_16_bits):
            features, activation, change = _pool_in_two_passes(reading)
        else:
            pools, activation, change, _ = _pool_windows(reading, self.training)
            features = pools.features()
        if self.vector is not None:
            features = self._vectors(self.vector, documents, features, masks)
        if not part.counts:
            activation, change = 0 * activation, 0 * change
        features = processes.gather(features, len(ids))  # (batch, width)
        back = torch.argsort(order).to(features.device)  # (batch,)
        return Pooled(features[back], activation, change)

    def _vectors(self, vector: TextVector, documents: Documents, means: Tensor, masks: DropoutMasks | None) -> Tensor:
        """Return the vectors of documents, (batch, dim), given the mean outputs of the layers."""
        pooled = documents.pooled().to(documents.ids.device)  # (batch, time)
        kept = None if masks is None else masks.embed
        return vector.of_texts(means, documents.ids, pooled, self.encoder.embedding.weight, kept)


class _Reading(NamedTuple):
    """How a batch is read: by which layers of an encoder, and how the outputs of its windows are pooled."""

    encoder: AWDLSTM
    documents: Documents
    masks: DropoutMasks | None
    precision: str
    n_layers: int  # how many layers run
    only_means: bool  # pool the mean of the outputs of these layers side by side, not [last; max; mean] of the top one

    @property
    def width(self) -> int:
        """Width of the outputs that are pooled."""
        widths = [rnn.hidden_size for rnn in list[Any](self.encoder.rnns)[: self.n_layers]]
        return sum(widths) if self.only_means else widths[-1]

    def parameters(self) -> list[nn.Parameter]:
        """Return the trained parameters of the embedding and of the layers that run."""
        groups = self.encoder.layer_groups()[: 1 + self.n_layers]
        return [p for p in itertools.chain(*groups) if p.requires_grad]

    def pools(self) -> _Mean:
        """Return pools without any output."""
        return (_Mean if self.only_means else _Concat)(self.documents, self.encoder.embedding.weight, self.width)

    def run(
        self, inputs: Tensor, window: Window, state: State | None, rows: DropoutMasks | None
    ) -> tuple[Tensor, State]:
        """Run the layers over a window; `rows` are the masks of its documents.

        Return the outputs to pool, (n, time, width), and the next state.
        """
        if self.only_means:
            outputs, state = self.encoder.run_lower_layers(
                inputs, window.lengths, state, rows, self.precision, self.n_layers
            )
            return torch.cat(outputs, 2), next_state(state, window)
        top, state = self.encoder.run_layers(inputs, window.lengths, state, rows, self.precision)
        return top, next_state(state, window)


class _Mean:
    """The mean output over the pooled positions of each document, added up window by window."""

    def __init__(self, documents: Documents, weight: Tensor, width: int):
        self.n = documents.kept.to(weight.device)[:, None]  # (batch, 1)
        self.total = weight.new_zeros(len(documents.ids), width)  # (batch, width)

    def add(self, outputs: Tensor, window: Window) -> None:
        """Add the outputs of a window, (n, time, width)."""
        at_pooled = outputs * window.pooled[:, :, None]  # (n, time, width)
        self.total = _put_rows(self.total, self.total[: len(outputs)] + at_pooled.sum(1))

    def features(self) -> Tensor:
        """Return the pooled features, (batch, n_features)."""
        return self.total / self.n

    def output_gradient(self, window: Window, d_features: Tensor) -> Tensor:
        """Return the gradient of a window's outputs, (n, time, width), given that of `features`."""
        return window.pooled[:, :, None] * (d_features / self.n)[: len(window.ids), None]


class _Concat(_Mean):
    """[last; max; mean] of the outputs over the pooled positions of each document."""

    def __init__(self, documents: Documents, weight: Tensor, width: int):
        super().__init__(documents, weight, width)
        self.last = torch.zeros_like(self.total)  # (batch, width)
        self.largest = torch.full_like(self.total, -math.inf)  # (batch, width)
        self.where = torch.zeros_like(self.total, dtype=torch.int64)  # (batch, width): the position of each maximum

    def add(self, outputs: Tensor, window: Window) -> None:
        """Add the outputs of a window, (n, time, width)."""
        n = len(outputs)
        at_end = (outputs * window.is_last[:, :, None]).sum(1)  # (n, width)
        self.last = _put_rows(self.last, self.last[:n] + at_end)
        super().add(outputs, window)
        highest, at = outputs.masked_fill(~window.pooled[:, :, None], -math.inf).max(1)  # (n, width)
        higher = highest > self.largest[:n]  # (n, width)
        self.where = _put_rows(self.where, torch.where(higher, at + window.begin, self.where[:n]))
        self.largest = _put_rows(self.largest, torch.where(higher, highest, self.largest[:n]))

    def features(self) -> Tensor:
        """Return the pooled features, (batch, 3 * width)."""
        return torch.cat([self.last, self.largest, super().features()], 1)

    def output_gradient(self, window: Window, d_features: Tensor) -> Tensor:
        """Return the gradient of a window's outputs, (n, time, width), given that of `features`."""
        d_last, d_max, d_mean = (part[:, None] for part in d_features.chunk(3, 1))  # (batch, 1, width)
        n, time = window.ids.shape
        position = torch.arange(window.begin, window.begin + time, device=self.where.device)  # (time,)
        at_max = (self.where[:n, None] == position[None, :, None]) & window.pooled[:, :, None]  # (n, time, width)
        of_mean = super().output_gradient(window, d_mean[:, 0])
        return of_mean + at_max * d_max[:n] + window.is_last[:, :, None] * d_last[:n]


def _put_rows(whole: Tensor, first: Tensor) -> Tensor:
    """Replace the first rows of (batch, width) by others, (n, width)."""
    return first if len(first) == len(whole) else torch.cat([first, whole[len(first) :]])


def _pool_windows(reading: _Reading, penalties: bool = True) -> tuple[_Mean, Tensor, Tensor, State | None]:
    """Pool window by window.

    Return the pools, the penalties of `Pooled`, and for a second pass the state before the first window with a pooled
    position. Without `penalties` they are zero.
    """
    encoder, documents, masks = reading.encoder, reading.documents, reading.masks
    weight = encoder.embedding.weight  # (vocab_size, emb_dim)
    first = documents.first_window
    embedded = None
    if torch.is_grad_enabled() and weight.requires_grad:  # all at once: one gradient instead of one for each window
        ids = documents.ids[:, first * documents.bptt :]  # (batch, pooled time)
        embedded = encoder.embed(ids, masks).split(documents.bptt, 1)  # (batch, time, emb_dim) each
    pools = reading.pools()
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
            outputs, state = reading.run(inputs, window, state, rows)  # (n, time, width)
            if window.number >= first:
                pools.add(outputs, window)
                if penalties:
                    squares, steps = squared_activations(outputs, outputs, window.pooled, window.weight)  # ()
                    activation, change = activation + squares, change + steps
    n, n_steps = documents.n_kept * reading.width, documents.n_steps * reading.width
    return pools, activation / n, change / n_steps, resume


def _pool_in_two_passes(reading: _Reading) -> tuple[Tensor, Tensor, Tensor]:
    """Return features and penalties as `_pool_windows` does, with the graph of one window at a time in memory."""
    masks = reading.masks
    dropped = [] if masks is None else [w for w in masks.recurrent if w is not None and w.requires_grad]
    features, activation, change = _TwoPassPooling.apply(reading, *reading.parameters(), *dropped)
    return features, activation, change


class _TwoPassPooling(torch.autograd.Function):
    """Pool without a graph; in the backward pass run the windows again, each with its own graph.

    The state's gradient stops at window borders, so that every window can be differentiated by itself once the gradient
    of the pooled features is known.
    """

    @staticmethod
    def forward(ctx: Any, reading: _Reading, *tensors: Tensor) -> Any:
        ctx.reading = reading
        ctx.pools, activation, change, ctx.resume = _pool_windows(reading)
        return ctx.pools.features(), activation, change

    @staticmethod
    def backward(ctx: Any, d_features: Tensor, d_activation: Tensor, d_change: Tensor) -> Any:
        masks, leaves = _with_leaf_weights(ctx.reading.masks)
        reading = ctx.reading._replace(masks=masks)
        encoder, documents = reading.encoder, reading.documents
        parameters = reading.parameters()
        embedding = encoder.embedding.weight  # (vocab_size, emb_dim)
        inner = [*(p for p in parameters if p is not embedding), *leaves]
        d_squares = d_activation / (documents.n_kept * reading.width)  # ()
        d_steps = d_change / (documents.n_steps * reading.width)  # ()

        gradients: dict[int, Tensor] = {id(tensor): torch.zeros_like(tensor) for tensor in inner}
        by_word = _EmbeddingGradient(embedding, documents) if embedding.requires_grad else None
        state: State | None = ctx.resume
        for window in documents.windows(documents.first_window):
            rows = None if masks is None else masks.first_rows(len(window.ids))
            embedded = encoder.embed(window.ids, rows).detach()  # (n, time, emb_dim)
            with torch.enable_grad():
                embedded.requires_grad_(embedding.requires_grad)
                outputs, state = reading.run(embedded, window, state, rows)
                squares, steps = squared_activations(outputs, outputs, window.pooled, window.weight)  # ()
            d_outputs = ctx.pools.output_gradient(window, d_features)  # (n, time, width)
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
