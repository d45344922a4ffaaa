"""Results of long trainings on disk, so that one that was done before is not done again."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

import joblib
from sklearn.utils.validation import check_memory as _check_memory

from sk_ulmfit._version import __version__
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.text.streams import StreamedTexts

T = TypeVar("T")


def check_memory(memory: Any) -> Any:
    """Give a `joblib.Memory`, whose folder is made and tried first.

    Parameters
    ----------
    memory : None, path-like or joblib.Memory
        As the estimators take it.

    Returns
    -------
    joblib.Memory
        Or what was given, if it has a ``cache`` like that of one.

    Raises
    ------
    ValueError
        If it is nothing of that kind, or nothing can be written there.
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
            f"memory={memory!r} cannot be written to ({error.strerror or error}); give another folder, or None to "
            "remember nothing."
        ) from None
    except ValueError:
        raise ValueError(f"memory must be a folder, a joblib.Memory or None, got {memory!r}.") from None
    if location is not None and getattr(found, "mmap_mode", None) is not None:
        found = joblib.Memory(  # what comes from disk is trained further, which memory maps would not allow
            found.location,
            backend=found.backend,
            compress=found.compress,
            verbose=getattr(found, "_verbose", 0),
            backend_options=found.backend_options,
        )
    return found


def remembered(memory: Any, key: Mapping[str, Any], work: Callable[[], T]) -> T:
    """Give what `work` gives, from disk if it was done before under an equal key.

    Parameters
    ----------
    memory : joblib.Memory
        From `check_memory`.
    key : mapping
        Plain data (numbers, strings, arrays, lists and dicts of those), models and streamed texts that the result
        follows from.
        The version of this package is added.
    work : callable
        Does the work. What it raises is passed on, and then nothing is kept.

    Returns
    -------
    object
        The result. One that cannot be stored is given too, with a warning.
    """
    is_joblib = isinstance(memory, joblib.Memory)
    if is_joblib and memory.store_backend is None:
        return work()
    digest = joblib.hash({"version": __version__, **{name: _plain(value) for name, value in key.items()}})
    if not is_joblib:
        return cast(T, memory.cache(_run, ignore=["work"])(digest, work))
    cached = memory.cache(_run, ignore=["work"])
    found = False
    with suppress(OSError):  # the folder may be gone by now
        found = cached.check_call_in_cache(digest, work)
    if found:
        return cast(T, cached(digest, work))
    result = work()
    trouble = "nothing is there afterwards."
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cached(digest, lambda: result)
        trouble = str(caught[0].message) if caught else trouble
        found = cached.check_call_in_cache(digest, work)
    except OSError as error:
        trouble = str(error)
    if not found:
        warnings.warn(
            f"What was trained could not be stored in {memory.location!r}: {trouble} It is kept in this estimator, "
            "but an equal fit will train anew.",
            UserWarning,
            stacklevel=3,
        )
    return result


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
