"""sk-ulmfit predict of Parquet files, part by part."""

import json
import os
import time

import numpy as np
import pandas as pd
import pytest
from conftest import make_corpus, tiny_classifier

from sk_ulmfit import ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_table
from sk_ulmfit.distributed import part_writing, parts

fsspec = pytest.importorskip("fsspec")
pyarrow = pytest.importorskip("pyarrow")

TEXTS, LABELS = make_corpus(40)


def run(*args):
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def fitted_here():
    return tiny_classifier().fit(TEXTS, LABELS)


@pytest.fixture
def model(fitted_here, tmp_path):
    fitted_here.save(tmp_path / "mail.model", metadata={"text": ["body"]})
    return tmp_path / "mail.model"


@pytest.fixture
def mail(tmp_path):
    """Two files of 25 and 15 rows, with two row groups in the first one."""
    (tmp_path / "mail").mkdir()
    frame = pd.DataFrame({"id": range(40), "body": TEXTS, "tags": [["x"]] * 40})
    frame[:25].to_parquet(tmp_path / "mail" / "a.parquet", row_group_size=16)
    frame[25:].to_parquet(tmp_path / "mail" / "b.parquet")
    (tmp_path / "mail" / "_ignored.parquet").write_text("no Parquet")
    return tmp_path / "mail"


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_PART", 10)


def rows_of(folder):
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))], ignore_index=True)


def check_rows(folder, clf):
    rows = rows_of(folder)
    assert rows["id"].tolist() == list(range(40))
    assert [tuple(row) for row in rows["predicted_labels"]] == clf.predict_labels(TEXTS)
    proba = rows[[f"proba_{name}" for name in clf.label_names_]]
    np.testing.assert_allclose(proba.to_numpy(), clf.predict_proba(TEXTS), atol=1e-6)
    assert rows.columns.tolist()[:4] == ["id", "body", "tags", "predicted_labels"]


def test_a_folder_a_pattern_and_an_address_become_parts_in_order(model, mail, tmp_path, capsys):
    clf = ULMFiTMultiLabelClassifier.load(model)
    for k, source in enumerate((mail, f"{mail}/*.parquet", f"file://{mail}")):
        out = tmp_path / f"out{k}"
        assert run("predict", model, source, "--out", out) == 0
        assert "Predicted 40 texts with " in capsys.readouterr().out
        assert [file.name for file in sorted(out.iterdir())] == [
            "_run.json",
            *(f"part-00000{i}.parquet" for i in range(5)),
        ]
        check_rows(out, clf)
    table = load_table(tmp_path / "out0" / "part-000000.parquet", text="body", label_column="predicted_labels")
    assert len(table.texts) == 10


def test_the_options_mean_what_they_mean_for_a_table(model, mail, tmp_path, capsys):
    assert run("predict", model, mail, "--out", tmp_path / "out", "--threshold", 0, "--text", "body", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        **{"out": str(tmp_path / "out"), "n_texts": 40, "n_parts": 5, "labels_per_text": 3.0, "n_parts_kept": 0}
    }
    assert all(len(row) == 3 for row in rows_of(tmp_path / "out")["predicted_labels"])


def test_values_of_a_regressor(mail, tmp_path):
    from conftest import tiny_lm

    model = ULMFiTRegressor(tiny_lm(), max_epochs=1, random_state=0).fit(
        TEXTS, pd.Series(np.arange(40.0), name="stars")
    )
    model.save(tmp_path / "stars.model", metadata={"text": ["body"]})
    assert run("predict", tmp_path / "stars.model", mail, "--out", tmp_path / "out") == 0
    np.testing.assert_allclose(rows_of(tmp_path / "out")["predicted_stars"], model.predict(TEXTS), atol=1e-4)


