"""Kills of save, predict and train: the next run leaves nothing but whole files, and the old file stays until then.

Run ``python tests/fuzz/kills.py --n 100 --seed 0``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.threads import classifier, corpus

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.cli.main import main as command_line

EXPECTED = {"killed: whole", "finished: whole"}
N_ROWS = 150


def commands(folder):
    """Return each command, with its target, as a function."""
    table, model, clf = folder / "table.csv", folder / "model", ULMFiTMultiLabelClassifier.load(folder / "model")
    options = ["--text", "text", "--language-model", folder / "lm", "--max-epochs", "1", "--lm-epochs", "0", "--force"]

    def run(*arguments):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert command_line([*map(str, arguments)]) == 0

    return {
        "save": (folder / "saved", lambda: clf.save(folder / "saved")),
        "predict": (folder / "out.csv", lambda: run("predict", model, table, "--out", folder / "out.csv", "--force")),
        "train": (
            folder / "trained",
            lambda: run("train", table, "--label-column", "topics", "--out", folder / "trained", *options),
        ),
    }


def write_inputs(folder):
    texts, labels = corpus(0)
    rows = [f"{text.replace(',', '')},{';'.join(names)}" for text, names in zip(texts, labels, strict=True)]
    (folder / "table.csv").write_text("\n".join(["text,topics", *(rows * (N_ROWS // len(rows) + 1))[:N_ROWS]]))
    clf = classifier().fit(texts, labels)
    clf.save(folder / "model", metadata={"text": ["text"]})
    clf.language_model_.save(folder / "lm")


def is_whole(target):
    if not target.exists():
        return True
    if target.suffix == ".csv":
        return len(target.read_text().splitlines()) == N_ROWS + 1
    ULMFiTMultiLabelClassifier.load(target)
    return True


def killed(work, after, with_signal):
    """Do a work in a forked process and kill it; return whether it was still at work."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    time.sleep(after)
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        assert status == 0
        return False
    os.kill(child, with_signal)
    return os.waitpid(child, 0)[1] != 0


def kills(n, seed, folder):
    temporary = folder / "tmp"
    temporary.mkdir()
    write_inputs(folder)
    before = {path.name for path in folder.iterdir()}
    tempfile.tempdir, rng, counts, seconds = str(temporary), random.Random(seed), Counter(), {}
    for name, (_, work) in commands(folder).items():
        start = time.monotonic()
        work()
        seconds[name] = time.monotonic() - start
    for _ in range(n):
        name, (target, work) = rng.choice(list(commands(folder).items()))
        before |= {target.name}
        is_killed = killed(work, rng.random() * seconds[name] * 1.1, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        result = "whole" if is_whole(target) else f"damaged by {name}"
        after_kill = sum(path.name.startswith(".") for path in folder.iterdir())
        counts["leftovers of kills, before the next run"] += after_kill
        work()  # the next run
        left = {path.name for path in folder.iterdir()} - before - {"saved", "out.csv", "trained"}
        left |= {path.name for path in temporary.iterdir()}
        if left or not is_whole(target):
            result = f"left by {name}: {sorted(left)}"
        counts[f"{'killed' if is_killed else 'finished'}: {result}"] += 1
    return counts


def run(n, seed):
    """Return how often each outcome came."""
    torch.set_num_threads(1)
    usual = tempfile.tempdir
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kills(n, seed, Path(folder))
    finally:
        tempfile.tempdir = usual


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for result, count in sorted(run(options.n, options.seed).items()):
        print(f"{count:6} {result}")


if __name__ == "__main__":
    main()
