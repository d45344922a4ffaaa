"""Texts as vectors: ULMFiTLanguageModel as a transformer of scikit-learn."""

import pickle
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import make_corpus, tiny_lm, with_vector
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer, Normalizer

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.assembly import restore_language_model
from sk_ulmfit.text import StreamedTexts, encoding

TEXTS, LABELS = make_corpus(30, seed=4)
Y = MultiLabelBinarizer().fit_transform(LABELS)


@pytest.fixture(scope="module")
def lm():
    """A fitted language model; tests must not change it."""
    return tiny_lm(random_state=0).fit(TEXTS)


@pytest.fixture(scope="module")
def bundled():
    return ULMFiTLanguageModel.load("en-small")


def copied(lm, **params):
    return pickle.loads(pickle.dumps(lm)).set_params(**params)


def formula(lm, text):
    """Pool the outputs over one text, of the first of two layers and the words if the model has a vector."""
    module = restore_language_model(lm.state_, "cpu")
    ids = torch.from_numpy(lm.state_.encode([text]).ids.astype(np.int64))[None]
    with torch.no_grad():
        embedded = module.encoder.embed(ids, None)
        if module.vector is None:
            (outputs,), _ = module.encoder(ids, torch.tensor([ids.shape[1]]))
            return torch.cat([outputs[-1], outputs.amax(0), outputs.mean(0)]).numpy()
        first, _ = module.encoder.rnns[0](embedded)
        words = embedded * module.vector.word_weight[ids]
        return module.vector(torch.cat([first.mean(1), words.mean(1)], 1))[0].numpy()


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dim", [None, 6])
def test_vectors_are_the_pooled_outputs_of_all_tokens(direction, dim, tmp_path):
    lm = tiny_lm(random_state=0, direction=direction).fit(TEXTS)
    if dim is not None:
        lm = with_vector(lm, tmp_path / "lm", dim)
    texts = [*TEXTS[:4], "", "lamp", "lamp hub " * 300]
    vectors = lm.transform(texts)
    assert vectors.shape == (7, dim or 36)
    assert len(lm.get_feature_names_out()) == (dim or 36)
    assert vectors.dtype == np.float32
    for vector, text in zip(vectors, texts, strict=True):
        assert np.allclose(vector, formula(lm, text), atol=1e-5)
    assert lm.transform([]).shape == (0, dim or 36)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("dim", [None, 64])
def test_a_row_does_not_depend_on_the_others(bundled, precision, dim, tmp_path):
    lm = copied(bundled if dim is None else with_vector(bundled, tmp_path / "lm", dim), precision=precision)
    texts = [*TEXTS[:8], "", "lamp", "the lamp is off and the hub is on " * 30]
    vectors = lm.transform(texts)
    assert np.array_equal(vectors, np.concatenate([lm.transform([text]) for text in texts]))
    assert np.array_equal(vectors[::-1], lm.transform(texts[::-1]))
    assert np.array_equal(vectors[3:10], lm.transform(texts[3:10]))


@pytest.mark.parametrize(
    "container",
    [
        tuple,
        np.array,
        lambda texts: np.array(texts, object),
        pd.Series,
        pl.Series,
        lambda texts: StreamedTexts(lambda: iter(texts), len(texts)),
    ],
    ids=["tuple", "array", "objects", "pandas", "polars", "stream"],
)
def test_every_form_of_texts(lm, container):
    assert np.array_equal(lm.transform(container(TEXTS)), lm.transform(TEXTS))


@pytest.mark.parametrize("nothing", [[], np.array([], str), pd.Series([], dtype=str), StreamedTexts(list, 0)])
def test_no_texts(lm, nothing):
    vectors = lm.transform(nothing)
    assert (vectors.shape, vectors.dtype) == ((0, 36), np.float32)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"X must be a sequence of raw texts, got a single str. Wrap it in a list: \[X\]."),
        (["a", None], r"X\[1\] is None"),
        (pd.DataFrame({"text": ["a"], "more": ["b"]}), "Pass one text column, for example X\\['text'\\]"),
        (3, "X must be a 1-D sequence of raw texts, got a int"),
    ],
)
def test_what_is_no_text(lm, texts, message):
    with pytest.raises(ValueError, match=message) as raised:
        lm.transform(texts)
    assert "\n" not in str(raised.value)


