"""A model file is input from a stranger: what does not fit is refused in one line that names it."""

import json
import os
import time
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from fuzz import model_files

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models import ModelFileError, load_state, save_state, schema
from sk_ulmfit.models.assembly import build_classifier, build_language_model, plain_weights
from sk_ulmfit.models.schema import DIRECTIONS
from sk_ulmfit.thresholds import METRICS

TEXTS, LABELS = make_corpus(24)


@pytest.fixture(scope="module")
def lm():
    return tiny_lm(random_state=0).fit(TEXTS)


@pytest.fixture(scope="module")
def files(lm, tmp_path_factory):
    """The contents of a language model, of a compact one and of a classifier with two networks; with a vector too."""
    folder = tmp_path_factory.mktemp("files")
    lm.save(folder / "lm")
    lm.save(folder / "compact", compact=True)
    clf = tiny_classifier(
        language_model=tiny_lm(), direction="both", tfidf=True, max_epochs=1, calibration="platt", threshold="f1_micro"
    )
    clf.fit(TEXTS, LABELS).save(folder / "clf")
    lms = [tiny_lm(direction=direction).fit(TEXTS) for direction in DIRECTIONS]
    lms = tuple(with_vector(one, folder / f"vector {one.direction}") for one in lms)
    clf = tiny_classifier(language_model=lms, direction="both", max_epochs=1)
    clf.fit(TEXTS, LABELS).save(folder / "vector clf")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def load(file, path):
    path.write_bytes(file.content())
    is_classifier = file.header["kind"] == "classifier"
    return (ULMFiTMultiLabelClassifier if is_classifier else ULMFiTLanguageModel).load(path, device="cpu")


def refusal(file, path):
    with pytest.raises(ModelFileError) as caught:
        load(file, path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("vector", [{}, {"vector_dim": 4}])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_the_schema_has_the_arrays_of_the_modules(n_layers, vector):
    config = {
        "emb_dim": 5,
        "hidden_dim": 7,
        "n_layers": n_layers,
        "label_names": list("abc"),
        "bptt": 9,
        "max_length": 9,
        **vector,
    }
    for kind, build in (("language_model", build_language_model), ("classifier", build_classifier)):
        weights = plain_weights(build(config, 16, 0.0))
        layout = {n: schema.Place(a.dtype, np.ascontiguousarray(a).shape, 0) for n, a in weights.items()}
        schema.check_layout(kind, config, 16, layout)
        assert schema._network_shapes(kind, config, 16, layout, "").keys() == layout.keys()


def test_the_schema_has_the_metrics_of_thresholds():
    assert schema.METRICS == METRICS


ARRAYS = {
    "ngrams": lambda a: a + 10**6,
    "ngram_offsets": lambda a: a[::-1].copy(),
    "ngram_counts": lambda a: a * 0,
    "words": lambda a: a[::-1].copy(),
    "idf": lambda a: a[:-1],
    "weight": lambda a: a * np.float16(np.nan),
    "bias": lambda a: a[:-1],
    "network_share": lambda a: a + 2,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_the_linear_model_that_do_not_fit_are_named(files, tmp_path, name):
    file = model_files.File(files["clf"])
    file.arrays[f"tfidf.{name}"] = ARRAYS[name](file.arrays[f"tfidf.{name}"])
    assert f"tfidf.{name}" in refusal(file, tmp_path / "m")


@pytest.mark.parametrize("prefix", ["", "backward."])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("encoder.rnns.0.weight_hh_l0", lambda a: a * np.nan),
        ("encoder.rnns.1.bias_ih_l0", lambda a: a + np.inf),
        ("encoder.embedding.weight", lambda a: a * 0 + 1e30),
        ("head.0.running_var", lambda a: -a),
        ("head.6.weight", lambda a: a[:-1]),
        ("head.2.bias", lambda a: a.astype(np.float64)),
        ("head.4.num_batches_tracked", lambda a: a - 10**6),
        ("encoder.rnns.0.bias_hh_l0", lambda a: a[:, None]),
    ],
)
def test_arrays_of_a_network_that_do_not_fit_are_named(files, tmp_path, prefix, name, change):
    file = model_files.File(files["clf"])
    file.arrays[prefix + name] = change(file.arrays[prefix + name]).astype(
        np.float64 if name == "head.2.bias" else file.arrays[prefix + name].dtype
    )
    assert prefix + name in refusal(file, tmp_path / "m")


