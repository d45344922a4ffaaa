import functools
import operator
import string
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.text import tokenizer as text_module
from sk_ulmfit.text import vocabulary
from sk_ulmfit.text.alignment import align
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.tokenizer import join_fields, tokenize, tokenize_corpus
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, TokenIds, Vocabulary


def words(text, language="en"):
    tokens = tokenize(text, language)
    assert tokens[0] == "xxbos"
    return " ".join(tokens[1:])


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ""),
        ("  \n\t ", ""),
        ("I don't know", "xxmaj i do n't know"),
        ("Paris PARIS paris", "xxmaj paris xxup paris paris"),
        ("NASA's iPhone", "xxup nasa 's xxmaj iphone"),
        ("Ève ÉTÉ Москва ΑΘΗΝΑ", "xxmaj ève xxup été xxmaj москва xxup αθηνα"),
        ("B2B A4", "xxup b2b xxmaj a4"),
        ("cooool", "c xxrep 4 o l"),
        ("wait....", "wait xxrep 4 ."),
        ("oo..", "oo .."),
        ("NOOO", "xxmaj n xxrep 3 xxmaj o"),
        ("10000 $1,000,000", "10000 $ 1,000,000"),  # digits are never "repeated"
        ("no no no yes yes", "xxwrep 3 no yes yes"),
        ("(no no no no!)", "( xxwrep 4 no ! )"),
        ("No No No", "xxwrep 3 xxmaj no"),
        ("1 1 1", "1 1 1"),
        ("and/or #tag a\\b", "and / or # tag a \\ b"),
        ("a<br />b &amp; c&lt;d &#65;", "a b & c < d xxmaj a"),
        ("a&copy=2", "a&copy=2"),  # no entity without its semicolon
        ("x\x00y\x07z", "x y z"),
        ("e\u0301te\u0301", "été"),  # one form for composed and decomposed letters
        ("👍👍👍 👍", "xxrep 3 👍 👍"),
        ("שלום עולם", "שלום עולם"),
        ("a\ud83d\ude00b", "a 😀 b"),
        ("\ud800", "\ufffd"),
    ],
)
def test_rules(text, tokens):
    assert words(text) == tokens


@pytest.mark.parametrize("marker", SPECIAL_TOKENS)
def test_a_literal_marker_is_an_ordinary_word(marker):
    assert words(marker) == "\\" + marker
    assert words(marker.upper()) == "xxup \\" + marker
    vocabulary = Vocabulary.from_counts(["\\" + marker], np.array([5]))
    ids = encode_texts([marker, "xxfake0"], vocabulary, "en").ids
    special = {vocabulary.index(token) for token in SPECIAL_TOKENS} - {vocabulary.unk}
    assert set(ids.tolist()) & special == {vocabulary.index("xxbos")}
    assert ids[1] == vocabulary.index("\\" + marker)


def test_fields_are_marked_and_cannot_be_forged():
    assert words(join_fields(["Title", "a\x1fb"])) == "xxfld 1 xxmaj title xxfld 2 a b"
    assert words(join_fields(["Title", "a␟b"])) == "xxfld 1 xxmaj title xxfld 2 a b"
    assert words(join_fields(["", "body"])) == "xxfld 1 xxfld 2 body"
    assert words("a &#31; b") == "a b"
    for wrong in ("ab", ["a", None]):
        with pytest.raises(ValueError, match="fields must be a sequence of str"):
            join_fields(wrong)


def test_joined_fields_can_be_read_and_are_tokenized_as_by_earlier_versions():
    fields = ["Late parcel", "", " Where is it? "]
    joined = join_fields(fields)
    assert joined == "␟ Late parcel ␟  ␟  Where is it? "
    for language in ("en", "zh"):
        assert tokenize(joined, language) == tokenize("".join("\x1f" + field for field in fields), language)
    assert align(joined).text == "\nLate parcel\n\n Where is it? "


def test_languages():
    assert words("Das ist z.B. schön", "de") == "xxmaj das ist xxmaj z.b. schön"
    assert words("今天天气", "zh") == "今 天 天 气"
    with pytest.raises(ValueError, match="language='klingon' is not usable"):
        tokenize("a", "klingon")


printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=150, deadline=None)
@given(printable)
def test_any_text_gives_clean_tokens(text):
    tokens = tokenize(text)
    assert tokens[0] == "xxbos"
    for token in tokens:
        assert token
        assert not any(char.isspace() for char in token)
    assert "xxpad" not in tokens
    assert "xxunk" not in tokens


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(string.ascii_letters + " .!0\x1f", max_size=30), max_size=8))
def test_a_text_is_tokenized_alike_alone_and_among_others(texts):
    corpus, names = tokenize_corpus(texts)
    assert [[names[i] for i in corpus[k]] for k in range(len(corpus))] == [tokenize(text) for text in texts]


def test_worker_processes_give_the_same_corpus(monkeypatch):
    texts = [f"Text number {i} says hello hello hello to {i % 7}!!!" for i in range(50)]
    corpus, names = tokenize_corpus(texts)
    monkeypatch.setattr(text_module, "_PARALLEL_FROM", 0)
    parallel, parallel_names = tokenize_corpus(texts, n_jobs=2)
    assert [names[i] for i in corpus.ids] == [parallel_names[i] for i in parallel.ids]
    assert np.array_equal(corpus.offsets, parallel.offsets)


# --- what was tokenized before changes nothing --------------------------------

SAMPLE = [
    "I don't, we DON'T; Smith's A4!",
    join_fields(["No no no", "", "1 1 1 http://a.b/c?d=e#f"]),
    "",
    "Sooo (very) good... :-) no No NO no no no",
    "x" * 40 + " " + "1,000" * 300 + " xxpad xxfld xxbos",
    "Ève’s 5km run in the U.S. &amp; élan",
]


def forget():
    text_module.get_tokenizer.cache_clear()


def listed(texts, language="en"):
    corpus, names = tokenize_corpus(texts, language)
    return corpus.ids.tolist(), corpus.offsets.tolist(), names


@pytest.mark.parametrize("language", ["en", "de", "zh"])
def test_a_second_call_gives_what_the_first_gave(language):
    forget()
    first = listed(SAMPLE, language)
    assert listed(SAMPLE, language) == first
    assert listed(SAMPLE[::-1] + SAMPLE, language)[1][-1] == 2 * first[1][-1]
    assert listed(SAMPLE, language) == first


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("aAbBxX .,'-/!0\x1f\xe9", max_size=30), max_size=4),
    st.lists(st.text("aAbBxX .,'-/!0\x1f\xe9", max_size=30), max_size=4),
)
def test_earlier_texts_do_not_matter(texts, earlier):
    text_module.get_tokenizer("xx")._cache.clear()
    wanted = listed(texts, "xx")
    text_module.get_tokenizer("xx")._cache.clear()
    listed(earlier, "xx")
    assert listed(texts, "xx") == wanted


@pytest.mark.parametrize("language", ["en", "es"])
def test_neighbours_do_not_matter(language):
    chunks = ["EE.", "UU.", ":", ")", "can", "not", "don't", "...", "U.S.", "a/b", "(no", "no)", "8", "km", "'", "s"]
    together = words(" ".join(chunks), language)
    assert together == " ".join(words(chunk, language) for chunk in chunks)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_the_size_of_a_batch_does_not_matter(monkeypatch, size):
    wanted = listed(SAMPLE * 3)
    forget()
    monkeypatch.setattr(text_module, "_CHARACTERS_AT_ONCE", size)
    monkeypatch.setattr(text_module, "_CHUNKS_AT_ONCE", size)
    assert listed(SAMPLE * 3) == wanted


def test_threads_may_tokenize_at_the_same_time(monkeypatch):
    texts = [[f"Thread{k} word{i}, (no{i * k % 50}) o'clock-{i % 9}" for i in range(200)] for k in range(16)]
    wanted = [listed(part) for part in texts]
    forget()
    monkeypatch.setattr(text_module, "_CHUNKS_AT_ONCE", 200)
    monkeypatch.setattr(text_module, "_CACHED_CHUNKS", 300)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(listed, texts)) == wanted
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("bound", [0, 2, 10])
def test_no_more_chunks_are_remembered_than_allowed(monkeypatch, bound):
    wanted = listed(SAMPLE)
    forget()
    monkeypatch.setattr(text_module, "_CACHED_CHUNKS", bound)
    monkeypatch.setattr(text_module, "_CHUNKS_AT_ONCE", 3)
    for text in SAMPLE:
        tokenize(text)
        assert len(text_module.get_tokenizer("en")._cache) <= bound
    assert listed(SAMPLE) == wanted


