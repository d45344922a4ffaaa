"""Parquet files cut into parts, and the folder of the parts that are predicted, so that a run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sk_ulmfit._messages import short, short_names, short_text
from sk_ulmfit._version import __version__
from sk_ulmfit.distributed.extra import needed
from sk_ulmfit.distributed.file_systems import (
    file_system,
    is_local,
    names_in,
    parquet_files,
    remove_leftovers,
    whole_file,
)

ROWS_PER_PART = 50_000
RUN = "_run.json"  # what the parts of a folder were made from; tools for Parquet leave such names out
_READERS = 8  # files whose ends are read at the same time
_WHAT_DIFFERS = {
    "version": "another version of sk_ulmfit",
    "model": "another model",
    "threshold": "another threshold",
    "text": "other text columns",
    "rows_per_part": "parts of another size",
    "files": "other or changed files",
}


@dataclass(frozen=True)
class Part:
    """Rows of a Parquet file.

    Attributes
    ----------
    number : int
        Number of the part, in the order of the rows of all files.
    file : str
        Path or address of the file.
    start, stop : int
        First row, and the row after the last one.
    version : (int, str)
        Bytes, and time or checksum, of the file.
    """

    number: int
    file: str
    start: int
    stop: int
    version: tuple[int, str]

    @property
    def name(self) -> str:
        """Name of the file with its predictions."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Source:
    """Parquet files with the same text columns.

    Attributes
    ----------
    files : list of (str, int, str, int)
        Address, bytes, time or checksum, and rows of each.
    """

    files: list[tuple[str, int, str, int]]

    def parts(self) -> Iterator[Part]:
        """Yield the parts of all files."""
        number = 0
        for file, n_bytes, stamp, n_rows in self.files:
            for start in range(0, n_rows, ROWS_PER_PART):
                yield Part(number, file, start, min(start + ROWS_PER_PART, n_rows), (n_bytes, stamp))
                number += 1


def read_source(url: str, columns: Sequence[str], out: str) -> Source:
    """Find Parquet files, read how many rows they have, and check that they have the text columns.

    Files in the folder `out`, which are the parts of an earlier run, are left out.
    """
    system, found = parquet_files(url)
    folder = _address(*file_system(out)).rstrip("/") + "/"
    paths = [path for path in found if not _address(system, path).startswith(folder)]
    if not paths:
        raise ValueError(f"All Parquet files of {url} are in {out}; give another folder to --out.")
    parquet = needed("pyarrow.parquet")

    def describe(path: str) -> tuple[str, int, str, int]:
        try:
            version = version_of(system, path)
            with system.open(path, "rb") as file:
                metadata = parquet.read_metadata(file)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is not a Parquet file, or is damaged ({short_text(error)}).") from None
        names = metadata.schema.to_arrow_schema().names
        for column in columns:
            if names.count(column) > 1:
                raise ValueError(f"{path} has several columns {short(column)}; rename all but one.")
            if column not in names:
                raise ValueError(f"{path} has no column {short(column)}. Its columns are {short_names(names)}.")
        return system.unstrip_protocol(path), *version, metadata.num_rows

    with ThreadPoolExecutor(_READERS) as readers:
        files = list(readers.map(describe, paths))
    if not sum(n_rows for *_, n_rows in files):
        raise ValueError(f"{url} has no rows; at least one was expected.")
    return Source(files)


def version_of(system: Any, path: str) -> tuple[int, str]:
    """Return the bytes of a file, and its time or checksum, as far as the file system knows."""
    info = system.info(path)
    stamps = (str(info[key]) for key in ("ETag", "etag", "mtime", "LastModified", "updated") if key in info)
    return int(info["size"]), next(stamps, "")


def open_folder(url: str, source: Source, model: str, threshold: Any, text: Sequence[str], force: bool) -> list[Part]:
    """Make the folder of a run, or go on with it; return the parts that are not there yet.

    `force` removes the parts that are there. Raises ValueError if the folder holds parts of another run or other files.
    """
    system, folder = file_system(url)
    run: dict[str, Any] = {
        "version": __version__,
        "model": model,
        "threshold": threshold,
        "text": list(text),
        "rows_per_part": ROWS_PER_PART,
        "files": [list(file) for file in source.files],
    }
    if system.exists(folder) and not system.isdir(folder):
        raise ValueError(f"{url} is a file; give the name of a folder to write to.")
    names = names_in(system, folder)
    if names and RUN not in names:
        raise ValueError(f"The folder {url} holds other files; give a new or empty folder to --out.")
    if RUN in names and not force and (difference := _difference(system, folder, run)):
        raise ValueError(
            f"The folder {url} holds parts of a run with {difference}; pass --force to begin anew, or another --out."
        )
    if RUN in names and force:
        _remove_parts(system, folder, names)
        names = set()
    if RUN not in names:
        _begin(system, folder, url, run)
    remove_leftovers(system, folder)
    return [part for part in source.parts() if part.name not in names]


def check_still_run(system: Any, folder: str, model: str | None, threshold: Any, text: Sequence[str]) -> None:
    """Raise ValueError if another run has begun in the folder of a run."""
    try:
        difference = _difference(system, folder, {"model": model, "threshold": threshold, "text": list(text)})
    except FileNotFoundError:
        difference = "no description"
    if difference:
        raise ValueError(f"Another run, with {difference}, has begun in {folder}; give each run its own --out.")


def _address(system: Any, path: str) -> str:
    """Return the address of a path, in which the links of this machine are followed."""
    address: str = system.unstrip_protocol(os.path.realpath(path) if is_local(system) else path)
    return address


def holds_run(url: str) -> bool:
    """Tell whether a folder holds parts of a run; False if it cannot be read."""
    try:
        system, folder = file_system(url)
        return RUN in names_in(system, folder)
    except (OSError, ValueError):
        return False


def _difference(system: Any, folder: str, run: dict[str, Any]) -> str:
    """Say in what an earlier run in a folder differs; an empty text if it is the same."""
    try:
        earlier = json.loads(system.cat_file(f"{folder}/{RUN}"))
    except ValueError:
        earlier = {}
    earlier = earlier if isinstance(earlier, dict) else {}
    return " and ".join(words for key, words in _WHAT_DIFFERS.items() if key in run and earlier.get(key) != run[key])


def _remove_parts(system: Any, folder: str, names: set[str]) -> None:
    """Remove what a run has written, its description last."""
    for name in sorted(names - {RUN}):
        if name.startswith("part-") and name.endswith(".parquet"):
            system.rm_file(f"{folder}/{name}")
    system.rm_file(f"{folder}/{RUN}")


def _begin(system: Any, folder: str, url: str, run: dict[str, Any]) -> None:
    try:
        system.makedirs(folder, exist_ok=True)
        with whole_file(system, f"{folder}/{RUN}") as file:
            file.write(json.dumps(run).encode())
    except OSError as error:
        raise ValueError(f"The folder {url} cannot be created or written to ({short_text(error)}).") from None
