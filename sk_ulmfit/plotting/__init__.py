"""Displays after scikit-learn's: training, thresholds, labels that go together, reliability and learning rates.

A display holds what was computed; matplotlib is imported when it is drawn. `from_estimator` and `from_predictions`
compute and draw, ``plot(ax=...)`` draws again. No window is opened: call ``matplotlib.pyplot.show``, or save `figure_`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve
from sklearn.utils.validation import check_is_fitted

from sk_ulmfit._validation import check_choice, check_number
from sk_ulmfit.labels import first_few
from sk_ulmfit.lr_finder import LearningRateCurve, lr_find
from sk_ulmfit.metrics import expected_calibration_error, match_predictions, named_indicator
from sk_ulmfit.thresholds import check_thresholds
from sk_ulmfit.tuner import probabilities

__all__ = [
    "LabelCooccurrenceDisplay",
    "LearningRateDisplay",
    "ReliabilityCurve",
    "ReliabilityDisplay",
    "ThresholdCurve",
    "ThresholdCurveDisplay",
    "TrainingCurvesDisplay",
]

Floats = NDArray[np.float64]

# Okabe and Ito's colours, which those who are colour-blind can tell apart; without the yellow, too pale on white
BLUE, RED, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
COLOURS, MARKERS = (BLUE, RED, GREEN, ORANGE, SKY, PURPLE), "osDv^P*X"

MOST_PANELS = 12
MOST_ROWS = 40  # labels of a matrix, unless others are asked for
MOST_NUMBERS = 12  # labels of a matrix with numbers in its cells
MOST_TICKS = 60
LONGEST_NAME = 22  # characters of a label name that are shown


class TrainingCurvesDisplay:
    """Losses of each epoch, one panel for each stage of training.

    Parameters
    ----------
    histories : dict of str to list of dict
        For each stage the rows of its history, as `history_` holds them: "train_loss", and where there are,
        "valid_loss" and "trained_groups".

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_stages,)
        The panels.
    figure_ : Figure
        Where they stand.

    See Also
    --------
    LearningRateDisplay : Losses by learning rate, before training.

    References
    ----------
    J. Howard, S. Ruder (2018), "Universal Language Model Fine-tuning for Text Classification", section 3.3, on gradual
    unfreezing.

    Examples
    --------
    >>> from sk_ulmfit.plotting import TrainingCurvesDisplay
    >>> rows = [{"train_loss": 0.6, "trained_groups": "head"}, {"train_loss": 0.4, "trained_groups": "head, layer 3"}]
    >>> display = TrainingCurvesDisplay({"classifier": rows}).plot()
    >>> display.axes_[0].get_xlabel()
    'Epoch'
    """

    def __init__(self, histories: Mapping[str, Sequence[Mapping[str, Any]]]):
        self.histories = histories

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> TrainingCurvesDisplay:
        """Draw the losses of a fitted estimator.

        Parameters
        ----------
        estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
            Fitted. A loaded classifier has the history of its own training, not that of its language model.
        ax : array-like of Axes, or Axes, default=None
            One for each stage that has epochs; None makes a figure.

        Returns
        -------
        TrainingCurvesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the estimator has no history, or there are not as many Axes as stages.
        """
        if not hasattr(estimator, "fit") or hasattr(estimator, "steps") or hasattr(estimator, "estimator"):
            raise ValueError(
                f"estimator must be a ULMFiTMultiLabelClassifier or ULMFiTLanguageModel, got a "
                f"{type(estimator).__name__}; pass the one inside, such as pipeline[-1] or search.best_estimator_."
            )
        check_is_fitted(estimator)
        own = "language model" if hasattr(estimator, "perplexity") else "classifier"
        histories = {
            "language model": getattr(getattr(estimator, "language_model_", None), "history_", []),
            own: getattr(estimator, "history_", []),
            "backward language model": getattr(getattr(estimator, "backward_language_model_", None), "history_", []),
            "backward classifier": getattr(estimator, "backward_history_", []),
        }
        histories = {stage: rows for stage, rows in histories.items() if rows}
        if not histories:
            raise ValueError(f"This {type(estimator).__name__} has no epochs to draw; fit it with max_epochs above 0.")
        return cls(histories).plot(ax)

    def plot(self, ax: Any = None) -> TrainingCurvesDisplay:
        """Draw.

        Vertical lines mark the epochs from which on a further layer group is trained, with its name above; for these a
        figure of your own needs ``layout="constrained"``.

        Parameters
        ----------
        ax : array-like of Axes, or Axes, default=None
            One for each stage; None makes a figure.

        Returns
        -------
        TrainingCurvesDisplay
            This display.
        """
        n = len(self.histories)
        axes, is_own = _axes(ax, n, n, (5.0 * n, 4.2))
        for panel, (stage, rows) in zip(axes, self.histories.items(), strict=True):
            _draw_losses(panel, stage, rows)
        return _finish(self, axes, is_own, n_columns=2 * n)


class ThresholdCurve(NamedTuple):
    """Precision, recall and F1 of one label at each threshold.

    Attributes
    ----------
    name : str or int
        Label name.
    thresholds : ndarray of float64, shape (n_thresholds,)
        The distinct probabilities, rising: a label is predicted where its probability is at least the threshold.
    precision, recall, f1 : ndarray of float64, shape (n_thresholds,)
        Of the decisions by each threshold.
    n_texts : int
        Texts that have the label.
    in_use : float or None
        The threshold in use, if one is.
    """

    name: Any
    thresholds: Floats
    precision: Floats
    recall: Floats
    f1: Floats
    n_texts: int
    in_use: float | None


class ThresholdCurveDisplay:
    """Precision, recall and F1 against the threshold, one panel for each label.

    Parameters
    ----------
    curves : list of ThresholdCurve
        One for each label that is drawn.
    n_labels : int, default=None
        Labels that these were the most frequent of; the title says so.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (n_curves,)
        The panels.
    figure_ : Figure
        Where they stand.

    See Also
    --------
    sk_ulmfit.thresholds.tune_thresholds : Chooses thresholds.

    Examples
    --------
    >>> from sk_ulmfit.plotting import ThresholdCurveDisplay
    >>> y, names = [["late"], ["late", "lost"], []], ["late", "lost"]
    >>> proba = [[0.9, 0.2], [0.6, 0.4], [0.3, 0.1]]
    >>> display = ThresholdCurveDisplay.from_predictions(y, proba, label_names=names, thresholds=0.5)
    >>> display.curves[0].f1.round(2).tolist()
    [0.8, 1.0, 0.67]
    """

    def __init__(self, curves: Sequence[ThresholdCurve], *, n_labels: int | None = None):
        self.curves = curves
        self.n_labels = n_labels

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, label_names: Any = None, labels: Any = None, ax: Any = None
    ) -> ThresholdCurveDisplay:
        """Draw the curves of a fitted classifier; its thresholds are marked.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier with ``predict_proba``. Its thresholds are `thresholds_` or `best_thresholds_`, 0.5
            if it has neither, and none if `top_k` decides.
        X : sequence of length n
            What it takes; texts that it was not trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        label_names : sequence of length L, default=None
            Names of its labels; None takes `label_names_`, if it has them.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the twelve that most texts have.
        ax : array-like of Axes, default=None
            One for each label drawn; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            The display, drawn.
        """
        truth, proba, names = _predicted(estimator, X, y, label_names)
        last = _last_step(estimator)
        in_use = getattr(last, "thresholds_", getattr(last, "best_thresholds_", 0.5))
        in_use = None if getattr(last, "top_k", None) is not None else in_use
        return cls.from_predictions(truth, proba, label_names=names, labels=labels, thresholds=in_use, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_proba: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        thresholds: Any = None,
        ax: Any = None,
    ) -> ThresholdCurveDisplay:
        """Draw the curves of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        y_proba : array-like of shape (n, L), or list of L arrays of shape (n, 2)
            Probabilities.
        label_names : sequence of length L, default=None
            What the columns of `y_proba` stand for; None takes the columns of a DataFrame, or numbers.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the twelve that most texts have.
        thresholds : float, array-like of shape (L,) or dict, default=None
            Thresholds to mark: one for all, one per label, or by label name (labels not named: 0.5). None marks none.
        ax : array-like of Axes, default=None
            One for each label drawn; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit, a label is unknown, or no text has a label.
        """
        truth, proba, names = _checked_probabilities(y_true, y_proba, label_names)
        in_use = None if thresholds is None else check_thresholds(thresholds, names)
        n_texts = (truth == 1).sum(axis=0)
        curves = []
        for label in _chosen(labels, names, n_texts, MOST_PANELS):
            known = ~np.isnan(truth[:, label])
            if not n_texts[label]:
                raise ValueError(f"No text has the label {names[label]!r}: it has no recall; leave it out of labels.")
            precision, recall, cuts = precision_recall_curve(truth[known, label], proba[known, label])
            precision, recall = precision[:-1], recall[:-1]
            total = precision + recall
            f1 = 2 * precision * recall / np.where(total > 0, total, 1)
            mark = None if in_use is None else float(in_use[label])
            curves.append(ThresholdCurve(names[label], cuts, precision, recall, f1, int(n_texts[label]), mark))
        return cls(curves, n_labels=len(names) if labels is None else None).plot(ax)

    def plot(self, ax: Any = None) -> ThresholdCurveDisplay:
        """Draw.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            One for each curve; None makes a figure.

        Returns
        -------
        ThresholdCurveDisplay
            This display.
        """
        n = len(self.curves)
        n_columns = min(n, 4)
        n_rows = -(-n // n_columns)
        axes, is_own = _axes(ax, n, n_columns, (max(2.6 * n_columns, 4.0), 2.2 * n_rows + 0.8))
        for place, (panel, curve) in enumerate(zip(axes, self.curves, strict=True)):
            x = np.array([0.0, *curve.thresholds, 1.0])  # a value holds from the threshold before to its own
            for name, values, colour, style in (
                ("precision", [*curve.precision, np.nan], BLUE, "--"),  # above all probabilities nothing is predicted
                ("recall", [*curve.recall, 0.0], GREEN, ":"),
                ("F1", [*curve.f1, 0.0], RED, "-"),
            ):
                y = np.array([values[0], *values])
                panel.plot(x, y, drawstyle="steps-pre", color=colour, linestyle=style, label=name)
            if curve.in_use is not None:
                panel.axvline(curve.in_use, color="black", linewidth=1, label="threshold in use")
            texts = "text" if curve.n_texts == 1 else "texts"
            panel.set_title(f"{_short(curve.name)} ({curve.n_texts} {texts})", fontsize="small")
            panel.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            panel.grid(alpha=0.25)
            if place + n_columns >= n or not is_own:
                panel.set_xlabel("Threshold (probability)", fontsize="small")
            if place % n_columns == 0 or not is_own:
                panel.set_ylabel("Precision, recall, F1", fontsize="small")
        return _finish(self, axes, is_own, _selection(n, self.n_labels))


class LabelCooccurrenceDisplay:
    """How often labels go together, in truth and in predictions, side by side on one colour scale.

    Parameters
    ----------
    true, predicted : ndarray of float64, shape (L, L)
        Texts with both labels: their number, or their share of the texts with the label of the row. The diagonal is not
        drawn. NaN where no text has the label of the row.
    n_true, n_predicted : ndarray of int64, shape (L,)
        Texts that have each label.
    label_names : sequence of length L
        Label names.
    normalize : bool, default=True
        Whether the matrices hold shares.
    n_labels : int, default=None
        Labels that these were the most frequent of; the title says so.

    Attributes
    ----------
    axes_ : ndarray of Axes, shape (2,)
        The panels of truth and prediction.
    figure_ : Figure
        Where they stand.

    Examples
    --------
    >>> from sk_ulmfit.plotting import LabelCooccurrenceDisplay
    >>> y = [[1, 1], [1, 0], [0, 1], [1, 0]]
    >>> display = LabelCooccurrenceDisplay.from_predictions(y, [[1, 1], [1, 1], [0, 0], [1, 0]])
    >>> display.true.round(2).tolist()
    [[1.0, 0.33], [0.5, 1.0]]
    """

    def __init__(
        self,
        true: Floats,
        predicted: Floats,
        *,
        n_true: NDArray[np.int64],
        n_predicted: NDArray[np.int64],
        label_names: Sequence[Any],
        normalize: bool = True,
        n_labels: int | None = None,
    ):
        self.true = true
        self.predicted = predicted
        self.n_true = n_true
        self.n_predicted = n_predicted
        self.label_names = label_names
        self.normalize = normalize
        self.n_labels = n_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        normalize: bool = True,
        ax: Any = None,
    ) -> LabelCooccurrenceDisplay:
        """Draw what a fitted classifier decides beside the truth.

        Parameters
        ----------
        estimator : estimator
            Multi-label classifier.
        X : sequence of length n
            What it takes; texts that it was not trained on.
        y : array-like of shape (n, L), DataFrame, or n label lists
            True labels; unknown entries (NaN) are left out.
        label_names : sequence of length L, default=None
            Names of its labels; None takes `label_names_`, if it has them.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the forty that most texts have.
        normalize : bool, default=True
            Draw shares of the texts with the label of the row, not numbers of texts.
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            The display, drawn.
        """
        names = _names(estimator) if label_names is None else label_names
        truth, names = named_indicator(y, names)
        return cls.from_predictions(
            truth, estimator.predict(X), label_names=names, labels=labels, normalize=normalize, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        label_names: Any = None,
        labels: Any = None,
        normalize: bool = True,
        ax: Any = None,
    ) -> LabelCooccurrenceDisplay:
        """Draw decisions beside the truth.

        An entry that is unknown is left out of both matrices: a share is that of the texts with the label of the row in
        which the other label is known.

        Parameters
        ----------
        y_true : array-like of shape (n, L), DataFrame, or n label lists
            True labels, NaN where unknown.
        y_pred : array-like of shape (n, L)
            Decisions, 0 and 1.
        label_names : sequence of length L, default=None
            What the columns of `y_pred` stand for; None takes the columns of a DataFrame, or numbers.
        labels : sequence of label names, default=None
            Those to draw; None takes all, or if they are many, the forty that most texts have.
        normalize : bool, default=True
            Draw shares of the texts with the label of the row, not numbers of texts.
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes do not fit, `y_pred` holds other numbers, or a label is unknown.
        """
        truth, decided, names = match_predictions(y_true, y_pred, label_names, decisions=True)
        chosen = _chosen(labels, names, (truth == 1).sum(axis=0), MOST_ROWS)
        truth, decided = truth[:, chosen], decided[:, chosen]
        known = ~np.isnan(truth)
        has, gets = (truth == 1).astype(np.float64), ((decided > 0) & known).astype(np.float64)
        matrices = []
        for one in (has, gets):
            both = one.T @ one
            n_row = one.T @ known
            matrices.append(both / np.where(n_row > 0, n_row, np.nan) if normalize else both)
        return cls(
            *matrices,
            n_true=has.sum(axis=0).astype(np.int64),
            n_predicted=gets.sum(axis=0).astype(np.int64),
            label_names=[names[label] for label in chosen],
            normalize=normalize,
            n_labels=len(names) if labels is None else None,
        ).plot(ax)

    def plot(self, ax: Any = None) -> LabelCooccurrenceDisplay:
        """Draw; with few labels numbers stand in the cells, on the diagonal those of texts with the label.

        Parameters
        ----------
        ax : array-like of 2 Axes, default=None
            For truth and prediction; None makes a figure.

        Returns
        -------
        LabelCooccurrenceDisplay
            This display.
        """
        n = len(self.label_names)
        side = min(max(0.42 * n, 2.6), 6.0)
        names, step = [_short(name) for name in self.label_names], -(-n // MOST_TICKS)
        size = min(max(220 / n, 5.0), 9.0) if n > MOST_NUMBERS else 9.0
        room = max(map(len, names)) * size * 0.6 / 72  # for names beside and below the panels, in inches
        axes, is_own = _axes(ax, 2, 2, (2 * side + room + 1.6, side + room + 1.0), sharey=True)
        off_diagonal = [np.where(np.eye(n, dtype=bool), np.nan, matrix) for matrix in (self.true, self.predicted)]
        largest = np.nanmax([0.0, *(value for matrix in off_diagonal for value in matrix.ravel())])
        panels = zip(axes, off_diagonal, (self.n_true, self.n_predicted), strict=True)
        for place, (panel, matrix, counts) in enumerate(panels):
            panel.set_facecolor("0.88")
            image = panel.imshow(matrix, cmap="Blues", vmin=0, vmax=largest or 1, aspect="auto")
            panel.set_title(("True labels", "Predicted labels")[place], fontsize="medium")
            panel.set_xticks(range(0, n, step), names[::step], rotation=90, fontsize=size)
            if place == 0 or not is_own:
                panel.set_yticks(range(0, n, step), names[::step], fontsize=size)
            panel.set_xlabel("that also have this one")
            if place == 0 or not is_own:
                panel.set_ylabel("Texts with this label")
            for row, column in np.ndindex(n, n) if n <= MOST_NUMBERS else ():
                value = matrix[row, column]
                if row == column:
                    panel.text(column, row, f"{counts[row]}", ha="center", va="center", fontsize=8, style="italic")
                elif not np.isnan(value):
                    shown = f"{value:.2f}".replace("0.", ".", 1) if self.normalize and value < 1 else f"{value:.0f}"
                    colour = "white" if value > 0.6 * largest else "black"
                    panel.text(column, row, shown, ha="center", va="center", fontsize=8, color=colour)
        bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.02)
        bar.set_label("Share of the texts with the row's label" if self.normalize else "Texts with both labels")
        if n <= MOST_NUMBERS:
            axes[1].set_title("Predicted labels (grey: texts with the label)", fontsize="medium")
        return _finish(self, axes, is_own, _selection(n, self.n_labels), legend=False)


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


class LearningRateDisplay:
    """Loss against learning rate in a range test, with the rate that it suggests.

    Parameters
    ----------
    curve : LearningRateCurve
        What `lr_find` gives.

    Attributes
    ----------
    ax_ : Axes
        The panel.
    figure_ : Figure
        Where it stands.

    See Also
    --------
    sk_ulmfit.lr_finder.lr_find : Runs the test.

    References
    ----------
    L. N. Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3.

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

    def __init__(self, curve: LearningRateCurve):
        self.curve = curve

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, ax: Any = None, **options: Any
    ) -> LearningRateDisplay:
        """Run a range test on a copy of an estimator, and draw it.

        Parameters
        ----------
        estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
            Whose rate is looked for; it stays as it is.
        X : sequence of str of length n
            Raw texts.
        y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists, default=None
            Labels; a language model needs none.
        ax : Axes, default=None
            Where to draw; None makes a figure.
        **options : dict
            What else `lr_find` takes: `start_lr`, `end_lr`, `n_steps`, `sample_weight`.

        Returns
        -------
        LearningRateDisplay
            The display, drawn; ``display.curve`` is the result.
        """
        return cls(lr_find(estimator, X, y, **options)).plot(ax)

    def plot(self, ax: Any = None) -> LearningRateDisplay:
        """Draw; where the loss explodes, it leaves the panel.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LearningRateDisplay
            This display.
        """
        axes, is_own = _axes(ax, 1, 1, (6.0, 4.2))
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
        self.ax_ = panel
        return _finish(self, axes, is_own)


