"""The training loop: step after step, with lines of progress and checkpoints in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from sk_ulmfit.pretraining.checkpoint import Checkpoints
from sk_ulmfit.pretraining.log import RunLog
from sk_ulmfit.pretraining.trainer import Trainer

LOG_SECONDS = 20.0


def run_steps(
    trainer: Trainer,
    checkpoints: Checkpoints,
    checkpoint_seconds: float,
    log: RunLog,
    interrupted: Callable[[], bool],
) -> None:
    """Do the remaining steps. After an interrupt, write a checkpoint and raise KeyboardInterrupt."""
    saved_at = logged_at = time.monotonic()
    begin = saved_at - trainer.elapsed
    logged_tokens = trainer.n_tokens
    steps = trainer.remaining_steps()
    while not trainer.done:
        trainer.do_step(next(steps))
        now, stop = time.monotonic(), interrupted()
        trainer.elapsed = now - begin
        checkpoint_due = now - saved_at >= checkpoint_seconds or stop or trainer.done
        if now - logged_at >= LOG_SECONDS or checkpoint_due:
            log.report(trainer, tokens_per_second=(trainer.n_tokens - logged_tokens) / (now - logged_at))
            logged_tokens, logged_at = trainer.n_tokens, now
        if checkpoint_due:
            checkpoints.save(trainer)
            saved_at = logged_at = time.monotonic()
        if stop:
            raise KeyboardInterrupt
    if interrupted():
        raise KeyboardInterrupt