VECTOR_FILES = [("vector forward", ""), ("vector clf", ""), ("vector clf", "backward.")]


@pytest.mark.parametrize(("kind", "prefix"), VECTOR_FILES)
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vector.word_weight", lambda a: a[:-1]),
        ("vector.word_weight", lambda a: a[:, 0]),
        ("vector.word_weight", lambda a: a * np.float32(np.nan)),
        ("vector.word_weight", None),
        ("vector.weight", lambda a: a[:, :-1]),
        ("vector.weight", lambda a: a * np.float32(1e30)),
        ("vector.bias", lambda a: a.astype(np.float64)),
        ("vector.bias", None),
    ],
)
def test_arrays_of_a_vector_that_do_not_fit_are_named(files, tmp_path, kind, prefix, name, change):
    file = model_files.File(files[kind])
    array = file.arrays.pop(prefix + name)
    if change is not None:
        file.arrays[prefix + name] = change(array)
    assert prefix + name in refusal(file, tmp_path / "m")


@pytest.mark.parametrize(("kind", "prefix"), VECTOR_FILES)
def test_vector_dim_and_the_arrays_of_a_vector_belong_together(files, tmp_path, kind, prefix):
    def config(file):
        return file.json["config"]["backward"]["config"] if prefix else file.json["config"]

    file = model_files.File(files[kind])
    config(file).pop("vector_dim", None)
    config(file).update({"vector_dim": None} if prefix else {})
    assert f"vector_dim is None, but there are arrays {prefix}vector.*" in refusal(file, tmp_path / "m")

    file = model_files.File(files[kind])
    for name in [name for name in file.arrays if name.startswith(f"{prefix}vector.")]:
        del file.arrays[name]
    assert f"vector_dim is 6, but there are no arrays {prefix}vector.*" in refusal(file, tmp_path / "m")

    for dim, expected in (
        (5, "has type float32 and shape"),
        (2**52, "4503599627370496"),
        (0, "is 0, expected a pos"),
    ):
        file = model_files.File(files[kind])
        config(file)["vector_dim"] = dim
        begin = time.perf_counter()
        assert expected in refusal(file, tmp_path / "m")
        assert time.perf_counter() - begin < 2


@pytest.mark.parametrize("kind", ["lm", "compact"])
def test_weights_of_a_language_model_are_compared_with_its_configuration(files, tmp_path, kind):
    for name, value in [("n_layers", 3 * 10**8), ("n_layers", 10_000), ("emb_dim", 2**60), ("hidden_dim", 17)]:
        file = model_files.File(files[kind])
        file.json["config"][name] = value
        begin = time.perf_counter()
        assert "does not describe a whole language model" in refusal(file, tmp_path / "m")
        assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    "change", [lambda a: a[:1, 0], lambda a: np.tile(a, (1, 3)), lambda a: a * np.inf, lambda a: -a]
)
def test_a_scale_fits_its_matrix(files, tmp_path, change):
    file = model_files.File(files["compact"])
    name = "encoder.rnns.0.weight_hh_l0:scale"
    file.arrays[name] = change(file.arrays[name])
    assert name in refusal(file, tmp_path / "m")


CONFIG = {
    "thresholds": ([0.5, 0.5], "thresholds has 2 numbers for 3 labels"),
    "calibration": ([[1, 1], [0, 0]], "calibration has 2 numbers for 3 labels"),
    "language": ("../../x", "language is '../../x', expected a language code"),
    "direction": ("sideways", "direction is 'sideways', expected one of"),
    "label_names": (["a", "b", "a"], "label_names is a list of 3 items, expected a list of distinct"),
    "max_length": (0, "max_length is 0, expected a positive integer or null"),
    "bptt": (1.5, "bptt is 1.5, expected a positive integer"),
    "batch_size": (10**400, "batch_size is a huge integer, expected a positive integer"),
    "shifts": ({"int8": float("nan")}, "shifts is a JSON object of 1 items, expected numbers from 0 to 1"),
    "threshold_metric": ("best", "threshold_metric is 'best'"),
    "every_text_has_label": (1, "every_text_has_label is 1, expected true or false"),
    "metadata": (5, "metadata is 5, expected a JSON object"),
    "backward": ({"config": {}, "history": []}, "no direction"),
    "pretraining": ({"a": []}, "pretraining is a JSON object"),
}


