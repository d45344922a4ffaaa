"""Checks of what users pass in; every error says what came, what was expected and what to do next."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.streams import describe_value


def check_number(
    name: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    integer: bool = False,
    none: bool = False,
    exclusive: bool = False,
) -> None:
    """Check one numeric parameter against the range [low, high].

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        What the user set.
    low, high : float
        Smallest and largest value allowed.
    integer : bool, default=False
        Whether it must be a whole number.
    none : bool, default=False
        Whether None is allowed.
    exclusive : bool, default=False
        Whether the value may be neither `low` nor `high`.

    Raises
    ------
    ValueError
        If the value is not such a number.
    """
    if value is None and none:
        return
    kind = numbers.Integral if integer else numbers.Real
    is_number = isinstance(value, kind) and not isinstance(value, (bool, np.bool_))
    if is_number and low <= float(value) <= high and not (exclusive and value in (low, high)):
        return
    if math.isinf(high):
        bounds = f" {'above' if exclusive else 'at least'} {low:g}"
    else:
        bounds = f" {'between' if exclusive else 'from'} {low:g} {'and' if exclusive else 'to'} {high:g}"
    what = "an integer" if integer else "a number"
    bounds = "" if math.isinf(low) else bounds
    raise ValueError(f"{name} must be {what}{bounds}{' or None' if none else ''}, got {value!r}.")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check that a parameter is one of a few strings.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
        What the user set.
    choices : tuple of str
        What is allowed.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.")


def check_bool(name: str, value: Any) -> None:
    """Raise ValueError unless a parameter is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}.")


def check_training_parameters(estimator: Any, schedules: tuple[str, ...], precisions: tuple[str, ...]) -> None:
    """Check the parameters that both estimators have.

    Parameters
    ----------
    estimator : object
        What has them as attributes.
    schedules : tuple of str
        Names of the schedules.
    precisions : tuple of str
        Names of the kinds of arithmetic.

    Raises
    ------
    ValueError
        If one of them is not valid.
    """
    check_number("bptt", estimator.bptt, low=1, integer=True)
    for name in ("lr", "dropout_multiplier", "alpha", "beta"):
        check_number(name, getattr(estimator, name), low=0)
    check_number("lr_decay", estimator.lr_decay, low=1)
    check_number("gradient_clip", estimator.gradient_clip, low=0, none=True, exclusive=True)
    check_number("n_jobs", estimator.n_jobs, low=-math.inf, integer=True, none=True)
    check_number("verbose", estimator.verbose, low=0, integer=True)
    check_choice("schedule", estimator.schedule, schedules)
    check_choice("precision", estimator.precision, precisions)


def check_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Check the weights of texts.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), or None
        How much each text counts.
    n : int
        Number of texts.

    Returns
    -------
    ndarray of float64, shape (n,), or None
        The weights; None where none were given.

    Raises
    ------
    ValueError
        If there are not n of them, or one is negative or not finite, or all are 0.
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
    """Turn a number of numpy into Python's, as JSON and torch want it."""
    return value.item() if isinstance(value, np.generic) else value
