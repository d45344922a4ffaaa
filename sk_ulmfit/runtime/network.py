"""A network in onnxruntime: token ids in, outputs of the head out, window by window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.runtime.graph import Graph
from sk_ulmfit.text.vocabulary import TokenIds

Floats = NDArray[np.float64]

ROWS = 64  # texts side by side
WINDOW, LONGEST_WINDOW = 32, 256  # tokens; as the state is carried over, window lengths do not change results
TOKENS_AT_ONCE = 2048


class OnnxNetwork:
    """A network; threads may share it.

    Parameters
    ----------
    content : bytes
        ONNX file, which was checked.
    graph : Graph
        What it holds.
    config : mapping
        Configuration of the network.
    n_threads : int
        Threads of each operator.
    """

    def __init__(self, content: bytes, graph: Graph, config: Mapping[str, Any], n_threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the CPU
        self.config = config
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._outputs = ["outputs", *(f"new_{name}" for name in _states(graph))]
        self._states = _states(graph)

    def outputs(self, corpus: TokenIds) -> Floats:
        """Compute the outputs for documents in the reading order of the network, shape (n, K)."""
        order = np.argsort(-corpus.lengths, kind="stable")
        parts = [self._run(corpus, order[start : start + ROWS]) for start in range(0, len(order), ROWS)]
        outputs = np.concatenate(parts)
        in_order = np.empty_like(outputs, np.float64)
        in_order[order] = outputs
        return in_order

    def _run(self, corpus: TokenIds, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """Compute the outputs for some documents, longest first."""
        lengths = corpus.lengths_of(documents)
        kept = lengths if self.config["max_length"] is None else np.minimum(lengths, self.config["max_length"])
        states = {name: _start(name, shape, len(documents)) for name, shape in self._states.items()}
        results: list[NDArray[np.float32]] = []  # of the shortest documents first
        begin, n = 0, len(documents)
        while n:
            n_now = np.minimum(lengths[:n] - begin, min(max(WINDOW, TOKENS_AT_ONCE // n), LONGEST_WINDOW))
            window = {
                "ids": _window(corpus, documents[:n], begin, n_now),
                "lengths": n_now.astype(np.int32),
                "pooled_from": np.maximum(lengths[:n] - kept[:n] - begin, -1).astype(np.int32),
            }
            outputs, *new = self._session.run(self._outputs, window | states)
            begin += int(n_now[0])
            n = int(np.count_nonzero(lengths > begin))
            results.append(outputs[n:])
            states = {
                name: part[:, :n] if len(shape) == 3 else part[:n]
                for (name, shape), part in zip(self._states.items(), new, strict=True)
            }
        return np.concatenate(results[::-1])


def count_threads(n_threads: int | None) -> int:
    """Return a number of threads; None is OMP_NUM_THREADS or, as in torch, one for each processor of this process."""
    if n_threads is not None:
        return n_threads
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _states(graph: Graph) -> dict[str, tuple[int | str, ...]]:
    return {name: value.shape for name, value in graph.inputs.items() if f"new_{name}" in graph.outputs}


def _start(name: str, shape: tuple[int | str, ...], n: int) -> NDArray[np.float32]:
    sizes = tuple(size if isinstance(size, int) else n for size in shape)
    return np.full(sizes, -1 if name == "largest" else 0, np.float32)


def _window(corpus: TokenIds, documents: NDArray[np.int64], begin: int, n_now: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the next token ids of documents, 0 where they have ended, shape (n, most of `n_now`)."""
    steps = np.arange(n_now[0])
    place = (corpus.offsets[documents] + begin)[:, None] + steps
    is_real = steps < n_now[:, None]
    return np.where(is_real, corpus.ids[np.where(is_real, place, 0)], 0).astype(np.int64)
