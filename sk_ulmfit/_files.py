"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import IO, Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_PREFIX, _SUFFIX = ".sk_ulmfit-", ".part"  # names of temporary files, whatever the target is called
_ABANDONED_AFTER = 24 * 60 * 60  # seconds without a change, on file systems without locks
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}


class NotAFileError(ValueError):
    """A file was to be written to a folder, a named pipe or a device."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BufferedRandom]:
    """Write a file completely or not at all.

    The block writes to a temporary file in the same folder, which takes the place of `path` when the block ends
    without an exception. The temporary file is locked until then; unlocked ones, left by killed processes, are removed.
    A link is followed. A file that is replaced hands on its permissions.

    Yields
    ------
    file
        Open for writing and reading, in binary mode; leave it open.

    Raises
    ------
    NotAFileError
        If `path` exists and is not a regular file.
    OSError
        If the file cannot be written.
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
    except BaseException:
        file.close()
        temporary.unlink(missing_ok=True)
        raise
    finally:
        file.close()


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
