"""Whether labels were cut at the wrong delimiter: a label whose parts are labels of their own, or look like several."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence

from sk_ulmfit._messages import short

_MARKS = re.compile(r"[\W_]+")
_INSIDE_WORDS = {"-", "'", "’", "."}  # no delimiters, although the parts of "sci-fi" may be labels too
_LIKELY = (";", "|", "\t", "\n")  # no label holds one of these by intention
_LISTED = (*_LIKELY, ",")
_TAGS = re.compile(r"<[^<>]+>(<[^<>]+>)*")


class DelimiterWarning(UserWarning):
    """Labels of a table consist of other labels, so another delimiter separates them: `mark`."""

    def __init__(self, what: str, mark: str):
        super().__init__(f"{what}; pass delimiter={short(mark)} if each of them stands for several labels.")
        self.what, self.mark = what, mark


def warn_of_other_delimiter(source: str, label_names: Iterable[str], delimiter: str) -> None:
    """Warn if labels from cells of text consist of other labels, or if a label holds an unlikely character."""
    names = sorted(label_names)
    found = joined_labels(names, delimiter)
    if found:
        mark, joined = found
        what = f"{source}: {len(joined)} of {len(names)} labels, such as {short(joined[0])}, consist of other labels"
        warnings.warn(DelimiterWarning(what, mark), stacklevel=3)
        return
    odd = next(((name, mark) for name in names for mark in _LIKELY if mark in name and mark != delimiter), None)
    if odd:
        warnings.warn(
            f"{source}: label {short(odd[0])} contains {short(odd[1])}; is that the delimiter, rather than "
            f"{short(delimiter)}?",
            UserWarning,
            stacklevel=3,
        )


def joined_labels(names: Sequence[str], delimiter: str) -> tuple[str, list[str]] | None:
    """Return the mark that separates labels within other labels, and these; None if there is none.

    Every part of such a label is a label itself. With the marks of lists it may also be part of another such label.
    """
    by_mark: dict[str, list[str]] = {}
    if delimiter != "><" and any(name.count("><") for name in names):
        by_mark["><"] = [name for name in names if "><" in name and _TAGS.fullmatch(name)]
    with_mark: dict[str, list[str]] = {}
    for name in names:
        for mark in _marks(name) - {delimiter, "><"}:
            with_mark.setdefault(mark, []).append(name)
    cuts = {mark: _cut(joined, mark) for mark, joined in with_mark.items()}
    alone = set(names)
    for mark, parts_of in cuts.items():
        counts = Counter(part for parts in parts_of.values() for part in set(parts)) if mark in _LISTED else Counter()
        by_mark[mark] = [
            name for name, parts in parts_of.items() if all(part in alone or counts[part] > 1 for part in parts)
        ]
    most = max(by_mark, key=lambda mark: (len(by_mark[mark]), mark), default="")
    return (most, by_mark[most]) if by_mark.get(most) else None


def _marks(name: str) -> set[str]:
    """Return what may separate labels in a name: every run of marks, without the spaces around it."""
    runs = {run.strip(" ") or " " for run in _MARKS.findall(name.strip())}
    return {"\n" if run == "\r\n" else run for run in runs} - _INSIDE_WORDS


def _cut(names: Sequence[str], mark: str) -> dict[str, list[str]]:
    """Return the parts of each name that a mark separates into several, none of them empty."""
    cut = {name: [part.strip() for part in name.split(mark)] for name in names}
    return {name: parts for name, parts in cut.items() if len(parts) > 1 and all(parts)}
