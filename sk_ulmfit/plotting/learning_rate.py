"""Loss by learning rate in a range test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from sk_ulmfit.lr_finder import LearningRateCurve, lr_find
from sk_ulmfit.plotting._shared import BLUE, RED, SKY, Display, draw_legend, prepare_axes, store_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sk_ulmfit.plotting._shared import Panels


class LearningRateDisplay(Display):
    """Loss by learning rate in a range test, with the suggested learning rate.

    Parameters
    ----------
    curve : LearningRateCurve
        Result of `lr_find`.

    Attributes
    ----------
    ax_, figure_ : Axes and Figure
        The panel and its figure.

    References
    ----------
    Smith, L. N. (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel
    >>> from sk_ulmfit.plotting import LearningRateDisplay
    >>> texts = ["the lamp is on", "the lamp is off", "the hub is off"] * 10
    >>> lm = ULMFiTLanguageModel(emb_dim=8, hidden_dim=12, n_layers=2, random_state=0)
    >>> display = LearningRateDisplay.from_estimator(lm, texts, n_steps=40)
    >>> display.ax_.get_xscale()
    'log'
    """

    ax_: Axes

    def __init__(self, curve: LearningRateCurve):
        self.curve = curve

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, *, ax: Panels = None, **options: Any) -> Self:
        """Run a range test on a copy of an estimator and draw it.

        Parameters
        ----------
        estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
            Estimator to find a learning rate for; it is not changed.
        X : sequence of str of length n
            Raw texts.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists, default=None
            Labels; None for a language model.
        ax : Axes, default=None
            Axes to draw in; None creates a figure.
        **options : dict
            Further arguments of `lr_find`: `start_lr`, `end_lr`, `n_steps`, `sample_weight`.
        """
        return cls(lr_find(estimator, X, y, **options)).plot(ax)

    def plot(self, ax: Panels = None) -> Self:
        """Draw into `ax` or a new figure, and return the display; an exploding loss leaves the panel at the top."""
        axes, is_new = prepare_axes(ax, 1, 1, (6.0, 4.2))
        panel, curve = axes[0], self.curve
        rates, raw, smoothed = curve.learning_rates, curve.losses, curve.smoothed_losses
        panel.plot(rates, raw, color=SKY, linewidth=0.8, label="of each batch")
        panel.plot(rates, smoothed, color=BLUE, linewidth=2, label="smoothed")
        if curve.suggestion is not None:
            panel.axvline(curve.suggestion, color=RED, linestyle="--", label=f"suggestion: {curve.suggestion:.2g}")
        low, high = raw.min(), raw[: int(smoothed.argmin()) + 1].max()
        margin = 0.1 * (high - low) or 0.1
        panel.set(xscale="log", xlabel="Learning rate of the top layer group", ylabel="Training loss (nats)")
        panel.set_ylim(low - margin, high + 3 * margin)
        panel.grid(alpha=0.25)
        store_axes(self, axes)
        draw_legend(axes, is_new)
        return self
