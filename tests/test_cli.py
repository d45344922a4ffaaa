import json
import os
import re
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import suppress
from dataclasses import replace
from io import BytesIO, TextIOWrapper

import numpy as np
import pandas as pd
import pytest
from conftest import make_corpus, tiny_lm, with_vector

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import lr_find, predict, pretrain
from sk_ulmfit.cli.main import COMMANDS, as_typed, main
from sk_ulmfit.datasets import load_support_messages, load_table, write_table
from sk_ulmfit.lr_finder import LearningRateCurve
from sk_ulmfit.pretraining.trainer import Trainer

SMALL = ["--emb-dim", "8", "--hidden-dim", "8", "--n-layers", "2", "--lm-epochs", "1", "--max-epochs", "2"]


def run(*args):
    return main([str(arg) for arg in args])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mail.csv"
    texts, labels = make_corpus(24)
    rows = [
        {"id": i, "subject": f"Case, {i}", "body": t, "topics": " | ".join(ls), "late": int("late" in t)}
        for i, (t, ls) in enumerate(zip(texts, labels, strict=True))
    ]
    write_table(path, ["id", "subject", "body", "topics", "late"], rows)
    return path


@pytest.fixture
def model(table, tmp_path):
    out = tmp_path / "mail.model"
    args = ["--text", "subject", "body", "--label-column", "topics", "--delimiter", "|"]
    assert run("train", table, *args, "--out", out, "--random-state", 0, *SMALL) == 0
    return out


