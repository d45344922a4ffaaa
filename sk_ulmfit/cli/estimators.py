"""Estimators made from the options, or loaded from a file."""

from __future__ import annotations

import argparse
from typing import Any

from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel


def make_classifier(options: argparse.Namespace, verbose: int) -> ULMFiTMultiLabelClassifier:
    """Return an unfitted classifier with the parameters that the options set."""
    parameters = {**_parameters(ULMFiTMultiLabelClassifier(), options), "verbose": verbose}
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
        raise ValueError(f"{flag} needs a model from scratch; the saved language model has its own. Omit one of them.")
    return ULMFiTMultiLabelClassifier(**parameters)


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


def load_classifier(options: argparse.Namespace) -> ULMFiTMultiLabelClassifier:
    """Return the saved classifier; a threshold on the command line replaces its thresholds and top_k."""
    clf = ULMFiTMultiLabelClassifier.load(options.model, device=options.device)
    if options.threshold is not None:
        clf.set_thresholds(options.threshold).set_params(top_k=None)
    return clf
