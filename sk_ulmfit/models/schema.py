"""What a model file may hold: every key of the configuration and every array, for each kind of model.

A file is input from a stranger: it is checked here once, before anything is built from it, so that the rest of the
package need not doubt a model that was loaded.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._choices import Direction, Loss
from sk_ulmfit.models.container import LARGEST_INTEGER, Place
from sk_ulmfit.nn.pooled_layers import n_pooled
from sk_ulmfit.text.tokenizer import get_tokenizer
from sk_ulmfit.text.vocabulary import Vocabulary

KINDS = ("language_model", "classifier", "regressor")
NAMES = {"classifier": "label_names", "regressor": "target_names"}  # key of the names of the outputs, by kind
LOSSES = get_args(Loss)  # of a regressor
DIRECTIONS = get_args(Direction)  # in which a network reads
METRICS = ("f1_macro", "f1_micro", "f1_samples", "tune")  # for which thresholds are tuned
SCALE = ":scale"  # suffix of the name of a compact matrix's scales

# Prefixes of the names of arrays.
LINEAR_MODEL = "tfidf."
SECOND_NETWORK = "backward."

VECTOR = "vector."  # the network's vector of a text, which a model has if its configuration has "vector_dim"

# What the vectors of a language model were learned from: the mean of the teacher's vectors, and their components.
TEACHER = "teacher."
TEACHER_MEAN, TEACHER_COMPONENTS = f"{TEACHER}mean", f"{TEACHER}components"

HEAD_WIDTH = 50
# Larger weights could make the network overflow, and predict NaN: its log-odds are below 1e36 with weights up to here.
LARGEST_WEIGHT = 1e5

_LANGUAGE_CODE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,3}")
_NUMBERS_OF_HISTORY = ("epoch", "dur", "train_loss", "valid_loss")

Layout = Mapping[str, Place]
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # type and shape of each array


class SchemaError(ValueError):
    """A file does not hold what a model has; the message names the key or the array."""


class LaterVersionError(SchemaError):
    """A file has something that only a later version of this package can have written."""


class Rule(NamedTuple):
    """What the value of a key must be, and the words for it."""

    holds: Callable[[Any], bool]
    expected: str


def output_names(config: Mapping[str, Any]) -> Sequence[Any]:
    """Return the name of each output of the networks of a model."""
    return next(config[key] for key in NAMES.values() if key in config)


def check_config(kind: str, config: Any) -> None:
    """Check the configuration of a model; raise SchemaError, or LaterVersionError for an unknown key."""
    rules, optional = _RULES[kind]
    _check_keys(config, rules, optional, "config")
    if kind == "language_model":
        return
    n_outputs, what = len(output_names(config)), "labels" if kind == "classifier" else "targets"
    _check_lengths(config, n_outputs, what)
    if (config.get("direction") == "both") != ("backward" in config):
        raise SchemaError("direction is 'both' if and only if there is a second network, backward")
    if "backward" in config:
        second = config["backward"]
        _check_keys(second, {"config": _DICT, "history": _HISTORY}, (), "backward")
        _check_keys(second["config"], _SECOND_NETWORK_RULES, _NETWORK_RULES.keys() - {"direction"}, "backward config")
        if second["config"]["direction"] != "backward":
            raise SchemaError("the second network must read backward")
        _check_lengths(second["config"], n_outputs, what)


def _check_lengths(config: Mapping[str, Any], n_outputs: int, what: str) -> None:
    """Raise SchemaError unless each list of numbers has one for every output."""
    for name in ("thresholds", "calibration", "base_rates", "log_odds_range", "target_mean", "target_scale", "y_range"):
        rows = config.get(name, [])
        for row in rows if rows and isinstance(rows[0], list) else [rows] * (name in config):
            if len(row) != n_outputs:
                raise SchemaError(f"{name} has {len(row)} numbers for {n_outputs} {what}")


def check_vocabulary(words: Any) -> Vocabulary:
    """Return the vocabulary of these words; raise SchemaError unless it has them all, in this order."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise SchemaError("the vocabulary must be a list of words")
    vocabulary = Vocabulary(words)
    if vocabulary.words != words and len(vocabulary) == len(words):
        raise SchemaError("the vocabulary has a word twice")
    return vocabulary


