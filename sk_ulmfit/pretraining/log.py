"""The log of a run: JSON lines in a file, and lines of progress for people."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sk_ulmfit.pretraining.trainer import Trainer
from sk_ulmfit.text.corpora import Corpora

Say = Callable[[str], None]


class RunLog:
    """Write to the file of the log, if there is one, and pass lines of progress to `say`."""

    def __init__(self, file: Path | None, say: Say):
        self.file, self.say = file, say

    def write(self, **fields: Any) -> None:
        """Append one line to the file; an error, such as a full disk, does not stop the training."""
        if self.file is None:
            return
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields}) + "\n"
        with suppress(OSError), self.file.open("a", encoding="utf-8") as file:
            file.write(line)

    def start(self, corpora: Corpora) -> None:
        """Log the corpora, their shares in what is read, and how many of their words are unknown."""
        rows = [
            {**asdict(part), "share": float(share), "unknown_share": part.n_unknown / part.n_tokens}
            for part, share in zip(corpora.parts, corpora.shares(), strict=True)
        ]
        unknown = sum(row["share"] * row["unknown_share"] for row in rows)
        self.write(event="start", corpora=rows, unknown_share=unknown)
        described = "; ".join(
            f"{row['source']}: {100 * row['share']:.1f} %, {row['n_documents']:,} documents, "
            f"{row['n_tokens'] / 1e6:.2f} M tokens, {100 * row['unknown_share']:.1f} % unknown"
            for row in rows
        )
        self.say(f"{described}; {100 * unknown:.1f} % of all tokens read are unknown")

    def report(self, trainer: Trainer, tokens_per_second: float) -> None:
        """Log the loss and how far the training has come."""
        loss, done = trainer.mean_loss(), trainer.share_done
        perplexity = math.exp(min(loss, 700.0))
        seconds_left = trainer.elapsed / done * (1 - done)
        cosine = trainer.mean_cosine()
        self.write(
            step=trainer.step,
            epoch=trainer.step / trainer.steps_per_epoch,
            tokens=trainer.n_tokens,
            loss=loss,
            perplexity=perplexity,
            **({} if cosine is None else {"cosine": cosine}),
            lr=trainer.optimizer.param_groups[0]["lr"],
            tokens_per_second=tokens_per_second,
            elapsed=trainer.elapsed,
        )
        self.say(
            f"{100 * min(done, 1):5.1f} %  {trainer.n_tokens / 1e6:.2f} M tokens  {tokens_per_second:,.0f} tokens/s  "
            f"loss {loss:.4f}  perplexity {perplexity:.1f}  "
            f"{'' if cosine is None else f'cosine {cosine:.3f}  '}{clock(max(seconds_left, 0))} left"
        )


def clock(seconds: float) -> str:
    """Write a time in hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
