import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer

from sk_ulmfit.labels import check_labels, warn_constant


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcde"), max_size=4), min_size=1, max_size=8).filter(any))
def test_label_lists_equal_multi_label_binarizer(rows):
    binarizer = MultiLabelBinarizer()
    wanted = binarizer.fit_transform(rows)
    indicator, names = check_labels(rows)
    assert names == binarizer.classes_.tolist()
    assert np.array_equal(indicator, wanted)
    assert indicator.dtype == np.float32


def test_label_lists_in_other_wrappings():
    for y in (
        pd.Series([["b"], ["a", "b"]]),
        pl.Series([["b"], ["a", "b"]]),
        [np.array(["b"]), np.array(["a", "b"])],
        np.array([["b"], ["a", "b"]], object),
    ):
        indicator, names = check_labels(y)
        assert (indicator.tolist(), names) == ([[0, 1], [1, 1]], ["a", "b"])
    for y in (torch.tensor([[0, 1], [1, 0]]), [np.array([0, 1]), np.array([1, 0])], np.eye(2, dtype=object)[::-1]):
        assert check_labels(y)[0].tolist() == [[0, 1], [1, 0]]


def test_lists_of_zero_and_one_are_a_matrix_and_sets_never_are():
    indicator, names = check_labels([[0, 1], [1, 0]])
    assert (indicator.tolist(), names) == ([[0, 1], [1, 0]], [0, 1])
    indicator, names = check_labels([{0, 1}, {1}])
    assert (indicator.tolist(), names) == ([[1, 1], [0, 1]], [0, 1])
    assert check_labels([[2, 5], [5]])[1] == [2, 5]
    assert check_labels([("b", 3), (3,)])[1] == [3, "b"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0, 1, 1], r"2-D indicator matrix, got an array of shape \(3,\) instead.*MultiLabelBinarizer"),
        (np.array([0, 1]), "MultiLabelBinarizer"),
        (pd.Series([0, 1]), "MultiLabelBinarizer"),
        (["a", "b"], "MultiLabelBinarizer"),
        (["a;b", "b"], "MultiLabelBinarizer"),
        ("ab", "got a str"),
        ({"a": 1}, "got a dict"),
        ([[0, 2], [1, 0]], "must hold only 0 and 1, got 2 at row 0, column 1"),
        (np.array([[0.5, 1.0]]), "got 0.5 at row 0, column 0.*y_range.*not supported: binarise"),
        (np.array([[np.inf, 1]]), "contains infinity"),
        (np.array([["x", "y"]]), "not numeric"),
        (np.zeros((3, 0)), "0 labels"),
        (np.zeros((2, 2, 2)), "2-D indicator"),
        ([[], []], "all empty: there is no label to learn"),
        ([["a"], ["b", None]], "got None of type NoneType"),
        ([["a"], ["b", ["c"]]], "nested list"),
        ([["a"], "b"], "MultiLabelBinarizer"),
        ([["a"], [1.5]], "got 1.5 of type float"),
        (pd.DataFrame(np.eye(2), columns=["a", "a"]), "must be distinct"),
        (sparse.csr_matrix([[0, 3]]), "got 3 at row 0, column 1"),
        (3, "got a int"),
        (pl.Series([1, 0]), "MultiLabelBinarizer"),
        (torch.tensor([1, 0]), "MultiLabelBinarizer"),
        (np.array([[1 + 1j]]), "Complex data not supported"),
    ],
)
def test_bad_labels_get_one_clear_line(y, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_labels(y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "y",
    [
        np.array([[0, np.nan], [1, 1]]),
        np.array([[0, np.nan], [1, 1]], np.float32),
        np.array([[0, None], [1, 1]], object),
        [[0, None], [1, 1]],
        [[False, float("nan")], [True, True]],
        pd.DataFrame({"a": [0, 1], "b": [None, 1]}),
        pd.DataFrame({"a": pd.array([False, True], "boolean"), "b": pd.array([None, True], "boolean")}),
        pl.DataFrame({"a": [0, 1], "b": [None, 1]}),
        np.ma.array([[0, 7], [1, 1]], mask=[[False, True], [False, False]]),
    ],
    ids=["float64", "float32", "object", "lists", "lists of bool", "pandas", "pandas boolean", "polars", "masked"],
)
def test_every_form_of_an_unknown_entry_becomes_nan(y):
    assert np.array_equal(check_labels(y)[0], [[0, np.nan], [1, 1]], equal_nan=True)


def test_labels_of_which_nothing_can_be_learned_are_named():
    y = np.array([[1, 0, np.nan, 1], [np.nan, 0, np.nan, 0]], np.float32)
    constant = r"2 of 4 labels are the same for all 2 training texts: 'all' \(always 1\), 'none' \(always 0\)"
    unknown = "1 of 4 labels are annotated on none of the 2 training texts: 'unknown'"
    with pytest.warns(UserWarning, match=constant), pytest.warns(UserWarning, match=unknown):
        warn_constant(y, ["all", "none", "unknown", "fine"])
    with pytest.raises(ValueError, match="all their entries are unknown"):
        warn_constant(np.full((2, 2), np.nan, np.float32), [0, 1])
