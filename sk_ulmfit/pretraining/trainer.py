"""One training step, and everything that the next step depends on.

The randomness of a step depends only on the seed and the number of the step, so that a run resumes exactly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.models.assembly import build_language_model
from sk_ulmfit.nn.device import reseed
from sk_ulmfit.nn.modules import State, detach
from sk_ulmfit.nn.optimizer import RowAdamW, clip_gradients
from sk_ulmfit.nn.precision import training_precision, widest_layer
from sk_ulmfit.nn.processes import ALONE, Processes
from sk_ulmfit.nn.vector import TextVector
from sk_ulmfit.pretraining.settings import PretrainingError, PretrainingSettings
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.batching import Batch, StreamBatches
from sk_ulmfit.training.joint_loss import joint_loss, taught_parameters
from sk_ulmfit.training.passage_batches import PassageBatches
from sk_ulmfit.training.schedules import one_cycle

WARM_UP = 0.1  # share of the training during which the learning rate rises
AVERAGED_STEPS = 50  # the losses shown are means over this many steps
# Factor from the mean of the words to the first vectors: steps of the map must be small beside their length.
VECTOR_SCALE = 20.0


class Start(NamedTuple):
    """What a teacher says of the words before the training.

    Attributes
    ----------
    embedding : ndarray of float32, shape (n_words, emb_dim)
    word_weight : ndarray of float32, shape (n_words, 1)
    log_frequency : ndarray of float32, shape (n_words,)
        Logarithm of the relative frequency of each word, the first bias of the decoder.
    """

    embedding: NDArray[np.float32]
    word_weight: NDArray[np.float32]
    log_frequency: NDArray[np.float32]


class Step(NamedTuple):
    """What one step reads: a window of the streams and, if there is a teacher, a batch of passages."""

    stream: Batch
    passages: Batch | None


class Trainer:
    """The language model of a run, its optimizer and its progress.

    Without a teacher an epoch is a pass over the streams. With one, an epoch is a pass over its passages, and the
    streams are read beside them, one window a step, from the beginning again where they end.

    If `processes` share the training, each of them has a trainer with the same arguments, and all do a step together.
    """

    def __init__(
        self,
        config: dict[str, Any],
        vocabulary: Vocabulary,
        streams: StreamBatches,
        settings: PretrainingSettings,
        device: str,
        passages: PassageBatches | None = None,
        processes: Processes = ALONE,
    ):
        self.config, self.streams, self.passages = config, streams, passages
        self.settings, self.device, self.processes = settings, device, processes
        self.steps_per_epoch = (passages or streams).n_batches(1)
        self.n_steps = None if settings.epochs is None else max(1, round(settings.epochs * self.steps_per_epoch))
        self.step, self.elapsed, self.n_tokens = 0, 0.0, 0
        self.losses: deque[Tensor] = deque(maxlen=AVERAGED_STEPS)
        self.cosines: deque[Tensor] = deque(maxlen=AVERAGED_STEPS)
        self.hidden_state: State | None = None  # of the rows that this process reads
        self.module = build_language_model(config, len(vocabulary), settings.dropout_multiplier)
        self.module.to(device).train()
        self.optimizer = RowAdamW(
            self._parameter_groups(), lr=settings.lr, betas=(0.8, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        width = widest_layer(config)
        self.precision = processes.from_first(lambda: training_precision(settings.precision, device, width))

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return all parameters, with the factor on the learning rate of each group."""
        groups = taught_parameters(self.module)
        taught = {id(parameter) for parameters, _ in groups for parameter in parameters}
        others = [parameter for parameter in self.module.parameters() if id(parameter) not in taught]
        return [{"params": parameters, "factor": factor} for parameters, factor in [(others, 1.0), *groups]]

    def start_from(self, start: Start) -> None:
        """Set the words to what the teacher says of them; the vector of a text is at first the mean of its words."""
        encoder, vector = self.module.encoder, cast(TextVector, self.module.vector)
        with torch.no_grad():
            encoder.embedding.weight.copy_(torch.from_numpy(start.embedding))
            vector.word_weight.copy_(torch.from_numpy(start.word_weight))
            self.module.decoder_bias.copy_(torch.from_numpy(start.log_frequency))
            vector.weight.zero_()
            of_words = vector.weight[:, -encoder.embedding.embedding_dim :]  # (dim, emb_dim), a view
            of_words.fill_diagonal_(VECTOR_SCALE)
            vector.bias.zero_()

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

    def remaining_steps(self) -> Iterator[Step]:
        """Yield what the steps from the current one on read, epoch after epoch, without end."""
        streams = _endless(self.streams.windows, self.streams.n_batches(1), self.step)
        if self.passages is None:
            yield from (Step(stream, None) for stream in streams)
            return
        passages = _endless(self.passages.batches, self.passages.n_batches(1), self.step)
        yield from map(Step, streams, passages)

    def do_step(self, step: Step) -> None:
        """Train on what one step reads."""
        if self.step % self.streams.n_batches(1) == 0:  # the streams begin again, with an empty state
            self.hidden_state = None
        self._seed_step()
        self._set_learning_rate()
        dropped, words, further = self._read_stream(step.stream)
        if step.passages is None:
            own = self.processes.part(len(words)).targets(words)
            loss = self.module.cross_entropy(dropped, own, self.precision, self.settings.sampled_words, words)
            (loss,) = self._update_weights(loss + further, loss)
        else:
            loss, distance = self._joint_loss((dropped, words), step.passages)
            further = further + cast(float, self.settings.teacher_weight) * distance
            loss, distance = self._update_weights(loss + further, loss, distance)
            self.cosines.append(1 - distance)
        self.losses.append(loss)
        self.step += 1
        self.n_tokens += sum(int(batch[0]["lengths"].sum()) for batch in step if batch is not None)

    def _seed_step(self) -> None:
        sequence = np.random.SeedSequence([self.settings.seed, self.step])
        reseed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def _set_learning_rate(self) -> None:
        factor, momentum = one_cycle(self.share_done, 1.0, pct_start=WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * factor * group["factor"]
            group["betas"] = (momentum, group["betas"][1])

    def _to_device(self, *tensors: Tensor) -> list[Tensor]:
        if self.device.startswith("cuda"):  # from pinned memory, the copy overlaps with the previous step
            tensors = tuple(tensor.pin_memory() for tensor in tensors)
        return [tensor.to(self.device, non_blocking=True) for tensor in tensors]

    def _read_stream(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return the decoder's input, (own rows, time, emb_dim), the words of all rows, and the penalties."""
        x, targets = batch
        ids, targets = self._to_device(x["ids"], targets)
        part = self.processes.part(len(ids))
        own, lengths = part.of(ids), part.of(x["lengths"])
        dropped, raw, hidden_state = self.module(own, lengths, self.hidden_state, self.precision, part)
        self.hidden_state = detach(hidden_state)
        alpha, beta = self.settings.alpha, self.settings.beta
        penalties = self.module.penalties(dropped, raw, part.targets(targets), alpha, beta, targets)
        return dropped, targets, penalties

    def _joint_loss(self, stream: tuple[Tensor, Tensor], passages: Batch) -> tuple[Tensor, Tensor]:
        x, targets = passages
        ids, targets = self._to_device(x["ids"], targets)
        passages_of_all = ids, x["lengths"], targets
        sampled_words = self.settings.sampled_words
        return joint_loss(self.module, stream, passages_of_all, self.precision, sampled_words, self.processes)

    def _update_weights(self, loss: Tensor, *parts: Tensor) -> list[Tensor]:
        """Do one step of the optimizer; return the parts of the loss, added up over the processes."""
        self.optimizer.zero_grad()
        loss.backward()
        totals = self.processes.add_up(list(self.module.parameters()), [part.detach() for part in parts])
        if self.settings.gradient_clip is not None:
            clip_gradients(list(self.module.parameters()), self.settings.gradient_clip)
        self.optimizer.step()
        return totals

    def mean_loss(self) -> float:
        """Return the mean loss of the last steps; raise PretrainingError if it is not finite."""
        loss = torch.stack(list(self.losses)).mean().item()  # waits for the device
        if not math.isfinite(loss):
            raise PretrainingError(
                f"Training diverged: the loss is {loss} at step {self.step}. Pass a learning rate below "
                f"lr={self.settings.lr:g}, and another folder to out."
            )
        return loss

    def mean_cosine(self) -> float | None:
        """Return the mean cosine similarity to the teacher's vectors in the last steps; None without a teacher."""
        return torch.stack(list(self.cosines)).mean().item() if self.cosines else None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, the same in all processes."""
        return {
            "pretraining": self.config["pretraining"],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": self._state_of_all_rows(),
            "step": self.step,
            "elapsed": self.elapsed,
            "tokens": self.n_tokens,
            "losses": torch.stack(list(self.losses)),
            "cosines": torch.stack(list(self.cosines)) if self.cosines else None,
            "precision": self.precision,
        }

    def _state_of_all_rows(self) -> State | None:
        if self.hidden_state is None or self.processes.size == 1:
            return self.hidden_state

        def whole(part: Tensor) -> Tensor:  # (1, own rows, width) to (1, n_rows, width)
            return self.processes.gather(part[0], self.streams.n_rows)[None]

        return [(whole(h), whole(c)) for h, c in self.hidden_state]

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, with tensors on any device."""
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["state"] is not None:
            rows = self.processes.part(self.streams.n_rows).rows
            self.hidden_state = [(h[:, rows].to(self.device), c[:, rows].to(self.device)) for h, c in saved["state"]]
        self.step, self.elapsed = saved["step"], saved["elapsed"]
        self.n_tokens, self.precision = saved["tokens"], saved["precision"]
        self.losses.extend(saved["losses"].to(self.device))
        if saved.get("cosines") is not None:
            self.cosines.extend(saved["cosines"].to(self.device))


def _endless(batches: Callable[[int, int], Iterator[Batch]], n: int, step: int) -> Iterator[Batch]:
    """Yield the batches of epoch after epoch, of `n` each, from number `step` on."""
    epoch, first = divmod(step, n)
    while True:
        yield from batches(epoch, first)
        epoch, first = epoch + 1, 0
