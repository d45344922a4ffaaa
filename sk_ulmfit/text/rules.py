"""Rule tokenizer of spaCy in plain Python, with the rules that spaCy has for each language.

Importing spaCy takes longer than all other imports of a prediction, so its rules are in `rules.zip`, which
`tests/tokenizer_rules.py` writes. Languages whose tokenizer is more than rules need spaCy itself.

The steps are those of `spacy.tokenizer.Tokenizer` for a piece of text without white space: a special case, or prefixes
and suffixes off in turns and the rest at infixes; then tokens that together are a special case are replaced.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

RULES = Path(__file__).with_name("rules.zip")
EXPRESSIONS = ("prefix", "suffix", "infix", "token_match", "url_match")

Tokens = tuple[str, ...]


class RuleTokenizer:
    """The rules of one language.

    `rules` has ``[pattern, flags]``, or None, for each of `EXPRESSIONS`, and "special_cases": tokens by string.
    """

    def __init__(self, rules: Mapping[str, Any]):
        prefix, suffix, infix, token, url = (_compile(rules[name]) for name in EXPRESSIONS)
        self._prefix, self._suffix, self._infixes = prefix.search, suffix.search, infix.finditer
        self._is_token, self._is_url = token.match, url.match
        self._special: dict[str, Tokens] = {case: tuple(tokens) for case, tokens in rules["special_cases"].items()}
        self._phrases = set(map(self._phrase, filter(self._is_split, self._special))) - {()}
        self._lengths: dict[str, set[int]] = defaultdict(set)  # of the phrases that begin with a token
        for phrase in self._phrases:
            self._lengths[phrase[0]].add(len(phrase))

    def tokens(self, piece: str) -> Sequence[str]:
        """Return the tokens of a piece of text without white space."""
        tokens = self._special[piece] if piece in self._special else self._split(piece, self._special)
        return tokens if self._lengths.keys().isdisjoint(tokens) else self._replace_phrases(tokens)

    def _split(self, piece: str, special: Mapping[str, Tokens]) -> Sequence[str]:
        """Take off prefixes and suffixes until none is left, or what is left is a special case."""
        prefixes: list[str] = []
        suffixes: list[str] = []
        n_before = 0
        while piece and len(piece) != n_before and piece not in special and not self._is_token(piece):
            n_before = len(piece)
            start = _length(self._prefix(piece))
            if start and piece[start:] in special:
                end = n_before
            else:
                end = n_before - _length(self._suffix(piece[start:]))
                start = 0 if end < n_before and piece[:end] in special else start
            prefixes += [piece[:start]] if start else []
            suffixes += [piece[end:]] if end < n_before else []
            piece = piece[start:end]
        return [*prefixes, *self._inner(piece, special), *reversed(suffixes)]

    def _inner(self, piece: str, special: Mapping[str, Tokens]) -> Sequence[str]:
        """Return the tokens of what is left between prefixes and suffixes."""
        if piece in special:
            return special[piece]
        if not piece or self._is_token(piece) or self._is_url(piece):
            return [piece] if piece else []
        tokens: list[str] = []
        start = 0
        for match in self._infixes(piece):
            if match.start():
                tokens += [piece[start : match.start()], match.group()]
                start = match.end()
        return [token for token in (*tokens, piece[start:]) if token]

    def _is_split(self, case: str) -> bool:
        """Tell whether prefixes, suffixes, infixes or blanks split a special case."""
        return bool(" " in case or self._prefix(case) or self._suffix(case) or any(self._infixes(case)))

    def _phrase(self, case: str) -> Tokens:
        """Return the tokens of a special case without special cases; none if it has white space that is a token."""
        parts = case.removesuffix(" ").split(" ")
        if any(part.split() != [part] for part in parts):
            return ()
        return tuple(token for part in parts for token in self._split(part, {}))

    def _replace_phrases(self, tokens: Sequence[str]) -> list[str]:
        """Replace tokens that together are a special case: the longest first, of equally long ones the first."""
        found = [
            (start, start + n)
            for start, token in enumerate(tokens)
            for n in self._lengths.get(token, ())
            if start + n <= len(tokens) and tuple(tokens[start : start + n]) in self._phrases
        ]
        taken: set[int] = set()
        new: dict[int, tuple[int, Sequence[str]]] = {}
        for start, end in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
            if start not in taken and end - 1 not in taken:
                new[start] = end, self._special.get("".join(tokens[start:end]), tokens[start:end])
            taken.update(range(start, end))
        replaced: list[str] = []
        position = 0
        while position < len(tokens):
            position, part = new.get(position, (position + 1, tokens[position : position + 1]))
            replaced += part
        return replaced


def _length(match: re.Match[str] | None) -> int:
    return 0 if match is None else match.end() - match.start()


def _compile(expression: list[Any] | None) -> re.Pattern[str]:
    pattern, flags = ("(?!)", 0) if expression is None else expression  # the first matches nothing
    return re.compile(pattern, flags)


@cache
def rule_languages() -> frozenset[str]:
    """Return the codes of the languages that have rules."""
    with zipfile.ZipFile(RULES) as file:
        return frozenset(name.removesuffix(".json") for name in file.namelist() if name.endswith(".json"))


def read_rules(language: str) -> dict[str, Any]:
    """Return the rules of a language."""
    with zipfile.ZipFile(RULES) as file:
        rules: dict[str, Any] = json.loads(file.read(f"{language}.json"))
    return rules
