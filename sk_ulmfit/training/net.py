"""The skorch nets: loss, optimiser groups and batches of each training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.dataset import get_len
from skorch.utils import to_tensor
from torch import Tensor, nn

from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.nn.losses import MultiLabelLoss
from sk_ulmfit.nn.modules import State, detach
from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.nn.processes import current
from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import DocumentBatches, FeatureBatches, StreamBatches
from sk_ulmfit.training.callbacks import EARLY_STOPPING, Progress
from sk_ulmfit.training.joint_loss import joint_loss, taught_parameters
from sk_ulmfit.training.settings import TrainingSettings
from sk_ulmfit.training.teaching import TaughtPassages


class _LayeredNet(NeuralNet):  # type: ignore[misc]
    """A net with one optimiser group per layer, with discriminative learning rates (Howard & Ruder 2018, section 3.2).

    The rate of each group is that of the group above divided by `lr_decay`. The module names its groups
    (``layer_groups()``). `max_steps` ends the training after so many batches, instead of `max_epochs`.

    If processes share the training, batches are the same in all of them, and each reads its rows where the net
    `shares_batches`.
    """

    shares_batches = True

    def __init__(
        self,
        module: Any,
        criterion: Any,
        *,
        lr_decay: float,
        seed: int,
        pad_id: int,
        max_steps: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(module, criterion, **kwargs)
        self.lr_decay = lr_decay
        self.seed = seed
        self.pad_id = pad_id
        self.max_steps = max_steps

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [(name, callback) for name, callback in super()._default_callbacks if name != "print_log"]

    def _yield_callbacks(self) -> Iterator[Any]:
        """Yield all callbacks; that which stops early ends an epoch, so even a table is printed before."""
        callbacks = list(super()._yield_callbacks())
        yield from (callback for callback in callbacks if callback[0] != EARLY_STOPPING)
        yield from (callback for callback in callbacks if callback[0] == EARLY_STOPPING)

    def initialize_optimizer(self, triggered_directly: Any = None) -> _LayeredNet:
        _, kwargs = self.get_params_for_optimizer("optimizer", [])
        kwargs.pop("lr", None)
        self.optimizer_ = self.optimizer(self.parameter_groups(), **kwargs)
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters of each optimiser group, with their learning rate."""
        groups = self.module_.layer_groups()
        levels = self.levels_below_top(len(groups))
        return [{"params": group, "lr": self._rate(level)} for group, level in zip(groups, levels, strict=True)]

    def _rate(self, level: int) -> float:
        """Return the learning rate of a group so many levels below the top; 0 if the decay leaves nothing."""
        try:
            return float(self.lr / self.lr_decay**level)
        except OverflowError:
            return 0.0

    def levels_below_top(self, n_groups: int) -> list[int]:
        """Return how many times the rate of each group is divided by `lr_decay`."""
        return list(reversed(range(n_groups)))

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        iterator = self.make_batches(dataset, self.seed if training else None)
        if training:
            self.training_batches_ = iterator
            self.n_steps_ = iterator.n_batches(self.max_epochs)
            self.n_units_ = iterator.n_units(self.max_epochs)  # of progress: tokens, or rows of features
        return iterator

    def make_batches(self, dataset: Any, seed: int | None) -> Any:
        raise NotImplementedError

    def first_steps(self, batches: Any) -> Iterator[Any]:
        """Yield `max_steps` batches, from as many passes as that takes; a callback may lower `max_steps` meanwhile."""
        done = 0
        while True:
            self.on_pass_begin()
            for batch in batches:
                if done >= cast(int, self.max_steps):
                    return
                yield batch
                done += 1

    def on_pass_begin(self) -> None:
        """Prepare for a pass over all batches."""

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        """Compute the loss of a batch and its gradients, which are added up if processes share the batch."""
        step = super().train_step_single(batch, **fit_params)
        if self.shares_batches:
            (step["loss"],) = current().add_up(list(self.module_.parameters()), [step["loss"]])
        return step

    def run_single_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any) -> None:
        """Run over all batches, or `max_steps` of them.

        On a GPU the losses are read at the end of the epoch, so that no step waits for one.
        """
        self._run_epoch(iterator, training, prefix, step_fn, **fit_params)
        if iterator is not None and not training:  # rounding on another machine must not end the training of one alone
            rows = self.history[-1].get("batches", [])
            losses = current().from_first(lambda: [row.get(f"{prefix}_loss") for row in rows])
            for row, loss in zip(rows, losses, strict=True):
                row[f"{prefix}_loss"] = loss

    def _run_epoch(self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any) -> None:
        if training and self.max_steps is not None:
            iterator = self.first_steps(iterator)
        else:
            self.on_pass_begin()
        if iterator is None or not str(self.device).startswith("cuda"):
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        losses = []
        for batch in _one_ahead(iterator, self.device):
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            self.history.record_batch(f"{prefix}_loss", losses[-1])
            self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        rows = self.history[-1]["batches"][-len(losses) :]
        for row, loss in zip(rows, torch.stack(losses).tolist(), strict=True):
            row[f"{prefix}_loss"] = loss
        self.history.record(f"{prefix}_batch_count", len(losses))


