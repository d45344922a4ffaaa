"""Documents of a corpus, read one by one from text and JSON-lines files."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from sk_ulmfit._files import (
    LONGEST_LINE,
    UnreadableFileError,
    as_path,
    check_exists,
    json_objects,
    numbered_lines,
    open_text,
    reading,
    whole_lines,
)
from sk_ulmfit._json_arrays import json_array
from sk_ulmfit._messages import short, short_names

IDS, OFFSETS, VOCABULARY, INFO = "ids.npy", "offsets.npy", "vocabulary.json", "corpus.json"
RUN_MARK = ".sk_ulmfit-run"  # file in every folder of a pre-training run
_LONGEST_DOCUMENT = 1_000_000  # characters; a longer one is cut at the end of a line


class CorpusError(ValueError):
    """A corpus cannot be read, or its token ids cannot be written or read."""


def corpus_files(path: str | os.PathLike[str], exclude: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the files of a corpus: one file, or those in a folder and its subfolders, sorted by path.

    Hidden files, folders of token ids and of pre-training runs, and the folder `exclude` are left out. Raises
    CorpusError if there are no files, or a folder cannot be read.
    """
    path = as_path(path, CorpusError)
    if path.is_file():
        return [path]
    if path.exists() and not path.is_dir():
        try:
            check_exists(path)
        except UnreadableFileError as error:
            raise CorpusError(str(error)) from None
    if not path.is_dir():
        raise CorpusError(f"There is no file or folder {path}; give a text file, a JSON lines file, or a folder.")
    files: list[Path] = []
    seen = set() if exclude is None else {_identity(Path(exclude))}
    for folder, subfolders, names in os.walk(path, followlinks=True, onerror=_unreadable):
        here = Path(folder)
        if _identity(here) in seen or (here != path and ((here / RUN_MARK).exists() or is_packed(here))):
            subfolders.clear()
            continue
        seen.add(_identity(here))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [here / name for name in names if not name.startswith(".") and (here / name).is_file()]
    if not files:
        raise CorpusError(f"The folder {path} holds no files; give one with text or JSON lines files.")
    return sorted(files)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unreadable(error: OSError) -> None:
    raise CorpusError(f"The folder {error.filename} cannot be read ({error.strerror}).") from None


def describe(path: str | os.PathLike[str], exclude: str | os.PathLike[str] | None = None) -> str:
    """Return the name and the size of a corpus, which together identify it."""
    n_bytes = sum(file.stat().st_size for file in corpus_files(path, exclude))
    return f"{Path(path).resolve().name} ({n_bytes:,} bytes)"


def read_documents(
    path: str | os.PathLike[str],
    field: str = "text",
    exclude: str | os.PathLike[str] | None = None,
    encoding: str | None = None,
) -> Iterator[str]:
    """Yield the documents of a corpus one by one; parameters as in `corpus_files`.

    The format of a file is found from its content. JSON lines, if the first line is a JSON object: one document per
    line, in the field `field`; or one array of such objects. Otherwise plain text: blank lines separate the documents.
    Files are UTF-8 unless `encoding` or a byte order mark says otherwise, and may be compressed with xz or gzip.
    Documents of more than a million characters are cut; empty ones are left out.

    Raises CorpusError if a file cannot be read or is damaged, or a line is not JSON or has no such field.
    """
    for file in corpus_files(path, exclude):
        try:
            yield from _documents(file, field, encoding)
        except UnreadableFileError as error:
            raise CorpusError(str(error)) from None


def _documents(file: Path, field: str, encoding: str | None) -> Iterator[str]:
    with reading(file, encoding), open_text(file, newline="\n", encoding=encoding) as stream:
        number, line = _first_line(file, stream)
        if _is_array(line):
            with open_text(file, encoding=encoding) as array:
                for text in _json_documents(file, json_array(file, array), field, "object"):
                    yield from _pieces(text)
            return
        first, next_number = [(number, line)], number + line.endswith("\n")
        if _is_json_object(file, line):
            yield from _of_json_lines(file, itertools.chain(first, whole_lines(file, stream, next_number)), field)
        else:
            yield from _plain_documents(
                itertools.chain(first, numbered_lines(stream, _LONGEST_DOCUMENT, first=next_number))
            )


