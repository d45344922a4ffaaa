"""Processes that train one model together: the rows of a batch that each reads, and sums over all of them.

Each process makes the whole of every batch, draws what the whole batch drops, and reads its own rows. The losses of all
processes add up to that of the batch, and so do their gradients: the model is the one that a single process trains.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sk_ulmfit._messages import short
from sk_ulmfit.nn.losses import IGNORED

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.02  # while a process waits for the first one


class LostProcessError(ConnectionError):
    """Another process of a shared training has ended, or does not answer."""


class Part(NamedTuple):
    """The rows of a batch that one process reads: every so-manyth of them.

    Attributes
    ----------
    n : int
        Rows of the whole batch.
    rows : slice
        Those of this process.
    counts : bool
        False if the batch has too few rows for all processes: this one reads the first row, but its results count for
        nothing.
    """

    n: int
    rows: slice
    counts: bool

    def of(self, batch: Tensor) -> Tensor:
        """Return the rows of this process, of a tensor of shape (batch, ...)."""
        return batch[self.rows]

    def targets(self, batch: Tensor) -> Tensor:
        """Return the targets of the rows of this process; positions that do not count are -100."""
        own = self.of(batch)
        return own if self.counts else torch.full_like(own, IGNORED)

    @property
    def share(self) -> float:
        """Share of the rows of the batch that this process reads."""
        return len(range(self.n)[self.rows]) / self.n if self.counts else 0.0


@dataclass(frozen=True)
class Processes:
    """The processes of a shared training, as one of them sees them; one process, alone, by default.

    All of them must call the methods in the same order: each of these waits for the others.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and number of processes.
    messages : ProcessGroup or None
        Group of gloo for plain values, which waits without a limit of time.
    of_cpu : ProcessGroup or None
        Group for tensors on the CPU; None means the default group, as for those on a GPU.
    """

    rank: int = 0
    size: int = 1
    messages: Any = None
    of_cpu: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def part(self, n: int) -> Part:
        """Return the rows that this process reads of a batch of `n`."""
        if self.size == 1:
            return Part(n, slice(None), True)
        if self.rank >= n:
            return Part(n, slice(0, 1), False)
        return Part(n, slice(self.rank, None, self.size), True)

    def add_up(self, parameters: Sequence[nn.Parameter], numbers: Sequence[Tensor]) -> list[Tensor]:
        """Add up the gradients of all processes, in place, and some numbers of shape (), which are returned.

        Of sparse gradients, only the rows travel that one of the processes has used.
        """
        if self.size == 1:
            return list(numbers)
        numbers = [number.detach() for number in numbers]
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        rows = self._rows_in_use([parameter for parameter in trained if _gradient(parameter).is_sparse])
        parts = [_dense(_gradient(parameter), rows.get(id(parameter))) for parameter in trained]
        flat = torch.cat([part.reshape(-1) for part in [*parts, *numbers]])
        with self._noticing_losses():
            dist.all_reduce(flat, group=self._group(flat))
        *sums, of_numbers = flat.split([*(part.numel() for part in parts), len(numbers)])
        for parameter, part, total in zip(trained, parts, sums, strict=True):
            parameter.grad = _like_gradient(parameter, total.view(part.shape), rows.get(id(parameter)))
        return list(of_numbers.clone())  # not a view, which would keep the gradients

    def _group(self, tensor: Tensor) -> Any:
        return None if tensor.is_cuda else self.of_cpu

    def _rows_in_use(self, sparse: Sequence[nn.Parameter]) -> dict[int, Tensor]:
        """Return the rows of each parameter that occur in the sparse gradient of any process, (n,) each."""
        if not sparse:
            return {}
        used = torch.zeros(sum(map(len, sparse)), dtype=torch.uint8, device=sparse[0].device)
        of_each = used.split([len(parameter) for parameter in sparse])
        for parameter, of_one in zip(sparse, of_each, strict=True):
            parameter.grad = _gradient(parameter).coalesce()
            of_one[parameter.grad.indices()[0]] = 1
        with self._noticing_losses():
            dist.all_reduce(used, dist.ReduceOp.MAX, group=self._group(used))
        return {id(parameter): of_one.nonzero()[:, 0] for parameter, of_one in zip(sparse, of_each, strict=True)}

    def gather(self, own: Tensor, n: int) -> Tensor:
        """Return all `n` rows of a batch, (n, ...), given those of this process; with the gradient of its own rows.

        The gradient is right if all processes compute the same of the whole batch, and each counts an equal share of
        the loss.
        """
        if self.size == 1:
            return own
        gathered: Tensor = _Gather.apply(own, self, n)
        return gathered

    def make_equal(self, module: nn.Module) -> None:
        """Copy parameters and buffers of the first process to the others."""
        if self.size == 1:
            return
        with torch.no_grad(), self._noticing_losses():
            for tensor in [*module.parameters(), *module.buffers()]:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0, group=self._group(whole))
                tensor.copy_(whole)

    def exchange(self, numbers: Sequence[float]) -> Tensor:
        """Return some numbers of each process, (size, n) in float64."""
        own = torch.tensor(numbers, dtype=torch.float64)
        if self.size == 1:
            return own[None]
        every = [torch.empty_like(own) for _ in range(self.size)]
        with self._noticing_losses():
            dist.all_gather(every, own, group=self.messages)
        return torch.stack(every)

    def from_first(self, work: Callable[[], T]) -> T:
        """Let the first process do some work while the others wait; return its result, or raise its error, in all."""
        if self.size == 1:
            return work()
        if self.is_first:
            outcome = _outcome(work)
            content = pickle.dumps(outcome)
            self._broadcast(torch.tensor([len(content)]))
            self._broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        else:
            outcome = self._received()
        return _result(outcome, 0)

    def _received(self) -> Any:
        """Wait for a value of the first process; Ctrl-C is noticed meanwhile."""
        length = torch.zeros(1, dtype=torch.int64)
        with self._noticing_losses():
            waiting: Any = dist.broadcast(length, 0, group=self.messages, async_op=True)
            while not waiting.is_completed():
                time.sleep(SECONDS_BETWEEN_LOOKS)
            waiting.wait()
        content = torch.empty(int(length), dtype=torch.uint8)
        self._broadcast(content)
        return pickle.loads(content.numpy().tobytes())

    def _broadcast(self, values: Tensor) -> None:
        with self._noticing_losses():
            dist.broadcast(values, 0, group=self.messages)

    def each(self, work: Callable[[], T]) -> T:
        """Do some work in each process and return its own result; raise the error of one that has failed in all."""
        if self.size == 1:
            return work()
        outcome = _outcome(work)
        failed = self._values_of_all(None if outcome[1] is None else outcome)
        for rank, other in enumerate(failed):
            if other is not None:
                _result(other, rank)
        return _result(outcome, self.rank)

    def check_same(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError in all processes if one of them has other values, by name, than the first."""
        if self.size == 1:
            return
        first, *others = self._values_of_all(dict(values))
        for rank, other in enumerate(others, start=1):
            for name, value in first.items():
                if other.get(name) != value:
                    raise _marked(
                        ValueError(
                            f"Process 0 has {name}={short(value)} and process {rank} has {name}="
                            f"{short(other.get(name))}; start all processes with the same arguments and data."
                        ),
                        0,
                    )

    def check_at_least_one_each(self, n: int, what: str) -> None:
        """Raise ValueError if there are fewer of something than processes."""
        if n < self.size:
            raise _marked(ValueError(f"There are {n} {what} for {self.size} processes; start at most {n}."), 0)

    def check_device(self, device: str) -> None:
        """Raise ValueError if the processes of this machine would share a GPU."""
        if self.size == 1 or not device.startswith("cuda"):
            return
        n_gpus, n_here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if ":" in device:
            reason = f"device={short(device)} is one GPU, but each process needs its own: pass 'auto' or 'cuda'"
        elif n_here > n_gpus:
            reason = f"{n_here} processes on a machine with {n_gpus} GPUs: start as many as there are, or pass 'cpu'"
        else:
            return
        raise ValueError(f"{reason}.")

    def _values_of_all(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.size
        with self._noticing_losses():
            dist.all_gather_object(values, value, group=self.messages)
        return values

    @contextmanager
    def _noticing_losses(self) -> Iterator[None]:
        """Raise LostProcessError in place of the errors of torch.distributed."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise LostProcessError(f"One of the {self.size} processes has ended or does not answer.") from error


ALONE = Processes()
_current = [ALONE]


def current() -> Processes:
    """Return the processes that train together now: one, unless a shared training has begun."""
    return _current[-1]


@contextmanager
def training_together(processes: Processes) -> Iterator[Processes]:
    """Let trainings in the block be shared by processes."""
    _current.append(processes)
    try:
        yield processes
    finally:
        _current.pop()


class _Gather(torch.autograd.Function):
    """The rows of all processes in the order of the batch."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes, n: int) -> Tensor:
        ctx.processes, ctx.part, ctx.n_own = processes, processes.part(n), len(own)
        filled = own.new_zeros(-(-n // processes.size), *own.shape[1:])  # (rows of the first process, ...)
        filled[: len(own)] = own
        every = [torch.empty_like(filled) for _ in range(processes.size)]
        with processes._noticing_losses():
            dist.all_gather(every, filled, group=processes._group(filled))
        return torch.stack(every, 1).flatten(0, 1)[:n]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        own = ctx.part.of(gradient) * ctx.processes.size
        return own if ctx.part.counts else torch.zeros_like(own), None, None


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _dense(gradient: Tensor, rows: Tensor | None) -> Tensor:
    """Return a gradient, or of a sparse one the `rows` of it, (len(rows), width)."""
    if rows is None:
        return gradient
    place = torch.empty(len(gradient), dtype=torch.int64, device=gradient.device)
    place[rows] = torch.arange(len(rows), device=gradient.device)
    values = gradient.values()
    dense = values.new_zeros(len(rows), *values.shape[1:])
    dense[place[gradient.indices()[0]]] = values
    return dense


def _like_gradient(parameter: nn.Parameter, total: Tensor, rows: Tensor | None) -> Tensor:
    """Return a sum as the gradient of a parameter: sparse if `rows` says which rows it holds."""
    if rows is None:
        return total
    return torch.sparse_coo_tensor(rows[None], total, parameter.shape, is_coalesced=True, check_invariants=False)


def _outcome(work: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """Return the result of some work, or its error in a form that can be sent."""
    try:
        return work(), None
    except LostProcessError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


def _result(outcome: Any, rank: int) -> Any:
    result, error = outcome
    if error is None:
        return result
    raise _marked(error, rank)


def _marked(error: BaseException, rank: int) -> BaseException:
    """Note at an error that all processes know of it, and which of them had it."""
    error.of_process = rank  # type: ignore[attr-defined]
    return error
