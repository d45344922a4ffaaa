"""Multi-label targets in every form, as one indicator matrix.

Each row is read by itself, never by which other rows are there, so any subset of rows of a y is read like the whole:

* An array, DataFrame or sparse matrix is an indicator matrix. So is a list of lists of 0 and 1, None and NaN included.
* A list of lists of str, or of int from 2 on, or a list of sets of str or int, holds the labels of each text.

Tuples and arrays count as lists, a Series or 1-D object array as the list of its entries. A y with both kinds of rows
is refused, and so are rows of a matrix of different lengths. Labels with the names 0 or 1 therefore go into sets.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sk_ulmfit._messages import describe_value, first_few, short, short_names
from sk_ulmfit._validation import plain_number
from sk_ulmfit.text.streams import plain_list

Floating = TypeVar("Floating", np.float32, np.float64)

MOST_BALANCED = 20.0  # largest factor of pos_weight="balanced": larger ones let a few texts dominate the loss
_HINT = (
    "Pass an indicator matrix of 0 and 1 (NaN: not annotated) with one column per label, or for each text a list of "
    "str or a set of labels; sklearn.preprocessing.MultiLabelBinarizer turns lists of labels into such a matrix, and "
    "sk_ulmfit.datasets.load_table reads columns with label names."
)
_USE_SETS = "If these numbers are names of labels, pass one set per text, such as [{0}, {0, 1}]."


class NamedIndicator(np.ndarray):
    """Matrix of labels with column names, which ``fit`` takes like a DataFrame.

    Rows can be chosen by ``y[rows]`` without losing the names; anything else gives a matrix without names.

    Parameters
    ----------
    columns : list of str
        Label names.
    values : array-like of shape (n, L)
        0 and 1, NaN where unknown.

    Examples
    --------
    >>> from sk_ulmfit.datasets import NamedIndicator
    >>> y = NamedIndicator(["late", "lost"], [[1, 0], [0, 1], [0, 0]])
    >>> y[1:].columns, y[1:].to_numpy().tolist()
    (['late', 'lost'], [[0, 1], [0, 0]])
    """

    columns: list[Any]

    def __new__(cls, columns: Sequence[Any], values: Any) -> NamedIndicator:
        """Name the columns of a matrix, without copying it."""
        named = np.asarray(values).view(cls)
        named.columns = list(columns)
        return named

    def __repr__(self) -> str:
        values = repr(np.asarray(self))
        if not hasattr(self, "columns"):
            return values
        return (
            f"NamedIndicator of {len(self)} texts and {len(self.columns)} labels: {short_names(self.columns)}\n{values}"
        )

    def to_numpy(self) -> NDArray[Any]:
        """Return the matrix without names."""
        return np.asarray(self)

    def __getitem__(self, key: Any) -> Any:
        chosen = np.asarray(self)[key]
        keeps_columns = not isinstance(key, tuple) or key[1:] in ((), (Ellipsis,))
        if keeps_columns and chosen.ndim == 2 and hasattr(self, "columns"):
            return NamedIndicator(self.columns, chosen)
        return chosen

    def __reduce__(self) -> Any:
        if hasattr(self, "columns"):
            return NamedIndicator, (self.columns, np.asarray(self))
        return np.asarray(self).__reduce__()


def check_labels(y: Any) -> tuple[NDArray[np.float32], list[Any]]:
    """Turn targets of any form into an indicator matrix of float32, shape (n, L), and its L label names.

    An entry that is NaN, None, ``pandas.NA`` or masked becomes NaN: not annotated. The names are the columns of a
    DataFrame, the sorted labels of label lists, else 0 to L - 1.
    """
    if y is None:
        raise ValueError(f"This estimator requires y to be passed, but the target y is None. {_HINT}")
    y = plain_targets(y)
    if isinstance(y, str):
        advice = 'pass a list of labels for each text, such as [row.split(",") for row in rows].'
        raise ValueError(f"y is a single text, {short(y, 40)}; {advice}")
    if isinstance(y, (bytes, dict)) and not sparse.issparse(y):  # of scipy, dok_matrix is a dict
        raise ValueError(f"y must be a matrix or a sequence of label lists, got a {type(y).__name__}. {_HINT}")
    names: list[Any] | None = None
    rows = _nested_rows(y)
    if rows is not None:
        if _are_labels(rows):
            return _binarize(rows)
        y = _stack(rows)
    elif hasattr(y, "columns") and hasattr(y, "to_numpy"):
        names = [name if isinstance(name, (str, int)) else str(name) for name in y.columns]
        y = y.to_numpy()
        _refuse_columns_of_lists(y, names)
    elif sparse.issparse(y):
        y = y.toarray()
    else:
        _refuse_texts_and_gaps(y)
        y = _as_array(y)
    if isinstance(y, np.ma.MaskedArray) and y.dtype.kind in "biuf":
        y = np.ma.filled(y.astype(np.float64), np.nan)
    indicator = _check_indicator(np.asarray(y))
    if names is None:
        names = list(range(indicator.shape[1]))
    if len(set(names)) < len(names):
        twice = [name for name, n in Counter(names).items() if n > 1]
        raise ValueError(
            f"Label names must be distinct, got {short_names(twice)} more than once. Rename the columns of y."
        )
    return indicator, names


def label_lists(y: Any) -> list[Any] | None:
    """Return the labels of each text, as a list of collections, if y holds label lists; None if y is a matrix."""
    rows = _nested_rows(plain_targets(y))
    return rows if rows is not None and _are_labels(rows) else None


def plain_targets(y: Any) -> Any:
    """Return a table of pyarrow, or a column or data set of Hugging Face, as lists or a matrix with its names.

    Anything else is returned as it is. The names of a column of lists of ClassLabel are those of the ClassLabel.
    """
    if _is_table(y):
        columns = [plain_list(y[name]) for name in y.column_names]
        values = np.empty((len(columns[0]) if columns else 0, len(columns)), object)
        for i, column in enumerate(columns):
            values[:, i] = column
        return NamedIndicator(y.column_names, values)
    class_names = class_names_of(y.features) if hasattr(y, "column_name") and hasattr(y, "features") else None
    if class_names is None:
        return plain_list(y) if hasattr(y, "column_name") or hasattr(y, "to_pylist") else y
    rows = plain_list(y)
    place = {name: i for i, name in enumerate(class_names)}
    matrix = np.zeros((len(rows), len(class_names)), np.float32)
    for i, row in enumerate(rows):
        if is_missing(row):
            raise ValueError(
                f"y[{i}] is {describe_value(row)}; expected class numbers, or [] for a text without labels."
            )
        named = with_class_names(row, class_names)
        matrix[i, [place[name] for name in ([named] if isinstance(named, str) else named)]] = 1
    return NamedIndicator(class_names, matrix)


def _is_table(y: Any) -> bool:
    """Tell whether y is a table of pyarrow or a data set of Hugging Face."""
    return hasattr(y, "column_names") and not hasattr(y, "to_numpy") and hasattr(y, "to_pandas")


def class_names_of(feature: Any) -> list[str] | None:
    """Return the names of the classes of a feature of Hugging Face, ClassLabel or a list of them; None for others."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return list(names) if isinstance(names, (list, tuple)) else None


