import hashlib
import html
import json
import multiprocessing
import random
import re
import signal
import sys
import time
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.pretraining import PretrainingError, passage_files, teacher_vectors
from sk_ulmfit.pretraining.passage_files import open_passages, write_passages
from sk_ulmfit.pretraining.passages import (
    SHARES,
    Passage,
    PassageSettings,
    WeightedCorpus,
    draw_passages,
)
from sk_ulmfit.pretraining.principal_components import components
from sk_ulmfit.pretraining.teacher_data import prepare_teacher_data
from sk_ulmfit.pretraining.teacher_folder import prepare_passages
from sk_ulmfit.pretraining.teacher_vectors import TeacherVectors, write_vectors
from sk_ulmfit.pretraining.word_vectors import start_of_embedding
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.packing import pack_corpus
from sk_ulmfit.text.passages import LONGEST_PASSAGE, SHORTEST_SENTENCE, cut, split_long
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.training.components import targets
from sk_ulmfit.training.teacher import FunctionTeacher, load_teacher

WORDS = ["lamp", "hub", "The", "is", "on", "off", "red", "late", "Mr.", "U.S.", "&amp;", "it's", "parcel", "a"]
VOCABULARY = Vocabulary([word.lower() for word in WORDS])
DIM = 12


def silent(line):
    pass


def encode(texts):
    """Return a vector that depends on each text alone."""
    return np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=DIM) for text in texts])


def write_corpus(file, seed, n):
    rng = random.Random(seed)
    documents = []
    for _ in range(n):
        document = ""
        for _ in range(rng.randint(1, 40)):
            document += " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2, 5, 9, 20, 30])))
            document += rng.choice([". ", "! ", "?” ", "\n"])
        if rng.random() < 0.05:
            document += " ".join(["word"] * 450)
        documents.append(document)
    file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents), encoding="utf-8")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    write_corpus(folder / "first.jsonl", 0, 300)
    write_corpus(folder / "second.en.jsonl", 1, 150)
    return WeightedCorpus(folder / "first.jsonl", 3), WeightedCorpus(folder / "second.en.jsonl", 1.5)