def test_spacy_does_not_keep_the_words_it_has_seen(monkeypatch):
    monkeypatch.setattr(text_module, "rule_languages", frozenset)
    tokenizer = text_module.Tokenizer("en")
    tokenizer.units(["warm", "up"])
    strings = tokenizer._nlp.vocab.strings
    before = len(strings)
    assert len(tokenizer.units([f"unheardof{i}" for i in range(100)])) == 100
    assert len(strings) == before


def test_very_long_texts_and_chunks():
    assert len(tokenize("word " * 200_000)) == 1 + 3  # xxwrep 200000 word
    digits = "".join(map(str, range(100_000)))
    assert "".join(tokenize(digits)[1:]) == digits  # one chunk, cut into pieces


# --- words and their tokens -------------------------------------------------


def checked(text, language="en"):
    """Align a text, check what holds for any text, and give its words with the tokens of each unit."""
    found = align(text, language)
    assert found.tokens == tokenize(text, language)
    shown = text_module.clean(text).replace("\x1f", "\n")
    assert found.text == shown
    at = 0
    for word, (begin, end) in zip(found.words, found.spans.tolist(), strict=True):
        assert found.text[begin:end] == word
        assert word
        assert not found.text[at:begin].strip()  # nothing but white space is left out
        at = end
    assert not found.text[at:].strip()
    assert found.token_offsets[0] == found.word_offsets[0] == 0
    assert found.token_offsets[-1] == len(found.tokens)
    assert found.word_offsets[-1] == len(found.words)
    assert len(found.token_offsets) == len(found.word_offsets)
    assert (np.diff(found.token_offsets) > 0).all()
    pairs = []
    for i in range(len(found.token_offsets) - 1):
        tokens = found.tokens[found.token_offsets[i] : found.token_offsets[i + 1]]
        words = found.words[found.word_offsets[i] : found.word_offsets[i + 1]]
        assert (not words) == (tokens[0] in ("xxbos", "xxfld"))
        pairs.append((" ".join(words), " ".join(tokens)))
    return pairs


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("", []),
        (" \n\t", []),
        ("I don't", [("I", "xxmaj i"), ("do", "do"), ("n't", "n't")]),
        ("NOOO!", [("N", "xxmaj n"), ("OOO", "xxrep 3 xxmaj o"), ("!", "!")]),
        ("no\n no  no.", [("no no no", "xxwrep 3 no"), (".", ".")]),
        ("No No No", [("No No No", "xxwrep 3 xxmaj no")]),
        ("and/or", [("and", "and"), ("/", "/"), ("or", "or")]),
        ("a&lt;b<br>c", [("a", "a"), ("<", "<"), ("b", "b"), ("c", "c")]),
        ("xxwrep 3 xxmaj", [("xxwrep", "\\xxwrep"), ("3", "3"), ("xxmaj", "\\xxmaj")]),
        (join_fields(["A no", "no no"]), [
            ("", "xxfld 1"), ("A", "xxmaj a"), ("no", "no"), ("", "xxfld 2"), ("no", "no"), ("no", "no"),
        ]),
        ("e\u0301te\u0301", [("été", "été")]),
        ("a\ud83d\ude00b", [("a", "a"), ("😀", "😀"), ("b", "b")]),
    ],
)  # fmt: skip
def test_words_and_their_tokens(text, units):
    assert checked(text) == [("", "xxbos"), *units]


HOSTILE = st.lists(
    st.one_of(
        st.sampled_from([
            "no", "No", "NO", " ", "\n", "\x1f", "!!!", "...", "&amp;", "&#31;", "&lt;br&gt;", "<br />", "xxmaj", "xxbos",
            "XXWREP", "3", "aaa", "/", "#", "\\", "\x00", "\x85", "\ud800", "\ud83d\ude00", "e\u0301", "\u200f", "\u3000",
            "don't", "U.S.", ":-)", "a/b", "1,000", "שלום", "今天", "x" * 1_005, "ab" * 600 + ",",
        ]),
        st.text(max_size=6),
    ),
    max_size=14,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(HOSTILE.map("".join), st.sampled_from(["en", "es", "xx", "zh"]))
def test_any_text_is_aligned_as_it_is_tokenized(text, language):
    checked(text, language)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["no", "No", "a!", "", "\n"]), max_size=5).map(" ".join), max_size=4))
