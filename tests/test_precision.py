import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.nn import kernels, modules, precision
from sk_ulmfit.nn.precision import prediction_precision, training_precision, widest_layer
from sk_ulmfit.training.batching import DocumentDataset


@pytest.fixture
def machine(monkeypatch):
    """Set what the processor can do."""

    def set_capabilities(**found):
        monkeypatch.setattr(precision, "_cpu_capabilities", lambda: found)
        monkeypatch.setattr(precision, "has_packed_8bit", lambda: True)

    return set_capabilities


GOOD = {"bfloat16": 0.001, "int8": 0.004}


@pytest.mark.parametrize(
    ("found", "training", "prediction"),
    [
        ({}, "float32", "float32"),
        ({"avx512_bf16": True, "avx512_vnni": True}, "bfloat16", "bfloat16"),
        ({"amx_bf16": True}, "bfloat16", "bfloat16"),
        ({"avx_vnni": True}, "float32", "int8"),
        ({"avx512_vnni": True}, "float32", "int8"),
    ],
)
def test_auto_takes_what_the_processor_is_fast_at(machine, found, training, prediction):
    machine(**found)
    assert training_precision("auto", "cpu", 1152) == training
    assert prediction_precision("auto", "cpu", 1152, GOOD) == prediction


def test_auto_keeps_float32_where_the_shift_is_large_unknown_or_the_encoder_narrow(machine):
    machine(avx512_bf16=True)
    assert prediction_precision("auto", "cpu", 1152, {}) == "float32"
    assert prediction_precision("auto", "cpu", 1152, {"bfloat16": 0.006}) == "float32"
    assert prediction_precision("auto", "cpu", 32, GOOD) == "float32"
    assert training_precision("auto", "cpu", 32) == "float32"
    machine(avx512_vnni=True)
    assert prediction_precision("auto", "cpu", 1152, {"bfloat16": 0.001, "int8": 0.02}) == "float32"


def test_what_the_user_asks_for_is_done(machine):
    machine()
    assert prediction_precision("int8", "cpu", 32, {}) == "int8"
    assert training_precision("bfloat16", "cpu", 32) == "bfloat16"
    assert training_precision("int8", "cpu", 1152) == "float32"
    with pytest.raises(ValueError, match=r"on the CPU only, got device 'cuda'\. Pass precision='auto'"):
        prediction_precision("int8", "cuda", 1152, {})


@pytest.mark.parametrize("estimator", [tiny_lm, tiny_classifier])
@pytest.mark.parametrize("value", ["float16", "bf16", None, 16])
def test_unknown_precision_is_refused(estimator, value):
    with pytest.raises(ValueError, match="precision must be one of 'auto', 'float32', 'bfloat16'"):
        estimator(precision=value).fit(*make_corpus(8))


def test_a_classifier_learns_and_predicts_in_16_and_8_bits(fitted, tmp_path):
    texts, labels = make_corpus(60, seed=11)
    lm = tiny_lm(emb_dim=24, hidden_dim=32, precision="bfloat16")
    clf = tiny_classifier(language_model=lm, max_epochs=20, dropout_multiplier=0.1, precision="bfloat16")
    clf.fit(*make_corpus(120, seed=7))
    assert clf.score(texts, labels) > 0.9
    exact = clf.set_params(precision="float32").predict_proba(texts)
    for name in ("bfloat16", "int8"):
        found = clf.set_params(precision=name).predict_proba(texts)
        assert 0 < np.abs(found - exact).max() < 0.05
        alone = np.concatenate([clf.predict_proba([text]) for text in texts[:5]])
        assert np.abs(alone - found[:5]).max() < 2e-3
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.precision == "int8"
    assert np.array_equal(loaded.predict_proba(texts), found)


@pytest.mark.parametrize("pair", [("float32", "bfloat16"), ("float32", "int8"), ("bfloat16", "int8")])
def test_threads_predict_in_different_precisions_at_once(fitted, pair, monkeypatch):
    texts = [" ".join(make_corpus(12, seed=seed)[0]) for seed in range(4)]  # each several windows long
    models = [copy.copy(fitted).set_params(precision=name) for name in pair]  # one network
    assert models[0].net_ is models[1].net_
    alone = [model.predict_proba(texts) for model in models]
    assert not np.array_equal(*alone)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(lambda model: [model.predict_proba(texts) for _ in range(25)], models))
    finally:
        sys.setswitchinterval(interval)
    for expected, results in zip(alone, together, strict=True):
        assert all(np.array_equal(expected, result) for result in results)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_predict_in_their_own_precision(fitted, duplicate):
    texts = make_corpus(20, seed=3)[0]
    exact = fitted.predict_proba(texts)
    rounded = duplicate(fitted).set_params(precision="int8").predict_proba(texts)
    assert np.array_equal(fitted.predict_proba(texts), exact)
    assert not np.array_equal(rounded, exact)


