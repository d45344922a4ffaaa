"""Options that several commands share, and the groups in which ``--help`` lists them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from sk_ulmfit.datasets.loaders import BLANKS
from sk_ulmfit.language_model import SIZES
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.nn.precision import PRECISIONS


class Groups(NamedTuple):
    """The groups of a command in the order of its help; the estimators list their parameters in the same ones."""

    everyday: Any
    data: Any
    language_model: Any
    training: Any
    linear_model: Any
    decisions: Any
    machine: Any

    @classmethod
    def of(cls, command: argparse.ArgumentParser) -> Groups:
        """Add the groups to a command; its help leaves out those that stay empty."""
        return cls(*(command.add_argument_group(name.replace("_", " ").capitalize()) for name in cls._fields))


def add_table(command: argparse.ArgumentParser, content: str, kind: Any = Path, *, typed: bool = False) -> None:
    """Add the table to read; with `typed`, texts may come from standard input instead."""
    stdin = "; or - to read texts from standard input, one per line" if typed else ""
    command.add_argument(
        "file",
        type=kind,
        metavar="FILE",
        help=f"table {content}: .csv with a header line, .tsv, .jsonl (one object per line), .json (also one array) or "
        f".parquet, all but the last also as .gz or .xz; or a folder of .txt files{stdin}",
    )


def add_encoding(group: Any) -> None:
    group.add_argument(
        "--encoding", metavar="NAME", help="encoding of the text files, such as cp1252 or utf-16 (default: utf-8)"
    )


def add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="MODEL", help="file of a model, written by train")


def add_threshold(group: Any) -> None:
    """Add the threshold to use in place of that of a saved model."""
    group.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="predict labels with at least this probability (default: as in training)",
    )


def add_text(group: Any, default: str = "") -> None:
    note = f" (default: {default})" if default else ""
    group.add_argument(
        "--text",
        nargs="+",
        action="extend",
        metavar="COL",
        help=f"text column; several are read as the fields of one text{note}",
    )


def add_out(group: Any, metavar: str, help_text: str, required: bool = True, kind: Any = Path) -> None:
    """Add the file to write, and --force to replace it."""
    group.add_argument("--out", type=kind, required=required, metavar=metavar, help=help_text)
    group.add_argument("--force", action="store_true", help=f"replace {metavar} if it exists")


def add_labels(groups: Groups, delimiter: str = ";", blank: str = BLANKS[0]) -> None:
    """Add how the labels are stored in the table; `delimiter` and `blank` describe the defaults."""
    either = groups.everyday.add_mutually_exclusive_group()
    either.add_argument(
        "--label-column",
        nargs="+",
        action="extend",
        metavar="COL",
        help="column with the names of all labels of a text; or several columns, or a pattern such as 'Label *', with "
        "at most one name per cell",
    )
    either.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="COL",
        help="columns of 0 and 1, one per label; a pattern such as 'is *' names several",
    )
    groups.everyday.add_argument(
        "--delimiter",
        metavar="D",
        help=f"separates labels within a cell of --label-column, not columns (default: {delimiter})",
    )
    _add_label_details(groups.data, blank)


def _add_label_details(group: Any, blank: str) -> None:
    group.add_argument(
        "--labels-as-written",
        action="store_true",
        help="accept labels that consist of other labels, such as 'x,y' beside x and y, which are otherwise taken for "
        "a wrong --delimiter",
    )
    group.add_argument(
        "--blank",
        choices=BLANKS,
        help="meaning of an empty label cell: the text does not have the label (absent), or nobody has checked "
        f"(unknown) (default: {blank})",
    )
    group.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="if FILE is a folder: a table with the paths of the text files in its first column and their labels in "
        "the others (default: the names of the subfolders are the labels)",
    )


def add_language_model(group: Any) -> None:
    group.add_argument(
        "--language-model",
        default="auto",
        metavar="NAME",
        help="language model to start from: en-small (included), en (larger; not published yet), the file of a saved "
        "one, or none to start from random weights. auto takes the included one, or random weights if --language is "
        "not English or a size is given (default: auto)",
    )


def add_language(group: Any) -> None:
    group.add_argument("--language", metavar="CODE", help="language code of the texts, such as de (default: en)")


def add_sizes(group: Any) -> None:
    """Add the sizes of a language model that starts from random weights."""
    for name, text in (
        ("emb_dim", "width of the embedding"),
        ("hidden_dim", "width of the LSTM layers"),
        ("n_layers", "number of LSTM layers"),
    ):
        flag = "--" + name.replace("_", "-")
        default = f"(default: {SIZES[name]})"
        group.add_argument(flag, type=int, metavar="N", help=f"{text}, from random weights {default}")


def add_direction(group: Any, both: str = "", default: str | None = "forward", shown: str = "forward") -> None:
    """Add the reading direction; `both` says what both directions mean, if they may be chosen."""
    choices = (*DIRECTIONS, "both") if both else DIRECTIONS
    text = f"reading direction{'; both: ' + both if both else ''} (default: {shown})"
    group.add_argument("--direction", choices=choices, default=default, help=text)


def add_precision(group: Any, used_for: str, choices: tuple[str, ...] = PRECISIONS) -> None:
    group.add_argument(
        "--precision",
        choices=choices,
        default="auto",
        help=f"arithmetic of {used_for}; auto uses fewer bits where that is faster and as good (default: auto)",
    )


def add_seed(group: Any, result: str) -> None:
    group.add_argument(
        "--random-state",
        type=int,
        metavar="N",
        help=f"seed; the same seed gives the same {result} (default: a new one each time)",
    )


def add_n_jobs(group: Any, used_for: str = "tokenization") -> None:
    group.add_argument("--n-jobs", type=int, metavar="N", help=f"worker processes for {used_for} (default: 1)")


def add_device(group: Any) -> None:
    group.add_argument(
        "--device",
        default="auto",
        metavar="D",
        help="torch device, such as cpu or cuda; auto uses a GPU if there is one (default: auto)",
    )


def add_quiet(group: Any) -> None:
    group.add_argument("--quiet", action="store_true", help="show no progress, not even on a terminal")


def add_scheduler(group: Any) -> None:
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do that instead, such as tcp://HOST:8786"
    )


def add_corpora(command: argparse.ArgumentParser, groups: Groups, others: str = "") -> None:
    """Add the corpora to read, their shares, and where their texts are."""
    command.add_argument(
        "corpus",
        type=Path,
        nargs="+",
        metavar="CORPUS",
        help="text (documents separated by blank lines) or JSON lines, also as .xz or .gz; or a folder of such files"
        + others,
    )
    groups.data.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="relative share of each corpus in what is read (default: its size)",
    )
    groups.data.add_argument(
        "--field", default="text", metavar="NAME", help="field of the JSON objects that holds the text (default: text)"
    )


def add_vocabulary(groups: Groups) -> None:
    """Add how the texts of a corpus are tokenized, and which words are kept."""
    groups.everyday.add_argument("--language", metavar="CODE", help="language code of the tokenizer (default: en)")
    group = groups.language_model
    group.add_argument("--vocab-size", type=int, metavar="N", help="most words in the vocabulary (default: 30000)")
    group.add_argument("--min-frequency", type=int, metavar="N", help="least count of a word to keep (default: 3)")
