"""Files: written completely or not at all, and read by what they contain, compressed or not."""

from __future__ import annotations

import codecs
import errno
import gzip
import json
import lzma
import os
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

from sk_ulmfit._messages import short

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX, _SUFFIX = ".sk_ulmfit-", ".part"  # names of temporary files, whatever the target is called
_ABANDONED_AFTER = 24 * 60 * 60  # seconds without a change, on file systems without locks
LONGEST_LINE = 2**23  # characters of a line, a row or a text that is read whole: few bytes may decompress to terabytes
_XZ, _GZIP = b"\xfd7zXZ\x00", b"\x1f\x8b"  # how compressed files begin
_MARKS = (  # byte order marks, the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}


class NotAFileError(ValueError):
    """A file was to be written to a folder, a named pipe or a device."""


class UnreadableFileError(ValueError):
    """A file cannot be read, or is not what its reader expects; the message names the file and the line."""


def as_path(path: str | os.PathLike[str], error: type[Exception] = ValueError) -> Path:
    """Return a path; raise `error` for one that no file can have, such as a text in place of a path."""
    try:
        os.lstat(path)
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            raise error(f"The path {short(os.fspath(path))} is longer than the system allows; pass a path.") from None
    except ValueError:
        raise error(f"The path {short(os.fspath(path))} holds a null character; pass a path.") from None
    return Path(path)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BufferedRandom]:
    """Write a file completely or not at all.

    The block writes to a temporary file in the same folder, which takes the place of `path` when the block ends
    without an exception. The temporary file is locked until then; unlocked ones, left by killed processes, are removed.
    A link is followed. A file that is replaced hands on its permissions.

    Yields the temporary file, open in binary mode; do not close it. Raises NotAFileError if `path` exists and is not a
    regular file, OSError if it cannot be written.
    """
    target = writable_target(path)
    _remove_leftovers(target.parent)
    file = _open_temporary(target)
    temporary = Path(file.name)
    try:
        yield file
        file.flush()
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.fsync(file.fileno())
        if fcntl is None:  # Windows renames closed files only
            file.close()
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):  # a full disk, again
            file.close()
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        file.close()


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a folder completely or not at all.

    Yields a temporary folder beside `path`, which takes its place when the block ends without an exception; a folder
    that is there is removed then. Raises OSError if it cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary, earlier = (target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}") for _ in range(2))
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        if target.exists():
            os.rename(target, earlier)
        try:
            os.rename(temporary, target)
        except OSError:
            if earlier.exists():
                os.rename(earlier, target)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


def writable_target(path: str | os.PathLike[str]) -> Path:
    """Follow links to the file to be written; raise NotAFileError unless it is a regular file or new."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        kind = stat.S_IFREG
    if kind != stat.S_IFREG:
        raise NotAFileError(f"{path} is a {_KINDS.get(kind, 'special file')}; give the name of a file to write.")
    return Path(os.path.realpath(path))


def check_writable_folder(path: str | os.PathLike[str]) -> None:
    """Raise OSError if no file can be made in the folder of `path`."""
    file = _open_temporary(Path(path))
    file.close()
    Path(file.name).unlink(missing_ok=True)


def _open_temporary(target: Path) -> BufferedRandom:
    """Make and lock a new file in the folder of `target`, readable by nobody who may not read the target."""
    mode = stat.S_IMODE(target.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR if target.exists() else 0o666
    while True:
        temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
        try:
            file = open(temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from None
        # between opening and locking, another process may have taken it for a leftover
        if _lock(file) is not False and _is_at(file, temporary):
            return file
        file.close()


def _lock(file: IO[bytes]) -> bool | None:
    """Lock a file; False if another process or thread holds it, None on a file system without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Hold the lock of this name while the block runs; other processes and threads that want it wait.

    The system releases the lock of a killed process. Where locks are not available, nobody waits.
    """
    try:
        path.parent.mkdir(exist_ok=True)
        file = path.open("ab")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):  # a file system without locks
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                with suppress(OSError):
                    _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(path: Path) -> None:
    """Remove a temporary file unless somebody may still be writing it."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(path, "r+b", opener=lambda name, usual: os.open(name, usual | flags)) as file:
        status = os.fstat(file.fileno())
        locked = _lock(file) if stat.S_ISREG(status.st_mode) else False
        if locked:  # whoever writes holds the lock
            path.unlink()
    if locked is None and time.time() - status.st_mtime > _ABANDONED_AFTER:
        path.unlink()


