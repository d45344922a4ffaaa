"""Pre-training on several processes: the losses of one, what happens when one is killed, and the speed.

    python benchmarks/distributed_training.py losses            # 1, 2 and 4 processes, 100 steps side by side
    python benchmarks/distributed_training.py resume            # 2, then 3, then 1 process
    python benchmarks/distributed_training.py kill              # kill -9 of one of two, at three moments
    python benchmarks/distributed_training.py speed --rounds 5  # two processes of one thread, one of two threads

All of them make up their texts. `losses`, `resume` and `kill` train small models; `speed` has the sizes of en-small. On
machines with fewer cores than processes, only the figures of `speed` change.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from sk_ulmfit.distributed import shared_training
from sk_ulmfit.nn.device import seeded
from sk_ulmfit.nn.processes import Processes
from sk_ulmfit.pretraining import LOG, MODEL, pretrain
from sk_ulmfit.pretraining.settings import PretrainingSettings
from sk_ulmfit.pretraining.trainer import Trainer
from sk_ulmfit.text.vocabulary import SPECIAL_TOKENS, TokenIds, Vocabulary
from sk_ulmfit.training.batching import StreamBatches, StreamDataset
from sk_ulmfit.training.passage_batches import PassageBatches

SMALL = {"emb_dim": 64, "hidden_dim": 96, "n_layers": 2, "batch_size": 12, "bptt": 35, "min_frequency": 1}
SMALL |= {"precision": "float32", "dropout_multiplier": 1.0, "alpha": 2.0, "beta": 1.0, "sampled_words": 500}
EN_SMALL = {"emb_dim": 256, "hidden_dim": 576, "n_layers": 2, "batch_size": 16, "bptt": 70, "sampled_words": 4096}
EN_SMALL |= {"passage_tokens": 4096, "teacher_weight": 2.0, "dropout_multiplier": 0.1}
N_WORDS, VECTOR_DIM = 60_000, 256


def write_texts(file: Path, n_tokens: int) -> None:
    """Write sentences of made-up words, of which the frequent ones are frequent."""
    rng = random.Random(0)
    words = [
        "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))) for _ in range(3000)
    ]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    with file.open("w", encoding="utf-8") as out:
        for _ in range(n_tokens // 100):
            out.write(" ".join(rng.choices(words, weights, k=100)) + ".\n\n")


def in_processes(n: int, work: Callable[..., Any], *args: Any, threads: int = 1) -> Any:
    """Call a function in `n` new processes that share their trainings; return the result of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = [(rank, n, port, threads, queue, work, args) for rank in range(n)]
    started = [context.Process(target=_in_process, args=each) for each in arguments]
    for process in started:
        process.start()
    result = queue.get()
    for process in started:
        process.join()
    return result


def _in_process(
    rank: int, n: int, port: int, threads: int, queue: Any, work: Callable[..., Any], args: Sequence[Any]
) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(threads)
    with shared_training() as processes:
        result = work(processes, *args)
        if processes.is_first:
            queue.put(result)


def losses_of(processes: Processes, corpus: Path, out: Path, n_steps: int, stop_after: int | None) -> list[float]:
    """Pre-train for a number of steps; return the loss of each."""
    losses: list[float] = []
    do_step = Trainer.do_step

    def noted(trainer: Trainer, step: Any) -> None:
        trainer.n_steps = n_steps
        do_step(trainer, step)
        losses.append(trainer.losses[-1].item())
        if len(losses) == stop_after:
            signal.raise_signal(signal.SIGTERM)

    Trainer.do_step = noted  # type: ignore[method-assign]
    with suppress(KeyboardInterrupt):
        pretrain(corpus, out, epochs=50, validation_fraction=0.02, **SMALL)  # type: ignore[arg-type]
    return losses


