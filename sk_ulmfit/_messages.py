"""Values and names in messages: on one line and shortened, so that no cell or list comes back whole."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

_LONGEST_VALUE, _LONGEST_NAME, _MOST_NAMES = 80, 30, 5

# What a terminal would obey or cannot show: control characters, marks of direction, ends of lines, lone surrogates.
_UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff\\ufeff]"
)


def printable(text: str, keep: str = "") -> str:
    """Escape control characters and other characters that a terminal would obey, except those in `keep`."""
    return _UNPRINTABLE.sub(lambda m: m[0] if m[0] in keep else m[0].encode("unicode_escape").decode(), text)


def printable_json(text: str) -> str:
    """Escape in JSON what `printable` escapes in a text; the data stay the same."""
    return _UNPRINTABLE.sub(lambda m: m[0] if m[0] == "\n" else f"\\u{ord(m[0]):04x}", text)


def short(value: Any, most: int = _LONGEST_VALUE) -> str:
    """Return the repr of a value on one line, at most `most` characters of it."""
    if isinstance(value, (str, bytes, list, tuple)) and type(value).__repr__ in _REPRS_OF_SEQUENCES:
        value = value[: most + 1]  # what is cut off anyway need not be written
    try:
        text = repr(value)
    except Exception:  # any class of a user may be in a message about it
        text = object.__repr__(value)
    if not isinstance(value, (str, bytes)):
        text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


_REPRS_OF_SEQUENCES = {str.__repr__, bytes.__repr__, list.__repr__, tuple.__repr__}


def short_text(text: object, most: int = _LONGEST_VALUE) -> str:
    """Return a text, such as the message of another package, on one line, at most `most` characters of it."""
    line = " ".join(str(text)[: 2 * most].split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def short_names(names: Sequence[Any]) -> str:
    """Return the first five names, each shortened, for a message."""
    return first_few([short(name, _LONGEST_NAME) for name in names[: _MOST_NAMES + 1]], len(names))


def first_few(parts: Sequence[str], n: int | None = None) -> str:
    """Join the first five of `n` parts of a message."""
    n = len(parts) if n is None else n
    return ", ".join(parts[:_MOST_NAMES]) + (f", ... ({n} in all)" if n > _MOST_NAMES else "")


def count(n: int, noun: str) -> str:
    """Return a number with its noun: "1 text", "4,321 texts"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def describe_value(item: Any) -> str:
    """Describe an invalid value: at most 40 characters, and its type."""
    if item is None:
        return "None"
    if isinstance(item, float) and math.isnan(item):
        return "nan (a missing value)"
    return f"{short(item, 40)} of type {type(item).__name__}"
