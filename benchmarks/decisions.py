"""Decisions and probabilities on Reuters-21578: thresholds, calibration, and the cost of a search.

    python benchmarks/decisions.py PATH_TO/reuters21578 --out results
    python benchmarks/decisions.py PATH_TO/reuters21578 --out results --search
    python benchmarks/decisions.py --large

The first command trains the quick setting of reuters.py with three seeds and scores each once on the test part: with
thresholds of 0.5, tuned on a held-out part (threshold="f1_macro") and tuned on out-of-fold probabilities
(MultiLabelThresholdTuner), and with and without calibration. Trained models are kept in OUT/trained, so that a run can
be resumed.

The second counts and times the trainings of a search over 7 thresholds with 5 folds, with and without memory, on 200
training documents. The test part is not read.

The third times tuning of thresholds, calibration and splitting for 100,000 random texts with 1,000 labels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from reuters import QUICK, read
from scipy.special import expit, logit
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import MultiLabelBinarizer

from sk_ulmfit import (
    MultiLabelStratifiedKFold,
    MultiLabelStratifiedShuffleSplit,
    MultiLabelThresholdTuner,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
)
from sk_ulmfit.calibration import METHODS, fit_calibration
from sk_ulmfit.metrics import expected_calibration_error
from sk_ulmfit.thresholds import METRICS, tune_thresholds

FOLDS = 3


def classifier(seed: int, memory: Any, **params: Any) -> ULMFiTMultiLabelClassifier:
    lm = ULMFiTLanguageModel(None, **QUICK["lm"])
    return ULMFiTMultiLabelClassifier(lm, **{**QUICK["clf"], "random_state": seed, "memory": memory, **params})


def decisions(folder: Path, out: Path, seeds: list[int]) -> None:
    texts, labels = read(folder, "train")
    binarizer = MultiLabelBinarizer().fit(labels)
    y = binarizer.transform(labels)
    test_texts, test_labels = read(folder, "test")
    y_test = binarizer.transform(test_labels)
    memory, results = out / "trained", out / "decisions.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in seeds:
        if any(row["seed"] == seed for row in done):
            continue
        rows = []

        def add_decisions(
            decided_by: str, predicted: np.ndarray, rows: list[dict[str, Any]] = rows, seed: int = seed
        ) -> None:
            f1 = {a: f1_score(y_test, predicted, average=a, zero_division=0) for a in ("micro", "macro", "samples")}
            of_text = float(predicted.sum(1).mean())
            rows.append(
                {
                    "seed": seed,
                    "decided_by": decided_by,
                    **f1,
                    "labels": of_text,
                    "none": float((~predicted.any(1)).mean()),
                }
            )
            print(json.dumps(rows[-1]), flush=True)

        def add_probabilities(
            name: str, proba: np.ndarray, rows: list[dict[str, Any]] = rows, seed: int = seed
        ) -> None:
            errors_of = {a: expected_calibration_error(y_test, proba, average=a) for a in ("micro", "macro")}
            log_loss = -float((np.log(proba) * y_test + np.log1p(-proba) * (1 - y_test)).sum(1).mean())
            rows.append(
                {
                    "seed": seed,
                    "probabilities": name,
                    **errors_of,
                    "log_loss": log_loss,
                    "expected_labels": float(proba.sum(1).mean()),
                }
            )
            print(json.dumps(rows[-1]), flush=True)

        for metric in METRICS[:2]:
            start = time.perf_counter()
            tuner = MultiLabelThresholdTuner(classifier(seed, memory), scoring=metric, cv=FOLDS, random_state=seed)
            proba = tuner.fit(texts, y).predict_proba(test_texts)
            if metric == METRICS[0]:
                add_decisions("0.5", proba >= 0.5)
                add_probabilities("all texts", proba)
            add_decisions(f"tuner, {metric}", proba >= tuner.best_thresholds_)
            print(f"{time.perf_counter() - start:.0f} s", flush=True)
        for metric in METRICS[:2]:
            clf = classifier(seed, memory, threshold=metric).fit(texts, y)
            proba = clf.predict_proba(test_texts)
            if metric == METRICS[0]:
                add_decisions("0.5, nine tenths of the texts", proba >= 0.5)
                add_probabilities("nine tenths of the texts", proba)
            add_decisions(f"tune, {metric}", proba >= clf.thresholds_)
        for method in METHODS:
            clf = classifier(seed, memory, calibration=method).fit(texts, y)
            add_probabilities(method, clf.predict_proba(test_texts))
        with results.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        done += rows
    print(f"true labels per text: {y_test.sum(1).mean():.3f}")
    for key, shown in (
        ("decided_by", ("micro", "macro", "samples", "labels", "none")),
        ("probabilities", ("micro", "macro", "log_loss", "expected_labels")),
    ):
        print(f"\n| {key} | " + " | ".join(shown) + " |\n|---|" + "---|" * len(shown))
        for name in dict.fromkeys(row[key] for row in done if key in row):
            group = [row for row in done if row.get(key) == name]
            cells = (np.mean([row[column] for row in group]) for column in shown)
            print(f"| {name} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |")


THRESHOLDS = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def search(folder: Path, rounds: int) -> None:
    """Time each kind of search in a process of its own."""
    figures: dict[str, Any] = {}
    for round_number in range(rounds):
        for name, with_memory, n_jobs in (("memory", 1, 1), ("none", 0, 1), ("memory, n_jobs=2", 1, 2)):
            command = [
                sys.executable,
                "-W",
                "ignore",
                __file__,
                str(folder),
                "--one-search",
                str(with_memory),
                str(n_jobs),
            ]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            row = json.loads(output.splitlines()[-1])
            print(
                f"{name}, round {round_number}: {row['trainings']} trainings, {row['seconds']:.0f} s, best {row['best']}, {row['score']:.4f}",
                flush=True,
            )
            figures.setdefault(name, []).append(row["seconds"])
    print(f"without memory: {np.median(figures['none']) / np.median(figures['memory']):.1f} times as long")


class Counting(ULMFiTMultiLabelClassifier):
    """Write a line for every training that is not read from the cache, in any process."""

    def fit(self, X: Any, y: Any, **params: Any) -> Any:  # noqa: D102
        import sk_ulmfit.training.directions as module

        real = module.train_classifier

        def counted(*args: Any, **kwargs: Any) -> Any:
            with open(os.environ["COUNTS"], "a") as file:
                file.write("trained\n")
            return real(*args, **kwargs)

        module.train_classifier = counted
        try:
            return super().fit(X, y, **params)
        finally:
            module.train_classifier = real


def one_search(folder: Path, with_memory: bool, n_jobs: int) -> None:
    texts, labels = read(folder, "train")
    chosen = np.random.default_rng(0).permutation(len(texts))[:200]
    texts, labels = [texts[i] for i in chosen], [labels[i] for i in chosen]
    y = MultiLabelBinarizer().fit_transform(labels)
    with tempfile.TemporaryDirectory() as cache:
        counts = Path(cache) / "counts"
        os.environ["COUNTS"] = str(counts)  # inherited by the workers
        memory = Path(cache) / "memory" if with_memory else None
        lm = ULMFiTLanguageModel(None, **QUICK["lm"])
        clf = Counting(lm, **QUICK["clf"], random_state=0, memory=memory)
        start = time.perf_counter()
        grid = GridSearchCV(clf, {"threshold": THRESHOLDS}, scoring="f1_micro", cv=5, n_jobs=n_jobs).fit(texts, y)
        seconds = time.perf_counter() - start
        trainings = len(counts.read_text().splitlines())
    print(
        json.dumps({"trainings": trainings, "seconds": seconds, "best": grid.best_params_, "score": grid.best_score_})
    )


def large(n: int = 100_000, n_labels: int = 1_000) -> None:
    rng = np.random.default_rng(0)
    rates = np.minimum(0.3, 0.005 * rng.pareto(1.5, n_labels) + 0.0005)
    y = (rng.random((n, n_labels)) < rates).astype(np.int8)
    proba = expit(rng.normal(logit(rates), 1.0, (n, n_labels)) + 2.5 * y)
    print(f"{n} texts, {n_labels} labels, {y.sum(1).mean():.1f} each")
    jobs = {
        f"thresholds, {metric}": lambda metric=metric: tune_thresholds(y, proba, metric=metric)
        for metric in (*METRICS, 0.7)
    }
    jobs |= {f"calibration, {method}": lambda method=method: fit_calibration(y, proba, method) for method in METHODS}
    jobs["five folds"] = lambda: list(MultiLabelStratifiedKFold(5, shuffle=True, random_state=0).split(y, y))
    jobs["one part"] = lambda: next(MultiLabelStratifiedShuffleSplit(1, test_size=0.1, random_state=0).split(y, y))
    seconds: dict[str, list[float]] = {}
    for _ in range(3):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    for name, times in seconds.items():
        print(f"{name}: {np.median(times):.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--search", action="store_true", help="count and time trainings of a search")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of --search")
    parser.add_argument("--large", action="store_true", help="time 100,000 texts and 1,000 labels")
    parser.add_argument("--one-search", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # labels that few texts have
    if options.large:
        large()
        return
    if options.folder is None:
        parser.error("pass the folder of Reuters-21578")
    if options.one_search:
        one_search(options.folder, bool(options.one_search[0]), options.one_search[1])
    elif options.search:
        search(options.folder, options.rounds)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        decisions(options.folder, options.out, options.seeds)


if __name__ == "__main__":
    main()