def test_a_language_model_scores_alike_in_16_bits():
    texts, _ = make_corpus(60)
    lm = tiny_lm(max_epochs=5, emb_dim=24, hidden_dim=32, precision="bfloat16", random_state=0).fit(texts)
    exact = lm.set_params(precision="float32").score(texts)
    assert lm.set_params(precision="bfloat16").score(texts) == pytest.approx(exact, rel=0.01)
    plain = tiny_lm(max_epochs=5, emb_dim=24, hidden_dim=32, precision="float32", random_state=0).fit(texts)
    assert plain.score(texts) == pytest.approx(exact, rel=0.05)


def test_shifts_are_measured_at_fit_and_saved(monkeypatch, tmp_path, machine):
    monkeypatch.setitem(precision.NARROWEST_PREDICTED, "bfloat16", 16)
    machine(avx512_bf16=True)
    texts, labels = make_corpus(40)
    clf = tiny_classifier().fit(texts, labels)
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    exact = loaded.set_params(precision="float32").predict_proba(texts)
    in_16_bits = loaded.set_params(precision="bfloat16").predict_proba(texts)
    found = loaded.set_params(precision="auto").predict_proba(texts)
    assert np.array_equal(found, in_16_bits)
    assert not np.array_equal(found, exact)
    assert np.abs(found - exact).max() < precision.LARGEST_SHIFT


def test_kernels_are_probed_without_an_error(monkeypatch):
    monkeypatch.setattr(kernels.torch, "ops", None)
    assert kernels.has_packed_16bit.__wrapped__() is False
    assert kernels.has_packed_8bit.__wrapped__() is False


def test_precision_is_checked_again_when_it_is_changed(fitted):
    clf = copy.copy(fitted).set_params(precision="bf16")
    with pytest.raises(ValueError, match="precision must be one of 'auto'"):
        clf.predict_proba(["My lamp is late"])
    lm = tiny_lm().fit(make_corpus(8)[0]).set_params(precision="bf16")
    with pytest.raises(ValueError, match="precision must be one of 'auto'"):
        lm.score(["My lamp is late"])


def test_widest_layer():
    assert widest_layer({"emb_dim": 200, "hidden_dim": 1152, "n_layers": 1}) == 200
    assert widest_layer({"emb_dim": 400, "hidden_dim": 1152, "n_layers": 3}) == 1152
    assert widest_layer({"emb_dim": 400, "hidden_dim": 100, "n_layers": 2}) == 400


@pytest.mark.parametrize("choose", [training_precision, lambda *args: prediction_precision(*args, {})])
def test_16_bits_are_refused_where_no_one_has_tried_them(choose):
    with pytest.raises(ValueError, match="for the CPU and for CUDA devices, got device 'mps'"):
        choose("bfloat16", "mps", 1152)


def test_the_net_of_a_classifier_predicts_in_float32():
    texts, labels = make_corpus(40)
    clf = tiny_classifier(precision="bfloat16").fit(texts, labels)
    exact = clf.set_params(precision="float32").predict_proba(texts)
    clf.set_params(precision="bfloat16").predict_proba(texts)
    net = clf.net_.set_params(precision="bfloat16")  # that of its training
    through_skorch = net.predict_proba(DocumentDataset(clf.language_model_.state_.encode(texts)))
    assert np.abs(through_skorch - exact).max() < 1e-6


@pytest.mark.skipif(not kernels.has_packed_16bit(), reason="16-bit layers of our own need their kernels")
def test_reduced_weights_are_made_once_for_many_predictions(monkeypatch):
    made = []
    make = modules._layer16
    monkeypatch.setattr(modules, "_layer16", lambda *args: made.append(args) or make(*args))
    texts, y = make_corpus(40)
    clf = tiny_classifier(precision="bfloat16").fit(texts, y)
    clf.predict_proba(texts)
    n_made = len(made)
    first = clf.predict_proba(texts[:1])
    assert len(made) == n_made > 0
    clf.net_.module_.encoder.train().eval()
    np.testing.assert_array_equal(clf.predict_proba(texts[:1]), first)
    assert len(made) > n_made
