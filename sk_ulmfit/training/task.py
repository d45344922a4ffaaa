"""What a network learns: which texts have a label, or values on a scale. All that differs between the two stands here.

Three kinds of numbers occur, all of shape (n, K): outputs are what a head computes, scores are averaged over models
(log-odds of labels, standardised values), and targets are y as the loss takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor, nn

from sk_ulmfit.nn.losses import MultiLabelLoss, SquaredLoss
from sk_ulmfit.training.averaging import mean_log_odds
from sk_ulmfit.training.linear_training import base_rates
from sk_ulmfit.training.link import CROSS_ENTROPY, SQUARED_ERROR, Sigmoid, sigmoid_of

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Targets = NDArray[np.floating[Any]]

PENALTY = 4.0  # per curvature: as for a label that half of the texts have


@dataclass(frozen=True)
class Classification:
    """Labels: outputs and scores are log-odds, targets are 0 and 1.

    Attributes
    ----------
    pos_weight : ndarray of float64, shape (K,), or None
        Factor on the loss of the entries that are 1.
    """

    nonlinearity = staticmethod(torch.sigmoid)  # of predictions of the skorch net
    threshold = 0.5  # of its decisions

    pos_weight: Floats | None = None

    def of_columns(self, columns: NDArray[np.int64]) -> Classification:
        """Return the task of some labels."""
        return self if self.pos_weight is None else Classification(self.pos_weight[columns])

    def without_link(self) -> Classification:
        """Return the task whose outputs are the scores of this one."""
        return self

    def targets(self, y: Targets) -> Singles:
        """Return y as the criterion takes it, shape (n, K), NaN where unknown."""
        return y.astype(np.float32, copy=False)

    def entries(self, y: Targets, document_weight: Singles | None) -> tuple[Singles, Singles]:
        """Return the targets, 0 where unknown, and the factor on the loss of each entry, 0 where unknown."""
        present = (y == 1).astype(np.float32)
        cost = (~np.isnan(y)).astype(np.float32)
        if document_weight is not None:
            cost *= document_weight[:, None]
        if self.pos_weight is not None:
            cost *= np.where(present, self.pos_weight, 1).astype(np.float32)
        return present, cost

    def losses(self, outputs: Floats, targets: Singles, cost: Singles) -> tuple[Floats, Floats]:
        """Compute the loss of each entry and its derivative by the output."""
        return cross_entropy(outputs, targets, cost)

    def start(self, y: Targets, document_weight: Singles | None) -> Floats:
        """Return the outputs that predict the base rates, shape (K,)."""
        start = logit(base_rates(y, document_weight))
        if self.pos_weight is not None:
            start += np.log(self.pos_weight)
        return np.asarray(start)

    def curvature(self, targets: Singles, cost: Singles) -> NDArray[np.floating[Any]]:
        """Compute the second derivative of the loss by the bias of each label, at its start; 0 without two classes."""
        return curvature_of_rates(targets, cost)

    def penalty(self, n_outputs: int) -> Floats:
        """Return the factor on half the squared weights of each label at strength 1, shape (K,)."""
        return np.ones(n_outputs)

    def n_telling(self, y: Targets) -> NDArray[Any]:
        """Count the texts that have each label, or lack it if these are fewer, shape (K,)."""
        return np.asarray(np.minimum((y == 1).sum(axis=0), (y == 0).sum(axis=0)))

    def criterion(self) -> nn.Module:
        """Make the loss of the network; it takes outputs, targets and weights of texts."""
        return MultiLabelLoss(None if self.pos_weight is None else torch.tensor(self.pos_weight, dtype=torch.float32))

    def scores(self, outputs: Floats) -> Floats:
        """Turn outputs into scores."""
        return outputs

    def scores_of_tensor(self, outputs: Tensor) -> Tensor:
        """Turn outputs into scores, as a part of an autograd graph."""
        return outputs

    def mean_of(self, scores: Sequence[Floats]) -> Floats:
        """Return the scores of several networks together: those of the mean probability."""
        return mean_log_odds(scores)

    def reached(self, scores: Floats) -> Floats:
        """Return the scores of the predictions."""
        return scores

    def first_bias(self, y: Targets, document_weight: Singles | None) -> Tensor:
        """Return the bias of a network's head before its training, (K,), which predicts the base rates."""
        return torch.logit(torch.as_tensor(self._rates(y, document_weight)))

    def values(self, outputs: Floats) -> Floats:
        """Turn outputs into what reduced precision is judged by: probabilities."""
        return self.predictions(outputs)

    def predictions(self, scores: Floats) -> Floats:
        """Turn scores into probabilities strictly between 0 and 1."""
        return np.clip(expit(scores), np.finfo(np.float64).tiny, np.nextafter(1.0, 0.0))

    def config(self, y: Targets, document_weight: Singles | None) -> dict[str, Any]:
        """Return what a file keeps of the task: the base rates."""
        return {"base_rates": self._rates(y, document_weight).tolist()}

    def _rates(self, y: Targets, document_weight: Singles | None) -> NDArray[Any]:
        """Return the base rates, with their odds multiplied by `pos_weight`."""
        odds = 1.0 if self.pos_weight is None else self.pos_weight
        rates = base_rates(y, document_weight)
        return np.asarray(odds * rates / (1 - rates + odds * rates))


