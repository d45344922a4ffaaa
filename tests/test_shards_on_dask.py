"""Corpora and a teacher's vectors prepared by the workers of a Dask scheduler."""

import os
import signal

import pytest
from test_shards import bytes_of, small_parts, write_corpus  # noqa: F401 (a fixture)

import sk_ulmfit.pretraining.scheduler
from sk_ulmfit.cli.main import main
from sk_ulmfit.pretraining import PretrainingError, tokenize_files
from sk_ulmfit.text.documents import CorpusError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def test_workers_write_the_same_bytes_also_if_one_is_killed(tmp_path, small_parts, cluster):  # noqa: F811
    folder = write_corpus(tmp_path / "corpus")
    tokenize_files(folder, tmp_path / "here", min_frequency=1)
    killed = []

    def kill_one(line):
        if not killed:
            with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
                killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    tokenize_files(folder, tmp_path / "there", min_frequency=1, scheduler=cluster.scheduler_address, say=kill_one)
    assert killed
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")


def test_an_error_of_a_worker_comes_back_as_it_is(tmp_path, cluster):
    (tmp_path / "c.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    with pytest.raises(CorpusError, match=r"c\.jsonl, line 2: field 'text' holds no text"):
        tokenize_files(tmp_path / "c.jsonl", tmp_path / "tokens", scheduler=cluster.scheduler_address)


def test_workers_that_cannot_do_it_are_named_at_once(tmp_path, cluster, monkeypatch, capsys):
    (tmp_path / "c.txt").write_text("The lamp is on.")
    scheduler = cluster.scheduler_address

    def refused(message):
        command = ["tokenize", str(tmp_path / "c.txt"), "--out", str(tmp_path / "tokens"), "--scheduler", scheduler]
        assert main(command) == 2
        answer = capsys.readouterr().err
        assert message in answer
        assert answer.count("\n") == 1

    with monkeypatch.context() as patch:
        patch.setattr(sk_ulmfit.pretraining.scheduler, "__version__", "0.0.1")
        refused("of sk_ulmfit, and here is 0.0.1; install the same")
    with monkeypatch.context() as patch:
        patch.setattr(sk_ulmfit.pretraining.scheduler, "_VERSION", "no_such_package:__version__")
        refused("does not have sk_ulmfit")
    with monkeypatch.context() as patch:
        patch.setattr(sk_ulmfit.pretraining.scheduler.os.path, "abspath", lambda path: f"{path}-only-here")
        refused("does not see")


def test_an_address_without_a_scheduler_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sk_ulmfit.pretraining.scheduler, "_SECONDS_TO_CONNECT", 1)
    (tmp_path / "c.txt").write_text("The lamp is on.")
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(PretrainingError, match="There is no scheduler at") as caught:
            tokenize_files(tmp_path / "c.txt", tmp_path / "tokens", scheduler=address)
        assert "\n" not in str(caught.value)
