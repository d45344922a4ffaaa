import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sk_ulmfit.text.documents
import sk_ulmfit.text.encoding
from sk_ulmfit.text import packing
from sk_ulmfit.text.corpora import Corpora, CorpusPart
from sk_ulmfit.text.documents import RUN_MARK, CorpusError, corpus_files, is_packed, read_documents
from sk_ulmfit.text.packing import open_packed, pack_corpora, pack_corpus
from sk_ulmfit.text.tokenizer import tokenize
from sk_ulmfit.text.vocabulary import Vocabulary

DOCUMENTS = ["The lamp is on.\nIt is bright.", "The hub is off.", "A parcel is late again."]


def documents_of(path, **options):
    return [text.strip() for text in read_documents(path, **options)]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("form", ["text", "json"])
def test_text_and_json_lines_are_told_apart_by_their_contents_also_compressed(tmp_path, compress, form):
    if form == "text":
        content = "\n\n".join(DOCUMENTS) + "\n"
    else:
        content = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in DOCUMENTS)
    file = tmp_path / "corpus.of-any-name"
    file.write_bytes(compress(content.encode()))
    assert documents_of(file) == DOCUMENTS


def test_a_folder_is_read_in_the_order_of_names_without_hidden_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one").write_text("second")
    (tmp_path / "a.jsonl").write_text('{"body": "first"}\n')
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden")
    assert [file.name for file in corpus_files(tmp_path)] == ["a.jsonl", "one"]
    assert documents_of(tmp_path, field="body") == ["first", "second"]


def test_blank_lines_also_with_spaces_separate_and_empty_documents_are_left_out(tmp_path):
    (tmp_path / "c.txt").write_text("\ufeff\n  \nfirst\nstill first\n \n\n\nsecond", encoding="utf-8")
    assert documents_of(tmp_path / "c.txt") == ["first\nstill first", "second"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_very_long_document_is_cut_between_words_and_nothing_is_lost(tmp_path, monkeypatch, form):
    monkeypatch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", 100)
    lines = [f"line {i} of one long document" for i in range(50)]
    content = "\n".join(lines) if form == "text" else json.dumps({"text": " ".join(lines)})
    (tmp_path / "c").write_text(content)
    found = list(read_documents(tmp_path / "c"))
    assert len(found) > 5
    assert " ".join(found).split() == " ".join(lines).split()
    assert max(map(len, found)) <= 100


def test_a_text_that_begins_with_a_brace_is_a_text(tmp_path):
    (tmp_path / "c").write_text("{{Infobox lamp}}\nA lamp.\n\n[[Hub]] and more.")
    assert documents_of(tmp_path / "c") == ["{{Infobox lamp}}\nA lamp.", "[[Hub]] and more."]


def test_a_huge_line_is_cut_without_breaking_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", 101)
    text = "große Lampe äöü " * 200
    (tmp_path / "c").write_text(text, encoding="utf-8")
    found = list(read_documents(tmp_path / "c"))
    assert "".join(found) == text
    assert {word for piece in found for word in piece.split()} == {"große", "Lampe", "äöü"}


@pytest.mark.parametrize("gap", ["", " "])
def test_only_a_blank_line_separates_however_the_pieces_of_a_long_line_fall(tmp_path, monkeypatch, gap):
    for longest in range(4, 14):
        monkeypatch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", longest)
        text = "ab cd" + gap * 20 + "ef\n     gh\n"
        (tmp_path / "c").write_text(text + "\n" + text)
        found = list(read_documents(tmp_path / "c"))
        assert "".join("".join(found).split()) == "".join((2 * text).split())
        assert all(piece.strip() and len(piece) <= longest for piece in found)
    monkeypatch.setattr(sk_ulmfit.text.documents, "_LONGEST_DOCUMENT", len(text))
    assert list(read_documents(tmp_path / "c")) == [text, text]


def test_runs_token_ids_and_links_in_a_circle_are_left_out_of_a_folder(tmp_path):
    (tmp_path / "a.txt").write_text("the text")
    (tmp_path / "linked").symlink_to(tmp_path, target_is_directory=True)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("behind a link")
    (tmp_path / "other").symlink_to(elsewhere, target_is_directory=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RUN_MARK).touch()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"\xff\xfe")
    pack_corpus(DOCUMENTS, tmp_path / "tokens")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("not this")
    assert documents_of(tmp_path, exclude=tmp_path / "out") == ["the text", "behind a link"]


