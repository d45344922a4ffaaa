import itertools
import json
import warnings
from collections import namedtuple
from types import MappingProxyType

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV

from sk_ulmfit import MultiLabelStratifiedKFold, ULMFiTMultiLabelClassifier, thresholds
from sk_ulmfit.decisions import decide
from sk_ulmfit.labels import named_numbers, per_label
from sk_ulmfit.thresholds import CANDIDATES, Curves, check_thresholds, threshold_metric, tune_thresholds
from sk_ulmfit.training import stages


def problem(n, shifts, seed=0, rate=0.3):
    """Labels whose probabilities tell much about them, each on a scale of its own."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, len(shifts))) < rate).astype(float)
    return y, expit(rng.normal(size=y.shape) + 4 * y - 2 + np.asarray(shifts))


def own_choice(y, proba, metric, candidates, monkeypatch):
    for name in ("COMMON_TEXTS", "COMMON_TEXTS_OF_TUNE"):
        monkeypatch.setattr(thresholds, name, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tune_thresholds(y, proba, metric=metric, candidates=candidates)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 12), st.integers(0, 10_000), st.sampled_from(["f1_macro", "f1_micro"]))
def test_without_shrinkage_no_other_candidates_are_better(n, seed, metric):
    rng = np.random.default_rng(seed)
    y, proba = rng.integers(0, 2, (n, 3)), rng.random((n, 3)).round(1)
    y[0], y[1] = 1, 0
    candidates = np.array([0.15, 0.35, 0.55, 0.75])
    with pytest.MonkeyPatch.context() as patch:
        found = own_choice(y, proba, metric, candidates, patch)

    def score(chosen):
        return f1_score(y, proba >= np.asarray(chosen), average=metric[3:], zero_division=0)

    best = max(score(chosen) for chosen in itertools.product(candidates, repeat=3))
    assert score(found.round(6)) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 30), st.integers(1, 4), st.integers(0, 10_000), st.booleans())
def test_tune_averages_the_best_of_each_label_with_the_best_for_micro_f1(n, n_labels, seed, has_unknown):
    rng = np.random.default_rng(seed)
    y, proba = rng.integers(0, 2, (n, n_labels)).astype(float), rng.random((n, n_labels)).round(1)
    y[0], y[1] = 1, 0
    if has_unknown:
        y[2:][rng.random((n - 2, n_labels)) < 0.2] = np.nan
    candidates = np.array([0.15, 0.35, 0.55, 0.75])

    def f1(columns, t):
        known = ~np.isnan(y[:, columns])
        return f1_score(y[:, columns][known], (proba[:, columns] >= t)[known], zero_division=0)

    def middle_of_best(columns):
        scores = [f1(columns, t) for t in candidates]
        best = [score > max(scores) - 1e-9 for score in scores]
        first = best.index(True)
        last = (*best, False).index(False, first) - 1
        return candidates[(first + last) // 2]

    common = middle_of_best(list(range(n_labels)))
    for label, threshold in enumerate(tune_thresholds(y, proba, metric="tune", candidates=candidates)):
        n_with, n_without = ((y[:, label] == value).sum() for value in (1, 0))
        evidence = min(n_with, n_without)
        wanted = (evidence * logit(middle_of_best([label])) + 20 * logit(common)) / (evidence + 20)
        assert logit(threshold) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", thresholds.METRICS)
def test_tuned_thresholds_win_on_other_texts(metric):
    shifts = [-3, -1, 0, 1, 3]
    y, proba = problem(400, shifts)
    found = tune_thresholds(y, proba, metric=metric)
    assert np.abs(logit(found) - shifts).max() < 0.8
    other_y, other = problem(400, shifts, seed=1)
    average = "micro" if metric == "tune" else metric[3:]
    tuned, plain = (f1_score(other_y, other >= t, average=average, zero_division=0) for t in (found, 0.5))
    assert tuned > plain + 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 10_000), st.booleans())
def test_curves_count_what_a_loop_counts(n, n_labels, seed, weighted):
    rng = np.random.default_rng(seed)
    y = rng.choice([0.0, 1.0, np.nan], (n, n_labels)).astype(np.float32)
    proba, weight = rng.random((n, n_labels)).round(1), rng.random(n) if weighted else None
    candidates = np.array([0.2, 0.5, 0.8])
    curves = Curves.of(y, proba, candidates, weight)
    counts = np.ones(n) if weight is None else weight
    row_f1 = np.zeros(3)
    for g, t in enumerate(candidates):
        yes = (proba >= t) & ~np.isnan(y)
        assert curves.predicted[:, g] == pytest.approx(counts @ yes)
        assert curves.right[:, g] == pytest.approx(counts @ (yes & (y == 1)))
        of_rows = 2 * (yes & (y == 1)).sum(1) / np.maximum(yes.sum(1) + (y == 1).sum(1), 1)
        row_f1[g] = np.average(of_rows, weights=counts)
    assert curves.common_scores("f1_samples") == pytest.approx(row_f1)
    assert curves.evidence.tolist() == np.minimum((y == 1).sum(0), (y == 0).sum(0)).tolist()


def test_few_texts_of_a_label_hardly_move_it_from_the_common_threshold():
    y, proba = problem(300, [0, 0, 3])
    rare = y.copy()
    rare[np.flatnonzero(y[:, 2])[1:], 2] = 0
    with pytest.MonkeyPatch.context() as patch:
        alone = own_choice(rare, proba, "f1_macro", None, patch)[2]
    common = Curves.of(rare.astype(np.float32), proba, CANDIDATES).common("f1_macro")
    found = tune_thresholds(rare, proba)[2]
    assert logit(found) == pytest.approx((logit(alone) + 5 * logit(common)) / 6)


def test_labels_in_none_or_all_texts_get_the_common_threshold_and_one_warning():
    y, proba = problem(100, [1, 1, 1, 1])
    y[:, 1], y[:, 2] = 0, 1
    with pytest.warns(
        UserWarning, match="2 of 4 labels are in none or all of the held-out texts.*: 'b', 'c'."
    ) as caught:
        found = tune_thresholds(y, proba, label_names=list("abcd"))
    assert len(caught) == 1
    assert found[1] == pytest.approx(found[2])
    assert found[1] == pytest.approx(Curves.of(y.astype(np.float32), proba, CANDIDATES).common("f1_macro"))
    with pytest.warns(UserWarning, match="2 of 2 labels"):
        assert tune_thresholds(np.zeros((3, 2)), np.full((3, 2), 0.2)).tolist() == [0.5, 0.5]


def test_unknown_entries_and_weightless_texts_decide_nothing():
    y, proba = problem(200, [-1, 2])
    for metric in (*thresholds.METRICS, 0.9):
        wanted = tune_thresholds(y[:100], proba[:100], metric=metric)
        unknown = y.copy()
        unknown[100:] = np.nan
        assert tune_thresholds(unknown, proba, metric=metric) == pytest.approx(wanted)
        weight = np.r_[np.ones(100), np.zeros(100)]
        assert tune_thresholds(y, proba, metric=metric, sample_weight=weight) == pytest.approx(wanted)


def test_a_precision_is_reached_or_the_label_is_not_predicted():
    y, proba = problem(2_000, [-2, 0, 2])
    proba = np.column_stack([proba, np.random.default_rng(0).random(2_000)])  # says nothing of its label
    y = np.column_stack([y, y[:, 0]])
    with pytest.warns(
        UserWarning,
        match=r"1 of 4 labels do not reach a precision of 0.95 on the held-out texts and get the threshold 1: 3\.",
    ):
        found = tune_thresholds(y, proba, metric=0.95)
    decided = proba >= found
    precision = (decided & (y == 1)).sum(0)[:3] / decided.sum(0)[:3]
    assert np.abs(precision - 0.95).max() < 0.02
    assert found[3] == 1
    lower = tune_thresholds(y[:, :3], proba[:, :3], metric=0.8)
    assert np.all(lower < found[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "f1"}, "metric must be one of 'f1_macro', 'f1_micro', 'f1_samples', 'tune', or a pre.*; got 'f1'"),
        ({"metric": 1.5}, "from 0 to 1, got 1.5"),
        ({"metric": {"precision": 1.5}}, "metric, as a precision, must be a number from 0 to 1, got 1.5"),
        ({"metric": {"precision": "high"}}, "metric must be one of"),
        ({"metric": {"precision": True}}, "metric, as a precision, must be a number"),
        ({"metric": {"recall": 0.5}}, "metric must be one of.*got {'recall': 0.5}"),
        ({"metric": None}, "metric must be one of"),
        ({"candidates": [0.1, 1.2]}, "between 0 and 1"),
        ({"candidates": []}, "between 0 and 1"),
        ({"candidates": 1}, "from 2 to 10000"),
        ({"candidates": "all"}, "between 0 and 1|integer"),
    ],
)
def test_bad_options_get_one_clear_line(options, message):
    y, proba = problem(20, [0, 0])
    with pytest.raises(ValueError, match=message):
        tune_thresholds(y, proba, **options)


@pytest.mark.parametrize(
    ("threshold", "metric"),
    [
        ("tune", "tune"),
        ("f1_macro", "f1_macro"),
        ("f1_micro", "f1_micro"),
        ("f1_samples", "f1_samples"),
        ({"precision": 0.9}, 0.9),
        ({"precision": np.float32(0.5)}, 0.5),
        (0.5, None),
        ([0.5, 0.2], None),
        ({"late": 0.3}, None),
        ({}, None),
        (pd.Series({"late": 0.3, "lost": 0.1}), None),
        (pd.Series({"precision": 0.3}), None),
    ],
)
def test_a_threshold_says_what_to_tune_for_or_is_one(threshold, metric):
    names = ["late", "lost"]
    assert threshold_metric(threshold, names) == threshold_metric(threshold, np.array(names, object)) == metric
    if metric is not None:
        y, proba = problem(200, [0, 1])
        for spelling in (threshold, metric):
            chosen = tune_thresholds(y, proba, metric=spelling)
            assert np.array_equal(chosen, tune_thresholds(y, proba, metric=metric))


@pytest.mark.parametrize(
    ("threshold", "names", "message"),
    [
        ("f2", ["late"], "threshold must be 'auto', a number, .*or what to tune for: 'f1_macro', .* got 'f2'"),
        ("late", ["late"], "got 'late'"),
        ({"precision": 2}, ["late"], "threshold, as a precision, must be a number from 0 to 1, got 2"),
        ({"precision": None}, ["late"], "threshold must be one of"),
        (
            {"precision": 0.9},
            ["late", "precision"],
            "ambiguous, because there is a label 'precision': pass an array or",
        ),
    ],
)
def test_bad_thresholds_get_one_clear_line(threshold, names, message):
    with pytest.raises(ValueError, match=message) as caught:
        threshold_metric(threshold, names)
    assert "\n" not in str(caught.value)


def test_a_label_may_be_called_precision():
    names = ["late", "precision"]
    for by_name in ({"precision": 0.9, "late": 0.2}, pd.Series({"precision": 0.9, "late": 0.2})):
        assert threshold_metric(by_name, names) is None
        assert check_thresholds(by_name, names).tolist() == [0.2, 0.9]
    assert check_thresholds(pd.Series({"precision": 0.9}), names).tolist() == [0.5, 0.9]


def as_named_tuple(by_name):
    return namedtuple("Thresholds", by_name)(**by_name)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["late", "lost", "wrong", "a", "b"]), st.floats(0, 1), min_size=1),
    st.randoms(use_true_random=False),
    st.sampled_from([dict, pd.Series, MappingProxyType, as_named_tuple]),
    st.sampled_from([check_thresholds, lambda value, names: per_label("pos_weight", value, names, 0.5)]),
)
def test_named_numbers_go_to_their_labels_in_any_order_and_after_saving(by_name, random, form, check):
    names, items = ["lost", "wrong", "late", "other", "b", "a"], list(by_name.items())
    random.shuffle(items)
    value = form(dict(items))
    wanted = [by_name.get(name, 0.5) for name in names]
    assert check(value, names).tolist() == wanted
    pairs = named_numbers(value)
    assert json.loads(json.dumps(pairs)) == [list(item) for item in items]
    assert check(dict(pairs), names).tolist() == wanted


def test_a_series_goes_by_position_only_with_its_default_index():
    assert named_numbers(pd.Series([0.1, 0.2])) is None
    assert check_thresholds(pd.Series([0.1, 0.2]), ["a", "b"]).tolist() == [0.1, 0.2]
    assert check_thresholds(pd.Series([0.1, 0.2]), [0, 1]).tolist() == [0.1, 0.2]
    turned = pd.Series([0.1, 0.2], index=[1, 0])
    assert check_thresholds(turned, [0, 1]).tolist() == [0.2, 0.1]
    assert check_thresholds(pd.Series([0.1, 0.2], index=[7, 5]), [5, 7]).tolist() == [0.2, 0.1]
    assert named_numbers(turned) == [(1, 0.1), (0, 0.2)]
    assert all(type(name) is int for name, _ in named_numbers(turned))


@pytest.mark.parametrize(
    ("threshold", "names", "message"),
    [
        (
            pd.Series([0.1, 0.2]),
            [1, 0],
            "threshold is a Series with the index 0 to 1, and the labels are numbers in an",
        ),
        (pd.Series([0.1, 0.2], index=["a", "a"]), ["a", "b"], "threshold names a label more than once"),
        (pd.Series([0.1, 0.2], index=["a", "c"]), ["a", "b"], "threshold names the unknown label 'c'"),
        (pd.Series({"a": "high"}), ["a", "b"], "threshold must be a number, one number per label, or a dict"),
        ({"a": None}, ["a", "b"], "threshold must be a number"),
        (pd.DataFrame({"b": [0.1], "a": [0.2]}), ["a", "b"], r"got a DataFrame. Pass one of its rows.*frame.iloc\[0\]"),
        (pl.DataFrame({"b": [0.1], "a": [0.2]}), ["a", "b"], "got a DataFrame. Pass one of its rows"),
    ],
)
def test_unclear_names_get_one_clear_line(threshold, names, message):
    with pytest.raises(ValueError, match=message):
        check_thresholds(threshold, names)


def test_shapes_must_fit():
    y, proba = problem(20, [0, 0])
    y, proba = problem(20, [0, 0])
    for weight, message in ((-np.ones(20), r"sample_weight\[0\] is -1"), (np.zeros(20), "zero"), ([1], "1-D with 20")):
        with pytest.raises(ValueError, match=message):
            tune_thresholds(y, proba, sample_weight=weight)
    for wrong in (proba * 5, proba * np.nan, [["a", "b"]] * 20):
        with pytest.raises(ValueError, match="proba must"):
            tune_thresholds(y, wrong)
    with pytest.raises(ValueError, match="y has 2 columns, but there are 1 labels"):
        tune_thresholds(y, proba, label_names=["a"])
    with pytest.raises(ValueError, match=r"proba must have the shape of y, \(20, 2\); got \(19, 2\)"):
        tune_thresholds(y, proba[1:])


def test_decisions():
    proba = np.array([[0.2, 0.4, 0.1], [0.6, 0.7, 0.8], [0.5, 0.1, 0.3]])
    half = np.full(3, 0.5)
    assert decide(proba, half).tolist() == [[0, 0, 0], [1, 1, 1], [1, 0, 0]]
    assert decide(proba, half, at_least_one=True).tolist() == [[0, 1, 0], [1, 1, 1], [1, 0, 0]]
    assert decide(proba, half, top_k=2).tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert decide(proba, half, top_k=9).tolist() == [[1, 1, 1]] * 3
    assert decide(proba[:0], half, at_least_one=True).shape == (0, 3)


def test_a_text_without_a_label_gets_the_one_nearest_to_its_threshold():
    proba = np.array([[0.4, 0.1, 0.3], [0.2, 0.08, 0.1], [0.4, 0.2, 0.6]])
    decided = decide(proba, np.array([0.9, 0.2, 0.7]), at_least_one=True)
    assert decided.tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert decide(proba, np.array([0.9, 0.2, 0.5]), at_least_one=True)[2].tolist() == [0, 1, 1]
    never = np.array([1.0, 1.0, 0.99])
    assert decide(proba, never, at_least_one=True).tolist() == [[0, 0, 1]] * 3
    assert decide(proba, never, at_least_one=True, top_k=1)[0].tolist() == [1, 0, 0]
    assert decide(np.zeros((1, 3)), np.array([1.0, 0.5, 0.5]), at_least_one=True).tolist() == [[0, 1, 0]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000), st.sampled_from([0.5, 0.9, 1.0, 1 - 1e-9]))
def test_with_one_threshold_it_is_the_most_probable_label(n_labels, seed, threshold):
    rng = np.random.default_rng(seed)
    proba = np.concatenate([rng.random((9, n_labels)).round(1), rng.random((9, n_labels)) * 1e-7]) * 0.5 * threshold
    decided = decide(proba, np.full(n_labels, threshold), at_least_one=True)
    assert decided.sum(axis=1).tolist() == [1] * 18
    assert np.array_equal(decided.argmax(axis=1), proba.argmax(axis=1))


# --- the classifier ----------------------------------------------------------


@pytest.fixture(scope="module")
def tuned():
    settings = {"max_epochs": 8, "threshold": "tune", "validation_fraction": 0.3, "at_least_one": False}
    return tiny_classifier(**settings).fit(*make_corpus(60))


@pytest.mark.parametrize("unfreezing", ["auto", "head"])
def test_thresholds_are_tuned_on_texts_that_were_not_learned(monkeypatch, unfreezing):
    texts, labels = make_corpus(40)
    held_out = np.arange(30, 40)
    monkeypatch.setattr(stages, "hold_out", lambda y, fraction, seed: (np.arange(30), held_out))
    clf = tiny_classifier(max_epochs=4, unfreezing=unfreezing, threshold="tune").fit(texts, labels)
    y = np.array([[name in row for name in clf.label_names_] for row in labels])
    wanted = tune_thresholds(y[held_out], clf.predict_proba(texts)[held_out], metric="tune")
    assert clf.thresholds_ == pytest.approx(wanted, abs=1e-6)
    labels[35] = ["billing"] if labels[35] != ["billing"] else ["delivery"]
    again = tiny_classifier(max_epochs=4, unfreezing=unfreezing, threshold="tune").fit(texts, labels)
    assert np.array_equal(again.predict_proba(texts), clf.predict_proba(texts))
    by_precision = tiny_classifier(max_epochs=4, unfreezing=unfreezing, threshold={"precision": 0.3}).fit(texts, labels)
    assert np.abs(by_precision.thresholds_ - again.thresholds_).max() > 0.01


def test_set_thresholds_changes_decisions_and_nothing_else(tuned):
    texts = make_corpus(20, seed=4)[0]
    proba, chosen = tuned.predict_proba(texts), tuned.thresholds_
    assert np.array_equal(tuned.predict(texts), proba >= chosen)
    try:
        assert tuned.set_thresholds({"billing": 0.0, "delivery": 1.0}) is tuned
        assert tuned.predict(texts)[:, :2].tolist() == [[1, 0]] * 20
        assert np.array_equal(tuned.predict_proba(texts), proba)
        for wrong, message in ((1.5, "between 0 and 1"), ({"late": 0.1}, "unknown label 'late'"), ("best", "a number")):
            with pytest.raises(ValueError, match=message):
                tuned.set_thresholds(wrong)
        assert tuned.threshold == {"billing": 0.0, "delivery": 1.0}
    finally:
        tuned.set_thresholds("tune")
    assert np.array_equal(tuned.thresholds_, chosen)


def test_tuned_thresholds_are_saved(tuned, tmp_path):
    tuned.save(tmp_path / "m")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "m")
    assert loaded.threshold == "tune"
    assert np.array_equal(loaded.thresholds_, tuned.thresholds_)


def test_tune_without_held_out_texts_is_refused(fitted):
    with pytest.raises(ValueError, match="set after fit, which chose no thresholds"):
        fitted.set_thresholds("tune")
    with pytest.raises(ValueError, match=r"tuned thresholds hold out a part .* only 1\."):
        tiny_classifier(language_model=tiny_lm(max_epochs=0), threshold="tune").fit(["some words"], [["x"]])


def test_top_k_and_at_least_one_are_read_in_predict(tuned):
    texts = make_corpus(20, seed=4)[0]
    try:
        tuned.set_params(top_k=2)
        assert tuned.predict(texts).sum(axis=1).tolist() == [2] * 20
        assert all(len(names) == 2 for names in tuned.predict_labels(texts))
        tuned.set_params(top_k=None, threshold=1.0)
        assert not tuned.predict(texts).any()
        tuned.set_params(at_least_one=True)
        assert np.array_equal(tuned.predict(texts).argmax(1), tuned.predict_proba(texts).argmax(1))
        assert tuned.predict(texts).sum(axis=1).tolist() == [1] * 20
        for name, wrong in (("top_k", 0), ("top_k", 1.5), ("at_least_one", "yes")):
            before = tuned.get_params()[name]
            tuned.set_params(**{name: wrong})
            with pytest.raises(ValueError, match=f"{name} must be"):
                tuned.predict(texts)
            tuned.set_params(**{name: before})
    finally:
        tuned.set_params(top_k=None, at_least_one=False, threshold="tune")


def test_a_metric_that_does_not_exist_is_refused_before_any_training():
    with pytest.raises(
        ValueError,
        match="must be 'auto', a number, one number per label, a dict from label name to number, or what to tune for",
    ):
        tiny_classifier(threshold="f2").fit(*make_corpus(10))


def test_a_search_may_choose_between_tuned_and_given_thresholds():
    texts, labels = make_corpus(40)
    y = np.array([[name in row for name in ("billing", "delivery", "technical")] for row in labels]).astype(int)
    cv = MultiLabelStratifiedKFold(2, shuffle=True, random_state=0)
    grid = {"threshold": [0.5, "tune", "auto"], "validation_fraction": [0.2]}
    search = GridSearchCV(tiny_classifier(), grid, scoring="f1_macro", cv=cv).fit(texts, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[2] == scores[0]  # a network without a vector
