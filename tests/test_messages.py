"""No cell, list or parameter comes back whole in a message: at most 300 characters of data."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sk_ulmfit import (
    MultiLabelStratifiedKFold,
    MultiLabelThresholdTuner,
    TextFieldJoiner,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
)
from sk_ulmfit._messages import describe_value, short, short_names, short_text
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_folders, load_support_messages, load_table
from sk_ulmfit.labels import check_labels, check_pos_weight, indicator_of, per_label
from sk_ulmfit.metrics import multilabel_scorer
from sk_ulmfit.pretraining import pretrain
from sk_ulmfit.text.streams import StreamedTexts, check_texts
from sk_ulmfit.text.tokenizer import join_fields
from sk_ulmfit.thresholds import check_candidates, check_metric, check_thresholds
from sk_ulmfit.training.data import check_labelled_texts

OTHER = Path(__file__).parent / "saved_models" / "head.model"
MARK = "ж"  # stands for data, and is in no message of the package
CELL = MARK * 100_000
NAMES = [f"{MARK * 100}{i}" for i in range(3000)]
NUMBERS = [7.77] * 3000
TEXTS, Y = ["a", "b"], [["x"], ["y"]]


def frame(**columns):
    return pd.DataFrame({"t": ["a"], **{name: [cell] for name, cell in columns.items()}})


def fit(**parameters):
    ULMFiTMultiLabelClassifier(**parameters).fit(TEXTS, Y)


def tune(**parameters):
    MultiLabelThresholdTuner(ULMFiTMultiLabelClassifier(), **parameters).fit(TEXTS, Y)


CALLS = {
    "a text that is none": lambda: check_texts(["a", [CELL]]),
    "a streamed text that is none": lambda: list(StreamedTexts(lambda: [{"a": CELL}], 1)),
    "fields": lambda: join_fields([CELL, [CELL]]),
    "texts as y": lambda: check_labels([CELL, CELL]),
    "a frame of texts as y": lambda: check_labels(pd.DataFrame({CELL: [CELL]})),
    "a frame of lists as y": lambda: check_labels(pd.DataFrame({CELL: [[CELL]]})),
    "a row that is no list": lambda: check_labels([["x"], CELL]),
    "labels that are none": lambda: check_labels([["x"], [(CELL,)]]),
    "names twice": lambda: check_labels(pd.DataFrame([[0] * 6000], columns=NAMES * 2)),
    "an unknown label": lambda: indicator_of([[CELL]], NAMES),
    "a missing column": lambda: indicator_of(pd.DataFrame([[0]], columns=[NAMES[0]]), NAMES),
    "pos_weight": lambda: check_pos_weight([-1.0] * 3000, np.zeros((2, 3000)), NAMES),
    "pos_weight of a name": lambda: per_label("pos_weight", {CELL: 1}, NAMES, 1.0),
    "pos_weight of texts": lambda: per_label("pos_weight", NAMES, NAMES, 1.0),
    "labels that look alike": lambda: check_labelled_texts(TEXTS, [[CELL, *NAMES], [CELL + "\u200b", *[n + " " for n in NAMES]]]),
    "labels that are the same": lambda: check_labelled_texts(TEXTS, [NAMES, NAMES]),
    "a threshold": lambda: check_thresholds(NUMBERS, list(range(3000))),
    "a threshold that is text": lambda: check_thresholds(CELL, NAMES),
    "candidates": lambda: check_candidates(NUMBERS),
    "candidates that are texts": lambda: check_candidates(NAMES),
    "a metric": lambda: check_metric(CELL, "scoring"),
    "a metric of a dict": lambda: check_metric({"precision": NAMES}, "scoring"),
    "threshold of fit": lambda: fit(threshold=NUMBERS),
    "bptt": lambda: fit(bptt=NAMES),
    "device": lambda: fit(device=CELL),
    "precision": lambda: fit(precision=CELL),
    "schedule": lambda: fit(schedule=NAMES),
    "language_model": lambda: fit(language_model=NAMES),
    "callbacks": lambda: fit(callbacks=NAMES),
    "memory": lambda: fit(memory=NAMES),
    "verbose": lambda: fit(verbose=CELL),
    "early_stopping": lambda: fit(early_stopping=CELL),
    "sample_weight": lambda: ULMFiTMultiLabelClassifier().fit(TEXTS, Y, sample_weight=NAMES),
    "language": lambda: ULMFiTLanguageModel(language=CELL).fit(TEXTS),
    "pretrained": lambda: ULMFiTLanguageModel(pretrained={"a": CELL}).fit(TEXTS),
"a model file": lambda: ULMFiTMultiLabelClassifier.load(CELL),
    "a language model file": lambda: ULMFiTLanguageModel.load(CELL),
    "a file to save to": lambda: ULMFiTMultiLabelClassifier.load(OTHER).save(CELL),
    "a file of fastai": lambda: ULMFiTLanguageModel.from_fastai(CELL, CELL),
    "a language model by name": lambda: fit(language_model=CELL),
    "a corpus": lambda: pretrain(CELL, CELL),
    "random_state": lambda: fit(random_state=CELL),
    "cv": lambda: tune(cv=CELL),
    "scoring": lambda: tune(scoring=NAMES),
    "candidates of the tuner": lambda: tune(thresholds=NUMBERS),
    "a split": lambda: MultiLabelStratifiedKFold(2, random_state=CELL),
    "a scorer": lambda: multilabel_scorer(CELL),
    "an option of a scorer": lambda: multilabel_scorer("f1", **{CELL: 1}),
    "a column of texts": lambda: TextFieldJoiner([CELL]).fit_transform(pd.DataFrame([["a"] * 3000], columns=NAMES)),
    "cells of texts": lambda: TextFieldJoiner().fit_transform(pd.DataFrame({CELL: [[CELL]]})),
    "no such column": lambda: load_table(pd.DataFrame([["a"] * 3000], columns=NAMES), text=CELL),
    "columns named twice": lambda: load_table(frame(), text=NAMES * 2),
    "text and label": lambda: load_table(frame(**{CELL: "a"}), text=CELL, label_column=CELL),
    "equal columns": lambda: load_table(pd.DataFrame([["a"] * 6000], columns=NAMES * 2), text="t"),
    "a cell of text": lambda: load_table(frame(b=[CELL]), text="b"),
    "a cell of 0 and 1": lambda: load_table(frame(l=CELL), text="t", labels="l"),
    "a column of 0 and 1": lambda: load_table(frame(**{CELL: CELL}), text="t", labels=CELL),
    "a list": lambda: load_table(frame(l=f"['{CELL}"), text="t", label_column="l"),
    "a list in a column of that name": lambda: load_table(frame(**{CELL: f"['{CELL}"}), text="t", label_column=CELL),
    "several lists": lambda: load_table(frame(l=f"x;['{CELL}']"), text="t", label_column="l"),
    "a label": lambda: load_table(frame(l=[{CELL: CELL}]), text="t", label_column="l"),
    "names and numbers": lambda: load_table(frame(l=[CELL, 1]), text="t", label_column="l"),
    "lists and names": lambda: load_table(pd.DataFrame({"t": "a", "l": [[1] * 3000, CELL]}), text="t", label_column="l"),
    "another delimiter": lambda: load_table(frame(l=f"{CELL}|{CELL}"), text="t", label_column="l"),
    "labels of labels": lambda: load_table(
        pd.DataFrame({"t": "a", "l": [CELL, f"{CELL},{CELL}"]}), text="t", label_column="l"
    ),
    "labels that occur once": lambda: load_table(pd.DataFrame({"t": "a", "l": NAMES}), text="t", label_column="l"),
    "blank": lambda: load_table(frame(), text="t", blank=CELL),
    "a file": lambda: load_table(CELL, text="t"),
    "a folder": lambda: load_folders(CELL),
    "a part": lambda: load_support_messages(CELL),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_at_most_300_characters_of_data_come_back(name):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            CALLS[name]()
            messages = []
        except (ValueError, OSError) as error:
            messages = [str(error)]
    messages += [str(warning.message) for warning in caught]
    assert messages, "neither an error nor a warning"
    for message in messages:
        assert message.count(MARK) + message.count("\\u0436") * 6 + message.count("7.77") * 6 <= 300
        assert len(message) <= 900
        assert "\n" not in message


@pytest.mark.parametrize("case", range(5))
def test_nor_on_the_command_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame([["a", CELL, *["x"] * 3000]], columns=["t", "l", *NAMES]).to_csv("t.csv", index=False)
    options = [
        ["--text", CELL, "--label-column", "l"],
        ["--text", "t", "--labels", "l"],
        ["--text", "t", "--labels", *NAMES],
        ["--label-column", "l"],
        ["--text", "t", "--label-column", CELL],
    ]
    assert main(["train", "t.csv", "--out", "m", *options[case]]) == 2
    message = capsys.readouterr().err
    assert 0 < message.count(MARK) + ("t.csv" in message) <= 301


def test_short_is_one_line_and_says_that_it_is_cut():
    assert short("a") == "'a'"
    assert short("a" * 200, 10) == "'aaaaaa..."
    assert len(short(CELL)) == len(short(NAMES)) == len(short({CELL: CELL})) == 80
    assert "\n" not in short(pd.DataFrame({"a": range(100)})) + short(np.zeros((50, 50)))
    assert short_text("a\n b") == "a b"
    assert short_names(["a", "b"]) == "'a', 'b'"
    assert short_names(list(range(6))) == "0, 1, 2, 3, 4, ... (6 in all)"
    assert describe_value(float("nan")) == "nan (a missing value)"


def test_a_value_whose_repr_fails_is_named_too():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert "Broken object" in short(Broken(), 200)
    assert "list object" in short(nested)
