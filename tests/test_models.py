import itertools
import json
import os
import pickle
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from conftest import tiny_lm
from fuzz import fastai_files
from torch import nn

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models.fastai import load_fastai
from sk_ulmfit.models.state import ModelFileError, ModelState, load_state, save_state
from sk_ulmfit.models.vocabulary import fit_vocabulary
from sk_ulmfit.nn.modules import AWDLSTM
from sk_ulmfit.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def state():
    return tiny_lm(random_state=0).fit(["the lamp is on", "the hub is off"] * 5).state_


def test_round_trip(state, tmp_path):
    save_state(state, tmp_path / "model")
    loaded = load_state(tmp_path / "model", "language_model")
    assert (loaded.config, loaded.history, loaded.vocabulary) == (state.config, state.history, state.vocabulary)
    assert loaded.weights.keys() == state.weights.keys()
    assert all(np.array_equal(loaded.weights[name], array) for name, array in state.weights.items())
    assert os.listdir(tmp_path) == ["model"]


def test_a_model_may_be_read_by_whoever_may_read_a_new_file(state, tmp_path):
    save_state(state, tmp_path / "model")
    (tmp_path / "plain").touch()
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_file_is_plain_safetensors(state, tmp_path):
    from safetensors.numpy import load_file

    save_state(state, tmp_path / "model")
    assert load_file(tmp_path / "model").keys() == state.weights.keys()


def test_files_that_do_not_describe_a_whole_model_are_refused(state, tmp_path):
    path = tmp_path / "m"
    save_state(ModelState("language_model", {}, state.vocabulary, state.weights), path)
    with pytest.raises(ModelFileError, match="not describe a whole language model"):
        ULMFiTLanguageModel.load(path)
    save_state(ModelState("language_model", state.config, Vocabulary(map(str, range(30))), state.weights), path)
    with pytest.raises(ModelFileError, match="16 embeddings for 40 words"):
        ULMFiTLanguageModel.load(path)


@pytest.mark.parametrize("where", ["header", "word", "tensor", "end"])
def test_damaged_files_are_refused(state, tmp_path, where):
    path = tmp_path / "model"
    save_state(state, path)
    data = bytearray(path.read_bytes())
    if where == "header":
        data[200] ^= 0xFF
    elif where == "word":
        data[:] = data.replace(b"lamp", b"bulk", 1)
    elif where == "tensor":
        data[-100] ^= 1
    else:
        del data[-50:]
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        load_state(path, "language_model")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 500, pickle.dumps({"a": 1}), b"\x02\0\0\0\0\0\0\0{}"])
def test_foreign_files_are_refused_and_never_overwritten(state, tmp_path, content):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    for load in (ULMFiTLanguageModel.load, ULMFiTMultiLabelClassifier.load):
        with pytest.raises(ModelFileError, match="is not a model of sk_ulmfit"):
            load(path)
    if content:
        with pytest.raises(ModelFileError, match="exists and is not a model of sk_ulmfit; choose another name"):
            save_state(state, path)
        assert path.read_bytes() == content


def test_a_model_is_not_overwritten_if_that_is_ruled_out(state, fitted, tmp_path):
    for save in (partial(save_state, state), fitted.save, fitted.language_model_.save):
        path = tmp_path / "model"
        save(path, overwrite=False)
        before = path.read_bytes()
        with pytest.raises(ModelFileError, match="already exists; pass overwrite=True to replace it"):
            save(path, overwrite=False)
        with pytest.raises(ValueError, match="overwrite must be True or False"):
            save(path, overwrite=1)
        assert path.read_bytes() == before
        path.unlink()


def test_another_safetensors_file_is_foreign(state, tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ModelFileError, match="is not a model"):
        load_state(tmp_path / "other", "language_model")


