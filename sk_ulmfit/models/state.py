"""Models as plain data, and their files: safetensors with a JSON header. Loading runs no code from a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import NotAFileError, as_path, atomic_write, check_writable_folder, writable_target
from sk_ulmfit._validation import check_bool
from sk_ulmfit.models.container import Container, ContainerError, Place, check_header_size, count_values, parse_json
from sk_ulmfit.models.schema import (
    KINDS,
    LINEAR_MODEL,
    SCALE,
    SECOND_NETWORK,
    TEACHER,
    VECTOR,
    LaterVersionError,
    check_config,
    check_history,
    check_layout,
    check_linear_model,
    check_values,
    check_vocabulary,
)
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.streams import Advance, StreamedTexts
from sk_ulmfit.text.unknown_words import WordCount
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

FORMAT = "sk_ulmfit"
# 2: matrices may be compact; 3: parameters of a classifier were renamed; 4: there may be a vector of texts;
# 5: regressors
FORMAT_VERSION = 5
_HEADER_KEYS = {"format", "format_version", "kind", "config", "vocabulary", "history", "digest"}

Weights = dict[str, NDArray[Any]]


@dataclass
class ModelState:
    """A trained model as plain data.

    Parameters
    ----------
    kind : {"language_model", "classifier", "regressor"}
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

    def encode(
        self,
        texts: Sequence[str] | StreamedTexts,
        n_jobs: int | None = None,
        word_count: WordCount | None = None,
        advance: Advance | None = None,
    ) -> TokenIds:
        """Return the token ids of texts, in the direction in which the model reads; the rest as in `encode_texts`."""
        backward = reads_backward(self.config)
        language = self.config["language"]
        return encode_texts(
            texts, self.vocabulary, language, n_jobs, backward=backward, word_count=word_count, advance=advance
        )


def reads_backward(config: Mapping[str, Any]) -> bool:
    """Tell whether a model reads texts from the end; a config without a direction means forward."""
    return bool(config.get("direction") == "backward")


class ModelFileError(ValueError):
    """A file is not a model of the expected kind, or is damaged."""


def save_state(
    state: ModelState, path: str | os.PathLike[str], *, compact: bool = False, overwrite: bool = True
) -> None:
    """Write a model to one file, completely or not at all.

    Parameters
    ----------
    state : ModelState
        The model.
    path : path-like
        File to write.
    compact : bool, default=False
        Whether to round matrices to 8 bits with one scale per row, for a quarter of the size.
    overwrite : bool, default=True
        Whether to replace a model that is in the file already. A file that is not a model is never replaced.

    Raises
    ------
    ModelFileError
        If the file cannot be written, or exists and is not a model of this package.
    """
    from safetensors.numpy import save

    check_target(path, overwrite)
    weights = _compact(state.weights) if compact else state.weights
    header = {
        "format": FORMAT,
        "format_version": str(_format_version(state, compact)),
        "kind": state.kind,
        "config": json.dumps(state.config),
        "vocabulary": state.vocabulary.to_json(),
        "history": json.dumps(state.history),
    }
    header["digest"] = _digest(header, weights)
    content = save({name: np.ascontiguousarray(array) for name, array in weights.items()}, metadata=header)
    _check_header_size(content)
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise ModelFileError(f"{path} could not be written ({error}); choose another place.") from None


def _format_version(state: ModelState, compact: bool) -> int:
    """Return the first version of the format that has all that a model needs."""
    if state.kind == "regressor":
        return 5
    if any(name.removeprefix(SECOND_NETWORK).startswith(VECTOR) for name in state.weights):
        return 4
    if state.kind == "classifier":
        return 3
    return 2 if compact else 1


