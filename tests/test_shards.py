"""Corpora tokenized shard by shard: the same bytes as in one pass, whoever does it and however often it is killed."""

import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sk_ulmfit.text.counting
import sk_ulmfit.text.encoding
import sk_ulmfit.text.parts
import sk_ulmfit.text.shards
from sk_ulmfit.cli.main import main
from sk_ulmfit.pretraining import PretrainingError, pretrain, tokenize_files
from sk_ulmfit.text.documents import CorpusError, read_documents
from sk_ulmfit.text.encoding import tokenize_texts
from sk_ulmfit.text.packing import open_packed
from sk_ulmfit.text.parts import cut_file, group_files, read_part
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.vocabulary import Vocabulary
from sk_ulmfit.text.workers import ExecutorWorkers, WorkerError, local_workers, n_processes

WORDS = ["lamp", "hub", "parcel", "Ève", "GOOD", "no", "1,000", "été", "soooo", "it's"]


def some_texts(n, seed=0):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(1, 40))) + f" w{i % 50}." for i in range(n)]


@pytest.fixture
def small_parts(monkeypatch):
    """Files of some hundred bytes are cut, and shards hold some hundred characters."""
    monkeypatch.setattr(sk_ulmfit.text.parts, "SMALLEST_PART", 1500)
    monkeypatch.setattr(sk_ulmfit.text.parts, "_LARGEST_UNCUT", 3000)
    monkeypatch.setattr(sk_ulmfit.text.encoding, "_CHARACTERS_AT_ONCE", 900)
    monkeypatch.setattr(sk_ulmfit.text.shards, "_CHARACTERS", 1200)
    monkeypatch.setattr(sk_ulmfit.text.counting, "_BYTES_OF_A_BUCKET", 2000)


