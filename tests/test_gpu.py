"""What must hold on a GPU; skipped where there is none."""

import signal

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models.assembly import build_language_model
from sk_ulmfit.nn import pooling
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.pretraining import pretrain
from sk_ulmfit.training.net import LanguageModelNet, net_arguments
from sk_ulmfit.training.settings import TrainingSettings

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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_compute_the_function_of_the_cpu(precision, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    encoder = AWDLSTM(50, 24, 32, 3, weight_p=0.0)
    ids, lengths = torch.randint(0, 50, (4, 9)), torch.tensor([9, 9, 5, 1])
    tolerance = 1e-4 if precision == "float32" else 3e-2
    results = []
    for device in ("cpu", "cuda"):
        encoder.to(device).zero_grad()
        outputs, state = encoder(ids.to(device), lengths, precision="float32" if device == "cpu" else precision)
        outputs.square().sum().backward()
        gradients = {name: p.grad.to_dense().cpu() for name, p in encoder.named_parameters()}
        results.append((outputs.detach().cpu(), state[1][1].detach().float().cpu(), gradients))
    (plain, plain_state, wanted), (found, found_state, gradients) = results
    assert (found - plain).abs().max() < tolerance
    assert (found_state - plain_state).abs().max() < tolerance
    for name, gradient in gradients.items():
        assert (gradient - wanted[name]).norm() < tolerance * (1 + wanted[name].norm()), name


def test_weights_lie_in_one_piece(recwarn):
    encoder = AWDLSTM(50, 24, 32, 2, weight_p=0.5).cuda()
    ids, lengths = torch.randint(0, 50, (4, 9)).cuda(), torch.tensor([9, 9, 9, 9])
    for precision in ("float32", "bfloat16"):
        outputs, _ = encoder(ids, lengths, precision=precision)
        outputs.sum().backward()
    assert not [w for w in recwarn if "contiguous" in str(w.message)]


def test_a_step_does_not_wait_for_the_gpu():
    texts, labels = make_corpus(40)
    clf = tiny_classifier(max_epochs=1).fit(texts, labels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        lm = build_language_model({"emb_dim": 12, "hidden_dim": 16, "n_layers": 2}, 64, 1.0)
        settings = TrainingSettings.of(tiny_lm(), seed=0, device="cuda")
        net = LanguageModelNet(lm, bptt=10, batch_size=4, pad_id=1, **net_arguments(settings))
        net.initialize()
        net.state_ = None
        net.module_.train()
        batch = {"ids": torch.randint(0, 64, (4, 10)).cuda(), "lengths": torch.full((4,), 10)}
        net.train_step((batch, torch.randint(0, 64, (4, 10)).cuda()))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(clf.history_[-1]["train_loss"])


def test_the_frozen_encoder_way():
    texts, labels = make_corpus(40)
    clf = tiny_classifier(unfreezing="head", max_epochs=3).fit(texts, labels)
    assert np.isfinite(clf.predict_proba(texts)).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pretraining_stops_goes_on_and_gives_a_model_for_the_cpu(precision, tmp_path):
    texts = make_corpus(200)[0]
    (tmp_path / "corpus.txt").write_text("\n\n".join(texts))
    options = {"emb_dim": 16, "hidden_dim": 32, "batch_size": 8, "bptt": 10, "epochs": 15, "lr": 0.02}
    options |= {"precision": precision, "checkpoint_minutes": 0, "min_frequency": 1}

    def stop(line):
        if "loss" in line:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path / "corpus.txt", tmp_path / "run", **options, say=stop)
    state = pretrain(tmp_path / "corpus.txt", tmp_path / "run", **options)
    assert state.history[-1]["valid_loss"] < 1.5  # a uniform guess among 30 words: 3.4
    lm = ULMFiTLanguageModel.load(tmp_path / "run" / "model.safetensors", device="cpu")
    on_gpu = ULMFiTLanguageModel.load(tmp_path / "run" / "model.safetensors", device="cuda")
    assert lm.score(texts) == pytest.approx(on_gpu.score(texts), rel=1e-3)


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_explanations_are_those_of_the_cpu(method, tmp_path):
    texts, labels = make_corpus(40)
    clf = tiny_classifier(max_epochs=6).fit(texts, labels)
    clf.save(tmp_path / "model")
    on_cpu = ULMFiTMultiLabelClassifier.load(tmp_path / "model", device="cpu")
    for ours, theirs in zip(
        clf.explain(texts[:5], "delivery", method), on_cpu.explain(texts[:5], "delivery", method), strict=True
    ):
        assert np.abs(ours.scores - theirs.scores).max() < 0.02
