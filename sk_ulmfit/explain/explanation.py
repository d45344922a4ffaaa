"""Explanations of predictions: a score for each word and label or target, shown as plain text or HTML."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, overload

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sk_ulmfit._choices import ExplainMethod
from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short, short_names
from sk_ulmfit.explain import markup

Floats = NDArray[np.float64]

MOST_SHOWN = 20  # texts shown by print and in a notebook
LONGEST_WORD = 40  # characters
SMALLEST_SCORE = 0.005  # smaller ones would be printed as 0.00
LONGEST_EXCERPT, CONTEXT = 240, 4  # characters of a text in plain form; words around each strong one


class WordScores:
    """Scores of the words of one text for some labels or targets, and how they are shown."""

    text: str
    words: list[str]
    spans: NDArray[np.int64]
    labels: list[Any]
    scores: Floats

    _style: ClassVar[markup.Style]
    _smallest_score: ClassVar[float]

    def _figures(self, k: int) -> str:
        """Return what is predicted of a label, as plain text."""
        raise NotImplementedError

    def _comparison(self, k: int) -> str:
        """Return the same for a page."""
        return self._figures(k)

    def _origin(self, k: int) -> str:
        """Return what the sum of the scores is measured from."""
        raise NotImplementedError

    def top_words(self, label: Any, k: int = 5, *, against: bool = False) -> list[tuple[str, float]]:
        """Return the `k` words with the largest scores for a label, or `against` it, and these scores.

        Scores of a word that occurs several times, in upper or lower case, are added up. `label` is the name of an
        explained label; any other raises ValueError.
        """
        if label not in self.labels:
            raise ValueError(
                f"This explanation has {short_names(self.labels)} only; to explain {short(label)}, pass it to explain: "
                "labels=[...]."
            )
        total: dict[str, float] = {}
        first_form: dict[str, str] = {}
        for word, score in zip(self.words, self.scores[:, self.labels.index(label)].tolist(), strict=True):
            key = word.casefold()
            first_form.setdefault(key, word)
            total[key] = total.get(key, 0.0) + score
        sign = -1 if against else 1
        ranked = sorted((key for key in total if sign * total[key] > 0), key=lambda key: -sign * total[key])
        return [(first_form[key], total[key]) for key in ranked[:k]]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines: list[str] = []
        excerpt = None
        for k in range(len(self.labels)):
            excerpt_before, excerpt = excerpt, self._excerpt(np.abs(self.scores[:, k]))
            if excerpt != excerpt_before:
                lines.append(excerpt)
            lines.append(self._label_line(k))
        return "\n".join(lines)

    def _label_line(self, k: int) -> str:
        """Return what is predicted of a label, and its strongest words, as a line."""
        width = max(len(str(label)) for label in self.labels)
        parts = [f"  {self.labels[k]!s:{width}} {self._figures(k)}"]
        for title, against in zip(self._style.titles, (False, True), strict=True):
            words = self._strong_words(self.labels[k], against)
            if words:
                parts.append(f"{title}: " + "  ".join(f"{score:{self._style.number}} {word}" for word, score in words))
        if len(parts) > 1:
            parts.append(f"sum: {self.scores[:, k].sum():{self._style.number}} from {self._origin(k)}")
        return "  ".join(parts)

    def _strong_words(self, label: Any, against: bool) -> list[tuple[str, float]]:
        """Return `top_words` without those that are much weaker than the strongest word for or against the label."""
        both = [self.top_words(label, against=sign) for sign in (False, True)]
        strongest = max((abs(score) for words in both for _, score in words), default=0.0)
        smallest = max(markup.FAINTEST * strongest, self._smallest_score)
        return [(_shorten(word), score) for word, score in both[against] if abs(score) >= smallest]

    def _excerpt(self, strength: Floats) -> str:
        """Return the parts of the text around its strongest words; `strength` has the shape (n_words,)."""
        parts = markup.excerpts(len(self.text), self.spans, strength, LONGEST_EXCERPT, CONTEXT)
        excerpt = " ... ".join(" ".join(self.text[start:end].split()) for start, end in parts)
        before = "... " if parts[0][0] > 0 else ""
        after = " ..." if parts[-1][1] < len(self.text) else ""
        return f"{before}{excerpt}{after}"

    def _repr_html_(self) -> str:
        return markup.fragment([self._highlighted()])

    def to_html(self) -> str:
        """Return an HTML page; see `Explanations.to_html`."""
        return Explanations([self]).to_html()

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write an HTML page; see `Explanations.save_html`."""
        Explanations([self]).save_html(path)

    def _highlighted(self) -> markup.HighlightedText:
        legends = [
            markup.Legend(
                label=str(label),
                figures=self._comparison(k),
                origin=self._origin(k),
                total=float(self.scores[:, k].sum()),
                words_for=self._strong_words(label, False),
                words_against=self._strong_words(label, True),
            )
            for k, label in enumerate(self.labels)
        ]
        return markup.HighlightedText(self.text, self.spans, self.scores, legends, self._style)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(WordScores):
    """Scores of the words of one text for some labels, in log-odds.

    Parameters
    ----------
    text : str
        The text as the model reads it: entities resolved, fields as lines.
    words : list of str
        Words and punctuation marks in their order.
    spans : ndarray of int64, shape (n_words, 2)
        Start and end of each word in `text`.
    labels : list of length K
        Names of the explained labels.
    proba, thresholds, log_odds, baseline : ndarray of float64, shape (K,)
        Probability and threshold of each label, its log-odds computed in float32, and those of its base rate, which the
        classifier predicts for a text without a known word.
    scores : ndarray of float64, shape (n_words, K)
        Contribution of each word to the log-odds, negative if it speaks against the label. By "gradient" the scores add
        up to `log_odds` - `baseline`, to a few per cent; by "occlusion" each is the loss of log-odds without the word.
    method : {"gradient", "occlusion"}
        How the scores were computed.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.explain import Explanation
    >>> scores = np.array([[-0.25], [0.0], [2.0]])
    >>> proba, threshold = np.array([0.85]), np.array([0.5])
    >>> log_odds, baseline = np.array([1.75]), np.array([0.0])
    >>> words, spans = ["lamp", "is", "late"], np.array([[0, 4], [5, 7], [8, 12]])
    >>> numbers = (proba, threshold, log_odds, baseline, scores)
    >>> print(Explanation("lamp is late", words, spans, ["delivery"], *numbers, "gradient"))
    lamp is late
      delivery 0.85 (threshold 0.50)  for: +2.00 late  against: -0.25 lamp  sum: +1.75 from base rate 0.50
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
    method: ExplainMethod

    _style = markup.Style(
        number="+.2f",
        titles=("for", "against"),
        page_titles=("for it", "against it"),
        note="Each word has the colour of the label it affects most: filled if it speaks for the label, underlined "
        "with dashes if it speaks against it. Each label is followed by its probability and threshold; the numbers of "
        "words are log-odds. Their sum is "
        "measured from the base rate: the share of training texts that have the label.",
    )
    _smallest_score = SMALLEST_SCORE

    def _figures(self, k: int) -> str:
        return f"{self.proba[k]:.2f} (threshold {self.thresholds[k]:.2f})"

    def _comparison(self, k: int) -> str:
        sign = "≥" if self.proba[k] >= self.thresholds[k] else "<"
        return f"{self.proba[k]:.2f} {sign} {self.thresholds[k]:.2f}"

    def _origin(self, k: int) -> str:
        return f"base rate {expit(self.baseline[k]):.2f}"


@dataclass(frozen=True, eq=False, repr=False)
class ValueExplanation(WordScores):
    """Scores of the words of one text for some targets of a regressor, in units of each target.

    Parameters
    ----------
    text : str
        The text as the model reads it: entities resolved, fields as lines.
    words : list of str
        Words and punctuation marks in their order.
    spans : ndarray of int64, shape (n_words, 2)
        Start and end of each word in `text`.
    labels : list of length K
        Names of the explained targets.
    values, baseline : ndarray of float64, shape (K,)
        Predicted value of each target, computed in float32, and its mean over the training texts, which the regressor
        predicts for a text without a known word.
    scores : ndarray of float64, shape (n_words, K)
        Contribution of each word to the value, negative if it lowers it. By "gradient" the scores add up to `values` -
        `baseline`, to a few per cent; by "occlusion" each is the loss of value without the word.
    method : {"gradient", "occlusion"}
        How the scores were computed.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.explain import ValueExplanation
    >>> words, spans = ["lamp", "is", "late"], np.array([[0, 4], [5, 7], [8, 12]])
    >>> scores = np.array([[0.25], [0.0], [-1.5]])
    >>> value, mean = np.array([2.0]), np.array([3.25])
    >>> rest = (["stars"], value, mean, scores, "gradient")
    >>> print(ValueExplanation("lamp is late", words, spans, *rest))
    lamp is late
      stars 2  raised by: +0.25 lamp  lowered by: -1.5 late  sum: -1.25 from mean 3.25
    """

    text: str
    words: list[str]
    spans: NDArray[np.int64]
    labels: list[Any]
    values: Floats
    baseline: Floats
    scores: Floats
    method: ExplainMethod

    _style = markup.Style(
        number="+.3g",
        titles=("raised by", "lowered by"),
        page_titles=("raised by", "lowered by"),
        note="Each word has the colour of the target it affects most: filled if it raises the value, underlined with "
        "dashes if it lowers it. Each target is followed by its predicted value; the numbers of words are "
        "in its units. Their sum is "
        "measured from the mean of the training texts.",
    )
    _smallest_score = 0.0

    def _figures(self, k: int) -> str:
        return f"{self.values[k]:.3g}"

    def _origin(self, k: int) -> str:
        return f"mean {self.baseline[k]:.3g}"


if TYPE_CHECKING:
    from typing_extensions import TypeVar

    E = TypeVar("E", bound=WordScores, default=WordScores, covariant=True)
else:
    from typing import TypeVar  # before Python 3.13 it takes no default

    E = TypeVar("E", covariant=True)


class Explanations(Sequence[E], Generic[E]):
    """Sequence of explanations, shown as plain text at the prompt and with highlighted words in a notebook.

    Parameters
    ----------
    items : sequence of Explanation or of ValueExplanation
        One for each text; the first 20 are shown.
    """

    def __init__(self, items: Sequence[E]):
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> E: ...

    @overload
    def __getitem__(self, index: slice) -> Explanations[E]: ...

    def __getitem__(self, index: int | slice) -> E | Explanations[E]:
        return Explanations(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __iter__(self) -> Iterator[E]:
        return iter(self._items)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        shown = "\n\n".join(map(str, self._items[:MOST_SHOWN]))
        return shown + _and_more(len(self), "\n\n")

    def _repr_html_(self) -> str:
        shown = markup.fragment([item._highlighted() for item in self._items[:MOST_SHOWN]])
        return shown + _and_more(len(self), "\n")

    def to_html(self) -> str:
        """Return an HTML page with highlighted words; of long texts only the parts around the strongest words.

        A word has the colour of the label it affects most, and a stronger colour the larger its score. Dashes underline
        words that speak against a label. The page contains no scripts and loads nothing.
        """
        return markup.page([item._highlighted() for item in self._items])

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page of `to_html` to `path`, replacing the file; raise ValueError if that fails."""
        content = self.to_html().encode()
        try:
            with atomic_write(path) as file:
                file.write(content)
        except OSError as error:
            raise ValueError(f"{path} could not be written ({error.strerror}); choose another path.") from None


def _shorten(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD - 1] + "…"


def _and_more(n: int, before: str) -> str:
    return f"{before}... and {n - MOST_SHOWN} more texts" if n > MOST_SHOWN else ""
