"""The picture of the front page: ``python docs/_ext/front_picture.py`` trains a model and writes ``_static/labels.svg``.

A message, the probability of each label, its threshold, and the words behind the labels that are predicted.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages

LINES = ("The parcel came late and the lamp in it flickers.", "I want my money back.")
COLOURS = ("#0b6bcb", "#b45309", "#15803d", "#7e22ce")
WIDTH, LEFT, BAR, ROW, TOP = 640, 140, 400, 28, 114
STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; font-size: 17px; fill: #24292f; }
.message { font-size: 21px; } .name { text-anchor: end; } .small { font-size: 16px; fill: #57606a; }
.word { font-weight: 700; text-decoration: underline; } .yes { font-weight: 700; }
"""


def message_lines(colour_of_word):
    """Return the message as text, each telling word in the colour of its label."""
    for i, line in enumerate(LINES):
        words = []
        for word in line.split():
            bare = word.strip(".")
            colour = colour_of_word.get(bare)
            mark = f'<tspan class="word" fill="{colour}">{bare}</tspan>'
            words.append((mark if colour else bare) + word[len(bare) :])
        yield f'<text class="message" x="24" y="{42 + 30 * i}">{" ".join(words)}</text>'


def label_rows(names, proba, thresholds, colours):
    """Return a bar for each label, with a mark at its threshold."""
    for i, (name, p, threshold) in enumerate(zip(names, proba, thresholds, strict=True)):
        y, x = TOP + ROW * i, LEFT + BAR * threshold
        chosen = "name yes" if name in colours else "name"
        yield (
            f'<text class="{chosen}" x="{LEFT - 12}" y="{y + 6}">{name}</text><!--{100 * p:.0f}%-->'
            f'<rect x="{LEFT}" y="{y - 8}" width="{BAR}" height="16" rx="3" fill="#eef1f4"/>'
            f'<rect x="{LEFT}" y="{y - 8}" width="{max(BAR * p, 2):.0f}" height="16" rx="3" '
            f'fill="{colours.get(name, "#a8b1bb")}"/>'
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{y - 11}" y2="{y + 11}" stroke="#24292f" stroke-width="2"/>'
            f'<text x="{LEFT + BAR + 14}" y="{y + 6}">{100 * p:.0f} %</text>'
        )


def draw(clf):
    """Return the picture as SVG."""
    message = " ".join(LINES)
    proba, explanation = clf.predict_proba([message])[0], clf.explain([message])[0]
    colours = dict(zip(clf.predict_labels([message])[0], COLOURS, strict=False))
    words = {word: colours[name] for name in colours for word, _ in explanation.top_words(name, k=2)}
    bars = label_rows(clf.label_names_, proba, clf.thresholds_, colours)
    bottom = TOP + ROW * len(proba)
    note = f'<text class="small" x="{LEFT}" y="{bottom + 8}">Labels are predicted if their bars reach the thresholds |</text>'
    frame = f'<rect x="1" y="1" width="{WIDTH - 2}" height="{bottom + 26}" rx="8" fill="#fff" stroke="#d0d7de"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 28}" role="img">'
    described = f"<desc>{escape(message)}</desc><style>{STYLE}</style>"
    return "\n".join([head, described, frame, *message_lines(words), *bars, note, "</svg>\n"])


def main():
    """Train the model of the quickstart and write the picture."""
    train = load_support_messages("train")
    clf = ULMFiTMultiLabelClassifier(random_state=0).fit(train.texts, train.labels)
    (Path(__file__).parents[1] / "_static" / "labels.svg").write_text(draw(clf), encoding="utf-8")


if __name__ == "__main__":
    main()