def check_history(history: Any) -> None:
    """Raise SchemaError unless a history is a list of flat dicts."""
    if not _HISTORY.holds(history):
        raise SchemaError(f"history is {_short(history)}, expected {_HISTORY.expected}")


def check_layout(kind: str, config: Mapping[str, Any], n_words: int, layout: Layout) -> None:
    """Check names, types and shapes of all arrays against the configuration, before any is read."""
    expected = _network_shapes(kind, config, n_words, layout, "")
    if "backward" in config:
        second = {**config, **config["backward"]["config"]}
        expected |= _network_shapes(kind, second, n_words, layout, SECOND_NETWORK)
    if kind != "language_model" and any(name.startswith(LINEAR_MODEL) for name in layout):
        expected |= _linear_model_shapes(len(output_names(config)), n_words, layout)
    _check_layout(expected | _scales(expected, layout), layout)


def check_linear_model_layout(n_outputs: int, n_words: int, layout: Layout) -> None:
    """Check names, types and shapes of the arrays of a linear model by itself; raise SchemaError."""
    _check_layout(_linear_model_shapes(n_outputs, n_words, layout), layout)


def _check_layout(expected: Shapes, layout: Layout) -> None:
    if missing := expected.keys() - layout.keys():
        raise SchemaError(f"no array {min(missing)}")
    if unknown := layout.keys() - expected.keys():
        raise LaterVersionError(f"it has the unknown array {_short(min(unknown))}")
    for name, (dtype, shape) in expected.items():
        actual = layout[name]
        is_compact = name + SCALE in expected
        wanted = "int8" if is_compact else dtype
        if actual.dtype != wanted or actual.shape != shape:
            raise SchemaError(
                f"array {name} has type {actual.dtype} and shape {actual.shape}, expected {wanted} and {shape}"
            )


def check_values(name: str, array: NDArray[Any]) -> None:
    """Check the numbers of one array by themselves; raise SchemaError."""
    if not array.size:
        return
    low, high = _limits(name, array)
    smallest, largest = array.min().item(), array.max().item()
    if not (low <= smallest and largest <= high):  # NaN included
        raise SchemaError(f"array {name} has numbers from {smallest} to {largest}, expected {low:g} to {high:g}")


def check_linear_model(arrays: Mapping[str, NDArray[Any]], n_ids: int) -> None:
    """Check that the index arrays of a linear model stay within its other arrays; raise SchemaError."""
    words = arrays[f"{LINEAR_MODEL}words"]
    if len(words) and not (words[0] >= 0 and words[-1] < n_ids and bool((words[1:] > words[:-1]).all())):
        raise SchemaError(f"array {LINEAR_MODEL}words must rise from 0 to less than {n_ids}")
    if f"{LINEAR_MODEL}ngrams" not in arrays:
        return
    offsets, ngrams = arrays[f"{LINEAR_MODEL}ngram_offsets"], arrays[f"{LINEAR_MODEL}ngrams"]
    n_ngrams = len(arrays[f"{LINEAR_MODEL}idf"]) - len(words)
    if offsets[0] != 0 or offsets[-1] != len(ngrams) or bool((offsets[1:] < offsets[:-1]).any()):
        raise SchemaError(f"array {LINEAR_MODEL}ngram_offsets must rise from 0 to {len(ngrams)}")
    if len(ngrams) and not (ngrams.min() >= 0 and ngrams.max() < n_ngrams):
        raise SchemaError(f"array {LINEAR_MODEL}ngrams must hold numbers from 0 to less than {n_ngrams}")


