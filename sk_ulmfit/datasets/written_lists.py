"""Lists, tuples, sets and arrays in a cell of text, as JSON, Python, NumPy and pandas write them.

NumPy separates entries by white space, which Python reads as one string: ``['joy' 'love']``. So entries are read one
by one. A cell that is no collection is a text; one that begins like a collection and cannot be read exactly is refused.
"""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import Any

_MARKS = re.compile(r"[\[({<]|dtype: ")
_STRING = r"""[bBrRuU]{0,2}(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_ENTRY = re.compile(
    rf"(?P<wrapper>(?:np|numpy)\.\w+\(\s*)?(?:(?P<string>{_STRING})|(?P<word>[^\s,()\[\]{{}}'\"]+))(?(wrapper)\s*\))",
    re.DOTALL,
)
_GAP = re.compile(r"\s*(,?)\s*")
_INTEGER, _FLOAT = re.compile(r"[+-]?(0|[1-9]\d*)"), re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("None", "null", "nan", "NaN", "<NA>", "NaT"), None),
    **dict.fromkeys(("True", "true", "np.True_"), True),
    **dict.fromkeys(("False", "false", "np.False_"), False),
}
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_CALL = re.compile(r"([A-Za-z_][\w.]*)\(\s*(?=[\[({)'\"])")
_SETS, _LISTS = ("set", "frozenset"), ("list", "tuple", "array", "deque", "dict_keys", "dict_values", "Index")
_OTHERS = ("Counter", "OrderedDict", "defaultdict", "Series", "dict", "dict_items", "masked_array")
_FOREIGN = re.compile(
    r"<\w*Array>|<pyarrow\.|shape: \(\d|.*\n(Name: .*, )?(Length: \d+, )?dtype: [\w\[\]]+$", re.DOTALL
)
_BEGINS_WITH_STRING = re.compile(r"[\s\[({]*[bB]?['\"]")
_HOLDS_COLLECTION = re.compile(r"\w\(\s*[\[({]\s*['\"]")
_ONLY_NUMBERS = re.compile(r"\[[\[\]\d\s.,+-]*\d[\[\]\d\s.,+-]*")


class UnreadableListError(ValueError):
    """A cell begins like a collection, and its entries cannot be told."""


def parse_collection(cell: str) -> list[Any] | set[Any] | None:
    """Return the entries of a cell that is a list, tuple, set or array; None for a text, which may contain brackets.

    Missing entries are None. Raises UnreadableListError for a collection that is cut off, abbreviated or nested.
    """
    cell = cell.strip()
    if not _MARKS.search(cell):
        return None
    if _FOREIGN.match(cell):
        raise UnreadableListError
    if call := _CALL.match(cell):
        return _parse_call(cell, call)
    return _parse_brackets(cell) if cell[:1] in _CLOSING and cell else None


def _parse_call(cell: str, call: re.Match[str]) -> list[Any] | set[Any] | None:
    """Parse what a class writes, such as ``frozenset({'joy'})`` and ``array(['joy', 'love'], dtype=object)``."""
    name, inside = call[1].split(".")[-1], cell[call.end() :]
    if name not in (*_SETS, *_LISTS):
        is_list = name in _OTHERS or (name == "c" and inside[:1] in "\"'")
        if is_list or (inside[:1] in _CLOSING and _BEGINS_WITH_STRING.match(inside)):
            raise UnreadableListError
        return None
    if inside == ")":
        return set() if name in _SETS else []
    end = _end_of_brackets(inside)
    if end is None or not re.fullmatch(r"\s*(,\s*\w+=.*)?\)", inside[end:], re.DOTALL):
        raise UnreadableListError
    entries = _parse_brackets(inside[:end])
    if entries is None:
        raise UnreadableListError
    return set(entries) if name in _SETS else list(entries)


def _parse_brackets(cell: str) -> list[Any] | set[Any] | None:
    opening, end = cell[0], _end_of_brackets(cell)
    if end != len(cell):
        is_cut_off = end is None and opening == "[" and "," in cell
        if is_cut_off or _BEGINS_WITH_STRING.match(cell) or re.fullmatch(_ONLY_NUMBERS, cell.rstrip()):
            raise UnreadableListError
        return None
    inside = cell[1:-1]
    entries, separators = _json_list(cell) if opening == "[" else None, {","}
    if entries is None:
        entries, separators = _entries(inside)
    if entries is None:
        if _is_damaged(opening, cell, inside):
            raise UnreadableListError
        return None
    if opening == "(" and not (inside.strip() == "" or separators == {","}):
        if _BEGINS_WITH_STRING.match(inside):
            raise UnreadableListError
        return None  # a text in parentheses
    if opening == "{" and (not entries or separators == {""}):
        raise UnreadableListError  # an empty dict
    return set(entries) if opening == "{" else entries


def _is_damaged(opening: str, cell: str, inside: str) -> bool:
    """Tell whether what is in brackets was once a collection, rather than a text in brackets."""
    if _BEGINS_WITH_STRING.match(inside) or _HOLDS_COLLECTION.search(inside) or re.search(r",\s*['\"]", inside):
        return True
    if opening == "(":
        return False
    is_dict = opening == "{" and bool(re.match(r"\s*[\d.]+:", inside))
    is_cut = bool(re.search(r"(^|[\s,])(\.\.\.|…)([\s,]|$)", inside)) or bool(_ONLY_NUMBERS.fullmatch(cell))
    return is_dict or is_cut or "," in inside


def _end_of_brackets(text: str) -> int | None:
    """Return the index after the bracket that closes the first one, brackets in strings aside; None if none does."""
    expected: list[str] = []
    position, string = 0, re.compile(_STRING, re.DOTALL)
    while position < len(text):
        mark = text[position]
        begins_entry = position > 0 and (text[position - 1].isspace() or text[position - 1] in "([{,")
        if mark in "'\"" and begins_entry and (match := string.match(text, position)):
            position = match.end()
            continue
        if mark in _CLOSING:
            expected.append(_CLOSING[mark])
        elif expected and mark == expected[-1]:
            expected.pop()
        position += 1
        if not expected:
            return position
    return None


def _json_list(cell: str) -> list[Any] | None:
    with suppress(ValueError, RecursionError, MemoryError):
        parsed = json.loads(cell)
        if any(isinstance(entry, (list, dict)) for entry in parsed):
            raise UnreadableListError
        return [None if entry != entry else entry for entry in parsed]
    return None


def _entries(inside: str) -> tuple[list[Any] | None, set[str]]:
    """Return the entries between brackets, None if they cannot be told, and what separates them: "," or "" (white)."""
    text, position = inside.strip(), 0
    entries: list[Any] = []
    separators: set[str] = set()
    while position < len(text):
        match = _ENTRY.match(text, position)
        if match is None:
            return None, separators
        try:
            entries.append(_value(match))
        except (ValueError, SyntaxError):
            return None, separators
        position = match.end()
        gap = _GAP.match(text, position)
        if position < len(text) and gap is not None:
            if not gap[0]:
                return None, separators
            separators.add(gap[1])
            position = gap.end()
    return (entries if len(separators) < 2 else None), separators


def _value(match: re.Match[str]) -> Any:
    """Return the value of an entry; raise ValueError if it is none that a list of labels can hold."""
    if match["string"] is not None:
        value = ast.literal_eval(match["string"])
        if not isinstance(value, str):
            raise ValueError("bytes")
        return value
    word = match["word"]
    if word in _WORDS:
        return _WORDS[word]
    if _INTEGER.fullmatch(word):
        return int(word)
    if _FLOAT.fullmatch(word) and not re.match(r"[+-]?0\d", word):
        return float(word)
    raise ValueError(word)
