"""Every callback that skorch ships works, or a message says why not and what to use instead."""

import pickle
import sys
import types
import warnings

import numpy as np
import pytest
import skorch.callbacks
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from sklearn.base import clone
from sklearn.metrics import f1_score, make_scorer, mean_absolute_error
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    TrainEndCheckpoint,
    Unfreezer,
    WandbLogger,
)
from skorch.utils import freeze_parameter

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.metrics import multilabel_scorer
from sk_ulmfit.training.batching import DocumentDataset
from sk_ulmfit.training.task import task_of

TEXTS, LABELS = make_corpus(40)
Y = np.array([[name in row for name in ("billing", "delivery", "technical")] for row in LABELS]).astype(int)


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(random_state=0).fit(TEXTS)


@pytest.fixture
def fit(lm):
    """Fit a tiny classifier with callbacks; any warning is an error."""

    def fit(*callbacks, y=LABELS, **params):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return tiny_classifier(language_model=lm, callbacks=list(callbacks), **params).fit(TEXTS, y)

    return fit


class Numbers:
    """Stands for a run, an experiment or a writer of any logger: it takes numbers and nothing else."""

    def __init__(self, folder="."):
        self.logged, self.dir = [], str(folder)
        self.info = types.SimpleNamespace(run_id="1")

    def take(self, value):
        assert isinstance(value, (int, float, np.number)), value
        self.logged.append(value)

    def add_scalar(self, tag, scalar_value, global_step):
        self.take(scalar_value)

    def log_scalar(self, key, value, *_):
        self.take(value)

    def log_metric(self, run_id, key, value, step):
        self.take(value)

    def log(self, values):
        for value in values.values():
            self.take(value)

    append = take

    def watch(self, module):
        assert isinstance(module, torch.nn.Module)

    def __getitem__(self, key):
        return self

    def __setitem__(self, key, value):
        pass

    def log_artifact(self, run_id, path):
        assert path.stat().st_size > 0

    def set_terminated(self, run_id):
        pass

    close = stop = lambda self: None


@pytest.fixture
def _neptune(monkeypatch):
    """What the logger imports of neptune."""
    handler = types.ModuleType("neptune.handler")
    handler.Handler = type("Handler", (), {})
    kinds = types.ModuleType("neptune.types")
    kinds.File = type("File", (), {"from_content": staticmethod(lambda text, extension: text)})
    for module in (types.ModuleType("neptune"), handler, kinds):
        monkeypatch.setitem(sys.modules, module.__name__, module)


LOGGERS = {
    "TensorBoard": lambda log: TensorBoard(log),
    "MlflowLogger": lambda log: MlflowLogger(run=log, client=log, log_on_batch_end=True),
    "NeptuneLogger": lambda log: NeptuneLogger(log, log_on_batch_end=True),
    "SacredLogger": lambda log: SacredLogger(log, log_on_batch_end=True),
    "WandbLogger": lambda log: WandbLogger(log),
}
TRAININGS = {
    "gradual": {"early_stopping": True},
    "at once": {"early_stopping": True, "unfreezing": "at_once"},
    "head": {"early_stopping": True, "unfreezing": "head"},
    "both": {"early_stopping": True, "direction": "both", "language_model": tiny_lm()},
}


@pytest.mark.usefixtures("_neptune")
@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize("training", TRAININGS)
def test_loggers_see_numbers_only(lm, tmp_path, name, training):
    log = Numbers(tmp_path)
    clf = tiny_classifier(**{"language_model": lm, "callbacks": [LOGGERS[name](log)], **TRAININGS[training]})
    clf.fit(TEXTS, LABELS)
    assert len(log.logged) >= 3 * len(clf.history_)
    assert clf.history_[-1]["train_loss"] in log.logged


def test_names_of_trained_layers_are_in_history_and_in_no_net(fit):
    clf = fit()
    groups = [row["trained_groups"] for row in clf.history_]
    assert groups == ["head, embedding", "head, layer 2, embedding", "head, layer 2, layer 1, embedding"]
    for net in (clf.net_, pickle.loads(pickle.dumps(clf)).net_):
        assert len(net.history) == len(clf.history_)
        assert not any(isinstance(value, str) for row in net.history for value in row.values())


