import numpy as np
import pytest
import sklearn.metrics
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.model_selection import GridSearchCV, cross_val_score

from sk_ulmfit import MultiLabelStratifiedKFold, metrics
from sk_ulmfit.labels import check_labels, label_columns
from sk_ulmfit.metrics.decisions import AVERAGES

RANKING = {
    "precision_at_k": lambda y, s, **kw: metrics.precision_at_k(y, s, k=2, **kw),
    "r_precision": metrics.r_precision,
    "ndcg_at_k": lambda y, s, **kw: metrics.ndcg_at_k(y, s, k=3, **kw),
    "mean_average_precision": metrics.mean_average_precision,
    "expected_calibration_error": metrics.expected_calibration_error,
    "expected_calibration_error_macro": lambda y, s, **kw: metrics.expected_calibration_error(
        y, s, average="macro", **kw
    ),
}
DECIDING = {
    **{
        f"f1_{average}": lambda y, p, average=average, **kw: metrics.f1_score(y, p, average=average, **kw)
        for average in AVERAGES
    },
    "hamming_loss": metrics.hamming_loss,
}
ALL = {**RANKING, **DECIDING}


def draw(seed, n=30, n_labels=5, unknown=0.0):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, n_labels)) < 0.35).astype(float)
    y[:2] = [[1] * n_labels, [0] * n_labels]
    scores = rng.permutation(n * n_labels).reshape(n, n_labels) / (n * n_labels)
    y[2:][rng.random((n - 2, n_labels)) < unknown] = np.nan
    return y, scores


def of(name, y, scores, **more):
    return ALL[name](y, (scores > 0.5).astype(int) if name in DECIDING else scores, **more)


@pytest.mark.parametrize("average", AVERAGES)
def test_f1_is_that_of_scikit_learn(average):
    y, scores = draw(0)
    weight = np.random.default_rng(1).random(len(y))
    decided = (scores > 0.6).astype(int)
    for w in (None, weight):
        expected = sklearn.metrics.f1_score(y.astype(int), decided, average=average, sample_weight=w, zero_division=0)
        assert metrics.f1_score(y, decided, average=average, sample_weight=w) == pytest.approx(expected)


def test_where_scikit_learn_has_the_metric_they_agree():
    y, scores = draw(1)
    whole, decided = y.astype(int), (scores > 0.6).astype(int)
    some = whole.any(axis=1)
    assert metrics.hamming_loss(y, decided) == pytest.approx(sklearn.metrics.hamming_loss(whole, decided))
    assert metrics.mean_average_precision(y, scores) == pytest.approx(
        sklearn.metrics.average_precision_score(whole, scores, average="macro")
    )
    assert metrics.ndcg_at_k(y, scores, k=3) == pytest.approx(
        sklearn.metrics.ndcg_score(whole[some], scores[some], k=3)
    )


def test_ranking_metrics_by_hand():
    y = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    scores = [[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]]
    assert metrics.precision_at_k(y, scores, k=1) == pytest.approx(1 / 3)
    assert metrics.precision_at_k(y, scores, k=3) == pytest.approx((2 / 3 + 0 + 1 / 3) / 3)
    assert metrics.r_precision(y, scores) == pytest.approx((1 / 2 + 0) / 2)
    assert metrics.ndcg_at_k(y, scores, k=2) == pytest.approx((1 / (1 + 1 / np.log2(3)) + 1 / np.log2(3)) / 2)


def test_calibration_error_by_hand():
    y = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.1], [0.1, 0.1]])
    first = (2 * abs(0.5 - 0.9) + 0.3 + 0.1) / 4
    second = abs(0.25 - 0.1)
    assert metrics.expected_calibration_error(y, proba, average="macro") == pytest.approx((first + second) / 2)
    together = (2 * 0.4 + 0.3 + abs(1 - 5 * 0.1)) / 8
    assert metrics.expected_calibration_error(y, proba) == pytest.approx(together)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_predicted_where_nothing_is_known_changes_nothing(name, seed):
    y, scores = draw(seed, unknown=0.3)
    other = np.where(np.isnan(y), np.random.default_rng(seed + 1).random(y.shape), scores)
    assert of(name, y, scores) == pytest.approx(of(name, y, other), abs=1e-12)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_weight_of_two_is_the_text_twice_and_one_of_zero_none(name, seed):
    y, scores = draw(seed, unknown=0.2)
    weight = np.random.default_rng(seed).integers(0, 3, len(y))
    weight[:2] = 1
    rows = np.repeat(np.arange(len(y)), weight)
    assert of(name, y, scores, sample_weight=weight) == pytest.approx(of(name, y[rows], scores[rows]), abs=1e-9)


