"""What is named survives saving by name, and what was loaded is what was fitted, in every later use."""

import pickle
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, _saved_parameters
from sk_ulmfit.models import ModelFileError

TEXTS, LABELS = make_corpus(24)
NAMES = ["billing", "delivery", "technical"]
BY_NAME = {"technical": 0.9, "billing": 0.1, "delivery": 0.4}
FORMS = {
    "dict": BY_NAME,
    "OrderedDict": OrderedDict(BY_NAME),
    "Series": pd.Series(BY_NAME),
    "Series of some labels": pd.Series(BY_NAME)[:2],
    "list": [0.1, 0.4, 0.9],
    "array": np.array([0.1, 0.4, 0.9]),
}


def saved_and_loaded(clf, folder):
    clf.save(folder / "model")
    return ULMFiTMultiLabelClassifier.load(folder / "model")


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(random_state=0).fit(TEXTS)


@pytest.mark.parametrize("form", FORMS)
def test_thresholds_and_weights_by_name_keep_their_labels(lm, tmp_path, form):
    value = FORMS[form]
    clf = tiny_classifier(language_model=lm, threshold=value, pos_weight=value, max_epochs=1).fit(TEXTS, LABELS)
    again = saved_and_loaded(clf, tmp_path)
    by_name = dict(value) if hasattr(value, "items") else dict(zip(NAMES, value, strict=True))
    wanted = {name: by_name.get(name, 0.5) for name in NAMES}
    assert dict(zip(clf.label_names_, clf.thresholds_, strict=True)) == wanted
    np.testing.assert_array_equal(again.thresholds_, clf.thresholds_)
    refitted = again.set_params(language_model=lm).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(refitted.predict_proba(TEXTS), clf.predict_proba(TEXTS))  # hence pos_weight too


def test_numbers_as_names_stay_numbers(lm, tmp_path):
    y = pd.DataFrame(np.eye(3)[np.arange(24) % 3], columns=[7, 3, 5])
    clf = tiny_classifier(language_model=lm, threshold=pd.Series({5: 0.9, 7: 0.1, 3: 0.4}), max_epochs=1).fit(TEXTS, y)
    assert clf.thresholds_.tolist() == [0.1, 0.4, 0.9]
    assert saved_and_loaded(clf, tmp_path).thresholds_.tolist() == [0.1, 0.4, 0.9]


def test_a_threshold_of_a_label_called_precision_stays_one(lm, tmp_path):
    y = [["precision" if label == "billing" else label for label in row] for row in LABELS]
    clf = tiny_classifier(language_model=lm, threshold=pd.Series({"precision": 0.9}), max_epochs=1).fit(TEXTS, y)
    assert clf.thresholds_.tolist() == [0.5, 0.9, 0.5]
    assert saved_and_loaded(clf, tmp_path).thresholds_.tolist() == [0.5, 0.9, 0.5]


@given(st.permutations(NAMES), st.lists(st.floats(0, 1), min_size=3, max_size=3))
@settings(max_examples=30)
def test_names_in_any_order_come_back_with_their_numbers(names, numbers):
    for form in (dict(zip(names, numbers, strict=True)), pd.Series(numbers, names)):
        parameters = {"language_model": None, "threshold": form, "pos_weight": form}
        again = _saved_parameters.from_json(_saved_parameters.to_json(parameters, names))
        assert again["threshold"] == again["pos_weight"] == dict(zip(names, numbers, strict=True))


@pytest.mark.parametrize("threshold", ["tune", "f1_micro", {"precision": 0.5}], ids=["tune", "a metric", "a precision"])
def test_what_thresholds_were_tuned_for_is_kept(lm, tmp_path, threshold):
    clf = tiny_classifier(language_model=lm, threshold=threshold, validation_fraction=0.3, max_epochs=1)
    again = saved_and_loaded(clf.fit(TEXTS, LABELS), tmp_path)
    assert again.threshold == threshold
    np.testing.assert_array_equal(again.thresholds_, clf.thresholds_)
    np.testing.assert_array_equal(again.set_thresholds(0.3).set_thresholds("tune").thresholds_, clf.thresholds_)
    with pytest.raises(ValueError, match="which chose thresholds for"):
        again.set_thresholds("f1_samples")


