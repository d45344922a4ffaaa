"""Figures of a running server, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

PATHS = frozenset({"/", "/predict", "/explain", "/labels", "/health", "/metrics", "/openapi.json"})
_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server; texts, labels and tokens are in none of them."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self._requests = Counter(
            "sk_ulmfit_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "sk_ulmfit_request_seconds",
            "Time from the head of a request to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.texts = Counter("sk_ulmfit_texts", "Texts predicted or explained.", registry=self.registry)
        self.batches = Histogram(
            "sk_ulmfit_batch_texts", "Texts computed together.", buckets=_TEXTS, registry=self.registry
        )
        self._waiting = Gauge("sk_ulmfit_waiting_texts", "Texts that wait.", registry=self.registry)
        self.n_requests = 0

    def watch_waiting(self, count: Callable[[], int]) -> None:
        """Take the number of waiting texts from a function."""
        self._waiting.set_function(count)

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count a request; paths that are not of this server are one."""
        if path.startswith("/static/"):
            path = "/static"
        elif path not in PATHS:
            path = "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        self.n_requests += 1

    def text(self) -> bytes:
        """Return all figures."""
        return generate_latest(self.registry)
