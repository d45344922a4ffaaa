"""The command line: ``sk-ulmfit train``, ``predict``, ``evaluate`` and so on.

What takes seconds to import is imported when a command is known, so that ``--help`` and ``--version`` come at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from sk_ulmfit._version import __version__

# by name: what it does, and an example
COMMANDS = {
    "train": (
        "Train a classifier on a table or a folder of texts and save it.",
        "sk-ulmfit train mail.csv --text subject --text body --label-column topics --delimiter ';' --out mail.model",
    ),
    "predict": (
        "Predict the labels of the texts of a table or a folder, which may be larger than memory.",
        "sk-ulmfit predict mail.model new.csv --out labelled.csv",
    ),
    "evaluate": (
        "Score a model on a table or a folder with true labels.",
        "sk-ulmfit evaluate mail.model held_out.csv",
    ),
    "explain": (
        "Tell which words drove the labels of texts.",
        "sk-ulmfit explain mail.model new.csv --out why.html",
    ),
    "pretrain": (
        "Train a language model on a large corpus; broken off, the same command goes on.",
        "sk-ulmfit pretrain articles.jsonl.xz --out run --hours 8",
    ),
    "finetune": (
        "Fine-tune a language model on texts, labelled or not, and save it.",
        "sk-ulmfit finetune mail.csv --text body --out mail.lm",
    ),
    "lr-find": (
        "Look for a learning rate: of a classifier, or without labels of a language model.",
        "sk-ulmfit lr-find mail.csv --text body --label-column topics --out curve.png",
    ),
    "info": (
        "Say what is in a model file.",
        "sk-ulmfit info mail.model",
    ),
    "demo": (
        "Train and score on a small data set that comes along, in minutes.",
        "sk-ulmfit demo",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit code: 0 well done, 2 wrong input (said in one line on stderr), 130 interrupted.
    """
    try:
        options = _parser().parse_args(argv)
    except KeyboardInterrupt:
        return 130
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            answer = options.run(options)
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # after hours, no answer is lost for one character
        if shown := json.dumps(answer.data, ensure_ascii=False, default=str) if options.json else answer.text:
            print(shown)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's
            raise
        way_out = "a smaller --batch-size" if options.command == "pretrain" else "--device cpu"
        print(f"sk-ulmfit {options.command}: the GPU has too little memory; pass {way_out}.", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"sk-ulmfit {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        from sk_ulmfit.pretraining import CHECKPOINT

        what = "nothing was written"
        if options.command == "pretrain" and (options.out / CHECKPOINT).exists():
            what = f"the same command goes on from the checkpoint in {options.out}"
        print(f"sk-ulmfit {options.command}: interrupted; {what}.", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    print(f"sk-ulmfit: note: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong."""

    def error(self, message: str) -> Any:
        if message.endswith("required: FILE"):
            message += " (put it first; --labels takes all names that follow)"
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help.\n")


class _Command(_Parser):
    """The parser of a command, which gets its options when the command is called."""

    command: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.command is not None:
            from sk_ulmfit.cli.arguments import add_options

            name, self.command = self.command, None
            add_options(self, name)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sk-ulmfit", description="Multi-label text classification with ULMFiT.")
    parser.add_argument("--version", action="version", version=f"sk-ulmfit {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Command)
    for name, (summary, example) in COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.command = name
        command.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser
