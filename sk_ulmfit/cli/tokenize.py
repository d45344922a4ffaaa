"""``sk-ulmfit tokenize``: a corpus as token ids, before its training and where processors are cheap."""

from __future__ import annotations

import argparse
import sys
from inspect import signature
from pathlib import Path

from sk_ulmfit import pretraining
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, print_over, shows_progress


def add_options(command: argparse.ArgumentParser) -> None:
    shared.add_corpora(command)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write, the corpus of pretrain"
    )
    shared.add_vocabulary(command)
    shared.add_n_jobs(command)
    shared.add_scheduler(command)
    command.add_argument("--quiet", action="store_true", help="show no progress, not even on a terminal")


def run(options: argparse.Namespace) -> Answer:
    names = signature(pretraining.tokenize_files).parameters.keys() & vars(options).keys() - {"corpus", "out"}
    say = print_over if shows_progress(options) else None
    try:
        info = pretraining.tokenize_files(
            options.corpus, options.out, say=say, **{name: getattr(options, name) for name in names}
        )
    finally:
        if say:
            print(file=sys.stderr)
    unknown = info["n_unknown"] / info["n_tokens"]
    text = (
        f"{info['n_documents']:,} documents, {info['n_tokens'] / 1e6:.2f} M tokens, {100 * unknown:.1f} % unknown, "
        f"are in {options.out}; pass it to pretrain as the corpus."
    )
    data = {name: info[name] for name in ("n_documents", "n_tokens", "n_unknown")}
    return Answer(text, {"tokens": str(options.out), **data})
