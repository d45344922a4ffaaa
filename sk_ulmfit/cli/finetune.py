"""``sk-ulmfit finetune``: fine-tune a language model on texts and save it."""

from __future__ import annotations

import argparse
from pathlib import Path

from sk_ulmfit._messages import count
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import load_texts
from sk_ulmfit.cli.estimators import make_language_model
from sk_ulmfit.cli.files import check_input, check_output, language_model_file
from sk_ulmfit.cli.processes import is_first
from sk_ulmfit.language_model import SIZES, ULMFiTLanguageModel
from sk_ulmfit.models.state import check_target


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    command.add_argument(
        "file", type=Path, metavar="FILE", help="table with texts (needs --text), or a corpus as for pretrain"
    )
    shared.add_text(groups.everyday)
    shared.add_out(groups.everyday, "MODEL", "file to write the language model to")
    shared.add_language_model(groups.everyday)
    shared.add_language(groups.everyday)
    groups.everyday.add_argument(
        "--max-epochs", type=int, metavar="N", help="passes over the texts (default: depends on the amount of text)"
    )
    shared.add_direction(groups.everyday, default=None, shown="that of the model to start from")
    groups.everyday.add_argument(
        "--teacher",
        type=Path,
        metavar="DIR",
        help="folder of the sentence-transformers model from which the model to start from has learned, to go on "
        "learning from it (default: none)",
    )
    defaults = ULMFiTLanguageModel().get_params(deep=False)
    for group, name, kind, metavar, text in (
        (groups.everyday, "lr", float, "X", "maximum learning rate"),
        (groups.training, "batch_size", int, "N", "text streams in a batch"),
    ):
        flag, shown = "--" + name.replace("_", "-"), f"{text} (default: {defaults[name]:g})"
        group.add_argument(flag, type=kind, default=defaults[name], metavar=metavar, help=shown)
    shared.add_device(groups.everyday)
    shared.add_seed(groups.everyday, "model")
    shared.add_encoding(groups.data)
    shared.add_sizes(groups.language_model)
    shared.add_n_jobs(groups.machine)
    shared.add_quiet(groups.machine)


def run(options: argparse.Namespace) -> Answer:
    check_input(options.file)
    out = check_output(options, options.file, language_model_file(options))
    check_target(out)
    texts = load_texts(options)
    model = make_language_model(options, verbose=int(shows_progress(options)))
    model.fit(texts)
    if is_first():
        model.save(out)
    config, n_words = model.state_.config, len(model.vocabulary_)
    loss = f"; training loss {model.history_[-1]['train_loss']:.3f} per token" if model.history_ else ""
    return Answer(
        f"Read {count(len(texts), 'text')}; {count(n_words, 'word')} in the vocabulary{loss}. The language model is "
        f"in {options.out}; pass it to train with --language-model.",
        {
            "model": str(options.out),
            "n_texts": len(texts),
            "n_words": n_words,
            "sizes": {name: config[name] for name in SIZES},
            "started_from": model.pretrained_,
            "history": model.history_,
        },
    )
