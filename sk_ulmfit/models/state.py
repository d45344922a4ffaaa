"""Models on disk: one safetensors file with its JSON header, and the name maps of published encoders.

Loading runs no code from the file.
"""

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
DIRECTIONS = ("forward", "backward")  # in which a network can read
SCALE = ":scale"  # ends the name of the scales of a compact matrix

Weights = dict[str, NDArray[Any]]

# What the config of each kind of model holds at the least.
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
        What it is.
    config : dict
        Sizes, language, labels and settings; only what JSON can hold.
    vocabulary : Vocabulary
        Words of the embedding's rows.
    weights : dict of str to ndarray
        Tensors by their name in the module.
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
    """Tell whether a model reads its texts from the end; files of earlier versions do not say, and read forward."""
    return bool(config.get("direction") == "backward")


class ModelFileError(ValueError):
    """A file is not a model of the kind asked for, or is damaged."""


def save_state(state: ModelState, path: str | os.PathLike[str], *, compact: bool = False) -> None:
    """Write a model to one file, completely or not at all.

    Parameters
    ----------
    state : ModelState
        The model.
    path : path-like
        File to write; an older model there is replaced, any other file is left alone.
    compact : bool, default=False
        Round the matrices to 8 bits, with one scale per row: a quarter of the size.

    Raises
    ------
    ModelFileError
        If `path` is a folder, or a file that is not a model of this package.
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
    """Check, before any long work, that a model can be written to a path.

    Parameters
    ----------
    path : path-like
        File to be written later.

    Raises
    ------
    ModelFileError
        If the folder does not exist or is read-only, or the path is taken by something that is not a model.
    """
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
        What is wanted; None takes either.

    Returns
    -------
    ModelState
        The model, on the CPU.

    Raises
    ------
    ModelFileError
        If there is no such file, or it is foreign, damaged, of another kind, or of a later format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; a model of sk_ulmfit is one file.")
    if not path.is_file():
        raise ModelFileError(f"There is no file {path}; give the path that save() wrote.")
    header = _read_header(path)
    if header is None:
        raise ModelFileError(f"{path} is not a model of sk_ulmfit; give a file that save() wrote.")
    if kind is not None and header["kind"] != kind:
        named = header["kind"].replace("_", " ")
        raise ModelFileError(
            f"{path} holds a {named}, not a {kind.replace('_', ' ')}; load it with the class that saved it."
        )
    if int(header["format_version"]) > FORMAT_VERSION:
        raise ModelFileError(f"{path} was written by a later version of sk_ulmfit; upgrade the package to read it.")
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
    kind = state.kind
    missing = _CONFIG[kind] - state.config.keys()
    rows = state.weights.get("encoder.embedding.weight", np.zeros(0)).shape[0]
    if missing or rows != len(state.vocabulary):
        reason = f"no {min(missing)}" if missing else f"{rows} embeddings for {len(state.vocabulary)} words"
        raise ModelFileError(f"{path} does not describe a whole {kind.replace('_', ' ')} ({reason}); save it again.")
    return state


def _read_header(path: Path) -> dict[str, str] | None:
    """Give the metadata of a model file, or None if it is not one."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= 100_000_000 or size > path.stat().st_size:
                return None
            header = json.loads(file.read(size))["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    known = isinstance(header, dict) and header.get("format") == FORMAT
    complete = known and {"kind", "format_version"} <= header.keys() and header["format_version"].isdigit()
    return header if complete else None


def _compact(weights: Weights) -> Weights:
    """Round each matrix to whole numbers from -127 to 127 times a scale per row."""
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


def fit_vocabulary(weights: Weights, old: Vocabulary, new: Vocabulary) -> Weights:
    """Give the weights of a language model for another vocabulary.

    A word that both have keeps its row of the embedding and its bias; a new word gets the mean row and
    the mean bias (Howard & Ruder 2018, as in the authors' scripts and in fastai 2).

    Parameters
    ----------
    weights : dict of str to ndarray
        Weights of a language model.
    old, new : Vocabulary
        Its vocabulary, and the one wanted.

    Returns
    -------
    dict of str to ndarray
        New embedding and bias; all other arrays are the same objects.
    """
    if old == new:
        return weights
    rows = np.array([old.index(word) if word in old else -1 for word in new.words])
    known = rows >= 0
    result = dict(weights)
    for name in ("encoder.embedding.weight", "decoder_bias"):
        array = weights[name]
        chosen = array[rows]
        chosen[~known] = array.mean(0)
        result[name] = chosen
    return result
