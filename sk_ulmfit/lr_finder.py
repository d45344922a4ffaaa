"""Which learning rate to take: a range test on a copy of an estimator, and a suggestion from its curve."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from skorch.callbacks import Callback

from sk_ulmfit._validation import check_number, check_weights
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.language_model import ULMFiTLanguageModel
from sk_ulmfit.models.state import reads_backward
from sk_ulmfit.text.streams import check_texts
from sk_ulmfit.training.recipe import classifier_batch_size
from sk_ulmfit.training.stages import finetune_language_model

__all__ = ["LearningRateCurve", "lr_find", "smooth", "suggest_learning_rate"]

Floats = NDArray[np.float64]

FEWEST_STEPS = 20
FEWEST_POINTS = 10  # a test that ends before has diverged at once
LAST_LEFT_OUT = 5  # points before the end of the test: the loss explodes there
BETA = 0.98  # weight of a smoothed loss beside the next loss, fastai 2's
DIVERGED = 4.0  # times the least smoothed loss


@dataclass(frozen=True)
class LearningRateCurve:
    """What a learning-rate range test has found.

    Parameters
    ----------
    learning_rates : ndarray of float64, shape (n_points,)
        Rate of the top layer group at each step, rising by a constant factor.
    losses : ndarray of float64, shape (n_points,)
        Training loss of each step's batch, penalties included, before the step. All are finite.
    smoothed_losses : ndarray of float64, shape (n_points,)
        Mean of the losses so far, later ones weighing more, as `smooth` gives it.
    suggestion : float or None
        A learning rate to take; None where the loss does not fall.
    parameters : dict of str to float
        The suggestion as parameters of the estimator: `lr`, and `embedding_lr` where that takes part, which keeps its
        ratio to `lr`. Empty without a suggestion.

    See Also
    --------
    sk_ulmfit.plotting.LearningRateDisplay : Draws it.
    """

    learning_rates: Floats
    losses: Floats
    smoothed_losses: Floats
    suggestion: float | None
    parameters: dict[str, float]

    def __repr__(self) -> str:
        return f"LearningRateCurve of {len(self.learning_rates)} steps, suggestion {self.suggestion}"


def lr_find(
    estimator: ULMFiTMultiLabelClassifier | ULMFiTLanguageModel,
    X: Any,
    y: Any = None,
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    n_steps: int = 100,
    sample_weight: Any = None,
) -> LearningRateCurve:
    """Run a learning-rate range test: raise the rate from step to step, and see where the loss falls.

    A copy of the estimator is trained for `n_steps` batches, over the texts as often as that takes. The rate of the top
    group (the head of a classifier) rises from `start_lr` to `end_lr` by a constant factor; the other groups keep their
    ratio to it, a pre-trained embedding that of `embedding_lr` to `lr`. All groups are trained from the first step on.
    The test ends early where the smoothed loss is more than four times the least so far, or is not a number. The
    estimator stays as it is.

    Parameters
    ----------
    estimator : ULMFiTMultiLabelClassifier or ULMFiTLanguageModel
        Whose rate is looked for, fitted or not. `max_epochs`, `schedule`, `early_stopping`, `calibration`, `threshold`,
        `tfidf`, `memory`, `callbacks` and `verbose` have no part in it.
    X : sequence of str of length n
        Raw texts.
    y : array-like of shape (n, n_labels), DataFrame, sparse matrix, or n label lists, default=None
        Labels, as ``fit`` takes them; a language model needs none.
    start_lr : float, default=1e-6
        First rate.
    end_lr : float, default=10
        Last rate.
    n_steps : int, default=100
        Batches, 20 at least.
    sample_weight : array-like of shape (n,), default=None
        How much each text counts, as in ``fit`` of the classifier.

    Returns
    -------
    LearningRateCurve
        Rates, losses and a suggestion.

    Raises
    ------
    ValueError
        If a parameter, a text or a label is not valid, or the loss diverges within the first ten steps.

    Warns
    -----
    UserWarning
        If the loss does not fall; there is no suggestion then.

    See Also
    --------
    suggest_learning_rate : How the suggestion is chosen.
    sk_ulmfit.plotting.LearningRateDisplay : Draws the curve.

    Notes
    -----
    An unfitted classifier is tested on the language model that it starts from, without fine-tuning it first; a fitted
    one on the language model that its ``fit`` has fine-tuned, which is nearer to what will be trained. A language model
    is tested from where its ``fit`` would start, fitted or not.

    The suggestion fits training as it is at the first step. A rate that is good for a hundred steps may be large for
    ten epochs: take it as a place to search around, not as the best value.

    References
    ----------
    L. N. Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3.

    Examples
    --------
    >>> from sk_ulmfit import ULMFiTLanguageModel
    >>> from sk_ulmfit.lr_finder import lr_find
    >>> texts = ["the lamp is on", "the lamp is off", "the hub is off"] * 10
    >>> lm = ULMFiTLanguageModel(emb_dim=8, hidden_dim=12, n_layers=2, random_state=0)
    >>> curve = lr_find(lm, texts, n_steps=60)
    >>> 1e-6 < curve.suggestion < 10
    True
    >>> lm = lm.set_params(**curve.parameters).fit(texts)
    """
    check_number("start_lr", start_lr, low=0, exclusive=True)
    check_number("end_lr", end_lr, low=start_lr, exclusive=True)
    check_number("n_steps", n_steps, low=FEWEST_STEPS, integer=True)
    test = LearningRateRangeTest(float(start_lr), float(end_lr), int(n_steps))
    if isinstance(estimator, ULMFiTMultiLabelClassifier):
        if y is None:
            raise ValueError("y is None, and a classifier needs labels; pass y as fit takes it.")
        _run_classifier(estimator, X, y, sample_weight, test)
    elif isinstance(estimator, ULMFiTLanguageModel):
        if sample_weight is not None:
            raise ValueError("sample_weight has no meaning for a language model; leave it out.")
        _run_language_model(estimator, X, test)
    else:
        raise ValueError(
            "estimator must be a ULMFiTMultiLabelClassifier or a ULMFiTLanguageModel, got a "
            f"{type(estimator).__name__}; of a Pipeline pass the last step, on texts as the steps before give them."
        )
    if len(test.losses) < FEWEST_POINTS:
        raise ValueError(
            f"The loss diverges at once: after {len(test.losses)} steps from start_lr={start_lr:g}. "
            f"Pass a smaller start_lr, for example {start_lr / 1000:.0e}."
        )
    rates, losses = np.array(test.learning_rates), np.array(test.losses)
    suggestion = suggest_learning_rate(rates, losses)
    if suggestion is None:
        warnings.warn(
            f"The loss does not fall between {rates[0]:.1e} and {rates[-1]:.1e}, so no learning rate is suggested. "
            "Draw the curve; then try a smaller start_lr if it rises from the beginning, or more n_steps or a larger "
            "batch_size if it goes up and down.",
            UserWarning,
            stacklevel=2,
        )
    return LearningRateCurve(rates, losses, smooth(losses), suggestion, _parameters(suggestion, test))


def suggest_learning_rate(learning_rates: Any, losses: Any) -> float | None:
    """Suggest a learning rate from the curve of a range test.

    The rule is the one that fastai 2 calls "valley". The losses are smoothed (`smooth`); the first tenth of the points
    and the last five are left aside. Among the rest, the longest falling subsequence is found: points that need not be
    neighbours, each lower than the one before. If it has k points and ends at the e-th, the suggestion is the rate
    about k / 2 points before e, precisely that of the point e - k + floor(k / 3) + floor(k / 6). Smoothed losses lag
    behind, so this is a rate at which the loss falls, not the one at which it is least.

    Parameters
    ----------
    learning_rates : array-like of shape (n_points,)
        Rates, each larger than the one before.
    losses : array-like of shape (n_points,)
        Raw losses. What comes after the first that is not finite is left out.

    Returns
    -------
    float or None
        One of the rates; None where the loss does not fall: no later mean of n / 10 losses in a row is below that
        of the first n / 5 by more than two standard errors. The noise is taken from the median distance of neighbours.

    Raises
    ------
    ValueError
        If there are fewer than ten finite losses, or not as many as rates.

    References
    ----------
    L. N. Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3; fastai 2, ``valley`` in
    ``fastai/callback/schedule.py``.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.lr_finder import suggest_learning_rate
    >>> rates = np.geomspace(1e-6, 10, 100)
    >>> fall, explosion = 1 / (1 + (3e-3 / rates)), np.exp(rates / 0.5)
    >>> print(f"{suggest_learning_rate(rates, 3 - 2 * fall + explosion):.0e}")
    1e-03
    """
    rates, raw = np.asarray(learning_rates, np.float64), np.asarray(losses, np.float64)
    if rates.ndim != 1 or rates.shape != raw.shape:
        raise ValueError(
            f"learning_rates and losses must be 1-D and equally long, got shapes {rates.shape} and {raw.shape}."
        )
    finite = np.isfinite(raw)
    n = len(raw) if finite.all() else int(np.argmin(finite))
    if n < FEWEST_POINTS:
        raise ValueError(f"A suggestion needs at least {FEWEST_POINTS} finite losses, got {n}; test for longer.")
    rates, raw = rates[:n], raw[:n]
    if not _falls(raw):
        return None
    part = slice(n // 10, max(n - LAST_LEFT_OUT, n // 10 + 2))
    return float(rates[part][_valley(smooth(raw)[part])])


def smooth(losses: Any, beta: float = BETA) -> Floats:
    """Smooth losses: an exponential moving average whose weights are divided by their sum, as in Adam and fastai 2.

    Parameters
    ----------
    losses : array-like of shape (n,)
        Losses in order.
    beta : float, default=0.98
        Weight of a loss over that of the one after it.

    Returns
    -------
    ndarray of float64, shape (n,)
        Of each loss and all before it, the weighted mean.

    Examples
    --------
    >>> from sk_ulmfit.lr_finder import smooth
    >>> smooth([4.0, 1.0, 1.0], beta=0.5).round(2).tolist()
    [4.0, 2.0, 1.43]
    """
    average, smoothed = 0.0, []
    for step, loss in enumerate(np.asarray(losses, np.float64), start=1):
        average = beta * average + (1 - beta) * float(loss)
        smoothed.append(average / (1 - beta**step))
    return np.array(smoothed)


def _falls(losses: Floats) -> bool:
    """Tell whether the losses fall below the first ones by more than chance."""
    n_first, n_lowest = max(len(losses) // 5, 3), max(len(losses) // 10, 3)
    means = np.convolve(losses[n_first:], np.full(n_lowest, 1 / n_lowest), mode="valid")
    noise = np.median(np.abs(np.diff(losses))) / 0.954  # standard deviation of normal losses, 0.6745 * sqrt(2)
    first = losses[:n_first].mean()
    return bool(first - means.min() > 2 * noise * math.sqrt(1 / n_first + 1 / n_lowest) + 1e-9 * abs(first))


def _valley(losses: Floats) -> int:
    """Give the index of the point in the middle of the longest falling subsequence."""
    length = np.ones(len(losses), np.int64)
    for i in range(1, len(losses)):
        longest = length[:i][losses[:i] > losses[i]]
        length[i] = 1 + longest.max(initial=0)
    end = int(length.argmax())
    k = int(length[end])
    return max(end - k + k // 3 + k // 6, 0)


class LearningRateRangeTest(Callback):  # type: ignore[misc]
    """Raise the learning rate at each training batch, note the losses, and end the training by an exception.

    It must come behind the schedule and the unfreezing, which it overrules.

    Parameters
    ----------
    start_lr, end_lr : float
        First and last rate of the top group.
    n_steps : int
        Batches from one to the other.

    Attributes
    ----------
    learning_rates, losses : list of float
        Of each step so far.
    """

    def __init__(self, start_lr: float, end_lr: float, n_steps: int):
        self.start_lr = start_lr
        self.end_lr = end_lr
        self.n_steps = n_steps
        self.learning_rates: list[float] = []
        self.losses: list[float] = []

    def __deepcopy__(self, memo: Any) -> LearningRateRangeTest:
        """Stay the one that is asked for the losses afterwards."""
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Take the ratios of the groups from the rates they begin with."""
        base = [group["lr"] for group in net.optimizer_.param_groups]
        self.ratios_ = [rate / base[-1] for rate in base]
        self.embedding_has_its_own_ = getattr(net, "embedding_lr", None) is not None
        self.average_, self.best_ = 0.0, math.inf

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Freeze nothing."""
        for parameter in net.module_.parameters():
            parameter.requires_grad_(True)

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Set the rates."""
        factor = (self.end_lr / self.start_lr) ** (len(self.losses) / (self.n_steps - 1))
        for group, ratio in zip(net.optimizer_.param_groups, self.ratios_, strict=True):
            group["lr"] = self.start_lr * factor * ratio

    def on_batch_end(self, net: Any, loss: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Note the loss; see whether this is the end."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise _TestIsOverError
        self.learning_rates.append(net.optimizer_.param_groups[-1]["lr"])
        self.losses.append(value)
        self.average_ = BETA * self.average_ + (1 - BETA) * value
        smoothed = self.average_ / (1 - BETA ** len(self.losses))  # the last of `smooth`
        self.best_ = min(self.best_, smoothed)
        if len(self.losses) == self.n_steps or smoothed > DIVERGED * self.best_:
            raise _TestIsOverError


class _TestIsOverError(Exception):
    pass


def _run_classifier(
    estimator: ULMFiTMultiLabelClassifier, X: Any, y: Any, sample_weight: Any, test: LearningRateRangeTest
) -> None:
    texts = check_texts(X)
    weight = check_weights(sample_weight, len(texts))
    n = len(texts) if weight is None else int((weight > 0).sum())
    check_number("lr", estimator.lr, low=0, exclusive=True)  # the embedding's rate keeps its ratio to it
    check_number("batch_size", estimator.batch_size, low=1, integer=True, none=True)
    batch_size = classifier_batch_size(n) if estimator.batch_size is None else estimator.batch_size
    model = clone(estimator)
    model.set_params(
        random_state=_own_source(model.random_state),
        lm_epochs=0,
        batch_size=batch_size,
        max_epochs=-(-test.n_steps // -(-n // batch_size)),
        schedule="slanted_triangular",
        early_stopping=False,
        calibration=None,
        threshold=0.5,
        tfidf=False,
        memory=None,
        callbacks=[("range_test", test)],
        verbose=0,
    )
    given: Any = estimator.language_model
    bodies = list(given) if isinstance(given, (tuple, list)) else [given]
    found = getattr(estimator, "language_model_", None)
    if estimator.direction == "both":  # fit begins with the forward network, and the test ends there
        second = getattr(estimator, "backward_language_model_", None)
        found = None if second is None else (found, second)
    elif found is not None and estimator.direction == "backward" and not reads_backward(found.state_.config):
        found = None
    if found is not None and not all(hasattr(body, "state_") for body in bodies):
        model.set_params(language_model=found)
        if not hasattr(bodies[0], "state_") and estimator.language_model_.pretrained_ is None:
            model.set_params(lr_decay=1.0, embedding_lr=None)  # as fit trains a body from random weights
    else:  # clone has made those that are fitted forget what they know; fit only reads them
        bodies = [_not_remembered(body) for body in bodies]
        model.set_params(language_model=tuple(bodies) if isinstance(given, (tuple, list)) else bodies[0])
    with warnings.catch_warnings():  # of a body that this test leaves untrained, and fit would not
        warnings.filterwarnings("ignore", "freeze_encoder=True keeps a body with random weights")
        warnings.filterwarnings("ignore", "This language model is to read")
        _until_over(model.fit, texts, y, sample_weight=weight)


def _run_language_model(estimator: ULMFiTLanguageModel, X: Any, test: LearningRateRangeTest) -> None:
    check_number("lr", estimator.lr, low=0, exclusive=True)
    model = clone(estimator)
    model.set_params(random_state=_own_source(model.random_state), schedule="slanted_triangular", verbose=0)
    arguments = model._arguments(X)[1]
    arguments["settings"] = replace(arguments["settings"], max_epochs=test.n_steps)
    _until_over(finetune_language_model, **arguments, callbacks=[("range_test", test)])


def _not_remembered(body: Any) -> Any:
    """Give where a body comes from; a language model that is to be fitted for the test alone leaves nothing on disk."""
    if isinstance(body, ULMFiTLanguageModel) and not hasattr(body, "state_"):
        return clone(body).set_params(memory=None)
    return body


def _until_over(train: Any, *args: Any, **kwargs: Any) -> None:
    try:
        train(*args, **kwargs)
    except _TestIsOverError:
        return
    raise AssertionError("The training ended before the range test.")


def _own_source(random_state: Any) -> Any:
    """Give a source of randomness that does not draw from numpy's global one."""
    uses_global = random_state is None or random_state is np.random
    return int(np.random.default_rng().integers(2**31)) if uses_global else random_state


def _parameters(suggestion: float | None, test: LearningRateRangeTest) -> dict[str, float]:
    if suggestion is None:
        return {}
    if not test.embedding_has_its_own_:
        return {"lr": suggestion}
    return {"lr": suggestion, "embedding_lr": suggestion * test.ratios_[0]}
