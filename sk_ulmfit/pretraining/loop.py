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
        now = time.monotonic()
        of_all = trainer.processes.exchange(
            [now - begin, now - saved_at >= checkpoint_seconds, now - logged_at >= LOG_SECONDS, interrupted()]
        )
        trainer.elapsed, stop = float(of_all[0, 0]), bool(of_all[:, 3].any())  # the clock is that of the first process
        checkpoint_due = bool(of_all[0, 1]) or stop or trainer.done
        if of_all[0, 2] or checkpoint_due:
            log.report(trainer, tokens_per_second=(trainer.n_tokens - logged_tokens) / (now - logged_at))
            logged_tokens, logged_at = trainer.n_tokens, now
        if checkpoint_due:
            checkpoints.save(trainer)
            saved_at = logged_at = time.monotonic()
        if stop:
            raise KeyboardInterrupt
    if trainer.processes.exchange([interrupted()])[:, 0].any():
        raise KeyboardInterrupt
