"""HTML of texts in which words are highlighted: plain tags, no scripts, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Okabe and Ito's colours, told apart with every kind of colour vision, but for black and yellow
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0))
FAINTEST = 0.08  # of the strongest word of the label: weaker ones are not marked
LOWEST_SCALE = 0.2  # of the strongest word of all: a label on which no word says more looks pale
LONGEST_TEXT, CONTEXT = 3_000, 15  # characters of a text that are shown; words round each strong one
LABELS_IN_TIP = 5

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


class Legend(NamedTuple):
    """What is said of one label.

    Attributes
    ----------
    label : str
        Its name.
    proba, threshold : float
        Its probability and threshold.
    words_for, words_against : list of (str, float)
        Its strongest words with their log-odds.
    """

    label: str
    proba: float
    threshold: float
    words_for: list[tuple[str, float]]
    words_against: list[tuple[str, float]]


class Highlighted(NamedTuple):
    """A text with its words' scores.

    Attributes
    ----------
    text : str
        The text.
    spans : ndarray of int64, shape (n_words, 2)
        Where each word begins and ends, from left to right.
    scores : ndarray of float64, shape (n_words, K)
        Log-odds that each word gives to each label.
    legends : list of Legend of length K
        The labels.
    """

    text: str
    spans: NDArray[np.int64]
    scores: Floats
    legends: list[Legend]


def page(items: Sequence[Highlighted]) -> str:
    """Give a whole page; parameters as of `fragment`."""
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    head += f"<title>Explanations</title>\n<style>{PAGE_STYLE}{STYLE}</style>"
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{_body(items)}</body>\n</html>\n'


def fragment(items: Sequence[Highlighted]) -> str:
    """Give a piece of a page, with its style.

    Parameters
    ----------
    items : sequence of Highlighted
        Texts.

    Returns
    -------
    str
        One ``div`` for each text. Whatever texts and labels hold is shown, never read as markup.
    """
    return f"<style>{STYLE}</style>\n{_body(items)}"


def _body(items: Sequence[Highlighted]) -> str:
    note = (
        "A word has the colour of the label on which it says most. Filled: it speaks for the label; "
        "underlined with dashes: against it. Beside a label stand its probability and its threshold; the numbers of "
        "words are log-odds."
    )
    return "".join([f"<p><small>{note}</small></p>\n", *map(_section, items, _colours(items))])


def _colours(items: Sequence[Highlighted]) -> list[list[str]]:
    """Give the colour of each label of each text: one all over the page, as far as those of a text then differ."""
    usual: dict[str, int] = {}
    found = []
    for item in items:
        taken: list[int] = []
        for line in item.legends:
            wanted = usual.setdefault(line.label, len(usual) % len(COLOURS))
            free = (k for k in range(len(COLOURS)) if k not in taken)
            taken.append(wanted if wanted not in taken else next(free, wanted))
        found.append([",".join(map(str, COLOURS[k])) for k in taken])
    return found


def excerpts(
    length: int, spans: NDArray[np.int64], strength: Floats, budget: int, context: int
) -> list[tuple[int, int]]:
    """Choose the parts of a long text that stand around its strongest words.

    Parameters
    ----------
    length : int
        Characters of the text.
    spans : ndarray of int64, shape (n_words, 2)
        Where each word begins and ends, from left to right.
    strength : ndarray of float64, shape (n_words,)
        How strong each word is.
    budget : int
        Most characters, those between parts not counted.
    context : int
        So many words on either side belong to a part.

    Returns
    -------
    list of (int, int)
        Begin and end of each part, from left to right; one part at least, which may be empty.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.explain.markup import excerpts
    >>> excerpts(29, np.array([[0, 9], [10, 19], [20, 29]]), np.array([0.0, 0.1, 2.0]), 20, 1)
    [(10, 29)]
    """
    if length <= budget or not len(spans):
        return [(0, min(length, budget))]
    shown = np.zeros(length + 1, bool)
    left = budget
    for word in np.argsort(-strength, kind="stable"):
        begin = int(spans[max(word - context, 0), 0])
        end = int(spans[min(word + context, len(spans) - 1), 1])
        needed = int((~shown[begin:end]).sum())
        if needed > left:
            if left == budget:  # not even the first part fits
                begin = max(begin, int(spans[word, 0]) - budget // 4)
                shown[begin : min(begin + budget, length)] = True
            break
        shown[begin:end] = True
        left -= needed
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shown]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _section(item: Highlighted, colours: list[str]) -> str:
    legend = "".join(f"<li>{_legend(*pair)}</li>\n" for pair in zip(item.legends, colours, strict=True))
    text = f'<div class="sk-ulmfit-text" dir="auto">{_text(item, colours)}</div>'
    return f'<div class="sk-ulmfit">\n<ul>\n{legend}</ul>\n{text}\n</div>\n'


def _legend(line: Legend, colour: str) -> str:
    words = "".join(
        f" · {name}: " + " &nbsp;".join(f"{_signed(score)} <bdi>{_plain(word)}</bdi>" for word, score in found)
        for name, found in (("for it", line.words_for), ("against it", line.words_against))
        if found
    )
    sign = "≥" if line.proba >= line.threshold else "&lt;"
    label = f'<i style="background: rgb({colour})"></i><b><bdi>{_plain(line.label)}</bdi></b>'
    return f"{label} {line.proba:.2f} {sign} {line.threshold:.2f}<small>{words}</small>"


def _text(item: Highlighted, colours: list[str]) -> str:
    size = np.abs(item.scores)
    scale = np.maximum(size.max(axis=0, initial=0.0), LOWEST_SCALE * size.max(initial=0.0))
    relative = item.scores / np.where(scale > 0, scale, 1.0)
    strength = np.abs(relative).max(axis=1, initial=0.0)
    parts = []
    for begin, end in excerpts(len(item.text), item.spans, strength, LONGEST_TEXT, CONTEXT):
        at = begin
        first, stop = np.searchsorted(item.spans[:, 0], [begin, end]) if len(item.spans) else (0, 0)
        parts.append("<small> … </small>" if begin else "")
        for word in range(first, stop):
            if strength[word] >= FAINTEST:
                word_begin, word_end = (min(int(edge), end) for edge in item.spans[word])
                parts.append(_plain(item.text[at:word_begin]))
                parts.append(_marked(item, colours, word, relative[word], item.text[word_begin:word_end]))
                at = word_end
        parts.append(_plain(item.text[at:end]))
    parts.append("<small> … </small>" if end < len(item.text) else "")
    return "".join(parts)


def _marked(item: Highlighted, colours: list[str], word: int, relative: Floats, text: str) -> str:
    k = int(np.abs(relative).argmax())
    alpha = 0.1 + 0.45 * abs(relative[k])
    style = (
        f"background: rgba({colours[k]},{alpha:.2f})"
        if relative[k] > 0
        else f"border-bottom: .17em dashed rgba({colours[k]},{0.3 + 0.7 * abs(relative[k]):.2f})"
    )
    strongest = np.argsort(-np.abs(relative), kind="stable")[:LABELS_IN_TIP]
    tip = ", ".join(f"{item.legends[i].label} {_signed(item.scores[word, i])}" for i in strongest)
    return f'<span style="{style}" title="{_plain(tip)}">{_plain(text)}</span>'


def _signed(score: float) -> str:
    return f"{score:+.2f}".replace("-", "−")


def _plain(text: str) -> str:
    """Give text as HTML shows it; half surrogates, which no file can hold, become question marks."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
