import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from sklearn.calibration import calibration_curve
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from sk_ulmfit import MultiLabelThresholdTuner, ULMFiTMultiLabelClassifier
from sk_ulmfit.lr_finder import LearningRateCurve
from sk_ulmfit.metrics import expected_calibration_error
from sk_ulmfit.plotting import (
    LabelCooccurrenceDisplay,
    LearningRateDisplay,
    ReliabilityDisplay,
    ThresholdCurveDisplay,
    TrainingCurvesDisplay,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LABELS = ["billing", "delivery", "technical"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def draw(seed=0, n=60, n_labels=3, unknown=0.0):
    rng = np.random.default_rng(seed)
    proba = rng.random((n, n_labels)).round(2)
    y = (rng.random((n, n_labels)) < proba).astype(float)
    y[rng.random((n, n_labels)) < unknown] = np.nan
    return y, proba


def line(panel, label):
    return next(line for line in panel.lines if line.get_label() == label)


def value_at(step_line, x):
    """What a line that is drawn in steps shows at x."""
    assert step_line.get_drawstyle() == "steps-pre"
    return step_line.get_ydata()[np.searchsorted(step_line.get_xdata(), x, side="left")]


@pytest.fixture(scope="module")
def linear():
    texts, labels = make_corpus(80, seed=1)
    y = MultiLabelBinarizer().fit_transform(labels)
    return make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression())).fit(texts, y)


@pytest.fixture(scope="module")
def held_out():
    texts, labels = make_corpus(50, seed=2)
    return texts, labels, MultiLabelBinarizer().fit_transform(labels)


# thresholds


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_threshold_curves_are_scikit_learns_scores(unknown):
    y, proba = draw(unknown=unknown)
    display = ThresholdCurveDisplay.from_predictions(y, proba)
    assert len(display.axes_) == 3
    for label, panel in enumerate(display.axes_):
        known = ~np.isnan(y[:, label])
        true = y[known, label]
        for x in np.linspace(0.005, 0.995, 34):
            decided = proba[known, label] >= x
            if decided.any():
                assert value_at(line(panel, "precision"), x) == pytest.approx(precision_score(true, decided))
            else:
                assert np.isnan(value_at(line(panel, "precision"), x))
            assert value_at(line(panel, "recall"), x) == pytest.approx(recall_score(true, decided))
            assert value_at(line(panel, "F1"), x) == pytest.approx(f1_score(true, decided))
        assert panel.get_title() == f"{label} ({int(true.sum())} texts)"


def test_the_threshold_in_use_is_marked(fitted, linear, held_out):
    texts, _, y = held_out
    marks = {"billing": 0.3, "technical": 0.7}
    by_name = ThresholdCurveDisplay.from_predictions(y, draw(n=50)[1], label_names=LABELS, thresholds=marks)
    found = [line(panel, "threshold in use").get_xdata()[0] for panel in by_name.axes_]
    assert found == [0.3, 0.5, 0.7]
    tuner = MultiLabelThresholdTuner(linear, cv="prefit").fit(texts, y)
    for estimator, wanted in ((fitted, fitted.thresholds_), (linear, [0.5] * 3), (tuner, tuner.best_thresholds_)):
        display = ThresholdCurveDisplay.from_estimator(estimator, texts, y)
        assert [curve.threshold_in_use for curve in display.curves] == pytest.approx(list(wanted))
    unmarked = ThresholdCurveDisplay.from_predictions(y, draw(n=50)[1])
    assert "threshold in use" not in unmarked.axes_[0].get_legend_handles_labels()[1]


def test_top_k_has_no_threshold(corpus):
    clf = tiny_classifier(top_k=1, max_epochs=1).fit(*corpus)
    assert [c.threshold_in_use for c in ThresholdCurveDisplay.from_estimator(clf, *corpus).curves] == [None] * 3