def _limits(name: str, array: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest number that an array may have."""
    if array.dtype.kind in "iu":
        is_count = name.endswith("ngram_counts")
        return (1 if is_count else -128 if array.dtype == np.int8 else 0), LARGEST_INTEGER
    tiny = float(np.finfo(np.float32).smallest_subnormal)
    if name.endswith(SCALE):
        return tiny, LARGEST_WEIGHT / 127
    if name == f"{LINEAR_MODEL}network_share":
        return 0.0, 1.0
    if name == f"{LINEAR_MODEL}idf":
        return tiny, LARGEST_WEIGHT
    return (0.0 if name.endswith("running_var") else -LARGEST_WEIGHT), LARGEST_WEIGHT


def _network_shapes(kind: str, config: Mapping[str, Any], n_words: int, layout: Layout, prefix: str) -> Shapes:
    """Return the arrays of one network. The sizes of the configuration are compared with the file first."""
    embedding = f"{prefix}encoder.embedding.weight"
    if embedding not in layout:
        raise SchemaError(f"no array {embedding}")
    n_rows = layout[embedding].shape[:1]
    if n_rows != (n_words,):
        raise SchemaError(f"{n_rows[0] if n_rows else 0} embeddings for {n_words} words")
    start = f"{prefix}encoder.rnns."
    n_layers = len({name[len(start) :].split(".")[0] for name in layout if name.startswith(start)})
    if config["n_layers"] != n_layers:
        raise SchemaError(f"n_layers is {config['n_layers']}, but there are arrays of {n_layers} layers")
    shapes = {"encoder.embedding.weight": (n_words, config["emb_dim"])} | _layer_shapes(config)
    if kind == "language_model":
        shapes["decoder_bias"] = (n_words,)
        shapes |= _teacher_shapes(config, layout)
    else:
        shapes |= _head_shapes(config, len(output_names(config)))
    shapes |= _vector_shapes(config, n_words, layout, prefix)
    return {
        prefix + name: ("int64" if name.endswith("tracked") else "float32", shape) for name, shape in shapes.items()
    }


def _layer_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    n_in = config["emb_dim"]
    for layer in range(config["n_layers"]):
        width = config["emb_dim"] if layer == config["n_layers"] - 1 else config["hidden_dim"]
        name = f"encoder.rnns.{layer}"
        shapes[f"{name}.weight_ih_l0"], shapes[f"{name}.weight_hh_l0"] = (4 * width, n_in), (4 * width, width)
        shapes[f"{name}.bias_ih_l0"] = shapes[f"{name}.bias_hh_l0"] = (4 * width,)
        n_in = width
    return shapes


def _vector_shapes(config: Mapping[str, Any], n_words: int, layout: Layout, prefix: str) -> dict[str, tuple[int, ...]]:
    dim = config.get("vector_dim")
    has_arrays = any(name.startswith(prefix + VECTOR) for name in layout)
    if (dim is not None) != has_arrays:
        raise SchemaError(f"vector_dim is {dim}, but there are {'' if has_arrays else 'no '}arrays {prefix}{VECTOR}*")
    if dim is None:
        return {}
    n_features = n_pooled(config["emb_dim"], config["hidden_dim"], config["n_layers"])
    return {
        f"{VECTOR}word_weight": (n_words, 1),
        f"{VECTOR}weight": (dim, n_features),
        f"{VECTOR}bias": (dim,),
    }


def _teacher_shapes(config: Mapping[str, Any], layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return the arrays of a teacher if the file has any; the number of its dimensions is that of the file."""
    if "vector_dim" not in config or not any(name.startswith(TEACHER) for name in layout):
        return {}
    mean = layout.get(TEACHER_MEAN)
    n_dims = mean.shape[0] if mean is not None and len(mean.shape) == 1 else 0
    return {TEACHER_MEAN: (n_dims,), TEACHER_COMPONENTS: (n_dims, config["vector_dim"])}


def _head_shapes(config: Mapping[str, Any], n_labels: int) -> dict[str, tuple[int, ...]]:
    dim = config.get("vector_dim")
    if dim is not None:
        return {"head.weight": (n_labels, dim), "head.bias": (n_labels,)}
    n_features = 3 * config["emb_dim"]
    shapes: dict[str, tuple[int, ...]] = {}
    for number, width in ((0, n_features), (4, HEAD_WIDTH)):  # batch normalisation
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"head.{number}.{name}"] = (width,)
        shapes[f"head.{number}.num_batches_tracked"] = (1,)
    shapes |= {"head.2.weight": (HEAD_WIDTH, n_features), "head.2.bias": (HEAD_WIDTH,)}
    return shapes | {"head.6.weight": (n_labels, HEAD_WIDTH), "head.6.bias": (n_labels,)}


