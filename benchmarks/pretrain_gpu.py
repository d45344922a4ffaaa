"""Pre-training on a GPU machine that is reached by small file transfers only and limits the time of a command.

    python benchmarks/pretrain_gpu.py pack TOKENS PARTS             # compress the token ids of a corpus, in parts
    python benchmarks/pretrain_gpu.py unpack PARTS TOKENS           # the reverse; lists missing parts
    python benchmarks/pretrain_gpu.py speed                         # measure tokens per second and memory by batch size
    python benchmarks/pretrain_gpu.py train TOKENS RUN --hours 0.2  # pre-train with the settings for one large GPU
    python benchmarks/pretrain_gpu.py weights RUN TOKENS MODEL      # make a model from the checkpoint of an unfinished run
    python benchmarks/pretrain_gpu.py split MODEL PARTS             # split a model, or any other file, into parts
    python benchmarks/pretrain_gpu.py join PARTS MODEL              # the reverse
    python benchmarks/pretrain_gpu.py check TOKENS MODEL [MODEL...] # measure the loss on held-out documents

TOKENS is a folder written by `sk_ulmfit.text.packing.pack_corpus` or ``sk-ulmfit pretrain``. pretrain_gpu.md describes
the steps in order, and what to do if one fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import math
import os
import resource
import shutil
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sk_ulmfit._files import atomic_write
from sk_ulmfit.distributed import shared_training
from sk_ulmfit.models.assembly import build_language_model
from sk_ulmfit.models.state import ModelFileError, ModelState, load_state, save_state
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.nn.modules import detach
from sk_ulmfit.nn.optimizer import RowAdamW
from sk_ulmfit.nn.precision import training_precision, widest_layer
from sk_ulmfit.pretraining import MODEL, PretrainingError, pretrain
from sk_ulmfit.pretraining.checkpoint import last_checkpoint, read_checkpoint
from sk_ulmfit.pretraining.holdout import hold_out
from sk_ulmfit.pretraining.settings import model_config
from sk_ulmfit.text.documents import IDS, INFO, OFFSETS, VOCABULARY, CorpusError, is_packed
from sk_ulmfit.text.packing import open_packed
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.batching import StreamBatches, StreamDataset
from sk_ulmfit.training.likelihood import negative_log_likelihood

SIZES = {"emb_dim": 400, "hidden_dim": 1152, "n_layers": 3}
SETTINGS = {
    **SIZES,
    "lr": 6e-3,  # to be confirmed
    "batch_size": 256,
    "bptt": 70,
    "dropout_multiplier": 0.2,
    "weight_decay": 0.01,
    "gradient_clip": 0.3,
    "validation_fraction": 0.005,
    "checkpoint_minutes": 3.0,
    "seed": 0,
}

COMPACT = "model-8bit.safetensors"
PARTS = "parts.json"
ARCHIVE = "tokens.tar.xz"
# lp and pb tell LZMA that the ids have two bytes. It looks 64 MiB back.
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 1, "pb": 1, "dict_size": 2**26}]

MIB = 2**20
PIECE = 16 * MIB  # bytes read at once
WARM_UP_STEPS = 5
DOCUMENT = 800  # tokens of a random document in `speed`


class TransferError(Exception):
    """A file cannot be split or joined."""


def split(path: Path, out: Path, part_mib: float) -> None:
    """Split a file into parts, and list their sizes and checksums in a file."""
    _make_empty(out)
    size = max(1, int(part_mib * MIB))
    parts = []
    with path.open("rb") as file:
        while data := file.read(size):
            name = f"{path.name}.{len(parts):03d}"
            (out / name).write_bytes(data)
            parts.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    whole = {"file": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path), "parts": parts}
    (out / PARTS).write_text(json.dumps(whole, indent=1), encoding="utf-8")
    print(f"{path.name}: {whole['bytes']:,} bytes in {len(parts)} parts of {size:,} bytes at most, in {out}")


def join(parts: Path, path: Path) -> None:
    """Join the parts of a file, completely or not at all."""
    if path.exists():
        raise TransferError(f"{path} already exists; choose another name.")
    listed = _listed(parts)
    wanted = [entry["name"] for entry in listed["parts"]]
    missing = [name for name in wanted if not (parts / name).is_file()]
    damaged = [
        entry["name"]
        for entry in listed["parts"]
        if entry["name"] not in missing and _sha256(parts / entry["name"]) != entry["sha256"]
    ]
    for names, what in ((missing, "missing"), (damaged, "damaged, copy again")):
        if names:
            print(f"{what}: {len(names)} of {len(wanted)}: {', '.join(names)}")
    if missing or damaged:
        raise TransferError(f"{listed['file']} is not complete yet; copy those parts to {parts}.")
    with atomic_write(path) as file:
        for name in wanted:
            file.write((parts / name).read_bytes())
        file.seek(0)
        if hashlib.file_digest(file, "sha256").hexdigest() != listed["sha256"]:
            raise TransferError(f"The parts in {parts} do not make up {listed['file']}; split it again.")
    print(f"{listed['file']}: {listed['bytes']:,} bytes from {len(wanted)} parts, checksum right")


def _listed(parts: Path) -> dict[str, Any]:
    try:
        return json.loads((parts / PARTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TransferError(f"There is no list of parts in {parts} ({error}); copy {PARTS} too.") from None


def _make_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise TransferError(f"{folder} is not empty; choose another folder.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(tokens: Path, out: Path, part_mib: float) -> None:
    """Compress a folder of token ids and split it into parts."""
    info = open_packed(tokens).info
    _make_empty(out)
    begin = time.monotonic()
    archive = out.with_name(f".{out.name}.part") / ARCHIVE
    archive.parent.mkdir(exist_ok=True)
    try:
        with lzma.open(archive, "wb", filters=XZ) as file, tarfile.open(fileobj=file, mode="w|") as tar:
            for name in (INFO, VOCABULARY, OFFSETS, IDS):
                tar.add(tokens / name, arcname=name, filter=_nameless)
        plain, packed = (
            sum((tokens / name).stat().st_size for name in (IDS, OFFSETS, VOCABULARY)),
            archive.stat().st_size,
        )
        split(archive, out, part_mib)
    finally:
        shutil.rmtree(archive.parent)
    print(
        f"{info['n_tokens']:,} tokens, digest {info['digest']}: {plain:,} bytes to {packed:,} ({plain / packed:.2f} to 1, "
        f"{8 * packed / info['n_tokens']:.2f} bits per token), {time.monotonic() - begin:.0f} s"
    )


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove the owner and the time of a file."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def unpack(parts: Path, tokens: Path) -> None:
    """Join a folder of token ids, completely or not at all."""
    if tokens.exists():
        raise TransferError(f"{tokens} already exists; choose another name.")
    part = tokens.with_name(f".{tokens.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        join(parts, part / ARCHIVE)
        with lzma.open(part / ARCHIVE) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            tar.extractall(part, filter="data")
        (part / ARCHIVE).unlink()
        open_packed(part)  # checks the digest
        os.replace(part, tokens)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    info = open_packed(tokens).info
    print(f"{tokens}: {info['n_tokens']:,} tokens, {info['n_documents']:,} documents, digest {info['digest']}")


def train(tokens: Path, out: Path, hours: float, device: str, precision: str, settings: dict[str, Any]) -> None:
    """Pre-train, and save the model also in 8 bits; the same call resumes a run that was stopped.

    Under torchrun, all processes train together.
    """
    if not is_packed(tokens):
        raise TransferError(f"{tokens} holds no token ids; unpack them first.")
    out.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, flush=True)

    with shared_training() as processes:
        if processes.is_first:
            say(f"{open_packed(tokens).info['n_tokens']:,} tokens; {processes.size} processes; {hours} h; {settings}")
        state = pretrain(tokens, out, hours=hours, device=device, precision=precision, say=say, **settings)
    if not processes.is_first:
        return
    save_state(state, out / COMPACT, compact=True)
    for path in (out / MODEL, out / COMPACT):
        say(f"{path}: {path.stat().st_size:,} bytes")
    check(tokens, [out / COMPACT], None, device)
    say("done")


def weights(run: Path, tokens: Path, path: Path) -> None:
    """Save the model in the checkpoint of an unfinished run, in 8 bits."""
    checkpoint = last_checkpoint(run)
    if checkpoint is None:
        raise TransferError(
            f"There is no checkpoint in {run}: the run has not written one yet, or is done (see {MODEL})."
        )
    kept = read_checkpoint(checkpoint)
    made, packed = kept["pretraining"], open_packed(tokens)
    if made["digest"] != packed.info["digest"]:
        raise TransferError(f"The run in {run} was trained on other token ids than those in {tokens}.")
    config = model_config(made, packed.info)
    arrays = {name: tensor.numpy() for name, tensor in kept["module"].items()}
    save_state(ModelState("language_model", config, packed.vocabulary, arrays), path, compact=True)
    print(f"{path}: {path.stat().st_size:,} bytes, after {kept['step']:,} steps, {kept['tokens'] / 1e6:.2f} M tokens")


def check(tokens: Path, models: list[Path], n_documents: int | None, device: str) -> None:
    """Print the loss and perplexity of models on the documents held out of their training."""
    for path in models:
        state = load_state(path, "language_model")
        packed = open_packed(tokens, state.config.get("direction") == "backward")
        if len(packed.vocabulary) != len(state.vocabulary) or packed.vocabulary != state.vocabulary:
            raise TransferError(f"{path} has another vocabulary than {tokens}.")
        made = state.config["pretraining"]
        held_out = hold_out(packed, made["validation_fraction"], made["seed"])[1]
        if not len(held_out):
            raise TransferError(f"The training of {path} held out no documents.")
        documents = packed.tokens.take(held_out[:n_documents])
        total, n = negative_log_likelihood(state, documents, bptt=70, batch_size=64, device=resolve_device(device))
        print(
            f"{path}: loss {total / n:.4f}, perplexity {math.exp(total / n):.2f} "
            f"({len(documents):,} held-out documents, {n:,} tokens)",
            flush=True,
        )


def speed(
    batch_sizes: list[int], n_steps: int, n_words: int, device: str, precision: str, settings: dict[str, Any]
) -> None:
    """Time training steps on random ids, including reading and copying of batches."""
    device = resolve_device(device)
    precision = training_precision(precision, device, widest_layer(settings))
    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{torch.get_num_threads()} CPU threads"
    sizes = "/".join(str(settings[key]) for key in SIZES)
    print(f"{name}, torch {torch.__version__}, {sizes}, {n_words:,} words, windows of {settings['bptt']}, {precision}")
    print("| batch | ms a step | tokens/s | M tokens in 10 minutes | peak memory, GiB |\n|---|---|---|---|---|")
    for batch_size in batch_sizes:
        try:
            seconds, memory = _time_steps(batch_size, n_steps, n_words, device, precision, settings)
        except torch.OutOfMemoryError:
            print(f"| {batch_size} | does not fit |  |  |  |", flush=True)
            continue
        rate = batch_size * settings["bptt"] / seconds
        cells = f"{1000 * seconds:.1f} | {rate:,.0f} | {rate * 600 / 1e6:,.2f} | {memory / 2**30:.1f}"
        print(f"| {batch_size} | {cells} |", flush=True)


def _time_steps(
    batch_size: int, n_steps: int, n_words: int, device: str, precision: str, settings: dict[str, Any]
) -> tuple[float, int]:
    """Return the seconds per step and the maximum number of bytes in use (on a CPU: since the process started)."""
    rng, bptt, on_gpu = np.random.default_rng(0), settings["bptt"], device.startswith("cuda")
    n_windows = max(WARM_UP_STEPS + n_steps, StreamBatches.MIN_STEPS)
    n_documents = batch_size * bptt * (n_windows + 1) // DOCUMENT + 1
    ids = rng.integers(0, n_words, n_documents * DOCUMENT, dtype=np.uint16)
    tokens = TokenIds(ids, DOCUMENT * np.arange(n_documents + 1))
    batches = StreamBatches(StreamDataset(tokens), batch_size, bptt, pad_id=1, seed=0).windows(0)
    module = build_language_model(settings, n_words, settings["dropout_multiplier"])
    module.to(device).train()
    optimizer = RowAdamW(module.parameters(), lr=1e-3, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
    state = None
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for step in range(WARM_UP_STEPS + n_steps):
        if step == WARM_UP_STEPS:
            _wait(device)
            begin = time.perf_counter()
        x, targets = next(batches)
        ids_there, targets = (part.to(device, non_blocking=True) for part in (x["ids"], targets))
        dropped, _, state = module(ids_there, x["lengths"], state, precision)
        state = detach(state)
        optimizer.zero_grad()
        module.cross_entropy(dropped, targets, precision).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.3)
        optimizer.step()
    _wait(device)
    seconds = (time.perf_counter() - begin) / n_steps
    if on_gpu:
        return seconds, torch.cuda.max_memory_allocated()
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, function: Any, *paths: str) -> argparse.ArgumentParser:
        about = function.__doc__.splitlines()[0]
        command = commands.add_parser(
            name, help=about, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.set_defaults(function=function)
        for path in paths:
            command.add_argument(path, type=Path, metavar=path.upper())
        return command

    def add_device(command: argparse.ArgumentParser) -> None:
        command.add_argument("--device", default="auto", help="torch device")

    def add_settings(command: argparse.ArgumentParser, names: list[str]) -> None:
        for name in names:
            default = SETTINGS[name]
            command.add_argument(
                f"--{name.replace('_', '-')}", type=type(default), default=default, help="%(default)s by default"
            )
        add_device(command)
        command.add_argument(
            "--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="%(default)s by default"
        )

    part_help = "maximum size of a part, in MiB"
    add("pack", pack, "tokens", "out").add_argument("--part-mib", type=float, default=28, help=part_help)
    add("unpack", unpack, "parts", "tokens")
    command = add("speed", speed)
    command.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[64, 128, 256, 512], help="%(default)s by default"
    )
    command.add_argument("--n-steps", type=int, default=30, help="steps to time for each batch size")
    command.add_argument("--n-words", type=int, default=29_000, help="size of the vocabulary")
    add_settings(command, [*SIZES, "bptt", "dropout_multiplier"])
    command = add("train", train, "tokens", "out")
    command.add_argument("--hours", type=float, required=True, help="hours of training")
    add_settings(command, list(SETTINGS))
    add("weights", weights, "run", "tokens", "path")
    add("split", split, "path", "out").add_argument("--part-mib", type=float, default=15, help=part_help)
    add("join", join, "parts", "path")
    command = add("check", check, "tokens")
    command.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    command.add_argument("--n-documents", type=int, help="maximum number of held-out documents; all by default")
    add_device(command)
    return parser


def main() -> None:
    arguments = vars(_parser().parse_args())
    del arguments["command"]
    function = arguments.pop("function")
    if function in (train, speed):
        arguments["settings"] = {name: arguments.pop(name) for name in SETTINGS if name in arguments}
    try:
        function(**arguments)
    except (TransferError, CorpusError, ModelFileError, PretrainingError, ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{Path(__file__).name}: stopped; the same command resumes training from its checkpoint.")


if __name__ == "__main__":
    main()
