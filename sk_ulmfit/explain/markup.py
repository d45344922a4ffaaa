"""HTML of texts with highlighted words: plain tags, no scripts, nothing to load."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# The palette of Okabe and Ito, safe for colour-blind readers, without black and yellow
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0))
FAINTEST = 0.08  # smallest score to mark, as a share of the largest one of the label
LOWEST_SCALE = 0.2  # of the largest score of all: labels with smaller ones have no word of full colour
LONGEST_TEXT, CONTEXT = 3_000, 15  # characters of a text to show; words around each strong one
LABELS_IN_TOOLTIP = 5

STYLE = """
.sk-ulmfit { line-height: 1.7; margin: 1em 0; padding: .8em 1em; border: 1px solid rgba(128,128,128,.45);
  border-radius: .4em; overflow-wrap: anywhere; }
.sk-ulmfit-text { white-space: pre-wrap; max-height: 30em; overflow-y: auto; }
.sk-ulmfit-text span { border-radius: .2em; padding: .05em .1em; }
.sk-ulmfit ul { list-style: none; margin: 0 0 .6em; padding: 0; font-size: 90%; }
.sk-ulmfit i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border-radius: .2em;
  vertical-align: -.1em; }
.sk-ulmfit small { opacity: .8; }
"""
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; max-width: 56em; margin: 2em auto; padding: 0 1em; }
"""


class Style(NamedTuple):
    """How the numbers of words are written, what stands before the strongest words, and what a page says of them."""

    number: str
    titles: tuple[str, str]  # of positive and of negative words
    page_titles: tuple[str, str]
    note: str


class Legend(NamedTuple):
    """One label: what is predicted, the sum of all scores and what it is measured from, and the strongest words."""

    label: str
    figures: str
    origin: str
    total: float
    words_for: list[tuple[str, float]]
    words_against: list[tuple[str, float]]


class HighlightedText(NamedTuple):
    """A text, the scores of its words, and its labels or targets."""

    text: str
    spans: NDArray[np.int64]  # (n_words, 2), start and end of each word, in their order
    scores: Floats  # (n_words, K)
    legends: list[Legend]  # of length K
    style: Style


def page(texts: Sequence[HighlightedText]) -> str:
    """Return a whole HTML page."""
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>Explanations</title>\n<style>{PAGE_STYLE}{STYLE}</style>"
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{_body(texts)}</body>\n</html>\n'


def fragment(texts: Sequence[HighlightedText]) -> str:
    """Return a part of a page with its style, for a notebook; markup in texts and labels is escaped."""
    return f"<style>{STYLE}</style>\n{_body(texts)}"


def _body(texts: Sequence[HighlightedText]) -> str:
    note = texts[0].style.note if texts else ""
    return "".join([f"<p><small>{note}</small></p>\n", *map(_section, texts, _colours(texts))])


def _colours(texts: Sequence[HighlightedText]) -> list[list[str]]:
    """Choose the colour of each label of each text: the same on the whole page, unless two of a text would be equal."""
    usual: dict[str, int] = {}
    colours = []
    for text in texts:
        taken: list[int] = []
        for legend in text.legends:
            wanted = usual.setdefault(legend.label, len(usual) % len(COLOURS))
            free = (k for k in range(len(COLOURS)) if k not in taken)
            taken.append(wanted if wanted not in taken else next(free, wanted))
        colours.append([",".join(map(str, COLOURS[k])) for k in taken])
    return colours


