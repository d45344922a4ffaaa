"""Run the code of a page, and compare what it prints with what the page shows.

A block of code, ``python`` or ``sh``, may be followed by a block ``output``, which shows what the code prints. Numbers
may differ a little, since processors round differently, and ``...`` stands for any text. Of a ``sh`` block only calls of
``sk-ulmfit`` are run, alone or after ``echo TEXT |``, and only if an output follows.

To write the outputs of pages anew, run ``python tests/page_code.py docs/guide/thresholds.md``, read the change, and put ``...``
where something differs from run to run, such as times and paths.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from sk_ulmfit.cli.main import main

BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(?:\n*```output\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
PLACE = "(-?[0-9.]+(?:e[+-]?[0-9]+)?)"


@dataclass(frozen=True)
class Block:
    """A block of code, the line of the page before it, and the output that the page shows (None: none)."""

    kind: str
    code: str
    line: int
    shown: str | None
    span: tuple[int, int]


def blocks_of(text: str) -> list[Block]:
    found = BLOCK.finditer(text.rstrip("\n") + "\n")
    return [Block(m[1], m[2], text[: m.start()].count("\n") + 1, m[3], m.span()) for m in found]


def run_block(block: Block, page: Path, names: dict) -> str:
    """Run a block with the names of the page; return what it writes to the standard output."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if block.kind == "python":
            exec(compile("\n" * block.line + block.code, page, "exec"), names)
        elif block.shown is not None:
            for command in block.code.replace("\\\n", " ").splitlines():
                run_command(command)
    return printed.getvalue()


def run_command(line: str) -> None:
    """Run a line of a shell if it calls ``sk-ulmfit``, maybe on what ``echo`` says."""
    echo, _, command = line.rpartition(" | ")
    program, *arguments = shlex.split(command, comments=True) or [""]
    if program != "sk-ulmfit":
        return
    said = shlex.split(echo)[1:]
    with mock.patch("sys.stdin", io.StringIO(" ".join(said) + "\n")):
        status = main(arguments)
    assert not status, f"{line} ended with status {status}"


def lines_of(text: str) -> str:
    """Take away what nobody sees: spaces at the ends of lines, and how many there are between two columns."""
    return "\n".join(re.sub(r"(?<=\S) +", " ", line).rstrip() for line in text.strip("\n").splitlines())


def agree(shown: str, printed: str) -> bool:
    """Tell whether an output is the one that a page shows.

    Whole numbers may differ by 5 %, other numbers by 0.02 and 5 %.
    """
    shown, printed = lines_of(shown), lines_of(printed)
    pattern, numbers, end = "", [], 0
    for match in re.finditer(rf"\.\.\.|{NUMBER}", shown):
        pattern += re.escape(shown[end : match.start()])
        if match[0] == "...":
            pattern += r"[\s\S]*?"
        else:
            pattern += PLACE
            numbers.append(match[0])
        end = match.end()
    found = re.fullmatch(pattern + re.escape(shown[end:]), printed)
    return found is not None and all(map(_are_close, numbers, found.groups()))


def _are_close(shown: str, printed: str) -> bool:
    whole = shown.lstrip("-").isdigit()
    try:
        return abs(float(shown) - float(printed)) <= (0 if whole else 0.02) + 0.05 * abs(float(shown))
    except ValueError:  # such as 1.2.3
        return shown == printed


def with_outputs(page: Path) -> str:
    """Run a page; return its text with the outputs as they are now. A shown output that agrees stays as it is."""
    text, new, end, names = page.read_text(), "", 0, {"__name__": "docs"}
    for block in blocks_of(text):
        printed = run_block(block, page, names)
        start, stop = block.span
        new += text[end:start]
        if block.shown is not None and agree(block.shown, printed):
            new += text[start:stop]
        else:
            new += f"```{block.kind}\n{block.code}```\n"
            new += f"\n```output\n{lines_with_spaces(printed)}\n```\n" if printed.strip() else ""
        end = stop
    return new + text[end:]


def lines_with_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            written = with_outputs(page)
        page.write_text(written)
        print(page.name, file=sys.stderr)
