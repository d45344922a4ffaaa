"""Checks of what users pass in; every error says what came, what was expected and what to do next."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sized
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.streams import StreamedTexts


def check_texts(X: Any, name: str = "X") -> Any:
    """Check raw texts and give them as a list.

    Parameters
    ----------
    X : sequence of str or StreamedTexts
        List, tuple, 1-D array, or pandas or polars Series; or texts that stay where they are.
    name : str, default="X"
        What to call it in errors.

    Returns
    -------
    list of str, or StreamedTexts
        The texts.

    Raises
    ------
    ValueError
        If `X` is a single string, not one-dimensional, empty, or holds anything but strings.
    """
    if isinstance(X, StreamedTexts) and len(X):
        return X
    if isinstance(X, (str, bytes)):
        raise ValueError(
            f"{name} must be a sequence of raw texts, got a single {type(X).__name__}. Wrap it in a list: [{name}]."
        )
    if hasattr(X, "columns") or (hasattr(X, "ndim") and X.ndim != 1):
        shape = getattr(X, "shape", "unknown")
        raise ValueError(
            f"{name} must be a 1-D sequence of raw texts, got a {type(X).__name__} of shape {shape}. "
            "Pass one text column, for example X['text']; several columns become one with "
            "sk_ulmfit.TextFieldJoiner().fit_transform(X). Reshape your data either way to one text per document."
        )
    if isinstance(X, (dict, set, frozenset)) or not isinstance(X, Sized) or not hasattr(X, "__getitem__"):
        raise ValueError(f"{name} must be a 1-D sequence of raw texts, got a {type(X).__name__}. Pass a list of str.")
    texts: list[str] = []
    for index, item in enumerate(cast(Any, X)):
        if not isinstance(item, str):
            raise ValueError(
                f"{name}[{index}] is {_describe(item)}; every text must be a str. "
                "Replace missing texts by '', turn numbers into text with str, or drop such rows with their labels."
            )
        texts.append(str(item))
    if not texts:
        raise ValueError(f"{name} has 0 texts (0 sample(s)), while a minimum of 1 is required.")
    return texts


def _describe(item: Any) -> str:
    if item is None:
        return "None"
    if isinstance(item, float) and math.isnan(item):
        return "nan (a missing value)"
    text = repr(item)
    return f"{text if len(text) <= 40 else text[:37] + '...'} of type {type(item).__name__}"


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
        raise ValueError(f"sample_weight must be {n} numbers, one per text; got {_describe(sample_weight)}.") from None
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
