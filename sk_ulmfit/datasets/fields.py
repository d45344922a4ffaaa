"""Text columns of a table to one text a row, as a step of a Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from sk_ulmfit.datasets.cells import text_of_row


class TextFieldJoiner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Join the text columns of a DataFrame or a 2-D array into one text a row.

    Goes before the classifier in a ``Pipeline``, by itself or behind a ``ColumnTransformer`` that prepares the columns.
    Several columns are joined with field marks, so that the model sees where each begins; a single one is taken as it
    is. Training and prediction must have the same columns in the same order. The texts come out in one dimension, as
    the classifier wants them; inside a ``ColumnTransformer``, which wants two, it has no place.

    Parameters
    ----------
    columns : str, list of str or None, default=None
        Names of the text columns of a DataFrame, in this order; other columns are left aside. None takes all.

    Attributes
    ----------
    n_features_in_ : int
        Text columns that ``fit`` has seen.
    feature_names_in_ : ndarray of str
        Their names; only of a DataFrame.

    See Also
    --------
    sk_ulmfit.text.tokenizer.join_fields : The same for one text.

    Examples
    --------
    >>> import pandas as pd
    >>> from sk_ulmfit import TextFieldJoiner
    >>> frame = pd.DataFrame({"id": [1, 2], "title": ["Lamp", None], "body": ["It flickers", "Hello"]})
    >>> joined = TextFieldJoiner(["title", "body"]).fit_transform(frame)
    >>> from sk_ulmfit.text import tokenize
    >>> tokenize(joined[1])
    ['xxbos', 'xxfld', '1', 'xxfld', '2', 'xxmaj', 'hello']
    """

    def __init__(self, columns: str | Sequence[str] | None = None):
        self.columns = columns

    def fit(self, X: Any, y: Any = None) -> TextFieldJoiner:
        """Look at the columns.

        Parameters
        ----------
        X : DataFrame, or array-like of shape (n, n_columns)
            Text columns.
        y : None
            Ignored.

        Returns
        -------
        TextFieldJoiner
            This transformer.

        Raises
        ------
        ValueError
            If a column is missing, or `X` is not a table.
        """
        _, names = _cells(X, self.columns)
        self.n_features_in_ = len(names)
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(names, object)
        return self

    def transform(self, X: Any) -> NDArray[np.object_]:
        """Join.

        Parameters
        ----------
        X : DataFrame, or array-like of shape (n, n_columns)
            Text columns, those of ``fit``. An empty cell (None, NaN) is an empty text.

        Returns
        -------
        ndarray of str, shape (n,)
            One text a row.

        Raises
        ------
        ValueError
            If a column is missing, or a cell is neither text nor empty.
        """
        cells, names = _cells(X, self.columns if self.columns is not None else getattr(self, "feature_names_in_", None))
        known = getattr(self, "n_features_in_", len(names))
        if len(names) != known:
            raise ValueError(f"X has {len(names)} columns, and fit saw {known}; pass the same ones.")
        texts = np.empty(len(cells), object)
        for i, row in enumerate(cells):
            texts[i] = text_of_row(dict(zip(names, row, strict=True)), names, f"X, row {i}")
        return texts

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _cells(X: Any, columns: Any) -> tuple[NDArray[Any], list[Any]]:
    """Give the cells of the text columns, shape (n, n_columns), and their names."""
    wanted = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        names = list(X.columns)
        wanted = names if wanted is None else wanted
        for name in wanted:
            if names.count(name) != 1:
                there = "several columns" if name in names else "no column"
                raise ValueError(f"X has {there} {name!r}. Its columns are {', '.join(map(repr, names))}.")
        return X[wanted].to_numpy(), wanted
    cells = np.asarray(X, object)
    if cells.ndim != 2:
        raise ValueError(
            f"X must be a DataFrame or a 2-D array of text columns, got a {type(X).__name__} of shape {cells.shape}. "
            "Texts in one list need no joining; pass them to the classifier."
        )
    if isinstance(columns, (str, list, tuple)):
        raise ValueError("columns names columns of a DataFrame, and X is an array; leave columns=None for it.")
    return cells, list(range(cells.shape[1]))
