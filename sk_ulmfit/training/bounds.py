"""What a classifier says of texts unlike those that it learned from: bounded log-odds, and base rates.

A network extrapolates: of words that it has hardly seen it may say anything. Its log-odds are kept within the range of
the training texts, and a text without a single known word gets the base rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.text.vocabulary import BOS, FLD, MAJ, PAD, REP, UNK, UP, WREP, TokenIds, Vocabulary

Floats = NDArray[np.float64]

MAX_TOKENS, MIN_DOCUMENTS = 100_000, 64  # of training texts at random from which the range is taken
N_EXTREMES = (32, 16, 8, 4, 2)  # texts at either end of each column, the first number whose tokens are few enough
EXCESS = 1e-3  # log-odds beyond the range that are left, so that no two texts become equal
NOT_WORDS = (UNK, PAD, BOS, FLD, REP, WREP, UP, MAJ)
BEFORE_NUMBERS = (FLD, REP, WREP)  # the token after these is a number that the tokenizer has written


def sample_for_range(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], y: NDArray[np.floating[Any]], seed: int
) -> NDArray[np.int64]:
    """Choose the training documents from which the range is taken; return their numbers.

    These are documents at random and, for each column of `y`, some with its largest and some with its smallest values.
    Without them, a rare label that no document at random has could never be predicted. `lengths` holds the tokens of
    all documents, shape (n,), `y` their labels or values, (n, L), NaN where unknown, and `rows` the numbers of those to
    choose from.
    """
    order = rows[np.random.default_rng(seed).permutation(len(rows))]
    n_fitting = int(np.searchsorted(np.cumsum(lengths[order]), MAX_TOKENS, side="right"))
    at_random, others = np.split(order, [max(n_fitting, MIN_DOCUMENTS)])
    if not len(others):
        return at_random
    ends = [_by_value(column) for column in y[order].T]
    for n in N_EXTREMES:
        extremes = np.unique(np.concatenate([np.concatenate([rows[:n], rows[-n:]]) for rows in ends]))
        extremes = np.setdiff1d(order[extremes], at_random)
        if lengths[extremes].sum() <= MAX_TOKENS:
            break
    return np.concatenate([at_random, extremes])


def _by_value(column: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the rows whose values are known, from the smallest to the largest."""
    known = np.flatnonzero(~np.isnan(column))
    return known[np.argsort(column[known], kind="stable")]


def bound_log_odds(log_odds: Floats, config: Mapping[str, Any]) -> Floats:
    """Keep log-odds, shape (n, L), within the range that the training texts of a network reached.

    The order of texts stays: values beyond the range keep a difference of at most 0.001. `config` is the configuration
    of the network; a file of version 0.1.0 has no range, and nothing is bounded.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.training.bounds import bound_log_odds
    >>> bound_log_odds(np.array([[-46.0], [1.0], [9.0]]), {"log_odds_range": [[-4.0], [3.0]]}).round(2).tolist()
    [[-4.0], [1.0], [3.0]]
    """
    if "log_odds_range" not in config:
        return log_odds
    low, high = np.array(config["log_odds_range"])
    bounded = np.clip(log_odds, low, high)
    return np.asarray(bounded + EXCESS * np.tanh((log_odds - bounded) / 10))


def has_known_words(corpus: TokenIds, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Tell which documents have a word that the vocabulary knows; markers and their numbers are not words.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.text import TokenIds, Vocabulary
    >>> from sk_ulmfit.training.bounds import has_known_words
    >>> vocabulary = Vocabulary(["lamp"])
    >>> ids = vocabulary.lookup(["xxbos", "lamp", "xxbos", "xxmaj", "qzxvjk"])
    >>> has_known_words(TokenIds(ids, np.array([0, 2, 5])), vocabulary).tolist()
    [True, False]
    """
    known = ~np.isin(corpus.ids, [vocabulary.index(token) for token in NOT_WORDS])
    follows = np.isin(corpus.ids[:-1], [vocabulary.index(token) for token in BEFORE_NUMBERS])
    known[1:] &= ~follows
    n_known = np.concatenate([[0], np.cumsum(known)])
    return np.asarray(n_known[corpus.offsets[1:]] > n_known[corpus.offsets[:-1]])
