"""``sk-ulmfit pretrain``: train a language model on a large corpus."""

from __future__ import annotations

import argparse
import math
import sys
from inspect import signature
from pathlib import Path
from typing import Any

from sk_ulmfit import pretraining
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, print_over, shows_progress
from sk_ulmfit.language_model import SIZES
from sk_ulmfit.nn.precision import PRECISIONS


def add_options(command: argparse.ArgumentParser) -> None:
    shared.add_corpora(command, "; or, alone, what tokenize wrote, or an earlier run")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    command.add_argument("--epochs", type=float, metavar="X", help="passes over the corpus (default: 1)")
    command.add_argument("--hours", type=float, metavar="X", help="hours of training, instead of --epochs")
    for name, of_type, text in (
        ("emb_dim", int, "width of the embedding"),
        ("hidden_dim", int, "width of the LSTM layers"),
        ("n_layers", int, "number of LSTM layers"),
        ("lr", float, "maximum learning rate"),
        ("batch_size", int, "text streams per batch"),
        ("bptt", int, "tokens per window"),
        ("sampled_words", int, "words among which the next one is predicted in training (default: all)"),
        ("n_passages", int, "passages that the teacher reads"),
        ("passage_tokens", int, "tokens in the passages of one step"),
        ("teacher_weight", float, "weight of the distance to the teacher's vectors"),
        ("dropout_multiplier", float, "factor on the dropout rates"),
        ("validation_fraction", float, "fraction of the tokens to hold out"),
        ("checkpoint_minutes", float, "minutes between checkpoints"),
    ):
        _add_parameter(command, "--" + name.replace("_", "-"), name, of_type, text)
    command.add_argument(
        "--teacher", type=Path, metavar="DIR", help="folder of a sentence-transformers model to learn from"
    )
    _add_parameter(command, "--random-state", "seed", int, "seed of all randomness")
    shared.add_vocabulary(command)
    command.add_argument("--backward", action="store_true", help="read every document from end to start")
    shared.add_precision(command, "training", PRECISIONS[:3])
    shared.add_n_jobs(command, "tokenization and the teacher")
    shared.add_scheduler(command)
    shared.add_running(command)


def _add_parameter(command: argparse.ArgumentParser, flag: str, name: str, of_type: type, text: str) -> None:
    default = signature(pretraining.pretrain).parameters[name].default
    metavar = {str: "NAME", int: "N", float: "X"}[of_type]
    text += "" if default is None else f" (default: {default})"
    command.add_argument(flag, dest=name, type=of_type, default=default, metavar=metavar, help=text)


def run(options: argparse.Namespace) -> Answer:
    names = signature(pretraining.pretrain).parameters.keys() & vars(options).keys() - {"corpus", "out"}
    parameters = {name: getattr(options, name) for name in names}
    say = print_over if shows_progress(options) else None
    try:
        state = pretraining.pretrain(options.corpus, options.out, say=say, **parameters)
    finally:
        if say:
            print(file=sys.stderr)
    sizes = {name: state.config[name] for name in SIZES}
    file = options.out / pretraining.MODEL
    text = f"The language model ({'/'.join(map(str, sizes.values()))}, {len(state.vocabulary)} words) is in {file}."
    data: dict[str, Any] = {"model": str(file), "n_words": len(state.vocabulary), "sizes": sizes}
    if "valid_loss" in state.history[-1]:
        data["perplexity"] = math.exp(state.history[-1]["valid_loss"])
        text = f"Perplexity on held-out documents: {data['perplexity']:.2f}.\n{text}"
    return Answer(text, data)
