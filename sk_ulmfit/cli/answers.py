"""What the commands print: answers, notes and progress."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from sk_ulmfit._messages import printable


@dataclass
class Answer:
    """The answer of a command, as text for people and as data for JSON; nothing is printed for an empty text."""

    text: str
    data: dict[str, Any]


def print_note(message: object) -> None:
    print(f"sk-ulmfit: note: {printable(str(message))}", file=sys.stderr)


def shows_progress(options: argparse.Namespace) -> bool:
    """Return whether to show progress: on a terminal, unless --quiet is given."""
    return sys.stderr.isatty() and not options.quiet
