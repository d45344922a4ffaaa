import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer

from sk_ulmfit import MultiLabelStratifiedKFold
from sk_ulmfit.labels import NamedIndicator, check_labels, indicator_of, label_lists, warn_constant
from sk_ulmfit.metrics import exact_match, f1_score
from sk_ulmfit.thresholds import tune_thresholds
from sk_ulmfit.training.data import check_labelled_texts


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
    assert check_labels([{2, 5}, {5}])[1] == [2, 5]
    assert check_labels([{"b", 3}, {3}])[1] == [3, "b"]


NUMBERS = st.sampled_from([0, 1, True, False, 1.0, np.int64(1), np.bool_(False), None, float("nan"), pd.NA])
WORDS = st.sampled_from(["a", "b", "0", "1", np.str_("c")])
WRAPPINGS = {
    "list": list,
    "tuple": tuple,
    "pandas": pd.Series,
    "object array": lambda rows: np.fromiter(rows, object, len(rows)),
}


@st.composite
def targets(draw):
    """Rows of every kind, some of them accepted only by chance, and an order and choice of rows."""
    width = draw(st.integers(1, 3))
    a_row = draw(
        st.sampled_from(
            [
                st.lists(NUMBERS, min_size=width, max_size=width),
                st.lists(NUMBERS, max_size=2),
                st.lists(st.integers(0, 1), max_size=2).map(tuple),
                st.lists(st.integers(2, 4), max_size=3),
                st.lists(st.integers(-1, 4), max_size=3),
                st.lists(st.integers(1, 3), min_size=width, max_size=width).map(np.array),
                st.lists(st.integers(0, 1), min_size=width, max_size=width).map(np.array),
                st.lists(WORDS, max_size=3),
                st.lists(WORDS, max_size=3).map(tuple),
                st.sets(st.integers(0, 2)),
                st.frozensets(st.one_of(st.integers(0, 1), WORDS)),
                st.one_of(st.sets(WORDS), st.lists(WORDS, max_size=2), st.sets(st.integers(0, 1))),
                st.one_of(st.lists(WORDS, max_size=2), st.lists(st.integers(0, 1), max_size=2)),
                st.lists(st.one_of(WORDS, NUMBERS), max_size=2),
            ]
        )
    )
    rows = draw(st.lists(a_row, min_size=1, max_size=6))
    chosen = draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    return rows, chosen, WRAPPINGS[draw(st.sampled_from(sorted(WRAPPINGS)))]


@settings(max_examples=500, deadline=None)
@given(targets())
def test_the_reading_of_y_does_not_depend_on_which_rows_are_there(case):
    rows, chosen, wrapped = case
    try:
        indicator, names = check_labels(wrapped(rows))
    except ValueError:
        return  # whoever passes it gets an error, and never another reading
    some = wrapped([rows[i] for i in chosen])
    placed, kept = indicator_of(some, names)
    assert kept == names
    assert np.array_equal(placed, indicator[chosen], equal_nan=True)
    assert (label_lists(some) is None) == (label_lists(wrapped(rows)) is None)
    decided = np.nan_to_num(np.roll(indicator, 1, axis=0))
    each = [exact_match(wrapped(rows[i : i + 1]), decided[i : i + 1], names) for i in range(len(rows))]
    assert exact_match(wrapped(rows), decided, names) == pytest.approx(np.mean(each))


@pytest.mark.parametrize(
    "y",
    [
        [[0, 1], [1, 0], [1, 1]],
        [[7], [9, 7], []],
        [[7, 9], [9, 7], [7, 7]],
        [{0, 1}, {0}, set()],
        [["x"], ["x", "y"], []],
    ],
)
def test_every_fold_is_read_like_the_whole(y):
    names, whole = check_labels(y)[1], indicator_of(y, None)[0]
    for size in (1, 2, 3):
        for rows in map(list, itertools.combinations(range(3), size)):
            assert np.array_equal(indicator_of([y[i] for i in rows], names)[0], whole[rows])
    assert exact_match(y, whole, names) == 1
    assert sorted(np.concatenate([test for _, test in MultiLabelStratifiedKFold(3).split(y, y)])) == [0, 1, 2]


def test_labels_with_integer_names_are_compared_as_sets():
    both = [[1, 1], [1, 1]]
    assert exact_match([{0, 1}, {1, 0}], both, [0, 1]) == 1
    assert exact_match([[0, 1], [1, 0]], both, [0, 1]) == 0  # rows of a matrix
    with pytest.raises(ValueError, match="pass one set per text"):
        exact_match([[0, 1], [1]], both, [0, 1])


