"""Pickles, copies, joblib files and skops files hold plain data, and all that a user can observe survives them."""

import copy
import io
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sk_ulmfit import (
    MultiLabelThresholdTuner,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
    ULMFiTRegressor,
)
from sk_ulmfit.models import ModelFileError
from sk_ulmfit.models.plain import writable

TEXTS, LABELS = make_corpus(40)
VALUES = np.array([[len(text) / 10, text.count("e")] for text in TEXTS])


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(random_state=0).fit(TEXTS)


@pytest.fixture(scope="module")
def start(lm, tmp_path_factory):
    """A fitted language model with a vector of a text."""
    return with_vector(lm, tmp_path_factory.mktemp("start") / "lm")


@pytest.fixture(scope="module")
def models(lm, start):
    """Fitted estimators of every kind by name."""
    pair = (lm, tiny_lm(random_state=0, direction="backward").fit(TEXTS))
    options = {"max_epochs": 2, "batch_size": 8, "bptt": 10, "random_state": 0}
    frame = pd.DataFrame({7: [1, 0] * 20, "x": [0, 0, 1, 1] * 10})
    return {
        "classifier": tiny_classifier(
            language_model=lm, threshold={"billing": 0.3}, calibration="platt", tfidf=True, early_stopping=True
        ).fit(TEXTS, LABELS),
        "linear head": tiny_classifier(language_model=start, tfidf=True).fit(TEXTS, LABELS),
        "names of two types": tiny_classifier(language_model=start).fit(TEXTS, frame),
        "both": tiny_classifier(language_model=pair, direction="both", max_epochs=1).fit(TEXTS, LABELS),
        "head alone": tiny_classifier(language_model=lm, unfreezing="head").fit(TEXTS, LABELS),
        "regressor": ULMFiTRegressor(start, y_range=(0, 12), **options).fit(TEXTS, VALUES),
        "regressor of shares": ULMFiTRegressor(lm, y_range=(0, 1), loss="cross_entropy", **options).fit(
            TEXTS, VALUES[:, 0] / 20
        ),
        "language model": lm,
        "loaded language model": start,
        "tuner": MultiLabelThresholdTuner(tiny_classifier(language_model=start), cv=2, store_cv_results=True).fit(
            TEXTS, LABELS
        ),
    }


KINDS = (
    *("classifier", "linear head", "names of two types", "both", "head alone", "regressor", "regressor of shares"),
    *("language model", "loaded language model", "tuner"),
)


def through_joblib(estimator, mmap_mode=None):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def through_cloudpickle(estimator):
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(estimator))


def through_skops(estimator):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(estimator)
    return skops.loads(content, trusted=untrusted_types(content))


def untrusted_types(content):
    skops = pytest.importorskip("skops.io")
    names = skops.get_untrusted_types(data=content)
    ours = {
        "sk_ulmfit.classifier.ULMFiTMultiLabelClassifier",
        "sk_ulmfit.regressor.ULMFiTRegressor",
        "sk_ulmfit.language_model.ULMFiTLanguageModel",
        "sk_ulmfit.tuner.MultiLabelThresholdTuner",
    }
    strange = [name for name in names if not name.startswith("sklearn.") and name not in ours]
    assert not strange  # of scikit-learn, a search names its splitter and scorer
    return names


WAYS = {
    "pickle": lambda estimator: pickle.loads(pickle.dumps(estimator)),
    "oldest pickle": lambda estimator: pickle.loads(pickle.dumps(estimator, protocol=0)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "joblib": through_joblib,
    "cloudpickle": through_cloudpickle,
    "skops": through_skops,
}


def predictions(model):
    if isinstance(model, ULMFiTLanguageModel):
        return model.transform(TEXTS)
    return model.predict_proba(TEXTS) if hasattr(model, "predict_proba") else model.predict(TEXTS)


def observed(model):
    """What a user can look at, as plain values."""
    names = ("label_names_", "target_names_", "thresholds_", "best_thresholds_", "best_score_", "classes_", "history_")
    names += ("backward_history_", "pretrained_", "n_labels_", "n_targets_", "one_dimensional")
    seen = {name: getattr(model, name) for name in names if hasattr(model, name)}
    seen |= {"vocabulary": getattr(model, "vocabulary_", None), "type": type(model)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in seen.items()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_can_be_observed_survives(models, kind, way):
    model = models[kind]
    other = WAYS[way](model)
    np.testing.assert_array_equal(predictions(other), predictions(model))
    assert observed(other) == observed(model)
    assert repr(other) == repr(model)


@pytest.mark.parametrize("kind", ["classifier", "regressor", "both"])
def test_nets_are_made_again_ready_to_be_used_and_trained(models, kind):
    model = models[kind]
    other = pickle.loads(pickle.dumps(model))
    net, twin = model.net_, other.net_
    for name in ("lr", "lr_decay", "alpha", "beta", "seed", "max_epochs", "device", "pad_id", "max_tokens"):
        assert getattr(twin, name) == getattr(net, name), name
    assert not twin.module_.training
    corpus = model._fitted.encode(TEXTS, None)
    assert torch.equal(twin.logits(corpus), net.logits(corpus))
    before = [parameter.detach().clone() for parameter in net.module_.parameters()]
    with torch.no_grad():
        for parameter in twin.module_.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.module_.parameters(), strict=True))