@pytest.mark.parametrize("key", CONFIG)
def test_keys_of_the_configuration_that_do_not_fit_are_named(files, tmp_path, key):
    file = model_files.File(files["clf"])
    file.json["config"][key], expected = CONFIG[key]
    assert expected in refusal(file, tmp_path / "m")


PARAMS = {
    "top_k": 99,
    "precision": "int4",
    "threshold": {"by_name": [["nobody", 0.5]]},
    "pos_weight": [1, 2],
    "calibration": "best",
    "lr": -1,
    "random_state": "x",
    "language_model": {"lr": 1},
    "direction": 5,
    "tfidf": "yes",
    "validation_fraction": 10**400,
    "unfreezing": [],
}


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_that_fit_would_refuse_are_refused(files, tmp_path, name):
    file = model_files.File(files["clf"])
    file.json["config"]["params"][name] = PARAMS[name]
    refusal(file, tmp_path / "m")


def test_parameters_of_a_language_model_inside_are_checked_too(files, tmp_path):
    for name, value in [
        ("lr", "high"),
        ("language", "qq"),
        ("batch_size", 0),
        ("precision", "int8"),
        ("vocab_size", []),
    ]:
        file = model_files.File(files["clf"])
        file.json["config"]["params"]["language_model"][name] = value
        refusal(file, tmp_path / "m")


@pytest.mark.parametrize("inside", [False, True])
def test_what_belongs_to_a_machine_never_comes_from_a_file(files, tmp_path, inside):
    file = model_files.File(files["clf"])
    params = file.json["config"]["params"]
    hostile = {"memory": str(tmp_path), "callbacks": ["x"], "device": "cuda:7", "n_jobs": 64, "verbose": 1}
    for name in hostile:
        assert name not in params
        assert name not in params["language_model"]
    (params["language_model"] if inside else params).update(hostile)
    clf = load(file, tmp_path / "m")
    for estimator in (clf, clf.language_model):
        values = estimator.get_params(deep=False)
        assert {name: values[name] for name in hostile if name in values and name != "device"} == {
            name: 0 if name == "verbose" else None for name in hostile if name in values and name != "device"
        }
        assert values["device"] == "cpu"


@pytest.mark.parametrize("where", ["params", "config", "array", "language_model"])
def test_what_only_a_later_version_can_have_written_asks_for_an_upgrade(files, tmp_path, where):
    file = model_files.File(files["clf"])
    config = file.json["config"]
    if where == "array":
        file.arrays["new"] = np.zeros(3, np.float32)
    else:
        holder = {"config": config, "params": config["params"], "language_model": config["params"]["language_model"]}
        holder[where]["new"] = 1
    assert "written by a later version" in (message := refusal(file, tmp_path / "m"))
    assert "'new'); upgrade sk-ulmfit" in message


def test_a_parameter_that_is_missing_is_named(files, tmp_path):
    file = model_files.File(files["clf"])
    del file.json["config"]["params"]["lr_decay"]
    assert "no parameter lr_decay" in refusal(file, tmp_path / "m")


NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("name", ["config", "history", "vocabulary", "metadata"])
@pytest.mark.parametrize("depth", [50, 900, 100_000])
def test_nested_json_is_refused(files, tmp_path, name, depth):
    file = model_files.File(files["clf"])
    nested = "[" * depth + "]" * depth
    file.raw["config" if name == "metadata" else name] = (
        json.dumps(file.json["config"]).replace('"metadata": {', f'"metadata": {{"x": {nested}')
        if name == "metadata"
        else nested
    )
    refusal(file, tmp_path / "m")


def test_a_huge_header_is_refused_before_it_is_parsed(files, tmp_path):
    for text in ("[" + "[]," * 30_000_000 + "[]]", '["' + "x" * 60_000_000 + '"]'):
        file = model_files.File(files["lm"])
        file.raw["history"] = text
        path = tmp_path / "m"
        path.write_bytes(file.content())
        del file
        tracemalloc.start()
        begin = time.perf_counter()
        with pytest.raises(ModelFileError, match="its header has"):
            ULMFiTLanguageModel.load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.perf_counter() - begin < 5
        assert peak < 2.1 * path.stat().st_size


