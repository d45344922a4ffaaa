"""Training of a linear head on the vectors of a frozen network, with an L2 penalty: logistic regression for labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from sk_ulmfit.splitting import stratify
from sk_ulmfit.text.streams import Advance, counted
from sk_ulmfit.training.folds import folds_going_on
from sk_ulmfit.training.task import Task

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # C for vectors whose mean squared length is 1
PATIENCE = 2  # strengths above the best one that are tried before the search ends
N_FOLDS = 4
MAX_FOLDED = 10_000  # with more texts the strengths are chosen on the first fold
SHARED_TEXTS = 20.0  # the loss of all labels counts like so many texts of each label when its strength is chosen
CHUNK_ROWS = 4_096
TOLERANCE, FOLD_TOLERANCE = 1e-3, 3e-2  # largest gradient, in units in which the curvature of the loss is about 1
MAX_ITERATIONS = 1_000
CORRECTIONS = 10  # that L-BFGS remembers


class FittedHead(NamedTuple):
    """A trained head.

    Attributes
    ----------
    weight : ndarray of float32, shape (L, d)
        Output per unit of each dimension of a vector: log-odds of labels.
    bias : ndarray of float32, shape (L,)
        Output for the zero vector.
    out_of_fold : ndarray of float64, shape (n, L)
        Outputs for each text by a head that was trained without it.
    kept : KeptHeads or None, default=None
        What a training that goes on begins with; None if there are too few texts for all folds.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    out_of_fold: Floats
    kept: KeptHeads | None = None


class KeptHeads(NamedTuple):
    """What a training leaves for one that goes on.

    Attributes
    ----------
    strength : ndarray of int64, shape (L,)
        Which of `STRENGTHS` each label has.
    fold : ndarray of int64, shape (n,)
        In which fold each text was held out.
    heads : list of Head
        Heads that were trained without each fold, and with all texts.
    """

    strength: NDArray[np.int64]
    fold: Rows
    heads: list[Head]


class Head(NamedTuple):
    """Weights of the dimensions of a vector, shape (d, L), and biases, shape (L,)."""

    weight: Floats
    bias: Floats


class _Weights(NamedTuple):
    """Weights along the principal axes, shape (r, L), and biases of the centred vectors, shape (L,)."""

    weight: Floats
    bias: Floats


class _Part(NamedTuple):
    """Some labels of some texts, as in `_Problem`."""

    points: NDArray[np.float32]
    task: Task
    targets: NDArray[np.float32]
    cost: NDArray[np.float32]

    def loss_and_gradient(self, weights: _Weights) -> tuple[float, _Weights]:
        """Compute the loss, and its gradient by weights and biases."""
        loss, gradient = 0.0, _Weights(np.zeros(weights.weight.shape), np.zeros(weights.bias.shape))
        for chunk in _chunks(self.points):
            points = self.points[chunk].astype(np.float64)
            outputs = points @ weights.weight + weights.bias
            losses, residuals = self.task.losses(outputs, self.targets[chunk], self.cost[chunk])
            loss += float(losses.sum())
            gradient.weight[:] += points.T @ residuals
            gradient.bias[:] += residuals.sum(axis=0)
        return loss, gradient


@dataclass(frozen=True)
class _Problem:
    """Texts to learn from.

    Attributes
    ----------
    points : ndarray of float32, shape (n, r)
        Vectors of the texts along the axes, less the mean.
    task : Task
        What to learn.
    targets : ndarray of float32, shape (n, L)
        y as the loss takes it; 0 where unknown.
    cost : ndarray of float32, shape (n, L)
        Factor on the loss of each entry; 0 where unknown.
    start : ndarray of float64, shape (L,)
        Outputs that predict the base rates or the means.
    mean : ndarray of float64, shape (d,)
        Mean of the vectors.
    axes : ndarray of float64, shape (d, r)
        Principal axes of the vectors, divided by the root of their mean squared distance to the mean.
    variance : ndarray of float64, shape (r,)
        Variance along each axis, after this division.
    """

    points: NDArray[np.float32]
    task: Task
    targets: NDArray[np.float32]
    cost: NDArray[np.float32]
    start: Floats
    mean: Floats
    axes: Floats
    variance: Floats

    def of_vectors(self, weights: _Weights) -> Head:
        """Turn weights along the axes into weights of the vectors themselves, shape (d, L)."""
        weight = self.axes @ weights.weight
        return Head(weight, weights.bias - self.mean @ weight)

    def along_axes(self, head: Head) -> _Weights:
        """Turn weights of the vectors into weights along the axes; what lies beside these axes is lost."""
        lengths = (self.axes**2).sum(axis=0)  # all the same
        return _Weights((self.axes / lengths).T @ head.weight, head.bias + self.mean @ head.weight)

    def outputs(self, rows: Rows, weights: _Weights) -> Floats:
        """Compute outputs, shape (len(rows), L)."""
        return np.concatenate([self.points[rows[chunk]] @ weights.weight + weights.bias for chunk in _chunks(rows)])

    def loss(self, rows: Rows, weights: _Weights) -> Floats:
        """Compute the loss of each label, shape (L,)."""
        outputs = self.outputs(rows, weights)
        return np.asarray(self.task.losses(outputs, self.targets[rows], self.cost[rows])[0].sum(axis=0))

    def part(self, rows: Rows, labels: Rows) -> _Part:
        """Return some labels of some rows."""
        entries = np.ix_(rows, labels)
        return _Part(self.points[rows], self.task.of_columns(labels), self.targets[entries], self.cost[entries])