@pytest.mark.parametrize("training", ["gradual", "at once", "head"])
@pytest.mark.parametrize("scoring", ["f1_micro", multilabel_scorer("f1_micro"), make_scorer(f1_score, average="micro")])
def test_scores_are_those_of_decisions(fit, training, scoring):
    class Compare(Callback):
        def on_epoch_end(self, net, dataset_valid=None, **kwargs):
            truth = np.stack([dataset_valid[i][1] for i in range(len(dataset_valid))])
            net.module_.eval()
            decided = net.predict(dataset_valid)
            assert set(np.unique(decided)) <= {0, 1}
            scores.append(f1_score(truth, decided, average="micro"))

    scores = []
    clf = fit(
        EpochScoring(scoring, lower_is_better=False, name="f1"), Compare(), **TRAININGS[training], dropout_multiplier=0
    )
    if training != "head":  # whose net takes features
        assert [row["f1"] for row in clf.history_] == pytest.approx(scores)
    assert all(0 <= row["f1"] <= 1 for row in clf.history_)


@pytest.mark.parametrize("on_train", [False, True])
def test_scores_of_batches_and_of_training_texts(fit, on_train):
    options = {"lower_is_better": False, "on_train": on_train}
    clf = fit(
        EpochScoring("f1_micro", **options),
        BatchScoring("accuracy", name="exact", **options),
        EpochScoring(multilabel_scorer("mean_average_precision"), name="map", **options),
        PassthroughScoring("train_loss", on_train=True),
        EpochTimer(),
        early_stopping=not on_train,
    )
    for row in clf.history_:
        assert {"f1_micro", "exact", "map", "f1_micro_best", "dur"} <= row.keys()


def test_unknown_labels_are_left_out_of_our_scores(fit):
    y = Y.astype(float)
    y[::3, 0] = np.nan
    clf = fit(EpochScoring(multilabel_scorer("f1_micro"), name="f1", on_train=True), y=y)
    assert all(0 <= row["f1"] <= 1 for row in clf.history_)


def test_the_net_decides_by_the_thresholds_that_were_given(fit):
    seen = []

    class Thresholds(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.threshold)

    clf = fit(Thresholds(), threshold={"billing": 0.2}, max_epochs=1)
    assert seen[0].tolist() == [0.2, 0.5, 0.5]
    corpus = clf._fitted.encode(TEXTS, None)
    data = DocumentDataset(corpus, Y.astype(np.float32), None)
    proba = clf.net_.predict_proba(data)
    np.testing.assert_array_equal(clf.net_.predict(data), proba >= np.array([0.2, 0.5, 0.5], np.float32))
    np.testing.assert_array_equal(clf.set_thresholds(0.9).net_.predict(data), proba >= np.float32(0.9))
    assert clf.set_params(threshold="auto").net_.threshold == 0.5


@pytest.mark.parametrize(
    ("y_range", "loss"), [(None, "squared_error"), ((0, 20), "squared_error"), ((0, 1), "cross_entropy")]
)
def test_scores_of_values_compare_with_values(lm, y_range, loss):
    values = np.array([[len(text) / 10, text.count("e")] for text in TEXTS]) / (20 if loss == "cross_entropy" else 1)
    settings = {"unfreezing": "at_once", "early_stopping": True, "max_epochs": 2, "batch_size": 8, "bptt": 10}
    error = EpochScoring(make_scorer(mean_absolute_error), name="error")
    model = ULMFiTRegressor(lm, y_range=y_range, loss=loss, tfidf=False, callbacks=[error], random_state=0, **settings)
    model.fit(TEXTS, values)
    task = task_of(model._fitted.config)
    data = DocumentDataset(model._fitted.encode(TEXTS, None), task.targets(values), None)
    predicted = model.net_.predict(data)
    in_units = predicted if loss == "cross_entropy" else task.mean + task.scale * predicted
    np.testing.assert_allclose(in_units, model.predict(TEXTS), rtol=1e-4)
    assert 0 < model.history_[-1]["error"] < 3  # in standard deviations, on held-out texts


def test_print_log_prints_under_any_name(fit, capsys):
    for callback in (PrintLog(), ("print_log", PrintLog()), ("table", PrintLog())):
        fit(callback, max_epochs=2)
        printed = capsys.readouterr().out
        assert len(printed.splitlines()) == 4, printed
        assert "train_loss" in printed
        assert "trained_groups" not in printed


def test_print_log_prints_the_epoch_that_stops_early(fit, capsys):
    lines = []
    clf = fit(PrintLog(sink=lines.append), early_stopping=True, n_iter_no_change=1, max_epochs=60, lr=0.3)
    assert len(clf.history_) < 60
    assert len(lines) == len(clf.history_) + 2
    assert capsys.readouterr().out == ""


