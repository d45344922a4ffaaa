"""The command line: ``sk-ulmfit train | predict | evaluate | pretrain | demo``."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch

import sk_ulmfit
from sk_ulmfit import training
from sk_ulmfit.calibration import METHODS
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_table, write_table
from sk_ulmfit.demo import run_demo
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.metrics import multilabel_report
from sk_ulmfit.precision import PRECISIONS
from sk_ulmfit.pretraining import CHECKPOINT, MODEL
from sk_ulmfit.thresholds import METRICS, decide
from sk_ulmfit.weights import check_target

PREDICTED, PROBABILITY = "predicted_labels", "proba_"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0 well done, 2 wrong input (said in one line on stderr), 130 interrupted.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            options.run(options)
    except torch.OutOfMemoryError:
        way_out = "a smaller --batch-size" if options.command == "pretrain" else "--device cpu"
        print(f"sk-ulmfit {options.command}: the GPU has too little memory; pass {way_out}.", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"sk-ulmfit {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        what = "nothing was written"
        if options.command == "pretrain" and (options.out / CHECKPOINT).exists():
            what = f"the same command goes on from the checkpoint in {options.out}"
        print(f"sk-ulmfit {options.command}: interrupted; {what}.", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    print(f"sk-ulmfit: note: {message}", file=sys.stderr)


def train(options: argparse.Namespace) -> None:
    """Train a classifier on a table and save it."""
    check_target(options.out)
    _check_output(options.out, options.file, options.force)
    table = load_table(
        options.file,
        text=options.text,
        labels=options.labels,
        label_column=options.label_column,
        delimiter=options.delimiter,
    )
    if not table.label_names:
        raise ValueError(f"{options.file}: no row has a label in column {options.label_column!r}.")
    more = load_table(options.unlabelled, text=options.text).texts if options.unlabelled else None
    progress = int(sys.stderr.isatty() and not options.quiet)
    language_model: Any = options.language_model
    body = {name: getattr(options, name) for name in ("language", *SIZES)}
    given = {name: value for name, value in body.items() if value is not None}
    if language_model in ("auto", "none"):
        shared = {"device": options.device, "n_jobs": options.n_jobs, "verbose": progress}
        lm_precision = "auto" if options.precision == "int8" else options.precision
        start = None if language_model == "none" else "auto"
        language_model = ULMFiTLanguageModel(start, **given, **shared, precision=lm_precision)
    elif given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise ValueError(f"{flag} goes with a model from scratch; the saved language model has its own.")
    clf = ULMFiTMultiLabelClassifier(
        language_model,
        lm_epochs=options.lm_epochs,
        max_epochs=options.max_epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        freeze_encoder=options.freeze_encoder,
        tfidf=options.tfidf,
        calibration=options.calibration,
        early_stopping=options.early_stopping,
        pos_weight=options.pos_weight,
        precision=options.precision,
        threshold=options.threshold,
        threshold_metric=options.threshold_metric,
        top_k=options.top_k,
        at_least_one=options.at_least_one,
        device=options.device,
        n_jobs=options.n_jobs,
        random_state=options.random_state,
        verbose=progress,
    )
    clf.fit(table.texts, table.named_indicator(), unlabelled_texts=more)
    columns = {"text": options.text, "labels": options.labels, "label_column": options.label_column}
    clf.save(options.out, metadata={**columns, "delimiter": options.delimiter})
    print(f"Trained on {len(table.texts)} texts; labels: {_some(table.label_names)}. The model is in {options.out}.")


def predict(options: argparse.Namespace) -> None:
    """Add predicted labels and probabilities to a table."""
    out = _check_output(options.out, options.file, options.force)
    clf = ULMFiTMultiLabelClassifier.load(options.model, device=options.device)
    _set_threshold(clf, options.threshold)
    table = load_table(options.file, text=_text_columns(clf, options))
    proba = clf.predict_proba(table.texts)
    chosen = decide(proba, clf.thresholds_, top_k=clf.top_k, at_least_one=clf.at_least_one)
    names = [str(name) for name in clf.label_names_]
    delimiter = options.delimiter or clf.metadata_.get("delimiter") or ";"
    added = [PREDICTED, *(PROBABILITY + name for name in names)]
    rows = (
        {
            **row,
            PREDICTED: delimiter.join(name for name, yes in zip(names, decided, strict=True) if yes),
            **{PROBABILITY + name: f"{p:.6f}" for name, p in zip(names, p_row, strict=True)},
        }
        for row, decided, p_row in zip(table.rows, chosen, proba, strict=True)
    )
    write_table(out, [*(c for c in table.columns if c not in added), *added], rows)
    print(f"Predicted {len(table.texts)} texts, {chosen.sum() / len(chosen):.2f} labels each; written to {out}.")


def evaluate(options: argparse.Namespace) -> None:
    """Score a model on a table with true labels."""
    clf = ULMFiTMultiLabelClassifier.load(options.model, device=options.device)
    _set_threshold(clf, options.threshold)
    notes = clf.metadata_
    labels, label_column = options.labels, options.label_column
    if not labels and not label_column:
        labels, label_column = notes.get("labels"), notes.get("label_column")
    if not labels and not label_column:
        raise ValueError("Name the true labels with --labels or --label-column.")
    table = load_table(
        options.file,
        text=_text_columns(clf, options),
        labels=labels,
        label_column=label_column,
        delimiter=options.delimiter or notes.get("delimiter") or ";",
    )
    known = [str(name) for name in clf.label_names_]
    scored = known if label_column else [name for name in known if name in table.label_names]
    unknown = sorted(set(table.label_names) - set(known))
    if len(unknown) == len(table.label_names):
        raise ValueError(
            f"{options.file} has none of the model's labels ({_some(known)}), but {_some(unknown) or 'none at all'}. "
            "Check --labels, --label-column and --delimiter."
        )
    for names, why in ((unknown, "unknown to the model"), (sorted(set(known) - set(scored)), "not in the file")):
        if names:
            print(f"sk-ulmfit: note: {len(names)} labels left out, {why}: {_some(names)}", file=sys.stderr)
    columns = [known.index(name) for name in scored]
    y, proba = table.indicator(scored), clf.predict_proba(table.texts)
    decided = decide(proba, clf.thresholds_, top_k=clf.top_k, at_least_one=clf.at_least_one)[:, columns]
    print(multilabel_report(y, decided, proba[:, columns], label_names=scored))
    print(f"all labels right: {(y == decided).all(axis=1).mean():.3f} of {len(y)} texts")


def pretrain(options: argparse.Namespace) -> None:
    """Pre-train a language model on a corpus."""
    names = [name for name in signature(training.pretrain).parameters if name not in ("corpus", "out", "say")]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    try:
        state = training.pretrain(options.corpus, options.out, say=None if options.quiet else _say_progress, **given)
    finally:
        if not options.quiet and sys.stderr.isatty():
            print(file=sys.stderr)
    sizes = "/".join(str(state.config[name]) for name in SIZES)
    if "valid_loss" in state.history[-1]:
        print(f"Perplexity on held-out documents: {math.exp(state.history[-1]['valid_loss']):.2f}.")
    print(f"The language model ({sizes}, {len(state.vocabulary)} words) is in {options.out / MODEL}.")


def _say_progress(line: str) -> None:
    """Write a line of progress: over the one before on a terminal, below it elsewhere."""
    if sys.stderr.isatty():
        print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def demo(options: argparse.Namespace) -> None:
    """Train and score on the messages that come with the package."""
    run_demo(verbose=int(sys.stderr.isatty()), seed=options.random_state)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def _text_columns(clf: ULMFiTMultiLabelClassifier, options: argparse.Namespace) -> list[str]:
    columns = options.text or clf.metadata_.get("text")
    if not columns:
        raise ValueError(f"{options.model} was not trained on this command line; name the text column with --text.")
    return [columns] if isinstance(columns, str) else list(columns)


def _set_threshold(clf: ULMFiTMultiLabelClassifier, threshold: float | None) -> None:
    if threshold is not None:
        clf.set_thresholds(threshold).set_params(top_k=None)  # asked for on the command line, it decides


def _check_output(out: Path, source: Path, force: bool) -> Path:
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the input file; give another name to --out.")
    if out.is_dir() or not out.parent.is_dir():
        why = "it is a folder" if out.is_dir() else "its folder does not exist"
        raise ValueError(f"{out} cannot be written: {why}.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"{out} cannot be written: its folder is read-only.")
    if out.exists() and not force:
        raise ValueError(f"{out} exists and is left alone; pass --force to replace it.")
    return out


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sk-ulmfit", description="Multi-label text classification with ULMFiT.")
    parser.add_argument("--version", action="version", version=f"sk-ulmfit {sk_ulmfit.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Any, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    command = add(
        "train",
        train,
        "Train a classifier on a CSV file and save it.",
        "sk-ulmfit train mail.csv --text subject --text body --label-column topics --delimiter ';' --out mail.model",
    )
    command.add_argument("file", type=Path, metavar="FILE.csv", help="UTF-8 table with a header line (.tsv: tabs)")
    command.add_argument("--text", action="append", required=True, metavar="COL", help="text column; may be repeated")
    _add_label_options(command, required=True, default=";")
    command.set_defaults(delimiter=";")
    command.add_argument("--out", type=Path, required=True, metavar="MODEL", help="file to write the model to")
    command.add_argument("--force", action="store_true", help="replace MODEL if it exists")
    command.add_argument("--unlabelled", type=Path, metavar="FILE.csv", help="more texts for the language model")
    command.add_argument(
        "--language-model",
        default="auto",
        metavar="NAME",
        help="language model to start from: en or en-small, which come along; the file of a saved one; none (from "
        "scratch); auto: the bundled one, from scratch if a size or another language is given (default: auto)",
    )
    command.add_argument("--language", metavar="CODE", help="language of the texts (default: en)")
    command.add_argument("--lm-epochs", type=int, metavar="N", help="epochs of the language model")
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    body = ULMFiTLanguageModel().get_params(deep=False)
    for name, kind, default, text in (
        ("--max-epochs", int, defaults["max_epochs"], "epochs of the classifier"),
        ("--lr", float, defaults["lr"], "largest learning rate of the classifier"),
        ("--batch-size", int, defaults["batch_size"], "most texts of a batch"),
    ):
        metavar = "N" if kind is int else "X"
        command.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})")
    for name, text in (
        ("emb_dim", "width of the embedding"),
        ("hidden_dim", "width of the LSTM layers"),
        ("n_layers", "LSTM layers"),
    ):
        flag = "--" + name.replace("_", "-")
        command.add_argument(flag, type=int, metavar="N", help=f"{text}, from scratch (default: {body[name]})")
    command.add_argument(
        "--freeze-encoder", action="store_true", help="train the head alone, on features computed once"
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
    command.add_argument("--quiet", action="store_true", help="no progress bars")
    _add_device(command)

    command = add(
        "predict",
        predict,
        "Predict the labels of the texts in a CSV file.",
        "sk-ulmfit predict mail.model new.csv --out labelled.csv",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    command.add_argument("file", type=Path, metavar="FILE.csv", help="table with the text columns of the training")
    command.add_argument("--out", type=Path, required=True, metavar="OUT.csv", help="the table with labels added")
    command.add_argument("--force", action="store_true", help="replace OUT.csv if it exists")
    command.add_argument("--text", action="append", metavar="COL", help="text column (default: as in training)")
    command.add_argument("--delimiter", metavar="D", help="what separates predicted labels (default: as in training)")
    command.add_argument("--threshold", type=float, metavar="X", help="probability from which a label is predicted")
    _add_device(command)

    command = add(
        "evaluate",
        evaluate,
        "Score a model on a CSV file with true labels.",
        "sk-ulmfit evaluate mail.model held_out.csv",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    command.add_argument("file", type=Path, metavar="FILE.csv", help="table with texts and true labels")
    command.add_argument("--text", action="append", metavar="COL", help="text column (default: as in training)")
    _add_label_options(command, required=False, default="as in training")
    command.add_argument("--threshold", type=float, metavar="X", help="probability from which a label is predicted")
    _add_device(command)

    command = add(
        "pretrain",
        pretrain,
        "Train a language model on a large corpus; broken off, the same command goes on.",
        "sk-ulmfit pretrain articles.jsonl.xz --out run --hours 8",
    )
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
    parameters = signature(training.pretrain).parameters
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
    command.add_argument("--quiet", action="store_true", help="no lines of progress")
    _add_device(command)

    command = add("demo", demo, "Train and score on a small data set that comes along, in minutes.", "sk-ulmfit demo")
    command.add_argument("--random-state", type=int, default=0, metavar="N", help="seed (default: 0)")
    return parser


def _number_or(*words: str) -> Any:
    """Give a parser of arguments that takes a number or one of some words."""

    def parse(text: str) -> float | str:
        try:
            return text if text in words else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a number or {' or '.join(words)}, got {text!r}") from None

    return parse


def _add_label_options(command: argparse.ArgumentParser, required: bool, default: str) -> None:
    more = "" if required else " (default: as in training)"
    group = command.add_mutually_exclusive_group(required=required)
    group.add_argument("--labels", nargs="+", metavar="COL", help=f"columns of 0 and 1, one per label{more}")
    group.add_argument("--label-column", metavar="COL", help=f"column with the names of all labels of a text{more}")
    command.add_argument("--delimiter", metavar="D", help=f"separates names in the label column (default: {default})")


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", metavar="D", help="device of torch (default: auto)")