def teacher_data_in(
    folder, corpora, *, n=60, teacher=encode, say=silent, backward=False, vocabulary=VOCABULARY, **options
):
    settings = PassageSettings(corpora, n, **options)
    return prepare_teacher_data(
        folder, settings, load_teacher(teacher, "cpu"), vocabulary, "en", backward, WorkerSettings(), say
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- Passages

documents = st.lists(
    st.tuples(
        st.sampled_from([*WORDS, "e.g.", "Dr.", "&lt;b&gt;", "wow…", "x" * 50]),
        st.sampled_from([" ", " ", " ", ". ", "? ", "!) ", "\n", "\n\n", "\t"]),
    ),
    max_size=700,
).map(lambda parts: "".join(word + end for word, end in parts))


@given(documents, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_passages_hold_the_words_of_a_document_in_order(document, seed):
    words, passages = html.unescape(document).split(), list(cut(document, SHARES, random.Random(seed)))
    cut_words = [word for passage in passages for word in passage.split()]
    assert cut_words == words[: len(cut_words)]
    assert len(words) - len(cut_words) < SHORTEST_SENTENCE
    assert all(0 < len(passage.split()) <= LONGEST_PASSAGE for passage in passages)
    assert all(passage == passage.strip() for passage in passages)


@pytest.mark.parametrize("n_words", [0, 1, 200, 201, 399, 700])
@pytest.mark.parametrize("seed", range(5))
def test_long_texts_are_split_and_short_ones_left_as_they_are(n_words, seed):
    rng = random.Random(seed)
    text = " ".join(rng.choices(["word", "end.", "Dr.", "stop!"], [seed + 1, 1, 1, 1], k=n_words))
    parts, words = split_long(text), text.split()
    if len(words) <= LONGEST_PASSAGE:
        assert parts == ([text] if words else [])
        return
    split_words = " ".join(parts).split()
    assert split_words == words[: len(split_words)]
    assert len(words) - len(split_words) < SHORTEST_SENTENCE
    assert all(len(part.split()) <= LONGEST_PASSAGE for part in parts)


def test_each_length_has_its_limit():
    sentences = [f"The lamp is number {i}. " for i in range(600)]

    def lengths(*shares):
        """Return the numbers of sentences of five words in each passage but the last."""
        return {len(passage.split()) / 5 for passage in list(cut("".join(sentences), shares, random.Random(0)))[:-1]}

    assert lengths(1, 0, 0, 0) == {1}
    assert lengths(0, 1, 0, 0) == {2}
    assert lengths(0, 0, 1, 0) == {4, 5, 6}
    long = lengths(0, 0, 0, 1)
    assert min(long) >= 20
    assert max(long) <= 40
    assert len(long) > 5


def test_passages_are_drawn_by_weight_and_always_the_same(corpora):
    passages = draw_passages(PassageSettings(corpora, 500), lambda text: text[:700], silent)
    names = [passage.corpus for passage in passages]
    assert (names.count("first"), names.count("second")) == (325, 167)  # of 333 and 167, without repeated ones
    assert len(set(passages)) == len(passages)
    assert "first" in names[:10]
    assert "second" in names[:10]
    text = "\n".join(passage.text for passage in passages)
    assert hashlib.blake2b(text.encode(), digest_size=16).hexdigest() == "93b1b3e5cbdeb63734fbd1d3d468d320"
    other = draw_passages(PassageSettings(corpora, 500, seed=1), lambda text: text[:700], silent)
    assert {passage.text for passage in other} != {passage.text for passage in passages}


def test_passages_come_back_from_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(passage_files, "BLOCK", 3)
    texts = ["The lamp\nis on.", "über", "\ud800 lone", "a\u2028b", "five", "six", "seven"]
    write_passages(tmp_path, [Passage("c", text) for text in texts])
    passages = open_passages(tmp_path)
    assert passages.sizes == [3, 3, 1]
    assert list(passages.texts()) == [text.replace("\ud800", "?") for text in texts]


def test_an_earlier_settings_file_without_the_field_is_accepted(corpora, tmp_path):
    teacher_data_in(tmp_path, corpora)
    saved = json.loads((tmp_path / "settings.json").read_text())
    assert list(saved["corpora"].values()) == [3.0, 1.5]
    del saved["field"]
    (tmp_path / "settings.json").write_text(json.dumps(saved))
    teacher_data_in(tmp_path, corpora, say=pytest.fail)


# --- A run that is killed


@pytest.fixture(scope="module")
def whole(corpora, tmp_path_factory):
    """The files of an unbroken run, in blocks of 16."""
    folder = tmp_path_factory.mktemp("whole") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passage_files, "BLOCK", 16)
        teacher_data_in(folder, corpora)
    return contents(folder)


class KilledError(BaseException):
    """Stands for the end of a process."""


@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_any_file_it_ends_alike(corpora, whole, tmp_path, monkeypatch, after):
    """The run stops at the end of a file, before or after the file gets its name."""
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    real = passage_files.atomic_write

    @contextmanager
    def stopping(path):
        n_left[0] -= 1
        with real(path) as file:
            yield file
            if n_left[0] == 0 and not after:
                raise KilledError
        if n_left[0] == 0:
            raise KilledError

    monkeypatch.setattr(passage_files, "atomic_write", stopping)
    n_files = len(whole)
    for number in range(1, n_files + 1):
        folder = tmp_path / str(number)
        n_left = [number]
        with pytest.raises(KilledError):
            teacher_data_in(folder, corpora)
        teacher_data_in(folder, corpora)
        assert contents(folder) == whole, number


def slow_encode(texts):
    time.sleep(0.01)
    return encode(texts)


def run_slowly(folder, corpora):
    passage_files.BLOCK = 16
    teacher_data_in(folder, corpora, teacher=slow_encode)


def test_killed_at_any_moment_it_ends_alike(corpora, whole, tmp_path, monkeypatch):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["sk_ulmfit.pretraining.teacher_data", "sk_ulmfit.text.tokenizer"])
    folder, end = tmp_path / "teacher", time.monotonic() + 120
    moments = sorted(random.Random(time.time()).sample(range(len(whole) - 1), 3))  # numbers of files
    for moment in moments:
        process = processes.Process(target=run_slowly, args=(folder, corpora), daemon=True)
        process.start()
        while process.is_alive() and time.monotonic() < end:
            if folder.exists() and sum(1 for _ in folder.iterdir()) > moment:
                break
            time.sleep(0.001)
        assert process.is_alive(), (moments, "the run ended before it could be killed")
        process.kill()
        process.join()
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    teacher_data_in(folder, corpora)
    assert contents(folder) == whole, moments


