"""The same texts and labels from every form in which people have them."""

import gzip
import json
import lzma

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sk_ulmfit.datasets import load_folders, load_table
from sk_ulmfit.datasets.table_writing import write_table
from sk_ulmfit.datasets.tables import open_table

SUBJECTS = ["Late", "Zwei, drei", ""]
BODIES = ['My "hub" is late,\nhelp', "grün", "hello"]
LABELS = [["late", "technical"], ["technical"], []]
NAMES = ["late", "technical"]
JOINED = load_table(pd.DataFrame({"s": SUBJECTS, "b": BODIES}), text=["s", "b"]).texts


def frame(form):
    cells = {"subject": SUBJECTS, "body": BODIES}
    if form == "columns of 0 and 1":
        cells |= {name: [int(name in row) for row in LABELS] for name in NAMES}
    elif form == "columns of names":
        cells |= {f"Label {i + 1}": [(row + [None] * 12)[i] for row in LABELS] for i in range(12)}
    elif form == "delimited":
        cells["labels"] = ["; ".join(row) for row in LABELS]
    else:
        cells["labels"] = [json.dumps(row) for row in LABELS]
    return pd.DataFrame(cells)


ASK = {
    "columns of 0 and 1": {"labels": NAMES},
    "columns of names": {"label_column": [f"Label {i + 1}" for i in range(12)]},
    "delimited": {"label_column": "labels"},
    "JSON lists": {"label_column": "labels"},
}


def written(table, path):
    if path.suffix in (".gz", ".xz"):
        plain = written(table, path.with_suffix(""))
        opener = gzip.open if path.suffix == ".gz" else lzma.open
        with opener(path, "wb") as file:
            file.write(plain.read_bytes())
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",", encoding="utf-8")
    return path


@pytest.mark.parametrize("form", ASK)
@pytest.mark.parametrize(
    "kind", ["pandas", "polars", "t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.csv.gz", "t.jsonl.xz"]
)
def test_every_form_gives_the_same(tmp_path, form, kind):
    table = frame(form)
    source = (
        {
            "pandas": table,
            "polars": pl.DataFrame({c: [None if v is np.nan else v for v in table[c].tolist()] for c in table}),
        }.get(kind)
        if "." not in kind
        else written(table, tmp_path / kind)
    )
    found = load_table(source, text=["subject", "body"], **ASK[form])
    assert found.texts == JOINED
    assert found.labels == LABELS
    assert found.label_names == NAMES
    assert found.indicator().tolist() == [[1, 1], [0, 1], [0, 0]]
    assert [row["body"] for row in found.rows] == BODIES


def test_lists_in_cells():
    lists = pd.DataFrame({"body": BODIES, "labels": [row or None for row in LABELS]})
    assert load_table(lists, text="body", label_column="labels").labels == LABELS
    assert (
        load_table(pl.DataFrame({"body": BODIES, "labels": LABELS}), text="body", label_column="labels").labels
        == LABELS
    )


def test_blanks_are_absent_or_unknown():
    cells = pd.DataFrame({"body": BODIES, "a": [1, np.nan, 0], "b": ["yes", "", None]})
    absent = load_table(cells, text="body", labels=["a", "b"])
    assert absent.indicator().tolist() == [[1, 1], [0, 0], [0, 0]]
    unknown = load_table(cells, text="body", labels=["a", "b"], blank="unknown")
    np.testing.assert_array_equal(unknown.indicator(), [[1, 1], [np.nan, np.nan], [0, np.nan]])
    np.testing.assert_array_equal(unknown.indicator(["b", "z"]), [[1, 0], [np.nan, 0], [np.nan, 0]])
    names = load_table(frame("columns of names"), text="body", **ASK["columns of names"], blank="unknown")
    np.testing.assert_array_equal(names.indicator(), [[1, 1], [0, 1], [np.nan, np.nan]])
    full = load_table(cells[:1], text="body", labels=["a", "b"], blank="unknown")
    assert full.indicator().dtype == np.int64