def test_the_language_model_behind_comes_along_and_a_fit_goes_on_from_a_pickle(models):
    clf = models["linear head"]
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(clf)).language_model_.transform(TEXTS), clf.language_model_.transform(TEXTS)
    )
    more = ["A new widget is lost", *TEXTS[:20]], [["delivery"], *LABELS[:20]]
    whole = copy.deepcopy(clf).set_params(warm_start=True).fit(*more)
    pickled = pickle.loads(pickle.dumps(copy.deepcopy(clf).set_params(warm_start=True))).fit(*more)
    assert "widget" in pickled.vocabulary_ or len(pickled.vocabulary_) == len(whole.vocabulary_)
    np.testing.assert_allclose(pickled.predict_proba(TEXTS), whole.predict_proba(TEXTS), atol=1e-6)


def test_a_pickle_has_no_type_of_torch_and_no_texts_in_it(start):
    clf = tiny_classifier(language_model=start, warm_start=True).fit(TEXTS, LABELS)
    content = pickle.dumps(clf)
    modules, texts = set(), []
    for code, argument, _ in pickletools.genops(content):
        if code.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(argument)
            continue
    modules = {text.split(".")[0] for text in texts if text.replace(".", "").replace("_", "").isalnum()}
    assert not modules & {"torch", "skorch"}
    assert b"please help me" not in content
    assert not any(len(part) > 1 for part in [clf.__getstate__()["_fitted"].get("seen", ())])


def test_a_pickle_is_not_larger_than_two_files(models, tmp_path):
    clf = models["classifier"]
    clf.save(tmp_path / "clf")
    clf.language_model_.save(tmp_path / "lm")
    files = sum((tmp_path / name).stat().st_size for name in ("clf", "lm"))
    assert len(pickle.dumps(clf)) < files + 20_000


class Note(Callback):
    """A callback that can be compared."""

    def __init__(self, text=""):
        self.text = text


def test_parameters_and_notes_survive_a_pickle_fitted_or_not(lm, tmp_path):
    generator = np.random.RandomState(3)
    generator.rand(5)
    clf = ULMFiTMultiLabelClassifier(
        (Path("a.model"), "en"),
        direction="both",
        threshold=pd.Series({"x": 0.25}),
        callbacks=[("note", Note("hello"))],
        memory=joblib.Memory(tmp_path, verbose=0),
        random_state=generator,
        warm_start=True,
        n_jobs=2,
    )
    clf.note = "mine"
    for other in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
        assert other.note == "mine"
        assert other.language_model == (Path("a.model"), "en")
        assert other.callbacks[0][1].text == "hello"
        assert other.memory.location == clf.memory.location
        assert other.random_state.rand() == copy.deepcopy(generator).rand()
        assert (other.warm_start, other.n_jobs, other.direction) == (True, 2, "both")
        pd.testing.assert_series_equal(other.threshold, clf.threshold)
        assert not hasattr(other, "net_")
    frozen = tiny_classifier(language_model=FrozenEstimator(lm))
    again = pickle.loads(pickle.dumps(frozen))
    np.testing.assert_array_equal(again.language_model.transform(TEXTS), lm.transform(TEXTS))
    clone(again).fit(TEXTS, LABELS)


def test_a_language_model_in_memory_as_a_parameter_survives(lm):
    model = ULMFiTLanguageModel(lm.state_, max_epochs=0)
    for way in ("pickle", "deepcopy", "skops"):
        other = WAYS[way](model)
        np.testing.assert_array_equal(other.fit(TEXTS).transform(TEXTS), clone(model).fit(TEXTS).transform(TEXTS))


def test_metadata_and_output_settings_survive(models, tmp_path):
    models["classifier"].save(tmp_path / "m", metadata={"by": "me"})
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "m")
    for way in ("pickle", "skops"):
        assert WAYS[way](loaded).metadata_ == {"by": "me"}
    lm = copy.copy(models["language model"]).set_output(transform="pandas")
    assert isinstance(pickle.loads(pickle.dumps(lm)).transform(TEXTS[:2]), pd.DataFrame)


