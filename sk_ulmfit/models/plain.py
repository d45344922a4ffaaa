"""Models as text and arrays alone, for pickles and files of skops; checked as a model file is."""

from __future__ import annotations

import json
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.container import Place, parse_json
from sk_ulmfit.models.schema import LaterVersionError, SchemaError, check_config
from sk_ulmfit.models.state import FORMAT_VERSION, ModelState, checked_state

_TEXTS = ("kind", "config", "vocabulary", "history")
_OF_FILES = {"params", "metadata"}  # an estimator keeps these itself


def to_plain(state: ModelState) -> dict[str, Any]:
    """Return a model as a file holds it: JSON as text, and arrays by name, which are not copied."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": state.kind,
        "config": json.dumps(state.config),
        "vocabulary": state.vocabulary.to_json(),
        "history": json.dumps(state.history),
        "weights": {name: np.ascontiguousarray(array) for name, array in state.weights.items()},
    }


def from_plain(value: Any, kind: str) -> ModelState:
    """Return the model that `to_plain` was given; raise ValueError unless it is a whole model of this kind."""
    value = check_keys(value, ("format_version", *_TEXTS, "weights"), "the model")
    version = value["format_version"]
    if type(version) is not int or version < 1:
        raise SchemaError("format_version is not a positive integer")
    if version > FORMAT_VERSION:
        raise LaterVersionError(f"format {version if version < 10**9 else 'of a huge number'}")
    for name in _TEXTS:
        if type(value[name]) is not str:
            raise SchemaError(f"{name} is a {type(value[name]).__name__}, expected text")
    if value["kind"] != kind:
        raise SchemaError(f"it holds another kind of model than a {kind.replace('_', ' ')}")
    weights = _arrays(value["weights"])
    places = {name: Place(array.dtype, array.shape, 0) for name, array in weights.items()}
    config = _config(value["config"], kind)
    state = checked_state(kind, config, value["vocabulary"], value["history"], weights, places)
    state.weights = {name: writable(array) for name, array in state.weights.items()}
    return state


def check_keys(value: Any, names: tuple[str, ...], what: str) -> dict[str, Any]:
    """Return a dict that has these keys and no others; raise SchemaError if it is anything else."""
    if type(value) is not dict:
        raise SchemaError(f"{what} is a {type(value).__name__}, expected a dict")
    if missing := [name for name in names if name not in value]:
        raise SchemaError(f"{what} has no {missing[0]}")
    if unknown := [name for name in value if name not in names]:
        raise LaterVersionError(f"{what} has the unknown key {ascii(unknown[0])[:60]}")
    return value


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that may be changed, since torch knows no other tensors.

    A read-only memory map of a file becomes one whose changes stay in memory, so that processes share the rest.
    """
    if array.flags.writeable:
        return np.asarray(array)
    if type(array) is np.memmap and isinstance(array.base, mmap.mmap) and array.filename is not None:
        order: Any = "C" if array.flags.c_contiguous else "F"
        try:
            return np.asarray(np.memmap(array.filename, array.dtype, "c", array.offset, array.shape, order))
        except (OSError, ValueError):  # the file is gone, as temporary files of worker processes may be
            pass
    return np.array(array)


def _config(text: str, kind: str) -> dict[str, Any]:
    config = parse_json(text)
    if kind == "language_model":
        check_config(kind, config)
        return config
    if not isinstance(config, dict) or config.keys() & _OF_FILES:
        raise SchemaError("config is no configuration of a network")
    check_config(kind, {**config, **{name: {} for name in _OF_FILES}})
    return config


def _arrays(value: Any) -> dict[str, NDArray[Any]]:
    if type(value) is not dict or not all(type(name) is str for name in value):
        raise SchemaError("weights is not a dict of arrays by name")
    for name, array in value.items():
        if type(array) not in (np.ndarray, np.memmap):
            raise SchemaError(f"array {ascii(name)[:60]} is a {type(array).__name__}, expected an array")
    return value
