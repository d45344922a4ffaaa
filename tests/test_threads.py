"""Whatever other threads do meanwhile, a fit gives the same bits, and takes nothing from them."""

import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import joblib
import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm
from fuzz import forks, kills, threads
from scipy import sparse
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC

from sk_ulmfit import MultiLabelThresholdTuner, ULMFiTMultiLabelClassifier
from sk_ulmfit._locks import ForkSafeLock
from sk_ulmfit.nn.device import reseed, seeded
from sk_ulmfit.text.tokenizer import get_tokenizer, tokenize
from sk_ulmfit.training import liblinear

TEXTS, LABELS = make_corpus(60, seed=1)


@contextmanager
def beside(work):
    """Repeat a work in another thread while the block runs."""
    done, failed = threading.Event(), []

    def repeat():
        try:
            while not done.is_set():
                work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not failed


def svm_problem(n=80, n_terms=400, seed=0):
    rng = np.random.default_rng(seed)
    return sparse.random(n, n_terms, 0.1, "csr", np.float32, random_state=seed), rng.random(n) > 0.6


def predictions(**params):
    return tiny_classifier(tfidf=True, max_epochs=1, **params).fit(TEXTS, LABELS).predict_proba(TEXTS)


def disturb():
    torch.manual_seed(1)
    torch.rand(100)
    LinearSVC(random_state=1, dual=True, max_iter=50, tol=1e-9).fit(*svm_problem())


@pytest.mark.filterwarnings("ignore:Liblinear failed to converge")
def test_what_other_threads_draw_does_not_change_a_fit():
    alone = predictions()
    with beside(disturb):
        for _ in range(3):
            assert np.array_equal(predictions(), alone)


def test_a_fit_does_not_change_what_other_threads_draw():
    problem = svm_problem(300, 2000)
    torch.manual_seed(5)
    first, expected = torch.rand(3), torch.rand(100)
    expected_svm = LinearSVC(random_state=3).fit(*problem).coef_
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), first)
    predictions()
    assert torch.equal(torch.rand(100), expected)
    with beside(lambda: liblinear.train_svm(*problem, None, 1.0, 1e-4, 7)):
        for _ in range(20):
            assert np.array_equal(LinearSVC(random_state=3).fit(*problem).coef_, expected_svm)


def test_a_search_in_threads_scores_as_a_search_alone():
    def scores(n_jobs):
        grid = {"lr": [0.01, 0.03]}
        search = GridSearchCV(tiny_classifier(tfidf=True, max_epochs=1), grid, cv=2, n_jobs=n_jobs, refit=False)
        y = np.array([["technical" in labels, "delivery" in labels] for labels in LABELS], int)
        scored = search.set_params(scoring=neg_brier).fit(TEXTS, y)
        return scored.cv_results_["mean_test_score"]

    def neg_brier(clf, X, y):
        return -((clf.predict_proba(X) - y) ** 2).mean()

    alone = scores(None)
    with joblib.parallel_backend("threading"):
        assert np.array_equal(scores(2), alone)


