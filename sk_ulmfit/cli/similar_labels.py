"""Labels that look like a typing error of another one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from difflib import SequenceMatcher

from sk_ulmfit._messages import count, short
from sk_ulmfit.cli.answers import print_note
from sk_ulmfit.datasets.text_table import TextTable

LEAST_RATIO, MOST_LABELS, MOST_NOTES = 0.85, 1_000, 5  # more labels would take long to compare


def texts_with(table: TextTable) -> Counter[str]:
    """Count the texts that each label has."""
    return Counter(label for labels in table.labels or [] for label in set(labels))


def note_rare_labels(table: TextTable) -> None:
    """Print a note about labels of one text that are written like a more frequent one."""
    n_texts = texts_with(table)
    if len(n_texts) > MOST_LABELS:
        return
    frequent = {label: n for label, n in n_texts.items() if n > 1}
    notes = []
    for label in sorted(n_texts.keys() - frequent.keys()):
        if other := similar(label, frequent):
            notes.append(
                f"{short(label)} labels 1 text; did you mean {short(other)} ({count(frequent[other], 'text')})?"
            )
    for note in notes[:MOST_NOTES]:
        print_note(note)


def similar(label: str, n_texts: Mapping[str, int]) -> str | None:
    """Return the label that is written most like this one, None if none is; numbers in them must be the same."""
    ratios = {other: _ratio(label, other) for other in n_texts}
    best = max(ratios, key=lambda other: (ratios[other], n_texts[other]), default=None)
    return None if best is None or ratios[best] < LEAST_RATIO else best


def _ratio(label: str, other: str) -> float:
    if re.findall(r"\d+", label) != re.findall(r"\d+", other):
        return 0.0
    matcher = SequenceMatcher(None, label.casefold(), other.casefold())
    if matcher.real_quick_ratio() < LEAST_RATIO or matcher.quick_ratio() < LEAST_RATIO:
        return 0.0
    return matcher.ratio()
