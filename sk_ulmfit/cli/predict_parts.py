"""``sk-ulmfit predict`` of Parquet files to a folder of parts, in this process or on Dask."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sk_ulmfit._messages import count
from sk_ulmfit._validation import check_number
from sk_ulmfit.cli.answers import Answer, shows_progress
from sk_ulmfit.cli.data import named_text_columns
from sk_ulmfit.cli.files import check_input
from sk_ulmfit.datasets.tables import DELIMITED, JSON_LINES, PARQUET, file_type
from sk_ulmfit.text.unknown_words import as_one_call

ADDRESS = "://"


def add_options(group: Any) -> None:
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler whose workers predict Parquet files, such as tcp://HOST:8786; or local, for worker "
        "processes on this machine; OUT is then a folder",
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="worker processes of --scheduler local (default: one for each core)"
    )


def path_or_address(text: str) -> Path | str:
    """Return a path, or the address of another file system as it stands."""
    return text if ADDRESS in text else Path(text)


def writes_parts(options: argparse.Namespace) -> bool:
    """Tell whether OUT is a folder of parts: for several Parquet files, an address, or a scheduler."""
    file = options.file
    if options.scheduler or isinstance(file, str) or isinstance(options.out, str):
        return True
    if file.is_dir():
        suffixes = {each.suffix.lower() for each in file.rglob("*")}
        return not suffixes.isdisjoint(PARQUET) and ".txt" not in suffixes
    return not file.exists() and file.suffix.lower() in PARQUET and any(c in str(file) for c in "*?[")


def run_parts(options: argparse.Namespace) -> Answer:
    """Predict Parquet files part by part; parts that an earlier run has written are kept."""
    _check_options(options)
    from sk_ulmfit.distributed.extra import needed

    for module in ("pyarrow.parquet", "pandas", "fsspec", *(["distributed"] if options.scheduler else [])):
        needed(module)
    from sk_ulmfit.distributed.clusters import client_of, written
    from sk_ulmfit.distributed.models import model_file
    from sk_ulmfit.distributed.part_writing import PartWriter
    from sk_ulmfit.distributed.parts import open_folder, read_source
    from sk_ulmfit.distributed.threads import slots_by_host

    model = model_file(options.model, options.device, options.threshold)
    description = model.describe()
    text = named_text_columns(description.metadata, options)
    out = _absolute(options.out)
    source = read_source(_absolute(options.file), text, out)
    with client_of(options.scheduler, options.workers) as client:
        if client is not None:
            _check_model(client, model)
        missing = open_folder(out, source, description.digest, options.threshold, text, options.force)
        if client is not None:
            _check_paths(client, source.files[0][0], out)
        slots = {} if client is None else slots_by_host(client)
        results = written(client, PartWriter(model, text, out, None, slots), missing)
        with as_one_call(has_rows=False):
            n_labels = _n_labels(results, sum(part.stop - part.start for part in missing), options)
    return _answer(options, source, missing, None if description.kind == "regressor" else n_labels)


def check_workers(options: argparse.Namespace) -> None:
    """Raise ValueError for --workers without --scheduler local."""
    if options.workers is not None and options.scheduler != "local":
        raise ValueError("--workers is for --scheduler local; another scheduler has its own workers, so omit it.")


def holds_parts(options: argparse.Namespace) -> bool:
    """Tell whether OUT is a folder in which a run goes on."""
    if not writes_parts(options):
        return False
    from sk_ulmfit.distributed.parts import holds_run

    return holds_run(_absolute(options.out))


def _check_options(options: argparse.Namespace) -> None:
    check_input(options.model)
    for name in ("delimiter", "encoding"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is for tables of text, and OUT holds Parquet files here; omit it.")
    check_workers(options)
    check_number("--workers", options.workers, low=1, integer=True, none=True)
    if file_type(Path(options.out)) in {*DELIMITED, *JSON_LINES, *PARQUET}:
        raise ValueError(
            f"{options.out} would be a folder of Parquet files here; give a name without a suffix to --out."
        )


def _absolute(path: Path | str) -> str:
    """Return a path as workers find it; an address stays as it is."""
    return path if isinstance(path, str) else os.path.abspath(path)


def _check_model(client: Any, model: Any) -> None:
    from sk_ulmfit.distributed.worker_checks import check_model, check_package

    if not check_package(client):
        raise ValueError(f"The scheduler at {client.scheduler.address} has no workers; start some, then try again.")
    check_model(client, model)


def _check_paths(client: Any, file: str, out: str) -> None:
    from sk_ulmfit.distributed.worker_checks import check_paths

    check_paths(client, file, out)


def _n_labels(results: Iterator[tuple[int, int]], n_texts: int, options: argparse.Namespace) -> int:
    """Wait for all parts, with progress; return how many labels were predicted."""
    from tqdm import tqdm

    n_labels = 0
    with tqdm(total=n_texts, desc="predict", unit=" texts", disable=not shows_progress(options)) as bar:
        for n, labels in results:
            n_labels += labels
            bar.update(n)
    return n_labels


def _answer(options: argparse.Namespace, source: Any, missing: Sequence[Any], n_labels: int | None) -> Answer:
    n_texts, n_parts = sum(part.stop - part.start for part in missing), sum(1 for _ in source.parts())
    data: dict[str, Any] = {"out": str(options.out), "n_texts": n_texts, "n_parts": n_parts}
    words = f"Predicted {count(n_texts, 'text')}"
    if n_labels is not None and n_texts:
        data["labels_per_text"] = round(n_labels / n_texts, 4)
        words += f" with {n_labels / n_texts:.2f} labels on average"
    data["n_parts_kept"] = n_parts - len(missing)
    kept = f"; {data['n_parts_kept']} of its {n_parts} parts had been written before" if data["n_parts_kept"] else ""
    return Answer(f"{words}; written to {options.out}{kept}.", data)