def test_a_model_may_be_replaced_and_a_failed_write_keeps_the_old(state, tmp_path, monkeypatch):
    path = tmp_path / "model"
    save_state(state, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(ModelFileError, match=r"could not be written \(disk full\)"):
        save_state(state, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model"]
    monkeypatch.undo()
    other = {**state.config, "language": "de"}
    save_state(ModelState("language_model", other, state.vocabulary, state.weights), path)
    assert load_state(path, "language_model").config == other


def test_places_that_cannot_be_written(state, tmp_path):
    with pytest.raises(ModelFileError, match="is a folder; give the name of a file"):
        save_state(state, tmp_path)
    with pytest.raises(ModelFileError, match="is not writable; choose another place"):
        save_state(state, "/proc/model")
    with pytest.raises(ModelFileError, match="does not exist; create it first"):
        save_state(state, tmp_path / "no" / "model")
    with pytest.raises(ModelFileError, match="There is no file"):
        load_state(tmp_path / "none", "language_model")
    with pytest.raises(ModelFileError, match="is a folder"):
        load_state(tmp_path, "language_model")


def test_later_formats_are_refused(state, tmp_path):
    save_state(state, tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    assert b'"format_version":"1"' in content
    (tmp_path / "model").write_bytes(content.replace(b'"format_version":"1"', b'"format_version":"6"'))
    with pytest.raises(ModelFileError, match="later version of sk_ulmfit; upgrade sk-ulmfit"):
        load_state(tmp_path / "model", "language_model")


# --- encoders published for fastai ------------------------------------------

FASTAI_WORDS = ["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj", "the", "lamp", "hub"]
FASTAI_WORDS += ["xxfake"] * 4


def published(style="v2", n_hid=11, bias=True, words=FASTAI_WORDS):
    """A state dict with fastai's names, and the plain torch layers behind it."""
    torch.manual_seed(0)
    n, emb = len(words), 6
    sizes = [emb, n_hid, n_hid, emb]
    layers = [nn.LSTM(a, b, batch_first=True) for a, b in itertools.pairwise(sizes)]
    embedding = torch.randn(n, emb)
    copy = "0.encoder_dp.emb.weight" if style == "v2" else "0.encoder_with_dropout.embed.weight"
    tensors = {"0.encoder.weight": embedding, copy: embedding, "1.decoder.weight": embedding}
    for i, layer in enumerate(layers):
        raw = f"0.rnns.{i}.weight_hh_l0_raw" if style == "v2" else f"0.rnns.{i}.module.weight_hh_l0_raw"
        tensors[raw] = layer.weight_hh_l0.detach()
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            tensors[f"0.rnns.{i}.module.{name}"] = getattr(layer, name).detach()
        if style == "v2":
            tensors[f"0.rnns.{i}.module.weight_hh_l0"] = torch.zeros_like(layer.weight_hh_l0)  # stale copy
    if bias:
        tensors["1.decoder.bias"] = torch.randn(n)
    return tensors, layers, embedding


@pytest.mark.parametrize("style", ["v2", "0.7"])
@pytest.mark.parametrize("n_hid", [11, 1150, 1152])
def test_fastai_encoders_compute_the_same(tmp_path, style, n_hid):
    tensors, layers, embedding = published(style, n_hid)
    torch.save(tensors, tmp_path / "lstm.pth")
    (tmp_path / "itos.json").write_text(json.dumps(FASTAI_WORDS))
    weights, vocabulary = load_fastai(tmp_path / "lstm.pth", tmp_path / "itos.json")
    encoder = AWDLSTM(len(vocabulary), 6, n_hid, 3).eval()
    encoder.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    ids = torch.tensor([[2, 9, 10, 11, 9]])
    x = embedding[ids]
    for layer in layers:
        x, _ = layer(x)
    outputs, _ = encoder(ids, torch.tensor([5]))
    assert torch.allclose(outputs, x, atol=1e-6, rtol=0)
    assert vocabulary.words[:12] == FASTAI_WORDS[:12]
    assert len(set(vocabulary.words)) == len(vocabulary)


def test_damaged_encoders_and_odd_vocabularies(tmp_path):
    path = tmp_path / "lstm.pth"
    torch.save(published()[0], path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ModelFileError, match="nothing was loaded"):
        load_fastai(path, FASTAI_WORDS)
    torch.save({name: nn.Parameter(t) for name, t in published()[0].items()}, path)
    words = ["[", *FASTAI_WORDS[1:]]
    (tmp_path / "itos.txt").write_text("\n".join(words))
    assert load_fastai(path, tmp_path / "itos.txt")[1].words[0] == "["
    (tmp_path / "itos.json").write_text('{"the": 0}')
    with pytest.raises(ModelFileError, match="must be a JSON list of words"):
        load_fastai(path, tmp_path / "itos.json")
    lm = ULMFiTLanguageModel.from_fastai(path, FASTAI_WORDS, language="de")
    assert lm.state_.config["language"] == "de"


def test_old_marker_names_and_missing_bias_and_wrapping(tmp_path):
    words = ["_unk_", "_pad_", "xbos", "xfld", "t_up", "tk_rep", "tk_wrep", "the"]
    tensors, _, embedding = published("0.7", bias=False, words=words)
    torch.save({"model": tensors, "opt": {"state": {}}}, tmp_path / "lstm.pth")
    (tmp_path / "itos.txt").write_text("\n".join(words) + "\n")
    lm = ULMFiTLanguageModel.from_fastai(tmp_path / "lstm.pth", tmp_path / "itos.txt")
    vocabulary = lm.vocabulary_
    assert (vocabulary.unk, vocabulary.pad, vocabulary.index("xxrep"), vocabulary.index("the")) == (0, 1, 5, 7)
    assert len(vocabulary) == 16  # xxmaj and fillers are added
    added = lm.state_.weights["encoder.embedding.weight"][vocabulary.index("xxmaj")]
    assert np.allclose(added, embedding.mean(0), atol=1e-6)
    assert not lm.state_.weights["decoder_bias"].any()
    assert np.isfinite(lm.score(["the the"]))


def test_a_fastai_model_carries_a_classifier(tmp_path, corpus):
    from conftest import tiny_classifier

    torch.save(published()[0], tmp_path / "lstm.pth")
    lm = ULMFiTLanguageModel.from_fastai(tmp_path / "lstm.pth", FASTAI_WORDS)
    lm.save(tmp_path / "lm")
    clf = tiny_classifier(language_model=tmp_path / "lm", lm_epochs=1, max_epochs=2).fit(*corpus)
    assert clf.net_.module_.encoder.rnns[0].hidden_size == 11
    assert "flickering" in clf.vocabulary_


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("0.rnns.1.module.bias_ih_l0"), "has no tensor '0.rnns.1.module.bias_ih_l0'"),
        (
            lambda t: t.update({"0.rnns.2.module.weight_ih_l0": torch.zeros(24, 5)}),
            r"shape \(24, 5\), expected 24 x 11",
        ),
        (lambda t: t.update({"0.rnns.0.linear.weight": torch.zeros(1)}), "is a QRNN"),
        (lambda t: t.update({"1.decoder.bias": torch.zeros(3)}), "expected 16"),
        (lambda t: t.update({"0.encoder.weight": torch.zeros(5, 6)}), "5 rows, but the vocabulary has 16 words"),
        (lambda t: t.clear(), "has no tensor '0.encoder.weight'"),
        (lambda t: t.update(x="text"), "is not a state dict"),
        (lambda t: t.update({3: torch.zeros(1)}), "is not a state dict.*a int as name"),
        (lambda t: t.update(x={"y": torch.zeros(1)}), "is not a state dict.*the entry 'x' is a dict"),
        (
            lambda t: t.update({"1.decoder.bias": torch.ones(16, dtype=torch.int64)}),
            "has dtype int64, expected float32",
        ),
        (lambda t: t.update({"1.decoder.bias": torch.ones(16, dtype=torch.complex64)}), "has dtype complex64"),
        (lambda t: t.update({"1.decoder.bias": torch.ones(16).to_sparse()}), "'1.decoder.bias'.* sparse or nested"),
        (lambda t: t.update({"1.decoder.bias": torch.empty(16, device="meta")}), "'1.decoder.bias' has no values"),
        (lambda t: t.update({"1.decoder.bias": torch.ones(1).expand(16)}), r"shape \(16,\), but fewer values"),
        (
            lambda t: t.update({"1.decoder.bias": torch.full((16,), torch.nan)}),
            "'1.decoder.bias' holds values that are NaN",
        ),
        (
            lambda t: t.update({"1.decoder.bias": torch.full((16,), 1e300, dtype=torch.float64)}),
            "holds values that are",
        ),
        (lambda t: t.update({"0.encoder.weight": torch.zeros(16, 0)}), r"\(16, 0\), which holds no values"),
        (
            lambda t: t.update({"0.rnns.0.weight_hh_l0_raw": torch.ones(40, 11)}),
            "recurrent weights of layer 0.*44 x 11",
        ),
        (lambda t: t.update({f"0.rnns.{'9' * 5000}.x": torch.ones(1)}), "has LSTM layers 0, 1, 2, 999"),
        (lambda t: t.update({"0.rnns.٣.x": torch.ones(1)}), "has LSTM layers 0, 1, 2, ٣; layers 0, 1, ... were"),
        (lambda t: t.update({f"0.rnns.1.{n}": torch.zeros(20, 5) for n in ("weight_hh_l0_raw",)}), "layer 1 is 5 wide"),
    ],
)
def test_wrong_state_dicts_are_refused(tmp_path, change, message):
    tensors = published()[0]
    change(tensors)
    torch.save(tensors, tmp_path / "lstm.pth")
    with pytest.raises(ModelFileError, match=message):
        load_fastai(tmp_path / "lstm.pth", FASTAI_WORDS)


