"""The token ids that a run trains on: those of an earlier run, its own, or new ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.pretraining.folder import TOKENS
from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.settings import CorpusSettings, PretrainingError
from sk_ulmfit.text.documents import describe, is_packed, read_documents
from sk_ulmfit.text.packing import pack_corpus, packed_info
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION

LANGUAGE, VOCAB_SIZE, MIN_FREQUENCY = "en", 30_000, 3  # defaults


def prepare_token_ids(corpus: Path, out: Path, settings: CorpusSettings, say: Say) -> Path:
    """Return the folder with the token ids of the corpus; tokenize the corpus if there are none yet."""
    if corpus.exists() and corpus.resolve() == out.resolve():
        raise PretrainingError(f"{out} is the corpus itself; pass another folder to out.")
    for folder in (corpus, corpus / TOKENS):
        if is_packed(folder):
            _check_same(folder, _vocabulary(settings))
            return folder
    folder = out / TOKENS
    if is_packed(folder):
        _check_own(folder, corpus, out, settings, say)
    else:
        _tokenize(corpus, folder, out, settings, say)
    return folder


def _vocabulary(settings: CorpusSettings) -> dict[str, Any]:
    asked = {name: getattr(settings, name) for name in ("language", "vocab_size", "min_frequency")}
    return {name: value for name, value in asked.items() if value is not None}


def _check_own(folder: Path, corpus: Path, out: Path, settings: CorpusSettings, say: Say) -> None:
    """Check that the token ids which the run wrote earlier are those of the corpus."""
    expected = _vocabulary(settings)
    if corpus.exists():
        expected |= {"field": settings.field, "source": describe(corpus, exclude=out)}
    else:
        say(f"{corpus} does not exist; using the token ids in {folder}")
    _check_same(folder, expected)


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
            raise PretrainingError(
                f"The token ids in {folder} were made with {name}={short(info[name])}, not {short(value)}; pass "
                "the same corpus and vocabulary settings, or another folder to out."
            )


def _tokenize(corpus: Path, folder: Path, out: Path, settings: CorpusSettings, say: Say) -> None:
    source, begin = describe(corpus, exclude=out), time.monotonic()

    def report(n_documents: int, n_characters: int, n_tokens: int) -> None:
        rate = n_characters / (time.monotonic() - begin) / 1e6
        say(f"tokenized {n_documents:,} documents, {n_tokens / 1e6:.1f} M tokens, {rate:.1f} MB/s")

    pack_corpus(
        read_documents(corpus, settings.field, exclude=out),
        folder,
        language=LANGUAGE if settings.language is None else settings.language,
        vocab_size=VOCAB_SIZE if settings.vocab_size is None else settings.vocab_size,
        min_frequency=MIN_FREQUENCY if settings.min_frequency is None else settings.min_frequency,
        n_jobs=settings.n_jobs,
        source=source,
        field=settings.field,
        report=report,
    )
