"""One training step, and everything that the next step depends on.

The randomness of a step depends only on the seed and the number of the step, so that a run resumes exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_ulmfit.models.assembly import build_language_model
from sk_ulmfit.nn.device import reseed
from sk_ulmfit.nn.modules import State, detach
from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.nn.precision import training_precision, widest_layer
from sk_ulmfit.pretraining.settings import PretrainingError, PretrainingSettings
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.batching import Batch, StreamBatches
from sk_ulmfit.training.schedules import one_cycle

WARM_UP = 0.1  # share of the training during which the learning rate rises
AVERAGED_STEPS = 50  # the loss shown is the mean over this many steps


class Trainer:
    """The language model of a run, its optimizer and its progress."""

    def __init__(
        self,
        config: dict[str, Any],
        vocabulary: Vocabulary,
        batches: StreamBatches,
        settings: PretrainingSettings,
        device: str,
    ):
        self.config, self.batches, self.settings, self.device = config, batches, settings, device
        self.steps_per_epoch = batches.n_batches(1)
        self.n_steps = None if settings.epochs is None else max(1, round(settings.epochs * self.steps_per_epoch))
        self.step, self.elapsed, self.n_tokens = 0, 0.0, 0
        self.losses: deque[Tensor] = deque(maxlen=AVERAGED_STEPS)
        self.hidden_state: State | None = None
        self.module = build_language_model(config, len(vocabulary), settings.dropout_multiplier)
        self.module.to(device).train()
        self.optimizer = RowAdamW(
            self.module.parameters(), lr=settings.lr, betas=(0.8, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        self.precision = training_precision(settings.precision, device, widest_layer(config))

    @property
    def share_done(self) -> float:
        """Share of the training that is done: of its steps, or of its hours."""
        if self.n_steps is not None:
            return self.step / self.n_steps
        assert self.settings.hours is not None
        return self.elapsed / (self.settings.hours * 3600)

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.share_done >= 1

    def remaining_batches(self) -> Iterator[Batch]:
        """Yield the windows from the current step on, epoch after epoch, without end."""
        epoch, first = divmod(self.step, self.steps_per_epoch)
        while True:
            yield from self.batches.windows(epoch, first)
            epoch, first = epoch + 1, 0

    def do_step(self, batch: Batch) -> None:
        """Train on the windows of one step."""
        x, targets = batch
        if self.step % self.steps_per_epoch == 0:  # a new epoch starts with an empty state
            self.hidden_state = None
        self._seed_step()
        self._set_learning_rate()
        ids, targets = self._to_device(x["ids"], targets)
        self.losses.append(self._update_weights(ids, x["lengths"], targets))
        self.step += 1
        self.n_tokens += targets.numel()

    def _seed_step(self) -> None:
        sequence = np.random.SeedSequence([self.settings.seed, self.step])
        reseed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def _set_learning_rate(self) -> None:
        factor, momentum = one_cycle(self.share_done, 1.0, pct_start=WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = self.settings.lr * factor, (momentum, group["betas"][1])

    def _to_device(self, *tensors: Tensor) -> list[Tensor]:
        if self.device.startswith("cuda"):  # from pinned memory, the copy overlaps with the previous step
            tensors = tuple(tensor.pin_memory() for tensor in tensors)
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def _update_weights(self, ids: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Do one step of the optimizer; return the loss. ids, targets: (rows, bptt); lengths: (rows,)."""
        settings, module = self.settings, self.module
        dropped, raw, hidden_state = module(ids, lengths, self.hidden_state, self.precision)
        self.hidden_state = detach(hidden_state)
        loss = module.cross_entropy(dropped, targets, self.precision)
        self.optimizer.zero_grad()
        (loss + module.penalties(dropped, raw, targets, settings.alpha, settings.beta)).backward()
        if settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), settings.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    def mean_loss(self) -> float:
        """Return the mean loss of the last steps; raise PretrainingError if it is not finite."""
        loss = torch.stack(list(self.losses)).mean().item()  # waits for the device
        if not math.isfinite(loss):
            raise PretrainingError(
                f"Training diverged: the loss is {loss} at step {self.step}. Pass a learning rate below "
                f"lr={self.settings.lr:g}, and another folder to out."
            )
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on."""
        return {
            "pretraining": self.config["pretraining"],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": self.hidden_state,
            "step": self.step,
            "elapsed": self.elapsed,
            "tokens": self.n_tokens,
            "losses": torch.stack(list(self.losses)),
            "precision": self.precision,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, with tensors on any device."""
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["state"] is not None:
            self.hidden_state = [(h.to(self.device), c.to(self.device)) for h, c in saved["state"]]
        self.step, self.elapsed = saved["step"], saved["elapsed"]
        self.n_tokens, self.precision = saved["tokens"], saved["precision"]
        self.losses.extend(saved["losses"].to(self.device))