def test_labels_are_chosen_and_matched_by_name(fitted, held_out):
    pd = pytest.importorskip("pandas")
    texts, labels, y = held_out
    as_lists = ThresholdCurveDisplay.from_estimator(fitted, texts, labels, labels=["technical", "billing"])
    frame = pd.DataFrame(y, columns=LABELS)[["technical", "delivery", "billing"]]
    shuffled = ThresholdCurveDisplay.from_estimator(fitted, texts, frame, labels=["technical", "billing"])
    proba = fitted.predict_proba(texts)
    plain = ThresholdCurveDisplay.from_predictions(y, proba, label_names=LABELS, labels=["technical", "billing"])
    for display in (as_lists, shuffled, plain):
        assert [curve.name for curve in display.curves] == ["technical", "billing"]
        for curve, wanted in zip(display.curves, plain.curves, strict=True):
            assert np.array_equal(curve.f1, wanted.f1)
    with pytest.raises(ValueError, match=r"labels contains the unknown label 'refund'; choose from 'billing'"):
        ThresholdCurveDisplay.from_estimator(fitted, texts, y, labels=["refund"])


def test_of_many_labels_the_most_frequent_are_drawn():
    rng = np.random.default_rng(0)
    rates = rng.permutation(np.linspace(0.05, 0.95, 100))
    y = (rng.random((400, 100)) < rates).astype(int)
    y[:, 7] = 0  # no text has it
    display = ThresholdCurveDisplay.from_predictions(y, rng.random((400, 100)))
    counts = y.sum(axis=0)
    assert {curve.n_texts for curve in display.curves} == set(np.sort(counts)[-12:].tolist())
    assert len(display.axes_) == len(display.figure_.axes) == 12
    assert display.figure_.get_suptitle() == "The 12 most frequent of 100 labels"
    assert len(ThresholdCurveDisplay.from_predictions(y, rng.random((400, 100)), labels=range(20, 40)).axes_) == 20
    with pytest.raises(ValueError, match="No text has the label 7"):
        ThresholdCurveDisplay.from_predictions(y, rng.random((400, 100)), labels=[7])
    with pytest.raises(ValueError, match="None of the 2 labels is in any text"):
        ThresholdCurveDisplay.from_predictions(np.zeros((3, 2)), np.zeros((3, 2)))


# labels that go together


def cooccurrence(y, d, i, j):
    """Of the texts that have i and of which j is known, how many have j; the same for decisions."""
    return [
        np.mean(
            [(row[j] == 1) for row, known in zip(m, ~np.isnan(y), strict=True) if row[i] == 1 and known[[i, j]].all()]
        )
        for m in (y, d)
    ]


@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_cooccurrence_equals_counting(unknown):
    y, proba = draw(n_labels=4, unknown=unknown)
    decided = (proba > 0.5).astype(int)
    display = LabelCooccurrenceDisplay.from_predictions(y, decided)
    for i, j in np.ndindex(4, 4):
        assert [display.true[i, j], display.predicted[i, j]] == pytest.approx(cooccurrence(y, decided, i, j))
        shown = [panel.images[0].get_array()[i, j] for panel in display.axes_]
        if i == j:
            assert all(np.ma.is_masked(value) or np.isnan(value) for value in shown)
        else:
            assert shown == pytest.approx([display.true[i, j], display.predicted[i, j]])
    assert len({panel.images[0].get_clim() for panel in display.axes_}) == 1
    known = ~np.isnan(y)
    assert display.n_predicted.tolist() == (decided * known).sum(axis=0).tolist()
    numbers = LabelCooccurrenceDisplay.from_predictions(y, decided, normalize=False)
    has = y == 1
    assert np.array_equal(numbers.true, has.T.astype(int) @ has)
    assert np.array_equal(np.diag(numbers.true), display.n_true)


def test_cells_hold_numbers_when_labels_are_few(linear, held_out):
    texts, _, y = held_out
    display = LabelCooccurrenceDisplay.from_estimator(linear, texts, y, label_names=LABELS)
    decided = linear.predict(texts)
    for panel, matrix in zip(display.axes_, (y, decided), strict=True):
        cells = np.array([text.get_text() for text in panel.texts]).reshape(3, 3)
        assert cells.diagonal().astype(int).tolist() == matrix.sum(axis=0).tolist()
        share = (matrix[:, 0] * matrix[:, 1]).sum() / matrix[:, 0].sum()
        assert float(cells[0, 1]) == pytest.approx(share, abs=0.006)
    assert [tick.get_text() for tick in display.axes_[0].get_yticklabels()] == LABELS
    with pytest.raises(ValueError, match="must hold decisions"):
        LabelCooccurrenceDisplay.from_predictions(y, linear.predict_proba(texts))


