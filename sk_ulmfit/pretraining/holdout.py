"""The documents that a run does not train on, and how well the model predicts them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.pretraining.log import RunLog
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.likelihood import negative_log_likelihood

MAX_HELD_OUT = 500_000  # tokens, and the rest of the last document


def hold_out(tokens: TokenIds, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw documents that hold a fraction of the tokens; return the sorted indices of the others, and of these."""
    order = np.random.default_rng(seed).permutation(len(tokens))
    seen = np.cumsum(tokens.lengths_of(order))
    wanted = min(seen[-1] * fraction, MAX_HELD_OUT)
    n_held_out = 0 if not fraction else int(np.searchsorted(seen, wanted)) + 1
    if n_held_out >= len(order):
        raise PretrainingError(
            "The corpus is too small to hold out a part of it: it has only one document, or one that is much longer "
            "than the others. Separate documents by blank lines, or pass validation_fraction=0."
        )
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


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
