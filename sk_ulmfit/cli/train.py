"""``sk-ulmfit train``: train a classifier or a regressor on a table or a folder and save it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sk_ulmfit._messages import short, short_names
from sk_ulmfit.calibration import METHODS
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import check_text_option, load_labelled
from sk_ulmfit.cli.estimators import make_classifier, make_regressor
from sk_ulmfit.cli.files import check_input, check_output, language_model_file
from sk_ulmfit.cli.values import add_values, check_values_options, load_valued
from sk_ulmfit.datasets.loaders import load_table
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.models.state import check_target
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.thresholds import METRICS
from sk_ulmfit.training.settings import UNFREEZING


def add_options(command: argparse.ArgumentParser) -> None:
    shared.add_table(command, "with texts and labels")
    shared.add_text(command)
    shared.add_labels(command)
    add_values(command)
    command.set_defaults(delimiter=";")
    shared.add_out(command, "MODEL", "file to write the model to")
    command.add_argument("--unlabelled", type=Path, metavar="FILE", help="table with more texts for the language model")
    command.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="MODEL",
        help="saved model to go on from, with its parameters where no option sets another; new labels or values are "
        "added, and those that are missing here stay as they are",
    )
    shared.add_language_model(command)
    _add_training(command)
    _add_decisions(command)
    shared.add_precision(command, "training and prediction")
    shared.add_n_jobs(command, "tokenization, and for SVMs on large files")
    shared.add_seed(command, "model")
    shared.add_running(command)


def _add_training(command: argparse.ArgumentParser) -> None:
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    for name, text in (
        ("--lm-epochs", "epochs of the language model"),
        ("--max-epochs", "epochs of the classifier"),
        ("--batch-size", "maximum number of texts per batch"),
    ):
        command.add_argument(name, type=int, metavar="N", help=f"{text} (default: depends on the amount of data)")
    for name, default, text in (
        ("--lr", defaults["lr"], "maximum learning rate of the classifier"),
        ("--embedding-lr", defaults["embedding_lr"], "maximum learning rate of a pre-trained embedding"),
    ):
        command.add_argument(
            name, type=_rate, default=default, metavar="X", help=f"{text} (default: depends on the language model)"
        )
    command.add_argument(
        "--unfreezing",
        choices=UNFREEZING,
        default=defaults["unfreezing"],
        help="layers of a pre-trained encoder to train: one more in each epoch (gradual), all from the first epoch "
        "(at_once), or none but the head (head), on features that are computed once and take 5 kB of memory per text "
        "(default: auto, which chooses gradual or at_once by the number of texts)",
    )
    command.add_argument(
        "--direction",
        choices=(*DIRECTIONS, "both"),
        default=defaults["direction"],
        help="reading direction; both: average the probabilities of two networks (default: forward)",
    )
    command.add_argument("--no-tfidf", dest="tfidf", action="store_false", help="use the network without linear model")
    command.add_argument(
        "--pos-weight",
        type=_pos_weight,
        metavar="X",
        help="weight of the labels that a text has in the loss, or balanced: more recall of rare labels",
    )
    command.add_argument("--early-stopping", action="store_true", help="stop early, judged on held-out texts")


def _add_decisions(command: argparse.ArgumentParser) -> None:
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    command.add_argument(
        "--threshold",
        type=_threshold,
        default=defaults["threshold"],
        metavar="X",
        help="predict labels with at least this probability. Or tune one threshold per label, on predictions for texts "
        f"that were not learned from, for {', '.join(METRICS)} (of macro and micro F1 nearly the best) or a precision, "
        "such as precision=0.9. auto: tune if the language model has a vector of a text, so that no text is held out, "
        "else 0.5 (default: auto)",
    )
    command.add_argument("--top-k", type=int, metavar="N", help="predict the N most probable labels of each text")
    command.add_argument(
        "--at-least-one",
        action=argparse.BooleanOptionalAction,
        default=defaults["at_least_one"],
        help="predict at least one label per text (default: if thresholds are tuned for F1 and every text of the "
        "training has a label)",
    )
    command.add_argument("--calibration", choices=METHODS, help="calibrate the probabilities on held-out texts")


def _rate(text: str) -> float | str:
    return text if text == "auto" else _number(text, "a number")


def _pos_weight(text: str) -> float | str:
    return text if text == "balanced" else _number(text, "a number or balanced")


def _threshold(text: str) -> float | str | dict[str, float]:
    expected = f"a number, auto, {', '.join(METRICS)} or precision=NUMBER"
    if text in ("auto", *METRICS):
        return text
    if text.startswith("precision="):
        return {"precision": _number(text.removeprefix("precision="), expected)}
    return _number(text, expected)


def _number(text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {short(text)}") from None


def run(options: argparse.Namespace) -> Answer:
    check_input(options.file)
    if options.earlier is not None:
        check_input(options.earlier)
    out = check_output(options, options.file, options.unlabelled, options.labels_file, language_model_file(options))
    check_target(out)
    check_values_options(options)
    if options.values:
        return _train_regressor(options, out)
    table, columns = load_labelled(options)
    unlabelled = _unlabelled(options, columns["text"])
    clf = make_classifier(options, verbose=int(shows_progress(options)))
    start = time.perf_counter()
    clf.fit(table.texts, table.named_indicator(), unlabelled_texts=unlabelled)
    clf.save(out, metadata=columns)
    names, n_texts = clf.label_names_.tolist(), len(table.texts)
    data = {
        "model": str(options.out),
        "n_texts": n_texts,
        "labels": names,
        "thresholds": dict(zip(names, clf.thresholds_.tolist(), strict=True)),
        "history": clf.history_,
    }
    if clf.direction == "both":
        data["backward_history"] = clf.backward_history_
    data["seconds"] = round(time.perf_counter() - start, 1)
    return Answer(f"Trained on {n_texts} texts; labels: {short_names(names)}. The model is in {options.out}.", data)


def _train_regressor(options: argparse.Namespace, out: Path) -> Answer:
    model = make_regressor(options, verbose=int(shows_progress(options)))
    if not options.file.is_dir():
        check_text_option(options, open_table(options.file, options.encoding).columns)
    texts, y = load_valued(options, options.text or [], options.values)
    start = time.perf_counter()
    model.fit(texts, y, unlabelled_texts=_unlabelled(options, options.text))
    model.save(out, metadata={"text": options.text, "values": options.values})
    data = {"model": str(options.out), "n_texts": len(texts), "targets": options.values, "history": model.history_}
    if model.direction == "both":
        data["backward_history"] = model.backward_history_
    data["seconds"] = round(time.perf_counter() - start, 1)
    names = short_names(options.values)
    return Answer(f"Trained on {len(texts)} texts; values: {names}. The model is in {options.out}.", data)


def _unlabelled(options: argparse.Namespace, text: list[str]) -> list[str] | StreamedTexts | None:
    """Return the further texts for the language model, if any."""
    if not options.unlabelled:
        return None
    return load_table(options.unlabelled, text=text, stream=True, encoding=options.encoding).texts
