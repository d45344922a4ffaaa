"""What each command of the command line does: options in, an answer out."""

from __future__ import annotations

import argparse
import fnmatch
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sk_ulmfit import lr_finder, pretraining
from sk_ulmfit._files import atomic_write, writable_target
from sk_ulmfit._validation import check_number
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.demo import run_demo
from sk_ulmfit.datasets.loaders import BLANKS, TextTable, load_folders, load_table
from sk_ulmfit.datasets.tables import (
    DELIMITED,
    JSON_LINES,
    PARQUET,
    Row,
    check_writable,
    file_type,
    open_table,
    text_of_row,
    write_table,
)
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.metrics import multilabel_report
from sk_ulmfit.models.bundled import LANGUAGES, model_file
from sk_ulmfit.models.state import DIRECTIONS, check_target, load_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.plotting import LearningRateDisplay
from sk_ulmfit.pretraining import MODEL
from sk_ulmfit.text.documents import read_documents
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.thresholds import decide

PREDICTED, PROBABILITY = "predicted_labels", "proba_"
ROWS_AT_ONCE, CHARACTERS_AT_ONCE = 20_000, 2_000_000  # that `predict` holds in memory


@dataclass
class Answer:
    """What a command has to say; one form may be empty where the other is asked for.

    Parameters
    ----------
    text : str
        For people.
    data : dict
        The same for programs; only what JSON can hold.
    """

    text: str
    data: dict[str, Any]


def train(options: argparse.Namespace) -> Answer:
    """Train a classifier on a table or a folder and save it."""
    check_input(options.file)
    out = check_output(options, options.file, options.unlabelled, options.labels_file, _lm_file(options))
    check_target(out)
    table, columns = _labelled(options)
    more = load_table(options.unlabelled, text=columns["text"], stream=True).texts if options.unlabelled else None
    clf = _classifier(options, _progress(options))
    start = time.perf_counter()
    clf.fit(table.texts, table.named_indicator(), unlabelled_texts=more)
    clf.save(out, metadata=columns)
    names, n_texts = list(table.label_names), len(table.texts)
    return Answer(
        f"Trained on {n_texts} texts; labels: {_some(names)}. The model is in {options.out}.",
        {
            "model": str(options.out),
            "n_texts": n_texts,
            "labels": names,
            "thresholds": dict(zip(names, clf.thresholds_.tolist(), strict=True)),
            "history": clf.history_,
            **({"backward_history": clf.backward_history_} if clf.direction == "both" else {}),
            "seconds": round(time.perf_counter() - start, 1),
        },
    )


def predict(options: argparse.Namespace) -> Answer:
    """Add predicted labels and probabilities to a table, some rows at a time."""
    check_input(options.model)
    check_input(options.file)
    check_writable(options.out)
    out = check_output(options, options.file, options.model)
    clf = _loaded(options)
    columns = _text_columns(clf, options)
    reader = open_table(options.file)
    reader.check_columns(columns)
    names = [str(name) for name in clf.label_names_]
    delimiter = options.delimiter or clf.metadata_.get("delimiter") or ";"
    added = [PREDICTED, *(PROBABILITY + name for name in names)]
    is_json = file_type(out) in JSON_LINES
    as_list = is_json or any(delimiter in name or name.startswith("[") or name != name.strip() for name in names)
    n_texts = n_labels = 0

    def rows() -> Iterator[Row]:
        nonlocal n_texts, n_labels
        for batch, texts in _batches(reader.rows, columns, reader.name):
            proba = clf.predict_proba(texts)
            chosen = decide(proba, clf.thresholds_, top_k=clf.top_k, at_least_one=clf.at_least_one)
            n_texts += len(batch)
            n_labels += int(chosen.sum())
            for row, decided, p_row in zip(batch, chosen, proba, strict=True):
                found = [name for name, yes in zip(names, decided, strict=True) if yes]
                of_label = zip(names, p_row, strict=True)
                yield {
                    **{key: cell for key, cell in row.items() if key not in added},
                    PREDICTED: found if as_list else delimiter.join(found),
                    **{PROBABILITY + name: round(float(p), 6) if is_json else f"{p:.6f}" for name, p in of_label},
                }
        if not n_texts:
            raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")

    shown = rows()
    if _progress(options):
        from tqdm import tqdm

        shown = tqdm(shown, desc="predict", unit=" texts")
    write_table(out, [*(column for column in reader.columns if column not in added), *added], shown)
    mean = n_labels / n_texts
    return Answer(
        f"Predicted {n_texts} texts, {mean:.2f} labels each; written to {out}.",
        {"out": str(out), "n_texts": n_texts, "labels_per_text": round(mean, 4)},
    )


