"""``sk-ulmfit explain``: show which words drove the labels or values of texts."""

from __future__ import annotations

import argparse
from itertools import islice
from typing import Any

from sk_ulmfit._validation import check_number
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.cli.data import text_columns
from sk_ulmfit.cli.estimators import load_model
from sk_ulmfit.cli.files import check_output
from sk_ulmfit.datasets.cells import text_of_row
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.explain.attribution import METHODS
from sk_ulmfit.explain.explanation import Explanation, ValueExplanation
from sk_ulmfit.regressor import ULMFiTRegressor


def add_options(command: argparse.ArgumentParser) -> None:
    shared.add_model(command)
    shared.add_table(command, "with the text columns of the training")
    shared.add_out(command, "PAGE.html", "page to write (default: print plain text)", required=False)
    shared.add_text(command, default="as in training")
    command.add_argument(
        "--labels",
        nargs="+",
        metavar="LABEL",
        help="labels to explain (default: those predicted), or targets (default: all)",
    )
    command.add_argument("--method", choices=METHODS, default="gradient", help="how to score words (default: gradient)")
    command.add_argument("--limit", type=int, default=100, metavar="N", help="explain the first N texts (default: 100)")
    shared.add_running(command)


def run(options: argparse.Namespace) -> Answer:
    if options.out:
        out = check_output(options, options.file, options.model)
    check_number("--limit", options.limit, low=1, integer=True)
    clf = load_model(options)
    texts = _first_texts(clf, options)
    explanations = clf.explain(texts, _labels(clf, options), method=options.method)
    what = "targets" if isinstance(clf, ULMFiTRegressor) else "labels"
    data = [{"text": explanation.text, what: _scores(explanation)} for explanation in explanations]
    text = "\n\n".join(map(str, explanations))
    if options.out:
        explanations.save_html(out)
        text = f"Explained {len(texts)} texts; open {options.out} in a browser."
    return Answer(text, {"n_texts": len(texts), "method": options.method, "texts": data})


def _first_texts(clf: Any, options: argparse.Namespace) -> list[str]:
    columns = text_columns(clf, options)
    reader = open_table(options.file, options.encoding)
    reader.check_columns(columns)
    rows = islice(reader.rows, options.limit)
    texts = [text_of_row(row, columns, f"{reader.name}, {place}") for place, row in rows]
    if not texts:
        raise ValueError(f"{reader.name} has no rows; a header line and at least one row were expected.")
    return texts


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