def test_ctrl_c_ends_after_the_batch_and_drops_the_block(corpora, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    n_calls = 0

    def interrupting(texts):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 6:
            signal.raise_signal(signal.SIGINT)
        return encode(texts)

    with pytest.raises(KeyboardInterrupt):
        teacher_data_in(tmp_path / "teacher", corpora, teacher=interrupting)
    assert n_calls == 6
    teacher_data_in(tmp_path / "teacher", corpora)
    assert contents(tmp_path / "teacher") == whole


# --- What the folder holds is checked


def damage_by_cutting(file):
    file.write_bytes(file.read_bytes()[:-20])


def damage_by_emptying(file):
    file.write_bytes(b"")


def damage_the_shape(file):
    np.save(file, np.load(file)[:, :-1])


def damage_the_type(file):
    np.save(file, np.load(file).astype(np.float32))


@pytest.mark.parametrize("name", ["vectors-00002.npy", "word-vectors-00000.npy"])
@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_the_shape, damage_the_type])
def test_damaged_vectors_are_found_and_computed_again(corpora, whole, tmp_path, monkeypatch, name, damage):
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    for file, data in whole.items():
        (tmp_path / file).write_bytes(data)
    damage(tmp_path / name)
    said = []
    teacher_data_in(tmp_path, corpora, say=said.append)
    assert [line for line in said if "damaged" in line] == [
        f"{tmp_path / name} is damaged; its vectors are computed again"
    ]
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("name", ["passage-ids.npy", "passage-offsets.npy", "passage-ids.json"])
def test_damaged_or_missing_ids_are_made_again(corpora, whole, tmp_path, monkeypatch, name):
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    for file, data in whole.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / name).unlink()
    teacher_data_in(tmp_path, corpora)
    assert contents(tmp_path) == whole
    if name.endswith(".npy"):
        content = bytearray(whole[name])
        content[-1] ^= 1
        (tmp_path / name).write_bytes(bytes(content))
        teacher_data_in(tmp_path, corpora)
        assert contents(tmp_path) == whole


@pytest.mark.parametrize("name", ["passages-00001.jsonl.xz", "drawn.json", "settings.json", "words.json"])
def test_other_damaged_files_are_named(corpora, whole, tmp_path, monkeypatch, name):
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    for file, data in whole.items():
        (tmp_path / file).write_bytes(data)
    damage_by_cutting(tmp_path / name)
    for file in tmp_path.glob("passage-ids*"):  # so that the passages are read
        file.unlink()
    with pytest.raises(PretrainingError, match=rf"{name} (is|are) damaged.*; delete [^\n]*start again"):
        teacher_data_in(tmp_path, corpora)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 70}, "passages=60, not 70"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"shares": (1, 1, 1, 1)}, r"shares=\[0.3, 0.25, 0.25, 0.2\], not \[1, 1, 1, 1\]"),
        ({"field": "body"}, "field='text', not 'body'"),
    ],
)
def test_a_folder_of_other_settings_is_refused(corpora, tmp_path, options, message):
    teacher_data_in(tmp_path, corpora)
    before = contents(tmp_path)
    with pytest.raises(PretrainingError, match=rf"was made with {message}; pass the same arguments"):
        teacher_data_in(tmp_path, corpora, **options)
    assert contents(tmp_path) == before