def test_a_label_that_no_text_gets_leaves_its_row_empty():
    display = LabelCooccurrenceDisplay.from_predictions([[1, 1], [1, 0]], [[1, 0], [1, 0]])
    assert np.isnan(display.predicted[1]).all()
    assert display.predicted[0].tolist() == [1, 0]
    display.figure_.canvas.draw()


# reliability


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_reliability_is_scikit_learns_calibration_curve(strategy, unknown):
    y, proba = draw(n=200, unknown=unknown)
    display = ReliabilityDisplay.from_predictions(y, proba, strategy=strategy, n_bins=7, labels=[2, 0])
    for place, columns in enumerate([[0, 1, 2], [2], [0]]):
        known = ~np.isnan(y[:, columns])
        true, said = y[:, columns][known], proba[:, columns][known]
        share, mean = calibration_curve(true, said, n_bins=7, strategy=strategy)
        curve = display.curves[place]
        drawn = display.ax_.lines[place + 1]
        assert drawn.get_xdata() == pytest.approx(mean)
        assert drawn.get_ydata() == pytest.approx(share)
        assert curve.counts.sum() == known.sum()
        error = expected_calibration_error(y[:, columns], proba[:, columns], n_bins=7)
        assert f"calibration error {error:.3f}" in drawn.get_label()
        stairs = display.axes_[1].patches[place].get_data()
        assert np.array_equal(stairs.values, curve.counts)
        if strategy == "uniform":
            assert stairs.edges == pytest.approx(np.linspace(0, 1, 8))
        elif not unknown:
            assert curve.counts.max() - curve.counts.min() < len(said) / 7


def test_a_classifier_that_gives_a_list_is_read_too(held_out):
    texts, labels = make_corpus(80, seed=1)
    forest = make_pipeline(CountVectorizer(), RandomForestClassifier(20, random_state=0))
    forest.fit(texts, MultiLabelBinarizer().fit_transform(labels))
    texts, labels, y = held_out
    proba = np.column_stack([column[:, 1] for column in forest.predict_proba(texts)])
    display = ReliabilityDisplay.from_estimator(forest, texts, y)
    share, mean = calibration_curve(y.ravel(), proba.ravel(), n_bins=10)
    assert display.curves[0].prob_pred == pytest.approx(mean)
    assert display.curves[0].prob_true == pytest.approx(share)
    named = ReliabilityDisplay.from_estimator(forest, texts, labels, label_names=LABELS, labels="technical")
    assert named.curves[1].name == "technical"
    with pytest.raises(ValueError, match="label_names is needed if y_true holds label lists"):
        ReliabilityDisplay.from_estimator(forest, texts, labels)


def test_what_has_no_probabilities_is_refused(held_out):
    texts, _, y = held_out
    svm = make_pipeline(CountVectorizer(), OneVsRestClassifier(LinearSVC())).fit(texts, y)
    for display in (ReliabilityDisplay, ThresholdCurveDisplay):
        with pytest.raises(ValueError, match="must have predict_proba"):
            display.from_estimator(svm, texts, y)
        with pytest.raises(ValueError, match="probabilities from 0 to 1"):
            display.from_predictions(y, y * 3 - 1)
    with pytest.raises(ValueError, match=r"No entry of 1 is known"):
        ReliabilityDisplay.from_predictions([[1, np.nan], [0, np.nan]], [[0.5, 0.5], [0.5, 0.5]], labels=[1])


# training


def marks(panel):
    """Names above the panel, by the epoch of the line they belong to."""
    drawn = [
        float(line.get_xdata()[0])
        for line in panel.lines
        if line.get_linestyle() == "--" and len(line.get_xdata()) == 2
    ]
    named = {float(text.xy[0]): text.get_text().strip() for text in panel.texts}
    assert sorted(named) == sorted(drawn)
    return named


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm"
    tiny_lm(random_state=0).fit(make_corpus()[0]).save(path)
    return path


