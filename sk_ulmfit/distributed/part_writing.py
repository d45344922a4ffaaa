"""Predictions for a part of a Parquet file, written beside its columns to a file of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.datasets.predicted_columns import LABELS, PROBABILITY, VALUE
from sk_ulmfit.distributed.file_systems import file_system, whole_file
from sk_ulmfit.distributed.models import Model, ModelFile
from sk_ulmfit.distributed.parts import Part, check_still_run, version_of
from sk_ulmfit.distributed.rows import MAX_CHARACTERS, MAX_ROWS
from sk_ulmfit.distributed.threads import threads_of_task, torch_threads
from sk_ulmfit.regressor import ULMFiTRegressor

_ROWS_READ = 1_000  # at once


@dataclass(frozen=True)
class PartWriter:
    """What all parts of a run have in common.

    Attributes
    ----------
    model : ModelFile
        The model.
    text : list of str
        Text columns.
    out : str
        Folder of the parts.
    n_threads : int or None
        Threads of torch; None takes the share of the task.
    slots : mapping of str to int
        Tasks that run at the same time on each host.
    """

    model: ModelFile
    text: list[str]
    out: str
    n_threads: int | None
    slots: Mapping[str, int]

    def write(self, part: Part) -> tuple[int, int]:
        """Predict a part and write it; return how many texts it has, and how many labels were predicted.

        Raises ValueError if a row has no text, or the file has changed.
        """
        estimator = self.model.open()
        source, path = file_system(part.file)
        target, folder = file_system(self.out)
        n_texts = n_labels = 0
        with (
            torch_threads(threads_of_task(self.n_threads, self.slots)),
            source.open(path, "rb") as file,
            whole_file(target, f"{folder}/{part.name}") as out,
            ExitStack() as stack,
        ):
            writer: Any = None
            for table in _tables(file, part):
                texts = _texts(table, self.text, path, part.start + n_texts)
                columns, n = predicted_columns(estimator, texts)
                labelled = _with_columns(table, columns)
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(out, labelled.schema))
                writer.write_table(labelled)
                n_texts, n_labels = n_texts + len(texts), n_labels + n
            if n_texts != part.stop - part.start or version_of(source, path) != part.version:
                raise ValueError(f"{path} has changed since this run began; begin anew with --force.")
            check_still_run(target, folder, self.model.digest, self.model.threshold, self.text)
        return n_texts, n_labels


def predicted_columns(estimator: Model, texts: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Return the columns that a model adds to texts, and how many labels it predicts."""
    names = [str(name) for name in estimator._fitted.names.tolist()]
    if isinstance(estimator, ULMFiTRegressor):
        values = estimator.predict(texts).reshape(len(texts), -1)
        return {VALUE + name: pa.array(column) for name, column in zip(names, values.T, strict=True)}, 0
    decide_on = estimator._decision_rule()
    proba = estimator.predict_proba(texts)
    decided = decide_on(proba)
    labels = [[name for name, is_predicted in zip(names, row, strict=True) if is_predicted] for row in decided.tolist()]
    columns = {LABELS: pa.array(labels, pa.list_(pa.string()))}
    for name, column in zip(names, proba.astype(np.float32).T, strict=True):
        columns[PROBABILITY + name] = pa.array(column)
    return columns, int(decided.sum())


def _tables(file: IO[bytes], part: Part) -> Iterator[Any]:
    """Yield the rows of a part, as many at a time as memory should hold."""
    parquet = pq.ParquetFile(file)
    sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    starts = np.cumsum([0, *sizes])
    groups = [i for i, size in enumerate(sizes) if starts[i] < part.stop and starts[i] + size > part.start]
    position = int(starts[groups[0]]) if groups else 0
    batches: list[Any] = []
    n_rows = n_bytes = 0
    for batch in parquet.iter_batches(_ROWS_READ, row_groups=groups):
        first, last = max(part.start - position, 0), min(part.stop - position, batch.num_rows)
        position += batch.num_rows
        if first >= last:
            continue
        batches.append(batch.slice(first, last - first))
        n_rows, n_bytes = n_rows + last - first, n_bytes + batch.nbytes
        if n_rows >= MAX_ROWS or n_bytes >= MAX_CHARACTERS:
            yield pa.Table.from_batches(batches)
            batches, n_rows, n_bytes = [], 0, 0
    if batches:
        yield pa.Table.from_batches(batches)


def _texts(table: Any, columns: Sequence[str], path: str, first: int) -> list[str]:
    rows = zip(*(table.column(column).to_pylist() for column in columns), strict=True)
    return [
        text_of_row(dict(zip(columns, row, strict=True)), columns, f"{path}, row {number}")
        for number, row in enumerate(rows, first + 1)
    ]


def _with_columns(table: Any, columns: Mapping[str, Any]) -> Any:
    """Return a table with these columns at its end, in place of its own of the same names."""
    table = table.select([i for i, name in enumerate(table.column_names) if name not in columns])
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table