@pytest.mark.parametrize(("n", "n_terms"), [(80, 400), (400, 80), (50, 50)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_an_svm_is_that_of_linear_svc(monkeypatch, n, n_terms, weighted, own):
    if own and liblinear._own_liblinear() is None:
        pytest.skip("no copy of liblinear on this system")
    if not own:
        monkeypatch.setattr(liblinear, "_own_liblinear", lambda: None)
    features, has_label = svm_problem(n, n_terms)
    weight = np.linspace(0.5, 1.5, n, dtype=np.float32) if weighted else None
    expected = LinearSVC(C=0.3, tol=0.1, random_state=4).fit(features, has_label, weight)
    weights, bias = liblinear.train_svm(features, has_label, weight, 0.3, 0.1, 4)
    assert np.array_equal(weights, expected.coef_[0])
    assert bias == expected.intercept_[0]


def test_training_of_svms_leaves_the_filters_of_warnings_alone():
    before = list(warnings.filters)
    with beside(lambda: liblinear.train_svm(*svm_problem(), None, 1.0, 1e-9, 0)):
        for _ in range(200):
            assert warnings.filters == before


DRAWS = {
    "uniform": lambda: torch.empty(7).uniform_(),
    "bits": lambda: torch.empty(7, dtype=torch.int64).random_(-(2**63), None),
    "rand": lambda: torch.rand(2, 3),
    "randn": lambda: torch.randn(5, device="cpu"),
    "randperm": lambda: torch.randperm(9),
    "dropout": lambda: torch.nn.functional.dropout(torch.arange(20.0), 0.3),
    "dropout module": lambda: torch.nn.Dropout(0.4)(torch.ones(4, 5)),
    "no dropout": lambda: torch.nn.functional.dropout(torch.arange(20.0), 0.0),
    "dropout of all": lambda: torch.nn.functional.dropout(torch.arange(20.0), 1.0),
    "linear": lambda: torch.nn.Linear(4, 3).weight.detach(),
    "embedding": lambda: torch.nn.Embedding(4, 3).weight.detach(),
    "lstm": lambda: torch.nn.LSTM(3, 2).weight_hh_l0.detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seeded_block_draws_the_numbers_of_its_seed_and_none_of_the_process(name):
    torch.manual_seed(11)
    expected = [DRAWS[name]() for _ in range(2)]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    with seeded(11, "cpu"):
        drawn = [DRAWS[name]() for _ in range(2)]
        with seeded(11, "cpu"):
            inner = DRAWS[name]()
        reseed(11)
        again = DRAWS[name]()
    assert all(map(torch.equal, drawn, expected))
    assert torch.equal(inner, expected[0])
    assert torch.equal(again, expected[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("params", [{}, {"unfreezing": "head"}, {"direction": "both"}, {"precision": "bfloat16"}])
def test_a_fit_draws_nothing_from_the_generators_of_the_process(params):
    torch.manual_seed(3)
    np.random.seed(3)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    clf = tiny_classifier(language_model=tiny_lm(), tfidf=True, max_epochs=1, early_stopping=True, **params)
    clf.fit(TEXTS, LABELS)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_fuzz():
    assert set(threads.run(n_fits=8, n_predictions=25, seed=1)) <= threads.EXPECTED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fuzz_of_forks():
    assert set(forks.run(n=2, seed=0)) == forks.EXPECTED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fuzz_of_kills():
    assert set(kills.run(n=12, seed=0)) - {"leftovers of kills, before the next run"} <= kills.EXPECTED


def test_fits_with_memory_in_threads_leave_the_filters_of_warnings_alone(tmp_path):
    def fit(seed):
        clf = tiny_classifier(memory=tmp_path, max_epochs=1, random_state=seed, language_model=tiny_lm(max_epochs=0))
        clf.fit(TEXTS[:12], LABELS[:12])

    fit(8)  # the first fit of a process imports packages that add filters
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fit, range(8)))
    assert warnings.filters == before


def held_by_another_thread(lock):
    """Let a thread take a lock and keep it until the event is set."""
    taken, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            release.wait()

    threading.Thread(target=hold, daemon=True).start()
    taken.wait()
    return release


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_finds_the_locks_of_other_threads_free_and_its_own_held():
    interrupted = []
    others, own = ForkSafeLock(on_interruption=lambda: interrupted.append(1)), ForkSafeLock()
    release = held_by_another_thread(others)

    def answer():
        with others, own:
            return len(interrupted)

    with own:
        assert forks.outcome_of_fork(answer, 1) == "right"
    release.set()
    assert not interrupted
    assert answer() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_tokenizes_although_another_thread_did():
    expected = tokenize("some words, and some more")
    release = held_by_another_thread(get_tokenizer()._lock)
    outcome = forks.outcome_of_fork(lambda: tokenize("some words, and some more"), expected)
    release.set()
    assert outcome == "right"


def test_threads_that_save_to_one_path_leave_one_whole_file(tmp_path, fitted):
    other = tiny_classifier(max_epochs=1).fit(TEXTS, LABELS)
    expected = [clf.predict_proba(TEXTS[:3]).tobytes() for clf in (fitted, other)]
    seen = []

    def save(i):
        (fitted, other)[i % 2].save(tmp_path / "model")
        seen.append(ULMFiTMultiLabelClassifier.load(tmp_path / "model").predict_proba(TEXTS[:3]).tobytes())

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, range(24)))
    assert set(seen) <= set(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


class RefitWhileRead(list):
    """Texts that refit an estimator, to other labels, when they are read."""

    def __init__(self, texts, estimator):
        super().__init__(texts)
        self.estimator = estimator

    def __iter__(self):
        if self.estimator is not None:
            estimator, self.estimator = self.estimator, None
            estimator.fit(TEXTS, [["any"], ["any", "other"]] * (len(TEXTS) // 2))
        return super().__iter__()


ANSWERS = {
    "predict": lambda estimator, texts: estimator.predict(texts),
    "predict_proba": lambda estimator, texts: estimator.predict_proba(texts),
    "predict_labels": lambda estimator, texts: estimator.predict_labels(texts),
    "score": lambda estimator, texts: estimator.score(texts, LABELS[:5]),
    "explain": lambda estimator, texts: [(e.labels, e.thresholds.tolist()) for e in estimator.explain(texts)],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("tuner", [False, True])
def test_what_is_asked_during_a_refit_comes_from_the_fit_before(answer, tuner):
    estimator = tiny_classifier(max_epochs=1, threshold="tune")
    if tuner and answer == "explain":
        pytest.skip("a tuner has no explanations")
    if tuner:
        estimator = MultiLabelThresholdTuner(tiny_classifier(max_epochs=1), cv=2, random_state=0)
    estimator.fit(TEXTS, LABELS)
    expected = ANSWERS[answer](estimator, TEXTS[:5])
    found = ANSWERS[answer](estimator, RefitWhileRead(TEXTS[:5], estimator))
    assert estimator.label_names_.tolist() == ["any", "other"]
    np.testing.assert_equal(found, expected)
