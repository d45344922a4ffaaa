"""Fine-tuning that goes on with the teacher of the model it starts from."""

import random
import re

import numpy as np
import pytest
from test_teaching import FILLERS, TOPICS

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, language_model
from sk_ulmfit.cli.main import main
from sk_ulmfit.lr_finder import lr_find
from sk_ulmfit.models.state import ModelFileError, load_state
from sk_ulmfit.pretraining import MODEL, pretrain
from sk_ulmfit.training import same_teacher, stages
from sk_ulmfit.training.components import Components, targets
from sk_ulmfit.training.teacher import load_teacher

pytestmark = pytest.mark.filterwarnings("ignore:More than half of the words in the training texts")

ARRAYS = ("teacher.mean", "teacher.components")
NEW = {
    "weather": ["drizzle", "hail", "fog", "gale"],
    "kitchen": ["wok", "ladle", "fridge", "sieve"],
    "garden": ["rake", "fern", "moss", "compost"],
}


def sentences(n, words_of, seed):
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        topic = words_of[rng.choice(list(words_of))]
        words = [rng.choice(topic) if rng.random() < 0.5 else rng.choice(FILLERS) for _ in range(9)]
        texts.append(" ".join(words).capitalize() + ".")
    return texts


def teach(texts):
    """Return a vector that says how often a text names each topic, next to a large common part."""
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    counts = [[sum(word in {*TOPICS[topic], *NEW[topic]} for word in text) for topic in TOPICS] for text in words]
    return np.hstack([np.array(counts, float), np.full((len(texts), 1), 5.0)])


TEXTS, HELD_OUT = sentences(500, NEW, 1), sentences(60, NEW, 2)
OPTIONS = {"max_epochs": 3, "lr": 0.02, "bptt": 10, "batch_size": 4, "min_frequency": 1, "random_state": 0}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model whose teacher knows more words than it has seen."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "corpus.txt").write_text("\n\n".join(sentences(600, TOPICS, 0)), encoding="utf-8")
    sizes = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2, "batch_size": 4, "bptt": 10, "min_frequency": 1}
    pretrain(
        folder / "corpus.txt", folder / "run", teacher=teach, epochs=4, n_passages=2_000, passage_tokens=256, **sizes
    )
    return folder / "run" / MODEL


@pytest.fixture(scope="module")
def tuned(start):
    return ULMFiTLanguageModel(start, teacher=teach, **OPTIONS).fit(TEXTS)


def mean_cosine(model, texts):
    wanted = targets(load_teacher(teach, "cpu").vectors(texts), Components.from_arrays(model.state_.weights))
    vectors = model.transform(texts)
    return float(((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)) * wanted).sum(1).mean())


def test_texts_of_a_new_field_get_the_vectors_of_the_teacher_and_their_words_are_learned(start, tuned):
    alone = ULMFiTLanguageModel(start, **OPTIONS).fit(TEXTS)
    untrained = ULMFiTLanguageModel(start, **{**OPTIONS, "max_epochs": 0}).fit(TEXTS)
    assert mean_cosine(tuned, HELD_OUT) > max(mean_cosine(model, HELD_OUT) for model in (alone, untrained)) + 0.3
    assert mean_cosine(tuned, HELD_OUT) > 0.8
    assert tuned.perplexity(HELD_OUT) < untrained.perplexity(HELD_OUT) / 1.5
    assert tuned.perplexity(HELD_OUT) < 1.25 * alone.perplexity(HELD_OUT)


def test_the_same_seed_gives_the_same_weights(start, tuned):
    again = ULMFiTLanguageModel(start, teacher=teach, **OPTIONS).fit(TEXTS)
    for name, weights in tuned.state_.weights.items():
        assert np.array_equal(weights, again.state_.weights[name]), name


@pytest.mark.parametrize("compact", [False, True])
def test_files_keep_the_components_of_the_teacher(start, tuned, tmp_path, compact):
    tuned.save(tmp_path / "lm", compact=compact)
    pretrained, saved = (load_state(path, "language_model").weights for path in (start, tmp_path / "lm"))
    for name in ARRAYS:
        assert np.array_equal(saved[name], pretrained[name])
        assert saved[name].dtype == np.float32
    assert saved[ARRAYS[1]].shape == (4, 4)
    further = ULMFiTLanguageModel(tmp_path / "lm", teacher=teach, **{**OPTIONS, "max_epochs": None}).fit(TEXTS[:50])
    assert len(further.history_) == 1  # epochs by default


def test_a_classifier_learns_with_it_and_holds_nothing_of_the_teacher(start, tmp_path):
    clf = ULMFiTMultiLabelClassifier(
        language_model=ULMFiTLanguageModel(start, teacher=teach, **OPTIONS), max_epochs=1, random_state=0
    )
    y = [["wet"] if "hail" in text.lower() else [] for text in TEXTS[:40]]
    clf.fit(TEXTS[:40], y, unlabelled_texts=TEXTS[40:])
    assert mean_cosine(clf.language_model_, HELD_OUT) > 0.8
    clf.save(tmp_path / "clf")
    assert not any(name.startswith("teacher") for name in load_state(tmp_path / "clf", "classifier").weights)
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "clf")
    assert np.array_equal(loaded.predict_proba(HELD_OUT), clf.predict_proba(HELD_OUT))


def test_long_texts_are_taught_in_passages(start):
    asked = []

    def listening(texts):
        asked.extend(texts)
        return teach(texts)

    ULMFiTLanguageModel(start, teacher=listening, **{**OPTIONS, "max_epochs": 1}).fit([" ".join(TEXTS[:60]), TEXTS[0]])
    assert asked[1:] == [" ".join(TEXTS[:22]), " ".join(TEXTS[22:44]), " ".join(TEXTS[44:60]), TEXTS[0]]


