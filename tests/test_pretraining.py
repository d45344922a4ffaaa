import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import tiny_lm
from fuzz import checkpoints
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.state import load_state
from sk_ulmfit.pretraining import CHECKPOINTS, LOG, MODEL, PretrainingError, checkpoint, has_checkpoint, pretrain
from sk_ulmfit.pretraining.checkpoint import last_checkpoint, read_checkpoint, write_checkpoint
from sk_ulmfit.pretraining.holdout import hold_out
from sk_ulmfit.text import packing
from sk_ulmfit.text.corpora import Corpora, CorpusPart
from sk_ulmfit.text.documents import CorpusError
from sk_ulmfit.text.packing import PackedCorpus
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.batching import StreamBatches
from sk_ulmfit.training.weighted_stream import WeightedStreamDataset

TINY = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2, "batch_size": 4, "bptt": 10, "min_frequency": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sentences that a model can learn to predict: colours go round in a circle."""
    rng = np.random.default_rng(0)
    circle = ["red", "orange", "yellow", "green", "blue", "violet"]
    file = tmp_path_factory.mktemp("corpus") / "colours.txt"
    starts = rng.integers(6, size=300)
    file.write_text("\n\n".join(" ".join(circle[(s + i) % 6] for i in range(20)) for s in starts), encoding="utf-8")
    return file


def weights_of(folder):
    return load_state(folder / MODEL, "language_model").weights


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert np.array_equal(first[name], second[name]), name


@pytest.fixture(scope="module")
def run_in_a_process():
    """A function that starts a pre-training in a process of its own, and gives the process.

    Processes are forked from one that has imported what they need, so that they begin at once.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["sk_ulmfit.pretraining", "sk_ulmfit.text.tokenizer"])

    def run(corpus, out, **options):
        process = processes.Process(target=pretrain, args=(corpus, out), kwargs={**TINY, **options}, daemon=True)
        process.start()
        return process

    return run


