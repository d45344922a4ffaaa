"""Checks of the workers of a cluster, made before anything is queued."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from sk_ulmfit._messages import short_text
from sk_ulmfit._version import __version__
from sk_ulmfit.distributed.file_systems import file_system
from sk_ulmfit.distributed.models import Description, ModelFile
from sk_ulmfit.distributed.parts import RUN
from sk_ulmfit.models.state import ModelFileError


class WorkerCheckError(ValueError):
    """A worker cannot do the work: it lacks the package, has another version, or cannot read the model."""


def check_package(client: Any) -> list[str]:
    """Return the addresses of the workers; raise WorkerCheckError unless all have this version of the package."""

    def version() -> str:  # defined here, so that it travels to workers that lack the package
        from importlib import import_module

        return str(import_module("sk_ulmfit").__version__)

    answers = client.run(version, on_error="return")
    remedy = f"install sk-ulmfit {__version__} with the extra distributed on every worker."
    _refuse(answers, lambda answer: isinstance(answer, ImportError), f"sk_ulmfit cannot be imported there; {remedy}")
    _refuse_errors(answers)
    others = {address: answer for address, answer in answers.items() if answer != __version__}
    if others:
        found = next(iter(others.values()))
        raise WorkerCheckError(
            f"{_workers(others)}: there is sk_ulmfit {found}, and here {__version__}; install the same version "
            "on every worker."
        )
    return list(answers)


def check_model(client: Any, model: ModelFile) -> Description:
    """Let all workers load a model; return its description, or raise WorkerCheckError if one of them cannot."""
    answers = client.run(_description, model, on_error="return")
    is_missing = [address for address, answer in answers.items() if answer is None]
    if is_missing:
        raise WorkerCheckError(
            f"{_workers(is_missing)}: there is no file {model.path}; save the model where all workers see it."
        )
    _refuse_errors(answers)
    digests = Counter(answer.digest for answer in answers.values())
    if len(digests) > 1:
        usual = digests.most_common(1)[0][0]
        others = [address for address, answer in answers.items() if answer.digest != usual]
        raise WorkerCheckError(
            f"{_workers(others)}: {model.path} holds another model than on other workers; copy the same file to all."
        )
    description: Description = next(iter(answers.values()))
    return description


async def _description(model: ModelFile) -> Description | None:
    """Describe the model on a worker, in a thread, so that the worker goes on answering; None if there is no file."""
    if not os.path.exists(model.path):
        return None
    return await asyncio.to_thread(model.describe)


def check_paths(client: Any, file: str, out: str) -> None:
    """Raise WorkerCheckError unless all workers see a file to read, and the folder of a run."""
    _refuse_errors(client.run(_see, file, out, on_error="return"))


def _see(file: str, out: str) -> None:
    """Raise ValueError unless this worker sees a file, and the description of a run in a folder."""
    for url, remedy in ((file, "to FILE"), (f"{out}/{RUN}", "to --out")):
        system, path = file_system(url)
        system.invalidate_cache()
        if not system.exists(path):
            raise ValueError(f"there is no file {path}; give a path {remedy} that all workers see.")


def _refuse(answers: dict[str, Any], is_refused: Callable[[Any], bool], problem: str) -> None:
    refused = [address for address, answer in answers.items() if is_refused(answer)]
    if refused:
        raise WorkerCheckError(f"{_workers(refused)}: {problem}")


def _refuse_errors(answers: dict[str, Any]) -> None:
    """Raise WorkerCheckError for the first error among the answers."""
    failed = {address: answer for address, answer in answers.items() if isinstance(answer, Exception)}
    if not failed:
        return
    error = next(iter(failed.values()))
    kind = "" if isinstance(error, (ModelFileError, ValueError)) else f"{type(error).__name__}: "
    raise WorkerCheckError(f"{_workers(failed)}: {kind}{short_text(error, 400)}") from None


def _workers(addresses: Any) -> str:
    first, *others = addresses
    if not others:
        return f"Worker {first}"
    return f"Worker {first} and {len(others)} other{'s' if len(others) > 1 else ''}"
