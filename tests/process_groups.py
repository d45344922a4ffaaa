"""Functions that run in several processes at once, as a launcher would start them."""

import multiprocessing
import os
import pickle
import socket
import tempfile
import traceback
from contextlib import suppress
from pathlib import Path

import torch

from sk_ulmfit.distributed import shared_training

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["process_groups", "sk_ulmfit.classifier", "sk_ulmfit.pretraining", "sk_ulmfit.text.tokenizer", "torch._dynamo"]
)


def start(n, function, *args, **kwargs):
    """Start `n` processes that call a function within a shared training; return them and the folder of their results."""
    folder = Path(tempfile.mkdtemp())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(n):
        process = CONTEXT.Process(target=_call, args=(rank, n, port, folder, function, args, kwargs), daemon=True)
        process.start()
        started.append(process)
    return started, folder


def results(started, folder, timeout=60):
    """Wait for the processes, and return what each has returned or raised; None of one that was killed."""
    for process in started:
        process.join(timeout)
        assert not process.is_alive(), "a process waits for ever"
    files = [folder / str(rank) for rank in range(len(started))]
    return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]


def call(n, function, *args, **kwargs):
    """Call a function in `n` processes that share their trainings; return the result of each, or raise an error."""
    returned = results(*start(n, function, *args, **kwargs))
    for result in returned:
        if isinstance(result, BaseException):
            raise result
    return returned


def _call(rank, n, port, folder, function, args, kwargs):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        with shared_training() as processes:
            result = function(processes, *args, **kwargs)
    except BaseException as error:
        traceback.print_exc()
        result = error
    with suppress(OSError):
        (folder / "partial").with_suffix(f".{rank}").write_bytes(pickle.dumps(result))
        (folder / f"partial.{rank}").rename(folder / str(rank))
    os._exit(0)  # without waiting for processes that are gone
