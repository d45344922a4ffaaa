import functools
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit import ULMFiTRegressor, runtime
from sk_ulmfit.cli.main import main
from sk_ulmfit.models import ModelFileError
from sk_ulmfit.runtime import folder as folder_module
from sk_ulmfit.runtime import network as network_module
from sk_ulmfit.runtime.graph import Sizes, network_graph
from sk_ulmfit.runtime.onnx_file import OnnxFileError, decode, encode

pytestmark = pytest.mark.filterwarnings("ignore:More than half of the words")

TEXTS, LABELS = make_corpus(48)
ODD_TEXTS = [
    "",
    "  \n\t",
    "qzxvjk wqpzk",
    "x " * 900,
    "my lamp is late and broken and lost again. " * 80,
    "Ünïcode 😀 LAMP!!! “broken” é\u0301 \ud800 中文 ‏שלום",
    "<br>&amp; http://a.b/c?d=e",
]
CLASSIFIERS = {
    "network alone": {},
    "with the linear model": {"tfidf": True},
    "backward": {"direction": "backward"},
    "both directions, calibrated, tuned": {
        "direction": "both",
        "tfidf": True,
        "calibration": "platt",
        "threshold": "tune",
        "max_length": 25,
    },
    "one layer": {"language_model": tiny_lm(n_layers=1), "top_k": 1},
    "three layers, frozen": {"language_model": tiny_lm(n_layers=3), "unfreezing": "head", "max_length": None},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@functools.cache
def vector_model(folder, direction="forward"):
    lm = tiny_lm(direction=direction).fit(TEXTS)
    return with_vector(lm, folder / f"{direction}.lm")


@functools.cache
def classifier(name, folder):
    if name == "vector":
        clf = tiny_classifier(language_model=vector_model(folder), lm_epochs=0, tfidf=True)
    elif name == "vectors in both directions":
        pair = (vector_model(folder), vector_model(folder, "backward"))
        clf = tiny_classifier(language_model=pair, direction="both", lm_epochs=0, calibration="temperature")
    elif name == "one label":
        return tiny_classifier(tfidf=True, precision="float32").fit(TEXTS, [[int("technical" in y)] for y in LABELS])
    else:
        clf = tiny_classifier(**CLASSIFIERS[name])
    return clf.set_params(precision="float32").fit(TEXTS, LABELS)


@functools.cache
def exported(name, folder):
    clf = classifier(name, folder)
    clf.export_onnx(folder / name)
    return runtime.load(folder / name, n_threads=1)


NAMES = [*CLASSIFIERS, "vector", "vectors in both directions", "one label"]


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_classifier_predicts_what_the_classifier_does(name, folder):
    clf, model = classifier(name, folder), exported(name, folder)
    texts = TEXTS + ODD_TEXTS
    np.testing.assert_allclose(model.predict_proba(texts), clf.predict_proba(texts), rtol=0, atol=5e-5)
    assert model.predict(texts).tolist() == clf.predict(texts).tolist()
    assert model.predict_labels(texts) == clf.predict_labels(texts)
    for attribute in ("label_names_", "thresholds_", "classes_"):
        assert getattr(model, attribute).tolist() == getattr(clf, attribute).tolist()
    assert model.n_labels_ == clf.n_labels_


@pytest.mark.parametrize("name", ["both directions, calibrated, tuned", "vector"])
def test_any_text_gets_the_same_probabilities(name, folder):
    clf, model = classifier(name, folder), exported(name, folder)
    words = st.sampled_from(["lamp", "LATE", "broken", "and", "!", "zzz", "don't"])

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.lists(words | st.text(max_size=5), max_size=40).map(" ".join), min_size=1, max_size=4))
    def check(texts):
        np.testing.assert_allclose(model.predict_proba(texts), clf.predict_proba(texts), rtol=0, atol=5e-5)

    check()