def _draw_losses(panel: Any, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = np.arange(1, len(rows) + 1)
    marker = "o" if len(rows) <= 30 else None
    unfrozen = _unfreezings(rows)
    room = 320 / len(rows)  # points from one epoch to the next
    fits = all(5 * len(", ".join(names)) < room for _, names in unfrozen[:-1])
    rise = 0 if fits else 11  # else names stand in steps, so that they do not meet however near the epochs are
    pointer = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0)}
    for place, (epoch, names) in enumerate(unfrozen):
        panel.axvline(epoch, color="0.6", linewidth=0.8, linestyle="--")
        panel.annotate(
            " " + ", ".join(names),
            xy=(epoch, 1),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 4 + rise * (len(unfrozen) - 1 - place)),
            textcoords="offset points",
            arrowprops=pointer,
            fontsize=8,
            color="0.3",
            annotation_clip=False,
        )
    training = [row.get("train_loss", np.nan) for row in rows]
    panel.plot(epochs, training, color=BLUE, marker=marker, markersize=4, label="training, with dropout")
    if any("valid_loss" in row for row in rows):
        held_out = np.array([row.get("valid_loss", np.nan) for row in rows], np.float64)
        panel.plot(epochs, held_out, color=RED, linestyle="--", marker=marker, markersize=4, label="held-out texts")
        best = int(np.nanargmin(held_out))
        ring = {"marker": "o", "markersize": 11, "fillstyle": "none", "linestyle": "none", "clip_on": False}
        panel.plot(epochs[best], held_out[best], color=RED, label="best on held-out texts", **ring)
    height = 11 + rise * (len(unfrozen) - 1) if unfrozen else 0
    panel.set_title(stage.capitalize(), fontsize="medium", pad=6 + height)
    unit = "token" if stage.endswith("language model") else "label"
    panel.set(xlabel="Epoch", ylabel=f"Loss (nats per {unit})")
    panel.set_xlim(0.5, len(rows) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.grid(alpha=0.25, axis="y")


def _unfreezings(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, list[str]]]:
    """Give the epochs from which on more groups are trained, and which."""
    found, before = [], set[str]()
    for epoch, row in enumerate(rows, start=1):
        trained = str(row["trained_groups"]).split(", ") if "trained_groups" in row else []
        new = [name for name in trained if name not in before]
        if new:
            found.append((epoch, new))
            before |= set(new)
    return found


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


