"""The token ids that a run trains on: those of an earlier run, its own, or new ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.pretraining.corpora import packed_folder
from sk_ulmfit.pretraining.folder import TOKENS
from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.settings import CorpusSettings, PretrainingError
from sk_ulmfit.text.corpora import Corpora
from sk_ulmfit.text.documents import describe, is_packed, read_documents
from sk_ulmfit.text.packing import pack_corpora, packed_info
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION

LANGUAGE, VOCAB_SIZE, MIN_FREQUENCY = "en", 30_000, 3  # defaults


def prepare_token_ids(corpora: Sequence[Path], out: Path, settings: CorpusSettings, say: Say) -> Path:
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
        _check_own(folder, corpora, out, settings, say)
    else:
        _tokenize(corpora, folder, out, settings, say)
    return folder


def _vocabulary(settings: CorpusSettings) -> dict[str, Any]:
    asked = {name: getattr(settings, name) for name in ("language", "vocab_size", "min_frequency")}
    return {name: value for name, value in asked.items() if value is not None}


def _check_own(folder: Path, corpora: Sequence[Path], out: Path, settings: CorpusSettings, say: Say) -> None:
    """Check that the token ids which the run wrote earlier are those of the corpora."""
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


def _tokenize(corpora: Sequence[Path], folder: Path, out: Path, settings: CorpusSettings, say: Say) -> None:
    sources = [describe(corpus, exclude=out) for corpus in corpora]
    documents = [read_documents(corpus, settings.field, exclude=out) for corpus in corpora]
    begin = time.monotonic()

    def report(n_documents: int, n_characters: int, n_tokens: int) -> None:
        rate = n_characters / (time.monotonic() - begin) / 1e6
        say(f"tokenized {n_documents:,} documents, {n_tokens / 1e6:.1f} M tokens, {rate:.1f} MB/s")

    pack_corpora(
        list(zip(sources, documents, strict=True)),
        folder,
        weights=settings.weights,
        language=LANGUAGE if settings.language is None else settings.language,
        vocab_size=VOCAB_SIZE if settings.vocab_size is None else settings.vocab_size,
        min_frequency=MIN_FREQUENCY if settings.min_frequency is None else settings.min_frequency,
        n_jobs=settings.n_jobs,
        field=settings.field,
        report=report,
    )
