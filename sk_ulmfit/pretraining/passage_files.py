"""The files of the passages that a teacher reads: blocks, written completely or not at all, that never change."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from sk_ulmfit._files import atomic_write
from sk_ulmfit._messages import short_text
from sk_ulmfit.pretraining.passages import Passage
from sk_ulmfit.pretraining.settings import PretrainingError

DRAWN = "drawn.json"  # written last
BLOCK = 4_096  # passages, or words

Item = TypeVar("Item")


@dataclass(frozen=True)
class PassageFiles:
    """The passages in a folder: their number, and that of each corpus."""

    folder: Path
    n_passages: int
    corpora: dict[str, int]

    @property
    def sizes(self) -> list[int]:
        """Number of passages in each block."""
        return block_sizes(self.n_passages)

    def texts_of(self, block: int) -> list[str]:
        """Return the texts of a block."""
        path = _block_file(self.folder, block)
        try:
            with lzma.open(path, "rt", encoding="utf-8") as file:
                texts = [json.loads(line)["text"] for line in file]
            if len(texts) != self.sizes[block]:
                raise ValueError(f"{len(texts)} passages, not {self.sizes[block]}")
        except (OSError, EOFError, ValueError, KeyError, TypeError, lzma.LZMAError) as error:
            raise PretrainingError(
                f"The passages in {path} are damaged ({short_text(error)}); delete {self.folder / DRAWN} and start "
                "again, which draws them anew."
            ) from None
        return texts

    def texts(self) -> Iterator[str]:
        """Yield the texts of all blocks."""
        for block in range(len(self.sizes)):
            yield from self.texts_of(block)

    def digest(self) -> str:
        """Return a checksum of the files of all blocks."""
        digest = hashlib.blake2b(digest_size=16)
        for block in range(len(self.sizes)):
            digest.update(_block_file(self.folder, block).read_bytes())
        return digest.hexdigest()


def block_sizes(n: int) -> list[int]:
    """Return the sizes of the blocks of n texts."""
    return [min(BLOCK, n - start) for start in range(0, n, BLOCK)]


def block_of(items: Sequence[Item], block: int) -> Sequence[Item]:
    """Return the items of a block."""
    return items[block * BLOCK : (block + 1) * BLOCK]


def write_passages(folder: Path, passages: Sequence[Passage]) -> None:
    """Write passages in blocks."""
    n_blocks = len(block_sizes(len(passages)))
    for block in range(n_blocks):
        lines = [
            json.dumps({"corpus": passage.corpus, "text": passage.text}, ensure_ascii=False) + "\n"
            for passage in block_of(passages, block)
        ]
        with written(_block_file(folder, block)) as file:
            file.write(lzma.compress("".join(lines).encode(errors="replace")))
    corpora = Counter(passage.corpus for passage in passages)
    write_json(folder / DRAWN, {"passages": len(passages), "corpora": dict(corpora), "blocks": n_blocks})


def open_passages(folder: Path) -> PassageFiles | None:
    """Return the passages in a folder; None if they have not been written, or not all."""
    drawn = read_json(folder / DRAWN)
    if drawn is None:
        return None
    try:
        return PassageFiles(folder, int(drawn["passages"]), dict(drawn["corpora"]))
    except (KeyError, TypeError, ValueError):
        raise _damaged(folder / DRAWN, "an entry is missing") from None


def _block_file(folder: Path, block: int) -> Path:
    return folder / f"passages-{block:05d}.jsonl.xz"


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Write a file completely or not at all; raise PretrainingError if it cannot be written."""
    try:
        with atomic_write(path) as file:
            yield file
    except OSError as error:
        raise PretrainingError(
            f"{path} could not be written ({error}); fix this and start again: the run resumes with this file."
        ) from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON."""
    with written(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(value, dict):
        raise _damaged(path, "not a JSON object")
    return value


def _damaged(path: Path, reason: object) -> PretrainingError:
    return PretrainingError(f"{path} is damaged ({short_text(reason)}); delete it and start again.")
