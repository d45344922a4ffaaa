"""Pre-training with a teacher: what the model learns beside the next word, and runs that are interrupted."""

import json
import random
import re

import numpy as np
import pytest
import torch

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.state import load_state
from sk_ulmfit.nn.losses import cosine_distance
from sk_ulmfit.pretraining import LOG, MODEL, PretrainingError, pretrain
from sk_ulmfit.pretraining.folder import TEACHER
from sk_ulmfit.training import teacher

TINY = {"emb_dim": 8, "hidden_dim": 12, "n_layers": 2, "batch_size": 4, "bptt": 10, "min_frequency": 1}
TAUGHT = {**TINY, "n_passages": 2_000, "passage_tokens": 256, "validation_fraction": 0.05, "lr": 0.01}
TOPICS = {
    "weather": ["rain", "sun", "cloud", "wind", "storm", "frost"],
    "kitchen": ["pan", "oven", "knife", "plate", "bowl", "spoon"],
    "garden": ["seed", "lawn", "hedge", "spade", "tulip", "weed"],
}
WORDS = [word for words in TOPICS.values() for word in words]
FILLERS = ["the", "a", "of", "and", "is"]


def sentence(rng, topic):
    words = [rng.choice(TOPICS[topic]) if rng.random() < 0.5 else rng.choice(FILLERS) for _ in range(9)]
    return " ".join(words).capitalize() + "."


