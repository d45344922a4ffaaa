"""The likelihood of texts under a language model."""

from __future__ import annotations

import numpy as np
import torch

from sk_ulmfit.models.assembly import restore_language_model
from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.losses import linear_cross_entropy
from sk_ulmfit.nn.windows import Documents, next_state
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import WINDOWS_PER_DOCUMENT, bucket_batches, pad


def negative_log_likelihood(
    state: ModelState, corpus: TokenIds, *, bptt: int, batch_size: int, device: str, precision: str = "float32"
) -> tuple[float, int]:
    """Return the negative log-likelihood of documents in nats, and the number of predicted tokens.

    Each document is read from an empty state; all of its tokens but the first are predicted. The documents must be in
    the vocabulary of `state`, a language model. `bptt` is the number of tokens of a window.
    """
    module = restore_language_model(state, device)
    lengths = corpus.lengths
    whole = np.flatnonzero(lengths > 1)
    total = 0.0
    with torch.no_grad():
        for batch in bucket_batches(lengths[whole], batch_size, batch_size * WINDOWS_PER_DOCUMENT * bptt):
            padded = pad(corpus, whole[batch], state.vocabulary.pad)
            targets = padded["ids"][:, 1:].to(device)  # (batch, time)
            documents = Documents(padded["ids"][:, :-1].to(device), padded["lengths"] - 1, bptt, None)
            hidden_state = None
            for window in documents.windows():
                n, time = window.ids.shape
                outputs, hidden_state = module.encoder(window.ids, window.lengths, hidden_state, precision=precision)
                hidden_state = next_state(hidden_state, window)
                expected = targets[:n, window.begin : window.begin + time][window.pooled]  # (n_tokens,)
                loss = linear_cross_entropy(
                    outputs[window.pooled], module.decoder_weight, module.decoder_bias, expected, precision
                )
                total += float(loss) * len(expected)
    return total, int((lengths[whole] - 1).sum())
