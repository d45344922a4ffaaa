"""How to train: the settings that both stages share."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from sk_ulmfit._validation import plain_number
from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.training.callbacks import (
    OneCycleLR,
    SlantedTriangularLR,
)

SCHEDULES = {"slanted_triangular": SlantedTriangularLR, "one_cycle": OneCycleLR}


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; shared by both stages, and named as the parameters of the estimators.

    Parameters
    ----------
    max_epochs : int or None
        Passes over the data; None goes by the amount of data, as in `recipe`.
    lr : float
        Largest learning rate, that of the top group.
    lr_decay : float
        Ratio of each group's rate to that of the group below.
    schedule : {"slanted_triangular", "one_cycle"}
        How the rate moves.
    batch_size : int or None
        Most rows of a batch; None, of a classifier, goes by the amount of data, as in `recipe`.
    bptt : int
        Tokens per window.
    dropout_multiplier : float
        Factor on the dropout rates.
    alpha, beta : float
        Weights of the AR and TAR penalties.
    gradient_clip : float or None
        Largest norm of the gradient.
    seed : int
        Source of all randomness.
    device : str
        Device of torch.
    precision : {"auto", "float32", "bfloat16", "int8"}
        Arithmetic of the matrix products.
    n_jobs : int or None
        Worker processes that tokenize and train SVMs.
    verbose : int
        1 shows a progress bar.
    """

    max_epochs: int | None
    lr: float
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
    def of(cls, estimator: Any, seed: int, device: str) -> TrainingSettings:
        """Take the settings from an estimator's parameters."""
        names = [field.name for field in fields(cls) if field.name not in ("seed", "device")]
        return cls(seed=seed, device=device, **{name: plain_number(getattr(estimator, name)) for name in names})

    def key(self, any_seed: bool) -> dict[str, Any]:
        """Give what the result depends on; without the seed if any would do."""
        left_out = {"n_jobs", "verbose"} | ({"seed"} if any_seed else set())
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def _net_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Collect what both nets are given."""
    return {
        **{
            name: getattr(settings, name)
            for name in ("alpha", "beta", "lr", "lr_decay", "max_epochs", "seed", "device")
        },
        "optimizer": RowAdamW,
        "optimizer__betas": (0.7, 0.99),
        "optimizer__weight_decay": 0.01,
        "optimizer__fused": True,
        "train_split": None,
        "callbacks__print_log": None,
        "verbose": 0,
    }