def test_loading_takes_at_most_four_times_the_size_of_the_file(tmp_path):
    model = tiny_lm(pretrained=None, emb_dim=400, hidden_dim=1200, n_layers=3, max_epochs=0).fit(TEXTS)
    for compact in (False, True):
        model.save(tmp_path / "m", compact=compact)
        tracemalloc.start()
        ULMFiTLanguageModel.load(tmp_path / "m", device="cpu")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * (tmp_path / "m").stat().st_size + 1e7


def test_save_writes_nothing_that_load_refuses(lm, tmp_path):
    clf = tiny_classifier(language_model=lm, max_epochs=1).fit(TEXTS, LABELS)
    for name, value in [("top_k", 4), ("threshold", "f1_macro"), ("precision", "int4")]:
        with pytest.raises(ModelFileError, match=f"not saved.*{name}"):
            clf.set_params(**{name: value}).save(tmp_path / "m")
        clf.set_params(top_k=None, threshold=0.5, precision="auto")
    deep = {}
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="metadata must have fewer than 32 levels"):
        clf.save(tmp_path / "m", metadata=deep)
    with pytest.raises(ModelFileError, match=r"not saved.*its header has .* bytes"):
        clf.save(tmp_path / "m", metadata={"a": "x" * 6_000_000})
    assert os.listdir(tmp_path) == []
    clf.save(tmp_path / "m", metadata={"a": "x" * 1_000_000})
    assert len(ULMFiTMultiLabelClassifier.load(tmp_path / "m").metadata_["a"]) == 1_000_000


def test_every_way_to_a_file_is_checked(files, tmp_path):
    file = model_files.File(files["lm"])
    file.json["config"]["n_layers"] = 10**6
    path = tmp_path / "m"
    path.write_bytes(file.content())
    for use in (
        lambda: load_state(path, None),
        lambda: ULMFiTLanguageModel(path, max_epochs=0).fit(TEXTS),
        lambda: tiny_classifier(language_model=str(path)).fit(TEXTS, LABELS),
    ):
        with pytest.raises(ModelFileError, match="n_layers is 1000000, but there are arrays of 2 layers"):
            use()


def test_special_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ModelFileError, match="is not a regular file"):
            ULMFiTMultiLabelClassifier.load(path)
    with pytest.raises(ModelFileError, match=r"cannot be read|no file|longer than the system allows"):
        ULMFiTMultiLabelClassifier.load(tmp_path / ("x" * 5000))


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_save_writes_regular_files_only_and_follows_links(lm, fitted, tmp_path, kind):
    path = tmp_path / "model"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if kind == "device" else tmp_path / "target")
    for model in (lm, fitted):
        if kind == "link":
            model.save(path)
            assert path.is_symlink()
            assert type(model).load(tmp_path / "target") is not None
            continue
        with pytest.raises(ModelFileError, match=f"is a {'named pipe' if kind == 'pipe' else 'device'}"):
            model.save(path)
    assert path.is_symlink() or path.is_fifo()


def test_a_loaded_model_does_not_share_its_weights_with_a_saved_one(lm, tmp_path):
    clf = tiny_classifier(language_model=lm, max_epochs=1).fit(TEXTS, LABELS)
    clf.save(tmp_path / "m")
    first = ULMFiTMultiLabelClassifier.load(tmp_path / "m", device="cpu")
    before = first.predict_proba(TEXTS)
    second = ULMFiTMultiLabelClassifier.load(tmp_path / "m", device="cpu")
    with torch.no_grad():
        second.net_.module_.encoder.embedding.weight.zero_()
    np.testing.assert_array_equal(first.predict_proba(TEXTS), before)
    state = load_state(tmp_path / "m", "classifier")
    save_state(state, tmp_path / "m")
    np.testing.assert_array_equal(ULMFiTMultiLabelClassifier.load(tmp_path / "m").predict_proba(TEXTS), before)


def test_mutated_files_load_or_are_refused():
    """A short run of ``tests/fuzz/model_files.py``."""
    counts = model_files.run(60, seed=1)
    assert counts["mutations"] > 50
    assert counts["refused"] > counts["loaded"] > 0
    for failure in ("crashes", "other exceptions", "NaN predictions", "slow", "memory"):
        assert counts[failure] == 0, counts
