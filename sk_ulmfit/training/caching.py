"""Cache of trained models on disk."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import joblib
from sklearn.utils.validation import check_memory as _check_memory

from sk_ulmfit._files import alone_with
from sk_ulmfit._locks import WARNING_FILTERS
from sk_ulmfit._messages import short
from sk_ulmfit._version import __version__
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.processes import ALONE, Processes, current, training_together
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION

T = TypeVar("T")


def check_memory(memory: Any) -> Any:
    """Turn the parameter `memory` of an estimator into a `joblib.Memory`; its folder is created and written to.

    An object with a ``cache`` method like that of `joblib.Memory` is returned as it is. Raise ValueError if `memory`
    is something else, or its folder is not writable.
    """
    if isinstance(memory, str) and not memory:
        raise ValueError("memory must be a folder, a joblib.Memory or None, got ''.")
    try:
        found = _check_memory(os.fspath(memory) if isinstance(memory, os.PathLike) else memory)
        location = getattr(getattr(found, "store_backend", None), "location", None)
        if location is not None:
            os.makedirs(location, exist_ok=True)
            with tempfile.TemporaryFile(dir=location) as file:
                file.write(b"\0" * 4096)
    except OSError as error:
        raise ValueError(
            f"memory={short(memory)} cannot be written to ({error.strerror or error}); pass another folder, or None to "
            "cache nothing."
        ) from None
    except ValueError:
        raise ValueError(f"memory must be a folder, a joblib.Memory or None, got {short(memory)}.") from None
    if location is not None and getattr(found, "mmap_mode", None) is not None:
        found = joblib.Memory(  # memory maps could not be trained further
            found.location,
            backend=found.backend,
            compress=found.compress,
            verbose=getattr(found, "_verbose", 0),
            backend_options=found.backend_options,
        )
    return found


def remembered(memory: Any, key: Mapping[str, Any], work: Callable[[], T]) -> T:
    """Return the result of `work`, from disk if it was computed before under an equal key.

    Parameters
    ----------
    memory : joblib.Memory
        From `check_memory`.
    key : mapping
        Everything that the result depends on: numbers, strings, arrays, models, streamed texts, and lists and dicts of
        these. The versions of this package and of its tokenizer are added.
    work : callable
        Computes the result. If it raises, nothing is stored.

    Returns
    -------
    object
        The result. If it cannot be stored, a warning says so.
    """
    is_joblib = isinstance(memory, joblib.Memory)
    if is_joblib and memory.store_backend is None:
        return work()
    processes = current()
    if processes.size > 1:
        return _remembered_together(processes, memory, key, work)
    versions = {"version": __version__, "tokenizer": TOKENIZER_VERSION}
    digest = joblib.hash({**versions, **{name: _plain(value) for name, value in key.items()}})
    if not is_joblib:
        return cast(T, memory.cache(_run, ignore=["work"])(digest, work))
    cached = memory.cache(_run, ignore=["work"])
    if _is_stored(cached, digest):
        return cast(T, cached(digest, work))
    with _lock(memory, digest):
        if _is_stored(cached, digest):  # another process has trained it meanwhile
            return cast(T, cached(digest, work))
        return _work_and_store(cached, digest, work, memory)


def _lock(memory: joblib.Memory, digest: str) -> AbstractContextManager[None]:
    """Return a block in which equal trainings elsewhere wait, also on other machines that share the folder."""
    if memory.backend != "local":
        return nullcontext()
    return alone_with(Path(memory.store_backend.location) / "locks" / digest)


def _is_stored(cached: Any, digest: str) -> bool:
    with suppress(OSError):  # the folder may be gone by now
        return bool(cached.check_call_in_cache(digest, None))
    return False


def _work_and_store(cached: Any, digest: str, work: Callable[[], T], memory: joblib.Memory) -> T:
    result = work()
    if reason := _store(cached, digest, result):
        warnings.warn(
            f"The trained model could not be stored in {short(memory.location)}: {reason} This estimator keeps "
            "it, but an equal fit will train again.",
            UserWarning,
            stacklevel=4,
        )
    return result


class _NotStoredError(Exception):
    """A result is not on disk."""


def _remembered_together(processes: Processes, memory: Any, key: Mapping[str, Any], work: Callable[[], T]) -> T:
    """Do what `remembered` does in several processes, of which only the first reads and writes files."""

    def missing() -> T:
        raise _NotStoredError

    def store() -> None:
        remembered(memory, key, lambda: result)

    with training_together(ALONE), suppress(_NotStoredError):
        return processes.from_first(lambda: remembered(memory, key, missing))
    result = work()
    with training_together(ALONE):
        processes.from_first(store)
    return result


def _store(cached: Any, digest: str, result: Any) -> str:
    """Store a result; return the reason if that failed, else an empty string."""
    reason = "the file is missing afterwards."
    try:
        with WARNING_FILTERS, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cached(digest, lambda: result)
        if cached.check_call_in_cache(digest, None):
            return ""
        return str(caught[0].message) if caught else reason
    except OSError as error:
        return str(error)


def _plain(value: Any) -> Any:
    if isinstance(value, StreamedTexts):
        digest = hashlib.blake2b(digest_size=16)
        for text in value:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()
    if not isinstance(value, ModelState):
        return value
    return [value.kind, value.config, list(value.vocabulary.words), value.weights]


def _run(digest: str, work: Callable[[], T]) -> T:
    return work()
