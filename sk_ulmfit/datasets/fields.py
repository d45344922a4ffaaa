"""Text columns joined to one text per row, as a step of a Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import TransformerMixin

from sk_ulmfit._choices import Container
from sk_ulmfit._estimator import Estimator
from sk_ulmfit._messages import short, short_names
from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.text.streams import column_names, plain_list


class TextFieldJoiner(TransformerMixin, Estimator):  # type: ignore[misc]
    """Join the text columns of a table or a 2-D array into one text per row.

    Use it before the classifier in a ``Pipeline``. Several columns are joined as fields; a single one is left as it is.
    Prediction needs the columns of training; those of a table may stand in another order. Inside a
    ``ColumnTransformer``, which wants two dimensions, choose a data frame with ``set_output``.

    Parameters
    ----------
    columns : str, list of str or None, default=None
        Text columns of a table, in this order; other columns are ignored. None means all columns.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns seen during ``fit``.
    feature_names_in_ : ndarray of str
        Their names; only defined for a table.

    See Also
    --------
    sk_ulmfit.text.tokenizer.join_fields : The same for one text.

    Examples
    --------
    >>> import pandas as pd
    >>> from sk_ulmfit import TextFieldJoiner
    >>> columns = {"title": ["Lamp", None], "body": ["It flickers", "Hello"]}
    >>> frame = pd.DataFrame({"id": [1, 2], **columns})
    >>> joined = TextFieldJoiner(["title", "body"]).fit_transform(frame)
    >>> from sk_ulmfit.text import tokenize
    >>> tokenize(joined[1])
    ['xxbos', 'xxfld', '1', 'xxfld', '2', 'xxmaj', 'hello']
    """

    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    def __init__(self, columns: str | Sequence[str] | None = None):
        self.columns = columns

    if TYPE_CHECKING:  # made by scikit-learn

        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[np.object_]:
            """Check the columns, and return one text per row."""

        def set_output(self, *, transform: Container | None = None) -> Self:
            """Choose the container that ``transform`` returns."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the columns of `X`, shape (n, n_columns), and remember their names; `y` is ignored."""
        columns = _columns(X)
        _wanted(columns, self.columns, X)
        self.n_features_in_ = len(columns)
        self.__dict__.pop("feature_names_in_", None)
        if column_names(X) is not None:
            names = np.empty(len(columns), object)
            names[:] = columns
            self.feature_names_in_ = names
        return self

    def transform(self, X: Any) -> NDArray[np.object_]:
        """Return one text per row; a blank cell is an empty text.

        Parameters
        ----------
        X : DataFrame of pandas or polars, Arrow table, Dataset of Hugging Face, or array of shape (n, n_columns)
            Texts.

        Returns
        -------
        ndarray of object, shape (n,), or DataFrame
            Texts; a DataFrame with one column if ``set_output`` asks for one.
        """
        columns, known = _columns(X), getattr(self, "n_features_in_", None)
        if column_names(X) is None and known not in (None, len(columns)):
            raise ValueError(f"X has {len(columns)} columns, and fit saw {known}; pass the same columns.")
        names = _wanted(columns, self._column_choice(X), X)
        cells = [plain_list(column) for column in _cells(X, columns, names)]
        texts = np.empty(len(cells[0]), object)
        for i, row in enumerate(zip(*cells, strict=True)):
            texts[i] = text_of_row(dict(zip(names, row, strict=True)), names, f"X, row {i}")
        return texts

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the name of the text, shape (1,): that of its column, or those of several, joined by "_".

        Parameters
        ----------
        input_features : sequence of str, default=None
            Names of all columns; None takes those that ``fit`` saw.
        """
        names = self._names_in(input_features)
        chosen = names if self.columns is None else _as_list(self.columns)
        return np.array(["_".join(map(str, chosen))], object)

    def _names_in(self, input_features: Any) -> list[Any]:
        seen = getattr(self, "feature_names_in_", None)
        if input_features is None:
            known = getattr(self, "n_features_in_", 0)
            return [f"x{i}" for i in range(known)] if seen is None else seen.tolist()
        if seen is not None and list(input_features) != seen.tolist():
            raise ValueError(
                f"input_features is not equal to feature_names_in_: {short_names(list(input_features))}, and fit saw "
                f"{short_names(seen.tolist())}."
            )
        return list(input_features)

    def _column_choice(self, X: Any) -> Any:
        """Return the columns to join: those that were asked for, else those that ``fit`` saw; None means all."""
        if self.columns is not None or column_names(X) is None:
            return self.columns
        return getattr(self, "feature_names_in_", None)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _as_list(columns: Any) -> list[Any]:
    return [columns] if isinstance(columns, str) else list(columns)


def _columns(X: Any) -> list[Any]:
    """Return the names of the columns of a table, or the numbers of those of an array."""
    names = column_names(X)
    if names is not None:
        return names
    shape = np.shape(np.asarray(X, object))
    if len(shape) != 2:
        raise ValueError(
            f"X must be a DataFrame or a 2-D array of text columns, got a {type(X).__name__} of shape {shape}. "
            "Texts in one list need no joining; pass them to the classifier."
        )
    return list(range(shape[1]))


def _wanted(columns: list[Any], choice: Any, X: Any) -> list[Any]:
    """Return the columns to join; None chooses all."""
    if choice is None:
        choice = columns
    elif column_names(X) is None:
        raise ValueError("columns names columns of a DataFrame, and X is an array; leave columns=None for it.")
    for name in (wanted := _as_list(choice)):
        if columns.count(name) != 1:
            there = "several columns" if name in columns else "no column"
            raise ValueError(f"X has {there} {short(name)}. Its columns are {short_names(columns)}.")
    if not wanted:
        raise ValueError("There is no column to join; X and columns must have at least one.")
    return wanted


def _cells(X: Any, columns: list[Any], names: list[Any]) -> list[Any]:
    """Return the columns with these names."""
    if column_names(X) is not None:
        return [X[name] for name in names]
    cells = np.asarray(X, object)
    return [cells[:, columns.index(name)] for name in names]
