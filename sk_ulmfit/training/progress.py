"""What verbose=1 shows on stderr: which stages a fit has and why, a bar for each of them, and the time of all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sk_ulmfit.nn.processes import current
from sk_ulmfit.text.streams import Advance
from sk_ulmfit.training.recipe import FEWEST_TEXTS_UNFROZEN, MOST_TEXTS_GRADUALLY
from sk_ulmfit.training.settings import ClassifierSettings, TrainingSettings, unfreezing_for

COUNTING = "counting words"
TEACHER = "vectors of the teacher"
LANGUAGE_MODEL = "language model"
READING = "reading texts"
LINEAR_MODEL = "linear model of words"
VECTORS = "vectors of the texts"
LINEAR_HEAD = "linear head"
NETWORK = "network"
SAMPLE = "predictions for a sample"

SECONDS_BETWEEN = (0.1, 10.0)  # updates of a bar: where it is redrawn, and in a log, which keeps each of them


class Start(NamedTuple):
    """Where a network starts, as far as it is known before the fit.

    Attributes
    ----------
    backward : bool
        Whether it reads backward.
    stages : list of str
        Stages before its language model is ready.
    training : str
        Whether the language model is trained, and why.
    pretrained : bool
        Whether it has learned from more than the texts.
    has_vector : bool
        Whether it has a vector of a text.
    reads_once : bool, default=False
        Whether the texts are tokenized in those stages, and not once more for the network.
    """

    backward: bool
    stages: list[str]
    training: str
    pretrained: bool
    has_vector: bool
    reads_once: bool = False


def plan(n_texts: int, outputs: str, starts: Sequence[Start], settings: ClassifierSettings) -> str:
    """Say which stages a fit will have, and why; `outputs` are those of the network, such as "8 labels"."""
    n_train = n_texts - settings.n_held_out(n_texts)
    stages = [named(stage, start.backward) for start in starts for stage in start.stages]
    reasons = []
    for start in starts:
        decided = settings.after_head(n_texts) if start.has_vector else settings
        unfreezing = unfreezing_for(decided.unfreezing, n_train, start.pretrained)
        with_linear_model = settings.tfidf and start is starts[0]
        stages += _stages_of_network(start, unfreezing, with_linear_model)
        network = _training_of_network(start, unfreezing, automatic=settings.unfreezing == "auto")
        reasons += [f"{named(LANGUAGE_MODEL, start.backward)}: {start.training}"]
        reasons += [f"{named(NETWORK, start.backward)}: {network}"]
    title = f"Fit on {n_texts:,} texts with {outputs}: {', '.join(stages)}."
    return "\n  ".join([title, *reasons])


def _stages_of_network(start: Start, unfreezing: str, with_linear_model: bool) -> list[str]:
    head_only = unfreezing == "head"
    present = {
        READING: not start.reads_once,
        LINEAR_MODEL: with_linear_model,
        VECTORS: start.has_vector or head_only,
        LINEAR_HEAD: start.has_vector,
        NETWORK: not (start.has_vector and head_only),
        SAMPLE: True,
    }
    return [named(stage, start.backward and stage != LINEAR_MODEL) for stage, runs in present.items() if runs]


def _training_of_network(start: Start, unfreezing: str, automatic: bool) -> str:
    """Say which layers are trained, and why."""
    what = {"head": "head only", "gradual": "head, then one more layer in each epoch", "at_once": "all layers"}
    if start.has_vector:
        what |= {"head": "linear head only", "gradual": "linear head first, then one more layer in each epoch"}
        what |= {"at_once": "linear head first, then all layers"}
    if not automatic and (start.pretrained or start.has_vector or unfreezing == "head"):
        why = f"unfreezing={unfreezing!r}"
    elif start.has_vector:
        few, n = unfreezing == "head", f"{FEWEST_TEXTS_UNFROZEN:,}"
        why = f"fewer than {n} texts to learn from" if few else f"{n} texts or more"
    elif not start.pretrained:
        why = "nothing is pre-trained"
    else:
        why = f"{'up to' if unfreezing == 'gradual' else 'more than'} {MOST_TEXTS_GRADUALLY:,} texts to learn from"
    return f"{what[unfreezing]} ({why})"


def named(stage: str, backward: bool) -> str:
    """Return the name of a stage as it is shown."""
    return f"{stage} (backward)" if backward else stage


@contextmanager
def show_stage(
    stage: str, total: int, unit: str, settings: TrainingSettings, backward: bool = False
) -> Iterator[Advance]:
    """Show a bar for a stage of `total` units if `verbose` is set, and yield the function that advances it.

    The time left follows from the time that the last units took; advancing by 0 says that the first one begins now.
    A stage that ends without an exception has done all its units.
    """
    if not settings.verbose:
        yield _ignore
        return
    with new_bar(named(stage, backward), total, unit) as bar:
        yield bar.update
        bar.update(total - bar.n)


def _ignore(n: int) -> None:
    pass


def new_bar(name: str, total: int, unit: str) -> Any:
    """Return a bar of tqdm on stderr, with the share done, the time passed, the time left and the rate."""
    from tqdm.auto import tqdm

    is_redrawn = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")
    seconds = SECONDS_BETWEEN[0 if is_redrawn else 1]
    large = total >= 10_000
    return tqdm(
        desc=name, total=total, unit=f" {unit}", unit_scale=large, mininterval=seconds, miniters=0, smoothing=0.1
    )


def say(text: str) -> None:
    """Print a line to stderr, where the bars are."""
    if current().is_first:
        print(text, file=sys.stderr)


def duration(seconds: float) -> str:
    """Write a time in its two largest units.

    Examples
    --------
    >>> from sk_ulmfit.training.progress import duration
    >>> duration(8.4), duration(200), duration(7_500)
    ('8 s', '3 min 20 s', '2 h 5 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
