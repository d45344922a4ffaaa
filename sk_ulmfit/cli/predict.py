"""``sk-ulmfit predict``: add predicted labels and probabilities, or values, to a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from sk_ulmfit._messages import count
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli import typed
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import text_columns
from sk_ulmfit.cli.estimators import load_model
from sk_ulmfit.cli.files import check_input, check_output
from sk_ulmfit.cli.predict_parts import add_options as add_parts_options
from sk_ulmfit.cli.predict_parts import check_workers, path_or_address, run_parts, writes_parts
from sk_ulmfit.cli.values import Valuer
from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.datasets.predicted_columns import LABELS as PREDICTED
from sk_ulmfit.datasets.predicted_columns import PROBABILITY
from sk_ulmfit.datasets.table_writing import check_writable, write_table
from sk_ulmfit.datasets.tables import (
    JSON_LINES,
    Row,
    RowReader,
    file_type,
    open_table,
)
from sk_ulmfit.regressor import ULMFiTRegressor
from sk_ulmfit.text.unknown_words import as_one_call

MAX_ROWS, MAX_CHARACTERS = 20_000, 2_000_000  # held in memory at once


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_model(command)
    shared.add_table(command, "with the text columns of the training", path_or_address, typed=True)
    out = (
        "table to write, with labels or values added: .csv, .tsv or .jsonl, also as .gz or .xz; or, if FILE is a "
        "folder or a pattern of Parquet files, such as 'mail/*.parquet' or 's3://mail/*.parquet', a folder to write"
    )
    shared.add_out(groups.everyday, "OUT", out, required=False, kind=path_or_address)
    shared.add_text(groups.everyday, default="as in training")
    shared.add_threshold(groups.everyday)
    groups.everyday.add_argument(
        "--delimiter", metavar="D", help="separates the predicted labels of a text (default: as in training)"
    )
    shared.add_device(groups.everyday)
    shared.add_encoding(groups.data)
    add_parts_options(groups.machine)
    shared.add_quiet(groups.machine)


def run(options: argparse.Namespace) -> Answer:
    if typed.is_typed(options.file):
        return typed.predict(options)
    if options.out is None and not writes_parts(options):
        typed.check_file(options.file)
    if options.out is None:
        raise ValueError("Name the table to write with --out, such as --out predicted.csv.")
    if writes_parts(options):
        return run_parts(options)
    check_workers(options)
    check_input(options.model)
    typed.check_file(options.file)
    check_writable(options.out)
    out = check_output(options, options.file, options.model)
    clf = load_model(options)
    reader = open_table(options.file, options.encoding)
    columns = text_columns(clf, options)
    reader.check_columns(columns)
    json_lines = file_type(out) in JSON_LINES
    adds: _Labeller | Valuer
    if isinstance(clf, ULMFiTRegressor):
        adds = Valuer(clf, json_lines)
    else:
        adds = _Labeller(clf, options.delimiter or clf.metadata_.get("delimiter") or ";", json_lines)
    rows = adds.add(_blocks(reader, columns))
    if shows_progress(options):
        from tqdm import tqdm

        rows = tqdm(rows, desc="predict", unit=" texts")
    kept = [column for column in reader.columns if column not in adds.columns]
    separator = ("" if file_type(options.file) == ".tsv" else reader.separator) or ","
    with as_one_call():
        write_table(out, [*kept, *adds.columns], rows, separator=separator)
    return adds.answer(out)


class _Labeller:
    """Add the predictions of a classifier to rows, and count them."""

    def __init__(self, clf: ULMFiTMultiLabelClassifier, delimiter: str, json_lines: bool):
        self.clf, self.delimiter, self.json_lines = clf, delimiter, json_lines
        self.decide_on = clf._decision_rule()
        self.names = [str(name) for name in clf.label_names_]
        self.columns = [PREDICTED, *(PROBABILITY + name for name in self.names)]
        # labels that would not survive a delimited cell are written as a list
        self.as_list = json_lines or any(
            delimiter in name or name.startswith("[") or name != name.strip() for name in self.names
        )
        self.n_texts = self.n_labels = 0

    def add(self, blocks: Iterator[tuple[list[Row], list[str]]]) -> Iterator[Row]:
        """Yield rows with predictions; `blocks` holds some rows and their texts at a time."""
        for rows, texts in blocks:
            proba = self.clf.predict_proba(texts)
            decisions = self.decide_on(proba)
            self.n_texts += len(rows)
            self.n_labels += int(decisions.sum())
            for row, decided, probabilities in zip(rows, decisions.tolist(), proba.tolist(), strict=True):
                yield self._labelled(row, decided, probabilities)

    def answer(self, out: Path) -> Answer:
        """Return what the command says in the end."""
        n_texts, mean = self.n_texts, self.n_labels / self.n_texts
        return Answer(
            f"Predicted {count(n_texts, 'text')} with {mean:.2f} labels on average; written to {out}.",
            {"out": str(out), "n_texts": n_texts, "labels_per_text": round(mean, 4)},
        )

    def _labelled(self, row: Row, decided: list[int], probabilities: list[float]) -> Row:
        labels = [name for name, is_predicted in zip(self.names, decided, strict=True) if is_predicted]
        labelled = {column: cell for column, cell in row.items() if column not in self.columns}
        labelled[PREDICTED] = labels if self.as_list else self.delimiter.join(labels)
        for name, p in zip(self.names, probabilities, strict=True):
            labelled[PROBABILITY + name] = round(p, 6) if self.json_lines else f"{p:.6f}"
        return labelled


def _blocks(reader: RowReader, columns: Sequence[str]) -> Iterator[tuple[list[Row], list[str]]]:
    """Yield rows and their texts, as many at a time as memory should hold."""
    rows: list[Row] = []
    texts: list[str] = []
    n_characters = 0
    is_empty = True
    for place, row in reader.rows:
        is_empty = False
        rows.append(row)
        texts.append(text_of_row(row, columns, f"{reader.name}, {place}"))
        n_characters += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        if n_characters >= MAX_CHARACTERS or len(rows) >= MAX_ROWS:
            yield rows, texts
            rows, texts, n_characters = [], [], 0
    if rows:
        yield rows, texts
    if is_empty:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
