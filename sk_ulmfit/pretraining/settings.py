"""The settings of a pre-training run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_choice, check_number, plain_number
from sk_ulmfit.nn.precision import PRECISIONS


class PretrainingError(ValueError):
    """A pre-training run cannot start or cannot continue."""


@dataclass(frozen=True)
class PretrainingSettings:
    """What determines the result of a run, besides its corpus; named like the parameters of `pretrain`."""

    emb_dim: int
    hidden_dim: int
    n_layers: int
    epochs: float | None
    hours: float | None
    lr: float
    batch_size: int
    bptt: int
    dropout_multiplier: float
    alpha: float
    beta: float
    weight_decay: float
    gradient_clip: float | None
    backward: bool
    validation_fraction: float
    sampled_words: int | None
    n_passages: int | None  # None without a teacher, as the next two
    passage_tokens: int | None
    teacher_weight: float | None
    precision: str
    seed: int


@dataclass(frozen=True)
class CorpusSettings:
    """How the corpus is read and tokenized; None accepts what earlier token ids have, and otherwise is the default."""

    field: str
    language: str | None
    vocab_size: int | None
    min_frequency: int | None
    weights: tuple[float, ...] | None = None


def check_training(settings: PretrainingSettings) -> PretrainingSettings:
    """Check the settings and return them with Python numbers, and with one epoch if no length was asked for."""
    if settings.epochs is not None and settings.hours is not None:
        raise PretrainingError(
            f"Pass epochs or hours, not both; got epochs={settings.epochs} and hours={settings.hours}."
        )
    if settings.epochs is None and settings.hours is None:
        settings = replace(settings, epochs=1.0)
    settings = replace(settings, **{name: plain_number(value) for name, value in vars(settings).items()})
    for name in ("emb_dim", "hidden_dim", "n_layers", "batch_size", "bptt"):
        check_number(name, getattr(settings, name), low=1, integer=True)
    for name in ("lr", "epochs", "hours", "gradient_clip"):
        check_number(name, getattr(settings, name), low=0, none=name != "lr", exclusive=True)
    check_number("sampled_words", settings.sampled_words, low=1, integer=True, none=True)
    for name in ("n_passages", "passage_tokens"):
        check_number(name, getattr(settings, name), low=1, integer=True, none=True)
    check_number("teacher_weight", settings.teacher_weight, low=0, none=True)
    for name in ("dropout_multiplier", "alpha", "beta", "weight_decay", "seed"):
        check_number(name, getattr(settings, name), low=0, integer=name == "seed")
    check_number("validation_fraction", settings.validation_fraction, low=0, high=0.5)
    check_choice("precision", settings.precision, PRECISIONS[:3])
    return settings


def check_corpus(settings: CorpusSettings) -> None:
    """Check the settings of the vocabulary."""
    check_number("vocab_size", settings.vocab_size, low=16, integer=True, none=True)
    check_number("min_frequency", settings.min_frequency, low=1, integer=True, none=True)


def model_config(settings: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Return the config (see `ModelState`) of the model of a run, from its settings and `PackedCorpus.info`."""
    weights = info.get("weights")
    weighted = {} if weights is None else {"weights": " ".join(f"{weight!r}" for weight in weights)}
    return {
        **{name: settings[name] for name in ("emb_dim", "hidden_dim", "n_layers")},
        "language": info["language"],
        "direction": "backward" if settings["backward"] else "forward",
        "pretraining": {**settings, "source": info["source"], "digest": info["digest"], **weighted},
    }


def check_same_run(saved: dict[str, Any], config: dict[str, Any], folder: Path) -> None:
    """Check that what the folder holds, with `saved` as its settings and source, belongs to the run of `config`."""
    saved = {"weights": None, **saved}  # which only a run of several corpora has
    for name, value in {"weights": None, **config["pretraining"]}.items():
        if saved.get(name, value) != value:
            raise PretrainingError(
                f"{folder} holds a run with {name}={short(saved[name])}, not {short(value)}; "
                "pass the same arguments to resume it, or another folder to out."
            )