def compare_losses(folder: Path) -> None:
    """Print the losses of 1, 2 and 4 processes side by side."""
    losses = [in_processes(n, losses_of, folder / "texts.txt", folder / str(n), 100, None) for n in (1, 2, 4)]
    print("| step | 1 process | 2 processes | 4 processes |\n|---|---|---|---|")
    for step in (1, 2, 5, 10, 20, 40, 60, 80, 100):
        print(f"| {step} | " + " | ".join(f"{each[step - 1]:.6f}" for each in losses) + " |")
    for n, each in zip((2, 4), losses[1:], strict=True):
        print(f"largest difference of {n} processes: {np.abs(np.subtract(each, losses[0])).max():.1e}")


def compare_resumed(folder: Path) -> None:
    """Print the losses of a run of 2, then 3, then 1 process beside those of an unbroken one."""
    whole = in_processes(1, losses_of, folder / "texts.txt", folder / "whole", 100, None)
    parts: list[float] = []
    for n, stop_after in ((2, 30), (3, 30), (1, None)):
        part = in_processes(n, losses_of, folder / "texts.txt", folder / "parts", 100, stop_after)
        print(f"{n} process(es): steps {len(parts) + 1} to {len(parts) + len(part)}")
        parts += part
    print(f"largest difference to an unbroken run of one: {np.abs(np.subtract(parts, whole)).max():.1e}")


def kill_at_three_moments(folder: Path) -> None:
    """Kill one of two processes under torchrun at three moments, start again, and compare with an unbroken run."""
    sizes = ["--emb-dim=400", "--hidden-dim=200", "--n-layers=2", "--min-frequency=1", "--precision=float32"]
    settings = ["--epochs=0.05", "--batch-size=8", "--checkpoint-minutes=0", *sizes]
    whole = _torchrun(folder, "whole", settings)
    assert whole.wait() == 0
    moments: list[tuple[str, int, Callable[[Path], bool]]] = [
        ("while it tokenizes", 0, lambda run: run.exists() and not (run / "tokens").exists()),
        ("while it trains", 1, lambda run: (run / LOG).exists() and (run / LOG).read_text().count("perplexity") > 5),
        ("while a checkpoint is written", 0, lambda run: (run / LOG).exists() and any(run.glob(".sk_ulmfit-*"))),
    ]
    for number, (name, rank, has_come) in enumerate(moments):
        run = folder / f"run-{number}"
        command = _torchrun(folder, run.name, settings)
        while not (has_come(run) and (worker := _worker(command.pid, rank))):
            time.sleep(0.001)
        os.kill(worker, signal.SIGKILL)
        begin = time.monotonic()
        _, errors = command.communicate()
        seconds = time.monotonic() - begin
        line = next((line for line in errors.splitlines() if line.startswith("sk-ulmfit")), "no line")
        print(f"{name}, process {rank}: exit code {command.returncode} after {seconds:.1f} s; {line}")
        again = _torchrun(folder, run.name, settings)
        code = again.wait()
        difference = abs(_last_loss(run) - _last_loss(folder / "whole"))
        print(f"  started again: exit code {code}, last loss differs by {difference:.1e}")
    elastic = _torchrun(folder, "elastic", settings, "--max-restarts=1")
    while not (moments[1][2](folder / "elastic") and (worker := _worker(elastic.pid, 1))):
        time.sleep(0.001)
    os.kill(worker, signal.SIGKILL)
    code = elastic.wait()
    difference = abs(_last_loss(folder / "elastic") - _last_loss(folder / "whole"))
    print(f"with --max-restarts=1: exit code {code}, last loss differs by {difference:.1e}")


