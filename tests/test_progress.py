"""What verbose=1 shows: the stages and the reasons for them, a bar for each, the time of all; nothing with verbose=0."""

import io
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from skorch.callbacks import Callback
from tqdm import tqdm

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.text import StreamedTexts, Vocabulary, tokenizer
from sk_ulmfit.text.encoding import encode_texts, tokenize_texts
from sk_ulmfit.training import linear_head, linear_training, recipe, stages, term_counts
from sk_ulmfit.training.progress import SECONDS_BETWEEN, new_bar
from sk_ulmfit.training.task import Classification

BAR = re.compile(r"^(?P<stage>[a-z ()]+): +(?P<share>\d+)%\|")
N_TEXTS = 60


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(N_TEXTS, seed=3)


@pytest.fixture(scope="module")
def start(corpus, tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1).fit(corpus[0]), path, dim=8)
    return path


@pytest.fixture(scope="module")
def lm(corpus):
    """A fitted language model without a vector."""
    return tiny_lm(random_state=0).fit(corpus[0])


def bars(shown):
    """The stages whose bars were shown, in order, with the share that each reached."""
    lines = re.split(r"[\r\n]+", shown)
    return {found["stage"]: int(found["share"]) for line in lines if (found := BAR.match(line))}


def planned(shown):
    """The stages that the first line names."""
    return shown.splitlines()[0].rstrip(".").split(" labels: ")[1].split(", ")


def shown_by(capsys, corpus, **params):
    tiny_classifier(**{"verbose": 1, "max_epochs": None, "tfidf": True, **params}).fit(*corpus)
    return capsys.readouterr().err


def test_of_few_texts_the_linear_head_alone_is_trained(start, corpus, capsys):
    shown = shown_by(capsys, corpus, language_model=start, batch_size=None)
    stages = ["counting words", "reading texts", "linear model of words", "vectors of the texts", "linear head"]
    stages += ["predictions for a sample"]
    assert bars(shown) == dict.fromkeys(stages, 100)
    assert list(bars(shown)) == planned(shown) == stages
    first, second, third, *_ = shown.splitlines()
    assert first.startswith("Fit on 60 texts with 3 labels: counting words, ")
    assert second == "  language model: not trained further, since it has a vector of a text (lm_epochs=None)"
    assert third == "  network: linear head only (fewer than 5,000 texts to learn from)"
    assert re.fullmatch(r"Fitted in \d+ s\.", shown.splitlines()[-1])


@pytest.mark.parametrize(
    ("params", "trained", "network"),
    [
        ({"unfreezing": "at_once"}, "not trained further", "linear head first, then all layers (unfreezing='at_once')"),
        ({"lm_epochs": 1}, "trained (lm_epochs=1)", "linear head only"),
        ({"lm_epochs": 0, "threshold": "tune"}, "not trained (lm_epochs=0)", "linear head only"),
    ],
)
def test_with_a_vector_the_first_line_names_the_stages_that_come(start, corpus, capsys, params, trained, network):
    shown = shown_by(capsys, corpus, language_model=start, **params)
    assert list(bars(shown)) == planned(shown)
    assert set(bars(shown).values()) == {100}
    assert f"  language model: {trained}" in shown
    assert f"  network: {network}" in shown


@pytest.mark.parametrize(
    ("params", "network"),
    [
        ({"threshold": "tune"}, "head, then one more layer in each epoch (up to 5,000 texts to learn from)"),
        ({"unfreezing": "head"}, "head only (unfreezing='head')"),
        ({"tfidf": False, "unfreezing": "at_once"}, "all layers (unfreezing='at_once')"),
    ],
)
def test_without_a_vector_the_first_line_names_the_stages_that_come(lm, corpus, capsys, params, network):
    shown = shown_by(capsys, corpus, language_model=lm, **params)
    assert list(bars(shown)) == planned(shown)
    assert set(bars(shown).values()) == {100}
    assert "  language model: not trained further, since it is fitted already" in shown
    assert f"  network: {network}" in shown
    assert "epoch=20/20" in shown


def test_of_two_directions_each_has_its_bars(corpus, capsys):
    shown = shown_by(capsys, corpus, language_model=tiny_lm(), direction="both", max_epochs=1)
    assert list(bars(shown)) == planned(shown)
    assert {"language model", "language model (backward)", "network", "network (backward)"} < bars(shown).keys()
    assert "  network (backward): all layers (nothing is pre-trained)" in shown
    assert "trained (max_epochs=1)" in shown


def test_with_many_texts_all_layers_are_trained(start, corpus, capsys, monkeypatch):
    monkeypatch.setattr(recipe, "FEWEST_TEXTS_UNFROZEN", N_TEXTS)
    monkeypatch.setattr("sk_ulmfit.training.progress.FEWEST_TEXTS_UNFROZEN", N_TEXTS)
    shown = shown_by(capsys, corpus, language_model=start)
    assert list(bars(shown)) == planned(shown)
    assert "  network: linear head first, then all layers (60 texts or more)" in shown