def test_a_folder_of_another_teacher_or_other_corpora_is_refused(corpora, tmp_path):
    teacher_data_in(tmp_path, corpora)
    first, second = corpora
    teacher_data_in(tmp_path, (WeightedCorpus(first.path, 2), WeightedCorpus(second.path, 1)))  # the same proportion
    with pytest.raises(PretrainingError, match=r"made with 40 passages to draw from first.jsonl \(.* bytes\), not 30"):
        teacher_data_in(tmp_path, (WeightedCorpus(first.path, 1), WeightedCorpus(second.path, 1)))
    with pytest.raises(PretrainingError, match=r"made with 40 passages to draw from first.jsonl \(.* bytes\), not 60"):
        teacher_data_in(tmp_path, (first,))
    teacher = load_teacher(encode, "cpu")
    teacher.fingerprint = "another"
    with pytest.raises(PretrainingError, match="was made with another teacher"):
        prepare_passages(tmp_path, PassageSettings(corpora, 60), teacher, silent)


def test_passages_remain_when_the_corpora_are_gone(corpora, tmp_path):
    teacher_data_in(tmp_path / "teacher", corpora)
    gone = tuple(WeightedCorpus(tmp_path / corpus.path.name, corpus.weight) for corpus in corpora)
    said = []
    teacher_data_in(tmp_path / "teacher", gone, say=said.append)
    assert said == [f"{gone[0].path} holds no texts; using the passages in {tmp_path / 'teacher'}"]


def test_token_ids_in_place_of_a_corpus_are_refused_before_anything_is_drawn(corpora, tmp_path):
    pack_corpus(["The lamp is on."] * 20, tmp_path / "tokens", min_frequency=1)
    for path in (tmp_path, tmp_path / "tokens"):
        with pytest.raises(PretrainingError, match="holds token ids, and passages are cut from texts"):
            teacher_data_in(tmp_path / "teacher", (WeightedCorpus(path, 1),))


def test_a_corpus_without_passages_is_refused(tmp_path):
    (tmp_path / "c.txt").write_text("too short\n\nalso")
    with pytest.raises(PretrainingError, match="hold no passage of four words or more"):
        teacher_data_in(tmp_path / "teacher", (WeightedCorpus(tmp_path / "c.txt", 1),))


# --- Ids


def test_ids_are_those_of_the_passages_and_follow_the_vocabulary(corpora, tmp_path):
    ids = teacher_data_in(tmp_path, corpora).passages
    texts = list(open_passages(tmp_path).texts())
    expected = encode_texts(texts, VOCABULARY, "en")
    assert isinstance(ids.ids, np.memmap)
    assert np.array_equal(ids.ids, expected.ids)
    assert np.array_equal(ids.offsets, expected.offsets)
    backward = teacher_data_in(tmp_path, corpora, backward=True).passages
    assert np.array_equal(backward.ids, expected.reversed().ids)
    smaller = Vocabulary(["lamp", "the"])
    said = []
    taught = teacher_data_in(tmp_path, corpora, vocabulary=smaller, say=said.append)
    assert np.array_equal(taught.passages.ids, encode_texts(texts, smaller, "en").ids)
    assert len(taught.word_vectors) == len(smaller)
    assert any("tokenizing" in line for line in said)
    others = Vocabulary(["hub", "the"])
    vectors = teacher_data_in(tmp_path, corpora, vocabulary=others).word_vectors[:1]
    assert (vectors[0] @ encode(["hub"])[0]) / np.linalg.norm(encode(["hub"])) > 0.999