def open_bytes(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading in binary mode; decompress it if it begins like an xz or gzip file."""
    with open(path, "rb") as file:
        start = file.read(len(_XZ))
    if start == _XZ:
        return lzma.open(path)
    if start.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(path))
    return open(path, "rb")


def is_plain_utf8(path: str | os.PathLike[str]) -> bool:
    """Tell whether a text file can be read from any line on: neither compressed nor marked as UTF-16 or UTF-32."""
    with open(path, "rb") as file:
        start = file.read(len(_XZ))
    return not start.startswith((_XZ, _GZIP)) and _encoding_of_mark(path) in (None, "utf-8-sig")


def check_exists(path: str | os.PathLike[str]) -> None:
    """Raise UnreadableFileError unless `path` is a regular file or a folder; anything else can be read only once."""
    try:
        kind = stat.S_IFMT(os.stat(as_path(path)).st_mode)
    except OSError:
        raise UnreadableFileError(f"There is no file {path}.") from None
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise UnreadableFileError(
            f"{path} is a {_KINDS.get(kind, 'special file')}, and texts are read several times; write "
            "them to a regular file first."
        )


def open_text(path: str | os.PathLike[str], newline: str | None = "", encoding: str | None = None) -> TextIOWrapper:
    """Open a text file, plain or compressed, for reading; skip a byte order mark and keep line ends as they are.

    With the default `newline` a line ends at CR, LF or CR LF; with a line feed it ends there only. Without an encoding,
    the file is UTF-8, or what its byte order mark says.
    """
    if encoding is None or codecs.lookup(encoding).name.startswith("utf-"):
        encoding = _encoding_of_mark(path) or encoding or "utf-8"
    return TextIOWrapper(open_bytes(path), encoding=encoding, newline=newline)


def _encoding_of_mark(path: str | os.PathLike[str]) -> str | None:
    """Return the encoding that the byte order mark of a file says, if it has one."""
    with open_bytes(path) as file:
        start = file.read(4)
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def check_encoding(encoding: str | None) -> None:
    """Raise ValueError unless Python knows an encoding of text by this name."""
    try:
        if encoding is not None:
            TextIOWrapper(BytesIO(), encoding=encoding)
    except (LookupError, ValueError, TypeError):
        raise ValueError(
            f"encoding={short(encoding)} is not known; pass a name such as 'utf-8', 'cp1252' or 'utf-16'."
        ) from None


def read_text(path: str | os.PathLike[str], encoding: str | None = None) -> str:
    """Return the text of a file, plain or compressed, with line feeds as line ends; encodings as in `open_text`."""
    with reading(path, encoding), open_text(path, newline=None, encoding=encoding) as file:
        text = file.read(LONGEST_LINE + 1)
        if len(text) > LONGEST_LINE:
            raise UnreadableFileError(f"{path} has more than {LONGEST_LINE:,} characters; split it into several files.")
        return text


def numbered_lines(file: TextIOWrapper, longest: int = -1, first: int = 1) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, counted from `first`.

    A line of more than `longest` characters comes in pieces, all with the same number.
    """
    number = first
    while line := file.readline(longest):
        yield number, line
        number += line.endswith("\n") or len(line) != longest


def whole_lines(path: str | os.PathLike[str], file: TextIOWrapper, first: int = 1) -> Iterator[tuple[int, str]]:
    """Yield each line with its number; raise UnreadableFileError at a line of more than `LONGEST_LINE` characters."""
    for number, line in numbered_lines(file, LONGEST_LINE + 1, first):
        if len(line) > LONGEST_LINE:
            raise UnreadableFileError(
                f"{path}, line {number}: longer than {LONGEST_LINE:,} characters; write one JSON object per line."
            )
        yield number, line


def json_objects(
    path: str | os.PathLike[str], lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON object in each line with the number of the line; skip blank lines."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"not JSON ({error})"
        else:
            if isinstance(row, dict):
                yield number, row
                continue
            reason = f"a JSON {type(row).__name__}"
        raise UnreadableFileError(
            f"{path}, line {number}: {reason}; expected one JSON object per line, or one array of objects."
        )


@contextmanager
def reading(path: str | os.PathLike[str], encoding: str | None = None) -> Iterator[None]:
    """Turn every error of reading a file into an UnreadableFileError of one line."""
    try:
        yield
    except UnicodeError:
        if encoding is None and (found := _encoding_of_mark(path)) != "utf-8-sig":
            encoding = found
        place = _place_of_bad_byte(path) if encoding is None else ""
        raise UnreadableFileError(
            f"{path}{place} is not {encoding or 'UTF-8'} text; name its encoding (encoding='cp1252', or --encoding "
            "cp1252), or save it as UTF-8 (in Excel: CSV UTF-8)."
        ) from None
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFileError(f"{path} is damaged or cut off ({error}); fetch or compress it again.") from None
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read ({error.strerror or error}).") from None


def _place_of_bad_byte(path: str | os.PathLike[str]) -> str:
    """Return the line, and the byte in it, at which a file stops being UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    number, n_bytes = 1, 0  # of the line so far
    with suppress(EOFError, OSError, lzma.LZMAError, zlib.error), open_bytes(path) as file:
        while True:
            piece = file.readline(2**20)
            n_pending = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece or piece.endswith(b"\n"))
            except UnicodeDecodeError as error:
                return f", line {number}, byte {n_bytes - n_pending + error.start + 1}"
            if not piece:
                break
            n_bytes += len(piece)
            if piece.endswith(b"\n"):
                number, n_bytes = number + 1, 0
    return ""
