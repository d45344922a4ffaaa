"""Models that a server can have, quick and without training, and servers in threads."""

import re
import threading
import time
from contextlib import contextmanager
from zlib import crc32

import numpy as np

from sk_ulmfit.explain import Explanation
from sk_ulmfit.serving import Limits, make_app
from sk_ulmfit.serving.server import Server, bind, url_of
from sk_ulmfit.thresholds import decide


class FakeModel:
    """Probabilities and scores that follow from the letters of a text; "sleep 0.5" takes as long as it says."""

    kind = "classifier"
    ranges = None
    explains = True

    def __init__(self, names=("billing", "delivery", "technical"), top_k=None, at_least_one=False, metadata=None):
        self.names, self.top_k, self.at_least_one = list(names), top_k, at_least_one
        self.thresholds = np.linspace(0.4, 0.6, len(self.names))
        self.metadata = metadata or {}
        self.batches = []

    def predict(self, texts):
        self.batches.append(list(texts))
        for text in texts:
            if text.startswith("sleep "):
                time.sleep(float(text.split()[1]))
            if text == "fail":
                raise RuntimeError("the model failed")
        return np.array([[number(f"{k} {text}") for k in range(len(self.names))] for text in texts])

    def decide(self, probabilities):
        return decide(probabilities, self.thresholds, top_k=self.top_k, at_least_one=self.at_least_one)

    def explain(self, text, columns, method):
        if text.startswith("sleep "):
            time.sleep(float(text.split()[1]))
        matches = list(re.finditer(r"\w+", text))
        scores = np.array([[4 * number(f"{k} {m[0]}") - 2 for k in columns] for m in matches])
        proba = self.predict([text])[0][columns]
        return Explanation(
            text=text,
            words=[m[0] for m in matches],
            spans=np.array([m.span() for m in matches], np.int64).reshape(-1, 2),
            labels=[self.names[k] for k in columns],
            proba=proba,
            thresholds=self.thresholds[columns],
            log_odds=np.log(proba / (1 - proba)),
            baseline=np.zeros(len(columns)),
            scores=scores.reshape(-1, len(columns)),
            method=method,
        )


def number(text):
    """A number from 0.001 to 0.999 that follows from a text."""
    return (crc32(text.encode("utf-8", "replace")) % 999 + 1) / 1000


@contextmanager
def served(model, limits=None, **options):
    """Run a server in a thread; yield its address."""
    limits = limits or Limits()
    with bind("127.0.0.1", 0) as bound:
        server = Server(make_app(model, limits=limits, **options), limits)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield url_of(bound)
        finally:
            server.should_exit = True
            thread.join()
