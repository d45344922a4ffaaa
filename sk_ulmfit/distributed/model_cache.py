"""Models that a process has loaded: each once, and freed when they are no longer used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from sk_ulmfit._locks import ForkSafeLock

MOST = 2  # models in memory; a third one takes the place of the one that was used least recently
IDLE = 600.0  # seconds after which a model that is not used is freed


@dataclass
class _Loaded:
    model: Any
    used: float  # seconds, as `time.monotonic` counts


_MODELS: dict[Hashable, _Loaded] = {}
_LOCK = ForkSafeLock()


def loaded_once(key: Hashable, load: Callable[[], Any]) -> Any:
    """Return the model of a key; the first thread of a process that asks loads it, others wait."""
    with _LOCK:
        now = time.monotonic()
        if key in _MODELS:
            _MODELS[key].used = now
            return _MODELS[key].model
        while len(_MODELS) >= MOST:
            del _MODELS[min(_MODELS, key=lambda each: _MODELS[each].used)]
        model = load()
        _MODELS[key] = _Loaded(model, time.monotonic())
        if len(_MODELS) == 1:
            _look_again_in(IDLE)
        return model


def _look_again_in(seconds: float) -> None:
    timer = threading.Timer(seconds, _free_unused)
    timer.daemon = True
    timer.start()


def _free_unused() -> None:
    with _LOCK:
        now = time.monotonic()
        for key in [key for key, loaded in _MODELS.items() if now - loaded.used >= IDLE]:
            del _MODELS[key]
        if _MODELS:
            _look_again_in(IDLE - (now - min(loaded.used for loaded in _MODELS.values())))
