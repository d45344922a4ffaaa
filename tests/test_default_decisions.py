"""What a classifier decides without an argument: thresholds that cost no text, and a label for each text."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sk_ulmfit import MultiLabelStratifiedKFold, ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_table, write_table
from sk_ulmfit.labels import check_labels
from sk_ulmfit.models.state import load_state, save_state
from sk_ulmfit.training.data import check_labelled_texts

TEXTS, LABELS = make_corpus(60, seed=3)
Y, NAMES = check_labels(LABELS)
IMPROBABLE = np.array([[1e-4, 2e-4, 1e-5], [1e-9, 1e-9, 1e-8]])


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1, random_state=0).fit(TEXTS), path, dim=8)
    return path


@pytest.fixture(scope="module")
def automatic(start):
    return classifier(start).fit(TEXTS, LABELS)


def classifier(start, **params):
    return tiny_classifier(**{"language_model": start, "max_epochs": None, "batch_size": None, "lr": None, **params})


def n_labels(clf, proba=IMPROBABLE):
    return clf._decision_rule()(proba).sum(axis=1).tolist()


def test_auto_is_tune_where_no_text_is_held_out(start, automatic):
    assert automatic.threshold == automatic.at_least_one == "auto"
    tuned = classifier(start, threshold="tune").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(automatic.thresholds_, tuned.thresholds_)
    assert np.abs(automatic.thresholds_ - 0.5).max() > 0.01
    assert automatic._fitted.config["threshold_metric"] == "tune"
    macro = classifier(start, threshold="f1_macro").fit(TEXTS, LABELS)
    assert np.abs(automatic.thresholds_ - macro.thresholds_).max() > 1e-3


def test_set_thresholds_returns_to_auto(start, automatic):
    clf = classifier(start).fit(TEXTS, LABELS)
    assert clf.set_thresholds(0.3).thresholds_.tolist() == [0.3] * 3
    np.testing.assert_array_equal(clf.set_thresholds("auto").thresholds_, automatic.thresholds_)
    plain = classifier(start, threshold=0.5).fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="threshold='auto' was set after fit, which chose no thresholds"):
        plain.set_thresholds("auto")


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_auto_is_one_half_where_tuning_costs_texts(start, direction):
    language_model = tiny_lm(max_epochs=0) if direction == "forward" else (start, tiny_lm(max_epochs=0))
    clf = classifier(language_model, direction=direction, max_epochs=1).fit(TEXTS, LABELS)
    assert clf.thresholds_.tolist() == [0.5] * 3
    assert "thresholds" not in clf._fitted.config
    assert n_labels(clf) == [0, 0]
    np.testing.assert_array_equal(clf.predict(TEXTS), clf.predict_proba(TEXTS) >= 0.5)


def test_auto_is_one_half_after_another_tuning_too():
    settings = {"threshold": "tune", "validation_fraction": 0.3, "max_epochs": 1}
    clf = classifier(tiny_lm(max_epochs=0), **settings).fit(TEXTS, LABELS)
    assert n_labels(clf) == [1, 1]
    assert clf.set_thresholds("auto").thresholds_.tolist() == [0.5] * 3
    assert n_labels(clf) == [0, 0]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 0], [0, 1]], True),
        ([[1, 0], [0, 0]], False),
        ([[1, 0], [0, 1], [np.nan, 0], [np.nan, np.nan]], True),
        ([[1, 0], [0, 0], [np.nan, 1]], False),
        ([[1, np.nan], [np.nan, 1]], False),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whether_every_text_has_a_label_is_asked_of_those_that_are_known(rows, expected):
    data = check_labelled_texts(["text"] * len(rows), np.array(rows))
    assert data.every_text_has_label is expected


def test_a_text_of_weight_zero_needs_no_label():
    weight = [1, 1, 0]
    assert check_labelled_texts(["text"] * 3, np.array([[1, 0], [0, 1], [0, 0]]), weight).every_text_has_label


def test_a_label_for_each_text_is_learned_from_the_labels(start, automatic):
    assert n_labels(automatic) == [1, 1]
    decided = automatic.predict(TEXTS)
    proba = automatic.predict_proba(TEXTS)
    assert decided.any(axis=1).all()
    reached = proba >= automatic.thresholds_
    np.testing.assert_array_equal(decided[reached.any(axis=1)], reached[reached.any(axis=1)])
    y = Y.copy()
    y[0] = 0
    assert n_labels(classifier(start).fit(TEXTS, y)) == [0, 0]
    y[0, 1] = np.nan
    assert n_labels(classifier(start).fit(TEXTS, y)) == [1, 1]


def test_thresholds_that_are_set_are_all_that_decides(start):
    clf = classifier(start).fit(TEXTS, LABELS)
    assert n_labels(clf.set_thresholds("tune")) == [1, 1]
    assert n_labels(clf.set_params(top_k=2)) == [2, 2]
    clf.set_params(top_k=None)
    for threshold in (0.5, [0.5, 0.4, 0.3], {NAMES[0]: 0.3}):
        assert n_labels(clf.set_thresholds(threshold)) == [0, 0]
    assert n_labels(clf.set_params(at_least_one=True)) == [1, 1]
    assert n_labels(clf.set_params(at_least_one=False, threshold="auto")) == [0, 0]
    with pytest.raises(ValueError, match="at_least_one must be True, False or 'auto', got 'always'"):
        clf.set_params(at_least_one="always").predict(TEXTS[:1])


@pytest.mark.parametrize(("threshold", "expected"), [("f1_macro", 1), ("f1_micro", 1), ({"precision": 0.9}, 0)])
@pytest.mark.filterwarnings("ignore:.*for a precision of")
def test_a_precision_is_not_undone_by_labels_for_each_text(start, threshold, expected):
    clf = classifier(start, threshold=threshold).fit(TEXTS, LABELS)
    assert n_labels(clf) == n_labels(clf.set_thresholds("auto")) == [expected] * 2


def test_it_is_saved_and_cloned(start, automatic, tmp_path):
    automatic.save(tmp_path / "m")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "m")
    assert loaded.threshold == loaded.at_least_one == "auto"
    np.testing.assert_array_equal(loaded.thresholds_, automatic.thresholds_)
    np.testing.assert_array_equal(loaded.predict(TEXTS), automatic.predict(TEXTS))
    assert n_labels(loaded) == [1, 1]
    again = clone(automatic).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.thresholds_, automatic.thresholds_)


@pytest.mark.filterwarnings("ignore:.*are in none or all")
def test_a_search_over_thresholds(start):
    cv = MultiLabelStratifiedKFold(2, shuffle=True, random_state=0)
    grid = {"threshold": ["auto", 0.5, "tune", {0: 0.2}], "at_least_one": [False, "auto"]}
    search = GridSearchCV(classifier(start), grid, scoring="f1_micro", cv=cv, refit=False).fit(TEXTS, Y.astype(int))
    scores = search.cv_results_["mean_test_score"].reshape(2, 4)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[:, 0], scores[:, 2])
    np.testing.assert_array_equal(scores[0, [1, 3]], scores[1, [1, 3]])


@pytest.mark.parametrize("stores_metric", [True, False])
def test_a_model_that_was_saved_when_tune_meant_macro_f1_decides_as_before(start, tmp_path, stores_metric):
    clf = classifier(start, threshold="f1_macro", at_least_one=False).fit(TEXTS, LABELS)
    clf.save(tmp_path / "new")
    state = load_state(tmp_path / "new", "classifier")
    config = {name: value for name, value in state.config.items() if name != "every_text_has_label"}
    if not stores_metric:
        del config["threshold_metric"]
    config["params"] = {**config["params"], "threshold": "tune"}
    save_state(replace(state, config=config), tmp_path / "old")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "old")
    assert loaded.threshold == "tune"
    np.testing.assert_array_equal(loaded.thresholds_, clf.thresholds_)
    np.testing.assert_array_equal(loaded.predict(TEXTS), clf.predict(TEXTS))
    np.testing.assert_array_equal(loaded.set_thresholds(0.5).set_thresholds("tune").thresholds_, clf.thresholds_)
    assert n_labels(loaded.set_params(at_least_one="auto")) == [0, 0]
    loaded.save(tmp_path / "again")
    assert ULMFiTMultiLabelClassifier.load(tmp_path / "again").threshold == "tune"


def run(*args):
    return main([str(arg) for arg in args])


@pytest.mark.parametrize(
    ("options", "tunes", "forces"),
    [
        ([], True, True),
        (["--threshold", "auto", "--no-at-least-one"], True, False),
        (["--threshold", "tune"], True, True),
        (["--threshold", "1"], False, False),
    ],
)
def test_the_command_line_decides_alike(start, tmp_path, options, tunes, forces):
    table, model, out = tmp_path / "t.csv", tmp_path / "m", tmp_path / "out.csv"
    rows = [{"text": text, "topics": ";".join(labels)} for text, labels in zip(TEXTS, LABELS, strict=True)]
    write_table(table, ["text", "topics"], rows)
    training = ["--text", "text", "--label-column", "topics", "--language-model", start, "--random-state", 0]
    assert run("train", table, *training, "--no-tfidf", *options, "--out", model) == 0
    clf = ULMFiTMultiLabelClassifier.load(model)
    assert clf.threshold == (1 if not tunes else "tune" if "tune" in options else "auto")
    assert ("thresholds" in clf._fitted.config) == tunes
    assert n_labels(clf) == [forces] * 2
    assert run("predict", model, table, "--out", out) == 0
    predicted = [row["predicted_labels"] for row in load_table(out, text="text").rows]
    assert predicted == [";".join(row) for row in clf.predict_labels(TEXTS)]
    assert run("predict", model, table, "--out", out, "--force", "--threshold", "1") == 0
    assert not any(row["predicted_labels"] for row in load_table(out, text="text").rows)
    assert run("evaluate", model, table) == 0


@pytest.mark.parametrize("threshold", ["auto", "f1_samples", {"precision": 0.5}])
def test_a_label_that_is_the_same_for_all_texts_is_named_in_one_warning(start, threshold):
    y = np.hstack([Y, np.zeros((len(Y), 1)), np.ones((len(Y), 1))])
    with pytest.warns(UserWarning, match="are the same") as caught:
        clf = classifier(start, threshold=threshold).fit(TEXTS, y)
    assert [str(each.message) for each in caught if "label" in str(each.message)] == [
        f"2 of 5 labels are the same for all {len(Y)} training texts: 3 (always 0), 4 (always 1). Their base rate is "
        "predicted; drop them or add texts that differ."
    ]
    assert len(clf.thresholds_) == 5


def test_a_label_that_is_missing_among_held_out_texts_alone_is_named(start):
    y = np.hstack([Y, np.zeros((len(Y), 1))])
    y[0, -1] = 1
    with pytest.warns(UserWarning, match="1 of 4 labels are in none or all of the held-out texts"):
        classifier(tiny_lm(max_epochs=0), threshold="tune", validation_fraction=0.2, max_epochs=1).fit(TEXTS, y)
