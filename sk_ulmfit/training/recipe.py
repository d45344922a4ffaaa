"""Defaults by the amount of data: epochs, batch sizes and gradual unfreezing.

Few texts need many passes in small batches, since the number of steps matters; for many texts a few passes are enough.
How these numbers were chosen: ``benchmarks/quality/decisions.md``.
"""

from __future__ import annotations

import math

# Up to how many texts, epochs, texts of a batch.
CLASSIFIER = ((500, 20, 16), (1_000, 12, 32), (10_000, 8, 32), (50_000, 4, 64), (math.inf, 3, 64))
MOST_TEXTS_GRADUALLY = 5_000  # with more texts all layers learn from the first epoch on
FEWEST_EPOCHS_OF_A_HEAD = 10  # trained alone, on features: an epoch takes seconds
FEWEST_TEXTS_UNFROZEN = 5_000  # of a start that has a vector; with fewer texts its linear head alone is trained
FEWEST_TEXTS_HELD_OUT = 5_000  # for share and thresholds of an unfrozen network; fewer are worth more in the training
MOST_TEXTS_HELD_OUT = 2_000  # for these: with more they hardly get better
EPOCHS_AFTER_HEAD = 4  # of the unfrozen layers, once the linear head is trained
RATES, RATES_AFTER_HEAD = (1e-2, 4e-2), (3e-3, 1e-3)  # of the head and of the embedding
FEWEST_TEXTS_OF_LANGUAGE_MODEL = 5_000  # from random weights, all labelled; fewer gain little beside a linear model
LANGUAGE_MODEL_TOKENS = 4_000_000  # tokens read in all epochs together
MOST_LANGUAGE_MODEL_EPOCHS = 10
EPOCHS_WITH_TEACHER = 1  # in which a language model learns most of what its teacher has to say of the texts


def classifier_epochs(
    n_texts: int, *, n_groups: int = 1, head_only: bool = False, has_trained_head: bool = False
) -> int:
    """Return the epochs for training a classifier on `n_texts`: one at least for each layer group to be unfrozen.

    `has_trained_head` says whether the head was trained before.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import classifier_epochs
    >>> [classifier_epochs(n) for n in (100, 1_000, 10_000, 1_000_000)]
    [20, 12, 8, 3]
    """
    if has_trained_head:
        return max(EPOCHS_AFTER_HEAD, n_groups)
    epochs = next(epochs for most, epochs, _ in CLASSIFIER if n_texts <= most)
    return max(epochs, FEWEST_EPOCHS_OF_A_HEAD if head_only else n_groups)


def classifier_batch_size(n_texts: int) -> int:
    """Return the batch size for training a classifier on `n_texts`."""
    return next(batch_size for most, _, batch_size in CLASSIFIER if n_texts <= most)


def unfreezes_gradually(n_texts: int) -> bool:
    """Tell whether a pre-trained encoder is unfrozen layer by layer when a classifier is trained on `n_texts`.

    With few texts, gradients of an untrained head could spoil the encoder (Howard & Ruder 2018, section 3.3).
    """
    return n_texts <= MOST_TEXTS_GRADUALLY


def classifier_rates(has_trained_head: bool) -> tuple[float, float]:
    """Return the learning rates of the head and of the embedding, lower if the head was trained before."""
    return RATES_AFTER_HEAD if has_trained_head else RATES


def unfreezes_trained_head(n_texts: int) -> bool:
    """Tell whether layers below a linear head that was trained first are unfrozen for `n_texts`."""
    return n_texts >= FEWEST_TEXTS_UNFROZEN


def holds_out_for_decisions(n_texts: int) -> bool:
    """Tell whether the share and the thresholds of an unfrozen network are learned from texts that are held out.

    With fewer texts they are learned from out-of-fold predictions of the frozen network, which are less sure.
    """
    return n_texts >= FEWEST_TEXTS_HELD_OUT


def n_held_out_for_decisions(n_texts: int, fraction: float) -> int:
    """Count the texts that are held out to learn decisions from: a fraction of all, but no more than suffice.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import n_held_out_for_decisions
    >>> [n_held_out_for_decisions(n, 0.1) for n in (5_000, 20_000, 100_000)]
    [500, 2000, 2000]
    """
    return min(math.ceil(n_texts * fraction), MOST_TEXTS_HELD_OUT)


def trains_language_model(n_texts: int, n_unlabelled: int) -> bool:
    """Tell whether a language model from random weights is trained before a classifier on `n_texts` that are labelled.

    Few texts teach it too little to improve the mean of network and linear model.
    """
    return n_unlabelled > 0 or n_texts >= FEWEST_TEXTS_OF_LANGUAGE_MODEL


def language_model_epochs(n_tokens: int) -> int:
    """Return the epochs for training a language model on `n_tokens`: about four million tokens in all, at most ten.

    Examples
    --------
    >>> from sk_ulmfit.training.recipe import language_model_epochs
    >>> [language_model_epochs(n) for n in (50_000, 1_000_000, 10_000_000)]
    [10, 4, 1]
    """
    return min(max(round(LANGUAGE_MODEL_TOKENS / max(n_tokens, 1)), 1), MOST_LANGUAGE_MODEL_EPOCHS)
