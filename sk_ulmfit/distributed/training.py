"""Trainings that several processes share, started by torchrun or by any other launcher of torch.distributed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from sk_ulmfit._version import __version__
from sk_ulmfit.nn.processes import ALONE, Processes, current, training_together

NO_LIMIT = timedelta(days=365)  # while the first process tokenizes, the others wait


@contextmanager
def shared_training(*, timeout: float = 600.0) -> Iterator[Processes]:
    """Let several processes train each model in the block together.

    Start the same script in each process, for example with ``torchrun --nproc-per-node=2 script.py``. In the block,
    `pretrain` and ``fit`` of the estimators share out the texts of each batch among the processes and add up the
    gradients. The model is the one that a single process trains with the same parameters, but for rounding, and it is
    the same in all processes. Pass the same data and parameters in each of them. `batch_size` counts the texts or
    streams of all processes together.

    In a script that was started by itself, there is one process and nothing changes.

    Parameters
    ----------
    timeout : float, default=600
        Seconds after which a process that does not answer counts as lost. One that has ended is noticed at once.

    Yields
    ------
    Processes
        Has the attributes ``rank``, the number of this process from 0, ``size``, the number of processes, and
        ``is_first``, which is True in the process that should write files and print. Its method
        ``from_first(function)`` calls a function in the first process and returns the result in all.

    Raises
    ------
    ValueError
        If the processes differ in their versions of this package or of torch; in ``fit``, if they differ in data or
        parameters, or if there are more of them than rows in a batch.
    LostProcessError
        A ConnectionError: another process has ended or does not answer.

    Notes
    -----
    A group that exists already is used: call ``shared_training`` after ``torch.distributed.init_process_group``, or in
    a function that Lightning, Accelerate or Ray start. Otherwise the environment variables of torchrun say who takes
    part. Gradients go over NCCL between GPUs and over Gloo between CPUs.

    Progress and warnings come from the first process alone.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel
    >>> from sk_ulmfit.distributed import shared_training
    >>> texts = ["the lamp is on", "the lamp is off", "the hub is off"] * 10
    >>> lm = ULMFiTLanguageModel(None, max_epochs=1, emb_dim=8, hidden_dim=12)
    >>> with shared_training() as processes:
    ...     lm = lm.fit(texts)
    ...     if processes.is_first:
    ...         print(f"trained by {processes.size} process")
    trained by 1 process
    """
    if current().size > 1:
        yield current()
        return
    makes_group = not dist.is_initialized() and launched_size() > 1
    if makes_group:
        dist.init_process_group(_backend(), timeout=timedelta(seconds=timeout))
    if not dist.is_initialized() or dist.get_world_size() == 1:
        with training_together(ALONE):
            yield ALONE
        return
    messages = dist.new_group(backend="gloo", timeout=NO_LIMIT)
    of_cpu = None if "cpu:" in dist.get_backend_config() else messages
    processes = Processes(dist.get_rank(), dist.get_world_size(), messages, of_cpu)
    processes.check_same({"sk_ulmfit": __version__, "torch": torch.__version__})
    with training_together(processes), warnings.catch_warnings():
        if not processes.is_first:
            warnings.simplefilter("ignore")
        yield processes
    if makes_group:  # after an error, the other processes may be gone
        dist.destroy_process_group()


def launched_size() -> int:
    """Return the number of processes that a launcher such as torchrun has started, as the environment says; 1 if none.

    Examples
    --------
    >>> from sk_ulmfit.distributed.training import launched_size
    >>> launched_size()
    1
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return 1
    return int(os.environ["WORLD_SIZE"])


def _backend() -> str:
    """Return the backend for each kind of device; with GPUs, each process takes its own."""
    if not torch.cuda.is_available():
        return "gloo"
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return "cpu:gloo,cuda:nccl"
