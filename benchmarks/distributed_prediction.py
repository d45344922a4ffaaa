"""Predictions on Dask: a million texts with a worker killed half-way, two workers beside one, the cost of the scheduler.

    python benchmarks/distributed_prediction.py million [--texts 1000000]
    python benchmarks/distributed_prediction.py workers [--texts 20000] [--rounds 5]
    python benchmarks/distributed_prediction.py overhead [--texts 10000] [--rounds 5]

The texts are sentences of the bundled support messages, drawn by the number of the row. The model is fitted on these messages.
"workers" and "overhead" take the default classifier. "million" takes a small one, 16/24/1 from random weights with the linear
model of words, which predicts about 20,000 texts a second on one core.

"million" writes probabilities to Parquet files with two worker processes of one thread. When half of the files are there, it kills one
worker with SIGKILL. Then it reads the rows and compares each with the prediction for its sentence alone. Memory is that of
each worker process, once a second. "workers" and "overhead" take turns within each round and print medians; "overhead" compares
tasks of 1,000 texts on one worker with a loop over the same texts in this process. Both also print seconds of processor time,
which say more where other programs run: those of the worker, and those of scheduler and client, which are this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import psutil
import torch
from dask import dataframe
from distributed import Client, LocalCluster

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.datasets import load_support_messages
from sk_ulmfit.distributed import predict_proba

ROWS = 10_000  # of a partition, for "million"
ROWS_OF_TASK = 1_000  # for the other two
TOLERANCE = 1e-5
PATIENCE = {  # a worker that starts anew may need minutes where other programs run; by default it is given up after 15 s
    "distributed.deploy.lost-worker-timeout": "20 minutes",
    "distributed.comm.timeouts.connect": "10 minutes",
    "distributed.comm.timeouts.tcp": "10 minutes",
    "distributed.scheduler.worker-ttl": None,
}
MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}  # as the guide advises


def sentences() -> list[str]:
    """Return the different sentences of the bundled messages."""
    found = (sentence.strip() for text in load_support_messages().texts for sentence in text.split(". "))
    return sorted({sentence for sentence in found if sentence})


def sentence_numbers(start: int, stop: int, n: int) -> np.ndarray:
    """Return which sentence each row holds: the same one each time, but without an order."""
    return (np.arange(start, stop, dtype=np.int64) * 2_654_435_761 >> 7) % n


def partition(start: int, stop: int, texts: list[str]) -> pd.DataFrame:
    """Make the rows from `start` to `stop`."""
    chosen = [texts[k] for k in sentence_numbers(start, stop, len(texts))]
    return pd.DataFrame({"row": np.arange(start, stop), "text": chosen})


def rows(n: int, size: int) -> Any:
    """Return n rows as a Dask data frame."""
    texts = sentences()
    starts = list(range(0, n, size))
    meta = partition(0, 1, texts)
    return dataframe.from_map(partition, starts, [min(s + size, n) for s in starts], texts=texts, meta=meta)


def fitted_model(path: Path, is_small: bool) -> ULMFiTMultiLabelClassifier:
    """Fit a model on the bundled messages and save it."""
    data = load_support_messages()
    small = ULMFiTLanguageModel(None, emb_dim=16, hidden_dim=24, n_layers=1, max_epochs=1)
    clf = ULMFiTMultiLabelClassifier(small if is_small else "auto", max_epochs=2 if is_small else None, random_state=0)
    clf.fit(data.texts, data.labels).save(path)
    return clf


@contextmanager
def cluster(n_workers: int) -> Iterator[Client]:
    """Start worker processes of one thread."""
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with dask.config.set({**PATIENCE, **MEMORY}), LocalCluster(**options) as running, Client(running) as client:
        yield client


class Watch(threading.Thread):
    """Notes the memory of each worker once a second, and kills one of them when half of the work is done."""

    def __init__(self, client: Client, folder: Path, n_files: int):
        super().__init__(daemon=True)
        self.client, self.folder, self.n_files = client, folder, n_files
        self.memory: list[tuple[float, int, float]] = []  # seconds, process, MB
        self.killed: int | None = None
        self.is_over = threading.Event()

    def run(self) -> None:
        """Watch until the work is over."""
        began = time.monotonic()
        while not self.is_over.wait(1.0):
            for pid in [worker["pid"] for worker in self.client.run(_process).values()]:
                with_pid = psutil.Process(pid)
                self.memory.append((time.monotonic() - began, pid, with_pid.memory_info().rss / 1e6))
            n_done = len(list(self.folder.glob("*.parquet"))) if self.folder.exists() else 0
            if self.killed is None and n_done >= self.n_files / 2:
                self.killed = self.memory[-1][1]
                os.kill(self.killed, signal.SIGKILL)
                print(
                    f"killed worker process {self.killed} when {n_done} of {self.n_files} files were there", flush=True
                )


def _process() -> dict[str, int]:
    return {"pid": os.getpid()}


def million(n: int, model: Path, clf: ULMFiTMultiLabelClassifier) -> None:
    """Predict n texts, kill a worker half-way, and check every row."""
    with tempfile.TemporaryDirectory() as folder, cluster(2) as client:
        out = Path(folder) / "proba"
        predicted = predict_proba(model, rows(n, ROWS), column="text", keep="row", n_threads=1)
        watch = Watch(client, out, predicted.npartitions)
        watch.start()
        began = time.perf_counter()
        predicted.to_parquet(out, write_index=False)
        seconds = time.perf_counter() - began
        watch.is_over.set()
        watch.join()
        print(f"{n:,} texts in {seconds:.0f} s: {n / seconds:,.0f} texts a second")
        check(out, n, clf)
        show_memory(watch)


def check(out: Path, n: int, clf: ULMFiTMultiLabelClassifier) -> None:
    """Compare every row with the prediction for its sentence."""
    expected = clf.predict_proba(sentences())
    files = sorted(out.glob("*.parquet"), key=lambda file: int(file.name.split(".")[1]))
    position, furthest = 0, 0.0
    for file in files:
        frame = pd.read_parquet(file)
        stop = position + len(frame)
        assert frame.pop("row").tolist() == list(range(position, stop)), f"{file.name}: other rows, or another order"
        proba = expected[sentence_numbers(position, stop, len(expected))]
        furthest = max(furthest, float(np.abs(frame.to_numpy() - proba).max()))
        position = stop
    assert position == n, f"{position:,} rows in place of {n:,}"
    assert furthest < TOLERANCE, furthest
    print(f"every row once and in order; probabilities differ by at most {furthest:.1e} from those of the text alone")


def show_memory(watch: Watch) -> None:
    """Print the memory of each worker by quarters of its life."""
    for pid in sorted({pid for _, pid, _ in watch.memory}):
        megabytes = [mb for _, each, mb in watch.memory if each == pid]
        quarters = [max(part) for part in np.array_split(np.array(megabytes), 4) if len(part)]
        note = " (killed)" if pid == watch.killed else ""
        print(
            f"worker {pid}{note}: "
            + ", ".join(f"{mb:.0f}" for mb in quarters)
            + " MB, most in each quarter of its life"
        )


def seconds_on(client: Client, model: Path, n: int) -> tuple[float, float, float]:
    """Return how long the workers take for n texts in tasks of 1,000, and the processor time of workers and scheduler."""
    predicted = predict_proba(model, rows(n, ROWS_OF_TASK), column="text", n_threads=1)
    before, here = sum(client.run(time.process_time).values()), time.process_time()
    began = time.perf_counter()
    predicted.map_partitions(len, meta=(None, "int64")).compute()
    seconds = time.perf_counter() - began
    return seconds, sum(client.run(time.process_time).values()) - before, time.process_time() - here


def workers(n: int, n_rounds: int, model: Path) -> None:
    """Compare two workers with one."""
    ratios = []
    with cluster(1) as one, cluster(2) as two:
        for client in (one, two):
            with client.as_current():
                seconds_on(client, model, 4 * ROWS_OF_TASK)
        for _ in range(n_rounds):
            seconds, processor = [], []
            for client in (one, two):
                with client.as_current():
                    wall, of_workers, _ = seconds_on(client, model, n)
                seconds.append(wall)
                processor.append(of_workers)
            ratios.append(seconds[0] / seconds[1])
            print(
                f"one worker {seconds[0]:.2f} s, two {seconds[1]:.2f} s: {ratios[-1]:.2f} times; processor time of workers "
                f"{processor[0]:.2f} s and {processor[1]:.2f} s",
                flush=True,
            )
    print(f"two workers are {statistics.median(ratios):.2f} times as fast as one (median of {n_rounds} rounds)")


def overhead(n: int, n_rounds: int, model: Path, clf: ULMFiTMultiLabelClassifier) -> None:
    """Compare tasks of 1,000 texts on one worker with a loop."""
    texts, shares = sentences(), []
    with cluster(1) as client:
        seconds_on(client, model, 4 * ROWS_OF_TASK)
        for _ in range(n_rounds):
            began, processor = time.perf_counter(), time.process_time()
            for start in range(0, n, ROWS_OF_TASK):
                clf.predict_proba(partition(start, start + ROWS_OF_TASK, texts)["text"].tolist())
            alone, processor = time.perf_counter() - began, time.process_time() - processor
            on_dask, of_worker, of_scheduler = seconds_on(client, model, n)
            shares.append(on_dask / alone - 1)
            print(
                f"loop {alone:.2f} s, Dask {on_dask:.2f} s: {100 * shares[-1]:+.1f} %; processor time of the loop "
                f"{processor:.2f} s, of the worker {of_worker:.2f} s, of scheduler and client {of_scheduler:.2f} s",
                flush=True,
            )
    print(f"the scheduler costs {100 * statistics.median(shares):+.1f} % (median of {n_rounds} rounds)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["million", "workers", "overhead"])
    parser.add_argument("--texts", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n = options.texts or {"million": 1_000_000, "workers": 20_000, "overhead": 10_000}[options.what]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "support.model"
        clf = fitted_model(path, is_small=options.what == "million")
        if options.what == "million":
            million(n, path, clf)
        elif options.what == "workers":
            workers(n, options.rounds, path)
        else:
            overhead(n, options.rounds, path, clf)


if __name__ == "__main__":
    main()
