"""The options of each command of the command line, and what it runs."""

from __future__ import annotations

import argparse
from inspect import signature
from pathlib import Path
from typing import Any

from sk_ulmfit.calibration import METHODS
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import commands
from sk_ulmfit.datasets.loaders import BLANKS
from sk_ulmfit.explain.attribution import METHODS as METHODS_OF_EXPLAINING
from sk_ulmfit.language_model import ULMFiTLanguageModel
from sk_ulmfit.models.state import DIRECTIONS
from sk_ulmfit.nn.precision import PRECISIONS
from sk_ulmfit.pretraining import pretrain
from sk_ulmfit.thresholds import METRICS


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a command to its parser.

    Parameters
    ----------
    command : ArgumentParser
        Parser of the command.
    name : str
        Name of the command.
    """
    {
        "train": _train,
        "predict": _predict,
        "evaluate": _evaluate,
        "explain": _explain,
        "pretrain": _pretrain,
        "finetune": _finetune,
        "lr-find": _lr_find,
        "info": _info,
        "demo": _demo,
    }[name](command)
    command.set_defaults(run=getattr(commands, name.replace("-", "_")))


def _train(command: argparse.ArgumentParser) -> None:
    _add_table(command, "with texts and labels")
    command.add_argument("--text", action="append", metavar="COL", help="text column; may be repeated")
    _add_label_options(command, default=";")
    command.set_defaults(delimiter=";")
    command.add_argument("--out", type=Path, required=True, metavar="MODEL", help="file to write the model to")
    command.add_argument("--force", action="store_true", help="replace MODEL if it exists")
    command.add_argument("--unlabelled", type=Path, metavar="FILE", help="table with more texts for the language model")
    _add_language_model(command)
    for name, text in (
        ("--lm-epochs", "epochs of the language model"),
        ("--max-epochs", "epochs of the classifier"),
        ("--batch-size", "most texts of a batch"),
    ):
        command.add_argument(name, type=int, metavar="N", help=f"{text} (default: by the amount of data)")
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    for name, default, text in (
        ("--lr", defaults["lr"], "largest learning rate of the classifier"),
        ("--embedding-lr", defaults["embedding_lr"], "largest learning rate of a pre-trained embedding"),
    ):
        command.add_argument(name, type=float, default=default, metavar="X", help=f"{text} (default: {default:g})")
    command.add_argument(
        "--freeze-encoder",
        action="store_true",
        help="train the head alone, on features computed once, of which a text takes 5 kB of memory",
    )
    command.add_argument(
        "--direction",
        choices=(*DIRECTIONS, "both"),
        default=defaults["direction"],
        help="order in which texts are read; both: two networks, whose probabilities are averaged (default: forward)",
    )
    command.add_argument("--no-tfidf", dest="tfidf", action="store_false", help="let the network decide alone")
    command.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="arithmetic of training and prediction (default: auto)"
    )
    command.add_argument(
        "--threshold",
        type=_number_or("tune"),
        default=defaults["threshold"],
        metavar="X",
        help="probability from which a label is predicted, or tune: one for each label, chosen on texts held out "
        f"(default: {defaults['threshold']:g})",
    )
    command.add_argument(
        "--threshold-metric",
        type=_number_or(*METRICS),
        default=defaults["threshold_metric"],
        metavar="M",
        help=f"what to tune for: {', '.join(METRICS)}, or a precision (default: {defaults['threshold_metric']})",
    )
    command.add_argument("--top-k", type=int, metavar="N", help="predict the N most probable labels instead")
    command.add_argument("--at-least-one", action="store_true", help="leave no text without a label")
    command.add_argument(
        "--pos-weight",
        type=_number_or("balanced"),
        metavar="X",
        help="factor on the loss of the labels that a text has, or balanced: for more recall of rare labels",
    )
    command.add_argument(
        "--calibration", choices=METHODS, help="correct the probabilities on texts held out, so that they come true"
    )
    command.add_argument("--early-stopping", action="store_true", help="stop on a held-out part of the texts")
    command.add_argument(
        "--n-jobs", type=int, metavar="N", help="processes that tokenize and train SVMs on large files"
    )
    command.add_argument("--random-state", type=int, metavar="N", help="seed; the same seed gives the same model")
    _add_common(command)


def _predict(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    _add_table(command, "with the text columns of the training")
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="the table with labels added: .csv, .tsv or .jsonl, also .gz or .xz",
    )
    command.add_argument("--force", action="store_true", help="replace OUT if it exists")
    command.add_argument("--text", action="append", metavar="COL", help="text column (default: as in training)")
    command.add_argument("--delimiter", metavar="D", help="what separates predicted labels (default: as in training)")
    command.add_argument("--threshold", type=float, metavar="X", help="probability from which a label is predicted")
    _add_common(command)


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    _add_table(command, "with texts and true labels")
    command.add_argument("--text", action="append", metavar="COL", help="text column (default: as in training)")
    _add_label_options(command, default="as in training", blank="as in training")
    command.add_argument("--threshold", type=float, metavar="X", help="probability from which a label is predicted")
    _add_common(command)


def _explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    _add_table(command, "with the text columns of the training")
    command.add_argument("--out", type=Path, metavar="PAGE.html", help="page to write (default: plain text)")
    command.add_argument("--force", action="store_true", help="replace PAGE.html if it exists")
    command.add_argument("--text", action="append", metavar="COL", help="text column (default: as in training)")
    command.add_argument("--labels", nargs="+", metavar="LABEL", help="labels to explain (default: those predicted)")
    command.add_argument("--method", choices=METHODS_OF_EXPLAINING, default="gradient", help="(default: gradient)")
    command.add_argument("--limit", type=int, default=100, metavar="N", help="first texts of the table (default: 100)")
    command.add_argument("--threshold", type=float, metavar="X", help="probability from which a label is predicted")
    _add_common(command)


def _pretrain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "corpus",
        type=Path,
        metavar="CORPUS",
        help="text (documents separated by blank lines) or JSON lines, also .xz or .gz; a folder of such files; or the "
        "folder 'tokens' of an earlier run",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    command.add_argument("--epochs", type=float, metavar="X", help="passes over the corpus (default: 1)")
    command.add_argument("--hours", type=float, metavar="X", help="hours of training, instead of --epochs")
    parameters = signature(pretrain).parameters
    for name, of_type, text in (
        ("emb_dim", int, "width of the embedding"),
        ("hidden_dim", int, "width of the LSTM layers"),
        ("n_layers", int, "LSTM layers"),
        ("vocab_size", int, "most words (default: 30000)"),
        ("min_frequency", int, "rarer words become unknown (default: 3)"),
        ("language", str, "language code of the tokenizer (default: en)"),
        ("field", str, "field of a JSON line that holds the text"),
        ("lr", float, "largest learning rate"),
        ("batch_size", int, "text streams read side by side"),
        ("bptt", int, "tokens per window"),
        ("dropout_multiplier", float, "factor on the dropout rates"),
        ("validation_fraction", float, "share of the tokens that is held out"),
        ("checkpoint_minutes", float, "minutes between checkpoints"),
        ("seed", int, "source of all randomness"),
    ):
        default = parameters[name].default
        metavar = {str: "NAME", int: "N", float: "X"}[of_type]
        flag = "--random-state" if name == "seed" else "--" + name.replace("_", "-")
        text += "" if default is None else f" (default: {default})"
        command.add_argument(flag, dest=name, type=of_type, default=default, metavar=metavar, help=text)
    command.add_argument("--backward", action="store_true", help="read every document from its end")
    command.add_argument(
        "--precision", choices=PRECISIONS[:3], default="auto", help="arithmetic of the training (default: auto)"
    )
    command.add_argument("--n-jobs", type=int, metavar="N", help="processes that tokenize")
    _add_common(command)


def _finetune(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", type=Path, metavar="FILE", help="table with texts (then --text), or a corpus as pretrain takes it"
    )
    command.add_argument("--text", action="append", metavar="COL", help="text column; may be repeated")
    command.add_argument("--out", type=Path, required=True, metavar="MODEL", help="file to write the language model to")
    command.add_argument("--force", action="store_true", help="replace MODEL if it exists")
    _add_language_model(command)
    defaults = ULMFiTLanguageModel().get_params(deep=False)
    command.add_argument(
        "--max-epochs", type=int, metavar="N", help="passes over the texts (default: by the amount of text)"
    )
    for name, kind, text in (
        ("--lr", float, "largest learning rate"),
        ("--batch-size", int, "text streams read side by side"),
    ):
        default, metavar = defaults[name[2:].replace("-", "_")], "N" if kind is int else "X"
        command.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})")
    command.add_argument(
        "--direction",
        choices=DIRECTIONS,
        help="order in which texts are read (default: that of the model to start from)",
    )
    command.add_argument("--n-jobs", type=int, metavar="N", help="processes that tokenize")
    command.add_argument("--random-state", type=int, metavar="N", help="seed; the same seed gives the same model")
    _add_common(command)


def _lr_find(command: argparse.ArgumentParser) -> None:
    _add_table(command, "with texts, and labels for a classifier")
    command.add_argument("--text", action="append", metavar="COL", help="text column; may be repeated")
    _add_label_options(command, default=";")
    command.set_defaults(delimiter=";")
    command.add_argument("--out", type=Path, metavar="PICTURE", help="file to draw the curve to (.png, .svg, .pdf)")
    command.add_argument("--force", action="store_true", help="replace PICTURE if it exists")
    _add_language_model(command)
    command.add_argument("--n-steps", type=int, default=100, metavar="N", help="batches (default: 100)")
    command.add_argument("--batch-size", type=int, metavar="N", help="as in train or finetune")
    command.add_argument(
        "--direction",
        choices=(*DIRECTIONS, "both"),
        help="order in which texts are read, as in train or finetune; of both, the forward network is tried",
    )
    command.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="arithmetic of the training (default: auto)"
    )
    command.add_argument("--n-jobs", type=int, metavar="N", help="processes that tokenize")
    command.add_argument("--random-state", type=int, metavar="N", help="seed; the same seed gives the same curve")
    _add_common(command)


def _info(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="file of a classifier or a language model, or en-small")


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--random-state", type=int, default=0, metavar="N", help="seed (default: 0)")


def _number_or(*words: str) -> Any:
    """Give a parser of arguments that takes a number or one of some words."""

    def parse(text: str) -> float | str:
        try:
            return text if text in words else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number or {' or '.join(words)}, got {text!r}") from None

    return parse


def _add_table(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=f"table {what}: .csv with a header line, .tsv, .jsonl (one object a line) or .parquet, the first "
        "three also .gz or .xz; or a folder of .txt files",
    )


def _add_label_options(command: argparse.ArgumentParser, default: str, blank: str = BLANKS[0]) -> None:
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
        help="column with the names of all labels of a text; repeated, or as a pattern such as 'Label *': columns with "
        "one name, or none, each",
    )
    command.add_argument("--delimiter", metavar="D", help=f"separates names in the label column (default: {default})")
    command.add_argument(
        "--blank",
        choices=BLANKS,
        help=f"what an empty label cell says: no, or that nobody has looked (default: {blank})",
    )
    command.add_argument(
        "--labels-file",
        type=Path,
        metavar="FILE",
        help="for a folder: table with the path of a file in the first column, and its labels in the others; "
        "without it the folders in the folder are the labels",
    )


def _add_language_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--language-model",
        default="auto",
        metavar="NAME",
        help="language model to start from: en or en-small, which come along; the file of a saved one; none (from "
        "scratch); auto: the bundled one, from scratch if a size or another language is given (default: auto)",
    )
    command.add_argument("--language", metavar="CODE", help="language of the texts (default: en)")
    body = ULMFiTLanguageModel().get_params(deep=False)
    for name, text in (
        ("emb_dim", "width of the embedding"),
        ("hidden_dim", "width of the LSTM layers"),
        ("n_layers", "LSTM layers"),
    ):
        flag = "--" + name.replace("_", "-")
        command.add_argument(flag, type=int, metavar="N", help=f"{text}, from scratch (default: {body[name]})")


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="no progress, also on a terminal")
    command.add_argument("--device", default="auto", metavar="D", help="device of torch (default: auto)")
