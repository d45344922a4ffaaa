"""The folder of a run: the names of its files, and a lock that keeps other processes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.text.documents import RUN_MARK

MODEL, LOG, TOKENS, TEACHER = "model.safetensors", "log.jsonl", "tokens", "teacher"
CHECKPOINTS = "checkpoint-0.safetensors", "checkpoint-1.safetensors"  # written in turn
EARLIER_CHECKPOINT = "checkpoint.pt"  # of earlier versions


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a run in the folder can be resumed."""
    return any((folder / name).exists() for name in CHECKPOINTS)


def make_folder(folder: Path) -> None:
    """Make the folder of a run, or check that it is writable."""
    try:
        folder.mkdir(exist_ok=True)
        (folder / RUN_MARK).touch()
    except OSError as error:
        raise PretrainingError(
            f"The folder {folder} cannot be created or written to ({error}); choose another one."
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the folder. The operating system releases the lock of a killed process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / RUN_MARK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PretrainingError(f"Another process is at work in {folder}; wait for it or stop it.") from None
        except OSError:  # a file system without locks
            pass
        yield
