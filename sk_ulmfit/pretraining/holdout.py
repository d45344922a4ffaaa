"""The documents that a run does not train on, and how well the model predicts them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.pretraining.log import RunLog
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.text.corpora import Corpora
from sk_ulmfit.text.packing import PackedCorpus
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.likelihood import negative_log_likelihood

MAX_HELD_OUT = 500_000  # tokens, and the rest of the last document
MAX_OF_CORPUS = 0.1  # of the tokens of one of several corpora, unless the fraction is larger


def hold_out(packed: PackedCorpus, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw documents that hold a fraction of the tokens; return the sorted indices of the others, and of these.

    Of several corpora, each has its share in them.
    """
    rng = np.random.default_rng(seed)
    corpora = packed.corpora
    wanted = _tokens_to_hold_out(corpora, fraction)
    training, held_out = [], []
    for part, documents, n in zip(corpora.parts, corpora.split(np.arange(len(packed.tokens))), wanted, strict=True):
        order = documents[rng.permutation(len(documents))]
        seen = np.cumsum(packed.tokens.lengths_of(order))
        n_held_out = 0 if not fraction else int(np.searchsorted(seen, n)) + 1
        if n_held_out >= len(order):
            raise PretrainingError(
                f"The corpus{f' {part.source}' * (len(wanted) > 1)} is too small to hold out a part of it: it has only "
                "one document, or one that is much longer than the others. Separate documents by blank lines, or pass "
                "validation_fraction=0."
            )
        training.append(order[n_held_out:])
        held_out.append(order[:n_held_out])
    return np.sort(np.concatenate(training)), np.sort(np.concatenate(held_out))


def _tokens_to_hold_out(corpora: Corpora, fraction: float) -> NDArray[np.float64]:
    """Return how many tokens of each corpus to hold out, (n_corpora,): in its share, and not too much of any."""
    n_tokens, shares = np.array([part.n_tokens for part in corpora.parts]), corpora.shares()
    most = max(fraction, MAX_OF_CORPUS) * n_tokens / np.maximum(shares, np.finfo(float).tiny)
    return min(n_tokens.sum() * fraction, MAX_HELD_OUT, most.min()) * shares


def held_out_loss(state: ModelState, held_out: TokenIds, device: str, log: RunLog) -> float | None:
    """Log and return the loss per held-out token, in nats; None if there is no token to predict."""
    n = int((held_out.lengths - 1).clip(min=0).sum())
    if not n:
        return None
    log.say(f"measuring the perplexity on {n:,} held-out tokens")
    total, n = negative_log_likelihood(state, held_out, bptt=70, batch_size=256, device=device)
    loss = total / n
    log.write(event="end", held_out_tokens=n, held_out_loss=loss, held_out_perplexity=math.exp(loss))
    log.say(f"held-out perplexity {math.exp(loss):.2f} ({n:,} tokens, loss {loss:.4f})")
    return loss
