"""The arguments `corpus` and `weights` of a run, checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sk_ulmfit._files import as_path
from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_number, plain_number
from sk_ulmfit.pretraining.folder import TOKENS
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.text.documents import is_packed


def check_corpora(corpus: Any) -> list[Path]:
    """Return the paths of the corpora."""
    paths = [corpus] if isinstance(corpus, (str, os.PathLike)) else corpus
    is_list = isinstance(paths, Sequence) and not isinstance(paths, (bytes, bytearray))
    if not is_list or not paths or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise PretrainingError(f"corpus must be a path or a list of at least one path, got {short(corpus)}.")
    corpora = [as_path(path, PretrainingError) for path in paths]
    places = [path.resolve() for path in corpora]
    for number, path in enumerate(corpora):
        if places[number] in places[:number]:
            raise PretrainingError(f"{path} is given twice; pass each corpus once, and its share as a weight.")
        if len(corpora) > 1 and packed_folder(path):
            raise PretrainingError(
                f"{path} holds the token ids of an earlier run, which cannot be joined with other corpora; pass it "
                "alone, or pass the texts."
            )
    return corpora


def packed_folder(corpus: Path) -> Path | None:
    """Return the folder of token ids that a corpus is or, if it is the folder of an earlier run, contains."""
    return next((folder for folder in (corpus, corpus / TOKENS) if is_packed(folder)), None)


def check_weights(weights: Any, corpora: Sequence[Path]) -> tuple[float, ...] | None:
    """Return the weights of the corpora as Python numbers; None if there is only one corpus."""
    if weights is None:
        return None
    if not isinstance(weights, (list, tuple)) and np.ndim(weights) != 1:
        raise PretrainingError(f"weights must be a list of numbers, one for each corpus; got {short(weights)}.")
    for number, weight in enumerate(weights):
        check_number(f"weights[{number}]", weight, low=0, exclusive=True)
    is_packed_corpus = len(corpora) == 1 and packed_folder(corpora[0]) is not None  # perhaps of several corpora
    if len(weights) != len(corpora) and not is_packed_corpus:
        raise PretrainingError(f"weights must have one number for each corpus ({len(corpora)}), got {len(weights)}.")
    return None if len(weights) == 1 else tuple(float(plain_number(weight)) for weight in weights)
