"""Learning-rate schedules as formulas."""

from __future__ import annotations

import math


def slanted_triangular(step: int, n_steps: int, cut_frac: float = 0.1, ratio: float = 32.0) -> float:
    """Share of the largest learning rate at a step of the slanted triangular schedule.

    Howard & Ruder 2018, equation 3, with ``n_steps - cut`` as the falling denominator: the paper's own is
    smaller when ``n_steps * cut_frac`` is no integer, and lets the rate turn negative at the end.

    Parameters
    ----------
    step : int
        Steps done, from 0.
    n_steps : int
        Steps in all.
    cut_frac : float, default=0.1
        Share of the steps in which the rate rises.
    ratio : float, default=32
        Largest rate over smallest.

    Returns
    -------
    float
        Factor from 1 / ratio to 1.

    Examples
    --------
    >>> from sk_ulmfit.training.schedules import slanted_triangular
    >>> [round(0.01 * slanted_triangular(t, 100), 7) for t in (0, 5, 10, 99)]
    [0.0003125, 0.0051563, 0.01, 0.0004201]
    """
    cut = max(int(n_steps * cut_frac), 1)
    p = step / cut if step < cut else 1 - (step - cut) / max(n_steps - cut, 1)
    return (1 + p * (ratio - 1)) / ratio


def one_cycle(
    step: float, n_steps: float, pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5
) -> tuple[float, float]:
    """Share of the largest learning rate, and the momentum, at a step of the one-cycle schedule.

    Cosine from 1 / div up to 1, then down to 1 / div_final, as in fastai 2's ``fit_one_cycle``; the momentum
    goes from 0.8 down to 0.7 and back.

    Parameters
    ----------
    step : float
        Steps done, from 0; or time, where a budget of time is to be kept.
    n_steps : float
        Steps, or time, in all.
    pct_start : float, default=0.25
        Share of the steps in which the rate rises.
    div : float, default=25
        Largest rate over the first.
    div_final : float, default=1e5
        Largest rate over the last.

    Returns
    -------
    factor : float
        Share of the largest rate.
    momentum : float
        First beta of Adam.

    Examples
    --------
    >>> from sk_ulmfit.training.schedules import one_cycle
    >>> [round(2e-3 * one_cycle(t, 100)[0], 9) for t in (0, 10, 25, 75)]
    [8e-05, 0.000743344, 0.002, 0.000500015]
    """
    position = step / n_steps
    if position < pct_start:
        share = position / pct_start
        return _cosine(1 / div, 1.0, share), _cosine(0.8, 0.7, share)
    share = (position - pct_start) / (1 - pct_start)
    return _cosine(1.0, 1 / div_final, share), _cosine(0.7, 0.8, share)


def _cosine(start: float, end: float, share: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * share)) / 2
