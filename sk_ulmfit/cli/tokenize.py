"""``sk-ulmfit tokenize``: write a corpus as token ids, to pre-train on later or on another machine."""

from __future__ import annotations

import argparse
import sys
from inspect import signature
from pathlib import Path

from sk_ulmfit import pretraining
from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer, print_over, shows_progress


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_corpora(command, groups)
    groups.everyday.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write; pass it to pretrain as CORPUS"
    )
    shared.add_vocabulary(groups)
    shared.add_n_jobs(groups.machine)
    shared.add_scheduler(groups.machine)
    shared.add_quiet(groups.machine)


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