def teach(texts):
    """Return a vector that says how often a text names each topic, next to a large common part."""
    counts = [
        [sum(word in words for word in re.findall(r"\w+", t.lower())) for words in TOPICS.values()] for t in texts
    ]
    return np.hstack([np.array(counts, float), np.full((len(texts), 1), 5.0)])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    rng = random.Random(0)
    documents = [" ".join(sentence(rng, topic) for _ in range(8)) for topic in TOPICS for _ in range(40)]
    rng.shuffle(documents)
    file = tmp_path_factory.mktemp("corpus") / "topics.txt"
    file.write_text("\n\n".join(documents), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def taught(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("taught") / "run"
    pretrain(corpus, out, teacher=teach, epochs=6, **TAUGHT)
    return out


def cosine(first, second):
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_texts_of_one_topic_get_similar_vectors(taught):
    model = ULMFiTLanguageModel.load(taught / MODEL)
    rng = random.Random(1)
    vectors = {topic: model.transform([sentence(rng, topic) for _ in range(20)]) for topic in TOPICS}
    for topic, own in vectors.items():
        assert own.shape == (20, 4)  # as many dimensions as the teacher has
        for other in TOPICS.keys() - {topic}:
            assert cosine(own[:10].mean(0), own[10:].mean(0)) > cosine(own.mean(0), vectors[other].mean(0)) + 0.5


def test_it_learns_the_next_word_beside_the_vectors(taught, corpus, tmp_path):
    """Its perplexity is close to that of a run without a teacher, which learns nothing else."""
    (row,) = load_state(taught / MODEL, "language_model").history
    assert row["valid_cosine"] > 0.9
    lines = [json.loads(line) for line in (taught / LOG).read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert all({"cosine", "perplexity"} <= line.keys() for line in losses)
    assert any("held_out_cosine" in line for line in lines)
    alone = pretrain(corpus, tmp_path / "alone", epochs=8, **{**TINY, "lr": 0.01, "validation_fraction": 0.05})
    assert np.exp(row["valid_loss"]) < 1.25 * np.exp(alone.history[0]["valid_loss"])


def test_the_teachers_words_are_the_start(corpus, tmp_path):
    """One step at a negligible rate leaves the start as it is: words of a topic are alike, fillers are not."""
    state = pretrain(corpus, tmp_path / "run", teacher=teach, epochs=1e-9, **{**TAUGHT, "lr": 1e-12})
    embedding = state.weights["encoder.embedding.weight"]
    of = {word: embedding[state.vocabulary.index(word)] for word in WORDS}
    n_dims = 4  # of the teacher; the others are random
    assert cosine(of["rain"][:n_dims], of["storm"][:n_dims]) > 0.9
    assert cosine(of["rain"][:n_dims], of["oven"][:n_dims]) < 0.5
    weight = {word: state.weights["vector.word_weight"][state.vocabulary.index(word), 0] for word in (*WORDS, "xxunk")}
    assert weight["xxunk"] == 0
    assert all(0 < weight[word] < 1 for word in WORDS)
    mean = (of["rain"] * weight["rain"] + of["oven"] * weight["oven"]) / 3  # xxbos is one of the three tokens
    vector = ULMFiTLanguageModel.load(tmp_path / "run" / MODEL).transform(["rain oven"])[0]
    assert cosine(vector, mean[:n_dims]) > 0.999


class Killed(BaseException):
    """The run ends at once."""


@pytest.mark.parametrize("n_steps", [1, 17])
def test_killed_while_it_trains_it_ends_like_an_unbroken_run(corpus, taught, tmp_path, n_steps):
    steps = []

    def say(line):
        steps.append("cosine" in line)
        if sum(steps) > n_steps:
            raise Killed

    with pytest.raises(Killed):
        pretrain(corpus, tmp_path / "run", teacher=teach, epochs=6, checkpoint_minutes=0, say=say, **TAUGHT)
    again = pretrain(corpus, tmp_path / "run", teacher=teach, epochs=6, **TAUGHT)
    whole = load_state(taught / MODEL, "language_model")
    assert '"resumed"' in (tmp_path / "run" / LOG).read_text()
    for name, weights in whole.weights.items():
        assert np.array_equal(weights, again.weights[name]), name
    assert again.history == whole.history


@pytest.mark.parametrize("seen", ["drawing", "tokenizing"])
def test_killed_before_it_trains_it_ends_like_an_unbroken_run(corpus, taught, tmp_path, seen):
    def say(line):
        if seen in line:
            raise Killed

    with pytest.raises(Killed):
        pretrain(corpus, tmp_path / "run", teacher=teach, epochs=6, say=say, **TAUGHT)
    again = pretrain(corpus, tmp_path / "run", teacher=teach, epochs=6, **TAUGHT)
    for name, weights in load_state(taught / MODEL, "language_model").weights.items():
        assert np.array_equal(weights, again.weights[name]), name


def test_a_run_is_not_resumed_with_another_teaching(corpus, taught, tmp_path):
    for changed in ({"teacher_weight": 2.0}, {"passage_tokens": 128}, {"sampled_words": 16}):
        with pytest.raises(PretrainingError, match=f"{next(iter(changed))}="):
            pretrain(corpus, taught, teacher=teach, epochs=6, **{**TAUGHT, **changed})
    with pytest.raises(PretrainingError, match="n_passages=2000, not None"):
        pretrain(corpus, taught, epochs=6, **TAUGHT)


def test_fewer_passages_than_were_drawn_are_the_first_ones(corpus, tmp_path, monkeypatch):
    from sk_ulmfit.pretraining import passage_files, teacher_folder

    for module in (passage_files, teacher_folder):
        monkeypatch.setattr(module, "BLOCK", 50)
    options = {**TAUGHT, "epochs": 0.1}
    pretrain(corpus, tmp_path / "run", teacher=teach, **options)
    (tmp_path / "run" / MODEL).unlink()
    vectors = sorted((tmp_path / "run" / TEACHER).glob("vectors-*.npy"))
    for file in vectors[2:]:
        file.unlink()
    pretrain(corpus, tmp_path / "run", teacher=teach, **{**options, "n_passages": 90})
    assert sorted((tmp_path / "run" / TEACHER).glob("vectors-*.npy")) == vectors[:2]  # no others are needed


class SentenceTransformer:
    """What is called of a model of sentence-transformers."""

    tokenizer = None

    def encode(self, texts, **kwargs):
        return teach(texts)


def test_a_model_in_a_folder_is_loaded_only_if_it_has_something_to_read(corpus, tmp_path, monkeypatch):
    loaded = []

    def load(folder, device):
        loaded.append(folder)
        return SentenceTransformer()

    monkeypatch.setattr(teacher, "_check_extra", lambda: None)
    monkeypatch.setattr(teacher, "_load_model", load)
    folder, out = tmp_path / "teacher", tmp_path / "run"
    folder.mkdir()
    (folder / "modules.json").write_text("[]")
    (folder / "model.safetensors").write_text("weights")

    def run():
        pretrain(corpus, out, teacher=folder, epochs=0.1, **TAUGHT)
        return len(loaded)

    assert run() == 1
    assert run() == 1  # the run is finished
    (out / MODEL).unlink()
    assert run() == 1  # all vectors are there
    (out / MODEL).unlink()
    (out / TEACHER / "vectors-00000.npy").unlink()
    assert run() == 2
    (out / MODEL).unlink()
    (folder / "model.safetensors").write_text("others")
    with pytest.raises(PretrainingError, match="made with another teacher"):
        run()
    assert len(loaded) == 2


def test_a_model_that_cannot_be_loaded_is_named_before_the_corpus_is_read(corpus, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(ValueError, match=r"cannot be loaded|pip install 'sk-ulmfit\[teacher\]'"):
        pretrain(corpus, tmp_path / "run", teacher=tmp_path, say=pytest.fail, **TAUGHT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_passages": 0}, "n_passages"),
        ({"passage_tokens": 1.5}, "passage_tokens"),
        ({"teacher_weight": -1}, "teacher_weight"),
        ({"teacher_weight": float("nan")}, "teacher_weight"),
        ({"sampled_words": 0}, "sampled_words"),
    ],
)
def test_wrong_parameters_are_named_before_anything_is_done(corpus, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        pretrain(corpus, tmp_path / "run", teacher=teach, **{**TAUGHT, **options})
    assert not (tmp_path / "run").exists()


def test_cosine_distance_is_that_of_the_directions():
    torch.manual_seed(0)
    a, b = torch.randn(2, 9, 5, dtype=torch.float64)
    wanted = np.mean([1 - cosine(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True)])
    assert cosine_distance(a, b).item() == pytest.approx(wanted)
    assert cosine_distance(3 * a, a).item() == pytest.approx(0)
