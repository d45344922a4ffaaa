"""Language models published for fastai."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelFileError, ModelState, Weights
from sk_ulmfit.text.vocabulary import Vocabulary

# Special tokens of fastai 0.7, and their present names.
_OLD_MARKERS = {
    "_unk_": "xxunk", "_pad_": "xxpad", "xbos": "xxbos", "xfld": "xxfld",
    "tk_rep": "xxrep", "tk_wrep": "xxwrep", "t_up": "xxup",
}  # fmt: skip


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
        If a file cannot be read, or its tensors are missing, do not fit together, or are of another architecture.
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
    tensors = _Tensors(Path(state_dict_path))
    words = [_OLD_MARKERS.get(word, word) for word in _read_words(vocab)]
    embedding = tensors.take("0.encoder.weight", shape=(None, None))
    if len(embedding) != len(words):
        raise ModelFileError(
            f"{tensors.path} has an embedding of {len(embedding)} rows, but the vocabulary has {len(words)} words; "
            "give the itos list that was published with it."
        )
    emb_dim = embedding.shape[1]
    n_layers = _count_layers(tensors)
    weights = _lstm_weights(tensors, emb_dim, n_layers)
    if "1.decoder.bias" in tensors.arrays:
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
    """The tensors of a state dict, taken out by name with their shapes checked."""

    def __init__(self, path: Path):
        self.path = path
        self.arrays = _read_state_dict(path)

    def take(self, *names: str, shape: tuple[int | None, ...]) -> NDArray[np.float32]:
        """Return the first tensor that exists under one of the names; None in `shape` matches any size."""
        name = next((name for name in names if name in self.arrays), None)
        if name is None:
            raise ModelFileError(f"{self.path} has no tensor {names[0]!r}; an AWD-LSTM of fastai was expected.")
        array = self.arrays[name]
        if array.ndim != len(shape) or any(size not in (None, n) for size, n in zip(shape, array.shape, strict=True)):
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            raise ModelFileError(f"{self.path}: tensor {name!r} has shape {array.shape}, expected {expected}.")
        return array.astype(np.float32)


def _count_layers(tensors: _Tensors) -> int:
    layers = sorted({int(m.group(1)) for name in tensors.arrays if (m := re.match(r"0\.rnns\.(\d+)\.", name))})
    if not layers or layers != list(range(len(layers))):
        raise ModelFileError(
            f"{tensors.path} has LSTM layers {layers}; layers 0, 1, ... were expected (AWD-LSTM of fastai)."
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
        width = tensors.take(*recurrent, shape=(None, None)).shape[1]
        _check_width(tensors.path, i, width, n_in, emb_dim, n_layers)
        weights[ours + "weight_hh_l0"] = tensors.take(*recurrent, shape=(4 * width, width))
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