def _one_ahead(batches: Any, device: str) -> Iterator[Any]:
    """Copy each batch to the GPU while the one before is computed; lengths stay on the CPU."""

    def copy(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: item if name == "lengths" else copy(item) for name, item in value.items()}
        return value.pin_memory().to(device, non_blocking=True)

    waiting = None
    for batch in batches:
        ready, waiting = waiting, tuple(copy(part) for part in batch)
        if ready is not None:
            yield ready
    if waiting is not None:
        yield waiting


class _WeightedNet(_LayeredNet):
    """A net whose batches may have a weight for each document.

    `threshold`, one or one for each label, turns probabilities into decisions; None if outputs are values.
    """

    def __init__(self, module: Any, *, threshold: Any = 0.5, **kwargs: Any):
        kwargs.setdefault("criterion", MultiLabelLoss)
        kwargs.setdefault("predict_nonlinearity", torch.sigmoid)
        super().__init__(module, **kwargs)
        self.threshold = threshold

    def predict(self, X: Any) -> NDArray[Any]:
        """Decide on the labels of each document by what the network alone predicts, or predict values, (n, K)."""
        predicted = self.predict_proba(X)
        if self.threshold is None:
            return np.asarray(predicted)
        return (predicted >= np.asarray(self.threshold, np.float32)).astype(np.int64)

    def get_loss(self, y_pred: Any, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:
        """Compute the binary cross-entropy of logits; without weights every entry of `y_true` must be known."""
        return self.criterion_(y_pred, to_tensor(y_true, device=self.device), self.weight_of(X))

    def weight_of(self, x: Any) -> Tensor | None:
        """Return the weights of the documents of a batch, or None."""
        weight = x.get("weight") if isinstance(x, dict) else None
        return None if weight is None else to_tensor(weight, device=self.device)


class MultiLabelNet(_WeightedNet):
    """Net of the classifier: BCE on logits plus the AR and TAR penalties (Merity et al. 2017, section 4.6).

    `max_tokens` limits the positions of a batch, padding included. `alpha` and `beta` are the weights of the penalties.
    `embedding_lr` is the learning rate of the embedding, the lowest group; None leaves it to `lr_decay`. `precision`
    is the arithmetic of training and validation; ``forward`` and ``predict_proba`` use float32.
    """

    module_: TextClassifier

    def __init__(
        self,
        module: Any,
        *,
        max_tokens: int,
        alpha: float,
        beta: float,
        embedding_lr: float | None = None,
        precision: str = "float32",
        **kwargs: Any,
    ):
        super().__init__(module, **kwargs)
        self.max_tokens = max_tokens
        self.alpha = alpha
        self.beta = beta
        self.embedding_lr = embedding_lr
        self.precision = precision

    def initialize_optimizer(self, triggered_directly: Any = None) -> MultiLabelNet:
        """Make the optimiser; the embedding may have its own rate."""
        super().initialize_optimizer(triggered_directly)
        if self.embedding_lr is not None:
            self.optimizer_.param_groups[0]["lr"] = self.embedding_lr
        return self

    def levels_below_top(self, n_groups: int) -> list[int]:
        """Count the last layer too where it does not run: the rates of those below it were chosen so."""
        *below, top = super().levels_below_top(n_groups)
        n_idle = len(self.module_.encoder.rnns) - self.module_.n_layers
        return [*(level + n_idle for level in below), top]

    def __setstate__(self, state: dict[str, Any]) -> None:
        with torch.inference_mode(False):  # a net that is unpickled there is of use elsewhere too
            super().__setstate__(state)

    def make_batches(self, dataset: Any, seed: int | None) -> DocumentBatches:
        """Return length-bucketed batches."""
        return DocumentBatches(dataset, self.batch_size, self.max_tokens, self.pad_id, seed)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the network; lengths stay on the CPU, where they control the loop over windows."""
        ids = to_tensor(x["ids"], device=self.device)
        return self.module_(ids, x["lengths"], self.weight_of(x), self.precision, current())

    def get_loss(self, y_pred: Any, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:
        """Compute the BCE, and in training the penalties.

        BCE is a mean over labels, but the penalties were designed for a loss per document. Dividing them by the number
        of labels makes their strength independent of it.
        """
        if not isinstance(y_pred, tuple):
            return super().get_loss(y_pred, y_true, X, training)
        logits, activation, change = y_pred
        loss = super().get_loss(logits, y_true, X, training) / current().size  # all processes compute it
        return loss + (self.alpha * activation + self.beta * change) / logits.shape[1]

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Tensor]:
        """Yield the logits of all documents at once, without dropout; `training` is ignored."""
        yield self.logits(self.get_dataset(X).chosen()).to(device)

    def logits(self, corpus: TokenIds, precision: str = "float32", advance: Advance | None = None) -> Tensor:
        """Return the logits of all documents, shape (n_documents, n_labels), computed without dropout."""
        module = self.module_
        if module.training:  # `eval` drops the 16- and 8-bit weights, and a short text takes less time than these
            module.eval()
        return pooled_features(
            module.encoder,
            corpus.ids,
            corpus.offsets,
            module.max_length,
            module.head,
            precision=precision,
            vector=module.vector,
            advance=advance,
        )


class HeadNet(_WeightedNet):
    """Net of the head alone: BCE on its logits for pooled features; there is nothing to penalise.

    A step takes less time than it would take to share it.
    """

    shares_batches = False

    def __init__(self, module: Any, *, alpha: float = 0.0, beta: float = 0.0, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.alpha, self.beta = alpha, beta

    def make_batches(self, dataset: Any, seed: int | None) -> FeatureBatches:
        """Return batches of one size."""
        return FeatureBatches(dataset, self.batch_size, seed)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the head."""
        return self.module_(to_tensor(x["features"], device=self.device), self.weight_of(x))


class LanguageModelNet(_LayeredNet):
    """Net of the language model: cross-entropy over a stream, with the state carried from batch to batch.

    `bptt` is the number of tokens per window, `alpha` and `beta` are the weights of the AR and TAR penalties (Merity et
    al. 2017, section 4.6). `precision` is the arithmetic of the LSTM layers and of the decoder.
    """

    def __init__(self, module: Any, *, bptt: int, alpha: float, beta: float, precision: str = "float32", **kwargs: Any):
        kwargs.setdefault("criterion", nn.CrossEntropyLoss)
        super().__init__(module, **kwargs)
        self.bptt = bptt
        self.alpha = alpha
        self.beta = beta
        self.precision = precision

    def make_batches(self, dataset: Any, seed: int | None) -> StreamBatches:
        """Return windows of parallel streams."""
        return StreamBatches(dataset, self.batch_size, self.bptt, self.pad_id, seed)

    def on_pass_begin(self) -> None:
        """Start every pass over a stream with an empty state."""
        self.state_: State | None = None

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run a window from the state after the previous one."""
        part = current().part(len(x["ids"]))
        ids = part.of(to_tensor(x["ids"], device=self.device))
        dropped, raw, state = self.module_(ids, part.of(x["lengths"]), self.state_, self.precision, part)
        self.state_ = detach(state)
        return dropped, raw

    def get_loss(self, y_pred: Any, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:
        """Compute the cross-entropy per token, and in training the penalties."""
        targets = to_tensor(y_true, device=self.device)
        own = current().part(len(targets)).targets(targets)
        loss = self.module_.cross_entropy(y_pred[0], own, self.precision, of_batch=targets)
        return loss + self.module_.penalties(*y_pred, own, self.alpha, self.beta, targets) if training else loss


class TaughtLanguageModelNet(LanguageModelNet):
    """Net of a language model that also learns from a teacher, as in pre-training: see `joint_loss`.

    `passages` have their targets, `teacher_weight` is the weight of the distance to these.
    """

    def __init__(self, module: Any, *, passages: TaughtPassages, teacher_weight: float, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.passages = passages
        self.teacher_weight = teacher_weight

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the layers, then words and pooling, whose rates are parts of that of the top group."""
        taught = taught_parameters(self.module_)
        ids = {id(parameter) for parameters, _ in taught for parameter in parameters}
        groups = super().parameter_groups()
        for group in groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in ids]
        return [*groups, *({"params": parameters, "lr": self.lr * factor} for parameters, factor in taught)]

    def make_batches(self, dataset: Any, seed: int | None) -> Any:
        """Return windows of parallel streams, each with a batch of passages."""
        return self.passages.beside(super().make_batches(dataset, seed))

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Compute the cross-entropy per token, the penalties, and the distance to the teacher."""
        words, ids, wanted = (
            to_tensor(value, device=self.device)
            for value in (y_true["words"], y_true["passages"]["ids"], y_true["vectors"])
        )
        passages = (ids, y_true["passages"]["lengths"], wanted)
        processes = current()
        loss, distance = joint_loss(self.module_, (y_pred[0], words), passages, self.precision, processes=processes)
        own = processes.part(len(words)).targets(words)
        penalties = self.module_.penalties(*y_pred, own, self.alpha, self.beta, words)
        return loss + (penalties + self.teacher_weight * distance)


def net_arguments(settings: TrainingSettings) -> dict[str, Any]:
    """Return the arguments of skorch that all nets share."""
    return {
        "lr": settings.lr,
        "lr_decay": settings.lr_decay,
        "alpha": settings.alpha,
        "beta": settings.beta,
        "max_epochs": settings.max_epochs,
        "seed": settings.seed,
        "device": settings.device,
        "optimizer": RowAdamW,
        "optimizer__betas": (0.7, 0.99),
        "optimizer__weight_decay": 0.01,
        "optimizer__fused": True,
        "train_split": None,
        "verbose": 0,
    }


def fit_net(net: Any, dataset: Any) -> Any:
    """Train a net like ``net.fit``, but re-raise KeyboardInterrupt, which skorch swallows.

    skorch ends quietly on KeyboardInterrupt, since its EarlyStopping raises one; a half-trained net would then look
    finished.
    """
    net.initialize()
    current().make_equal(net.module_)
    net.notify("on_train_begin", X=dataset, y=None)
    try:
        net.fit_loop(dataset)
    except KeyboardInterrupt:
        if not _stopped_early(net):
            raise
    finally:
        for _, callback in net.callbacks_:
            if isinstance(callback, Progress):
                callback.close()
    net.notify("on_train_end", X=dataset, y=None)
    return net


def _stopped_early(net: Any) -> bool:
    return any(isinstance(cb, EarlyStopping) and cb.misses_ == cb.patience for _, cb in net.callbacks_)
