"""``sk-ulmfit finetune``: fine-tune a language model on texts and save it."""

from __future__ import annotations

import argparse
from pathlib import Path

from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import load_texts
from sk_ulmfit.cli.estimators import make_language_model
from sk_ulmfit.cli.files import check_input, check_output, language_model_file
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.models.state import check_target


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file", type=Path, metavar="FILE", help="table with texts (needs --text), or a corpus as for pretrain"
    )
    shared.add_encoding(command)
    shared.add_text(command)
    shared.add_out(command, "MODEL", "file to write the language model to")
    shared.add_language_model(command)
    command.add_argument(
        "--max-epochs", type=int, metavar="N", help="passes over the texts (default: depends on the amount of text)"
    )
    defaults = ULMFiTLanguageModel().get_params(deep=False)
    command.add_argument(
        "--lr",
        type=float,
        default=defaults["lr"],
        metavar="X",
        help=f"maximum learning rate (default: {defaults['lr']:g})",
    )
    command.add_argument(
        "--batch-size",
        type=int,
        default=defaults["batch_size"],
        metavar="N",
        help=f"text streams per batch (default: {defaults['batch_size']})",
    )
    command.add_argument(
        "--direction", choices=DIRECTIONS, help="reading direction (default: that of the model to start from)"
    )
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="DIR",
        help="folder of the sentence-transformers model that the model to start from has learned from",
    )
    shared.add_n_jobs(command)
    shared.add_seed(command, "model")
    shared.add_running(command)


def run(options: argparse.Namespace) -> Answer:
    check_input(options.file)
    out = check_output(options, options.file, language_model_file(options))
    check_target(out)
    texts = load_texts(options)
    model = make_language_model(options, verbose=int(shows_progress(options)))
    model.fit(texts).save(out)
    config, n_words = model.state_.config, len(model.vocabulary_)
    loss = f"; training loss {model.history_[-1]['train_loss']:.3f} per token" if model.history_ else ""
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
