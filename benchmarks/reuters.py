"""Reuters-21578, ModApte split: ULMFiT compared with TF-IDF + LinearSVC.

    python benchmarks/reuters.py PATH_TO/reuters21578 --quick

PATH holds train.jsonl[.xz] and test.jsonl[.xz], with one object per line: title, body and labels. The test part is
scored once, at the end. With --dev it is not read; a held-out part of the training texts is scored instead. Choose
settings on that part.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import average_precision_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.text.tokenizer import join_fields

# A model that trains from scratch in a few minutes on 2 CPU cores, and the full one of the paper.
QUICK = {
    "lm": {"emb_dim": 128, "hidden_dim": 256, "n_layers": 2, "vocab_size": 8_000, "max_epochs": 0},
    "clf": {"max_epochs": 6, "batch_size": 32},
}
FULL = {"lm": {"max_epochs": 10}, "clf": {"max_epochs": 15, "batch_size": 32}}


def read(folder: Path, part: str) -> tuple[list[str], list[set[str]]]:
    path = next(p for p in (folder / f"{part}.jsonl.xz", folder / f"{part}.jsonl") if p.exists())
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    return [join_fields([row["title"], row["body"]]) for row in rows], [set(row["labels"]) for row in rows]


def scores(name: str, y: np.ndarray, decisions: np.ndarray, ranking: np.ndarray, seconds: float) -> dict:
    order = np.argsort(-ranking, axis=1)
    hits = np.take_along_axis(y, order, axis=1)
    present = y.any(axis=0)
    return {
        "model": name,
        "micro_f1": f1_score(y, decisions, average="micro", zero_division=0),
        "macro_f1": f1_score(y, decisions, average="macro", zero_division=0),
        "p@1": hits[:, 0].mean(),
        "p@3": hits[:, :3].mean(),
        "map": average_precision_score(y[:, present], ranking[:, present], average="macro"),
        "labels/doc": decisions.sum(axis=1).mean(),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small model, under 10 minutes on 2 cores")
    parser.add_argument("--dev", action="store_true", help="score on held-out training texts instead of the test part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--lm", type=json.loads, default={}, help="parameters of the language model, as JSON")
    parser.add_argument("--clf", type=json.loads, default={}, help="parameters of the classifier, as JSON")
    options = parser.parse_args()

    texts, labels = read(options.folder, "train")
    binarizer = MultiLabelBinarizer().fit(labels)
    y = binarizer.transform(labels)
    if options.dev:
        held_out = np.random.default_rng(0).random(len(texts)) < 0.15
        test_texts, test_y = [t for t, h in zip(texts, held_out, strict=True) if h], y[held_out]
        texts, y = [t for t, h in zip(texts, held_out, strict=True) if not h], y[~held_out]
    else:
        test_texts, test_labels = read(options.folder, "test")
        test_y = binarizer.transform(test_labels)
    print(f"{len(texts)} training and {len(test_texts)} {'dev' if options.dev else 'test'} texts, {y.shape[1]} labels")

    results = []
    start = time.perf_counter()
    svm = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        OneVsRestClassifier(LinearSVC(class_weight="balanced", C=0.3)),
    )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # labels that no text has
        svm.fit(texts, y)
    results.append(
        scores(
            "TF-IDF + LinearSVC",
            test_y,
            svm.predict(test_texts),
            svm.decision_function(test_texts),
            time.perf_counter() - start,
        )
    )
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in results[-1].items()}), flush=True)

    size = QUICK if options.quick else FULL
    start = time.perf_counter()
    lm = ULMFiTLanguageModel(None, **{**size["lm"], "verbose": int(sys.stderr.isatty()), **options.lm})
    clf = ULMFiTMultiLabelClassifier(
        lm, **{**size["clf"], "random_state": options.seed, "verbose": int(sys.stderr.isatty()), **options.clf}
    )
    clf.fit(texts, y)
    trained = time.perf_counter() - start
    proba = clf.predict_proba(test_texts)
    print(
        f"trained in {trained:.0f} s, predicted {len(test_texts)} texts in {time.perf_counter() - start - trained:.0f} s"
    )
    results.append(
        scores(
            "ULMFiT from scratch", test_y, (proba >= clf.thresholds_).astype(int), proba, time.perf_counter() - start
        )
    )
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in results[-1].items()}))

    columns = list(results[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in results:
        print(
            "| "
            + " | ".join(
                f"{v:.3f}" if isinstance(v, float) and c != "seconds" else f"{v:.0f}" if c == "seconds" else str(v)
                for c, v in row.items()
            )
            + " |"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
