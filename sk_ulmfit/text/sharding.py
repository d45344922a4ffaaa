"""Corpora tokenized into shards by workers; what is there already is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short
from sk_ulmfit.text.documents import CorpusError
from sk_ulmfit.text.encoding import Report, text_blocks
from sk_ulmfit.text.parts import Group
from sk_ulmfit.text.shards import (
    GroupTask,
    Shard,
    TextsTask,
    do_task,
    finish_group,
    finished_group,
    hand_out,
    handed_out,
    shard_file,
)
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.workers import Workers

MADE_FROM = "shards.json"
N_BUCKETS_OF_STREAMS = 8  # whose length is not known


@contextmanager
def shard_folder(folder: Path, made_from: dict[str, Any]) -> Iterator[None]:
    """Make a folder for shards, or check that its shards are those of the same texts; name it if it is not writable."""
    made_from = {**made_from, "tokenizer": TOKENIZER_VERSION}
    try:
        try:
            saved = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            folder.mkdir(exist_ok=True)
            with atomic_write(folder / MADE_FROM) as file:
                file.write(json.dumps(made_from, indent=1).encode())
        else:
            for name, value in made_from.items():
                if saved.get(name) != value:
                    raise CorpusError(
                        f"The shards in {folder} were made with {name}={short(saved.get(name))}, not {short(value)}; "
                        "delete that folder to begin anew, or pass the same corpus, language and field."
                    )
        yield
    except OSError as error:
        raise CorpusError(
            f"Shards could not be written to {folder} ({error}); make room there and start again: finished shards are "
            "kept."
        ) from None


def group_tasks(groups: Sequence[Group], folder: Path, field: str, language: str, n_buckets: int) -> list[GroupTask]:
    """Return the tasks of groups of documents, each of which has its folder."""
    return [
        GroupTask(group, folder / f"{number:05d}", field, language, n_buckets) for number, group in enumerate(groups)
    ]


def tokenize_groups(
    tasks: Sequence[GroupTask], n_corpora: int, workers: Workers, report: Report | None, resumed: Report | None
) -> list[list[Shard]]:
    """Write the shards that are missing; return the shards of each corpus, in their order.

    `resumed` is told of the shards that are there, `report` of all whenever some more are done.
    """
    found = {task.folder: shards for task in tasks if (shards := finished_group(task.folder)) is not None}
    missing = [task for task in tasks if task.folder not in found]
    large = [task.folder for task in missing if task.group.is_large and workers.hands_out]
    progress = _Progress(report)
    if found:
        progress.add([shard for shards in found.values() for shard in shards], resumed)
    for task_folder, shards in workers.run(do_task, _tasks(missing, large)):
        progress.add(shards)
        found[task_folder] = shards
    for task_folder in large:
        found[task_folder] = handed_out(task_folder)
        finish_group(task_folder, found[task_folder])
    of_corpora: list[list[Shard]] = [[] for _ in range(n_corpora)]
    for task in tasks:
        of_corpora[task.group.corpus] += found[task.folder]
    return of_corpora


def _tasks(missing: Sequence[GroupTask], large: Sequence[Path]) -> Iterator[GroupTask | TextsTask]:
    """Yield groups, and the texts of those that are too large for one worker."""
    for task in missing:
        if task.folder in large:
            yield from hand_out(task)
        else:
            yield task


def tokenize_streams(
    streams: Sequence[Iterable[str]], folder: Path, language: str, workers: Workers, report: Report | None
) -> list[list[Shard]]:
    """Write shards of documents that can be read only once; return those of each corpus, in their order."""

    def tasks() -> Iterator[TextsTask]:
        for corpus, documents in enumerate(streams):
            of_corpus = folder / f"{corpus:05d}"
            of_corpus.mkdir()
            for number, texts in enumerate(text_blocks(documents)):
                yield TextsTask(shard_file(of_corpus, number), texts, language, N_BUCKETS_OF_STREAMS)

    progress = _Progress(report)
    for _, shards in workers.run(do_task, tasks()):
        progress.add(shards)
    return [handed_out(folder / f"{corpus:05d}") for corpus in range(len(streams))]


class _Progress:
    """Counts documents, characters and tokens, and reports them."""

    def __init__(self, report: Report | None):
        self._report = report
        self._totals = (0, 0, 0)

    def add(self, shards: Sequence[Shard], report: Report | None = None) -> None:
        """Add shards; tell `report`, or whom all others are told to."""
        sizes = [(shard.n_documents, shard.n_characters, shard.n_tokens) for shard in shards]
        n_documents, n_characters, n_tokens = map(sum, zip(self._totals, *sizes, strict=True))
        self._totals = (n_documents, n_characters, n_tokens)
        report = report or self._report
        if report is not None:
            report(*self._totals)
