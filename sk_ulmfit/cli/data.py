"""Texts and labels from the table, folder or corpus that the options name."""

from __future__ import annotations

import argparse
import fnmatch
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sk_ulmfit._choices import Blank
from sk_ulmfit._messages import count, short_names
from sk_ulmfit.cli.answers import print_note
from sk_ulmfit.datasets.delimiters import DelimiterWarning
from sk_ulmfit.datasets.folders import load_folders
from sk_ulmfit.datasets.loaders import BLANKS, load_table
from sk_ulmfit.datasets.tables import DELIMITED, JSON_LINES, PARQUET, file_type, open_table
from sk_ulmfit.datasets.text_table import TextTable
from sk_ulmfit.text.documents import read_documents
from sk_ulmfit.text.streams import StreamedTexts


def load_labelled(options: argparse.Namespace) -> tuple[TextTable, dict[str, Any]]:
    """Return texts with labels, and the options that describe their columns, to be saved with the model."""
    if options.file.is_dir():
        if options.text or (not options.labels_file and (options.labels or options.label_column)):
            raise ValueError(
                f"{options.file} is a folder, whose subfolders are the labels; omit --text, --labels and "
                "--label-column, or list the files and their labels in a table and pass it with --labels-file."
            )
        described = {"text": ["text"], "delimiter": options.delimiter, "blank": options.blank}
        return load_labelled_folder(options, options.delimiter, options.blank), described
    return _load_labelled_table(options)


def _load_labelled_table(options: argparse.Namespace) -> tuple[TextTable, dict[str, Any]]:
    if options.labels_file:
        raise ValueError(f"--labels-file is for a folder of texts, but {options.file} is a file; omit it.")
    columns = open_table(options.file, options.encoding).columns
    check_text_option(options, columns)
    if not options.labels and not options.label_column:
        raise ValueError(
            "Name the labels with --label-column (a column of names) or --labels (columns of 0 and 1); the columns are "
            f"{short_names(columns)}."
        )
    labels, label_column = _expand(options.labels, columns), _expand(options.label_column, columns)
    with no_other_delimiter(options.labels_as_written):
        table = load_table(
            options.file,
            text=options.text,
            labels=labels,
            label_column=label_column,
            delimiter=options.delimiter,
            blank=options.blank or BLANKS[0],
            stream=True,
            encoding=options.encoding,
        )
    if table.n_blank and options.blank is None:
        print_note(
            f"{count(table.n_blank, 'empty label cell')} counted as 'absent'; pass --blank unknown if nobody has "
            "checked them."
        )
    if not table.label_names:
        raise ValueError(
            f"{options.file}: no row has a label in column {short_names(label_column or [])}; check --label-column."
        )
    return table, {
        "text": options.text,
        "labels": labels,
        "label_column": label_column,
        "delimiter": options.delimiter,
        "blank": options.blank,
        "labels_as_written": options.labels_as_written,
    }


def _expand(names: list[str] | None, columns: Sequence[str]) -> list[str] | None:
    """Replace each pattern, such as ``Label *``, by the columns that match it."""
    if names is None:
        return None
    expanded: list[str] = []
    for name in names:
        matching = [] if name in columns else fnmatch.filter(columns, name)
        expanded += matching or [name]
    return expanded


def load_labelled_folder(options: argparse.Namespace, delimiter: str, blank: Blank | None) -> TextTable:
    """Return the texts of a folder, with labels from its subfolders or from the file of labels."""
    if not options.labels_file:
        return load_folders(options.file, encoding=options.encoding)
    with no_other_delimiter(options.labels_as_written):
        return load_folders(
            options.file,
            labels_file=options.labels_file,
            labels=options.labels,
            label_column=options.label_column,
            delimiter=delimiter,
            blank=blank or BLANKS[0],
            encoding=options.encoding,
        )


@contextmanager
def no_other_delimiter(labels_as_written: bool) -> Iterator[None]:
    """Raise ValueError, in place of a warning, for labels that consist of other labels unless these are meant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if labels_as_written else "error", DelimiterWarning)
        try:
            yield
        except DelimiterWarning as warning:
            mark = f"'{warning.mark}'" if warning.mark.isprintable() else f"${warning.mark!r}"  # as a shell takes it
            raise ValueError(
                f"{warning.what}; pass --delimiter {mark}, or --labels-as-written if these labels are meant."
            ) from None


def load_texts(options: argparse.Namespace) -> list[str] | StreamedTexts:
    if options.text:
        return load_table(options.file, text=options.text, stream=True, encoding=options.encoding).texts
    if file_type(options.file) in {*DELIMITED, *JSON_LINES, *PARQUET} and options.file.is_file():
        check_text_option(options, open_table(options.file, options.encoding).columns)

    def documents() -> Iterator[str]:
        return read_documents(options.file, encoding=options.encoding)

    return StreamedTexts(documents, sum(1 for _ in documents()))


def check_text_option(options: argparse.Namespace, columns: Sequence[str]) -> None:
    if not options.text:
        raise ValueError(f"Name the text column with --text; the columns are {short_names(columns)}.")


def text_columns(clf: Any, options: argparse.Namespace) -> list[str]:
    """Return the text columns: those of the options, or those the model was trained on."""
    return named_text_columns(clf.metadata_, options)


def named_text_columns(metadata: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """Return the text columns of the options, or those that the notes of a model name."""
    columns = options.text or metadata.get("text")
    if not columns:
        raise ValueError(f"{options.model} was not trained with sk-ulmfit train; name the text column with --text.")
    return [columns] if isinstance(columns, str) else list(columns)
