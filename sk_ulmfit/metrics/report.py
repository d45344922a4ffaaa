"""Report of how well each label is predicted, as text, DataFrame or dict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._choices import Numbers
from sk_ulmfit._validation import check_number
from sk_ulmfit.metrics._checks import Floats, align_truth, check_predictions
from sk_ulmfit.metrics.decisions import average_scores, count_labels, precision_recall_f1
from sk_ulmfit.metrics.ranking import average_precisions

if TYPE_CHECKING:
    import pandas as pd

AVERAGES = ("micro", "macro", "weighted", "samples")
COUNTS = ["texts", "predicted"]  # whole numbers, unless the texts have weights


class Report(NamedTuple):
    """Numbers of a report, shape (L + 4, n_columns): one row for each label, then one for each average."""

    label_names: list[Any]
    columns: list[str]
    numbers: Floats

    @property
    def row_names(self) -> list[Any]:
        """Names of all rows."""
        return [*self.label_names, *(f"{average} average" for average in AVERAGES)]


class _Options(TypedDict, total=False):
    """What is reported, and how."""

    label_names: Sequence[Any] | None
    sample_weight: Numbers | None
    digits: int


@overload
def multilabel_report(
    y_true: Any, y_pred: Any, y_score: Any = ..., *, output_dict: Literal[True], **how: Unpack[_Options]
) -> dict[str, dict[Any, dict[str, float | None]]]: ...
@overload
def multilabel_report(
    y_true: Any, y_pred: Any, y_score: Any = ..., *, as_frame: Literal[True], **how: Unpack[_Options]
) -> pd.DataFrame: ...
@overload
def multilabel_report(y_true: Any, y_pred: Any, y_score: Any = ..., **how: Unpack[_Options]) -> str: ...
def multilabel_report(
    y_true: Any,
    y_pred: Any,
    y_score: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    sample_weight: Numbers | None = None,
    digits: int = 3,
    as_frame: bool = False,
    output_dict: bool = False,
) -> str | pd.DataFrame | dict[str, dict[Any, dict[str, float | None]]]:
    """Build a report of how well each label is predicted.

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels; unknown entries (NaN) are ignored.
    y_pred, y_score : array-like of shape (n, L)
        See `sk_ulmfit.metrics`. With `y_score` the report has a column "average precision".
    label_names : sequence of length L, default=None
        Names of the columns of `y_pred`; None takes the columns of a DataFrame `y_true`, or numbers.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text.
    digits : int, default=3
        Number of decimals in text.
    as_frame, output_dict : bool, default=False
        Return a DataFrame, or a dict with "labels" and "averages", instead of text.

    Returns
    -------
    str, DataFrame or dict
        Precision, recall and F1 for each label and for the micro, macro, weighted and samples averages; "texts" that
        have the label, and "predicted" ones that get it. Undefined numbers are 0, but undefined average precision is
        empty (None in a dict) and left out of its averages.

    Examples
    --------
    >>> from sk_ulmfit.metrics import multilabel_report
    >>> y, names = [["late"], ["late", "lost"]], ["late", "lost"]
    >>> print(multilabel_report(y, [[1, 0], [1, 0]], label_names=names, digits=2))
                      precision  recall    f1  texts  predicted
    late                   1.00    1.00  1.00      2          2
    lost                   0.00    0.00  0.00      1          0
    micro average          1.00    0.67  0.80      3          2
    macro average          0.50    0.50  0.50      3          2
    weighted average       0.67    0.67  0.67      3          2
    samples average        1.00    0.75  0.83      3          2
    """
    check_number("digits", digits, low=0, integer=True)
    indicator, names = align_truth(y_true, label_names)
    truth, decided, weight = check_predictions(indicator, y_pred, sample_weight, decisions=True)
    scores = None if y_score is None else check_predictions(indicator, y_score, None)[1]
    report = _compute(names, truth, decided, scores, weight)
    if output_dict:
        return _as_dict(report)
    return _as_frame(report) if as_frame else _as_text(report, digits)


def _compute(
    names: list[Any], truth: NDArray[np.float32], decided: NDArray[Any], scores: Any, weight: Floats
) -> Report:
    known = ~np.isnan(truth)
    of_labels = np.zeros((3, len(names)))
    of_labels[:, known.any(axis=0)] = precision_recall_f1(*count_labels(truth, decided, weight))
    averages = average_scores(truth, decided, weight) or dict.fromkeys(AVERAGES, np.zeros(3))
    columns = ["precision", "recall", "f1"]
    numbers = np.vstack([of_labels.T, *(averages[average] for average in AVERAGES)])
    n_true, n_predicted = weight @ (truth == 1), weight @ ((decided > 0) & known)
    if scores is not None:
        columns.append("average precision")
        numbers = np.column_stack([numbers, _average_precision_column(truth, scores, weight, n_true)])
    counts = [np.append(count, [count.sum()] * len(AVERAGES)) for count in (n_true, n_predicted)]
    return Report(names, [*columns, *COUNTS], np.column_stack([numbers, *counts]))


def _average_precision_column(
    truth: NDArray[np.float32], scores: Floats, weight: Floats, n_true: Floats
) -> list[float]:
    """Return the average precision of the labels and its averages, of which micro and samples are undefined."""
    of_labels = average_precisions(truth, scores, weight)
    some = ~np.isnan(of_labels)
    if not some.any():
        return [*of_labels, np.nan, np.nan, np.nan, np.nan]
    macro = of_labels[some].mean()
    weighted = of_labels[some] @ n_true[some] / n_true[some].sum()
    return [*of_labels, np.nan, macro, weighted, np.nan]


def _as_dict(report: Report) -> dict[str, dict[Any, dict[str, float | None]]]:
    dicts = [
        dict(zip(report.columns, [*map(_or_none, row[:-2]), *map(_count, row[-2:])], strict=True))
        for row in report.numbers
    ]
    n_labels = len(report.label_names)
    return {
        "labels": dict(zip(report.label_names, dicts[:n_labels], strict=True)),
        "averages": dict(zip(AVERAGES, dicts[n_labels:], strict=True)),
    }


def _or_none(score: float) -> float | None:
    return None if np.isnan(score) else float(score)


def _count(number: float) -> float:
    return int(number) if float(number).is_integer() else float(number)


def _as_frame(report: Report) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise ValueError("as_frame=True needs pandas; install it, or use as_frame=False for text.") from None
    frame = pd.DataFrame(report.numbers, index=report.row_names, columns=report.columns)
    whole = all(float(number).is_integer() for number in report.numbers[:, -2:].ravel())
    return frame.astype(dict.fromkeys(COUNTS, int)) if whole else frame


def _as_text(report: Report, digits: int) -> str:
    widths = [max(len(column), digits + 2) for column in report.columns]
    rows = [report.columns]
    for row in report.numbers:
        scores = ["" if np.isnan(number) else f"{number:.{digits}f}" for number in row[:-2]]
        rows.append([*scores, *(f"{count:.10g}" for count in row[-2:])])
    names = ["", *map(str, report.row_names)]
    name_width = max(map(len, names))
    return "\n".join(
        f"{name:<{name_width}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(row, widths, strict=True))
        for name, row in zip(names, rows, strict=True)
    )
