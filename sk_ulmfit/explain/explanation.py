"""What drove the labels of a text: a score for each word, and its plain form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit.explain import markup

Floats = NDArray[np.float64]

MOST_SHOWN = 20  # texts in what a notebook or print shows
LONGEST_WORD = 40
EXCERPT, CONTEXT = 240, 4  # characters of a text in its plain form; words round each strong one


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the words of one text say for and against some labels.

    Parameters
    ----------
    text : str
        The text as the model reads it: entities resolved, fields as lines.
    words : list of str
        Its words from left to right; punctuation counts as words.
    spans : ndarray of int64, shape (n_words, 2)
        Where each word begins and ends in `text`.
    labels : list of length K
        Names of the labels explained.
    proba, thresholds : ndarray of float64, shape (K,)
        Probability of each label, as ``predict_proba`` gives it, and its threshold.
    log_odds : ndarray of float64, shape (K,)
        Log-odds of each label, in float32 arithmetic.
    baseline : ndarray of float64, shape (K,)
        What they are when no word of the text is known.
    scores : ndarray of float64, shape (n_words, K)
        Log-odds that each word gives to each label; below 0 where it speaks against it. By "gradient" they add up to
        `log_odds` less `baseline`; by "occlusion" each is what the label would lose without the word.
    method : {"gradient", "occlusion"}
        How the scores were found.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.explain import Explanation
    >>> one = np.array([0.5])
    >>> words, spans = ["lamp", "is", "late"], np.array([[0, 4], [5, 7], [8, 12]])
    >>> scores = np.array([[-0.25], [0.0], [2.0]])
    >>> found = Explanation("lamp is late", words, spans, ["delivery"], one, one, one, one, scores, "gradient")
    >>> found.top_words("delivery"), found.top_words("delivery", against=True)
    ([('late', 2.0)], [('lamp', -0.25)])
    >>> print(found)
    lamp is late
      delivery 0.50 (threshold 0.50)  for: +2.00 late  against: -0.25 lamp
    """

    text: str
    words: list[str]
    spans: NDArray[np.int64]
    labels: list[Any]
    proba: Floats
    thresholds: Floats
    log_odds: Floats
    baseline: Floats
    scores: Floats
    method: str

    def top_words(self, label: Any, k: int = 5, *, against: bool = False) -> list[tuple[str, float]]:
        """Give the words that speak most for a label, or against it.

        Parameters
        ----------
        label : object
            Name of a label that is explained here.
        k : int, default=5
            Most words.
        against : bool, default=False
            Give those that speak against it.

        Returns
        -------
        list of (str, float)
            Words and their log-odds, the strongest first. The scores of a word that occurs more than once, in
            capitals or not, are added up.

        Raises
        ------
        ValueError
            If the label is not explained here.
        """
        if label not in self.labels:
            raise ValueError(
                f"{label!r} is not explained here, only {', '.join(map(repr, self.labels))}; "
                "name it when you call explain: labels=[...]."
            )
        total: dict[str, float] = {}
        form: dict[str, str] = {}
        for word, score in zip(self.words, self.scores[:, self.labels.index(label)].tolist(), strict=True):
            key = word.casefold()
            form.setdefault(key, word)
            total[key] = total.get(key, 0.0) + score
        sign = -1 if against else 1
        ranked = sorted((key for key in total if sign * total[key] > 0), key=lambda key: -sign * total[key])
        return [(form[key], total[key]) for key in ranked[:k]]

    def __str__(self) -> str:
        width = max((len(str(label)) for label in self.labels), default=0)
        lines: list[str] = []
        excerpt = None
        for k, label in enumerate(self.labels):
            shown = self._excerpt(np.abs(self.scores[:, k]))
            if not lines or shown != excerpt:
                excerpt = shown
                lines.append(shown)
            parts = [f"  {label!s:{width}} {self.proba[k]:.2f} (threshold {self.thresholds[k]:.2f})"]
            for name, against in (("for", False), ("against", True)):
                words = self._strong_words(label, against)
                if words:
                    parts.append(f"{name}: " + "  ".join(f"{score:+.2f} {word}" for word, score in words))
            lines.append("  ".join(parts))
        return "\n".join(lines)

    def _strong_words(self, label: Any, against: bool) -> list[tuple[str, float]]:
        """Give `top_words` without those that say next to nothing beside the strongest of either kind."""
        both = [self.top_words(label, against=sign) for sign in (False, True)]
        least = markup.FAINTEST * max((abs(score) for found in both for _, score in found), default=0.0)
        return [
            (word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD - 1] + "…", score)
            for word, score in both[against]
            if abs(score) >= max(least, 0.005)  # else it would be shown as 0.00
        ]

    def _excerpt(self, strength: Floats) -> str:
        parts = markup.excerpts(len(self.text), self.spans, strength, EXCERPT, CONTEXT)
        shown = " ... ".join(" ".join(self.text[begin:end].split()) for begin, end in parts)
        before, after = parts[0][0] > 0, parts[-1][1] < len(self.text)
        return f"{'... ' if before else ''}{shown}{' ...' if after else ''}"

    def _repr_html_(self) -> str:
        return markup.fragment([self._highlighted()])

    def to_html(self) -> str:
        """Give a whole HTML page; see `Explanations.to_html`."""
        return Explanations([self]).to_html()

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write an HTML page; see `Explanations.save_html`."""
        Explanations([self]).save_html(path)

    def _highlighted(self) -> markup.Highlighted:
        legends = [
            markup.Legend(
                str(label), float(p), float(threshold), *(self._strong_words(label, a) for a in (False, True))
            )
            for label, p, threshold in zip(self.labels, self.proba, self.thresholds, strict=True)
        ]
        return markup.Highlighted(self.text, self.spans, self.scores, legends)


class Explanations(Sequence[Explanation]):
    """Explanations of several texts, in their order.

    ``print`` shows them as plain text, a notebook with the words highlighted (the first 20).

    Parameters
    ----------
    items : sequence of Explanation
        One for each text.
    """

    def __init__(self, items: Sequence[Explanation]):
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Explanation: ...

    @overload
    def __getitem__(self, index: slice) -> Explanations: ...

    def __getitem__(self, index: int | slice) -> Explanation | Explanations:
        return Explanations(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Explanations of {len(self)} texts"

    def __str__(self) -> str:
        shown = "\n\n".join(map(str, self._items[:MOST_SHOWN]))
        return shown + _and_more(len(self), "\n\n")

    def _repr_html_(self) -> str:
        shown = markup.fragment([item._highlighted() for item in self._items[:MOST_SHOWN]])
        return shown + _and_more(len(self), "\n")

    def to_html(self) -> str:
        """Give a whole HTML page in which the words of each text are highlighted.

        A word has the colour of the label on which it says most; the stronger, the more it says. Words that speak
        against a label are underlined with dashes. A long text is shown around its strongest words. The page needs
        nothing from elsewhere and runs no scripts.

        Returns
        -------
        str
            The page.
        """
        return markup.page([item._highlighted() for item in self._items])

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page of `to_html`, completely or not at all.

        Parameters
        ----------
        path : path-like
            File to write; what is there is replaced.

        Raises
        ------
        ValueError
            If the file cannot be written there.
        """
        content = self.to_html().encode()
        try:
            with atomic_write(path) as file:
                file.write(content)
        except OSError as error:
            raise ValueError(f"{path} could not be written ({error.strerror}); choose another place.") from None


def _and_more(n: int, before: str) -> str:
    return f"{before}... and {n - MOST_SHOWN} more texts" if n > MOST_SHOWN else ""
