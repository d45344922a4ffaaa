"""The parameters of a classifier as JSON can hold them, and back; those of earlier versions too."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sk_ulmfit._validation import plain_number
from sk_ulmfit.labels import named_numbers
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.thresholds import check_thresholds

PER_LABEL = ("threshold", "pos_weight")
NOT_SAVED = ("memory", "callbacks")  # a folder of this machine, and code
NOT_IN_FILE = "(a language model in memory, which is not part of the saved classifier)"  # no file has this name


def to_json(parameters: Mapping[str, Any], label_names: Sequence[Any]) -> dict[str, Any]:
    """Turn the parameters of a classifier into types of JSON; what cannot be saved becomes None."""
    values = {name: _to_json(name, value) for name, value in parameters.items()}
    threshold = parameters.get("threshold")
    if not isinstance(threshold, Mapping) and _names_only_precision(threshold):
        values["threshold"] = check_thresholds(
            threshold, label_names
        ).tolist()  # a dict would mean a precision to reach
    return values


def from_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what `to_json` returned, in this version or an earlier one, into parameters of a classifier."""
    values = {"tfidf": False, **parameters}  # files of the first version have no such parameter
    is_earlier = "freeze_encoder" in values
    values["language_model"] = _language_model(values["language_model"], is_earlier)
    for name in PER_LABEL:
        if isinstance(values.get(name), dict) and "by_name" in values[name]:
            values[name] = dict(values[name]["by_name"])
    return _renamed(values) if is_earlier else values


def _to_json(name: str, value: Any) -> Any:
    if name in NOT_SAVED:
        return None
    if name == "language_model":
        return _language_model_to_json(value)
    if name in PER_LABEL and not isinstance(value, (str, type(None))):
        return _per_label_to_json(value)
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
        }
    return _start_to_json(value)


def _start_to_json(value: Any) -> str | None:
    if isinstance(value, ModelState):
        return NOT_IN_FILE
    if isinstance(value, Path):  # "./en" stays a path; "en" would name a bundled model
        return str(value) if value.parent != Path() else os.path.join(os.curdir, value)
    return value


def _language_model(value: Any, is_earlier: bool) -> Any:
    if isinstance(value, list):
        return tuple(_language_model(item, is_earlier) for item in value)
    if not isinstance(value, dict):
        return value
    if is_earlier and value["pretrained"] is not None and all(value[name] == size for name, size in SIZES.items()):
        value = {**value, **dict.fromkeys(SIZES)}  # the defaults then, which meant: as the start has them
    return ULMFiTLanguageModel(**value)


def _renamed(values: dict[str, Any]) -> dict[str, Any]:
    """Translate the parameters of version 0.1.0."""
    head, gradual = values.pop("freeze_encoder"), values.pop("gradual_unfreezing", None)
    values["unfreezing"] = "head" if head else {None: "auto", True: "gradual", False: "at_once"}[gradual]
    metric = values.pop("threshold_metric", "f1_macro")
    if values["threshold"] == "tune":
        values["threshold"] = metric if isinstance(metric, str) else {"precision": metric}
    return values