def _linear_model_shapes(n_labels: int, n_words: int, layout: Layout) -> Shapes:
    """Return the arrays of a linear model; the numbers of words, terms and stored n-grams are those of the file."""
    n_counted, n_terms = _length("words", layout), _length("idf", layout)
    _check_same_length("idf", "weight", layout)
    if n_terms < n_counted:
        raise SchemaError(f"array {LINEAR_MODEL}idf has {n_terms} numbers for {n_counted} words")
    shapes: Shapes = {
        "words": ("int32", (n_counted,)),
        "idf": ("float32", (n_terms,)),
        "weight": ("float16", (n_terms, n_labels)),
        "bias": ("float32", (n_labels,)),
        "network_share": ("float32", (n_labels,)),
    }
    if any(name.startswith(f"{LINEAR_MODEL}ngram") for name in layout):
        n_stored = _length("ngrams", layout)
        _check_same_length("ngrams", "ngram_counts", layout)
        shapes["ngram_offsets"] = ("int32", (n_words + 1,))
        shapes |= {"ngrams": ("int32", (n_stored,)), "ngram_counts": ("uint8", (n_stored,))}
    elif n_terms != n_counted:  # files of the first versions have no n-grams
        raise SchemaError(f"no array {LINEAR_MODEL}ngrams, and {n_terms} terms for {n_counted} words")
    return {LINEAR_MODEL + name: shape for name, shape in shapes.items()}


def _check_same_length(first: str, second: str, layout: Layout) -> None:
    places = [layout[LINEAR_MODEL + name] for name in (first, second) if LINEAR_MODEL + name in layout]
    if len(places) == 2 and places[0].shape[:1] != places[1].shape[:1]:
        names = f"{LINEAR_MODEL}{first} and {LINEAR_MODEL}{second}"
        raise SchemaError(f"arrays {names} have shapes {places[0].shape} and {places[1].shape}, expected equal lengths")


def _length(name: str, layout: Layout) -> int:
    place = layout.get(LINEAR_MODEL + name)
    if place is None:
        raise SchemaError(f"no array {LINEAR_MODEL}{name}")
    if len(place.shape) != 1:
        raise SchemaError(f"array {LINEAR_MODEL}{name} has shape {place.shape}, expected one dimension")
    return place.shape[0]


def _scales(expected: Shapes, layout: Layout) -> Shapes:
    """Return the scales of the compact matrices: those of float32 that the file has as int8."""
    return {
        name + SCALE: ("float32", (shape[0], 1))
        for name, (dtype, shape) in expected.items()
        if dtype == "float32" and len(shape) == 2 and name in layout and layout[name].dtype == np.int8
    }