LATER_USES = {
    "fit": lambda lm: lm.fit(TEXTS),
    "clone": lambda lm: clone(lm).fit(TEXTS),
    "pickle": lambda lm: pickle.loads(pickle.dumps(lm)).fit(TEXTS),
    "classifier": lambda lm: clone(tiny_classifier(language_model=lm, lm_epochs=0)).fit(TEXTS, LABELS).language_model_,
    "frozen": lambda lm: clone(tiny_classifier(language_model=FrozenEstimator(lm))).fit(TEXTS, LABELS).language_model_,
}


def files_of_fastai(state, folder):
    """Write a language model as fastai does."""
    tensors = {
        "0.encoder.weight": state.weights["encoder.embedding.weight"],
        "1.decoder.bias": state.weights["decoder_bias"],
    }
    for layer in range(state.config["n_layers"]):
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            tensors[f"0.rnns.{layer}.module.{name}"] = state.weights[f"encoder.rnns.{layer}.{name}"]
        tensors[f"0.rnns.{layer}.weight_hh_l0_raw"] = state.weights[f"encoder.rnns.{layer}.weight_hh_l0"]
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, folder / "lm.pth")
    return folder / "lm.pth", state.vocabulary.words


@pytest.mark.parametrize("use", LATER_USES)
@pytest.mark.parametrize("source", ["file", "compact file", "fastai"])
def test_a_loaded_language_model_is_the_start_of_every_later_training(lm, tmp_path, use, source):
    if source == "fastai":
        loaded = ULMFiTLanguageModel.from_fastai(*files_of_fastai(lm.state_, tmp_path))
    else:
        lm.save(tmp_path / "lm", compact=source == "compact file")
        loaded = ULMFiTLanguageModel.load(tmp_path / "lm")
    start = loaded.state_
    trained = LATER_USES[use](loaded.set_params(max_epochs=0, min_frequency=1, random_state=1))
    assert trained.state_.config["emb_dim"] == 12
    for word in ("lamp", "parcel", "please"):
        rows = [s.weights["encoder.embedding.weight"][s.vocabulary.index(word)] for s in (trained.state_, start)]
        np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(
        trained.state_.weights["encoder.rnns.0.weight_hh_l0"], start.weights["encoder.rnns.0.weight_hh_l0"]
    )
    assert trained.pretrained_ is not None


@pytest.mark.parametrize(
    "wrap", [lambda lm: lm, FrozenEstimator, lambda lm: (lm, lm)], ids=["fitted", "frozen", "pair"]
)
def test_a_saved_classifier_starts_again_from_the_file_of_its_language_model(lm, tmp_path, wrap):
    lm.save(tmp_path / "lm")
    loaded = ULMFiTLanguageModel.load(tmp_path / "lm")
    direction = "forward"
    if isinstance(wrap(loaded), tuple):
        direction, loaded = "both", clone(loaded)
    clf = tiny_classifier(language_model=wrap(loaded), direction=direction, max_epochs=1, lm_epochs=0).fit(
        TEXTS, LABELS
    )
    again = saved_and_loaded(clf, tmp_path).fit(TEXTS, LABELS)
    assert again.language_model_.pretrained_ == str(tmp_path / "lm")


def test_a_saved_classifier_does_not_forget_silently_that_it_had_a_model_of_fastai(lm, tmp_path):
    converted = ULMFiTLanguageModel.from_fastai(*files_of_fastai(lm.state_, tmp_path))
    clf = tiny_classifier(language_model=converted, max_epochs=1).fit(TEXTS, LABELS)
    again = saved_and_loaded(clf, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    with pytest.raises(ModelFileError, match="a language model in memory, which is not part of the saved classifier"):
        again.fit(TEXTS, LABELS)


def test_a_size_that_the_start_does_not_have_is_refused(lm, tmp_path):
    lm.save(tmp_path / "lm")
    with pytest.raises(
        ValueError, match="emb_dim=400, but the model to start from has emb_dim=12; leave emb_dim at None"
    ):
        ULMFiTLanguageModel(tmp_path / "lm", emb_dim=400).fit(TEXTS)
    assert ULMFiTLanguageModel(tmp_path / "lm", emb_dim=12, max_epochs=0).fit(TEXTS).state_.config["hidden_dim"] == 16


@pytest.mark.parametrize("hidden_dim", [1151, 1152])
def test_any_size_that_is_given_means_random_weights(hidden_dim):
    model = ULMFiTLanguageModel(hidden_dim=hidden_dim, emb_dim=4, max_epochs=0, n_layers=2).fit(TEXTS)
    assert model.pretrained_ is None
    assert model.state_.config["hidden_dim"] == hidden_dim