@dataclass(frozen=True)
class Regression:
    """Values on a scale: scores are values less their mean, divided by their scale.

    Without `y_range`, outputs are scores. Otherwise values are a sigmoid of the outputs that goes a little beyond both
    ends of the range. With the loss "cross_entropy" they are the plain sigmoid, and targets are values from 0 to 1,
    not scores.

    Attributes
    ----------
    mean, scale : ndarray of float64, shape (K,)
        Mean of the values that were learned from, and their standard deviation, 1 where they are constant or differ by
        less than the smallest normal number.
    y_range : ndarray of float64, shape (2, K), or None
        Least and greatest value of each target.
    loss : {"squared_error", "cross_entropy"}
        Half the squared error of scores, or cross-entropy with probabilities as targets, whose range is 0 to 1.
    """

    threshold = None  # the skorch net decides nothing

    mean: Floats
    scale: Floats
    y_range: Floats | None = None
    loss: str = SQUARED_ERROR

    @classmethod
    def of_values(
        cls,
        y: Targets,
        document_weight: NDArray[np.floating[Any]] | None = None,
        y_range: Floats | None = None,
        loss: str = SQUARED_ERROR,
    ) -> Regression:
        """Learn mean and scale from the known values, shape (n, K).

        A target without any has the middle of its range, or 0, as its mean.
        """
        known = ~np.isnan(y)
        weight = known * (1.0 if document_weight is None else np.asarray(document_weight, np.float64)[:, None])
        total = weight.sum(axis=0)
        filled, n = np.where(known, y, 0).astype(np.float64), np.where(total > 0, total, 1)
        least, greatest = _ends(filled, weight)
        middle = np.zeros(y.shape[1]) if y_range is None else y_range.mean(axis=0)
        mean = np.where(total > 0, ((weight * filled).sum(axis=0) / n).clip(least, greatest), middle)
        width = np.where(greatest > least, greatest - least, 1)
        spread = width * np.sqrt((weight * ((filled - mean) / width) ** 2).sum(axis=0) / n)
        return cls(mean, np.where(spread >= np.finfo(np.float64).tiny, spread, 1), y_range, loss)

    def of_columns(self, columns: NDArray[np.int64]) -> Regression:
        """Return the task of some targets."""
        y_range = None if self.y_range is None else self.y_range[:, columns]
        return Regression(self.mean[columns], self.scale[columns], y_range, self.loss)

    def without_link(self) -> Regression:
        """Return the task whose outputs are the scores of this one, and whose loss is half their squared error."""
        return replace(self, y_range=None, loss=SQUARED_ERROR)

    def standardise(self, y: Targets) -> Floats:
        """Return the scores of values, NaN where unknown."""
        return np.asarray((y - self.mean) / self.scale)

    def targets(self, y: Targets) -> Singles:
        """Return y as the criterion takes it, shape (n, K), NaN where unknown."""
        return (y if self.loss == CROSS_ENTROPY else self.standardise(y)).astype(np.float32)

    def entries(self, y: Targets, document_weight: Singles | None) -> tuple[Singles, Singles]:
        """Return the targets, 0 where unknown, and the factor on the loss of each entry, 0 where unknown."""
        known = ~np.isnan(y)
        cost = known.astype(np.float32)
        if document_weight is not None:
            cost *= document_weight[:, None]
        return np.where(known, self.targets(y), np.float32(0)), cost

    def losses(self, outputs: Floats, targets: Singles, cost: Singles) -> tuple[Floats, Floats]:
        """Compute the loss of each entry and its derivative by the output."""
        if self.loss == CROSS_ENTROPY:
            return cross_entropy(outputs, targets, cost)
        errors = self.scores(outputs) - targets
        return cost * (0.5 * errors**2), cost * (errors * self._slope(outputs))

    def start(self, y: Targets, document_weight: Singles | None) -> Floats:
        """Return the outputs that predict the means, shape (K,); of the cross-entropy, the base rates."""
        if self.loss == CROSS_ENTROPY:
            return np.asarray(logit(_mean_rates(y, document_weight)))
        return self._center()

    def curvature(self, targets: Singles, cost: Singles) -> NDArray[np.floating[Any]]:
        """Compute the second derivative of the loss by the bias of each target, at its start; 0 where constant."""
        if self.loss == CROSS_ENTROPY:
            return curvature_of_rates(targets, cost)
        return np.where(is_constant(targets, cost), 0.0, self._slope(self._center()) ** 2 * cost.sum(axis=0))

    def penalty(self, n_outputs: int) -> Floats:
        """Return the factor on half the squared weights of each target at strength 1, shape (K,)."""
        if self.loss == CROSS_ENTROPY:
            return np.ones(n_outputs)
        return PENALTY * self._slope(self._center()) ** 2

    def n_telling(self, y: Targets) -> NDArray[Any]:
        """Count the texts whose value is known, shape (K,); probabilities count as labels do."""
        if self.loss == CROSS_ENTROPY:
            return np.minimum(np.nansum(y, axis=0), np.nansum(1 - y, axis=0))
        return np.asarray((~np.isnan(y)).sum(axis=0))

    def criterion(self) -> nn.Module:
        """Make the loss of the network; it takes outputs, targets and weights of texts."""
        if self.loss == CROSS_ENTROPY:
            return MultiLabelLoss()
        link = self._link()
        return SquaredLoss() if link is None else SquaredLoss(_tensor(link.offset), _tensor(link.gain))

    def scores(self, outputs: Floats) -> Floats:
        """Turn outputs into scores."""
        link = self._link()
        return outputs if link is None else np.asarray(link.offset + link.gain * expit(outputs))

    def nonlinearity(self, outputs: Tensor) -> Tensor:
        """Turn outputs into what the skorch net predicts, which compares with its targets."""
        return torch.sigmoid(outputs) if self.loss == CROSS_ENTROPY else self.scores_of_tensor(outputs)

    def scores_of_tensor(self, outputs: Tensor) -> Tensor:
        """Turn outputs into scores, as a part of an autograd graph."""
        link = self._link()
        if link is None:
            return outputs
        offset, gain = (_tensor(part).to(outputs.device) for part in link)
        return offset + gain * torch.sigmoid(outputs)

    def mean_of(self, scores: Sequence[Floats]) -> Floats:
        """Return the scores of several networks together: their mean."""
        return np.asarray(np.mean(scores, axis=0))

    def reached(self, scores: Floats) -> Floats:
        """Return the scores of the predictions, which end where the range ends."""
        return self.standardise(self.predictions(scores))

    def first_bias(self, y: Targets, document_weight: Singles | None) -> Tensor:
        """Return the bias of a network's head before its training, (K,), which predicts the means."""
        return torch.as_tensor(self.start(y, document_weight))

    def values(self, outputs: Floats) -> Floats:
        """Turn outputs into what reduced precision is judged by: scores."""
        return self.scores(outputs)

    def predictions(self, scores: Floats) -> Floats:
        """Turn scores into values, within the range."""
        values = self.mean + self.scale * scores
        return values if self.y_range is None else values.clip(*self.y_range)

    def config(self, y: Targets, document_weight: Singles | None) -> dict[str, Any]:
        """Return what a file keeps of the task, which `task_of` reads."""
        y_range = {} if self.y_range is None else {"y_range": self.y_range.tolist()}
        return {"target_mean": self.mean.tolist(), "target_scale": self.scale.tolist(), **y_range, "loss": self.loss}

    def _link(self) -> Sigmoid | None:
        return sigmoid_of(self.mean, self.scale, self.y_range, self.loss)

    def _slope(self, outputs: Floats) -> Floats:
        """Compute the derivative of the scores by the outputs."""
        link = self._link()
        return np.ones_like(outputs) if link is None else link.gain * expit(outputs) * expit(-outputs)

    def _center(self) -> Floats:
        """Return the outputs whose scores are 0, shape (K,)."""
        link = self._link()
        return np.zeros_like(self.mean) if link is None else np.asarray(logit(-link.offset / link.gain))


