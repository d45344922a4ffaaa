"""Predictions and explanations of a model as answers to requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from sk_ulmfit._messages import short, short_names
from sk_ulmfit.serving.batching import Lane
from sk_ulmfit.serving.errors import RequestError
from sk_ulmfit.serving.limits import Limits
from sk_ulmfit.serving.metrics import Metrics
from sk_ulmfit.serving.models import Floats, ServedModel
from sk_ulmfit.serving.threads import computing_threads
from sk_ulmfit.text.tokenizer import join_fields

QUICK_CHARACTERS = 4_000  # of all texts of a request; longer ones take another lane


class _Explained(NamedTuple):
    text: str
    columns: list[int]
    method: str


class Service:
    """One model, and the threads that compute.

    Short requests never wait for long ones: they have a thread of their own. Explanations and long requests share the
    other one.
    """

    def __init__(self, model: ServedModel, name: str, limits: Limits, metrics: Metrics, n_threads: int | None = None):
        self.model, self.name, self.limits, self.metrics = model, name, limits, metrics
        self._n_threads = n_threads
        self._columns = {label: k for k, label in enumerate(model.names)}
        self._is_running = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the lanes; those that wait when the block ends are left without an answer."""
        limits, seen = self.limits, self.metrics.batches.observe
        with computing_threads(self._n_threads) as (quick, slow):
            self._quick: Lane[str, Floats] = Lane(self._predict, len, quick, limits.waiting_texts, seen)
            self._long: Lane[str, Floats] = Lane(self._predict, len, slow, limits.waiting_texts, seen)
            self._explaining: Lane[_Explained, Any] = Lane(self._explain, _length, slow, limits.waiting_explanations)
            lanes: tuple[Lane[Any, Any], ...] = (self._quick, self._long, self._explaining)
            self.metrics.watch_waiting(lambda: sum(lane.n_waiting for lane in lanes))
            tasks = [asyncio.create_task(lane.run()) for lane in lanes]
            self._is_running = True
            try:
                yield
            finally:
                self._is_running = False
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with suppress(asyncio.CancelledError):
                        await task

    def describe(self) -> dict[str, Any]:
        """Return what a page needs to know of the model."""
        model, limits = self.model, self.limits
        columns = model.metadata.get("text") or []
        thresholds = model.thresholds if model.thresholds is not None else [None] * len(model.names)
        ranges: Sequence[tuple[float, float] | None] = model.ranges or [None] * len(model.names)
        return {
            "model": self.name,
            "kind": model.kind,
            "outputs": [
                {
                    "name": name,
                    "threshold": None if threshold is None else float(threshold),
                    "range": None if ends is None else [end if np.isfinite(end) else None for end in ends],
                }
                for name, threshold, ends in zip(model.names, thresholds, ranges, strict=True)
            ],
            "top_k": model.top_k,
            "at_least_one": model.at_least_one,
            "explains": model.explains,
            "text_columns": [columns] if isinstance(columns, str) else [str(column) for column in columns],
            "delimiter": str(model.metadata.get("delimiter") or ";"),
            "limits": {
                "texts": limits.texts,
                "characters": limits.characters,
                "explained_characters": limits.explained_characters,
                "body_bytes": limits.body_bytes,
            },
        }

    async def predict(self, texts: Sequence[str | list[str]]) -> dict[str, Any]:
        """Return the predictions of texts, of which each may be a list of fields."""
        self._check_running()
        plain = self._checked(texts)
        lane = self._quick if sum(map(len, plain)) <= QUICK_CHARACTERS else self._long
        rows = np.array(await lane.submit(plain))
        self.metrics.texts.inc(len(plain))
        return {"predictions": self._predictions(rows)}

    async def explain(self, text: str | list[str], labels: list[str] | None, method: str) -> dict[str, Any]:
        """Return the scores of the words of a text for some labels, or for those predicted."""
        if not self.model.explains:
            raise RequestError(
                422, "An exported model has no explanations; serve the saved model that it was exported from."
            )
        self._check_running()
        plain = _joined(text)
        _check_length("The text", plain, self.limits.explained_characters, "can be explained")
        if labels is None:
            columns = await self._predicted_columns(plain)
        else:
            columns = self._columns_of(labels)
        explained = await self._explaining.submit([_Explained(plain, columns, method)])
        self.metrics.texts.inc()
        return _explanation(explained[0])

    def _check_running(self) -> None:
        if not self._is_running:
            raise RequestError(
                503, "The application has not started; run it with an ASGI server that supports lifespan events."
            )

    def _checked(self, texts: Sequence[str | list[str]]) -> list[str]:
        if not texts:
            raise RequestError(422, "texts is empty; send at least one text.")
        if len(texts) > self.limits.texts:
            raise RequestError(413, f"There are {len(texts):,} texts; at most {self.limits.texts:,} are accepted.")
        plain = [_joined(text) for text in texts]
        for k, text in enumerate(plain):
            _check_length(f"texts[{k}]", text, self.limits.characters, "are accepted")
        return plain

    def _columns_of(self, labels: list[str]) -> list[int]:
        most = self.limits.explained_labels
        if not labels or len(labels) > most:
            raise RequestError(422, f"labels must have 1 to {most} names, got {len(labels):,}; or omit it.")
        unknown = [label for label in labels if label not in self._columns]
        if unknown:
            what, names = "label" if self.model.kind == "classifier" else "target", short_names(self.model.names)
            raise RequestError(
                422, f"labels has {short(unknown[0], 40)}, which is not a {what} of this model: {names}."
            )
        return [self._columns[label] for label in dict.fromkeys(labels)]

    async def _predicted_columns(self, text: str) -> list[int]:
        """Return the labels that a text gets, or the most probable one; all targets of a regressor."""
        most = self.limits.explained_labels
        if self.model.kind == "regressor":
            return list(range(len(self.model.names)))[:most]
        row = np.array(await self._quick.submit([text]))
        by_probability = np.argsort(-row[0], kind="stable")
        decided = self.model.decide(row)[0]
        return [int(k) for k in by_probability if decided[k]][:most] or [int(by_probability[0])]

    def _predictions(self, rows: Floats) -> list[dict[str, Any]]:
        names = self.model.names
        named = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
        if self.model.kind == "regressor":
            return [{"values": values} for values in named]
        decided = self.model.decide(rows).tolist()
        return [
            {"labels": [name for name, is_in in zip(names, flags, strict=True) if is_in], "probabilities": by_name}
            for flags, by_name in zip(decided, named, strict=True)
        ]

    def _predict(self, texts: list[str]) -> Floats:
        return self.model.predict(texts)

    def _explain(self, items: list[_Explained]) -> list[Any]:
        return [self.model.explain(*item) for item in items]


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else join_fields(text)


def _length(item: _Explained) -> int:
    return len(item.text)


def _check_length(what: str, text: str, most: int, accepted: str) -> None:
    if len(text) > most:
        raise RequestError(413, f"{what} has {len(text):,} characters; at most {most:,} {accepted}.")


def _explanation(explained: Any) -> dict[str, Any]:
    """Return an explanation as an answer: the words once, and their scores for each label or target."""
    spans = explained.spans.tolist()
    return {
        "text": explained.text,
        "words": [{"word": w, "begin": b, "end": e} for w, (b, e) in zip(explained.words, spans, strict=True)],
        "outputs": [
            {"name": str(name), **_figures(explained, k), "scores": explained.scores[:, k].tolist()}
            for k, name in enumerate(explained.labels)
        ],
    }


def _figures(explained: Any, k: int) -> dict[str, float]:
    baseline = float(explained.baseline[k])
    if hasattr(explained, "values"):
        return {"value": float(explained.values[k]), "baseline": baseline}
    return {
        "probability": float(explained.proba[k]),
        "threshold": float(explained.thresholds[k]),
        "baseline": float(1 / (1 + np.exp(-baseline))),
    }
