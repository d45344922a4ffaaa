"""Weights published for fastai, as models of this package."""

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

# Marker tokens of fastai 0.7, by their name here.
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