def evaluate(options: argparse.Namespace) -> Answer:
    """Score a model on a table or a folder with true labels."""
    clf = _loaded(options)
    table = _true_labels(clf, options)
    known = [str(name) for name in clf.label_names_]
    unknown = sorted(set(table.label_names) - set(known))
    if len(unknown) == len(table.label_names):
        raise ValueError(
            f"{options.file} has none of the model's labels ({_some(known)}), but {_some(unknown) or 'none at all'}. "
            "Check --labels, --label-column and --delimiter."
        )
    by_column = bool(options.labels or (not options.label_column and clf.metadata_.get("labels")))
    scored = [name for name in known if name in table.label_names] if by_column else known
    for names, why in ((unknown, "unknown to the model"), (sorted(set(known) - set(scored)), "not in the file")):
        if names:
            print(f"sk-ulmfit: note: {len(names)} labels left out, {why}: {_some(names)}", file=sys.stderr)
    columns = [known.index(name) for name in scored]
    y, proba = table.indicator(scored), clf.predict_proba(table.texts)
    decided = decide(proba, clf.thresholds_, top_k=clf.top_k, at_least_one=clf.at_least_one)[:, columns]
    report = multilabel_report(y, decided, proba[:, columns], label_names=scored, output_dict=options.json)
    known_rows = ~np.isnan(y).all(axis=1)
    n_texts = int(known_rows.sum())
    right = float(((y == decided) | np.isnan(y))[known_rows].all(axis=1).mean()) if n_texts else 0.0
    if options.json:
        return Answer("", {"n_texts": n_texts, "all_labels_right": right, **report})
    return Answer(f"{report}\nall labels right: {right:.3f} of {n_texts} texts", {})


def explain(options: argparse.Namespace) -> Answer:
    """Tell which words drove the labels of the first texts of a table or a folder."""
    if options.out:
        out = check_output(options, options.file, options.model)
    check_number("--limit", options.limit, low=1, integer=True)
    clf = _loaded(options)
    columns = _text_columns(clf, options)
    reader = open_table(options.file)
    reader.check_columns(columns)
    rows = islice(reader.rows, options.limit)
    texts = [text_of_row(row, columns, f"{reader.name}, {place}") for place, row in rows]
    if not texts:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    by_name = {str(name): name for name in clf.label_names_}
    labels = [by_name.get(label, label) for label in options.labels] if options.labels else None
    found = clf.explain(texts, labels, method=options.method)
    data = [
        {
            "text": item.text,
            "labels": {
                str(label): {
                    "probability": float(item.proba[k]),
                    "threshold": float(item.thresholds[k]),
                    "words": [
                        {"word": word, "begin": begin, "end": end, "score": score}
                        for word, (begin, end), score in zip(
                            item.words, item.spans.tolist(), item.scores[:, k].tolist(), strict=True
                        )
                    ],
                }
                for k, label in enumerate(item.labels)
            },
        }
        for item in found
    ]
    text = "\n\n".join(map(str, found))
    if options.out:
        found.save_html(out)
        text = f"Explained {len(texts)} texts; open {options.out} in a browser."
    return Answer(text, {"n_texts": len(texts), "method": options.method, "texts": data})


def finetune(options: argparse.Namespace) -> Answer:
    """Fine-tune a language model on texts and save it."""
    check_input(options.file)
    out = check_output(options, options.file, _lm_file(options))
    check_target(out)
    texts = _texts(options)
    model = _language_model(options)
    model.fit(texts).save(out)
    config, n_words = model.state_.config, len(model.vocabulary_)
    loss = f"; training loss {model.history_[-1]['train_loss']:.3f} a token" if model.history_ else ""
    return Answer(
        f"Read {len(texts)} texts, {n_words} words{loss}. The language model is in "
        f"{options.out}; pass it to train --language-model.",
        {
            "model": str(options.out),
            "n_texts": len(texts),
            "n_words": n_words,
            "sizes": {name: config[name] for name in SIZES},
            "started_from": model.pretrained_,
            "history": model.history_,
        },
    )