def test_train_predict_evaluate(table, model, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "out.csv"
    assert run("predict", model, table, "--out", out) == 0
    assert "Predicted 24 texts" in capsys.readouterr().out
    given, written = load_table(table, text="body"), load_table(out, text="body")
    assert written.columns[:5] == given.columns
    assert written.columns[5:] == ["predicted_labels", "proba_billing", "proba_delivery", "proba_technical"]
    for before, after in zip(given.rows, written.rows, strict=True):
        assert {k: after[k] for k in before} == before
        chosen = [c[6:] for c in written.columns[6:] if float(after[c]) >= 0.5]
        assert after["predicted_labels"] == "|".join(chosen)
    assert run("evaluate", model, table) == 0
    shown = capsys.readouterr().out
    assert "billing" in shown
    assert "micro average" in shown
    assert "all labels right" in shown
    assert run("evaluate", model, table, "--threshold", 0) == 0
    assert " 1.000" in capsys.readouterr().out  # every label predicted: recall 1


def test_both_directions(table, tmp_path, capsys):
    lm, out = tmp_path / "backward.lm", tmp_path / "mail.model"
    given = ["--emb-dim", 8, "--hidden-dim", 8, "--n-layers", 1, "--max-epochs", 1]
    assert run("finetune", table, "--text", "body", "--direction", "backward", "--out", lm, *given) == 0
    assert ULMFiTLanguageModel.load(lm).direction == "backward"
    args = ["--text", "body", "--labels", "late", "--direction", "both", "--out", out]
    assert run("train", table, *args, *SMALL) == 0
    clf = ULMFiTMultiLabelClassifier.load(out)
    texts = ["the invoice is late", "a lamp"]
    both = clf.predict_proba(texts)
    clf._fitted = replace(clf._fitted, networks=clf._fitted.networks[:1])
    assert np.abs(clf.predict_proba(texts) - both).max() > 1e-6
    clf = ULMFiTMultiLabelClassifier.load(out).set_params(language_model=(ULMFiTLanguageModel(lr=0.5), str(lm)))
    clf.save(out)
    capsys.readouterr()
    assert run("info", out) == 0
    assert f"language_model=(forward=(lr=0.5), backward={lm})" in capsys.readouterr().out


def test_several_columns_may_follow_an_option_or_repeat_it(table, model, tmp_path):
    out = tmp_path / "again.model"
    args = ["--text", "subject", "--text", "body", "--label-column", "topics", "--delimiter", "|"]
    assert run("train", table, *args, "--out", out, "--random-state", 0, *SMALL) == 0
    one, other = (ULMFiTMultiLabelClassifier.load(path) for path in (model, out))
    assert one.metadata_ == other.metadata_
    texts = ["the invoice is late"]
    assert np.array_equal(one.predict_proba(texts), other.predict_proba(texts))


def test_two_text_columns_are_joined_with_field_marks(model):
    clf = ULMFiTMultiLabelClassifier.load(model)
    assert clf.metadata_["text"] == ["subject", "body"]
    assert "case" in clf.vocabulary_


def test_label_columns(table, tmp_path, capsys):
    out = tmp_path / "late.model"
    assert run("train", table, "--text", "body", "--labels", "late", "--out", out, *SMALL, "--unlabelled", table) == 0
    assert "Trained on 24 texts with 1 label: 'late'." in capsys.readouterr().out
    again = ["train", table, "--text", "body", "--labels", "late", "--out", out, *SMALL]
    before = out.read_bytes()
    assert run(*again) == 2
    assert "already exists; pass --force" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert run(*again, "--force") == 0
    capsys.readouterr()
    assert ULMFiTMultiLabelClassifier.load(out).label_names_.tolist() == ["late"]
    assert run("evaluate", out, table) == 0
    assert "late" in capsys.readouterr().out


def test_evaluate_scores_the_labels_that_both_know(table, model, capsys):
    out = table.with_name("some.csv")
    rows = [
        {"subject": "", "body": r["body"], "delivery": int("delivery" in r["topics"]), "new": 1}
        for r in load_table(table, text="body").rows
    ]
    write_table(out, ["subject", "body", "delivery", "new"], rows)
    capsys.readouterr()
    assert run("evaluate", model, out, "--labels", "delivery", "new", "--threshold", 0) == 0
    shown = capsys.readouterr()
    assert "billing" not in shown.out
    share = sum(r["delivery"] for r in rows) / len(rows)
    assert f"all labels right: {share:.3f}" in shown.out
    assert "left out 1 label that the model does not know: 'new' (in 24 texts)." in shown.err
    assert "left out 2 labels that the file does not have: 'billing', 'technical'." in shown.err
    assert run("evaluate", model, table, "--label-column", "id") == 2
    assert "none of the model's labels" in capsys.readouterr().err


def test_start_from_a_saved_language_model(table, tmp_path, fitted):
    fitted.language_model_.save(tmp_path / "lm")
    args = ["--text", "body", "--label-column", "topics", "--delimiter", "|", "--out", tmp_path / "m"]
    assert run("train", table, *args, "--language-model", tmp_path / "lm", "--lm-epochs", 0, "--max-epochs", 1) == 0
    assert run("train", table, *args, "--language-model", tmp_path / "lm", "--emb-dim", 8) == 2
    clf = ULMFiTMultiLabelClassifier.load(tmp_path / "m")
    assert clf.net_.module_.encoder.embedding.embedding_dim == 24


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "NONE.csv", "--text", "t", "--labels", "a", "--out", "m"], "There is no file NONE.csv"),
        (["train", "TABLE", "--text", "text", "--labels", "a", "--out", "m"], "no column 'text'. Its columns are 'id'"),
        (["train", "TABLE", "--text", "body", "--labels", "topics", "--out", "m"], "line 2: column 'topics' holds"),
        (
            ["train", "TABLE", "--text", "body", "--labels", "late", "--out", "TABLE"],
            "is an input file; give another name",
        ),
        (["train", "TABLE", "--text", "body", "--labels", "late", "--out", "no/m"], "its folder does not exist"),
        (["train", "TABLE", "--text", "body", "--labels", "late", "--out", "m", "--lr", "-1"], "lr must be a number"),
        (["predict", "TABLE", "TABLE", "--out", "o.csv"], "is not a model of sk_ulmfit"),
        (["predict", "MODEL", "TABLE", "--out", "TABLE"], "is an input file"),
        (["predict", "MODEL", "TABLE", "--out", "no/o.csv"], "its folder does not exist"),
        (["train", "TABLE", "--text", "body", "--labels", "late", "--out", "/proc/m"], "is not writable"),
        (["predict", "MODEL", "TABLE", "--out", "MODEL", "--force"], "is an input file"),
        (["predict", "MODEL", "TABLE", "--out", "o.csv", "--text", "x"], "no column 'x'"),
        (["predict", "MODEL", "TABLE", "--out", "o.csv", "--threshold", "2"], "between 0 and 1"),
        (["evaluate", "NONE", "TABLE"], "There is no file NONE"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(args, message, table, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in (table, model)}
    capsys.readouterr()
    assert run(*[{"TABLE": table, "MODEL": model}.get(a, a) for a in args]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in (table, model)} == before


def test_ctrl_c_writes_nothing(table, tmp_path, monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ULMFiTMultiLabelClassifier, "fit", interrupt)
    out = tmp_path / "m"
    assert run("train", table, "--text", "body", "--labels", "late", "--out", out) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["train"],
        ["predict"],
        ["evaluate"],
        ["pretrain"],
        ["explain"],
        ["finetune"],
        ["lr-find"],
        ["info"],
        ["demo"],
    ],
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*command, "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "sk-ulmfit" in shown
    assert not command or f"sk-ulmfit {command[0]}" in shown.split("example")[1]


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_80_columns_and_begins_with_what_is_used_every_day(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        run(command, "--help")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    titles = [line for line in lines if re.fullmatch(r"\w.*:", line) and not line.startswith("usage")]
    assert titles[0] == "example:"
    assert "Everyday:" in titles[1:3] or command == "info"
    assert titles[-1] == "Other:"


def test_help_comes_at_once():
    code = "import sys; from sk_ulmfit.cli import main\ntry: main.main(['--help'])\nfinally: print([*sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "sk-ulmfit" in shown
    assert "'torch'" not in shown
    assert "'sklearn'" not in shown


def test_module_and_command_are_one():
    shown = subprocess.run([sys.executable, "-m", "sk_ulmfit", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("sk-ulmfit ")


# --- tables -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("text,labels\n", "has no rows"),
        ("text,labels\na\n", "line 2: 1 cells where the header has 2"),
        ("text,labels\na,b,c\n", "line 2: 3 cells"),
        ("text,text\na,b\n", "columns of the same name"),
        ('text,labels\n"a,b\n', "line 2"),
    ],
)
def test_broken_tables(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_table(path, text="text", label_column="labels")


def test_questions_a_table_cannot_answer(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text|a\nx|1\n")
    with pytest.raises(ValueError, match="Separate the cells by commas, semicolons or tabs"):
        load_table(path, text="text")
    path.write_text("text,a,b\nx,1,u;v\ny,0,w\n")
    assert load_table(path, text="text", labels="a").label_names == ["a"]
    with pytest.raises(ValueError, match="labels or label_column, not both"):
        load_table(path, text="text", labels="a", label_column="b")
    with pytest.warns(UserWarning, match="label 'u;v' contains ';'"):
        load_table(path, text="text", label_column="b", delimiter="|")


def test_columns_named_twice(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,a\nx,1\n")
    with pytest.raises(ValueError, match="each may be named only once"):
        load_table(path, text="text", labels=["a", "a"])


def test_tables_of_other_encodings_and_forms(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("text\ngrün\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        load_table(path, text="text")
    path.write_bytes('\ufefftext,a,b\r\n"grün, ""x""\nzwei",1,\r\n\r\nb,False,yes\r\n'.encode())
    table = load_table(path, text="text", labels=["a", "b"])
    assert table.texts == ['grün, "x"\nzwei', "b"]
    assert table.labels == [["a"], ["b"]]
    assert table.indicator().tolist() == [[1, 0], [0, 1]]
    path = tmp_path / "t.tsv"
    path.write_text("text\tlabels\n" + "w " * 200_000 + "\tx; y;;x\n")
    table = load_table(path, text="text", label_column="labels")
    assert table.labels == [["x", "y"]]


def test_support_messages_are_what_the_readme_says():
    train, test = load_support_messages("train"), load_support_messages("test")
    assert (len(train.texts), len(test.texts), len(train.label_names)) == (480, 180, 8)
    assert test.label_names == train.label_names
    texts = [" ".join(text.lower().split()) for text in train.texts + test.texts]
    assert len(set(texts)) == 660
    assert 1.4 < (train.indicator().sum() + test.indicator().sum()) / 660 < 1.6
    assert train.indicator().sum(0).min() >= 60
    with pytest.raises(ValueError, match="part must be"):
        load_support_messages("dev")


def test_demo_prints_the_gain_of_pre_training_and_what_to_do_next(monkeypatch, tmp_path):
    from sk_ulmfit.cli import demo
    from sk_ulmfit.training import recipe

    tiny_lm().fit(make_corpus(60)[0]).save(tmp_path / "model")
    monkeypatch.setattr(demo, "LANGUAGE_MODEL", tmp_path / "model")
    monkeypatch.setattr(recipe, "CLASSIFIER", ((480, 1, 16),))
    monkeypatch.setattr(recipe, "LANGUAGE_MODEL_TOKENS", 1)
    lines = []
    figures = demo.run_demo(lines.append)
    shown = "\n".join(lines)
    for part in ("480 messages", "ULMFiT", "TF-IDF + logistic regression", "macro average", "What to do next"):
        assert part in shown
    gain = figures["pretrained"]["average precision"] - figures["scratch"]["average precision"]
    assert f"average precision {gain:+.3f}" in shown.split("over the same from random weights")[1].splitlines()[0]
    assert figures["linear"]["micro F1"] > 0.5


def test_train_with_a_frozen_encoder(table, tmp_path, capsys):
    out = tmp_path / "frozen.model"
    args = [
        "--text",
        "body",
        "--label-column",
        "topics",
        "--delimiter",
        "|",
        "--unfreezing",
        "head",
        "--no-tfidf",
        "--pos-weight",
        "balanced",
        "--threshold",
        "precision=0.5",
        "--at-least-one",
        "--calibration",
        "temperature",
        "--precision",
        "float32",
    ]
    assert run("train", table, *args, "--out", out, *SMALL) == 0
    clf = ULMFiTMultiLabelClassifier.load(out)
    assert clf.unfreezing == "head"
    assert (clf.pos_weight, clf.calibration) == ("balanced", "temperature")
    assert (clf.threshold, clf.at_least_one) == ({"precision": 0.5}, True)
    with pytest.raises(SystemExit):
        run("train", table, *args, "--threshold", "best", "--out", out, *SMALL)
    expected = "expected a number, auto, f1_macro, f1_micro, f1_samples, tune or precision=NUMBER"
    assert f"{expected}, got 'best'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("train", table, *args, "--threshold", "precision=high", "--out", out, *SMALL)
    assert f"{expected}, got 'high'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("train", table, *args, "--pos-weight", "equal", "--out", out, *SMALL)
    assert "expected a number or balanced, got 'equal'" in capsys.readouterr().err
    capsys.readouterr()
    assert run("info", out) == 0
    shown = capsys.readouterr().out
    assert "unfreezing=head\n" in shown
    assert "threshold=(precision=0.5)\n" in shown
    assert not clf.tfidf
    assert clf.precision == "float32"


PRETRAIN = ["--emb-dim", "8", "--hidden-dim", "8", "--n-layers", "2", "--min-frequency", "1", "--batch-size", "4"]


def test_pretrain_and_train_from_it(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "shows_progress", lambda options: True)  # as on a terminal
    corpus, out = tmp_path / "corpus.jsonl", tmp_path / "run"
    corpus.write_text("".join(f'{{"body": "{text}"}}\n' for text in make_corpus(60)[0]), encoding="utf-8")
    assert run("pretrain", corpus, "--out", out, "--field", "body", "--epochs", 2, *PRETRAIN) == 0
    shown = capsys.readouterr()
    assert "tokens/s" in shown.err
    assert "Perplexity on held-out documents: " in shown.out
    assert "(8/8/2, " in shown.out
    model = tmp_path / "mail.model"
    args = ["--text", "body", "--labels", "late", "--language-model", out / "model.safetensors"]
    assert run("train", table, *args, "--out", model, "--lm-epochs", 0, "--max-epochs", 1) == 0
    assert ULMFiTMultiLabelClassifier.load(model).predict_proba(["late"]).shape == (1, 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nowhere.txt"], "There is no file or folder nowhere.txt"),
        (["corpus.txt", "--epochs", "1", "--hours", "1"], "not both"),
        (["corpus.txt", "--out", "file/run"], "cannot be created"),
        (["corpus.txt", "--weights", "1", "2"], "one number for each corpus (1), got 2"),
        (["corpus.txt", "--weights", "nan"], "weights[0] must be a number above 0, got nan"),
    ],
)
def test_wrong_input_to_pretrain_is_one_line(args, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("some words\n\nand more of them")
    (tmp_path / "file").write_text("")
    assert run("pretrain", *args[:1], "--out", "run", *args[1:], *PRETRAIN) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_pretrain_takes_several_corpora_with_weights(tmp_path, capsys):
    files = [tmp_path / "lamps.txt", tmp_path / "hubs.txt"]
    for file in files:
        file.write_text(f"the {file.stem} are on\n\nthe {file.stem} are off\n\n" * 40)
    assert run("pretrain", *files, "--weights", 3, 1, "--out", tmp_path / "run", *PRETRAIN) == 0
    log = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert [corpus["share"] for corpus in log["corpora"]] == [0.75, 0.25]
    capsys.readouterr()
    assert run("pretrain", *reversed(files), "--weights", 3, 1, "--out", tmp_path / "run", *PRETRAIN) == 2
    assert "corpus 1='lamps.txt" in capsys.readouterr().err


def test_ctrl_c_in_pretrain_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    step = Trainer.do_step

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return step(*args)

    monkeypatch.setattr(pretrain, "shows_progress", lambda options: True)
    (tmp_path / "corpus.txt").write_text("the lamp is on\n\nthe hub is off\n\n" * 50)
    monkeypatch.setattr(Trainer, "do_step", interrupted)
    assert run("pretrain", tmp_path / "corpus.txt", "--out", tmp_path / "run", *PRETRAIN) == 130
    assert f"resumes from the checkpoint in {tmp_path / 'run'}" in capsys.readouterr().err
    monkeypatch.setattr(Trainer, "do_step", step)
    assert run("pretrain", tmp_path / "corpus.txt", "--out", tmp_path / "run", *PRETRAIN) == 0
    assert "resuming from step 1" in capsys.readouterr().err


# --- every form of the same data ---------------------------------------------


def forms_of(folder, texts, labels):
    """Write the same texts and labels in every form; give the arguments that name each."""
    names = sorted({name for found in labels for name in found})
    pairs = list(zip(texts, labels, strict=True))

    def table(name, columns, rows, separator=","):
        write_table(folder / name, columns, rows)
        if separator != ",":
            frame = pd.read_csv(folder / name)
            frame.to_csv(folder / name, sep=separator, index=False)
        return folder / name

    delimited = [{"body": text, "topics": ";".join(found)} for text, found in pairs]
    indicator = [{"body": text, **{name: int(name in found) for name in names}} for text, found in pairs]
    several = [{"body": t, **{f"Label {k}": (f[k] if k < len(f) else "") for k in range(2)}} for t, f in pairs]
    lists = [{"body": text, "topics": list(found)} for text, found in pairs]
    one = ["--label-column", "topics"]
    given = {
        "delimited column": [table("a.csv", ["body", "topics"], delimited), *one],
        "tabs": [table("a.tsv", ["body", "topics"], delimited), *one],
        "xz": [table("a.csv.xz", ["body", "topics"], delimited), *one],
        "0/1 columns": [table("b.csv", ["body", *names], indicator), "--labels", *names],
        "label-name columns": [
            table("c.csv", ["body", "Label 0", "Label 1"], several),
            *("--label-column", "Label 0", "--label-column", "Label 1"),
        ],
        "a pattern": [folder / "c.csv", "--label-column", "Label *"],
        "semicolons": [
            table("s.csv", ["body", *names], indicator, separator=";"),
            *("--labels", *names),
        ],
        "JSON lines": [table("d.jsonl", ["body", "topics"], lists), *one],
        "JSON lists in CSV": [table("e.csv", ["body", "topics"], lists), *one],
    }
    pd.DataFrame(lists).to_parquet(folder / "f.parquet")
    given["Parquet"] = [folder / "f.parquet", *one]
    given = {form: [args[0], "--text", "body", *args[1:]] for form, args in given.items()}
    for i, (text, found) in enumerate(pairs):
        for name in found:
            (folder / "by label" / name).mkdir(parents=True, exist_ok=True)
            (folder / "by label" / name / f"{i:03}.txt").write_text(text, encoding="utf-8")
        (folder / "texts").mkdir(exist_ok=True)
        (folder / "texts" / f"{i:03}.txt").write_text(text, encoding="utf-8")
    given["folders"] = [folder / "by label"]
    listed = [{"file": f"{i:03}.txt", "labels": ";".join(found)} for i, (_, found) in enumerate(pairs)]
    given["folder and labels file"] = [
        *(folder / "texts", "--labels-file", table("list.csv", ["file", "labels"], listed))
    ]
    return given


def test_the_same_predictions_from_all_forms_of_the_same_data(tmp_path, capsys):
    forms = forms_of(tmp_path, *make_corpus(24))
    expected = None
    for number, (form, args) in enumerate(forms.items()):
        model, out = tmp_path / f"{number}.model", tmp_path / f"{number}.jsonl"
        assert run("train", *args, "--out", model, "--random-state", 0, *SMALL) == 0, capsys.readouterr().err
        source = tmp_path / "texts" if args[0].is_dir() else args[0]
        assert run("predict", model, source, "--out", out) == 0, capsys.readouterr().err
        found = [
            {key: cell for key, cell in row.items() if key.startswith(("proba_", "predicted_"))}
            for row in load_table(out, text="text" if args[0].is_dir() else "body").rows
        ]
        expected = expected or found
        assert found == expected, form
        assert run("evaluate", model, *(args if args[0].is_dir() else args[:1])) == 0, capsys.readouterr().err


def test_a_large_file_is_predicted_some_rows_at_a_time(table, model, tmp_path, monkeypatch):
    assert run("predict", model, table, "--out", tmp_path / "whole.csv") == 0
    monkeypatch.setattr(predict, "MAX_ROWS", 5)
    sizes = []
    predict_proba = ULMFiTMultiLabelClassifier.predict_proba

    def watched(self, X):
        sizes.append(len(X))
        return predict_proba(self, X)

    monkeypatch.setattr(ULMFiTMultiLabelClassifier, "predict_proba", watched)
    assert run("predict", model, table, "--out", tmp_path / "parts.csv") == 0
    assert sizes == [5, 5, 5, 5, 4]
    whole, parts = (load_table(tmp_path / name, text="body").rows for name in ("whole.csv", "parts.csv"))
    for one, other in zip(whole, parts, strict=True):
        assert one["predicted_labels"] == other["predicted_labels"]
        assert float(one["proba_billing"]) == pytest.approx(float(other["proba_billing"]), abs=2e-6)


def test_a_row_that_cannot_be_read_leaves_an_earlier_output_as_it_was(table, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "MAX_ROWS", 5)
    out = tmp_path / "out.csv"
    out.write_text("kept")
    with table.open("a", encoding="utf-8") as file:
        file.write("one cell\n")
    assert run("predict", model, table, "--out", out, "--force") == 2
    assert "1 cells where the header has 5" in capsys.readouterr().err
    empty = tmp_path / "empty.csv"
    empty.write_text("subject,body\n")
    assert run("predict", model, empty, "--out", out, "--force") == 2
    assert "has no rows" in capsys.readouterr().err
    assert out.read_text() == "kept"
    assert not list(tmp_path.glob(".*part"))


def test_blank_label_cells_are_no_or_unknown(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("body,late,lost\n" + "The parcel is late,1,\nAll is well,0,1\nWhere is it,,0\n" * 4)
    for blank, rate in (("absent", 1 / 3), ("unknown", 1 / 2)):
        args = ["--text", "body", "--labels", "late", "lost", "--blank", blank, "--no-tfidf"]
        assert run("train", path, *args, "--out", tmp_path / blank, *SMALL, "--random-state", 0) == 0
        clf = ULMFiTMultiLabelClassifier.load(tmp_path / blank)
        assert clf.predict_proba(["The parcel is late"])[0, 0] == pytest.approx(rate, abs=0.15)


# --- answers for programs, and the other commands -----------------------------


def answer(capsys):
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    return json.loads(shown.out)


def test_json_answers(table, tmp_path, capsys):
    out, written = tmp_path / "m", tmp_path / "o.jsonl"
    args = ["--text", "body", "--label-column", "topics", "--delimiter", "|", "--random-state", 0, *SMALL]
    assert run("train", table, *args, "--out", out, "--json") == 0
    trained = answer(capsys)
    assert trained["labels"] == ["billing", "delivery", "technical"]
    assert (trained["n_texts"], len(trained["history"])) == (24, 2)
    assert run("predict", out, table, "--out", written, "--json") == 0
    predicted = answer(capsys)
    rows = load_table(written, text="body").rows
    assert predicted["n_texts"] == len(rows) == 24
    assert predicted["labels_per_text"] == pytest.approx(np.mean([len(r["predicted_labels"]) for r in rows]), abs=1e-4)
    assert isinstance(rows[0]["proba_billing"], float)
    assert run("evaluate", out, table, "--json") == 0
    scored = answer(capsys)
    true = [row["topics"].split(" | ") for row in load_table(table, text="body").rows]
    hits = [set(row["predicted_labels"]) == set(found) for row, found in zip(rows, true, strict=True)]
    assert scored["all_labels_right"] == pytest.approx(np.mean(hits))
    assert scored["labels"]["billing"]["texts"] == sum("billing" in found for found in true)
    for row in [*scored["labels"].values(), *scored["averages"].values()]:
        assert {type(row[name]) for name in ("texts", "predicted")} == {int}
    assert run("info", out, "--json") == 0
    told = answer(capsys)
    assert told["labels"] == trained["labels"]
    assert told["metadata"]["delimiter"] == "|"
    assert told["kind"] == "classifier"
    assert run("info", out) == 0
    shown = capsys.readouterr().out
    assert "thresholds          0.5 for all 3\n" in shown
    assert "max_epochs=2" in shown
    assert "lr_decay" not in shown  # left as it was


def test_info_says_equal_thresholds_once(model, capsys):
    clf = ULMFiTMultiLabelClassifier.load(model).set_thresholds({"delivery": 0.3})
    clf.save(model)
    capsys.readouterr()
    assert run("info", model) == 0
    shown = capsys.readouterr().out
    assert "thresholds          delivery=0.3\n                    0.5 for the other 2\n" in shown
    clf.set_thresholds([0.1, 0.2, 0.3]).save(model)
    assert run("info", model) == 0
    assert "billing=0.1\n                    delivery=0.2\n" in capsys.readouterr().out


def test_info_of_language_models_and_of_what_is_none(tmp_path, capsys):
    tiny_lm().fit(make_corpus()[0]).save(tmp_path / "lm")
    assert run("info", tmp_path / "lm", "--json") == 0
    told = answer(capsys)
    assert (told["kind"], told["emb_dim"], told["n_layers"]) == ("language_model", 12, 2)
    assert "vector_dim" not in told
    with_vector(tiny_lm().fit(make_corpus()[0]), tmp_path / "vector", dim=6)
    assert run("info", tmp_path / "vector") == 0
    assert "vector dim          6\n" in capsys.readouterr().out
    assert run("info", "en-small") == 0
    assert "language model" in capsys.readouterr().out.replace("_", " ")
    (tmp_path / "x").write_text("x")
    assert run("info", tmp_path / "x") == 2
    assert "is not a model of sk_ulmfit" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["table", "corpus"])
def test_finetune_a_language_model_and_train_from_it(table, tmp_path, capsys, form):
    out = tmp_path / "mail.lm"
    source, text = table, ["--text", "body"]
    if form == "corpus":
        source, text = tmp_path / "corpus.txt", []
        source.write_text("\n\n".join(make_corpus(24)[0]), encoding="utf-8")
    assert run("finetune", source, *text, "--out", out, "--language-model", "none", *SMALL[:6], "--max-epochs", 2) == 0
    assert "Read 24 texts" in capsys.readouterr().out
    model = tmp_path / "m"
    args = ["--text", "body", "--labels", "late", "--language-model", out, "--lm-epochs", 0, "--max-epochs", 1]
    assert run("train", table, *args, "--out", model) == 0
    assert ULMFiTMultiLabelClassifier.load(model).net_.module_.encoder.embedding.embedding_dim == 8
    assert run("finetune", source, *text, "--out", out) == 2
    assert "already exists" in capsys.readouterr().err
    if form == "table":
        assert run("finetune", table, "--out", tmp_path / "other") == 2
        assert "Name the text column with --text" in capsys.readouterr().err


def test_nothing_but_the_answer_is_printed_where_there_is_no_terminal(table, model, tmp_path, capsys):
    capsys.readouterr()
    assert run("predict", model, table, "--out", tmp_path / "o.csv") == 0
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the lamp is on\n\nthe hub is off\n\n" * 50)
    assert run("pretrain", corpus, "--out", tmp_path / "run", *PRETRAIN) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.count("\n") == 3


def test_no_file_that_is_read_is_written(table, model, tmp_path, fitted, capsys):
    lm, link = tmp_path / "lm", tmp_path / "link.csv"
    fitted.language_model_.save(lm)
    before = {path: path.read_bytes() for path in (table, model, lm)}
    train = ["train", table, "--text", "body", "--labels", "late", "--force"]
    assert run("predict", model, table, "--out", model, "--force") == 2
    assert run("explain", model, table, "--out", model, "--force") == 2
    assert run(*train, "--language-model", lm, "--out", lm) == 2
    assert run(*train, "--unlabelled", table, "--out", table) == 2
    assert capsys.readouterr().err.count("is an input file; give another name to --out") == 4
    os.mkfifo(tmp_path / "fifo")
    assert run("predict", model, table, "--out", tmp_path / "fifo", "--force") == 2
    assert "is a named pipe; give the name of a file to write" in capsys.readouterr().err
    link.symlink_to(tmp_path / "target.csv")
    assert run("predict", model, table, "--out", link) == 0
    assert link.is_symlink()
    assert "predicted_labels" in (tmp_path / "target.csv").read_text()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("odd", ["late; lost", "[tech]", " $x$ "])
def test_labels_with_odd_names_come_back_from_a_prediction(tmp_path, odd):
    names = [odd, "late"]
    texts = ["The parcel is late", "The lamp is broken", "How much is it"] * 4
    frame = pd.DataFrame(
        {"body": texts, **{name: [int(i % 3 == k) for i in range(12)] for k, name in enumerate(names)}}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert run("train", tmp_path / "t.csv", "--text", "body", "--labels", *names, "--out", tmp_path / "m", *SMALL) == 0
    out = tmp_path / "out.csv"
    assert run("predict", tmp_path / "m", tmp_path / "t.csv", "--out", out, "--threshold", 0) == 0
    found = load_table(out, text="body", label_column="predicted_labels")
    assert found.labels[0] == sorted(name.strip() for name in names)
    assert json.loads(found.rows[0]["predicted_labels"]) == names


def test_evaluate_takes_blanks_as_the_training_did(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text("body,late,lost\n" + "The parcel is late,1,\nAll is well,0,1\nWhere is it,,\n" * 4)
    args = ["--text", "body", "--labels", "late", "lost", "--blank", "unknown"]
    assert run("train", path, *args, "--out", tmp_path / "m", *SMALL, "--random-state", 0) == 0
    capsys.readouterr()
    for blank, n_texts in ((None, 8), ("absent", 12)):
        assert run("evaluate", tmp_path / "m", path, *(["--blank", blank] if blank else []), "--json") == 0
        assert answer(capsys)["n_texts"] == n_texts


def test_wide_rows_count_in_what_predict_holds(model, tmp_path, monkeypatch):
    path = tmp_path / "wide.csv"
    write_table(path, ["subject", "body", "html"], [{"subject": "", "body": "x", "html": "y" * 1000}] * 10)
    monkeypatch.setattr(predict, "MAX_CHARACTERS", 3_000)
    sizes = []
    predict_proba = ULMFiTMultiLabelClassifier.predict_proba
    monkeypatch.setattr(
        ULMFiTMultiLabelClassifier, "predict_proba", lambda s, X: sizes.append(len(X)) or predict_proba(s, X)
    )
    assert run("predict", model, path, "--out", tmp_path / "o.csv") == 0
    assert sizes == [3, 3, 3, 1]


def test_lr_find_of_a_classifier_and_of_a_language_model(table, tmp_path, capsys):
    picture = tmp_path / "curve.png"
    body = ["--emb-dim", 8, "--hidden-dim", 8, "--n-layers", 2, "--random-state", 0]
    labels = ["--label-column", "topics", "--delimiter", "|"]
    assert run("lr-find", table, "--text", "body", *labels, "--out", picture, *body, "--batch-size", 8, "--json") == 0
    found = answer(capsys)
    assert len(found["learning_rates"]) == len(found["losses"]) > 20
    suggestion = found["suggestion"]  # none on 24 texts, if their losses only go up and down
    assert found["parameters"] == ({} if suggestion is None else {"lr": suggestion})
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run("lr-find", table, "--text", "body", *body, "--n-steps", 40) == 0
    suggested = re.search(r"Suggestion for the language model: --lr (\S+)\.", capsys.readouterr().out)
    assert 1e-6 < float(suggested.group(1)) < 10
    values = ["--values", "stars", "--y-range", 0, 5, "--batch-size", 8, "--n-steps", 20]
    graded = tmp_path / "graded.csv"
    write_table(graded, ["body", "stars"], [{"body": f"{n} lamps are late", "stars": n % 6} for n in range(24)])
    assert run("lr-find", graded, "--text", "body", *values, *body, "--json") == 0
    assert len(answer(capsys)["losses"]) == 20
    assert run("lr-find", table, "--text", "body", *labels, *values) == 2
    assert "Pass labels or --values, not both." in capsys.readouterr().err
    losses = {}
    for direction in ("forward", "backward"):
        for which, more in (("classifier", labels), ("language model", [])):
            told = ["--direction", direction, "--n-steps", 20, "--json"]
            assert run("lr-find", table, "--text", "body", *more, *body, *told) == 0
            losses[which, direction] = answer(capsys)["losses"]
    assert run("lr-find", table, "--text", "body", *labels, *body, *told, "--direction", "both") == 0
    assert answer(capsys)["losses"] == losses["classifier", "forward"] != losses["classifier", "backward"]
    assert losses["language model", "forward"] != losses["language model", "backward"]
    assert run("lr-find", table, "--text", "body", *body, "--n-steps", 5) == 2
    assert "--n-steps must be" in capsys.readouterr().err
    assert run("lr-find", table, "--text", "body", *body, "--out", picture) == 2
    assert "already exists" in capsys.readouterr().err
    assert run("lr-find", table, "--text", "body", *body, "--out", tmp_path / "curve.doc") == 2
    assert "is not a picture; pass a name ending in .png" in capsys.readouterr().err


def test_a_range_test_that_finds_nothing_names_options_to_change(table, monkeypatch, capsys):
    rates = np.geomspace(1e-6, 1, 20)

    def nothing_found(estimator, X, y=None, *, start_lr=1e-6, end_lr=10.0, n_steps=100):
        return LearningRateCurve(rates, rates, rates, None, {})

    monkeypatch.setattr(lr_find, "lr_find", nothing_found)
    assert run("lr-find", table, "--text", "body", *SMALL[:6]) == 0
    shown = capsys.readouterr().out
    for option in ("--out", "--start-lr", "--n-steps", "--batch-size"):
        assert option in shown


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--top-k", "0"], "--top-k must be an integer at least 1, got 0."),
        (["--lr", "-1"], "--lr must be a number at least 0, got -1.0."),
        (["--early-stopping", "--batch-size", "0"], "--batch-size must be an integer at least 1, got 0."),
    ],
)
def test_errors_call_options_what_they_are_called(table, tmp_path, option, message, capsys):
    args = ["train", table, "--text", "body", "--label-column", "topics", "--delimiter", "|", "--out", tmp_path / "m"]
    assert run(*args, *option) == 2
    assert capsys.readouterr().err == f"sk-ulmfit train: {message}\n"


def test_names_in_quotes_stay_as_they_are():
    options = Namespace(flags={"label_column": "--label-column", "lr": "--lr", "language": "--language"})
    assert as_typed("pass it as label_column instead", options) == "pass it as --label-column instead"
    assert as_typed("no column 'label_column'; the lr", options) == "no column 'label_column'; the lr"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("train none (lm_epochs=0), or less", "train none (--lm-epochs 0), or less"),
        ("below lr=0.01, or lr=1e-05.", "below --lr 0.01, or --lr 1e-05."),
        ("with early_stopping=True, threshold='tune'", "with --early-stopping, --threshold tune"),
        ("pass language= and one, or pretrained=None", "pass --language and one, or --language-model none"),
        ("y_range=(0, 1) and tfidf=False stay", "y_range=(0, 1) and tfidf=False stay"),
    ],
)
def test_values_of_parameters_are_named_as_they_are_typed(message, expected):
    names = ["lm_epochs", "lr", "early_stopping", "threshold", "language", "language_model", "y_range", "tfidf"]
    options = Namespace(flags={name: "--" + name.replace("_", "-") for name in names})
    assert as_typed(message, options) == expected


def type_in(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))


def test_typed_texts_are_predicted_and_explained(model, monkeypatch, capsys):
    clf = ULMFiTMultiLabelClassifier.load(model).set_thresholds(0.0)
    texts = ["the invoice is late", "the lämp is broken"]
    capsys.readouterr()
    type_in(monkeypatch, "\n".join(texts) + "\n\n")
    assert run("predict", model, "-", "--threshold", 0, "--json") == 0
    told = answer(capsys)
    assert [row["text"] for row in told["texts"]] == texts
    assert [row["labels"] for row in told["texts"]] == [[*labels] for labels in clf.predict_labels(texts)]
    proba = [list(row["probabilities"].values()) for row in told["texts"]]
    assert np.allclose(proba, clf.predict_proba(texts))
    for threshold, line in (
        (0, r"(\w+ \d\.\d\d, ){2}\w+ \d\.\d\d\n"),
        (1, r"\(no label; most probable: \w+ 0\.\d\d\)\n"),
    ):
        type_in(monkeypatch, texts[0])
        assert run("predict", model, "-", "--threshold", threshold) == 0
        assert re.fullmatch(line, capsys.readouterr().out)
    type_in(monkeypatch, texts[0])
    assert run("explain", model, "-") == 0
    assert capsys.readouterr().out.startswith(texts[0])


@pytest.mark.parametrize(
    ("typed", "args", "message"),
    [
        ("", ["predict", "MODEL", "-"], "Standard input has no text; pass one per line"),
        ("a text", ["predict", "MODEL", "-", "--text", "body"], "--text names columns of a table"),
        ("a text", ["predict", "MODEL", "-", "--out", "o.csv"], "the predictions are printed; omit --out"),
        (
            "",
            ["predict", "MODEL", "the lamp is late"],
            "There is no file 'the lamp is late'; to pass a text, write - for",
        ),
        (
            "",
            ["explain", "MODEL", "the lamp is late"],
            "There is no file 'the lamp is late'; to pass a text, write - for",
        ),
        ("", ["predict", "MODEL", "TABLE"], "Name the table to write with --out"),
    ],
)
def test_wrong_use_of_typed_texts_is_one_line(table, model, typed, args, message, monkeypatch, capsys):
    capsys.readouterr()
    type_in(monkeypatch, typed)
    assert run(*[{"TABLE": table, "MODEL": model}.get(arg, arg) for arg in args]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_explain_says_how_many_texts_it_leaves_out(table, model, capsys):
    capsys.readouterr()
    assert run("explain", model, table, "--limit", 2) == 0
    assert "the first 2 of 24 texts are explained; --limit N explains more." in capsys.readouterr().err
    assert run("explain", model, table, "--limit", 2, "--json") == 0
    told = answer(capsys)
    assert (told["n_texts"], told["n_left_out"]) == (2, 22)


def test_explain_writes_a_page_or_plain_text(table, model, tmp_path, capsys):
    page = tmp_path / "why.html"
    capsys.readouterr()
    assert run("explain", model, table, "--out", page, "--limit", 3, "--labels", "billing", "technical", "--json") == 0
    told = answer(capsys)
    assert (told["n_texts"], len(told["texts"])) == (3, 3)
    item = told["texts"][0]
    assert list(item["labels"]) == ["billing", "technical"]
    for found in item["labels"]["billing"]["words"]:
        assert item["text"][found["begin"] : found["end"]] == found["word"]
    content = page.read_text(encoding="utf-8")
    assert content.startswith("<!DOCTYPE html>")
    assert "<script" not in content
    assert run("explain", model, table, "--out", page) == 2
    assert "already exists; pass --force" in capsys.readouterr().err
    assert run("explain", model, table, "--limit", 2, "--method", "occlusion") == 0
    assert "threshold 0.50" in capsys.readouterr().out
    assert run("explain", model, table, "--labels", "nope") == 2
    assert "labels has 'nope', which is not one of this classifier's 3 labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["train", "--text", "body", "--labels", "late", "TABLE", "--out", "m"],
            "put it first; --text and --labels take all names",
        ),
        (["train", "TABLE", "--wrong"], "unrecognized arguments|required"),
        (
            ["train", "--text", "body", "TABLE", "--labels", "late", "--out", "m"],
            "put it first; --text and --labels take all names",
        ),
        (["predict"], "the following arguments are required"),
    ],
)
def test_wrong_options_are_one_line_too(args, message, table, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*[{"TABLE": table}.get(a, a) for a in args])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown)
    assert shown.count("\n") == 1


