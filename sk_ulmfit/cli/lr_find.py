"""``sk-ulmfit lr-find``: find a learning rate of a classifier, a regressor or a language model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sk_ulmfit._files import atomic_write
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.cli.data import check_text_option, load_labelled, load_texts
from sk_ulmfit.cli.estimators import make_classifier, make_language_model, make_regressor
from sk_ulmfit.cli.files import check_output, language_model_file
from sk_ulmfit.cli.values import add_values, check_values_options, load_valued
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.lr_finder import LearningRateCurve, lr_find
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.plotting import LearningRateDisplay


def add_options(command: argparse.ArgumentParser) -> None:
    shared.add_table(command, "with texts, and labels or values unless the rate is for a language model")
    shared.add_text(command)
    shared.add_labels(command)
    add_values(command)
    command.set_defaults(delimiter=";")
    shared.add_out(command, "PICTURE", "file to draw the curve to (.png, .svg, .pdf)", required=False)
    shared.add_language_model(command)
    command.add_argument("--n-steps", type=int, default=100, metavar="N", help="number of batches (default: 100)")
    command.add_argument("--batch-size", type=int, metavar="N", help="as in train or finetune")
    command.add_argument(
        "--direction",
        choices=(*DIRECTIONS, "both"),
        help="reading direction, as in train or finetune; both: try the forward network",
    )
    shared.add_precision(command, "training")
    shared.add_n_jobs(command)
    shared.add_seed(command, "curve")
    shared.add_running(command)


def run(options: argparse.Namespace) -> Answer:
    if options.out:
        out = check_output(options, options.file, language_model_file(options))
        _check_picture(out)
    check_values_options(options)
    name, curve = _find(options)
    text = _suggestion(curve, name)
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


def _find(options: argparse.Namespace) -> tuple[str, LearningRateCurve]:
    """Return what is trained, by the options that describe its targets, and the curve."""
    n_steps = options.n_steps
    if options.values:
        if not options.file.is_dir():
            check_text_option(options, open_table(options.file, options.encoding).columns)
        texts, y = load_valued(options, options.text or [], options.values)
        return "regressor", lr_find(make_regressor(options, verbose=0), texts, y, n_steps=n_steps)
    if options.file.is_dir() or options.labels or options.label_column:
        table, _ = load_labelled(options)
        classifier = make_classifier(options, verbose=0)
        return "classifier", lr_find(classifier, table.texts, table.named_indicator(), n_steps=n_steps)
    return "language model", lr_find(make_language_model(options, verbose=0), load_texts(options), n_steps=n_steps)


def _suggestion(curve: LearningRateCurve, name: str) -> str:
    if curve.suggestion is None:
        return "No learning rate is suggested."
    flags = " ".join(f"--{key.replace('_', '-')} {value:.2g}" for key, value in curve.parameters.items())
    return f"Suggestion for the {name}: {flags}."


def _check_picture(out: Path) -> None:
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ValueError("--out needs matplotlib; install it (pip install matplotlib), or omit --out.") from None
    if out.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{out} is not a picture; pass a name ending in .png, .svg or .pdf.")