def test_folders(tmp_path):
    for label, name, text in [
        ("late", "1.txt", "x"),
        ("lost", "1.txt", "x"),
        ("lost", "sub/2.txt", "y"),
        ("new", "3.md", "z"),
    ]:
        file = tmp_path / "by label" / label / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = load_folders(tmp_path / "by label")
    assert (found.texts, found.labels) == (["x", "y"], [["late", "lost"], ["lost"]])
    assert found.label_names == ["late", "lost"]
    assert [row["file"] for row in found.rows] == ["1.txt", "sub/2.txt"]
    (tmp_path / "by label" / "late" / "1.txt").write_text("other")
    with pytest.raises(ValueError, match=r"differs from the file 1\.txt of another label"):
        load_folders(tmp_path / "by label")


def test_a_folder_with_a_list_of_labels(tmp_path):
    for name in ("1.txt", "2.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "labels.csv").write_text("file,a,b\n1.txt,late,lost\n")
    found = load_folders(tmp_path, labels_file=tmp_path / "labels.csv")
    assert (found.texts, found.labels) == (["1.txt", "2.txt"], [["late", "lost"], []])
    (tmp_path / "labels.csv").write_text("file,a\n9.txt,late\n")
    with pytest.raises(ValueError, match=r"labels.csv, row 1: there is no text file '9.txt'"):
        load_folders(tmp_path, labels_file=tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"text": "a"}\n[1]\n', r"t.jsonl, line 2: a JSON list; expected one JSON object per line"),
        ("t.jsonl", '{"text": "a"}\n{"text"\n', r"t.jsonl, line 2: not JSON"),
        ("t.jsonl", '{"text": 3}\n', r"line 1: column 'text' holds 3 of type int, not text"),
        ("t.jsonl", "", "has no rows"),
        ("t.csv.gz", "\x1f\x8b\x08 cut off", "is damaged or cut off"),
        (
            "t.csv",
            'text,l\na,"[1, x"\n',
            r"line 2: column 'l' holds '\[1, x', which begins like a list but cannot be read",
        ),
        ("t.jsonl", '{"text": "a", "l": ' + "[" * 100_000 + "\n", "line 1: not JSON"),
        ("t.csv", 'text,l\na,"b\nc,d\n', "the row that begins in line 2: .*is a double quote never closed"),
        ("t.xlsx", "x", "is not a table of a known type; save it as .csv"),
        ("t.csv", "PK\x03\x04", "is not a table of a known type; save it as .csv"),
        ("t.csv", 'text,l\na,"[1.5]"\n', r"holds '\[1.5\]', but a row of 1 entries, each 0 or 1"),
        ("t.parquet", "nothing", "Parquet"),
    ],
)
def test_broken_files_get_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        load_table(tmp_path / name, text="text", label_column="l" if "text,l" in content else None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.csv.gz", "t.jsonl.xz"])
def test_what_is_written_can_be_read(tmp_path, name):
    rows = [{"text": text, "n": str(i)} for i, text in enumerate(BODIES)]
    write_table(tmp_path / name, ["text", "n"], iter(rows))
    reader = open_table(tmp_path / name)
    assert reader.columns == ["text", "n"]
    assert [row for _, row in reader.rows] == rows
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_damaged_compression_is_said_in_one_line(tmp_path):
    content = bytearray(gzip.compress(("text,l\n" + "".join(f"text {i},a\n" for i in range(5000))).encode()))
    content[500:508] = b"\0" * 8
    (tmp_path / "t.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or cut off"):
        load_table(tmp_path / "t.csv.gz", text="text", label_column="l")


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", "text;l\nä b;c\n"), ("t.jsonl", '{"text": "ä b", "l": "c"}\n')]
)
def test_a_table_is_decompressed_by_what_it_holds_whatever_its_name(tmp_path, name, content, suffix, compress):
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(compress(("\ufeff" + content).encode()))
    found = load_table(path, text="text", label_column="l")
    assert (found.texts, found.labels) == (["ä b"], [["c"]])


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.csv.gz"])
def test_the_line_that_is_not_utf8_is_named(tmp_path, name):
    line = b'{"text": "gr\xc3\xbcn"}' if "json" in name else b"gr\xc3\xbcn"
    head = line if "json" in name else b"text"
    content = b"\n".join([head, *[line] * 4000, line.replace(b"\xc3\xbc", b"\xfc"), line])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=rf"{name}, line 4002, byte {line.index(0xC3) + 1} is not UTF-8 text; name"):
        load_table(tmp_path / name, text="text")


