"""``sk-ulmfit explain``: show which words drove the labels or values of texts."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import Any

from sk_ulmfit._messages import count
from sk_ulmfit._validation import check_number
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli import typed
from sk_ulmfit.cli.answers import Answer, print_note, with_progress
from sk_ulmfit.cli.data import text_columns
from sk_ulmfit.cli.estimators import load_model
from sk_ulmfit.cli.files import check_input, check_output
from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.explain.attribution import METHODS
from sk_ulmfit.explain.explanation import Explanation, Explanations, ValueExplanation
from sk_ulmfit.regressor import ULMFiTRegressor

LIMIT = 5  # texts; on one core, 20 words take 0.2 s and 200 words 3 s


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_model(command)
    shared.add_table(command, "with the text columns of the training", typed=True)
    shared.add_out(groups.everyday, "PAGE.html", "page to write (default: print plain text)", required=False)
    shared.add_text(groups.everyday, default="as in training")
    groups.everyday.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="labels to explain (default: those predicted), or targets of a regressor (default: all)",
    )
    groups.everyday.add_argument(
        "--limit",
        type=int,
        default=LIMIT,
        metavar="N",
        help=f"explain the first N texts; one of 200 words takes some seconds (default: {LIMIT})",
    )
    groups.everyday.add_argument(
        "--method",
        choices=METHODS,
        default="gradient",
        help="how to score words: by integrated gradients, or by leaving out each word (default: gradient)",
    )
    shared.add_threshold(groups.everyday)
    shared.add_device(groups.everyday)
    shared.add_encoding(groups.data)
    shared.add_quiet(groups.machine)


def run(options: argparse.Namespace) -> Answer:
    if options.out:
        out = check_output(options, options.file, options.model)
    check_number("--limit", options.limit, low=1, integer=True)
    check_input(options.model)
    clf = load_model(options)
    texts, n_texts = _first_texts(clf, options)
    explanations = _explain(clf, texts, options)
    what = "targets" if isinstance(clf, ULMFiTRegressor) else "labels"
    data = [{"text": explanation.text, what: _scores(explanation)} for explanation in explanations]
    text = "\n\n".join(map(str, explanations))
    if options.out:
        explanations.save_html(out)
        text = f"Explained {count(len(texts), 'text')}; open {options.out} in a browser."
    if len(texts) < n_texts:
        print_note(f"the first {len(texts)} of {n_texts:,} texts are explained; --limit N explains more.")
    return Answer(
        text, {"n_texts": len(texts), "n_left_out": n_texts - len(texts), "method": options.method, "texts": data}
    )


def _explain(clf: Any, texts: list[str], options: argparse.Namespace) -> Explanations[Any]:
    """Explain text by text, so that a bar can show how many are done."""
    labels = _labels(clf, options)
    shown = with_progress(texts, options, "explain")
    return Explanations([clf.explain([text], labels, method=options.method)[0] for text in shown])


def _first_texts(clf: Any, options: argparse.Namespace) -> tuple[list[str], int]:
    """Return the first texts, and how many there are in all."""
    if typed.is_typed(options.file):
        texts = typed.read_texts(options)
        return texts[: options.limit], len(texts)
    typed.check_file(options.file)
    columns = text_columns(clf, options)
    reader = open_table(options.file, options.encoding)
    reader.check_columns(columns)
    rows = islice(reader.rows, options.limit)
    texts = [text_of_row(row, columns, f"{reader.name}, {place}") for place, row in rows]
    if not texts:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    return texts, len(texts) + sum(1 for _ in reader.rows)


def _labels(clf: Any, options: argparse.Namespace) -> list[Any] | None:
    """Return the labels or targets to explain as the model names them, which may be numbers; None for the default."""
    if not options.labels:
        return None
    known = clf.target_names_ if isinstance(clf, ULMFiTRegressor) else clf.label_names_
    names = {str(name): name for name in known}
    return [names.get(label, label) for label in options.labels]


def _scores(explanation: Explanation | ValueExplanation) -> dict[str, Any]:
    spans = explanation.spans.tolist()
    return {
        str(label): {
            **_predicted(explanation, k),
            "words": [
                {"word": word, "begin": begin, "end": end, "score": score}
                for word, (begin, end), score in zip(
                    explanation.words, spans, explanation.scores[:, k].tolist(), strict=True
                )
            ],
        }
        for k, label in enumerate(explanation.labels)
    }


def _predicted(explanation: Explanation | ValueExplanation, k: int) -> dict[str, float]:
    if isinstance(explanation, ValueExplanation):
        return {"value": float(explanation.values[k])}
    return {"probability": float(explanation.proba[k]), "threshold": float(explanation.thresholds[k])}
