"""Values on a scale on the command line: train, predict, evaluate, info, and one line for what does not fit."""

import json

import numpy as np
import pytest
from conftest import make_corpus
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import load_table, write_table

SMALL = ["--emb-dim", "8", "--hidden-dim", "8", "--n-layers", "2", "--lm-epochs", "1", "--max-epochs", "2"]
TEXTS, LABELS = make_corpus(24)


def run(*args):
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mail.csv"
    rows = [
        {"body": text, "stars": len(labels), "anger": "" if i % 5 == 0 else 0.5 * ("late" in text), "note": "x"}
        for i, (text, labels) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    write_table(path, ["body", "stars", "anger", "note"], rows)
    return path


@pytest.fixture(scope="module")
def model(table):
    out = table.with_name("stars.model")
    args = ["--text", "body", "--values", "stars", "anger", "--y-range", 0, 3, "--random-state", 0]
    assert run("train", table, *args, "--out", out, *SMALL) == 0
    return out


def test_a_regressor_is_trained_and_knows_its_columns(model):
    loaded = ULMFiTRegressor.load(model)
    assert loaded.target_names_.tolist() == ["stars", "anger"]
    assert loaded.y_range == (0, 3)
    assert loaded.metadata_ == {"text": ["body"], "values": ["stars", "anger"]}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_predict_adds_a_column_for_each_target(table, model, suffix, capsys):
    out = table.with_name(f"out.{suffix}")
    assert run("predict", model, table, "--out", out) == 0
    assert f"Predicted 24 texts; written to {out}." in capsys.readouterr().out
    written = load_table(out, text="body")
    assert written.columns == ["body", "stars", "anger", "note", "predicted_stars", "predicted_anger"]
    cells = [[float(row[name]) for name in ("predicted_stars", "predicted_anger")] for row in written.rows]
    np.testing.assert_allclose(cells, ULMFiTRegressor.load(model).predict(TEXTS), rtol=1e-5)


def test_evaluate_scores_each_target_on_its_known_values(table, model, capsys):
    assert run("evaluate", model, table) == 0
    head, stars, anger, mean = capsys.readouterr().out.splitlines()
    assert head.split() == ["r2", "mean", "absolute", "error", "spearman", "pearson", "n"]
    assert (stars.split()[0], stars.split()[-1]) == ("stars", "24")
    assert (anger.split()[0], anger.split()[-1]) == ("anger", "19")
    assert mean.startswith("mean")
    assert run("evaluate", model, table, "--values", "anger", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    y = np.array([0.5 * ("late" in text) for text in TEXTS])
    known = np.arange(24) % 5 != 0
    y, predicted = y[known], ULMFiTRegressor.load(model).predict(TEXTS)[known, 1]
    expected = {
        "r2": r2_score(y, predicted),
        "mean_absolute_error": mean_absolute_error(y, predicted),
        "spearman": spearmanr(y, predicted).statistic,
        "pearson": pearsonr(y, predicted).statistic,
        "n": 19,
    }
    assert answer["targets"] == {"anger": pytest.approx(expected)}
    assert answer["n_texts"] == 24


def test_explain_shows_words_by_target(table, model, capsys):
    assert run("explain", model, table, "--limit", 2, "--labels", "stars", "--json") == 0
    first, _ = json.loads(capsys.readouterr().out)["texts"]
    assert first["targets"].keys() == {"stars"}
    assert first["targets"]["stars"].keys() == {"value", "words"}


def test_info_describes_a_regressor(model, capsys):
    assert run("info", model, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["kind"] == "regressor"
    assert answer["targets"] == ["stars", "anger"]
    assert answer["y_range"] == {"stars": [0, 3], "anger": [0, 3]}
    assert run("info", model) == 0
    assert "y range             0, 3 for all 2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--values", "note"], "column 'note' holds 'x'; expected a finite number"),
        (["--values", "price"], "has no column 'price'"),
        (["--values", "body"], "Column 'body' cannot be both a text and a value"),
        (["--values", "stars", "--labels", "anger"], "Pass labels or --values, not both."),
        (["--values", "stars", "--threshold", "0.3"], "--threshold is for labels"),
        (["--values", "stars", "--calibration", "platt"], "--calibration is for labels"),
        (["--values", "stars", "--y-range", "3", "0"], "low end of --y-range must be below its high end"),
        (["--values", "stars", "--loss", "cross_entropy"], "needs --y-range 0 1"),
        (["--labels", "stars", "--y-range", "0", "1"], "name their columns with --values"),
    ],
)
def test_what_does_not_fit_gets_one_line(table, command, message, capsys):
    assert run("train", table, "--text", "body", *command, "--out", table.with_name("no.model"), *SMALL) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len([line for line in error.splitlines() if "note:" not in line]) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "--values", "price"], "The model has no target 'price'. Its targets are 'stars', 'anger'."),
        (["evaluate", "--threshold", "0.5"], "--threshold is for labels"),
        (["explain", "--labels", "price"], "not one of this regressor's 2 targets"),
    ],
)
def test_what_a_regressor_does_not_do_gets_one_line(table, model, command, message, capsys):
    assert run(command[0], model, table, *command[1:]) == 2
    assert message in capsys.readouterr().err
