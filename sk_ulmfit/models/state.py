"""Models on disk: one safetensors file with its JSON header, and the name maps of published encoders.

Loading runs no code from the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.corpus import encode_texts
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import SPECIAL_TOKENS, TokenIds, Vocabulary

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

# Marker tokens of fastai 0.7, by their name here.
_OLD_MARKERS = {
    "_unk_": "xxunk", "_pad_": "xxpad", "xbos": "xxbos", "xfld": "xxfld",
    "tk_rep": "xxrep", "tk_wrep": "xxwrep", "t_up": "xxup",
}  # fmt: skip


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

    def encode(self, texts: Sequence[str] | StreamedTexts, n_jobs: int | None = None) -> TokenIds:
        """Give texts as the model reads them; see `encode`."""
        return encode(texts, self.vocabulary, self.config, n_jobs)


def encode(
    texts: Sequence[str] | StreamedTexts,
    vocabulary: Vocabulary,
    config: Mapping[str, Any],
    n_jobs: int | None = None,
) -> TokenIds:
    """Turn texts into what a model reads: ids of its vocabulary, in its direction.

    Parameters
    ----------
    texts : sequence of str or StreamedTexts
        Raw texts.
    vocabulary : Vocabulary
        Words of the model.
    config : dict
        Its configuration, of which ``language`` and ``direction`` are looked at.
    n_jobs : int or None, default=None
        Worker processes, as in joblib.

    Returns
    -------
    TokenIds
        One document per text, at least one token long.
    """
    return encode_texts(texts, vocabulary, config["language"], n_jobs, backward=reads_backward(config))


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
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file({name: np.ascontiguousarray(a) for name, a in weights.items()}, temporary, metadata=header)
        temporary.chmod(mode)  # safetensors lets only the owner read
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} could not be written ({error}); choose another place.") from None
    finally:
        temporary.unlink(missing_ok=True)


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
    probe = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        probe.touch()
        probe.unlink()
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


def load_fastai(
    state_dict_path: str | os.PathLike[str], vocab: Sequence[str] | str | os.PathLike[str]
) -> tuple[Weights, Vocabulary]:
    """Read an AWD-LSTM encoder published for fastai.

    Parameters
    ----------
    state_dict_path : path-like
        ``.pth`` file of fastai 0.7, 1 or 2; read with ``weights_only=True``.
    vocab : sequence of str, or path-like
        Words in id order (fastai's ``itos``); as a file, a JSON list, or text with one word a line.

    Returns
    -------
    weights : dict of str to ndarray of float32
        Parameters of `sk_ulmfit.nn.modules.AWDLSTM` by name, for its ``load_state_dict``.
    vocabulary : Vocabulary
        Words of the embedding's rows; ids of the file are kept, missing marker tokens follow behind.

    Raises
    ------
    ModelFileError
        If tensors are missing, do not fit together, or belong to another architecture.
    """
    state = load_fastai_language_model(state_dict_path, vocab)
    prefix = "encoder."
    weights = {n.removeprefix(prefix): array for n, array in state.weights.items() if n.startswith(prefix)}
    return weights, state.vocabulary


def load_fastai_language_model(
    state_dict_path: str | os.PathLike[str],
    vocab: Sequence[str] | str | os.PathLike[str],
    language: str = "en",
) -> ModelState:
    """Read a whole language model published for fastai; parameters as in `load_fastai`.

    Parameters
    ----------
    state_dict_path : path-like
        ``.pth`` file.
    vocab : sequence of str, or path-like
        Words in id order.
    language : str, default="en"
        Language code of spaCy's tokenizer.

    Returns
    -------
    ModelState
        A language model; the decoder bias is zero where the file has none.
    """
    path = Path(state_dict_path)
    tensors = _read_state_dict(path)
    words = [_OLD_MARKERS.get(word, word) for word in _read_words(vocab)]

    def take(name: str, *alternatives: str, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
        found = next((key for key in (name, *alternatives) if key in tensors), None)
        if found is None:
            raise ModelFileError(f"{path} has no tensor {name!r}; an AWD-LSTM of fastai was expected.")
        array = tensors[found]
        if array.ndim != len(shape) or any(
            want not in (None, got) for want, got in zip(shape, array.shape, strict=True)
        ):
            wanted = " x ".join("any" if n is None else str(n) for n in shape)
            raise ModelFileError(f"{path}: tensor {found!r} has shape {array.shape}, expected {wanted}.")
        return array.astype(np.float32)

    embedding = take("0.encoder.weight", shape=(None, None))
    if len(embedding) != len(words):
        raise ModelFileError(
            f"{path} has an embedding of {len(embedding)} rows, but the vocabulary has {len(words)} words; "
            "give the itos list that was published with it."
        )
    emb_dim = embedding.shape[1]
    layers = sorted({int(m.group(1)) for name in tensors if (m := re.match(r"0\.rnns\.(\d+)\.", name))})
    if not layers or layers != list(range(len(layers))):
        raise ModelFileError(f"{path} has LSTM layers {layers}; layers 0, 1, ... were expected (AWD-LSTM of fastai).")
    weights: Weights = {}
    n_in = emb_dim
    for i in layers:
        rnn, raw = f"0.rnns.{i}.module.", f"0.rnns.{i}.weight_hh_l0_raw"
        recurrent = take(raw, f"{rnn}weight_hh_l0_raw", f"{rnn}weight_hh_l0", shape=(None, None))
        width = recurrent.shape[1]
        if i == len(layers) - 1 and width != emb_dim:
            raise ModelFileError(f"{path}: the last layer is {width} wide, expected {emb_dim} as the embedding.")
        if i < len(layers) - 1 and i and width != n_in:
            raise ModelFileError(f"{path}: layer {i} is {width} wide, expected {n_in} as the layer below.")
        ours = f"encoder.rnns.{i}."
        weights[ours + "weight_hh_l0"] = take(
            raw, f"{rnn}weight_hh_l0_raw", f"{rnn}weight_hh_l0", shape=(4 * width, width)
        )
        weights[ours + "weight_ih_l0"] = take(rnn + "weight_ih_l0", shape=(4 * width, n_in))
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            weights[ours + bias] = take(rnn + bias, shape=(4 * width,))
        n_in = width
    if "1.decoder.bias" in tensors:
        decoder_bias = take("1.decoder.bias", shape=(len(words),))
    else:
        decoder_bias = np.zeros(len(words), np.float32)
    vocabulary = Vocabulary(words)
    added = len(vocabulary) - len(words)
    weights["encoder.embedding.weight"] = np.concatenate([embedding, np.tile(embedding.mean(0), (added, 1))])
    weights["decoder_bias"] = np.concatenate([decoder_bias, np.full(added, decoder_bias.mean(), np.float32)])
    sizes = {
        "emb_dim": emb_dim,
        "hidden_dim": int(weights["encoder.rnns.0.weight_hh_l0"].shape[1]) if len(layers) > 1 else emb_dim,
        "n_layers": len(layers),
    }
    return ModelState("language_model", {**sizes, "language": language}, vocabulary, weights)


def _read_state_dict(path: Path) -> dict[str, NDArray[Any]]:
    import pickle

    import torch

    if not path.is_file():
        raise ModelFileError(f"There is no file {path}; give the .pth file of a published encoder.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, OSError):
        raise ModelFileError(
            f"{path} is not a plain PyTorch state dict (it is damaged, or holds objects that would run code); "
            "nothing was loaded. Save the state dict of the model alone with torch.save."
        ) from None
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ModelFileError(f"{path} is not a state dict (a dict from names to tensors).")
    if any(".layers." in name or ".linear." in name for name in content):
        raise ModelFileError(f"{path} is a QRNN; only AWD-LSTM encoders can be loaded.")
    return {name: value.detach().float().numpy() for name, value in content.items()}


def _read_words(vocab: Sequence[str] | str | os.PathLike[str]) -> list[str]:
    if not isinstance(vocab, (str, os.PathLike)):
        return list(vocab)
    path = Path(vocab)
    if path.suffix == ".pkl":
        raise ModelFileError(f"{path} is a pickle, which can run code; convert it to a JSON list of words first.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"The vocabulary {path} cannot be read as UTF-8 text: {error}.") from None
    try:
        words = json.loads(text)
    except ValueError:
        words = text.removesuffix("\n").split("\n")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ModelFileError(f"The vocabulary {path} must be a JSON list of words, or one word a line.")
    return words


assert set(_OLD_MARKERS.values()) <= set(SPECIAL_TOKENS)
