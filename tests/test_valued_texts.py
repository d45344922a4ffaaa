"""Texts with values on a scale: every form of y, and one clear line for each input that is wrong."""

import decimal
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from sk_ulmfit.text import StreamedTexts
from sk_ulmfit.training.valued_texts import check_valued_texts, check_values, check_y_range

TEXTS = ["one", "two", "three"]


@pytest.mark.parametrize(
    ("y", "wanted", "names", "one_dimensional"),
    [
        ([1, 2.5, None], [[1], [2.5], [np.nan]], [0], True),
        (np.array([1, 2, 3], np.int8), [[1], [2], [3]], [0], True),
        ([True, False, np.True_], [[1], [0], [1]], [0], True),
        ([decimal.Decimal("0.5"), 1, pd.NA], [[0.5], [1], [np.nan]], [0], True),
        ([[1, 2], (3, None), np.array([5.0, 6.0])], [[1, 2], [3, np.nan], [5, 6]], [0, 1], False),
        (pd.Series([1.0, 2.0, np.nan], name="stars"), [[1], [2], [np.nan]], ["stars"], True),
        (pd.Series([1, 2, pd.NA], dtype="Int64"), [[1], [2], [np.nan]], [0], True),
        (pd.Series([[1, 2], [3, 4], [5, 6]]), [[1, 2], [3, 4], [5, 6]], [0, 1], False),
        (pd.DataFrame({"a": [1, 2, 3], "b": [4.0, np.nan, 6.0]}), [[1, 4], [2, np.nan], [3, 6]], ["a", "b"], False),
        (pd.DataFrame({"a": [1, 2, 3]}), [[1], [2], [3]], ["a"], False),
        (np.ma.masked_array([1, 2, 3], [0, 1, 0]), [[1], [np.nan], [3]], [0], True),
        (sparse.csr_matrix([[1.0, 0], [0, 2], [0, 0]]), [[1, 0], [0, 2], [0, 0]], [0, 1], False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_form_becomes_a_matrix(y, wanted, names, one_dimensional):
    values = check_values(y)
    np.testing.assert_array_equal(values.y, wanted)
    assert values.y.dtype == np.float64
    assert values.names == names
    assert values.one_dimensional is one_dimensional


@pytest.mark.parametrize(
    ("y", "part"),
    [
        (None, "the target y is None"),
        ("3", "got '3' of type str"),
        ({"a": 1}, "got {'a': 1} of type dict"),
        (3, "got 3 of type int"),
        (["good", "bad", "good"], "y[0] is 'good' of type str"),
        ([1.5, "2", 3], "y[1] is '2' of type str"),
        (np.array(["1", "2", "3"]), "y[0] is '1' of type str"),
        ([[1, 2], [3, "x"], [5, 6]], "y[1, 1] is 'x' of type str"),
        (pd.DataFrame({"a": ["x", "y", "z"]}), "y[0, 0] is 'x' of type str"),
        ([{1}, {2}, {3}], "y[0] is {1} of type set"),
        ([1, [2, 3], 4], "y mixes numbers and rows"),
        ([[1, 2], [3], [4, 5]], "y mixes numbers and rows, or rows of different lengths"),
        ([1, np.inf, 2], "Input y contains infinity or a value too large: y[1] is inf"),
        ([[1, 2], [3, -np.inf], [4, 5]], "y[1, 1] is -inf"),
        ([1, 10**400, 2], "y[1] is inf"),
        ([1e300, 1, 2], "y[0] is 1e+300"),
        ([1j, 2, 3], "Complex data not supported"),
        ([[[1]], [[2]], [[3]]], "y must be 1-D or 2-D, got an array of shape (3, 1, 1)"),
        (np.empty((3, 0)), "y has 0 targets (shape (3, 0))"),
        (np.array(["2026-01-01"] * 3, "datetime64[D]"), "y has dtype datetime64[D]"),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), "Target names must be distinct, got 'a' more than once"),
        ([1, 2], "X has 3 texts, but y has 2 rows"),
        ([np.nan, None, np.nan], "y has 3 rows, and all their values are unknown (NaN)"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_targets_get_one_clear_line(y, part):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is checked below
        check_valued_texts(TEXTS, y)
    assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("y_range", "part"),
    [
        ((5, 1), "The low end of y_range must be below its high end, both finite; got (5, 1)."),
        ((1, 1), "got (1, 1)."),
        ((0, np.inf), "got (0, inf)."),
        ((np.nan, 1), "got (nan, 1)."),
        ([(1, 5), (2, 0)], "got (2, 0) of target 'b'."),
        ([(1, 5)] * 3, "y_range must be None, one pair (low, high), or 2 such pairs, one per target; got [(1, 5)"),
        (5, "got 5."),
        ("15", "got '15'."),
        ((1, "x"), "got (1, 'x')."),
        ({1: 5}, "got {1: 5}."),
        ([(1, 2), 3], "got [(1, 2), 3]."),
    ],
    ids=str,
)
def test_wrong_ranges_get_one_clear_line(y_range, part):
    y = pd.DataFrame({"a": [1, 2, 5], "b": [1, 2, 3]})
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is checked below
        check_valued_texts(TEXTS, y, y_range=y_range)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_value_outside_of_the_range_is_named():
    with pytest.raises(ValueError, match=r"y\[1\] is 7 for target 'b', outside of y_range=\(0, 5\)\."):
        check_valued_texts(TEXTS, pd.DataFrame({"a": [1, 2, 9], "b": [1, 7, 3]}), y_range=(0, 5))
    with pytest.raises(ValueError, match=r"y\[2\] is -1 for target 0, outside of y_range=\(0, 2\)\."):
        check_valued_texts(TEXTS, [0, 2, -1], y_range=[(0, 2)])


@pytest.mark.parametrize(
    ("y_range", "got"), [(None, "None"), ((0, 2), r"\(0, 2\)"), ([(0, 1), (0.0, 0.5)], r"\(0, 0.5\)")]
)
def test_cross_entropy_needs_the_range_from_0_to_1(y_range, got):
    with pytest.raises(ValueError, match=rf"needs y_range=\(0, 1\), got y_range={got};"):
        check_valued_texts(TEXTS, [[0.1, 0.2]] * 3, y_range=y_range, loss="cross_entropy")
    data = check_valued_texts(TEXTS, [0.1, 0.2, 1], y_range=(0, 1), loss="cross_entropy")
    assert data.task.loss == "cross_entropy"
    with pytest.raises(ValueError, match="loss must be one of 'squared_error', 'cross_entropy'; got 'mse'"):
        check_valued_texts(TEXTS, [0.1, 0.2, 1], loss="mse")


def test_constant_and_unknown_targets_warn():
    y = pd.DataFrame({"a": [1, 2, 3], "b": [2, np.nan, 2], "c": [np.nan] * 3})
    with pytest.warns(UserWarning, match="of 3 targets") as caught:
        check_valued_texts(TEXTS, y)
    messages = [str(each.message) for each in caught]
    assert len(messages) == 2
    assert "1 of 3 targets are the same for all 3 training texts: 'b' (always 2)." in messages[0]
    assert "1 of 3 targets are known of none of the 3 training texts: 'c'." in messages[1]


def test_texts_of_weight_0_teach_nothing():
    data = check_valued_texts(TEXTS, [1.0, 100.0, 3.0], [1, 0, 3], y_range=(1, 100))
    assert data.texts == ["one", "three"]
    assert data.y.tolist() == [[1], [3]]
    assert data.document_weight.tolist() == [0.5, 1.5]
    assert data.weight_of(np.array([1])).tolist() == [1.5]
    assert data.task.mean.tolist() == [2.5]
    assert data.task.y_range.tolist() == [[1], [100]]
    equal = check_valued_texts(StreamedTexts(lambda: iter(TEXTS), 3), [1.0, 2.0, 3.0], [2, 2, 2])
    assert equal.document_weight is None
    assert equal.weight_of(np.array([0])) is None
    with pytest.raises(ValueError, match="sample_weight"):
        check_valued_texts(TEXTS, [1, 2, 3], [1, 2])


def test_one_pair_serves_all_targets_and_each_may_have_its_own():
    assert check_y_range((1, 5), ["a", "b"]).tolist() == [[1, 1], [5, 5]]
    assert check_y_range([(1, 5), (0, 1)], ["a", "b"]).tolist() == [[1, 0], [5, 1]]
    assert check_y_range(np.array([[1.0, 5.0]]), ["a"]).tolist() == [[1], [5]]
    assert check_y_range(None, ["a"]) is None


@settings(max_examples=50, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 8), st.integers(1, 4)),
        elements=st.floats(-1e30, 1e30) | st.just(float("nan")),
    )
)
@example(np.array([[0.0], [5e-324], [5e-324], [5e-324]]))  # the standard deviation is not a normal number
def test_all_finite_values_are_kept_and_standardised(y):
    texts = ["text"] * len(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if np.isnan(y).all():
            return
        data = check_valued_texts(texts, y.tolist())
    np.testing.assert_array_equal(data.y, y)
    z = data.task.standardise(data.y)
    known = ~np.isnan(y)
    assert np.isfinite(z[known]).all()
    assert np.isnan(z[~known]).all()
    assert np.abs(z[known]).max() <= len(y) + 1
