"""The command line: ``sk-ulmfit train``, ``predict``, ``evaluate`` and so on.

Each command is a module of this package with the functions `add_options` and `run`. It is imported when the command is
known, so that ``--help`` and ``--version`` do not wait for torch.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from sk_ulmfit._messages import printable, printable_json, short_text
from sk_ulmfit._version import __version__
from sk_ulmfit.cli import processes
from sk_ulmfit.cli.answers import Answer, print_note

# by name: summary and example
COMMANDS = {
    "train": (
        "Train a classifier, or a regressor, on a table or a folder of texts, and save it.",
        "sk-ulmfit train mail.csv --text body --label-column topics --out mail.model",
    ),
    "predict": (
        "Predict the labels or values of the texts in a table or a folder, or typed in.",
        "sk-ulmfit predict mail.model new.csv --out labelled.csv",
    ),
    "evaluate": (
        "Score a model on texts with true labels or values.",
        "sk-ulmfit evaluate mail.model held_out.csv",
    ),
    "explain": (
        "Show which words drove the predictions.",
        "sk-ulmfit explain mail.model new.csv --out why.html",
    ),
    "export": (
        "Write a model as ONNX, to predict without torch.",
        "sk-ulmfit export mail.model --out mail.onnx",
    ),
    "pretrain": (
        "Train a language model on a large corpus. To resume a run that was stopped, give the same command again.",
        "sk-ulmfit pretrain articles.jsonl.xz --out run --hours 8",
    ),
    "tokenize": (
        "Tokenize a large corpus for pretrain, on several processes or machines. To resume a run that was stopped, "
        "give the same command again.",
        "sk-ulmfit tokenize articles/ --out tokens --n-jobs 16",
    ),
    "finetune": (
        "Fine-tune a language model on texts, labelled or not, and save it.",
        "sk-ulmfit finetune mail.csv --text body --out mail.lm",
    ),
    "lr-find": (
        "Find a learning rate for a classifier, a regressor or (without labels) a language model.",
        "sk-ulmfit lr-find mail.csv --text body --label-column topics --out curve.png",
    ),
    "serve": (
        "Serve a model over HTTP: an API, and a page to try it in the browser.",
        "sk-ulmfit serve mail.model",
    ),
    "info": (
        "Describe a saved model.",
        "sk-ulmfit info mail.model",
    ),
    "demo": (
        "Train and score on a small data set that comes with the package; takes a few minutes.",
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
            warnings.showwarning = partial(_show_warning, options)
            answer = processes.run(options)
        if answer is not None:
            _print_answer(answer, as_json=options.json)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's
            raise
        remedy = "a smaller --batch-size" if options.command == "pretrain" else "--device cpu"
        return _fail(options, f"the GPU ran out of memory; pass {remedy}.")
    except (ValueError, OSError) as error:
        is_long = isinstance(error, OSError) and len(str(error)) > 600  # a file name that the system refuses
        message = short_text(error, 250) if is_long else " ".join(as_typed(str(error), options).split())
        return _fail(options, processes.described(error, message, partial(_what_remains, options)))
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
    if processes.prints(message):
        print(f"sk-ulmfit {options.command}: {printable(message)}", file=sys.stderr)
    return processes.left_with(exit_code)


def _what_remains(options: argparse.Namespace) -> str:
    if options.command == "predict":
        from sk_ulmfit.cli.predict_parts import holds_parts

        if holds_parts(options):
            return f"the parts in {options.out} are kept, and the same command goes on"
    from sk_ulmfit.pretraining import has_checkpoint

    if options.command == "pretrain" and has_checkpoint(options.out):
        return f"the same command resumes from the checkpoint in {options.out}"
    if options.command == "tokenize":
        return "the same command continues with the shards that are missing"
    return "nothing was written"


def _show_warning(options: argparse.Namespace, message: Warning | str, *args: Any, **kwargs: Any) -> None:
    print_note(as_typed(str(message), options))


def as_typed(message: str, options: argparse.Namespace) -> str:
    """Call the parameters in a message what they are called on the command line: ``--n-steps 5`` for n_steps=5."""
    flags: dict[str, str] = options.flags
    name = message.partition(" must ")[0]
    if name in flags:
        message = flags[name] + message.removeprefix(name).replace(" or None, got", ", got", 1)
    if "language_model" in flags:
        message = message.replace("pretrained=None", "--language-model none")
    value = r"=(?:True\b|'([\w-]+)'|(-?\d[\d.]*(?:e-?\d+)?\b)|(?=[\s,;)]))"
    message = re.sub(
        rf"{_BEFORE}({'|'.join(flags)}){value}",
        lambda match: " ".join(filter(None, [flags[match[1]], match[2] or match[3]])),
        message,
    )
    several_words = "|".join(name for name in flags if "_" in name)
    if not several_words:
        return message
    return re.sub(rf"{_BEFORE}({several_words})(?![\w'\"`.=-])", lambda match: flags[match[1]], message)


_BEFORE = r"(?<![\w'\"`.-])"  # names within words, quotes and flags stay


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line."""

    typed: Sequence[str] = ()

    def error(self, message: str) -> Any:
        greedy = [flag for action in self._actions if action.nargs == "+" for flag in action.option_strings]
        found = list(dict.fromkeys(flag for flag in self.typed if flag in greedy))
        if found and re.search("required: .*(FILE|MODEL|CORPUS)", message):
            message += (
                f" (put it first; {' and '.join(found)} {'take' if found[1:] else 'takes'} all names that follow)"
            )
        text = f"{self.prog}: {printable(message)}; see {self.prog} --help.\n"
        self.exit(2, text if processes.prints(message) else None)


class _Command(_Parser):
    """The parser of a command, which imports the command and adds its options when it is first used."""

    command: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.command is not None:
            module = import_module(f"sk_ulmfit.cli.{self.command.replace('-', '_')}")
            self.command = None
            module.add_options(self)
            _add_others(self)
            self.set_defaults(run=module.run)
        self.typed = args or ()
        options, others = super().parse_known_args(args, namespace)
        options.given = self._given(args)
        options.flags = {action.dest: action.option_strings[0] for action in self._actions if action.option_strings}
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


def _add_others(command: argparse.ArgumentParser) -> None:
    """Add the options of all commands, last in the help, and the first line of the help."""
    group = command.add_argument_group("Other")
    group.add_argument("--json", action="store_true", help="print the answer as JSON")
    group.add_argument("-h", "--help", action="help", help="show this message")
    needed = [action for action in command._actions if action.required and action.option_strings]
    files = [action for action in command._actions if not action.option_strings]
    words = [*(_metavar(action) for action in files), *(f"{a.option_strings[0]} {_metavar(a)}" for a in needed)]
    command.usage = " ".join([command.prog, *words, "[options]"])


def _metavar(action: argparse.Action) -> str:
    return f"{action.metavar} [...]" if action.nargs == "+" else str(action.metavar)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sk-ulmfit", description="Multi-label text classification with ULMFiT.")
    parser.add_argument("--version", action="version", version=f"sk-ulmfit {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Command)
    for name, (summary, example) in COMMANDS.items():
        command = subparsers.add_parser(
            name,
            help=summary,
            description=f"{textwrap.fill(summary, 78)}\n\nexample:\n  {example}",
            formatter_class=_Formatter,
            add_help=False,
        )
        command.command = name
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of at most 80 columns, however wide the terminal is."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26, width=min(shutil.get_terminal_size().columns, 82) - 2)
