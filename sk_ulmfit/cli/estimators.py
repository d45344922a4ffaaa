"""Estimators made from the options, or loaded from a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.answers import shows_progress
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.state import kind_of
from sk_ulmfit.regressor import ULMFiTRegressor
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.unknown_words import as_one_call, one_warning

BLOCK = 500  # texts that are predicted between two movements of a bar

Model = TypeVar("Model", ULMFiTMultiLabelClassifier, ULMFiTRegressor)


def make_classifier(options: argparse.Namespace, verbose: int) -> ULMFiTMultiLabelClassifier:
    """Return an unfitted classifier with the parameters that the options set."""
    return _make(ULMFiTMultiLabelClassifier, options, verbose)


def make_regressor(options: argparse.Namespace, verbose: int) -> ULMFiTRegressor:
    """Return an unfitted regressor with the parameters that the options set; raise ValueError for those of labels."""
    for name, default in ULMFiTMultiLabelClassifier().get_params(deep=False).items():
        if name not in ULMFiTRegressor().get_params(deep=False) and getattr(options, name, default) != default:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is for labels, but --values are numbers on a scale; omit one of them.")
    return _make(ULMFiTRegressor, options, verbose)


def _make(estimator: type[Model], options: argparse.Namespace, verbose: int) -> Model:
    if getattr(options, "earlier", None) is not None:
        return _earlier(estimator, options, verbose)
    parameters = {**_parameters(estimator(), options), "verbose": verbose}
    sizes = _sizes(options)
    if options.language_model in ("auto", "none"):
        parameters["language_model"] = ULMFiTLanguageModel(
            None if options.language_model == "none" else "auto",
            **sizes,
            precision="auto" if options.precision == "int8" else options.precision,
            device=options.device,
            n_jobs=options.n_jobs,
            verbose=verbose,
        )
    elif sizes:
        flag = "--" + next(iter(sizes)).replace("_", "-")
        raise ValueError(
            f"{flag} is for a language model from random weights, but {options.language_model} has its own; omit one "
            "of them."
        )
    return estimator(**parameters)


def _earlier(estimator: type[Model], options: argparse.Namespace, verbose: int) -> Model:
    """Return the saved model of --from, with the parameters that the options set, for a fit that goes on."""
    if options.language_model != "auto" or _sizes(options):
        raise ValueError(
            "--from goes on from the weights of a saved model; omit --language-model, --language, --emb-dim, "
            "--hidden-dim and --n-layers."
        )
    model = estimator.load(options.earlier, device=options.device)
    given = {name: value for name, value in _parameters(model, options).items() if name in options.given}
    model.set_params(**given, verbose=verbose, warm_start=True)
    return model


def make_language_model(options: argparse.Namespace, verbose: int) -> ULMFiTLanguageModel:
    """Return an unfitted language model with the parameters that the options set."""
    start = None if options.language_model == "none" else options.language_model
    parameters = {**_parameters(ULMFiTLanguageModel(), options), **_sizes(options), "verbose": verbose}
    return ULMFiTLanguageModel(start, **parameters)


def _parameters(estimator: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are named like a parameter of the estimator and have a value."""
    names = estimator.get_params(deep=False).keys() & vars(options).keys()
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that describe a language model from scratch and have a value."""
    values = {name: getattr(options, name) for name in ("language", *SIZES)}
    return {name: value for name, value in values.items() if value is not None}


def predict_in_blocks(predict: Callable[[Any], Any], texts: Any, options: argparse.Namespace) -> Any:
    """Return the predictions for texts; on a terminal, predict some hundred at a time and show a bar."""
    if len(texts) <= BLOCK or not shows_progress(options):
        return predict(texts)
    from tqdm import tqdm

    with one_warning(), as_one_call(), tqdm(total=len(texts), desc="predict", unit=" texts") as bar:
        parts = []
        for block in StreamedTexts(lambda: texts, len(texts)).batches(BLOCK):
            parts.append(predict(block))
            bar.update(len(block))
    return np.concatenate(parts)


def load_model(options: argparse.Namespace) -> ULMFiTMultiLabelClassifier | ULMFiTRegressor:
    """Return the saved model; a threshold on the command line replaces the thresholds and top_k of a classifier."""
    if kind_of(options.model) == "regressor":
        if options.threshold is not None:
            raise ValueError(f"--threshold is for labels, but {options.model} is a regressor; omit it.")
        return ULMFiTRegressor.load(options.model, device=options.device)
    clf = ULMFiTMultiLabelClassifier.load(options.model, device=options.device)
    if options.threshold is not None:
        clf.set_thresholds(options.threshold).set_params(top_k=None)
    return clf
