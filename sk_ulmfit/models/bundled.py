"""The pre-trained language models that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

from sk_ulmfit.models.state import ModelFileError

FOLDER = Path(__file__).parent.parent / "pretrained"
LANGUAGES = {"en": "en", "en-small": "en"}  # language of each model, the larger ones first
SUFFIX = ".safetensors"


def bundled_models() -> list[str]:
    """Name the models that this installation has.

    Returns
    -------
    list of str
        "en" (400/1152/3) and "en-small", as far as they are there.

    Examples
    --------
    >>> from sk_ulmfit.models.bundled import bundled_models
    >>> set(bundled_models()) <= {"en", "en-small"}
    True
    """
    return [name for name in LANGUAGES if _file(name).is_file()]


def default_model(language: str, device: str) -> Path | None:
    """Choose the model that "auto" stands for: the largest on a GPU, the smallest on a CPU.

    Parameters
    ----------
    language : str
        Language of the texts.
    device : str
        Device of torch.

    Returns
    -------
    Path or None
        File of a bundled model; None where there is none for the language.
    """
    names = [name for name in bundled_models() if LANGUAGES[name] == language]
    if not names:
        return None
    return _file(names[0] if device.startswith("cuda") else names[-1])


def model_file(given: str | os.PathLike[str], device: str = "cpu") -> Path:
    """Find the file of a model.

    Parameters
    ----------
    given : str or path-like
        Name of a bundled model, "auto" (`default_model` for English), or a path.
    device : str, default="cpu"
        Device of torch, which "auto" depends on.

    Returns
    -------
    Path
        The file; a path is not looked at.

    Raises
    ------
    ModelFileError
        If a bundled model is named that this installation has not.
    """
    if given == "auto" and (found := default_model("en", device)) is not None:
        return found
    if given != "auto" and given not in LANGUAGES:
        return Path(given)
    if not _file(str(given)).is_file():
        there = ", ".join(map(repr, bundled_models())) or "none"
        raise ModelFileError(f"The model {given!r} does not come with this installation, which has {there}.")
    return _file(str(given))


def _file(name: str) -> Path:
    return FOLDER / f"{name}{SUFFIX}"