def wait_for_steps(out, process, n):
    """Wait until at least `n` steps of the run are on disk."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.is_alive():
        logged = (out / LOG).read_text() if (out / LOG).exists() else ""
        lines = logged[: logged.rfind("\n") + 1].splitlines()  # without a line that is being written
        if lines and json.loads(lines[-1]).get("step", 0) >= n:
            return
        time.sleep(0.01)
    assert process.is_alive(), "the run ended before it could be killed"


@pytest.mark.parametrize("checkpoint_minutes", [0, 0.004])
def test_killed_three_times_it_ends_like_an_unbroken_run(run_in_a_process, corpus, tmp_path, checkpoint_minutes):
    options = {"epochs": 2, "checkpoint_minutes": checkpoint_minutes, "alpha": 2.0, "beta": 1.0}
    torch.set_num_threads(1)
    whole = pretrain(corpus, tmp_path / "whole", **TINY, **options)
    last = [json.loads(line) for line in (tmp_path / "whole" / LOG).read_text().splitlines()][-2]["step"]
    moments = sorted(random.Random(time.time()).sample(range(2, 3 * last // 4), 3))
    for moment in moments:
        process = run_in_a_process(corpus, tmp_path / "killed", **options)
        wait_for_steps(tmp_path / "killed", process, moment)
        process.kill()
        process.join()
        assert not (tmp_path / "killed" / MODEL).exists(), moments
    again = pretrain(corpus, tmp_path / "killed", **TINY, **options)
    assert "resumed" in (tmp_path / "killed" / LOG).read_text(), moments
    assert_equal(whole.weights, again.weights)
    assert whole.history == again.history


def test_killed_before_the_model_is_written_it_ends_alike(corpus, tmp_path, monkeypatch):
    whole = pretrain(corpus, tmp_path / "whole", **TINY, epochs=0.5)

    def killed(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("sk_ulmfit.pretraining.holdout.negative_log_likelihood", killed)
        with pytest.raises(SystemExit):
            pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5)
    again = pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5)
    assert_equal(whole.weights, again.weights)
    assert whole.history == again.history


def test_a_run_by_the_clock_goes_on_where_it_was(run_in_a_process, corpus, tmp_path):
    process = run_in_a_process(corpus, tmp_path / "run", hours=1, checkpoint_minutes=0)
    wait_for_steps(tmp_path / "run", process, 5)
    process.kill()
    process.join()
    kept = read_checkpoint(last_checkpoint(tmp_path / "run"))

    def stop(line):
        if "loss" in line:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path / "run", **TINY, hours=1, checkpoint_minutes=0, say=stop)
    later = read_checkpoint(last_checkpoint(tmp_path / "run"))
    assert later["step"] > kept["step"] >= 4  # a step is logged before it is kept
    assert kept["elapsed"] < later["elapsed"] < kept["elapsed"] + 60


def test_killed_while_it_joins_shards_it_ends_alike(corpus, tmp_path):
    pretrain(corpus, tmp_path / "whole", **TINY, epochs=0.5)
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".tokens.part").mkdir()
    (tmp_path / "killed" / ".tokens.part" / "numbered.bin").write_bytes(b"left behind")
    pretrain(corpus, tmp_path / "killed", **TINY, epochs=0.5)
    assert_equal(weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed"))


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_a_polite_stop_ends_the_step_and_keeps_it(run_in_a_process, corpus, tmp_path):
    process = run_in_a_process(corpus, tmp_path / "run", epochs=1000, checkpoint_minutes=0.001)
    wait_for_steps(tmp_path / "run", process, 5)
    process.terminate()  # SIGTERM
    process.join(60)
    assert process.exitcode not in (None, 0)
    logged = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])["step"]
    kept = read_checkpoint(last_checkpoint(tmp_path / "run"))
    assert kept["step"] == logged > 5


def test_an_interrupt_in_python_reaches_the_caller_and_leaves_a_checkpoint(corpus, tmp_path):
    def say(line):
        if "loss" in line:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=1000, checkpoint_minutes=0, say=say)
    assert has_checkpoint(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_works_outside_the_main_thread(corpus, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2)))
    thread.start()
    thread.join()
    assert found[0].kind == "language_model"


def test_it_learns_and_says_how_well_on_held_out_documents(corpus, tmp_path):
    lines = []
    options = {**TINY, "emb_dim": 16, "hidden_dim": 32, "epochs": 5, "lr": 0.04, "validation_fraction": 0.05}
    state = pretrain(corpus, tmp_path / "run", **options, say=lines.append)
    log = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert 1 < log[-1]["held_out_perplexity"] < 2.0  # chance: 6
    assert log[-1]["held_out_perplexity"] == pytest.approx(np.exp(state.history[-1]["valid_loss"]))
    assert {"step", "tokens", "loss", "perplexity", "lr", "tokens_per_second", "elapsed"} <= log[1].keys()
    assert any("tokens/s" in line and "perplexity" in line and "left" in line for line in lines)
    lm = ULMFiTLanguageModel.load(tmp_path / "run" / MODEL)
    assert lm.perplexity(["red orange yellow green blue violet red orange"]) < 4


def test_the_backward_model_reads_from_the_end(corpus, tmp_path):
    options = {**TINY, "epochs": 5, "lr": 0.04}
    pretrain(corpus, tmp_path / "run", **options, backward=True)
    lm = ULMFiTLanguageModel.load(tmp_path / "run" / MODEL)
    text = "blue violet red orange yellow green blue violet"
    turned = " ".join(reversed(text.split()))
    assert lm.perplexity([text]) < 4
    assert lm.perplexity([turned]) > 2 * lm.perplexity([text])
    more = ULMFiTLanguageModel(tmp_path / "run" / MODEL, max_epochs=1, lr=1e-5, random_state=0).fit([text] * 10)
    assert more.perplexity([text]) < 4  # fine-tuned and still reading backwards


def test_token_ids_serve_another_run(corpus, tmp_path):
    pretrain(corpus, tmp_path / "first", **TINY, epochs=0.2)
    pretrain(tmp_path / "first" / "tokens", tmp_path / "second", **TINY, epochs=0.2)
    assert not (tmp_path / "second" / "tokens").exists()
    assert_equal(weights_of(tmp_path / "first"), weights_of(tmp_path / "second"))


def test_a_finished_run_is_not_begun_again(corpus, tmp_path):
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2)
    before = (tmp_path / "run" / MODEL).stat().st_mtime_ns
    lines = []
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2, say=lines.append)
    assert (tmp_path / "run" / MODEL).stat().st_mtime_ns == before
    assert "done" in lines[-1]


def test_a_folder_of_another_run_is_left_alone(corpus, tmp_path):
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2)
    with pytest.raises(PretrainingError, match=r"epochs=0\.2, not 0\.5"):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5)
    with pytest.raises(PretrainingError, match="vocab_size=30000, not 16"):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2, vocab_size=16)
    with pytest.raises(PretrainingError, match="field='text', not 'title'"):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2, field="title")
    with pytest.raises(PretrainingError, match="language='en', not 'de'"):
        pretrain(tmp_path / "run" / "tokens", tmp_path / "more", **TINY, language="de")
    info = tmp_path / "run" / "tokens" / "corpus.json"
    made = json.loads(info.read_text())
    for old in ({**made, "tokenizer": 1}, {name: value for name, value in made.items() if name != "tokenizer"}):
        old["checksum"] = packing._checksum([packing._canonical(old)])
        info.write_text(json.dumps(old))
        for source in (corpus, info.parent):
            with pytest.raises(PretrainingError, match="were made by version 1 of the tokenizer"):
                pretrain(source, tmp_path / "run", **TINY, epochs=0.2)
    info.write_text(json.dumps(made))
    (tmp_path / "other").mkdir()
    tiny_lm(pretrained=None).fit(["a lamp and a hub"]).save(tmp_path / "other" / MODEL)
    with pytest.raises(PretrainingError, match="was not made by pretrain"):
        pretrain(corpus, tmp_path / "other", **TINY)


def test_the_out_folder_may_lie_in_the_corpus_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the lamp is on\n\nthe hub is off\n\n" * 50)
    pretrain(".", "run", **TINY, epochs=0.5)
    pretrain(tmp_path, "run2", **TINY, epochs=0.5)
    lines = []
    pretrain(tmp_path, tmp_path / "run", **TINY, epochs=0.5, say=lines.append)
    assert "done" in lines[-1]
    assert_equal(weights_of(tmp_path / "run"), weights_of(tmp_path / "run2"))
    with pytest.raises(PretrainingError, match="the corpus itself"):
        pretrain(".", tmp_path, **TINY)


def test_an_earlier_run_serves_as_corpus(corpus, tmp_path):
    pretrain(corpus, tmp_path / "first", **TINY, epochs=0.2)
    pretrain(tmp_path / "first", tmp_path / "second", **TINY, epochs=0.2)
    assert_equal(weights_of(tmp_path / "first"), weights_of(tmp_path / "second"))


def test_numbers_of_numpy_are_numbers(corpus, tmp_path):
    state = pretrain(corpus, tmp_path / "run", **TINY, epochs=np.float32(0.5), lr=np.float64(3e-3), seed=np.int64(0))
    plain = pretrain(corpus, tmp_path / "plain", **TINY, epochs=0.5)
    assert_equal(state.weights, plain.weights)


def test_handlers_of_others_are_left_alone(corpus, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        calls = []
        pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2, say=lambda line: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.signal(signal.SIGINT, lambda *args: calls.append(args))
        pretrain(corpus, tmp_path / "more", **TINY, epochs=0.2, say=lambda line: signal.raise_signal(signal.SIGINT))
        assert calls
    finally:
        signal.signal(signal.SIGINT, before)


def test_words_of_the_pretraining_are_remembered_by_what_is_made_from_it(corpus, tmp_path):
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2)
    more = ULMFiTLanguageModel(tmp_path / "run" / MODEL, max_epochs=0).fit(["red and blue"])
    assert more.state_.config["pretraining"]["source"].startswith("colours.txt")


def test_two_processes_cannot_share_a_folder(run_in_a_process, corpus, tmp_path):
    process = run_in_a_process(corpus, tmp_path / "run", epochs=1000, checkpoint_minutes=0.001)
    try:
        wait_for_steps(tmp_path / "run", process, 1)
        with pytest.raises(PretrainingError, match="Another process"):
            pretrain(corpus, tmp_path / "run", **TINY, epochs=1000, checkpoint_minutes=0.001)
    finally:
        process.kill()
        process.join()


def test_the_clock_ends_a_run_of_hours(corpus, tmp_path):
    begin = time.monotonic()
    pretrain(corpus, tmp_path / "run", **TINY, hours=2 / 3600)
    assert 1.5 < time.monotonic() - begin < 20
    log = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert log[1]["lr"] < 1e-4  # the schedule has run down


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1, "hours": 1}, "epochs or hours, not both"),
        ({"epochs": 0}, "epochs must be a number above 0"),
        ({"lr": -1}, "lr must be a number above 0"),
        ({"hidden_dim": 1.5}, "hidden_dim must be an integer"),
        ({"precision": "int8"}, "precision must be one of"),
        ({"device": "abacus"}, "device must be"),
    ],
)
def test_wrong_parameters_are_named_before_anything_is_done(corpus, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        pretrain(corpus, tmp_path / "run", **{**TINY, **options})
    assert not (tmp_path / "run").exists()


def test_diverging_stops_with_a_hint(corpus, tmp_path):
    with pytest.raises(PretrainingError, match=r"diverged.*Pass a learning rate below lr=1e"):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=3, lr=1e38, gradient_clip=None)


def test_a_corpus_of_one_document_needs_no_held_out_part(tmp_path):
    (tmp_path / "one.txt").write_text("the lamp is on and the hub is off " * 50)
    with pytest.raises(PretrainingError, match="validation_fraction=0"):
        pretrain(tmp_path / "one.txt", tmp_path / "run", **TINY)
    state = pretrain(tmp_path / "one.txt", tmp_path / "run", **TINY, validation_fraction=0)
    assert "valid_loss" not in state.history[-1]


class Killed(BaseException):
    """The run ends at once."""


def killed_after(corpus, out, n_steps, **options):
    """Train with a checkpoint after every step, and end before the one of step `n_steps` + 1."""
    steps = []

    def say(line):
        steps.append("loss" in line)
        if sum(steps) > n_steps:
            raise Killed

    with pytest.raises(Killed):
        pretrain(corpus, out, **TINY, checkpoint_minutes=0, say=say, **options)


def damage(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_two_checkpoints_are_kept_and_removed_at_the_end(corpus, tmp_path):
    killed_after(corpus, tmp_path / "run", 5, epochs=0.5)
    steps = [read_checkpoint(tmp_path / "run" / name)["step"] for name in CHECKPOINTS]
    assert sorted(steps) == [4, 5]
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5)
    assert not has_checkpoint(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").glob("*.*")) == [".sk_ulmfit-run", LOG, MODEL]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_damaged_checkpoint_is_named_and_the_other_is_taken(corpus, tmp_path, name):
    whole = pretrain(corpus, tmp_path / "whole", **TINY, epochs=0.5)
    killed_after(corpus, tmp_path / "run", 5, epochs=0.5)
    other = next(path for path in CHECKPOINTS if path != name)
    step = read_checkpoint(tmp_path / "run" / other)["step"]
    damage(tmp_path / "run" / name)
    lines = []
    again = pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5, say=lines.append)
    assert f"{name} is damaged (its contents do not match its checksum). The run resumes from {other}" in lines[0]
    assert lines[1] == f"resuming from step {step}"
    logged = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert name in next(line for line in logged if line.get("event") == "damaged checkpoint")["message"]
    assert_equal(whole.weights, again.weights)


def test_the_checkpoint_that_was_taken_is_the_last_to_be_replaced(corpus, tmp_path):
    killed_after(corpus, tmp_path / "run", 6, epochs=0.5)
    steps = {name: read_checkpoint(tmp_path / "run" / name)["step"] for name in CHECKPOINTS}
    latest, before = sorted(steps, key=steps.get, reverse=True)
    damage(tmp_path / "run" / latest)
    killed_after(corpus, tmp_path / "run", 1, epochs=0.5)
    assert {name: read_checkpoint(tmp_path / "run" / name)["step"] for name in (latest, before)} == {
        latest: 6,
        before: 5,
    }


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\xff" * 1000])
def test_without_another_checkpoint_a_damaged_one_is_an_error(corpus, tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINTS[1]).write_bytes(content)
    with pytest.raises(
        PretrainingError, match=r"checkpoint-1\.safetensors is damaged .* no other checkpoint; delete it"
    ):
        pretrain(corpus, tmp_path / "run", **TINY)


def test_a_checkpoint_of_an_earlier_version_is_called_so(corpus, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save({"step": 5}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(PretrainingError, match=r"checkpoint\.pt was written by an earlier version"):
        pretrain(corpus, tmp_path / "run", **TINY)


def test_a_state_comes_back_from_its_checkpoint_bit_for_bit(tmp_path):
    tensors = [torch.randn(3, 4).t(), torch.randn(5).bfloat16(), torch.tensor(2.0), torch.arange(10)[::3]]
    state = {
        "a": {0: tensors[0], 7: {"b": tensors[1]}},
        "c": [(tensors[2], tensors[3])],
        "d": None,
        "step": 5,
        "e": [0.1, "x", True],
    }
    write_checkpoint(tmp_path / "c", state)
    again = read_checkpoint(tmp_path / "c")
    assert torch.equal(again["a"][0], tensors[0])
    assert torch.equal(again["a"][7]["b"], tensors[1])
    assert all(torch.equal(*pair) for pair in zip(again["c"][0], tensors[2:], strict=True))
    assert (again["d"], again["e"]) == (None, [0.1, "x", True])


def test_a_disk_that_is_full_is_named_and_the_checkpoints_stay(corpus, tmp_path, monkeypatch):
    killed_after(corpus, tmp_path / "run", 5, epochs=0.5)
    monkeypatch.setattr(checkpoint, "atomic_write", full_disk)
    with pytest.raises(PretrainingError, match=r"could not be written to .*run .*No space left"):
        pretrain(corpus, tmp_path / "run", **TINY, epochs=0.5, checkpoint_minutes=0)
    monkeypatch.undo()
    assert sorted(read_checkpoint(tmp_path / "run" / name)["step"] for name in CHECKPOINTS) == [4, 5]


def full_disk(path):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["ids.npy", "offsets.npy", "vocabulary.json", "corpus.json", "ids-backward.npy"])
def test_damaged_token_ids_are_named_before_anything_is_trained(corpus, tmp_path, name):
    killed_after(corpus, tmp_path / "run", 2, epochs=0.5, backward=True)
    damage(tmp_path / "run" / "tokens" / name)
    for source in (corpus, tmp_path / "run" / "tokens"):
        lines = []
        with pytest.raises(CorpusError, match=f"token ids are damaged: .*{name}"):
            pretrain(source, tmp_path / "run", **TINY, epochs=0.5, backward=True, say=lines.append)
        assert lines == []


def test_flipped_bits_are_named_or_change_nothing():
    assert checkpoints.run(9, seed=1, n_others=5).keys() <= checkpoints.EXPECTED


def test_global_generators_are_left_as_they_were(corpus, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pretrain(corpus, tmp_path / "run", **TINY, epochs=0.2)
    assert torch.equal(torch.rand(3), expected)


def test_training_on_token_ids_imports_nothing_but_torch_and_numpy(corpus, tmp_path):
    pretrain(corpus, tmp_path / "first", **TINY, epochs=0.1)
    code = (
        "import sys; from sk_ulmfit.pretraining import pretrain;"
        f"pretrain({str(tmp_path / 'first' / 'tokens')!r}, {str(tmp_path / 'run')!r}, epochs=0.1, emb_dim=8,"
        "hidden_dim=12, n_layers=2); print(sorted({'spacy', 'sklearn', 'skorch', 'scipy'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def corpora(corpus):
    """Two corpora of other words, the second a tenth of the first."""
    file = corpus.parent / "digits.txt"
    file.write_text("\n\n".join(["one two three four five six seven eight"] * 80), encoding="utf-8")
    return [corpus, file]


def test_one_corpus_in_a_list_and_with_a_weight_is_one_corpus(corpus, tmp_path):
    plain = pretrain(corpus, tmp_path / "a", **TINY, epochs=0.2)
    listed = pretrain([corpus], tmp_path / "b", **TINY, epochs=0.2, weights=[3])
    pretrain([corpus], tmp_path / "a", **TINY, epochs=0.2, weights=[5])  # is done
    assert plain.config == listed.config
    assert_equal(plain.weights, listed.weights)
    for name in ("tokens/corpus.json", "tokens/offsets.npy", "tokens/ids.npy", "tokens/vocabulary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("weights", [None, [1, 2]])
def test_killed_on_two_corpora_it_ends_like_an_unbroken_run(corpora, tmp_path, weights):
    options = {"epochs": 1.5, "weights": weights, "validation_fraction": 0.02}
    whole = pretrain(corpora, tmp_path / "whole", **TINY, **options)
    for n in (5, 23):
        killed_after(corpora, tmp_path / "run", n, **options)
    again = pretrain(corpora, tmp_path / "run", **TINY, **options)
    assert (tmp_path / "run" / LOG).read_text().count('"resumed"') == 2
    assert_equal(whole.weights, again.weights)
    assert whole.history == again.history


def test_the_share_of_a_corpus_is_what_is_learned(corpora, tmp_path):
    options = {**TINY, "emb_dim": 16, "hidden_dim": 32, "epochs": 1, "lr": 0.02}
    losses = {}
    for weights in ([20, 1], [1, 20]):
        pretrain(corpora, tmp_path / f"{weights[0]}", **options, weights=np.array(weights, np.float32))
        lm = ULMFiTLanguageModel.load(tmp_path / f"{weights[0]}" / MODEL)
        losses[weights[0]] = lm.perplexity(["red orange yellow green blue"]), lm.perplexity(["one two three four five"])
    assert losses[20][0] < losses[1][0]
    assert losses[20][1] > losses[1][1]


def test_the_log_begins_with_the_corpora_and_their_shares(corpora, tmp_path):
    lines = []
    pretrain(corpora, tmp_path / "run", **TINY, epochs=0.2, weights=[1, 3], vocab_size=16, say=lines.append)
    start = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[0])
    first, second = start["corpora"]
    assert (first["share"], second["share"]) == (0.25, 0.75)
    assert (first["source"].split()[0], second["source"].split()[0]) == ("colours.txt", "digits.txt")
    assert (first["n_documents"], second["n_documents"]) == (300, 80)
    assert (first["n_tokens"], second["n_tokens"]) == (300 * 21, 80 * 9)
    assert (first["unknown_share"], second["unknown_share"]) == (pytest.approx(20 / 21), 0)  # 8 places for 14 words
    assert start["unknown_share"] == pytest.approx(0.25 * 20 / 21)
    said = next(line for line in lines if "unknown" in line)
    assert "colours.txt" in said
    assert "25.0 %" in said
    assert "95.2 % unknown; digits.txt" in said


def test_token_ids_of_several_corpora_serve_another_run_with_their_shares(corpora, tmp_path):
    pretrain(corpora, tmp_path / "first", **TINY, epochs=0.5, weights=[1, 2])
    state = pretrain(tmp_path / "first", tmp_path / "second", **TINY, epochs=0.5)
    assert state.config["pretraining"]["weights"] == "1.0 2.0"
    assert_equal(weights_of(tmp_path / "first"), weights_of(tmp_path / "second"))
    pretrain(tmp_path / "first" / "tokens", tmp_path / "second", **TINY, epochs=0.5, weights=(1, 2))
    backward = pretrain(tmp_path / "first" / "tokens", tmp_path / "third", **TINY, epochs=0.5, backward=True)
    assert backward.config["pretraining"]["weights"] == "1.0 2.0"
    for weights in ([2, 1], [1, 2, 3]):
        with pytest.raises(PretrainingError, match=r"made with weights=\[1\.0, 2\.0\], not \[\d"):
            pretrain(tmp_path / "first" / "tokens", tmp_path / "other", **TINY, weights=weights)


def test_a_run_is_not_resumed_with_other_corpora_or_weights(corpora, tmp_path):
    out, (first, second) = tmp_path / "run", corpora
    other = tmp_path / "other.txt"
    other.write_text("the lamp is on\n\nthe hub is off")
    pretrain(corpora, out, **TINY, epochs=0.2, weights=[1, 2])
    for changed, weights, message in (
        ([second, first], [1, 2], r"corpus 1='colours\.txt .*', not 'digits\.txt .*'"),
        ([first, other], [1, 2], r"corpus 2='digits\.txt .*', not 'other\.txt .*'"),
        ([first], None, r"with 2 corpora, not 1"),
        ([first, second, other], [1, 2, 3], r"with 2 corpora, not 3"),
        (corpora, [2, 1], r"weights=\[1\.0, 2\.0\], not \[2\.0, 1\.0\]"),
        (corpora, None, r"weights=\[1\.0, 2\.0\], not None"),
    ):
        with pytest.raises(PretrainingError, match=message) as caught:
            pretrain(changed, out, **TINY, epochs=0.2, weights=weights)
        assert "\n" not in str(caught.value)
    lines = []
    pretrain([first, tmp_path / "moved.txt"], out, **TINY, epochs=0.2, weights=[1, 2], say=lines.append)
    assert "moved.txt does not exist; using the token ids" in lines[0]
    pretrain(corpora, tmp_path / "unweighted", **TINY, epochs=0.2)
    with pytest.raises(PretrainingError, match=r"weights=None, not '1\.0 2\.0'"):
        pretrain(out / "tokens", tmp_path / "unweighted", **TINY, epochs=0.2)
    with pytest.raises(PretrainingError, match=r"weights='1\.0 2\.0', not None"):
        pretrain(tmp_path / "unweighted" / "tokens", out, **TINY, epochs=0.2)


@pytest.mark.parametrize(
    ("given", "weights", "message"),
    [
        ("[]", None, r"corpus must be a path or a list of at least one path, got \[\]"),
        ("5", None, "corpus must be a path or a list of at least one path, got 5"),
        ("[first, 5]", None, "corpus must be a path or a list"),
        ("[first, second, first]", None, "is given twice"),
        ("[first, first.parent / '.' / first.name]", [1, 2], "is given twice"),
        ("[first, second]", "12", "weights must be a list of numbers, one for each corpus; got '12'"),
        ("[first, second]", 2.0, "weights must be a list of numbers"),
        ("[first, second]", [1], r"one number for each corpus \(2\), got 1"),
        ("[first, second]", [1, 2, 3], r"one number for each corpus \(2\), got 3"),
        ("first", [1, 2], r"one number for each corpus \(1\), got 2"),
        ("[first, second]", [], r"one number for each corpus \(2\), got 0"),
        ("[first, second]", [1, 0], r"weights\[1\] must be a number above 0, got 0"),
        ("[first, second]", [-1, 1], r"weights\[0\] must be a number above 0"),
        ("[first, second]", [1, float("nan")], r"weights\[1\] must be a number above 0, got nan"),
        ("[first, second]", [float("inf"), 1], r"weights\[0\] must be a number above 0, got inf"),
        ("[first, second]", ["1", "2"], r"weights\[0\] must be a number above 0, got '1'"),
    ],
)
def test_wrong_corpora_and_weights_are_named_before_anything_is_done(corpora, tmp_path, given, weights, message):
    first, second = corpora
    corpus = eval(given, {"first": first, "second": second})
    with pytest.raises(ValueError, match=message) as caught:
        pretrain(corpus, tmp_path / "run", **TINY, weights=weights)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_corpora_that_cannot_be_read_together_are_named(corpora, tmp_path):
    first, second = corpora
    pretrain(second, tmp_path / "earlier", **TINY, epochs=0.2)
    for packed in (tmp_path / "earlier", tmp_path / "earlier" / "tokens"):
        with pytest.raises(PretrainingError, match="token ids of an earlier run, which cannot be joined"):
            pretrain([first, packed], tmp_path / "run", **TINY)
    with pytest.raises(CorpusError, match=r"no file or folder .*nowhere\.txt"):
        pretrain([first, tmp_path / "nowhere.txt"], tmp_path / "run", **TINY, weights=[1, 1])
    with pytest.raises(PretrainingError, match="the corpus itself"):
        pretrain([first, tmp_path / "run"], tmp_path / "run", **TINY)
    (tmp_path / "blank.txt").write_text("\n\n")
    with pytest.raises(CorpusError, match=r"The corpus blank\.txt \(2 bytes\) holds no text"):
        pretrain([first, tmp_path / "blank.txt"], tmp_path / "run", **TINY)
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(PretrainingError, match=r"The corpus one\.txt .* is too small to hold out a part"):
        pretrain([first, tmp_path / "one.txt"], tmp_path / "run2", **TINY)
    pretrain([first, tmp_path / "one.txt"], tmp_path / "run3", **TINY, validation_fraction=0, weights=[3, 1])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(20, 60), min_size=1, max_size=3),
    weights=st.none() | st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    fraction=st.floats(0.001, 0.3),
    seed=st.integers(0, 5),
)
def test_held_out_documents_have_the_shares_of_the_corpora_and_are_never_read(sizes, weights, fraction, seed):
    lengths = np.concatenate([np.full(n, 5 + i) for i, n in enumerate(sizes)])
    tokens = TokenIds(np.arange(lengths.sum(), dtype=np.int32), np.cumsum([0, *lengths]))
    parts = tuple(CorpusPart(f"{i}", n, n * (5 + i), 0) for i, n in enumerate(sizes))
    corpora = Corpora(parts, None if weights is None else tuple(weights[: len(sizes)]))
    info = {"source": "0", "n_documents": len(tokens), "n_tokens": len(tokens.ids), "n_unknown": 0}
    packed = PackedCorpus(tokens, Vocabulary([]), {**info, **corpora.to_info()})
    documents, held_out = hold_out(packed, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([documents, held_out])), np.arange(len(tokens)))
    n_held_out = [int(tokens.lengths_of(part).sum()) for part in packed.corpora.split(held_out)]
    total = sum(n_held_out)
    shares = packed.corpora.shares()
    longest = lengths.max()
    for n, share, part in zip(n_held_out, shares, parts, strict=True):
        assert abs(n - share * total) <= len(sizes) * longest
        assert n <= max(fraction, 0.1) * part.n_tokens + longest
    assert total <= fraction * len(tokens.ids) + len(sizes) * longest
    if weights is None:
        assert total >= fraction * len(tokens.ids) * (1 - 1e-9)
    if len(sizes) > 1 and weights is not None:
        dataset = WeightedStreamDataset(tokens, packed.corpora.split(documents), corpora.weights)
        read = np.concatenate([x["ids"].ravel() for x, _ in StreamBatches(dataset, 1, 50, 0, seed).windows(1)])
        assert not set(read.tolist()) & set(tokens.take(held_out).ids.tolist())