def with_class_names(numbers: Any, names: list[str] | None) -> Any:
    """Return the names of class numbers: of a list as a list, of one number as one name; without names, what came."""
    if names is None or is_missing(numbers):
        return numbers
    if not _is_collection(numbers):
        return with_class_names([numbers], names)[0]
    listed = np.asarray(numbers).tolist()
    for number in listed:
        if not isinstance(number, int) or not 0 <= number < len(names):
            raise ValueError(
                f"A column of class numbers holds {short(number)}, but its {len(names)} classes are "
                f"{short_names(names)}."
            )
    return [names[number] for number in listed]


def indicator_of(y: Any, names: Sequence[Any] | None) -> tuple[NDArray[np.float32], list[Any]]:
    """Turn targets into an indicator matrix with columns `names`, shape (n, L); None takes the names of `y`.

    Labels that `y` names go to their columns; a matrix without names goes by position.
    """
    if names is None:
        return check_labels(y)
    names, y = list(names), plain_targets(y)
    rows = label_lists(y)
    if rows is not None and not any(len(row) for row in rows):
        return np.zeros((len(rows), len(names)), np.float32), names
    indicator, own = check_labels(y)
    known = short_names(names)
    if rows is None and not hasattr(y, "columns"):
        if len(own) != len(names):
            raise ValueError(f"y has {len(own)} columns, but there are {len(names)} labels: {known}.")
        return indicator, names
    unknown = [name for name in own if name not in names]
    if unknown:
        raise ValueError(f"y has the unknown label {short(unknown[0])}. The labels are {known}.")
    if rows is None and len(own) != len(names):
        missing = next(name for name in names if name not in own)
        raise ValueError(
            f"y has no column for the label {short(missing)}; pass one for each of the {len(names)} labels."
        )
    placed = np.zeros((len(indicator), len(names)), np.float32)
    placed[:, [names.index(name) for name in own]] = indicator
    return placed, names


