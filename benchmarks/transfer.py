"""What pre-training is worth: few labelled documents, with and without a pre-trained language model.

    python benchmarks/transfer.py DATA --language-model auto --out results/transfer
    python benchmarks/transfer.py --out results/transfer --table
    python benchmarks/transfer.py DATA --sets goemotions --sizes 500 full --variants vectors default --out results/new

DATA holds reuters21578/{train,test}, goemotions/{train,dev,test} and arxiv_cs/{train,dev,test}, each as .jsonl or
.jsonl.xz, one object per line with text fields and labels. On each set, for 100, 500 and 2,000 training documents and
three samples of each size, some of these variants are trained and scored, by default the first four:

    svm         TF-IDF and one linear SVM per label, tuned by cross-validation on the sample
    scratch     ULMFiT from random weights, with the sizes of the pre-trained model
    pretrained  ULMFiT on the pre-trained encoder, without fine-tuning of the language model
    finetuned   ULMFiT on the encoder after fine-tuning of the language model on all training texts, without labels
    default     ULMFiT on the pre-trained model with no other argument; the other training texts are `unlabelled_texts`
    vectors     vectors of the pre-trained model as it is (`transform`), one logistic regression per label
    minilm      sentence embeddings (all-MiniLM-L6-v2), the same logistic regressions; needs --peer PYTHON

The strength of the logistic regressions is chosen by cross-validation on the sample. For these three variants no thresholds
are tuned. By default ULMFiT averages its network with a linear model; the network alone has a column of its own.

Every finished unit of work is one line of OUT/results.jsonl and is not repeated, so a run can be stopped and resumed at
any time. With --dev, which is for choosing settings, held-out documents are scored, the test parts are not read, and the
lines go to OUT/dev.jsonl.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from document_sets import SETS, WITHOUT_DEV, Part, load, sample
from measures import best_thresholds, macro_f1, mean_average_precision, micro_f1, network_alone
from result_rows import append, carry_on, cell, find, read_rows, results_file
from sentence_embeddings import Embedder
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, __version__
from sk_ulmfit.models.state import ModelFileError
from sk_ulmfit.nn.device import resolve_device

# Increased when the training of the classifier changes, so that older rows are kept apart.
RECIPE = 3
# Settings of the classifier, by maximum number of training documents.
BY_SIZE: dict[float, dict[str, Any]] = {
    100: {"max_epochs": 20, "batch_size": 16},
    500: {"max_epochs": 12, "batch_size": 32},
    2_000: {"max_epochs": 6, "batch_size": 32},
    math.inf: {"max_epochs": 5, "batch_size": 64},
}
CLASSIFIER = {"scratch": BY_SIZE, "pretrained": BY_SIZE, "finetuned": BY_SIZE}
# Settings of language-model fine-tuning, by set.
LANGUAGE_MODEL = {"reuters": {"max_epochs": 3}, "goemotions": {"max_epochs": 3}, "arxiv": {"max_epochs": 2}}

SIZES = (100, 500, 2_000)
SEEDS = (0, 1, 2)
USUAL = ("svm", "scratch", "pretrained", "finetuned")
ON_VECTORS = ("vectors", "minilm")
VARIANTS = (*USUAL, "default", *ON_VECTORS)

GRID = {
    "tfidf__ngram_range": [(1, 1), (1, 2)],
    "tfidf__min_df": [1, 2],
    "svm__estimator__C": [0.1, 0.3, 1, 3, 10],
    "svm__estimator__class_weight": [None, "balanced"],
}
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # C of the logistic regressions
GRID_FULL = {**GRID, "svm__estimator__C": [0.1, 0.3, 1, 3]}
LARGEST = 30.0  # log-odds of a label that all training documents have, or none
NEVER = -1e6  # decision of the SVM on a label that no training document has

COLUMNS = {
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "micro_f1_tuned": "micro F1, tuned",
    "macro_f1_tuned": "macro F1, tuned",
    "map": "mAP",
    "map_network": "mAP, network alone",
    "seconds": "seconds",
}


# Models


def fit_svm(train: Part, texts: list[str], seed: int, grid: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict]:
    """Tune an SVM for micro F1 and one for mean average precision; return their margins on `texts` and settings."""
    pipeline = Pipeline(
        [("tfidf", TfidfVectorizer(sublinear_tf=True)), ("svm", OneVsRestClassifier(LinearSVC(random_state=seed)))]
    )
    scorers = {
        "f1": make_scorer(micro_f1),
        "map": make_scorer(mean_average_precision, response_method="decision_function"),
    }
    search = GridSearchCV(pipeline, grid, scoring=scorers, refit=False, cv=KFold(3), error_score="raise")
    results = search.fit(train.texts, train.y).cv_results_
    best = {name: results["params"][results[f"mean_test_{name}"].argmax()] for name in scorers}
    scores = svm_scores(pipeline.set_params(**best["f1"]), train, texts)
    ranking = scores if best["map"] == best["f1"] else svm_scores(pipeline.set_params(**best["map"]), train, texts)
    settings = {name: {key.split("__")[-1]: value for key, value in best[name].items()} for name in best}
    return scores, ranking, {"settings": settings}


def svm_scores(pipeline: Pipeline, train: Part, texts: list[str]) -> np.ndarray:
    scores = pipeline.fit(train.texts, train.y).decision_function(texts)
    scores[:, ~train.y.any(axis=0)] = NEVER  # scikit-learn has 0, more than for a label that is rejected
    return scores


def fit_logistic(x: np.ndarray, y: np.ndarray, x_scored: np.ndarray) -> tuple[np.ndarray, float]:
    """Return log-odds of a logistic regression per label, and the C whose out-of-fold mean average precision is best."""

    def out_of_fold(strength: float) -> float:
        margins = np.empty(y.shape)
        for train, held_out in KFold(4, shuffle=True, random_state=0).split(x):
            margins[held_out] = logistic_margins(x[train], y[train], x[held_out], strength)
        return mean_average_precision(y, margins)

    best = max(STRENGTHS, key=out_of_fold)
    return logistic_margins(x, y, x_scored, best), best


def logistic_margins(x: np.ndarray, y: np.ndarray, x_scored: np.ndarray, strength: float) -> np.ndarray:
    margins = np.full((len(x_scored), y.shape[1]), -LARGEST)
    for label, column in enumerate(y.T):
        if column.all():
            margins[:, label] = LARGEST
        elif column.any():
            model = LogisticRegression(C=strength, max_iter=1000).fit(x, column)
            margins[:, label] = model.decision_function(x_scored)
    return margins


def language_model_file(name: str) -> Path:
    """Return the file of a language model, given by its path or its name in the package."""
    if Path(name).is_file():
        return Path(name)
    try:
        file = ULMFiTLanguageModel(name, max_epochs=0).fit(["A few words."]).pretrained_
    except ModelFileError as error:
        raise SystemExit(f"--language-model: {error}") from None
    if file is None:
        raise SystemExit(f"This installation has no pre-trained model {name!r}; pass --language-model FILE.")
    return Path(file)


def describe_language_model(path: Path) -> dict[str, Any]:
    """Return the name, fingerprint and sizes of a language model."""
    with path.open("rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    config = ULMFiTLanguageModel.load(path).state_.config
    sizes = {name: config[name] for name in ("emb_dim", "hidden_dim", "n_layers", "language")}
    return {"name": path.name, "sha256": fingerprint, **sizes}


# Units of work


class Benchmark:
    """Options, data, language models and results, shared by the units of work."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.results = results_file(options)
        self.parts: dict[str, tuple[Part, Part]] = {}
        self.embed = Embedder(options.peer, options.out, torch.get_num_threads())

    @cached_property
    def file(self) -> Path:
        """File of the pre-trained language model."""
        return language_model_file(self.options.language_model)

    @cached_property
    def language_model(self) -> dict[str, Any]:
        """What identifies the pre-trained language model."""
        return describe_language_model(self.file)

    def data(self, name: str) -> tuple[Part, Part]:
        """Return the documents of a set to train on and to score."""
        if name not in self.parts:
            train, scored = load(self.options.folder, name, self.options.dev)
            n = self.options.limit_test
            self.parts[name] = train, scored if n is None else scored.take(range(min(n, len(scored))))
        return self.parts[name]

    def run(self) -> None:
        """Do the units that are not done yet, in the order of `units`."""
        order = units(self.options)
        for name in dict.fromkeys(name for name, _, variant, _ in order if variant == "finetuned"):
            self.finetuning_notes(name)  # an error now, not after hours
        for name, size, variant, seed in order:
            unit = self.unit("score", name, size, variant, seed)
            if find(self.results, unit) is None:
                self.score(unit, self.thresholds(name, size, variant) if variant in USUAL else None)

    def unit(self, kind: str, name: str, size: int | str, variant: str, seed: int) -> dict[str, Any]:
        """Return everything that a unit of work depends on, as its key in the results."""
        part = "dev" if self.options.dev else "test"
        unit = {"kind": kind, "set": name, "part": part, "size": size, "variant": variant, "seed": seed}
        if kind == "score" and self.options.limit_test is not None:
            unit["limit_test"] = self.options.limit_test
        if variant in ("svm", "minilm"):
            return unit
        if variant == "vectors":
            return {**unit, "language_model": self.language_model}
        unit["recipe"] = RECIPE
        if variant == "default":
            return {**unit, "clf": self.options.clf, "language_model": self.language_model}
        by_size = CLASSIFIER[variant]
        n = math.inf if size == "full" else size
        unit["clf"] = {**by_size[min(most for most in by_size if n <= most)], **self.options.clf}
        unit["language_model"] = self.language_model
        if variant == "scratch":
            unit["language_model"] = {k: v for k, v in self.language_model.items() if k not in ("name", "sha256")}
        if variant == "finetuned":
            unit["lm"] = {**LANGUAGE_MODEL[name], **self.options.lm}
        return unit

    def thresholds(self, name: str, size: int | str, variant: str) -> dict[str, float]:
        """Return thresholds chosen on a fifth of the first sample, with a model trained on the rest."""
        unit = self.unit("threshold", name, size, variant, 0)
        row = find(self.results, unit)
        if row is None:
            documents = sample(self.data(name)[0], size, 0)
            rows = np.arange(len(documents))
            train, held_out = np.split(rows, [int(0.8 * len(rows))])
            outputs, details = self.train(unit, documents.take(train), documents.take(held_out).texts)
            thresholds = best_thresholds(documents.y[held_out], outputs["scores"])
            row = self.finish(unit, {"thresholds": thresholds, **details})
        return row["thresholds"]

    def score(self, unit: dict[str, Any], thresholds: dict[str, float] | None) -> None:
        """Train one classifier and score it, with tuned thresholds too if there are any."""
        train, scored = self.data(unit["set"])
        outputs, details = self.train(unit, sample(train, unit["size"], unit["seed"]), scored.texts)
        scores = outputs["scores"]
        usual = 0.0 if unit["variant"] in ("svm", *ON_VECTORS) else 0.5
        figures = {
            "micro_f1": micro_f1(scored.y, scores >= usual),
            "macro_f1": macro_f1(scored.y, scores >= usual),
            "map": mean_average_precision(scored.y, outputs["ranking"]),
        }
        if thresholds is not None:
            figures["micro_f1_tuned"] = micro_f1(scored.y, scores >= thresholds["micro"])
            figures["macro_f1_tuned"] = macro_f1(scored.y, scores >= thresholds["macro"])
            details["thresholds"] = thresholds
        if "network" in outputs:
            figures["map_network"] = mean_average_precision(scored.y, outputs["network"])
        self.finish(unit, {**figures, "n_scored": len(scored), **details})

    def train(self, unit: dict[str, Any], train: Part, texts: list[str]) -> tuple[dict[str, np.ndarray], dict]:
        """Train on some documents; return scores for decisions and for ranking, and details."""
        variant, details = unit["variant"], {}
        if variant in ON_VECTORS:
            return self.train_on_vectors(variant, train, texts)
        if variant == "default":
            return self.train_default(unit, train, texts)
        if variant == "finetuned":
            language_model, details["lm_seconds"] = self.finetuned(unit["set"])
        elif variant == "scratch":
            language_model = ULMFiTLanguageModel(None, **unit["language_model"])
        elif variant == "pretrained":
            language_model = self.file
        start = time.perf_counter()
        if variant == "svm":
            grid = GRID_FULL if unit["size"] == "full" else GRID
            scores, ranking, details = fit_svm(train, texts, unit["seed"], grid)
            details["seconds"] = time.perf_counter() - start
            return {"scores": scores, "ranking": ranking}, details
        settings = {"lm_epochs": 0, "random_state": unit["seed"], "verbose": verbose(), **unit["clf"]}
        clf = ULMFiTMultiLabelClassifier(language_model, **settings).fit(train.texts, train.y)
        proba = clf.predict_proba(texts)
        details["seconds"] = time.perf_counter() - start
        return {"scores": proba, "ranking": proba, "network": network_alone(clf, texts)}, details

    def train_default(self, unit: dict[str, Any], train: Part, texts: list[str]) -> tuple[dict[str, np.ndarray], dict]:
        """Train the classifier with no other argument; the rest of the training texts has no labels."""
        labelled = set(train.texts)
        others = [text for text in self.data(unit["set"])[0].texts if text not in labelled] or None
        start = time.perf_counter()
        clf = ULMFiTMultiLabelClassifier(self.file, random_state=unit["seed"], verbose=verbose(), **unit["clf"])
        proba = clf.fit(train.texts, train.y, unlabelled_texts=others).predict_proba(texts)
        seconds = time.perf_counter() - start
        return {"scores": proba, "ranking": proba, "network": network_alone(clf, texts)}, {"seconds": seconds}

    def train_on_vectors(self, variant: str, train: Part, texts: list[str]) -> tuple[dict[str, np.ndarray], dict]:
        """Train logistic regressions on frozen vectors; the seconds include those of the vectors of all texts."""
        start = time.perf_counter()
        embed = ULMFiTLanguageModel.load(self.file).transform if variant == "vectors" else self.embed
        x, x_scored = embed(train.texts), embed(texts)
        if variant == "minilm":  # computed once, for all samples
            seconds = (
                self.embed.time_for(train.texts) * len(train) / 1000 + self.embed.time_for(texts) * len(texts) / 1000
            )
            start = time.perf_counter() - seconds
        margins, strength = fit_logistic(x, train.y, x_scored)
        details = {"seconds": time.perf_counter() - start, "settings": {"C": strength}}
        return {"scores": margins, "ranking": margins}, details

    def finish(self, unit: dict[str, Any], figures: dict[str, Any]) -> dict[str, Any]:
        """Save and print the result of a unit of work."""
        machine = {
            "version": __version__,
            "device": resolve_device(self.options.clf.get("device", "auto")),
            "threads": torch.get_num_threads(),
        }
        row = {"unit": unit, **figures, **machine}
        append(self.results, row)
        is_score = unit["kind"] == "score"
        values = {key: figures[key] for key in COLUMNS if key in figures} if is_score else figures["thresholds"]
        shown = ", ".join(f"{key} {value:.3f}" for key, value in values.items() if key != "seconds")
        print(f"{headline(unit)}: {shown}, {figures['seconds']:.0f} s", flush=True)
        return row

    # The language model fine-tuned on all training texts of a set

    def finetuned_file(self, name: str) -> Path:
        """Return the file of the fine-tuned model; the name has a fingerprint of the settings of --lm."""
        held_out = "-dev" if self.options.dev and name in WITHOUT_DEV else ""
        settings = json.dumps(self.options.lm, sort_keys=True).encode()
        changed = f"-{hashlib.sha256(settings).hexdigest()[:8]}" if self.options.lm else ""
        return self.options.out / f"lm-{name}{held_out}{changed}.safetensors"

    def finetuning_notes(self, name: str) -> dict[str, Any] | None:
        """Return the notes on the fine-tuned model of a set, or None; raise SystemExit if its settings differ."""
        path = self.finetuned_file(name)
        notes = path.with_suffix(".json")
        if not path.exists() or not notes.exists():
            return None
        saved = json.loads(notes.read_text(encoding="utf8"))
        if saved["made_with"] != self.made_with(name):
            raise SystemExit(
                f"{path} was made with other settings, {json.dumps(saved['made_with'])}, than the current ones, "
                f"{json.dumps(self.made_with(name))}. Move it away, or pass another --out."
            )
        return saved

    def made_with(self, name: str) -> dict[str, Any]:
        """Return what the fine-tuned language model of a set depends on."""
        return {"language_model": self.language_model, "lm": {**LANGUAGE_MODEL[name], **self.options.lm}}

    def finetuned(self, name: str) -> tuple[ULMFiTLanguageModel, float]:
        """Return the fine-tuned language model of a set, trained now if necessary, and the seconds this took."""
        path, notes = self.finetuned_file(name), self.finetuning_notes(name)
        if notes is None:
            texts = self.data(name)[0].texts
            made_with = self.made_with(name)
            settings = {"random_state": 0, "verbose": verbose(), **made_with["lm"]}
            start = time.perf_counter()
            model = ULMFiTLanguageModel(self.file, **settings).fit(texts)
            seconds = time.perf_counter() - start
            model.save(path)
            notes = {"made_with": made_with, "texts": len(texts), "seconds": seconds, "history": model.history_}
            path.with_suffix(".json").write_text(json.dumps(notes, indent=1), encoding="utf8")
            print(f"language model of {name}: fine-tuned on {len(texts)} texts, {seconds:.0f} s", flush=True)
        return ULMFiTLanguageModel.load(path), notes["seconds"]


