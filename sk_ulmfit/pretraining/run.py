"""Pre-training from the corpus to the saved model, as a list of stages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import as_path
from sk_ulmfit._validation import check_number
from sk_ulmfit.models.assembly import plain_weights
from sk_ulmfit.models.state import ModelState, load_state, save_state
from sk_ulmfit.nn.device import resolve_device, seeded
from sk_ulmfit.nn.precision import training_precision
from sk_ulmfit.nn.processes import Processes, current
from sk_ulmfit.pretraining.checkpoint import Checkpoints
from sk_ulmfit.pretraining.corpora import check_corpora, check_weights
from sk_ulmfit.pretraining.distillation import Distillation, held_out_cosine, make_distillation
from sk_ulmfit.pretraining.folder import LOG, MODEL, TEACHER, locked, make_folder
from sk_ulmfit.pretraining.holdout import held_out_loss, hold_out
from sk_ulmfit.pretraining.interrupt import postponed_interrupt
from sk_ulmfit.pretraining.log import RunLog, Say
from sk_ulmfit.pretraining.loop import run_steps
from sk_ulmfit.pretraining.passages import PassageSettings, WeightedCorpus
from sk_ulmfit.pretraining.settings import (
    CorpusSettings,
    PretrainingError,
    PretrainingSettings,
    check_corpus,
    check_same_run,
    check_training,
    model_config,
)
from sk_ulmfit.pretraining.teacher_data import TeacherData, prepare_teacher_data
from sk_ulmfit.pretraining.teacher_folder import has_all_vectors
from sk_ulmfit.pretraining.token_ids import prepare_token_ids
from sk_ulmfit.pretraining.trainer import Trainer
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.packing import PackedCorpus, open_packed
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.batching import StreamBatches, StreamDataset
from sk_ulmfit.training.teacher import Encode, Teacher, find_teacher
from sk_ulmfit.training.weighted_stream import WeightedStreamDataset


def pretrain(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | NDArray[np.floating[Any]] | None = None,
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
    sampled_words: int | None = None,
    teacher: str | os.PathLike[str] | Encode | None = None,
    n_passages: int = 500_000,
    passage_tokens: int = 4_096,
    teacher_weight: float = 1.0,
    precision: str = "auto",
    n_jobs: int | None = None,
    scheduler: str | None = None,
    seed: int = 0,
    say: Say | None = None,
) -> ModelState:
    r"""Pre-train a language model on a corpus that may be larger than memory.

    Stage 1 of ULMFiT, with AdamW and one cycle of the learning rate (Howard & Ruder 2018, section 3.1). The texts are
    tokenized once, into memory-mapped files.

    With a `teacher`, a sentence encoder, the model also learns what words and sentences mean, beside the next word. The
    embedding of each word starts as the teacher's vector of that word, in principal components. Passages of one
    sentence to 200 words are drawn from the corpora, and the model learns to give each the vector that the teacher
    gives it (`ULMFiTLanguageModel.transform`). Each step reads a batch of passages and a window of the corpora; an
    epoch is a pass over the passages.

    A run can be stopped at any moment. Called again with the same arguments, it resumes from its last checkpoint, or
    from the one before if that is damaged; while it tokenizes, from the beginning. On a CPU, with `epochs` and the same
    number of threads, the result is bit for bit that of an uninterrupted run. In the main thread, Ctrl-C and SIGTERM
    wait for the end of a step, write a checkpoint and raise KeyboardInterrupt, unless the program has handlers of its
    own.

    Processes can share the training (`sk_ulmfit.distributed.shared_training`), and another number of them can resume
    it. All of them must see the corpus and the folder `out`.

    Parameters
    ----------
    corpus : path-like or sequence of path-like
        One corpus or several. Each is a text file (documents separated by blank lines), a JSON lines file, either of
        them also compressed with xz or gzip, or a folder of such files. An earlier run, or its folder ``tokens``,
        provides its token ids; it must be the only corpus.
    out : path-like
        Folder of the run, for token ids, two checkpoints, ``log.jsonl`` and finally ``model.safetensors``.
    weights : array-like of shape (n_corpora,), default=None
        Relative shares of the corpora in the tokens that are read, and in the counts that decide on the vocabulary.
        An epoch has as many tokens as all corpora together: it reads documents of a corpus several times, or some of
        them, drawn anew each epoch. None means in proportion to their sizes, or as the token ids of an earlier run say.
    epochs, hours : float, default=None
        Length of the training, either in passes over the corpus or in hours, to which tokenization and final evaluation
        are added. One epoch if both are None.
    emb_dim, hidden_dim, n_layers : int, default=400, 1152, 3
        Sizes of the AWD-LSTM.
    vocab_size, min_frequency : int, default=None
        Maximum number of words, and minimum count of a word; None means 30,000 and 3.
    language, field : str, default=None, "text"
        Language code of spaCy's tokenizer (None means "en"), and field of the JSON objects that holds the text.
    backward : bool, default=False
        Whether to read every document from end to start.
    lr : float, default=0.003
        Maximum learning rate.
    batch_size, bptt : int, default=64, 70
        Text streams per batch (fewer for a small corpus), and tokens per window of backpropagation through time. If
        several processes train, they share the streams of a batch.
    dropout_multiplier, alpha, beta : float, default=0.1, 0, 0
        Factor on the dropout rates, and weights of the AR and TAR penalties.
    weight_decay, gradient_clip : float, default=0.01, 0.3
        Decoupled weight decay, and maximum norm of the gradient (None: no maximum).
    validation_fraction : float, default=0.005
        Fraction of the tokens, in whole documents and at most 500,000, held out to measure the final perplexity.
    checkpoint_minutes : float, default=5
        Minutes between checkpoints; 0 writes one after every step.
    device : str, default="auto"
        Torch device; "auto" prefers a GPU.
    sampled_words : int or None, default=None
        Number of words among which the next one is predicted in training: frequent words and the right ones always,
        others drawn anew for each step. Several times faster with large vocabularies. None means all words.
    teacher : path-like, callable or None, default=None
        Sentence encoder to learn from: the folder of a sentence-transformers model (extra ``teacher``), or a function
        from a list of n texts to their vectors, array-like of shape (n, n_dims).
    n_passages : int, default=500,000
        Number of passages that the teacher reads; all, if the corpora have fewer. It reads about 100 a second on a CPU.
    passage_tokens : int, default=4,096
        Tokens in the passages of one step, about.
    teacher_weight : float, default=1
        Weight of the distance to the teacher's vectors, 1 - cosine similarity, beside the loss of the next word.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the matrix products. A run resumed on another machine keeps its arithmetic.
    n_jobs : int or None, default=None
        Processes that tokenize the texts and let the teacher read, before the training.
    scheduler : str or None, default=None
        Address of a Dask scheduler whose workers do that in place of processes; see `tokenize_files`.
    seed : int, default=0
        Seed of all randomness.
    say : callable, default=None
        Called with each line of progress: tokens per second, loss, perplexity and time left.

    Returns
    -------
    ModelState
        The language model, as saved in ``model.safetensors``.

    Raises
    ------
    ValueError
        If a parameter is not valid; CorpusError if the corpus cannot be read or its token ids are damaged;
        PretrainingError if the folder belongs to another run or is in use, its checkpoints are damaged, or the training
        diverges.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sk_ulmfit.pretraining import pretrain
    >>> folder = Path(tempfile.mkdtemp())
    >>> corpus = folder / "corpus.txt"
    >>> _ = corpus.write_text("The lamp is on.\n\nThe hub is off.\n\n" * 100)
    >>> sizes = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2}
    >>> state = pretrain(corpus, folder / "run", epochs=1, **sizes)
    >>> sorted(path.name for path in (folder / "run").glob("[!.]*.*"))
    ['log.jsonl', 'model.safetensors']
    """
    processes = current()
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
        sampled_words=sampled_words,
        n_passages=None if teacher is None else n_passages,
        passage_tokens=None if teacher is None else passage_tokens,
        teacher_weight=None if teacher is None else teacher_weight,
        precision=precision,
        seed=seed,
    )
    settings = processes.each(lambda: check_training(settings))
    corpora = processes.each(lambda: check_corpora(corpus))
    weights = processes.each(lambda: check_weights(weights, corpora))
    corpus_settings = CorpusSettings(field, language, vocab_size, min_frequency, weights)
    device = processes.each(lambda: _check_rest(settings, corpus_settings, checkpoint_minutes, device))
    out = as_path(out, PretrainingError)
    workers = WorkerSettings(n_jobs, scheduler, _shared_paths(*corpora, out, teacher))
    processes.check_same({**asdict(settings), "corpus": [str(path) for path in corpora], "out": str(out)})
    processes.check_same(asdict(corpus_settings))
    log = RunLog(out / LOG, say or _say_nothing) if processes.is_first else RunLog(None, _say_nothing)
    run = _Run(out, settings, device, log, checkpoint_minutes * 60, processes)
    found_teacher = None if teacher is None else processes.each(lambda: find_teacher(teacher, device))
    with ExitStack() as stack:
        processes.from_first(lambda: _claim(out, stack, workers))
        if found_teacher is not None:
            processes.from_first(lambda: _load_if_needed(found_teacher, out, n_passages))
        token_ids = processes.from_first(lambda: prepare_token_ids(corpora, out, corpus_settings, workers, log.say))
        packed = processes.each(lambda: open_packed(token_ids, settings.backward))
        if processes.from_first((out / MODEL).exists):
            return _load_finished(packed, run)
        taught = None
        if found_teacher is not None:
            passages = PassageSettings(_weighted(corpora, packed), n_passages, seed=seed, field=field, exclude=out)
            taught = _taught(passages, found_teacher, packed, workers, run)
            del found_teacher  # it may be large
        return _train(packed, taught, run)


def _check_rest(
    settings: PretrainingSettings, corpus_settings: CorpusSettings, checkpoint_minutes: float, device: str
) -> str:
    """Check what is not checked yet, so that an error comes before the tokenization; return the device."""
    check_corpus(corpus_settings)
    check_number("checkpoint_minutes", checkpoint_minutes, low=0)
    device = resolve_device(device)
    current().check_device(device)
    training_precision(settings.precision, device, 0)
    import_module("safetensors")  # needed at the end
    return device


def _say_nothing(line: str) -> None:
    pass


@dataclass(frozen=True)
class _Run:
    """A run as one of its processes sees it."""

    out: Path
    settings: PretrainingSettings
    device: str
    log: RunLog
    checkpoint_seconds: float
    processes: Processes


def _claim(out: Path, stack: ExitStack, workers: WorkerSettings) -> None:
    """Make the folder of the run, and keep other runs out until the stack is closed."""
    make_folder(out)
    workers.check()
    stack.enter_context(locked(out))


def _taught(
    passages: PassageSettings, teacher: Teacher, packed: PackedCorpus, workers: WorkerSettings, run: _Run
) -> TeacherData:
    """Return what a run learns from its teacher: the first process makes what is missing, then each opens it."""

    def prepare(say: Say) -> TeacherData:
        language, backward = packed.info["language"], run.settings.backward
        folder = run.out / TEACHER
        return prepare_teacher_data(folder, passages, teacher, packed.vocabulary, language, backward, workers, say)

    if run.processes.size > 1:
        run.processes.from_first(lambda: prepare(run.log.say) and None)
    return run.processes.each(lambda: prepare(run.log.say))


def _shared_paths(*places: Any) -> tuple[Path, ...]:
    """Return the paths that other machines must see; a teacher may also be a function, or None."""
    return tuple(Path(place) for place in places if isinstance(place, (str, os.PathLike)))


def _load_if_needed(teacher: Teacher, out: Path, n_passages: int) -> None:
    """Load a teacher that has something to read, so that an error comes now, not after the tokenization."""
    if not (out / MODEL).exists() and not has_all_vectors(out / TEACHER, n_passages):
        teacher.load()


def _weighted(corpora: Sequence[Path], packed: PackedCorpus) -> tuple[WeightedCorpus, ...]:
    """Return the corpora with their shares in what is read; token ids of an earlier run are one corpus."""
    weights = packed.corpora.weights or packed.corpora.shares()
    return tuple(WeightedCorpus(path, float(weight)) for path, weight in zip(corpora, weights, strict=False))


def _load_finished(packed: PackedCorpus, run: _Run) -> ModelState:
    """Return the model in the folder, if it is the result of this run."""
    file = run.out / MODEL
    state = load_state(file, "language_model")
    if "pretraining" not in state.config:
        raise PretrainingError(f"{file} was not made by pretrain and will not be replaced; pass another folder to out.")
    check_same_run(state.config["pretraining"], model_config(asdict(run.settings), packed.info), run.out)
    run.log.say(f"This run is done; the model is in {file}.")
    return state


def _train(packed: PackedCorpus, taught: TeacherData | None, run: _Run) -> ModelState:
    """Train from the start or from the checkpoint, evaluate, and save the model."""
    settings, log, processes = run.settings, run.log, run.processes
    config = model_config(asdict(settings), packed.info)
    documents, held_out = hold_out(packed, settings.validation_fraction, settings.seed)
    streams = _stream_batches(packed, documents, settings)
    processes.check_at_least_one_each(streams.n_rows, "streams of text in a batch")
    distillation = None if taught is None else make_distillation(taught, packed.vocabulary, settings)
    if distillation is not None:
        config["vector_dim"] = distillation.components.matrix.shape[1]
    checkpoints = Checkpoints(run.out, log, processes)
    with seeded(settings.seed, run.device):
        passages = None if distillation is None else distillation.batches
        trainer = Trainer(config, packed.vocabulary, streams, settings, run.device, passages, processes)
        if checkpoints.load(trainer):
            log.write(event="resumed", step=trainer.step, processes=processes.size)
            log.say(f"resuming from step {trainer.step:,}")
        else:
            log.start(packed.corpora)
            if distillation is not None:
                trainer.start_from(distillation.start)
        processes.make_equal(trainer.module)
        with postponed_interrupt() as interrupted:
            run_steps(trainer, checkpoints, run.checkpoint_seconds, log, interrupted)
    held_out_ids = packed.tokens.take(held_out)
    if processes.size == 1:
        return _finish(trainer, packed.vocabulary, distillation, held_out_ids, run, checkpoints)
    processes.from_first(
        lambda: _finish(trainer, packed.vocabulary, distillation, held_out_ids, run, checkpoints) and None
    )
    return processes.each(lambda: load_state(run.out / MODEL, "language_model"))


def _finish(
    trainer: Trainer,
    vocabulary: Vocabulary,
    distillation: Distillation | None,
    held_out: TokenIds,
    run: _Run,
    checkpoints: Checkpoints,
) -> ModelState:
    """Evaluate the trained model on held-out documents and save it."""
    weights = plain_weights(trainer.module)
    if distillation is not None:
        weights |= distillation.components.to_arrays()
    state = ModelState("language_model", trainer.config, vocabulary, weights)
    state.history = [{"epoch": trainer.step / trainer.steps_per_epoch, "train_loss": trainer.mean_loss()}]
    loss = held_out_loss(state, held_out, run.device, run.log)
    if loss is not None:
        state.history[0]["valid_loss"] = loss
    if distillation is not None and len(distillation.held_out):
        state.history[0]["valid_cosine"] = held_out_cosine(state, distillation, run.device, run.log)
    save_state(state, run.out / MODEL)
    checkpoints.remove()
    return state


def _stream_batches(packed: PackedCorpus, documents: NDArray[np.int64], settings: PretrainingSettings) -> StreamBatches:
    corpora = packed.corpora
    if corpora.weights is None:
        dataset = StreamDataset(packed.tokens, documents)
    else:
        dataset = WeightedStreamDataset(packed.tokens, corpora.split(documents), corpora.weights)
    batches = StreamBatches(dataset, settings.batch_size, settings.bptt, packed.vocabulary.pad, settings.seed)
    if batches.n_targets < 2:
        raise PretrainingError("The corpus has too few words to train on; add more text.")
    return batches
