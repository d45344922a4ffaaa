"""What the commands print: answers, notes and progress."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sk_ulmfit._messages import printable
from sk_ulmfit.cli.processes import is_first

T = TypeVar("T")


@dataclass
class Answer:
    """The answer of a command, as text for people and as data for JSON; nothing is printed for an empty text."""

    text: str
    data: dict[str, Any]


def print_note(message: object) -> None:
    print(f"sk-ulmfit: note: {printable(str(message))}", file=sys.stderr)


def shows_progress(options: argparse.Namespace) -> bool:
    """Return whether to show progress: on a terminal, unless --quiet is given, and in the first process alone."""
    return sys.stderr.isatty() and not options.quiet and is_first()


def with_progress(items: Sequence[T], options: argparse.Namespace, what: str) -> Iterable[T]:
    """Return the items, with a bar on a terminal if there are several."""
    if len(items) < 2 or not shows_progress(options):
        return items
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=" texts")


def print_over(line: str) -> None:
    """Print a line of progress over the previous one."""
    print(f"\r{printable(line)}\x1b[K", end="", file=sys.stderr, flush=True)