def test_nothing_is_printed_without_callbacks(fit, capsys):
    fit()
    assert capsys.readouterr().out == ""


def test_the_progress_bar_counts_the_batches_that_there_are(fit, lm):
    totals = []

    class Totals(Callback):
        def on_epoch_end(self, net, **kwargs):
            bar = next(callback.pbar_ for _, callback in net.callbacks_ if isinstance(callback, ProgressBar))
            totals.append((bar.total, bar.n))

    fit(Totals(), ProgressBar(), early_stopping=True)
    tiny_lm(callbacks=[Totals(), ProgressBar()]).fit(TEXTS)
    assert all(total == n > 1 for total, n in totals), totals
    assert len(totals) == 4


@pytest.mark.parametrize("norm", [2, float("inf")])
def test_gradients_are_clipped_also_sparse_ones(fit, norm):
    norms = []

    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            parts = [p.grad for _, p in named_parameters if p.grad is not None]
            parts = [g.coalesce().values() if g.is_sparse else g for g in parts]
            norms.append(float(torch.linalg.vector_norm(torch.cat([part.flatten() for part in parts]), norm)))

    fit(GradientNormClipping(0.01, norm), Norms(), gradient_clip=None, unfreezing="at_once", max_epochs=1)
    assert max(norms) <= 0.01001
    assert min(norms) > 0.001


def test_checkpoints_are_written_and_read(fit, tmp_path):
    best = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path / "best"), f_pickle="net.pkl", load_best=True)
    end = TrainEndCheckpoint(dirname=str(tmp_path / "end"))
    clf = fit(best, end)
    names = {path.name for folder in ("best", "end") for path in (tmp_path / folder).iterdir()}
    assert names >= {"params.pt", "optimizer.pt", "history.json", "net.pkl", "train_end_params.pt"}
    assert [row["event_cp"] for row in clf.history_] == [row["train_loss_best"] for row in clf.history_]
    seen = []

    class First(Callback):
        def on_train_begin(self, net, **kwargs):
            seen.append(net.module_.head[-1].bias.detach().clone())

    fit(LoadInitState(Checkpoint(dirname=str(tmp_path / "end"), fn_prefix="train_end_")), First(), max_epochs=1)
    assert torch.equal(seen[0], clf.net_.module_.head[-1].bias)


def test_early_stopping_of_the_user_stops(fit, capsys):
    clf = fit(EarlyStopping(monitor="train_loss", patience=1, lower_is_better=False, load_best=True), max_epochs=9)
    assert len(clf.history_) < 9
    assert "Stopping since train_loss" in capsys.readouterr().out
    clf = fit(EarlyStopping(patience=1, lower_is_better=False), max_epochs=9, early_stopping=True)
    assert len(clf.history_) < 9


@pytest.mark.parametrize("training", ["gradual", "at once"])
def test_initializers_set_weights(fit, training):
    def zero(parameter):
        seen.append(parameter.shape)
        torch.nn.init.zeros_(parameter)

    seen = []
    fit(Initializer("head.6.weight", fn=zero), **TRAININGS[training], max_epochs=1)
    assert seen == [(3, 50)]


def test_layers_can_be_frozen_if_they_are_trained_at_once(lm, fit):
    embedding = torch.from_numpy(lm.state_.weights["encoder.embedding.weight"])
    clf = fit(Freezer("encoder.embedding*"), Unfreezer("nothing"), unfreezing="at_once")
    assert torch.equal(clf.net_.module_.encoder.embedding.weight, embedding)
    free = fit(unfreezing="at_once")
    assert not torch.equal(free.net_.module_.encoder.embedding.weight, embedding)


UNDONE = {
    "LRScheduler": (lambda: LRScheduler("StepLR", step_size=1), "lr, lr_decay and schedule"),
    "Freezer": (lambda: Freezer("encoder*"), "pass unfreezing='at_once', or 'head'"),
    "Unfreezer": (lambda: Unfreezer("encoder*"), "pass unfreezing='at_once', or 'head'"),
    "ParamMapper": (lambda: ParamMapper("encoder*", fn=freeze_parameter), "pass unfreezing='at_once', or 'head'"),
    "EpochScoring": (lambda: EpochScoring("f1_micro"), "pass early_stopping=True, or on_train=True"),
    "BatchScoring": (lambda: BatchScoring("f1_micro"), "pass early_stopping=True, or on_train=True"),
}