def _first_line(file: Path, stream: TextIOWrapper) -> tuple[int, str]:
    """Return the first line that is not blank, with its number; a JSON object is returned whole."""
    number, line = next((line for line in numbered_lines(stream, _LONGEST_DOCUMENT) if line[1].strip()), (1, ""))
    if line.lstrip().startswith("{") and not line.endswith("\n"):
        line += stream.readline(LONGEST_LINE)
        if not line.endswith("\n") and len(line) > LONGEST_LINE:
            raise UnreadableFileError(
                f"{file}, line {number}: longer than {LONGEST_LINE:,} characters; write one JSON object per line."
            )
    return number, line


def _is_array(line: str) -> bool:
    return line.strip() == "[" or line.lstrip().startswith('[{"')


def is_json_lines(file: Path) -> bool | None:
    """Tell whether a file has a JSON object in each line; None for an array of objects."""
    with reading(file), open_text(file, newline="\n") as stream:
        _, line = _first_line(file, stream)
        return None if _is_array(line) else _is_json_object(file, line)


def documents_of_lines(file: Path, stream: TextIOWrapper, is_json: bool, field: str, first: int) -> Iterator[str]:
    """Yield the documents in the lines of a stream, which begin with number `first` of a file."""
    if is_json:
        yield from _of_json_lines(file, whole_lines(file, stream, first), field)
    else:
        yield from _plain_documents(numbered_lines(stream, _LONGEST_DOCUMENT, first))


def _of_json_lines(file: Path, lines: Iterable[tuple[int, str]], field: str) -> Iterator[str]:
    for text in _json_documents(file, json_objects(file, lines), field, "line"):
        yield from _pieces(text)


def _is_json_object(file: Path, line: str) -> bool:
    """Tell whether the first line is a JSON object; refuse a file that is JSON in another form."""
    line = line.strip()
    with suppress(ValueError, RecursionError):
        if line.startswith("{") and isinstance(json.loads(line), dict):
            return True
    if line == "{" or line.startswith('{"'):
        raise UnreadableFileError(
            f"{file} looks like JSON, but its first line is not a whole object; write it as JSON lines: one object per "
            "line, nothing around them."
        )
    return False


def _json_documents(file: Path, rows: Iterable[tuple[int, dict[str, Any]]], field: str, unit: str) -> Iterator[str]:
    for number, row in rows:
        if not isinstance(row.get(field), str):
            fields = [name for name, value in row.items() if isinstance(value, str)]
            raise UnreadableFileError(
                f"{file}, {unit} {number}: field {short(field)} holds no text; fields with text: "
                f"{short_names(fields) or 'none'}."
            )
        yield row[field]


def _plain_documents(lines: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Yield the documents between blank lines; of a very long line, `lines` are pieces with the same number."""
    block: list[str] = []
    size = previous = 0
    for number, text in lines:
        is_blank_line = number != previous and not text.strip()
        previous = number
        if is_blank_line:
            yield from _pieces("".join(block))
            block, size = [], 0
            continue
        block.append(text)
        size += len(text)
        if size > _LONGEST_DOCUMENT:
            *whole, rest = _pieces("".join(block), keep_end=True)
            yield from whole
            block, size = [rest], len(rest)
    yield from _pieces("".join(block))


def _pieces(text: str, keep_end: bool = False) -> Iterator[str]:
    """Cut a long text, at line ends if possible; yield the last piece even if it is blank with `keep_end`."""
    start = 0
    while len(text) - start > _LONGEST_DOCUMENT:
        most = start + _LONGEST_DOCUMENT
        end = text.rfind("\n", start, most) + 1 or text.rfind(" ", start, most) + 1 or most
        if text[start:end].strip():
            yield text[start:end]
        start = end
    rest = text[start:]
    if keep_end or rest.strip():
        yield rest


def is_packed(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds what `pack_corpus` wrote, whole or not."""
    return sum((Path(folder) / name).is_file() for name in (IDS, OFFSETS, VOCABULARY, INFO)) > 1
