"""AdamW that updates only the rows of the embedding that a batch has looked up, and clipping of such gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_ulmfit.nn.kernels import multiply_all_


class RowAdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) that updates only the rows that a sparse gradient holds.

    Moments and weight decay of the other rows stay as they are, as in ``torch.optim.SparseAdam``.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as AdamW does; unwrapped, so that nets which only predict do not import torch's compiler."""
        add = torch.optim.Optimizer.add_param_group
        getattr(add, "__wrapped__", add)(self, param_group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Do one step; `closure`, if there is one, computes the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._update_rows(parameter, group)
                    sparse.append((parameter, parameter.grad))
                    parameter.grad = None
        super().step()
        for parameter, gradient in sparse:
            parameter.grad = gradient
        return loss

    def _update_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        """Update the rows of a matrix, (n_rows, width), that its gradient holds."""
        gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows, values = gradient.indices()[0], gradient.values()  # (n,), (n, width)
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = state["step"], group["betas"]
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)  # (n, width)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)  # (n, width)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        size = group["lr"] / (1 - beta1**step)
        change = mean / (square / (1 - beta2**step)).sqrt_().add_(group["eps"])  # (n, width)
        parameter[rows] = parameter[rows] * (1 - group["lr"] * group["weight_decay"]) - size * change


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float, norm_type: float = 2.0) -> None:
    """Scale the gradients down, also sparse ones, if their norm over all parameters is above `max_norm`."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        else:
            gradients.append(parameter.grad)
    if gradients:
        norm = torch.nn.utils.get_total_norm(gradients, float(norm_type))
        multiply_all_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
