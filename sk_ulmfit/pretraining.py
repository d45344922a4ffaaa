"""Pre-training of a language model on a large corpus (stage 1 of ULMFiT), in a run that survives being killed.

Everything random in a step follows from the seed and the number of the step, and a checkpoint holds all that a
step leaves behind. So a run that was broken off goes on to the same result as one that was not.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sk_ulmfit._files import atomic_write
from sk_ulmfit._validation import check_choice, check_number, plain_number
from sk_ulmfit.models.assembly import build_language_model, plain_weights
from sk_ulmfit.models.state import ModelState, load_state, save_state
from sk_ulmfit.nn.device import resolve_device, seeded
from sk_ulmfit.nn.modules import State, detach
from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.nn.precision import PRECISIONS, training_precision, widest_layer
from sk_ulmfit.text.corpus import PackedCorpus, open_packed, pack_corpus, packed_info
from sk_ulmfit.text.documents import RUN_MARK, describe, is_packed, read_documents
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import StreamBatches, StreamDataset
from sk_ulmfit.training.likelihood import negative_log_likelihood
from sk_ulmfit.training.schedules import one_cycle

MODEL, CHECKPOINT, LOG, TOKENS = "model.safetensors", "checkpoint.pt", "log.jsonl", "tokens"

LOG_SECONDS = 20.0
MOST_HELD_OUT = 500_000
LOGGED_STEPS = 50  # the loss shown is the mean of so many steps
WARM_UP = 0.1  # share of the training in which the learning rate rises

Say = Callable[[str], None]


class PretrainingError(ValueError):
    """A pre-training run cannot begin, or cannot go on."""


@dataclass(frozen=True)
class PretrainingSettings:
    """What the result of a run follows from, besides the corpus; named as the parameters of `pretrain`."""

    emb_dim: int
    hidden_dim: int
    n_layers: int
    epochs: float | None
    hours: float | None
    lr: float
    batch_size: int
    bptt: int
    dropout_multiplier: float
    alpha: float
    beta: float
    weight_decay: float
    gradient_clip: float | None
    backward: bool
    validation_fraction: float
    precision: str
    seed: int


def pretrain(
    corpus: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    epochs: float | None = None,
    hours: float | None = None,
    emb_dim: int = 400,
    hidden_dim: int = 1152,
    n_layers: int = 3,
    vocab_size: int | None = None,
    min_frequency: int | None = None,
    language: str | None = None,
    field: str = "text",
    backward: bool = False,
    lr: float = 3e-3,
    batch_size: int = 64,
    bptt: int = 70,
    dropout_multiplier: float = 0.1,
    alpha: float = 0.0,
    beta: float = 0.0,
    weight_decay: float = 0.01,
    gradient_clip: float | None = 0.3,
    validation_fraction: float = 0.005,
    checkpoint_minutes: float = 5.0,
    device: str = "auto",
    precision: str = "auto",
    n_jobs: int | None = None,
    seed: int = 0,
    say: Say | None = None,
) -> ModelState:
    r"""Train a language model on a corpus that may be larger than memory.

    Howard & Ruder 2018, section 3.1. The texts are tokenized once, into memory-mapped files. The model is trained with
    AdamW and one cycle of the learning rate over the whole run. The run may be broken off at any moment; called again
    with the same arguments it goes on from its last checkpoint (from the beginning while it tokenizes). With `epochs`,
    on a CPU and with as many threads, it ends with exactly the weights that an unbroken run would have given.

    In the main thread, Ctrl-C and SIGTERM, unless something else handles them, let a step end, write a checkpoint and
    raise KeyboardInterrupt.

    Parameters
    ----------
    corpus : path-like
        A text file (documents separated by blank lines), a JSON lines file, either also compressed with xz or gzip, a
        folder of such files, or an earlier run or its folder ``tokens``, whose token ids and vocabulary serve again.
    out : path-like
        Folder of the run: the token ids, the checkpoint, ``log.jsonl``, and in the end ``model.safetensors``.
    epochs : float, default=None
        Passes over the corpus; 1 if `hours` is None too.
    hours : float, default=None
        Hours of training instead, without tokenizing before and the evaluation after. The schedule follows the clock,
        so that training ends in time on any machine.
    emb_dim, hidden_dim, n_layers : int, default=400, 1152, 3
        Sizes of the AWD-LSTM.
    vocab_size : int, default=None
        Most words; None stands for 30,000.
    min_frequency : int, default=None
        Rarer words become unknown; None stands for 3.
    language : str, default=None
        Language code of spaCy's tokenizer; None stands for "en".
    field : str, default="text"
        Field of a JSON line that holds the text.
    backward : bool, default=False
        Read every document from its end.
    lr : float, default=0.003
        Largest learning rate.
    batch_size : int, default=64
        Text streams read side by side; a small corpus uses fewer.
    bptt : int, default=70
        Tokens per window, through which gradients flow.
    dropout_multiplier : float, default=0.1
        Factor on the dropout rates of the language model.
    alpha, beta : float, default=0
        Weights of the AR and TAR penalties.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    gradient_clip : float or None, default=0.3
        Largest norm of the gradient.
    validation_fraction : float, default=0.005
        Share of the tokens, in whole documents and up to half a million, that is held out and gives the perplexity in
        the end.
    checkpoint_minutes : float, default=5
        Time between checkpoints; 0 writes one after every step.
    device : str, default="auto"
        Device of torch; "auto" is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the matrix products; a run that goes on elsewhere keeps what "auto" stood for.
    n_jobs : int or None, default=None
        Worker processes that tokenize.
    seed : int, default=0
        Source of all randomness.
    say : callable, default=None
        Takes a line of progress: tokens per second, loss, perplexity and the time left. None says nothing.

    Returns
    -------
    ModelState
        The language model, as it stands in ``model.safetensors``.

    Raises
    ------
    ValueError
        If a parameter is not valid.
    PretrainingError
        If the folder belongs to another run or is in use, or the training diverges.
    CorpusError
        If the corpus cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sk_ulmfit.pretraining import pretrain
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "corpus.txt").write_text("The lamp is on.\n\nThe hub is off.\n\n" * 100)
    >>> state = pretrain(folder / "corpus.txt", folder / "run", epochs=1, emb_dim=8, hidden_dim=12, n_layers=2)
    >>> sorted(path.name for path in (folder / "run").glob("[!.]*.*"))
    ['log.jsonl', 'model.safetensors']
    """
    if epochs is not None and hours is not None:
        raise PretrainingError(f"Give epochs or hours, not both; got epochs={epochs} and hours={hours}.")
    if epochs is None and hours is None:
        epochs = 1.0
    asked = {"language": language, "vocab_size": vocab_size, "min_frequency": min_frequency}
    settings = PretrainingSettings(
        emb_dim=emb_dim,
        hidden_dim=hidden_dim,
        n_layers=n_layers,
        epochs=epochs,
        hours=hours,
        lr=lr,
        batch_size=batch_size,
        bptt=bptt,
        dropout_multiplier=dropout_multiplier,
        alpha=alpha,
        beta=beta,
        weight_decay=weight_decay,
        gradient_clip=gradient_clip,
        backward=bool(backward),
        validation_fraction=validation_fraction,
        precision=precision,
        seed=seed,
    )
    settings = replace(settings, **{name: plain_number(value) for name, value in vars(settings).items()})
    _check(settings, vocab_size, min_frequency, checkpoint_minutes)
    device = resolve_device(device)
    training_precision(precision, device, 0)  # an error now, not after the tokenizing
    import_module("safetensors")  # needed in the end
    say = say or (lambda line: None)
    out = Path(out)
    try:
        out.mkdir(exist_ok=True)
        (out / RUN_MARK).touch()
    except OSError as error:
        raise PretrainingError(f"The folder {out} cannot be made or written to ({error}); choose another.") from None
    with _lock(out):
        tokens = _tokens(Path(corpus), out, asked, field, n_jobs, say)
        packed = open_packed(tokens, settings.backward)
        return _Run(packed, out, settings, device, say).finish(checkpoint_minutes * 60)


def _check(
    settings: PretrainingSettings, vocab_size: int | None, min_frequency: int | None, checkpoint_minutes: float
) -> None:
    given = vars(settings)
    for name in ("emb_dim", "hidden_dim", "n_layers", "batch_size", "bptt"):
        check_number(name, given[name], low=1, integer=True)
    for name in ("lr", "epochs", "hours", "gradient_clip"):
        check_number(name, given[name], low=0, none=name != "lr", exclusive=True)
    for name in ("dropout_multiplier", "alpha", "beta", "weight_decay", "seed"):
        check_number(name, given[name], low=0, integer=name == "seed")
    check_number("validation_fraction", settings.validation_fraction, low=0, high=0.5)
    check_choice("precision", settings.precision, PRECISIONS[:3])
    check_number("vocab_size", vocab_size, low=16, integer=True, none=True)
    check_number("min_frequency", min_frequency, low=1, integer=True, none=True)
    check_number("checkpoint_minutes", checkpoint_minutes, low=0)


def _tokens(corpus: Path, out: Path, asked: dict[str, Any], field: str, n_jobs: int | None, say: Say) -> Path:
    """Give the folder of token ids, made now if need be."""
    if corpus.exists() and corpus.resolve() == out.resolve():
        raise PretrainingError(f"{out} is the corpus itself; give another folder to out.")
    asked = {name: value for name, value in asked.items() if value is not None}
    for folder in (corpus, corpus / TOKENS):
        if is_packed(folder):
            _check_tokens(folder, asked)
            return folder
    folder = out / TOKENS
    if is_packed(folder):
        if corpus.exists():
            asked = {**asked, "field": field, "source": describe(corpus, exclude=out)}
        else:
            say(f"{corpus} is not there; the token ids in {folder} are used")
        _check_tokens(folder, asked)
        return folder
    source, begin = describe(corpus, exclude=out), time.monotonic()

    def report(n_documents: int, n_characters: int, n_tokens: int) -> None:
        rate = n_characters / (time.monotonic() - begin) / 1e6
        say(f"tokenized {n_documents:,} documents, {n_tokens / 1e6:.1f} M tokens, {rate:.1f} MB/s")

    documents = read_documents(corpus, field, exclude=out)
    pack_corpus(documents, folder, n_jobs=n_jobs, source=source, field=field, report=report, **asked)
    return folder


def _check_tokens(folder: Path, asked: dict[str, Any]) -> None:
    info = packed_info(folder)
    for name, value in asked.items():
        if info.get(name, value) != value:
            raise PretrainingError(
                f"{folder} holds token ids made with {name}={info[name]!r}, not {value!r}; give the same corpus and "
                "vocabulary again, or another folder to out."
            )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep a second process out of the folder; the system lifts the lock of one that was killed."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / RUN_MARK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PretrainingError(f"Another process is training in {folder}; wait for it or stop it.") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def _postponed_interrupt() -> Iterator[Callable[[], bool]]:
    """Let a step end before an interrupt counts; a second one counts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before: dict[int, Any] = {number: usual for number, usual in ours.items() if signal.getsignal(number) is usual}
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hold_out(tokens: TokenIds, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the documents that a run does not train on.

    Parameters
    ----------
    tokens : TokenIds
        The corpus.
    fraction : float
        Share of the tokens to hold out, in whole documents; at most `MOST_HELD_OUT` and the rest of a document.
    seed : int
        Seed of the draw.

    Returns
    -------
    train, held_out : ndarray of int64
        Indices of documents, rising.

    Raises
    ------
    PretrainingError
        If no document is left to train on.
    """
    order = np.random.default_rng(seed).permutation(len(tokens))
    seen = np.cumsum(tokens.lengths_of(order))
    wanted = min(seen[-1] * fraction, MOST_HELD_OUT)
    n_held_out = 0 if not fraction else int(np.searchsorted(seen, wanted)) + 1
    if n_held_out >= len(order):
        raise PretrainingError(
            "The corpus is too small to hold out a part of it: it has only one document, or one much longer than the "
            "others. Separate documents by blank lines, or pass validation_fraction=0."
        )
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def model_config(settings: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Give the configuration of a model that a run makes.

    Parameters
    ----------
    settings : dict
        `PretrainingSettings` of the run.
    info : dict
        `PackedCorpus.info` of its corpus.

    Returns
    -------
    dict
        As in `ModelState`; under ``pretraining`` the settings and where the corpus came from.
    """
    return {
        **{name: settings[name] for name in ("emb_dim", "hidden_dim", "n_layers")},
        "language": info["language"],
        "direction": "backward" if settings["backward"] else "forward",
        "pretraining": {**settings, "source": info["source"], "digest": info["digest"]},
    }


class _Run:
    """The state of a run between two steps, and how it is kept."""

    def __init__(self, packed: PackedCorpus, out: Path, settings: PretrainingSettings, device: str, say: Say):
        self.packed, self.out, self.settings, self.device, self.say = packed, out, settings, device, say
        self.config = model_config(asdict(settings), packed.info)
        self.precision = training_precision(settings.precision, device, widest_layer(self.config))
        train, self.held_out = hold_out(packed.tokens, settings.validation_fraction, settings.seed)
        self.batches = StreamBatches(
            StreamDataset(packed.tokens, train),
            settings.batch_size,
            settings.bptt,
            packed.vocabulary.pad,
            settings.seed,
        )
        if self.batches.n_targets < 2:
            raise PretrainingError("The corpus holds too few words to train on; give more text.")
        self.windows = self.batches.n_batches(1)
        self.n_steps = None if settings.epochs is None else max(1, round(settings.epochs * self.windows))
        self.step, self.elapsed, self.n_tokens = 0, 0.0, 0
        self.losses: deque[torch.Tensor] = deque(maxlen=LOGGED_STEPS)
        self.state: State | None = None

    def finish(self, checkpoint_seconds: float) -> ModelState:
        """Train to the end, from wherever the run stands, and write the model."""
        model = self.out / MODEL
        if model.exists():
            return self._finished(model)
        with seeded(self.settings.seed, self.device):
            self.module = build_language_model(
                self.config, len(self.packed.vocabulary), self.settings.dropout_multiplier
            )
            self.module.to(self.device).train()
            options: dict[str, Any] = {"weight_decay": self.settings.weight_decay, "fused": True}
            self.optimizer = RowAdamW(self.module.parameters(), lr=self.settings.lr, betas=(0.8, 0.99), **options)
            self._restore()
            with _postponed_interrupt() as interrupted:
                self._train(checkpoint_seconds, interrupted)
        state = ModelState("language_model", self.config, self.packed.vocabulary, plain_weights(self.module))
        state.history = [{"epoch": self.step / self.windows, "train_loss": self._loss()}]
        held_out = self.packed.tokens.take(self.held_out)
        n = int((held_out.lengths - 1).clip(min=0).sum())
        if n:
            self.say(f"measuring the perplexity of {n:,} held-out tokens")
            total, n = negative_log_likelihood(state, held_out, bptt=70, batch_size=256, device=self.device)
            state.history[0]["valid_loss"] = total / n
            self._log(event="end", held_out_tokens=n, held_out_loss=total / n, held_out_perplexity=math.exp(total / n))
            self.say(f"held-out perplexity {math.exp(total / n):.2f} ({n:,} tokens, loss {total / n:.4f})")
        save_state(state, model)
        (self.out / CHECKPOINT).unlink(missing_ok=True)
        return state

    def _finished(self, model: Path) -> ModelState:
        state = load_state(model, "language_model")
        if "pretraining" not in state.config:
            raise PretrainingError(f"{model} is a model from elsewhere and is left alone; give another folder to out.")
        self._check_same(state.config["pretraining"])
        self.say(f"This run is done; the model is in {model}.")
        return state

    def _check_same(self, kept: dict[str, Any]) -> None:
        wanted = self.config["pretraining"]
        for name in (name for name in wanted if kept.get(name, wanted[name]) != wanted[name]):
            raise PretrainingError(
                f"{self.out} holds a run with {name}={kept[name]!r}, not {wanted[name]!r}; "
                "give the same arguments to go on with it, or another folder to out."
            )

    def _train(self, checkpoint_seconds: float, interrupted: Callable[[], bool]) -> None:
        """Do the steps that are left."""
        settings, saved, logged = self.settings, time.monotonic(), time.monotonic()
        begin = saved - self.elapsed
        n_tokens = self.n_tokens
        n_steps, budget = self.n_steps, (settings.hours or math.inf) * 3600
        batches = self._batches()
        while self.step < n_steps if n_steps else self.elapsed < budget:
            x, targets = next(batches)
            position = self.step / n_steps if n_steps else self.elapsed / budget
            rates = one_cycle(position, 1.0, pct_start=WARM_UP)
            self.losses.append(self._do_step(x["ids"], x["lengths"], targets, *rates))
            self.step += 1
            self.n_tokens += targets.numel()
            now, stop = time.monotonic(), interrupted()
            self.elapsed = now - begin
            ended = self.step == n_steps if n_steps else self.elapsed >= budget
            due = now - saved >= checkpoint_seconds or stop or ended
            if now - logged >= LOG_SECONDS or due:
                self._report((self.n_tokens - n_tokens) / (now - logged))
                n_tokens, logged = self.n_tokens, now
            if due:
                self._save()
                saved = logged = time.monotonic()
            if stop:
                raise KeyboardInterrupt
        if interrupted():
            raise KeyboardInterrupt

    def _do_step(
        self, ids: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor, factor: float, momentum: float
    ) -> torch.Tensor:
        settings, module = self.settings, self.module
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, self.step]).generate_state(1, np.uint64)[0] >> 1))
        for group in self.optimizer.param_groups:
            group["lr"], group["betas"] = settings.lr * factor, (momentum, group["betas"][1])
        if self.device.startswith("cuda"):  # from pinned memory the copy runs beside the step before
            ids, targets = ids.pin_memory(), targets.pin_memory()
        ids, targets = (part.to(self.device, non_blocking=True) for part in (ids, targets))
        dropped, raw, state = module(ids, lengths, self.state, self.precision)
        self.state = detach(state)
        loss = module.cross_entropy(dropped, targets, self.precision)
        self.optimizer.zero_grad()
        (loss + module.penalties(dropped, raw, targets, settings.alpha, settings.beta)).backward()
        if settings.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), settings.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    def _batches(self) -> Iterator[Any]:
        """Give the windows from the current step on, epoch after epoch."""
        epoch, first = divmod(self.step, self.windows)
        while True:
            if not first:
                self.state = None
            yield from self.batches.windows(epoch, first)
            epoch, first = epoch + 1, 0

    def _loss(self) -> float:
        """Give the mean of the last losses; the device is waited for here only."""
        loss = torch.stack(list(self.losses)).mean().item()
        if not math.isfinite(loss):
            raise PretrainingError(
                f"Training diverged: the loss is {loss} at step {self.step}. Pass a learning rate below "
                f"lr={self.settings.lr:g}, and another folder to out."
            )
        return loss

    def _report(self, rate: float) -> None:
        loss, lr = self._loss(), self.optimizer.param_groups[0]["lr"]
        perplexity = math.exp(min(loss, 700.0))
        done = self.step / self.n_steps if self.n_steps else self.elapsed / ((self.settings.hours or 0) * 3600)
        left = self.elapsed / done * (1 - done)
        self._log(
            step=self.step,
            epoch=self.step / self.windows,
            tokens=self.n_tokens,
            loss=loss,
            perplexity=perplexity,
            lr=lr,
            tokens_per_second=rate,
            elapsed=self.elapsed,
        )
        self.say(
            f"{100 * min(done, 1):5.1f} %  {self.n_tokens / 1e6:.2f} M tokens  {rate:,.0f} tokens/s  "
            f"loss {loss:.4f}  perplexity {perplexity:.1f}  {_clock(max(left, 0))} left"
        )

    def _log(self, **fields: Any) -> None:
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **fields}) + "\n"
        with suppress(OSError), (self.out / LOG).open("a", encoding="utf-8") as file:  # a full disk ends no training
            file.write(line)

    def _save(self) -> None:
        content = {
            "pretraining": self.config["pretraining"],
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": self.state,
            "step": self.step,
            "elapsed": self.elapsed,
            "tokens": self.n_tokens,
            "losses": torch.stack(list(self.losses)),
            "precision": self.precision,
        }
        try:
            with atomic_write(self.out / CHECKPOINT) as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:
            raise PretrainingError(
                f"The checkpoint could not be written to {self.out} ({' '.join(str(error).split())}); mend that "
                "and start again: the run goes on from the checkpoint before."
            ) from None

    def _restore(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            kept = torch.load(path, map_location=self.device, weights_only=True)
            self._check_same(kept["pretraining"])
            self.module.load_state_dict(kept["module"])
            self.optimizer.load_state_dict(kept["optimizer"])
            self.state, self.step, self.elapsed = kept["state"], kept["step"], kept["elapsed"]
            self.n_tokens, self.precision = kept["tokens"], kept["precision"]
            self.losses.extend(kept["losses"])
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise PretrainingError(f"{path} is damaged ({reason}); remove it to begin the run anew.") from None
        self._log(event="resumed", step=self.step)
        self.say(f"going on from step {self.step:,}")


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
