"""The token ids that a run trains on: those of an earlier run, its own, or new ones."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.pretraining.corpora import packed_folder
from sk_ulmfit.pretraining.folder import TOKENS
from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.settings import CorpusSettings, PretrainingError
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.corpora import Corpora
from sk_ulmfit.text.counting import VocabularySettings
from sk_ulmfit.text.documents import corpus_files, describe, is_packed
from sk_ulmfit.text.packing import pack_files, packed_info
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION, get_tokenizer

LANGUAGE, VOCAB_SIZE, MIN_FREQUENCY = "en", 30_000, 3  # defaults


def prepare_token_ids(
    corpora: Sequence[Path], out: Path, settings: CorpusSettings, workers: WorkerSettings, say: Say
) -> Path:
    """Return the folder with the token ids of the corpora; tokenize the corpora if there are none yet."""
    for corpus in corpora:
        if corpus.exists() and corpus.resolve() == out.resolve():
            raise PretrainingError(f"{out} is the corpus itself; pass another folder to out.")
    packed = packed_folder(corpora[0])
    if packed is not None:
        _check_same(packed, _vocabulary(settings))
        if settings.weights is not None:
            _check_weights(packed, settings.weights)
        return packed
    folder = out / TOKENS
    if is_packed(folder):
        check_token_ids(folder, corpora, out, settings, say)
        remove_shards(folder)
    else:
        write_token_ids(corpora, folder, out, settings, workers, say)
    return folder


def _vocabulary(settings: CorpusSettings) -> dict[str, Any]:
    asked = {name: getattr(settings, name) for name in ("language", "vocab_size", "min_frequency")}
    return {name: value for name, value in asked.items() if value is not None}


def check_token_ids(folder: Path, corpora: Sequence[Path], out: Path, settings: CorpusSettings, say: Say) -> None:
    """Check that token ids which were written earlier are those of the corpora."""
    _check_same(folder, _vocabulary(settings))
    parts = Corpora.from_info(packed_info(folder)).parts
    if len(parts) != len(corpora):
        raise _other(folder, f"{len(parts)} corpora", str(len(corpora)))
    for number, (part, corpus) in enumerate(zip(parts, corpora, strict=True), start=1):
        if not corpus.exists():
            say(f"{corpus} does not exist; using the token ids in {folder}")
            continue
        _check_same(folder, {"field": settings.field})
        source = describe(corpus, exclude=out)
        if source != part.source:
            name = "source" if len(parts) == 1 else f"corpus {number}"
            raise _other(folder, f"{name}={short(part.source)}", short(source))
    _check_weights(folder, settings.weights)


def _check_same(folder: Path, expected: dict[str, Any]) -> None:
    info = packed_info(folder)
    version = info.get("tokenizer", 1)  # the first one was not numbered
    if version != TOKENIZER_VERSION:
        raise PretrainingError(
            f"The token ids in {folder} were made by version {version} of the tokenizer, and this is version "
            f"{TOKENIZER_VERSION}, which splits some texts differently; pass the corpus, and another folder to out."
        )
    for name, value in expected.items():
        if info.get(name, value) != value:
            raise _other(folder, f"{name}={short(info[name])}", short(value))


def _check_weights(folder: Path, weights: tuple[float, ...] | None) -> None:
    made = Corpora.from_info(packed_info(folder)).weights
    if made != weights:
        raise _other(folder, f"weights={_written(made)}", _written(weights))


def _written(weights: tuple[float, ...] | None) -> str:
    return short(None if weights is None else list(weights))


def _other(folder: Path, made: str, asked: str) -> PretrainingError:
    return PretrainingError(
        f"The token ids in {folder} were made with {made}, not {asked}; pass "
        "the same corpus and vocabulary settings, or another folder to out."
    )


def work_folder(folder: Path) -> Path:
    """Return the folder of the shards from which a folder of token ids is made."""
    return folder.with_name(f".{folder.name}.shards")


def remove_shards(folder: Path) -> None:
    """Remove the shards that were left because a process was killed when the folder of token ids was just complete."""
    shutil.rmtree(work_folder(folder), ignore_errors=True)


def write_token_ids(
    corpora: Sequence[Path], folder: Path, out: Path, settings: CorpusSettings, workers: WorkerSettings, say: Say
) -> None:
    """Tokenize corpora into a new folder, shard by shard; files in `out` are no part of the corpora."""
    if workers.is_remote:  # workers may be in other folders
        corpora, folder = [corpus.absolute() for corpus in corpora], folder.absolute()
    sources = [describe(corpus, exclude=out) for corpus in corpora]
    files = [corpus_files(corpus, exclude=out) for corpus in corpora]
    vocabulary = VocabularySettings(
        LANGUAGE if settings.language is None else settings.language,
        VOCAB_SIZE if settings.vocab_size is None else settings.vocab_size,
        MIN_FREQUENCY if settings.min_frequency is None else settings.min_frequency,
        settings.weights,
    )
    get_tokenizer(vocabulary.language)  # an error now, and not on a worker
    progress = _Progress(say)
    with workers.started() as started:
        pack_files(
            list(zip(sources, files, strict=True)),
            folder,
            work_folder(folder),
            vocabulary,
            settings.field,
            started,
            report=progress.report,
            resumed=progress.resumed,
        )


class _Progress:
    """Lines of progress: how much is tokenized, and how fast that goes."""

    def __init__(self, say: Say):
        self._say = say
        self._begin, self._n_before = time.monotonic(), 0  # seconds, characters

    def resumed(self, n_documents: int, n_characters: int, n_tokens: int) -> None:
        """Say how much an earlier start has tokenized."""
        self._n_before = n_characters
        self._say(f"{n_documents:,} documents, {n_tokens / 1e6:.1f} M tokens are tokenized already")

    def report(self, n_documents: int, n_characters: int, n_tokens: int) -> None:
        """Say how much is tokenized."""
        rate = (n_characters - self._n_before) / (time.monotonic() - self._begin) / 1e6
        self._say(f"tokenized {n_documents:,} documents, {n_tokens / 1e6:.1f} M tokens, {rate:.1f} MB/s")
