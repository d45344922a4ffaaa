"""Mutated state dicts and vocabularies of fastai: each is refused as a ModelFileError, or loads and predicts numbers.

Run ``python tests/fuzz/fastai_files.py --n 1000 --seed 0``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models import ModelFileError

WORDS = ["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj", "the", "lamp", "hub"]
WORDS += ["xxfake"] * 4
EMB_DIM, HIDDEN_DIM = 4, 5
EXPECTED = {"refused", "loaded"}  # outcomes
LONGEST_MESSAGE = 500  # characters, of which a path takes up to a hundred


def state_dict():
    """Return a language model of two layers as fastai 2 writes it."""
    torch.manual_seed(0)
    embedding = torch.randn(len(WORDS), EMB_DIM)
    tensors = {"0.encoder.weight": embedding, "0.encoder_dp.emb.weight": embedding, "1.decoder.weight": embedding}
    for i, (n_in, width) in enumerate([(EMB_DIM, HIDDEN_DIM), (HIDDEN_DIM, EMB_DIM)]):
        tensors[f"0.rnns.{i}.weight_hh_l0_raw"] = torch.randn(4 * width, width)
        tensors[f"0.rnns.{i}.module.weight_ih_l0"] = torch.randn(4 * width, n_in)
        for bias in ("bias_ih_l0", "bias_hh_l0"):
            tensors[f"0.rnns.{i}.module.{bias}"] = torch.randn(4 * width)
    return {**tensors, "1.decoder.bias": torch.randn(len(WORDS))}


# --- mutations of tensors: from a tensor to something else --------------------

DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool]
DTYPES += [torch.complex64, torch.float8_e4m3fn]


def with_value(tensor, rng):
    tensor = tensor.clone()
    tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice([math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45])
    return tensor


def with_shape(tensor, rng):
    sizes = [rng.choice([0, 1, 2, 3, size, size + 1, 4 * size]) for size in tensor.shape]
    return torch.zeros(rng.choice([sizes, [*sizes, 1], sizes[1:], [0, *sizes], sizes[::-1]]))


def special(tensor, rng):
    return rng.choice(
        [
            lambda: tensor.to_sparse(),
            lambda: tensor.reshape(1, -1).to_sparse_csr(),
            lambda: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
            lambda: torch.empty(tensor.shape, device="meta"),
            lambda: torch.nested.nested_tensor([tensor, tensor[:1]]),
            lambda: tensor[:1].expand(tensor.shape),
            lambda: torch.zeros(1).expand(10**6, 10**6),
            lambda: torch.zeros(()).expand(tensor.shape),
            lambda: tensor.t(),
            lambda: torch.nn.Parameter(tensor),
            lambda: torch._neg_view(tensor),
            lambda: (tensor + 1j).conj(),
            lambda: tensor.to(torch.float64) * 1e300,
            lambda: None,
            lambda: tensor.numpy().tolist(),
            lambda: {"weight": tensor},
            lambda: [tensor],
            lambda: "tensor",
            lambda: torch.Size([1, 2]),
            lambda: torch.float32,
        ]
    )()


def mutate_tensor(tensors, rng):
    name = rng.choice(list(tensors))
    change = rng.choice(
        [lambda t, rng: t.to(rng.choice(DTYPES)), with_value, with_shape, special, lambda t, rng: t[: len(t) // 2]]
    )
    tensors[name] = change(tensors[name], rng)
    return tensors


# --- mutations of a state dict ------------------------------------------------

NAMES = ["0.rnns.2.", "0.rnns.-1.", "0.rnns..", "0.rnns.00.", "0.rnns.٣.", "0.rnns.1e9.", "0.rnns." + "9" * 5_000 + "."]
NAMES += [
    "0.rnns.99999999999.",
    "0.encoder.weight",
    "\ud800",
    "",
    "x" * 100_000,
    "0.layers.0.",
    "0.linear.",
    "a\nb\x1b[2J",
]
KEYS = [None, 3, 2.5, True, b"0.encoder.weight", ("0", "encoder"), float("nan"), 2**200]


def mutate_names(tensors, rng):
    kind = rng.randrange(5)
    name = rng.choice(list(tensors))
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[rng.choice(KEYS)] = torch.zeros(2)
    elif kind == 2:
        tensors[rng.choice(NAMES) + rng.choice(["", "module.weight_ih_l0", "weight_hh_l0_raw"])] = tensors[name]
    elif kind == 3:
        other = rng.choice(list(tensors))
        tensors[name], tensors[other] = tensors[other], tensors[name]
    else:
        for layer in range(rng.choice([3, 50])):
            for end in ("weight_hh_l0_raw", "module.weight_ih_l0", "module.bias_ih_l0", "module.bias_hh_l0"):
                tensors[f"0.rnns.{layer}.{end}"] = tensors[f"0.rnns.0.{end}"]
    return tensors


def mutate_nesting(tensors, rng):
    nested = tensors
    for _ in range(rng.choice([1, 2, 40])):
        nested = {rng.choice(["model", "model", "state_dict", "opt"]): nested, "opt": rng.choice([None, {}, [1]])}
    return rng.choice(
        [nested, {}, [], None, 5, "text", list(tensors), list(tensors.items()), torch.zeros(3), {"model": 5}]
    )


# --- mutations of the bytes of a file -----------------------------------------


def flip(data, rng, n=1):
    data = bytearray(data)
    for _ in range(n):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def recompressed(data, rng):
    """Return the zip archive compressed, with an entry that is huge when it is read."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(
                entry.filename, content + bytes(rng.choice([0, 10**7])) if "/data/" in entry.filename else content
            )
    return result.getvalue()