def test_layers_that_share_their_values_cannot_fill_the_memory(tmp_path):
    tensors = published()[0]
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("0.rnns.")}
    for layer in range(800):
        for name, shape in (("weight_hh_l0_raw", (24, 6)), ("module.weight_ih_l0", (24, 6))):
            tensors[f"0.rnns.{layer}.{name}"] = tensors.setdefault("x", torch.ones(10_000))[:144].view(shape)
        for name in ("bias_ih_l0", "bias_hh_l0"):
            tensors[f"0.rnns.{layer}.module.{name}"] = tensors["x"][:24]
    torch.save(tensors, tmp_path / "lstm.pth")
    with pytest.raises(ModelFileError, match="share their values"):
        load_fastai(tmp_path / "lstm.pth", FASTAI_WORDS)


def test_damage_in_an_archive_is_named(tmp_path):
    path = tmp_path / "lstm.pth"
    torch.save(published()[0], path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        values = next(entry for entry in archive.infolist() if entry.filename.endswith("/data/0"))
    place = whole.index(published()[0]["0.encoder.weight"].numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ModelFileError, match=f"checksum of '{values.filename}' is wrong"):
        load_fastai(path, FASTAI_WORDS)
    with zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small:
        small.writestr("lstm/data/0", bytes(10**7))
    with pytest.raises(ModelFileError, match="is compressed"):
        load_fastai(tmp_path / "small.pth", FASTAI_WORDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (None, "must be a list of words in id order, or a file; got a NoneType"),
        (np.array(3), "got a ndarray"),
        (dict.fromkeys(FASTAI_WORDS, 0), "got a dict"),
        (set(FASTAI_WORDS), "got a set"),
        ([], "has no words"),
        ([*FASTAI_WORDS[:-1], 3], "entry 15 is a int"),
        ([*FASTAI_WORDS[:-1], "the"], "has 'the' twice, as words 9 and 15"),
        ([*FASTAI_WORDS[:-1], "_unk_"], "has 'xxunk' twice, as words 0 and 15"),
        ([*FASTAI_WORDS[:-1], "\ud83d"], "half a character in word 15"),
        (FASTAI_WORDS[:-1], "16 rows, but the vocabulary has 15 words"),
    ],
)
def test_wrong_vocabularies_are_refused(tmp_path, words, message):
    torch.save(published()[0], tmp_path / "lstm.pth")
    with pytest.raises(ModelFileError, match=message):
        load_fastai(tmp_path / "lstm.pth", words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the\nlamp".encode("utf-16"), "cannot be read as UTF-8"),
        (b"[" * 100_000, "16 rows, but the vocabulary has 1 words"),
        (b"[1, 2]", "entry 0 is a int"),
        (None, "There is no file"),
    ],
)
def test_wrong_files_of_words_are_refused(tmp_path, content, message):
    torch.save(published()[0], tmp_path / "lstm.pth")
    if content is not None:
        (tmp_path / "itos").write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        load_fastai(tmp_path / "lstm.pth", tmp_path / "itos")


def test_mutated_files_are_refused_or_loaded_and_raise_nothing_else():
    assert fastai_files.run(60, seed=1).keys() <= fastai_files.EXPECTED


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("evil",))


def test_nothing_from_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.encoder.weight": Evil()}, "lstm.pth")
    with pytest.raises(ModelFileError, match="nothing was loaded"):
        load_fastai("lstm.pth", FASTAI_WORDS)
    (tmp_path / "itos.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save(published()[0], "good.pth")
    with pytest.raises(ModelFileError, match="is a pickle"):
        load_fastai("good.pth", "itos.pkl")
    assert not (tmp_path / "evil").exists()
    with pytest.raises(ModelFileError, match="There is no file"):
        load_fastai("none.pth", FASTAI_WORDS)


def test_vocabulary_is_kept_whole(state, tmp_path):
    odd = Vocabulary([*state.vocabulary.words, "ü", "\\xxpad", '"', "😀"])
    weights = fit_vocabulary(state.weights, state.vocabulary, odd)
    save_state(ModelState("language_model", state.config, odd, weights), tmp_path / "m")
    assert load_state(tmp_path / "m", "language_model").vocabulary == odd
