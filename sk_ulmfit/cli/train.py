"""``sk-ulmfit train``: train a classifier or a regressor on a table or a folder and save it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import count, short, short_names
from sk_ulmfit.calibration import METHODS
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import check_text_option, load_labelled
from sk_ulmfit.cli.estimators import make_classifier, make_regressor
from sk_ulmfit.cli.files import check_input, check_output, language_model_file
from sk_ulmfit.cli.processes import is_first
from sk_ulmfit.cli.similar_labels import note_rare_labels
from sk_ulmfit.cli.values import add_values, check_values_options, load_valued
from sk_ulmfit.datasets.loaders import load_table
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.models.state import check_target
from sk_ulmfit.text.streams import StreamedTexts, chained
from sk_ulmfit.text.unknown_words import warn_of_empty_texts
from sk_ulmfit.thresholds import METRICS
from sk_ulmfit.training.settings import UNFREEZING


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_table(command, "with texts and labels")
    shared.add_text(groups.everyday)
    shared.add_encoding(groups.data)
    _add_unlabelled(groups.data)
    shared.add_labels(groups)
    add_values(groups.everyday)
    command.set_defaults(delimiter=";")
    shared.add_out(groups.everyday, "MODEL", "file to write the model to")
    shared.add_language_model(groups.everyday)
    _add_threshold(groups.everyday)
    shared.add_direction(groups.everyday, both="average the predictions of two networks, in twice the time")
    _add_epochs(groups.everyday)
    _add_start(groups.everyday)
    shared.add_device(groups.everyday)
    shared.add_seed(groups.everyday, "model")
    shared.add_language(groups.language_model)
    shared.add_sizes(groups.language_model)
    _add_training(groups)
    _add_decisions(groups.decisions)
    shared.add_precision(groups.machine, "training and prediction")
    shared.add_n_jobs(groups.machine, "tokenization of large files, and for SVMs")
    shared.add_quiet(groups.machine)


def _add_unlabelled(group: Any) -> None:
    group.add_argument(
        "--unlabelled",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="tables with more texts, for the language model alone",
    )


def _add_start(group: Any) -> None:
    group.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="MODEL",
        help="saved model to go on from: its parameters stay unless an option sets them, labels or values that are new "
        "here are added, and those that are missing here stay as they are",
    )


def _add_threshold(group: Any) -> None:
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    group.add_argument(
        "--threshold",
        type=_threshold,
        default=defaults["threshold"],
        metavar="X",
        help="a number: predict labels with at least this probability. Or choose a threshold for each label, on texts "
        f"that were not learned from: for the best F1 ({', '.join(METRICS[:-1])}), for nearly the best macro and micro "
        "F1 (tune), or for a precision (precision=0.9). auto: tune if no text has to be held out for it, else 0.5 "
        "(default: auto)",
    )
    group.add_argument(
        "--at-least-one",
        action=argparse.BooleanOptionalAction,
        default=defaults["at_least_one"],
        help="predict at least one label for each text (default: only if thresholds are chosen for F1 and every "
        "training text has a label)",
    )


def _add_epochs(group: Any) -> None:
    group.add_argument(
        "--unfreezing",
        choices=UNFREEZING,
        default=ULMFiTMultiLabelClassifier().unfreezing,
        help="layers of a pre-trained encoder to train: one more in each epoch (gradual), all from the first epoch "
        "(at_once), or none below the head, which takes seconds (head); auto chooses by the language model and the "
        "number of texts (default: auto)",
    )
    group.add_argument(
        "--max-epochs",
        type=int,
        metavar="N",
        help="epochs of the classifier or regressor (default: depends on the number of texts)",
    )


def _add_training(groups: shared.Groups) -> None:
    defaults = ULMFiTMultiLabelClassifier().get_params(deep=False)
    groups.language_model.add_argument(
        "--lm-epochs",
        type=int,
        metavar="N",
        help="epochs of the language model (default: depends on the amount of text)",
    )
    groups.training.add_argument(
        "--batch-size", type=int, metavar="N", help="most texts in a batch (default: depends on the number of texts)"
    )
    for name, text in (("lr", "maximum learning rate"), ("embedding_lr", "that of a pre-trained embedding")):
        groups.training.add_argument(
            "--" + name.replace("_", "-"),
            type=_rate,
            default=defaults[name],
            metavar="X",
            help=f"{text} (default: depends on the language model)",
        )
    groups.training.add_argument(
        "--pos-weight",
        type=_pos_weight,
        metavar="X",
        help="weight of the labels that a text has in the loss, or balanced; more than 1 finds more of a rare label",
    )
    groups.training.add_argument(
        "--early-stopping", action="store_true", help="stop when the loss on held-out texts no longer falls"
    )
    groups.linear_model.add_argument(
        "--no-tfidf", dest="tfidf", action="store_false", help="use the network alone, without the linear model"
    )


def _add_decisions(group: Any) -> None:
    group.add_argument(
        "--top-k", type=int, metavar="N", help="predict the N most probable labels of each text (default: by threshold)"
    )
    group.add_argument(
        "--calibration",
        choices=METHODS,
        help="calibrate the probabilities on predictions for texts that were not learned from (default: none)",
    )


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
    others = [*(options.unlabelled or []), options.labels_file, language_model_file(options)]
    out = check_output(options, options.file, *others)
    check_target(out)
    check_values_options(options)
    if options.values:
        return _train_regressor(options, out)
    table, columns = load_labelled(options)
    if is_first():
        note_rare_labels(table)
    _warn_of_empty_texts(table.texts)
    unlabelled = _unlabelled(options, columns["text"])
    clf = make_classifier(options, verbose=int(shows_progress(options)))
    start = time.perf_counter()
    clf.fit(table.texts, table.named_indicator(), unlabelled_texts=unlabelled)
    if is_first():
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
    text = f"Trained on {count(n_texts, 'text')} with {count(len(names), 'label')}: {short_names(names)}."
    return Answer(f"{text} The model is in {options.out}.", data)


def _train_regressor(options: argparse.Namespace, out: Path) -> Answer:
    model = make_regressor(options, verbose=int(shows_progress(options)))
    if not options.file.is_dir():
        check_text_option(options, open_table(options.file, options.encoding).columns)
    texts, y = load_valued(options, options.text or [], options.values)
    _warn_of_empty_texts(texts)
    start = time.perf_counter()
    model.fit(texts, y, unlabelled_texts=_unlabelled(options, options.text))
    if is_first():
        model.save(out, metadata={"text": options.text, "values": options.values})
    data = {"model": str(options.out), "n_texts": len(texts), "targets": options.values, "history": model.history_}
    if model.direction == "both":
        data["backward_history"] = model.backward_history_
    data["seconds"] = round(time.perf_counter() - start, 1)
    names = short_names(options.values)
    text = f"Trained on {count(len(texts), 'text')} with the values {names}."
    return Answer(f"{text} The model is in {options.out}.", data)


def _warn_of_empty_texts(texts: list[str] | StreamedTexts) -> None:
    """Warn of empty texts in a stream, in which `fit` does not look for them."""
    if is_first() and isinstance(texts, StreamedTexts):
        warn_of_empty_texts(texts)


def _unlabelled(options: argparse.Namespace, text: list[str]) -> list[str] | StreamedTexts | None:
    """Return the further texts for the language model, if any."""
    if not options.unlabelled:
        return None
    texts: list[str] | StreamedTexts = []
    for file in options.unlabelled:
        texts = chained(texts, load_table(file, text=text, stream=True, encoding=options.encoding).texts)
    return texts
