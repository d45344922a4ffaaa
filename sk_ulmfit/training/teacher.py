"""The teacher: a sentence encoder from a folder, read with sentence-transformers, or a function of the user."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit._files import as_path
from sk_ulmfit._messages import short, short_text
from sk_ulmfit.nn.precision import has_fast_bfloat16
from sk_ulmfit.text.streams import Advance

Encode = Callable[[list[str]], Any]  # n texts to vectors (n, n_dims)

PIECES_AT_ONCE = 1_024  # word pieces of a batch, padding included; more are slower on one core
_TEXTS_AT_ONCE = 1_024  # of a function
_PROBE = "The lamp is on."
_NEEDS_EXTRA = "A teacher from a folder needs sentence-transformers ({}): pip install 'sk-ulmfit[teacher]'."


class Teacher(ABC):
    """A sentence encoder; `fingerprint` identifies it. A model is loaded once anything else is asked for."""

    fingerprint: str

    def load(self) -> None:
        """Load the model, unless that was done, and try it."""
        _ = self.n_dims

    @cached_property
    def n_dims(self) -> int:
        """Number of dimensions of the vectors."""
        return checked_vectors(self._encode([_PROBE]), [_PROBE], None).shape[1]

    @abstractmethod
    def _encode(self, texts: list[str]) -> Any:
        """Return the vectors of texts, not checked."""

    @abstractmethod
    def readable(self, text: str) -> str:
        """Return the text up to the last word that the teacher reads."""

    @abstractmethod
    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        """Yield the indices of some texts and their vectors, until every text has had its turn."""

    def vectors(self, texts: Sequence[str], after_batch: Advance | None = None) -> NDArray[np.float32]:
        """Return the vectors of texts, (n, n_dims), scaled to length 1.

        `after_batch` is called with the number of texts of each batch, and may raise an exception to stop.
        """
        result = np.empty((len(texts), self.n_dims), np.float32)
        for rows, vectors in self._batches(texts):
            result[rows] = checked_vectors(vectors, [texts[row] for row in rows], self.n_dims)
            if after_batch is not None:
                after_batch(len(rows))
        return result


def load_teacher(teacher: str | os.PathLike[str] | Encode, device: str) -> Teacher:
    """Return the teacher in a folder, or one that calls a function; raise ValueError if it is neither."""
    found = find_teacher(teacher, device)
    found.load()
    return found


def find_teacher(teacher: str | os.PathLike[str] | Encode, device: str) -> Teacher:
    """Return a teacher like `load_teacher`; a model in a folder is loaded once it is needed, which takes seconds."""
    check_teacher(teacher)
    if callable(teacher):
        return FunctionTeacher(teacher)
    return FolderTeacher(as_path(teacher, ValueError), device)


def check_teacher(teacher: Any) -> None:
    """Raise ValueError unless a teacher is a path or a function."""
    if callable(teacher) or isinstance(teacher, (str, os.PathLike)):
        return
    raise ValueError(
        "teacher must be the folder of a sentence-transformers model, or a function from a list of texts to their "
        f"vectors; got {short(teacher)} of type {type(teacher).__name__}."
    )


def checked_vectors(vectors: Any, texts: Sequence[str], n_dims: int | None) -> NDArray[np.float32]:
    """Return what a teacher made of texts as float32, (n, n_dims), scaled to length 1.

    Raises ValueError if it has another shape or type, or if a vector is zero or not finite.
    """
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().float().cpu().numpy()
    try:
        if vectors is None:
            raise TypeError
        vectors = np.asarray(vectors, np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            f"The teacher returned {short(vectors)} of type {type(vectors).__name__}; it must return an array of "
            "numbers, one row per text."
        ) from None
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
        raise ValueError(
            f"The teacher returned an array of shape {vectors.shape} for {len(texts)} texts; it must return one row "
            "per text."
        )
    if n_dims is not None and vectors.shape[1] != n_dims:
        raise ValueError(f"The teacher returned vectors of {vectors.shape[1]} numbers, and before of {n_dims}.")
    lengths = np.linalg.norm(vectors, axis=1)
    for problem, is_bad in (("not finite", ~np.isfinite(lengths)), ("zero", lengths == 0)):
        if is_bad.any():
            raise ValueError(
                f"The teacher's vector of the text {short(texts[int(is_bad.argmax())])} is {problem}; every text needs "
                "a vector that has a direction."
            )
    return vectors / lengths[:, None]


class FunctionTeacher(Teacher):
    """A function from a list of texts to vectors, (n, n_dims): it reads whole texts; only `n_dims` identifies it."""

    def __init__(self, encode: Encode):
        self._function = encode
        self.fingerprint = f"function, {self.n_dims} dimensions"

    def _encode(self, texts: list[str]) -> Any:
        return self._function(texts)

    def readable(self, text: str) -> str:
        """Return the text."""
        return text

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = list(texts[start : start + _TEXTS_AT_ONCE])
            yield list(range(start, start + len(part))), self._encode(part)


class FolderTeacher(Teacher):
    """A model of sentence-transformers in a folder, without access to the network and without code of its own."""

    def __init__(self, folder: Path, device: str):
        self.fingerprint = fingerprint(folder)
        self.folder, self.device = folder, device
        _check_extra()

    @cached_property
    def _model(self) -> Any:
        return _load_model(self.folder, self.device)

    @property
    def _tokenizer(self) -> Any:
        tokenizer = self._model.tokenizer
        return tokenizer if getattr(tokenizer, "is_fast", False) else None

    @property
    def _max_pieces(self) -> int | None:
        return None if self._tokenizer is None else self._model.max_seq_length

    def readable(self, text: str) -> str:
        """Return the text up to the last word that the teacher reads."""
        most = self._max_pieces
        if most is None:
            return text
        pieces = self._tokenizer(text, verbose=False)
        if len(pieces["input_ids"]) <= most:
            return text
        first_unread = pieces.token_to_word(most - 1)  # the last piece is a mark
        return text[: pieces.word_to_chars(first_unread).start].rstrip()

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[list[int], Any]]:
        lengths = self._lengths(texts)
        order = sorted(range(len(texts)), key=lambda row: (-lengths[row], row))
        while order:
            size = max(1, PIECES_AT_ONCE // lengths[order[0]])
            yield order[:size], self._encode([texts[row] for row in order[:size]])
            order = order[size:]

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Return the word pieces of each text; its words if the model has a tokenizer of another kind."""
        if self._tokenizer is None:
            return [len(text.split()) + 1 for text in texts]
        cut = {} if self._max_pieces is None else {"truncation": True, "max_length": self._max_pieces}
        return [len(ids) for ids in self._tokenizer(list(texts), **cut, verbose=False)["input_ids"]]

    def _encode(self, texts: list[str]) -> Any:
        return self._model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the weights of a model in a folder; raise ValueError if there are none."""
    if not (folder / "modules.json").is_file():
        raise ValueError(
            f"{folder} is not the folder of a sentence-transformers model: it has no modules.json; pass the path of a "
            "folder that was downloaded, or saved with SentenceTransformer.save."
        )
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no weights in safetensors format; save the model with them.")
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while part := opened.read(2**24):
                digest.update(part)
    return digest.hexdigest()


def _check_extra() -> None:
    """Raise ValueError unless sentence-transformers is installed, without importing it, which takes seconds."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ValueError(_NEEDS_EXTRA.format("it is not installed"))


def _load_model(folder: Path, device: str) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise a later fork prints a warning
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(_NEEDS_EXTRA.format(short_text(error))) from None
    try:
        with _quiet():
            return SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": _dtype(device), "use_safetensors": True},
            )
    except Exception as error:  # of any type, from files of any origin
        raise ValueError(
            f"{folder} cannot be loaded as a sentence-transformers model ({short_text(error, 200)})."
        ) from None


def _dtype(device: str) -> torch.dtype:
    if has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.startswith("cuda") else torch.float32


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep messages and progress bars of other packages from the terminal."""
    from transformers.utils import logging as messages

    bars, verbosity = messages.is_progress_bar_enabled(), messages.get_verbosity()
    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    try:
        messages.disable_progress_bar()
        messages.set_verbosity_error()
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        messages.set_verbosity(verbosity)
        if bars:
            messages.enable_progress_bar()
