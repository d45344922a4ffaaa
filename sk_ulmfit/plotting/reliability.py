"""How often probabilities come true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._validation import check_choice, check_number
from sk_ulmfit.metrics import expected_calibration_error
from sk_ulmfit.plotting._shared import (
    COLOURS,
    MARKERS,
    Floats,
    _axes,
    _checked_probabilities,
    _chosen,
    _finish,
    _predicted,
    _short,
)


class ReliabilityCurve(NamedTuple):
    """How often probabilities come true, bin by bin.

    Attributes
    ----------
    name : str or int
        Label name, or "all labels".
    predicted : ndarray of float64, shape (n_filled,)
        Mean probability of each bin that is not empty.
    came_true : ndarray of float64, shape (n_filled,)
        Share of its entries that are 1.
    counts : ndarray of int64, shape (n_bins,)
        Entries of every bin, an entry being one label of one text.
    edges : ndarray of float64, shape (n_bins + 1,)
        Borders of the bins.
    error : float
        Expected calibration error, over bins of equal width.
    """

    name: Any
    predicted: Floats
    came_true: Floats
    counts: NDArray[np.int64]
    edges: Floats
    error: float


class ReliabilityDisplay:
    """Share that came true against predicted probability, and below how many entries each bin holds.

    Parameters
    ----------
    curves : list of ReliabilityCurve
        One for all labels together, and one for each single label that is drawn.

    Attributes
    ----------
    ax_ : Axes
        Panel of the curves.
    axes_ : ndarray of Axes, shape (2,) or (1,)
        That panel and the one of the counts, if there is one.
    figure_ : Figure
        Where they stand.

    See Also
    --------
    sk_ulmfit.metrics.expected_calibration_error : The figure in the legend.

    References
    ----------
    A. Niculescu-Mizil, R. Caruana (2005), "Predicting Good Probabilities With Supervised Learning", section 4.

    Examples
    --------
    >>> from sk_ulmfit.plotting import ReliabilityDisplay
    >>> y, proba = [[1, 0], [0, 0], [1, 1], [0, 0]], [[0.9, 0.1], [0.4, 0.2], [0.8, 0.8], [0.2, 0.1]]
    >>> display = ReliabilityDisplay.from_predictions(y, proba, n_bins=2)
    >>> display.curves[0].came_true.tolist(), display.curves[0].counts.tolist()
    ([0.0, 1.0], [5, 3])
    """

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
        strategy: str = "uniform",
        label_names: Any = None,
        labels: Any = None,
        ax: Any = None,
    ) -> ReliabilityDisplay:
        """Draw the reliability of a fitted classifier's probabilities.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier with ``predict_proba``.
        X : sequence of length n
            What it takes; texts that it was not trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or with equally many entries.
        label_names : sequence of length L, default=None
            Names of its labels; None takes `label_names_`, if it has them.
        labels : sequence of label names, default=None
            Labels that get a curve of their own.
        ax : Axes, or array-like of 2 Axes, default=None
            For the curves, and for the counts; None makes a figure.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.
        """
        truth, proba, names = _predicted(estimator, X, y, label_names)
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
        strategy: str = "uniform",
        label_names: Any = None,
        labels: Any = None,
        ax: Any = None,
    ) -> ReliabilityDisplay:
        """Draw the reliability of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
            Probabilities.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width, or with equally many entries. The expected calibration error is over `n_bins` of equal
            width either way.
        label_names : sequence of length L, default=None
            What the columns of `y_proba` stand for; None takes the columns of a DataFrame, or numbers.
        labels : sequence of label names, default=None
            Labels that get a curve of their own.
        ax : Axes, or array-like of 2 Axes, default=None
            For the curves, and for the counts; None makes a figure.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit, a label is unknown, or one that is asked for is annotated on no text.
        """
        check_number("n_bins", n_bins, low=1, integer=True)
        check_choice("strategy", strategy, ("uniform", "quantile"))
        truth, proba, names = _checked_probabilities(y_true, y_proba, label_names)
        single = [] if labels is None else _chosen(labels, names, np.zeros(len(names)), len(names))
        parts = [("all labels", slice(None)), *((names[label], slice(label, label + 1)) for label in single)]
        curves = []
        for name, columns in parts:
            true, said = truth[:, columns], proba[:, columns]
            known = ~np.isnan(true)
            if not known.any():
                raise ValueError(f"No entry of {name} is known (all NaN); annotate some texts or leave it out.")
            error = expected_calibration_error(true, said, n_bins=n_bins)
            curves.append(ReliabilityCurve(name, *_binned(true[known], said[known], n_bins, strategy), error))
        return cls(curves).plot(ax)

    def plot(self, ax: Any = None) -> ReliabilityDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, or array-like of 2 Axes, default=None
            For the curves, and for the counts, which are left out if there is one; None makes a figure.

        Returns
        -------
        ReliabilityDisplay
            This display.
        """
        n_panels = 2 if ax is None or np.size(ax) > 1 else 1
        ratios = {"height_ratios": (3, 1), "sharex": True}
        height = 6.2 + 0.2 * len(self.curves)
        axes, is_own = _axes(ax, n_panels, 1, (5.2, height), **ratios)
        axes[0].plot([0, 1], [0, 1], color="0.5", linestyle=":", label="comes true as often as it says")
        for place, curve in enumerate(self.curves):
            turn, number = divmod(place - 1, len(COLOURS))
            colour, line = ("black", "-") if place == 0 else (COLOURS[number], ("-", "--", "-.", ":")[turn % 4])
            width, marker = 2.0 if place == 0 else 1.2, MARKERS[place % len(MARKERS)]
            axes[0].plot(
                curve.predicted,
                curve.came_true,
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=5,
                linewidth=width,
                label=f"{_short(curve.name)} (calibration error {curve.error:.3f})",
            )
            if n_panels == 2:
                axes[1].stairs(curve.counts, curve.edges, color=colour, linewidth=width / 2)
                counts = curve.counts[curve.counts > 0]
                axes[1].plot(curve.predicted, counts, color=colour, marker=marker, markersize=4, linestyle="none")
        axes[0].set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Share that came true")
        axes[0].grid(alpha=0.25)
        axes[-1].set_xlabel("Predicted probability")
        if n_panels == 2:
            axes[1].set_yscale("log")
            axes[1].set(ylabel="Entries", ylim=(0.7, None))
            axes[1].grid(alpha=0.25)
        self.ax_ = axes[0]
        return _finish(self, axes, is_own, n_columns=1)


def _binned(
    true: NDArray[np.float32], said: Floats, n_bins: int, strategy: str
) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Give mean probability and share of ones of the bins that are not empty, all counts, and the borders."""
    edges = np.linspace(0, 1, n_bins + 1)
    if strategy == "quantile":
        edges = np.quantile(said, edges)
    where = np.searchsorted(edges[1:-1], said)
    counts = np.bincount(where, minlength=n_bins)
    some = counts > 0
    means = [np.bincount(where, values, n_bins)[some] / counts[some] for values in (said, true)]
    return means[0], means[1], counts, edges