@pytest.mark.parametrize("name", ["precision_at_k", "r_precision", "ndcg_at_k"])
def test_an_unknown_entry_is_as_a_label_that_does_not_exist(name):
    y, scores = draw(5)
    y[2:, 4] = np.nan
    scores[2:, 4] = 2.0
    assert of(name, y[2:], scores[2:]) == pytest.approx(of(name, y[2:, :4], scores[2:, :4]))


@pytest.mark.parametrize("name", ALL)
def test_a_text_or_label_of_which_nothing_is_known_is_as_one_that_is_not_there(name):
    y, scores = draw(6)
    wide, more = (
        np.pad(y, ((0, 3), (0, 2)), constant_values=np.nan),
        np.pad(scores, ((0, 3), (0, 2)), constant_values=0.9),
    )
    assert of(name, wide, more) == pytest.approx(of(name, y, scores))
    assert of(name, y, scores) > 0


def test_names_put_labels_where_they_belong():
    import pandas as pd

    lists, names = [["a"], ["c"], ["a", "c"], []], ["a", "b", "c"]
    decided = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
    frame = metrics.multilabel_report(lists, decided, label_names=names, as_frame=True)
    assert frame["f1"].to_list()[:3] == [1, 0, 1]
    turned = pd.DataFrame({"c": [0, 1, 1, 0], "a": [1, 0, 1, 0], "b": 0})
    pd.testing.assert_frame_equal(metrics.multilabel_report(turned, decided, label_names=names, as_frame=True), frame)
    assert metrics.exact_match(turned, decided, names) == metrics.exact_match(lists, decided, names) == 1
    assert metrics.exact_match([["a"], ["c"], ["a", "z"], ["b"]], decided, names) == 0.5
    assert metrics.exact_match([[1, np.nan, 0]] * 4, decided, names, sample_weight=[3, 1, 0, 0]) == 0.75


def test_fewer_known_entries_than_k_are_all_there_is_to_judge():
    assert metrics.precision_at_k([[1, np.nan, np.nan]], [[0.1, 0.9, 0.8]], k=3) == 1.0


def test_report_has_the_figures_of_scikit_learn():
    y, scores = draw(2)
    decided, names = (scores > 0.6).astype(int), list("abcde")
    expected = sklearn.metrics.classification_report(
        y.astype(int), decided, target_names=names, output_dict=True, zero_division=0
    )
    frame = metrics.multilabel_report(y, decided, scores, label_names=names, as_frame=True)
    averages = {
        "micro average": "micro avg",
        "macro average": "macro avg",
        "weighted average": "weighted avg",
        "samples average": "samples avg",
    }
    assert list(frame.index) == [*names, *averages]
    for row in frame.index:
        theirs = expected[averages.get(row, row)]
        ours = frame.loc[row, ["precision", "recall", "f1", "texts"]].to_list()
        assert ours == pytest.approx([theirs[key] for key in ("precision", "recall", "f1-score", "support")])
    assert frame["predicted"].to_list()[:5] == decided.sum(axis=0).tolist()
    assert frame.loc["c", "average precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(y[:, 2], scores[:, 2])
    )
    for average in ("macro", "weighted"):
        assert frame.loc[f"{average} average", "average precision"] == pytest.approx(
            sklearn.metrics.average_precision_score(y, scores, average=average)
        )
    assert frame.loc[["micro average", "samples average"], "average precision"].isna().all()
    text = metrics.multilabel_report(y, decided, scores, label_names=names, digits=4)
    assert len({len(line) for line in text.splitlines()}) == 1
    assert [line.split()[0] for line in text.splitlines()[1:6]] == names
    assert f"{frame.loc['b', 'recall']:.4f}" in text.splitlines()[2]


def test_report_leaves_unknown_entries_out_and_takes_names_from_the_labels():
    import pandas as pd

    y = pd.DataFrame({"late": [1, 1, np.nan], "lost": [0, 0, 0]})
    frame = metrics.multilabel_report(y, [[1, 0], [1, 0], [1, 0]], np.full((3, 2), 0.5), as_frame=True)
    assert frame.loc["late", ["precision", "recall", "texts", "predicted"]].to_list() == [1, 1, 2, 2]
    assert np.isnan(frame.loc["lost", "average precision"])
    assert frame.loc["macro average", "average precision"] == 1.0
    text = metrics.multilabel_report(y, [[1, 0], [1, 0], [1, 0]], np.full((3, 2), 0.5))
    assert "nan" not in text


