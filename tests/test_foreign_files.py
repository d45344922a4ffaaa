"""Files as people have them: JSON arrays, other encodings, no header, pipes, folders of all kinds of files."""

import gzip
import json
import os
import subprocess
import sys
import threading
import warnings

import pytest

from sk_ulmfit import _json_arrays
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_folders, load_table
from sk_ulmfit.text.documents import CorpusError, read_documents

ROWS = [{"text": "Where is my café?", "labels": ["delivery"]}, {"text": "It “flickers”", "labels": ["product", "a]{"]}]
TEXTS = [row["text"] for row in ROWS]


def read(path, **options):
    return load_table(path, text="text", label_column="labels", **options)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
@pytest.mark.parametrize("at_once", [1, 7, 2**16])
def test_an_array_of_objects_is_read(tmp_path, monkeypatch, indent, name, at_once):
    monkeypatch.setattr(_json_arrays, "_AT_ONCE", at_once)
    file, text = tmp_path / name, " \n" + json.dumps(ROWS, indent=indent) + "\n"
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    for table in (read(file), read(file, stream=True)):
        assert list(table.texts) == TEXTS
        assert table.labels == [["delivery"], ["a]{", "product"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no rows"),
        ("[1, 2]", "object 1: '1, 2]' came; expected one array of JSON objects"),
        ('[{"text": "a"}, "b"]', "object 2: .*came; expected one array"),
        ('[{"text": "a"}', "object 2: the end of the file came"),
        ('[{"text": "a"} {"text": "b"}]', "object 2: .*came"),
        ('[{"text": "a"}] x', "object 2: 'x' came"),
        ('[{"text": }]', "object 1: not JSON"),
        ('[{"text": "a"},]', "object 2: ']' came"),
        ("[" * 9_999, "object 1: "),
        ('[{"text": ' + "[" * 200_000, "object 1: not JSON"),
        ('{\n"text": "a"}', "line 1: not JSON .*or one array of objects"),
    ],
)
def test_other_json_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_table(tmp_path / "a.json", text="text")
    assert len(str(error.value)) < 400 + len(str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_corpus_may_be_an_array_too(tmp_path):
    for indent in (None, 2):
        (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=indent), encoding="utf-8")
        assert list(read_documents(tmp_path / "a.json")) == TEXTS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding, suffix):
    csv = 'text\tlabels\nWhere is my café?\tdelivery\nIt “flickers”\t"[""product"", ""a]{""]"\n'
    text = "\n".join(map(json.dumps, ROWS)) if suffix == ".jsonl" else csv
    (tmp_path / f"a{suffix}").write_bytes(text.encode(encoding))
    assert read(tmp_path / f"a{suffix}").texts == TEXTS
    assert read(tmp_path / f"a{suffix}", encoding="utf-8").texts == TEXTS


def test_another_encoding_is_named(tmp_path, capsys):
    file = tmp_path / "a.csv"
    file.write_bytes("text,labels\nWhere is my café?,delivery\nIt “flickers”,product\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"line 2, byte 16 is not UTF-8 text; name its encoding .*--encoding cp1252"):
        read(file)
    assert read(file, encoding="cp1252").texts == TEXTS
    assert list(read(file, encoding="cp1252", stream=True).texts) == TEXTS
    with pytest.raises(ValueError, match="is not ascii text"):
        read(file, encoding="ascii")
    for wrong in ("klingon", "base64", "", 3):
        with pytest.raises(ValueError, match=r"encoding=.* is not known"):
            read(file, encoding=wrong)
    out = tmp_path / "lm"
    options = ["finetune", str(file), "--text", "text", "--out", str(out), "--language-model", "none"]
    assert main([*options, "--quiet"]) == 2
    assert "--encoding cp1252" in capsys.readouterr().err
    sizes = ["--emb-dim", "8", "--hidden-dim", "8", "--n-layers", "1"]
    assert main([*options, *sizes, "--quiet", "--encoding", "cp1252"]) == 0
    assert out.exists()


@pytest.mark.parametrize(
    ("content", "is_row"),
    [
        ("The lamp flickers since yesterday evening,product\nWhere is it?,delivery\n", True),
        ("It flickers.,product\nWhere is it,delivery\n", True),
        ("Lamp broken,product\nWhere is it,delivery\nno light,product\n", True),
        ("Lamp broken;product\nWhere is it;product,delivery\n", True),
        ("Lamp broken,1,0\nWhere is it,0,1\n", True),
        ("Lamp broken,1,0,0\nWhere is it,0,1,0\n", True),
        ("body,topics\nLamp broken,product\n", False),
        ("Label 1,Message\nproduct,Lamp broken\n", False),
    ],
)
def test_a_file_without_a_header_is_told(tmp_path, content, is_row):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match=r"no column|same name") as error:
        read(tmp_path / "a.csv")
    assert ("not like a header" in str(error.value)) == is_row


