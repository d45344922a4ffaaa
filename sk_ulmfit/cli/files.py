"""Checks of the files that a command reads and writes, made before any work is done."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sk_ulmfit._files import as_path, check_exists, writable_target
from sk_ulmfit.models.bundled import LANGUAGES


def check_input(path: Path) -> None:
    check_exists(path)


def check_output(options: argparse.Namespace, *sources: Path | None) -> Path:
    """Return the file to write, links followed; raise ValueError if it is one of the sources or must not be written."""
    out = as_path(options.out)
    if out.exists() and any(source is not None and source.exists() and out.samefile(source) for source in sources):
        raise ValueError(f"{out} is an input file; give another name to --out.")
    out = writable_target(out)
    if not out.parent.is_dir():
        raise ValueError(f"{options.out} cannot be written: its folder does not exist; create it, or change --out.")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"{options.out} cannot be written: its folder is read-only; change --out.")
    if out.exists() and not options.force:
        raise ValueError(f"{options.out} already exists; pass --force to replace it.")
    return out


def language_model_file(options: argparse.Namespace) -> Path | None:
    """Return the file of the language model to start from, if it is one."""
    return None if options.language_model in ("auto", "none", *LANGUAGES) else Path(options.language_model)
