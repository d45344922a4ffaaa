"""Checks of parameters and arguments; every error says what was passed and what was expected."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import describe_value, short


def check_number(
    name: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    integer: bool = False,
    none: bool = False,
    auto: bool = False,
    exclusive: bool = False,
) -> None:
    """Raise ValueError unless `value` is a number in [low, high]; with `exclusive`, in (low, high).

    With `integer` it must be a whole number; with `none` it may be None, with `auto` the string "auto".
    """
    if (value is None and none) or (isinstance(value, str) and value == "auto" and auto):
        return
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
    if is_number and low <= _as_float(value) <= high and not (exclusive and value in (low, high)):
        return
    if math.isinf(high):
        bounds = f" {'above' if exclusive else 'at least'} {low:g}"
    else:
        bounds = f" {'between' if exclusive else 'from'} {low:g} {'and' if exclusive else 'to'} {high:g}"
    what = "an integer" if integer else "a number"
    bounds = "" if math.isinf(low) else bounds
    others = f"{', ' if none else ' or '}'auto'" if auto else ""
    raise ValueError(f"{name} must be {what}{bounds}{others}{' or None' if none else ''}, got {short(value)}.")


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.nan


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {short(value)}.")


def check_bool(name: str, value: Any, *, auto: bool = False) -> None:
    """Raise ValueError unless a parameter is True or False or, with `auto`, the string "auto"."""
    if isinstance(value, (bool, np.bool_)) or (auto and isinstance(value, str) and value == "auto"):
        return
    choices = "True, False or 'auto'" if auto else "True or False"
    raise ValueError(f"{name} must be {choices}, got {short(value)}.")


def check_training_parameters(
    estimator: Any, schedules: tuple[str, ...], precisions: tuple[str, ...], *, lr_none: bool = False
) -> None:
    """Raise ValueError if a parameter that both estimators have is invalid; with `lr_none`, `lr` may be None."""
    check_number("lr", estimator.lr, low=0, none=lr_none)
    check_number("bptt", estimator.bptt, low=1, integer=True)
    for name in ("dropout_multiplier", "alpha", "beta"):
        check_number(name, getattr(estimator, name), low=0)
    check_number("lr_decay", estimator.lr_decay, low=1)
    check_number("gradient_clip", estimator.gradient_clip, low=0, none=True, exclusive=True)
    check_number("n_jobs", estimator.n_jobs, low=-math.inf, integer=True, none=True)
    check_number("verbose", estimator.verbose, low=0, integer=True)
    check_choice("schedule", estimator.schedule, schedules)
    check_choice("precision", estimator.precision, precisions)


def random_generator(random_state: Any) -> np.random.RandomState:
    """Return the generator of a `random_state`; raise ValueError unless it is a seed, a generator or None."""
    from sklearn.utils import check_random_state  # pre-training, which has no random_state, does without scikit-learn

    try:
        return check_random_state(random_state)
    except ValueError:
        raise ValueError(
            f"random_state must be an integer from 0 to {2**32 - 1}, a RandomState or None, got {short(random_state)}."
        ) from None


def check_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Return the weights of n texts as float64, shape (n,), or None if there are none.

    Raises ValueError unless there are n weights, finite and at least 0, one of them above 0.
    """
    if sample_weight is None:
        return None
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"sample_weight must be {n} numbers, one per text; got {describe_value(sample_weight)}."
        ) from None
    if weight.ndim != 1 or len(weight) != n:
        raise ValueError(
            f"sample_weight must be 1-D with {n} numbers, one per text; got an array of shape {weight.shape}."
        )
    wrong = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if len(wrong):
        raise ValueError(
            f"sample_weight[{wrong[0]}] is {weight[wrong[0]]:g}; every weight must be finite and at least 0."
        )
    if not weight.any():
        raise ValueError(f"Every sample_weight of the {n} texts is zero; give some texts a weight above 0.")
    return weight


def plain_number(value: Any) -> Any:
    """Return a numpy scalar as a Python number, for JSON and torch."""
    return value.item() if isinstance(value, np.generic) else value


def fitted_value(estimator: Any, attribute: str) -> Any:
    """Return what an estimator has learned, from which its fitted attributes are read.

    It is one value in `_fitted`, which a fit replaces as a whole. Raise AttributeError for `attribute` before that.
    """
    try:
        return vars(estimator)["_fitted"]
    except KeyError:
        raise AttributeError(f"{type(estimator).__name__} has no {attribute} before fit.") from None