def excerpts(
    length: int, spans: NDArray[np.int64], strength: Floats, budget: int, context: int
) -> list[tuple[int, int]]:
    """Choose the parts of a text of `length` characters around its strongest words, at most `budget` characters.

    `spans`, shape (n_words, 2), and `strength`, shape (n_words,), are those of the words in their order. Each part
    includes `context` words on both sides. At least one part is returned, which may be empty.
    """
    if length <= budget or not len(spans):
        return [(0, min(length, budget))]
    is_shown = np.zeros(length + 1, bool)
    left = budget
    for word in np.argsort(-strength, kind="stable"):
        start = int(spans[max(word - context, 0), 0])
        end = int(spans[min(word + context, len(spans) - 1), 1])
        needed = int((~is_shown[start:end]).sum())
        if needed > left:
            if left == budget:  # not even the first part fits
                start = max(start, int(spans[word, 0]) - budget // 4)
                is_shown[start : min(start + budget, length)] = True
            break
        is_shown[start:end] = True
        left -= needed
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_shown]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _section(text: HighlightedText, colours: list[str]) -> str:
    pairs = zip(text.legends, colours, strict=True)
    legend = "".join(f"<li>{_legend(*pair, text.style)}</li>\n" for pair in pairs)
    body = f'<div class="sk-ulmfit-text" dir="auto">{_text(text, colours)}</div>'
    return f'<div class="sk-ulmfit">\n<ul>\n{legend}</ul>\n{body}\n</div>\n'


def _legend(legend: Legend, colour: str, style: Style) -> str:
    label = f'<i style="background: rgb({colour})"></i><b><bdi>{_escape(legend.label)}</bdi></b>'
    pairs = zip(style.page_titles, (legend.words_for, legend.words_against), strict=True)
    words = "".join(_word_list(title, words, style.number) for title, words in pairs)
    total = f" · sum {_signed(legend.total, style.number)} from {_escape(legend.origin)}"
    return f"{label} {_escape(legend.figures)}<small>{words}{total}</small>"


def _word_list(title: str, words: list[tuple[str, float]], number: str) -> str:
    if not words:
        return ""
    shown = (f"{_signed(score, number)} <bdi>{_escape(word)}</bdi>" for word, score in words)
    return f" · {title}: " + " &nbsp;".join(shown)


def _text(text: HighlightedText, colours: list[str]) -> str:
    relative = _relative_scores(text.scores)
    strength = np.abs(relative).max(axis=1, initial=0.0)
    parts = []
    for start, end in excerpts(len(text.text), text.spans, strength, LONGEST_TEXT, CONTEXT):
        parts.append("<small> … </small>" if start else "")
        first, stop = np.searchsorted(text.spans[:, 0], [start, end]) if len(text.spans) else (0, 0)
        position = start
        for word in range(first, stop):
            if strength[word] >= FAINTEST:
                word_start, word_end = (min(int(edge), end) for edge in text.spans[word])
                tooltip = _tooltip(text, word, relative[word])
                parts.append(_escape(text.text[position:word_start]))
                parts.append(_marked(text.text[word_start:word_end], relative[word], colours, tooltip))
                position = word_end
        parts.append(_escape(text.text[position:end]))
    parts.append("<small> … </small>" if end < len(text.text) else "")
    return "".join(parts)


def _relative_scores(scores: Floats) -> Floats:
    """Divide scores, shape (n_words, K), by the largest one of each label; small labels are not scaled up fully."""
    size = np.abs(scores)
    scale = np.maximum(size.max(axis=0, initial=0.0), LOWEST_SCALE * size.max(initial=0.0))
    return scores / np.where(scale > 0, scale, 1.0)


def _marked(word: str, relative: Floats, colours: list[str], tooltip: str) -> str:
    """Return a word in the colour of the label with its largest relative score; `relative` has the shape (K,)."""
    k = int(np.abs(relative).argmax())
    size = abs(relative[k])
    if relative[k] > 0:
        style = f"background: rgba({colours[k]},{0.1 + 0.45 * size:.2f})"
    else:
        style = f"border-bottom: .17em dashed rgba({colours[k]},{0.3 + 0.7 * size:.2f})"
    return f'<span style="{style}" title="{_escape(tooltip)}">{_escape(word)}</span>'


def _tooltip(text: HighlightedText, word: int, relative: Floats) -> str:
    strongest = np.argsort(-np.abs(relative), kind="stable")[:LABELS_IN_TOOLTIP]
    return ", ".join(f"{text.legends[k].label} {_signed(text.scores[word, k], text.style.number)}" for k in strongest)


def _signed(score: float, number: str) -> str:
    return f"{score:{number}}".replace("-", "−")


def _escape(text: str) -> str:
    """Escape markup; lone surrogates, which UTF-8 cannot encode, become question marks."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
