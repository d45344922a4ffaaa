"""Labels in cells as people have them: lists that NumPy wrote, ids beside blanks, matrices, other delimiters."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_folders, load_table
from sk_ulmfit.datasets.delimiters import joined_labels
from sk_ulmfit.datasets.written_lists import UnreadableListError, parse_collection
from sk_ulmfit.labels import check_labels


def read(cells, **options):
    return load_table(pd.DataFrame({"t": ["a"] * len(cells), "l": cells}), text="t", label_column="l", **options)


def read_file(cells, path, **options):
    pd.DataFrame({"t": ["a"] * len(cells), "l": cells}).to_csv(path, index=False)
    return load_table(path, text="t", label_column="l", **options)


READABLE = {
    "[ 4 27]": {"4", "27"},
    "['joy' 'love']": {"joy", "love"},
    "['joy'\n 'love' \"it's\"]": {"joy", "love", "it's"},
    "{'joy'}": {"joy"},
    "{0, 27}": {"0", "27"},
    "('joy', 'love')": {"joy", "love"},
    "('joy',)": {"joy"},
    "frozenset({'joy', 'love'})": {"joy", "love"},
    "array(['joy', 'love'], dtype=object)": {"joy", "love"},
    "np.array([4, 27])": {"4", "27"},
    "Index(['joy'], dtype='object')": {"joy"},
    "[np.str_('joy'), np.str_('love')]": {"joy", "love"},
    "[np.int64(4), np.int64(27)]": {"4", "27"},
    "['a] b' 'c, d']": {"a] b", "c, d"},
    '["joy", "love"]': {"joy", "love"},
    **{cell: set() for cell in ("set()", "frozenset()", "()", "[]", "[ ]", "array([], dtype=object)")},
}
TEXTS = [
    "joy (mild)", "[sic]", "[not urgent]", "(joy, mild)", "(42)", "[1] joy", "[it's]", "rock 'n' roll", "f(x)", "[[sic]]",
    "{joy}", "(030) 1234", "a [b", ":-(", "C++", "<b>", "x {y}",
]  # fmt: skip
REFUSED = [
    "[0 1 2 ... 7 8 9]", "['a' 'b' ... 'y' 'z']", "array([0, 1, ..., 8, 9], shape=(1000,))", "['joy', 'lo", "[ 4 27",
    "['joy' 'love', 'x']", "['joy''love']", "('joy' 'love')", "[[1 0]\n [0 1]]", "[['a'] ['b']]", "[list(['joy'])]", "{}",
    "{'joy': 1}", "{joy,love}", "[joy, love]", "Counter({'joy': 1})", "<StringArray>\n['a', 'b']\nLength: 2, dtype: str",
    "0    joy\n1    love\ndtype: object", "[b'joy']", "['joy', nan]", "['joy' None]", "<pyarrow.ListScalar: ['joy']>",
    "['joy'] ['love']", "c(\"joy\", \"love\")", "[0, 27]", "[4.5]",
]  # fmt: skip


@pytest.mark.parametrize("cell", READABLE)
def test_a_written_collection_is_read_exactly(cell, tmp_path):
    for table in (read([cell, "x"]), read_file([cell, "x"], tmp_path / "t.csv")):
        assert set(table.labels[0]) == READABLE[cell]


@pytest.mark.parametrize("cell", TEXTS)
def test_a_text_with_brackets_stays_one_label(cell):
    assert read([cell]).labels == [[cell]]
    assert read([f"{cell}; x"]).labels == [sorted([cell, "x"])]


@pytest.mark.parametrize("cell", REFUSED)
def test_what_cannot_be_read_is_refused_with_line_and_cell(cell, tmp_path):
    start = cell[:3].replace("\n", "")
    for cells in ([cell, "x"], ["x", cell]):
        number = cells.index(cell) + 1
        with pytest.raises(ValueError, match=f"row {number}: column 'l' holds .{{1,5}}") as error:
            read(cells)
        assert start in str(error.value).replace("\\", "")
        with pytest.raises(ValueError, match=r"line \d+: column 'l' holds"):
            read_file(cells, tmp_path / "t.csv")


labels = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8), min_size=1, max_size=30
)


@settings(max_examples=150, deadline=None)
@given(labels, st.sampled_from(["list", "tuple", "set", "numpy", "objects", "repr", "json"]))
def test_whatever_the_labels_what_python_and_numpy_write_is_read_back(names, form):
    names = [name for name in (name.strip().strip("\0") for name in names) if name] or ["x"]
    with np.printoptions(threshold=10**6):
        written = {
            "list": lambda: repr(names),
            "tuple": lambda: repr(tuple(names)),
            "set": lambda: repr(set(names)),
            "numpy": lambda: str(np.array(names)),
            "objects": lambda: str(np.array([*names, None], object)[:-1]),
            "repr": lambda: repr(np.array(names)),
            "json": lambda: json.dumps(names),
        }[form]()
    assert sorted(set(parse_collection(written))) == sorted(set(names))


@settings(max_examples=300, deadline=None)
@given(st.text("[](){}'\", .0123456789abn\n:;", max_size=12))
def test_no_cell_makes_any_other_error_and_none_is_joined(cell):
    try:
        entries = parse_collection(cell)
    except UnreadableListError:
        return
    for entry in entries or ():
        assert entry is None or str(entry) in cell or isinstance(entry, (bool, float, int)) or "\\" in cell


MATRIX = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "form",
    [list, tuple, np.array, repr, str, json.dumps, lambda row: str(np.array(row)), lambda row: str(np.array(row, float)),
     lambda row: repr(np.array(row)), lambda row: str(np.array(row, bool)), lambda row: json.dumps(list(map(bool, row)))],
)  # fmt: skip
def test_lists_of_0_and_1_are_rows_of_a_matrix_as_in_fit(form, tmp_path):
    cells = [form(row) for row in MATRIX]
    expected, names = check_labels(MATRIX)
    for rows in (slice(0, 4), slice(2, 3), slice(3, 4), slice(1, 3)):  # whatever other rows are there
        table = read(cells[rows])
        assert table.label_names == list(map(str, names))
        np.testing.assert_array_equal(table.indicator(), expected[rows])
    if isinstance(cells[0], str):
        np.testing.assert_array_equal(read_file(cells, tmp_path / "t.csv").indicator(), expected)


def test_a_matrix_of_json_lines_and_its_unknown_entries(tmp_path):
    (tmp_path / "t.jsonl").write_text(
        '{"t": "a", "l": [1, null, 0]}\n{"t": "b", "l": null}\n{"t": "c", "l": [0, 1, 1]}\n'
    )
    ask = {"text": "t", "label_column": "l"}
    np.testing.assert_array_equal(
        load_table(tmp_path / "t.jsonl", **ask).indicator(), [[1, np.nan, 0], [0, 0, 0], [0, 1, 1]]
    )
    unknown = load_table(tmp_path / "t.jsonl", **ask, blank="unknown", stream=True).indicator()
    np.testing.assert_array_equal(unknown, [[1, np.nan, 0], [np.nan] * 3, [0, 1, 1]])


@pytest.mark.parametrize(
    "cells",
    [["[1, 0]", "joy"], ["[1, 0]", "[1, 0, 0]"], ["[1, 0]", "[]"], ["[1, 0]", "{1}"], ["[0]", "[27]"], [[1, 0], [2]], [["a", 1]]],
)  # fmt: skip
def test_a_column_of_names_and_matrix_rows_is_refused_in_either_order(cells):
    for ordered in (cells, cells[::-1]):
        with pytest.raises(
            ValueError, match=r"row \d: column 'l' holds .*(expected|A list of numbers is a row of 0 and 1)"
        ):
            read(ordered)
    with pytest.raises(ValueError, match="several label columns hold one name each"):
        load_table(pd.DataFrame({"t": "a", "l": [[1, 0]], "m": "x"}), text="t", label_column=["l", "m"])


def test_ids_beside_blanks_are_the_same_labels_as_without(tmp_path):
    ids = [12, 3, 12, 0, 27]
    whole = read_file(ids, tmp_path / "whole.csv")
    gaps = read_file([*ids[:4], None, ids[4]], tmp_path / "gaps.csv")
    assert "12.0" in (tmp_path / "gaps.csv").read_text()
    assert whole.label_names == gaps.label_names == ["0", "12", "27", "3"]
    assert [names for names in gaps.labels if names] == whole.labels
    both = pd.concat([pd.read_csv(tmp_path / "whole.csv", dtype=str), pd.read_csv(tmp_path / "gaps.csv", dtype=str)])
    assert load_table(both, text="t", label_column="l").label_names == whole.label_names
    several = pd.DataFrame({"t": ["a", "b"], "Label 1": [3, 12], "Label 2": [12, None]})
    several.to_csv(tmp_path / "several.csv", index=False)
    found = load_table(tmp_path / "several.csv", text="t", label_column=["Label 1", "Label 2"])
    assert found.labels == [["12", "3"], ["12"]]


def test_only_whole_numbers_lose_their_point():
    assert read(["12.0", "1.5"]).labels == [["12.0"], ["1.5"]]
    assert read(["v12.0", "12.0;3"]).labels == [["v12.0"], ["12", "3"]]
    assert read(["007", "12.0"]).labels == [["007"], ["12"]]
    for cells in (["1e+16", "12.0"], ["9007199254740993.0"], [1e16, None]):
        with pytest.raises(ValueError, match="has lost digits of an id; read that column as text"):
            read(cells)


WRONG = {  # mark: cells
    ",": ["x", "y", "x,y"],
    "|": ["x", "y", "y | x"],
    "\t": ["x", "y", "x\ty"],
    "\n": ["x", "y", "x\r\ny"],
    " ": ["joy", "love", "joy love"],
    "/": ["x", "y", "x/y"],
    "><": ["<x><y>", "<x>"],
    ", ": ["x,y", "y, z", "z,x"],
    "+": ["x", "y", "x + y"],
    "、": ["x", "y", "x、y"],
    "::": ["x", "y", "x::y"],
}


@pytest.mark.parametrize("mark", WRONG)
def test_labels_of_other_labels_name_the_delimiter_to_pass(mark):
    with pytest.warns(UserWarning, match="consist of other labels; pass delimiter=") as caught:
        read(WRONG[mark])
    assert len(caught) == 1
    assert f"pass delimiter={mark.strip(' ') or ' '!r} if" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(WRONG[mark], delimiter=mark.strip(" ") or " ")


@pytest.mark.parametrize(
    "cells",
    [["science", "science and technology"], ["sci", "fi", "sci-fi"], ["1", "5", "1.5"], ["red car", "blue car", "red bus"],
     ["Paris, France", "Nice, France"], ["C", "C++"], ["R&D", "R"], [["x", "y", "x,y"]], ['["x", "y", "x,y"]'], ["New York", "York"]],
)  # fmt: skip
def test_no_false_alarm(cells):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(cells)


def test_a_delimiter_of_brackets_takes_the_outer_ones_too():
    assert read(["<python><pandas>", "<python>", ""], delimiter="><").labels == [["pandas", "python"], ["python"], []]
    assert read(["[a][b]", "[4]"], delimiter="][").labels == [["a", "b"], ["4"]]
    assert read(['"a","b c"', '"b c"'], delimiter='","').labels == [["a", "b c"], ["b c"]]
    assert joined_labels(["<x><y>"], ";") == ("><", ["<x><y>"])
    assert joined_labels(["x", "y"], ";") is None


def test_the_command_line_stops_at_a_wrong_delimiter(tmp_path, capsys):
    path = tmp_path / "t.csv"
    pd.DataFrame({"t": ["a", "b", "c"], "l": ["x", "y", "x,y"]}).to_csv(path, index=False)
    for command in ("train", "lr-find"):
        out = tmp_path / f"out.{'png' if command == 'lr-find' else 'model'}"
        arguments = [command, str(path), "--text", "t", "--label-column", "l", "--out", str(out)]
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "pass --delimiter ',', or --labels-as-written if" in message
        assert not out.exists()


def test_labels_as_written_are_kept():
    from sk_ulmfit.cli.data import no_other_delimiter

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with no_other_delimiter(labels_as_written=True):
            assert read(["x", "y", "x,y"]).label_names == ["x", "x,y", "y"]
    with pytest.raises(ValueError, match="--delimiter ' ', or --labels-as-written"), no_other_delimiter(False):
        read(["x", "y", "x y"])
    with pytest.raises(ValueError, match=r"--delimiter \$'\\t'"), no_other_delimiter(False):
        read(["x", "y", "x\ty"])


def test_the_file_of_labels_of_a_folder_is_read_alike(tmp_path):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text("a")
    listed = tmp_path / "labels.csv"
    listed.write_text("file,labels\n1.txt,['joy' 'love']\n2.txt,12.0\n")
    assert load_folders(tmp_path, labels_file=listed).labels == [["joy", "love"], ["12"]]
