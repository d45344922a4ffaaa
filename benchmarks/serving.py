"""Load test of ``sk-ulmfit serve``: clients that never rest, and requests of all kinds, right and wrong.

    python benchmarks/serving.py MODEL [--seconds 600] [--clients 16] [--kind mixed|short]

Starts a server for the model and lets each client send one request after the other, for `--seconds`. "short" sends one text of
5 to 40 words each: the figures for requests a second, median and 99th percentile. "mixed" also sends several texts at once, empty ones, texts of
1 MB, explanations, and 10 % broken requests: not JSON, wrong types, too large, unknown paths, connections that end early.

Every answer is checked: the status must be the documented one, and probabilities must be those that the model gives to the text alone, to
1e-5. The memory of the server is noted every second. Prints a table, and one line of JSON with --json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

TOLERANCE = 1e-5
N_TEXTS = 400  # different ones


@dataclass
class Figures:
    """What all clients together have seen."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    n_compared: int = 0
    furthest: float = 0.0
    memory: list[float] = field(default_factory=list)  # MB, one a second
    processor_seconds: float = 0.0  # of the server

    def compare(self, texts: list[str], answer: dict[str, Any], expected: dict[str, Any]) -> None:
        """Compare an answer with the predictions of each text alone."""
        for text, prediction in zip(texts, answer["predictions"], strict=True):
            outputs = prediction.get("probabilities") or prediction["values"]
            shift = float(np.abs(np.array(list(outputs.values())) - expected[text]).max())
            self.n_compared += 1
            self.furthest = max(self.furthest, shift)
            if shift > TOLERANCE:
                self.wrong.append(f"{text[:40]!r} is off by {shift:.1e}")


def random_texts(rng: np.random.Generator, words: list[str], lengths: tuple[int, int], n: int) -> list[str]:
    return [" ".join(rng.choice(words, size=rng.integers(*lengths)).tolist()) for _ in range(n)]


def broken_request(rng: np.random.Generator) -> tuple[str, dict[str, Any], int]:
    """Return path, arguments of the request, and the status that it must get."""
    json_type = {"Content-Type": "application/json"}
    return [
        ("/predict", {"content": b'{"texts": [', "headers": json_type}, 400),
        ("/predict", {"json": {"texts": [1, 2]}}, 422),
        ("/predict", {"json": {"texts": ["a"] * 300}}, 413),
        ("/predict", {"content": b"x" * 5_000_000, "headers": json_type}, 413),
        ("/predict", {"content": b"texts=a", "headers": {"Content-Type": "text/plain"}}, 415),
        ("/explain", {"json": {"text": "a", "labels": ["../../etc/passwd"]}}, 422),
        ("/../../etc/passwd", {"json": {}}, 404),
        ("/health", {"json": {}}, 405),
    ][int(rng.integers(8))]


