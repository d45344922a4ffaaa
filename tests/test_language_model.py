import math

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_lm
from sklearn.base import clone

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.assembly import build_language_model
from sk_ulmfit.models.state import ModelFileError, load_state
from sk_ulmfit.models.vocabulary import fit_vocabulary
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def texts():
    return make_corpus(80)[0]


@pytest.fixture(scope="module")
def trained(texts):
    return tiny_lm(max_epochs=6, lr=0.02, random_state=0).fit(texts)


def test_learns(texts, trained):
    untrained = tiny_lm(max_epochs=0, random_state=0).fit(texts)
    held_out = make_corpus(20, seed=9)[0]
    assert trained.perplexity(held_out) < untrained.perplexity(held_out) / 3
    losses = [row["train_loss"] for row in trained.history_]
    assert losses[-1] < losses[0]
    assert untrained.history_ == []


def test_score_is_minus_cross_entropy_per_token(texts, trained):
    state = trained.state_
    module = build_language_model(state.config, len(state.vocabulary), 0.0)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in state.weights.items()})
    module.eval()
    total, count = 0.0, 0
    sample = [*texts[:5], "", "lamp " * 2 + "hub " * 2 + " ".join("abcdefghijklmnopqrstuvwxyz")]
    corpus = encode_texts(sample, state.vocabulary, "en")
    for document in corpus:
        ids = torch.from_numpy(document.astype(np.int64))[None]
        if ids.shape[1] < 2:
            continue
        outputs, _ = module.encoder(ids[:, :-1], torch.tensor([ids.shape[1] - 1]))
        logits = outputs @ module.decoder_weight.T + module.decoder_bias
        total += torch.nn.functional.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item()
        count += ids.shape[1] - 1
    assert trained.score(sample) == pytest.approx(-total / count, rel=1e-5)
    assert trained.perplexity(sample) == pytest.approx(math.exp(total / count), rel=1e-4)
    assert trained.score(sample[::-1]) == pytest.approx(trained.score(sample), rel=1e-6)


def test_same_seed_same_model(texts):
    first, second, other = (tiny_lm(random_state=s).fit(texts) for s in (1, 1, 2))
    for name, array in first.state_.weights.items():
        assert np.array_equal(array, second.state_.weights[name])
    assert not np.array_equal(first.state_.weights["decoder_bias"], other.state_.weights["decoder_bias"])


def test_global_generators_are_left_as_they_were(texts):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    tiny_lm(random_state=0).fit(texts)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])


def test_save_and_load(tmp_path, texts, trained):
    trained.save(tmp_path / "lm")
    loaded = ULMFiTLanguageModel.load(tmp_path / "lm")
    assert loaded.score(texts) == pytest.approx(trained.score(texts), rel=1e-6)
    assert loaded.vocabulary_ == trained.vocabulary_
    assert loaded.history_ == trained.history_
    assert (loaded.emb_dim, loaded.hidden_dim, loaded.n_layers) == (12, 16, 2)


def test_fine_tuning_starts_from_the_saved_model(tmp_path, texts, trained):
    trained.save(tmp_path / "lm")
    same = ULMFiTLanguageModel(tmp_path / "lm", max_epochs=0, min_frequency=1).fit(texts)
    assert same.score(texts) == pytest.approx(trained.score(texts), rel=1e-5)
    new_texts = [*texts, "zebra zebra giraffe giraffe"]
    grown = ULMFiTLanguageModel(tmp_path / "lm", max_epochs=0).fit(new_texts)
    assert "zebra" in grown.vocabulary_
    assert "flickering" in grown.vocabulary_  # words of the old model stay
    tuned = ULMFiTLanguageModel(tmp_path / "lm", max_epochs=2, random_state=0).fit(new_texts)
    assert tuned.score(new_texts) > grown.score(new_texts)


def test_words_keep_their_rows_and_new_words_get_the_mean():
    rng = np.random.default_rng(0)
    old, new = Vocabulary(["a", "b", "c"]), Vocabulary(["c", "new", "a"])
    weights = {
        "encoder.embedding.weight": rng.normal(size=(16, 4)).astype(np.float32),
        "decoder_bias": rng.normal(size=16).astype(np.float32),
        "encoder.rnns.0.weight_hh_l0": rng.normal(size=(16, 4)).astype(np.float32),
    }
    fitted = fit_vocabulary(weights, old, new)
    for name in ("encoder.embedding.weight", "decoder_bias"):
        for word in ("a", "c", "xxbos"):
            assert np.array_equal(fitted[name][new.index(word)], weights[name][old.index(word)])
        assert np.allclose(fitted[name][new.index("new")], weights[name].mean(0))
        assert "b" not in new
    assert fitted["encoder.rnns.0.weight_hh_l0"] is weights["encoder.rnns.0.weight_hh_l0"]


