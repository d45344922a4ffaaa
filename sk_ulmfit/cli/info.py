"""``sk-ulmfit info``: describe a model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.bundled import model_file
from sk_ulmfit.models.state import DIRECTIONS, ModelState, load_state
from sk_ulmfit.nn.device import resolve_device


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of a classifier or a language model, or en-small")


def run(options: argparse.Namespace) -> Answer:
    path = model_file(options.model, resolve_device("cpu"))
    state = load_state(path, None)
    data: dict[str, Any] = {
        "file": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "kind": state.kind,
        "language": state.config["language"],
        "direction": state.config.get("direction", "forward"),
        **{name: state.config[name] for name in SIZES},
        "n_words": len(state.vocabulary),
        "epochs": len(state.history),
    }
    if state.kind == "classifier":
        data |= _describe_classifier(path, state)
    text = "\n".join(line for key, value in data.items() for line in _lines(key, value))
    data["history"] = state.history
    if "backward" in state.config:
        data["backward_history"] = state.config["backward"]["history"]
    return Answer(text, data)


def _describe_classifier(path: Path, state: ModelState) -> dict[str, Any]:
    config = state.config
    names = [str(name) for name in config["label_names"]]
    clf = ULMFiTMultiLabelClassifier.load(path, device="cpu")
    return {
        "labels": names,
        "thresholds": dict(zip(names, clf.thresholds_.tolist(), strict=True)),
        "decides_with_words": any(key.startswith("tfidf.") for key in state.weights),
        "calibrated": "calibration" in config,
        "trained_with": _changed_parameters(ULMFiTMultiLabelClassifier(), config["params"]),
        "metadata": config["metadata"],
    }


def _changed_parameters(estimator: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that differ from the estimator's defaults."""
    defaults = estimator.get_params(deep=False)
    changed = {key: value for key, value in params.items() if value is not None and value != defaults.get(key, value)}
    language_model = changed.get("language_model")
    if isinstance(language_model, list):  # one for each direction
        models = map(_describe_language_model, language_model)
        changed["language_model"] = dict(zip(DIRECTIONS, models, strict=True))
    elif language_model is not None:
        changed["language_model"] = _describe_language_model(language_model)
    return changed


def _describe_language_model(language_model: Any) -> Any:
    if not isinstance(language_model, dict):  # a name or a file
        return language_model
    return _changed_parameters(ULMFiTLanguageModel(), language_model) or "auto"


def _lines(key: str, value: Any) -> list[str]:
    """Return a property in one line or, for a dict, in one line per item."""
    items = [_format(value)]
    if isinstance(value, dict):
        items = [f"{name}={_format(item)}" for name, item in value.items() if item is not None] or items
    first, *others = items
    return [f"{key.replace('_', ' '):<20}{first}", *(f"{'':<20}{item}" for item in others)]


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key}={_format(item)}" for key, item in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_format, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