def test_what_may_be_a_slip_is_pointed_out(table, tmp_path, capsys):
    train = ["train", table, "--out", tmp_path / "m", *SMALL]
    assert run(*train, "--label-column", "topics") == 2
    assert "Name the text column with --text; the columns are 'id', 'subject'" in capsys.readouterr().err
    assert run(*train, "--text", "body", "--label-column", "body") == 2
    assert "Column 'body' cannot be both a text and a label" in capsys.readouterr().err
    assert run(*train, "--text", "body", "--label-column", "id") == 0
    assert "24 of 24 labels occur once, such as '0'; is that the column of labels?" in capsys.readouterr().err
    blank = tmp_path / "blank.csv"
    blank.write_text("body,late\n" + "The parcel is late,1\nAll is well,\n" * 4)
    assert run("train", blank, "--text", "body", "--labels", "late", "--out", tmp_path / "n", *SMALL) == 0
    assert "4 empty label cells counted as 'absent'; pass --blank unknown" in capsys.readouterr().err


HOSTILE = "red\x1b[31m\x1b]0;owned\x07\x9b2J\u202e"


def test_control_characters_are_printed_escaped(tmp_path, capfd):
    texts, labels = make_corpus()
    labels = [[HOSTILE if label == "delivery" else label for label in row] for row in labels]
    file, model = tmp_path / f"m{HOSTILE}.csv", tmp_path / "mail.model"
    rows = [{"text": text, "labels": json.dumps(row)} for text, row in zip(texts, labels, strict=True)]
    write_table(file, ["text", "labels"], rows)
    commands = [
        ("train", file, "--text", "text", "--label-column", "labels", "--out", model, *SMALL),
        ("evaluate", model, file),
        ("explain", model, file),
        ("explain", model, file, "--labels", "no" + HOSTILE),
        ("predict", model, file, "--out", tmp_path / f"out{HOSTILE}.csv"),
        ("predict", model, file, "--text", HOSTILE, "--out", tmp_path / "out.csv"),
        ("predict", model, file, HOSTILE),
        ("info", model),
        ("info", model, "--json"),
        ("info", tmp_path / HOSTILE),
    ]
    for command in commands:
        with suppress(SystemExit):
            run(*command)
        out, err = capfd.readouterr()
        assert not re.search("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202e]", out + err), command
        if command == ("info", model, "--json"):
            assert HOSTILE in json.loads(out)["labels"]
        if command == ("info", model):
            assert "red\\x1b[31m" in out


@pytest.mark.skipif(os.name == "nt", reason="no limit of the size of a file")
@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.jsonl.xz"])
def test_a_full_disk_names_the_file_and_leaves_nothing(table, model, tmp_path, name):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10));"
        "from sk_ulmfit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / name
    before = sorted(tmp_path.iterdir())
    command = [sys.executable, "-c", code, "predict", str(model), str(table), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"sk-ulmfit predict: [Errno 27] File too large: '{out}'"
    assert sorted(tmp_path.iterdir()) == before
