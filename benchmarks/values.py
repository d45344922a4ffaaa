"""Values on a scale: ULMFiTRegressor beside ridge regressions and the mean.

    python benchmarks/values.py DATA --out benchmarks/values --peer benchmarks/peers/.venv-embeddings/bin/python
    python benchmarks/values.py --out benchmarks/values --table
    python benchmarks/values.py DATA --out results/values --dev --tasks valence --variants ulmfit tfidf --seeds 0

DATA holds goemotions/{train,dev,test} and arxiv_cs/{train,dev,test}, as for transfer.py. Neither set comes with values, so
they are counted from the labels; nothing is made up, but no person has given them as grades either:

    categories  arXiv: how many categories the authors of an abstract have listed (1 to 6 or so)
    areas       arXiv: which share of these categories lies in computer science, mathematics, statistics, electrical
                engineering, physics, and other sciences: six targets, soft labels whose sum is 1
    valence     GoEmotions: positive less negative emotions, divided by all labels of a message, from -1 to 1
    sentiments  GoEmotions: which share of the labels of a message is positive, negative, ambiguous or neutral; four targets

The groups of emotions are those of Demszky et al. (2020), "GoEmotions", figure 2. On each task some of these variants learn
from 500 training texts (three samples):

    mean           the mean of the training values
    tfidf          TF-IDF of words or words and pairs, and ridge regression; tuned by cross-validation on the sample
    minilm         sentence embeddings (all-MiniLM-L6-v2) and ridge regression; needs --peer PYTHON
    vectors        vectors of the pre-trained model as it is (`transform`) and ridge regression
    ulmfit         ULMFiTRegressor on the pre-trained model with no other argument
    y_range        the same with the scale as `y_range`: 0 to 1, -1 to 1, or the range of the training values
    cross_entropy  the same with the loss of soft labels, for tasks of shares

The strength of each ridge regression is chosen on the sample for each target, by leave-one-out. Predictions of all but
`ulmfit` are cut at the ends of the scale. Every finished unit of work is one line of OUT/results.jsonl and is
not repeated. With --dev, which is for choosing settings, the held-out part "dev" is scored, the test part is not read, and
the lines go to OUT/dev.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from document_sets import Part, read, sample
from result_rows import append, carry_on, cell, find, read_rows, results_file
from sentence_embeddings import Embedder
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from transfer import describe_language_model, language_model_file

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTRegressor, __version__
from sk_ulmfit.metrics.regression import regression_scores

POSITIVE = {
    "admiration", "amusement", "approval", "caring", "desire", "excitement", "gratitude", "joy", "love", "optimism",
    "pride", "relief",
}  # fmt: skip
NEGATIVE = {
    "anger", "annoyance", "disappointment", "disapproval", "disgust", "embarrassment", "fear", "grief", "nervousness",
    "remorse", "sadness",
}  # fmt: skip
AMBIGUOUS = {"confusion", "curiosity", "realization", "surprise"}
SENTIMENTS = ("positive", "negative", "ambiguous", "neutral")
# Archives of arXiv, the part of a category before the point, by area; all that are not named are physics.
AREAS = {
    "cs": "cs",
    "math": "math",
    "stat": "stat",
    "eess": "eess",
    "q-bio": "other",
    "q-fin": "other",
    "econ": "other",
}
AREA_NAMES = ("cs", "math", "stat", "eess", "physics", "other")

VARIANTS = ("mean", "tfidf", "minilm", "vectors", "ulmfit", "y_range", "cross_entropy")
WITH_LANGUAGE_MODEL = VARIANTS[3:]
GRID = {"tfidf__ngram_range": [(1, 1), (1, 2)], "tfidf__min_df": [1, 2]}
ALPHAS = np.logspace(-2, 3, 16)
COLUMNS = {"r2": "R²", "mean_absolute_error": "MAE", "spearman": "Spearman", "seconds": "seconds"}

Values = Callable[[set[str]], list[float]]


@dataclass(frozen=True)
class Task:
    """Which set of documents, what is counted from the labels of a document, and the ends of its scale if it has any."""

    set_name: str
    values: Values
    y_range: tuple[float, float] | None = None
    is_share: bool = False

    def ends(self, y: np.ndarray) -> tuple[float, float]:
        """Return the ends of the scale, or those of training values."""
        return self.y_range or (float(y.min()), float(y.max()))


def count_categories(labels: set[str]) -> list[float]:
    return [float(len(labels))]


def area_shares(labels: set[str]) -> list[float]:
    areas = [AREAS.get(label.split(".")[0], "physics") for label in labels]
    return [areas.count(area) / len(areas) for area in AREA_NAMES]


def valence(labels: set[str]) -> list[float]:
    return [(len(labels & POSITIVE) - len(labels & NEGATIVE)) / len(labels)]


def sentiment_shares(labels: set[str]) -> list[float]:
    counts = [len(labels & group) for group in (POSITIVE, NEGATIVE, AMBIGUOUS, {"neutral"})]
    return [count / len(labels) for count in counts]


TASKS = {
    "categories": Task("arxiv", count_categories),
    "areas": Task("arxiv", area_shares, (0, 1), is_share=True),
    "valence": Task("goemotions", valence, (-1, 1)),
    "sentiments": Task("goemotions", sentiment_shares, (0, 1), is_share=True),
}


def load(folder: Path, task: Task, part: str) -> Part:
    """Return the texts of a part, and their values, shape (n, n_targets)."""
    texts, labels = read(folder, task.set_name, part)
    return Part(texts, np.array([task.values(row) for row in labels]))


# Models: from training texts, their values and texts to score to predicted values and settings


def fit_tfidf(train: Part, texts: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    pipeline = Pipeline([("tfidf", TfidfVectorizer(sublinear_tf=True)), ("ridge", ridge())])
    search = GridSearchCV(pipeline, GRID, cv=KFold(3), error_score="raise").fit(train.texts, train.y)
    settings = {name.split("__")[-1]: value for name, value in search.best_params_.items()}
    return search.predict(texts).reshape(len(texts), -1), settings


def fit_ridge(x: np.ndarray, y: np.ndarray, x_scored: np.ndarray) -> np.ndarray:
    return ridge().fit(x, y).predict(x_scored).reshape(len(x_scored), -1)


def ridge() -> RidgeCV:
    return RidgeCV(ALPHAS, alpha_per_target=True)


def mean_of(by_target: np.ndarray) -> float:
    """Return the mean over the targets; NaN for a correlation of constant predictions."""
    return float(np.nanmean(by_target)) if np.isfinite(by_target).any() else float("nan")


class Benchmark:
    """Options, data, language model and results, shared by the units of work."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.results = results_file(options)
        self.parts: dict[str, tuple[Part, Part]] = {}
        self.embed = Embedder(options.peer, options.out, torch.get_num_threads())

    @cached_property
    def file(self) -> Path:
        """File of the pre-trained language model."""
        return language_model_file(self.options.language_model)

    def data(self, name: str) -> tuple[Part, Part]:
        """Return the documents of a task to train on and to score."""
        if name not in self.parts:
            folder, task = self.options.folder, TASKS[name]
            train, scored = load(folder, task, "train"), load(folder, task, self.part)
            n = self.options.limit_test
            self.parts[name] = train, scored if n is None else scored.take(range(min(n, len(scored))))
        return self.parts[name]

    @property
    def part(self) -> str:
        """Which part is scored."""
        return "dev" if self.options.dev else "test"

    def run(self) -> None:
        """Do the units that are not done yet."""
        options = self.options
        for size in options.sizes:
            for seed in options.seeds:
                for name in options.tasks:
                    for variant in options.variants:
                        if variant != "cross_entropy" or TASKS[name].is_share:
                            self.score(self.unit(name, size, variant, seed))

    def unit(self, name: str, size: int, variant: str, seed: int) -> dict[str, Any]:
        """Return everything that a unit of work depends on, as its key in the results."""
        unit = {"task": name, "part": self.part, "size": size, "variant": variant, "seed": seed}
        if variant in WITH_LANGUAGE_MODEL:
            unit["language_model"] = describe_language_model(self.file)
        if self.options.limit_test is not None:
            unit["limit_test"] = self.options.limit_test
        return unit

    def score(self, unit: dict[str, Any]) -> None:
        """Train one variant and score it, unless that was done before."""
        if find(self.results, unit) is not None:
            return
        train, scored = self.data(unit["task"])
        train = sample(train, unit["size"], unit["seed"])
        seconds = self.embedding_seconds(train.texts, scored.texts) if unit["variant"] == "minilm" else 0.0
        start = time.perf_counter()
        predicted, details = self.predict(unit, train, scored.texts)
        seconds += time.perf_counter() - start
        if unit["variant"] != "ulmfit":
            predicted = predicted.clip(*TASKS[unit["task"]].ends(train.y))
        by_target = regression_scores(scored.y, predicted)
        figures = {metric: mean_of(values) for metric, values in by_target.items()}
        by_target = {metric: values.tolist() for metric, values in by_target.items()}
        row = {"unit": unit, **figures, "seconds": seconds, "by_target": by_target, "n_scored": len(scored.texts)}
        append(self.results, {**row, **details, "threads": torch.get_num_threads(), "version": __version__})
        shown = ", ".join(f"{title} {row[key]:.3f}" for key, title in COLUMNS.items())
        print(f"{unit['task']} {unit['size']} {unit['variant']} seed {unit['seed']}: {shown}", flush=True)

    def embedding_seconds(self, *parts: list[str]) -> float:
        """Return the seconds of the sentence embeddings, which are computed now, unless they were for another sample."""
        return sum(self.embed.time_for(texts) * len(texts) / 1000 for texts in parts)

    def predict(self, unit: dict[str, Any], train: Part, texts: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the predicted values of texts, (n, n_targets), and details."""
        variant = unit["variant"]
        if variant == "mean":
            return np.tile(train.y.mean(axis=0), (len(texts), 1)), {}
        if variant == "tfidf":
            predicted, settings = fit_tfidf(train, texts)
            return predicted, {"settings": settings}
        if variant == "minilm":
            return fit_ridge(self.embed(train.texts), train.y, self.embed(texts)), {}
        if variant == "vectors":
            transform = ULMFiTLanguageModel.load(self.file).transform
            return fit_ridge(transform(train.texts), train.y, transform(texts)), {}
        parameters: dict[str, Any] = {} if variant == "ulmfit" else {"y_range": TASKS[unit["task"]].ends(train.y)}
        if variant == "cross_entropy":
            parameters["loss"] = variant
        model = ULMFiTRegressor(self.file, random_state=unit["seed"], **parameters)
        return model.fit(train.texts, train.y).predict(texts).reshape(len(texts), -1), {}


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print one table for each task and size: means and standard deviations over the samples."""
    whole = [row for row in rows if "limit_test" not in row["unit"]]
    if len(whole) < len(rows):
        print(f"{len(rows) - len(whole)} results on a part of the documents (--limit-test) are omitted.\n")
    for name in TASKS:
        for size in sorted({row["unit"]["size"] for row in whole if row["unit"]["task"] == name}):
            chosen = [row for row in whole if row["unit"]["task"] == name and row["unit"]["size"] == size]
            print_table(f"{name}, {size} training texts", chosen)


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"{title}, {rows[0]['n_scored']} texts of the {rows[0]['unit']['part']} part\n")
    print("| variant | samples | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|" + "---:|" * (1 + len(COLUMNS)))
    for variant in VARIANTS:
        files = {
            row["unit"].get("language_model", {}).get("sha256") for row in rows if row["unit"]["variant"] == variant
        }
        for sha in sorted(files, key=str):
            same = [
                row
                for row in rows
                if row["unit"]["variant"] == variant and row["unit"].get("language_model", {}).get("sha256") == sha
            ]
            label = variant if len(files) == 1 else f"{variant}, {sha[:6]}"
            cells = [cell([row[key] for row in same], 1 if key == "seconds" else 3) for key in COLUMNS]
            print(f"| {label} | {len(same)} | " + " | ".join(cells) + " |")
    print()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DATA", type=Path, nargs="?", help="folder of the sets; not for --table")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--language-model", default="auto", help="pre-trained model: a file, or a name (default: auto)")
    parser.add_argument("--table", action="store_true", help="print the results so far as Markdown and run nothing")
    parser.add_argument("--dev", action="store_true", help="score held-out documents; the test parts are not read")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[500], help="training texts (default: 500)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--peer", type=Path, help="Python with the sentence embeddings of minilm (peers/setup)")
    parser.add_argument("--threads", type=int, help="number of torch threads")
    parser.add_argument("--limit-test", type=int, metavar="N", help="dry run: score the first N texts, for no table")
    options = parser.parse_args()
    if options.folder is None and not options.table:
        parser.error("DATA is missing")
    return options


def main() -> None:
    options = parse()
    if options.table:
        print_tables(read_rows(results_file(options)))
        return
    carry_on(options, lambda: Benchmark(options).run())


if __name__ == "__main__":
    main()