def fit_linear_head(
    vectors: NDArray[np.float32],
    y: NDArray[np.floating[Any]],
    task: Task,
    document_weight: NDArray[np.float32] | None = None,
    seed: int = 0,
    advance: Advance | None = None,
) -> FittedHead:
    """Train one logistic regression per label, or one regression per target, all at once.

    The vectors are centred and divided by one number, so that their mean squared length is 1. The strength C of each
    label has the smallest loss on held-out texts, that of all labels included: labels with few texts have nearly the
    same one. A label that every known text has, or none, gets its base rate; a constant target gets its mean.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, d)
        Vectors of the texts.
    y : ndarray, shape (n, L)
        Labels or values, NaN where unknown.
    task : Task
        What to learn: it has the loss.
    document_weight : ndarray of float32, shape (n,), default=None
        Weight of each text, 1 on average.
    seed : int, default=0
        Seed of the folds.
    advance : callable, default=None
        Called with 1 after each training but the last; `most_trainings` tells how many there are at most.
    """
    problem = _problem(vectors, y, task, document_weight)
    folds = _folds(y, seed)
    first = folds if len(y) <= MAX_FOLDED else folds[:1]
    paths, loss = _fit_paths(problem, first, advance)
    strength = _choose_strengths(loss, task.n_telling(y))
    c = np.array(STRENGTHS)[strength]
    heads = [_of_strengths(path, strength) for path in paths]
    heads += [_fit(problem, train, c, heads[0], FOLD_TOLERANCE) for train, _ in counted(folds[len(first) :], advance)]
    start = heads[0] if heads else None
    final = _fit(problem, np.arange(len(y)), c, start, TOLERANCE)
    return _fitted(problem, folds, heads, final, strength)


def go_on_with_head(
    vectors: NDArray[np.float32],
    y: NDArray[np.floating[Any]],
    task: Task,
    earlier: KeptHeads,
    rows: Rows,
    seed: int = 0,
    advance: Advance | None = None,
) -> FittedHead:
    """Train as `fit_linear_head` does, all texts weighing the same, from the heads of an earlier training.

    Texts keep their folds, and labels their strengths. The problems are convex: but for these, the result is that of a
    training from the beginning.

    Parameters
    ----------
    earlier : KeptHeads
        What the earlier training has left, for the same labels.
    rows : ndarray of int64, shape (n,)
        Row of each text in the earlier training; -1 for a new one, or one with other targets.
    """
    problem = _problem(vectors, y, task, None)
    fold = folds_going_on(earlier.fold, rows, y, N_FOLDS, seed)
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(N_FOLDS)]
    starts = [problem.along_axes(head) for head in earlier.heads]
    c = np.array(STRENGTHS)[earlier.strength]
    pairs = counted(zip(folds, starts[:-1], strict=True), advance)
    heads = [_fit(problem, train, c, start, FOLD_TOLERANCE) for (train, _), start in pairs]
    final = _fit(problem, np.arange(len(y)), c, starts[-1], TOLERANCE)
    return _fitted(problem, folds, heads, final, earlier.strength)


def _fitted(
    problem: _Problem,
    folds: list[tuple[Rows, Rows]],
    heads: list[_Weights],
    final: _Weights,
    strength: NDArray[np.int64],
) -> FittedHead:
    """Return the last head, with what the others say of the texts that they were trained without."""
    n = len(problem.points)
    out_of_fold, fold = np.tile(problem.start, (n, 1)), np.zeros(n, np.int64)
    for k, (head, (_, held_out)) in enumerate(zip(heads, folds, strict=True)):
        out_of_fold[held_out], fold[held_out] = problem.outputs(held_out, head), k
    last = problem.of_vectors(final)
    kept = None
    if len(folds) == N_FOLDS:
        kept = KeptHeads(strength, fold, [*map(problem.of_vectors, heads), last])
    return FittedHead(last.weight.T.astype(np.float32), last.bias.astype(np.float32), out_of_fold, kept)


def most_trainings(n_texts: int) -> int:
    """Count the trainings of `fit_linear_head` if it tries all strengths."""
    n_first = N_FOLDS if n_texts <= MAX_FOLDED else 1
    return n_first * len(STRENGTHS) + N_FOLDS - n_first + 1


def _problem(
    vectors: NDArray[np.float32],
    y: NDArray[np.floating[Any]],
    task: Task,
    document_weight: NDArray[np.float32] | None,
) -> _Problem:
    targets, cost = task.entries(y, document_weight)
    start = task.start(y, document_weight)
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((len(mean), len(mean)))
    for chunk in _chunks(y):
        centred = vectors[chunk] - mean
        scatter += centred.T @ centred
    variance, axes = np.linalg.eigh(scatter / len(y))
    varied = variance > 1e-12 * max(variance.sum(), np.finfo(np.float32).tiny)
    total = variance[varied].sum()
    axes = axes[:, varied] / np.sqrt(total)
    points = np.empty((len(y), axes.shape[1]), np.float32)
    for chunk in _chunks(y):
        points[chunk] = (vectors[chunk] - mean) @ axes
    return _Problem(points, task, targets, cost, start, mean, axes, variance[varied] / total)