def test_results_are_cached_by_the_weights_of_the_teacher_and_those_of_functions_not(start, tmp_path, monkeypatch):
    trained = []
    finetune = language_model.finetune_language_model
    monkeypatch.setattr(
        language_model,
        "finetune_language_model",
        lambda *args, **given: trained.append(given["teacher"]) or finetune(*args, **given),
    )
    monkeypatch.setattr(language_model, "load_teacher", lambda teacher, device: load_teacher(teach, device))
    options = {**OPTIONS, "max_epochs": 1, "memory": tmp_path / "memory"}
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    for content, n_trained in (("a", 1), ("a", 1), ("b", 2)):
        (folder / "model.safetensors").write_text(content)
        ULMFiTLanguageModel(start, teacher=folder, **options).fit(TEXTS[:50])
        assert len(trained) == n_trained
    for _ in range(2):
        ULMFiTLanguageModel(start, teacher=teach, **options).fit(TEXTS[:50])
    assert len(trained) == 4


def test_what_cannot_go_on_is_refused_in_one_line(start):
    def refusal(pretrained, teacher, **sizes):
        with pytest.raises(ValueError, match="teacher") as raised:
            ULMFiTLanguageModel(pretrained, teacher=teacher, **OPTIONS, **sizes).fit(TEXTS[:50])
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "but random weights do not. Pass one that pretrain(..., teacher=...) made" in refusal(None, teach)
    state = load_state(start, "language_model")
    state.weights = {name: array for name, array in state.weights.items() if name not in ARRAYS}
    assert "but the model in memory does not" in refusal(state, teach)
    message = refusal(start, lambda texts: teach(texts)[:, :3] + 1)
    assert "vectors have 3 dimensions" in message
    assert "another teacher, whose vectors have 4" in message
    assert "function from a list of texts to their vectors; got 3" in refusal(start, 3)


def exchanged(texts):
    """Return the vectors of a teacher to whom each topic is another one."""
    return teach(texts)[:, [1, 2, 0, 3]]


def test_another_teacher_with_as_many_dimensions_is_refused(start, monkeypatch):
    known = sentences(40, TOPICS, 3)
    with pytest.raises(ValueError, match=r"has learned from another teacher: .* similarity -0\.\d\d\); pass") as raised:
        ULMFiTLanguageModel(start, teacher=exchanged, **OPTIONS).fit(known)
    assert "\n" not in str(raised.value)
    options = {**OPTIONS, "max_epochs": 1}
    checked = ULMFiTLanguageModel(start, teacher=teach, **options).fit(known)
    ULMFiTLanguageModel(start, teacher=exchanged, **options).fit(known[: same_teacher.FEWEST_COMPARED - 1])
    monkeypatch.setattr(same_teacher, "FEWEST_COMPARED", len(known) + 1)
    unchecked = ULMFiTLanguageModel(start, teacher=teach, **options).fit(known)
    for name, weights in unchecked.state_.weights.items():  # no random numbers are drawn for it
        assert np.array_equal(weights, checked.state_.weights[name]), name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"teacher.mean": None}, "no array teacher.mean"),
        ({"teacher.components": None}, "no array teacher.components"),
        ({"teacher.mean": np.zeros(3, np.float32)}, "array teacher.components has"),
        ({"teacher.mean": np.full(4, np.nan, np.float32)}, "array teacher.mean has numbers"),
        ({"teacher.name": np.zeros(4, np.float32)}, "unknown array"),
    ],
)
def test_a_file_with_arrays_that_do_not_fit_is_refused(start, tmp_path, changed, message):
    model = ULMFiTLanguageModel.load(start)
    weights = {**model.state_.weights, **changed}
    model.state_.weights = {name: array for name, array in weights.items() if array is not None}
    model.save(tmp_path / "lm")
    with pytest.raises(ModelFileError, match=message):
        ULMFiTLanguageModel.load(tmp_path / "lm")


def test_learning_rates_are_found_for_the_joint_loss(start, monkeypatch):
    def find(**params):
        lm = ULMFiTLanguageModel(start, **OPTIONS, **params)
        return lr_find(lm, TEXTS, n_steps=40, start_lr=1e-4, end_lr=0.1)

    monkeypatch.setattr(stages, "TEACHER_WEIGHT", 100.0)
    joint, alone = find(teacher=teach), find()
    assert joint.losses[0] > alone.losses[0] + 20
    assert joint.learning_rates == pytest.approx(np.geomspace(1e-4, 0.1, 40)[: len(joint.losses)])
    with pytest.raises(ValueError, match="random weights do not"):
        lr_find(ULMFiTLanguageModel(None, teacher=teach), TEXTS)


def test_on_the_command_line_the_teacher_is_a_folder(start, tmp_path, monkeypatch, capsys):
    (tmp_path / "texts.txt").write_text("\n\n".join(TEXTS[:50]), encoding="utf-8")
    out = tmp_path / "lm"

    def finetune(pretrained):
        given = ["--teacher", tmp_path, "--language-model", pretrained, "--out", out]
        return main(["finetune", *map(str, [tmp_path / "texts.txt", *given])])

    assert finetune("none") == 2
    assert "but random weights do not" in capsys.readouterr().err
    assert finetune(start) == 2
    assert "has no modules.json" in capsys.readouterr().err
    asked = []
    monkeypatch.setattr(language_model, "fingerprint", lambda folder: "")
    monkeypatch.setattr(
        language_model, "load_teacher", lambda folder, device: asked.append(folder) or load_teacher(teach, device)
    )
    assert finetune(start) == 0
    assert asked == [tmp_path]
    assert ARRAYS[0] in load_state(out, "language_model").weights
