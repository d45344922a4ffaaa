"""Trainings that several processes share: what they must agree on, and documents shared out among them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_ulmfit.nn.processes import current
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.settings import TrainingSettings

# parameters in which processes may differ
OF_A_MACHINE = {"callbacks", "device", "memory", "n_jobs", "random_state", "verbose"}


def check_parameters_alike(estimator: Any, n_texts: int) -> None:
    """Raise ValueError in all processes if one of them fits with other parameters, or another number of texts.

    Raises ValueError too if a batch has fewer rows than there are processes.
    """
    if current().size == 1:
        return
    values = {name: repr(value) for name, value in estimator.get_params(deep=False).items() if name not in OF_A_MACHINE}
    values = {name: value.split(" at 0x")[0] for name, value in values.items()}  # of an object, its address
    current().check_same({**values, "number of texts": n_texts})
    if isinstance(estimator.batch_size, int):  # other values are refused or chosen later
        check_batch_size(estimator.batch_size)


def check_data_alike(settings: TrainingSettings, corpus: TokenIds, y: NDArray[Any] | None = None) -> None:
    """Raise ValueError in all processes if one of them has other texts or targets."""
    processes = current()
    if processes.size == 1:
        return
    values = {"texts": f"{len(corpus)} with the checksum {_checksum(corpus.ids, corpus.offsets)}"}
    if y is not None:
        values["targets"] = f"{y.shape} with the checksum {_checksum(y)}"
    processes.check_same({**values, "seed": settings.seed})


def check_batch_size(batch_size: int | None) -> None:
    """Raise ValueError in all processes if there are more of them than rows in a batch."""
    if batch_size is not None:
        current().check_at_least_one_each(batch_size, "rows in a batch (batch_size)")


def warn_of_idle_processes(n_streams: int) -> None:
    """Warn if a batch has fewer streams of text than there are processes."""
    if n_streams < (n := current().size):
        warnings.warn(
            f"The texts make {n_streams} streams for the language model, so {n - n_streams} of {n} processes have "
            "nothing to do while it is trained; add unlabelled texts, or start fewer processes.",
            UserWarning,
            stacklevel=2,
        )


def shared_out(corpus: TokenIds, compute: Callable[[TokenIds], Tensor]) -> Tensor:
    """Compute something of each document, (n, width) on the CPU, by all processes together."""
    processes = current()
    if len(corpus) < processes.size or processes.size == 1:
        return compute(corpus)
    order = np.argsort(-corpus.lengths, kind="stable")
    own = corpus.take(order[processes.part(len(corpus)).rows])
    values = processes.gather(compute(own), len(corpus))  # in the order of the lengths
    return values[np.argsort(order)]


def _checksum(*arrays: NDArray[Any]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