def _folds(y: NDArray[np.floating[Any]], seed: int) -> list[tuple[Rows, Rows]]:
    """Return the rows to train on and the rows held out, fold by fold; a single text cannot be split."""
    n = len(y)
    if n < 2:
        return []
    n_folds = min(N_FOLDS, n)
    sizes = np.diff(np.linspace(0, n, n_folds + 1).astype(int))
    part = stratify(y, sizes.tolist(), np.random.default_rng(seed))
    return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(n_folds)]


def _fit_paths(
    problem: _Problem, folds: list[tuple[Rows, Rows]], advance: Advance | None
) -> tuple[list[list[_Weights]], Floats]:
    """Train on each fold with rising strength; return the weights, and the loss on the held-out texts, (strengths, L).

    Each training starts from the one before. The search ends when the loss of all labels no longer falls.
    """
    paths: list[list[_Weights]] = [[] for _ in folds]
    losses: list[Floats] = []
    for strength in STRENGTHS:
        loss = np.zeros(len(problem.start))
        for path, (train, held_out) in counted(zip(paths, folds, strict=True), advance):
            c = np.full(len(loss), strength)
            path.append(_fit(problem, train, c, path[-1] if path else None, FOLD_TOLERANCE))
            loss += problem.loss(held_out, path[-1])
        losses.append(loss)
        total = [row.sum() for row in losses]
        if len(total) - 1 - int(np.argmin(total)) == PATIENCE:
            break
    return paths, np.array(losses)


def _choose_strengths(loss: Floats, n_texts: NDArray[Any]) -> NDArray[np.int64]:
    """Choose the strength of each label from the losses on held-out texts, shape (strengths, L); return its index.

    `n_texts` holds the texts that tell something about each label, shape (L,).
    """
    tiny = np.finfo(np.float64).tiny
    of_label = loss / np.maximum(loss.min(axis=0), tiny)
    total = loss.sum(axis=1, keepdims=True)
    of_all = total / max(total.min(), tiny)
    return np.asarray((n_texts * of_label + SHARED_TEXTS * of_all).argmin(axis=0))


def _of_strengths(path: list[_Weights], strength: NDArray[np.int64]) -> _Weights:
    """Return for each label the weights of its strength."""
    columns = [(path[which].weight[:, label], path[which].bias[label]) for label, which in enumerate(strength)]
    return _Weights(np.stack([weight for weight, _ in columns], axis=1), np.array([bias for _, bias in columns]))


def _fit(problem: _Problem, rows: Rows, c: Floats, start: _Weights | None, tolerance: float) -> _Weights:
    """Train on some rows with the strength of each label, `c`, shape (L,), from `start` or from the means.

    L-BFGS works on weights and biases divided by their approximate standard errors: in these units the loss curves
    about equally in all directions, so few steps are needed. `tolerance` is the largest gradient in these units.
    """
    curvature = problem.task.curvature(problem.targets[rows], problem.cost[rows])
    labels = np.flatnonzero(curvature > 0)
    weight, bias = np.zeros((len(problem.variance), len(c))), problem.start.copy()
    if not len(labels):
        return _Weights(weight, bias)
    curvature, penalty = curvature[labels], problem.task.penalty(len(c))[labels] / c[labels]
    units = np.vstack([np.outer(problem.variance, curvature) + penalty, curvature]) ** -0.5  # (r + 1, K)

    part = problem.part(rows, labels)

    def weights_of(scaled: Floats) -> _Weights:
        values = scaled.reshape(units.shape) * units
        return _Weights(values[:-1], values[-1])

    def objective(scaled: Floats) -> tuple[float, Floats]:
        weights = weights_of(scaled)
        loss, gradient = part.loss_and_gradient(weights)
        loss += 0.5 * float((penalty * weights.weight**2).sum())
        by_weight = gradient.weight + penalty * weights.weight
        return loss, (np.vstack([by_weight, gradient.bias]) * units).ravel()

    first = _Weights(weight, bias) if start is None else start
    scaled = np.vstack([first.weight[:, labels], first.bias[labels]]) / units
    options = {"maxiter": MAX_ITERATIONS, "maxcor": CORRECTIONS, "ftol": 0.0, "gtol": tolerance}
    best = weights_of(minimize(objective, scaled.ravel(), method="L-BFGS-B", jac=True, options=options).x)
    weight[:, labels], bias[labels] = best.weight, best.bias
    return _Weights(weight, bias)


def _chunks(rows: NDArray[Any]) -> Iterator[slice]:
    """Split rows into parts whose points fit into the processor's cache."""
    for start in range(0, max(len(rows), 1), CHUNK_ROWS):
        yield slice(start, start + CHUNK_ROWS)