Task = Classification | Regression


def task_of(config: Mapping[str, Any]) -> Task:
    """Return the task of a trained network by its configuration; weights of labels count in training only."""
    if "label_names" in config:
        return Classification()
    y_range = np.array(config["y_range"]) if "y_range" in config else None
    return Regression(np.array(config["target_mean"]), np.array(config["target_scale"]), y_range, config["loss"])


def cross_entropy(log_odds: Floats, y: Singles, cost: Singles) -> tuple[Floats, Floats]:
    """Compute the loss of each entry and its derivative by the log-odds; y is 0, 1, or between them."""
    small = np.exp(-np.abs(log_odds))
    positive = np.where(log_odds >= 0, 1.0, small) / (1 + small)
    losses = np.maximum(log_odds, 0) - y * log_odds + np.log1p(small)
    return cost * losses, cost * (positive - y)


def curvature_of_rates(y: Singles, cost: Singles) -> NDArray[np.floating[Any]]:
    """Compute the second derivative of the cross-entropy by each bias where it predicts the mean; 0 at 0 and 1."""
    n_present, n_known = (cost * y).sum(axis=0), cost.sum(axis=0)
    rate = np.divide(n_present, n_known, where=(n_present > 0) & (n_present < n_known), out=np.zeros_like(n_known))
    return np.asarray(rate * (1 - rate) * n_known)


def is_constant(values: NDArray[np.floating[Any]], cost: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which columns have one value, or none, where the cost is above 0."""
    least, greatest = _ends(values, cost)
    return np.asarray(least >= greatest)


def _ends(values: NDArray[np.floating[Any]], cost: NDArray[np.floating[Any]]) -> tuple[Floats, Floats]:
    """Return the least and the greatest value of each column where the cost is above 0; of none, inf and -inf."""
    counted = cost > 0
    least = np.where(counted, values, np.inf).min(axis=0, initial=np.inf)
    greatest = np.where(counted, values, -np.inf).max(axis=0, initial=-np.inf)
    return least, greatest


def _mean_rates(y: Targets, document_weight: Singles | None) -> Targets:
    """Estimate the mean of each column of probabilities as `base_rates` does that of labels."""
    weight = np.ones(len(y), np.float32) if document_weight is None else document_weight
    n_known = weight @ ~np.isnan(y)
    rate = (weight @ np.nan_to_num(y) + 0.5) / (n_known + 1.0)
    return np.asarray(np.where(n_known > 0, rate, rate[n_known > 0].mean()))


def _tensor(values: Floats) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
