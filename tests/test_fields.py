import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_corpus, tiny_classifier
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer

from sk_ulmfit import TextFieldJoiner
from sk_ulmfit.text.tokenizer import join_fields, tokenize

TEXTS, LABELS = make_corpus(24)
Y = MultiLabelBinarizer().fit_transform(LABELS)
FRAME = pd.DataFrame({"id": range(24), "title": [f"Case {i}" for i in range(24)], "body": TEXTS})


@pytest.mark.parametrize("form", ["pandas", "polars", "array"])
def test_columns_are_joined_as_the_classifier_wants_them(form):
    joiner = TextFieldJoiner(None if form == "array" else ["title", "body"])
    table = {
        "pandas": FRAME,
        "polars": pl.from_pandas(FRAME),
        "array": FRAME[["title", "body"]].to_numpy(),
    }[form]
    joined = joiner.fit_transform(table)
    assert joined.tolist() == [join_fields([title, body]) for title, body in zip(FRAME["title"], TEXTS, strict=True)]


def test_one_column_is_left_as_it_is_and_blanks_are_empty_texts():
    frame = pd.DataFrame({"a": ["x", None, np.nan, pd.NA], "b": ["y"] * 4})
    assert TextFieldJoiner("a").fit_transform(frame).tolist() == ["x", "", "", ""]
    assert tokenize(TextFieldJoiner().fit_transform(frame)[1]) == ["xxbos", "xxfld", "1", "xxfld", "2", "y"]


def test_in_a_pipeline_behind_a_column_transformer_and_in_a_search():
    plain = tiny_classifier().fit(TextFieldJoiner(["title", "body"]).fit_transform(FRAME), Y)
    pipe = make_pipeline(TextFieldJoiner(["title", "body"]), tiny_classifier()).fit(FRAME, Y)
    assert np.array_equal(pipe.predict_proba(FRAME), plain.predict_proba(pipe[0].transform(FRAME)))
    columns = ColumnTransformer([("title", FunctionTransformer(), ["title"]), ("body", "passthrough", ["body"])])
    behind = make_pipeline(columns, TextFieldJoiner(), tiny_classifier()).fit(FRAME, Y)
    assert np.array_equal(behind.predict_proba(FRAME), pipe.predict_proba(FRAME))
    search = GridSearchCV(
        clone(pipe), {"textfieldjoiner__columns": ["body", ["title", "body"]]}, cv=2, scoring="f1_micro"
    )
    assert search.fit(FRAME, Y).best_score_ > 0


@pytest.mark.parametrize(
    ("columns", "table", "message"),
    [
        (["body", "nope"], FRAME, "X has no column 'nope'. Its columns are 'id', 'title', 'body'"),
        (None, FRAME, "X, row 0: column 'id' holds 0 of type int, not text"),
        (None, TEXTS, "must be a DataFrame or a 2-D array of text columns, got a list of shape"),
        (["a"], np.array([["x"]]), "leave columns=None"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(columns, table, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        TextFieldJoiner(columns).fit_transform(table)
    assert "\n" not in str(caught.value)


def test_columns_are_those_of_fit_whatever_their_order_later():
    frame = FRAME[["title", "body"]]
    joiner = TextFieldJoiner().fit(frame)
    assert joiner.transform(frame[["body", "title"]]).tolist() == joiner.transform(frame).tolist()
    with pytest.raises(ValueError, match="X has no column 'title'"):
        joiner.transform(frame[["body"]])
    with pytest.raises(ValueError, match="X has 1 columns, and fit saw 2"):
        joiner.transform(np.array([["x"]]))


def test_fit_again_forgets_what_it_saw():
    joiner = TextFieldJoiner().fit(FRAME[["title"]])
    assert joiner.fit_transform(FRAME[["title", "body"]])[0] == join_fields(["Case 0", TEXTS[0]])
    assert not hasattr(joiner.fit(np.array([["x"]])), "feature_names_in_")
    twice = pd.concat([FRAME["body"], FRAME["body"]], axis=1)
    with pytest.raises(ValueError, match="X has several columns 'body'"):
        TextFieldJoiner("body").fit(twice)