def test_unreadable_files_are_not_taken_for_an_unwritable_place(tmp_path, monkeypatch):
    (tmp_path / "c.txt").write_text("some text")

    def refuse(file, newline, encoding):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sk_ulmfit.text.documents, "open_text", refuse)
    with pytest.raises(CorpusError, match=r"c\.txt cannot be read \(Permission denied\)"):
        pack_corpus(read_documents(tmp_path / "c.txt"), tmp_path / "tokens")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\n\nbad \xff byte", r"c, line 3, byte 5 is not UTF-8 text"),
        (b'{"text": "a"}\nnot json\n', r"c, line 2: not JSON .*; expected one JSON object per line"),
        (b'{"text": "a"}\n[1]\n', "c, line 2: a JSON list; expected one JSON object per line"),
        (b'{"text": "a"}\n{"text": ' + b"[" * 100_000, "line 2: not JSON"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "c, line 2, byte 11 is not UTF-8 text"),
        (lzma.compress(b"ok\n" * 3000 + b"bad \xff"), "c, line 3001, byte 5 is not UTF-8 text"),
        (b'{"text":\n "a"}\n', "looks like JSON"),
        (b'[{"text": "a"}, "b"]', "c, object 2: .* came; expected one array of JSON objects"),
        (b'{"text": "a"}\n{"body": "b", "n": 3}\n', "line 2: field 'text' holds no text; fields with text: 'body'"),
        (lzma.compress(b"text " * 1000)[:-20], "damaged or cut off"),
        (gzip.compress(b"text " * 1000, mtime=0)[:-20], "damaged or cut off"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, content, message):
    (tmp_path / "c").write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_documents(tmp_path / "c"))


def test_missing_and_empty_places_are_named(tmp_path):
    with pytest.raises(CorpusError, match="no file or folder"):
        list(read_documents(tmp_path / "nowhere"))
    with pytest.raises(CorpusError, match="holds no files"):
        list(read_documents(tmp_path))
    with pytest.raises(CorpusError, match="holds no text"):
        pack_corpus([], tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


def words_of(packed, index):
    return [packed.vocabulary.words[i] for i in packed.tokens[index]]


def test_packed_ids_are_those_of_the_tokenizer_whatever_the_blocks(tmp_path, monkeypatch):
    texts = [f"{text} Number {i}!" for i, text in enumerate(DOCUMENTS * 4)]
    pack_corpus(texts, tmp_path / "whole", min_frequency=1)
    monkeypatch.setattr(sk_ulmfit.text.encoding, "_CHARACTERS_AT_ONCE", 50)
    monkeypatch.setattr(sk_ulmfit.text.encoding, "TOKENS_AT_ONCE", 7)
    reports = []
    pack_corpus(texts, tmp_path / "parts", min_frequency=1, report=lambda *numbers: reports.append(numbers))
    whole, parts = open_packed(tmp_path / "whole"), open_packed(tmp_path / "parts")
    assert [words_of(parts, i) for i in range(len(texts))] == [tokenize(text) for text in texts]
    assert whole.vocabulary == parts.vocabulary
    assert whole.info["digest"] == parts.info["digest"]
    assert np.array_equal(whole.tokens.ids, parts.tokens.ids)
    assert len(reports) > 3
    assert reports[-1] == (len(texts), sum(map(len, texts)), parts.info["n_tokens"])


def test_ids_stay_on_disk_and_are_narrow(tmp_path):
    pack_corpus(DOCUMENTS, tmp_path / "tokens", min_frequency=1)
    ids = open_packed(tmp_path / "tokens").tokens.ids
    assert isinstance(ids, np.memmap)
    assert ids.dtype == np.uint16


def test_the_vocabulary_keeps_the_frequent_words_and_unknown_ones_are_counted(tmp_path):
    texts = ["lamp hub lamp hub", "lamp rare lamp"]
    pack_corpus(texts, tmp_path / "tokens", min_frequency=2)
    packed = open_packed(tmp_path / "tokens")
    assert {"lamp", "hub"} <= set(packed.vocabulary.words)
    assert "rare" not in packed.vocabulary
    assert packed.info["n_unknown"] == 1


def test_forgetting_rare_words_bounds_memory_and_spares_frequent_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(sk_ulmfit.text.encoding, "_CHARACTERS_AT_ONCE", 100)
    monkeypatch.setattr(sk_ulmfit.text.encoding, "_MOST_WORDS", 40)
    texts = [f"common frequent usual w{i}a w{i}b w{i}c" for i in range(60)]
    pack_corpus(texts, tmp_path / "tokens", min_frequency=3)
    packed = open_packed(tmp_path / "tokens")
    assert {"common", "frequent", "usual"} <= set(packed.vocabulary.words)
    assert packed.info["n_unknown"] == 180
    assert words_of(packed, 59) == ["xxbos", "common", "frequent", "usual", "xxunk", "xxunk", "xxunk"]


def test_a_broken_off_packing_leaves_nothing_behind(tmp_path):
    def documents():
        yield "one document"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_corpus(documents(), tmp_path / "tokens")
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_left_alone(tmp_path):
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError, match="left alone"):
        pack_corpus(DOCUMENTS, tmp_path / "tokens")
    assert (tmp_path / "tokens" / "thesis.txt").read_text() == "mine"


