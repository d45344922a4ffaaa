"""Predictions for the rows of one partition, some thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sk_ulmfit._messages import short
from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.datasets.predicted_columns import LABELS
from sk_ulmfit.distributed.models import Description, ModelFile, SentModel, describe
from sk_ulmfit.distributed.threads import threads_of_task, torch_threads
from sk_ulmfit.text.streams import no_text

MAX_ROWS, MAX_CHARACTERS = 20_000, 2_000_000  # predicted at once


def output_columns(what: str, description: Description) -> dict[str, Any]:
    """Return the type of each column that a function predicts."""
    if what == "predict_labels":
        return {LABELS: np.dtype(object)}
    is_whole = what == "predict" and description.kind == "classifier"
    return dict.fromkeys(description.names, np.dtype("int64" if is_whole else "float64"))


def predict_partition(
    frame: Any,
    model: ModelFile | SentModel,
    what: str,
    columns: Sequence[Any],
    keep: Sequence[Any],
    n_threads: int | None,
    slots: Mapping[str, int],
) -> pd.DataFrame:
    """Return the predictions for one partition, with its index and the columns to keep.

    Parameters
    ----------
    frame : DataFrame or Series
        The partition.
    model : ModelFile or SentModel
        The model.
    what : {"predict_proba", "predict", "predict_labels"}
        The method of the model.
    columns : sequence
        Text columns; none for a Series.
    keep : sequence
        Columns to repeat beside the predictions.
    n_threads : int or None
        Threads of torch, as `threads_of_task` takes them.
    slots : mapping of str to int
        Tasks that run at the same time on each host.

    Raises
    ------
    ValueError
        If a row has no text; the message says which.
    """
    estimator = model.open()
    texts = texts_of(frame, columns)
    with torch_threads(threads_of_task(n_threads, slots)):
        parts = [getattr(estimator, what)(block) for block in text_blocks(texts)]
    kept = frame[list(keep)] if keep else pd.DataFrame(index=frame.index)
    if what == "predict_labels":
        rows = np.empty(len(texts), object)
        rows[:] = [[str(name) for name in row] for part in parts for row in part]
        return kept.assign(**{LABELS: rows})
    types = output_columns(what, describe(estimator))
    shape = (len(texts), len(types))
    values = np.concatenate(parts).reshape(shape) if parts else np.empty(shape)
    return pd.concat([kept, pd.DataFrame(values, frame.index, list(types)).astype(types)], axis=1)


def texts_of(frame: Any, columns: Sequence[Any]) -> list[str]:
    """Return the texts of a partition: those of a Series or of one column, or several columns joined as fields."""
    if len(columns) > 1:
        rows = zip(*(frame[column].tolist() for column in columns), strict=True)
        return [
            text_of_row(dict(zip(columns, row, strict=True)), columns, _place(frame, i)) for i, row in enumerate(rows)
        ]
    texts = (frame[columns[0]] if columns else frame).tolist()
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{_place(frame, i)}: the text is {no_text(text)}.")
    return texts


def _place(frame: Any, i: int) -> str:
    return f"Row {i} of a partition, index {short(frame.index[i])}"


def text_blocks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts, as many at a time as memory should hold."""
    block: list[str] = []
    n_characters = 0
    for text in texts:
        block.append(text)
        n_characters += len(text)
        if len(block) >= MAX_ROWS or n_characters >= MAX_CHARACTERS:
            yield block
            block, n_characters = [], 0
    if block:
        yield block