REGRESSORS = {
    "stars": ({"y_range": (1, 5), "tfidf": True}, lambda n: 1 + n % 5),
    "shares": ({"y_range": (0, 1), "loss": "cross_entropy"}, lambda n: n % 5 / 4),
    "plain": ({"tfidf": True, "direction": "both"}, lambda n: [10.0 * n, n % 3]),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_an_exported_regressor_predicts_what_the_regressor_does(name, tmp_path):
    params, target = REGRESSORS[name]
    settings = {"max_epochs": 2, "lr": 0.02, "batch_size": 8, "bptt": 10, "random_state": 0, "precision": "float32"}
    model = ULMFiTRegressor(tiny_lm(), **{"tfidf": False, **settings, **params})
    model.fit(TEXTS, [target(len(text) % 7) for text in TEXTS])
    shift = model.export_onnx(tmp_path / "model")
    loaded = runtime.load(tmp_path / "model")
    texts = TEXTS + ODD_TEXTS
    wanted = model.predict(texts)
    np.testing.assert_allclose(loaded.predict(texts), wanted, rtol=1e-5, atol=1e-4)
    assert loaded.predict(texts).shape == wanted.shape
    assert loaded.target_names_.tolist() == model.target_names_.tolist()
    assert loaded.n_targets_ == model.n_targets_
    assert 0 <= shift < 1e-4


# --- what a prediction depends on --------------------------------------------


@pytest.mark.parametrize("name", ["with the linear model", "vector"])
def test_neighbours_do_not_matter(name, folder):
    model = exported(name, folder)
    texts = TEXTS[:5] + ODD_TEXTS
    together = model.predict_proba(texts)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(texts[::-1])[::-1], together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["with the linear model", "vector"])
def test_the_length_of_windows_does_not_matter(name, folder, monkeypatch):
    model = exported(name, folder)
    wanted = model.predict_proba(TEXTS + ODD_TEXTS)
    for constant, value in (("ROWS", 3), ("WINDOW", 1), ("LONGEST_WINDOW", 7), ("TOKENS_AT_ONCE", 9)):
        monkeypatch.setattr(network_module, constant, value)
        np.testing.assert_allclose(model.predict_proba(TEXTS + ODD_TEXTS), wanted, rtol=0, atol=1e-5)


def test_a_window_is_all_that_the_network_sees_of_long_texts(folder):
    (network,) = exported("vector", folder)._networks
    shapes = []

    class Watched:
        def run(self, outputs, inputs):
            shapes.append(inputs["ids"].shape)
            return session.run(outputs, inputs)

    session, network._session = network._session, Watched()
    try:
        exported("vector", folder).predict_proba(["lamp hub " * 5_000] * 100)
    finally:
        network._session = session
    assert max(n * time for n, time in shapes) <= network_module.TOKENS_AT_ONCE
    assert sum(n * time for n, time in shapes) >= 100 * 10_001


def test_the_number_of_threads_is_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert network_module.count_threads(None) == 3
    assert network_module.count_threads(2) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert network_module.count_threads(None) >= 1


@pytest.mark.parametrize("n_threads", [0, -1, 1.5, "2"])
def test_other_numbers_of_threads_are_refused(n_threads, folder):
    with pytest.raises(ValueError, match="n_threads must be an integer at least 1 or None"):
        runtime.load(folder, n_threads=n_threads)


# --- the environment -----------------------------------------------------------

