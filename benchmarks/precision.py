"""What reduced precision costs in accuracy on real text; this decides what `precision="auto"` may use.

    python benchmarks/precision.py PATH_TO/reuters21578 PATH_TO/english.jsonl.xz [--work FOLDER]

A language model is trained on a little English and then fine-tuned for one epoch on part of the training texts of
Reuters-21578, with the same start and seed, once in float32 and once in bfloat16. A classifier is trained on its encoder.
Losses and probabilities are measured on held-out training texts; the test part is not read. Trained models are kept in
FOLDER and reused by the next run.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from reuters import read
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier


def english(path: Path, n_characters: int) -> list[str]:
    """Read articles until they have so many characters."""
    texts, total = [], 0
    with lzma.open(path, "rt", encoding="utf8") as file:
        while total < n_characters and (line := file.readline()):
            texts.append(json.loads(line)["text"])
            total += len(texts[-1])
    return texts


def timed(what: str, path: Path, make, load):
    """Load the model of an earlier run, or train and save it."""
    if path.exists():
        return load(path)
    start = time.perf_counter()
    model = make()
    model.save(path)
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reuters", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--work", type=Path, help="folder for the models (default: a temporary one)")
    parser.add_argument("--documents", type=int, default=1_500, help="number of training texts")
    parser.add_argument("--sizes", type=json.loads, default={}, help="sizes of the language model, as JSON")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(exist_ok=True, parents=True)

    texts, labels = read(options.reuters, "train")
    order = np.random.default_rng(0).permutation(len(texts))
    train, held_out = order[: options.documents], order[-500:]
    unseen = [texts[i] for i in held_out]
    lm_class, clf_class = ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
    base = work / "english.ulmfit"
    timed(
        "language model on a little English",
        base,
        lambda: lm_class(max_epochs=1, random_state=0, **options.sizes).fit(english(options.corpus, 2_000_000)),
        lm_class.load,
    )
    losses = {}
    for precision in ("float32", "bfloat16"):
        lm = timed(
            f"one epoch of fine-tuning in {precision}",
            work / f"reuters-{precision}.ulmfit",
            lambda precision=precision: lm_class(str(base), max_epochs=1, random_state=0, precision=precision).fit(
                [texts[i] for i in train]
            ),
            lm_class.load,
        )
        losses[precision] = -lm.set_params(precision="float32").score(unseen)
    for precision, loss in losses.items():
        print(
            f"validation loss after {precision}: {loss:.4f} nats per token (perplexity {math.exp(loss):.1f}, "
            f"{100 * (loss / losses['float32'] - 1):+.2f} % against float32)"
        )

    binarizer = MultiLabelBinarizer().fit(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels that do not occur in these few texts
        clf = timed(
            "classifier",
            work / "classifier.ulmfit",
            lambda: clf_class(lm, max_epochs=6, batch_size=32, random_state=0).fit(
                [texts[i] for i in train], binarizer.transform([labels[i] for i in train])
            ),
            clf_class.load,
        )
    y = binarizer.transform([labels[i] for i in held_out])
    present = y.any(0)
    exact = None
    print(
        "\n| prediction | largest shift | 99.9 % of shifts below | micro F1 | MAP | seconds |\n|---|---|---|---|---|---|"
    )
    for precision in ("float32", "bfloat16", "int8"):
        clf.set_params(precision=precision).predict_proba(unseen[:2])
        start = time.perf_counter()
        proba = clf.predict_proba(unseen)
        seconds = time.perf_counter() - start
        exact = proba if exact is None else exact
        shift = np.abs(proba - exact)
        print(
            f"| {precision} | {shift.max():.5f} | {np.quantile(shift, 0.999):.5f} "
            f"| {f1_score(y, proba >= 0.5, average='micro', zero_division=0):.4f} "
            f"| {average_precision_score(y[:, present], proba[:, present]):.4f} | {seconds:.1f} |"
        )


if __name__ == "__main__":
    main()
