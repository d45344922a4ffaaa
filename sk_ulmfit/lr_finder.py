"""Learning-rate range test of an estimator, and the learning rate that its curve suggests."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from skorch.callbacks import Callback

from sk_ulmfit._choices import Numbers
from sk_ulmfit._locks import WARNING_FILTERS
from sk_ulmfit._text_estimator import TextEstimator
from sk_ulmfit._validation import check_number, random_generator
from sk_ulmfit.classifier import ULMFiTMultiLabelClassifier
from sk_ulmfit.encoders import choose_language_models, direction_of, fit_encoders, grown_encoders
from sk_ulmfit.language_model import ULMFiTLanguageModel, teacher_of, training_input
from sk_ulmfit.nn.device import resolve_device
from sk_ulmfit.regressor import ULMFiTRegressor
from sk_ulmfit.text.seen_tokens import TokenStore
from sk_ulmfit.text.unknown_words import one_warning
from sk_ulmfit.training.directions import Encoder
from sk_ulmfit.training.settings import ClassifierSettings
from sk_ulmfit.training.stages import finetune_language_model, train_classifier

__all__ = ["LearningRateCurve", "lr_find", "smooth", "suggest_learning_rate"]

Floats = NDArray[np.float64]

MIN_STEPS = 20
MIN_POINTS = 10  # a test that ends earlier has diverged at once
N_LAST_IGNORED = 5  # points at the end of the test, where the loss explodes
BETA = 0.98  # of the moving average, as in fastai 2
DIVERGED = 4.0  # times the smallest smoothed loss


@dataclass(frozen=True)
class LearningRateCurve:
    """Result of a learning-rate range test.

    Parameters
    ----------
    learning_rates : ndarray of float64, shape (n_points,)
        Rate of the top layer group at each step, rising by a constant factor.
    losses : ndarray of float64, shape (n_points,)
        Training loss of the batch of each step, penalties included, before the step. All are finite.
    smoothed_losses : ndarray of float64, shape (n_points,)
        Exponential moving average of the losses, see `smooth`.
    suggestion : float or None
        Suggested learning rate; None if the loss does not fall.
    parameters : dict of str to float
        The suggestion as parameters of the estimator: `lr`, and `embedding_lr` if the embedding has its own rate, with
        the same ratio to `lr` as before. Empty without a suggestion.

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
    estimator: ULMFiTMultiLabelClassifier | ULMFiTRegressor | ULMFiTLanguageModel,
    X: Any,
    y: Any = None,
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    n_steps: int = 100,
    sample_weight: Numbers | None = None,
) -> LearningRateCurve:
    """Run a learning-rate range test: raise the learning rate from step to step, and watch the loss.

    A copy of the estimator is trained for `n_steps` batches, with all layers unfrozen. The rate of the top layer group
    rises from `start_lr` to `end_lr` by a constant factor; the other groups keep their ratio to it. The test ends early
    if the smoothed loss exceeds four times its minimum, or is not finite. The estimator itself does not change.

    Parameters
    ----------
    estimator : ULMFiTMultiLabelClassifier, ULMFiTRegressor or ULMFiTLanguageModel
        Fitted or not. `max_epochs`, `schedule`, `early_stopping`, `calibration`, `threshold`, `tfidf`, `memory`,
        `callbacks` and `verbose` are ignored.
    X : sequence of str of length n
        Raw texts.
    y : array-like of shape (n,) or (n, n_outputs), DataFrame, sparse matrix, or n label lists, default=None
        Labels or values, as ``fit`` takes them; a language model needs none.
    start_lr, end_lr : float, default=1e-6, 10
        First and last learning rate.
    n_steps : int, default=100
        Number of batches, at least 20.
    sample_weight : array-like of shape (n,), default=None
        Weight of each text, as in ``fit`` of the classifier and the regressor.

    Returns
    -------
    LearningRateCurve
        Learning rates, losses and a suggestion.

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
    An unfitted classifier or regressor is tested on the language model that it starts from, without fine-tuning it
    first; a fitted one on its fine-tuned language model. With ``warm_start=True``, a fitted estimator of any kind is
    tested from its fitted weights, from which its next ``fit`` goes on. A network that has a vector of a text trains
    its linear head first, as in ``fit``; the curve is that of all layers, trained after it (`unfreezing`). The loss of
    a language model with a `teacher` is that of its training, the distance to the teacher included. A rate that is good
    for a hundred steps may be too large for ten epochs: take it as a place to search around.

    References
    ----------
    Smith, L. N. (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3.

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
    check_number("n_steps", n_steps, low=MIN_STEPS, integer=True)
    test = LearningRateRangeTest(float(start_lr), float(end_lr), int(n_steps))
    if isinstance(estimator, TextEstimator):
        if y is None:
            needs = "a classifier needs labels" if _is_classifier(estimator) else "a regressor needs values"
            raise ValueError(f"y is None, but {needs}; pass y as fit takes it.")
        _test_text_estimator(estimator, X, y, sample_weight, test)
    elif isinstance(estimator, ULMFiTLanguageModel):
        if sample_weight is not None:
            raise ValueError("sample_weight has no meaning for a language model; omit it.")
        _test_language_model(estimator, X, test)
    else:
        raise ValueError(
            "estimator must be a ULMFiTMultiLabelClassifier, a ULMFiTRegressor or a ULMFiTLanguageModel, got a "
            f"{type(estimator).__name__}; for a Pipeline, pass its last step, and the texts that the steps before it "
            "return."
        )
    return _curve(test)


def _curve(test: LearningRateRangeTest) -> LearningRateCurve:
    """Return the curve of a finished test; warn if there is no suggestion, raise ValueError if it diverged at once."""
    if len(test.losses) < MIN_POINTS:
        raise ValueError(
            f"The loss diverges at once, after {len(test.losses)} steps from start_lr={test.start_lr:g}. "
            f"Pass a smaller start_lr, for example {test.start_lr / 1000:.0e}."
        )
    rates, losses = np.array(test.learning_rates), np.array(test.losses)
    suggestion = suggest_learning_rate(rates, losses)
    if suggestion is None:
        warnings.warn(
            f"The loss does not fall between {rates[0]:.1e} and {rates[-1]:.1e}, so no learning rate is suggested. "
            "Draw the curve; then try a smaller start_lr if it rises from the beginning, or more n_steps or a larger "
            "batch_size if it goes up and down.",
            UserWarning,
            stacklevel=3,
        )
    return LearningRateCurve(rates, losses, smooth(losses), suggestion, _parameters(suggestion, test))


def suggest_learning_rate(learning_rates: Any, losses: Any) -> float | None:
    """Suggest a learning rate from the curve of a range test, by the rule that fastai 2 calls "valley".

    The losses are smoothed; the first tenth of the points and the last five are ignored. Of the longest decreasing
    subsequence of the others, with k points that end at the e-th, point e - k + floor(k / 3) + floor(k / 6) is
    taken.

    Parameters
    ----------
    learning_rates : array-like of shape (n_points,)
        Learning rates in ascending order.
    losses : array-like of shape (n_points,)
        Raw losses; those after the first that is not finite are ignored.

    Returns
    -------
    float or None
        One of the rates; None if the loss does not fall: no later mean of n / 10 consecutive losses is below that of
        the first n / 5 by more than two standard errors. The noise is estimated from the differences of neighbours.

    Raises
    ------
    ValueError
        If there are fewer than ten finite losses, or not as many as rates.

    References
    ----------
    Smith, L. N. (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3; fastai 2, ``valley`` in
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
    if n < MIN_POINTS:
        raise ValueError(f"A suggestion needs at least {MIN_POINTS} finite losses, got {n}; test for longer.")
    rates, raw = rates[:n], raw[:n]
    if not _falls(raw):
        return None
    part = slice(n // 10, max(n - N_LAST_IGNORED, n // 10 + 2))
    return float(rates[part][_valley(smooth(raw)[part])])


def smooth(losses: Any, beta: float = BETA) -> Floats:
    """Compute the exponential moving average of losses, with bias correction as in Adam and fastai 2.

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
    """Tell whether the losses fall by more than chance."""
    n_first, n_lowest = max(len(losses) // 5, 3), max(len(losses) // 10, 3)
    means = np.convolve(losses[n_first:], np.full(n_lowest, 1 / n_lowest), mode="valid")
    noise = np.median(np.abs(np.diff(losses))) / 0.954  # standard deviation of normal losses, 0.6745 * sqrt(2)
    first = losses[:n_first].mean()
    return bool(first - means.min() > 2 * noise * math.sqrt(1 / n_first + 1 / n_lowest) + 1e-9 * abs(first))


def _valley(losses: Floats) -> int:
    """Return the index of a point in the middle of the longest decreasing subsequence."""
    length = np.ones(len(losses), np.int64)
    for i in range(1, len(losses)):
        longest = length[:i][losses[:i] > losses[i]]
        length[i] = 1 + longest.max(initial=0)
    end = int(length.argmax())
    k = int(length[end])
    return max(end - k + k // 3 + k // 6, 0)


class LearningRateRangeTest(Callback):  # type: ignore[misc]
    """Raise the learning rate at each training batch and record the losses.

    It lowers `max_steps` of the net to end the training early.

    Parameters
    ----------
    start_lr, end_lr : float
        First and last rate of the top group.
    n_steps : int
        Number of batches.

    Attributes
    ----------
    learning_rates, losses : list of float
        Values at each step so far.
    """

    def __init__(self, start_lr: float, end_lr: float, n_steps: int):
        self.start_lr = start_lr
        self.end_lr = end_lr
        self.n_steps = n_steps
        self.learning_rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Take the ratios of the groups to the top layer group, which has the rate of the net."""
        self.ratios_ = [group["lr"] / net.lr for group in net.optimizer_.param_groups]
        self.embedding_has_own_rate_ = getattr(net, "embedding_lr", None) is not None
        self.average_, self.best_ = 0.0, math.inf

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Set the rates."""
        self.rate_ = self.start_lr * (self.end_lr / self.start_lr) ** (len(self.losses) / (self.n_steps - 1))
        for group, ratio in zip(net.optimizer_.param_groups, self.ratios_, strict=True):
            group["lr"] = self.rate_ * ratio

    def on_batch_end(self, net: Any, loss: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Record the loss; end the training if it diverges."""
        if net.max_steps == 0:  # a batch that was on its way already
            return
        value = float(loss.detach())
        if not math.isfinite(value):
            net.max_steps = 0
            return
        self.learning_rates.append(self.rate_)
        self.losses.append(value)
        self.average_ = BETA * self.average_ + (1 - BETA) * value
        smoothed = self.average_ / (1 - BETA ** len(self.losses))  # the last value of `smooth`
        self.best_ = min(self.best_, smoothed)
        if smoothed > DIVERGED * self.best_:
            net.max_steps = 0


@one_warning()
def _test_text_estimator(
    estimator: TextEstimator, X: Any, y: Any, sample_weight: Any, test: LearningRateRangeTest
) -> None:
    """Run the test on the forward network of a classifier or regressor, or on its only one."""
    check_number("lr", estimator.lr, low=0, none=True, exclusive=True)  # the embedding's rate keeps its ratio to it
    earlier = estimator._goes_on_from()
    model = _estimator_to_test(estimator)
    if earlier is None:
        model.set_params(language_model=_language_models_to_test(estimator))
    model._check_params()
    data = model._check_data(X, y, sample_weight, earlier)
    lm_seed, seed = (int(n) for n in random_generator(model.random_state).randint(2**31 - 1, size=2))
    if earlier is None:
        encoder = _start_to_test(estimator, model, data.texts, lm_seed)
    else:
        encoder = grown_encoders(model, earlier, data.texts, len(data.texts), TokenStore())[0]
    if encoder.has_vector:
        model.set_params(unfreezing="at_once")  # nothing else is trained step by step
    settings = ClassifierSettings.of(model, seed=seed, device=resolve_device(model.device), decisions_from="nothing")
    train_classifier(
        data,
        encoder.language_model,
        settings,
        pretrained=encoder.pretrained,
        earlier=encoder.earlier,
        corpus=encoder.corpus,
        callbacks=[("range_test", test)],
        max_steps=test.n_steps,
    )


def _is_classifier(estimator: TextEstimator) -> bool:
    return isinstance(estimator, ULMFiTMultiLabelClassifier)


def _estimator_to_test(estimator: TextEstimator) -> Any:
    """Return an unfitted copy that learns nothing but the network, shows nothing, and leaves no cache."""
    model: Any = clone(estimator)
    if _is_classifier(estimator):
        model.set_params(calibration=None, threshold=0.5)
    return model.set_params(
        random_state=_own_source(model.random_state),
        lm_epochs=0,
        max_epochs=1,
        schedule="slanted_triangular",
        early_stopping=False,
        tfidf=False,
        memory=None,
        callbacks=None,
        verbose=0,
    )


def _start_to_test(estimator: TextEstimator, model: Any, texts: Any, seed: int) -> Encoder:
    """Return the encoder that ``fit`` would train, of a language model that is not trained further."""
    with WARNING_FILTERS, warnings.catch_warnings():  # fit would train what stays untrained here
        warnings.filterwarnings("ignore", "This language model is to read")
        encoder = fit_encoders(choose_language_models(model, seed)[:1], texts, False)[0]
    return encoder._replace(pretrained=_is_pretrained(estimator, encoder))


def _test_language_model(estimator: ULMFiTLanguageModel, X: Any, test: LearningRateRangeTest) -> None:
    check_number("lr", estimator.lr, low=0, exclusive=True)
    model = clone(estimator)
    if estimator.warm_start and hasattr(estimator, "state_"):
        model._fitted = estimator._fitted  # what the next fit goes on from
    model.set_params(random_state=_own_source(model.random_state), schedule="slanted_triangular", verbose=0)
    texts, start, settings = training_input(model, X)
    finetune_language_model(
        texts,
        start.state,
        replace(settings, max_epochs=1),
        teacher=teacher_of(model, settings.device),
        callbacks=[("range_test", test)],
        max_steps=test.n_steps,
    )


def _language_models_to_test(estimator: TextEstimator) -> Any:
    """Return the fine-tuned language models of a fitted estimator; else its parameter `language_model`."""
    wanted: Any = estimator.language_model
    models = list(wanted) if isinstance(wanted, (tuple, list)) else [wanted]
    tuned = _fine_tuned(estimator)
    if tuned is not None and not all(hasattr(model, "state_") for model in models):
        return tuned
    models = [_copy_for_test(model) for model in models]
    return tuple(models) if isinstance(wanted, (tuple, list)) else models[0]


def _fine_tuned(estimator: TextEstimator) -> Any:
    """Return the language model that ``fit`` has trained, or both; None if there are none for this direction."""
    tuned = getattr(estimator, "language_model_", None)
    if estimator.direction == "both":
        second = getattr(estimator, "backward_language_model_", None)
        return None if second is None else (tuned, second)
    if tuned is not None and estimator.direction == "backward" and direction_of(tuned) != "backward":
        return None
    return tuned


def _is_pretrained(estimator: TextEstimator, encoder: Encoder) -> bool:
    """Tell whether ``fit`` would treat the encoder as pre-trained."""
    wanted: Any = estimator.language_model
    first = wanted[0] if isinstance(wanted, (tuple, list)) else wanted
    tuned = _fine_tuned(estimator)
    if tuned is None or hasattr(first, "state_"):
        return encoder.pretrained
    return estimator.language_model_.pretrained_ is not None


def _copy_for_test(model: Any) -> Any:
    """Return a language model to fit for the test alone: it shows nothing, and leaves nothing in the user's cache."""
    if isinstance(model, ULMFiTLanguageModel) and not hasattr(model, "state_"):
        return clone(model).set_params(memory=None, verbose=0)
    return model


def _own_source(random_state: Any) -> Any:
    """Return a source of randomness that does not draw from the global one of NumPy."""
    uses_global = random_state is None or random_state is np.random
    return int(np.random.default_rng().integers(2**31)) if uses_global else random_state


def _parameters(suggestion: float | None, test: LearningRateRangeTest) -> dict[str, float]:
    if suggestion is None:
        return {}
    if not test.embedding_has_own_rate_:
        return {"lr": suggestion}
    return {"lr": suggestion, "embedding_lr": suggestion * test.ratios_[0]}
