"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sk_ulmfit.datasets.loaders import BLANKS
from sk_ulmfit.language_model import SIZES
from sk_ulmfit.nn.precision import PRECISIONS


def add_table(command: argparse.ArgumentParser, content: str, kind: Any = Path) -> None:
    command.add_argument(
        "file",
        type=kind,
        metavar="FILE",
        help=f"table {content}: .csv with a header line, .tsv, .jsonl (one object per line), .json (also one array) or "
        ".parquet, all but the last also .gz or .xz; or a folder of .txt files",
    )
    add_encoding(command)


def add_encoding(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--encoding", metavar="NAME", help="encoding of the text files, such as cp1252 or utf-16 (default: utf-8)"
    )


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the classifier or regressor to load, and the threshold to use in place of its own."""
    command.add_argument("model", type=Path, metavar="MODEL", help="file of a model, written by train")
    command.add_argument("--threshold", type=float, metavar="X", help="predict labels with at least this probability")


def add_text(command: argparse.ArgumentParser, default: str = "") -> None:
    note = f" (default: {default})" if default else ""
    command.add_argument("--text", action="append", metavar="COL", help=f"text column; may be repeated{note}")


def add_out(
    command: argparse.ArgumentParser, metavar: str, help_text: str, required: bool = True, kind: Any = Path
) -> None:
    """Add the file to write, and --force to replace it."""
    command.add_argument("--out", type=kind, required=required, metavar=metavar, help=help_text)
    command.add_argument("--force", action="store_true", help=f"replace {metavar} if it exists")


def add_labels(command: argparse.ArgumentParser, delimiter: str = ";", blank: str = BLANKS[0]) -> None:
    """Add how the labels are stored in the table; `delimiter` and `blank` describe the defaults."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--labels",
        nargs="+",
        metavar="COL",
        help="columns of 0 and 1, one per label; a name may be a pattern, such as 'is *'",
    )
    group.add_argument(
        "--label-column",
        action="append",
        metavar="COL",
        help="column with the names of all labels of a text; if it is repeated or a pattern, such as 'Label *': "
        "columns with at most one name per cell",
    )
    command.add_argument("--delimiter", metavar="D", help=f"separates names in the label column (default: {delimiter})")
    command.add_argument(
        "--labels-as-written",
        action="store_true",
        help="labels that consist of other labels, such as 'x,y' beside x and y, are meant and no wrong delimiter",
    )
    command.add_argument(
        "--blank",
        choices=BLANKS,
        help=f"meaning of an empty label cell: the label is absent, or nobody has checked (default: {blank})",
    )
    command.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="for a folder: table with the paths of the files in its first column and their labels in the others; "
        "by default the subfolders are the labels",
    )


def add_language_model(command: argparse.ArgumentParser) -> None:
    """Add the language model to start from, and the sizes of one that is trained from scratch."""
    command.add_argument(
        "--language-model",
        default="auto",
        metavar="NAME",
        help="language model to start from: en or en-small (included), the file of a saved one, or none (from "
        "scratch). auto: the included one, or from scratch if a size or another language is given (default: auto)",
    )
    command.add_argument("--language", metavar="CODE", help="language of the texts (default: en)")
    for name, text in (
        ("emb_dim", "width of the embedding"),
        ("hidden_dim", "width of the LSTM layers"),
        ("n_layers", "number of LSTM layers"),
    ):
        flag = "--" + name.replace("_", "-")
        command.add_argument(flag, type=int, metavar="N", help=f"{text}, from scratch (default: {SIZES[name]})")


def add_precision(command: argparse.ArgumentParser, used_for: str, choices: tuple[str, ...] = PRECISIONS) -> None:
    command.add_argument(
        "--precision", choices=choices, default="auto", help=f"arithmetic of {used_for} (default: auto)"
    )


def add_seed(command: argparse.ArgumentParser, result: str) -> None:
    command.add_argument("--random-state", type=int, metavar="N", help=f"seed; the same seed gives the same {result}")


def add_n_jobs(command: argparse.ArgumentParser, used_for: str = "tokenization") -> None:
    command.add_argument("--n-jobs", type=int, metavar="N", help=f"worker processes for {used_for}")


def add_running(command: argparse.ArgumentParser) -> None:
    """Add where to run and whether to show progress."""
    command.add_argument("--quiet", action="store_true", help="show no progress, not even on a terminal")
    command.add_argument("--device", default="auto", metavar="D", help="torch device (default: auto)")
