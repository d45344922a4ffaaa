"""Characters that readers take for the same give the same tokens."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sk_ulmfit.text.alignment import align
from sk_ulmfit.text.normalization import normalize
from sk_ulmfit.text.tokenizer import join_fields, tokenize, tokenize_corpus

ODD = st.lists(
    st.one_of(
        st.sampled_from([
            "don’t", "“", "”", "«", "–", "—", "\u2011", "\u00ad", "\u200b", "\u200c", "\u200d", "\ufe0f", "\u2060", "\ufeff",
            "\u0301", "e\u0301", "ﬁ", "Ａ", "ﾊﾞ", "&rsquo;", "&shy;", "&amp;", "&a\u00admp;", "＆amp;", "…", "\x92", "\x1f",
            "👩\u200d💻", "❤\ufe0f", "क\u200d", "ไทย\u200b", "𝐛", "a", "no", " ", "\u3000", "\u00a0", "\u202f", "\U000e0067",
        ]),
        st.text(max_size=4),
    ),
    max_size=12,
).map("".join)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I don’t, you don‘t, we donʼt, they don´t, he don′t", "I don't, you don't, we don't, they don't, he don't"),
        ("“Yes”, „ja“, «oui», ‚no‘", '"Yes", "ja", "oui", \'no\''),
        ("well‐known well\u2011known well–known well—known − ―", "well-known well-known well-known well-known - -"),
        ("wait… what‥", "wait... what.."),
        ("re\u00adfund re\u200bfund re\u200cfund re\u200dfund re\u2060fund re\ufefffund", "refund " * 5 + "refund"),
        ("\ufeffre\u034ffund \u202ere\u2066fund\u2069 re\u061cfund re\u200efund", "refund refund refund refund"),
        ("5\u00a0km 5\u202fkm 5\u2009km 5\u3000km 5\u2800km", "5 km 5 km 5 km 5 km 5 km"),
        ("one\u2028two\u2029three", "one two three"),
        ("ﬁnal oﬀer ﬂag ĳs ŉ", "final offer flag ijs 'n"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ！ ＃１ 𝐛𝐨𝐥𝐝 𝒮𝒸𝓇𝒾𝓅𝓉", "Full width! #1 bold Script"),
        ("e\u0301te\u0301 e\u00ad\u0301", "été é"),
        ("don\x92t \x93say\x94 so \x96 ok", 'don\'t "say" so - ok'),
        ("don&rsquo;t re&shy;fund &ldquo;ok&rdquo; &#8203;&nbsp;a &#146;", "don't refund \"ok\" a '"),
        ("I ❤\ufe0f it", "I ❤ it"),
    ],
)
def test_typographic_text_reads_like_typed_text(text, plain):
    assert tokenize(text) == tokenize(plain)


@pytest.mark.parametrize(
    "text", ["10² ½ ™ ③ × ° • → €", "👩\u200d💻", "می\u200cخواهم", "क\u094d\u200dष", "ー", "¿qué?"]
)
def test_what_has_a_meaning_of_its_own_stays(text):
    assert normalize(text) == text


def test_an_invisible_space_separates_the_words_of_scripts_without_blanks():
    assert normalize("สวัสดี\u200bครับ") == "สวัสดี ครับ"
    assert tokenize("refund\u200b now") == tokenize("refund now")


def test_ascii_is_never_changed():
    text = "".join(map(chr, range(128)))
    assert normalize(text) == text
    assert normalize(text + "é") == text + "é"


def test_no_character_needs_a_second_pass():
    for char in map(chr, range(0x110000)):
        once = normalize(char)
        assert normalize(once) == once
        assert unicodedata.is_normalized("NFC", once)


@settings(max_examples=300, deadline=None)
@given(ODD)
@example("\u1100\u00ad\u1161\u0301")
def test_normalizing_twice_changes_nothing(text):
    assert normalize(normalize(text)) == normalize(text)


@settings(max_examples=200, deadline=None)
@given(ODD, st.sampled_from(["en", "xx", "zh"]))
def test_a_normalized_text_has_the_same_tokens(text, language):
    assert tokenize(normalize(text), language) == tokenize(text, language)


@settings(max_examples=200, deadline=None)
@given(st.lists(ODD, min_size=1, max_size=3))
def test_spans_lie_in_the_text_and_in_order(fields):
    aligned = align(join_fields(fields))
    edges = aligned.spans.ravel().tolist()
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(aligned.text) for edge in edges)
    assert [aligned.text[begin:end] for begin, end in aligned.spans.tolist()] == aligned.words
    assert aligned.tokens == tokenize(join_fields(fields))


def test_training_and_prediction_read_alike():
    corpus, words = tokenize_corpus(["I don’t", "I don't"])
    assert [words[i] for i in corpus[0]] == [words[i] for i in corpus[1]]
