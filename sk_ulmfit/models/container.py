"""The outer form of a model file, safetensors: a JSON header, then arrays; checked before memory is spent on it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Parsing takes up to 7 bytes of memory for a byte of the header, and 72 for a JSON value. With these bounds that is at
# most 75 MB and three times the size of the file.
HEADER_BYTES, HEADER_SHARE = 4_000_000, 4
JSON_VALUES, BYTES_PER_VALUE = 600_000, 72
DEEPEST = 32  # levels of nested JSON
LARGEST_INTEGER = 2**63 - 1

_CODES = {"F": "f", "I": "i", "U": "u"}
_DTYPES = {"BOOL": np.dtype("?"), "I8": np.dtype("i1"), "U8": np.dtype("u1")} | {
    f"{kind}{8 * n}": np.dtype(f"<{code}{n}") for kind, code in _CODES.items() for n in (2, 4, 8)
}
_METADATA = "__metadata__"


class ContainerError(ValueError):
    """A file is not laid out as a model file, is cut off, or exceeds the bounds."""


class Place(NamedTuple):
    """Type and shape of an array, and the byte of the file at which it begins."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int

    @property
    def end(self) -> int:
        """The byte after the array."""
        return self.begin + math.prod(self.shape) * self.dtype.itemsize


class Container(Mapping[str, NDArray[Any]]):
    """The arrays of an open file by name, each read when it is asked for; `metadata` holds the strings of the header.

    Raises ContainerError unless the arrays fill the rest of the file without gaps.
    """

    def __init__(self, file: IO[bytes]):
        self.file = file
        size = os.fstat(file.fileno()).st_size
        header, first = _read_header(file, size)
        self.metadata = _metadata(header.pop(_METADATA, {}))
        self.places = {name: _place(name, entry, first) for name, entry in header.items()}
        _check_no_gaps(self.places.values(), first, size)

    def __getitem__(self, name: str) -> NDArray[Any]:
        place = self.places[name]
        array = np.empty(place.shape, place.dtype)
        self.file.seek(place.begin)
        if self.file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:  # type: ignore[attr-defined]
            raise ContainerError(f"it ends within the array {name}")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def check_header_size(n_bytes: int, n_values: int, size: int) -> None:
    """Raise ContainerError if a header, in a file of `size` bytes, is larger than is ever read."""
    most_bytes, most_values = HEADER_BYTES + size // HEADER_SHARE, JSON_VALUES + size // BYTES_PER_VALUE
    if n_bytes > most_bytes:
        raise ContainerError(
            f"its header has {n_bytes:,} bytes; with a file of this size at most {most_bytes:,} are read"
        )
    if n_values > most_values:
        raise ContainerError(
            f"its header has {n_values:,} JSON values; with a file of this size at most {most_values:,} are read"
        )


def count_values(text: bytes) -> int:
    """Return an upper bound of the number of values in JSON."""
    return 1 + sum(map(text.count, (b",", b"[", b"{")))


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; raise ContainerError if it is not JSON or nested too deeply."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ContainerError("its header is not JSON, or is nested too deeply") from None
    if depth(value) > DEEPEST:
        raise ContainerError(f"its header has JSON of more than {DEEPEST} levels")
    return value


def depth(value: Any) -> int:
    """Return the number of levels of nested JSON, counted to one more than `DEEPEST`."""
    level, n = [value], 0
    while n <= DEEPEST:
        inner = [item for item in level if isinstance(item, (dict, list))]
        if not inner:
            break
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
        n += 1
    return n


def _read_header(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    """Return the header and the byte at which it ends."""
    n_bytes = int.from_bytes(file.read(8), "little")
    first = 8 + n_bytes
    if not 8 < first <= size:
        raise ContainerError("it has no header")
    if file.read(1) != b"{":
        raise ContainerError("it has no header")
    check_header_size(n_bytes, 0, size)
    text = b"{" + file.read(n_bytes - 1)
    check_header_size(n_bytes, count_values(text), size)
    if not text.isascii():  # one wide character would make each character of a str four times as large
        raise ContainerError("its header holds bytes that are not ASCII")
    header = parse_json(text)
    if not isinstance(header, dict):
        raise ContainerError("its header is not a JSON object")
    return header, first


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) and text.isascii() for text in value.values()):
        raise ContainerError("its header has no strings of metadata")
    return value


def _place(name: str, entry: Any, first: int) -> Place:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ContainerError(f"its header does not describe the array {name[:80]!r}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    is_known = isinstance(dtype, str) and dtype in _DTYPES
    if not is_known or not _are_sizes(shape, 4) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise ContainerError(f"its header does not describe the array {name[:80]!r}")
    place = Place(_DTYPES[dtype], tuple(shape), first + offsets[0])
    if place.end != first + offsets[1]:
        raise ContainerError(f"the array {name[:80]!r} does not have the size of its shape")
    return place


def _are_sizes(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(number) is int and 0 <= number <= LARGEST_INTEGER for number in value)
    )


def _check_no_gaps(places: Any, first: int, size: int) -> None:
    end = first
    for place in sorted(places, key=lambda place: (place.begin, place.end)):
        if place.begin != end:
            raise ContainerError("its arrays overlap or leave gaps")
        end = place.end
    if end != size:
        raise ContainerError("its arrays do not fill it")
