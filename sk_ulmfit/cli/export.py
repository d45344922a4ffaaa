"""``sk-ulmfit export``: write a model as ONNX."""

from __future__ import annotations

import argparse

from sk_ulmfit.cli import options as shared
from sk_ulmfit.cli.answers import Answer
from sk_ulmfit.cli.estimators import load_model
from sk_ulmfit.cli.files import check_input
from sk_ulmfit.onnx_export import PROBE_TEXTS, check_folder
from sk_ulmfit.runtime.models import check_onnxruntime


def add_options(command: argparse.ArgumentParser) -> None:
    groups = shared.Groups.of(command)
    shared.add_model(command)
    shared.add_out(groups.everyday, "FOLDER", "folder to write; sk_ulmfit.runtime.load and serve read it")
    groups.everyday.add_argument(
        "--int8", action="store_true", help="store the matrices of the network in 8 bits, in a quarter of the space"
    )
    shared.add_threshold(groups.everyday)


def run(options: argparse.Namespace) -> Answer:
    check_input(options.model)
    folder = check_folder(options.out, options.force)
    try:
        check_onnxruntime()
    except ImportError as error:
        raise ValueError(str(error)) from None
    options.device, options.n_jobs = "cpu", None
    shift = load_model(options).export_onnx(folder, int8=options.int8, overwrite=options.force)
    n_bytes = sum(file.stat().st_size for file in folder.iterdir())
    text = (
        f"Exported to {folder}, {n_bytes / 1e6:.1f} MB. Predictions of {PROBE_TEXTS} made-up texts move by at most "
        f"{shift:.2g}."
    )
    return Answer(text, {"out": str(folder), "megabytes": round(n_bytes / 1e6, 1), "largest_shift": shift})
