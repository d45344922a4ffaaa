"""Training, explaining and loading work in torch.inference_mode, and what comes out works outside too."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.lr_finder import lr_find

TEXTS, LABELS = make_corpus(30, seed=2)


def scores(clf):
    return [explanation.scores for explanation in clf.explain(TEXTS[:2])]


def made(how, tmp_path):
    """A fitted classifier, most of whose work is done where this is called."""
    if how == "fit":
        return tiny_classifier(max_epochs=1).fit(TEXTS, LABELS)
    with torch.inference_mode(False):
        clf = tiny_classifier(max_epochs=1).fit(TEXTS, LABELS)
        clf.save(tmp_path / "model")
        content = pickle.dumps(clf)
    if how == "load":
        return ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    return pickle.loads(content) if how == "unpickle" else copy.deepcopy(clf)


@pytest.mark.parametrize("how", ["fit", "load", "unpickle", "deepcopy"])
def test_a_classifier_made_in_inference_mode_is_that_made_outside(how, tmp_path):
    expected = tiny_classifier(max_epochs=1).fit(TEXTS, LABELS)
    with torch.inference_mode():
        clf = made(how, tmp_path)
        inside = clf.predict_proba(TEXTS)
        explained = scores(clf)
        assert torch.is_inference_mode_enabled()
    assert not any(parameter.is_inference() for parameter in clf.net_.module_.parameters())
    for proba in (inside, clf.predict_proba(TEXTS)):
        assert np.array_equal(proba, expected.predict_proba(TEXTS))
    for found in (explained, scores(clf)):
        assert all(map(np.array_equal, found, scores(expected)))
    clf.fit(TEXTS, LABELS)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_reduced_precision_inside_then_outside(fitted, precision):
    clf = copy.deepcopy(fitted).set_params(precision=precision)
    with torch.inference_mode():
        inside = clf.predict_proba(TEXTS)
    assert np.array_equal(clf.predict_proba(TEXTS), inside)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_language_model_and_range_test(mode, tmp_path):
    expected = tiny_lm(random_state=0).fit(TEXTS)
    expected.save(tmp_path / "lm")
    with mode():
        lm = tiny_lm(random_state=0).fit(TEXTS)
        loaded = ULMFiTLanguageModel.load(tmp_path / "lm")
        inside = lm.score(TEXTS)
        curve = lr_find(tiny_classifier(), TEXTS, LABELS, n_steps=20, start_lr=1e-4)
    assert lm.score(TEXTS) == inside == expected.score(TEXTS)
    assert loaded.score(TEXTS) == pytest.approx(inside, rel=1e-6)  # in windows of another length
    outside = lr_find(tiny_classifier(), TEXTS, LABELS, n_steps=20, start_lr=1e-4)
    assert np.array_equal(curve.losses, outside.losses)
    tiny_classifier(language_model=lm, max_epochs=1).fit(TEXTS, LABELS)
