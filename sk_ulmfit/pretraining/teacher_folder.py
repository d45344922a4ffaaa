"""The folder of a run's passages and vectors: which settings it belongs to, and the passages drawn with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import short
from sk_ulmfit.pretraining.folder import TOKENS
from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.passage_files import (
    BLOCK,
    PassageFiles,
    open_passages,
    read_json,
    write_json,
    write_passages,
)
from sk_ulmfit.pretraining.passages import PassageSettings, draw_passages
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.pretraining.teacher_vectors import PASSAGE_VECTORS, vector_files
from sk_ulmfit.text.documents import describe, is_packed
from sk_ulmfit.training.teacher import PIECES_AT_ONCE, Teacher

SETTINGS = "settings.json"


def prepare_passages(folder: Path, settings: PassageSettings, teacher: Teacher, say: Say) -> PassageFiles:
    """Return the passages in a folder; draw them if there are none yet.

    If more were drawn than are wanted, the first blocks are taken, which are a fair sample.
    """
    passages = open_passages(folder)
    _claim(folder, settings, teacher, passages is not None, say)
    if passages is None:
        drawn = draw_passages(settings, teacher.readable, say)
        if not drawn:
            raise PretrainingError("The corpora hold no passage of four words or more; add more text.")
        write_passages(folder, drawn)
        passages = open_passages(folder)
        assert passages is not None
    return _first(passages, settings.n_passages)


def _first(passages: PassageFiles, n: int) -> PassageFiles:
    """Return the first blocks, of at least n passages if there are as many."""
    return replace(passages, n_passages=min(passages.n_passages, -(-n // BLOCK) * BLOCK))


def has_all_vectors(folder: Path, n_passages: int) -> bool:
    """Tell whether a teacher has read the passages in a folder; their vectors are the last that are written."""
    passages = open_passages(folder)
    if passages is None:
        return False
    files = vector_files(folder, PASSAGE_VECTORS, _first(passages, n_passages).n_passages)
    return all(file.exists() for file in files)


def _claim(folder: Path, settings: PassageSettings, teacher: Teacher, are_drawn: bool, say: Say) -> None:
    """Write the settings of a new run; refuse a folder whose passages or vectors come from other settings."""
    saved, made_from = read_json(folder / SETTINGS), _made_from(settings, teacher)
    without_texts = [corpus.path for corpus in settings.corpora if _is_packed(corpus.path) or not corpus.path.exists()]
    if are_drawn and without_texts:
        say(f"{without_texts[0]} holds no texts; using the passages in {folder}")
    elif packed := [path for path in without_texts if path.exists()]:
        raise PretrainingError(
            f"{packed[0]} holds token ids, and passages are cut from texts; pass the corpus they were made from."
        )
    else:
        made_from["corpora"] = {describe(c.path, settings.exclude): float(c.weight) for c in settings.corpora}
    if saved is None:
        folder.mkdir(exist_ok=True)
        write_json(folder / SETTINGS, made_from)
    elif difference := _difference(saved, made_from):
        raise PretrainingError(
            f"{folder} was made with {difference}; pass the same arguments, or another folder to out."
        )


def _is_packed(path: Path) -> bool:
    return is_packed(path) or is_packed(path / TOKENS)


def _made_from(settings: PassageSettings, teacher: Teacher) -> dict[str, Any]:
    """Return what determines the passages and their vectors, without the corpora."""
    return {
        "passages": settings.n_passages,
        "shares": list(settings.shares),
        "seed": settings.seed,
        "field": settings.field,
        "block": BLOCK,
        "batch": PIECES_AT_ONCE,
        "teacher": teacher.fingerprint,
    }


def _difference(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Return in words how saved settings differ from those that are wanted; None if they do not."""
    for name, value in wanted.items():
        if name == "corpora":
            if difference := _difference_of_corpora(saved, wanted):
                return difference
        elif name == "passages" and saved.get(name, value) > value:
            continue  # the first ones will do
        elif saved.get(name, value) != value:
            return "another teacher" if name == "teacher" else f"{name}={short(saved[name])}, not {short(value)}"
    return None


def _difference_of_corpora(saved: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Compare how many passages are to be drawn from each corpus."""
    here, there = _n_by_corpus(saved, wanted["passages"]), _n_by_corpus(wanted, wanted["passages"])
    for name in {**here, **there}:
        if here.get(name, 0) != there.get(name, 0):
            return f"{here.get(name, 0):,} passages to draw from {name}, not {there.get(name, 0):,}"
    return None


def _n_by_corpus(settings: dict[str, Any], n_passages: int) -> dict[str, int]:
    weights = settings.get("corpora", {})
    return {name: round(n_passages * weight / sum(weights.values())) for name, weight in weights.items()}
