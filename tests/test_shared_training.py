"""Several processes that train one model: the losses are those of a single process, whoever stops when."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import process_groups
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from test_teaching import TAUGHT, TOPICS, sentence, teach

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.cli.main import main
from sk_ulmfit.distributed import shared_training
from sk_ulmfit.models.state import load_state
from sk_ulmfit.nn.processes import ALONE, LostProcessError
from sk_ulmfit.pretraining import LOG, MODEL, pretrain
from sk_ulmfit.pretraining.trainer import Trainer

TINY = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2, "batch_size": 5, "bptt": 7, "min_frequency": 1}
CIRCLE = ["red", "orange", "yellow", "green", "blue", "violet"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rng = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("corpus") / "colours.txt"
    lines = [" ".join(rng.choice(CIRCLE, 1).tolist() + CIRCLE[: rng.integers(3, 6)] * 3) for _ in range(250)]
    file.write_text("\n\n".join(lines), encoding="utf-8")
    return file


def losses_of(processes, corpus, out, stop_after=None, **options):
    """Pre-train and return the loss of each step; press Ctrl-C in the last process after some steps."""
    losses, do_step = [], Trainer.do_step

    def noted(trainer, step):
        do_step(trainer, step)
        losses.append(trainer.losses[-1].item())
        if len(losses) == stop_after and processes.rank == processes.size - 1:
            signal.raise_signal(signal.SIGTERM)

    Trainer.do_step = noted
    try:
        pretrain(corpus, out, **{**TINY, **options})
    except KeyboardInterrupt:
        pass
    finally:
        Trainer.do_step = do_step
    return losses


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (3, {"alpha": 2.0, "beta": 1.0, "dropout_multiplier": 1.0, "sampled_words": 8}),
        (2, {"dropout_multiplier": 0.5, "precision": "bfloat16"}),
    ],
)
def test_several_processes_follow_the_losses_of_one(corpus, tmp_path, n, options):
    options = {"epochs": 0.2, **options}
    alone = losses_of(ALONE, corpus, tmp_path / "alone", **options)
    together = process_groups.call(n, losses_of, corpus, tmp_path / "together", **options)
    assert len(alone) >= 20
    assert all(losses == together[0] for losses in together)
    np.testing.assert_allclose(together[0], alone, atol=1e-4 if "precision" not in options else 2e-2)


def test_with_a_teacher_they_follow_the_losses_of_one(tmp_path):
    rng, corpus = random.Random(0), tmp_path / "topics.txt"
    corpus.write_text("\n\n".join(" ".join(sentence(rng, topic) for _ in range(8)) for topic in [*TOPICS] * 30))
    options = {**TAUGHT, "epochs": 1, "teacher": teach, "dropout_multiplier": 1.0, "sampled_words": 20}
    alone = losses_of(ALONE, corpus, tmp_path / "alone", **options)
    together = process_groups.call(2, losses_of, corpus, tmp_path / "both", **options)
    assert together[0] == together[1]
    np.testing.assert_allclose(together[0], alone, atol=1e-4)
    states = [load_state(tmp_path / name / MODEL, "language_model") for name in ("alone", "both")]
    for name, weights in states[0].weights.items():
        np.testing.assert_allclose(weights, states[1].weights[name], atol=1e-3, err_msg=name)


def test_two_then_three_then_one_process_follow_the_losses_of_one(corpus, tmp_path):
    options = {"epochs": 0.2, "dropout_multiplier": 1.0}
    alone = losses_of(ALONE, corpus, tmp_path / "alone", **options)
    parts = []
    for n in (2, 3):
        *_, part = process_groups.call(n, losses_of, corpus, tmp_path / "run", stop_after=6, **options)
        parts += part
        assert len(parts) < len(alone)
    parts += losses_of(ALONE, corpus, tmp_path / "run", **options)
    np.testing.assert_allclose(parts, alone, atol=1e-4)
    resumed = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert [line["processes"] for line in resumed if line.get("event") == "resumed"] == [3, 1]


def test_a_signal_to_one_process_stops_all_after_the_same_step(corpus, tmp_path):
    both = process_groups.call(2, losses_of, corpus, tmp_path / "run", stop_after=5, hours=1)
    assert both[0] == both[1]
    assert len(both[0]) == 5


def kill_after(processes, corpus, out, step):
    do_step = Trainer.do_step

    def killed(trainer, data):
        if processes.rank == 1 and trainer.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        do_step(trainer, data)

    Trainer.do_step = killed
    pretrain(corpus, out, **TINY, epochs=0.2, checkpoint_minutes=0)


def test_a_killed_process_ends_the_others_at_once_and_the_run_goes_on(corpus, tmp_path):
    alone = losses_of(ALONE, corpus, tmp_path / "alone", epochs=0.2)
    begin = time.monotonic()
    survivor, killed = process_groups.results(*process_groups.start(2, kill_after, corpus, tmp_path / "run", 8))
    assert time.monotonic() - begin < 30
    assert killed is None
    assert isinstance(survivor, LostProcessError)
    assert str(survivor) == "One of the 2 processes has ended or does not answer."
    rest, _ = process_groups.call(2, losses_of, corpus, tmp_path / "run", epochs=0.2)
    np.testing.assert_allclose(rest, alone[8:], atol=1e-4)


def pretrain_with(processes, corpus, out, of_each):
    pretrain(corpus, out, **{**TINY, "epochs": 0.1, **of_each[processes.rank]})


@pytest.mark.parametrize(
    ("of_each", "message"),
    [
        ([{}, {"lr": 0.5}], "Process 0 has lr=0.003 and process 1 has lr=0.5; start all processes with the same"),
        ([{"batch_size": 1}] * 2, "There are 1 streams of text in a batch for 2 processes; start at most 1"),
        ([{"lr": -1}] * 2, "lr must be"),
    ],
)
def test_what_cannot_work_is_said_in_all_processes(corpus, tmp_path, of_each, message):
    for error in process_groups.results(*process_groups.start(2, pretrain_with, corpus, tmp_path / "run", of_each)):
        assert isinstance(error, ValueError)
        assert message in str(error)


def fail_in_one(processes):
    def work():
        if processes.rank == 1:
            raise OSError("the folder is not visible here")

    processes.each(work)


def test_an_error_of_one_process_is_raised_in_all():
    for error in process_groups.results(*process_groups.start(2, fail_in_one)):
        assert isinstance(error, OSError)
        assert error.of_process == 1


def sums(processes):
    dense, sparse = (torch.nn.Parameter(torch.zeros(5, 2)) for _ in range(2))
    dense.grad = torch.full((5, 2), float(processes.rank))
    rows = torch.tensor([[0, 3]] if processes.rank else [[3, 4]])
    sparse.grad = torch.sparse_coo_tensor(rows, torch.tensor([[1.0, 1.0], [2.0, 2.0]]), (5, 2))
    (number,) = processes.add_up([dense, sparse], [torch.tensor(float(processes.rank))])
    return dense.grad, sparse.grad.coalesce().indices(), sparse.grad.to_dense(), number, processes.exchange([1.5])


def test_gradients_are_added_up_and_of_sparse_ones_the_rows_in_use():
    for dense, rows, sparse, number, numbers in process_groups.call(2, sums):
        assert dense.eq(1).all()
        assert rows.tolist() == [[0, 3, 4]]
        assert sparse[:, 0].tolist() == [1, 0, 0, 3, 2]
        assert number == 1
        assert numbers.tolist() == [[1.5], [1.5]]


def rows_of_three(processes):
    own = torch.arange(3.0)[:, None][processes.part(3).rows].requires_grad_()
    whole = processes.gather(own, 3)
    (whole[:, 0] * torch.tensor([1.0, 10.0, 100.0]) / processes.size).sum().backward()
    return whole.detach(), own.grad


def test_rows_are_gathered_in_order_also_by_a_process_without_any():
    for n in (2, 4):
        gathered = process_groups.call(n, rows_of_three)
        for rank, (whole, gradient) in enumerate(gathered):
            assert whole[:, 0].tolist() == [0, 1, 2]
            assert gradient[:, 0].tolist() == ([1, 10, 100][rank::n] or [0])


def fit(processes, make, data, **fit_params):
    model = make()
    model.fit(*data, **fit_params)
    return model, model.predict_proba(data[0]) if hasattr(model, "predict_proba") else model.predict(data[0])


def network_on_all_layers():
    return tiny_classifier(max_epochs=2, lr=0.002, unfreezing="gradual", alpha=2.0, beta=1.0, tfidf=True, max_length=12)


def network_with_weights():
    return tiny_classifier(max_epochs=1, lr=0.002, batch_size=5, early_stopping=True, validation_fraction=0.3)


def values_in_two_directions():
    return ULMFiTRegressor(
        language_model=tiny_lm(), max_epochs=1, lr=0.002, batch_size=8, bptt=10, direction="both", random_state=0
    )


@pytest.mark.parametrize("make", [network_on_all_layers, network_with_weights, values_in_two_directions])
def test_estimators_fitted_by_two_processes_are_those_of_one(make):
    texts, labels = make_corpus(43)
    y = labels if make is not values_in_two_directions else [float(len(each)) for each in labels]
    weights = np.linspace(0.5, 1.5, len(texts)) if make is network_with_weights else None
    model, alone = fit(ALONE, make, (texts, y), sample_weight=weights)
    (first, predicted), (second, again) = process_groups.call(2, fit, make, (texts, y), sample_weight=weights)
    np.testing.assert_array_equal(predicted, again)
    np.testing.assert_allclose(predicted, alone, atol=1e-3)
    for row, expected in zip(first.history_, model.history_, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-4)
    assert first.history_ == second.history_


def test_the_vectors_of_texts_are_shared_out(tmp_path):
    texts, labels = make_corpus(50)
    lm = with_vector(tiny_lm(random_state=0).fit(texts), tmp_path / "lm")

    model, alone = fit(ALONE, lambda: tiny_classifier(language_model=lm, tfidf=True), (texts, labels))
    (first, predicted), (_, again) = process_groups.call(2, fit_on_file, tmp_path / "lm", (texts, labels))
    np.testing.assert_array_equal(predicted, again)
    np.testing.assert_allclose(predicted, alone, atol=1e-4)
    np.testing.assert_allclose(first.thresholds_, model.thresholds_, atol=1e-4)


def fit_on_file(processes, path, data):
    return fit(processes, lambda: tiny_classifier(language_model=path, tfidf=True), data)


def fit_with(processes, data, of_each, folder):
    texts, labels = data
    options = dict(of_each[processes.rank])
    n = options.pop("n", len(texts))
    lm = tiny_lm(max_epochs=10**6 if options.get("batch_size") == 1 else 1)  # an error comes before any training
    return tiny_classifier(memory=folder, language_model=lm, **options).fit(texts[:n], labels[:n]).predict_proba(texts)


@pytest.mark.parametrize(
    ("of_each", "message"),
    [
        ([{}, {"lr": 0.1}], "Process 0 has lr='0.03' and process 1 has lr='0.1'"),
        ([{}, {"n": 30}], "Process 0 has number of texts=40 and process 1 has number of texts=30"),
        ([{"batch_size": 1}] * 2, "There are 1 rows in a batch (batch_size) for 2 processes"),
    ],
)
def test_processes_that_fit_different_things_say_so(of_each, message):
    for error in process_groups.results(*process_groups.start(2, fit_with, make_corpus(), of_each, None)):
        assert isinstance(error, ValueError)
        assert message in str(error)


def test_a_cached_training_is_read_by_all(tmp_path):
    first = process_groups.call(2, fit_with, make_corpus(), [{}] * 2, tmp_path)
    again = process_groups.call(2, fit_with, make_corpus(), [{"verbose": 0}] * 2, tmp_path)
    alone = fit_with(ALONE, make_corpus(), [{}], tmp_path)  # from the cache as well
    for predicted in (*first, *again):
        np.testing.assert_array_equal(predicted, alone)


def test_one_process_is_enough():
    with shared_training() as processes:
        assert (processes.rank, processes.size, processes.is_first) == (0, 1, True)
        assert processes.from_first(lambda: 3) == 3


def torchrun(*args, n=2):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, "-m", "sk_ulmfit", *map(str, args)], capture_output=True, text=True, env=environment, timeout=120
    )


def test_the_command_line_prints_once(corpus, tmp_path):
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    done = torchrun("pretrain", corpus, "--out", tmp_path / "run", "--epochs=0.2", *sizes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The language model (8/12/2, ") == 1
    assert (tmp_path / "run" / MODEL).exists()


def test_a_command_for_one_process_says_so(tmp_path, monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="2"):
        main(["info", str(tmp_path / "no.model")])
    assert capsys.readouterr().err == (
        "sk-ulmfit info: 2 processes were started, but only pretrain, train and finetune can use more than one; run it "
        "without torchrun.\n"
    )
