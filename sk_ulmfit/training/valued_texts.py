"""Texts with values on a scale and weights, checked: what a regressor learns from."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_ulmfit._messages import describe_value, first_few, short, short_names
from sk_ulmfit._validation import check_choice
from sk_ulmfit.labels import is_missing, join_columns, plain_targets
from sk_ulmfit.models.schema import LOSSES
from sk_ulmfit.text.streams import check_texts, plain_list
from sk_ulmfit.training.data import TrainingTexts, weigh_texts
from sk_ulmfit.training.link import CROSS_ENTROPY, SQUARED_ERROR
from sk_ulmfit.training.task import Regression, is_constant, task_of

Floats = NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
_HINT = "Pass one number per text, or a matrix with one column per target; NaN where a value is unknown."


class Values(NamedTuple):
    """Targets as a matrix.

    Attributes
    ----------
    y : ndarray of float64, shape (n, T)
        Values, NaN where unknown.
    names : list of length T
        Columns of a DataFrame, the name of a Series, else 0 to T - 1.
    one_dimensional : bool
        Whether the targets came as one number per text.
    """

    y: Floats
    names: list[Any]
    one_dimensional: bool


@dataclass(frozen=True)
class ValuedTexts(TrainingTexts):
    """Texts with values: y is float64, and the task is a `Regression`.

    Attributes
    ----------
    one_dimensional : bool
        Whether y was one number per text.
    """

    kind = "regressor"
    outputs = "targets"

    one_dimensional: bool = False

    @property
    def strata(self) -> Floats:
        """Values that are known, as 1: a held-out part has its share of them."""
        return np.where(np.isnan(self.y), np.nan, 1.0)


def check_valued_texts(
    X: Any,
    y: Any,
    sample_weight: Any = None,
    y_range: Any = None,
    loss: str = SQUARED_ERROR,
    earlier: Mapping[str, Any] | None = None,
) -> ValuedTexts:
    """Check what ``fit`` of a regressor takes; texts of weight 0 are left out.

    Targets of an earlier fit that goes on, which has the configuration `earlier`, come first. Where `y` has none of
    them they are unknown, with the mean and the scale that they had.

    Raises
    ------
    ValueError
        If a text, a value, a weight, the range or the loss is not valid, or their numbers differ.
    """
    check_choice("loss", loss, LOSSES)
    texts = check_texts(X)
    values, names, one_dimensional = check_values(y)
    if len(texts) != len(values):
        raise ValueError(f"X has {len(texts)} texts, but y has {len(values)} rows; give one value or row per text.")
    texts, values, weight = weigh_texts(texts, values, sample_weight)
    if np.isnan(values).all():
        raise ValueError(f"y has {len(values)} rows, and all their values are unknown (NaN). {_HINT}")
    _warn_constant(values, names)
    if earlier is not None:
        known = earlier["target_names"]
        values, names = join_columns(values, names, known, named=names != list(range(len(names))), outputs="targets")
        one_dimensional = one_dimensional and len(names) == 1
    ends = check_y_range(y_range, names)
    check_loss(loss, ends)
    if ends is not None:
        _refuse_outside(values, ends, names)
    values = np.ascontiguousarray(values)
    task = Regression.of_values(values, weight, ends, loss)
    if earlier is None:
        return ValuedTexts(texts, values, names, task, weight, one_dimensional=one_dimensional)
    n_earlier = len(earlier["target_names"])
    data = ValuedTexts(texts, values, names, task, weight, n_earlier, one_dimensional)
    return replace(data, task=_as_before(task, earlier, data.untrained))


def _as_before(task: Regression, earlier: Mapping[str, Any], untrained: NDArray[np.bool_]) -> Regression:
    """Return a task with the mean and the scale of an earlier one for targets that are not trained.

    Raises ValueError if the loss or the range of an earlier target has changed.
    """
    before = cast(Regression, task_of(earlier))
    same_range = (task.y_range is None) == (before.y_range is None)
    if task.y_range is not None and before.y_range is not None:
        same_range = np.array_equal(task.y_range[:, : len(before.mean)], before.y_range)
    if task.loss != before.loss or not same_range:
        raise ValueError(
            f"{'y_range' if task.loss == before.loss else 'loss'} has changed since the earlier fit, from which "
            "warm_start=True goes on; set it back, or warm_start=False for a new fit."
        )
    kept = np.flatnonzero(untrained)
    mean, scale = task.mean.copy(), task.scale.copy()
    mean[kept], scale[kept] = before.mean[kept], before.scale[kept]
    return replace(task, mean=mean, scale=scale)


def check_values(y: Any) -> Values:
    """Turn targets of any form into a matrix of float64, its names, and whether it was one number per text.

    Forms are a 1-D or 2-D array, a list of numbers or of rows, a Series, a DataFrame, a table of pyarrow, a column of
    Hugging Face and a sparse matrix. An entry that is NaN, None, ``pandas.NA`` or masked becomes NaN: unknown.
    """
    if y is None:
        raise ValueError(f"This estimator requires y to be passed, but the target y is None. {_HINT}")
    name = getattr(y, "name", None)
    y = plain_targets(y)
    if isinstance(y, (str, bytes, dict)) and not sparse.issparse(y):  # of scipy, dok_matrix is a dict
        raise ValueError(f"y must be an array or a sequence of numbers, got {describe_value(y)}. {_HINT}")
    names = None
    if hasattr(y, "columns") and hasattr(y, "to_numpy"):
        names = [column if isinstance(column, (str, int)) else str(column) for column in y.columns]
        y = y.to_numpy()
    elif isinstance(name, (str, int)) and name != "":
        names = [name]
    values = _as_floats(_as_array(y))
    one_dimensional = values.ndim == 1
    values = values[:, None] if one_dimensional else values
    names = list(range(values.shape[1])) if names is None else names
    if len(set(names)) < len(names):
        twice = [each for each, n in Counter(names).items() if n > 1]
        raise ValueError(
            f"Target names must be distinct, got {short_names(twice)} more than once. Rename the columns of y."
        )
    return Values(values, names, one_dimensional)


def check_y_range(y_range: Any, names: Sequence[Any]) -> Floats | None:
    """Return the least and the greatest value of each target, shape (2, T), from one pair for all or one for each."""
    if y_range is None:
        return None
    n = len(names)
    wanted = f"y_range must be None, one pair (low, high), or {n} such pairs, one per target"
    try:
        pairs = np.asarray(None if isinstance(y_range, (str, dict, set)) else y_range, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}; got {short(y_range)}.") from None
    if pairs.shape not in ((2,), (n, 2)):
        raise ValueError(f"{wanted}; got {short(y_range)}.")
    pairs = np.broadcast_to(pairs, (n, 2))
    wrong = np.flatnonzero(~((np.abs(pairs) <= LARGEST).all(axis=1) & (pairs[:, 0] < pairs[:, 1])))
    if len(wrong):
        of_target = "" if np.ndim(y_range) == 1 else f" of target {short(names[wrong[0]], 30)}"
        raise ValueError(
            f"The low end of y_range must be below its high end, both finite; got {_pair(pairs[wrong[0]])}{of_target}."
        )
    return np.ascontiguousarray(pairs.T)


def _as_array(y: Any) -> NDArray[Any]:
    """Return y as an array of numbers or objects, one- or two-dimensional."""
    if sparse.issparse(y):
        y = y.toarray()
    try:
        if hasattr(y, "__array__") and not hasattr(y, "__iter__"):
            y = np.asanyarray(y)
        if not hasattr(y, "shape"):
            rows = plain_list(y)
            y = np.asanyarray(rows)
            y = np.array(rows, object) if y.dtype.kind in "US" else y  # numbers beside texts stay numbers
        y = np.asanyarray(y)
    except TypeError:
        raise ValueError(f"y must be an array or a sequence of numbers, got {describe_value(y)}. {_HINT}") from None
    except ValueError:
        raise ValueError(f"y mixes numbers and rows, or rows of different lengths. {_HINT}") from None
    if isinstance(y, np.ma.MaskedArray) and y.dtype.kind in "biuf":
        y = np.ma.filled(y.astype(np.float64), np.nan)
    y = np.asarray(y)
    if y.dtype == object and y.ndim == 1 and len(y) and all(isinstance(row, (list, tuple, np.ndarray)) for row in y):
        return _as_array(list(y))
    if y.ndim not in (1, 2):
        raise ValueError(f"y must be 1-D or 2-D, got an array of shape {y.shape}. {_HINT}")
    if y.ndim == 2 and y.shape[1] == 0:
        raise ValueError(f"y has 0 targets (shape {y.shape}), while a minimum of 1 is required. {_HINT}")
    return y


def _as_floats(y: NDArray[Any]) -> Floats:
    """Return an array as float64; raise ValueError at the first entry that is not a finite number, nor missing."""
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: y holds complex numbers. {_HINT}")
    if y.dtype.kind not in "biufOUS":
        raise ValueError(f"y has dtype {y.dtype}; every value must be a number. {_HINT}")
    if y.dtype.kind in "OUS":
        y = y.astype(object)
        for place, entry in np.ndenumerate(y):
            if not (is_missing(entry) or isinstance(entry, (Real, Decimal, np.bool_))):
                raise ValueError(f"y{_at(place)} is {describe_value(entry)}; every value must be a number. {_HINT}")
        y = np.array([np.nan if is_missing(entry) else _to_float(entry) for entry in y.flat]).reshape(y.shape)
    values = y.astype(np.float64)
    infinite = np.argwhere(np.abs(values) > LARGEST)
    if len(infinite):
        place = tuple(infinite[0])
        raise ValueError(
            f"Input y contains infinity or a value too large: y{_at(place)} is {values[place]:g}; every value must be "
            "finite, or NaN where it is unknown."
        )
    return values


def _to_float(entry: Any) -> float:
    try:
        return float(entry)
    except OverflowError:  # an integer of more than 308 digits
        return np.inf


def check_loss(loss: str, ends: Floats | None) -> None:
    """Raise ValueError unless a loss goes with the range of the targets, from `check_y_range`."""
    if loss != CROSS_ENTROPY:
        return
    others = [] if ends is None else [pair for pair in ends.T if tuple(pair) != (0, 1)]
    if ends is None or others:
        got = _pair(others[0]) if others else None
        raise ValueError(
            f"loss='cross_entropy' takes values from 0 to 1 and needs y_range=(0, 1), got y_range={got}; set it, or "
            "use loss='squared_error'."
        )


def _refuse_outside(values: Floats, ends: Floats, names: Sequence[Any]) -> None:
    outside = np.argwhere((values < ends[0]) | (values > ends[1]))
    if len(outside):
        row, target = outside[0]
        raise ValueError(
            f"y[{row}] is {values[row, target]:g} for target {short(names[target], 30)}, outside of "
            f"y_range={_pair(ends[:, target])}. Correct the value, pass NaN if it is unknown, or widen y_range."
        )


def _warn_constant(values: Floats, names: list[Any]) -> None:
    """Warn about targets that are the same for all texts or known of none."""
    known = ~np.isnan(values)
    unknown = np.flatnonzero(~known.any(axis=0))
    constant = np.setdiff1d(np.flatnonzero(is_constant(values, known)), unknown)
    if len(constant):
        shown = first_few([f"{short(names[i], 30)} (always {values[known[:, i], i][0]:g})" for i in constant])
        warnings.warn(
            f"{len(constant)} of {len(names)} targets are the same for all {len(values)} training texts: {shown}. "
            "This value is predicted; drop them or add texts that differ.",
            UserWarning,
            stacklevel=3,
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(names)} targets are known of none of the {len(values)} training texts: "
            f"{short_names([names[i] for i in unknown])}. The middle of y_range, or 0, is predicted; drop them or add "
            "values.",
            UserWarning,
            stacklevel=3,
        )


def _pair(pair: Any) -> str:
    return f"({pair[0]:g}, {pair[1]:g})"


def _at(place: tuple[Any, ...]) -> str:
    """Write the place of an entry as an index."""
    return f"[{', '.join(str(int(i)) for i in place)}]"
