"""Fitted models as folders that `sk_ulmfit.runtime` predicts from."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import as_path, atomic_folder
from sk_ulmfit.models.assembly import plain_weights
from sk_ulmfit.models.schema import LINEAR_MODEL
from sk_ulmfit.models.state import ModelFileError, Weights, round_rows
from sk_ulmfit.runtime.folder import (
    FORMAT,
    FORMAT_VERSION,
    LINEAR,
    MODEL,
    NETWORKS,
    REQUIREMENTS,
    VOCABULARY,
    is_exported,
)
from sk_ulmfit.runtime.graph import IR_VERSION, OPSET, Graph, Sizes, network_graph
from sk_ulmfit.runtime.models import OnnxClassifier, check_onnxruntime, load
from sk_ulmfit.runtime.onnx_file import OnnxFileError, encode
from sk_ulmfit.text.rules import rule_languages
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.vocabulary import RESERVED, Vocabulary
from sk_ulmfit.training.fitted import FittedClassifier, FittedModel, FittedRegressor

Floats = NDArray[np.float64]

LARGEST_DIFFERENCE = 1e-4  # of a probability in 32 bits between torch and onnxruntime, or of a standardised value
PROBE_TEXTS, PROBE_WORDS = 64, 40
_REQUIRED = ("numpy>=2.0", "onnxruntime>=1.20")
_GATES = [0, 3, 1, 2]  # torch has input, forget, cell and output; ONNX input, output, forget and cell


def export_folder(
    fitted: FittedModel,
    decisions: Mapping[str, Any],
    metadata: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    int8: bool = False,
    overwrite: bool = True,
    texts: Sequence[str] | None = None,
) -> float:
    """Write a fitted model to a folder; arguments as of `TextEstimator.export_onnx`.

    `decisions` are thresholds, `top_k` and `at_least_one` of a classifier, and empty of a regressor; `metadata` are
    notes of the user. Return the largest difference between the predictions of the folder and of the model in 32 bits.
    """
    check_onnxruntime()
    folder = check_folder(path, overwrite)
    try:
        with atomic_folder(folder) as temporary:
            _write_networks(temporary, fitted, int8)
            _write_rest(temporary, fitted)
            description = _description(fitted, decisions, metadata, int8)
            _write_json(temporary / MODEL, description)
            shift = _largest_shift(temporary, fitted, _made_up(fitted.vocabulary) if texts is None else texts)
            if not int8 and not shift <= LARGEST_DIFFERENCE:
                raise OnnxFileError(f"onnxruntime would move its predictions by {shift:.2g}")
            _write_json(temporary / MODEL, description | {"largest_shift": shift})
    except OSError as error:
        raise ModelFileError(f"{path} could not be written ({error}); choose another place.") from None
    except OnnxFileError as error:
        raise ModelFileError(f"The {fitted.kind} was not exported, since {error}; please report it.") from None
    return shift


def check_folder(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Return the folder to write; raise ModelFileError if something is there that must stay."""
    folder = as_path(path, ModelFileError)
    if not folder.parent.is_dir():
        raise ModelFileError(f"The folder {folder.parent} does not exist; create it first.")
    if not os.path.lexists(folder):
        return folder
    if not folder.is_dir():
        raise ModelFileError(f"{folder} is a file; give the name of a folder to write.")
    if os.listdir(folder) and not is_exported(folder):
        raise ModelFileError(f"{folder} already exists and is not an exported model; choose another name.")
    if os.listdir(folder) and not overwrite:
        raise ModelFileError(
            f"{folder} already exists; pass overwrite=True (--force on the command line) to replace it."
        )
    return folder


def _description(
    fitted: FittedModel, decisions: Mapping[str, Any], metadata: Mapping[str, Any], int8: bool
) -> dict[str, Any]:
    """Return the contents of ``model.json``, but for the shift that is still to be measured."""
    config = {**fitted.config, "params": {}, "metadata": dict(metadata)}
    if "backward" in config:
        config["backward"] = {**config["backward"], "history": []}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": fitted.kind,
        "tokenizer": TOKENIZER_VERSION,
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "int8": int8,
        "largest_shift": 0.0,
        "has_linear_model": fitted.linear_model is not None,
        "decisions": dict(decisions),
        "config": config,
    }


