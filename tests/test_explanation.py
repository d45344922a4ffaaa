"""How explanations are shown: as plain text and as HTML."""

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from sk_ulmfit.explain import Explanation, Explanations, markup

HOSTILE = [
    "<script>alert('x')</script> & \"quoted\" 'words' </div></style>",
    "&lt;img src=x onerror=alert(1)&gt; &amp;amp;",
    "\u202e שלום <b>עולם</b> مرحبا \u200f",
    "\ud800 \x00 --> ]]>",
]


class Checker(HTMLParser):
    """Reads a page strictly: which tags it has, that they close, and what text a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.seen, self.attributes = set(), [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.seen.append(data)


def by_hand(text, labels=("red",), *, scale=1.0):
    spans = np.array([m.span() for m in re.finditer(r"\S+", text)], np.int64).reshape(-1, 2)
    scores = scale * np.resize([1.0, -0.5, 0.25, 0.01, 0.0], (len(spans), len(labels)))
    numbers = np.full(len(labels), 0.75)
    words = [text[a:b] for a, b in spans]
    return Explanation(text, words, spans, list(labels), numbers, numbers / 2, numbers, numbers, scores, "gradient")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_text_or_label_is_read_as_markup(text):
    e = by_hand(text, [text, "</b><script>"])
    page = Checker(e.to_html())
    assert page.tags == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "div",
        "ul",
        "li",
        "i",
        "b",
        "bdi",
        "p",
        "small",
        "span",
    }
    assert {name for name, _ in page.attributes} <= {
        "lang",
        "charset",
        "name",
        "content",
        "class",
        "style",
        "dir",
        "title",
    }
    shown = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    seen = "".join(page.seen).replace("\x00", "\ufffd")
    assert shown in seen  # the whole text, as it is
    tips = [value for name, value in page.attributes if name == "title"]
    assert any("</b><script> +" in tip for tip in tips)
    assert "http" not in e.to_html()


def test_hostile_texts_through_the_model(fitted):
    page = Checker(fitted.explain(HOSTILE, "delivery").to_html())
    assert "script" not in page.tags
    assert "".join(page.seen).count("alert") == 2


def test_words_for_and_against_look_different():
    page = by_hand("for against weak nothing zero", ["red"]).to_html()
    marked = dict(re.findall(r'<span style="([^"]*)" title="[^"]*">(\w+)</span>', page))
    marked = {word: style for style, word in marked.items()}
    assert marked.keys() == {"for", "against", "weak"}
    assert marked["for"].startswith("background: rgba(0,114,178,0.55")
    assert "dashed" in marked["against"]
    assert marked["weak"].startswith("background: rgba(0,114,178,0.21")


def test_a_word_has_the_colour_of_the_label_it_says_most_on():
    e = by_hand("one two", ["red", "blue"])
    e.scores[:] = [[2.0, -1.0], [0.5, 1.0]]
    page = e.to_html()
    colours = re.findall(r'<span style="background: rgba\((\d+,\d+,\d+)', page)
    assert colours == [",".join(map(str, markup.COLOURS[0])), ",".join(map(str, markup.COLOURS[1]))]
    assert 'title="red +2.00, blue −1.00"' in page


def test_a_label_keeps_its_colour_where_those_of_a_text_differ():
    names = [f"label{k}" for k in range(8)]
    several = [by_hand("word", chosen) for chosen in (names, ["label3"], ["label0", "label6"], ["label1", "label0"])]
    colours = markup._colours([e._highlighted() for e in several])
    assert len(set(colours[0])) == len(markup.COLOURS)
    assert colours[1] == [colours[0][3]]
    assert colours[3] == [colours[0][1], colours[0][0]]
    assert colours[2][0] == colours[0][0] != colours[2][1]


def test_long_texts_are_shown_around_their_strongest_words():
    text = " ".join(f"word{i}" for i in range(50_000))
    e = by_hand(text, ["red"])
    e.scores[:] = 0
    e.scores[[7_000, 15_000]] = [[1.0], [-2.0]]
    page = e.to_html()
    assert len(page) < 10_000
    for word in ("word7000", "word15000", "word6995", "word15005"):
        assert f"{word}<" in page or f"{word} " in page
    assert "word10000" not in page
    shown = str(e)
    assert "... word6996 word6997 word6998 word6999 word7000" in shown
    assert len(shown) < 500
    long = by_hand("a" * 100_000)
    assert len(long.to_html()) < 10_000
    assert len(str(long)) < 500
    assert len(by_hand("").to_html()) < 3_000


@pytest.mark.parametrize("budget", [1, 10, 35, 60, 1000])
def test_excerpts_lie_in_the_text_and_within_the_budget(budget):
    rng = np.random.default_rng(budget)
    spans = np.array([[10 * i, 10 * i + 9] for i in range(20)])
    parts = markup.excerpts(200, spans, rng.random(20), budget, 1)
    assert parts
    flat = [edge for part in parts for edge in part]
    assert flat == sorted(flat)
    assert 0 < sum(b - a for a, b in parts) <= max(budget, 1)
    assert flat[-1] <= 200


def test_plain_form():
    e = by_hand("late is the lamp again", ["delivery", "x"])
    e.scores[:] = [[1.0, 0], [-0.5, 0], [0.25, 0], [0.01, 0], [0.0, 0]]
    lines = str(e).splitlines()
    assert lines[0] == "late is the lamp again"
    assert lines[1].startswith("  delivery 0.75 (threshold 0.38)  for: +1.00 late  +0.25 the  against: -0.50 is")
    assert lines[2] == "  x        0.75 (threshold 0.38)"
    assert len(lines) == 3


def test_top_words_add_up_occurrences():
    e = by_hand("Late late x LATE y", ["red"])
    e.scores[:, 0] = [1, 1, 2.5, 1, -1]
    assert e.top_words("red") == [("Late", 3.0), ("x", 2.5)]
    assert e.top_words("red", 1) == [("Late", 3.0)]
    assert e.top_words("red", against=True) == [("y", -1.0)]
    with pytest.raises(ValueError, match="This explanation has 'red' only; to explain 'blue', pass it"):
        e.top_words("blue")


def test_a_sequence_of_explanations():
    items = [by_hand(f"text {i}") for i in range(25)]
    several = Explanations(items)
    assert len(several) == 25
    assert several[3] is items[3]
    assert list(several[1:3]) == items[1:3]
    assert isinstance(several[1:3], Explanations)
    assert repr(several) == str(several)
    assert str(several).endswith("... and 5 more texts")
    assert several._repr_html_().count('class="sk-ulmfit"') == 20
    assert several.to_html().count('class="sk-ulmfit"') == 25
    Checker(items[0]._repr_html_())
    head, body = several.to_html().split("</head>")
    assert head.count("<style>") == 1
    assert "<style>" not in body


def test_a_page_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    e = by_hand("\ud800 שלום late", ["red"])
    path = tmp_path / "page.html"
    e.save_html(path)
    assert path.read_bytes().decode("utf-8") == e.to_html()
    assert "late" in html.unescape(path.read_text(encoding="utf-8"))
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ValueError, match=r"page.html could not be written \(No space left on device\); choose another"):
        Explanations([e]).save_html(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="could not be written"):
        e.save_html(tmp_path / "no" / "page.html")
