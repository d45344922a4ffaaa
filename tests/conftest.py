import os
import signal
from dataclasses import replace

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch: threads of two workers on two cores wait for each other

import numpy as np
import pytest
import torch

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models.state import save_state
from sk_ulmfit.nn.pooled_layers import n_pooled

SUBJECTS = ["lamp", "hub", "parcel", "invoice", "app", "bulb"]
STATES = {"late": "delivery", "lost": "delivery", "broken": "technical", "flickering": "technical", "wrong": "billing"}


def make_corpus(n=40, seed=0):
    """Short texts whose labels follow from their words."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(n):
        states = rng.choice(list(STATES), size=rng.integers(1, 3), replace=False)
        subject = rng.choice(SUBJECTS)
        texts.append(f"My {subject} is {' and '.join(states)} again, please help me with the {subject}!")
        labels.append(sorted({STATES[s] for s in states}))
    return texts, labels


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _usual_ctrl_c():
    """Tests that press Ctrl-C also run where the shell ignores it, as for jobs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def corpus():
    return make_corpus()


def tiny_lm(**params):
    return ULMFiTLanguageModel(
        **{
            **{"max_epochs": 1, "emb_dim": 12, "hidden_dim": 16, "n_layers": 2, "bptt": 10, "min_frequency": 1},
            **params,
        }
    )


def tiny_classifier(**params):
    settings = {
        "language_model": tiny_lm(),
        "max_epochs": 3,
        "lr": 0.03,
        "batch_size": 8,
        "bptt": 10,
        "tfidf": False,  # what most tests ask of is the network
        "random_state": 0,
    }
    return ULMFiTMultiLabelClassifier(**{**settings, **params})


def with_vector(lm, path, dim=6, seed=0):
    """Save a fitted language model with a vector of random weights at a path, and load it again."""
    state, rng = lm.state_, np.random.default_rng(seed)
    n_features = n_pooled(*(state.config[name] for name in ("emb_dim", "hidden_dim", "n_layers")))
    arrays = {
        "vector.word_weight": rng.uniform(0.1, 1.0, (len(state.vocabulary), 1)),
        "vector.weight": rng.normal(size=(dim, n_features)),
        "vector.bias": rng.normal(size=dim),
    }
    kept = {name: array for name, array in state.weights.items() if not name.startswith("teacher.")}
    weights = {**kept, **{name: array.astype(np.float32) for name, array in arrays.items()}}
    save_state(replace(state, config={**state.config, "vector_dim": dim}, weights=weights), path)
    return ULMFiTLanguageModel.load(path)


@pytest.fixture(scope="session")
def fitted():
    """A classifier that has learned its texts well; tests must not change it."""
    body = tiny_lm(emb_dim=24, hidden_dim=32)
    return tiny_classifier(language_model=body, max_epochs=20, dropout_multiplier=0.1).fit(*make_corpus(120, seed=7))
