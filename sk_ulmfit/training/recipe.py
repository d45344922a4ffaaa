"""How long to train, in what batches and whether layer by layer, by the amount of data: all of that is settled here.

Few texts need many passes in small batches, since what counts is the number of steps; of many texts a few passes are
enough. What was chosen on held-out texts, and what by the time that a CPU takes: ``benchmarks/quality/decisions.md``.
"""

from __future__ import annotations

import math

# Most texts, epochs, texts of a batch.
CLASSIFIER = ((500, 20, 16), (1_000, 12, 32), (10_000, 8, 32), (50_000, 4, 64), (math.inf, 3, 64))
MOST_TEXTS_GRADUALLY = 5_000  # unfrozen layer by layer; of more, all layers learn from the first epoch on
FEWEST_EPOCHS_OF_A_HEAD = 10  # trained alone, on features, when an epoch takes seconds
LANGUAGE_MODEL_TOKENS = 4_000_000  # to read, a text counted as often as it is read
MOST_LANGUAGE_MODEL_EPOCHS = 10


def classifier_epochs(n_texts: int, *, n_groups: int = 1, head_only: bool = False) -> int:
    """Give the epochs of a classifier's training.

    Parameters
    ----------
    n_texts : int
        Texts that it is trained on.
    n_groups : int, default=1
        Layer groups that are unfrozen one by one: none may stay frozen.
    head_only : bool, default=False
        Whether the head alone is trained.

    Returns
    -------
    int
        Epochs.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import classifier_epochs
    >>> [classifier_epochs(n) for n in (100, 1_000, 10_000, 1_000_000)]
    [20, 12, 8, 3]
    """
    epochs = next(epochs for most, epochs, _ in CLASSIFIER if n_texts <= most)
    return max(epochs, FEWEST_EPOCHS_OF_A_HEAD if head_only else n_groups)


def classifier_batch_size(n_texts: int) -> int:
    """Give the most texts of a batch for a classifier that is trained on `n_texts`.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import classifier_batch_size
    >>> [classifier_batch_size(n) for n in (100, 1_000, 100_000)]
    [16, 32, 64]
    """
    return next(batch_size for most, _, batch_size in CLASSIFIER if n_texts <= most)


def unfreezes_gradually(n_texts: int) -> bool:
    """Tell whether a pre-trained body is unfrozen layer by layer for a classifier that is trained on `n_texts`.

    A few texts could spoil what the body knows before the head makes sense (Howard & Ruder 2018, section 3.3). Of many,
    all layers at once are as good, in fewer epochs.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import unfreezes_gradually
    >>> [unfreezes_gradually(n) for n in (1_000, 100_000)]
    [True, False]
    """
    return n_texts <= MOST_TEXTS_GRADUALLY


def language_model_epochs(n_tokens: int) -> int:
    """Give the epochs of a language model's training on `n_tokens` tokens: about four million to read, ten at most.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import language_model_epochs
    >>> [language_model_epochs(n) for n in (50_000, 1_000_000, 10_000_000)]
    [10, 4, 1]
    """
    return min(max(round(LANGUAGE_MODEL_TOKENS / max(n_tokens, 1)), 1), MOST_LANGUAGE_MODEL_EPOCHS)