def test_a_teacher_has_a_bar(start, corpus, capsys):
    own = ULMFiTLanguageModel(start, max_epochs=1, teacher=lambda texts: np.ones((len(texts), 8)))
    with pytest.raises(ValueError, match="teacher needs a model"):  # this start has learned from none
        shown_by(capsys, corpus, language_model=own)
    assert "counting words, vectors of the teacher, language model, reading texts" in capsys.readouterr().err


def test_without_verbose_nothing_is_shown(start, corpus, capfd):
    tiny_classifier(language_model=start, tfidf=True, max_epochs=None).fit(*corpus)
    tiny_classifier(language_model=tiny_lm(), max_epochs=1).fit(*corpus)
    assert capfd.readouterr() == ("", "")


def test_in_a_log_a_bar_is_one_line_of_little_text(lm, corpus, capsys):
    shown = shown_by(capsys, corpus, language_model=lm)
    assert shown.count("\n") == 3 + len(bars(shown)) + 1
    assert shown.count("\r") <= 3 * len(bars(shown))


def test_on_a_terminal_a_bar_moves_all_the_time(monkeypatch):
    for is_terminal, seconds in zip((True, False), SECONDS_BETWEEN, strict=True):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        sys.stderr.isatty = lambda answer=is_terminal: answer
        with new_bar("network", 10, "tokens") as bar:
            assert bar.mininterval == seconds


def test_the_time_left_is_that_of_the_units_and_not_of_what_came_before(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sys.stderr.isatty = lambda: True
    with new_bar("linear model of words", 10, "SVMs") as bar:
        time.sleep(1.0)
        bar.update(0)
        for _ in range(2):
            time.sleep(0.15)
            bar.update()
        assert bar.format_dict["rate"] > 3


class Stop(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def test_ctrl_c_leaves_no_open_bar(lm, corpus, capsys):
    with pytest.raises(KeyboardInterrupt):
        shown_by(capsys, corpus, language_model=lm, callbacks=[Stop()])
    shown = capsys.readouterr().err
    assert 0 < bars(shown)["network"] < 100
    assert shown.endswith("\n")
    assert "Fitted" not in shown
    assert not tqdm._instances


def test_an_error_leaves_no_open_bar(start, corpus, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("no head")

    monkeypatch.setattr(stages, "fit_linear_head", fail)
    with pytest.raises(ValueError, match="no head"):
        shown_by(capsys, corpus, language_model=start)
    shown = capsys.readouterr().err
    assert list(bars(shown))[-1] == "linear head"
    assert bars(shown)["linear head"] == 0
    assert shown.endswith("\n")
    assert not tqdm._instances


def test_no_bar_is_open_when_a_warning_is_printed(start, corpus, capsys, monkeypatch):
    n_open = []
    monkeypatch.setattr(stages, "warn_of_training_texts", lambda *args: n_open.append(len(tqdm._instances)))
    shown_by(capsys, corpus, language_model=start)
    assert n_open == [0, 0]


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("is_streamed", [False, True])
def test_all_texts_are_counted(monkeypatch, is_streamed, n_jobs):
    monkeypatch.setattr(tokenizer, "_PARALLEL_FROM", 0)
    texts = make_corpus(7)[0]
    texts = StreamedTexts(lambda: iter(make_corpus(7)[0]), 7) if is_streamed else texts
    done = []
    encode_texts(texts, Vocabulary(["lamp"]), "en", n_jobs, advance=done.append)
    assert sum(done) == 7
    tokenize_texts(texts, "en", n_jobs, lambda words, counts: Vocabulary(words), advance=done.append)
    assert sum(done) == 14


@pytest.mark.parametrize("most_folded", [10, 10_000])
def test_every_svm_is_counted(monkeypatch, most_folded):
    monkeypatch.setattr(term_counts, "MAX_FOLDED", most_folded)
    texts, labels = make_corpus(N_TEXTS)
    vocabulary = Vocabulary(tokenizer.tokenize_corpus(texts)[1])
    y = np.array([[name in row for name in ("billing", "delivery")] for row in labels], np.float32)
    done = []
    corpus = encode_texts(texts, vocabulary, "en")
    linear_training.fit_linear_model(corpus, vocabulary, y, advance=done.append)
    assert sum(done) == linear_training.count_svms(*y.shape)


@pytest.mark.parametrize("most_folded", [10, 10_000])
def test_every_training_of_the_head_but_the_last_is_counted(monkeypatch, most_folded):
    monkeypatch.setattr(linear_head, "MAX_FOLDED", most_folded)
    monkeypatch.setattr(linear_head, "PATIENCE", 99)
    rng = np.random.default_rng(0)
    done = []
    linear_head.fit_linear_head(
        rng.normal(size=(40, 3)).astype(np.float32), np.eye(2)[[0, 1] * 20], Classification(), advance=done.append
    )
    assert sum(done) == linear_head.most_trainings(40) - 1


def test_the_demo_prints_its_first_line_before_torch_is_imported():
    code = "import sys; sys.modules |= dict.fromkeys(['torch', 'sklearn', 'numpy']); from sk_ulmfit.cli import main; "
    run = subprocess.run(
        [sys.executable, "-c", code + "main.main(['demo'])"],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert run.stdout.startswith("Comparing ULMFiT with and without pre-training")
    assert "import of" in run.stderr
