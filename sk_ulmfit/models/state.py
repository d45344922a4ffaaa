"""Models as plain data, and their files: safetensors with a JSON header. Loading runs no code from a file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import NotAFileError, atomic_write, check_writable_folder, writable_target
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

FORMAT = "sk_ulmfit"
FORMAT_VERSION = 2  # 2: matrices may be compact
DIRECTIONS = ("forward", "backward")  # in which a network reads
SCALE = ":scale"  # suffix of the name of a compact matrix's scales

Weights = dict[str, NDArray[Any]]

# Keys that the config of each kind of model must have.
_LANGUAGE_MODEL_CONFIG = {"emb_dim", "hidden_dim", "n_layers", "language"}
_CONFIG = {
    "language_model": _LANGUAGE_MODEL_CONFIG,
    "classifier": _LANGUAGE_MODEL_CONFIG | {"label_names", "bptt", "max_length", "batch_size", "params", "metadata"},
}


@dataclass
class ModelState:
    """A trained model as plain data.

    Parameters
    ----------
    kind : {"language_model", "classifier"}
        Kind of model.
    config : dict
        Sizes, language, labels and settings, in types that JSON has.
    vocabulary : Vocabulary
        Words, one for each row of the embedding.
    weights : dict of str to ndarray
        Tensors by their names in the module.
    history : list of dict
        Losses of each epoch.
    """

    kind: str
    config: dict[str, Any]
    vocabulary: Vocabulary
    weights: Weights
    history: list[dict[str, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"ModelState of a {self.kind.replace('_', ' ')} with {len(self.vocabulary)} words"

    def encode(self, texts: Sequence[str] | StreamedTexts, n_jobs: int | None = None) -> TokenIds:
        """Return the token ids of texts, in the direction in which the model reads."""
        backward = reads_backward(self.config)
        return encode_texts(texts, self.vocabulary, self.config["language"], n_jobs, backward=backward)


def reads_backward(config: Mapping[str, Any]) -> bool:
    """Tell whether a model reads texts from the end; a config without a direction means forward."""
    return bool(config.get("direction") == "backward")


class ModelFileError(ValueError):
    """A file is not a model of the expected kind, or is damaged."""


def save_state(state: ModelState, path: str | os.PathLike[str], *, compact: bool = False) -> None:
    """Write a model to one file, completely or not at all.

    Parameters
    ----------
    state : ModelState
        The model.
    path : path-like
        File to write. A model that is there is replaced; any other file is left alone.
    compact : bool, default=False
        Whether to round matrices to 8 bits with one scale per row, for a quarter of the size.

    Raises
    ------
    ModelFileError
        If the file cannot be written, or exists and is not a model of this package.
    """
    from safetensors.numpy import save

    check_target(path)
    weights = _compact(state.weights) if compact else state.weights
    header = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION if compact else 1),
        "kind": state.kind,
        "config": json.dumps(state.config),
        "vocabulary": state.vocabulary.to_json(),
        "history": json.dumps(state.history),
    }
    header["digest"] = _digest(header, weights)
    content = save({name: np.ascontiguousarray(array) for name, array in weights.items()}, metadata=header)
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise ModelFileError(f"{path} could not be written ({error}); choose another place.") from None


def check_target(path: str | os.PathLike[str]) -> None:
    """Check, before training, that a model can be written to a path; raise ModelFileError if not."""
    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; give the name of a file to write, for example {path / 'model'}.")
    if not path.parent.is_dir():
        raise ModelFileError(f"The folder {path.parent} does not exist; create it first.")
    try:
        check_writable_folder(writable_target(path))
    except NotAFileError as error:
        raise ModelFileError(str(error)) from None
    except OSError:
        raise ModelFileError(
            f"The folder {path.parent} is not writable; choose another place for {path.name}."
        ) from None
    if path.exists() and path.stat().st_size and _read_header(path) is None:
        raise ModelFileError(f"{path} exists and is not a model of sk_ulmfit; it is left alone. Choose another name.")


def load_state(path: str | os.PathLike[str], kind: str | None) -> ModelState:
    """Read what `save_state` wrote.

    Parameters
    ----------
    path : path-like
        File to read.
    kind : {"language_model", "classifier"} or None
        Expected kind of model; None accepts both.

    Raises
    ------
    ModelFileError
        If the file does not exist, is not a model, is damaged, or has another kind or a later format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    header = _checked_header(path, kind)
    damaged = ModelFileError(f"{path} is damaged (its contents do not match its checksum); copy or save it again.")
    try:
        weights = load_file(path)
        if header["digest"] != _digest(header, weights):
            raise damaged
        state = ModelState(
            header["kind"],
            json.loads(header["config"]),
            Vocabulary.from_json(header["vocabulary"]),
            _expand(weights),
            json.loads(header["history"]),
        )
    except (SafetensorError, KeyError, ValueError):
        raise damaged from None
    _check_complete(state, path)
    return state


def _checked_header(path: Path, kind: str | None) -> dict[str, str]:
    """Return the header of a model file; raise ModelFileError unless the file has the kind and a known format."""
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; a model of sk_ulmfit is one file.")
    if not path.is_file():
        raise ModelFileError(f"There is no file {path}; give the path that save() wrote.")
    header = _read_header(path)
    if header is None:
        raise ModelFileError(f"{path} is not a model of sk_ulmfit, or is cut off; give a file that save() wrote.")
    if kind is not None and header["kind"] != kind:
        actual, expected = (name.replace("_", " ") for name in (header["kind"], kind))
        raise ModelFileError(f"{path} holds a {actual}, not a {expected}; load it with the class that saved it.")
    if int(header["format_version"]) > FORMAT_VERSION:
        raise ModelFileError(f"{path} was written by a later version of sk_ulmfit; upgrade the package to read it.")
    return header


def _read_header(path: Path) -> dict[str, str] | None:
    """Return the header of a model file, or None if the file is not a model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
    except SafetensorError:
        return None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error}).") from None
    is_known = header.get("format") == FORMAT and "kind" in header
    return header if is_known and header.get("format_version", "").isdigit() else None


def _check_complete(state: ModelState, path: Path) -> None:
    """Raise ModelFileError if the config lacks a key, or the embedding does not fit the vocabulary."""
    missing = _CONFIG[state.kind] - state.config.keys()
    n_rows = state.weights.get("encoder.embedding.weight", np.zeros(0)).shape[0]
    if missing or n_rows != len(state.vocabulary):
        reason = f"no {min(missing)}" if missing else f"{n_rows} embeddings for {len(state.vocabulary)} words"
        raise ModelFileError(
            f"{path} does not describe a whole {state.kind.replace('_', ' ')} ({reason}); save it again."
        )


def _compact(weights: Weights) -> Weights:
    """Round each matrix to int8, from -127 to 127, times one float32 scale per row."""
    compact: Weights = {}
    for name, array in weights.items():
        if array.ndim != 2:
            compact[name] = array
            continue
        scale = np.maximum(np.abs(array).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
        compact[name] = np.rint(array / scale).astype(np.int8)
        compact[name + SCALE] = scale.astype(np.float32)
    return compact


def _expand(weights: Weights) -> Weights:
    return {
        name: array * weights[name + SCALE] if name + SCALE in weights else array
        for name, array in weights.items()
        if not name.endswith(SCALE)
    }


def _digest(header: Mapping[str, str], weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in ("kind", "config", "vocabulary", "history"):
        digest.update(f"{name} {header[name]}\n".encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