def units(options: argparse.Namespace) -> list[tuple[str, int | str, str, int]]:
    """Return set, size, variant and seed of all units to score: small samples first, for each size the SVM first."""
    order = []
    for size in sorted(options.sizes, key=lambda size: math.inf if size == "full" else size):
        rounds = [(("svm",), seed) for seed in options.seeds]
        rounds += [(VARIANTS[1:], seed) for seed in options.seeds]
        order += [(name, size, variant, seed) for group, seed in rounds for variant in group for name in options.sets]
    if options.full and "reuters" in options.sets:
        order += [("reuters", "full", variant, options.seeds[0]) for variant in VARIANTS]
    return [unit for unit in order if unit[2] in options.variants]


def verbose() -> int:
    return int(sys.stderr.isatty())


# Results


def headline(unit: dict[str, Any]) -> str:
    limited = f" (first {unit['limit_test']} documents only)" if "limit_test" in unit else ""
    what = "thresholds" if unit["kind"] == "threshold" else f"seed {unit['seed']}{limited}"
    return f"{unit['set']} {unit['size']} {unit['variant']} {what}"


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print one table for each set, with one row for each combination of settings."""
    scored = [row for row in rows if row["unit"]["kind"] == "score"]
    whole = [row for row in scored if "limit_test" not in row["unit"]]
    if len(whole) < len(scored):
        print(f"{len(scored) - len(whole)} results on a part of the documents (--limit-test) are omitted.\n")
    for name in SETS:
        groups: dict[tuple, list[dict[str, Any]]] = {}
        for row in whole:
            unit = row["unit"]
            if unit["set"] == name:
                key = (unit["size"], unit["variant"], json.dumps(settings_of(unit), sort_keys=True))
                groups.setdefault(key, []).append(row)
        if groups:
            print_table(name, dict(sorted(groups.items(), key=place)))


def place(group: tuple[tuple, list]) -> tuple:
    size, variant, settings = group[0]
    return math.inf if size == "full" else size, VARIANTS.index(variant), settings


def print_table(name: str, groups: dict[tuple, list[dict[str, Any]]]) -> None:
    first = next(iter(groups.values()))[0]
    print(f"{name}, {first['n_scored']} documents of the {first['unit']['part']} part\n")
    print("| training documents | variant | seeds | " + " | ".join(COLUMNS.values()) + " |")
    print("|---|---|" + "---:|" * (1 + len(COLUMNS)))
    digits = {column: 0 if column == "seconds" else 3 for column in COLUMNS}
    for (size, variant, settings), rows in groups.items():
        siblings = [json.loads(key[2]) for key in groups if key[:2] == (size, variant)]
        label = ", ".join([variant, *differences(json.loads(settings), siblings)])
        cells = [cell([row[column] for row in rows if column in row], digits[column]) for column in COLUMNS]
        print(f"| {size} | {label} | {len(rows)} | " + " | ".join(cells) + " |")
    print()


def settings_of(unit: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a unit in one dict, with keys such as ``clf.lr``."""
    parts = {part: unit.get(part, {}) for part in ("clf", "language_model", "lm")}
    settings = {f"{part}.{key}": value for part, settings in parts.items() for key, value in settings.items()}
    return {**settings, "recipe": unit.get("recipe")}


