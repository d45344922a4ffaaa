"""``sk-ulmfit lr-find``: find a learning rate of a classifier, a regressor or a language model."""

from __future__ import annotations

import argparse
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

from sk_ulmfit._files import atomic_write
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import check_text_option, load_labelled, load_texts
from sk_ulmfit.cli.estimators import make_classifier, make_language_model, make_regressor
from sk_ulmfit.cli.files import check_output, language_model_file
from sk_ulmfit.cli.values import add_values, check_values_options, load_valued
from sk_ulmfit.datasets.tables import open_table
from sk_ulmfit.lr_finder import LearningRateCurve, lr_find
from sk_ulmfit.plotting import LearningRateDisplay


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_table(command, "with texts, and labels or values unless the rate is for a language model")
    shared.add_text(groups.everyday)
    shared.add_labels(groups)
    add_values(groups.everyday)
    command.set_defaults(delimiter=";")
    shared.add_out(groups.everyday, "PICTURE", "file to draw the curve in (.png, .svg or .pdf)", required=False)
    shared.add_language_model(groups.everyday)
    shared.add_direction(groups.everyday, both="try the forward network", default=None, shown="as in train")
    _add_test(groups.everyday)
    shared.add_device(groups.everyday)
    shared.add_seed(groups.everyday, "curve")
    shared.add_encoding(groups.data)
    shared.add_language(groups.language_model)
    shared.add_sizes(groups.language_model)
    groups.training.add_argument(
        "--batch-size", type=int, metavar="N", help="texts, or text streams, in a batch (default: as in train)"
    )
    shared.add_precision(groups.machine, "training")
    shared.add_n_jobs(groups.machine)
    shared.add_quiet(groups.machine)


def _add_test(group: Any) -> None:
    for name, kind, text in (
        ("n_steps", int, "number of batches"),
        ("start_lr", float, "learning rate of the first batch"),
        ("end_lr", float, "learning rate of the last batch"),
    ):
        default = signature(lr_find).parameters[name].default
        flag, metavar = "--" + name.replace("_", "-"), "N" if kind is int else "X"
        group.add_argument(flag, type=kind, default=default, metavar=metavar, help=f"{text} (default: {default:g})")


def run(options: argparse.Namespace) -> Answer:
    if options.out:
        out = check_output(options, options.file, language_model_file(options))
        _check_picture(out)
    check_values_options(options)
    if shows_progress(options):
        print(f"Training {options.n_steps} batches at rising learning rates ...", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The loss does not fall", UserWarning)  # the answer says it
        name, curve = _find(options)
    text = _suggestion(curve, name, is_drawn=bool(options.out))
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
    steps = {name: getattr(options, name) for name in ("n_steps", "start_lr", "end_lr")}
    if options.values:
        if not options.file.is_dir():
            check_text_option(options, open_table(options.file, options.encoding).columns)
        texts, y = load_valued(options, options.text or [], options.values)
        return "regressor", lr_find(make_regressor(options, verbose=0), texts, y, **steps)
    if options.file.is_dir() or options.labels or options.label_column:
        table, _ = load_labelled(options)
        classifier = make_classifier(options, verbose=0)
        return "classifier", lr_find(classifier, table.texts, table.named_indicator(), **steps)
    return "language model", lr_find(make_language_model(options, verbose=0), load_texts(options), **steps)


def _suggestion(curve: LearningRateCurve, name: str, is_drawn: bool) -> str:
    if curve.suggestion is None:
        look = "Look at the curve" if is_drawn else "Draw the curve with --out PICTURE"
        return (
            f"No learning rate is suggested for the {name}: the loss did not fall. {look}. If it rises from the "
            "beginning, pass a smaller --start-lr; if it goes up and down, more --n-steps or a larger --batch-size."
        )
    flags = " ".join(f"--{key.replace('_', '-')} {value:.2g}" for key, value in curve.parameters.items())
    return f"Suggestion for the {name}: {flags}."


def _check_picture(out: Path) -> None:
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ValueError("--out needs matplotlib; install it (pip install matplotlib), or omit --out.") from None
    if out.suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"{out} is not a picture; pass a name ending in .png, .svg or .pdf.")
