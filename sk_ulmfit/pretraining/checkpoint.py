"""The checkpoint of a run: written completely or not at all, and read when the run is resumed."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from sk_ulmfit._files import atomic_write
from sk_ulmfit.pretraining.folder import CHECKPOINT
from sk_ulmfit.pretraining.settings import PretrainingError, check_same_run
from sk_ulmfit.pretraining.trainer import Trainer


def save_checkpoint(trainer: Trainer, out: Path) -> None:
    """Write the state of the training; on failure the previous checkpoint remains."""
    try:
        with atomic_write(out / CHECKPOINT) as file:
            torch.save(trainer.state_dict(), file)
    except (OSError, RuntimeError) as error:
        raise PretrainingError(
            f"The checkpoint could not be written to {out} ({' '.join(str(error).split())}); fix this and start "
            "again: the run resumes from the previous checkpoint."
        ) from None


def load_checkpoint(trainer: Trainer, out: Path) -> bool:
    """Continue from the checkpoint; return whether there is one."""
    path = out / CHECKPOINT
    if not path.exists():
        return False
    try:
        saved = torch.load(path, map_location=trainer.device, weights_only=True)
        check_same_run(saved["pretraining"], trainer.config, out)
        trainer.load_state_dict(saved)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise PretrainingError(f"{path} is damaged ({reason}); delete it to restart the run.") from None
    return True