def _write_networks(folder: Path, fitted: FittedModel, int8: bool) -> None:
    for name, network in zip(NETWORKS, fitted.networks, strict=False):
        sizes = Sizes.of(network.config, len(fitted.vocabulary), len(fitted.names))
        graph = network_graph(sizes, int8)
        arrays = _onnx_weights(plain_weights(network.module), len(sizes.widths))
        (folder / name).write_bytes(encode(graph, _rounded(arrays, graph)))


def _write_rest(folder: Path, fitted: FittedModel) -> None:
    """Write vocabulary, linear model and requirements."""
    from safetensors.numpy import save

    (folder / VOCABULARY).write_text(fitted.vocabulary.to_json())
    if fitted.linear_model is not None:
        arrays = {LINEAR_MODEL + name: array for name, array in fitted.linear_model.to_arrays().items()}
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        (folder / LINEAR).write_bytes(content)
    required = _REQUIRED if fitted.config["language"] in rule_languages() else (*_REQUIRED, "spacy>=3.8.15")
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in required))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _onnx_weights(weights: Weights, n_layers: int) -> Weights:
    """Return the weights of a network by their names in the graph."""
    arrays = {"embedding": weights["encoder.embedding.weight"]}
    for layer in range(n_layers):
        own = {name: weights[f"encoder.rnns.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh")}
        arrays[f"input_weight{layer}"] = _reordered(own["weight_ih"])
        arrays[f"recurrent_weight{layer}"] = _reordered(own["weight_hh"])
        bias = [_reordered(weights[f"encoder.rnns.{layer}.{name}_l0"]) for name in ("bias_ih", "bias_hh")]
        arrays[f"bias{layer}"] = np.concatenate(bias)[None]
    names = {"vector.word_weight": "word_weight", "vector.weight": "vector_weight", "vector.bias": "vector_bias"}
    names |= {"head.weight": "head_weight", "head.bias": "head_bias"}
    names |= {"head.2.weight": "hidden_weight", "head.2.bias": "hidden_bias"}
    names |= {"head.6.weight": "head_weight", "head.6.bias": "head_bias"}
    for norm, number in (("norm0", 0), ("norm1", 4)):
        parts = ("weight", "bias", "running_mean", "running_var")
        names |= {f"head.{number}.{part}": f"{norm}_{part}" for part in parts}
    return arrays | {names[name]: array for name, array in weights.items() if name in names}


def _reordered(gates: NDArray[np.float32]) -> NDArray[np.float32]:
    """Put the gates of a layer, (4 * width, ...), in the order of ONNX."""
    return np.concatenate([np.split(gates, 4)[gate] for gate in _GATES])


def _rounded(arrays: Weights, graph: Graph) -> Weights:
    """Return the weights that the graph has, rounded to 8 bits where it has them so."""
    rounded = dict(arrays)
    for name, array in arrays.items():
        if f"{name}_int8" in graph.weights:
            rounded[f"{name}_int8"], rounded[f"{name}_scale"] = round_rows(array)
    return rounded


def _made_up(vocabulary: Vocabulary) -> list[str]:
    """Make up texts of words drawn at random, frequent ones more often."""
    words = [word for word in vocabulary.words if not RESERVED.fullmatch(word)] or [""]
    rng = np.random.default_rng(0)
    draws = [rng.random(n) ** 3 * len(words) for n in rng.integers(0, PROBE_WORDS, PROBE_TEXTS)]
    return [" ".join(words[int(place)] for place in draw) for draw in draws]


def _largest_shift(folder: Path, fitted: FittedModel, texts: Sequence[str]) -> float:
    """Return the largest difference of a probability, or of a standardised value, between folder and model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no word that the model knows", UserWarning)  # one may be made up of none
        return _shift(folder, fitted, texts)


def _shift(folder: Path, fitted: FittedModel, texts: Sequence[str]) -> float:
    exported = load(folder)
    if isinstance(fitted, FittedClassifier) and isinstance(exported, OnnxClassifier):
        return _largest(exported.predict_proba(texts), fitted.predict_proba(texts, "float32", None))
    assert isinstance(fitted, FittedRegressor)
    values = exported.predict(texts).reshape(len(texts), -1)
    scale = np.array(fitted.config["target_scale"])
    return _largest(values / scale, fitted.predict(texts, "float32", None) / scale)


def _largest(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).max(initial=0.0))
