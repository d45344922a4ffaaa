"""A table of how well each label is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sk_ulmfit._validation import check_number
from sk_ulmfit.metrics._checks import _checked, named_indicator
from sk_ulmfit.metrics.decisions import _averages, _counts, _precision_recall_f1
from sk_ulmfit.metrics.ranking import _average_precision


def multilabel_report(
    y_true: Any,
    y_pred: Any,
    y_score: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    sample_weight: Any = None,
    digits: int = 3,
    as_frame: bool = False,
    output_dict: bool = False,
) -> Any:
    """Tabulate how well each label is predicted, and averages.

    Parameters
    ----------
    y_true : array-like of shape (n, L), DataFrame, or n label lists
        True labels; unknown entries (NaN) are left out.
    y_pred : array-like of shape (n, L)
        Decisions, 0 and 1.
    y_score : array-like of shape (n, L), or list of L arrays of shape (n, 2), default=None
        Probabilities or other scores; with them average precision, which no threshold has a part in, is another column.
    label_names : sequence of length L, default=None
        What the columns of `y_pred` stand for; labels that `y_true` names are put there. None takes the columns of a
        DataFrame, or numbers.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts.
    digits : int, default=3
        Digits behind the point, in text.
    as_frame : bool, default=False
        Give a DataFrame of pandas instead of text.
    output_dict : bool, default=False
        Give a dict instead: "labels" and "averages", and in these by row a dict of numbers by column, None where there
        is none.

    Returns
    -------
    str, DataFrame or dict
        A row for each label and for the micro, macro, weighted (by texts with the label) and samples averages; columns
        "precision", "recall", "f1", "average precision" if there are scores, "texts" (that have the label) and
        "predicted" (texts that get it). What is undefined (no text has the label, or gets it) counts 0, as in
        scikit-learn's ``classification_report``; average precision is then empty and left out of its means, the
        macro and the weighted one.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there is no pandas for a DataFrame.

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
    indicator, names = named_indicator(y_true, label_names)
    truth, decided, weight = _checked(indicator, y_pred, sample_weight, decisions=True)
    columns = ["precision", "recall", "f1", "texts", "predicted"]
    of_label = np.zeros((3, len(names)))
    known = ~np.isnan(truth).all(axis=0)
    of_label[:, known] = _precision_recall_f1(*_counts(truth, decided, weight, axis=0))
    n_with, predicted = weight @ (truth == 1), weight @ ((decided > 0) & ~np.isnan(truth))
    averages = _averages(truth, decided, weight)
    averages = averages or dict.fromkeys(("micro", "macro", "weighted", "samples"), np.zeros(3))
    index = [*names, *(f"{average} average" for average in averages)]
    table = np.vstack([of_label.T, *averages.values()])
    if y_score is not None:
        columns.insert(3, "average precision")
        each = _average_precision(truth, _checked(indicator, y_score, None)[1], weight)
        some = ~np.isnan(each)
        macro = each[some].mean() if some.any() else np.nan
        weighted = each[some] @ n_with[some] / n_with[some].sum() if some.any() else np.nan
        table = np.column_stack([table, [*each, np.nan, macro, weighted, np.nan]])
    counts = np.column_stack([np.append(a, [a.sum()] * len(averages)) for a in (n_with, predicted)])
    table = np.column_stack([table, counts])
    if output_dict:
        rows = ([None if np.isnan(number) else float(number) for number in row] for row in table)
        dicts = [dict(zip(columns, row, strict=True)) for row in rows]
        of_labels, of_averages = dicts[: len(names)], dicts[len(names) :]
        return {
            "labels": dict(zip(names, of_labels, strict=True)),
            "averages": dict(zip(averages, of_averages, strict=True)),
        }
    if as_frame:
        try:
            import pandas as pd
        except ImportError:
            raise ValueError("as_frame=True needs pandas; install it, or take the text (as_frame=False).") from None
        frame = pd.DataFrame(table, index=index, columns=columns)
        whole = all(float(number).is_integer() for number in counts.ravel())
        return frame.astype(dict.fromkeys(columns[-2:], int)) if whole else frame
    width = max(len(str(name)) for name in index)
    lines = [" " * width + "".join(f"  {name:>{max(len(name), digits + 2)}}" for name in columns)]
    for name, row in zip(index, table, strict=True):
        cells = [("" if np.isnan(v) else f"{v:.{digits}f}") for v in row[:-2]] + [f"{v:.10g}" for v in row[-2:]]
        lines.append(
            f"{name!s:<{width}}"
            + "".join(f"  {cell:>{max(len(c), digits + 2)}}" for c, cell in zip(columns, cells, strict=True))
        )
    return "\n".join(lines)