def test_lists_as_pandas_writes_them_and_names_in_brackets(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "labels": [["late", "lost"], []]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert load_table(tmp_path / "t.csv", text="text", label_column="labels").labels == [["late", "lost"], []]
    (tmp_path / "t.csv").write_text("text,labels\na,[urgent]\n")
    assert load_table(tmp_path / "t.csv", text="text", label_column="labels").labels == [["[urgent]"]]


def test_columns_named_as_pandas_gives_them():
    frame = pd.DataFrame({"text": ["a", "b"], 0: [1, 0], 1: [0, 1]})
    assert load_table(frame, text="text", labels=frame.columns[1:]).indicator().tolist() == [[1, 0], [0, 1]]
    numbers = pd.DataFrame({"text": ["a", "b"], "one": [1, 2], "two": [3, None]})
    assert load_table(numbers, text="text", label_column=["one", "two"]).labels == [["1", "3"], ["2"]]
    blank = pd.DataFrame({"text": ["a"], "label": np.array([np.nan], np.float32)})
    assert load_table(blank, text="text", label_column="label").labels == [[]]
    for other in (pl.LazyFrame({"text": ["a"]}), [["a"]]):
        with pytest.raises(ValueError, match="is neither a path nor a DataFrame of pandas or polars"):
            load_table(other, text="text")


def test_keys_that_the_first_json_line_lacks(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"text": "b", "labels": ["x"]}\n')
    assert load_table(tmp_path / "t.jsonl", text="text", label_column="labels").labels == [[], ["x"]]


def test_what_is_written_can_be_read_again(tmp_path):
    rows = [{"text": "a\rb", "n": "1"}, {"text": 'say "x",\r\nthen', "n": "2"}, {"text": "half \ud83d", "n": "3"}]
    for name in ("t.csv", "t.tsv", "t.csv.gz"):
        write_table(tmp_path / name, ["text", "n"], rows)
        found = load_table(tmp_path / name, text="text").texts
        assert found == ["a\rb", 'say "x",\r\nthen', "half ?"]
    write_table(tmp_path / "t.jsonl", ["x"], [{"x": float("nan")}, {"x": np.float32(2)}])
    assert (tmp_path / "t.jsonl").read_text() == '{"x": null}\n{"x": 2.0}\n'
    for name in ("t.xlsx", "t.parquet", "t.csv.bz2"):
        with pytest.raises(ValueError, match="since its type is not supported"):
            write_table(tmp_path / name, ["x"], [])
    with pytest.raises(ValueError, match="which is not one of the columns"):
        write_table(tmp_path / "t.csv", ["x"], [{"x": 1, "y": 2}])


def test_folders_as_computers_leave_them(tmp_path):
    for name in ("late/1.txt", "late/._1.txt", ".git/x.txt", "__MACOSX/late/1.txt", "empty/readme.md", "astray.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff" if "._" in name else b"text")
    (tmp_path / "late" / "folder.txt").mkdir()
    with pytest.warns(UserWarning, match="1 text files directly in"):
        found = load_folders(tmp_path)
    assert (found.label_names, [row["file"] for row in found.rows]) == (["late"], ["1.txt"])


def test_a_labels_file_in_every_form(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    listed = tmp_path / "labels.csv"
    listed.write_text("file,topics\na.txt,late|lost\nb.txt,\n")
    found = load_folders(tmp_path, labels_file=listed, delimiter="|", blank="unknown")
    assert (found.labels, found.unknown) == ([["late", "lost"], [], []], [[], ["late", "lost"], ["late", "lost"]])
    listed.write_text("file,late,lost\na.txt,1,0\nb.txt,0,1\n")
    assert load_folders(tmp_path, labels_file=listed, labels=["late", "lost"]).labels == [["late"], ["lost"], []]
    with pytest.raises(ValueError, match="pass it as labels_file"):
        load_folders(tmp_path, labels="late")


def test_a_streamed_file_that_changes_is_not_read_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,l\nred,a\nblue,b\n")
    table = load_table(path, text="text", label_column="l", stream=True)
    assert list(table.texts) == ["red", "blue"]
    path.write_text("text,l\nblue,b\nreds,a\n")
    with pytest.raises(ValueError, match="has changed since it was opened"):
        list(table.texts)
    with pytest.raises(TypeError, match="not picked by number"):
        table.texts[0]