def flip_in(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "vocabulary.json", "corpus.json"])
@pytest.mark.parametrize("damage", [flip_in, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_token_ids_are_named(tmp_path, name, damage):
    folder = tmp_path / "tokens"
    pack_corpus(DOCUMENTS, folder)
    damage(folder / name)
    assert is_packed(folder)
    with pytest.raises(CorpusError, match=f"damaged: .*{name} .*Remove the folder and start again"):
        open_packed(folder)


def test_damaged_ids_for_reading_backward_are_named(tmp_path):
    folder = tmp_path / "tokens"
    pack_corpus(DOCUMENTS, folder)
    whole = open_packed(folder, backward=True).tokens.ids.copy()
    flip_in(folder / "ids-backward.npy")
    with pytest.raises(CorpusError, match=r"ids-backward\.npy .*Remove the file and start again"):
        open_packed(folder, backward=True)
    open_packed(folder)
    (folder / "ids-backward.npy").unlink()
    assert np.array_equal(open_packed(folder, backward=True).tokens.ids, whole)


def test_token_ids_of_an_earlier_version_are_called_so(tmp_path):
    folder = tmp_path / "tokens"
    pack_corpus(DOCUMENTS, folder)
    info = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(
        json.dumps({k: v for k, v in info.items() if not k.startswith(("checksum", "tokenizer"))})
    )
    with pytest.raises(CorpusError, match="earlier version of sk_ulmfit, without checksums; remove the folder"):
        open_packed(folder)


def with_checksums(folder):
    """Make the checksums of a folder right, as somebody does who has changed it on purpose."""
    info = json.loads((folder / "corpus.json").read_text())
    for name in ("ids.npy", "offsets.npy", "vocabulary.json"):
        info["checksums"][name] = packing._checksum([(folder / name).read_bytes()])
    info["checksum"] = packing._checksum([packing._canonical(info)])
    (folder / "corpus.json").write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids.npy", lambda ids: ids + np.uint16(1000)),
        ("ids.npy", lambda ids: ids.astype(np.float64)),
        ("ids.npy", lambda ids: ids[:-1]),
        ("offsets.npy", lambda offsets: offsets[::-1]),
        ("offsets.npy", lambda offsets: offsets.astype(np.int32)),
        ("offsets.npy", lambda offsets: offsets - 1),
        ("offsets.npy", lambda offsets: np.array(5)),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused_whatever_their_checksums(tmp_path, name, change):
    folder = tmp_path / "tokens"
    pack_corpus(DOCUMENTS, folder)
    np.save(folder / name, change(np.load(folder / name)))
    with_checksums(folder)
    with pytest.raises(CorpusError, match=f"damaged: .*{name}"):
        open_packed(folder)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=8), step=st.integers(1, 12))
def test_backward_turns_every_document_but_its_first_token(tmp_path_factory, lengths, step):
    folder = tmp_path_factory.mktemp("packed")
    texts = [" ".join(f"k{chr(97 + i)}{chr(97 + j)}z" for j in range(n)) for i, n in enumerate(lengths)]
    pack_corpus(texts, folder / "tokens", min_frequency=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk_ulmfit.text.encoding, "TOKENS_AT_ONCE", step)
        packed = open_packed(folder / "tokens", backward=True)
    for index, text in enumerate(texts):
        assert words_of(packed, index) == ["xxbos", *reversed(text.split())]
    assert packed.vocabulary == Vocabulary(open_packed(folder / "tokens").vocabulary.words)