def are_named(y: Any) -> bool:
    """Tell whether targets name their labels: in lists, or as columns; columns of another matrix have positions."""
    y = plain_targets(y)
    return hasattr(y, "columns") or label_lists(y) is not None


def join_columns(
    values: NDArray[Floating], names: list[Any], earlier: Sequence[Any], named: bool, outputs: str = "labels"
) -> tuple[NDArray[Floating], list[Any]]:
    """Put the columns of an earlier fit, NaN where they are missing, before new ones; return matrix and names.

    Columns are matched by name; those of a matrix without names, which is not `named`, by position.
    """
    earlier, positions = list(earlier), list(range(len(earlier)))
    if not named and earlier != positions:
        if len(names) != len(earlier):
            raise ValueError(
                f"y has {len(names)} columns without names, but the model to go on from has {len(earlier)} {outputs}: "
                f"{short_names(earlier)}. Pass a DataFrame with their names, or warm_start=False."
            )
        return values, earlier
    texts = [name for name in names if isinstance(name, str)]
    if earlier == positions and texts:
        raise ValueError(
            f"y names {short(texts[0])}, but the {len(earlier)} {outputs} of the model to go on from have no names; "
            "pass a matrix in the order of its columns, or warm_start=False."
        )
    known: set[Any] = set(earlier)
    joined = [*earlier, *(name for name in names if name not in known)]
    column = {name: i for i, name in enumerate(joined)}
    placed = np.full((len(values), len(joined)), np.nan, values.dtype)
    placed[:, [column[name] for name in names]] = values
    return placed, joined


def warn_similar(names: Sequence[Any]) -> None:
    """Warn once about label names that look the same, or are blank."""
    alike: dict[str, list[str]] = {}
    for name in names:
        if isinstance(name, str):
            alike.setdefault(_visible(name), []).append(name)
    blank = alike.pop("", [])
    groups = [group for group in alike.values() if len(group) > 1]
    if groups:
        shown = first_few([" and ".join(ascii(name)[:40] for name in group[:2]) for group in groups[:3]], len(groups))
        warnings.warn(
            f"Some label names differ only by Unicode form, blanks or invisible characters: {shown}. They are learned "
            "as different labels; write each name in one way only.",
            UserWarning,
            stacklevel=3,
        )
    if blank:
        warnings.warn(
            f"One label name is blank: {blank[0][:20]!a}. str.split makes it of an empty text; drop it from the lists.",
            UserWarning,
            stacklevel=3,
        )


def _visible(name: str) -> str:
    """Return what can be seen of a name: one Unicode form, single blanks, nothing invisible."""
    shown = (mark for mark in unicodedata.normalize("NFKC", name) if not _is_invisible(mark))
    return unicodedata.normalize("NFC", " ".join("".join(shown).split()))


def _is_invisible(mark: str) -> bool:
    is_variation = "\ufe00" <= mark <= "\ufe0f" or mark in "\u034f\u115f\u1160\u3164\uffa0"
    return is_variation or (unicodedata.category(mark) in ("Cf", "Cc") and not mark.isspace())


def warn_constant(indicator: NDArray[np.float32], names: list[Any]) -> None:
    """Warn about labels that are the same for all texts or annotated on none; raise ValueError if all are unknown."""
    has, lacks = (indicator == 1).any(0), (indicator == 0).any(0)
    if not (has | lacks).any():
        raise ValueError(f"y has {len(indicator)} rows, and all their entries are unknown (NaN). {_HINT}")
    constant, unknown = np.flatnonzero(has != lacks), np.flatnonzero(~(has | lacks))
    if len(constant):
        shown = first_few([f"{short(names[i], 30)} (always {int(has[i])})" for i in constant])
        warnings.warn(
            f"{len(constant)} of {len(names)} labels are the same for all {len(indicator)} training texts: {shown}. "
            "Their base rate is predicted; drop them or add texts that differ.",
            UserWarning,
            stacklevel=3,
        )
    if len(unknown):
        warnings.warn(
            f"{len(unknown)} of {len(names)} labels are annotated on none of the {len(indicator)} training texts: "
            f"{short_names([names[i] for i in unknown])}. The mean rate of the others is predicted; drop them or "
            "annotate some texts.",
            UserWarning,
            stacklevel=3,
        )


