"""What must hold on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTMultiLabelClassifier, pooling

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_auto_takes_the_gpu_and_predicts_as_on_the_cpu(tmp_path):
    texts, labels = make_corpus(40)
    clf = tiny_classifier().fit(texts, labels)
    assert next(clf.net_.module_.parameters()).is_cuda
    assert clf.language_model_.history_
    clf.save(tmp_path / "model")
    on_cpu = ULMFiTMultiLabelClassifier.load(tmp_path / "model", device="cpu")
    assert np.abs(on_cpu.predict_proba(texts) - clf.predict_proba(texts)).max() < 1e-4


def test_predictions_do_not_depend_on_neighbours():
    texts, labels = make_corpus(40)
    clf = tiny_classifier(max_epochs=1).fit(texts, labels)
    mixed = [text * (1 + i % 4) for i, text in enumerate(texts)]
    alone = np.concatenate([clf.predict_proba([text]) for text in mixed])
    assert np.abs(clf.predict_proba(mixed) - alone).max() < 1e-5


def test_two_passes_train_like_one_graph(monkeypatch):
    texts, labels = make_corpus(20)
    lm = tiny_lm(random_state=0).fit(texts)
    losses = []
    for graph_tokens in (0, 10**9):
        monkeypatch.setattr(pooling, "GRAPH_TOKENS", graph_tokens)
        clf = tiny_classifier(language_model=lm, dropout_multiplier=0.0).fit(texts, labels)
        losses.append([row["train_loss"] for row in clf.history_])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_language_model_scores_alike():
    texts = make_corpus(30)[0]
    lm = tiny_lm(random_state=0).fit(texts)
    score = lm.score(texts)
    assert lm.set_params(device="cpu").score(texts) == pytest.approx(score, rel=1e-4)