def test_documents_of_several_corpora_follow_one_another(tmp_path):
    texts = [["lamp hub"] * 3, ["parcel", "rare lamp"]]
    pack_corpora(list(zip(["a", "b"], texts, strict=True)), tmp_path / "tokens", min_frequency=2, weights=[3, 1.5])
    packed = open_packed(tmp_path / "tokens")
    assert [words_of(packed, i)[1:] for i in range(5)] == [["lamp", "hub"]] * 3 + [["xxunk"], ["xxunk", "lamp"]]
    assert packed.corpora == Corpora((CorpusPart("a", 3, 9, 0), CorpusPart("b", 2, 5, 2)), (3.0, 1.5))
    assert packed.corpora.shares().tolist() == pytest.approx([2 / 3, 1 / 3])
    assert [part.tolist() for part in packed.corpora.split(np.array([0, 2, 3]))] == [[0, 2], [3]]


def test_one_corpus_is_packed_as_before(tmp_path):
    pack_corpus(DOCUMENTS, tmp_path / "tokens", source="a")
    info = open_packed(tmp_path / "tokens").info
    assert not {"corpora", "weights"} & info.keys()
    assert Corpora.from_info(info) == Corpora((CorpusPart("a", 3, info["n_tokens"], info["n_unknown"]),))
    assert Corpora.from_info(info).shares().tolist() == [1.0]


def test_weights_decide_which_words_are_kept_and_min_frequency_counts_what_is_there(tmp_path):
    large, small = ["common hub common hub common"] * 20, ["own once own"] * 4 + ["alone"]

    def words(**options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pack_corpora([("large", large), ("small", small)], folder, **options)
        return open_packed(folder).vocabulary.words[8:]

    assert words()[:4] == ["common", "hub", "own", "once"]
    assert words(weights=[1, 1])[:4] == ["common", "own", "hub", "once"]
    assert words(weights=[2, 2]) == words(weights=[1, 1])
    assert "alone" not in words(weights=[1, 1000], min_frequency=2)
    assert "alone" in words(weights=[1000, 1], min_frequency=1)


def test_words_with_the_same_weighted_count_are_ordered_by_alphabet(tmp_path):
    corpora = [("a", ["zebra apple"] * 5), ("b", ["yak bear"] * 9)]
    pack_corpora(corpora, tmp_path / "tokens", weights=[1, 1], min_frequency=1)
    assert open_packed(tmp_path / "tokens").vocabulary.words[8:12] == ["apple", "bear", "yak", "zebra"]


def test_an_empty_corpus_among_others_is_named(tmp_path):
    with pytest.raises(CorpusError, match="The corpus second holds no text"):
        pack_corpora([("first", DOCUMENTS), ("second", [])], tmp_path / "tokens", weights=[1, 1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": [1.0, float("nan")]},
        {"weights": ["a", "b"]},
        {"corpora": [{"source": "a", "n_documents": 1, "n_tokens": 1, "n_unknown": 0}] * 2},
        {"corpora": [{"source": "a"}]},
        {"corpora": 5},
    ],
)
def test_corpora_that_do_not_fit_the_token_ids_are_refused_whatever_the_checksum(tmp_path, change):
    folder = tmp_path / "tokens"
    pack_corpora([("a", DOCUMENTS), ("b", DOCUMENTS)], folder, weights=[1, 2])
    info = {**json.loads((folder / "corpus.json").read_text()), **change}
    (folder / "corpus.json").write_text(json.dumps(info))
    with_checksums(folder)
    with pytest.raises(CorpusError, match=r"damaged: .*corpus\.json"):
        open_packed(folder)


def test_more_than_65536_words_have_ids_of_32_bits(tmp_path):
    texts = [" ".join(f"w{chr(97 + i % 26)}{i}" for i in range(start, start + 700)) for start in range(0, 70_000, 700)]
    pack_corpus(texts, tmp_path / "tokens", vocab_size=70_016, min_frequency=1)
    for backward in (False, True):
        packed = open_packed(tmp_path / "tokens", backward)
        assert packed.tokens.ids.dtype == np.int32
        assert len(packed.vocabulary) > 65_536 + 4_000
        assert [words_of(packed, i)[1:] for i in (0, 99)] == [
            texts[i].split()[:: -1 if backward else 1] for i in (0, 99)
        ]
    assert packed.info["n_unknown"] == 0
