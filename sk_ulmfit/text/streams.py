"""Raw texts: checks of lists, and texts that are read anew at each iteration, for data larger than memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._messages import describe_value, short

T = TypeVar("T")
Advance = Callable[[int], object]  # called with how many more texts, or other units, are done


class StreamedTexts:
    """Texts that are read from their source whenever they are iterated over.

    Estimators accept them in place of a list of str. Their token ids are kept in temporary files, in the folder of
    `tempfile.gettempdir`; set the environment variable TMPDIR to choose another.

    Parameters
    ----------
    read : callable
        Returns an iterator over the texts.
    n_texts : int
        Number of texts.

    Examples
    --------
    >>> from sk_ulmfit.text import StreamedTexts
    >>> texts = StreamedTexts(lambda: (f"lamp {i}" for i in range(3)), 3)
    >>> len(texts), list(texts), [len(batch) for batch in texts.batches(2)]
    (3, ['lamp 0', 'lamp 1', 'lamp 2'], [2, 1])
    """

    def __init__(self, read: Callable[[], Iterable[str]], n_texts: int):
        self.read = read
        self.n_texts = n_texts

    def __len__(self) -> int:
        return self.n_texts

    def __iter__(self) -> Iterator[str]:
        n = 0
        for n, text in enumerate(self.read(), 1):
            if n > self.n_texts:
                break
            if not isinstance(text, str):
                raise ValueError(
                    f"Text {n - 1} of the stream is {short(text)} of type {type(text).__name__}; every text must "
                    "be a str."
                )
            yield text
        if n != self.n_texts:
            more = "more than " if n > self.n_texts else ""
            raise ValueError(
                f"There were {self.n_texts} texts, and now there are {more}{min(n, self.n_texts)}. Their source has "
                "changed; open it again."
            )

    def __getitem__(self, index: object) -> str:
        raise TypeError(
            "Streamed texts can be iterated over, but not picked by number, as cross-validation does; pass list(texts) "
            "instead."
        )

    def __repr__(self) -> str:
        return f"StreamedTexts of {self.n_texts} texts"

    def with_progress(self, advance: Advance) -> StreamedTexts:
        """Return the same texts, counted with `counted` at each iteration."""
        return StreamedTexts(lambda: counted(self, advance), self.n_texts)

    def batches(self, size: int) -> Iterator[list[str]]:
        """Yield lists of `size` texts; the last may be shorter."""
        iterator = iter(self)
        while batch := list(itertools.islice(iterator, size)):
            yield batch

    def chosen(self, mask: NDArray[np.bool_]) -> StreamedTexts:
        """Return the texts for which a mask of shape (n_texts,) is True."""
        return StreamedTexts(lambda: itertools.compress(self, mask), int(mask.sum()))


def counted(items: Iterable[T], advance: Advance | None) -> Iterator[T]:
    """Yield the items; call ``advance(1)`` when an item is done and the next one is asked for."""
    for item in items:
        yield item
        if advance is not None:
            advance(1)


def chained(first: list[str] | StreamedTexts, second: list[str] | StreamedTexts) -> list[str] | StreamedTexts:
    """Return the texts of `first`, then those of `second`; a list if both are lists."""
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return StreamedTexts(lambda: itertools.chain(first, second), len(first) + len(second))


def check_texts(X: Any, name: str = "X", *, allow_none: bool = False) -> Any:
    """Return raw texts as a list of str, or as the StreamedTexts that they are.

    Accepts a list, tuple, 1-D array, Series of pandas or polars, Arrow array, column of Hugging Face, and a table or a
    2-D array of one column; `name` is for errors. Raises ValueError if `X` is a single string, has several columns, or
    holds anything but str; also if it is empty, unless `allow_none`.
    """
    if isinstance(X, StreamedTexts) and len(X):
        return X
    if isinstance(X, (str, bytes)):
        raise ValueError(
            f"{name} must be a sequence of raw texts, got a single {type(X).__name__}. Wrap it in a list: [{name}]."
        )
    X = only_column(X)
    if hasattr(X, "columns") or hasattr(X, "column_names") or (hasattr(X, "ndim") and X.ndim != 1):
        shape = getattr(X, "shape", "unknown")
        raise ValueError(
            f"{name} must be a 1-D sequence of raw texts, got a {type(X).__name__} of shape {shape}. "
            "Pass one text column, for example X['text']; several columns become one with "
            "sk_ulmfit.TextFieldJoiner().fit_transform(X). Reshape your data either way to one text per document."
        )
    if isinstance(X, (dict, set, frozenset)) or not isinstance(X, Sized) or not hasattr(X, "__getitem__"):
        raise ValueError(f"{name} must be a 1-D sequence of raw texts, got a {type(X).__name__}. Pass a list of str.")
    texts: list[str] = []
    for index, item in enumerate(plain_list(cast(Any, X))):
        if not isinstance(item, str):
            raise ValueError(f"{name}[{index}] is {no_text(item)} with their labels.")
        texts.append(str(item))
    if not texts and not allow_none:
        raise ValueError(f"{name} has 0 texts (0 sample(s)), while a minimum of 1 is required.")
    return texts


def no_text(item: Any) -> str:
    """Return the rest of a message about an item that should be a text, after its place."""
    return (
        f"{describe_value(item)}; every text must be a str. "
        "Replace missing texts by '', turn numbers into text with str, or drop such rows"
    )


def column_names(table: Any) -> list[Any] | None:
    """Return the names of the columns of a DataFrame, an Arrow table or a data set of Hugging Face; else None."""
    if isinstance(table, (np.ndarray, dict)):  # a NamedIndicator, and the parts of a data set
        return None
    is_frame = hasattr(table, "to_numpy")  # of pandas or polars; the columns of an Arrow table are its data
    names = getattr(table, "columns" if is_frame else "column_names", None)
    return None if names is None else list(names)


def only_column(X: Any) -> Any:
    """Return the column of a table or a 2-D array that has one; anything else as it is."""
    if isinstance(X, np.ndarray):
        return X[:, 0] if X.ndim == 2 and X.shape[1] == 1 else X
    names = column_names(X)
    return X[names[0]] if names is not None and len(names) == 1 else X


def plain_list(values: Any) -> list[Any]:
    """Return the items of a sequence as Python objects: of a Series, an Arrow array or a column of Hugging Face too."""
    if hasattr(values, "column_name") and hasattr(values.source, "with_format"):
        values = values.source.with_format(None)[values.column_name]
    for name in ("to_pylist", "to_list"):
        if hasattr(values, name):
            return list(getattr(values, name)())
    return [item.as_py() if hasattr(item, "as_py") else item for item in values]
