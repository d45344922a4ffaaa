"""What to expect of many machines: throughput, efficiency and cost, from rates of one and a model of the rest.

Prints the tables of docs/guide/many-machines.md. Every number that goes in is an option, so that you can put in what
you have measured and what you pay:

    python benchmarks/scaling_model.py --gpu-tokens 600000 --gpu-price 2.5 --node-link 25
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

N_GPUS, N_WORKERS = (1, 8, 64), (1, 10, 100)
GROWTH = 0.65  # of the number of distinct words with the number of words
WORDS_OF_STEP = 1_500  # distinct, of 4,480 tokens


@dataclass(frozen=True)
class Link:
    """Between processes: bytes a second that one of them sends, and seconds before a message arrives."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Network:
    """Links within a machine of `per_machine` processes, and between machines."""

    inside: Link
    between: Link
    per_machine: int

    def link(self, n: int) -> Link:
        """Return the slowest link among n processes."""
        return self.inside if n <= self.per_machine else self.between


@dataclass(frozen=True)
class Gradient:
    """What a step exchanges: bytes of the layers, and rows of the embedding, those that some process has used.

    `n_drawn` rows are the same in all processes; each process uses `n_used` others, and n processes use n to the power
    of 0.65 times as many (Heaps' law).
    """

    layers: float
    bytes_of_row: float
    n_words: int
    n_drawn: int
    n_used: int

    def n_bytes(self, n: int) -> float:
        """Return the bytes that n processes add up."""
        rows = min(self.n_words, self.n_drawn + self.n_used * n**GROWTH)
        return self.layers + rows * self.bytes_of_row


@dataclass(frozen=True)
class Training:
    """Tokens a second of one process, and tokens of one of its steps."""

    rate: float
    tokens_of_step: int
    gradient: Gradient


def all_reduce_seconds(n_bytes: float, n: int, link: Link) -> float:
    """Return how long a ring takes to add up arrays: each process sends 2 (n - 1) / n of the bytes."""
    return 2 * (n - 1) / n * n_bytes / link.bandwidth + 2 * (n - 1) * link.latency


def exchange_seconds(gradient: Gradient, n: int, link: Link) -> float:
    """Return how long n processes take to add up the gradients of a step."""
    return all_reduce_seconds(gradient.n_bytes(n), n, link)


def efficiency(training: Training, n: int, network: Network) -> float:
    """Return the share of n times the rate of one process that is left; nothing is computed during the exchange."""
    seconds = training.tokens_of_step / training.rate
    return seconds / (seconds + exchange_seconds(training.gradient, n, network.link(n)))


def training_rate(training: Training, n: int, network: Network) -> float:
    """Return the tokens a second of n processes."""
    return n * training.rate * efficiency(training, n, network)


def prediction_seconds(n_texts: float, seconds_a_text: float, n: int, texts_of_task: int, task_seconds: float) -> float:
    """Return how long n workers take, if the scheduler needs `task_seconds` for each task, one after another."""
    return max(n_texts * seconds_a_text / n, n_texts / texts_of_task * task_seconds)


def search_seconds(n_fits: int, seconds_a_fit: float, n: int) -> float:
    """Return how long n workers take for fits of equal length, and one of them for the last fit of the best."""
    return math.ceil(n_fits / n) * seconds_a_fit + seconds_a_fit


@dataclass(frozen=True)
class Preparation:
    """Bytes of text, tokens in them, and bytes or tokens a second: of one process, of the disk, of the last stage."""

    n_bytes: float
    bytes_a_token: float
    rate: float
    disk: float
    joining: float  # tokens a second of one process that counts words and writes ids
    checking: float  # tokens a second of the one process that computes checksums

    @property
    def n_tokens(self) -> float:
        """Number of tokens in the text."""
        return self.n_bytes / self.bytes_a_token


def preparation_seconds(job: Preparation, n: int) -> tuple[float, float, float]:
    """Return how long tokenizing, joining and checking take; disks read texts, and write and read four bytes a token."""
    shards = 4 * job.n_tokens
    tokenizing = max(job.n_bytes / job.rate / n, (job.n_bytes + shards) / job.disk)
    joining = max(job.n_tokens / job.joining / n, (shards + 2 * job.n_tokens) / job.disk)
    checking = max(job.n_tokens / job.checking, 2 * job.n_tokens / job.disk)
    return tokenizing, joining, checking