class Client:
    """One client; `texts` has the kinds of texts, `expected` the prediction of each."""

    def __init__(self, url: str, seed: int, texts: dict[str, list[str]], expected: dict[str, Any], figures: Figures):
        self.url, self.texts, self.expected, self.figures = url, texts, expected, figures
        self.rng = np.random.default_rng(seed)

    async def run(self, kind: str, end: float) -> None:
        """Send one request after the other until the time `end`."""
        async with httpx.AsyncClient(base_url=self.url, timeout=120) as http:
            while time.perf_counter() < end:
                what = "short" if kind == "short" else self._what()
                began = time.perf_counter()
                try:
                    await getattr(self, what)(http)
                except httpx.HTTPError as error:
                    self.figures.wrong.append(f"{what}: {type(error).__name__} {error}")
                self.figures.seconds.setdefault(what, []).append(time.perf_counter() - began)

    def _what(self) -> str:
        kinds = {
            "short": 0.7,
            "several": 0.1,
            "empty": 0.05,
            "huge": 0.02,
            "explain": 0.03,
            "broken": 0.08,
            "leave": 0.02,
        }
        return str(self.rng.choice(list(kinds), p=list(kinds.values())))

    async def short(self, http: httpx.AsyncClient) -> None:
        """Predict a short text."""
        await self._predict(http, "short", [str(self.rng.choice(self.texts["short"]))])

    async def several(self, http: httpx.AsyncClient) -> None:
        """Predict eight longer texts."""
        await self._predict(http, "several", self.rng.choice(self.texts["long"], size=8).tolist())

    async def empty(self, http: httpx.AsyncClient) -> None:
        """Predict an empty text."""
        await self._predict(http, "empty", [""])

    async def huge(self, http: httpx.AsyncClient) -> None:
        """Send a text of 1 MB, which is beyond the limit."""
        await self._send(http, "huge", "/predict", {"json": {"texts": ["lamp " * 200_000]}}, {413})

    async def explain(self, http: httpx.AsyncClient) -> None:
        """Explain a few words."""
        text = " ".join(str(self.rng.choice(self.texts["short"])).split()[:8])
        await self._send(http, "explain", "/explain", {"json": {"text": text}}, {200, 503})

    async def broken(self, http: httpx.AsyncClient) -> None:
        """Send a request that must get an error."""
        path, arguments, status = broken_request(self.rng)
        await self._send(http, "broken", path, arguments, {status})

    async def leave(self, http: httpx.AsyncClient) -> None:
        """Send a half of a request, and go."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        self.figures.statuses["leave", 0] += 1

    async def _predict(self, http: httpx.AsyncClient, what: str, texts: list[str]) -> None:
        response = await self._send(http, what, "/predict", {"json": {"texts": texts}}, {200, 503})
        if response.status_code == 200:
            self.figures.compare(texts, response.json(), self.expected)

    async def _send(
        self, http: Any, what: str, path: str, arguments: dict[str, Any], right: set[int]
    ) -> httpx.Response:
        response = await http.post(path, **arguments)
        self.figures.statuses[what, response.status_code] += 1
        if response.status_code not in right:
            self.figures.wrong.append(f"{what}: status {response.status_code}: {response.text[:200]}")
        return response


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def watch_memory(pid: int, figures: Figures) -> None:
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        figures.memory.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1e3)
        await asyncio.sleep(1)


async def load(url: str, pid: int, options: argparse.Namespace, texts: Any, expected: Any) -> Figures:
    warm_up = Figures()
    end = time.perf_counter() + min(5.0, options.seconds / 4)
    await asyncio.gather(
        *(Client(url, 1000 + k, texts, expected, warm_up).run(options.kind, end) for k in range(options.clients))
    )
    figures = Figures(processor_seconds=-processor_seconds(pid))
    watching = asyncio.create_task(watch_memory(pid, figures))
    end = time.perf_counter() + options.seconds
    await asyncio.gather(
        *(Client(url, k, texts, expected, figures).run(options.kind, end) for k in range(options.clients))
    )
    watching.cancel()
    figures.processor_seconds += processor_seconds(pid)
    return figures


def summary(figures: Figures, seconds: float) -> dict[str, Any]:
    times = {
        what: {
            "requests": len(some),
            "median_ms": round(1e3 * float(np.median(some)), 1),
            "p99_ms": round(1e3 * float(np.percentile(some, 99)), 1),
        }
        for what, some in sorted(figures.seconds.items())
    }
    n = len(figures.memory)
    parts = (
        [float(np.mean(figures.memory[k * n // 5 : (k + 1) * n // 5 or 1])) for k in range(5)]
        if n >= 5
        else figures.memory
    )
    return {
        "requests_per_second": round(sum(map(len, figures.seconds.values())) / seconds, 1),
        "processor_ms_per_request": round(
            1e3 * figures.processor_seconds / max(sum(map(len, figures.seconds.values())), 1), 2
        ),
        "times": times,
        "statuses": {f"{what} {status}": count for (what, status), count in sorted(figures.statuses.items())},
        "compared": figures.n_compared,
        "largest_shift": figures.furthest,
        "memory_mb_by_fifth": [round(part) for part in parts],
        "memory_mb_highest": round(max(figures.memory, default=0)),
        "wrong": len(figures.wrong),
        "wrong_first": figures.wrong[:5],
    }


def offline(model_file: Path, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Return the prediction of each text alone."""
    from sk_ulmfit.serving.models import load_served

    model = load_served(model_file)
    return {text: model.predict([text])[0] for some in texts.values() for text in some}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kind", choices=["mixed", "short"], default="mixed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    from sk_ulmfit.datasets import load_support_messages

    words = " ".join(load_support_messages("train").texts).split()
    rng = np.random.default_rng(0)
    texts = {
        "short": random_texts(rng, words, (5, 41), N_TEXTS),
        "long": random_texts(rng, words, (20, 200), N_TEXTS // 4),
        "empty": [""],
    }
    expected = offline(options.model, texts)
    command = [sys.executable, "-m", "sk_ulmfit", "serve", str(options.model), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"on (http://\S+);", server.stderr.readline())[1]
            figures = asyncio.run(load(url, server.pid, options, texts, expected))
        finally:
            server.terminate()
            out, err = server.communicate(timeout=60)
    result = {
        "kind": options.kind,
        "clients": options.clients,
        "seconds": options.seconds,
        **summary(figures, options.seconds),
    }
    result |= {"exit": server.returncode, "server_said": (out + err).strip()[-500:]}
    print(json.dumps(result) if options.json else "\n".join(f"{key:22} {value}" for key, value in result.items()))


if __name__ == "__main__":
    main()
