"""Learning-rate schedules as formulas."""

from __future__ import annotations

import math


def slanted_triangular(step: int, n_steps: int, cut_frac: float = 0.1, ratio: float = 32.0) -> float:
    """Return the factor on the largest learning rate, from 1 / ratio to 1, of the slanted triangular schedule.

    The rate rises in the share `cut_frac` of the steps. Howard & Ruder 2018, equation 3, but with ``n_steps - cut`` as
    the denominator of the falling part: the paper's own is smaller if ``n_steps * cut_frac`` is no integer, and makes
    the rate negative at the end.

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
    """Return the factor on the largest learning rate, and the momentum (Adam's first beta), of the one-cycle schedule.

    The factor follows a cosine from 1 / div up to 1 in the share `pct_start` of the steps, then down to 1 / div_final;
    the momentum goes from 0.8 down to 0.7 and back, as in fastai 2's ``fit_one_cycle``. Steps may also be seconds.

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