@pytest.mark.parametrize("mmap_mode", [None, "r", "c", "r+"])
@pytest.mark.filterwarnings("error")
def test_joblib_maps_the_weights_into_memory_and_the_file_stays_as_it_is(models, tmp_path, mmap_mode):
    path = tmp_path / "clf.joblib"
    joblib.dump(models["classifier"], path)
    before = path.read_bytes()
    clf = joblib.load(path, mmap_mode=mmap_mode)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), models["classifier"].predict_proba(TEXTS))
    if mmap_mode != "r+":
        with torch.no_grad():
            clf.net_.module_.head[-1].bias.add_(1)
        assert not np.array_equal(clf.predict_proba(TEXTS), models["classifier"].predict_proba(TEXTS))
        assert path.read_bytes() == before


def test_a_read_only_map_is_shared_and_anything_else_read_only_is_copied(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5.0))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    mine = writable(mapped)
    mine[0] = 9
    assert np.load(tmp_path / "a.npy")[0] == 0
    assert writable(mapped[2:]).tolist() == [2, 3, 4]
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    assert writable(fixed).flags.writeable
    (tmp_path / "a.npy").unlink()
    assert writable(mapped).tolist() == [0, 1, 2, 3, 4]


def test_models_go_to_worker_processes_and_come_back(lm):
    clf = tiny_classifier(language_model=FrozenEstimator(lm), max_epochs=1)
    wanted = clone(clf).fit(TEXTS, LABELS).predict_proba(TEXTS)
    for model in joblib.Parallel(n_jobs=2)(joblib.delayed(clone(clf).fit)(TEXTS, LABELS) for _ in range(2)):
        np.testing.assert_array_equal(model.predict_proba(TEXTS), wanted)


def test_a_pickle_is_read_in_a_process_that_has_imported_nothing(models, tmp_path):
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps(models["classifier"]))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).predict_labels(['My lamp is late'])[0])"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "clf.pkl"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(models["classifier"].predict_labels(["My lamp is late"])[0])


def test_skops_takes_what_holds_our_estimators(lm, start):
    skops = pytest.importorskip("skops.io")
    one = tiny_classifier(language_model=FrozenEstimator(start))
    y = np.array([["delivery" in row, "billing" in row] for row in LABELS]).astype(int)
    search = GridSearchCV(one, {"threshold": [0.3, 0.5]}, cv=2).fit(TEXTS, y)
    pipeline = make_pipeline(FunctionTransformer(), one).fit(TEXTS, y)
    vectors = make_pipeline(FrozenEstimator(start), tiny_classifier())
    fixed = FixedThresholdClassifier(FrozenEstimator(one))
    for model in (search, search.best_estimator_, pipeline, vectors, fixed, one):
        content = skops.dumps(model)
        other = skops.loads(content, trusted=untrusted_types(content))
        if hasattr(model, "predict_proba") and model not in (vectors, fixed, one):
            np.testing.assert_array_equal(other.predict_proba(TEXTS), model.predict_proba(TEXTS))


def test_what_may_hold_code_is_not_in_a_file_of_skops(tmp_path):
    skops = pytest.importorskip("skops.io")
    clf = tiny_classifier(memory=str(tmp_path), callbacks=[Note()], language_model=tiny_lm(teacher="folder"))
    content = skops.dumps(clf)
    other = skops.loads(content, trusted=untrusted_types(content))
    assert (other.memory, other.callbacks, other.language_model.teacher) == (None, None, None)
    assert other.lr == clf.lr


def hostile(state, *path, value):
    """Change one entry of a state, or take it away if `value` is Ellipsis."""
    *inner, last = path
    holder = state
    for key in inner:
        holder = holder[key]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return state