def _chosen(labels: Any, names: Sequence[Any], n_texts: NDArray[Any], most: int) -> list[int]:
    """Give the columns of the labels to draw: those named, or all that texts have, or the most frequent of these."""
    if labels is None:
        found = [label for label in range(len(names)) if n_texts[label]]
        if not found:
            raise ValueError(f"None of the {len(names)} labels is in any text; draw texts that have some.")
        if len(found) > most:
            found = sorted(found, key=lambda label: -n_texts[label])[:most]
        return found
    wanted = [labels] if isinstance(labels, (str, int, np.integer)) else list(labels)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        known = first_few(list(map(repr, names)))
        what = f"names the unknown label {unknown[0]!r}" if unknown else "is empty"
        raise ValueError(f"labels {what}. The labels are {known}.")
    return [list(names).index(name) for name in wanted]


def _last_step(estimator: Any) -> Any:
    return estimator[-1] if hasattr(estimator, "steps") else estimator


def _names(estimator: Any) -> Any:
    return getattr(_last_step(estimator), "label_names_", None)


def _predicted(estimator: Any, X: Any, y: Any, label_names: Any) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    if not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"estimator must have predict_proba, and {type(estimator).__name__} has none; "
            "sklearn.calibration.CalibratedClassifierCV gives one to classifiers with a decision_function."
        )
    truth, names = named_indicator(y, _names(estimator) if label_names is None else label_names)
    return truth, probabilities(estimator, X, len(names)), names