BLOCKED = ["torch", "sklearn", "skorch", "joblib", "scipy", "spacy", "safetensors", "onnx", "pandas", "tqdm"]
PREDICT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            raise ModuleNotFoundError('refused: ' + name)
sys.meta_path.insert(0, Refuse())
from sk_ulmfit import runtime
model = runtime.load({folder!r})
print(model.predict_proba(['my lamp is late']).round(4).tolist(), model.predict_labels(['my lamp is late']))
"""


@pytest.mark.parametrize("name", ["both directions, calibrated, tuned", "vector"])
def test_the_runtime_needs_onnxruntime_and_numpy_alone(name, folder):
    clf = classifier(name, folder)
    exported(name, folder)
    code = PREDICT.format(blocked=BLOCKED, folder=str(folder / name))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    text = ["my lamp is late"]
    assert done.stdout.strip() == f"{clf.predict_proba(text).round(4).tolist()} {clf.predict_labels(text)}"


def test_without_onnxruntime_the_error_says_what_to_install(monkeypatch, folder, tmp_path):
    clf = classifier("network alone", folder)
    clf.save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        runtime.load(folder)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        clf.export_onnx(tmp_path / "out")
    assert main(["export", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


# --- files ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["network alone", "vector"])
@pytest.mark.parametrize("int8", [False, True])
def test_the_network_is_standard_onnx(name, int8, folder, tmp_path):
    classifier(name, folder).export_onnx(tmp_path / "model", int8=int8)
    graph = onnx.load(tmp_path / "model" / "network.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {(part.domain, part.version) for part in graph.opset_import} == {("", 17)}
    assert graph.ir_version == 8
    assert {node.domain for node in graph.graph.node} == {""}


def test_a_folder_holds_nothing_but_documented_files(folder):
    exported("both directions, calibrated, tuned", folder)
    names = {path.name for path in (folder / "both directions, calibrated, tuned").iterdir()}
    assert names == {
        *("model.json", "vocabulary.json", "linear_model.safetensors", "network.onnx", "backward.onnx"),
        "requirements.txt",
    }
    modes = {path.stat().st_mode & 0o777 for path in (folder / "both directions, calibrated, tuned").iterdir()}
    assert len(modes) == 1  # whoever may read one file may read all


def test_8_bits_are_a_quarter_of_the_size_and_tell_how_far_they_move_probabilities(folder, tmp_path):
    clf = classifier("network alone", folder)
    shift = clf.export_onnx(tmp_path / "int8", int8=True)
    assert json.loads((tmp_path / "int8" / "model.json").read_text())["largest_shift"] == shift > 1e-6
    exported("network alone", folder)
    small, large = ((path / "network.onnx").stat().st_size for path in (tmp_path / "int8", folder / "network alone"))
    assert small < 0.6 * large  # of a tiny network; biases and names count
    moved = np.abs(runtime.load(tmp_path / "int8").predict_proba(TEXTS) - clf.predict_proba(TEXTS)).max()
    assert 1e-6 < moved < 0.05
    on_texts = clf.export_onnx(tmp_path / "int8", int8=True, texts=TEXTS)
    assert on_texts == pytest.approx(moved)


def test_an_exported_model_is_replaced_unless_that_is_ruled_out(folder, tmp_path):
    clf, path = classifier("network alone", folder), tmp_path / "model"
    path.mkdir()
    clf.export_onnx(path)  # an empty folder
    with pytest.raises(ModelFileError, match="already exists; pass overwrite=True \\(--force"):
        clf.export_onnx(path, overwrite=False)
    before = (path / "network.onnx").read_bytes()
    clf.export_onnx(path, int8=True)
    assert (path / "network.onnx").read_bytes() != before
    (path / "my notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match="is not an exported model; choose another name"):
        clf.export_onnx(path)
    assert (path / "my notes.txt").read_text() == "mine"


def test_an_export_that_fails_leaves_what_was_there(folder, tmp_path, monkeypatch):
    clf, path = classifier("network alone", folder), tmp_path / "model"
    clf.export_onnx(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    monkeypatch.setattr("sk_ulmfit.onnx_export.LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(ModelFileError, match="was not exported, since onnxruntime would move its predictions by"):
        clf.export_onnx(path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("mine"), "is a file; give the name of a folder"),
        (lambda path: (path.mkdir(), (path / "a").write_text("")), "is not an exported model; choose another name"),
    ],
)
def test_other_files_are_left_alone(make, message, folder, tmp_path):
    make(tmp_path / "out")
    with pytest.raises(ModelFileError, match=message):
        classifier("network alone", folder).export_onnx(tmp_path / "out")
    with pytest.raises(ModelFileError, match="does not exist; create it first"):
        classifier("network alone", folder).export_onnx(tmp_path / "no" / "out")


# --- folders from strangers ------------------------------------------------------


@pytest.fixture
def copied(folder, tmp_path):
    exported("vector", folder)
    shutil.copytree(folder / "vector", tmp_path / "model")
    return tmp_path / "model"


def changed_json(path, **changes):
    value = json.loads(path.read_text())
    for name, change in changes.items():
        if change is None:
            del value[name]
        else:
            value[name] = change
    path.write_text(json.dumps(value))


def changed_graph(path, change):
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def external_data(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def custom_operator(model):
    model.graph.node[0].domain = "evil"
    model.opset_import.add(domain="evil", version=1)


def other_operator(model):
    model.graph.node.add(op_type="ConstantOfShape", input=["ids_shape"], output=["huge"])


HOSTILE = {
    "a graph with external data": lambda at: changed_graph(at / "network.onnx", external_data),
    "a graph with a custom operator": lambda at: changed_graph(at / "network.onnx", custom_operator),
    "a graph with one more operator": lambda at: changed_graph(at / "network.onnx", other_operator),
    "a graph cut off": lambda at: (at / "network.onnx").write_bytes((at / "network.onnx").read_bytes()[:-9]),
    "a graph with more at its end": lambda at: (at / "network.onnx").open("ab").write(b"\x08\x08"),
    "an empty graph": lambda at: (at / "network.onnx").write_bytes(b""),
    "no graph": lambda at: (at / "network.onnx").unlink(),
    "a pipe": lambda at: ((at / "network.onnx").unlink(), os.mkfifo(at / "network.onnx")),
    "no description": lambda at: (at / "model.json").unlink(),
    "a description that is no JSON": lambda at: (at / "model.json").write_text("{"),
    "a list": lambda at: (at / "model.json").write_text("[]"),
    "deep JSON": lambda at: (at / "model.json").write_text("[" * 10_000),
    "another format": lambda at: changed_json(at / "model.json", format="else"),
    "a version that never was": lambda at: changed_json(at / "model.json", format_version=0),
    "a later version": lambda at: changed_json(at / "model.json", format_version=99),
    "an unknown key": lambda at: changed_json(at / "model.json", run="rm -rf"),
    "a missing key": lambda at: changed_json(at / "model.json", int8=None),
    "another kind": lambda at: changed_json(at / "model.json", kind="regressor"),
    "an unknown kind": lambda at: changed_json(at / "model.json", kind=["classifier"]),
    "other texts": lambda at: changed_json(at / "model.json", tokenizer=1),
    "8 bits that are none": lambda at: changed_json(at / "model.json", int8=True),
    "no threshold": lambda at: changed_json(at / "model.json", decisions={}),
    "a threshold too few": lambda at: changed_json(
        at / "model.json", decisions={"thresholds": [0.5], "top_k": None, "at_least_one": False}
    ),
    "a huge top_k": lambda at: changed_json(
        at / "model.json", decisions={"thresholds": [0.5] * 3, "top_k": 10**30, "at_least_one": False}
    ),
    "a flag that is none": lambda at: changed_json(
        at / "model.json", decisions={"thresholds": [0.5] * 3, "top_k": None, "at_least_one": "x"}
    ),
    "no words": lambda at: (at / "vocabulary.json").write_text("[]"),
    "words that are numbers": lambda at: (at / "vocabulary.json").write_text("[1, 2]"),
    "no vocabulary": lambda at: (at / "vocabulary.json").unlink(),
    "no linear model": lambda at: (at / "linear_model.safetensors").unlink(),
    "a linear model cut off": lambda at: (at / "linear_model.safetensors").write_bytes(b"\x10" + bytes(30)),
}


def changed_config(**changes):
    def change(at):
        config = json.loads((at / "model.json").read_text())["config"]
        changed_json(at / "model.json", config={**config, **changes})

    return change


HOSTILE |= {
    "many layers": changed_config(n_layers=2**62),
    "another width": changed_config(hidden_dim=17),
    "a huge width": changed_config(hidden_dim=2**62),
    "a language that is a path": changed_config(language="../../etc"),
    "labels that are no names": changed_config(label_names=[[], {}, None]),
    "a calibration that is none": changed_config(calibration=[[float("nan")] * 3, [0.0] * 3]),
    "a range that is none": changed_config(log_odds_range="all"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_folders_are_refused_in_one_line(what, copied):
    HOSTILE[what](copied)
    with pytest.raises(ModelFileError) as caught:
        runtime.load(copied)
    message = str(caught.value)
    assert message.startswith(str(copied))
    assert "\n" not in message
    assert len(message) < 600
    assert message.endswith(".")


@pytest.mark.parametrize("vector_dim", [0, 1])
@pytest.mark.parametrize("n_layers", [1, 2, 3, 12, 120])
def test_no_network_has_more_layers_than_its_file_has_room_for(n_layers, vector_dim):
    graph = network_graph(Sizes(1, 1, 1, n_layers, vector_dim, 1), int8=False)
    weights = {name: np.zeros(value.shape, value.dtype) for name, value in graph.weights.items()}
    n_bytes = len(encode(graph, weights))
    assert n_layers <= n_bytes // folder_module._SMALLEST_LAYER
    assert n_layers < 120 or n_bytes < 2 * n_layers * folder_module._SMALLEST_LAYER  # no higher than it must be


def test_weights_that_are_no_numbers_are_refused(copied):
    def change(model):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "vector_bias")
        tensor.raw_data = np.full(6, np.nan, np.float32).tobytes()

    changed_graph(copied / "network.onnx", change)
    with pytest.raises(ModelFileError, match="array vector_bias has numbers from nan to nan"):
        runtime.load(copied)


def test_bytes_that_onnx_writes_are_the_same(copied):
    """The one form of a file is the one that the onnx package writes."""
    before = (copied / "network.onnx").read_bytes()
    changed_graph(copied / "network.onnx", lambda model: None)
    assert len((copied / "network.onnx").read_bytes()) == len(before)
    runtime.load(copied)


def test_a_model_file_is_not_a_folder(folder, tmp_path):
    classifier("network alone", folder).save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="is a file; export the model first: sk-ulmfit export MODEL --out FOLDER"):
        runtime.load(tmp_path / "model")
    with pytest.raises(ModelFileError, match="does not exist; give the folder that export_onnx wrote"):
        runtime.load(tmp_path / "none")


@pytest.mark.parametrize("vector_dim", [0, 2])
def test_a_changed_byte_of_the_graph_is_found(vector_dim):
    graph = network_graph(Sizes(8, 2, 3, 2, vector_dim, 1), int8=True)

    def content(fill):
        return encode(
            graph,
            {
                name: np.frombuffer(
                    bytes([fill]) * value.dtype.itemsize * int(np.prod(value.shape)), value.dtype
                ).reshape(value.shape)
                for name, value in graph.weights.items()
            },
        )

    zeros = content(0)
    assert decode(zeros, graph).keys() == graph.weights.keys()
    of_graph = np.flatnonzero(np.frombuffer(zeros, np.uint8) == np.frombuffer(content(7), np.uint8))
    assert len(of_graph) > 1_000
    for position in of_graph[::5]:
        changed = bytearray(zeros)
        changed[position] ^= 1
        with pytest.raises(OnnxFileError, match="it is not the graph of this model"):
            decode(bytes(changed), graph)


# --- the command line ---------------------------------------------------------------


def test_export_on_the_command_line(folder, tmp_path, capsys):
    clf, path = classifier("with the linear model", folder), tmp_path / "model"
    clf.save(path)
    assert main(["export", str(path), "--out", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["largest_shift"] < 1e-4
    assert Path(answer["out"]) == tmp_path / "out"
    proba = runtime.load(tmp_path / "out").predict_proba(TEXTS)
    np.testing.assert_allclose(proba, clf.predict_proba(TEXTS), rtol=0, atol=5e-5)
    assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "pass overwrite=True (--force on the command line)" in capsys.readouterr().err
    arguments = ["--threshold", "0.9", "--int8", "--force"]
    assert main(["export", str(path), "--out", str(tmp_path / "out"), *arguments]) == 0
    assert "made-up texts move by at most" in capsys.readouterr().out
    assert runtime.load(tmp_path / "out").thresholds_.tolist() == [0.9] * 3


def test_an_exported_model_warns_of_texts_without_a_known_word_and_export_does_not(folder):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*no word that the model knows")
        model = exported("with the linear model", folder)
    with pytest.warns(
        UserWarning, match="1 of 2 texts has no word that the model knows, the empty text in row 2; it gets"
    ):
        model.predict_proba([TEXTS[0], ""])