def _torchrun(folder: Path, run: str, settings: Sequence[str], *options: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *options]
    command = ["-m", "sk_ulmfit", "pretrain", str(folder / "texts.txt"), "--out", str(folder / run), *settings]
    return subprocess.Popen([*launcher, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _worker(launcher: int, rank: int) -> int | None:
    """Return the process of a rank that torchrun has started (Linux)."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}\0".encode() in Path(f"/proc/{child}/environ").read_bytes().replace(b"LOCAL_RANK", b""):
            return int(child)
    return None


def _last_loss(run: Path) -> float:
    lines = [json.loads(line) for line in (run / LOG).read_text().splitlines()]
    assert (run / MODEL).exists()
    return float(next(line["held_out_loss"] for line in reversed(lines) if "held_out_loss" in line))


def seconds_per_step(processes: Processes, n_steps: int) -> tuple[list[float], int]:
    """Return the seconds of each step of a model with the sizes of en-small, and the tokens of a step."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *(f"w{i}" for i in range(N_WORDS - len(SPECIAL_TOKENS)))])
    n = EN_SMALL["batch_size"] * EN_SMALL["bptt"] * 100
    ids = np.minimum(8 + rng.zipf(1.2, n), N_WORDS - 1).astype(np.int32)
    stream = StreamDataset(TokenIds(ids, np.arange(0, n + 1, 500)))
    streams = StreamBatches(stream, int(EN_SMALL["batch_size"]), int(EN_SMALL["bptt"]), vocabulary.pad, 0)
    ends = np.cumsum([0, *rng.integers(5, 200, 4000)])
    passages = TokenIds(np.minimum(8 + rng.zipf(1.2, ends[-1]), N_WORDS - 1).astype(np.int32), ends)
    targets = rng.normal(size=(len(passages), VECTOR_DIM)).astype(np.float32)
    batches = PassageBatches(passages, lambda rows: targets[rows], EN_SMALL["passage_tokens"], vocabulary.pad, 0)
    settings = _settings_of_en_small()
    config = {name: EN_SMALL[name] for name in ("emb_dim", "hidden_dim", "n_layers")} | {"vector_dim": VECTOR_DIM}
    config |= {"pretraining": {}}
    with seeded(0, "cpu"):
        trainer = Trainer(config, vocabulary, streams, settings, "cpu", batches, processes)
        steps, seconds = trainer.remaining_steps(), []
        for _ in range(n_steps):
            step = next(steps)
            begin = time.perf_counter()
            trainer.do_step(step)
            processes.exchange([0.0])
            seconds.append(time.perf_counter() - begin)
    return seconds, trainer.n_tokens // n_steps


def _settings_of_en_small() -> PretrainingSettings:
    rest = {"epochs": 100.0, "hours": None, "lr": 3e-3, "alpha": 0.0, "beta": 0.0, "weight_decay": 0.01, "seed": 0}
    rest |= {"gradient_clip": 0.3, "backward": False, "validation_fraction": 0.0, "n_passages": 4000}
    return PretrainingSettings(**EN_SMALL, **rest, precision="auto")  # type: ignore[arg-type]


def compare_speed(n_rounds: int, n_steps: int) -> None:
    """Print the seconds of a step on two processes of one thread, and on one process of two threads, by turns."""
    sides = {
        "one process, two threads": (1, 2),
        "two processes, one thread each": (2, 1),
        "one process, one thread": (1, 1),
    }
    medians: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(n_rounds):
        for name, (n, threads) in sides.items():
            seconds, n_tokens = in_processes(n, seconds_per_step, n_steps, threads=threads)
            medians[name].append(median(seconds[3:]))
            print(f"{name}: {medians[name][-1]:.3f} s a step", file=sys.stderr, flush=True)
    for name, each in medians.items():
        rounds = ", ".join(f"{value:.3f}" for value in each)
        print(f"{name}: {median(each):.3f} s a step, {n_tokens / median(each):,.0f} tokens/s (rounds: {rounds})")
    one, two, single = (median(each) for each in medians.values())
    print(f"two processes against one of two threads: {one / two:.2f} times as fast")
    print(f"two processes against one of one thread: {single / two:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("losses", "resume", "kill", "speed"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    if options.what == "speed":
        compare_speed(options.rounds, options.steps)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder / "texts.txt", 400_000)
        {"losses": compare_losses, "resume": compare_resumed, "kill": kill_at_three_moments}[options.what](folder)


if __name__ == "__main__":
    main()