def test_scorers_in_a_search_with_unknown_labels():
    texts, labels = make_corpus(24)
    y = check_labels(labels)[0]
    y[::5, 1] = np.nan
    clf = tiny_classifier(language_model=tiny_lm(max_epochs=0), max_epochs=1)
    scoring = {name: metrics.multilabel_scorer(name) for name in ("r_precision", "f1_micro", "hamming_loss")}
    scoring["first"] = metrics.multilabel_scorer("precision_at_k", k=1)
    cv = MultiLabelStratifiedKFold(2)
    search = GridSearchCV(clf, {"threshold": [0.2, 0.9]}, scoring=scoring, cv=cv, refit="f1_micro", error_score="raise")
    results = search.fit(texts, y).cv_results_
    assert search.best_params_ == {"threshold": 0.2}
    assert (results["mean_test_hamming_loss"] < 0).all()
    assert results["mean_test_first"][0] == results["mean_test_first"][1] > 0


def test_scorers_take_probabilities_as_forests_give_them():
    y, scores = draw(3, n=60)
    y = (scores > 0.7).astype(int)
    forest = RandomForestClassifier(20, random_state=0)
    scorer = metrics.multilabel_scorer("precision_at_k", k=1)
    expected = (forest.fit(scores, y).predict_proba(scores), np.eye(5)[scores.argmax(axis=1)])
    assert scorer(forest, scores, y) == pytest.approx(metrics.precision_at_k(y, expected[0], k=1))
    assert cross_val_score(forest, scores, y, scoring=scorer, cv=2, error_score="raise").mean() > 0.5


def test_a_column_of_one_class_is_read_by_the_classes():
    scores = [np.ones((3, 1)), np.ones((3, 1)), np.array([[0.2, 0.8]] * 3)]
    expected = [[0, 1, 0.8]] * 3
    assert label_columns(scores, [np.array([0]), np.array([1]), np.array([0, 1])]).tolist() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda y, s: metrics.precision_at_k(y, s, k=6), "k must be an integer from 1 to 5, got 6"),
        (lambda y, s: metrics.ndcg_at_k(y, s, k=0), "k must be an integer from 1 to 5, got 0"),
        (lambda y, s: metrics.r_precision(y, s[:, :4]), r"\(30, 5\), the predictions have \(30, 4\)"),
        (lambda y, s: metrics.r_precision(y, s * np.nan), "The predictions contain NaN"),
        (lambda y, s: metrics.r_precision(y + 3, s), "y may only hold 0 and 1|only"),
        (lambda y, s: metrics.expected_calibration_error(y, s * 3), "probabilities from 0 to 1"),
        (lambda y, s: metrics.expected_calibration_error(y, s, average="samples"), "average must be one of"),
        (lambda y, s: metrics.f1_score(y, s > 0.5, average="weighted"), "average must be one of"),
        (lambda y, s: metrics.hamming_loss(y, s > 0.5, sample_weight=[1]), "sample_weight must be 1-D with 30"),
        (
            lambda y, s: metrics.multilabel_report(y, s > 0.5, label_names=["a"]),
            "y has 5 columns, but there are 1 labels",
        ),
        (
            lambda y, s: metrics.multilabel_report([["a"]] * 30, s > 0.5),
            "label_names is needed if y_true holds label lists",
        ),
        (lambda y, s: metrics.multilabel_report([["z"]] * 30, s > 0.5, label_names="abcde"), "unknown label 'z'"),
        (lambda y, s: metrics.multilabel_report(y, s), "decisions, 0 and 1 only, got 0.*; pass the output of predict"),
        (lambda y, s: metrics.f1_score(y, s), "decisions, 0 and 1 only"),
        (lambda y, s: metrics.f1_score(y, [["a"], ["a", "b"]] * 15), "not lists of labels"),
        (lambda y, s: metrics.f1_score(y, [["a"] * 5] * 30), "Predictions must be numbers"),
        (lambda y, s: metrics.r_precision([["a"]] * 30, s), "got label lists"),
        (lambda y, s: metrics.exact_match([["a"]], s > 0.5, "abcde"), "y_true has 1 rows, the predictions have 30"),
        (lambda y, s: metrics.multilabel_scorer("f1_micro", k=3), "f1_micro has no option 'k'; it has none"),
        (lambda y, s: metrics.multilabel_scorer("accuracy"), "metric must be one of 'precision_at_k'"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*draw(0))


@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_judged_is_nan_with_a_warning(name):
    with pytest.warns(UndefinedMetricWarning, match="undefined"):
        assert np.isnan(of(name, np.full((2, 5), np.nan), np.full((2, 5), 0.5)))
