import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
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


JOINED = [join_fields([title, body]) for title, body in zip(FRAME["title"], TEXTS, strict=True)]


def hugging_face(frame):
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset(pa.Table.from_pandas(frame), fingerprint="0")


FORMS = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
    "arrow batch": pa.RecordBatch.from_pandas,
    "hugging face": hugging_face,
    "array": lambda frame: frame.to_numpy(),
    "lists": lambda frame: frame.to_numpy().tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_joined_as_the_classifier_wants_them(form):
    has_names = form not in ("array", "lists")
    joiner = TextFieldJoiner(["title", "body"] if has_names else None)
    joiner.fit(FORMS[form](FRAME if has_names else FRAME[["title", "body"]]))
    later = FRAME[["body", "title"]] if has_names else FRAME[["title", "body"]]  # without what is not joined
    assert joiner.transform(FORMS[form](later)).tolist() == JOINED
    assert joiner.n_features_in_ == (3 if has_names else 2)
    assert getattr(joiner, "feature_names_in_", np.array([])).tolist() == (["id", "title", "body"] if has_names else [])
    assert joiner.get_feature_names_out().tolist() == ["title_body" if has_names else "x0_x1"]


@pytest.mark.parametrize("form", ["pandas", "polars", "arrow", "hugging face"])
def test_a_table_of_one_column_is_its_texts(form):
    clf = tiny_classifier().fit(TEXTS, Y)
    one = FORMS[form](FRAME[["body"]])
    assert np.array_equal(clf.predict_proba(one), clf.predict_proba(TEXTS))
    assert np.array_equal(tiny_classifier().fit(one, Y).predict_proba(one), clf.predict_proba(TEXTS))


@pytest.mark.parametrize(("container", "kind"), [("pandas", pd.DataFrame), ("polars", pl.DataFrame)])
def test_a_data_frame_comes_out_if_one_is_asked_for(container, kind):
    frame = FRAME.set_index(np.arange(24) * 2)
    joiner = TextFieldJoiner(["title", "body"]).set_output(transform=container)
    out = joiner.fit_transform(frame if container == "pandas" else pl.from_pandas(FRAME))
    assert isinstance(out, kind)
    assert list(out.columns) == ["title_body"]
    assert out["title_body"].to_list() == JOINED
    if container == "pandas":
        assert out.index.equals(frame.index)
    assert list(TextFieldJoiner("body").set_output(transform="pandas").fit_transform(FRAME).columns) == ["body"]


def test_a_pipeline_hands_data_frames_on():
    plain = make_pipeline(TextFieldJoiner(["title", "body"]), tiny_classifier()).fit(FRAME, Y)
    pipe = make_pipeline(TextFieldJoiner(["title", "body"]), tiny_classifier()).set_output(transform="pandas")
    assert np.array_equal(pipe.fit(FRAME, Y).predict_proba(FRAME), plain.predict_proba(FRAME))
    assert pipe[:-1].get_feature_names_out().tolist() == ["title_body"]
    assert pipe.feature_names_in_.tolist() == ["id", "title", "body"]


def test_it_works_inside_a_column_transformer_with_data_frames():
    join = TextFieldJoiner().set_output(transform="pandas")
    columns = ColumnTransformer([("text", join, ["title", "body"])], verbose_feature_names_out=False)
    inside = make_pipeline(columns, tiny_classifier()).fit(FRAME, Y)
    plain = tiny_classifier().fit(JOINED, Y)
    assert np.array_equal(inside.predict_proba(FRAME), plain.predict_proba(JOINED))
    assert columns.get_feature_names_out().tolist() == ["title_body"]
    assert columns.set_output(transform="pandas").fit_transform(FRAME)["title_body"].tolist() == JOINED


def test_names_that_fit_did_not_see_are_refused():
    joiner = TextFieldJoiner().fit(FRAME[["title", "body"]])
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_: 'a', 'b'"):
        joiner.get_feature_names_out(["a", "b"])
    assert TextFieldJoiner().fit(np.array([["x", "y"]])).get_feature_names_out(["a", "b"]).tolist() == ["a_b"]
    with pytest.raises(ValueError, match="There is no column to join"):
        TextFieldJoiner([]).fit(FRAME)


@pytest.mark.parametrize("form", ["pandas", "polars"])
def test_in_a_plan_of_skrub(form):
    skrub = pytest.importorskip("skrub")
    table = FORMS[form](FRAME)
    plain = make_pipeline(TextFieldJoiner(["title", "body"]), tiny_classifier()).fit(FRAME, Y)
    data, y = skrub.X(table), skrub.y(Y)
    text = data.skb.apply(TextFieldJoiner(), cols=["title", "body"]).skb.select("title_body")
    plan = text.skb.apply(tiny_classifier(), y=y)
    learner = plan.skb.make_learner(fitted=True)
    assert np.array_equal(learner.predict_proba({"X": table}), plain.predict_proba(FRAME))
    whole = data.skb.apply(make_pipeline(TextFieldJoiner(["title", "body"]), tiny_classifier()), y=y)
    assert np.array_equal(whole.skb.make_learner(fitted=True).predict({"X": table}), plain.predict(FRAME))


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
