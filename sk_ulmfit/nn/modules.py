"""The network: AWD-LSTM, the tied language-model decoder, and the head of the classifier.

Recurrent state, dropout masks and precision are passed and returned, not kept between calls. Lengths are respected
everywhere, so that a row's result never depends on the other rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sk_ulmfit.nn.int8 import Layer8, evaluate_layer_8bit
from sk_ulmfit.nn.kernels import change_count
from sk_ulmfit.nn.losses import IGNORED, linear_cross_entropy, squared_activations
from sk_ulmfit.nn.lstm import Layer16, Packing, evaluate_layer, train_layer
from sk_ulmfit.nn.pooled_layers import pooled_layers
from sk_ulmfit.nn.processes import Part
from sk_ulmfit.nn.sampled_softmax import draw_candidates
from sk_ulmfit.nn.vector import TextVector

State = list[tuple[Tensor, Tensor]]

# Dropout rates of fastai 2, each to be multiplied by `dropout_multiplier`.
LANGUAGE_MODEL_DROPOUT = {"input_p": 0.25, "hidden_p": 0.15, "weight_p": 0.2, "embed_p": 0.02, "output_p": 0.1}
CLASSIFIER_DROPOUT = {"input_p": 0.4, "hidden_p": 0.3, "weight_p": 0.5, "embed_p": 0.05, "output_p": 0.4}


class DropoutMasks(NamedTuple):
    """What one batch drops, in all of its windows; None where nothing is dropped."""

    embed: Tensor | None  # (vocab_size, 1): factor of each word's embedding, as whole words are dropped
    input: Tensor | None  # (batch, 1, emb_dim): variational mask on the embedded input
    hidden: list[Tensor | None]  # (batch, 1, hidden_dim) each: variational masks between layers
    recurrent: list[Tensor | None]  # (4 * width, width) each: hidden-to-hidden weights with entries dropped, no masks
    layers16: list[Layer16] | None = None  # in place of `recurrent` where the layers run in 16 bits on the CPU

    def first_rows(self, n: int) -> DropoutMasks:
        """Return the masks of the first `n` documents of the batch."""
        return self._replace(
            input=None if self.input is None else self.input[:n],
            hidden=[None if mask is None else mask[:n] for mask in self.hidden],
        )


def dropout_mask(like: Tensor, shape: Sequence[int], p: float) -> Tensor | None:
    """Draw a mask of 0 and 1 / (1 - p); None when p is 0."""
    if not p:
        return None
    return torch.empty(*shape, dtype=like.dtype, device=like.device).bernoulli_(1 - p).div_(max(1 - p, 1e-6))


def row_mask(like: Tensor, n_rows: int, width: int, p: float, part: Part | None = None) -> Tensor | None:
    """Draw a mask for each row of a batch, (n_rows, 1, width), or for those of the batch that they are a part of."""
    if part is None:
        return dropout_mask(like, (n_rows, 1, width), p)
    mask = dropout_mask(like, (part.n, 1, width), p)  # drawn for all rows, so that all processes draw the same
    return None if mask is None else part.of(mask)


class _LayerRun(NamedTuple):
    """A run of LSTM layers over a window of a batch; all but `returned` as in `AWDLSTM.forward`."""

    x: Tensor  # (batch, time, emb_dim): embedded input
    lengths: Tensor
    state: State
    masks: DropoutMasks | None
    precision: str
    returned: range  # the layers whose outputs are wanted; those up to the last of them run


class AWDLSTM(nn.Module):
    """AWD-LSTM encoder: embedding and stacked LSTM layers with four kinds of dropout.

    Merity et al. 2017, "Regularizing and Optimizing LSTM Language Models", sections 3 and 4, with the sizes of
    Howard & Ruder 2018. The last layer is as wide as the embedding, so that a decoder can be tied to it.

    Parameters
    ----------
    vocab_size : int
        Number of token ids.
    emb_dim : int, default=400
        Width of the embedding and of the output.
    hidden_dim : int, default=1152
        Width of the inner LSTM layers.
    n_layers : int, default=3
        Number of LSTM layers.
    input_p, hidden_p, weight_p, embed_p : float, default=0
        Dropout probabilities: on the embedded input, between layers, on hidden-to-hidden weights, and of whole words.

    Examples
    --------
    >>> import torch
    >>> from sk_ulmfit.nn.modules import AWDLSTM
    >>> encoder = AWDLSTM(vocab_size=24, emb_dim=6, hidden_dim=10, n_layers=2).eval()
    >>> outputs, state = encoder(torch.tensor([[2, 9, 8], [2, 7, 1]]), torch.tensor([3, 2]))
    >>> outputs.shape, len(state)
    (torch.Size([2, 3, 6]), 2)
    """

    def __init__(
        self,
        vocab_size: int,
        emb_dim: int = 400,
        hidden_dim: int = 1152,
        n_layers: int = 3,
        *,
        input_p: float = 0.0,
        hidden_p: float = 0.0,
        weight_p: float = 0.0,
        embed_p: float = 0.0,
    ):
        super().__init__()
        self.input_p, self.hidden_p, self.weight_p, self.embed_p = input_p, hidden_p, weight_p, embed_p
        sizes = [emb_dim, *[hidden_dim] * (n_layers - 1), emb_dim]
        self.embedding = nn.Embedding(vocab_size, emb_dim)
        self.rnns = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in itertools.pairwise(sizes))
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self._evaluated: dict[str, tuple[list[Any], Any]] = {}  # of each precision: what it was made of, the layers

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the embedding and of each LSTM layer, from the embedding up."""
        return [list(module.parameters()) for module in (self.embedding, *self.rnns)]

    def draw_masks(
        self,
        batch_size: int,
        precision: str = "float32",
        n_layers: int | None = None,
        part: Part | None = None,
    ) -> DropoutMasks | None:
        """Draw what one training batch drops, for layers that run in `precision`; None in evaluation mode.

        The masks are those of the first `n_layers` layers, None: of all. `part` says which batch the rows belong to, if
        there are more.
        """
        if not self.training:
            return None
        weight = self.embedding.weight
        layers: list[Any] = list(self.rnns)[:n_layers]
        in_16_bits = self._runs_in_16_bits_on_cpu(precision)
        drops = self.weight_p and not in_16_bits
        return DropoutMasks(
            embed=dropout_mask(weight, (weight.shape[0], 1), self.embed_p),
            input=row_mask(weight, batch_size, weight.shape[1], self.input_p, part),
            hidden=[row_mask(weight, batch_size, r.hidden_size, self.hidden_p, part) for r in layers[:-1]],
            recurrent=[F.dropout(r.weight_hh_l0, self.weight_p) if drops else None for r in layers],
            layers16=[_layer16(rnn, self.weight_p) for rnn in layers] if in_16_bits else None,
        )

    def _runs_in_16_bits_on_cpu(self, precision: str) -> bool:
        return precision == "bfloat16" and self.embedding.weight.device.type == "cpu"

    def _runs_in_8_bits(self, run: _LayerRun) -> bool:
        trained = run.x.requires_grad or any(p.requires_grad for p in self.parameters())
        wants_graph = torch.is_grad_enabled() and trained
        return run.precision == "int8" and not run.x.is_cuda and run.masks is None and not wants_graph

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        state: State | None = None,
        masks: DropoutMasks | None = None,
        precision: str = "float32",
    ) -> tuple[Tensor, State]:
        """Run the network over one window of a batch.

        Parameters
        ----------
        ids : Tensor of int64, shape (batch, time)
            Token ids, longest row first; those at or after a row's length are ignored.
        lengths : Tensor of int64, shape (batch,)
            Tokens of each row, from 1 to time, in falling order.
        state : list of (h, c), each of shape (1, batch, width), default=None
            State before the window, one pair per layer; None means zeros.
        masks : DropoutMasks, default=None
            What to drop, drawn for the same `precision`; None draws new ones in training mode.
        precision : {"float32", "bfloat16", "int8"}, default="float32"
            Arithmetic of the LSTM layers; weights, outputs and gradients are float32 in any case. 8 bits work on the
            CPU and without a graph; elsewhere "int8" means float32.

        Returns
        -------
        outputs : Tensor, shape (batch, time, emb_dim)
            Output of the last layer; zero at and after a row's length.
        state : list of (h, c), each of shape (1, n_whole, width)
            State of each layer after the window, of the rows as long as the first; the others have ended.

        Raises
        ------
        ValueError
            If the lengths do not fit `ids`, or do not fall.
        """
        if masks is None:
            masks = self.draw_masks(len(ids), precision)
        return self.run_layers(self.embed(ids, masks), lengths, state, masks, precision)

    def embed(self, ids: Tensor, masks: DropoutMasks | None) -> Tensor:
        """Look up the embedding of each id, (batch, time), and apply the word mask; the gradient is sparse."""
        embedded = F.embedding(ids, self.embedding.weight, sparse=True)  # (batch, time, emb_dim)
        if masks is not None and masks.embed is not None:
            embedded = embedded * F.embedding(ids, masks.embed)
        return embedded

    def run_layers(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None,
        masks: DropoutMasks | None,
        precision: str = "float32",
    ) -> tuple[Tensor, State]:
        """Run the LSTM layers over embedded input, (batch, time, emb_dim); the rest as in `forward`."""
        n = len(self.rnns)
        state = self._no_state(x, n) if state is None else state
        (outputs,), new_state = self._run(_LayerRun(x, lengths.cpu(), state, masks, precision, range(n - 1, n)))
        return outputs, new_state

    def run_lower_layers(
        self,
        x: Tensor,
        lengths: Tensor,
        state: State | None,
        masks: DropoutMasks | None,
        precision: str,
        n_layers: int,
    ) -> tuple[list[Tensor], State]:
        """Run the first `n_layers` layers like `run_layers`; return the outputs of each, (batch, time, width).

        The outputs are those before the dropout between layers. `state`, `masks` and the new state are those of the
        layers that run.
        """
        state = self._no_state(x, n_layers) if state is None else state
        return self._run(_LayerRun(x, lengths.cpu(), state, masks, precision, range(n_layers)))

    def _no_state(self, x: Tensor, n_layers: int) -> State:
        return [(z := x.new_zeros(1, len(x), rnn.hidden_size), z) for rnn in self._first_layers(n_layers)]

    def _first_layers(self, n: int) -> list[Any]:
        return list(self.rnns)[:n]

    def _run(self, run: _LayerRun) -> tuple[list[Tensor], State]:
        """Return the outputs that are wanted, (batch, time, width) each, and the new state of the layers that run."""
        (batch, time), lengths = run.x.shape[:2], run.lengths
        if len(lengths) != batch or int(lengths.min()) < 1 or int(lengths.max()) > time:
            raise ValueError(f"lengths must be {batch} numbers from 1 to {time}, got {lengths.tolist()}.")
        if (lengths[1:] > lengths[:-1]).any():
            raise ValueError(f"lengths must fall: put the longest row first. Got {lengths.tolist()}.")
        if run.masks is not None and run.masks.input is not None:
            run = run._replace(x=run.x * run.masks.input)
        ours = self._runs_in_16_bits_on_cpu(run.precision) or self._runs_in_8_bits(run)
        return self._run_packed(run) if ours else self._run_padded(run)

    def _run_padded(self, run: _LayerRun) -> tuple[list[Tensor], State]:
        """Run torch's own layers: oneDNN in 32 bits on the CPU, cuDNN in 32 or 16 bits on the GPU.

        Short rows run on over their padding, which does not change their results: the fused kernels of the CPU, which
        take no packed rows, save more than that costs.
        """
        x, lengths, masks, returned = run.x, run.lengths, run.masks, run.returned
        time, longest = x.shape[1], int(lengths[0])
        dtype = torch.bfloat16 if run.precision == "bfloat16" else x.dtype
        n_whole = int((lengths == longest).sum())
        outputs: list[Tensor] = []
        new_state: State = []
        x = x[:, :longest]  # (batch, longest, emb_dim)
        for layer, rnn in enumerate(self._first_layers(returned.stop)):
            if layer and masks is not None and (mask := masks.hidden[layer - 1]) is not None:
                x = x * mask  # (batch, longest, n_in)
            weight = None if masks is None else masks.recurrent[layer]
            weights = {} if weight is None else {"weight_hh_l0": weight}
            if x.is_cuda and (weights or dtype != torch.float32):
                weights = _in_one_buffer(rnn, weight, dtype)
            args = (x.to(dtype), tuple(part.to(dtype) for part in run.state[layer]))
            x, (h, c) = (
                torch.func.functional_call(rnn, weights, args) if weights else rnn(*args)
            )  # (batch, longest, width), (1, batch, width)
            new_state.append((h[:, :n_whole], c[:, :n_whole]))
            outputs += [x] if layer in returned else []
        outputs = [part.to(self.embedding.weight.dtype) for part in outputs]
        if n_whole < len(x):
            real = torch.arange(longest) < lengths[:, None]  # (batch, longest)
            real = real[:, :, None].to(x.device, non_blocking=True)
            outputs = [part * real for part in outputs]
        return [_pad_to(part, time) for part in outputs], new_state

    def _run_packed(self, run: _LayerRun) -> tuple[list[Tensor], State]:
        """Run our own layers: 16 or 8 bits on the CPU."""
        x, masks, state, n_layers = run.x, run.masks, run.state, run.returned.stop
        packing = Packing(run.lengths)
        layers = self._evaluation_layers(run.precision, n_layers) if masks is None else masks.layers16
        packed = packing.pack(x)  # (tokens, emb_dim)
        outputs: list[Tensor] = []
        new_state: State = []
        for depth, (layer, rnn) in enumerate(zip(cast(Any, layers), self._first_layers(n_layers), strict=False)):
            if depth and masks is not None and (mask := masks.hidden[depth - 1]) is not None:
                packed = packing.scale(packed, mask)  # (tokens, n_in)
            before = (state[depth][0][0], state[depth][1][0])  # (batch, width)
            parameters = _parameters(rnn)
            if isinstance(layer, Layer8):  # (tokens, width), (n_whole, width) each way
                packed, (h, c) = evaluate_layer_8bit(layer, packed, before, packing)
            elif torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (packed, *parameters)):
                packed, (h, c) = train_layer(layer, packed, before, packing, parameters)
            else:
                packed, (h, c) = evaluate_layer(layer, packed, before, packing)
            new_state.append((h[None], c[None]))
            outputs += [packed] if depth in run.returned else []
        return [_pad_to(packing.unpack(part.to(x.dtype)), x.shape[1]) for part in outputs], new_state

    def _evaluation_layers(self, precision: str, n_layers: int) -> list[Any]:
        """Return the weights of the first layers in 16 or 8 bits, made once until the weights change.

        Layers above that never run are not made. Threads may ask for different precisions at once: each has an entry of
        its own, which is replaced as a whole.
        """
        key = [(t.data_ptr(), change_count(t)) for t in self.parameters()]
        made_of, layers = self._evaluated.get(precision, (None, []))
        if self.training or made_of != key:
            layers = []
        if len(layers) < n_layers:
            make: Callable[[Any], Any] = _layer16 if precision == "bfloat16" else self._layer8
            layers = [*layers, *map(make, self._first_layers(n_layers)[len(layers) :])]
            self._evaluated[precision] = (key, layers)
        return layers[:n_layers]

    def train(self, mode: bool = True) -> AWDLSTM:
        """Set the mode, and drop the 16- and 8-bit weights: fused optimisers change weights without a trace."""
        self._evaluated = {}
        return super().train(mode)

    def _layer8(self, rnn: Any) -> Layer8:
        largest = self.embedding.weight.detach().abs().max().item() if rnn is self.rnns[0] else 1.0
        return Layer8(*_parameters(rnn), largest_input=largest, largest_hidden=1.0)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_evaluated": {}}


