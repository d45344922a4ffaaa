"""Processes forked while another thread tokenizes, trains or trains SVMs predict and fit; none hangs.

Run ``python tests/fuzz/forks.py --n 20 --seed 0``: n forks of each kind.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy import sparse

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.threads import classifier, corpus

from sk_ulmfit.text import tokenize
from sk_ulmfit.training.liblinear import train_svm

SECONDS = 120  # after which a child counts as hanging
EXPECTED = {"tokenizing: right", "training: right", "SVMs: right"}


def _tokenize(rng):
    tokenize(" ".join(f"word{rng.randrange(10**9)}" for _ in range(5_000)))


def _train(rng):
    classifier(rng.randrange(9), tfidf=False).fit(*corpus(0))


def _train_svms(rng):
    features = sparse.random(200, 2_000, 0.1, "csr", random_state=0)
    train_svm(features, np.arange(200) % 3 == 0, None, 1.0, 1e-5, 0)


WORK = {"tokenizing": _tokenize, "training": _train, "SVMs": _train_svms}


def outcome_of_fork(answer, expected):
    """Fork; let the child compute an answer; return "right", "wrong", "failed" or "hangs"."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if answer() == expected else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return ["right", "wrong", "failed"][os.waitstatus_to_exitcode(status)]
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def forks(kind, n, rng):
    """Count the outcomes of n forks while a thread does one kind of work."""
    texts, labels = corpus(3)
    clf = classifier().fit(texts, labels)

    def answer():
        again = classifier().fit(texts, labels)
        new = f"an unknown word{random.Random(os.getpid()).random()}"  # words that were met before need no lock
        return [model.predict_proba([*texts[:3], new]).tobytes() for model in (clf, again)]

    expected, counts, done = answer(), Counter(), threading.Event()

    def work():
        while not done.is_set():
            WORK[kind](rng)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(n):
            time.sleep(rng.random() / 20)
            counts[f"{kind}: {outcome_of_fork(answer, expected)}"] += 1
    finally:
        done.set()
        thread.join()
    return counts


def run(n, seed):
    """Return how often each outcome came."""
    torch.set_num_threads(1)  # torch itself hangs in a child whose parent has used more
    rng = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum((forks(kind, n, rng) for kind in WORK), Counter())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for result, count in sorted(run(options.n, options.seed).items()):
        print(f"{count:6} {result}")


if __name__ == "__main__":
    main()
