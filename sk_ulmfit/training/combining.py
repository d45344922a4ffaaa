"""Network and linear model together: the share of the network, the range of scores, predictions for held-out texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sk_ulmfit.models.state import ModelState
from sk_ulmfit.nn.precision import prediction_precision, widest_layer
from sk_ulmfit.text.streams import Advance
from sk_ulmfit.text.vocabulary import TokenIds
from sk_ulmfit.training.averaging import average_with_linear_model
from sk_ulmfit.training.bounds import bound_log_odds
from sk_ulmfit.training.data import TrainingTexts, mean_one
from sk_ulmfit.training.linear import LinearModel
from sk_ulmfit.training.linear_training import LinearFit
from sk_ulmfit.training.prediction import network_logits, restore_net
from sk_ulmfit.training.settings import ClassifierSettings
from sk_ulmfit.training.share import learn_share
from sk_ulmfit.training.sharing import shared_out
from sk_ulmfit.training.task import Task

Rows = NDArray[np.int64]


def range_of_scores(
    scores: NDArray[np.float64], linear_model: LinearModel | None, sample: TokenIds
) -> list[list[float]]:
    """Compute the smallest and the largest score of each output, of those of the network alone, shape (n, K)."""
    averaged = _with_linear_model(scores, linear_model, sample)
    return [averaged.min(axis=0).tolist(), averaged.max(axis=0).tolist()]


def outputs_of(
    network: ModelState, corpus: TokenIds, settings: ClassifierSettings, advance: Advance | None
) -> NDArray[np.float64]:
    """Compute the outputs for documents that stand in the reading order of the network, shape (n, K)."""
    width = widest_layer(network.config)
    precision = prediction_precision(settings.precision, settings.device, width, network.config["shifts"])
    net = restore_net(network, settings)
    return shared_out(corpus, lambda part: torch.from_numpy(network_logits(net, part, precision, advance))).numpy()


def predictions_of(
    outputs: NDArray[np.float64],
    linear_model: LinearModel | None,
    corpus: TokenIds,
    task: Task,
    config: Mapping[str, Any],
) -> NDArray[np.float64]:
    """Turn outputs of the network into predictions, together with the linear model, shape (n, K)."""
    return task.predictions(bound_log_odds(_with_linear_model(task.scores(outputs), linear_model, corpus), config))


def outputs_of_head(head: nn.Module, features: Tensor) -> NDArray[np.float64]:
    """Compute the outputs of a trained head for features, shape (n, K), without dropout."""
    head.eval()
    device = next(head.parameters()).device
    with torch.inference_mode(False), torch.no_grad():
        return np.asarray(head(features.to(device)).cpu().numpy(), np.float64)


def _with_linear_model(
    scores: NDArray[np.float64], linear_model: LinearModel | None, corpus: TokenIds
) -> NDArray[np.float64]:
    """Average the scores of a network, shape (n, K), with those of the linear model, if there is one."""
    if linear_model is None:
        return scores
    return average_with_linear_model(scores, linear_model.logits(corpus), linear_model.share)


def with_share_by_turns(
    fit: LinearFit, out_of_fold: NDArray[np.float64], data: TrainingTexts, train: Rows
) -> LinearFit:
    """Set the network's share by the out-of-fold scores of both models."""
    scores = data.task.scores(out_of_fold[fit.rows])
    return _with_share(fit, scores, fit.out_of_fold, data, train[fit.rows], None)


def with_share_by_held_out(
    fit: LinearFit, scores: NDArray[np.float64], corpus: TokenIds, data: TrainingTexts, held_out: Rows, train: Rows
) -> LinearFit:
    """Set the network's share by its scores, and those of the linear model, for documents that are held out."""
    n_telling = data.task.n_telling(data.y[train])
    return _with_share(fit, scores, fit.model.logits(corpus), data, held_out, n_telling)


def _with_share(
    fit: LinearFit,
    network: NDArray[np.float64],
    linear: NDArray[np.float64],
    data: TrainingTexts,
    rows: Rows,
    n_telling: NDArray[Any] | None,
) -> LinearFit:
    """Set the network's share by the scores of both models for some rows; 1 stays where words say nothing."""
    share = learn_share(network, linear, data.y[rows], data.task, mean_one(data.weight_of(rows)), n_telling)
    return fit.with_share(share)
