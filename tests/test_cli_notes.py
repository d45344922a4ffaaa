"""Notes of the command line about texts and labels that may be mistakes, and the separator of what it writes."""

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli import demo
from sk_ulmfit.cli.main import main
from sk_ulmfit.cli.similar_labels import similar
from sk_ulmfit.datasets import load_table, write_table

NEW = ["the invoice is late", "", "the parcel", "  "]
SMALL = ["--emb-dim", "8", "--hidden-dim", "8", "--n-layers", "2", "--lm-epochs", "1", "--max-epochs", "1"]


def run(*args):
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "mail.model"
    texts, labels = make_corpus(24)
    tiny_classifier(max_epochs=1).fit(texts, labels).save(path, metadata={"text": "body", "label_column": "topics"})
    return path


def write(path, texts=NEW, labels=None, separator=","):
    labels = labels or ["billing"] * len(texts)
    rows = [{"id": i, "body": text, "topics": label} for i, (text, label) in enumerate(zip(texts, labels, strict=True))]
    write_table(path, ["id", "body", "topics"], rows, separator=separator)
    return path


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_texts_without_a_known_word_are_noted_once(model, tmp_path, capsys, command, monkeypatch):
    monkeypatch.setattr("sk_ulmfit.cli.predict.MAX_ROWS", 2)
    file = write(tmp_path / "new.csv")
    assert run(command, model, file, *(["--out", tmp_path / "out.csv"] if command == "predict" else [])) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "no word" in line] == [
        "sk-ulmfit: note: 2 of 4 texts have no word that the model knows, such as the empty text in row 2; they get the "
        "base rate of each label."
    ]


def test_texts_without_a_known_word_in_parts_are_noted_once(model, tmp_path, capsys):
    pandas = pytest.importorskip("pandas")
    for module in ("pyarrow", "fsspec"):
        pytest.importorskip(module)
    (tmp_path / "mail").mkdir()
    for part in ("a", "b"):
        pandas.DataFrame({"body": NEW}).to_parquet(tmp_path / "mail" / f"{part}.parquet")
    assert run("predict", model, tmp_path / "mail", "--out", tmp_path / "out") == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "no word" in line]
    assert len(notes) == 1
    assert "4 of 8 texts have no word that the model knows, such as the empty text; they get" in notes[0]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_is_written_with_the_separator_of_the_csv_that_was_read(model, tmp_path, separator):
    texts = ["the invoice, again; late", "a\tlamp"]
    file, out = write(tmp_path / "new.csv", texts, separator=separator), tmp_path / "out.csv"
    assert run("predict", model, file, "--out", out) == 0
    columns = ["id", "body", "topics", "predicted_labels", "proba_billing", "proba_delivery", "proba_technical"]
    assert out.read_text().splitlines()[0] == separator.join(columns)
    table = load_table(out, text="body")
    assert table.texts == texts
    assert all(0 < float(row["proba_billing"]) < 1 for row in table.rows)


@pytest.mark.parametrize(
    ("name", "out", "mark"), [("new.tsv", "o.csv", ","), ("new.jsonl", "o.csv", ","), ("new.csv", "o.tsv", "\t")]
)
def test_other_types_of_files_have_their_own_separator(model, tmp_path, name, out, mark):
    file = write(tmp_path / name, separator=";")
    assert run("predict", model, file, "--out", tmp_path / out) == 0
    assert (tmp_path / out).read_text().startswith(mark.join(["id", "body", "topics", "predicted_labels"]))


def test_a_name_with_a_comma_keeps_the_comma_so_that_the_table_can_be_read_back(tmp_path):
    write_table(tmp_path / "out.csv", ["body", "proba_x, y"], [{"body": "lamp", "proba_x, y": 1}], separator=";")
    assert load_table(tmp_path / "out.csv", text="body").columns == ["body", "proba_x, y"]


def test_train_notes_a_label_of_one_text_that_is_like_another(tmp_path, capsys):
    texts, _ = make_corpus(24)
    texts = [*texts[:-1], " "]
    labels = ["shipping", "billing"] * 11 + ["shippng", "level 2"]
    file, out = write(tmp_path / "mail.csv", texts, labels), tmp_path / "mail.model"
    assert run("train", file, "--text", "body", "--label-column", "topics", "--out", out, *SMALL) == 0
    notes = capsys.readouterr().err
    assert "note: 'shippng' labels 1 text; did you mean 'shipping' (11 texts)?" in notes
    assert "'level 2' labels" not in notes
    assert notes.count("1 of 24 training texts is empty, the one in row 24; leave out such rows.") == 1
    assert ULMFiTMultiLabelClassifier.load(out).label_names_.tolist() == ["billing", "level 2", "shipping", "shippng"]


@pytest.mark.parametrize(
    ("label", "known", "wanted"),
    [
        ("shippng", {"shipping": 61, "billing": 9}, "shipping"),
        ("Shipping", {"shipping": 61}, "shipping"),
        ("refund", {"shipping": 61}, None),
        ("level 11", {"level 10": 5}, None),
        ("shippng", {}, None),
    ],
)
def test_similar_labels(label, known, wanted):
    assert similar(label, known) == wanted


def test_evaluate_says_in_how_many_texts_an_unknown_label_is(model, tmp_path, capsys):
    file = write(tmp_path / "new.csv", ["the invoice"] * 4, ["biling", "biling", "lamps", "billing"])
    assert run("evaluate", model, file) == 0
    assert (
        "left out 2 labels that the model does not know: 'biling' (in 2 texts; did you mean 'billing'?), "
        "'lamps' (in 1 text)."
    ) in capsys.readouterr().err


def test_a_loaded_model_says_why_it_has_no_language_model(model):
    clf = ULMFiTMultiLabelClassifier.load(model)
    assert not hasattr(clf, "language_model_")
    with pytest.raises(AttributeError, match="it was loaded, and the file of a classifier does not hold") as error:
        clf.language_model_.save("lm")
    assert "ULMFiTLanguageModel.load(path)" in str(error.value)
    with pytest.raises(AttributeError, match=r"This classifier has no backward_language_model_\.$"):
        _ = clf.backward_language_model_


def test_the_demo_says_after_the_first_table_that_it_may_be_stopped(monkeypatch, tmp_path, capsys):
    tiny_lm().fit(make_corpus(60)[0]).save(tmp_path / "model")
    monkeypatch.setattr(demo, "LANGUAGE_MODEL", tmp_path / "model")

    def fit_once(self, X, y):
        if self.language_model != tmp_path / "model":
            raise KeyboardInterrupt
        self.language_model_, self.thresholds_ = tiny_lm().fit(X[:20]), np.full(y.shape[1], 0.5)
        return self

    monkeypatch.setattr(ULMFiTMultiLabelClassifier, "fit", fit_once)
    for name in ("language_model_", "thresholds_"):
        monkeypatch.setattr(ULMFiTMultiLabelClassifier, name, None)
    monkeypatch.setattr(ULMFiTMultiLabelClassifier, "predict_proba", lambda self, X: np.full((len(X), 8), 0.5))
    assert run("demo") == 130
    shown = capsys.readouterr()
    assert "trains and scores three classifiers" in shown.out.splitlines()[0]
    assert "stop it with Ctrl-C" in shown.out
    assert shown.out.index("macro average") < shown.out.index("The installation works.")
    assert shown.err == "sk-ulmfit demo: interrupted; nothing was written.\n"
