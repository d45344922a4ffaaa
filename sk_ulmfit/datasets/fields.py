"""Text columns joined to one text per row, as a step of a Pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from sk_ulmfit._messages import short, short_names
from sk_ulmfit.datasets.cells import text_of_row


class TextFieldJoiner(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Join the text columns of a DataFrame or a 2-D array into one text per row.

    Use it before the classifier in a ``Pipeline``, also after a ``ColumnTransformer``, but not inside one: it returns
    a 1-D array. Several columns are joined as fields; a single one is left as it is. Prediction needs the columns of
    training in the same order.

    Parameters
    ----------
    columns : str, list of str or None, default=None
        Text columns of a DataFrame, in this order; other columns are ignored. None means all columns.

    Attributes
    ----------
    n_features_in_ : int
        Number of text columns seen during ``fit``.
    feature_names_in_ : ndarray of str
        Their names; only defined for a DataFrame.

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
        """Check the columns of `X`, shape (n, n_columns), and remember them; `y` is ignored."""
        _, names = _cells(X, self.columns)
        self.n_features_in_ = len(names)
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(names, object)
        return self

    def transform(self, X: Any) -> NDArray[np.object_]:
        """Return one text per row of `X`, shape (n, n_columns), in an array of shape (n,); a blank cell is empty."""
        cells, names = _cells(X, self.columns if self.columns is not None else getattr(self, "feature_names_in_", None))
        known = getattr(self, "n_features_in_", len(names))
        if len(names) != known:
            raise ValueError(f"X has {len(names)} columns, and fit saw {known}; pass the same columns.")
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
    """Return the cells of the text columns, shape (n, n_columns), and the names of the columns."""
    wanted = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    if hasattr(X, "columns") and hasattr(X, "to_numpy"):
        names = list(X.columns)
        wanted = names if wanted is None else wanted
        for name in wanted:
            if names.count(name) != 1:
                there = "several columns" if name in names else "no column"
                raise ValueError(f"X has {there} {short(name)}. Its columns are {short_names(names)}.")
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
