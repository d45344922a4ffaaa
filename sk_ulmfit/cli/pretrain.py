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
    groups = shared.Groups.of(command)
    shared.add_corpora(command, groups, "; or, alone, what tokenize wrote, or an earlier run")
    everyday = groups.everyday
    everyday.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    everyday.add_argument("--hours", type=float, metavar="X", help="hours of training, instead of --epochs")
    everyday.add_argument("--epochs", type=float, metavar="X", help="passes over the corpus (default: 1)")
    everyday.add_argument(
        "--teacher", type=Path, metavar="DIR", help="folder of a sentence-transformers model to learn from"
    )
    shared.add_vocabulary(groups)
    shared.add_device(everyday)
    _add_parameters(everyday, ("seed", int, "seed of all randomness"))
    _add_parameters(groups.data, ("validation_fraction", float, "fraction of the tokens to hold out"))
    _add_parameters(
        groups.language_model,
        ("emb_dim", int, "width of the embedding"),
        ("hidden_dim", int, "width of the LSTM layers"),
        ("n_layers", int, "number of LSTM layers"),
    )
    groups.language_model.add_argument(
        "--backward", action="store_true", help="read every document from its end to its start"
    )
    _add_training(groups.training)
    shared.add_precision(groups.machine, "training", PRECISIONS[:3])
    shared.add_n_jobs(groups.machine, "tokenization and the teacher")
    shared.add_scheduler(groups.machine)
    shared.add_quiet(groups.machine)


def _add_training(group: Any) -> None:
    _add_parameters(
        group,
        ("lr", float, "maximum learning rate"),
        ("batch_size", int, "text streams in a batch"),
        ("bptt", int, "tokens in a window"),
        ("dropout_multiplier", float, "factor on the dropout rates"),
        ("sampled_words", int, "words among which the next one is predicted (default: all)"),
        ("n_passages", int, "passages that the teacher reads"),
        ("passage_tokens", int, "tokens in the passages of one step"),
        ("teacher_weight", float, "weight of the distance to the teacher's vectors in the loss"),
        ("checkpoint_minutes", float, "minutes between checkpoints"),
    )


def _add_parameters(group: Any, *parameters: tuple[str, type, str]) -> None:
    """Add parameters of `pretrain` as options, with their defaults."""
    for name, of_type, text in parameters:
        default = signature(pretraining.pretrain).parameters[name].default
        flag = "--random-state" if name == "seed" else "--" + name.replace("_", "-")
        shown = text if default is None else f"{text} (default: {default})"
        metavar = "N" if of_type is int else "X"
        group.add_argument(flag, dest=name, type=of_type, default=default, metavar=metavar, help=shown)


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
