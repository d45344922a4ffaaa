"""Structural mutations of model files, each with a right checksum: a loaded model predicts, or the file is refused.

``python tests/fuzz/model_files.py --n 5000 --seed 0`` mutates small models of both kinds and prints counts. Each worker
process takes some mutations, so that a crash is noticed and counted. Of a file that is loaded, three texts are
predicted; the model is saved and loaded again.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models import ModelFileError
from sk_ulmfit.models.state import save_state
from sk_ulmfit.nn.pooled_layers import n_pooled

TEXTS = ["My lamp is late and broken.", "", "qzxv PARCEL lost!!! xxbos"]
DTYPES = {"f4": "F32", "f2": "F16", "f8": "F64", "i8": "I64", "i4": "I32", "i1": "I8", "u1": "U8", "b1": "BOOL"}
SECONDS, MEGABYTES = 3.0, 100.0  # a load may take so long, and so much memory beyond four times the file

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 49, 50, 10**4, 3 * 10**8, 2**31, 2**63, 10**18, 10**400, 0.0, 0.5, 1.5, -0.5,
    1e308, math.nan, math.inf, -math.inf, "", "en", "de", "ja", "qq", "../../etc", "e" * 5000, "\ud800", "a\0b", "auto",
    "tune", "f1_macro", "f1_samples", "both", "backward", "int8", "bfloat16", "platt", "head", "/dev/zero", "cuda:9",
    [], {}, [[]], [0.5], [1, 2, 3], [[1.0], [0.0]], ["a", "a", "b"], ["a", "b", "c"], [None], [math.nan] * 3,
    {"precision": 0.5}, {"precision": "x"}, {"by_name": 5}, {"by_name": [["x", 1]]}, {"by_name": [[[], 1]]}, {"a": {"b": []}},
    [{}], [{"batches": 5}], [{"train_loss": "high"}], [{"train_loss": [1]}], [0.5, 2.0, 0.5], [[1, 1, 0], [0, 0, 0]],
]  # fmt: skip
NAMES = ["emb_dim", "n_layers", "thresholds", "memory", "callbacks", "device", "n_jobs", "random_state", "é", "", "backward",
         "calibration", "shifts", "top_k", "vector_dim", "new_in_2030", "__class__", "threshold_metric", "freeze_encoder"]  # fmt: skip


class File:
    """A model file as header strings and arrays; `content` writes it, whatever it holds, with a right checksum."""

    def __init__(self, content: bytes):
        n = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + n])
        self.header: dict[str, Any] = entries.pop("__metadata__")
        self.json = {name: json.loads(self.header[name]) for name in ("config", "history", "vocabulary")}
        codes = {code: dtype for dtype, code in DTYPES.items()}
        self.arrays = {}
        for name, entry in entries.items():
            begin, end = (8 + n + offset for offset in entry["data_offsets"])
            self.arrays[name] = np.frombuffer(content[begin:end], codes[entry["dtype"]]).reshape(entry["shape"]).copy()
        self.shapes: dict[str, Any] = {}  # of the header, where they differ from those of the arrays
        self.raw: dict[str, str] = {}  # JSON that is written as it is

    def content(self) -> bytes:
        header = dict(self.header)
        for name, value in self.json.items():
            header[name] = self.raw.get(name) or json.dumps(value)
        digest = hashlib.blake2b(digest_size=16)
        for name in ("kind", "config", "vocabulary", "history"):
            digest.update(f"{name} {header.get(name)}\n".encode(errors="replace"))
        entries, parts, end = {}, [], 0
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            shape = self.shapes.get(name, list(array.shape))
            data = array.tobytes()
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode(errors="replace"))
            digest.update(data)
            entries[name] = {
                "dtype": DTYPES[array.dtype.str[1:]],
                "shape": shape,
                "data_offsets": [end, end + len(data)],
            }
            parts.append(data)
            end += len(data)
        if "digest" in header:
            header["digest"] = digest.hexdigest()
        text = json.dumps({"__metadata__": header, **entries}).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text + b"".join(parts)


def mutate(file: File, rng: random.Random) -> str:
    """Change a file in one or two places; return what was done."""
    kinds = [
        change_config,
        change_params,
        change_array,
        change_array,
        change_index,
        change_header,
        change_json,
        change_layout,
    ]
    return " + ".join(rng.choice(kinds)(file, rng) for _ in range(rng.choice([1, 1, 1, 2])))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in items for place in places(item, (*path, key))]


def change_at(root: Any, place: tuple[Any, ...], rng: random.Random) -> str:
    """Change, retype, delete or double the value at a place, or add a key or an item beside it."""
    holder = root
    for key in place[:-1]:
        holder = holder[key]
    key, old = place[-1], holder[place[-1]]
    how = rng.choice(["value", "value", "value", "delete", "add", "retype", "nudge"])
    if how == "delete":
        del holder[key]
    elif how == "add" and isinstance(holder, dict):
        holder[rng.choice(NAMES)] = copy.deepcopy(rng.choice(VALUES))
    elif how == "add":
        holder.insert(key, copy.deepcopy(rng.choice([old, rng.choice(VALUES)])))
    elif how == "retype":
        holder[key] = rng.choice(
            [str(old), [old], {"value": old}, float(old) if type(old) is int and abs(old) < 1e300 else None]
        )
    elif how == "nudge" and type(old) in (int, float):
        holder[key] = rng.choice([old + 1, old - 1, -old, old * 10**6, old / 3])
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    return f"{how} {'.'.join(map(str, place))} -> {ascii(holder.get(key) if isinstance(holder, dict) else '')[:60]}"


def change_config(file: File, rng: random.Random) -> str:
    config = file.json["config"]
    if not isinstance(config, dict) or not config:
        return "nothing"
    name = rng.choice([key for key in config if key != "params"] or list(config))
    return "config: " + change_at(config, rng.choice([place for place in places(config) if place[0] == name]), rng)


def change_params(file: File, rng: random.Random) -> str:
    config = file.json["config"]
    if not isinstance(config, dict) or not isinstance(config.get("params"), dict) or not config["params"]:
        return change_config(file, rng)
    return "params: " + change_at(config["params"], rng.choice(places(config["params"])), rng)


def change_array(file: File, rng: random.Random) -> str:
    if not file.arrays:
        return "nothing"
    name = rng.choice(sorted(file.arrays))
    array, how = (
        file.arrays[name],
        rng.choice(["values", "values", "all", "dtype", "shape", "cut", "delete", "add", "swap", "grow"]),
    )
    floats = [math.nan, math.inf, -math.inf, 1e38, -1e38, 3e38, 1e20, -1.0, 0.0, 1e-45, 65504.0, 1e6]
    with np.errstate(all="ignore"):
        if how in ("values", "all") and array.size:
            limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
            value = rng.choice(
                floats if limits is None else [0, 1, limits.min, limits.max, limits.max // 2, 10**6 % limits.max]
            )
            rows = slice(None) if how == "all" else rng.sample(range(array.size), rng.randint(1, min(3, array.size)))
            array.reshape(-1)[rows] = value
        elif how == "dtype":
            file.arrays[name] = np.nan_to_num(array).astype(rng.choice(list(DTYPES)))
        elif how == "shape":
            shapes = [(-1,), (1, -1), (-1, 1), array.shape[::-1], (*array.shape, 1), ()]
            shape = rng.choice(shapes)
            file.arrays[name] = array.reshape(shape if shape or array.size == 1 else (-1,))
        elif how == "cut":
            file.arrays[name] = array[: rng.randrange(len(array) + 1)] if array.ndim else array
        elif how == "grow":
            file.arrays[name] = np.concatenate([array, array[-1:]]) if array.ndim else array
        elif how == "delete":
            del file.arrays[name]
        elif how == "add":
            file.arrays[
                rng.choice(
                    [
                        name + ":scale",
                        "backward." + name,
                        "tfidf." + name,
                        name + "é",
                        "encoder.rnns.7.x",
                        "vector.bias",
                    ]
                )
            ] = array.copy()
        else:
            other = rng.choice(sorted(file.arrays))
            file.arrays[name], file.arrays[other] = file.arrays[other], array
    return f"array: {how} {name}"


def change_index(file: File, rng: random.Random) -> str:
    """Change the arrays of the linear model, whose values are positions in each other."""
    names = [
        name
        for name in sorted(file.arrays)
        if name.startswith("tfidf.") and file.arrays[name].ndim and file.arrays[name].size
    ]
    if not names:
        return change_array(file, rng)
    name = rng.choice(names)
    array, how = file.arrays[name], rng.choice(["shift", "shuffle", "reverse", "one", "equal", "shorten"])
    with np.errstate(all="ignore"):
        if how == "shift":
            file.arrays[name] = array + np.array(rng.choice([1, -1, 10**6, -(10**6), 2**30])).astype(array.dtype)
        elif how == "shuffle":
            file.arrays[name] = array[np.random.default_rng(rng.randrange(2**32)).permutation(len(array))]
        elif how == "reverse":
            file.arrays[name] = array[::-1].copy()
        elif how == "one":
            array[rng.randrange(len(array))] = np.array(rng.choice([0, -1, 1, 200, 10**9])).astype(array.dtype)
        elif how == "equal":
            array[:] = array.reshape(-1)[0]
        else:
            for other in rng.sample(names, rng.randint(1, len(names))):
                file.arrays[other] = file.arrays[other][: max(len(file.arrays[other]) - rng.choice([1, 2, 5]), 0)]
    return f"index: {how} {name}"


def change_header(file: File, rng: random.Random) -> str:
    name = rng.choice(["format", "format_version", "kind", "config", "vocabulary", "history", "digest", "extra"])
    how = rng.choice(["delete", "value", "other kind"])
    if how == "delete":
        file.header.pop(name, None)
        file.json.pop(name, None)
    elif how == "other kind":
        file.header["kind"] = rng.choice(["language_model", "classifier", "tokenizer", ""])
    else:
        value = rng.choice(
            ["", "0", "1", "2", "3", "4", "5", "99999999999", "²", "-1", "null", "[]", "{}", "NaN", "é", "\ud800"]
        )
        file.header[name] = value
        if name in file.json:
            file.raw[name] = value
    return f"header: {how} {name}"


def change_json(file: File, rng: random.Random) -> str:
    """Write JSON that is nested, long, repeated or not JSON at all."""
    name = rng.choice(["config", "history", "vocabulary"])
    depth = rng.choice([40, 900, 5000, 100_000])
    text = json.dumps(file.json.get(name))
    nested = ["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth]
    odd = [
        *nested,
        text[:-1],
        text + text,
        text[:-1] + ', "x": ' + nested[0] + "}",
        text.replace("1", "1" * 400),
        "[" + "[]," * depth + "[]]",
    ]
    if name == "config" and isinstance(file.json.get("config"), dict) and "metadata" in file.json["config"]:
        odd.append(text.replace('"metadata": {', '"metadata": {"deep": ' + nested[0] + ", "))
    which = rng.randrange(len(odd))
    file.raw[name] = odd[which]
    words = file.json.get("vocabulary")
    if name == "vocabulary" and words and rng.random() < 0.7:
        file.raw.pop(name)
        place = rng.randrange(len(words))
        words[place] = rng.choice(["the", words[0], 5, None, [], "\ud800", "a b", "x" * 10_000])
        which = -1
    return f"json: {name} {which}"


def change_layout(file: File, rng: random.Random) -> str:
    """Describe an array otherwise than it is."""
    if not file.arrays:
        return "nothing"
    name = rng.choice(sorted(file.arrays))
    size = int(np.prod(file.arrays[name].shape))
    file.shapes[name] = rng.choice(
        [[size, 1], [1, size], [size + 1], [2**40], [2**62, 4], [-1, -size], [], [1.0], "x", [0], None]
    )
    return f"layout: {name}"


def base_files(folder: Path) -> list[Path]:
    """Train small models of both kinds and directions, and save them."""
    texts = ["the lamp is late", "the parcel is lost", "my lamp is broken", "late and broken"] * 10
    y = [["late"], ["lost"], ["broken"], ["broken", "late"]] * 10
    tiny = {
        "max_epochs": 1,
        "emb_dim": 8,
        "hidden_dim": 12,
        "n_layers": 2,
        "bptt": 10,
        "min_frequency": 1,
        "random_state": 0,
    }
    small = {"max_epochs": 1, "batch_size": 8, "bptt": 10, "random_state": 0}
    lm = ULMFiTLanguageModel(None, **tiny).fit(texts)
    lm.save(folder / "language_model")
    lm.save(folder / "compact", compact=True)
    backward = ULMFiTLanguageModel(None, **tiny, direction="backward").fit(texts)
    backward.save(folder / "backward_model")
    unfitted = ULMFiTLanguageModel(None, **tiny)
    ULMFiTMultiLabelClassifier(unfitted, threshold={"late": 0.3}, pos_weight="balanced", **small).fit(texts, y).save(
        folder / "forward"
    )
    clf = ULMFiTMultiLabelClassifier(
        unfitted, direction="both", calibration="platt", threshold="f1_micro", **small
    ).fit(texts, y)
    clf.save(folder / "both", metadata={"note": ["a", {"b": 1}]})
    ULMFiTMultiLabelClassifier(lm, tfidf=False, top_k=2, **small).fit(texts, y).save(folder / "network")
    with_vector = add_vector(lm, folder / "vector", compact=False)
    add_vector(lm, folder / "vector_compact", compact=True)
    ULMFiTMultiLabelClassifier(with_vector, **small).fit(texts, y).save(folder / "vector_classifier")
    lms = (lm, add_vector(backward, folder / "vector_backward", compact=False))
    ULMFiTMultiLabelClassifier(lms, direction="both", tfidf=False, **small).fit(texts, y).save(folder / "one_vector")
    return sorted(folder.iterdir())


def add_vector(lm: ULMFiTLanguageModel, path: Path, *, compact: bool, dim: int = 5) -> ULMFiTLanguageModel:
    """Save a language model with a vector of random weights, and load it."""
    state, rng = lm.state_, np.random.default_rng(0)
    n_features = n_pooled(*(state.config[name] for name in ("emb_dim", "hidden_dim", "n_layers")))
    shapes = {"word_weight": (len(state.vocabulary), 1), "weight": (dim, n_features), "bias": (dim,)}
    arrays = {f"vector.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = {**state.config, "vector_dim": dim}
    save_state(replace(state, config=config, weights={**state.weights, **arrays}), path, compact=compact)
    return ULMFiTLanguageModel.load(path)


def use(path: Path, is_classifier: bool) -> str:
    """Load a file, predict, save and load again; return "loaded" or "refused"."""
    cls = ULMFiTMultiLabelClassifier if is_classifier else ULMFiTLanguageModel
    begin = time.process_time()
    try:
        model = cls.load(path, device="cpu")
    except ModelFileError as error:
        if "\n" in str(error) or len(str(error)) > 800 + len(str(path)):
            raise AssertionError(f"a message of {len(str(error))} characters") from None
        return "refused"
    finally:
        if (seconds := time.process_time() - begin) > SECONDS + path.stat().st_size / 1e8:
            print(json.dumps({"slow": seconds}), flush=True)
    first = answers(model)
    if not np.isfinite(first).all():
        return "NaN"
    again = path.with_suffix(".again")
    model.save(again)
    if not np.array_equal(answers(cls.load(again, device="cpu")), first):
        raise AssertionError("saved and loaded again, it predicts otherwise")
    return "loaded"


def answers(model: Any) -> Any:
    if isinstance(model, ULMFiTLanguageModel):
        return np.array([model.score(TEXTS)])
    model.predict_labels(TEXTS)
    return model.predict_proba(TEXTS)


def work(folder: Path, first: int, n: int, seed: int) -> None:
    """Do mutations `first` to `first + n`, and print a line of JSON for each."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    bases = [path.read_bytes() for path in sorted(folder.glob("base/*"))]
    path = folder / f"mutated{first}"
    path.write_bytes(bases[0])
    use(path, b'"kind":"classifier"' in bases[0])  # so that the first mutation does not pay for imports
    for number in range(first, first + n):
        rng = random.Random(f"{seed} {number}")
        content = bases[number % len(bases)]
        file = File(content)
        is_classifier = file.header["kind"] == "classifier"
        what = mutate(file, rng)
        try:
            path.write_bytes(file.content())
        except UnicodeEncodeError:
            continue
        print(json.dumps({"begin": number, "what": what}), flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            result = use(path, is_classifier)
        except Exception as error:
            result = f"{type(error).__name__}: {str(error)[:150]}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        too_much = grown > MEGABYTES + 4 * path.stat().st_size / 1e6
        print(
            json.dumps({"number": number, "what": what, "result": result, "memory": grown if too_much else 0}),
            flush=True,
        )


def run(n: int, seed: int = 0, chunk: int = 250) -> Counter[str]:
    """Do `n` mutations in worker processes, and return how often what happened; failures are printed."""
    counts: Counter[str] = Counter({"crashes": 0, "other exceptions": 0, "NaN predictions": 0, "slow": 0, "memory": 0})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base").mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            base_files(folder / "base")
        first = 0
        while first < n:
            size = min(chunk, n - first)
            command = [
                sys.executable,
                __file__,
                "--worker",
                name,
                "--first",
                str(first),
                "--n",
                str(size),
                "--seed",
                str(seed),
            ]
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [json.loads(line) for line in process.stdout.splitlines()]
            for line in lines:
                count(line, counts)
            first += size
            if process.returncode:
                begun = [line for line in lines if "begin" in line]
                counts["crashes"] += 1
                print(f"CRASH {process.returncode}: {begun[-1] if begun else ''} {process.stderr[-300:]}")
                first = begun[-1]["begin"] + 1 if begun else first
    return counts


def count(line: dict[str, Any], counts: Counter[str]) -> None:
    if "slow" in line:
        counts["slow"] += 1
        print(f"SLOW {line['slow']:.1f} s")
    if "result" not in line:
        return
    counts["mutations"] += 1
    if line["memory"]:
        counts["memory"] += 1
        print(f"MEMORY {line['memory']:.0f} MB: {line['what']}")
    if line["result"] in ("loaded", "refused"):
        counts[line["result"]] += 1
        return
    counts["NaN predictions" if line["result"] == "NaN" else "other exceptions"] += 1
    print(f"{line['number']} {line['what']}: {line['result']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="number of mutations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Path(options.worker), options.first, options.n, options.seed)
    else:
        print(dict(run(options.n, options.seed)))
