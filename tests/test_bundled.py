import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from skorch.callbacks import Callback

import sk_ulmfit.models.bundled
from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.language_model import find_start
from sk_ulmfit.models.bundled import bundled_models, default_model, model_file
from sk_ulmfit.models.state import ModelFileError

TEXTS, LABELS = make_corpus(30)


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """A folder of two tiny models, of different width, named as the bundled ones."""
    folder = tmp_path_factory.mktemp("models")
    for name, width in (("en", 12), ("en-small", 6)):
        lm = tiny_lm(pretrained=None, emb_dim=width, max_epochs=15, lr=0.03, random_state=0)
        lm.fit(TEXTS).save(folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def stand_ins(tiny_models, tmp_path, monkeypatch):
    """Copies of the tiny models in place of the bundled ones."""
    monkeypatch.setattr(sk_ulmfit.models.bundled, "FOLDER", tmp_path)
    shutil.copytree(tiny_models, tmp_path, dirs_exist_ok=True)
    return tmp_path


def width_of(model):
    return model.state_.config["emb_dim"]


def test_auto_is_the_large_model_on_a_gpu_and_the_small_one_on_a_cpu(stand_ins):
    assert default_model("en", "cuda").stem == "en"
    assert default_model("en", "cpu").stem == "en-small"
    assert default_model("de", "cpu") is None


def test_auto_takes_what_is_there(stand_ins):
    (stand_ins / "en.safetensors").unlink()
    assert default_model("en", "cuda").stem == "en-small"
    assert bundled_models() == ["en-small"]
    (stand_ins / "en-small.safetensors").unlink()
    assert default_model("en", "cpu") is None


def test_a_default_language_model_starts_from_the_bundled_one(stand_ins):
    lm = ULMFiTLanguageModel(max_epochs=0).fit(TEXTS)
    assert Path(lm.pretrained_).stem == "en-small"
    assert width_of(lm) == 6
    assert lm.perplexity(TEXTS) < 0.7 * ULMFiTLanguageModel(None, max_epochs=0, emb_dim=6).fit(TEXTS).perplexity(TEXTS)


@pytest.mark.parametrize("asked", [{"emb_dim": 10}, {"hidden_dim": 10}, {"n_layers": 1}, {"language": "de"}])
def test_auto_is_from_scratch_for_sizes_and_languages_it_has_no_model_for(stand_ins, asked):
    assert find_start(ULMFiTLanguageModel()).state is not None
    assert find_start(ULMFiTLanguageModel(language="en", vocab_size=100)).state is not None
    assert find_start(ULMFiTLanguageModel(**asked)).state is None


def test_models_are_named_and_paths_of_the_same_name_are_still_paths(stand_ins, tmp_path, monkeypatch):
    assert width_of(ULMFiTLanguageModel("en", max_epochs=0).fit(TEXTS)) == 12
    assert width_of(ULMFiTLanguageModel.load("en-small")) == 6
    assert model_file(Path("en")) == Path("en")
    assert width_of(ULMFiTLanguageModel.load("auto")) == 6
    with pytest.raises(ModelFileError, match="no file"):
        ULMFiTLanguageModel("no-such-model").fit(TEXTS)
    (stand_ins / "en.safetensors").unlink()
    with pytest.raises(ModelFileError, match="'en' does not come with this installation, which has 'en-small'"):
        ULMFiTLanguageModel("en").fit(TEXTS)


class Watch(Callback):
    """Note, in each epoch, how many layer groups are trained, and the rates of the first step."""

    def __init__(self):
        self.trained, self.rates = [], []

    def on_batch_begin(self, net, training=False, **kwargs):
        if len(self.trained) < len(net.history):
            self.trained.append(sum(group[0].requires_grad for group in net.module_.layer_groups()))
            self.rates.append([group["lr"] for group in net.optimizer_.param_groups])


@pytest.mark.parametrize(("language_model", "width"), [("auto", 6), ("en", 12)])
def test_the_classifier_takes_names_too_and_unfreezes_a_bundled_body_gradually(stand_ins, language_model, width):
    watch = Watch()
    clf = ULMFiTMultiLabelClassifier(language_model, max_epochs=3, lm_epochs=0, bptt=10, callbacks=[watch])
    assert width_of(clf.fit(TEXTS, LABELS).language_model_) == width
    assert watch.trained == [2, 3, 4]  # the embedding from the first epoch
    embedding, *others = watch.rates[0]
    assert embedding > others[-1]
    assert others == sorted(set(others))
    scratch = Watch()
    tiny_classifier(language_model=tiny_lm(pretrained=None), callbacks=[scratch]).fit(TEXTS, LABELS)
    assert len(set(scratch.trained)) == 1


def test_a_path_called_like_a_bundled_model_stays_a_path_in_a_saved_classifier(stand_ins, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_lm(pretrained=None, emb_dim=9).fit(TEXTS).save("en")
    tiny_classifier(language_model=Path("en"), lm_epochs=0).fit(TEXTS, LABELS).save("model")
    again = ULMFiTMultiLabelClassifier.load("model")
    assert width_of(again.fit(TEXTS, LABELS).language_model_) == 9


def test_a_compact_file_is_a_quarter_as_large_and_nearly_the_same_model(tmp_path):
    lm = ULMFiTLanguageModel(None, max_epochs=3, emb_dim=64, hidden_dim=96, n_layers=2, random_state=0).fit(TEXTS)
    lm.save(tmp_path / "plain")
    lm.save(tmp_path / "compact", compact=True)
    sizes = [(tmp_path / name).stat().st_size for name in ("plain", "compact")]
    assert sizes[1] < 0.35 * sizes[0]
    again = ULMFiTLanguageModel.load(tmp_path / "compact")
    assert again.perplexity(TEXTS) == pytest.approx(lm.perplexity(TEXTS), rel=0.01)
    for name, array in lm.state_.weights.items():
        found = again.state_.weights[name]
        assert found.dtype == array.dtype
        step = np.abs(array).max(axis=-1, keepdims=True) / 127
        assert np.abs(found - array).max() <= (step.max() / 2 * 1.001 if array.ndim == 2 else 0)
    again.save(tmp_path / "twice", compact=True)
    twice = ULMFiTLanguageModel.load(tmp_path / "twice")
    for name, array in again.state_.weights.items():
        assert np.allclose(twice.state_.weights[name], array, atol=1e-6)


def test_a_compact_row_of_zeros_stays_zero(tmp_path):
    lm = tiny_lm(pretrained=None).fit(TEXTS)
    lm.state_.weights["encoder.embedding.weight"][3] = 0
    lm.save(tmp_path / "compact", compact=True)
    assert not ULMFiTLanguageModel.load(tmp_path / "compact").state_.weights["encoder.embedding.weight"][3].any()


def test_the_bundled_model_knows_english_better_than_the_order_of_words_at_random():
    model = ULMFiTLanguageModel.load("en-small")
    text = "The city lies on the northern bank of the river, and most of its people work in the port."
    words = text.split()
    shuffled = " ".join(words[k] for k in np.random.default_rng(0).permutation(len(words)))
    assert model.perplexity([text]) < 150 < model.perplexity([shuffled])
    assert model.state_.config["pretraining"]["source"].startswith("enwiki-core-2015.jsonl.xz")