def _check_keys(value: Any, rules: Mapping[str, Rule], optional: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise SchemaError(f"{where} is {_short(value)}, expected a JSON object")
    if missing := rules.keys() - set(optional) - value.keys():
        raise SchemaError(f"no {min(missing)}")
    if unknown := value.keys() - rules.keys():
        raise LaterVersionError(f"its {where} has the unknown key {_short(min(unknown))}")
    for name, item in value.items():
        if not rules[name].holds(item):
            raise SchemaError(f"{name} is {_short(item)}, expected {rules[name].expected}")


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'JSON object'} of {len(value)} items"
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return "a huge integer"
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Tell whether a value of JSON is a finite number from `low` to `high`."""
    if type(value) not in (int, float) or not low <= value <= high:
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= LARGEST_INTEGER


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST_INTEGER


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and all(
        item is None or isinstance(item, (bool, int, float, str)) for item in value.values()
    )


def _is_row_of_history(row: Any) -> bool:
    return (
        _is_flat(row)
        and "batches" not in row  # skorch keeps its batches there
        and all(type(row[name]) in (int, float) for name in _NUMBERS_OF_HISTORY if name in row)
    )


def _is_language(value: Any) -> bool:
    if not isinstance(value, str) or not _LANGUAGE_CODE.fullmatch(value):
        return False
    try:
        get_tokenizer(value)
    except ValueError:
        return False
    return True


def _are_label_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(type(name) in (str, int) for name in value)
        and len(set(value)) == len(value)
    )


def _are_shifts(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"bfloat16", "int8"}
        and all(is_number(shift, 0, 1) for shift in value.values())
    )


def _is_calibration(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(row, list) for row in value):
        return False
    slopes, offsets = value
    return all(is_number(slope) and slope > 0 for slope in slopes) and all(map(is_number, offsets))


def _are_thresholds(value: Any) -> bool:
    return isinstance(value, list) and all(is_number(threshold, 0, 1) for threshold in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_number, value))


def _are_base_rates(value: Any) -> bool:
    return isinstance(value, list) and all(is_number(rate, 0, 1) and 0 < rate < 1 for rate in value)


def _is_range(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(row, list) for row in value):
        return False
    return all(is_number(low) and is_number(high) and low <= high for low, high in zip(*value, strict=False))


def _one_of(choices: Sequence[str]) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in choices, f"one of {', '.join(map(repr, choices))}")


_SIZE = Rule(_is_size, "a positive integer")
_DICT = Rule(lambda value: isinstance(value, dict), "a JSON object")
_HISTORY = Rule(
    lambda value: isinstance(value, list) and all(map(_is_row_of_history, value)),
    "a list of flat objects, with numbers as losses",
)

_LANGUAGE_MODEL_RULES = {
    "emb_dim": _SIZE,
    "hidden_dim": _SIZE,
    "n_layers": _SIZE,
    "language": Rule(_is_language, "a language code whose tokenizer spaCy has in this installation"),
    "direction": _one_of(DIRECTIONS),
    "pretraining": Rule(_is_flat, "a flat JSON object"),
    "vector_dim": _SIZE,
}
_NETWORK_RULES = {
    **_LANGUAGE_MODEL_RULES,
    "bptt": _SIZE,
    "max_length": Rule(lambda value: value is None or _is_size(value), "a positive integer or null"),
    "batch_size": _SIZE,
    "base_rates": Rule(_are_base_rates, "a list of numbers between 0 and 1"),
    "log_odds_range": Rule(_is_range, "a list of smallest and one of largest log-odds"),
    "shifts": Rule(_are_shifts, "numbers from 0 to 1 for bfloat16 and int8"),
}
_SECOND_NETWORK_RULES = {
    **_NETWORK_RULES,
    "vector_dim": Rule(lambda value: value is None or _is_size(value), "a positive integer, or null for none"),
}
_CLASSIFIER_RULES = {
    **_NETWORK_RULES,
    "direction": _one_of((*DIRECTIONS, "both")),
    "backward": _DICT,
    "label_names": Rule(_are_label_names, "a list of distinct strings or integers"),
    "calibration": Rule(_is_calibration, "a list of slopes above 0 and a list of offsets"),
    "thresholds": Rule(_are_thresholds, "a list of numbers from 0 to 1"),
    "threshold_metric": Rule(
        lambda value: value in METRICS if isinstance(value, str) else is_number(value, 0, 1),
        "the name of an F1 score, 'tune' or a precision",
    ),
    "every_text_has_label": Rule(lambda value: type(value) is bool, "true or false"),
    "params": _DICT,
    "metadata": _DICT,
}
_REGRESSOR_RULES = {
    **{name: rule for name, rule in _NETWORK_RULES.items() if name != "base_rates"},
    "direction": _one_of((*DIRECTIONS, "both")),
    "backward": _DICT,
    "target_names": Rule(_are_label_names, "a list of distinct strings or integers"),
    "target_mean": Rule(_are_numbers, "a list of numbers"),
    "target_scale": Rule(lambda value: _are_numbers(value) and min(value) > 0, "a list of numbers above 0"),
    "y_range": Rule(
        lambda value: _is_range(value) and all(map(operator.lt, *value)), "a list of least and one of greatest values"
    ),
    "loss": _one_of(LOSSES),
    "one_dimensional": Rule(lambda value: type(value) is bool, "true or false"),
    "params": _DICT,
    "metadata": _DICT,
}
# Rules of each kind, and the keys that may be missing.
_RULES: dict[str, tuple[dict[str, Rule], AbstractSet[str]]] = {
    "language_model": (_LANGUAGE_MODEL_RULES, {"direction", "pretraining", "vector_dim"}),
    "classifier": (
        _CLASSIFIER_RULES,
        _CLASSIFIER_RULES.keys()
        - {"emb_dim", "hidden_dim", "n_layers", "language", "label_names", "bptt", "max_length", "batch_size"}
        - {"params", "metadata"},
    ),
    "regressor": (_REGRESSOR_RULES, {"direction", "backward", "pretraining", "vector_dim", "y_range"}),
}
