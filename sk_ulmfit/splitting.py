"""Stratified splits for multi-label targets: each label is about as frequent in each part as in the whole."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit

from sk_ulmfit._choices import RandomState
from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_number, random_generator
from sk_ulmfit.labels import check_labels

Split: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]  # row numbers of the training and of the test part


def stratify(y: Any, sizes: Sequence[int], rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """Return the part of each row, shape (n,), for parts of exactly these sizes, with each label in proportion.

    Iterative stratification: the label with the fewest rows left is served first. Each of its rows goes to the part
    that lacks the label most, and among equals to the one with the most room. Only entries of y that are 1 count;
    `rng` shuffles the rows first.

    References
    ----------
    Sechidis, K., Tsoumakas, G., Vlahavas, I. (2011), "On the Stratification of Multi-Label Data", section 3.
    """
    n, n_parts = len(y), len(sizes)
    order = np.arange(n) if rng is None else rng.permutation(n)
    has = sparse.csr_array(np.asarray(y)[order] == 1)
    n_left = np.asarray(has.sum(axis=0), np.int64).ravel()
    wanted = np.outer(np.asarray(sizes) / max(n, 1), n_left)
    room = [int(size) for size in sizes]
    by_label, ends, labels_of = has.tocsc(), has.indptr, has.indices
    part = np.full(n, -1)
    while n_left.any():
        label = int(np.where(n_left, n_left, n + 1).argmin())
        rows = by_label.indices[by_label.indptr[label] : by_label.indptr[label + 1]]
        lacks = wanted[:, label]
        for row in rows[part[rows] < 0].tolist():
            chosen = max((j for j in range(n_parts) if room[j]), key=lambda j: (lacks[j], room[j]))
            part[row] = chosen
            room[chosen] -= 1
            labels = labels_of[ends[row] : ends[row + 1]]
            wanted[chosen, labels] -= 1
            n_left[labels] -= 1
    rest = np.flatnonzero(part < 0)
    part[rest] = (
        np.repeat(np.arange(n_parts), room) if rng is None else rng.permutation(np.repeat(range(n_parts), room))
    )
    part_of_row = np.empty(n, np.int64)
    part_of_row[order] = part
    return part_of_row


class MultiLabelStratifiedKFold(BaseCrossValidator):  # type: ignore[misc]
    """K-fold cross-validator in which each label is about as frequent in each fold as in the whole.

    The multi-label counterpart of ``StratifiedKFold``. For multi-label targets scikit-learn uses plain ``KFold``, whose
    folds may lack rare labels. ``split(X, y)`` takes y in every form that the classifier takes; unknown entries (NaN)
    count as 0.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Shuffle the rows before splitting.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling.

    See Also
    --------
    MultiLabelStratifiedShuffleSplit : Random splits into a training and a test part.

    References
    ----------
    Sechidis, K., Tsoumakas, G., Vlahavas, I. (2011), "On the Stratification of Multi-Label Data", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit import MultiLabelStratifiedKFold
    >>> y = np.array([[1, 0], [1, 0], [1, 1], [0, 1]] * 3)
    >>> folds = MultiLabelStratifiedKFold(3).split(y, y)
    >>> [y[test].sum(axis=0).tolist() for train, test in folds]
    [[3, 2], [3, 2], [3, 2]]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: RandomState = None):
        check_number("n_splits", n_splits, low=2, integer=True)
        if not shuffle and random_state is not None:
            raise ValueError(
                f"random_state={short(random_state)} has no effect with shuffle=False; pass shuffle=True, or leave "
                "random_state out."
            )
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Return the row numbers of training and test part, fold by fold; groups are ignored, with a warning."""
        _warn_of_groups(self, groups)
        return super().split(X, y, groups)  # type: ignore[no-any-return]

    def _iter_test_indices(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[NDArray[np.int64]]:
        indicator = check_labels(y)[0]
        n = len(indicator)
        if n < self.n_splits:
            raise ValueError(f"n_splits={self.n_splits} is more than the number of rows, n_samples={n}.")
        sizes = np.full(self.n_splits, n // self.n_splits)
        sizes[: n % self.n_splits] += 1
        fold = stratify(indicator, sizes.tolist(), _generator(self.random_state) if self.shuffle else None)
        for i in range(self.n_splits):
            yield np.flatnonzero(fold == i)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; the arguments are ignored."""
        return self.n_splits