MODEL = ("_fitted", "model")
BROKEN = {
    "no parameter": (("lr",), ...),
    "no vocabulary": ((*MODEL, "vocabulary"), ...),
    "words that are numbers": ((*MODEL, "vocabulary"), "[1, 2]"),
    "no JSON": ((*MODEL, "config"), "{"),
    "nested JSON": ((*MODEL, "history"), "[" * 10_000 + "]" * 10_000),
    "another kind": ((*MODEL, "kind"), "language_model"),
    "no text": ((*MODEL, "config"), {}),
    "a later version": ((*MODEL, "format_version"), 99),
    "a huge version": ((*MODEL, "format_version"), 10**5000),
    "weights that are none": ((*MODEL, "weights"), []),
    "an array that is a list": ((*MODEL, "weights", "encoder.embedding.weight"), [[1.0]]),
    "an array of objects": ((*MODEL, "weights", "encoder.embedding.weight"), np.array([["x"]], object)),
    "an array of other size": ((*MODEL, "weights", "encoder.embedding.weight"), np.zeros((3, 3), np.float32)),
    "no array": ((*MODEL, "weights", "encoder.embedding.weight"), ...),
    "one array too many": ((*MODEL, "weights", "more"), np.zeros(3, np.float32)),
    "a setting that is no number": (("_fitted", "settings", "lr"), "fast"),
    "an unknown setting": (("_fitted", "settings", "more"), 1),
    "a seed with a fraction": (("_fitted", "settings", "seed"), 0.5),
    "no settings": (("_fitted", "settings"), None),
    "a direction that is none": (("_fitted", "direction"), "up"),
    "language models of another type": (("_fitted", "language_models"), [FrozenEstimator(3)]),
    "too many language models": (("_fitted", "language_models"), [1, 2]),
    "something learned that is unknown": (("_fitted", "more"), 1),
    "nothing that was learned": (("_fitted",), []),
    "a method": (("predict",), "x"),
    "a property": (("history_",), []),
    "a dunder": (("__class__",), int),
    "a parameter with code": (("memory",), "folder"),
    "a number as name": ((3,), 1),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.filterwarnings("error")
def test_a_broken_state_is_refused_with_one_error(models, what):
    path, value = BROKEN[what]
    state = hostile(copy.deepcopy(models["linear head"].__getstate__()), *path, value=value)
    with pytest.raises(ModelFileError, match="pickle or skops file of this ULMFiTMultiLabelClassifier") as error:
        ULMFiTMultiLabelClassifier.__new__(ULMFiTMultiLabelClassifier).__setstate__(state)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("state", [None, [], "x", {}, 3])
@pytest.mark.parametrize("kind", [ULMFiTMultiLabelClassifier, ULMFiTRegressor, ULMFiTLanguageModel])
def test_a_state_that_is_none_is_refused(kind, state):
    with pytest.raises(ModelFileError, match="does not describe a whole"):
        kind.__new__(kind).__setstate__(state)


STRANGE = (None, True, -1, 2**70, 1e308, float("nan"), "", "x", "[]", "{}", [], {}, [[]], b"x", (1,), np.nan)
STRANGE += (np.zeros(0), np.zeros((2, 2), np.float32), np.array("x"), np.array([None]), FrozenEstimator(1), Path("x"))


def leaves(value, path=()):
    """The paths of all entries of nested dicts."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))


@pytest.mark.parametrize("kind", ["linear head", "both", "language model", "tuner"])
@pytest.mark.filterwarnings("ignore")
def test_a_random_change_of_a_state_is_refused_or_harmless(models, kind):
    rng = np.random.default_rng(0)
    whole = models[kind].__getstate__()
    paths = [path for path in leaves(whole) if path and path[0] == "_fitted" and len(path) > 1]
    refused = 0
    for _ in range(150):
        path, value = paths[rng.integers(len(paths))], STRANGE[rng.integers(len(STRANGE))]
        if rng.random() < 0.3 and path[-1] in ("config", "history", "vocabulary"):
            text = whole["_fitted"]["model"][path[-1]]
            start, end = sorted(rng.integers(len(text), size=2).tolist())
            value = text[:start] + text[end:]
        state = hostile(copy.deepcopy(whole), *path, value=... if rng.random() < 0.1 else value)
        try:
            type(models[kind]).__new__(type(models[kind])).__setstate__(state)
        except ModelFileError:
            refused += 1
    assert refused > 30


def test_numbers_that_no_model_has_are_refused(models):
    for name, bad in [("encoder.embedding.weight", np.nan), ("head.bias", 1e30)]:
        state = copy.deepcopy(models["linear head"].__getstate__())
        state["_fitted"]["model"]["weights"][name][0] = bad
        with pytest.raises(ModelFileError, match=name):
            ULMFiTMultiLabelClassifier.__new__(ULMFiTMultiLabelClassifier).__setstate__(state)
    state = copy.deepcopy(models["language model"].__getstate__())
    state["_fitted"]["model"]["weights"]["decoder_bias"][0] = np.inf
    with pytest.raises(ModelFileError, match="decoder_bias"):
        ULMFiTLanguageModel.__new__(ULMFiTLanguageModel).__setstate__(state)


def test_a_tuner_refuses_what_it_cannot_have_learned(models):
    for name, value in [("names", []), ("names", ...), ("estimator", 3), ("score", "high"), ("cv_results", [])]:
        state = hostile(copy.deepcopy(models["tuner"].__getstate__()), "_fitted", name, value=value)
        with pytest.raises(ModelFileError, match="threshold tuner"):
            MultiLabelThresholdTuner.__new__(MultiLabelThresholdTuner).__setstate__(state)


def test_a_model_pickled_on_a_gpu_predicts_on_a_machine_without_one(models):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    clf = copy.copy(models["classifier"]).set_params(device="cuda")
    content = pickle.dumps(clf)
    with pytest.warns(UserWarning, match="device='cuda' is not available here; the CPU is used"):
        other = pickle.loads(content)
    assert other.device == "cuda"
    np.testing.assert_array_equal(other.predict_proba(TEXTS), clf.predict_proba(TEXTS))