def differences(settings: dict[str, Any], siblings: list[dict[str, Any]]) -> list[str]:
    """Return the settings that differ between siblings."""
    keys = sorted({key for sibling in siblings for key in sibling})
    return [f"{key}={settings.get(key)}" for key in keys if any(s.get(key) != settings.get(key) for s in siblings)]


# Command line


def size_of(value: str) -> int | str:
    return value if value == "full" else int(value)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DATA", type=Path, nargs="?", help="folder of the sets; not for --table")
    parser.add_argument("--out", type=Path, required=True, help="folder of results and fine-tuned language models")
    parser.add_argument("--language-model", default="auto", help="pre-trained model: a file, or a name (default: auto)")
    parser.add_argument("--table", action="store_true", help="print the results so far as Markdown and run nothing")
    parser.add_argument("--dev", action="store_true", help="score held-out documents; the test parts are not read")
    parser.add_argument("--full", action="store_true", help="also Reuters with all its training documents, one seed")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--sizes", nargs="*", type=size_of, default=list(SIZES), help="numbers, or full")
    parser.add_argument("--peer", type=Path, help="Python with the sentence embeddings of minilm (peers/setup)")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(USUAL))
    parser.add_argument("--clf", type=json.loads, default={}, help="parameters of the classifier, as JSON")
    parser.add_argument("--lm", type=json.loads, default={}, help="parameters of the language model's fine-tuning")
    parser.add_argument("--threads", type=int, help="number of torch threads")
    parser.add_argument(
        "--limit-test",
        type=int,
        metavar="N",
        help="dry run: score the first N documents; such results are marked and omitted from the tables",
    )
    options = parser.parse_args()
    if options.folder is None and not options.table:
        parser.error("DATA is missing")
    try:
        ULMFiTMultiLabelClassifier().set_params(**options.clf)
        ULMFiTLanguageModel().set_params(**options.lm)
    except (TypeError, ValueError) as error:
        parser.error(f"--clf and --lm take parameters as a JSON object: {error}")
    return options


def main() -> None:
    options = parse()
    if options.table:
        print_tables(read_rows(results_file(options)))
        return
    carry_on(options, lambda: Benchmark(options).run())


if __name__ == "__main__":
    main()
