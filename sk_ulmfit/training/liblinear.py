"""One linear SVM by liblinear, whose random numbers no other thread disturbs.

liblinear draws from one generator of the process, without the lock of Python: SVMs that two threads train at the same
time, here or in the user's code, get each other's numbers. So this package trains with a copy of liblinear that has a
generator of its own.
"""

from __future__ import annotations

import functools
import os
import warnings
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from sk_ulmfit._locks import WARNING_FILTERS, ForkSafeLock

Floats = NDArray[np.float64]

MAX_ITERATIONS = 1_000  # more do not pay
DUAL, PRIMAL = 1, 2  # solvers of liblinear for the squared hinge loss
_LIBLINEAR = ForkSafeLock()


def train_svm(
    features: sparse.csr_matrix,
    has_label: NDArray[np.bool_],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    tolerance: float,
    seed: int,
) -> tuple[Floats, float]:
    """Train a linear SVM, as ``LinearSVC`` does; return its weights and its bias.

    `features` has the shape (n, n_terms), `has_label` (n,), both values in it, and `document_weight` (n,); `strength`
    is C. Without a copy of liblinear, SVMs that the user trains in other threads may change the result.
    """
    with _LIBLINEAR:
        liblinear = _own_liblinear()
        if liblinear is not None:
            return _with(liblinear, features, has_label, document_weight, strength, tolerance, seed)
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return _with_linear_svc(features, has_label, document_weight, strength, tolerance, seed)


def _with(
    liblinear: Any,
    features: sparse.csr_matrix,
    has_label: NDArray[np.bool_],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    tolerance: float,
    seed: int,
) -> tuple[Floats, float]:
    """Call liblinear as ``LinearSVC.fit`` does."""
    n, n_terms = features.shape
    weight = np.ones(n) if document_weight is None else document_weight.astype(np.float64)
    solver = DUAL if n < n_terms else PRIMAL
    liblinear_seed = np.random.RandomState(seed).randint(np.iinfo("i").max)
    coefficients, _ = liblinear.train_wrap(
        features.astype(np.float64, copy=False), has_label.astype(np.float64), True, solver, tolerance, 1.0, strength,
        np.ones(2), MAX_ITERATIONS, liblinear_seed, 0.1, weight,
    )  # fmt: skip
    return coefficients[0, :-1], float(coefficients[0, -1])


def _with_linear_svc(
    features: sparse.csr_matrix,
    has_label: NDArray[np.bool_],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    tolerance: float,
    seed: int,
) -> tuple[Floats, float]:
    svm = LinearSVC(C=strength, tol=tolerance, max_iter=MAX_ITERATIONS, random_state=seed)
    svm.fit(features, has_label, document_weight)
    return svm.coef_[0], float(svm.intercept_[0])


@functools.cache
def _own_liblinear() -> Any:
    """Load scikit-learn's liblinear a second time; None if that is not possible, or trains other SVMs.

    The system loads a library twice only if it comes from two files; the second one is in memory.
    """
    features = sparse.csr_matrix(np.tril(np.ones((4, 5))) + np.eye(4, 5, 1))
    problem = (features, np.array([True, False, True, False]), None, 1.0, 0.1, 0)
    try:
        liblinear = _load_copy()
        liblinear.set_verbosity_wrap(0)
        weights, bias = _with(liblinear, *problem)
    except Exception:  # other systems, and other builds and versions of scikit-learn, raise various errors
        return None
    expected, expected_bias = _with_linear_svc(*problem)
    return liblinear if np.array_equal(weights, expected) and bias == expected_bias else None


def _load_copy() -> Any:
    from sklearn.svm import _liblinear

    with open(os.memfd_create("liblinear"), "w+b") as copy, open(_liblinear.__file__, "rb") as original:
        copy.write(original.read())
        copy.flush()
        # a name that nobody else uses, since the system takes two files of one name for the same
        loader = ExtensionFileLoader("sk_ulmfit._liblinear", f"/proc/self/task/{os.getpid()}/fd/{copy.fileno()}")
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        module = module_from_spec(spec)
        loader.exec_module(module)
    return module