def pretrain(options: argparse.Namespace) -> Answer:
    """Pre-train a language model on a corpus."""
    names = [name for name in signature(pretraining.pretrain).parameters if name not in ("corpus", "out", "say")]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    say = _say_progress if _progress(options) else None
    try:
        state = pretraining.pretrain(options.corpus, options.out, say=say, **given)
    finally:
        if say:
            print(file=sys.stderr)
    sizes = {name: state.config[name] for name in SIZES}
    file = options.out / MODEL
    text = f"The language model ({'/'.join(map(str, sizes.values()))}, {len(state.vocabulary)} words) is in {file}."
    data: dict[str, Any] = {"model": str(file), "n_words": len(state.vocabulary), "sizes": sizes}
    if "valid_loss" in state.history[-1]:
        data["perplexity"] = math.exp(state.history[-1]["valid_loss"])
        text = f"Perplexity on held-out documents: {data['perplexity']:.2f}.\n{text}"
    return Answer(text, data)


def lr_find(options: argparse.Namespace) -> Answer:
    """Look for a learning rate of a classifier or, without labels, of a language model."""
    if options.out:
        out = check_output(options, options.file, _lm_file(options))
        check_picture(out)
    model: Any
    if options.file.is_dir() or options.labels or options.label_column:
        table, _ = _labelled(options)
        texts, y, model = table.texts, table.named_indicator(), _classifier(options, 0)
    else:
        texts, y, model = _texts(options), None, _language_model(options)
    curve = lr_finder.lr_find(model, texts, y, n_steps=options.n_steps)
    name = "classifier" if y is not None else "language model"
    text = "No learning rate is suggested."
    if curve.suggestion is not None:
        flags = " ".join(f"--{key.replace('_', '-')} {value:.2g}" for key, value in curve.parameters.items())
        text = f"Suggestion for the {name}: {flags}."
    if options.out:
        drawn: Any = LearningRateDisplay(curve).plot()
        with atomic_write(out) as file:
            drawn.figure_.savefig(file, format=out.suffix[1:].lower(), dpi=150, bbox_inches="tight")
        text += f" The curve is in {options.out}."
    return Answer(
        text,
        {
            "suggestion": curve.suggestion,
            "parameters": curve.parameters,
            "learning_rates": curve.learning_rates.tolist(),
            "losses": curve.losses.tolist(),
            "smoothed_losses": curve.smoothed_losses.tolist(),
        },
    )


def info(options: argparse.Namespace) -> Answer:
    """Describe a saved model."""
    path = model_file(options.model, resolve_device("cpu"))
    state = load_state(path, None)
    kind = state.kind
    config = state.config
    data: dict[str, Any] = {
        "file": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "kind": kind,
        "language": config["language"],
        "direction": config.get("direction", "forward"),
        **{name: config[name] for name in SIZES},
        "n_words": len(state.vocabulary),
        "epochs": len(state.history),
    }
    if kind == "classifier":
        names = [str(name) for name in config["label_names"]]
        clf = ULMFiTMultiLabelClassifier.load(path, device="cpu")
        data |= {
            "labels": names,
            "thresholds": dict(zip(names, clf.thresholds_.tolist(), strict=True)),
            "decides_with_words": any(key.startswith("tfidf.") for key in state.weights),
            "calibrated": "calibration" in config,
            "trained_with": _changed(ULMFiTMultiLabelClassifier(), config["params"]),
            "metadata": config["metadata"],
        }
    histories = {"history": state.history}
    if "backward" in config:
        histories["backward_history"] = config["backward"]["history"]
    lines = []
    for key, value in data.items():
        pairs = value.items() if isinstance(value, dict) else ()
        items = [f"{name}={_shown(item)}" for name, item in pairs if item is not None]
        first, *others = items or [_shown(value)]
        lines += [f"{key.replace('_', ' '):<20}{first}", *(f"{'':<20}{item}" for item in others)]
    return Answer("\n".join(lines), {**data, **histories})


def demo(options: argparse.Namespace) -> Answer:
    """Train and score on the messages that come with the package."""
    say: Callable[[str], None] = _say_nothing if options.json else print
    figures = run_demo(say, verbose=int(sys.stderr.isatty()), seed=options.random_state)
    return Answer("", figures)


def check_input(path: Path) -> None:
    """Raise ValueError if there is no such file or folder."""
    if not path.exists():
        raise ValueError(f"There is no file {path}.")


