"""Speed and memory compared with fastai 2.8: the same data, sizes and dropout, measured alternately.

    benchmarks/peers/setup
    python benchmarks/speed.py --reuters PATH_TO/reuters21578 --corpus PATH_TO/english.jsonl.xz [--quick]

Each side (fastai, and this package once for each precision) is a process of its own that answers requests, one JSON
object per line; idle processes wait on a pipe. In every round each side runs once, so that drifts in the speed of the
machine affect all sides. Figures are medians over the rounds. A ratio is the median of the ratios within a round; above 1
this package is better. The percentage is relative to the matrix-product rate of the machine, measured in every round in
float32 and bfloat16. Weights are random, as speed does not depend on them. Neither side clips gradients.

--reuters is a folder with train.jsonl[.xz] (title, body, labels); --corpus is a file of English with one document per
line, as plain text or as JSON with a field "text", also as .xz. Linux only. On a GPU (--device cuda) the training cases
compare this package in 16 bits with fastai in mixed precision (to_fp16):

    python benchmarks/speed.py --device cuda --cases lm-30k,lm-60k,fit --sides fastai,bfloat16 ...
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PEER = "fastai"
DROPOUT_MULTIPLIER, ALPHA, BETA, LR = 0.5, 2.0, 1.0, 1e-3  # of both sides

# ---------------------------------------------------------------------------------------------------------------------
# Shared by both sides: sizes, data and the protocol of a worker. peers/fastai_worker.py imports it from here.


@dataclass(frozen=True)
class Sizes:
    """Sizes of the models and of the work of one round."""

    emb_dim: int = 400
    hidden_dim: int = 1152
    n_layers: int = 3
    vocab: int = 30_000
    large_vocab: int = 60_000
    window: int = 70
    max_length: int = 1_400  # tokens pooled, from the end of a document
    lm_rows: int = 64
    lm_steps: int = 2
    fit_rows: int = 32
    fit_batches: int = 4
    documents: int = 256
    long_documents: tuple[int, int, int] = (8, 2_000, 6_000)  # number, shortest, longest
    raw_documents: int = 3_000
    pool: int = 8_000  # Reuters documents read
    corpus_mb: float = 8.0
    tokenized_mb: float = 4.0
    short_and_long: tuple[int, int] = (2_000, 100_000)  # documents of the memory cases


QUICK = Sizes(
    32, 48, 2, vocab=2_000, large_vocab=4_000, window=20, max_length=400, lm_rows=8, fit_rows=4, fit_batches=2,
    documents=16, long_documents=(2, 200, 600), raw_documents=40, pool=250, corpus_mb=0.3, tokenized_mb=0.1,
    short_and_long=(200, 5_000),
)  # fmt: skip


class Data:
    """The token ids and texts that `collect` wrote, the same for every side."""

    def __init__(self, folder: str, sizes: Sizes, device: str = "cpu"):
        self.folder, self.sizes, self.device = Path(folder), sizes, device

    def strings(self, name: str) -> list[str]:
        """Read words, label_names, texts (of Reuters, in random order) or corpus (to be tokenized)."""
        return json.loads((self.folder / f"{name}.json").read_text(encoding="utf8"))

    def _array(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy")

    def documents(self, n: int | None = None) -> list[np.ndarray]:
        """Return the token ids of the first Reuters texts."""
        ids, offsets = self._array("ids"), self._array("offsets")
        return [ids[a:b] for a, b in zip(offsets[:-1][:n], offsets[1:][:n], strict=True)]

    def cut_documents(self, lengths: Any) -> list[np.ndarray]:
        """Cut documents of the given lengths from the corpus."""
        stream = self._array(f"stream-{self.sizes.vocab}")
        return [stream[:n] for n in lengths]

    def long_documents(self) -> list[np.ndarray]:
        """Cut a few long documents of different lengths from the corpus."""
        n, shortest, longest = self.sizes.long_documents
        return self.cut_documents(np.linspace(shortest, longest, n).astype(int))

    def lm_windows(self, vocab: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return inputs and targets of one round of language-model training, each (rows, window), int64."""
        rows, window, steps = self.sizes.lm_rows, self.sizes.window, self.sizes.lm_steps
        stream = self._array(f"stream-{vocab}").astype(np.int64)
        length = (len(stream) - 1) // rows
        x, y = stream[: rows * length].reshape(rows, -1), stream[1 : rows * length + 1].reshape(rows, -1)
        cuts = [slice(step * window, (step + 1) * window) for step in range(steps)]
        return [(x[:, cut], y[:, cut]) for cut in cuts]

    def tiny_window(self) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs and targets of a small step that creates gradients and optimizer state."""
        return np.full((1, 2), 9), np.full((1, 2), 9)

    def fit_batches(self) -> list[tuple[list[np.ndarray], np.ndarray]]:
        """Return the batches of one round of classifier training, from long documents to short ones.

        As in both packages, documents are sorted by length within a pool of fifty batches, from which a few are taken,
        evenly spaced.
        """
        rows, n = self.sizes.fit_rows, self.sizes.fit_batches
        documents, labels = self.documents(50 * rows), self._array("labels")
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        starts = ((np.arange(n) + 0.5) / n * (len(order) // rows)).astype(int) * rows
        picked = [order[start : start + rows] for start in starts]
        return [([documents[i] for i in batch], labels[batch]) for batch in picked]


def seconds_of(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def megabytes_above(work: Callable[[], Any]) -> float:
    """Return the maximum resident memory while `work` runs, beyond that before it."""

    def resident(field: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def serve(prepare: Callable[[dict[str, Any], Data], Callable[[], dict[str, float]]]) -> None:
    """Answer the parent process: prepare a case, then run rounds of it. Output of libraries goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run_round: Callable[[], dict[str, Any]] | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prepare":
            run_round = None
            gc.collect()  # frees the previous case first
            run_round = prepare(request, Data(request["folder"], Sizes(**request["sizes"]), request["device"]))
            answer: dict[str, Any] = {}
        else:
            answer = run_round()
        print(json.dumps(answer), file=answers, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# This package's side


def prepare_ours(request: dict[str, Any], data: Data) -> Callable[[], dict[str, Any]]:
    """Return the function that runs one round of a case."""
    case, precision, sizes = request["case"], request["side"], data.sizes
    if case in ("tokenize-cold", "tokenize-warm"):
        return tokenize_round(data, warm=case == "tokenize-warm")
    import torch

    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    short, long = sizes.short_and_long
    prepared = {
        "versions": lambda: lambda: {"sk_ulmfit on torch": torch.__version__},
        "rates": lambda: matrix_rates(data.device),
        "write-model": lambda: write_model(data, precision),
        "lm-30k": lambda: timed(*lm_training(data, sizes.vocab, precision), warm_up=True),
        "lm-60k": lambda: timed(*lm_training(data, sizes.large_vocab, precision), warm_up=True),
        "fit": lambda: timed(*classifier_training(data, precision), warm_up=True),
        "fit-head": lambda: head_only_epoch(data, precision),
        "predict": lambda: timed(*prediction(data, data.documents(sizes.documents), precision), warm_up=True),
        "predict-long": lambda: timed(*prediction(data, data.long_documents(), precision), warm_up=True),
        "predict-text": lambda: text_prediction(data, precision),
        "memory-lm": lambda: weighed(lm_training(data, sizes.large_vocab, precision, tiny_step=True)[0]),
        "memory-fit": lambda: weighed(classifier_training(data, precision, tiny_step=True)[0]),
        "memory-short": lambda: weighed(prediction(data, data.cut_documents([short]), precision)[0]),
        "memory-long": lambda: weighed(prediction(data, data.cut_documents([long]), precision)[0]),
        "cold-start": lambda: first_prediction(data, precision),
    }
    return prepared[case]()


def timed(work: Callable[[], Any], units: int, tokens: int, warm_up: bool = False) -> Callable[[], dict[str, float]]:
    if warm_up:
        work()
    return lambda: {"seconds": seconds_of(work), "units": units, "tokens": tokens}


def weighed(work: Callable[[], Any]) -> Callable[[], dict[str, float]]:
    """Return a function that measures the memory of `work` beyond model, gradients and optimizer state."""
    return lambda: {"megabytes": megabytes_above(work)}


def synchronize() -> None:
    """Wait for the GPU, if there is one; otherwise times would be too short."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def our_settings(estimator: Any, precision: str, data: Data, batch_size: int) -> Any:
    """Return the `TrainingSettings` of an estimator class with the parameters of the benchmark."""
    from sk_ulmfit.training.settings import TrainingSettings

    params = {"lr": LR, "dropout_multiplier": DROPOUT_MULTIPLIER, "alpha": ALPHA, "beta": BETA, "gradient_clip": None}
    model = estimator(**params, bptt=data.sizes.window, batch_size=batch_size)
    return TrainingSettings.of(
        model.set_params(precision="auto" if precision == "int8" else precision), seed=0, device=data.device
    )


def our_config(data: Data) -> dict[str, Any]:
    sizes = data.sizes
    encoder = {name: getattr(sizes, name) for name in ("emb_dim", "hidden_dim", "n_layers")}
    pooling = {"bptt": sizes.window, "max_length": sizes.max_length, "batch_size": sizes.fit_rows}
    return {**encoder, **pooling, "language": "en", "label_names": data.strings("label_names")}


def lm_training(data: Data, vocab: int, precision: str, tiny_step: bool = False) -> tuple[Callable[[], None], int, int]:
    """Return language-model training steps and their tokens; measurements of memory need `tiny_step` first."""
    import torch

    from sk_ulmfit import ULMFiTLanguageModel
    from sk_ulmfit.models.assembly import build_language_model
    from sk_ulmfit.training.net import LanguageModelNet, net_arguments

    settings = our_settings(ULMFiTLanguageModel, precision, data, data.sizes.lm_rows)
    module = build_language_model(our_config(data), vocab, DROPOUT_MULTIPLIER)
    options = {**net_arguments(settings), "precision": precision}
    net = LanguageModelNet(module, bptt=settings.bptt, batch_size=settings.batch_size, pad_id=1, **options).initialize()
    windows = [(torch.from_numpy(x.copy()), torch.from_numpy(y.copy())) for x, y in data.lm_windows(vocab)]

    def steps(windows: Any = windows) -> None:
        net.state_ = None
        for ids, targets in windows:
            net.train_step(({"ids": ids, "lengths": torch.full((len(ids),), ids.shape[1])}, targets))
        synchronize()

    if tiny_step:
        steps([tuple(map(torch.from_numpy, data.tiny_window()))])
    tokens = sum(ids.numel() for ids, _ in windows)
    return steps, tokens, tokens


def our_classifier_net(data: Data, precision: str, **more: Any) -> Any:
    """Return the net of a classifier, ready to train."""
    from sk_ulmfit import ULMFiTMultiLabelClassifier
    from sk_ulmfit.models.assembly import build_classifier
    from sk_ulmfit.text.vocabulary import Vocabulary
    from sk_ulmfit.training.net import net_arguments
    from sk_ulmfit.training.prediction import new_net

    settings = our_settings(ULMFiTMultiLabelClassifier, precision, data, data.sizes.fit_rows)
    vocabulary, config = Vocabulary(data.strings("words")), our_config(data)
    module = build_classifier(config, len(vocabulary), DROPOUT_MULTIPLIER)
    options = {**net_arguments(settings), "precision": precision}
    return new_net(module, config, vocabulary, **{**options, **more})


def token_ids(documents: list[np.ndarray]) -> Any:
    from sk_ulmfit.text.vocabulary import TokenIds

    return TokenIds(np.concatenate(documents), np.concatenate([[0], np.cumsum([len(d) for d in documents])]))


def classifier_training(data: Data, precision: str, tiny_step: bool = False) -> tuple[Callable[[], None], int, int]:
    """Return classifier training steps with all layers unfrozen, and their tokens; see `lm_training`."""
    import torch

    from sk_ulmfit.training.batching import pad

    net = our_classifier_net(data, precision).initialize()
    batches = [
        (pad(token_ids(documents), np.arange(len(documents)), 1), torch.from_numpy(y))
        for documents, y in data.fit_batches()
    ]

    def steps(batches: Any = batches) -> None:
        for batch in batches:
            net.train_step(batch)
        synchronize()

    if tiny_step:
        ids, _ = data.tiny_window()
        steps([({"ids": torch.from_numpy(ids), "lengths": torch.tensor([2])}, batches[0][1][:1])])
    tokens = sum(int(x["lengths"].sum()) for x, _ in batches)
    return steps, tokens, tokens


def head_only_epoch(data: Data, precision: str) -> Callable[[], dict[str, float]]:
    """Return a function that times the second epoch of training the head alone.

    The documents are those of `classifier_training`; the features are computed before the first epoch.
    """
    from skorch.callbacks import Callback

    from sk_ulmfit import ULMFiTMultiLabelClassifier
    from sk_ulmfit.models.assembly import build_classifier
    from sk_ulmfit.nn.features import pooled_features
    from sk_ulmfit.text.vocabulary import Vocabulary
    from sk_ulmfit.training.batching import FeatureDataset
    from sk_ulmfit.training.net import HeadNet, fit_net, net_arguments

    class Clock(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            self.seconds = time.perf_counter() - self.start  # finally that of the last epoch

    batches, config = data.fit_batches(), our_config(data)
    corpus = token_ids([document for documents, _ in batches for document in documents])
    settings = our_settings(ULMFiTMultiLabelClassifier, precision, data, data.sizes.fit_rows)
    vocabulary = Vocabulary(data.strings("words"))
    module = build_classifier(config, len(vocabulary), DROPOUT_MULTIPLIER)
    module.to(data.device).eval()
    features = pooled_features(module.encoder, corpus.ids, corpus.offsets, module.max_length, precision=precision)
    dataset = FeatureDataset(features, np.concatenate([y for _, y in batches]))
    clock = Clock()
    options = {**net_arguments(settings), "max_epochs": 2, "callbacks": [("clock", clock)]}
    net = HeadNet(module.head, batch_size=settings.batch_size, pad_id=vocabulary.pad, **options)
    tokens = int(corpus.lengths.sum())

    def run_round() -> dict[str, float]:
        fit_net(net, dataset)
        return {"seconds": clock.seconds, "units": tokens, "tokens": tokens}

    return run_round


def fitted_state(data: Data) -> Any:
    from sk_ulmfit.models.assembly import build_classifier, plain_weights
    from sk_ulmfit.models.state import ModelState
    from sk_ulmfit.text.vocabulary import Vocabulary

    vocabulary, config = Vocabulary(data.strings("words")), our_config(data)
    weights = plain_weights(build_classifier(config, len(vocabulary), 0.0))
    return ModelState("classifier", config, vocabulary, weights)


def prediction(data: Data, documents: list[np.ndarray], precision: str) -> tuple[Callable[[], Any], int, int]:
    """Return prediction from token ids, and the numbers of documents and of tokens."""
    from sk_ulmfit import ULMFiTMultiLabelClassifier
    from sk_ulmfit.training.prediction import network_logits, probabilities, restore_net

    settings = our_settings(ULMFiTMultiLabelClassifier, precision, data, data.sizes.fit_rows)
    net, corpus = restore_net(fitted_state(data), settings), token_ids(documents)
    return lambda: probabilities(network_logits(net, corpus, precision)), len(corpus), int(corpus.lengths.sum())


def model_path(data: Data, precision: str) -> Path:
    return data.folder / f"{precision}.model"


def write_model(data: Data, precision: str) -> Callable[[], dict[str, float]]:
    from sk_ulmfit import ULMFiTMultiLabelClassifier
    from sk_ulmfit.training.fitted import FittedClassifier
    from sk_ulmfit.training.settings import TrainingSettings

    model = ULMFiTMultiLabelClassifier(device="cpu", precision=precision)
    state = fitted_state(data)
    settings = TrainingSettings.of(model, seed=0, device="cpu")
    model._fitted = FittedClassifier.of([state], None, state.config, settings)
    model.save(model_path(data, precision))
    return dict


def text_prediction(data: Data, precision: str) -> Callable[[], dict[str, float]]:
    """Return prediction from raw text, with a loaded classifier."""
    from sk_ulmfit import ULMFiTMultiLabelClassifier

    model = ULMFiTMultiLabelClassifier.load(model_path(data, precision), device="cpu")
    texts = data.strings("texts")[: data.sizes.raw_documents]
    model.predict_proba(texts[:8])
    return timed(lambda: model.predict_proba(texts), len(texts), 0)


def first_prediction(data: Data, precision: str) -> Callable[[], dict[str, float]]:
    """Load and predict; the parent measures the time from the start of this process."""
    from sk_ulmfit import ULMFiTMultiLabelClassifier

    ULMFiTMultiLabelClassifier.load(model_path(data, precision), device="cpu").predict_proba(data.strings("texts")[:1])
    return dict


def tokenize_round(data: Data, warm: bool) -> Callable[[], dict[str, float]]:
    """Return tokenization: the first pass over the texts in this process or, if `warm`, a later one."""
    from sk_ulmfit.text.encoding import encode_texts
    from sk_ulmfit.text.vocabulary import Vocabulary

    texts, vocabulary = data.strings("corpus"), Vocabulary(data.strings("words"))
    encode_texts([""], vocabulary, "en")  # loads the rules of spaCy
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    return timed(lambda: encode_texts(texts, vocabulary, "en"), megabytes, 0, warm_up=warm)


def matrix_rates(device: str) -> Callable[[], dict[str, float]]:
    """Return a function that measures the floating-point operations per second of a large matrix product."""
    import torch

    m, k, n = 4480, 1152, 4608
    pairs = {
        name: (torch.randn(m, k, device=device).to(dtype), torch.randn(k, n, device=device).to(dtype))
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }

    def rate(a: torch.Tensor, b: torch.Tensor) -> float:
        return 2 * m * k * n / min(seconds_of(lambda: (torch.mm(a, b), synchronize())) for _ in range(3))

    return lambda: {name: rate(*pair) for name, pair in pairs.items()}


# ---------------------------------------------------------------------------------------------------------------------
# The parent: cases, rounds, the table


@dataclass(frozen=True)
class Case:
    """What is measured, in which unit, by which sides, and whether each round needs a new process."""

    about: str
    unit: str = "tokens/s"
    flops: tuple[int, str] | None = None  # passes (a backward pass counts as two), and size of the decoder
    int8: bool = False
    peer: bool = True
    fresh: bool = False  # a new process for each round
    most_rounds: int = 1_000
    saved_model: bool = False


CASES = {
    "lm-30k": Case("language-model training, 30,000 words", flops=(3, "vocab")),
    "lm-60k": Case("language-model training, 60,000 words", flops=(3, "large_vocab")),
    "fit": Case("classifier training, all layers", flops=(3, "")),
    "fit-head": Case("classifier training, head only, epoch 2"),
    "predict": Case("prediction from ids, Reuters", "documents/s", flops=(1, ""), int8=True),
    "predict-long": Case("prediction from ids, long documents", "documents/s", flops=(1, ""), int8=True),
    "predict-text": Case("prediction from text, Reuters", "documents/s", int8=True, most_rounds=3, saved_model=True),
    "tokenize-cold": Case("text to ids, first pass", "MB/s", fresh=True),
    "tokenize-warm": Case("text to ids, texts seen before", "MB/s"),
    "memory-lm": Case("memory, language-model training, 60,000 words", "MB", fresh=True, most_rounds=1),
    "memory-fit": Case("memory, classifier training", "MB", fresh=True, most_rounds=1),
    "memory-short": Case("memory, prediction, 2,000 tokens", "MB", int8=True, peer=False, fresh=True, most_rounds=1),
    "memory-long": Case("memory, prediction, 100,000 tokens", "MB", int8=True, peer=False, fresh=True, most_rounds=1),
    "cold-start": Case("new process: import, load, predict", "s", int8=True, fresh=True, saved_model=True),
}
ONE_PRECISION = ("tokenize-cold", "tokenize-warm")  # without arithmetic
LOWER_IS_BETTER = ("MB", "s")


class WorkerError(Exception):
    """A worker ended without an answer."""


class Worker:
    """A process that prepares cases and runs rounds."""

    def __init__(self, side: str, options: argparse.Namespace, sizes: Sizes, folder: str):
        command = [sys.executable, __file__, "--worker"]
        if side == PEER:
            command = [str(options.peer), str(HERE / "peers" / "fastai_worker.py")]
        threads = str(options.threads)
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": str(HERE)}
        environment["PYTHONWARNINGS"] = "ignore"
        self.common = {"side": side, "folder": folder, "sizes": dataclasses.asdict(sizes)}
        self.common |= {"threads": options.threads, "device": options.device}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def prepare(self, case: str) -> None:
        """Load a case and warm it up."""
        self._ask(do="prepare", case=case, **self.common)

    def round(self) -> dict[str, Any]:
        """Run one round of the case prepared."""
        return self._ask(do="round")

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            print(json.dumps(request), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            self.process.wait()
            raise WorkerError from None

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """The workers and their rounds."""

    def __init__(self, options: argparse.Namespace, sizes: Sizes, folder: str, sides: list[str]):
        self.options, self.sizes, self.folder, self.sides = options, sizes, folder, sides
        self.workers: dict[str, Worker] = {}

    def new_worker(self, side: str) -> Worker:
        """Start a process for a side."""
        return Worker(side, self.options, self.sizes, self.folder)

    def worker(self, side: str) -> Worker:
        """Return the worker of a side; start it if it does not run."""
        if side not in self.workers or self.workers[side].process.poll() is not None:
            self.workers[side] = self.new_worker(side)
        return self.workers[side]

    def once(self, side: str, case: str) -> dict[str, Any]:
        """Prepare a case and run it once."""
        self.worker(side).prepare(case)
        return self.worker(side).round()

    def fresh_round(self, side: str, name: str) -> dict[str, Any]:
        """Run one round in a new process, and time its start too."""
        start = time.perf_counter()
        worker = self.new_worker(side)
        try:
            worker.prepare(name)
            ready = time.perf_counter() - start
            return {"ready": ready, **worker.round()}
        finally:
            worker.close()

    def run(self, name: str) -> dict[str, Any]:
        """Run the rounds of a case, without the sides that fail."""
        case, found, rates = CASES[name], {}, []
        for side in self.sides_of(name):
            try:
                if case.saved_model:
                    self.once(side, "write-model")
                if not case.fresh:
                    self.worker(side).prepare(name)
                found[side] = []
            except WorkerError:
                print(f"{name}: {side} failed", file=sys.stderr)
        if case.flops:
            self.worker("rates").prepare("rates")
        n_rounds = min(self.options.rounds, case.most_rounds)
        for number in range(n_rounds):
            for side in list(found):
                time.sleep(0.3)  # until the threads of the previous side stop spinning
                try:
                    answer = self.fresh_round(side, name) if case.fresh else self.worker(side).round()
                    found[side].append(figure(case, answer))
                except WorkerError:
                    print(f"{name}: {side} failed", file=sys.stderr)
                    del found[side]
            if case.flops:
                rates.append(self.worker("rates").round())
            line = ", ".join(f"{side} {plain(figures[-1]['value'])}" for side, figures in found.items())
            print(f"{name} {number + 1}/{n_rounds}: {line} {case.unit}", file=sys.stderr, flush=True)
        return self.summary(name, found, rates)

    def sides_of(self, name: str) -> list[str]:
        """Return the sides that take part in a case."""
        case = CASES[name]
        ours = [side for side in self.sides if side != PEER and (case.int8 or side != "int8")]
        ours = ours[:1] if name in ONE_PRECISION else ours
        return [PEER] * (case.peer and PEER in self.sides) + ours

    def summary(self, name: str, found: dict[str, Any], rates: list[dict[str, float]]) -> dict[str, Any]:
        """Compute medians, and ratios within rounds."""
        case = CASES[name]
        result: dict[str, Any] = {"case": name, "about": case.about, "unit": case.unit, "rates": rates, "sides": {}}
        for side, figures in found.items():
            values = [row["value"] for row in figures]
            entry = {"median": median(values), "rounds": values}
            if side != PEER and PEER in found:
                pairs = zip(values, (row["value"] for row in found[PEER]), strict=True)
                ratios = [b / a if case.unit in LOWER_IS_BETTER else a / b for a, b in pairs]
                entry |= {"ratio": median(ratios), "lowest": min(ratios), "highest": max(ratios)}
            if case.flops and side != "int8":
                kind = "bfloat16" if side == "bfloat16" else "float32"
                work = flops_per_token(self.sizes, *case.flops)
                shares = [row["tokens_per_s"] * work / rate[kind] for row, rate in zip(figures, rates, strict=True)]
                entry["share"] = median(shares)
            result["sides"][side] = entry
        return result


def figure(case: Case, answer: dict[str, float]) -> dict[str, float]:
    """Return the figure of a case, from the answer of a worker."""
    if case.unit == "MB":
        return {"value": answer["megabytes"]}
    if case.unit == "s":
        return {"value": answer["ready"]}
    return {
        "value": answer["units"] / answer["seconds"],
        "tokens_per_s": answer["tokens"] / answer["seconds"],
    }


def flops_per_token(sizes: Sizes, passes: int, vocab: str) -> int:
    """Count the operations of the matrix products: four gates of each LSTM layer, and the decoder."""
    widths = [sizes.emb_dim, *[sizes.hidden_dim] * (sizes.n_layers - 1), sizes.emb_dim]
    layers = sum(2 * 4 * b * (a + b) for a, b in itertools.pairwise(widths))
    return passes * (layers + (2 * sizes.emb_dim * getattr(sizes, vocab) if vocab else 0))


def plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(results: list[dict[str, Any]], sides: list[str]) -> Iterator[str]:
    """Yield the lines of the Markdown table."""
    yield "| case | unit | " + " | ".join(sides) + " |"
    yield "|---|---|" + "---|" * len(sides)
    for row in results:
        cells = [cell(row["sides"].get(side)) for side in sides]
        yield f"| {row['case']}: {row['about']} | {row['unit']} | " + " | ".join(cells) + " |"


def cell(entry: dict[str, float] | None) -> str:
    if entry is None:
        return "–"
    text = plain(entry["median"])
    if "ratio" in entry:
        text += f" **×{entry['ratio']:.2f}**"
    if entry.get("lowest") != entry.get("highest"):
        text += f" ({entry['lowest']:.2f} to {entry['highest']:.2f})"
    return text + (f", {entry['share']:.0%}" if "share" in entry else "")


def collect(options: argparse.Namespace, sizes: Sizes, folder: str) -> None:
    """Read the texts, make the vocabularies, and write the files of `Data`."""
    from reuters import read

    from sk_ulmfit.text.tokenizer import tokenize_corpus
    from sk_ulmfit.text.vocabulary import Vocabulary

    def write(name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            np.save(Path(folder, f"{name}.npy"), value)
        else:
            Path(folder, f"{name}.json").write_text(json.dumps(value), encoding="utf8")

    texts, labels = read(options.reuters, "train")
    order = np.random.default_rng(0).permutation(len(texts))[: sizes.pool]
    texts, labels = [texts[i] for i in order], [labels[i] for i in order]
    names = sorted(set().union(*labels))
    corpus = read_corpus(options.corpus, sizes.corpus_mb)
    tokens, words = tokenize_corpus([*texts, *corpus])
    counts = np.bincount(tokens.ids)
    for size in (sizes.large_vocab, sizes.vocab):
        vocabulary = Vocabulary.from_counts(words, counts, max_size=size, min_frequency=1)
        ids = tokens.map_ids(vocabulary.lookup(words))
        write(f"stream-{size}", ids.take(np.arange(len(texts), len(ids))).ids)
    write("ids", ids.ids)
    write("offsets", ids.offsets[: len(texts) + 1])
    write("labels", np.array([[name in row for name in names] for row in labels], np.float32))
    write("words", vocabulary.words)
    write("label_names", names)
    write("texts", texts)
    write("corpus", read_corpus(options.corpus, sizes.tokenized_mb))


def read_corpus(path: Path, megabytes: float) -> list[str]:
    texts: list[str] = []
    n_bytes = 0
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf8") as file:
        for line in file:
            text = json.loads(line)["text"] if ".jsonl" in path.suffixes else line.strip()
            texts.append(text)
            n_bytes += len(text.encode())
            if n_bytes >= megabytes * 1e6:
                break
    return texts


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reuters", type=Path, required=True, metavar="FOLDER", help="folder with train.jsonl[.xz]")
    parser.add_argument("--corpus", type=Path, required=True, metavar="FILE", help="English, one document per line")
    parser.add_argument("--peer", type=Path, default=HERE / "peers/.venv/bin/python", metavar="PYTHON")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated cases (default: all)")
    parser.add_argument("--sides", help="comma-separated, of fastai,float32,bfloat16,int8 (default: all)")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default 5, with --quick 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="device of the training cases")
    parser.add_argument("--documents", type=int, help="documents of predict-text (default 3000, with --quick 40)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that everything runs")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    options.cases = options.cases.split(",")
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"unknown cases: {', '.join(sorted(unknown))}; the cases are {', '.join(CASES)}")
    return options


def main() -> None:
    options = parse()
    sides = [PEER, "float32", "bfloat16", "int8"]
    if options.sides:
        sides = [side for side in sides if side in options.sides.split(",")]
    if PEER in sides and not options.peer.exists():
        sys.exit(f"{options.peer} does not exist; run benchmarks/peers/setup, or pass a Python with fastai to --peer.")
    sizes = QUICK if options.quick else Sizes()
    options.rounds = options.rounds or (1 if options.quick else 5)
    if options.documents:
        sizes = dataclasses.replace(sizes, raw_documents=options.documents)
    with tempfile.TemporaryDirectory() as folder:
        collect(options, sizes, folder)
        bench = Bench(options, sizes, folder, sides)
        versions = {k: v for side in sides[:2] for k, v in bench.once(side, "versions").items()}
        results = [bench.run(name) for name in options.cases]
        for worker in bench.workers.values():
            worker.close()
    rates = {kind: [rate[kind] / 1e9 for row in results for rate in row["rates"]] for kind in ("float32", "bfloat16")}
    machine = ", ".join(f"{kind} {median(values):.0f} GFLOP/s" for kind, values in rates.items() if values)
    print("; ".join(f"{name} {version}" for name, version in versions.items()), f"; {options.threads} threads", sep="")
    print(f"matrix products: {machine or 'not measured'}\n")
    print("\n".join(table(results, sides)))
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "rates": rates, "results": results}, indent=1))


if __name__ == "__main__":
    serve(prepare_ours) if "--worker" in sys.argv else main()
