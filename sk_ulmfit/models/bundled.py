"""The pre-trained language models that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

from sk_ulmfit._messages import short
from sk_ulmfit.models.state import ModelFileError

FOLDER = Path(__file__).parent.parent / "pretrained"
LANGUAGES = {"en": "en", "en-small": "en"}  # language of each model, larger models first
SUFFIX = ".safetensors"


def bundled_models() -> list[str]:
    """Return the names of the models in this installation: "en" (400/1152/3), "en-small", both or neither."""
    return [name for name in LANGUAGES if _file(name).is_file()]


def default_model(language: str, device: str) -> Path | None:
    """Return the file of the model that "auto" means: the largest on a GPU, the smallest on a CPU, or None."""
    names = [name for name in bundled_models() if LANGUAGES[name] == language]
    if not names:
        return None
    return _file(names[0] if device.startswith("cuda") else names[-1])


def model_file(model: str | os.PathLike[str], device: str = "cpu") -> Path:
    """Return the file of a model: a path, the name of a bundled model, or "auto" for English texts on a device.

    Paths are not checked. Raises ModelFileError if this installation lacks the bundled model.
    """
    if model == "auto" and (default := default_model("en", device)) is not None:
        return default
    if model != "auto" and model not in LANGUAGES:
        return Path(model)
    if not _file(str(model)).is_file():
        available = ", ".join(map(repr, bundled_models())) or "none"
        raise ModelFileError(f"The model {short(model)} does not come with this installation, which has {available}.")
    return _file(str(model))


def _file(name: str) -> Path:
    return FOLDER / f"{name}{SUFFIX}"
