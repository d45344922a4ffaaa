"""Training behaviour as skorch callbacks: unfreezing, learning rates, clipping, progress."""

from __future__ import annotations

import math
from typing import Any

import torch
from skorch.callbacks import Callback

from sk_ulmfit.nn.kernels import multiply_all_
from sk_ulmfit.training.schedules import one_cycle, slanted_triangular


class _Schedule(Callback):  # type: ignore[misc]
    """Set every group's rate before each training batch; groups keep their ratio to each other."""

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
    """Slanted triangular learning rates (Howard & Ruder 2018, section 3.2).

    Parameters
    ----------
    cut_frac : float, default=0.1
        Share of the steps in which the rate rises.
    ratio : float, default=32
        Largest rate over smallest.
    """

    def __init__(self, cut_frac: float = 0.1, ratio: float = 32.0):
        self.cut_frac = cut_frac
        self.ratio = ratio

    def set_group(self, group: dict[str, Any], rate: float, step: int, n_steps: int) -> None:
        """Set the rate of one optimiser group."""
        group["lr"] = rate * slanted_triangular(step, n_steps, self.cut_frac, self.ratio)


class OneCycleLR(_Schedule):
    """One-cycle learning rates and momentum, as in fastai 2's ``fit_one_cycle``.

    Parameters
    ----------
    pct_start : float, default=0.25
        Share of the steps in which the rate rises.
    """

    def __init__(self, pct_start: float = 0.25):
        self.pct_start = pct_start

    def set_group(self, group: dict[str, Any], rate: float, step: int, n_steps: int) -> None:
        """Set the rate and the first beta of one optimiser group."""
        factor, momentum = one_cycle(step, n_steps, self.pct_start)
        group["lr"] = rate * factor
        group["betas"] = (momentum, group["betas"][1])


class GradualUnfreezing(Callback):  # type: ignore[misc]
    """Train the head in the first epoch and one more layer group, from the top, in each that follows.

    Howard & Ruder 2018, section 3.3. The network names its groups itself (``layer_groups()``). What an epoch trains is
    written in the history as `trained_groups`, from the top: "head, embedding", then "head, layer 3, embedding".

    Parameters
    ----------
    embedding_from_start : bool, default=False
        Whether the embedding, the lowest group, is trained from the first epoch.
    """

    def __init__(self, embedding_from_start: bool = False):
        self.embedding_from_start = embedding_from_start

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Freeze what this epoch leaves alone."""
        embedding, *layers = net.module_.layer_groups()
        n_trained = len(net.history)
        names = ["head", *(f"layer {number}" for number in range(len(layers) - 1, 0, -1)), "embedding"]
        trained = []
        for depth, (name, group) in enumerate(zip(names, [*reversed(layers), embedding], strict=True)):
            is_trained = depth < n_trained or (self.embedding_from_start and group is embedding)
            for parameter in group:
                parameter.requires_grad_(is_trained)
            trained += [name] if is_trained else []
        net.history.record("trained_groups", ", ".join(trained))

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Leave nothing frozen."""
        for parameter in net.module_.parameters():
            parameter.requires_grad_(True)


class ClipGradient(Callback):  # type: ignore[misc]
    """Scale the gradient down where its norm, over all parameters, is larger than allowed.

    Parameters
    ----------
    max_norm : float
        Largest norm.
    """

    def __init__(self, max_norm: float):
        self.max_norm = max_norm

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        """Clip; sparse gradients count with the rows they hold."""
        gradients = []
        for _, parameter in named_parameters:
            if parameter.grad is None:
                continue
            if parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce()
                gradients.append(parameter.grad.values())
            else:
                gradients.append(parameter.grad)
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            multiply_all_(gradients, (self.max_norm / (norm + 1e-6)).clamp(max=1.0))


class StopWhenDiverged(Callback):  # type: ignore[misc]
    """End a training whose loss is no longer a number, before it can look finished."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Check the loss of the epoch."""
        loss = net.history[-1]["train_loss"]
        if not math.isfinite(loss):
            raise ValueError(
                f"Training diverged: the loss is {loss} in epoch {len(net.history)} of {net.max_epochs}. "
                f"Pass a learning rate below lr={net.lr:g}, or a gradient_clip."
            )


class Progress(Callback):  # type: ignore[misc]
    """A progress bar for one training stage, on stderr, with the time left.

    Parameters
    ----------
    stage : str
        What stands before the bar.
    """

    def __init__(self, stage: str):
        self.stage = stage

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Open the bar before the first batch, when the number of steps is known."""
        if getattr(self, "bar_", None) is None:
            from tqdm.auto import tqdm

            self.bar_ = tqdm(total=net.n_steps_, desc=self.stage, leave=True)

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Advance by a batch."""
        if training:
            self.bar_.update()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Show the losses of the epoch."""
        losses = {key: f"{net.history[-1][key]:.4f}" for key in ("train_loss", "valid_loss") if key in net.history[-1]}
        self.bar_.set_postfix(epoch=f"{len(net.history)}/{net.max_epochs}", **losses)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands, also after an interrupt."""
        if getattr(self, "bar_", None) is not None:
            self.bar_.close()
        self.bar_ = None