@pytest.mark.parametrize("name", UNDONE)
def test_what_has_no_effect_is_warned_of_with_a_remedy(lm, name):
    make, remedy = UNDONE[name]
    clf = tiny_classifier(language_model=lm, callbacks=[(name, make())], max_epochs=1)
    for _ in range(2):  # a callback that was used before too
        with pytest.warns(UserWarning, match=f"callback {name} .*{remedy}"):
            clf.fit(TEXTS, LABELS)


REFUSED = {
    "InputShapeSetter": (InputShapeSetter, "leave it out"),
    "Checkpoint": (Checkpoint, "early_stopping=True, or monitor='train_loss_best'"),
    "EarlyStopping": (EarlyStopping, "early_stopping=True, or monitor='train_loss'"),
    "WandbLogger": (lambda: WandbLogger(Numbers()), "early_stopping=True, or save_model=False"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_with_a_remedy(fit, name):
    make, remedy = REFUSED[name]
    with pytest.raises(ValueError, match=f"{name} .*{remedy}"):
        fit(make())


def test_this_file_names_every_callback_that_skorch_has():
    with open(__file__) as file:
        text = file.read()
    names = set(skorch.callbacks.__all__) - {"WarmRestartLR"}  # a schedule, which LRScheduler takes
    assert not [name for name in names if f"{name}(" not in text and f"{name}," not in text]


def test_callbacks_of_a_language_model(tmp_path, capsys):
    log, epochs = Numbers(tmp_path), []

    class Count(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(net.history[-1]["train_loss"])

    callbacks = [Count(), ("log", TensorBoard(log)), ("print_log", PrintLog()), GradientNormClipping(0.1)]
    callbacks.append(Checkpoint(monitor="train_loss_best", dirname=str(tmp_path)))
    lm = tiny_lm(max_epochs=2, callbacks=callbacks, memory=str(tmp_path / "memory"), random_state=0)
    for n in (2, 4):  # a training with callbacks is not cached
        lm.fit(TEXTS)
        assert len(epochs) == n
    assert [row["train_loss"] for row in lm.history_] == epochs[-2:]
    assert set(epochs) <= set(log.logged)
    assert (tmp_path / "params.pt").exists()
    assert "train_loss" in capsys.readouterr().out
    plain = tiny_lm(max_epochs=2, random_state=0, callbacks=[Count()]).fit(TEXTS)
    np.testing.assert_array_equal(
        plain.transform(TEXTS), tiny_lm(max_epochs=2, random_state=0).fit(TEXTS).transform(TEXTS)
    )
    assert clone(lm).callbacks[0].__class__ is Count


def test_callbacks_of_a_language_model_that_cannot_work_are_said():
    with pytest.raises(ValueError, match="callbacks must be a list of skorch callbacks"):
        tiny_lm(callbacks=3).fit(TEXTS)
    with pytest.raises(ValueError, match=r"EarlyStopping watches 'valid_loss', .* pass monitor='train_loss'"):
        tiny_lm(callbacks=[EarlyStopping()]).fit(TEXTS)
    with pytest.raises(ValueError, match="EpochScoring has nothing to compare"):
        tiny_lm(callbacks=[EpochScoring("f1_micro")]).fit(TEXTS)
    with pytest.warns(UserWarning, match="LRScheduler has no effect"):
        tiny_lm(callbacks=[LRScheduler("StepLR", step_size=1)]).fit(TEXTS)
    with pytest.warns(UserWarning, match="callbacks were not called"):
        tiny_lm(callbacks=[Callback()], max_epochs=0).fit(TEXTS)


def test_callbacks_of_the_language_model_inside_a_classifier_are_called():
    lines = []
    language_model = tiny_lm(callbacks=[PrintLog(sink=lines.append)])
    tiny_classifier(language_model=language_model, max_epochs=1).fit(TEXTS, LABELS)
    assert len(lines) == 3


def test_callbacks_of_a_language_model_are_not_in_a_file(lm, tmp_path):
    clf = tiny_classifier(language_model=tiny_lm(callbacks=[Callback()]), max_epochs=1).fit(TEXTS, LABELS)
    clf.save(tmp_path / "m")
    assert type(clf).load(tmp_path / "m").language_model.callbacks is None


def test_a_linear_head_alone_calls_none_and_says_so(lm, tmp_path):
    start = with_vector(lm, tmp_path / "lm")
    with pytest.warns(UserWarning, match="callbacks were not called"):
        tiny_classifier(language_model=start, callbacks=[EpochTimer()]).fit(TEXTS, LABELS)
