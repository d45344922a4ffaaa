import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_rules import SPACY_VERSION, rules_of

from sk_ulmfit.text import tokenizer as tokenizer_module
from sk_ulmfit.text.rules import RULES, RuleTokenizer, read_rules, rule_languages
from sk_ulmfit.text.tokenizer import Tokenizer

LANGUAGES = ["en", "de", "fr", "hu", "es", "tr", "ta", "xx"]
PIECES = [
    *[
        "don't",
        "can't've",
        "U.S.",
        "e.g.",
        "e.g",
        "10km",
        "a.m.",
        "http://a-b.com/x?y=1,2",
        "me@mail.com",
        "www.x.org/)",
    ],
    *[
        "(",
        ")",
        ":",
        ":)",
        "):",
        ":-(((",
        "}",
        "'",
        "'s",
        "’s",
        '"',
        "...",
        "-",
        "--",
        "—",
        "/",
        "%",
        "$",
        "€",
        ",",
        ".",
    ],
    *[
        "z.B.",
        "aujourd'hui",
        "l'été",
        "EE.UU.",
        "-e",
        "18.00-ig",
        "Dr.",
        "▁",
        "é",
        "\u0301",
        "ß",
        "中文",
        "😀",
        "x",
        "X",
        "9",
    ],
]


def spacy_tokens(model, piece):
    return [token.text for token in model.tokenizer(piece)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_piece_gets_the_tokens_that_spacy_gives_it(language):
    model, own = spacy.blank(language), RuleTokenizer(read_rules(language))
    special = [case for case in own._special if case.split() == [case]]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([*PIECES, *special]) | st.characters(exclude_categories=["Cs"]), max_size=5))
    def check(parts):
        for piece in "".join(parts).split():
            assert list(own.tokens(piece)) == spacy_tokens(model, piece)

    check()
    for piece in PIECES + special:
        assert list(own.tokens(piece)) == spacy_tokens(model, piece)


def test_special_cases_of_several_tokens_are_found_as_spacy_finds_them():
    model, own = spacy.blank("ta"), RuleTokenizer(read_rules("ta"))
    for piece in ("x):)", "a_):)", "(._.):)", "felle.g.(._.):)", ":)):", "x:-)", "):("):
        assert list(own.tokens(piece)) == spacy_tokens(model, piece)


def same_rules(language):
    with zipfile.ZipFile(RULES) as file:
        written_with = file.read(SPACY_VERSION).decode()
    if written_with != spacy.__version__:
        pytest.skip(f"the rules are those of spaCy {written_with}")
    assert read_rules(language) == rules_of(language)


@pytest.mark.parametrize("language", ["en", "de", "xx"])
def test_the_rules_are_those_of_spacy(language):
    same_rules(language)


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(rule_languages()))
def test_the_rules_of_all_languages_are_those_of_spacy(language):
    same_rules(language)


@pytest.mark.parametrize("language", ["en", "es"])
def test_chunks_get_the_units_that_spacy_gives_them(language, monkeypatch):
    chunks = ["Don't", "(no", "cooool", "and/or", "EE.", "UU.", "U.S.!!!", "x" * 1_100, "'NASA's", "8km)."]
    units = Tokenizer(language).units(chunks)
    monkeypatch.setattr(tokenizer_module, "rule_languages", frozenset)
    of_spacy = Tokenizer(language)
    assert of_spacy._rules is None
    assert of_spacy.units(chunks) == units


def test_spacy_is_not_imported_for_a_language_with_rules():
    code = (
        "import sys; from sk_ulmfit.text import tokenize; tokenize('the lamp'); assert 'spacy' not in sys.modules; "
        "tokenize('the lamp', 'zh'); assert 'spacy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_spacy_a_language_that_needs_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ValueError, match=r"^language='zh' needs spaCy, which is not installed; install it with .*\.$"):
        Tokenizer("zh")


def test_a_long_text_holds_up_no_other_thread(monkeypatch):
    is_slow, may_end = threading.Event(), threading.Event()
    tokens = RuleTokenizer.tokens

    def slow_tokens(self, piece):
        if piece == "slow":
            is_slow.set()
            assert may_end.wait(20)
        return tokens(self, piece)

    monkeypatch.setattr(RuleTokenizer, "tokens", slow_tokens)
    tokenizer = Tokenizer("en")
    with ThreadPoolExecutor(3) as threads:
        slow = [threads.submit(tokenizer.units, ["slow"]), threads.submit(tokenizer.words, ["slow"])]
        try:
            assert is_slow.wait(20)
            assert threads.submit(tokenizer.units, ["quick"]).result(10) == [("quick",)]
        finally:
            may_end.set()
        assert slow[0].result(10) == [("slow",)]
