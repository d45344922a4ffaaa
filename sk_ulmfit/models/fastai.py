"""Language models published for fastai."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import as_path
from sk_ulmfit._messages import short
from sk_ulmfit.models.state import ModelFileError, ModelState, Weights
from sk_ulmfit.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

# Special tokens of fastai 0.7, and their present names.
_OLD_MARKERS = {
    "_unk_": "xxunk", "_pad_": "xxpad", "xbos": "xxbos", "xfld": "xxfld",
    "tk_rep": "xxrep", "tk_wrep": "xxwrep", "t_up": "xxup",
}  # fmt: skip
_LARGEST_WEIGHT = 1e6  # no training ends there; damaged numbers do


def load_fastai(
    state_dict_path: str | os.PathLike[str], vocab: Sequence[str] | str | os.PathLike[str]
) -> tuple[Weights, Vocabulary]:
    """Read an AWD-LSTM encoder published for fastai.

    Parameters
    ----------
    state_dict_path : path-like
        ``.pth`` file of fastai 0.7, 1 or 2; read with ``weights_only=True``.
    vocab : sequence of str, or path-like
        Words in id order (fastai's ``itos``), or a file with them: a JSON list, or one word per line.

    Returns
    -------
    weights : dict of str to ndarray of float32
        Parameters of `sk_ulmfit.nn.modules.AWDLSTM` by name, for its ``load_state_dict``.
    vocabulary : Vocabulary
        Words, one for each row of the embedding, with the ids of the file; missing special tokens are appended.

    Raises
    ------
    ModelFileError
        If a file cannot be read or is damaged, its tensors are missing, do not fit together, or are of another
        architecture, or the vocabulary is not a list of distinct words, one for each row of the embedding.
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
    """Read a language model published for fastai; its decoder bias is zero if the file has none.

    Parameters
    ----------
    state_dict_path, vocab : path-like
        As in `load_fastai`.
    language : str, default="en"
        Language code of spaCy's tokenizer.
    """
    words = _read_words(vocab)
    tensors = _Tensors(as_path(state_dict_path, ModelFileError))
    embedding = tensors.take("0.encoder.weight", shape=(None, None))
    if len(embedding) != len(words):
        raise ModelFileError(
            f"{tensors.path} has an embedding of {len(embedding)} rows, but the vocabulary has {len(words)} words; "
            "give the itos list that was published with it."
        )
    emb_dim = embedding.shape[1]
    n_layers = _count_layers(tensors)
    weights = _lstm_weights(tensors, emb_dim, n_layers)
    if "1.decoder.bias" in tensors.tensors:
        decoder_bias = tensors.take("1.decoder.bias", shape=(len(words),))
    else:
        decoder_bias = np.zeros(len(words), np.float32)
    vocabulary = Vocabulary(words)
    n_added = len(vocabulary) - len(words)
    weights["encoder.embedding.weight"] = np.concatenate([embedding, np.tile(embedding.mean(0), (n_added, 1))])
    weights["decoder_bias"] = np.concatenate([decoder_bias, np.full(n_added, decoder_bias.mean(), np.float32)])
    hidden_dim = int(weights["encoder.rnns.0.weight_hh_l0"].shape[1]) if n_layers > 1 else emb_dim
    config = {"emb_dim": emb_dim, "hidden_dim": hidden_dim, "n_layers": n_layers, "language": language}
    return ModelState("language_model", config, vocabulary, weights)


class _Tensors:
    """The tensors of a state dict, taken out by name with their shapes and values checked."""

    def __init__(self, path: Path):
        self.path = path
        self.tensors = _read_state_dict(path)
        self.bytes_left = 2 * path.stat().st_size  # of 16-bit numbers that become 32-bit ones

    def take(self, *names: str, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
        """Return the first tensor that exists under one of the names; None in `shape` matches any size."""
        name = next((name for name in names if name in self.tensors), None)
        if name is None:
            raise ModelFileError(f"{self.path} has no tensor {short(names[0])}; an AWD-LSTM of fastai was expected.")
        tensor = self.tensors[name]
        if reason := _reason_against(tensor) or _misfit(tuple(tensor.shape), shape):
            raise ModelFileError(f"{self.path}: tensor {short(name)} {reason}.")
        self.bytes_left -= 4 * tensor.numel()
        if self.bytes_left < 0:
            raise ModelFileError(
                f"{self.path}: tensor {short(name)} and others share their values; save each by itself."
            )
        with np.errstate(over="ignore"):  # float64
            array = np.array(tensor.detach().resolve_neg().float().numpy(), np.float32)
        if not (np.abs(array) < _LARGEST_WEIGHT).all():
            raise ModelFileError(f"{self.path}: tensor {short(name)} holds values that are NaN, infinite or above 1e6.")
        return array


def _reason_against(tensor: Tensor) -> str | None:
    """Return why a tensor is not an ordinary one of floating-point numbers; None if it is."""
    import torch

    is_dense = not tensor.is_nested and tensor.layout == torch.strided and tensor.device.type == "cpu"
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not is_dense:
        return "has no values of its own, or is sparse or nested; expected a dense tensor"
    if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        return f"has dtype {str(tensor.dtype).removeprefix('torch.')}, expected float32"
    if not tensor.numel():
        return f"has shape {tuple(tensor.shape)}, which holds no values"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"has shape {tuple(tensor.shape)}, but fewer values"
    return None


def _misfit(actual: tuple[int, ...], expected: tuple[int | None, ...]) -> str | None:
    """Return how a shape differs from the expected one, in which None matches any size; None if it does not."""
    if len(actual) == len(expected) and all(size in (None, n) for size, n in zip(expected, actual, strict=True)):
        return None
    sizes = " x ".join("any" if size is None else str(size) for size in expected)
    return f"has shape {actual}, expected {sizes}"


def _count_layers(tensors: _Tensors) -> int:
    layers = {m.group(1) for name in tensors.tensors if (m := re.match(r"0\.rnns\.([^.]*)\.", name))}
    if not layers or layers != {str(i) for i in range(len(layers))}:
        shown = ", ".join(sorted(layers))[:100] or "none"
        raise ModelFileError(
            f"{tensors.path} has LSTM layers {shown}; layers 0, 1, ... were expected (AWD-LSTM of fastai)."
        )
    return len(layers)


def _lstm_weights(tensors: _Tensors, emb_dim: int, n_layers: int) -> Weights:
    """Return the weights of the LSTM layers under the names of this package."""
    weights: Weights = {}
    n_in = emb_dim
    for i in range(n_layers):
        theirs, ours = f"0.rnns.{i}.module.", f"encoder.rnns.{i}."
        # "_raw" first: where both exist, the tensor without it may be out of date
        recurrent = (f"0.rnns.{i}.weight_hh_l0_raw", f"{theirs}weight_hh_l0_raw", f"{theirs}weight_hh_l0")
        weight = tensors.take(*recurrent, shape=(None, None))
        width = weight.shape[1]
        _check_width(tensors.path, i, width, n_in, emb_dim, n_layers)
        if reason := _misfit(weight.shape, (4 * width, width)):
            raise ModelFileError(f"{tensors.path}: the recurrent weights of layer {i} {reason}; they are no LSTM.")
        weights[ours + "weight_hh_l0"] = weight
        weights[ours + "weight_ih_l0"] = tensors.take(theirs + "weight_ih_l0", shape=(4 * width, n_in))
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            weights[ours + bias] = tensors.take(theirs + bias, shape=(4 * width,))
        n_in = width
    return weights


def _check_width(path: Path, layer: int, width: int, n_in: int, emb_dim: int, n_layers: int) -> None:
    """Raise ModelFileError unless the last layer is as wide as the embedding, and the others are equally wide."""
    is_last = layer == n_layers - 1
    if is_last and width != emb_dim:
        raise ModelFileError(f"{path}: the last layer is {width} wide, expected {emb_dim} as the embedding.")
    if not is_last and layer and width != n_in:
        raise ModelFileError(f"{path}: layer {layer} is {width} wide, expected {n_in} as the layer below.")


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    import torch

    content = _load(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict):
        raise ModelFileError(f"{path} is not a state dict (a dict from names to tensors), but a {_type(content)}.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            entry = (
                f"the entry {short(name)} is a {_type(value)}" if isinstance(name, str) else f"a {_type(name)} as name"
            )
            raise ModelFileError(f"{path} is not a state dict (a dict from names to tensors): {entry}.")
    if any(".layers." in name or ".linear." in name for name in content):
        raise ModelFileError(f"{path} is a QRNN; only AWD-LSTM encoders can be loaded.")
    return content


def _load(path: Path) -> Any:
    """Return what a file of torch.save holds, if that is plain data."""
    import torch

    if not path.is_file():
        raise ModelFileError(f"There is no file {path}; give the .pth file of a published encoder.")
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of any type, from a damaged pickle
        raise ModelFileError(
            f"{path} is not a plain PyTorch state dict (it is damaged, or holds objects that would run code); "
            "nothing was loaded. Save the state dict of the model alone with torch.save."
        ) from None


def _check_archive(path: Path) -> None:
    """Check the checksums of a zip archive, which torch ignores, and that nothing in it is compressed."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":  # torch before 1.6 wrote pickles without checksums
                return
        with zipfile.ZipFile(path) as archive:
            grows = sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
            damaged = None if grows else archive.testzip()
    except Exception as error:  # of any type, from a damaged archive
        raise ModelFileError(f"{path} is damaged ({_one_line(error)}); nothing was loaded. Fetch it again.") from None
    if grows:
        raise ModelFileError(f"{path} is compressed; nothing was loaded. Write it with torch.save.")
    if damaged is not None:
        raise ModelFileError(
            f"{path} is damaged (the checksum of {short(damaged)} is wrong); nothing was loaded. Fetch it again."
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _type(value: object) -> str:
    return type(value).__name__


def _read_words(vocab: Sequence[str] | str | os.PathLike[str]) -> list[str]:
    """Return the words of a vocabulary, special tokens by their present names."""
    if isinstance(vocab, (str, os.PathLike)):
        path = as_path(vocab, ModelFileError)
        source, words = f"The vocabulary {path}", _words_in_file(path)
    else:
        source, words = "The vocabulary", _listed(vocab)
    words = [_OLD_MARKERS.get(word, word) if isinstance(word, str) else word for word in words]
    _check_words(words, source)
    return words


def _listed(vocab: Any) -> list[Any]:
    try:
        if not isinstance(vocab, (Mapping, Set)):
            return list(vocab)
    except TypeError:
        pass
    raise ModelFileError(f"The vocabulary must be a list of words in id order, or a file; got a {_type(vocab)}.")


def _check_words(words: list[Any], source: str) -> None:
    """Raise ModelFileError unless words are distinct texts; fillers of fastai may be repeated."""
    if not words:
        raise ModelFileError(f"{source} has no words; give the itos list that was published with the model.")
    position: dict[str, int] = {}
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise ModelFileError(f"{source} must be a list of words; entry {i} is a {_type(word)}.")
        if re.search("[\ud800-\udfff]", word):
            raise ModelFileError(f"{source} has half a character in word {i}; save it as UTF-8 again.")
        if position.setdefault(word, i) != i and not re.fullmatch(r"xxfake\d*", word):
            raise ModelFileError(
                f"{source} has {short(word)} twice, as words {position[word]} and {i}; give the itos list that was "
                "published with the model."
            )


def _words_in_file(path: Path) -> list[Any]:
    if path.suffix == ".pkl":
        raise ModelFileError(f"{path} is a pickle, which can run code; convert it to a JSON list of words first.")
    if not path.is_file():
        raise ModelFileError(f"There is no file {path}; give the itos list that was published with the model.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"The vocabulary {path} cannot be read as UTF-8 text: {error}.") from None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = text.removesuffix("\n").split("\n")
    if not isinstance(words, list):
        raise ModelFileError(f"The vocabulary {path} must be a JSON list of words, or one word a line.")
    return words
