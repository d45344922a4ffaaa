"""Callbacks of the user: which are refused, which have no effect here, and which need help to work."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from skorch import callbacks as skorch
from skorch.callbacks.scoring import ScoringBase
from skorch.utils import freeze_parameter, unfreeze_parameter

from sk_ulmfit._messages import short
from sk_ulmfit.nn.optimizer import clip_gradients
from sk_ulmfit.training.settings import ClassifierSettings


def check_callbacks(callbacks: Any) -> None:
    """Raise ValueError unless the parameter `callbacks` of an estimator is a list of callbacks or None."""
    items = [] if callbacks is None else callbacks
    if not isinstance(items, (list, tuple)) or not all(map(_is_callback, items)):
        raise ValueError(
            "callbacks must be a list of skorch callbacks, as instances or (name, instance) pairs, or None; "
            f"got {short(callbacks)}."
        )


def callbacks_of_network(callbacks: Sequence[Any] | None, settings: ClassifierSettings) -> list[Any]:
    """Return the callbacks for the training of a network of a classifier or regressor; `settings` are resolved.

    Warns of those that the training undoes, and raises ValueError for those that cannot work.
    """
    gradual = settings.unfreezing == "gradual"
    return _prepared(callbacks, gradual=gradual, held_out=settings.early_stopping, labelled=True)


def callbacks_of_language_model(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return the callbacks for the training of a language model, as `callbacks_of_network` does."""
    return _prepared(callbacks, gradual=False, held_out=False, labelled=False)


def _prepared(callbacks: Sequence[Any] | None, *, gradual: bool, held_out: bool, labelled: bool) -> list[Any]:
    prepared: list[Any] = []
    for item in callbacks or ():
        callback = item[1] if isinstance(item, tuple) else item
        _refuse(callback, held_out, labelled)
        _warn(callback, gradual, held_out)
        helped = _helped(callback)
        prepared.append((item[0], helped) if isinstance(item, tuple) else helped)
    return prepared


def _refuse(callback: Any, held_out: bool, labelled: bool) -> None:
    """Raise ValueError for a callback that would fail in the midst of the training, or spoil it."""
    name = type(callback).__name__
    if isinstance(callback, skorch.InputShapeSetter):
        raise ValueError(f"{name} would build the network anew, without its weights; leave it out of callbacks.")
    if isinstance(callback, ScoringBase) and callback.use_caching and not labelled:
        raise ValueError(
            f"{name} has nothing to compare, since a language model predicts no labels. Watch 'train_loss', or pass "
            "use_caching=False and a function of net, data and y."
        )
    if isinstance(callback, skorch.WandbLogger) and callback.save_model and not held_out:
        remedy = "early_stopping=True, or save_model=False to it" if labelled else "save_model=False to it"
        raise ValueError(f"{name} saves the best weights by 'valid_loss', but no texts are held out; pass {remedy}.")
    monitor = getattr(callback, "monitor", None)
    if isinstance(monitor, str) and monitor.removesuffix("_best") == "valid_loss" and not held_out:
        remedy = f"monitor={monitor.replace('valid', 'train')!r}"
        remedy = f"early_stopping=True, or {remedy}" if labelled else remedy
        raise ValueError(f"{name} watches {monitor!r}, but no texts are held out; pass {remedy}.")


def _warn(callback: Any, gradual: bool, held_out: bool) -> None:
    """Warn of a callback whose effect the training undoes, or that is not called."""
    name, reason = type(callback).__name__, None
    if isinstance(callback, skorch.LRScheduler):
        reason = "has no effect, since lr, lr_decay and schedule set the learning rates of each batch; pass these"
    elif gradual and _may_freeze(callback):
        reason = (
            "is undone, since unfreezing='gradual' (what 'auto' means for few texts) decides in each epoch which "
            "layers are trained; pass unfreezing='at_once', or 'head' to train the head alone"
        )
    elif isinstance(callback, ScoringBase) and not callback.on_train and not held_out:
        reason = "computes nothing, since no texts are held out; pass early_stopping=True, or on_train=True to it"
    if reason is not None:
        warnings.warn(f"The callback {name} {reason}.", UserWarning, stacklevel=2)


def _may_freeze(callback: Any) -> bool:
    """Tell whether a callback sets which parameters are trained."""
    if not isinstance(callback, skorch.ParamMapper):
        return False
    schedule = getattr(callback.schedule, "__func__", callback.schedule)
    has_own_schedule = schedule not in (None, skorch.ParamMapper._default_schedule)
    return has_own_schedule or callback.fn in (freeze_parameter, unfreeze_parameter)


def _helped(callback: Any) -> Any:
    """Return a callback that does what it says with sparse gradients and batches by length."""
    kind: Callable[..., Any] | None = {
        skorch.GradientNormClipping: GradientNormClipping,
        skorch.ProgressBar: ProgressBar,
    }.get(type(callback))
    if kind is None:
        return callback
    twin = copy.copy(callback)
    twin.__class__ = kind
    return twin


class GradientNormClipping(skorch.GradientNormClipping):  # type: ignore[misc]
    """The callback of skorch, also for the sparse gradient of the embedding."""

    def on_grad_computed(self, _: Any, named_parameters: Any, **kwargs: Any) -> None:
        """Clip the gradients."""
        if self.gradient_clip_value is not None:
            parameters = [parameter for _, parameter in named_parameters]
            clip_gradients(parameters, self.gradient_clip_value, self.gradient_clip_norm_type)


class ProgressBar(skorch.ProgressBar):  # type: ignore[misc]
    """The callback of skorch, which counts the batches that there are."""

    def _get_batches_per_epoch(self, net: Any, dataset_train: Any, dataset_valid: Any) -> int:
        batches = net.training_batches_
        epoch = getattr(batches, "epoch", 0)
        n_batches = batches.n_batches(epoch + 1) - batches.n_batches(epoch)
        if dataset_valid is not None:
            n_batches += net.make_batches(dataset_valid, None).n_batches(1)
        return int(n_batches)


def _is_callback(item: Any) -> bool:
    if isinstance(item, tuple):
        return len(item) == 2 and isinstance(item[0], str) and _is_callback(item[1])
    return hasattr(item, "on_train_begin") and not isinstance(item, type)