def without_entry(data, rng):
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        left_out = rng.choice(old.namelist())
        for entry in old.infolist():
            if entry.filename != left_out:
                new.writestr(entry.filename, old.read(entry))
    return result.getvalue()


def mutate_bytes(data, rng, is_zip):
    place = rng.randrange(len(data))
    changes = [
        lambda: flip(data, rng),
        lambda: flip(data, rng),
        lambda: flip(data[: len(data) // 4], rng, 2) + data[len(data) // 4 :],
        lambda: flip(data, rng, 20),
        lambda: data[:place],
        lambda: data[place:],
        lambda: data[:place] + rng.randbytes(rng.randrange(1, 100)) + data[place:],
        lambda: data[:place] + bytes(rng.randrange(1, 100)) + data[place + 50 :],
        lambda: b"",
        lambda: rng.randbytes(300),
    ]
    if is_zip:
        changes += [lambda: recompressed(data, rng), lambda: without_entry(data, rng), lambda: data + data]
    return rng.choice(changes)()


# --- mutations of a vocabulary ------------------------------------------------

ODD_WORDS = [None, 3, 2.5, b"the", ["the"], float("nan"), "the", "", "\ud800", "xxunk", "_unk_", "a\x00b", "x" * 10**5]


def mutate_words(rng):
    words = list(WORDS)
    place = rng.randrange(len(words))
    words[place] = rng.choice(ODD_WORDS)
    return rng.choice(
        [words, words, words, words[:-1], [*words, "more"], [], None, 5, dict.fromkeys(WORDS), {"a"}, tuple(WORDS), b"the",
         np.array(WORDS), np.array(5), torch.zeros(3), (word for word in WORDS), [[*WORDS]], WORDS * 2]
    )  # fmt: skip


def vocabulary_file(folder, rng):
    """Write a mutated vocabulary to a file and return its path."""
    path = folder / rng.choice(["itos.json", "itos.txt", "itos.pkl", "itos"])
    text = json.dumps(WORDS) if rng.random() < 0.5 else "\n".join(WORDS)
    text = rng.choice(
        [text, text + "\n\n", text.replace("the", "lamp"), text[:20], "[" * 100_000, "9" * 6_000, "{}", "null", "[1, 2]",
         json.dumps([*WORDS[:-1], "\ud800"]), json.dumps([*WORDS[:-1], 5]), json.dumps({"itos": WORDS}), ""]
    )  # fmt: skip
    data = text.encode(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    path.write_bytes(flip(data, rng) if data and rng.random() < 0.5 else data)
    return rng.choice([path, path, path, str(path), folder, folder / "missing", "a\0b"])


# --- one trial ----------------------------------------------------------------


def write_trial(folder, rng):
    """Write a mutated state dict, or an intact one for a mutated vocabulary; return both as they are passed."""
    path, words = folder / "lstm.pth", WORDS
    content = state_dict()
    kind = rng.choice(["tensor", "tensor", "names", "nesting", "bytes", "bytes", "words", "words file"])
    if kind in ("tensor", "names", "nesting"):
        change = {"tensor": mutate_tensor, "names": mutate_names, "nesting": mutate_nesting}[kind]
        content = change(content, rng)
    is_zip = rng.random() < 0.7
    try:
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    except (RuntimeError, NotImplementedError, UnicodeEncodeError, TypeError):
        torch.save({}, path)  # what torch itself does not write
    if kind == "bytes":
        path.write_bytes(mutate_bytes(path.read_bytes(), rng, is_zip))
    if kind == "words":
        words = mutate_words(rng)
    if kind == "words file":
        words = vocabulary_file(folder, rng)
    return kind, is_zip, path, words


def outcome(kind, is_zip, path, words):
    """Load a model and tell what came of it."""
    try:
        model = ULMFiTLanguageModel.from_fastai(path, words)
    except ModelFileError as error:
        is_clear = 0 < len(str(error)) <= LONGEST_MESSAGE and "\n" not in str(error)
        return "refused" if is_clear else f"unclear message: {str(error)[:200]!r}"
    except Exception as error:
        return f"other exception: {type(error).__name__}: {str(error)[:100]}"
    if not all(np.isfinite(array).all() for array in model.state_.weights.values()):
        return "silent: weights that are not finite"
    if kind == "bytes" and is_zip:
        expected = ULMFiTLanguageModel.from_fastai(write_intact(path.with_name("intact.pth")), WORDS).state_.weights
        if any(not np.array_equal(expected[name], array) for name, array in model.state_.weights.items()):
            return "silent: other weights from a damaged archive"
    if not isinstance(model.score(["the lamp"]), float):
        return "silent: no score"
    return "loaded"


def write_intact(path):
    torch.save(state_dict(), path)
    return path


def run(n, seed):
    """Return how often each outcome came."""
    counts = Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(n):
            rng = random.Random(f"{seed} {i}")
            kind, is_zip, path, words = write_trial(Path(folder), rng)
            result = outcome(kind, is_zip, path, words)
            if result not in EXPECTED:
                print(f"trial {i}, {kind}: {result}")
                result = result.partition(":")[0]
            counts[result] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for result, count in sorted(run(options.n, options.seed).items()):
        print(f"{count:6} {result}")


if __name__ == "__main__":
    main()
