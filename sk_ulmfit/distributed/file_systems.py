"""Files by any path of fsspec: found, and written completely or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import IO, Any, cast

from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short, short_text
from sk_ulmfit.distributed.extra import needed

PARQUET = (".parquet", ".pq")
_TEMPORARY = ".sk_ulmfit-"  # how files that are not whole yet begin


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a path or an address, and the path in it; raise ValueError if there is none."""
    if "://" not in url:
        check_name(url)
    try:
        system, path = needed("fsspec.core").url_to_fs(url)
    except ImportError as error:  # of a package such as s3fs; fsspec says which
        raise ValueError(f"{short(url)} cannot be reached: {short_text(error, 200)}.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{short(url)} is not a path or an address of fsspec ({short_text(error, 200)}).") from None
    return system, path


def check_name(path: str) -> None:
    """Raise ValueError for a path that fsspec would cut in two."""
    if "::" in path:
        raise ValueError(f"{short(path, 200)} cannot be used, because :: joins file systems of fsspec; rename it.")


def has_pattern(path: str) -> bool:
    """Tell whether a path is a pattern, such as ``mail/*.parquet``."""
    return any(mark in path for mark in "*?[")


def parquet_files(url: str) -> tuple[Any, list[str]]:
    """Return the Parquet files of a file, a folder or a pattern, sorted by path, and their file system.

    Files in subfolders are found, and those whose name begins with a dot or an underscore are left out, as Dask and
    Spark do. Raises ValueError if there are none.
    """
    system, path = file_system(url)
    try:
        found = [path] if system.exists(path) else system.glob(path) if has_pattern(path) else []
        files = [file for each in found for file in (system.find(each) if system.isdir(each) else [each])]
    except OSError as error:
        raise ValueError(f"{short(url)} cannot be read ({short_text(error, 200)}).") from None
    files = sorted({file for file in files if file.endswith(PARQUET) and _name(file)[0] not in "._"})
    for file in files:
        check_name(file)
    if not files:
        raise ValueError(f"There are no Parquet files at {short(url, 200)}; give a file, a folder or a pattern.")
    return system, files


@contextmanager
def whole_file(system: Any, path: str) -> Iterator[IO[bytes]]:
    """Write a file completely or not at all; yields a file to write to."""
    if is_local(system):
        with atomic_write(path) as file:
            yield cast(IO[bytes], file)
        return
    folder, name = path.rsplit("/", 1) if "/" in path else ("", path)
    temporary = f"{folder}/{_TEMPORARY}{name}-{token_hex(4)}"
    with tempfile.TemporaryFile(prefix="sk_ulmfit-") as file:
        yield cast(IO[bytes], file)
        file.seek(0)
        with system.open(temporary, "wb") as target:
            shutil.copyfileobj(file, target)
        system.mv(temporary, path)


def remove_leftovers(system: Any, folder: str) -> None:
    """Remove what killed processes left in a folder that is not on this machine's disks."""
    if is_local(system):
        return  # `atomic_write` does it
    with suppress(OSError):
        for path in system.ls(folder, detail=False):
            if _name(path).startswith(_TEMPORARY):
                system.rm_file(path)


def is_local(system: Any) -> bool:
    """Tell whether a file system is that of this machine."""
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def names_in(system: Any, folder: str) -> set[str]:
    """Return the names of the files in a folder, none if there is no folder."""
    system.invalidate_cache()
    return {_name(path) for path in system.ls(folder, detail=False)} if system.exists(folder) else set()


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