def price(seconds: float, n: int, price_an_hour: float) -> float:
    """Return what n processes cost for some time."""
    return seconds / 3600 * n * price_an_hour


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def clock(seconds: float) -> str:
    """Write a time with two digits."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.2g} s"


def rounded(number: float) -> str:
    """Write a number with two digits."""
    return f"{float(f'{number:.2g}'):,.0f}"


def money(amount: float) -> str:
    """Write an amount with two digits."""
    return f"${amount:.2g}" if amount < 100 else f"${amount:,.0f}"


def training_rows(
    training: Training, network: Network, numbers: Sequence[int], price_an_hour: float
) -> list[list[str]]:
    rows = []
    for n in numbers:
        rate = training_rate(training, n, network)
        cost = price(1e9 / rate, n, price_an_hour)
        share = f"{100 * efficiency(training, n, network):.0f} %"
        tokens = f"{n * training.tokens_of_step:,}"
        rows.append([str(n), rounded(rate), share, tokens, clock(1e9 / rate), money(cost)])
    return rows


def gradient_of(n_words: int, emb_dim: int, hidden_dim: int, n_layers: int, n_drawn: int, n_used: int) -> Gradient:
    """Return the gradient of an AWD-LSTM in float32."""
    widths = [emb_dim] + [hidden_dim] * (n_layers - 1) + [emb_dim]
    layers = sum(4 * out * (into + out + 2) for into, out in pairwise(widths))
    return Gradient(4.0 * layers, 4.0 * emb_dim, n_words, n_drawn, n_used)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def add(flag: str, default: float, text: str) -> None:
        options.add_argument(flag, type=type(default), default=default, help=f"{text} (default: {default:g})")

    add("--gpu-tokens", 500_000.0, "tokens a second of one GPU, 400/1152/3, 60,000 words, estimated")
    add("--gpu-batch", 64, "streams of a batch on one GPU")
    add("--gpu-link", 300.0, "GB a second between GPUs of one machine")
    add("--node-link", 50.0, "GB a second of one GPU to other machines")
    add("--gpu-price", 3.0, "$ an hour of one GPU")
    add("--core-tokens", 4_400.0, "tokens a second of one core, en-small, sampled 4,096 words, measured")
    add("--core-link", 1.25, "GB a second between CPU workers")
    add("--core-price", 0.05, "$ an hour of one core")
    add("--bptt", 70, "tokens of a window")
    add("--classifier-tokens", 5_900.0, "words a second of one core that trains all layers of a classifier, measured")
    add("--text-ms", 3.0, "milliseconds to predict a text of 100 words on one core, measured")
    add("--task-ms", 1.0, "milliseconds of the scheduler for a task")
    add("--texts-of-task", 1_000, "texts of a task")
    add("--fit-seconds", 8.0, "seconds of a fit of a classifier, 500 texts, measured")
    add("--fits", 100, "fits of a search")
    add("--corpus-gb", 1_000.0, "GB of text to tokenize")
    add("--token-bytes", 4.4, "bytes of text for a token, measured")
    add("--tokenize-mb", 2.4, "MB a second that one core tokenizes, measured")
    add("--join-tokens", 5.6e6, "tokens a second of which one core counts the words and writes the ids, measured")
    add("--check-tokens", 130e6, "tokens a second that three threads check at the end, measured one by one")
    add(
        "--teacher-passages",
        100.0,
        "passages a second that a teacher of 22 million weights reads on one core, measured",
    )
    add("--disk-gb", 1.0, "GB a second of the disk")
    return options


def report(options: argparse.Namespace) -> str:
    """Return the tables for the options."""
    micro = 1e-6
    gpus = Network(Link(options.gpu_link * 1e9, 10 * micro), Link(options.node_link * 1e9, 20 * micro), 8)
    cores = Network(Link(options.core_link * 1e9, 100 * micro), Link(options.core_link * 1e9, 100 * micro), 1)
    of_step = options.gpu_batch * options.bptt
    large = Training(options.gpu_tokens, of_step, gradient_of(60_000, 400, 1152, 3, 60_000, 0))
    small = Training(options.core_tokens, 64 * options.bptt, gradient_of(60_000, 256, 576, 2, 4_096, WORDS_OF_STEP))
    header = ["", "tokens/s", "efficiency", "tokens a step", "a billion tokens", "cost"]
    parts = [
        "Pre-training 400/1152/3 on GPUs (computed from an estimate for one)",
        table(["GPUs", *header[1:]], training_rows(large, gpus, N_GPUS, options.gpu_price)),
        "Pre-training 256/576/2 on CPU workers (computed from the measured rate of one)",
        table(["workers", *header[1:]], training_rows(small, cores, N_WORKERS, options.core_price)),
        "A classifier fine-tuned on 7,770 texts of 127 words (computed from the measured rate of one)",
        table(["workers", "tokens/s", "efficiency", "texts a step", "steps an epoch"], classifier_rows(options, cores)),
        "100 million texts of 100 words predicted (computed from the measured time of one text)",
        table(["workers", "texts/s", "time", "cost"], prediction_rows(options)),
        f"A search of {options.fits} fits on 500 texts (computed from the measured time of one fit)",
        table(["workers", "time", "efficiency", "cost"], search_rows(options)),
        f"{options.corpus_gb:,.0f} GB of text tokenized (computed from measured rates of one process)",
        table(["workers", "tokenizing", "joining", "checking", "all", "cost"], preparation_rows(options)),
        "500,000 passages read by a teacher (computed from the measured rate of one process)",
        table(["workers", "time", "cost"], teacher_rows(options)),
    ]
    return "\n\n".join(parts)


def classifier_rows(options: argparse.Namespace, network: Network) -> list[list[str]]:
    n_texts, n_words, batch_size = 7_770, 127, 32
    gradient = gradient_of(60_000, 256, 576, 2, 0, WORDS_OF_STEP)
    training = Training(options.classifier_tokens, batch_size * n_words, gradient)
    rows = []
    for n in N_WORKERS:
        share = f"{100 * efficiency(training, n, network):.0f} %"
        steps = f"{math.ceil(n_texts / batch_size / n)}"
        rows.append([str(n), rounded(training_rate(training, n, network)), share, str(n * batch_size), steps])
    return rows


def prediction_rows(options: argparse.Namespace) -> list[list[str]]:
    rows = []
    for n in N_WORKERS:
        task_seconds = options.task_ms / 1e3
        seconds = prediction_seconds(1e8, options.text_ms / 1e3, n, options.texts_of_task, task_seconds)
        rows.append([str(n), rounded(1e8 / seconds), clock(seconds), money(price(seconds, n, options.core_price))])
    return rows


def search_rows(options: argparse.Namespace) -> list[list[str]]:
    one = search_seconds(options.fits, options.fit_seconds, 1)
    rows = []
    for n in N_WORKERS:
        seconds = search_seconds(options.fits, options.fit_seconds, n)
        share = f"{100 * one / n / seconds:.0f} %"
        rows.append([str(n), clock(seconds), share, money(price(seconds, n, options.core_price))])
    return rows


def preparation_rows(options: argparse.Namespace) -> list[list[str]]:
    job = Preparation(
        options.corpus_gb * 1e9,
        options.token_bytes,
        options.tokenize_mb * 1e6,
        options.disk_gb * 1e9,
        options.join_tokens,
        options.check_tokens,
    )
    rows = []
    for n in N_WORKERS:
        stages = preparation_seconds(job, n)
        cost = money(price(sum(stages), n, options.core_price))
        rows.append([str(n), *map(clock, stages), clock(sum(stages)), cost])
    return rows


def teacher_rows(options: argparse.Namespace) -> list[list[str]]:
    rows = []
    for n in N_WORKERS:
        seconds = 500_000 / options.teacher_passages / n
        rows.append([str(n), clock(seconds), money(price(seconds, n, options.core_price))])
    return rows


if __name__ == "__main__":
    print(report(parser().parse_args()))
