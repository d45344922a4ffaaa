"""The checkpoints of a run: two in turn, each with a checksum, so that one is left if the other is damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sk_ulmfit._files import atomic_write
from sk_ulmfit.nn.processes import ALONE, Processes
from sk_ulmfit.pretraining.folder import CHECKPOINTS, EARLIER_CHECKPOINT
from sk_ulmfit.pretraining.log import RunLog
from sk_ulmfit.pretraining.settings import PretrainingError, check_same_run
from sk_ulmfit.pretraining.trainer import Trainer

FORMAT = "sk_ulmfit checkpoint 1"
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


class DamagedCheckpointError(PretrainingError):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The last two checkpoints of a run; the first of its `processes` writes them, and all read them."""

    def __init__(self, folder: Path, log: RunLog, processes: Processes = ALONE):
        self.folder, self.log, self.processes = folder, log, processes
        self.next, self.last = (folder / name for name in CHECKPOINTS)  # to be written, and the one to stay meanwhile

    def save(self, trainer: Trainer) -> None:
        """Write the state of the training in place of the last but one; on failure both remain."""
        state = trainer.state_dict()
        self.processes.from_first(lambda: self._write(state))
        self.next, self.last = self.last, self.next

    def _write(self, state: dict[str, Any]) -> None:
        try:
            write_checkpoint(self.next, state)
        except (OSError, RuntimeError) as error:
            raise PretrainingError(
                f"The checkpoint could not be written to {self.folder} ({_one_line(error)}); fix this and start "
                "again: the run resumes from the previous checkpoint."
            ) from None

    def load(self, trainer: Trainer) -> bool:
        """Continue from the last checkpoint that is not damaged; return whether there is one."""
        path = self.processes.from_first(lambda: last_checkpoint(self.folder, self.log))
        if path is None:
            return False
        self.processes.each(lambda: self._go_on(trainer, path))
        if path == self.next:
            self.next, self.last = self.last, self.next
        return True

    def _go_on(self, trainer: Trainer, path: Path) -> None:
        saved = read_checkpoint(path)
        try:
            check_same_run(saved["pretraining"], trainer.config, self.folder)
            trainer.load_state_dict(saved)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise PretrainingError(
                f"The checkpoint {path} does not fit this run ({_one_line(error)}); delete it to restart the run."
            ) from None

    def remove(self) -> None:
        """Remove both, after the model is written."""
        for path in (self.next, self.last):
            path.unlink(missing_ok=True)


def last_checkpoint(folder: Path, log: RunLog | None = None) -> Path | None:
    """Return the later of the undamaged checkpoints, None if there are none; name damaged ones in the log."""
    steps: dict[Path, int] = {}
    damaged: list[str] = []
    for path in (folder / name for name in CHECKPOINTS):
        if path.exists():
            try:
                steps[path] = _checked_fields(path)["step"]
            except DamagedCheckpointError as error:
                damaged.append(str(error))
    if damaged and not steps:
        raise PretrainingError(f"{' '.join(damaged)} There is no other checkpoint; delete it to restart the run.")
    if not steps:
        _refuse_earlier_version(folder)
        return None
    path = max(steps, key=lambda path: steps[path])
    for message in damaged:
        if log is not None:
            log.write(event="damaged checkpoint", message=message)
            log.say(f"{message} The run resumes from {path.name}, which is whole.")
    return path


def _refuse_earlier_version(folder: Path) -> None:
    if (folder / EARLIER_CHECKPOINT).exists():
        raise PretrainingError(
            f"{folder / EARLIER_CHECKPOINT} was written by an earlier version of sk_ulmfit, without a checksum; finish "
            "the run with that version, or delete the file to restart it."
        )


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state, a nested value of tensors and plain values with a "step", as a safetensors file."""
    tensors: dict[str, Tensor] = {}
    fields = json.dumps(_without_tensors(state, tensors))
    digest = hashlib.blake2b(fields.encode(), digest_size=16)
    for name in sorted(tensors):
        _add(digest, name, tensors[name])
    header: dict[str, Any] = {"__metadata__": {"format": FORMAT, "fields": fields, "digest": digest.hexdigest()}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    start = json.dumps(header).encode()
    start += b" " * (-len(start) % 8)
    with atomic_write(path) as file:
        file.write(len(start).to_bytes(8, "little") + start)
        for tensor in tensors.values():  # one by one, in no more memory than the state has
            file.write(_bytes_of(tensor))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote, in memory; raise DamagedCheckpointError if it is another."""
    from safetensors import safe_open

    fields = _checked_fields(path)
    with safe_open(path, "pt") as file:
        state: dict[str, Any] = _with_tensors(fields["state"], file)
    return state


def _checked_fields(path: Path) -> dict[str, Any]:
    """Return the plain part of a checkpoint and its step, after comparing the checksum of the whole."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            digest = hashlib.blake2b(header["fields"].encode(), digest_size=16)
            for name in sorted(file.keys()):
                _add(digest, name, file.get_tensor(name))
        if header["digest"] != digest.hexdigest():
            raise ValueError("its contents do not match its checksum")
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format'][:40]!r}")
        state = json.loads(header["fields"])
        return {"state": state, "step": dict(state["dict"])["step"]}
    except MemoryError:
        raise
    except Exception as error:  # of any type, from a damaged header
        raise DamagedCheckpointError(f"The checkpoint {path} is damaged ({_one_line(error)}).") from None


def _add(digest: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor on the CPU to a checksum."""
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(_bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _without_tensors(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """Return a nested value as JSON has it; its tensors are put into `tensors`, by their place in it."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _without_tensors(part, tensors, f"{name}/{key}")] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_without_tensors(part, tensors, f"{name}/{i}") for i, part in enumerate(value)]}
    return value


def _with_tensors(value: Any, file: Any) -> Any:
    """Return the nested value that `_without_tensors` was given, with lists in place of tuples."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return file.get_tensor(value["tensor"]).clone()
    if "dict" in value:
        return {key: _with_tensors(part, file) for key, part in value["dict"]}
    return [_with_tensors(part, file) for part in value["list"]]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