def test_lists_of_arrow_and_masked_rows():
    pa = pytest.importorskip("pyarrow")
    for y in (
        pa.array([["b"], ["a", "b"]]),
        pd.Series([["b"], ["a", "b"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
    ):
        assert check_labels(y)[1] == ["a", "b"]
    masked = np.ma.array([[0, 7], [1, 1]], mask=[[False, True], [False, False]])
    assert np.array_equal(check_labels(list(masked))[0], check_labels(masked)[0], equal_nan=True)


def test_a_named_indicator_keeps_its_names_as_long_as_its_columns():
    y = NamedIndicator(["late", "lost"], [[1, 0], [0, 1], [0, 0]])
    for some in (y, y[:2], y[[0, 2]], y[np.array([True, False, True])], y[[1, 0], ...], pickle.loads(pickle.dumps(y))):
        assert check_labels(some)[1] == ["late", "lost"]
    for other in (y[:, ::-1], y[:, [1, 0]], y == 1, pickle.loads(pickle.dumps(y == 1))):
        assert check_labels(other)[1] == [0, 1]
    assert y[0].tolist() == [1, 0]
    assert y[1, 1] == 1


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed, but the target y is None"),
        ([0, 1, 1], r"2-D indicator matrix, got an array of shape \(3,\) instead.*MultiLabelBinarizer"),
        (np.array([0, 1]), "MultiLabelBinarizer"),
        (pd.Series([0, 1]), "MultiLabelBinarizer"),
        (["a", "b"], r'split it: y.str.split\(","\).*If each is one label, pass \[\[row\] for row in y\]'),
        (["a;b", "b"], r'str.split\(";"\)'),
        ("ab", r'y is a single text, .*row.split\(","\)'),
        ({"a": 1}, "got a dict"),
        ([[0, 2], [1, 0]], "must hold only 0 and 1, got 2 at row 0, column 1"),
        (np.array([[0.5, 1.0]]), "got 0.5 at row 0, column 0.*grades or shares.*ULMFiTRegressor.*binarise"),
        (np.array([[np.inf, 1]]), "contains infinity"),
        (np.array([["x", "y"]]), "not numeric"),
        (np.zeros((3, 0)), "0 labels"),
        (np.zeros((2, 2, 2)), "2-D indicator"),
        ([[], []], "all empty: there is no label to learn"),
        ([["a"], ["b", None]], "got None of type NoneType"),
        ([["a"], ["b", ["c"]]], "nested list"),
        ([["a"], "b"], r"y\[1\] is 'b' of type str, while other rows are lists of labels; pass a list there"),
        (
            pd.Series(["a,b", None, "c"]).str.split(","),
            r"y\[1\] is nan \(a missing value\), while other rows are lists",
        ),
        ([["a"], None, ["b"]], r"y\[1\] is None, while other rows"),
        (pd.Series(["a, b", None]), r'holds texts, such as .a, b.*y.str.split\(","\) of a Series'),
        (np.array(["a|b", "c"]), r'str.split\("\|"\)'),
        (
            pd.DataFrame({"labels": [["a"], ["b"]]}),
            r"column 'labels' of y holds lists of labels.*pass that column, y\['labels'\]",
        ),
        (pl.DataFrame({"labels": [["a"], ["b"]]}), r"pass that column, y\['labels'\]"),
        (pd.DataFrame({"labels": ["a,b", "c"]}), r"split it: y\['labels'\].str.split"),
        (np.array([[1, -1]]), "got -1 at row 0, column 1. Where an entry is not annotated, pass NaN; .* absent, 0"),
        ([[0, -100.0]], "got -100 at row 0, column 1. Where an entry is not annotated, pass NaN"),
        ([["a"], [1.5]], "got 1.5 of type float"),
        (pd.DataFrame(np.eye(2), columns=["a", "a"]), "must be distinct"),
        (sparse.csr_matrix([[0, 3]]), "got 3 at row 0, column 1"),
        (3, "got a int"),
        (pl.Series([1, 0]), "MultiLabelBinarizer"),
        (torch.tensor([1, 0]), "MultiLabelBinarizer"),
        (np.array([[1 + 1j]]), "Complex data not supported"),
        ([[0], [1, 0]], "rows of 1 and of 2 numbers.*pass one set per text"),
        ([[], [1]], "rows of 0 and of 1 numbers"),
        (
            [[2, 5], [5, 1]],
            "Labels in a list must be str, or int from 2 on; got 5 of type int in y.*pass one set per text",
        ),
        (
            [("b", 3), (4, 0)],
            "Labels in a list must be str, or int from 2 on; got 3 of type int in y.*pass one set per",
        ),
        ([["a"], [1]], "got 1 of type int"),
        ([["a", 1]], "got 1 of type int"),
        ([{0, 1}, [1]], "got 1 of type int"),
        ([{"a"}, np.array([1, 0])], "Labels in a list must be str"),
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


@pytest.mark.parametrize("kind", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("form", ["matrix", "array"])
def test_every_sparse_matrix_is_a_matrix(kind, form):
    dense = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    y = getattr(sparse, f"{kind}_{form}")(dense)
    assert check_labels(y)[0].tolist() == indicator_of(y, ["a", "b", "c"])[0].tolist() == dense.tolist()
    assert label_lists(y) is None
    folds = MultiLabelStratifiedKFold(2).split(np.zeros(3), y)
    same = MultiLabelStratifiedKFold(2).split(np.zeros(3), dense)
    assert [test.tolist() for _, test in folds] == [test.tolist() for _, test in same]
    assert f1_score(y, dense, average="micro") == 1
    np.testing.assert_array_equal(tune_thresholds(y, dense / 2), tune_thresholds(dense, dense / 2))


@pytest.mark.parametrize(
    "names",
    [["\u00e9t\u00e9", "e\u0301te\u0301"], ["joy", "joy\u200b"], ["joy", " joy"], ["a b", "a\u00a0b"], ["joy", "j\u00adoy"], ["A", "\uff21"]],
)  # fmt: skip
def test_names_that_look_alike_warn_once(names):
    y = [[names[0], "x"], [names[1]], ["y", "z"]]
    with pytest.warns(UserWarning, match="differ only by Unicode form") as caught:
        check_labelled_texts(["a", "b", "c"], y)
    assert len(caught) == 1
    assert ascii(names[1])[:40] in str(caught[0].message)


def test_names_that_differ_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_labelled_texts(["a", "b"], [["Joy", "joys", "1"], ["joy", "j-oy", "naive", "na\u00efve"]])


def test_the_blank_name_that_str_split_leaves_warns():
    with pytest.warns(UserWarning, match="One label name is blank: ''. str.split makes it of an empty text"):
        check_labelled_texts(["a", "b"], [row.split(",") for row in ("x,y", "")])