def test_unfitted_and_parameters_that_are_not_valid(lm):
    with pytest.raises(ValueError, match="not fitted"):
        tiny_lm().transform(TEXTS)
    with pytest.raises(ValueError, match="not fitted"):
        tiny_lm().get_feature_names_out()
    for params, message in [
        ({"precision": "int8"}, "precision must be one of"),
        ({"device": "tpu!"}, "device must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            copied(lm, **params).transform(TEXTS)


def test_parameters_of_training_are_not_asked(lm):
    other = copied(lm, bptt=3, batch_size=1, max_epochs=7, random_state=5, verbose=0)
    assert np.array_equal(other.transform(TEXTS), lm.transform(TEXTS))


def test_bfloat16_is_close(lm):
    exact = lm.transform(TEXTS)
    rounded = copied(lm, precision="bfloat16").transform(TEXTS)
    assert 0 < np.abs(rounded - exact).max() < 0.02


def test_names_and_output(lm):
    assert lm.get_feature_names_out().tolist() == [f"ulmfitlanguagemodel{k}" for k in range(36)]
    own = copied(lm)
    for kind, frame in [("pandas", pd.DataFrame), ("polars", pl.DataFrame)]:
        found = own.set_output(transform=kind).transform(TEXTS)
        assert isinstance(found, frame)
        assert list(found.columns) == lm.get_feature_names_out().tolist()
        assert np.array_equal(found.to_numpy(), lm.transform(TEXTS))
    series = pd.Series(TEXTS[:3], index=[7, 8, 9])
    assert own.set_output(transform="pandas").transform(series).index.tolist() == [7, 8, 9]


def test_a_loaded_model_transforms_without_fit(lm, tmp_path, bundled):
    lm.save(tmp_path / "lm")
    loaded = ULMFiTLanguageModel.load(tmp_path / "lm")
    assert np.array_equal(loaded.transform(TEXTS), lm.transform(TEXTS))
    assert bundled.transform(["The lamp is broken."]).shape == (1, len(bundled.get_feature_names_out()))


def test_fit_transform(lm):
    assert np.array_equal(tiny_lm(random_state=0).fit_transform(TEXTS), lm.transform(TEXTS))


# --- In scikit-learn's tools


def logistic():
    return OneVsRestClassifier(LogisticRegression(max_iter=1000))


def test_a_pipeline_trains_the_language_model(lm):
    pipe = make_pipeline(tiny_lm(random_state=0), logistic()).fit(TEXTS, Y)
    assert np.array_equal(pipe[:-1].transform(TEXTS), lm.transform(TEXTS))
    assert pipe.predict(TEXTS).shape == pipe.predict_proba(TEXTS).shape == Y.shape
    assert not hasattr(clone(pipe)[0], "state_")


def test_a_frozen_language_model_stays_as_it_is(lm):
    before = lm.transform(TEXTS)
    pipe = clone(make_pipeline(FrozenEstimator(lm), logistic())).fit(TEXTS[::-1], Y)
    assert np.array_equal(pipe[:-1].transform(TEXTS), before)
    assert pipe[0].estimator is lm


def test_without_epochs_only_words_that_the_start_does_not_know_have_other_vectors(lm, tmp_path):
    lm.save(tmp_path / "lm")
    again = ULMFiTLanguageModel(tmp_path / "lm", max_epochs=0).fit([*TEXTS, "zebra zebra"])
    assert np.array_equal(again.transform(TEXTS), lm.transform(TEXTS))
    assert not np.array_equal(again.transform(["zebra"]), lm.transform(["zebra"]))


def test_grid_search(lm):
    search = GridSearchCV(
        make_pipeline(FrozenEstimator(lm), logistic()),
        {"onevsrestclassifier__estimator__C": [0.1, 10.0]},
        scoring="average_precision",
        cv=KFold(2, shuffle=True, random_state=0),
    ).fit(TEXTS, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    trained = GridSearchCV(make_pipeline(tiny_lm(), logistic()), {"ulmfitlanguagemodel__emb_dim": [4, 8]}, cv=2)
    best = trained.fit(TEXTS, Y).best_estimator_[0]
    assert len(best.get_feature_names_out()) == 3 * best.emb_dim


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_column_transformer(lm, output):
    frame = pd.DataFrame({"age": range(30), "text": TEXTS}, index=range(5, 35))
    columns = ColumnTransformer([("vector", FrozenEstimator(copied(lm)), "text")], remainder="passthrough")
    found = columns.set_output(transform=output).fit_transform(frame)
    assert found.shape == (30, 37)
    assert columns.get_feature_names_out()[0] == "vector__ulmfitlanguagemodel0"
    assert np.array_equal(np.asarray(found)[:, :36].astype(np.float32), lm.transform(TEXTS))


def test_search_and_clusters(lm):
    vectors = lm.transform(TEXTS)
    index = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors)
    nearest = index.kneighbors(lm.transform(TEXTS[:5]), return_distance=False)[:, 0]
    assert np.allclose(vectors[nearest], vectors[:5])
    clusters = make_pipeline(FrozenEstimator(lm), Normalizer(), KMeans(2, random_state=0)).fit_predict(TEXTS)
    assert set(clusters) == {0, 1}


# --- Memory


def peak_of_a_stream(lm, n):
    """Return the peak of numpy's and Python's memory in a transform of n texts that are made one by one."""
    stream = StreamedTexts(lambda: (f"the lamp {k} and the hub are on " * 40 for k in range(n)), n)
    tracemalloc.start()
    try:
        assert lm.transform(stream).shape == (n, 36)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_length_of_a_stream(lm, monkeypatch):
    monkeypatch.setattr(encoding, "_TEXTS_AT_ONCE", 16)
    peak_of_a_stream(lm, 16)  # fills caches
    short, long = peak_of_a_stream(lm, 100), peak_of_a_stream(lm, 400)
    assert long - short < 200_000  # 3.8 MB of texts and 1.5 MB of ids more