def check_pos_weight(
    pos_weight: Any,
    indicator: NDArray[np.float32],
    names: list[Any],
    document_weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64] | None:
    """Return the weight of positive entries in the loss for each label, shape (L,), or None."""
    if pos_weight is None:
        return None
    if isinstance(pos_weight, str) and pos_weight == "balanced":
        weight = np.ones(len(indicator)) if document_weight is None else document_weight
        n_with, n_without = weight @ (indicator == 1), weight @ (indicator == 0)
        both = (n_with > 0) & (n_without > 0)
        ratio = np.where(both, n_without, 1.0) / np.where(both, n_with, 1.0)
        return ratio.clip(1 / MOST_BALANCED, MOST_BALANCED)
    values = per_label("pos_weight", pos_weight, names, 1.0)
    if not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"Every pos_weight must be finite and above 0, got {short(pos_weight)}.")
    return values


def per_label(parameter: str, value: Any, names: Sequence[Any], default: float) -> NDArray[np.float64]:
    """Return one number per label, shape (L,), from one for all, one for each, or some by name (see `named_numbers`).

    Labels that are not named get `default`.
    """
    n = len(names)
    wanted = f"{parameter} must be a number, one number per label, or a dict from label name to number"
    if hasattr(value, "columns"):
        raise ValueError(f"{wanted}; got a {type(value).__name__}. Pass one of its rows, such as frame.iloc[0].")
    try:
        by_name = named_numbers(value)
        if isinstance(value, (str, bool, np.bool_)):
            raise TypeError
        values = np.asarray(value if by_name is None else [number for _, number in by_name], dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{wanted}; got {short(value)}.") from None
    if by_name is not None:
        return _placed(parameter, [name for name, _ in by_name], values, names, default)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != n):
        raise ValueError(f"{parameter} must be one number or {n} numbers, one per label; got shape {values.shape}.")
    if _is_series(value) and list(names) != list(value.index) and set(names) == set(value.index):
        raise ValueError(
            f"{parameter} is a Series with the index 0 to {n - 1}, and the labels are numbers in another order; pass a "
            "dict from label name to number, or an array with one number per label."
        )
    return np.broadcast_to(values, (n,)).copy()


