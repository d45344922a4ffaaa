"""Bits flipped in checkpoints and token ids of an interrupted run: each is named, or the resumed run ends as if unharmed.

Run ``python tests/fuzz/checkpoints.py --n 60 --seed 0``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from sk_ulmfit.pretraining import CHECKPOINTS, PretrainingError, pretrain
from sk_ulmfit.text.documents import CorpusError

SETTINGS = {"emb_dim": 4, "hidden_dim": 6, "n_layers": 2, "batch_size": 4, "bptt": 10, "min_frequency": 1}
SETTINGS |= {"epochs": 0.7, "checkpoint_minutes": 0, "backward": True, "alpha": 2.0, "device": "cpu"}
STEPS_BEFORE = 12  # until the run is interrupted
FILES = [*CHECKPOINTS, *CHECKPOINTS]
FILES += [f"tokens/{name}" for name in ("ids.npy", "offsets.npy", "vocabulary.json", "corpus.json", "ids-backward.npy")]
EXPECTED = {"named by an error", "named in the log, same weights", "same weights"}


class Interrupted(BaseException):
    """The run is to end here."""


def write_corpus(path):
    rng = np.random.default_rng(0)
    words = ["red", "orange", "yellow", "green", "blue", "violet"]
    path.write_text("\n\n".join(" ".join(rng.choice(words, 20)) for _ in range(60)))


def interrupted_run(corpus, out):
    """Train until two checkpoints are there."""
    steps = []

    def say(line):
        steps.append("loss" in line)
        if sum(steps) > STEPS_BEFORE:
            raise Interrupted

    try:
        pretrain(corpus, out, say=say, **SETTINGS)
    except Interrupted:
        return
    raise AssertionError("the run was not interrupted")


# --- damages, from bytes to bytes ---------------------------------------------


def flip(data, rng):
    data = bytearray(data)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncate(data, rng):
    return data[: rng.randrange(len(data))]


def overwrite(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(16) + data[place + 16 :]


def insert(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes(8) + data[place:]


def outcome(corpus, out, expected):
    """Resume a run and tell what came of it."""
    lines = []
    try:
        state = pretrain(corpus, out, say=lines.append, **SETTINGS)
    except (CorpusError, PretrainingError) as error:
        is_clear = str(out) in str(error) and "\n" not in str(error) and len(str(error)) < 600
        return "named by an error" if is_clear else f"unclear message: {error}"
    except Exception as error:
        return f"other exception: {type(error).__name__}: {str(error)[:100]}"
    if any(not np.array_equal(expected[name], array) for name, array in state.weights.items()):
        return "silent: other weights"
    is_named = any("is damaged" in line for line in lines) and "damaged checkpoint" in (out / "log.jsonl").read_text()
    return "named in the log, same weights" if is_named else "same weights"


def run(n_flips, seed, n_others=0):
    """Return how often each outcome came, of flips of a bit and of other damages."""
    torch.set_num_threads(1)
    counts = Counter()
    with tempfile.TemporaryDirectory() as folder:
        corpus, whole, out = (Path(folder) / name for name in ("corpus.txt", "interrupted", "run"))
        write_corpus(corpus)
        expected = pretrain(corpus, Path(folder) / "expected", **SETTINGS).weights
        interrupted_run(corpus, whole)
        for i in range(n_flips + n_others):
            rng = random.Random(f"{seed} {i}")
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(whole, out)
            file = out / FILES[i % len(FILES)]
            damage = flip if i < n_flips else rng.choice([truncate, overwrite, insert])
            file.write_bytes(damage(file.read_bytes(), rng))
            result = outcome(corpus, out, expected)
            if result not in EXPECTED:
                print(f"trial {i}, {damage.__name__} in {file.name}: {result}")
                result = result.partition(":")[0]
            counts[result] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=60, help="number of flips")
    parser.add_argument("--others", type=int, default=30, help="number of other damages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for result, count in sorted(run(options.n, options.seed, options.others).items()):
        print(f"{count:6} {result}")


if __name__ == "__main__":
    main()
