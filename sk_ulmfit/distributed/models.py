"""Models as the tasks of a graph know them: a path, or a fitted estimator that travels once."""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._messages import short
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.distributed.model_cache import loaded_once
from sk_ulmfit.models.state import ModelFileError, digest_of, kind_of
from sk_ulmfit.regressor import ULMFiTRegressor

Model = ULMFiTMultiLabelClassifier | ULMFiTRegressor


@dataclass(frozen=True)
class Description:
    """What a client needs to know of a model.

    Attributes
    ----------
    kind : {"classifier", "regressor"}
        What it predicts.
    names : tuple of str
        Names of its labels or targets.
    digest : str
        The contents of its file, shortened to a checksum; empty for an estimator in memory.
    metadata : mapping
        Notes of the file, which name text columns if ``sk-ulmfit train`` wrote it.
    """

    kind: str
    names: tuple[str, ...]
    digest: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class ModelFile:
    """A model file at a path that workers see.

    Attributes
    ----------
    path : str
        Absolute path.
    digest : str or None
        The contents that the file must have; None takes any.
    device : str
        Device to predict on.
    threshold : float or None
        Threshold in place of the model's own, and of its `top_k`.
    """

    path: str
    digest: str | None = None
    device: str = "auto"
    threshold: Any = None

    def open(self) -> Model:
        """Return the model, loaded once in each process; raise ModelFileError if it is missing, damaged or another."""
        digest = _digest_now(self.path)
        if self.digest is not None and digest not in (self.digest, None):
            raise ModelFileError(
                f"{self.path} holds another model now (checksum {digest}, and {self.digest} was expected); restore the "
                "file, or predict anew."
            )
        key = (self.path, digest, self.device, repr(self.threshold))
        return loaded_once(key, self._load)

    def describe(self) -> Description:
        """Load the model and describe it."""
        return describe(self.open(), _digest_now(self.path) or "")

    def _load(self) -> Model:
        if kind_of(Path(self.path)) == "regressor":
            if self.threshold is not None:
                raise ValueError(f"A threshold is for labels, and {self.path} is a regressor; omit it.")
            return ULMFiTRegressor.load(self.path, device=self.device)
        clf = ULMFiTMultiLabelClassifier.load(self.path, device=self.device)
        if self.threshold is not None:
            clf.set_thresholds(self.threshold).set_params(top_k=None)
        return clf


@dataclass(frozen=True)
class SentModel:
    """A fitted estimator as bytes, in one place of a graph.

    Attributes
    ----------
    content : bytes
        Pickle of the estimator.
    name : str
        Names this content.
    """

    content: bytes
    name: str

    def open(self) -> Model:
        """Return the estimator, which each process makes once."""
        return loaded_once((self.name,), lambda: pickle.loads(self.content))

    def __sizeof__(self) -> int:
        return len(self.content)


def _digest_now(path: str) -> str | None:
    """Return the digest of a file, which is read again only if the file has changed."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _digest(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=16)
def _digest(path: str, *stamp: int) -> str | None:
    return digest_of(Path(path))


def model_file(path: str | os.PathLike[str], device: str = "auto", threshold: Any = None) -> ModelFile:
    """Return a path as a model for tasks, with the contents that the file has now if it can be read here."""
    absolute = os.path.abspath(os.path.expanduser(os.fspath(path)))
    return ModelFile(absolute, _digest_now(absolute), device, threshold)


def light_copy(model: Model, device: str | None, threshold: Any) -> Model:
    """Return a fitted estimator without what only trainings need: language models, caches, vectors of texts."""
    check_is_fitted(model)
    light = copy.copy(model)
    light.set_params(language_model="auto", memory=None, callbacks=None, n_jobs=None, warm_start=False, verbose=0)
    fitted = light._fitted
    light._fitted = replace(fitted, language_models=(), seen=(), seen_tokens=None, seen_trainings=(), rooms=())
    if device is not None:
        light.set_params(device=device)
    if threshold is not None:
        if isinstance(light, ULMFiTRegressor):
            raise ValueError("A threshold is for labels, and this model is a regressor; omit it.")
        light.set_thresholds(threshold).set_params(top_k=None)
    return light


def sent_model(model: Model, device: str | None = None, threshold: Any = None) -> SentModel:
    """Return a fitted estimator as bytes for tasks; those of this process take the estimator itself."""
    light = light_copy(model, device, threshold)
    content = pickle.dumps(light, protocol=pickle.HIGHEST_PROTOCOL)
    sent = SentModel(content, hashlib.blake2b(content, digest_size=16).hexdigest())
    loaded_once((sent.name,), lambda: light)
    return sent


def describe(model: Model, digest: str = "") -> Description:
    """Describe a fitted estimator."""
    kind = "regressor" if isinstance(model, ULMFiTRegressor) else "classifier"
    names = tuple(str(name) for name in model._fitted.names.tolist())
    return Description(kind, names, digest, getattr(model, "metadata_", {}))


def check_model(model: Any) -> None:
    """Raise ValueError unless a model is a path or one of the estimators of this package."""
    if not isinstance(model, (str, os.PathLike, ULMFiTMultiLabelClassifier, ULMFiTRegressor)):
        raise ValueError(
            "model must be the path of a saved model, or a fitted ULMFiTMultiLabelClassifier or ULMFiTRegressor, got "
            f"{short(model)} of type {type(model).__name__}; take the last step of a Pipeline, such as pipe[-1]."
        )
