import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sk_ulmfit import MultiLabelStratifiedKFold, MultiLabelStratifiedShuffleSplit
from sk_ulmfit.splitting import hold_out, stratify


def random_labels(n, n_labels, seed=0):
    """Frequent labels and rare ones, as in real sets."""
    rng = np.random.default_rng(seed)
    return (rng.random((n, n_labels)) < np.minimum(0.4, 1 / np.arange(1, n_labels + 1))).astype(float)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(1, 6), st.integers(2, 6), st.integers(0, 1_000), st.booleans())
def test_every_row_is_held_out_once_and_folds_are_of_one_size(n, n_labels, n_splits, seed, shuffle):
    n = max(n, n_splits)
    y = np.random.default_rng(seed).integers(0, 2, (n, n_labels))
    cv = MultiLabelStratifiedKFold(n_splits, shuffle=shuffle, random_state=seed if shuffle else None)
    folds = list(cv.split(y, y))
    assert len(folds) == cv.get_n_splits() == n_splits
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(n))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(n))
        assert len(test) in (n // n_splits, -(-n // n_splits))


def test_labels_are_in_proportion_where_plain_folds_lose_them():
    y = random_labels(1_000, 60)
    n_with = y.sum(0)

    def deviation(cv):
        return np.mean([np.abs(y[test].sum(0) / (n_with / 5) - 1) for _, test in cv.split(y, y)])

    def n_missing(cv):
        return sum((y[test].sum(0) == 0).sum() for _, test in cv.split(y, y))

    ours, plain = (kind(5, shuffle=True, random_state=0) for kind in (MultiLabelStratifiedKFold, KFold))
    assert n_with.min() >= 5
    assert n_missing(ours) == 0 < n_missing(plain)
    assert deviation(ours) < 0.4 * deviation(plain)


def test_a_label_of_one_row_per_fold_is_in_each_fold():
    y = np.zeros((50, 2))
    y[[0, 1, 2, 3, 4], 0] = y[::2, 1] = 1
    for _, test in MultiLabelStratifiedKFold(5).split(y, y):
        assert (y[test, 0].sum(), y[test, 1].sum()) == (1, 5)


def test_order_of_the_rows_does_not_skew_the_folds():
    y = np.repeat(np.eye(3), 20, axis=0)
    for _, test in MultiLabelStratifiedKFold(4).split(y, y):
        assert y[test].sum(0).tolist() == [5, 5, 5]


def test_same_seed_same_folds():
    y = random_labels(200, 10)

    def folds(seed, shuffle=True):
        return [
            test.tolist() for _, test in MultiLabelStratifiedKFold(4, shuffle=shuffle, random_state=seed).split(y, y)
        ]

    assert folds(1) == folds(1) != folds(2)
    assert folds(None, False) == folds(None, False)


def test_every_form_of_y_gives_the_same_folds():
    texts, labels = make_corpus(40)
    names = sorted({name for row in labels for name in row})
    y = np.array([[float(name in row) for name in names] for row in labels])
    unknown = np.where(y == 0, np.nan, y)
    unknown[0] = [np.nan, 0, np.nan] if not y[0].any() else unknown[0]
    wanted = [test.tolist() for _, test in MultiLabelStratifiedKFold(3).split(texts, y)]
    for form in (labels, y.astype(bool), y.tolist(), unknown):
        assert [test.tolist() for _, test in MultiLabelStratifiedKFold(3).split(texts, form)] == wanted


@pytest.mark.parametrize(
    ("sizes", "n_train", "n_test"),
    [
        ({}, 180, 20),
        ({"test_size": 0.25}, 150, 50),
        ({"test_size": 30}, 170, 30),
        ({"train_size": 0.5}, 100, 100),
        ({"train_size": 0.5, "test_size": 0.1}, 100, 20),
    ],
)
def test_shuffle_split_has_the_sizes_of_scikit_learns(sizes, n_train, n_test):
    y = random_labels(200, 8)
    cv = MultiLabelStratifiedShuffleSplit(3, **sizes, random_state=0)
    splits = list(cv.split(y, y))
    assert cv.get_n_splits() == len(splits) == 3
    assert len({tuple(sorted(test)) for _, test in splits}) == 3
    for train, test in splits:
        assert (len(train), len(test)) == (n_train, n_test)
        assert not set(train) & set(test)
        assert np.abs(y[test].sum(0) - y.sum(0) * n_test / 200).max() <= 2
    again = list(clone_of(cv).split(y, y))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(splits, again, strict=True))


def clone_of(cv):
    return clone(cv, safe=False)


@pytest.mark.parametrize(
    ("make", "y", "message"),
    [
        (lambda: MultiLabelStratifiedKFold(1), None, "n_splits must be an integer at least 2, got 1"),
        (lambda: MultiLabelStratifiedKFold(random_state=0), None, "random_state=0 has no effect with shuffle=False"),
        (lambda: MultiLabelStratifiedKFold(3), np.eye(2), "n_splits=3 is more than the number of rows, n_samples=2"),
        (lambda: MultiLabelStratifiedKFold(3), np.ones(9), "2-D indicator matrix"),
        (lambda: MultiLabelStratifiedKFold(3), None, "requires y to be passed"),
        (lambda: MultiLabelStratifiedShuffleSplit(test_size=2.0), np.eye(9), "test_size"),
        (lambda: MultiLabelStratifiedShuffleSplit(test_size=0.5), np.eye(1), "n_samples=1"),
    ],
)
def test_bad_input_gets_one_clear_line(make, y, message):
    with pytest.raises(ValueError, match=message):
        next(make().split(np.zeros(9 if y is None else len(y)), y))


def test_in_scikit_learns_tools():
    texts, labels = make_corpus(24)
    y = np.array([[name in row for name in ("billing", "delivery", "technical")] for row in labels], float)
    cv = MultiLabelStratifiedKFold(2, shuffle=True, random_state=0)
    assert "n_splits=2" in repr(cv)
    assert cross_val_score(tiny_classifier(max_epochs=1), texts, y, cv=cv, scoring="f1_micro").shape == (2,)
    y[0, 0] = np.nan  # scikit-learn's own splitters refuse this
    search = GridSearchCV(tiny_classifier(max_epochs=1), {"threshold": [0.3, 0.5]}, cv=cv).fit(texts, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_hold_out_leaves_something_on_both_sides():
    for n, wanted, n_held_out in ((2, 1, 1), (2, 2, 1), (500, 50, 50), (501, 51, 51)):
        y = random_labels(n, 30).astype(np.float32)
        train, held_out = hold_out(y, wanted, seed=1)
        assert len(held_out) == n_held_out
        assert sorted([*train, *held_out]) == list(range(n))
    assert np.abs(y[held_out].sum(0) - y.sum(0) * n_held_out / n).mean() < 1


def test_no_rows_with_labels():
    assert sorted(stratify(np.zeros((5, 2)), [3, 2])) == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "splitter", [MultiLabelStratifiedKFold(2), MultiLabelStratifiedShuffleSplit(2, random_state=0)]
)
def test_groups_are_ignored_with_a_warning(splitter, recwarn):
    y = np.array([[1, 0], [0, 1]] * 6)
    expected = [test.tolist() for _, test in splitter.split(y, y)]
    assert not recwarn
    with pytest.warns(UserWarning, match=f"groups parameter is ignored by {type(splitter).__name__}.*GroupKFold"):
        splits = splitter.split(y, y, groups=np.arange(12) % 3)
    assert [test.tolist() for _, test in splits] == expected