def test_training_curves_of_all_stages(pretrained, corpus, tmp_path):
    lm = tiny_lm(pretrained=pretrained, max_epochs=2)
    clf = tiny_classifier(language_model=lm, max_epochs=5, early_stopping=True, validation_fraction=0.3).fit(*corpus)
    display = TrainingCurvesDisplay.from_estimator(clf)
    stages = [panel.get_title() for panel in display.axes_]
    assert stages == ["Language model", "Classifier"]
    for panel, rows in zip(display.axes_, (clf.language_model_.history_, clf.history_), strict=True):
        drawn = line(panel, "training, with dropout")
        assert drawn.get_xdata().tolist() == list(range(1, len(rows) + 1))
        assert list(drawn.get_ydata()) == [row["train_loss"] for row in rows]
    held_out = [row["valid_loss"] for row in clf.history_]
    panel = display.axes_[1]
    assert list(line(panel, "held-out texts").get_ydata()) == held_out
    best = line(panel, "best on held-out texts")
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (np.argmin(held_out) + 1, min(held_out))
    assert marks(panel) == {1: "head, embedding", 2: "layer 2", 3: "layer 1"}
    assert marks(display.axes_[0]) == {}

    clf.save(tmp_path / "model")
    loaded = TrainingCurvesDisplay.from_estimator(ULMFiTMultiLabelClassifier.load(tmp_path / "model"))
    assert [panel.get_title() for panel in loaded.axes_] == ["Classifier"]
    assert marks(loaded.axes_[0]) == marks(panel)

    own = TrainingCurvesDisplay.from_estimator(clf.language_model_)
    assert [panel.get_title() for panel in own.axes_] == ["Language model"]


def test_the_marks_are_where_groups_begin_to_be_trained(pretrained, corpus):
    as_in_the_paper = {"language_model": pretrained, "lm_epochs": 0, "embedding_lr": None, "max_epochs": 6}
    display = TrainingCurvesDisplay.from_estimator(tiny_classifier(**as_in_the_paper).fit(*corpus))
    assert len(display.axes_) == 1  # no epoch of the language model
    assert marks(display.axes_[0]) == {1: "head", 2: "layer 2", 3: "layer 1", 4: "embedding"}


def test_a_body_from_scratch_and_an_old_history_have_no_marks(fitted):
    assert "trained_groups" not in fitted.history_[0]
    assert marks(TrainingCurvesDisplay.from_estimator(fitted).axes_[1]) == {}
    old = [{"epoch": 1, "dur": 1.0, "train_loss": 0.5}, {"epoch": 2, "dur": 1.0, "train_loss": 0.4}]
    assert marks(TrainingCurvesDisplay({"classifier": old}).plot().axes_[0]) == {}


def test_what_has_no_curves_is_refused(fitted, corpus):
    with pytest.raises(ValueError, match="has no epochs to draw"):
        TrainingCurvesDisplay.from_estimator(tiny_lm(max_epochs=0).fit(corpus[0]))
    with pytest.raises(ValueError, match=r"got a Pipeline; pass the one inside"):
        TrainingCurvesDisplay.from_estimator(make_pipeline(fitted))
    with pytest.raises(ValueError, match="not fitted yet"):
        TrainingCurvesDisplay.from_estimator(tiny_classifier())


# learning rates


def test_the_learning_rate_curve_is_drawn_as_found(corpus):
    display = LearningRateDisplay.from_estimator(tiny_lm(random_state=0), corpus[0], n_steps=40)
    curve, panel = display.curve, display.ax_
    assert panel.get_xscale() == "log"
    for label, values in (("of each batch", curve.losses), ("smoothed", curve.smoothed_losses)):
        assert np.array_equal(line(panel, label).get_ydata(), values)
        assert np.array_equal(line(panel, label).get_xdata(), curve.learning_rates)
    marked = [one for one in panel.lines if one.get_label().startswith("suggestion")]
    assert [one.get_xdata()[0] for one in marked] == [curve.suggestion]


def test_an_explosion_leaves_the_panel_and_no_suggestion_no_mark():
    rates = np.geomspace(1e-6, 1, 30)
    losses = np.where(np.arange(30) < 25, np.linspace(3, 1, 30), 1e6)
    panel = LearningRateDisplay(LearningRateCurve(rates, losses, losses, None, {})).plot().ax_
    assert panel.get_ylim()[1] < 10
    assert len(panel.lines) == 2


# all displays