def test_a_run_goes_on_with_the_parts_that_are_missing(model, mail, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("predict", model, mail, "--out", out) == 0
    kept = out / "part-000001.parquet"
    before = kept.stat().st_mtime_ns
    (out / "part-000003.parquet").unlink()
    (out / "part-000004.parquet").unlink()
    capsys.readouterr()
    assert run("predict", model, mail, "--out", out) == 0
    assert "Predicted 15 texts" in (shown := capsys.readouterr().out)
    assert "3 of its 5 parts had been written before" in shown
    assert kept.stat().st_mtime_ns == before
    check_rows(out, ULMFiTMultiLabelClassifier.load(model))
    assert run("predict", model, mail, "--out", out) == 0
    assert "Predicted 0 texts" in capsys.readouterr().out


def test_an_interrupted_run_leaves_whole_parts_only(model, mail, tmp_path, monkeypatch, capsys):
    out, n_calls = tmp_path / "out", []
    decide = ULMFiTMultiLabelClassifier.predict_proba

    def interrupted(self, texts):
        n_calls.append(1)
        if len(n_calls) == 3:
            raise KeyboardInterrupt
        return decide(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(ULMFiTMultiLabelClassifier, "predict_proba", interrupted)
        assert run("predict", model, mail, "--out", out) == 130
    assert f"the parts in {out} are kept, and the same command goes on" in capsys.readouterr().err
    assert len(list(out.glob("part-*"))) == 2
    assert run("predict", model, mail, "--out", out) == 0
    check_rows(out, ULMFiTMultiLabelClassifier.load(model))


def test_parts_of_another_run_are_refused_unless_forced(model, mail, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("predict", model, mail, "--out", out) == 0
    tiny_classifier(max_epochs=1).fit(TEXTS, LABELS).save(model, metadata={"text": ["body"]})
    capsys.readouterr()
    assert run("predict", model, mail, "--out", out) == 2
    assert "holds parts of a run with another model; pass --force to begin anew" in capsys.readouterr().err
    assert run("predict", model, mail, "--out", out, "--threshold", 0.3) == 2
    assert "another model and another threshold" in capsys.readouterr().err
    assert run("predict", model, mail, "--out", out, "--force") == 0
    check_rows(out, ULMFiTMultiLabelClassifier.load(model))
    os.utime(mail / "a.parquet", (1, 1))
    assert run("predict", model, mail, "--out", out) == 2
    assert "other or changed files" in capsys.readouterr().err


def test_other_file_systems(model, mail, capsys):
    memory = fsspec.filesystem("memory")
    memory.put(str(mail), "/mail", recursive=True)
    assert run("predict", model, "memory://mail/*.parquet", "--out", "memory://out") == 0
    names = sorted(path.rpartition("/")[2] for path in memory.ls("/out", detail=False))
    assert names == ["_run.json", *(f"part-00000{i}.parquet" for i in range(5))]
    with memory.open("/out/part-000002.parquet") as file:
        assert pd.read_parquet(file)["id"].tolist() == list(range(20, 25))


def test_what_cannot_be_done_is_said_in_one_line(model, mail, tmp_path, capsys):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    bad = tmp_path / "bad"
    bad.mkdir()
    pd.DataFrame({"body": [TEXTS[0], 5]}, dtype=object).astype({"body": str}).to_parquet(bad / "a.parquet")
    pd.DataFrame({"body": [1, 2]}).to_parquet(bad / "b.parquet")
    colons = tmp_path / "colons"
    colons.mkdir()
    (colons / "a::b.parquet").touch()
    for arguments, message in [
        ([f"{tmp_path}/none/*.parquet"], "There are no Parquet files at"),
        (["nosuch://bucket/*.parquet"], "is not a path or an address of fsspec"),
        ([mail, "--text", "subject"], "a.parquet has no column 'subject'. Its columns are 'id', 'body', 'tags'."),
        ([mail, "--workers", "2"], "--workers is for --scheduler local"),
        ([mail / "a.parquet", "--workers", "2", "--out", tmp_path / "a.csv"], "--workers is for --scheduler local"),
        ([mail, "--out", tmp_path / "o::1"], ":: joins file systems of fsspec; rename it"),
        ([colons], "a::b.parquet' cannot be used"),
        ([mail, "--delimiter", ";"], "--delimiter is for tables of text"),
        ([bad], "b.parquet, row 1: column 'body' holds 1 of type int, not text."),
        ([mail, "--out", foreign], "holds other files; give a new or empty folder"),
        ([mail, "--out", tmp_path / "out.csv"], "would be a folder of Parquet files"),
        ([mail, "--scheduler", "tcp://127.0.0.1:9"], "No Dask scheduler answers at 'tcp://127.0.0.1:9'"),
    ]:
        out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        assert run("predict", model, *arguments, *out) == 2, arguments
        error = capsys.readouterr().err.strip().splitlines()
        assert message in error[-1]
    (mail / "c.parquet").write_bytes(b"PAR1 and no more")
    assert run("predict", model, mail, "--out", tmp_path / "out") == 2
    assert "c.parquet is not a Parquet file, or is damaged" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")  # of a writer that is not closed
def test_a_file_that_changes_during_a_run(model, mail, tmp_path, monkeypatch, capsys):
    write = part_writing.PartWriter.write

    def changed(self, part):
        os.utime(mail / "a.parquet", (part.number, part.number))
        return write(self, part)

    monkeypatch.setattr(part_writing.PartWriter, "write", changed)
    assert run("predict", model, mail, "--out", tmp_path / "out") == 2
    assert "a.parquet has changed since this run began; begin anew with --force" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("part-*"))


def test_parts_of_two_runs_are_not_mixed(model, mail, tmp_path, monkeypatch, capsys):
    write, n_parts = part_writing.PartWriter.write, []

    def while_another_begins(self, part):
        n_parts.append(part)
        if len(n_parts) == 2:
            assert run("predict", model, mail, "--out", tmp_path / "out", "--threshold", 0, "--force") == 0
        return write(self, part)

    monkeypatch.setattr(part_writing.PartWriter, "write", while_another_begins)
    assert run("predict", model, mail, "--out", tmp_path / "out", "--threshold", 0.99) == 2
    assert "Another run, with another threshold, has begun in" in capsys.readouterr().err
    assert all(len(row) == 3 for row in rows_of(tmp_path / "out")["predicted_labels"])


def test_parts_are_never_read_by_the_run_that_writes_them(model, mail, tmp_path, capsys):
    for _ in range(2):
        assert run("predict", model, mail, "--out", mail / "out") == 0
    check_rows(mail / "out", ULMFiTMultiLabelClassifier.load(model))
    (tmp_path / "link").symlink_to(mail / "out")
    capsys.readouterr()
    for source in (mail / "out", tmp_path / "link"):
        assert run("predict", model, source, "--out", mail / "out", "--force") == 2
        assert "give another folder to --out" in capsys.readouterr().err
    check_rows(mail / "out", ULMFiTMultiLabelClassifier.load(model))


def test_folders_with_brackets_and_files_in_subfolders(model, mail, tmp_path):
    folder = tmp_path / "mail [2024]"
    (folder / "sub").mkdir(parents=True)
    (mail / "a.parquet").rename(folder / "sub" / "a.parquet")
    (mail / "b.parquet").rename(folder / "sub" / "b.pq")
    assert run("predict", model, folder, "--out", tmp_path / "out") == 0
    check_rows(tmp_path / "out", ULMFiTMultiLabelClassifier.load(model))


def test_columns_of_the_same_name(model, tmp_path, capsys):
    import pyarrow.parquet as pq

    texts = pyarrow.array(TEXTS[:2])
    for name in ("body", "predicted_labels"):
        (tmp_path / name).mkdir()
        table = pyarrow.Table.from_arrays([texts] * 3, ["body", name, name])
        pq.write_table(table, tmp_path / name / "a.parquet")
    assert run("predict", model, tmp_path / "body", "--out", tmp_path / "out") == 2
    assert "a.parquet has several columns 'body'; rename all but one." in capsys.readouterr().err
    assert run("predict", model, tmp_path / "predicted_labels", "--out", tmp_path / "out") == 0
    written = pq.ParquetFile(tmp_path / "out" / "part-000000.parquet").schema_arrow.names
    assert written[:2] == ["body", "predicted_labels"]
    assert len(set(written)) == len(written)


def test_without_the_extra_one_line_says_what_to_install(model, mail, tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("predict", model, mail, "--out", tmp_path / "out", "--scheduler", "local") == 2
    assert 'distributed is not installed; run: pip install "sk-ulmfit[distributed]"' in capsys.readouterr().err
    assert run("predict", model, mail, "--out", tmp_path / "out") == 0


def test_workers_of_a_scheduler_write_the_parts(model, mail, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    cluster = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**cluster) as running:
        address = running.scheduler_address
        assert run("predict", model, mail, "--out", tmp_path / "out", "--scheduler", address) == 0
    assert "Predicted 40 texts" in capsys.readouterr().out
    check_rows(tmp_path / "out", ULMFiTMultiLabelClassifier.load(model))


class _Waits:
    """In place of a writer: each part takes as many seconds as the number of its first row."""

    def write(self, part):
        time.sleep(part.start)
        return 1, 1


def test_a_scheduler_that_is_lost_is_one_line():
    distributed = pytest.importorskip("distributed")
    from sk_ulmfit.distributed.clusters import written

    cluster = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with distributed.Client(**cluster) as client:
        results = written(client, _Waits(), [parts.Part(i, "", 3 * i, 3 * i + 1, (0, "")) for i in range(2)])
        assert next(results) == (1, 1)
        client.cancel([distributed.Future(key, client) for key in list(client.futures)])  # as if it was lost
        with pytest.raises(ValueError, match="connection to the scheduler was lost; the same command goes on"):
            next(results)
