"""``sk-ulmfit evaluate``: score a model on a table or a folder with true labels."""

from __future__ import annotations

import argparse

import numpy as np

from sk_ulmfit._messages import count, first_few, short, short_names
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, print_note
from sk_ulmfit.cli.data import load_labelled_folder, no_other_delimiter, text_columns
from sk_ulmfit.cli.estimators import load_model, predict_in_blocks
from sk_ulmfit.cli.similar_labels import similar, texts_with
from sk_ulmfit.cli.values import evaluate_values
from sk_ulmfit.datasets.loaders import BLANKS, load_table
from sk_ulmfit.datasets.text_table import TextTable
from sk_ulmfit.metrics import multilabel_report
from sk_ulmfit.regressor import ULMFiTRegressor


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_model(command)
    shared.add_table(command, "with texts and true labels or values")
    shared.add_text(groups.everyday, default="as in training")
    shared.add_labels(groups, delimiter="as in training", blank="as in training")
    groups.everyday.add_argument(
        "--values",
        nargs="+",
        action="extend",
        metavar="COL",
        help="columns with the true values, for a regressor (default: as in training)",
    )
    shared.add_threshold(groups.everyday)
    shared.add_device(groups.everyday)
    shared.add_encoding(groups.data)
    shared.add_quiet(groups.machine)


def run(options: argparse.Namespace) -> Answer:
    clf = load_model(options)
    if isinstance(clf, ULMFiTRegressor):
        return evaluate_values(clf, options)
    if options.values:
        raise ValueError(
            f"--values is for numbers on a scale, but {options.model} is a classifier; name true labels with "
            "--label-column or --labels."
        )
    table = _load_true_labels(clf, options)
    known = [str(name) for name in clf.label_names_]
    scored = _scored_labels(clf, options, table, known)
    columns = [known.index(name) for name in scored]
    y, proba = table.indicator(scored), predict_in_blocks(clf.predict_proba, table.texts, options)
    decided = clf._decision_rule()(proba)[:, columns]
    report = multilabel_report(y, decided, proba[:, columns], label_names=scored, output_dict=options.json)
    known_rows = ~np.isnan(y).all(axis=1)
    n_texts = int(known_rows.sum())
    right = float(((y == decided) | np.isnan(y))[known_rows].all(axis=1).mean()) if n_texts else 0.0
    if options.json:
        return Answer("", {"n_texts": n_texts, "all_labels_right": right, **report})
    return Answer(f"{report}\nall labels right: {right:.3f} of {count(n_texts, 'text')}", {})


def _load_true_labels(clf: ULMFiTMultiLabelClassifier, options: argparse.Namespace) -> TextTable:
    """Return the texts and labels; what the options leave open is as in the training."""
    saved = clf.metadata_
    delimiter = options.delimiter or saved.get("delimiter") or ";"
    blank = options.blank or saved.get("blank") or BLANKS[0]
    if options.file.is_dir():
        return load_labelled_folder(options, delimiter, blank)
    labels, label_column = options.labels, options.label_column
    if not labels and not label_column:
        labels, label_column = saved.get("labels"), saved.get("label_column")
    if not labels and not label_column:
        raise ValueError(
            "Name the true labels with --label-column (a column of names) or --labels (columns of 0 and 1)."
        )
    with no_other_delimiter(options.labels_as_written or bool(saved.get("labels_as_written"))):
        return load_table(
            options.file,
            text=text_columns(clf, options),
            labels=labels,
            label_column=label_column,
            delimiter=delimiter,
            blank=blank,
            stream=True,
            encoding=options.encoding,
        )


def _scored_labels(
    clf: ULMFiTMultiLabelClassifier, options: argparse.Namespace, table: TextTable, known: list[str]
) -> list[str]:
    """Return the labels to score; print a note about those that only the model or only the file has."""
    unknown = sorted(set(table.label_names) - set(known))
    if len(unknown) == len(table.label_names):
        raise ValueError(
            f"{options.file} has none of the model's labels ({short_names(known)}); it has "
            f"{short_names(unknown) or 'no labels'}. Check --labels, --label-column and --delimiter."
        )
    one_column_per_label = bool(options.labels or (not options.label_column and clf.metadata_.get("labels")))
    # a label without a column is unknown; a label that a column of names never has is absent from every text
    scored = [name for name in known if name in table.label_names] if one_column_per_label else known
    if unknown:
        described = _described(unknown, table, known)
        print_note(f"left out {count(len(unknown), 'label')} that the model does not know: {described}.")
    if missing := sorted(set(known) - set(scored)):
        print_note(f"left out {count(len(missing), 'label')} that the file does not have: {short_names(missing)}.")
    return scored


def _described(unknown: list[str], table: TextTable, known: list[str]) -> str:
    """Return labels that the model does not know, each with its texts and the known label that it looks like."""
    n_texts, parts = texts_with(table), []
    for label in unknown[:5]:
        other = similar(label, {name: n_texts[name] for name in known})
        hint = f"; did you mean {short(other)}?" if other else ""
        parts.append(f"{short(label)} (in {count(n_texts[label], 'text')}{hint})")
    return first_few(parts, len(unknown))
