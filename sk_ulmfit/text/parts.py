"""Parts of the files of a corpus, to be tokenized one by one: large files are cut between documents."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sk_ulmfit._files import UnreadableFileError, is_plain_utf8, reading
from sk_ulmfit.text.documents import CorpusError, documents_of_lines, is_json_lines, read_documents

SMALLEST_PART, LARGEST_PART = 2**23, 2**28  # bytes
_LARGEST_UNCUT = 2**24  # bytes; a larger file that cannot be cut is read once and handed out
_N_PARTS = 64  # about, of a corpus of medium size
_BLANK_LINE = re.compile(rb"\n\r?\n")
_BYTES_AT_ONCE = 2**20


@dataclass(frozen=True)
class Part:
    """The documents of a file between two bytes of it; all if `end` is None."""

    file: Path
    n_bytes: int
    begin: int = 0
    end: int | None = None
    is_json: bool = False


@dataclass(frozen=True)
class Group:
    """Parts of one corpus, small enough for one worker; or a large one that cannot be cut, to be handed out."""

    corpus: int
    parts: tuple[Part, ...]
    is_large: bool = False

    def documents(self, field: str) -> Iterator[str]:
        """Yield the documents of the parts."""
        for part in self.parts:
            yield from read_part(part, field)


def group_files(corpora: Sequence[Sequence[Path]]) -> list[Group]:
    """Return the groups into which the files of corpora are cut or joined; they depend on the files alone."""
    sizes = [[_size(file) for file in files] for files in corpora]
    total = sum(map(sum, sizes))
    size = min(max(total // _N_PARTS, SMALLEST_PART), LARGEST_PART)
    most = max(total // _N_PARTS, _LARGEST_UNCUT, size)
    groups: list[Group] = []
    for corpus, files in enumerate(corpora):
        joined: list[Part] = []
        for file, n_bytes in zip(files, sizes[corpus], strict=True):
            for part in cut_file(file, n_bytes, size):
                if part.n_bytes > most or sum(other.n_bytes for other in joined) + part.n_bytes > size:
                    groups += [Group(corpus, tuple(joined))] * bool(joined)
                    joined = []
                if part.n_bytes > most:
                    groups.append(Group(corpus, (part,), is_large=True))
                else:
                    joined.append(part)
        groups += [Group(corpus, tuple(joined))] * bool(joined)
    return groups


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise CorpusError(f"{file} cannot be read ({error.strerror or error}).") from None


def cut_file(file: Path, n_bytes: int, size: int) -> list[Part]:
    """Cut a file into parts of about `size` bytes, where a document ends; one part if that is not possible.

    Files of JSON lines are cut at any line, texts at blank lines. Compressed files, arrays of JSON objects and texts
    in UTF-16 or UTF-32 cannot be cut.
    """
    if n_bytes <= size:
        return [Part(file, n_bytes)]
    try:
        is_json = is_json_lines(file) if is_plain_utf8(file) else None
        borders = [] if is_json is None else list(_borders(file, n_bytes, size, is_json))
    except (UnreadableFileError, OSError):
        return [Part(file, n_bytes)]  # whoever reads the part says what is wrong
    if not borders:
        return [Part(file, n_bytes)]
    return [Part(file, end - begin, begin, end, bool(is_json)) for begin, end in pairwise([0, *borders, n_bytes])]


def _borders(file: Path, n_bytes: int, size: int, is_json: bool) -> Iterator[int]:
    with file.open("rb") as opened:
        border = size
        while border < n_bytes:
            opened.seek(border)
            found = _next_border(opened, is_json)
            if found is None or found >= n_bytes:
                return
            yield found
            border = found + size


def _next_border(opened: Any, is_json: bool) -> int | None:
    """Return the next place in a file at which a document may begin; None if it has none."""
    end_of_document = re.compile(rb"\n") if is_json else _BLANK_LINE
    kept = b""
    while block := opened.read(_BYTES_AT_ONCE):
        block = kept + block
        if match := end_of_document.search(block):
            return opened.tell() - len(block) + match.end()
        kept = block[-2:]
    return None


def read_part(part: Part, field: str) -> Iterator[str]:
    """Yield the documents of a part; raise CorpusError as `read_documents` does."""
    if part.end is None:
        yield from read_documents(part.file, field)
        return
    try:
        yield from _documents(part, field, first=1)
    except UnreadableFileError as error:
        raise CorpusError(_with_line_of_file(part, field) or str(error)) from None


def _with_line_of_file(part: Part, field: str) -> str | None:
    """Return what is wrong with a part, with the number of the line in the file."""
    try:
        with reading(part.file):
            first = _n_lines_before(part)
        for _ in _documents(part, field, first):
            pass
    except UnreadableFileError as error:
        return str(error)
    return None


def _documents(part: Part, field: str, first: int) -> Iterator[str]:
    assert part.end is not None
    with reading(part.file), part.file.open("rb", buffering=0) as file:
        raw = _Range(file, part.begin, part.end)
        encoding = "utf-8" if part.begin else "utf-8-sig"
        stream = io.TextIOWrapper(io.BufferedReader(raw, _BYTES_AT_ONCE), encoding=encoding, newline="\n")
        yield from documents_of_lines(part.file, stream, part.is_json, field, first)


def _n_lines_before(part: Part) -> int:
    """Return the number of the first line of a part, counted from 1."""
    n, left = 1, part.begin
    with part.file.open("rb") as file:
        while left and (block := file.read(min(left, _BYTES_AT_ONCE))):
            n += block.count(b"\n")
            left -= len(block)
    return n


class _Range(io.RawIOBase):
    """The bytes of an open file from `begin` to `end`."""

    def __init__(self, file: io.FileIO, begin: int, end: int):
        file.seek(begin)
        self._file, self._left = file, end - begin

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._left]
        n = self._file.readinto(view) or 0
        self._left -= n
        return n
