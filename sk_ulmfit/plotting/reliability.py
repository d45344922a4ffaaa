"""Reliability curves: how often predicted probabilities come true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._validation import check_choice, check_number
from sk_ulmfit.metrics import expected_calibration_error
from sk_ulmfit.plotting._shared import (
    COLOURS,
    Display,
    Floats,
    align_probabilities,
    draw_legend,
    find_labels,
    predict_probabilities,
    prepare_axes,
    shorten_name,
    store_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sk_ulmfit.plotting._shared import Panels

Strategy: TypeAlias = Literal["uniform", "quantile"]

LINE_STYLES, MARKERS = ("-", "--", "-.", ":"), "osDv^P*X"


class ReliabilityCurve(NamedTuple):
    """Mean predicted probability and share of positives in each non-empty bin."""

    name: Any  # of the label, or "all labels"
    prob_pred: Floats  # (n_filled,)
    prob_true: Floats  # (n_filled,)
    counts: NDArray[np.int64]  # (n_bins,), entries in every bin; an entry is one label of one text
    edges: Floats  # (n_bins + 1,)
    error: float  # expected calibration error, over bins of equal width


class ReliabilityDisplay(Display):
    """Share of positives by predicted probability, and the number of entries in each bin.

    Parameters
    ----------
    curves : list of ReliabilityCurve
        One for all labels together, then one for each label to draw. The error in the legend is
        `sk_ulmfit.metrics.expected_calibration_error`.

    Attributes
    ----------
    ax_, axes_, figure_ : Axes, ndarray of Axes, shape (1,) or (2,), and Figure
        Panel of the curves; this panel and the one of the counts; their figure.

    References
    ----------
    Niculescu-Mizil, A., Caruana, R. (2005), "Predicting Good Probabilities With Supervised Learning", section 4.

    Examples
    --------
    >>> from sk_ulmfit.plotting import ReliabilityDisplay
    >>> y = [[1, 0], [0, 0], [1, 1], [0, 0]]
    >>> proba = [[0.9, 0.1], [0.4, 0.2], [0.8, 0.8], [0.2, 0.1]]
    >>> display = ReliabilityDisplay.from_predictions(y, proba, n_bins=2)
    >>> display.curves[0].prob_true.tolist(), display.curves[0].counts.tolist()
    ([0.0, 1.0], [5, 3])
    """

    ax_: Axes

    def __init__(self, curves: Sequence[ReliabilityCurve]):
        self.curves = curves

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 10,
        strategy: Strategy = "uniform",
        label_names: Any = None,
        labels: Any = None,
        ax: Panels = None,
    ) -> Self:
        """Draw the reliability of a fitted classifier's probabilities.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier with ``predict_proba``.
        X : sequence of length n
            Texts, or what the estimator takes; not those it was trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels.
        n_bins, strategy, label_names, labels, ax : optional
            See `from_predictions`; `label_names` defaults to the estimator's `label_names_`.
        """
        truth, proba, names = predict_probabilities(estimator, X, y, label_names)
        return cls.from_predictions(
            truth, proba, n_bins=n_bins, strategy=strategy, label_names=names, labels=labels, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        n_bins: int = 10,
        strategy: Strategy = "uniform",
        label_names: Any = None,
        labels: Any = None,
        ax: Panels = None,
    ) -> Self:
        """Draw the reliability of predicted probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are ignored.
        y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
            Predicted probabilities.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or with equally many entries. The calibration error always uses equal width.
        label_names : sequence of length L, default=None
            Names of the columns of `y_proba`; None takes the columns of a DataFrame `y_true`, or numbers.
        labels : sequence of label names, default=None
            Labels to draw separately, besides all labels together.
        ax : Axes, or array-like of 2 Axes, default=None
            For the curves, and for the counts if there are two; None creates a figure.
        """
        check_number("n_bins", n_bins, low=1, integer=True)
        check_choice("strategy", strategy, get_args(Strategy))
        truth, proba, names = align_probabilities(y_true, y_proba, label_names)
        curves = [_reliability_curve("all labels", truth, proba, n_bins, strategy)]
        for label in [] if labels is None else find_labels(labels, names):
            columns = slice(label, label + 1)
            curves.append(_reliability_curve(names[label], truth[:, columns], proba[:, columns], n_bins, strategy))
        return cls(curves).plot(ax)

    def plot(self, ax: Panels = None) -> Self:
        """Draw into `ax`, one Axes or two (the second for counts), or into a new figure; return the display."""
        n_panels = 2 if ax is None or np.size(np.asarray(ax, object)) > 1 else 1
        figsize = (5.2, 6.2 + 0.2 * len(self.curves))
        axes, is_new = prepare_axes(ax, n_panels, 1, figsize, height_ratios=(3, 1)[:n_panels], sharex=True)
        axes[0].plot([0, 1], [0, 1], color="0.5", linestyle=":", label="comes true as often as it says")
        for place, curve in enumerate(self.curves):
            _draw_curve(axes, place, curve)
        axes[0].set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Share that came true")
        axes[0].grid(alpha=0.25)
        axes[-1].set_xlabel("Predicted probability")
        if n_panels == 2:
            axes[1].set_yscale("log")
            axes[1].set(ylabel="Entries", ylim=(0.7, None))
            axes[1].grid(alpha=0.25)
        store_axes(self, axes)
        self.ax_ = axes[0]
        draw_legend(axes, is_new, n_columns=1)
        return self


def _reliability_curve(
    name: Any, truth: NDArray[np.float32], proba: Floats, n_bins: int, strategy: str
) -> ReliabilityCurve:
    """Compute the curve of all entries of truth (NaN where unknown) and probabilities, both of shape (n, n_columns)."""
    known = ~np.isnan(truth)
    if not known.any():
        raise ValueError(f"No entry of {name} is known (all NaN); annotate some texts or leave it out of labels.")
    error = expected_calibration_error(truth, proba, n_bins=n_bins)
    true, proba = truth[known], proba[known]
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        edges = np.quantile(proba, edges)
    bins = np.searchsorted(edges[1:-1], proba)
    counts = np.bincount(bins, minlength=n_bins)
    filled = counts > 0
    prob_pred, prob_true = (np.bincount(bins, values, n_bins)[filled] / counts[filled] for values in (proba, true))
    return ReliabilityCurve(name, prob_pred, prob_true, counts, edges, error)


def _draw_curve(axes: NDArray[np.object_], place: int, curve: ReliabilityCurve) -> None:
    """Draw one curve, and its counts if there are Axes for them."""
    colour, line_style, width = _style(place)
    marker = MARKERS[place % len(MARKERS)]
    axes[0].plot(
        curve.prob_pred,
        curve.prob_true,
        color=colour,
        linestyle=line_style,
        marker=marker,
        markersize=5,
        linewidth=width,
        label=f"{shorten_name(curve.name)} (calibration error {curve.error:.3f})",
    )
    if len(axes) == 2:
        axes[1].stairs(curve.counts, curve.edges, color=colour, linewidth=width / 2)
        counts = curve.counts[curve.counts > 0]
        axes[1].plot(curve.prob_pred, counts, color=colour, marker=marker, markersize=4, linestyle="none")


def _style(place: int) -> tuple[str, str, float]:
    """Return colour, line style and width of a curve; the first one stands for all labels."""
    if place == 0:
        return "black", "-", 2.0
    turn, colour = divmod(place - 1, len(COLOURS))
    return COLOURS[colour], LINE_STYLES[turn % len(LINE_STYLES)], 1.2
