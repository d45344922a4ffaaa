"""How to train: parameters of the estimators as plain, frozen values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, get_args

from sk_ulmfit._choices import Unfreezing
from sk_ulmfit._validation import plain_number
from sk_ulmfit.nn.processes import current
from sk_ulmfit.training.recipe import (
    classifier_batch_size,
    classifier_epochs,
    classifier_rates,
    n_held_out_for_decisions,
    unfreezes_gradually,
    unfreezes_trained_head,
)

UNFREEZING = get_args(Unfreezing)

NOT_IN_KEY = {"n_jobs", "verbose"}  # the result does not depend on them


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of both trainings, named as the parameters of the estimators.

    `max_epochs`, `batch_size` and, of a classifier, `lr` may be None: `recipe` decides. `seed` and `device` are what
    ``random_state`` and ``device`` of the estimator stand for.
    """

    max_epochs: int | None
    lr: float | None
    lr_decay: float
    schedule: str
    batch_size: int | None
    bptt: int
    dropout_multiplier: float
    alpha: float
    beta: float
    gradient_clip: float | None
    seed: int
    device: str
    precision: str
    n_jobs: int | None
    verbose: int

    @classmethod
    def of(cls, estimator: Any, **values: Any) -> Self:
        """Take the settings from the parameters of an estimator, and those in `values` from there."""
        if not current().is_first:
            values = {"verbose": 0, **values}
        names = [field.name for field in fields(cls) if field.name not in values]
        return cls(**values, **{name: plain_number(getattr(estimator, name)) for name in names})

    def key(self, any_seed: bool) -> dict[str, Any]:
        """Return what the result of the training depends on; without the seed if any seed will do."""
        left_out = NOT_IN_KEY | ({"seed"} if any_seed else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}


@dataclass(frozen=True)
class LanguageModelSettings(TrainingSettings):
    """Settings of language-model training. The sizes count only for a model from random weights."""

    emb_dim: int
    hidden_dim: int
    n_layers: int
    vocab_size: int
    min_frequency: int
    language: str
    direction: str


@dataclass(frozen=True)
class ClassifierSettings(TrainingSettings):
    """Settings of classifier training.

    `decisions_from` says which predictions calibration and thresholds are learned from: "folds", out-of-fold
    predictions for all rows; "held_out", those for rows that are held out; or "nothing".
    """

    unfreezing: str
    embedding_lr: float | str | None
    tfidf: bool
    max_length: int | None
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    decisions_from: str

    @property
    def gives_rows_back(self) -> bool:
        """Whether the linear model learns from the held-out rows too, once decisions were learned from them."""
        return self.decisions_from == "held_out" and not self.early_stopping

    def n_held_out(self, n_texts: int) -> int:
        """Count the rows that are held out; 0 if nothing asks for them."""
        if self.early_stopping:
            return math.ceil(n_texts * self.validation_fraction)
        return n_held_out_for_decisions(n_texts, self.validation_fraction) if self.gives_rows_back else 0

    def key(self, any_seed: bool) -> dict[str, Any]:
        """Return what the result depends on: not `validation_fraction` unless rows are held out."""
        key = super().key(any_seed)
        if not self.early_stopping and not self.gives_rows_back:
            del key["validation_fraction"]
        return key

    def after_head(self, n_texts: int) -> ClassifierSettings:
        """Decide whether layers below a linear head that is trained first are unfrozen; it has no epochs to stop."""
        unfreezing = unfreezing_after_head(self.unfreezing, n_texts)
        return replace(self, unfreezing=unfreezing, early_stopping=self.early_stopping and unfreezing != "head")

    def resolved(self, n_texts: int, n_layers: int, pretrained: bool, has_vector: bool) -> ClassifierSettings:
        """Replace what is left to the recipe, and what has no meaning for an encoder from random weights.

        With `has_vector` a linear head is trained on vectors first, and `after_head` has decided what follows.
        """
        lr, embedding_lr = classifier_rates(has_vector)
        settings = replace(
            self,
            lr=lr if self.lr is None else self.lr,
            embedding_lr=embedding_lr if self.embedding_lr == "auto" else self.embedding_lr,
        )
        settings = settings if pretrained else replace(settings, lr_decay=1.0, embedding_lr=None)
        unfreezing = unfreezing_for(self.unfreezing, n_texts, pretrained)
        epochs, batch_size = self.max_epochs, self.batch_size
        if epochs is None:
            n_groups = n_layers + 1 + (settings.embedding_lr is None) if unfreezing == "gradual" else 1
            epochs = classifier_epochs(
                n_texts, n_groups=n_groups, head_only=unfreezing == "head", has_trained_head=has_vector
            )
        if batch_size is None:
            batch_size = classifier_batch_size(n_texts)
        return replace(settings, unfreezing=unfreezing, max_epochs=epochs, batch_size=batch_size)


def unfreezing_after_head(wanted: str, n_texts: int) -> str:
    """Return how layers are unfrozen below a linear head that was trained first; "head" says that none is."""
    if wanted != "auto":
        return wanted
    return "at_once" if unfreezes_trained_head(n_texts) else "head"


def unfreezing_for(wanted: str, n_texts: int, pretrained: bool) -> str:
    """Return which layers are trained: one of `UNFREEZING` but "auto", which goes by the number of texts.

    Where a linear head is trained on vectors first, `ClassifierSettings.after_head` has replaced "auto" before.
    """
    if wanted == "head":
        return "head"
    gradually = unfreezes_gradually(n_texts) if wanted == "auto" else wanted == "gradual"
    return "gradual" if gradually and pretrained else "at_once"


def settings_of_net(**values: Any) -> TrainingSettings:
    """Return the settings of a trained net; what only its training needs has no meaning."""
    unused = {"schedule": "slanted_triangular", "batch_size": None, "bptt": 1, "dropout_multiplier": 0.0}
    unused |= {"gradient_clip": None, "precision": "auto", "n_jobs": None, "verbose": 0}
    return TrainingSettings(**{**unused, **values})