def check_output(options: argparse.Namespace, *sources: Path | None) -> Path:
    """Raise ValueError where a file cannot or must not be written.

    Parameters
    ----------
    options : Namespace
        ``out``, the file to write, and ``force``, whether one that exists may be replaced.
    *sources : Path or None
        Files that are read, none of which may be written.

    Returns
    -------
    Path
        The file to write; that which a link leads to.
    """
    out: Path = options.out
    if out.exists() and any(source is not None and source.exists() and out.samefile(source) for source in sources):
        raise ValueError(f"{out} is an input file; give another name to --out.")
    out = writable_target(out)
    if not out.parent.is_dir():
        raise ValueError(f"{options.out} cannot be written: its folder does not exist.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"{options.out} cannot be written: its folder is read-only.")
    if out.exists() and not options.force:
        raise ValueError(f"{options.out} exists and is left alone; pass --force to replace it.")
    return out


def _lm_file(options: argparse.Namespace) -> Path | None:
    return None if options.language_model in ("auto", "none", *LANGUAGES) else Path(options.language_model)


def check_picture(out: Path) -> None:
    """Raise ValueError where a picture cannot be drawn."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ValueError(
            "A picture needs matplotlib; install it (pip install matplotlib), or leave out --out."
        ) from None
    types = FigureCanvasBase.get_supported_filetypes()
    if out.suffix[1:].lower() not in types:
        raise ValueError(f"{out} is no picture; end its name in .png, .svg or .pdf.")


def _labelled(options: argparse.Namespace) -> tuple[TextTable, dict[str, Any]]:
    """Give texts with labels, and how they stood in their table, to be kept with the model."""
    if options.file.is_dir():
        if options.text or (not options.labels_file and (options.labels or options.label_column)):
            raise ValueError(
                f"{options.file} is a folder, whose subfolders are the labels; leave out --text, --labels and "
                "--label-column, or list the files in a table and pass it with --labels-file."
            )
        return _folders(options), {"text": ["text"], "delimiter": options.delimiter, "blank": options.blank}
    if options.labels_file:
        raise ValueError(f"--labels-file goes with a folder of texts, and {options.file} is a file.")
    there = open_table(options.file).columns
    if not options.text:
        raise ValueError(f"Name the text column with --text; the columns are {_some(there)}.")
    options.labels, options.label_column = (_matching(names, there) for names in (options.labels, options.label_column))
    if not options.labels and not options.label_column:
        raise ValueError("Name the labels with --labels (columns of 0 and 1) or --label-column (columns of names).")
    table = load_table(
        options.file,
        text=options.text,
        labels=options.labels,
        label_column=options.label_column,
        delimiter=options.delimiter,
        blank=options.blank or BLANKS[0],
        stream=True,
    )
    if table.n_blank and options.blank is None:
        note = f"{table.n_blank} empty label cells are read as no; pass --blank unknown if nobody has looked there"
        print(f"sk-ulmfit: note: {note}.", file=sys.stderr)
    if not table.label_names:
        raise ValueError(f"{options.file}: no row has a label in column {_some(options.label_column)}.")
    columns = {"text": options.text, "labels": options.labels, "label_column": options.label_column}
    return table, {**columns, "delimiter": options.delimiter, "blank": options.blank}


def _matching(names: list[str] | None, columns: Sequence[str]) -> list[str] | None:
    """Put the columns that match in the place of a pattern, such as ``Label *``."""
    if names is None:
        return None
    found: list[str] = []
    for name in names:
        matching = [] if name in columns else fnmatch.filter(columns, name)
        found += matching or [name]
    return found


def _true_labels(clf: ULMFiTMultiLabelClassifier, options: argparse.Namespace) -> TextTable:
    notes = clf.metadata_
    options.delimiter = options.delimiter or notes.get("delimiter") or ";"
    options.blank = options.blank or notes.get("blank") or BLANKS[0]
    if options.file.is_dir():
        return _folders(options)
    labels, label_column = options.labels, options.label_column
    if not labels and not label_column:
        labels, label_column = notes.get("labels"), notes.get("label_column")
    if not labels and not label_column:
        raise ValueError("Name the true labels with --labels or --label-column.")
    return load_table(
        options.file,
        text=_text_columns(clf, options),
        labels=labels,
        label_column=label_column,
        delimiter=options.delimiter,
        blank=options.blank,
        stream=True,
    )


def _folders(options: argparse.Namespace) -> TextTable:
    if not options.labels_file:
        return load_folders(options.file)
    return load_folders(
        options.file,
        labels_file=options.labels_file,
        labels=options.labels,
        label_column=options.label_column,
        delimiter=options.delimiter,
        blank=options.blank or BLANKS[0],
    )


def _texts(options: argparse.Namespace) -> list[str] | StreamedTexts:
    """Give the texts of a table, or the documents of a corpus."""
    is_table = file_type(options.file) in {*DELIMITED, *JSON_LINES, *PARQUET} and options.file.is_file()
    if is_table and not options.text:
        there = open_table(options.file).columns
        raise ValueError(f"Name the text column with --text; the columns are {_some(there)}.")
    if options.text:
        return load_table(options.file, text=options.text, stream=True).texts
    return StreamedTexts(lambda: read_documents(options.file), sum(1 for _ in read_documents(options.file)))


def _classifier(options: argparse.Namespace, progress: int) -> ULMFiTMultiLabelClassifier:
    """Make the classifier that the options describe."""
    language_model: Any = options.language_model
    given = _given_body(options)
    if language_model in ("auto", "none"):
        shared = {"device": options.device, "n_jobs": options.n_jobs, "verbose": progress}
        lm_precision = "auto" if options.precision == "int8" else options.precision
        start = None if language_model == "none" else "auto"
        language_model = ULMFiTLanguageModel(start, **given, **shared, precision=lm_precision)
    elif given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise ValueError(f"{flag} goes with a model from scratch; the saved language model has its own.")
    asked = ULMFiTMultiLabelClassifier().get_params(deep=False).keys() & vars(options).keys()
    given = {name: getattr(options, name) for name in asked if getattr(options, name) is not None}
    return ULMFiTMultiLabelClassifier(**{**given, "language_model": language_model, "verbose": progress})


def _language_model(options: argparse.Namespace) -> ULMFiTLanguageModel:
    """Make the language model that the options describe."""
    start = None if options.language_model == "none" else options.language_model
    names = ULMFiTLanguageModel().get_params(deep=False).keys() & vars(options).keys() - {"language", *SIZES}
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return ULMFiTLanguageModel(start, **_given_body(options), **{**given, "verbose": _progress(options)})


def _given_body(options: argparse.Namespace) -> dict[str, Any]:
    body = {name: getattr(options, name) for name in ("language", *SIZES)}
    return {name: value for name, value in body.items() if value is not None}


def _loaded(options: argparse.Namespace) -> ULMFiTMultiLabelClassifier:
    clf = ULMFiTMultiLabelClassifier.load(options.model, device=options.device)
    if options.threshold is not None:
        clf.set_thresholds(options.threshold).set_params(top_k=None)  # asked for on the command line, it decides
    return clf


def _text_columns(clf: ULMFiTMultiLabelClassifier, options: argparse.Namespace) -> list[str]:
    columns = options.text or clf.metadata_.get("text")
    if not columns:
        raise ValueError(f"{options.model} was not trained on this command line; name the text column with --text.")
    return [columns] if isinstance(columns, str) else list(columns)


def _batches(
    rows: Iterator[tuple[str, Row]], columns: Sequence[str], name: str
) -> Iterator[tuple[list[Row], list[str]]]:
    """Give rows and their texts, some at a time."""
    batch: list[Row] = []
    texts: list[str] = []
    size = 0
    for place, row in rows:
        batch.append(row)
        texts.append(text_of_row(row, columns, f"{name}, {place}"))
        size += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        if size >= CHARACTERS_AT_ONCE or len(batch) >= ROWS_AT_ONCE:
            yield batch, texts
            batch, texts, size = [], [], 0
    if batch:
        yield batch, texts


def _progress(options: argparse.Namespace) -> int:
    return int(sys.stderr.isatty() and not options.quiet)


def _say_progress(line: str) -> None:
    """Write a line of progress over the one before."""
    print(f"\r{line}\x1b[K", end="", file=sys.stderr, flush=True)


def _say_nothing(line: str) -> None:
    pass


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name if len(name) <= 40 else name[:39] + "…") for name in names[:5]) + (
        f", ... ({len(names)} in all)" if len(names) > 5 else ""
    )


def _changed(estimator: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Give the parameters that are not the estimator's own; of language models too."""
    usual = estimator.get_params(deep=False)
    found = {key: value for key, value in params.items() if key in usual and value != usual[key] and value is not None}
    given = found.get("language_model")
    if isinstance(given, list):  # forward and backward
        found["language_model"] = dict(zip(DIRECTIONS, map(_changed_language_model, given), strict=True))
    elif given is not None:
        found["language_model"] = _changed_language_model(given)
    return found


def _changed_language_model(given: Any) -> Any:
    return (_changed(ULMFiTLanguageModel(), given) or "auto") if isinstance(given, dict) else given


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key}={_shown(item)}" for key, item in value.items()) + ")"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
