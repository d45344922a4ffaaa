"""The folder of an exported model: names of its files, and how they are read.

A folder is input from a stranger. Names of files are those of this module, never of a file; all that is read is checked
against `models.schema` and against the one graph that belongs to the sizes of the model.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import as_path
from sk_ulmfit.models.configs import network_configs
from sk_ulmfit.models.container import Container, check_header_size, count_values, parse_json
from sk_ulmfit.models.schema import (
    LINEAR_MODEL,
    LaterVersionError,
    SchemaError,
    check_config,
    check_linear_model,
    check_linear_model_layout,
    check_values,
    check_vocabulary,
    is_number,
    output_names,
)
from sk_ulmfit.models.state import ModelFileError
from sk_ulmfit.runtime.graph import Graph, Sizes, network_graph
from sk_ulmfit.runtime.onnx_file import decode
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.vocabulary import Vocabulary

MODEL, VOCABULARY, LINEAR = "model.json", "vocabulary.json", "linear_model.safetensors"
NETWORKS = ("network.onnx", "backward.onnx")
REQUIREMENTS = "requirements.txt"
FILES = {MODEL, VOCABULARY, LINEAR, *NETWORKS, REQUIREMENTS}

FORMAT, FORMAT_VERSION = "sk_ulmfit.onnx", 1
_KEYS = {
    *("format", "format_version", "kind", "tokenizer", "opset", "ir_version", "int8", "largest_shift"),
    *("has_linear_model", "decisions", "config"),
}
_SMALLEST_LAYER = 400  # bytes of an LSTM layer in an ONNX file, at least


@dataclass(frozen=True)
class ExportedModel:
    """What a folder holds.

    Attributes
    ----------
    description : dict
        The contents of ``model.json``.
    vocabulary : Vocabulary
    networks : sequence of (bytes, Graph, config)
        Each network, the forward one first.
    linear_model : dict of str to ndarray, or None
        Arrays of the linear model by their names in `LinearModel`.
    """

    description: dict[str, Any]
    vocabulary: Vocabulary
    networks: Sequence[tuple[bytes, Graph, Mapping[str, Any]]]
    linear_model: dict[str, NDArray[Any]] | None

    @property
    def config(self) -> dict[str, Any]:
        """Configuration of the model, as a model file has it."""
        return self.description["config"]


def read_folder(path: str | os.PathLike[str]) -> ExportedModel:
    """Read an exported model; raise ModelFileError if a file is missing, foreign, damaged or of a later version."""
    folder = as_path(path, ModelFileError)
    if not folder.is_dir():
        what = "is a file; export the model first: sk-ulmfit export MODEL --out FOLDER" if folder.exists() else ""
        raise ModelFileError(f"{path} {what or 'does not exist; give the folder that export_onnx wrote'}.")
    size = _size_of_networks(folder)
    with _describing(folder / MODEL):
        description = _parse(_read(folder / MODEL), size)
        _check_description(description, size)
    config = description["config"]
    with _describing(folder / VOCABULARY):
        vocabulary = check_vocabulary(_parse(_read(folder / VOCABULARY), size))
    networks = []
    for name, own in zip(NETWORKS, network_configs(config), strict=False):
        with _describing(folder / name):
            sizes = Sizes.of(own, len(vocabulary), len(output_names(config)))
            graph, content = network_graph(sizes, description["int8"]), _read(folder / name)
            for weight, array in decode(content, graph).items():
                check_values(weight, array)
        networks.append((content, graph, own))
    linear_model = None
    if description["has_linear_model"]:
        with _describing(folder / LINEAR):
            linear_model = _read_linear_model(folder / LINEAR, len(output_names(config)), len(vocabulary))
    return ExportedModel(description, vocabulary, networks, linear_model)


def _size_of_networks(folder: Path) -> int:
    n_bytes = 0
    for name in NETWORKS:
        if (folder / name).exists():
            with _describing(folder / name):
                n_bytes += _size(folder / name)
    return n_bytes


def is_exported(folder: Path) -> bool:
    """Tell whether a folder holds the files of an exported model and no others."""
    names = set(os.listdir(folder))
    if MODEL not in names or names - FILES:
        return False
    try:
        description = parse_json(_read(folder / MODEL))
    except (OSError, ValueError):
        return False
    return isinstance(description, dict) and description.get("format") == FORMAT


def _check_description(description: Any, size: int) -> None:
    """Check the contents of ``model.json``, given the bytes of the networks."""
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise SchemaError(f"its format is not {FORMAT}")
    version = description.get("format_version")
    if type(version) is not int or version < 1:
        raise SchemaError("format_version is not a positive integer")
    if version > FORMAT_VERSION or description.keys() - _KEYS:
        raise LaterVersionError("its format is unknown")
    if missing := _KEYS - description.keys():
        raise SchemaError(f"no {min(missing)}")
    if description["tokenizer"] != TOKENIZER_VERSION:
        raise SchemaError("its texts are tokenized in another way than this version of sk_ulmfit does")
    if description["kind"] not in ("classifier", "regressor"):
        raise SchemaError("its kind is neither classifier nor regressor")
    for name in ("int8", "has_linear_model"):
        if type(description[name]) is not bool:
            raise SchemaError(f"{name} must be true or false")
    config = description["config"]
    check_config(description["kind"], config)
    for own in network_configs(config):
        if own["n_layers"] > size // _SMALLEST_LAYER:
            raise SchemaError(f"n_layers is {own['n_layers']}, more than its network can have")
    if description["kind"] == "classifier":
        _check_decisions(description["decisions"], len(config["label_names"]))


def _check_decisions(decisions: Any, n_labels: int) -> None:
    if not isinstance(decisions, dict) or decisions.keys() != {"thresholds", "top_k", "at_least_one"}:
        raise SchemaError("decisions must have thresholds, top_k and at_least_one")
    thresholds, top_k = decisions["thresholds"], decisions["top_k"]
    are_numbers = isinstance(thresholds, list) and all(is_number(threshold, 0, 1) for threshold in thresholds)
    if not are_numbers or len(thresholds) != n_labels:
        raise SchemaError(f"thresholds must be {n_labels} numbers from 0 to 1")
    if top_k is not None and not (type(top_k) is int and 1 <= top_k <= n_labels):
        raise SchemaError(f"top_k must be from 1 to {n_labels}, or null")
    if type(decisions["at_least_one"]) is not bool:
        raise SchemaError("at_least_one must be true or false")


def _read_linear_model(path: Path, n_outputs: int, n_words: int) -> dict[str, NDArray[Any]]:
    _size(path)
    with path.open("rb") as file:
        container = Container(file)
        check_linear_model_layout(n_outputs, n_words, container.places)
        arrays = dict(container)
    for name, array in arrays.items():
        check_values(name, array)
    check_linear_model(arrays, n_words)
    own = {name.removeprefix(LINEAR_MODEL): array for name, array in arrays.items()}
    if "ngrams" not in own:  # of models of the first versions
        own |= {"ngram_offsets": np.zeros(n_words + 1, np.int32), "ngrams": np.empty(0, np.int32)}
        own["ngram_counts"] = np.empty(0, np.uint8)
    return own


def _parse(content: bytes, size: int) -> Any:
    check_header_size(len(content), count_values(content), size)
    return parse_json(content)


def _read(path: Path) -> bytes:
    _size(path)
    return path.read_bytes()


def _size(path: Path) -> int:
    """Return the bytes of a file; raise SchemaError unless it is a regular one."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise SchemaError("there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise SchemaError("it is not a regular file")
    return status.st_size


@contextmanager
def _describing(path: Path) -> Iterator[None]:
    """Turn every error about a file into a ModelFileError of one line."""
    try:
        yield
    except LaterVersionError as error:
        raise ModelFileError(
            f"{path} was written by a later version of sk_ulmfit ({error}); upgrade sk-ulmfit to read it."
        ) from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        reason = " ".join(str(error).split()).rstrip(".")[:300]
        raise ModelFileError(f"{path} is not part of an exported model ({reason}); export the model again.") from None