def write_corpus(folder):
    """Write a folder of files of all kinds: cut, joined, read whole, handed out."""
    folder.mkdir()
    texts = some_texts(400)
    (folder / "a.txt").write_text("\ufeff" + "\n\n".join(texts[:100]), encoding="utf-8")
    rows = [json.dumps({"text": text, "n": i}, ensure_ascii=False) for i, text in enumerate(texts[100:150])]
    (folder / "b.jsonl").write_text("\n\n".join(rows), encoding="utf-8")
    (folder / "c.txt.xz").write_bytes(lzma.compress("\n\n".join([*texts[150:230], *texts[300:]]).encode()))
    for i in range(230, 240):
        (folder / f"d{i}.txt").write_text(texts[i], encoding="utf-8")
    (folder / "e.json").write_text(json.dumps([{"text": text} for text in texts[240:255]]), encoding="utf-8")
    (folder / "f.txt").write_text("\r\n \r\n\r\n".join(texts[270:300]), encoding="utf-16")
    (folder / "g.txt").write_text("\n".join(texts[200:260]), encoding="utf-8")
    (folder / "h.txt").touch()
    return folder


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("gap", ["\n\n", "\n\r\n", "\n \n", "\n\n\n\n", "\n"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_parts_of_a_file_have_the_documents_of_the_whole_file(tmp_path, monkeypatch, gap, form):
    monkeypatch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", 100)
    texts = some_texts(60)
    if form == "json":
        texts = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    (tmp_path / "c").write_text(gap + gap.join(texts) + gap, encoding="utf-8")
    whole = list(read_documents(tmp_path / "c"))
    n_bytes = (tmp_path / "c").stat().st_size
    for size in (1, 7, 50, 333, n_bytes - 1, n_bytes):
        parts = cut_file(tmp_path / "c", n_bytes, size)
        assert [text for part in parts for text in read_part(part, "text")] == whole
        assert sum(part.n_bytes for part in parts) == n_bytes
    n_parts = len(cut_file(tmp_path / "c", n_bytes, 50))
    assert (n_parts > 20) == (form == "json" or gap not in ("\n \n", "\n"))


@settings(max_examples=100, deadline=None)
@given(content=st.text(alphabet="ab \n\r\u2003é", max_size=60), size=st.integers(1, 20), longest=st.integers(2, 9))
def test_any_text_is_cut_between_documents(tmp_path_factory, content, size, longest):
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", longest)
        patch.setattr(sk_ulmfit.text.parts, "_BYTES_AT_ONCE", 3)
        parts = cut_file(file, len(content.encode()), size)
        assert [text for part in parts for text in read_part(part, "text")] == list(read_documents(file))


def test_groups_depend_on_the_files_alone_and_cover_each_byte_once(tmp_path, small_parts):
    folder = write_corpus(tmp_path / "corpus")
    files = sorted(folder.iterdir())
    groups = group_files([files[:3], files[3:]])
    assert groups == group_files([files[:3], files[3:]])
    parts = [part for group in groups for part in group.parts]
    assert sum(part.n_bytes for part in parts) == sum(file.stat().st_size for file in files)
    assert [part.file for part in parts] == sorted(part.file for part in parts)
    assert [group.corpus for group in groups] == sorted(group.corpus for group in groups)
    assert {group.parts[0].file.name for group in groups if group.is_large} == {"c.txt.xz", "f.txt", "g.txt"}


def test_shards_give_what_one_pass_gives(tmp_path, small_parts):
    folder = write_corpus(tmp_path / "corpus")
    info = tokenize_files(folder, tmp_path / "tokens", min_frequency=9)
    texts = list(read_documents(folder))

    def choose(words, counts):
        return Vocabulary.from_counts(words, counts, max_size=30_000, min_frequency=9)

    ids, vocabulary = tokenize_texts(StreamedTexts(lambda: texts, len(texts)), "en", None, choose)
    packed = open_packed(tmp_path / "tokens")
    assert packed.vocabulary == vocabulary
    assert np.array_equal(packed.tokens.ids, ids.ids)
    assert np.array_equal(packed.tokens.offsets, ids.offsets)
    assert info["n_unknown"] == int((ids.ids == vocabulary.unk).sum()) > 0
    assert info["n_characters"] == sum(map(len, texts))


# Made by the version that read a corpus in one pass.
DIGESTS = {
    None: "6bb6de06f54740c443d3231aac4bbec6",
    (3.0, 1.0): "0a0025fc59af7685695ea84544ffac61",
}


@pytest.mark.parametrize("weights", DIGESTS)
def test_token_ids_are_those_of_earlier_versions_to_the_byte(tmp_path, small_parts, weights):
    corpora = [tmp_path / "a.txt", tmp_path / "b.txt"]
    corpora[0].write_text("\n\n".join(some_texts(200)), encoding="utf-8")
    corpora[1].write_text("\n\n".join(some_texts(90, seed=1)), encoding="utf-8")
    tokenize_files(corpora, tmp_path / "tokens", weights=weights, vocab_size=48, min_frequency=2)
    info = json.loads((tmp_path / "tokens" / "corpus.json").read_text())
    assert info["checksum"] == DIGESTS[weights]


def test_one_two_and_three_processes_write_the_same_bytes(tmp_path, small_parts):
    folder = write_corpus(tmp_path / "corpus")
    for n_jobs in (1, 2, 3):
        tokenize_files(folder, tmp_path / str(n_jobs), min_frequency=1, n_jobs=n_jobs)
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2") == bytes_of(tmp_path / "3")
    assert not list(tmp_path.glob(".*"))


SCRIPT = """
import sys
import sk_ulmfit.text.counting, sk_ulmfit.text.encoding, sk_ulmfit.text.parts, sk_ulmfit.text.shards
from sk_ulmfit.pretraining import tokenize_files
sk_ulmfit.text.parts.SMALLEST_PART, sk_ulmfit.text.parts._LARGEST_UNCUT = 1500, 3000
sk_ulmfit.text.encoding._CHARACTERS_AT_ONCE, sk_ulmfit.text.shards._CHARACTERS = 900, 1200
sk_ulmfit.text.counting._BYTES_OF_A_BUCKET = 2000
tokenize_files(sys.argv[1], sys.argv[2], min_frequency=1, say=lambda line: print(line, flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_killed_at_random_shards_it_goes_on_and_ends_with_the_same_bytes(tmp_path, small_parts):
    folder = write_corpus(tmp_path / "corpus")
    tokenize_files(folder, tmp_path / "whole", min_frequency=1)
    rng = random.Random(time.time())
    for moment in sorted(rng.sample(range(1, 13), 2)):  # of about 40 shards
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
        )
        lines = [line for line, _ in zip(process.stdout, range(moment), strict=False)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(lines) == moment
        assert not (tmp_path / "killed").exists()
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / ".killed.shards").rglob("*.npz")}
    assert len(there) >= moment
    lines = []
    tokenize_files(folder, tmp_path / "killed", min_frequency=1, say=lines.append)
    assert "already" in lines[0]
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


def test_no_shard_is_written_twice_however_often_it_is_interrupted(tmp_path, small_parts, monkeypatch):
    folder = write_corpus(tmp_path / "corpus")
    write_shard, written, left = sk_ulmfit.text.shards.write_shard, [], [0]

    def counted(path, *args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        written.append(path)
        return write_shard(path, *args)

    monkeypatch.setattr(sk_ulmfit.text.shards, "write_shard", counted)
    n_interrupts = 0
    while not (tmp_path / "tokens").exists() and n_interrupts < 20:
        left[0] = 7
        with suppress(KeyboardInterrupt):
            tokenize_files(folder, tmp_path / "tokens")
        n_interrupts += left[0] < 0
    assert 3 < n_interrupts < 20
    assert len(written) == len(set(written)) > 25


def test_the_shards_of_something_else_are_not_taken(tmp_path, small_parts, monkeypatch):
    folder = write_corpus(tmp_path / "corpus")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sk_ulmfit.text.packing.choose_vocabulary", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tokenize_files(folder, tmp_path / "tokens")
    for options, message in (
        ({"language": "de"}, "language='en', not 'de'"),
        ({"field": "n"}, "field='text', not 'n'"),
    ):
        with pytest.raises(CorpusError, match=message):
            tokenize_files(folder, tmp_path / "tokens", **options)
    (folder / "z.txt").write_text("more")
    with pytest.raises(CorpusError, match=r"corpora=\['corpus \(.*delete that folder to begin anew"):
        tokenize_files(folder, tmp_path / "tokens")
    (folder / "z.txt").unlink()
    assert tokenize_files(folder, tmp_path / "tokens", vocab_size=64)["vocab_size"] == 64  # shards hold all words


def test_a_damaged_shard_is_named_and_without_it_all_is_well(tmp_path, small_parts, monkeypatch):
    folder = write_corpus(tmp_path / "corpus")
    tokenize_files(folder, tmp_path / "whole")
    choose = sk_ulmfit.text.packing.choose_vocabulary
    damaged = []

    def damage(shards, *args):
        if not damaged:
            damaged.append(shards[0][3].path)
            data = bytearray(damaged[0].read_bytes())
            data[220] ^= 255  # among the numbers, which come first
            damaged[0].write_bytes(data)
        return choose(shards, *args)

    monkeypatch.setattr("sk_ulmfit.text.packing.choose_vocabulary", damage)
    with pytest.raises(CorpusError, match=r"The shard .*npz is damaged .*delete it and start again"):
        tokenize_files(folder, tmp_path / "tokens")
    damaged[0].unlink()
    tokenize_files(folder, tmp_path / "tokens")
    assert bytes_of(tmp_path / "tokens") == bytes_of(tmp_path / "whole")


def killed(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_no_processes_at_all_are_refused():
    with pytest.raises(ValueError, match="n_jobs must be a number of processes, or -1 for one for each core, got 0"):
        n_processes(0)


def test_a_killed_worker_is_one_clear_line():
    with pytest.raises(WorkerError, match=r"A worker process ended .*n_jobs=2") as caught, local_workers(2) as workers:
        list(workers.run(killed, range(3)))
    assert "\n" not in str(caught.value)


def test_an_error_of_a_worker_is_the_error_here(tmp_path, small_parts):
    folder = write_corpus(tmp_path / "corpus")
    lines = (folder / "b.jsonl").read_text(encoding="utf-8").split("\n")
    lines[60] = '{"body": "x"}'
    (folder / "b.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for n_jobs in (1, 2):
        with pytest.raises(CorpusError, match=r"b\.jsonl, line 61: field 'text' holds no text"):
            tokenize_files(folder, tmp_path / "tokens", n_jobs=n_jobs)
    assert not (tmp_path / "tokens").exists()


def test_tasks_are_made_when_a_worker_is_free_for_them():
    made = []

    def tasks():
        for task in range(50):
            made.append(task)
            yield task

    with ThreadPoolExecutor(2) as threads:
        results = ExecutorWorkers(lambda: threads, 2).run(abs, tasks())
        next(results)
        assert len(made) <= 5
        assert len(list(results)) == 49


@pytest.mark.parametrize("stage", ["sk_ulmfit.text.shards.atomic_write", "sk_ulmfit.text.joining._write_header"])
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(tmp_path, small_parts, monkeypatch, stage):
    folder = write_corpus(tmp_path / "corpus")

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stage, full)
        with pytest.raises(CorpusError, match=r"could not be written .*No space left") as caught:
            tokenize_files(folder, tmp_path / "tokens")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "tokens").exists()
    tokenize_files(folder, tmp_path / "tokens")


def test_places_and_corpora_that_do_not_fit_are_named(tmp_path):
    (tmp_path / "c.txt").write_text("The lamp is on.\n\nThe hub is off.")
    with pytest.raises(PretrainingError, match=r"cannot be created .*choose another place"):
        tokenize_files(tmp_path / "c.txt", tmp_path / "c.txt" / "tokens")
    with pytest.raises(CorpusError, match="no file or folder"):
        tokenize_files(tmp_path / "nowhere", tmp_path / "tokens")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(CorpusError, match="The corpus holds no text"):
        tokenize_files(tmp_path / "empty.txt", tmp_path / "tokens")
    with pytest.raises(ValueError, match="language='zz' is not usable"):
        tokenize_files(tmp_path / "c.txt", tmp_path / "tokens", language="zz", n_jobs=2)
    tokenize_files(tmp_path / "c.txt", tmp_path / "done")
    with pytest.raises(PretrainingError, match="holds token ids already"):
        tokenize_files(tmp_path / "done", tmp_path / "tokens")
    with pytest.raises(PretrainingError, match=r"made with vocab_size=30000, not 64"):
        tokenize_files(tmp_path / "c.txt", tmp_path / "done", vocab_size=64)


def test_the_command_writes_what_pretrain_reads(tmp_path, capsys):
    (tmp_path / "c.txt").write_text("\n\n".join(some_texts(200)), encoding="utf-8")
    options = ["--min-frequency", "1", "--vocab-size", "64"]
    assert main(["tokenize", str(tmp_path / "c.txt"), "--out", str(tmp_path / "tokens"), *options]) == 0
    assert "200 documents" in capsys.readouterr().out
    (tmp_path / ".tokens.shards").mkdir()  # left by a process that was killed at the very end
    assert main(["tokenize", str(tmp_path / "c.txt"), "--out", str(tmp_path / "tokens"), *options, "--json"]) == 0
    assert not (tmp_path / ".tokens.shards").exists()
    assert json.loads(capsys.readouterr().out)["n_documents"] == 200
    sizes = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2, "epochs": 0.1}
    first = pretrain(tmp_path / "tokens", tmp_path / "first", **sizes)
    second = pretrain(tmp_path / "c.txt", tmp_path / "second", **sizes, min_frequency=1, vocab_size=64)
    assert all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert (tmp_path / "second" / "tokens" / "ids.npy").read_bytes() == (tmp_path / "tokens" / "ids.npy").read_bytes()