# --- Vectors


def test_vectors_are_the_teachers_rounded(corpora, tmp_path, monkeypatch):
    monkeypatch.setattr(passage_files, "BLOCK", 16)
    taught = teacher_data_in(tmp_path, corpora)
    texts = list(open_passages(tmp_path).texts())
    expected = encode(texts)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert taught.vectors.shape == (len(texts), DIM)
    vectors = taught.vectors[:]
    assert vectors.dtype == np.float32
    assert (vectors * expected).sum(axis=1).min() > 0.9999
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    rows = np.random.default_rng(0).integers(len(texts), size=70)
    assert np.array_equal(taught.vectors[rows], vectors[rows])
    assert np.array_equal(taught.vectors[5:40:3], vectors[5:40:3])


def test_words_have_vectors_and_special_tokens_do_not(corpora, tmp_path):
    vocabulary = Vocabulary(["lamp", "new▁york", "\\xxpad", "\\", "▁"])
    asked = []

    def listening(texts):
        asked.extend(texts)
        return encode(texts)

    vectors = teacher_data_in(tmp_path, corpora, vocabulary=vocabulary, teacher=listening).word_vectors[:]
    assert asked[1:6] == ["lamp", "new york", "xxpad", "\\", "▁"]
    assert vectors.any(axis=1).tolist() == [True] * 5 + [False] * (len(vocabulary) - 5)
    assert (vectors[1] @ encode(["new york"])[0]) / np.linalg.norm(encode(["new york"])) > 0.999


def test_progress_tells_the_speed_and_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_vectors, "LOG_SECONDS", 0)
    monkeypatch.setattr(passage_files, "BLOCK", 10)
    said = []
    write_vectors(
        tmp_path, "vectors", 25, lambda block: ["text"] * (10, 10, 5)[block], load_teacher(encode, "cpu"), said.append
    )
    (tmp_path / "vectors-00001.npy").unlink()
    write_vectors(tmp_path, "vectors", 25, lambda block: ["text"] * 10, load_teacher(encode, "cpu"), said.append)
    done = [re.fullmatch(r"vectors: (\d+) of 25, [\d,]+ a second, 0:00 h left", line).group(1) for line in said]
    assert done == ["10", "20", "25", "25"]


# --- The teacher


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda texts: None, "returned None of type NoneType"),
        (lambda texts: [["a"] * 3] * len(texts), "must return an array of numbers"),
        (lambda texts: np.ones(len(texts)), r"an array of shape \(1,\) for 1 texts"),
        (lambda texts: np.ones((len(texts) + 1, 3)), r"an array of shape \(2, 3\) for 1 texts"),
        (lambda texts: np.ones((len(texts), 0)), r"an array of shape \(1, 0\)"),
        (lambda texts: np.zeros((len(texts), 3)), "vector of the text 'The lamp is on.' is zero"),
        (lambda texts: np.full((len(texts), 3), np.nan), "vector of the text 'The lamp is on.' is not finite"),
        (lambda texts: [[1.0], [2.0, 3.0]], "must return an array of numbers"),
    ],
)
def test_a_function_that_returns_no_vectors_is_refused_in_one_line(function, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_teacher(function, "cpu")
    assert "\n" not in str(raised.value)


def test_what_a_function_returns_later_is_checked_too():
    teacher = FunctionTeacher(lambda texts: np.ones((len(texts), 3 if len(texts) == 1 else 4)))
    with pytest.raises(ValueError, match="vectors of 4 numbers, and before of 3"):
        teacher.vectors(["a", "b"])


def test_a_function_may_return_lists_and_tensors():
    for convert in (
        np.ndarray.tolist,
        torch.from_numpy,
        lambda array: torch.from_numpy(array).requires_grad_().bfloat16(),
    ):
        vectors = load_teacher(lambda texts, convert=convert: convert(encode(texts)), "cpu").vectors(["a", "b"])
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


@pytest.mark.parametrize("teacher", [None, 3, ["folder"]])
def test_a_teacher_of_another_type_is_refused(teacher):
    with pytest.raises(ValueError, match="teacher must be the folder of a sentence-transformers model, or a funct"):
        load_teacher(teacher, "cpu")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"it has no modules\.json"):
        load_teacher(tmp_path / "missing", "cpu")
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no weights in safetensors format"):
        load_teacher(tmp_path, "cpu")