def _pad_to(x: Tensor, time: int) -> Tensor:
    """Pad (batch, longest, width) with zeros to (batch, time, width)."""
    return x if x.shape[1] == time else F.pad(x, (0, 0, 0, time - x.shape[1]))


def _parameters(rnn: Any, recurrent: Tensor | None = None) -> list[Tensor]:
    """Return a layer's weights in torch's order; `recurrent`, if any, replaces the hidden-to-hidden matrix."""
    w_hh = rnn.weight_hh_l0 if recurrent is None else recurrent
    return [rnn.weight_ih_l0, w_hh, rnn.bias_ih_l0, rnn.bias_hh_l0]


def _layer16(rnn: Any, weight_p: float = 0.0) -> Layer16:
    return Layer16(*_parameters(rnn), weight_p=weight_p)


def _in_one_buffer(rnn: Any, recurrent: Tensor | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a layer's weights next to each other in memory; cuDNN would copy them at every call otherwise."""
    weights = _parameters(rnn, recurrent)
    flat = torch.cat([weight.reshape(-1) for weight in weights]).to(dtype)  # (n_weights,)
    parts = flat.split([weight.numel() for weight in weights])
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return {name: part.view(weight.shape) for name, part, weight in zip(names, parts, weights, strict=True)}


def detach(state: State) -> State:
    """Cut a state off the graph that computed it."""
    return [(h.detach(), c.detach()) for h, c in state]


class LanguageModel(nn.Module):
    """An AWD-LSTM whose decoder is tied to its embedding, with a bias; `output_p` is variational dropout before it.

    With a `vector` it also computes vectors of texts (`read_texts`), which the loss of the next word does not train.
    """

    def __init__(self, encoder: AWDLSTM, output_p: float = 0.0, vector: TextVector | None = None):
        super().__init__()
        self.encoder = encoder
        self.output_p = output_p
        self.vector = vector
        self.decoder_bias = nn.Parameter(torch.zeros(encoder.embedding.num_embeddings))

    @property
    def decoder_weight(self) -> Tensor:
        """The embedding matrix, (vocab_size, emb_dim), which is also the decoder's."""
        return self.encoder.embedding.weight

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters of the LSTM layers from the first up, then of embedding, decoder and vector."""
        embedding, *rnns = self.encoder.layer_groups()
        vector = [] if self.vector is None else list(self.vector.parameters())
        return [*rnns, [*embedding, self.decoder_bias, *vector]]

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor,
        state: State | None = None,
        precision: str = "float32",
        part: Part | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Return the decoder's input with and without dropout, (batch, time, emb_dim) each, and the new state.

        `part` says of which batch the rows are a part, if they are one.
        """
        masks = self.encoder.draw_masks(len(ids), precision, part=part)
        raw, state = self.encoder(ids, lengths, state, masks, precision)  # (batch, time, emb_dim)
        return self._drop(raw, part), raw, state

    def _drop(self, raw: Tensor, part: Part | None) -> Tensor:
        if self.training and (mask := row_mask(raw, len(raw), raw.shape[2], self.output_p, part)) is not None:
            return raw * mask
        return raw

    def read_texts(
        self, ids: Tensor, lengths: Tensor, precision: str = "float32", part: Part | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read whole texts, (batch, time), from an empty state; the model must have a `vector`.

        Return the decoder's input with and without dropout, (batch, time, emb_dim) each, and the vectors of the
        texts, (batch, dim), over all of their tokens. `lengths` as in `AWDLSTM.forward`, `part` as in `forward`.
        """
        vector = cast(TextVector, self.vector)
        masks = self.encoder.draw_masks(len(ids), precision, part=part)
        embedded = self.encoder.embed(ids, masks)  # (batch, time, emb_dim)
        n_layers = len(self.encoder.rnns)
        outputs, _ = self.encoder.run_lower_layers(embedded, lengths, None, masks, precision, n_layers)
        n = lengths.to(ids.device)[:, None]  # (batch, 1)
        real = torch.arange(ids.shape[1], device=ids.device) < n  # (batch, time)
        means = torch.cat(pooled_layers(outputs), 2).sum(1) / n  # (batch, width): outputs are zero at padding
        kept = None if masks is None else masks.embed
        vectors = vector.of_texts(means, ids, real, self.encoder.embedding.weight, kept)  # (batch, dim)
        return self._drop(outputs[-1], part), outputs[-1], vectors

    def cross_entropy(
        self,
        dropped: Tensor,
        targets: Tensor,
        precision: str = "float32",
        sampled_words: int | None = None,
        of_batch: Tensor | None = None,
    ) -> Tensor:
        """Return the mean cross-entropy in nats of the decoder's input, (..., emb_dim).

        `targets`, (...), are the ids of the words that follow each position; -100 leaves a position out. With
        `sampled_words`, the word is predicted among so many candidates, drawn anew, if the vocabulary is larger.

        If the positions are a part of a batch, `of_batch` are the targets of all of it, and the result is the part's
        share of the mean over the batch.
        """
        hidden, targets = dropped.flatten(0, -2), targets.flatten()  # (n, emb_dim), (n,)
        of_batch = targets if of_batch is None else of_batch.flatten()  # (n_all,)
        n_counted = (of_batch != IGNORED).sum()  # ()
        if sampled_words is None or sampled_words >= len(self.decoder_bias):
            return linear_cross_entropy(hidden, self.decoder_weight, self.decoder_bias, targets, precision, n_counted)
        drawn = draw_candidates(targets, len(self.decoder_bias), sampled_words, sampled_words // 2, of_batch)
        weight = F.embedding(drawn.words, self.decoder_weight, sparse=True)  # (n_candidates, emb_dim)
        bias = self.decoder_bias[drawn.words] + drawn.log_weight  # (n_candidates,)
        return linear_cross_entropy(hidden, weight, bias, drawn.targets, precision, n_counted)

    def penalties(
        self,
        dropped: Tensor,
        raw: Tensor,
        targets: Tensor,
        alpha: float,
        beta: float,
        of_batch: Tensor | None = None,
    ) -> Tensor | float:
        """Return `alpha` times AR plus `beta` times TAR (Merity et al. 2017, section 4.6) of what `forward` returns.

        `of_batch` as in `cross_entropy`, (all rows, time).
        """
        if not (alpha or beta):
            return 0.0
        squares, steps = squared_activations(dropped, raw, targets != IGNORED)  # ()
        width = raw.shape[2]
        counted = (targets if of_batch is None else of_batch) != IGNORED  # (batch, time)
        n_pairs = (counted[:, 1:] & counted[:, :-1]).sum().clamp(min=1)  # ()
        return alpha * squares / (counted.sum().clamp(min=1) * width) + beta * steps / (n_pairs * width)


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that also works for a batch of one and after few steps.

    A batch of one has no variance, so it is normalised by the running statistics. These start as the plain mean of
    their initial values (0 and 1) and the first batches, and then become a moving average.
    """

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise x, (batch, n_features); `weight`, (batch,), tells how much each row counts in the statistics."""
        if not self.training or len(x) < 2:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        part = None if weight is None else (weight / weight.sum())[:, None]  # (batch, 1)
        counter, mean, variance = (
            cast(Tensor, b) for b in (self.num_batches_tracked, self.running_mean, self.running_var)
        )
        with torch.no_grad():  # the share stays on the device: reading it would make a GPU wait
            counter += 1
            share = (1 / (counter + 1)).clamp(min=0.1).to(x.dtype)  # ()
            if part is None:
                batch_variance, batch_mean = torch.var_mean(x, 0)  # (n_features,)
            else:  # unbiased if the weights are reliabilities
                batch_mean = (part * x).sum(0)  # (n_features,)
                batch_variance = (part * (x - batch_mean).square()).sum(0) / (1 - part.square().sum()).clamp(min=0.1)
            mean.lerp_(batch_mean, share)
            variance.lerp_(batch_variance, share)
        if part is None:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        centred = x - (part * x).sum(0)  # (batch, n_features)
        return centred * ((part * centred.square()).sum(0) + self.eps).rsqrt() * self.weight + self.bias


class ConcatPoolingHead(nn.Sequential):
    """From pooled features [last; max; mean] to one logit per label (Howard & Ruder 2018, section 3.3).

    `n_features` is three times the width of the encoder's output; `output_p` and `hidden_p` are the probabilities of
    the two dropouts. There is no sigmoid at the end.
    """

    def __init__(
        self, n_features: int, n_labels: int, output_p: float = 0.0, hidden_p: float = 0.1, hidden_dim: int = 50
    ):
        super().__init__(
            BatchNorm(n_features),
            nn.Dropout(output_p),
            nn.Linear(n_features, hidden_dim),
            nn.ReLU(),
            BatchNorm(hidden_dim),
            nn.Dropout(hidden_p),
            nn.Linear(hidden_dim, n_labels),
        )

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, n_labels), of x, (batch, n_features); `weight` as in `BatchNorm`."""
        for layer in self:
            x = layer(x, weight) if isinstance(layer, BatchNorm) else layer(x)  # (batch, width of the layer)
        return x

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return all parameters as one group."""
        return [list(self.parameters())]

    def start_at(self, outputs: Any) -> None:
        """Set the last bias to `outputs`, (n_outputs,), which the first ones are near."""
        last: Any = self[-1]
        last.bias.data.copy_(torch.as_tensor(outputs))


class LinearHead(nn.Linear):
    """From the vector of a text to one logit per label; `output_p` is the probability of dropout on the vector."""

    def __init__(self, n_features: int, n_labels: int, output_p: float = 0.0):
        super().__init__(n_features, n_labels)
        self.output_p = output_p

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, n_labels), of x, (batch, n_features); `weight` changes nothing."""
        return super().forward(F.dropout(x, self.output_p, self.training))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return all parameters as one group."""
        return [list(self.parameters())]

    def start_at(self, outputs: Any) -> None:
        """Set the bias to `outputs`, (n_outputs,), which the first ones are near."""
        self.bias.data.copy_(torch.as_tensor(outputs))
