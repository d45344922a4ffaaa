"""Texts that are read each time they are gone through, so that they need not fit into memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


class StreamedTexts:
    """Texts that are read from where they are, as often as they are gone through.

    The estimators take them wherever they take a list of str. What is made of them (token ids) is kept in temporary
    files, which are gone when it is no longer needed, in the folder of `tempfile.gettempdir`; the environment variable
    TMPDIR names another.

    Parameters
    ----------
    read : callable
        Gives an iterator over the texts; called each time.
    n_texts : int
        How many there are.

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
                    f"Text {n - 1} of the stream is {text!r} of type {type(text).__name__}; every text must be a str."
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
            "Streamed texts can be gone through, but not picked by number, as cross-validation does; pass list(texts) "
            "there."
        )

    def __repr__(self) -> str:
        return f"StreamedTexts of {self.n_texts} texts"

    def with_progress(self, stage: str) -> StreamedTexts:
        """Give the same texts, with a progress bar on stderr whenever they are gone through."""
        from tqdm.auto import tqdm

        return StreamedTexts(lambda: tqdm(self, desc=stage, total=self.n_texts, unit=" texts"), self.n_texts)

    def batches(self, size: int) -> Iterator[list[str]]:
        """Give the texts in lists of `size`; the last may be shorter."""
        iterator = iter(self)
        while batch := list(itertools.islice(iterator, size)):
            yield batch

    def chosen(self, mask: NDArray[np.bool_]) -> StreamedTexts:
        """Give those for which a mask of shape (n_texts,) is True."""
        return StreamedTexts(lambda: itertools.compress(self, mask), int(mask.sum()))


def chained(first: list[str] | StreamedTexts, second: list[str] | StreamedTexts) -> list[str] | StreamedTexts:
    """Put texts behind others; a list if both are."""
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    return StreamedTexts(lambda: itertools.chain(first, second), len(first) + len(second))