def _checked_probabilities(
    y_true: Any, y_proba: Any, label_names: Any
) -> tuple[NDArray[np.float32], Floats, list[Any]]:
    truth, proba, names = match_predictions(y_true, y_proba, label_names)
    if not np.all((proba >= 0) & (proba <= 1)):
        raise ValueError("y_proba must hold probabilities from 0 to 1; pass what predict_proba gives.")
    return truth, proba.astype(np.float64), names


def _selection(n: int, n_labels: int | None) -> str | None:
    return f"The {n} most frequent of {n_labels} labels" if n_labels is not None and n < n_labels else None


def _short(name: Any) -> str:
    text = " ".join(str(name).split()).replace("$", r"\$")  # no formula
    text = f"\u200b{text}" if text.startswith("_") else text  # which would leave it out of legends
    end = LONGEST_NAME // 3  # names often differ at their ends
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - end - 1]}…{text[-end:]}"


def _axes(
    ax: Any, n: int, n_columns: int, size: tuple[float, float], **options: Any
) -> tuple[NDArray[np.object_], bool]:
    """Give the Axes to draw in, those of the user or new ones, and whether they are new."""
    if ax is not None:
        axes = np.asarray(ax, object).ravel()
        if len(axes) != n:
            raise ValueError(f"ax must hold {n} Axes, one per panel, got {len(axes)}; see plt.subplots(1, {n}).")
        return axes, False
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            "Drawing needs matplotlib, which is not installed: pip install matplotlib, or sk-ulmfit[plot]."
        ) from None
    _, grid = plt.subplots(-(-n // n_columns), n_columns, figsize=size, squeeze=False, layout="constrained", **options)
    for spare in grid.ravel()[n:]:
        spare.remove()
    return grid.ravel()[:n], True


def _finish(
    display: Any,
    axes: NDArray[np.object_],
    is_own: bool,
    title: str | None = None,
    *,
    legend: bool = True,
    n_columns: int = 4,
) -> Any:
    """Keep figure and Axes; put the title above and the legend, that of all panels, below them."""
    display.figure_, display.axes_ = axes[0].figure, axes
    if len(axes) == 1:
        display.ax_ = axes[0]
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if legend and is_own:
        options = {"ncols": min(len(handles), n_columns), "fontsize": "small", "frameon": False}
        display.figure_.legend(handles.values(), handles.keys(), loc="outside lower center", **options)
    elif legend:
        axes[0].legend(handles.values(), handles.keys(), fontsize="small")
    if title and is_own:
        display.figure_.suptitle(title, fontsize="medium")
    return display
