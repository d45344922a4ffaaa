"""Commands under torchrun: which of them several processes can run together, and which process prints."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sk_ulmfit.cli.answers import Answer

TRAININGS = ("pretrain", "train", "finetune")


def launched() -> bool:
    """Tell whether torchrun, or another launcher, has started several processes."""
    return {"RANK", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys() and os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Tell whether this process is the one that prints."""
    return not launched() or os.environ["RANK"] == "0"


def run(options: argparse.Namespace) -> Answer | None:
    """Run a command, together with the other processes if there are any; only the first has an answer to print."""
    if not launched():
        answer: Answer = options.run(options)
        return answer
    if options.command not in TRAININGS:
        raise ValueError(
            f"{os.environ['WORLD_SIZE']} processes were started, but only {', '.join(TRAININGS[:-1])} and "
            f"{TRAININGS[-1]} can use more than one; run it without torchrun."
        )
    from sk_ulmfit.distributed import shared_training

    with shared_training():
        answer = options.run(options)
    return answer if is_first() else None


def prints(message: str) -> bool:
    """Tell whether this process is the first with a message, so that one that all have comes once.

    torchrun keeps a store of values for its processes, which outlives them.
    """
    if not launched() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    import torch.distributed as dist

    key = hashlib.sha256(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT')} {message}".encode()).hexdigest()
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5))  # type: ignore[attr-defined]
        return store.add(f"sk_ulmfit/{key}", 1) == 1
    except (RuntimeError, ValueError):
        return True


def described(error: Exception, message: str, what_remains: Callable[[], str]) -> str:
    """Add to the message of an error which process it comes from, or what remains if one of them was lost."""
    if type(error).__name__ == "LostProcessError":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # with which torchrun ends the others, before they have said why
        return f"{message.removesuffix('.')}; {what_remains()}."
    rank = getattr(error, "of_process", 0)
    return f"process {rank}: {message}" if rank else message


def left_with(exit_code: int) -> int:
    """Return an exit code, or end at once as one of several processes: what waits for the others would never end."""
    if not launched():
        return exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