class MultiLabelStratifiedShuffleSplit(BaseShuffleSplit):  # type: ignore[misc]
    """Random splits in which each label is about as frequent in the test part as in the training part.

    The multi-label counterpart of ``StratifiedShuffleSplit``. ``split(X, y)`` takes y in every form that the classifier
    takes; unknown entries (NaN) count as 0.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_size : float, int or None, default=None
        Share or number of rows in the test part; None takes what `train_size` leaves, or 0.1.
    train_size : float, int or None, default=None
        Share or number of rows in the training part; None takes the rest.
    random_state : int, RandomState or None, default=None
        Seed of the splits.

    See Also
    --------
    MultiLabelStratifiedKFold : Each row is held out once.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit import MultiLabelStratifiedShuffleSplit
    >>> y = np.array([[1, 0], [1, 0], [1, 1], [0, 1]] * 5)
    >>> splitter = MultiLabelStratifiedShuffleSplit(test_size=0.2, random_state=0)
    >>> train, test = next(splitter.split(y, y))
    >>> y[test].sum(axis=0).tolist()
    [3, 2]
    """

    def __init__(
        self,
        n_splits: int = 10,
        *,
        test_size: float | None = None,
        train_size: float | None = None,
        random_state: RandomState = None,
    ):
        super().__init__(n_splits=n_splits, test_size=test_size, train_size=train_size, random_state=random_state)
        self._default_test_size = 0.1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Return the row numbers of training and test part, split by split; groups are ignored, with a warning."""
        _warn_of_groups(self, groups)
        return super().split(X, y, groups)  # type: ignore[no-any-return]

    def _iter_indices(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Any]:
        from sklearn.model_selection import ShuffleSplit

        indicator = check_labels(y)[0]
        n, rng = len(indicator), _generator(self.random_state)
        unstratified = ShuffleSplit(1, test_size=self._test_share(), train_size=self.train_size, random_state=0)
        n_train, n_test = map(len, next(unstratified.split(indicator)))
        for _ in range(self.n_splits):
            part = stratify(indicator, [n_train, n_test, n - n_train - n_test], rng)
            yield rng.permutation(np.flatnonzero(part == 0)), rng.permutation(np.flatnonzero(part == 1))

    def _test_share(self) -> Any:
        return self._default_test_size if self.test_size is None and self.train_size is None else self.test_size


def _warn_of_groups(splitter: Any, groups: Any) -> None:
    if groups is not None:
        warnings.warn(
            f"The groups parameter is ignored by {type(splitter).__name__}; to keep the rows of a group together, pass "
            "GroupKFold or GroupShuffleSplit of scikit-learn.",
            UserWarning,
            stacklevel=3,
        )


def hold_out(y: NDArray[np.floating[Any]], n_held_out: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out rows at random with each label in proportion; return the kept and the held-out row numbers.

    Rows with known entries (not NaN) are held out in proportion too. `n_held_out` may be 0; otherwise each side gets at
    least one row.
    """
    n = len(y)
    if not n_held_out:
        return np.arange(n), np.arange(0)
    if n < 2:
        raise ValueError(
            "early_stopping=True, calibration and tuned thresholds hold out a part of the training texts, but there "
            f"are only {n}. Pass more texts, or turn these options off."
        )
    n_held_out = min(n_held_out, n - 1)
    unknown = np.isnan(y)
    if unknown.any():
        y = np.column_stack([y, ~unknown.all(axis=1)])
    part = stratify(y, [n - n_held_out, n_held_out], np.random.default_rng(seed))
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def _generator(random_state: Any) -> np.random.Generator:
    return np.random.default_rng(int(random_generator(random_state).randint(2**31 - 1)))
