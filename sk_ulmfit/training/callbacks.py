"""Callbacks of skorch: learning rates, gradual unfreezing, gradient clipping, divergence, progress."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from skorch.callbacks import Callback, EarlyStopping

from sk_ulmfit.models.state import reads_backward
from sk_ulmfit.nn.optimizer import clip_gradients
from sk_ulmfit.training.progress import named, new_bar
from sk_ulmfit.training.schedules import one_cycle, slanted_triangular
from sk_ulmfit.training.settings import ClassifierSettings, TrainingSettings


class _Schedule(Callback):  # type: ignore[misc]
    """Set the learning rate of every group before each training batch; their ratios stay the same."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.step_ = 0
        self.base_rates_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if not training:
            return
        for group, rate in zip(net.optimizer_.param_groups, self.base_rates_, strict=True):
            self.set_group(group, rate, self.step_, net.n_steps_)
        self.step_ += 1

    def set_group(self, group: dict[str, Any], rate: float, step: int, n_steps: int) -> None:
        raise NotImplementedError


class SlantedTriangularLR(_Schedule):
    """Slanted triangular learning rates (Howard & Ruder 2018, section 3.2); see `slanted_triangular`."""

    def __init__(self, cut_frac: float = 0.1, ratio: float = 32.0):
        self.cut_frac = cut_frac
        self.ratio = ratio

    def set_group(self, group: dict[str, Any], rate: float, step: int, n_steps: int) -> None:
        """Set the rate of one optimiser group."""
        group["lr"] = rate * slanted_triangular(step, n_steps, self.cut_frac, self.ratio)


class OneCycleLR(_Schedule):
    """One-cycle learning rates and momentum, as in fastai 2's ``fit_one_cycle``; see `one_cycle`."""

    def __init__(self, pct_start: float = 0.25):
        self.pct_start = pct_start

    def set_group(self, group: dict[str, Any], rate: float, step: int, n_steps: int) -> None:
        """Set the rate and the first beta of one optimiser group."""
        factor, momentum = one_cycle(step, n_steps, self.pct_start)
        group["lr"] = rate * factor
        group["betas"] = (momentum, group["betas"][1])


class GradualUnfreezing(Callback):  # type: ignore[misc]
    """Train the head in the first epoch, and one more layer group, from the top, in each epoch that follows.

    Howard & Ruder 2018, section 3.3. With `embedding_from_start` the embedding, which is the lowest group, is trained
    from the first epoch on. `trained_groups_` says what each epoch trains, from the top: "head, embedding", then "head,
    layer 3, embedding". It is not in the history of the net, of which loggers expect numbers.
    """

    def __init__(self, embedding_from_start: bool = False):
        self.embedding_from_start = embedding_from_start

    def initialize(self) -> GradualUnfreezing:
        """Forget an earlier training."""
        self.trained_groups_: dict[int, str] = {}
        return self

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Freeze the groups that are not trained in this epoch."""
        embedding, *layers = net.module_.layer_groups()
        n_trained = len(net.history)
        names = ["head", *(f"layer {number}" for number in range(len(layers) - 1, 0, -1)), "embedding"]
        trained = []
        for depth, (name, group) in enumerate(zip(names, [*reversed(layers), embedding], strict=True)):
            is_trained = depth < n_trained or (self.embedding_from_start and group is embedding)
            for parameter in group:
                parameter.requires_grad_(is_trained)
            trained += [name] if is_trained else []
        self.trained_groups_[n_trained - 1] = ", ".join(trained)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Unfreeze all parameters."""
        for parameter in net.module_.parameters():
            parameter.requires_grad_(True)


class ClipGradient(Callback):  # type: ignore[misc]
    """Scale the gradient down if its norm over all parameters is above `max_norm`."""

    def __init__(self, max_norm: float):
        self.max_norm = max_norm

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        """Clip the gradients, also sparse ones."""
        clip_gradients([parameter for _, parameter in named_parameters], self.max_norm)


class StopWhenDiverged(Callback):  # type: ignore[misc]
    """Raise ValueError if the training loss is no longer finite."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Check the loss of the epoch."""
        loss = net.history[-1]["train_loss"]
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss is {loss} in epoch {len(net.history)} of {net.max_epochs}. "
                f"Pass a learning rate below lr={net.lr:g}, or a gradient_clip."
            )


class Progress(Callback):  # type: ignore[misc]
    """A bar on stderr for one training, which counts what `unit` names."""

    def __init__(self, name: str, unit: str):
        self.name = name
        self.unit = unit

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Open the bar before the first batch; the number of units is known by then."""
        if getattr(self, "bar_", None) is None:
            self.bar_ = new_bar(self.name, net.n_units_, self.unit)

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Advance by the tokens of a batch, or by its rows if it holds features."""
        if training:
            x, y = batch
            self.bar_.update(int(x["lengths"].sum()) if "lengths" in x else len(y))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Show the losses of the epoch."""
        losses = {key: f"{net.history[-1][key]:.4f}" for key in ("train_loss", "valid_loss") if key in net.history[-1]}
        self.bar_.set_postfix(epoch=f"{len(net.history)}/{net.max_epochs}", **losses, refresh=False)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, also after an interrupt."""
        if getattr(self, "bar_", None) is not None:
            self.bar_.close()
        self.bar_ = None


EARLY_STOPPING = "sk_ulmfit_early_stopping"  # name of the callback, which is the last one
SCHEDULES = {"slanted_triangular": SlantedTriangularLR, "one_cycle": OneCycleLR}


def training_callbacks(
    stage: str, config: dict[str, Any], settings: TrainingSettings, max_steps: int | None
) -> list[tuple[str, Any]]:
    """Return the callbacks of a training by name; those of the user are called after them."""
    callbacks: list[Any] = []
    if max_steps is None:  # else the callbacks of the caller set the rates and judge the loss
        callbacks += [SCHEDULES[settings.schedule](), StopWhenDiverged()]
    if settings.gradient_clip is not None:
        callbacks.append(ClipGradient(settings.gradient_clip))
    if settings.verbose:
        head_only = isinstance(settings, ClassifierSettings) and settings.unfreezing == "head"
        callbacks.append(Progress(named(stage, reads_backward(config)), "texts" if head_only else "tokens"))
    if isinstance(settings, ClassifierSettings) and settings.unfreezing == "gradual" and max_steps is None:
        callbacks.append(GradualUnfreezing(settings.embedding_lr is not None))
    return [(f"sk_ulmfit_{type(callback).__name__}", callback) for callback in callbacks]


def history_of(net: Any) -> list[dict[str, Any]]:
    """Return the history of a trained net as plain dicts of JSON types, without its batches."""
    rows = [
        {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in row.items()
            if isinstance(value, (bool, int, float, str, np.generic))
        }
        for row in net.history
    ]
    for _, callback in net.callbacks_:
        if isinstance(callback, GradualUnfreezing):
            for epoch, groups in callback.trained_groups_.items():
                rows[epoch]["trained_groups"] = groups
    return rows


def early_stopping(settings: ClassifierSettings) -> list[tuple[str, Any]]:
    """Return the callback that stops early, to be called last: callbacks after it miss the epoch in which it stops."""
    if not settings.early_stopping:
        return []
    stopping = EarlyStopping(patience=settings.n_iter_no_change, threshold=0.0, load_best=True, sink=_say_nothing)
    return [(EARLY_STOPPING, stopping)]


def _say_nothing(message: str) -> None:
    pass