def check_target(path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Check, before training, that a model can be written to a path; raise ModelFileError if not."""
    check_bool("overwrite", overwrite)
    path = as_path(path, ModelFileError)
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
    if path.exists() and path.stat().st_size and not _is_model(path):
        raise ModelFileError(f"{path} already exists and is not a model of sk_ulmfit; choose another name.")
    if path.exists() and not overwrite:
        raise ModelFileError(f"{path} already exists; pass overwrite=True to replace it.")


def _is_model(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return Container(file).metadata.get("format") == FORMAT
    except ContainerError:
        return False
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error}).") from None


def _check_header_size(content: bytes) -> None:
    """Raise ModelFileError if a file would have a larger header than `load_state` reads."""
    n_bytes = int.from_bytes(content[:8], "little")
    try:
        check_header_size(n_bytes, count_values(content[8 : 8 + n_bytes]), len(content))
    except ContainerError as error:
        raise ModelFileError(
            f"The model was not saved, since no file like it is read ({error}); shorten its metadata."
        ) from None


def load_state(path: str | os.PathLike[str], kind: str | None) -> ModelState:
    """Read what `save_state` wrote.

    The file is checked against `models.schema` before anything is built from it; memory and time are in proportion to
    its size.

    Parameters
    ----------
    path : path-like
        File to read.
    kind : {"language_model", "classifier", "regressor"} or None
        Expected kind of model; None accepts each.

    Raises
    ------
    ModelFileError
        If the file does not exist, is not a model, is damaged, holds something that no model has, or has another kind
        or a later format.
    """
    path = as_path(path, ModelFileError)
    try:
        if path.is_dir():
            raise ModelFileError(f"{path} is a folder; a model of sk_ulmfit is one file.")
        if not path.exists():
            raise ModelFileError(f"There is no file {path}; give the path that save() wrote.")
        if not path.is_file():
            raise ModelFileError(f"{path} is not a regular file; give the path that save() wrote.")
        with path.open("rb") as file:
            return _read_state(_open_container(file, path), path, kind)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error}).") from None


def holds_vector(path: Path) -> bool:
    """Tell by its header whether a file holds a model that has a vector of a text; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return "vector.weight" in _open_container(file, path)
    except (OSError, ModelFileError):
        return False


def kind_of(path: Path) -> str | None:
    """Return the kind of model that a file holds, by its header; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return _open_container(file, path).metadata["kind"]
    except (OSError, ModelFileError):
        return None


def digest_of(path: Path) -> str | None:
    """Return what the header of a model file says of its contents, which `load_state` checks; None if unreadable."""
    try:
        with path.open("rb") as file:
            return _open_container(file, path).metadata.get("digest")
    except (OSError, ModelFileError):
        return None


@contextmanager
def describing(path: str | os.PathLike[str], kind: str) -> Iterator[None]:
    """Turn a ValueError about what a file holds into a ModelFileError."""
    try:
        yield
    except ModelFileError:
        raise
    except LaterVersionError as error:
        raise ModelFileError(
            f"{path} was written by a later version of sk_ulmfit ({error}); upgrade sk-ulmfit to read it."
        ) from None
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        reason = reason if len(reason) <= 300 else reason[:297] + "..."
        raise ModelFileError(
            f"{path} does not describe a whole {kind.replace('_', ' ')} ({reason}); save it again."
        ) from None


def _open_container(file: IO[bytes], path: Path) -> Container:
    """Read the header of a model file; raise ModelFileError if the file is foreign or of a later format."""
    try:
        container = Container(file)
    except ContainerError as error:
        raise ModelFileError(
            f"{path} is not a model of sk_ulmfit, or is cut off ({error}); give a file that save() wrote."
        ) from None
    header = container.metadata
    version = header.get("format_version", "")
    if header.get("format") != FORMAT or not re.fullmatch("[0-9]{1,9}", version) or "kind" not in header:
        raise ModelFileError(f"{path} is not a model of sk_ulmfit; give a file that save() wrote.")
    if int(version) > FORMAT_VERSION:
        raise ModelFileError(f"{path} was written by a later version of sk_ulmfit; upgrade sk-ulmfit to read it.")
    return container


def _read_state(container: Container, path: Path, kind: str | None) -> ModelState:
    header = container.metadata
    own = header["kind"]
    if own not in KINDS:
        raise ModelFileError(f"{path} holds no language model and no classifier; give a file that save() wrote.")
    if kind not in (None, own):
        actual, expected = (name.replace("_", " ") for name in (own, str(kind)))
        raise ModelFileError(f"{path} holds a {actual}, not a {expected}; load it with the class that saved it.")
    if header.keys() != _HEADER_KEYS or header["digest"] != _digest(header, container):
        raise ModelFileError(f"{path} is damaged (its contents do not match its checksum); copy or save it again.")
    with describing(path, own):
        config = parse_json(header["config"])
        check_config(own, config)
        return checked_state(own, config, header["vocabulary"], header["history"], container, container.places)


def checked_state(
    kind: str,
    config: dict[str, Any],
    vocabulary: str,
    history: str,
    arrays: Mapping[str, NDArray[Any]],
    places: Mapping[str, Place],
) -> ModelState:
    """Make a model of a configuration that was checked, of JSON, and of arrays, which are read one by one.

    Raises ValueError unless all belongs together; `places` has type and shape of each array before it is read.
    """
    parsed = parse_json(history)
    check_history(parsed)
    words = check_vocabulary(parse_json(vocabulary))
    check_layout(kind, config, len(words), places)
    weights = _read_weights(arrays)
    if f"{LINEAR_MODEL}words" in weights:
        check_linear_model(weights, len(words))
    return ModelState(kind, config, words, weights, parsed)


def _read_weights(arrays: Mapping[str, NDArray[Any]]) -> Weights:
    """Read and check the arrays one by one; compact matrices become float32."""
    weights: Weights = {}
    for name in arrays:
        if name.endswith(SCALE):
            continue
        array = arrays[name]
        check_values(name, array)
        if name + SCALE in arrays:
            scale = arrays[name + SCALE]
            check_values(name + SCALE, scale)
            array = array * scale
        weights[name] = array
    return weights


def _compact(weights: Weights) -> Weights:
    """Round each matrix to int8, from -127 to 127, times one float32 scale per row; the teacher's stay as they are."""
    compact: Weights = {}
    for name, array in weights.items():
        is_matrix = array.ndim == 2 and array.shape[1] > 1 and array.dtype == np.float32  # one column would only grow
        if not is_matrix or name.startswith(TEACHER):
            compact[name] = array
            continue
        compact[name], compact[name + SCALE] = round_rows(array)
    return compact


def round_rows(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix to whole numbers from -127 to 127, and return them with one scale per row, shape (n_rows, 1)."""
    scale = np.maximum(np.abs(matrix).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)


def _digest(header: Mapping[str, str], weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in ("kind", "config", "vocabulary", "history"):
        digest.update(f"{name} {header[name]}\n".encode())
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