def test_language_comes_with_the_model(tmp_path):
    texts = ["Das ist z.B. schön"] * 4
    tiny_lm(max_epochs=0, language="de").fit(texts).save(tmp_path / "lm")
    tuned = ULMFiTLanguageModel(tmp_path / "lm", max_epochs=0).fit(texts)
    assert tuned.state_.config["language"] == "de"
    assert "z.b." in tuned.vocabulary_


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_epochs": -1}, "max_epochs must be an integer at least 0 or None, got -1"),
        ({"lr": "fast"}, "lr must be a number at least 0, got 'fast'"),
        ({"n_layers": 0}, "n_layers must be an integer at least 1"),
        ({"vocab_size": 8}, "vocab_size must be an integer at least 16"),
        ({"schedule": "stlr"}, "schedule must be one of 'slanted_triangular', 'one_cycle'; got 'stlr'"),
        ({"language": "klingon"}, "language='klingon' is not usable"),
        ({"device": "tpu!"}, "device must be 'auto' or a device of torch"),
        ({"pretrained": "/no/such/file"}, "There is no file /no/such/file"),
    ],
)
def test_bad_parameters(texts, params, message):
    with pytest.raises(ValueError, match=message):
        tiny_lm(**params).fit(texts)


def test_texts_without_words():
    lm = tiny_lm(max_epochs=1)
    with pytest.raises(ValueError, match="only 2 tokens"):
        lm.fit(["", ""])
    assert not hasattr(lm, "state_")
    lm.fit(["a b c d", ""])
    with pytest.raises(ValueError, match="X holds no words"):
        lm.score(["", ""])


def test_unfitted_and_clone(texts, trained):
    with pytest.raises(ValueError, match="not fitted"):
        tiny_lm().score(texts)
    assert not hasattr(clone(trained), "state_")


def test_interrupt_leaves_it_as_it_was(monkeypatch, texts):
    from sk_ulmfit.training.net import LanguageModelNet

    lm = tiny_lm(random_state=0).fit(texts)
    before = lm.state_

    def interrupt(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(LanguageModelNet, "get_loss", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lm.fit(texts)
    assert lm.state_ is before


def test_a_classifier_file_is_not_a_language_model(tmp_path, fitted):
    fitted.save(tmp_path / "clf")
    with pytest.raises(ModelFileError, match="holds a classifier, not a language model"):
        load_state(tmp_path / "clf", "language_model")


def test_a_file_that_does_not_tell_its_direction_reads_forward(tmp_path, corpus):
    lm = tiny_lm(pretrained=None, max_epochs=3, random_state=0).fit(corpus[0])
    expected = lm.perplexity(corpus[0])
    del lm.state_.config["direction"]
    lm.save(tmp_path / "old")
    assert ULMFiTLanguageModel.load(tmp_path / "old").perplexity(corpus[0]) == pytest.approx(expected)
    assert ULMFiTLanguageModel(tmp_path / "old", max_epochs=0).fit(corpus[0]).perplexity(corpus[0]) > 0


def test_a_large_vocabulary_of_the_start_is_kept_whole():
    texts = [" ".join(f"w{i}" for i in range(k, k + 50)) for k in range(0, 40_000, 50)]
    large = tiny_lm(max_epochs=0, vocab_size=50_000, min_frequency=1).fit(texts)
    assert len(large.vocabulary_) > 40_000
    again = ULMFiTLanguageModel(large.state_, max_epochs=0).fit(["w1 w2 unseen", "unseen w3"])
    assert set(large.vocabulary_.words) <= {*again.vocabulary_.words, *(f"xxfake{i}" for i in range(8))}
    assert {"unseen"} <= set(again.vocabulary_.words)
    assert len(ULMFiTLanguageModel(large.state_, max_epochs=0, vocab_size=1_000).fit(texts).vocabulary_) == 1_000
