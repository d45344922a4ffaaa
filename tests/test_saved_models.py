"""Models that version 0.1.0 wrote load and predict as they did then."""

import json
from pathlib import Path

import numpy as np
import pytest

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier

FOLDER = Path(__file__).parent / "saved_models"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED["proba"])
def test_a_classifier_of_version_0_1_predicts_as_it_did(name):
    clf = ULMFiTMultiLabelClassifier.load(FOLDER / f"{name}.model")
    np.testing.assert_allclose(clf.predict_proba(EXPECTED["texts"]), EXPECTED["proba"][name], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(EXPECTED["texts"]), EXPECTED["decisions"][name])
    np.testing.assert_allclose(clf.thresholds_, EXPECTED["thresholds"][name], rtol=1e-12)
    assert clf.metadata_ == {"note": "made by 0.1.0"}


@pytest.mark.parametrize("name", EXPECTED["perplexity"])
def test_a_language_model_of_version_0_1_scores_as_it_did(name):
    model = ULMFiTLanguageModel.load(FOLDER / f"{name}.model")
    assert model.perplexity(EXPECTED["texts"][:4]) == pytest.approx(EXPECTED["perplexity"][name], rel=1e-6)
