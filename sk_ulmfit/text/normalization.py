"""One spelling for characters that readers take for the same: quotes, dashes, spaces, invisible characters, letters.

NFKC would do more than that: it makes "10²" to "102" and "½" to "1⁄2". So the normal form is NFC, after a table of what
is replaced. ASCII characters are never changed.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence

# replacement -> characters
_SPELLINGS = {
    "'": "‘’‚‛‹›′‵ʹʻʼʽ´΄\u0374᾽᾿\u1ffd❛❜",
    '"': "“”„‟«»″‶ʺ〝〞〟❝❞",
    "-": "‐‑‒–—―−⁃﹘",
    "...": "…",
    "..": "‥",
    " ": "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
    "\u2800\u3164\uffa0",  # blank Braille and Hangul
    "\n": "\u2028\u2029",
    "": "\u00ad\u034f\u061c\u200b\u200e\u200f\ufeff\ufff9\ufffa\ufffb",
}
_INVISIBLE_RANGES = (
    (0x202A, 0x202E),  # directions of writing
    (0x2060, 0x206F),  # word joiner, invisible operators, directions
    (0xFE00, 0xFE0F),  # variation selectors
)
_OTHER_FORMS = (  # of letters and digits, of which NFKC makes the usual one
    (0xFB50, 0xFDFF),  # Arabic, by position in the word
    (0xFE50, 0xFE6F),  # small
    (0xFE70, 0xFEFE),  # Arabic, by position in the word
    (0xFF01, 0xFF9F),  # fullwidth Latin, halfwidth Japanese
    (0xFFA1, 0xFFEE),  # halfwidth Korean and signs
)
_LIGATURES = "ĲĳŉǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬅﬆﬓﬔﬕﬖﬗ"

_WORD_BREAK = re.compile("(?<=[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff])\u200b+")  # Thai, Lao, Tibetan, Burmese, Khmer
_JOINERS = re.compile("[\u200c\u200d]+")
_JOINED = re.compile(  # scripts and pictures in which joiners make a difference: Arabic to Sinhala, Mongolian, emoji
    "[\u0600-\u0dff\u1000-\u109f\u1780-\u18af\u2190-\u2bff\ua8e0-\ua8ff\U00011000-\U000114df\U0001f000-\U0001faff]"
)


def normalize(text: str) -> str:
    """Return a text in which each character has one spelling; ASCII stays as it is.

    Examples
    --------
    >>> from sk_ulmfit.text.normalization import normalize
    >>> print(normalize("“Don’t” – ﬁne…"))
    "Don't" - fine...
    """
    if text.isascii():
        return text
    if "\u200b" in text:
        text = _WORD_BREAK.sub(" ", text)
    text = _BEYOND.sub(_letter_or_nothing, text)
    text = _REPLACED.sub(_replacement, text)
    if "\u200c" in text or "\u200d" in text:
        text = _JOINERS.sub(_joiners_between_joined, text)
    return unicodedata.normalize("NFC", text)


def _replacement(match: re.Match[str]) -> str:
    return _TABLE[match.group()]


def _letter_or_nothing(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match.group()) if match.group() < "\U000e0000" else ""


def _joiners_between_joined(match: re.Match[str]) -> str:
    """Keep joiners between two characters of a script that needs them."""
    text, start, end = match.string, match.start(), match.end()
    is_needed = start and _JOINED.match(text, start - 1) and _JOINED.match(text, end)
    return match.group() if is_needed else ""


def _replacements() -> Iterator[tuple[str, str]]:
    """Yield the characters to replace, outside ASCII, and the replacement of each."""
    for replacement, characters in _SPELLINGS.items():
        yield from ((char, replacement) for char in characters)
    yield from ((char, "") for char in _characters(_INVISIBLE_RANGES))
    for code in range(0x80, 0xA0):  # Windows-1252 that was read as Latin-1
        char = bytes([code]).decode("cp1252", "ignore")
        if char and code != 0x85:  # a line end
            yield chr(code), char
    for char in itertools.chain(_LIGATURES, _characters(_OTHER_FORMS)):
        normal = unicodedata.normalize("NFKC", char)
        if normal != char and not normal.startswith(" "):  # a mark that stands alone
            yield char, normal


def _characters(ranges: Sequence[tuple[int, int]]) -> Iterator[str]:
    return (chr(code) for first, last in ranges for code in range(first, last + 1))


def _table() -> dict[str, str]:
    """Return the replacement of each character, in which nothing is left to replace."""
    table = dict(_replacements())
    return {char: "".join(table.get(part, part) for part in replacement) for char, replacement in table.items()}


_TABLE = _table()
_REPLACED = re.compile(f"[{''.join(map(re.escape, _TABLE))}]")  # no character beyond U+FFFF: the search would be slow
_BEYOND = re.compile("[\U0001d400-\U0001d7ff\U000e0000-\U000e0fff]")  # mathematical letters; tags, variation selectors
