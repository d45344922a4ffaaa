"""The command line: ``sk-ulmfit train``, ``predict``, ``evaluate`` and so on.

Each command is a module of this package with the functions `add_options` and `run`. It is imported when the command is
known, so that ``--help`` and ``--version`` do not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sk_ulmfit._messages import printable, printable_json, short_text
from sk_ulmfit._version import __version__
from sk_ulmfit.cli.answers import Answer, print_note

# by name: summary and example
COMMANDS = {
    "train": (
        "Train a classifier, or a regressor, on a table or a folder of texts and save it.",
        "sk-ulmfit train mail.csv --text subject --text body --label-column topics --delimiter ';' --out mail.model",
    ),
    "predict": (
        "Predict the labels or values of the texts of a table or a folder, which may be larger than memory.",
        "sk-ulmfit predict mail.model new.csv --out labelled.csv",
    ),
    "evaluate": (
        "Score a model on a table or a folder with true labels or values.",
        "sk-ulmfit evaluate mail.model held_out.csv",
    ),
    "explain": (
        "Show which words drove the labels or values of texts.",
        "sk-ulmfit explain mail.model new.csv --out why.html",
    ),
    "export": (
        "Write a model as ONNX, to predict without torch.",
        "sk-ulmfit export mail.model --out mail.onnx",
    ),
    "pretrain": (
        "Train a language model on a large corpus; the same command resumes a run that was stopped.",
        "sk-ulmfit pretrain articles.jsonl.xz --out run --hours 8",
    ),
    "finetune": (
        "Fine-tune a language model on texts, labelled or not, and save it.",
        "sk-ulmfit finetune mail.csv --text body --out mail.lm",
    ),
    "lr-find": (
        "Find a learning rate for a classifier, for a regressor or, without labels, for a language model.",
        "sk-ulmfit lr-find mail.csv --text body --label-column topics --out curve.png",
    ),
    "serve": (
        "Serve a model: an API, and a page in the browser to try it on.",
        "sk-ulmfit serve mail.model",
    ),
    "info": (
        "Describe a model file.",
        "sk-ulmfit info mail.model",
    ),
    "demo": (
        "Train and score on a small included data set, in minutes.",
        "sk-ulmfit demo",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 success, 2 invalid input, 130 interrupted."""
    try:
        options = _parser().parse_args(argv)
    except KeyboardInterrupt:
        return 130
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            answer = options.run(options)
        _print_answer(answer, as_json=options.json)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's
            raise
        remedy = "a smaller --batch-size" if options.command == "pretrain" else "--device cpu"
        return _fail(options, f"the GPU ran out of memory; pass {remedy}.")
    except (ValueError, OSError) as error:
        is_long = isinstance(error, OSError) and len(str(error)) > 600  # a file name that the system refuses
        return _fail(options, short_text(error, 250) if is_long else " ".join(str(error).split()))
    except KeyboardInterrupt:
        return _fail(options, f"interrupted; {_what_remains(options)}.", exit_code=130)
    return 0


def _print_answer(answer: Answer, as_json: bool) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # no answer is lost to a character that cannot be encoded
    if as_json:
        text = printable_json(json.dumps(answer.data, ensure_ascii=False, default=str))
    else:
        text = printable(answer.text, keep="\n")
    if text:
        print(text)


def _fail(options: argparse.Namespace, message: str, exit_code: int = 2) -> int:
    print(f"sk-ulmfit {options.command}: {printable(message)}", file=sys.stderr)
    return exit_code


def _what_remains(options: argparse.Namespace) -> str:
    if options.command == "predict":
        from sk_ulmfit.cli.predict_parts import holds_parts

        if holds_parts(options):
            return f"the parts in {options.out} are kept, and the same command goes on"
    from sk_ulmfit.pretraining import has_checkpoint

    if options.command == "pretrain" and has_checkpoint(options.out):
        return f"the same command resumes from the checkpoint in {options.out}"
    return "nothing was written"


def _show_warning(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    print_note(message)


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    def error(self, message: str) -> Any:
        if message.endswith("required: FILE"):
            message += " (put it first; --labels takes all names that follow)"
        self.exit(2, f"{self.prog}: {printable(message)}; see {self.prog} --help.\n")


class _Command(_Parser):
    """The parser of a command, which imports the command and adds its options when it is first used."""

    command: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.command is not None:
            module = import_module(f"sk_ulmfit.cli.{self.command.replace('-', '_')}")
            self.command = None
            module.add_options(self)
            self.set_defaults(run=module.run)
        options, others = super().parse_known_args(args, namespace)
        options.given = self._given(args)
        return options, others

    def _given(self, args: Any) -> frozenset[str]:
        """Return the names of the options that stand on the command line, also of those with their default value."""
        defaults, own = [action.default for action in self._actions], self._defaults
        try:
            self._defaults = {}
            for action in self._actions:
                action.default = argparse.SUPPRESS
            return frozenset(vars(super().parse_known_args(args)[0]))
        finally:
            self._defaults = own
            for action, default in zip(self._actions, defaults, strict=True):
                action.default = default


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