def all_displays(axes=None):
    y, proba = draw()
    rows = [{"train_loss": 1.0, "trained_groups": "head"}, {"train_loss": 0.5, "trained_groups": "head, layer 1"}]
    rates = np.geomspace(1e-6, 1, 30)
    curve = LearningRateCurve(rates, rates + 1, rates + 1, 0.01, {"lr": 0.01})
    return {
        3: lambda ax=None: ThresholdCurveDisplay.from_predictions(y, proba, thresholds=0.5, ax=ax),
        2: lambda ax=None: LabelCooccurrenceDisplay.from_predictions(y, proba > 0.5, ax=ax),
        1: lambda ax=None: ReliabilityDisplay.from_predictions(y, proba, ax=ax),
        "training": lambda ax=None: TrainingCurvesDisplay({"a": rows, "b": rows}).plot(ax),
        "rate": lambda ax=None: LearningRateDisplay(curve).plot(ax),
    }


@pytest.mark.parametrize(("which", "n"), [(3, 3), (2, 2), (1, 2), (1, 1), ("training", 2), ("rate", 1)])
def test_axes_of_the_user_are_drawn_in(which, n):
    figure, axes = plt.subplots(1, n)
    display = all_displays()[which](axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(np.atleast_1d(axes))
    assert plt.get_fignums() == [figure.number]
    assert all(panel.has_data() for panel in display.axes_)
    with pytest.raises(ValueError, match=r"ax must hold \d Axes, one per panel, got 5"):
        all_displays()[which](plt.subplots(1, 5)[1])


def test_nothing_is_drawn_before_plot():
    y, proba = draw()
    curves = ThresholdCurveDisplay.from_predictions(y, proba).curves
    plt.close("all")
    display = ThresholdCurveDisplay(curves)
    assert not hasattr(display, "figure_")
    assert plt.get_fignums() == []
    assert display.plot() is display
    assert len(display.plot().axes_) == 3


def test_long_names_and_many_labels_stay_inside_the_figure():
    rng = np.random.default_rng(0)
    names = [f"a label with a name that is far too long to be shown anywhere {i}" for i in range(100)]
    y, proba = (rng.random((200, 100)) < 0.2).astype(int), rng.random((200, 100))
    for display in (
        ThresholdCurveDisplay.from_predictions(y, proba, label_names=names),
        LabelCooccurrenceDisplay.from_predictions(y, proba > 0.8, label_names=names),
        LabelCooccurrenceDisplay.from_predictions(y, proba > 0.8, label_names=names, labels=names),
        ReliabilityDisplay.from_predictions(y, proba, label_names=names, labels=names[:5]),
        TrainingCurvesDisplay({"classifier": [{"train_loss": 1 / i, "trained_groups": ", ".join(map(str, range(min(i, 5))))} for i in range(1, 60)]}).plot(),
    ):  # fmt: skip
        figure = display.figure_
        assert max(figure.get_size_inches()) < 16
        figure.canvas.draw()
        needed, there = figure.get_tightbbox(), figure.bbox_inches
        assert needed.x0 > -0.05
        assert needed.y0 > -0.05
        assert needed.x1 < there.x1 + 0.05
        assert needed.y1 < there.y1 + 0.05
        for panel in display.axes_:
            assert panel.get_position().width > 0.1
            assert panel.get_position().height > 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["\ud83d", "a\x1b[31mred", "\x00", "\x9b", "a\nb\tc", "\u202eabc", "$x^", "_a"])
def test_names_that_no_font_has_are_drawn_escaped(name):
    y, proba = np.array([[1, 0], [1, 1], [0, 1]] * 5), np.full((15, 2), 0.4)
    for display in (
        ThresholdCurveDisplay.from_predictions(y, proba, label_names=[name, "b"]),
        LabelCooccurrenceDisplay.from_predictions(y, y, label_names=[name, "b"]),
        ReliabilityDisplay.from_predictions(y, proba, label_names=[name, "b"], labels=[name]),
    ):
        display.figure_.canvas.draw()


@pytest.mark.parametrize("which", [3, 2, 1, "training", "rate"])
def test_without_matplotlib_one_line_says_what_to_do(which, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"^Drawing needs matplotlib, .*: pip install matplotlib, or sk-ulmfit\[plot\]\.$"
    ):
        all_displays()[which]()


def test_without_a_display_and_without_matplotlib_at_import(tmp_path):
    code = (
        "import sys, sk_ulmfit.plotting as p\n"
        "assert 'matplotlib' not in sys.modules\n"
        "d = p.ThresholdCurveDisplay.from_predictions([[1, 0], [0, 1]], [[.9, .2], [.1, .8]])\n"
        f"d.figure_.savefig({str(tmp_path / 'a.png')!r})\n"
    )
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
