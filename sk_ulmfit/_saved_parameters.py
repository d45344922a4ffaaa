"""The parameters of an estimator as JSON can hold them, and back; those of earlier versions too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sk_ulmfit._validation import check_bool, check_number, plain_number
from sk_ulmfit.labels import named_numbers
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel, check_parameters
from sk_ulmfit.models.schema import LaterVersionError, SchemaError, is_number
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.text.tokenizer import get_tokenizer
from sk_ulmfit.thresholds import check_thresholds

PER_LABEL = ("threshold", "pos_weight")
# Of a machine and its user, not of the model.
NOT_SAVED = ("memory", "callbacks", "device", "n_jobs", "verbose", "teacher", "warm_start")
NOT_IN_FILE = "(a language model in memory, which is not part of the saved classifier)"  # no file has this name


def to_json(parameters: Mapping[str, Any], label_names: Sequence[Any]) -> dict[str, Any]:
    """Turn the parameters of a classifier into types of JSON; what cannot be saved becomes None or is left out."""
    values = {name: _to_json(name, value) for name, value in parameters.items() if name not in NOT_SAVED}
    threshold = parameters.get("threshold")
    if not isinstance(threshold, Mapping) and _names_only_precision(threshold):
        values["threshold"] = check_thresholds(
            threshold, label_names
        ).tolist()  # a dict would mean a precision to reach
    return values


def from_json(parameters: Mapping[str, Any], device: str = "auto") -> dict[str, Any]:
    """Turn what `to_json` returned, in this version or an earlier one, into parameters of a classifier.

    Raises ValueError if it cannot have returned them; whether a classifier accepts them is not checked. Language models
    get `device`.
    """
    values = {"tfidf": False, **parameters}  # files of the first version have no such parameter
    values = {name: value for name, value in values.items() if name not in NOT_SAVED}
    is_earlier = "freeze_encoder" in values
    if is_earlier:
        values = _renamed(values)
    for name, value in values.items():
        if name == "language_model":
            values[name] = _language_model(value, is_earlier, device)
        elif name == "y_range":
            values[name] = _y_range(value)
        elif name in PER_LABEL:
            values[name] = _per_label(name, value)
        else:
            _check_scalar(name, value)
    return values


def check_names(parameters: Mapping[str, Any], estimator: type[BaseEstimator]) -> None:
    """Raise ValueError unless these are all parameters of an estimator that a file has."""
    expected = set(estimator._get_param_names()) - set(NOT_SAVED)
    if unknown := parameters.keys() - expected:
        raise LaterVersionError(f"it has the unknown parameter {ascii(min(unknown))[:60]}")
    if missing := expected - parameters.keys():
        raise SchemaError(f"no parameter {min(missing)}")


def check_random_state(value: Any) -> None:
    """Raise ValueError unless a `random_state` from a file is a seed or None."""
    if value is not None:
        check_number("random_state", value, low=0, high=2**32 - 1, integer=True)


def _to_json(name: str, value: Any) -> Any:
    if name == "language_model":
        return _language_model_to_json(value)
    if name in PER_LABEL and not isinstance(value, (str, type(None))):
        return _per_label_to_json(value)
    if name == "y_range" and value is not None:
        return np.asarray(value, float).tolist()
    value = plain_number(value)
    return value if isinstance(value, (bool, int, float, str)) else None


def _names_only_precision(threshold: Any) -> bool:
    return [name for name, _ in named_numbers(threshold) or []] == ["precision"]


def _per_label_to_json(value: Any) -> Any:
    if (named := named_numbers(value)) is not None:
        return {"by_name": [list(pair) for pair in named]}
    return np.asarray(value, float).tolist()


def _language_model_to_json(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_language_model_to_json(item) for item in value]
    value = getattr(value, "estimator", value)  # of a FrozenEstimator
    if isinstance(value, ULMFiTLanguageModel):
        return {
            name: _start_to_json(item) if name == "pretrained" else _to_json(name, item)
            for name, item in value.get_params(deep=False).items()
            if name not in NOT_SAVED
        }
    return _start_to_json(value)


def _start_to_json(value: Any) -> str | None:
    if isinstance(value, ModelState):
        return NOT_IN_FILE
    if isinstance(value, Path):  # "./en" stays a path; "en" would name a bundled model
        return str(value) if value.parent != Path() else os.path.join(os.curdir, value)
    return value


def _check_scalar(name: str, value: Any) -> None:
    if isinstance(value, (dict, list)):
        raise SchemaError(f"parameter {name} is a {type(value).__name__}, expected a number, a string or nothing")


def _per_label(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _by_name(name, value)
    if isinstance(value, list) and not all(map(is_number, value)):
        raise SchemaError(f"parameter {name} is a list of other things than numbers")
    return value


def _y_range(value: Any) -> Any:
    """Return the pair, or the pairs, of a file as tuples."""
    if value is None:
        return None
    pairs = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) for pair in pairs):
        raise SchemaError("parameter y_range is neither a pair of numbers nor a list of pairs")
    return tuple(value) if pairs[0] is value else [tuple(pair) for pair in pairs]


def _by_name(name: str, value: dict[str, Any]) -> dict[Any, Any]:
    """Return the numbers by name that a file holds as pairs, or the precision to reach that 0.1.0 has left."""
    pairs = value["by_name"] if value.keys() == {"by_name"} else list(map(list, value.items()))
    is_pairs = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not is_pairs or not all(type(label) in (str, int) and is_number(number) for label, number in pairs):
        raise SchemaError(f"parameter {name} has no pairs of a label and a number")
    if len({label for label, _ in pairs}) < len(pairs):
        raise SchemaError(f"parameter {name} names a label twice")
    return dict(pairs)


def _language_model(value: Any, is_earlier: bool, device: str) -> Any:
    if isinstance(value, list) and len(value) == 2 and not any(isinstance(item, list) for item in value):
        return tuple(_language_model(item, is_earlier, device) for item in value)
    if isinstance(value, dict):
        return _language_model_estimator(value, is_earlier, device)
    if not isinstance(value, (str, type(None))):
        raise SchemaError(
            f"parameter language_model is a {type(value).__name__}, expected a name, a path or parameters"
        )
    return value


def _language_model_estimator(saved: dict[str, Any], is_earlier: bool, device: str) -> ULMFiTLanguageModel:
    """Return an unfitted language model with saved parameters, which are checked as ``fit`` checks them."""
    values = {name: value for name, value in saved.items() if name not in NOT_SAVED}
    check_names(values, ULMFiTLanguageModel)
    for name, value in values.items():
        _check_scalar(f"{name} of the language model", value)
    if is_earlier and values["pretrained"] is not None and all(values[name] == size for name, size in SIZES.items()):
        values |= dict.fromkeys(SIZES)  # the defaults then, which meant: as the start has them
    model = ULMFiTLanguageModel(**values, device=device)
    check_parameters(model)
    check_random_state(model.random_state)
    if model.language is not None:
        get_tokenizer(model.language)
    return model


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Translate the parameters of version 0.1.0."""
    head, gradual = values.pop("freeze_encoder"), values.pop("gradual_unfreezing", None)
    check_bool("freeze_encoder", head)
    if gradual is not None:
        check_bool("gradual_unfreezing", gradual)
    values["unfreezing"] = "head" if head else {None: "auto", True: "gradual", False: "at_once"}[gradual]
    metric = values.pop("threshold_metric", "f1_macro")
    if values.get("threshold") == "tune":
        values["threshold"] = metric if isinstance(metric, str) else {"precision": metric}
    return values
