"""The passages as token ids of the model's vocabulary, in memory-mapped files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.passage_files import PassageFiles, read_json, write_json, written
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import TOKENIZER_VERSION
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

IDS, OFFSETS, INFO = "passage-ids.npy", "passage-offsets.npy", "passage-ids.json"  # INFO is written last


def prepare_passage_ids(
    passages: PassageFiles, vocabulary: Vocabulary, language: str, backward: bool, n_jobs: int | None, say: Say
) -> TokenIds:
    """Return the token ids of passages; tokenize them unless the folder holds the ids of these passages and words.

    With `backward`, the tokens of each passage are reversed. Files that are damaged are written anew.
    """
    folder = passages.folder
    made_from = {
        "passages": passages.digest(),
        "vocabulary": hashlib.blake2b(vocabulary.to_json().encode(), digest_size=16).hexdigest(),
        "language": language,
        "backward": backward,
        "tokenizer": TOKENIZER_VERSION,
    }
    if read_json(folder / INFO) != made_from | _checksums(folder):
        say(f"tokenizing {passages.n_passages:,} passages")
        texts = StreamedTexts(passages.texts, passages.n_passages)
        tokens = encode_texts(texts, vocabulary, language, n_jobs, backward=backward)
        for name, array in ((IDS, tokens.ids), (OFFSETS, tokens.offsets)):
            with written(folder / name) as file:
                np.save(file, array)
        write_json(folder / INFO, made_from | _checksums(folder))
        say(f"tokenized {passages.n_passages:,} passages, {len(tokens.ids) / 1e6:.1f} M tokens")
    return TokenIds(np.load(folder / IDS, mmap_mode="r"), np.load(folder / OFFSETS))


def _checksums(folder: Path) -> dict[str, Any]:
    """Return a checksum of each file of ids; None if there is no such file."""
    checksums: dict[str, Any] = {}
    for name in (IDS, OFFSETS):
        digest = hashlib.blake2b(digest_size=16)
        try:
            with (folder / name).open("rb") as file:
                while part := file.read(2**24):
                    digest.update(part)
        except FileNotFoundError:
            checksums[name] = None
        else:
            checksums[name] = digest.hexdigest()
    return checksums
