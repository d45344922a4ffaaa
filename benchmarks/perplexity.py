"""Perplexity of language models on the test part of WikiText-2, per token and per word.

    python benchmarks/perplexity.py PATH_TO/wikitext-2.test.txt.xz en-small
    python benchmarks/perplexity.py PATH_TO/wikitext-2.test.txt.xz old.safetensors en-small --common

Models are named as for `ULMFiTLanguageModel.load`. With --compact each model is also rounded to 8 bits and read again,
to show what that costs.

Every article is read by itself, from an empty state. The marks of WikiText around hyphens and in numbers (``@-@``) are
removed; its ``<unk>`` is scored as the unknown word, like every word outside the model's vocabulary. The perplexity per
token is over the model's own tokens, markers included; it is comparable between models with the same vocabulary only.
The perplexity per word divides the same total by the number of words of the original file (split at white space, without
ends of lines), so it is comparable across tokenizations. It flatters a small vocabulary, whose unknown words are easy to
predict; the share of unknown words is therefore reported too.

With --common, models of the same language are compared on the same words: on the tokens that the vocabularies of all models
hold, each read after the same text by its own model. "loss" is in nats per such token, among all words of the model;
"loss among common words" is that of the probabilities scaled to a sum of one over the words that all models hold, since a
larger vocabulary shares its probability among more words.
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

import numpy as np
import torch

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.assembly import restore_language_model
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.training.likelihood import negative_log_likelihood

WINDOW = 70  # tokens
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


@torch.inference_mode()
def measure_common(model: ULMFiTLanguageModel, texts: list[str], words: list[str]) -> dict[str, float]:
    """Measure the loss of a model on the tokens of the texts that are among some words, which it knows."""
    state = model.state_
    module = restore_language_model(state, "cpu")
    common = torch.from_numpy(np.sort(state.vocabulary.lookup(words)).astype(np.int64))  # (n_common,)
    is_common = torch.zeros(len(state.vocabulary), dtype=torch.bool)
    is_common[common] = True
    loss = loss_among_common = 0.0
    n_tokens = 0
    for document in state.encode(texts):
        ids = torch.from_numpy(document.astype(np.int64))  # (time,)
        hidden_state = None
        for window, targets in zip(ids[:-1].split(WINDOW), ids[1:].split(WINDOW), strict=True):
            outputs, hidden_state = module.encoder(window[None], torch.tensor([len(window)]), hidden_state)
            counted = is_common[targets]  # (time,)
            targets = targets[counted]  # (n_counted,)
            logits = outputs[0, counted] @ module.decoder_weight.T + module.decoder_bias  # (n_counted, n_words)
            at_target = logits[torch.arange(len(targets)), targets]  # (n_counted,)
            loss += float((logits.logsumexp(1) - at_target).sum())
            loss_among_common += float((logits[:, common].logsumexp(1) - at_target).sum())
            n_tokens += len(targets)
    return {
        "loss": loss / n_tokens,
        "perplexity": math.exp(loss / n_tokens),
        "loss among common words": loss_among_common / n_tokens,
        "perplexity among common words": math.exp(loss_among_common / n_tokens),
        "tokens": n_tokens,
    }


def compare(names: list[str], texts: list[str]) -> None:
    """Print a line for each model, and its perplexity relative to that of the first one."""
    models = [ULMFiTLanguageModel.load(name) for name in names]
    if any(model.state_.config["language"] != models[0].language or model.direction for model in models):
        raise SystemExit("--common compares models of one language that read forward.")
    vocabularies = [model.vocabulary_ for model in models]
    words = [word for word in vocabularies[0].words if all(word in other for other in vocabularies)]
    words = [word for word in words if word not in ("xxunk", "xxpad")]
    print(f"{len(words):,} common words")
    rows = [measure_common(model, texts, words) for model in models]
    for name, row in zip(names, rows, strict=True):
        row = {"model": name, **row, "against the first": row["perplexity"] / rows[0]["perplexity"] - 1}
        print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wikitext", type=Path, help="wikitext-2.test.txt, as distributed, also .xz")
    parser.add_argument("models", nargs="+", help="names of bundled models, or files")
    parser.add_argument("--compact", action="store_true", help="also measure each model rounded to 8 bits")
    parser.add_argument("--common", action="store_true", help="compare the models on the words that all of them know")
    parser.add_argument("--articles", type=int, help="read only so many articles")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, help="number of torch threads")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    texts, n_words = read_articles(options.wikitext)
    texts = texts[: options.articles]
    n_words = n_words if options.articles is None else sum(len(text.split()) for text in texts)
    print(f"{len(texts)} articles, {n_words:,} words")
    if options.common:
        compare(options.models, texts)
        return
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
