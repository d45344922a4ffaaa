"""Sentence embeddings of all-MiniLM-L6-v2, computed by a Python that has it and cached, for all benchmarks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

EMBEDDER_MB = 90.9  # weights of all-MiniLM-L6-v2


class Embedder:
    """Sentence embeddings, computed by another Python and cached on disk."""

    def __init__(self, python: Path | None, folder: Path, threads: int):
        self.python, self.folder, self.threads = python, folder, threads
        self.known: dict[str, np.ndarray] = {}
        self.milliseconds: dict[str, float] = {}  # per text

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return the embeddings of the texts, shape (n, 384)."""
        keys = [self._key(text) for text in texts]
        if not self.known:
            for path in self.folder.glob("embeddings-*.npz"):
                self._read(path)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self.known}
        if missing:
            self._compute(missing)
        return np.array([self.known[key] for key in keys])

    def time_for(self, texts: list[str]) -> float:
        """Return the milliseconds per text that the embeddings took when they were computed."""
        self(texts)
        return float(np.mean([self.milliseconds[self._key(text)] for text in texts]))

    def _key(self, text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _read(self, path: Path) -> None:
        with np.load(path) as saved:
            keys = saved["keys"].tolist()
            self.known.update(zip(keys, saved["vectors"], strict=True))
            self.milliseconds.update(dict.fromkeys(keys, float(saved["milliseconds"])))

    def _compute(self, texts: dict[str, str]) -> None:
        if self.python is None:
            raise SystemExit("Sentence embeddings need --peer PYTHON; run benchmarks/peers/setup to make one.")
        script = Path(__file__).parent / "peers" / "embed.py"
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "vectors.npy"
            start = time.perf_counter()
            command = [str(self.python), str(script), str(file), str(self.threads)]
            environment = {**os.environ, "PYTHONPATH": ""}
            subprocess.run(command, input=json.dumps(list(texts.values())).encode(), check=True, env=environment)
            milliseconds = (time.perf_counter() - start) / len(texts) * 1000
            keys, vectors = np.array(list(texts)), np.load(file)
        path = self.folder / f"embeddings-{keys[0]}.npz"
        np.savez(path, keys=keys, vectors=vectors, milliseconds=milliseconds)
        self._read(path)
