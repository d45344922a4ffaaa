"""Perplexity of language models on the test part of WikiText-2, per token and per word.

    python benchmarks/perplexity.py PATH_TO/wikitext-2.test.txt.xz en-small

Models are named as for `ULMFiTLanguageModel.load`. With --compact each model is also rounded to 8 bits and read again,
to show what that costs.

Every article is read by itself, from an empty state. The marks of WikiText around hyphens and in numbers (``@-@``) are
removed; its ``<unk>`` is scored as the unknown word, like every word outside the model's vocabulary. The perplexity per
token is over the model's own tokens, markers included; it is comparable between models with the same vocabulary only.
The perplexity per word divides the same total by the number of words of the original file (split at white space, without
ends of lines), so it is comparable across tokenizations. It flatters a small vocabulary, whose unknown words are easy to
predict; the share of unknown words is therefore reported too.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import re
import tempfile
import time
from pathlib import Path

import torch

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.training.likelihood import negative_log_likelihood

TITLE = re.compile(r"^ = [^=].*[^=] = $")


def read_articles(path: Path) -> tuple[list[str], int]:
    """Return the articles as plain text, and the number of words of the file."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf8") as file:
        lines = file.read().split("\n")
    articles: list[list[str]] = []
    for number, line in enumerate(lines):
        alone = not any(lines[k].strip() for k in (number - 1, number + 1) if 0 <= k < len(lines))
        if not articles or (TITLE.match(line) and alone):
            articles.append([])
        articles[-1].append(line)
    texts = ["\n".join(article) for article in articles if any(line.strip() for line in article)]
    return [plain(text) for text in texts], sum(len(line.split()) for line in lines)


def plain(text: str) -> str:
    """Undo the marks of WikiText; its unknown word becomes that of the vocabulary."""
    return re.sub(r" @([-,.])@ ", r"\1", text).replace("<unk>", "xxunk")


def measure(name: str, model: ULMFiTLanguageModel, texts: list[str], n_words: int, precision: str) -> dict:
    corpus = model.state_.encode(texts)
    start = time.perf_counter()
    total, n_tokens = negative_log_likelihood(
        model.state_, corpus, bptt=70, batch_size=64, device=resolve_device("auto"), precision=precision
    )
    return {
        "model": name,
        "per token": math.exp(total / n_tokens),
        "per word": math.exp(total / n_words),
        "loss": total / n_tokens,
        "tokens": n_tokens,
        "words": n_words,
        "unknown": float((corpus.ids == model.state_.vocabulary.unk).sum()) / n_tokens,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wikitext", type=Path, help="wikitext-2.test.txt, as distributed, also .xz")
    parser.add_argument("models", nargs="+", help="names of bundled models, or files")
    parser.add_argument("--compact", action="store_true", help="also measure each model rounded to 8 bits")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, help="number of torch threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    texts, n_words = read_articles(options.wikitext)
    print(f"{len(texts)} articles, {n_words:,} words")
    for name in options.models:
        model = ULMFiTLanguageModel.load(name)
        rows = [measure(name, model, texts, n_words, options.precision)]
        if options.compact:
            with tempfile.TemporaryDirectory() as folder:
                model.save(Path(folder) / "compact", compact=True)
                again = ULMFiTLanguageModel.load(Path(folder) / "compact")
            rows.append(measure(f"{name}, 8 bits", again, texts, n_words, options.precision))
            rows[1]["against float32"] = rows[1]["per token"] / rows[0]["per token"] - 1
        for row in rows:
            print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
