"""Texts and labels from a folder with one text per file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from sk_ulmfit._choices import Blank
from sk_ulmfit._files import as_path, read_text
from sk_ulmfit._messages import short
from sk_ulmfit.datasets.loaders import Columns, LabelLists, load_table
from sk_ulmfit.datasets.tables import is_hidden, is_text_file, open_table, text_files, warn_of_files_left_out
from sk_ulmfit.datasets.text_table import TextTable


def load_folders(
    folder: str | os.PathLike[str],
    *,
    labels_file: str | os.PathLike[str] | None = None,
    labels: Columns | None = None,
    label_column: Columns | None = None,
    delimiter: str = ";",
    blank: Blank = "absent",
    encoding: str | None = None,
) -> TextTable[list[str], LabelLists]:
    """Read one text per file.

    Parameters
    ----------
    folder : path-like
        Folder with a subfolder for each label, which holds the text files with that label: those that end in ``.txt``
        or have no suffix. A file with several labels lies in several subfolders, under the same path. With
        `labels_file`: a folder of texts. Hidden files are left out; a warning counts other ones.
    labels_file : path-like, default=None
        Table (see `load_table`) whose first column is the path of a file relative to `folder`.
    labels, label_column, delimiter : str or sequence of str
        Label columns of `labels_file`, as in `load_table`. By default, all columns but the first hold label names.
    blank : {"absent", "unknown"}, default="absent"
        Meaning of a blank label cell, and of a file that `labels_file` does not list.
    encoding : str, default=None
        Encoding of the text files and of `labels_file`, as in `load_table`.

    Returns
    -------
    TextTable
        One row per file, sorted by path; the column "file" is the path.

    Raises
    ------
    ValueError
        If there are no text files, a file is not UTF-8, a listed file is missing, or files of the same path differ.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sk_ulmfit.datasets import load_folders
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> (folder / "late").mkdir()
    >>> _ = (folder / "late" / "1.txt").write_text("Where is it?")
    >>> load_folders(folder).labels
    [['late']]
    """
    root = as_path(folder)
    if not root.is_dir():
        raise ValueError(f"There is no folder {root}.")
    if labels_file is None:
        if labels or label_column:
            raise ValueError("labels and label_column are columns of a table; pass it as labels_file.")
        return _by_label(root, encoding)
    files, no_texts = text_files(root)
    table_file = Path(labels_file).resolve()
    files = [file for file in files if file.resolve() != table_file]
    warn_of_files_left_out(root, [file for file in no_texts if file.resolve() != table_file])
    texts = {file.relative_to(root).as_posix(): read_text(file, encoding) for file in files}
    if not texts:
        raise ValueError(f"{root} has no text files (*.txt, or without a suffix).")
    first, *others = open_table(labels_file, encoding).columns
    names = label_column if labels or label_column else others
    table = load_table(
        labels_file, text=first, labels=labels, label_column=names, delimiter=delimiter, blank=blank, encoding=encoding
    )
    return _with_listed_labels(texts, table, f"{labels_file}", root, blank)


def _with_listed_labels(
    texts: dict[str, str], table: TextTable, source: str, root: Path, blank: str
) -> TextTable[list[str], LabelLists]:
    """Give the files their labels from a table, whose texts are paths."""
    labels: dict[str, set[str]] = {}
    unknown = {} if blank == "absent" else {name: set(table.label_names) for name in texts}
    for i, listed in enumerate(table.texts):
        name = listed.strip()
        if name not in texts:
            raise ValueError(f"{source}, row {i + 1}: there is no text file {short(name)} in {root}.")
        labels.setdefault(name, set()).update((table.labels or [])[i])
        if unknown:
            unknown[name] &= set(table.unknown[i] if table.unknown is not None else ())
    return _of_files(texts, labels, table.label_names, unknown)


def _by_label(root: Path, encoding: str | None) -> TextTable[list[str], LabelLists]:
    """Read texts whose labels are the names of their folders."""
    texts: dict[str, str] = {}
    labels: dict[str, set[str]] = {}
    left_out: list[Path] = []
    class_folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    for class_folder in class_folders:
        files, others = text_files(class_folder)
        left_out += others
        for file in files:
            name, text = file.relative_to(class_folder).as_posix(), read_text(file, encoding)
            if texts.setdefault(name, text) != text:
                raise ValueError(
                    f"{file} differs from the file {name} of another label. A text with several labels must "
                    "have the same content in each folder; give different texts different names."
                )
            labels.setdefault(name, set()).add(class_folder.name)
    if not texts:
        raise ValueError(f"{root} has no text files (*.txt, or without a suffix) in folders named after labels.")
    label_names = sorted(set().union(*labels.values()))
    warn_of_files_left_out(root, left_out, [path.name for path in class_folders if path.name not in label_names])
    astray = sum(is_text_file(file) and not is_hidden(file.name) for file in root.iterdir() if file.is_file())
    if astray:
        warnings.warn(
            f"{astray} text files directly in {root} are left out, because no folder names their labels; list all "
            "files in a labels_file instead.",
            UserWarning,
            stacklevel=3,
        )
    return _of_files(texts, labels, label_names, {})


def _of_files(
    texts: dict[str, str], labels: dict[str, set[str]], label_names: list[str], unknown: dict[str, set[str]]
) -> TextTable[list[str], LabelLists]:
    names = sorted(texts)
    return TextTable(
        [texts[name] for name in names],
        [sorted(labels.get(name, ())) for name in names],
        label_names,
        ["file"],
        [{"file": name} for name in names],
        [sorted(unknown[name]) for name in names] if any(unknown.values()) else None,
    )
