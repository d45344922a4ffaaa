"""Files that are one JSON array of objects, read object by object."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import TextIOWrapper
from typing import Any

from sk_ulmfit._files import LONGEST_LINE, UnreadableFileError
from sk_ulmfit._messages import short

_AT_ONCE = 2**16  # characters


def json_array(path: str | os.PathLike[str], file: TextIOWrapper) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON array with their numbers; raise UnreadableFileError at anything else."""
    reader = _Reader(file)
    reader.skip()  # the bracket
    number = 0
    while reader.next_character() != "]" or number:
        number += 1
        if reader.next_character() != "{":
            raise _error(path, number, reader)
        try:
            row = reader.value()
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError(f"{path}, object {number}: not JSON ({error}).") from None
        yield number, row
        if reader.next_character() == "]":
            break
        if reader.next_character() != ",":
            raise _error(path, number + 1, reader)
        reader.skip()
    reader.skip()
    if reader.next_character():
        raise _error(path, number + 1, reader)


def begins_with_bracket(file: TextIOWrapper) -> bool:
    """Tell whether the first character of a file that is not blank opens a JSON array."""
    return _Reader(file).next_character() == "["


def _error(path: str | os.PathLike[str], number: int, reader: _Reader) -> UnreadableFileError:
    found = short(reader.text[reader.at : reader.at + 20]) if reader.next_character() else "the end of the file"
    return UnreadableFileError(f"{path}, object {number}: {found} came; expected one array of JSON objects.")


class _Reader:
    """The characters of a file from `at` in `text` on, of which few are held at a time."""

    def __init__(self, file: TextIOWrapper):
        self.file, self.text, self.at = file, "", 0
        self.decoder = json.JSONDecoder()

    def next_character(self) -> str:
        """Return the next character that is not blank, without passing it; an empty string at the end."""
        while True:
            while self.at < len(self.text):
                if not self.text[self.at].isspace():
                    return self.text[self.at]
                self.at += 1
            self.text, self.at = self.file.read(_AT_ONCE), 0
            if not self.text:
                return ""

    def skip(self) -> None:
        """Pass the next character that is not blank."""
        if self.next_character():
            self.at += 1

    def value(self) -> Any:
        """Return the JSON value that begins here; raise ValueError if it is invalid or too long."""
        while True:
            try:
                value, self.at = self.decoder.raw_decode(self.text, self.at)
            except ValueError:
                rest = self.text[self.at :]
                if len(rest) > LONGEST_LINE:
                    raise ValueError(f"longer than {LONGEST_LINE:,} characters") from None
                more = self.file.read(max(_AT_ONCE, len(rest)))
                if not more:
                    raise
                self.text, self.at = rest + more, 0
            else:
                return value