def test_a_pipe_is_refused_in_one_line(tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="is a named pipe, and texts are read several times; write them to a regular"):
        read(pipe)
    with pytest.raises(CorpusError, match="is a named pipe"):
        list(read_documents(pipe))
    with pytest.raises(ValueError, match="is a device"):
        read("/dev/null")
    assert main(["finetune", str(pipe), "--out", str(tmp_path / "lm")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_standard_input_is_refused_or_read(tmp_path):
    (tmp_path / "a.csv").write_text("text,labels\na,b\n")
    code = "from sk_ulmfit.datasets import load_table; print(load_table('/dev/stdin', text='text').texts)"
    piped = subprocess.run([sys.executable, "-c", code], input="text\na\n", text=True, capture_output=True, check=False)
    assert "is a named pipe" in piped.stderr.splitlines()[-1] or "is a socket" in piped.stderr.splitlines()[-1]
    with (tmp_path / "a.csv").open() as file:
        redirected = subprocess.run(
            [sys.executable, "-c", code], stdin=file, text=True, capture_output=True, check=True
        )
    assert redirected.stdout == "['a']\n"


def make_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"text of {name}")


def test_text_files_of_a_folder_end_in_txt_or_have_no_suffix(tmp_path):
    make_files(tmp_path, "late/1.txt", "late/2.TXT", "broken/3.Txt", "lost/10001", "lost/.hidden")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_folders(tmp_path)
    assert table.label_names == ["broken", "late", "lost"]
    assert len(table.texts) == 4


def test_files_that_are_left_out_are_counted(tmp_path):
    make_files(tmp_path, "late/1.txt", "late/2.md", "broken/3.html", "broken/4.md")
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match=r"3 files are left out, such as '.*'; the labels 'broken', 'empty' have no"):
        assert load_folders(tmp_path).label_names == ["late"]
    make_files(tmp_path / "flat", "a.TXT", "b", "c.md")
    (tmp_path / "flat" / "labels.csv").write_text("file,label\na.TXT,x\nb,y\n")
    with pytest.warns(UserWarning, match=r"flat: 1 file is left out, such as 'c\.md'\. Texts are files"):
        table = load_folders(tmp_path / "flat", labels_file=tmp_path / "flat" / "labels.csv")
    assert table.labels == [["x"], ["y"]]
    with pytest.warns(UserWarning, match="2 files are left out"):
        assert len(load_table(tmp_path / "flat", text="text").texts) == 2


def test_folders_may_have_another_encoding(tmp_path):
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "1.txt").write_bytes("café".encode("cp1252"))
    (tmp_path / "late" / "2.txt").write_bytes("café".encode("utf-16"))
    with pytest.raises(ValueError, match="name its encoding"):
        load_folders(tmp_path)
    (tmp_path / "late" / "2.txt").unlink()
    assert load_folders(tmp_path, encoding="cp1252").texts == ["café"]


def test_a_pipe_that_somebody_writes_to_is_not_opened(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("text\na\n"), daemon=True)
    writer.start()
    with pytest.raises(ValueError, match="named pipe"):
        load_table(pipe, text="text")
    assert writer.is_alive()
    pipe.read_text()
    writer.join(5)