def named_numbers(value: Any) -> list[tuple[Any, float]] | None:
    """Return the (label name, number) pairs of a named form, in its order; None for numbers without names.

    Named forms are a dict, a named tuple, and a Series of pandas unless it has the default index 0, 1, ...
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif _is_series(value) and list(value.index) != list(range(len(value))):
        pairs = list(zip(value.index, value, strict=True))
    else:
        return None
    return [(plain_number(name), float(number)) for name, number in pairs]


def _is_series(value: Any) -> bool:
    return hasattr(value, "to_dict") and hasattr(value, "index")


def label_columns(scores: Any, classes: Any = None) -> NDArray[Any]:
    """Return the output of any ``predict_proba`` as one matrix, shape (n, L).

    A list of L arrays of shape (n, 2), as a random forest returns it, becomes the matrix of their second columns. An
    array of shape (n, 1) comes from a label with one class in training: `classes` tells which; without, it was 0.
    """
    if not isinstance(scores, (list, tuple)) or not len(scores) or np.ndim(scores[0]) != 2:
        return np.asarray(scores)
    columns = []
    for label, column in enumerate(scores):
        if np.shape(column)[1] == 2:
            columns.append(np.asarray(column)[:, 1])
        else:
            only = 0 if classes is None else np.ravel(classes[label])[0]
            columns.append(np.full(len(column), float(only)))
    return np.column_stack(columns)


def _placed(
    parameter: str, named: list[Any], values: NDArray[np.float64], names: Sequence[Any], default: float
) -> NDArray[np.float64]:
    """Put numbers where their labels are."""
    unknown = [name for name in named if name not in names]
    if unknown:
        known = short_names(names)
        raise ValueError(f"{parameter} names the unknown label {short(unknown[0])}. The labels are {known}.")
    if len(set(named)) < len(named):
        raise ValueError(
            f"{parameter} names a label more than once; pass one number per label. Its names are {short_names(named)}."
        )
    by_name = dict(zip(named, values, strict=True))
    return np.array([by_name.get(name, default) for name in names], np.float64)


def _nested_rows(y: Any) -> list[Any] | None:
    """Return the rows of a sequence of lists, tuples, sets or 1-D arrays; None for anything else."""
    if hasattr(y, "columns") or sparse.issparse(y) or getattr(getattr(y, "dtype", None), "kind", "O") != "O":
        return None
    if hasattr(y, "to_list") or hasattr(y, "to_pylist"):
        y = plain_list(y)
    if getattr(y, "ndim", 1) != 1 or not hasattr(y, "__iter__") or isinstance(y, (str, bytes, dict)):
        return None
    rows = [row.as_py() if hasattr(row, "as_py") else row for row in y]  # scalars of pyarrow
    rows = [row if _is_collection(row) or not hasattr(row, "__array__") else np.asarray(row) for row in rows]
    is_nested = rows and all(_is_collection(row) and getattr(row, "ndim", 1) == 1 for row in rows)
    return rows if is_nested else None


def _refuse_texts_and_gaps(y: Any) -> None:
    """Raise ValueError for a y of texts, or of lists with missing rows between them."""
    if getattr(y, "ndim", 1) != 1 or not hasattr(y, "__iter__"):
        return
    rows = plain_list(y)
    if any(map(_is_collection, rows)):
        for i, row in enumerate(rows):
            if not _is_collection(row) and (not hasattr(row, "__len__") or isinstance(row, str)):
                raise ValueError(
                    f"y[{i}] is {describe_value(row)}, while other rows are lists of labels; pass a list there, "
                    "[] for a text without labels, or drop that text."
                )
    texts = [row for row in rows if isinstance(row, str)]
    if texts and all(isinstance(row, str) or is_missing(row) for row in rows):
        _raise_for_texts(texts, "y")


def _raise_for_texts(texts: list[str], name: str) -> None:
    mark = next((mark for mark in ",;|\t" if any(mark in text for text in texts)), ",")
    raise ValueError(
        f"Unknown label type: y holds texts, such as {short(str(max(texts, key=len)), 40)}, not lists of labels. If "
        "each text is the "
        f'labels of one document, split it: {name}.str.split("{mark}") of a Series of pandas, or '
        f'[row.split("{mark}") for row in {name}]. If each is one label, pass [[row] for row in {name}].'
    )


def _refuse_columns_of_lists(values: NDArray[Any], names: list[Any]) -> None:
    """Raise ValueError if columns of a frame hold lists or texts in place of 0 and 1."""
    if values.ndim != 2 or values.dtype.kind not in "OUT":
        return
    for name, column in zip(names, values.T, strict=True):
        if any(map(_is_collection, column)):
            raise ValueError(
                f"The column {short(name)} of y holds lists of labels, where 0 and 1 were expected; pass that "
                f"column, y[{short(name)}]."
            )
        texts = [cell for cell in column if isinstance(cell, str)]
        if len(names) == 1 and texts and not any(text.strip() in ("0", "1", "0.0", "1.0") for text in texts):
            _raise_for_texts(texts, f"y[{short(name)}]")


def is_missing(value: Any) -> bool:
    """Tell whether a value is None, NaN, ``pandas.NA`` or NaT."""
    is_nan = isinstance(value, (float, np.floating)) and value != value
    return bool(value is None or type(value).__name__ in ("NAType", "NaTType") or is_nan)


def _is_collection(row: Any) -> bool:
    return isinstance(row, (list, tuple, set, frozenset, np.ndarray))


def _are_labels(rows: list[Any]) -> bool:
    """Tell whether rows are label lists; otherwise they are rows of a matrix."""
    first_of_kind = {row_kind(row): row for row in reversed(rows)}
    kinds = first_of_kind.keys() - {"empty"}
    if kinds <= {"labels"}:
        return True
    if kinds == {"numbers"}:
        return False
    row = first_of_kind["both"] if "both" in kinds else first_of_kind["numbers"]
    item = next(item for item in row if _is_number(type(item)))
    raise ValueError(
        f"Labels in a list must be str, or int from 2 on; got {short(item)} of type {type(item).__name__} in y. "
        f"{_USE_SETS} {_HINT}"
    )


def row_kind(row: Any) -> str:
    """Tell what one row holds, whatever the other rows hold: "labels", "numbers", "both" or "empty"."""
    if isinstance(row, (set, frozenset)):
        return "labels"
    if not len(row):
        return "empty"
    if isinstance(row, np.ma.MaskedArray) or (isinstance(row, np.ndarray) and row.dtype.kind in "bfc"):
        return "numbers"
    kinds = set(map(type, row))
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        return "labels" if min(row) >= 2 else "numbers"
    are_numbers = {_is_number(kind) for kind in kinds}
    return "both" if len(are_numbers) == 2 else "numbers" if are_numbers == {True} else "labels"


def _is_number(kind: type) -> bool:
    """Tell whether values of this type are entries of a matrix, those of unknown ones included."""
    return issubclass(kind, (Number, np.bool_, type(None))) or kind.__name__ == "NAType"


def _binarize(rows: list[Any]) -> tuple[NDArray[np.float32], list[Any]]:
    try:
        distinct = {label for row in rows for label in row}
    except TypeError:
        raise ValueError(f"Labels must be str or int, got a nested list in y. {_HINT}") from None
    for label in distinct:
        if not isinstance(label, (str, int, np.integer)) or isinstance(label, bool):
            raise ValueError(
                f"Labels must be str or int, got {short(label)} of type {type(label).__name__} in y. {_HINT}"
            )
    if not distinct:
        raise ValueError(f"y has {len(rows)} label lists, all empty: there is no label to learn. {_HINT}")
    try:
        names = sorted(distinct)
    except TypeError:
        names = sorted(distinct, key=lambda label: (isinstance(label, str), label))
    names = [int(name) if isinstance(name, np.integer) else name for name in names]
    column = {name: i for i, name in enumerate(names)}
    indicator = np.zeros((len(rows), len(names)), np.float32)
    for i, row in enumerate(rows):
        for label in row:
            indicator[i, column[label]] = 1
    return indicator, names


def _stack(rows: list[Any]) -> NDArray[Any]:
    """Put rows of numbers into one matrix."""
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(
            f"y has rows of {lengths[0]} and of {lengths[-1]} numbers, but lists of numbers are rows of an indicator "
            f"matrix, with one entry per label. {_USE_SETS} {_HINT}"
        )
    is_masked = any(isinstance(row, np.ma.MaskedArray) for row in rows)
    return np.ma.stack([np.ma.asarray(row) for row in rows]) if is_masked else np.asarray(rows)


def _as_array(y: Any) -> NDArray[Any]:
    try:
        return np.asanyarray(y if hasattr(y, "shape") else list(y))
    except TypeError:
        raise ValueError(
            f"y must be a matrix or a sequence of label lists, got a {type(y).__name__}. {_HINT}"
        ) from None
    except ValueError:
        raise ValueError(f"y mixes rows of different kinds or lengths. {_HINT}") from None


def _check_indicator(y: NDArray[Any]) -> NDArray[np.float32]:
    """Return a matrix of 0, 1 and NaN as float32."""
    if y.ndim != 2:
        kind = "" if y.dtype.kind in "iub" else "Unknown label type: "
        raise ValueError(f"{kind}y should be a 2-D indicator matrix, got an array of shape {y.shape} instead. {_HINT}")
    if y.shape[1] == 0:
        raise ValueError(f"y has 0 labels (shape {y.shape}), while a minimum of 1 is required. {_HINT}")
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: y holds complex numbers; every entry must be 0 or 1. {_HINT}")
    if y.dtype == object:
        y = np.where([[item is None or type(item).__name__ == "NAType" for item in row] for row in y], np.nan, y)
    try:
        exact = np.float32 if y.dtype.kind in "biu" or y.dtype == np.float32 else np.float64
        numeric = y.astype(exact, copy=False)
    except (TypeError, ValueError):
        raise ValueError(f"Unknown label type: y has dtype {y.dtype} and is not numeric. {_HINT}") from None
    wrong = (numeric != 0) & (numeric != 1) & ~np.isnan(numeric)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        _raise_wrong_entry(numeric[row, column], f"row {row}, column {column}")
    return numeric.astype(np.float32)


def _raise_wrong_entry(value: Any, where: str) -> None:
    if np.isinf(value):
        raise ValueError(
            f"Input y contains infinity, first at {where}; every entry must be 0, 1, or NaN where it is not annotated."
        )
    if value < 0:
        advice = "Where an entry is not annotated, pass NaN; where the label is absent, 0."
    elif float(value).is_integer():
        advice = f"{_USE_SETS} Class numbers of a single-label task become a matrix by numpy.eye(n_classes)[y]."
    else:
        advice = (
            "To learn grades or shares as they are, use ULMFiTRegressor (with y_range=(0, 1) for shares). For labels "
            "that a text has or lacks, binarise them first, for example with y >= 0.5."
        )
    raise ValueError(f"Unknown label type: y must hold only 0 and 1, got {value:g} at {where}. {advice}")