def test_without_sentence_transformers_the_command_to_install_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'sk-ulmfit\[teacher\]'") as raised:
        load_teacher(tmp_path, "cpu")
    assert "\n" not in str(raised.value)


# --- Components and the start of the embedding


def test_components_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 9)) @ rng.normal(size=(9, 9)) + 3).astype(np.float32)
    found = components(vectors, 4)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:4].T
    assert found.mean.shape == (9,)
    assert np.allclose(found.mean, vectors.mean(axis=0), atol=1e-5)
    assert np.allclose(np.abs((found.matrix * expected).sum(axis=0)), 1, atol=1e-5)
    largest = np.abs(found.matrix).argmax(axis=0)
    assert (found.matrix[largest, np.arange(4)] > 0).all()
    assert components(vectors, 400).matrix.shape == (9, 9)
    blocks = np.rint(vectors * 9).astype(np.int8)
    stored = TeacherVectors([blocks[:200], blocks[200:]])
    assert np.allclose(components(stored, 4).matrix, components(stored[:], 4).matrix)


def test_components_in_parts_are_those_of_the_whole(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    whole = components(vectors, 3)
    monkeypatch.setattr("sk_ulmfit.pretraining.principal_components._ROWS_AT_ONCE", 7)
    parts = components(vectors, 3)
    assert np.allclose(parts.matrix, whole.matrix, atol=1e-6)
    monkeypatch.setattr("sk_ulmfit.pretraining.principal_components.MOST_VECTORS", 50)
    assert np.allclose(components(vectors, 3).matrix, components(vectors[:50], 3).matrix)


def test_targets_have_length_one_and_keep_what_is_near():
    vectors = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    found = components(vectors, 5)
    goals = targets(vectors, found)
    assert goals.dtype == np.float32
    assert np.allclose(np.linalg.norm(goals, axis=1), 1, atol=1e-6)
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.allclose(goals @ goals.T, centred @ centred.T, atol=1e-5)
    assert np.isfinite(targets(found.mean[None], found)).all()


@pytest.mark.parametrize("emb_dim", [4, 12])
def test_the_first_embedding_holds_the_words_in_components(emb_dim):
    rng = np.random.default_rng(0)
    words = rng.normal(size=(200, 8)).astype(np.float32)
    words[:8] = 0
    counts = rng.integers(1, 1000, size=200)
    found = components(rng.normal(size=(300, 8)).astype(np.float32), emb_dim)
    embedding, weight = start_of_embedding(words, counts, found, emb_dim, np.random.default_rng(1))
    assert embedding.shape == (200, emb_dim)
    assert embedding.dtype == weight.dtype == np.float32
    reduced = (words[8:] - words[8:].mean(axis=0)) @ found.matrix
    n = reduced.shape[1]
    ratio = embedding[8:, :n] / reduced
    assert np.allclose(ratio, ratio[0, 0], rtol=1e-4)
    assert np.isclose(np.sqrt((embedding[8:, :n] ** 2).mean()), 0.15)
    assert 0.05 < embedding[:8].std() < 0.25
    assert weight[:8].tolist() == [[0.0]] * 8
    p = counts / counts.sum()
    assert np.allclose(weight[8:, 0], 1e-3 / (1e-3 + p[8:]))
