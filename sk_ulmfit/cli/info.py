"""``sk-ulmfit info``: describe a model file."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import printable
from sk_ulmfit._saved_parameters import from_json
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.bundled import model_file
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.models.state import ModelState, load_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.regressor import ULMFiTRegressor

BY_OUTPUT = ("thresholds", "means", "y_range")  # one value for each label or target


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model",
        metavar="MODEL",
        help="file written by train, finetune or pretrain; or en-small, the included language model",
    )


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
        **{name: state.config[name] for name in ("vector_dim",) if name in state.config},
        "n_words": len(state.vocabulary),
        "epochs": len(state.history),
    }
    if state.kind == "classifier":
        data |= _describe_classifier(path, state)
    elif state.kind == "regressor":
        data |= _describe_regressor(path, state)
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
        "has_linear_model": clf._fitted.linear_model is not None,
        "calibrated": "calibration" in config,
        "trained_with": _changed_parameters(ULMFiTMultiLabelClassifier(), from_json(config["params"])),
        "metadata": config["metadata"],
    }


def _describe_regressor(path: Path, state: ModelState) -> dict[str, Any]:
    config = state.config
    names = [str(name) for name in config["target_names"]]
    model = ULMFiTRegressor.load(path, device="cpu")
    ends = zip(*config["y_range"], strict=True) if "y_range" in config else [None] * len(names)
    return {
        "targets": names,
        "means": dict(zip(names, config["target_mean"], strict=True)),
        "y_range": dict(zip(names, ends, strict=True)),
        "loss": config["loss"],
        "has_linear_model": model._fitted.linear_model is not None,
        "trained_with": _changed_parameters(ULMFiTRegressor(), from_json(config["params"])),
        "metadata": config["metadata"],
    }


def _changed_parameters(estimator: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that differ from the defaults of the estimator."""
    defaults = estimator.get_params(deep=False)
    changed = {name: value for name, value in parameters.items() if value is not None and value != defaults[name]}
    if "language_model" in changed:
        changed["language_model"] = _describe_language_model(changed["language_model"])
    return changed


def _describe_language_model(language_model: Any) -> Any:
    if isinstance(language_model, tuple):
        models = map(_describe_language_model, language_model)
        return dict(zip(DIRECTIONS, models, strict=True))
    if isinstance(language_model, ULMFiTLanguageModel):
        return _changed_parameters(ULMFiTLanguageModel(), language_model.get_params(deep=False)) or "auto"
    return language_model


def _lines(key: str, value: Any) -> list[str]:
    """Return a property in one line or, for a dict, in one line per item."""
    items = [_format(value)]
    if isinstance(value, dict):
        named = {printable(name): _format(item) for name, item in value.items() if item is not None}
        items = _condensed(named) if key in BY_OUTPUT else [f"{name}={item}" for name, item in named.items()]
    first, *others = items or ["none"]
    return [f"{key.replace('_', ' '):<20}{first}", *(f"{'':<20}{item}" for item in others)]


def _condensed(items: dict[str, str]) -> list[str]:
    """Return the items as lines; a value that at least half of them have is one line for all of these."""
    usual, n = Counter(items.values()).most_common(1)[0] if items else ("", 0)
    if n < 2 or 2 * n < len(items):
        return [f"{name}={item}" for name, item in items.items()]
    others = [f"{name}={item}" for name, item in items.items() if item != usual]
    return [*others, f"{usual} for {'the other' if others else 'all'} {n}"]


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{printable(str(key))}={_format(item)}" for key, item in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_format, value))
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