def test_fields_are_aligned_as_they_are_tokenized(fields):
    checked(join_fields(fields))


def test_a_tokenizer_that_writes_words_otherwise(monkeypatch):
    """Not spaCy's own, such as those of Japanese or Thai: what is not found in the text has an empty span."""
    monkeypatch.setattr(text_module.Tokenizer, "_tokens", lambda self, piece: ["天", "new", " ", "气"] if piece else [])
    forget()
    found = align("天 气", "zh")
    forget()
    assert found.tokens == ["xxbos", "天", "new", "气"]
    assert found.words == ["天", "new", "气"]
    assert found.spans.tolist() == [[0, 1], [1, 1], [2, 3]]


def test_a_long_text_is_aligned_in_a_moment():
    found = align(" ".join(f"word{i % 1000} no no no" for i in range(20_000)))
    assert len(found.words) == 80_000
    assert found.token_offsets[-1] == 20_000 * 4 + 1


# --- TokenIds ---------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=6), st.data())
def test_take_gives_the_documents_asked_for(documents, data):
    offsets = np.cumsum([0, *map(len, documents)])
    corpus = TokenIds(np.array(functools.reduce(operator.iadd, documents, []), np.int32), offsets)
    chosen = data.draw(st.lists(st.integers(0, len(documents) - 1), max_size=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "_DOCUMENTS_AT_ONCE", data.draw(st.integers(1, 9)))
        taken = corpus.take(np.array(chosen, int))
    assert [taken[i].tolist() for i in range(len(taken))] == [documents[i] for i in chosen]
    assert corpus.lengths.tolist() == list(map(len, documents))


def test_index_outside_the_corpus():
    corpus = TokenIds(np.array([1, 2], np.int32), np.array([0, 1, 2]))
    assert corpus[-1].tolist() == [2]
    with pytest.raises(IndexError, match="document 2 of a corpus of 2"):
        corpus[2]
    assert [d.tolist() for d in corpus] == [[1], [2]]


# --- Vocabulary -------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "xxfake", "xxfake0", "xxpad", "xxbos", "c"]), max_size=30))
def test_any_word_list_becomes_a_sound_vocabulary(given_words):
    vocabulary = Vocabulary(given_words)
    assert len(vocabulary) % 8 == 0
    assert len(set(vocabulary.words)) == len(vocabulary)
    assert set(SPECIAL_TOKENS) <= set(vocabulary.words)
    for position, word in enumerate(given_words):
        if word not in given_words[:position]:
            assert vocabulary.words[position] == word  # ids of published vocabularies are kept
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert [vocabulary.index(word) for word in vocabulary.words] == list(range(len(vocabulary)))


def test_words_are_chosen_by_frequency():
    names = ["rare", "often", "some", "tie", "xxbos"]
    vocabulary = Vocabulary.from_counts(names, np.array([1, 9, 3, 3, 50]), max_size=16, min_frequency=2)
    assert vocabulary.words[8:11] == ["often", "some", "tie"]
    assert len(vocabulary) == 16
    assert vocabulary.index("rare") == vocabulary.unk
    assert vocabulary.words.count("xxbos") == 1


@pytest.mark.parametrize("n", [8, 15, 16, 17, 100])
def test_size_is_a_multiple_of_eight_within_the_limit(n):
    names = [f"w{i}" for i in range(n)]
    vocabulary = Vocabulary.from_counts(names, np.full(n, 2), max_size=67)
    assert len(vocabulary) % 8 == 0
    assert len(vocabulary) <= 67
    assert sum(w.startswith("w") for w in vocabulary.words) == min(n, 56)


def test_known_words_need_no_frequency_and_fill_free_places():
    vocabulary = Vocabulary.from_counts(
        ["new", "once"], np.array([2, 1]), known=["once", "never", "xxbos"], max_size=16
    )
    assert vocabulary.words[8:11] == ["new", "once", "never"]


def test_bad_vocabularies():
    with pytest.raises(ValueError, match="max_size must be at least 16"):
        Vocabulary.from_counts([], np.array([], int), max_size=8)
    with pytest.raises(ValueError, match="must be str; got 3"):
        Vocabulary(["a", 3])
    with pytest.raises(ValueError, match="JSON list"):
        Vocabulary.from_json('{"a": 1}')
