"""Arrow arrays and tables, and columns of Hugging Face data sets, as texts and as labels."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sk_ulmfit import MultiLabelThresholdTuner
from sk_ulmfit.datasets import load_table
from sk_ulmfit.labels import check_labels, indicator_of, label_lists
from sk_ulmfit.text.streams import check_texts

pa = pytest.importorskip("pyarrow")


class ClassLabel:
    names = ("joy", "love", "anger")


class ClassLabels:
    feature = ClassLabel()


class Column(list):  # as a column of Hugging Face data sets
    def __init__(self, rows, features, name="labels"):
        super().__init__(rows)
        self.features, self.column_name, self.source = features, name, None


def test_class_labels_of_hugging_face_keep_their_names():
    y = Column([[0, 2], [], [1]], ClassLabels())
    for indicator, names in (check_labels(y), indicator_of(y, None), indicator_of(y, ["joy", "love", "anger"])):
        assert indicator.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
        assert names == ["joy", "love", "anger"]
    assert check_labels(Column([0, 2], ClassLabel()))[0].tolist() == [[1, 0, 0], [0, 0, 1]]
    assert check_labels(Column([[1, 0], [0, 1]], None))[1] == [0, 1]
    assert check_labels(Column([["a"], ["b"]], None))[1] == ["a", "b"]
    for rows in ([[0], [3]], [[-1], [0]]):
        with pytest.raises(
            ValueError, match=r"column of class numbers holds (3|-1), but its 3 classes are 'joy', 'love'"
        ):
            check_labels(Column(rows, ClassLabels()))
    with pytest.raises(ValueError, match=r"y\[1\] is None; expected class numbers"):
        check_labels(Column([[0], None], ClassLabels()))


def test_arrow_gives_labels_texts_and_names():
    lists = [["a"], ["b", "c"], []]
    for y in (
        pa.array(lists),
        pa.chunked_array([lists[:1], lists[1:]]),
        list(pa.array(lists)),
        pa.array(lists, pa.large_list(pa.string())),
    ):
        assert check_labels(y)[0].tolist() == check_labels(lists)[0].tolist()
        assert label_lists(y) == lists
    assert check_labels(pa.array([[1, 0], [0, 1]]))[0].tolist() == [[1, 0], [0, 1]]
    indicator, names = check_labels(pa.table({"x": [1, 0], "y": [0, None]}))
    np.testing.assert_array_equal(indicator, [[1, 0], [0, np.nan]])
    assert names == ["x", "y"]
    for X in (
        pa.array(["t", "u"]),
        pa.chunked_array([["t"], ["u"]]),
        list(pa.array(["t", "u"])),
        Column(["t", "u"], None),
    ):
        assert check_texts(X) == ["t", "u"]
    with pytest.raises(ValueError, match=r"X\[1\] is None"):
        check_texts(pa.array(["t", None]))
    table = pa.table({"t": ["t", "u", "v"], "l": lists})
    found = load_table(table, text="t", label_column="l")
    assert (found.texts, found.labels) == (["t", "u", "v"], lists)
    with pytest.raises(ValueError, match="Pass one text column"):
        check_texts(table)


def test_the_tuner_takes_arrow_and_names_of_classes():
    texts, rows = [f"{word} {i}" for i in range(20) for word in "ab"], [[i % 2] for i in range(40)]
    model = make_pipeline(CountVectorizer(token_pattern="[a-z]"), OneVsRestClassifier(LogisticRegression()))
    y = Column([[*row, 2] if i < 20 else row for i, row in enumerate(rows)], ClassLabels())
    tuner = MultiLabelThresholdTuner(model, cv=2, random_state=0).fit(pa.array(texts), y)
    assert tuner.label_names_.tolist() == ["joy", "love", "anger"]


def test_arrow_errors_name_what_to_pass():
    with pytest.raises(ValueError, match=r'str.split\(","\)'):
        check_labels(pa.array(["a,b"]))
    with pytest.raises(ValueError, match=r"pass that column, y\['labels'\]"):
        check_labels(pa.table({"x": [1, 0], "labels": [["a"], ["b"]]}))


def test_a_real_data_set_of_hugging_face():
    datasets = pytest.importorskip("datasets")
    of_labels = datasets.Sequence(datasets.ClassLabel(names=["joy", "love", "anger"]))
    features = datasets.Features({"t": datasets.Value("string"), "l": of_labels, "x": datasets.Value("int64")})
    table = pa.table({"t": ["t", "u"], "l": [[0, 2], []], "x": [1, None]}, schema=features.arrow_schema)
    data = datasets.Dataset(table, fingerprint="0")
    assert check_texts(data["t"]) == ["t", "u"]
    indicator, names = check_labels(data["l"])
    assert (indicator.tolist(), names) == ([[1, 0, 1], [0, 0, 0]], ["joy", "love", "anger"])
    np.testing.assert_array_equal(check_labels(data.select_columns(["x"]))[0], [[1], [np.nan]])
    assert load_table(data, text="t", label_column="l").labels == [["anger", "joy"], []]
