"""Teachers from folders of sentence-transformers, which is an extra: without it these tests are skipped."""

import json
import socket
import string

import numpy as np
import pytest
import torch

from sk_ulmfit.pretraining import PretrainingError, passage_files
from sk_ulmfit.pretraining.teacher_vectors import BlockTask, read_block, write_vectors
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.training.teacher import load_teacher

pytest.importorskip("sentence_transformers")

LONGEST = 16  # word pieces that the model reads, its two marks included


def save_model(folder, *, dense=False, seed=0):
    """Write a small BERT with random weights, whose words are letters, as sentence-transformers does."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase)]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=LONGEST, **sizes))
    bert.save_pretrained(folder / "plain")
    fast.save_pretrained(folder / "plain")
    transformer = Transformer(str(folder / "plain"), max_seq_length=LONGEST)
    modules = [transformer, Pooling(16, "mean"), *([Dense(16, 6)] if dense else [])]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model", model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("tiny"))


TEXTS = ["lamp", "the hub is off", "a " * 30, "red", "it is late again and again", "on"] * 20


@pytest.mark.parametrize("dense", [False, True])
def test_vectors_are_those_of_sentence_transformers_whatever_its_modules(tmp_path, dense, monkeypatch, capfd, recwarn):
    folder, model = save_model(tmp_path, dense=dense)
    capfd.readouterr()
    recwarn.clear()

    def no_network(*args, **kwargs):
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    teacher = load_teacher(folder, "cpu")
    sizes = []
    vectors = teacher.vectors(TEXTS, sizes.append)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert sum(sizes) == len(TEXTS)
    assert max(sizes) > 1
    assert teacher.n_dims == (6 if dense else 16)
    expected = model.encode(TEXTS, normalize_embeddings=True)
    assert vectors.dtype == np.float32
    assert (vectors * expected).sum(axis=1).min() > 0.999  # 16 bits, where the processor is faster at them


def test_a_text_ends_where_the_teacher_stops_reading(tiny):
    teacher = load_teacher(tiny[0], "cpu")
    assert teacher.readable("a lamp") == "a lamp"
    assert teacher.readable("a b c d e f g h i j k l m n") == "a b c d e f g h i j k l m n"  # 14 and two marks
    assert teacher.readable("a b c d e f g h i j k l m n o") == "a b c d e f g h i j k l m n"
    assert teacher.readable("a b c d e f g h i j k l mnopq r") == "a b c d e f g h i j k l"  # no half words


def test_the_fingerprint_is_that_of_the_weights(tiny, tmp_path):
    import hashlib

    weights = (tiny[0] / "model.safetensors").read_bytes()
    assert load_teacher(tiny[0], "cpu").fingerprint == hashlib.sha256(weights).hexdigest()
    other, _ = save_model(tmp_path, seed=1)
    assert load_teacher(other, "cpu").fingerprint != hashlib.sha256(weights).hexdigest()


def test_code_of_the_folder_is_not_run(tmp_path):
    folder, _ = save_model(tmp_path)
    (folder / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "modeling_evil.Evil"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="cannot be loaded as a sentence-transformers model") as raised:
        load_teacher(folder, "cpu")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_damaged_are_refused_in_one_line(tmp_path):
    folder, _ = save_model(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be loaded as a sentence-transformers model") as raised:
        load_teacher(folder, "cpu")
    assert "\n" not in str(raised.value)


def test_one_process_and_two_write_the_same_vectors_and_finished_blocks_are_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(passage_files, "BLOCK", 25)
    torch.set_num_threads(1)
    texts = [TEXTS[start : start + 25] for start in range(0, len(TEXTS), 25)]

    def write(folder, **options):
        folder.mkdir(exist_ok=True)
        teacher = load_teacher(tiny[0], "cpu")
        write_vectors(folder, "vectors", len(TEXTS), texts.__getitem__, teacher, said.append, WorkerSettings(**options))
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    said = []
    one = write(tmp_path / "one")
    assert len(one) == 5
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "vectors-00003.npy").write_bytes(one["vectors-00003.npy"])
    time = (tmp_path / "two" / "vectors-00003.npy").stat().st_mtime_ns
    assert write(tmp_path / "two", n_jobs=2) == one
    assert (tmp_path / "two" / "vectors-00003.npy").stat().st_mtime_ns == time


def test_a_worker_with_another_teacher_is_noticed(tiny, tmp_path):
    teacher = load_teacher(tiny[0], "cpu")
    task = BlockTask(0, ["lamp"], teacher.folder, "of another model", "cpu", 1)
    with pytest.raises(PretrainingError, match="holds another model for a worker than here"):
        read_block(task)
