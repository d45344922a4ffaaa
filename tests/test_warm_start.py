"""A fit that goes on from an earlier one: `warm_start=True`, and ``train --from``."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from sklearn.base import clone

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, ULMFiTRegressor, encoders, language_model
from sk_ulmfit.cli.main import main
from sk_ulmfit.datasets import write_table
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training import stages
from sk_ulmfit.training.seen_vectors import VectorStore

N_TEXTS = 40
ASK = ["My parcel is late again", "the invoice is wrong and broken"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A file of a language model that has a vector."""
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(max_epochs=1, random_state=0).fit(make_corpus(30)[0]), path, dim=8)
    return path


def classifier(start, **params):
    given = {"max_epochs": None, "batch_size": None, "lr": None, "warm_start": True}
    return tiny_classifier(**{"language_model": start, **given, **params})


def weights_of(clf):
    return {name: tensor.numpy().copy() for name, tensor in clf.net_.module_.state_dict().items()}


def frame(texts, labels, names):
    return pd.DataFrame([[int(name in row) for name in names] for row in labels], columns=names)


@pytest.mark.parametrize("tfidf", [False, True])
def test_a_linear_head_ends_where_a_fresh_fit_on_the_same_texts_ends(start, tfidf):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    fresh = classifier(start, tfidf=tfidf).fit(texts, labels)
    gone_on = classifier(start, tfidf=tfidf).fit(texts[:20], labels[:20]).fit(texts, labels)
    words, wanted = ({word for word in clf.vocabulary_.words if word[:6] != "xxfake"} for clf in (gone_on, fresh))
    assert words == wanted
    np.testing.assert_allclose(gone_on.predict_proba(ASK), fresh.predict_proba(ASK), atol=2e-3)


def test_the_start_is_read_once_and_not_trained_again(start, monkeypatch):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start).fit(texts[:20], labels[:20])
    read = []
    monkeypatch.setattr(language_model, "load_state", lambda *args: read.append(args))
    monkeypatch.setattr(encoders, "fit_encoders", lambda *args: read.append(args))
    clf.set_params(language_model="no such file", lm_epochs=3).fit(texts, labels)
    assert read == []


def test_vectors_of_texts_that_were_seen_are_not_computed_again(start, monkeypatch):
    different = dict(zip(*make_corpus(150, seed=1), strict=True))
    texts, labels = list(different)[:N_TEXTS], list(different.values())[:N_TEXTS]
    read, pooled_features = [], stages.pooled_features

    def counted(encoder, ids, offsets, *args, **kwargs):
        read.append(len(offsets) - 1)
        return pooled_features(encoder, ids, offsets, *args, **kwargs)

    monkeypatch.setattr(stages, "pooled_features", counted)
    clf = classifier(start).fit(texts[:30], labels[:30]).fit(texts, labels)
    assert read == [30, 10]
    kept = clf.predict_proba(ASK)
    clf.fit(texts, labels)
    assert read == [30, 10]
    clf.set_params(max_length=5).fit(texts, labels)
    assert read == [30, 10, N_TEXTS]
    fresh = classifier(start).fit(texts, labels)
    np.testing.assert_allclose(kept, fresh.predict_proba(ASK), atol=2e-3)


def test_vectors_are_kept_only_while_the_encoder_stays_as_it_is(start, tmp_path):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    assert classifier(start, warm_start=False).fit(texts, labels)._fitted.seen == (None,)
    clf = classifier(start, memory=tmp_path).fit(texts, labels)
    assert len(clf._fitted.seen[0].vectors) == N_TEXTS
    clf.set_params(unfreezing="at_once")
    assert clone(clf).fit(texts, labels)._fitted.seen == (None,)
    assert clone(clf).fit(texts, labels)._fitted.seen == (None,)  # from the memory
    assert clf.fit(texts, labels)._fitted.seen == (None,)


def test_vectors_are_matched_by_words_whatever_their_ids():
    old, new = Vocabulary(["lamp", "hub", "gone"]), Vocabulary(["kettle", "hub", "lamp"])

    def documents(vocabulary, *texts):
        rows = [[vocabulary.index(word) for word in text.split()] for text in texts]
        return TokenIds(np.concatenate(rows).astype(np.int32), np.cumsum([0, *map(len, rows)]))

    asked = []

    def compute(corpus):
        asked.append(len(corpus))
        return torch.arange(1, len(corpus) + 1)[:, None] * 1.0

    store = VectorStore()
    store.vectors_of(documents(old, "lamp hub", "gone", "kettle lamp"), old, (1,), compute)
    corpus = documents(new, "gone", "kettle lamp", "lamp hub", "hub lamp")
    assert VectorStore(store.kept).vectors_of(corpus, new, (1,), compute)[:, 0].tolist() == [1, 2, 1, 3]
    assert VectorStore(store.kept).vectors_of(corpus, new, (2,), compute)[:, 0].tolist() == [1, 2, 3, 4]
    assert asked == [3, 3, 4]


def test_unfrozen_layers_go_on_from_their_weights(start):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start, unfreezing="at_once", lr=0.05).fit(texts, labels)
    moved = weights_of(clf)
    clf.set_params(unfreezing="head").fit(texts, labels)
    kept, at_start = weights_of(clf), ULMFiTLanguageModel.load(start).state_.weights
    for name in ("vector.weight", "encoder.rnns.0.weight_hh_l0"):
        np.testing.assert_array_equal(kept[name], moved[name])
        assert not np.array_equal(kept[name], at_start[name])


def test_a_head_without_vector_goes_on(monkeypatch):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = tiny_classifier(warm_start=True, max_epochs=2).fit(texts, labels)
    before = weights_of(clf)
    clf.set_params(max_epochs=1, lr=1e-9, embedding_lr=None).fit(texts, labels)
    after = weights_of(clf)
    for name in ("head.2.weight", "head.6.weight", "encoder.rnns.0.weight_hh_l0"):
        np.testing.assert_allclose(after[name], before[name], atol=1e-5)


@pytest.mark.parametrize("has_vector", [True, False])
@pytest.mark.parametrize("tfidf", [False, True])
def test_new_labels_get_a_row_and_missing_ones_keep_theirs(start, has_vector, tfidf):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    lm = start if has_vector else tiny_lm()
    clf = classifier(lm, tfidf=tfidf, max_epochs=2, threshold="tune", calibration="platt")
    clf.fit(texts, frame(texts, labels, ["billing", "delivery"]))
    before, config, thresholds = weights_of(clf), clf._fitted.config, clf.thresholds_
    clf.fit(texts, frame(texts, labels, ["technical", "delivery"]))
    assert clf.label_names_.tolist() == ["billing", "delivery", "technical"]
    last = "head" if has_vector else "head.6"
    after = weights_of(clf)
    for part in ("weight", "bias"):
        np.testing.assert_array_equal(after[f"{last}.{part}"][0], before[f"{last}.{part}"][0])
    assert len(after[f"{last}.weight"]) == 3
    if not has_vector:
        assert not np.array_equal(after["head.6.weight"][1], before["head.6.weight"][1])
    assert clf.thresholds_[0] == thresholds[0]
    new = clf._fitted.config
    assert new["base_rates"][0] == config["base_rates"][0]
    assert new["log_odds_range"][0][0] <= config["log_odds_range"][0][0]
    assert new["log_odds_range"][1][0] >= config["log_odds_range"][1][0]
    assert [row[0] for row in new["calibration"]] == [row[0] for row in config["calibration"]]
    if tfidf:
        assert clf._fitted.linear_model.share[0] == 1
    assert clf.predict_proba(ASK).shape == (2, 3)


def test_a_missing_label_is_still_predicted(start):
    texts, labels = make_corpus(120, seed=1)
    clf = classifier(start).fit(texts, frame(texts, labels, ["billing", "delivery"]))
    before = clf.predict_proba(texts)[:, 0]
    clf.fit(texts, frame(texts, labels, ["delivery"]))
    np.testing.assert_allclose(clf.predict_proba(texts)[:, 0], before, atol=1e-3)


def test_columns_without_names_go_by_position(start):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    y = frame(texts, labels, ["billing", "delivery", "technical"])
    clf = classifier(start).fit(texts, y.to_numpy()[:, :2]).fit(texts, y.to_numpy())
    assert clf.label_names_.tolist() == [0, 1, 2]
    fresh = classifier(start).fit(texts, y.to_numpy())
    np.testing.assert_allclose(clf.predict_proba(ASK), fresh.predict_proba(ASK), atol=2e-3)
    named = classifier(start).fit(texts, y).fit(texts, y.to_numpy())
    assert named.label_names_.tolist() == ["billing", "delivery", "technical"]
    assert classifier(start).fit(texts, y).fit(texts, y[y.columns[::-1]]).label_names_.tolist() == list(y.columns)


def test_new_words_are_added(start):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start).fit(texts, labels)
    assert "kettle" not in clf.vocabulary_
    row = weights_of(clf)["encoder.embedding.weight"][clf.vocabulary_.index("parcel")]
    clf.fit([*texts, "my kettle is late", "the kettle"], [*labels, ["delivery"], []])
    assert "kettle" in clf.vocabulary_
    np.testing.assert_array_equal(weights_of(clf)["encoder.embedding.weight"][clf.vocabulary_.index("parcel")], row)


def test_both_directions_go_on():
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = tiny_classifier(direction="both", warm_start=True, max_epochs=1, tfidf=True).fit(texts, labels)
    clf.fit([*texts, "kettle", "kettle"], [*labels, ["kitchen"], ["kitchen"]])
    assert clf.predict_proba(ASK).shape == (2, 4)
    assert clf.backward_net_.module_.head[-1].weight.shape[0] == 4


def test_without_warm_start_and_in_a_clone_the_fit_is_fresh(start):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start, unfreezing="at_once").fit(texts, labels)
    fresh = clf.predict_proba(ASK)
    cloned = clone(clf).fit(texts, labels)
    np.testing.assert_array_equal(cloned.predict_proba(ASK), fresh)
    assert not np.array_equal(clf.fit(texts, labels).predict_proba(ASK), fresh)
    np.testing.assert_array_equal(clf.set_params(warm_start=False).fit(texts, labels).predict_proba(ASK), fresh)


def test_a_loaded_classifier_goes_on(start, tmp_path):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start, tfidf=True).fit(texts[:20], labels[:20])
    clf.save(tmp_path / "clf")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "clf")
    assert loaded.warm_start is False
    loaded.set_params(warm_start=True).fit(texts, labels)
    np.testing.assert_array_equal(loaded.predict_proba(ASK), clf.fit(texts, labels).predict_proba(ASK))


def test_a_memory_tells_starts_apart(start, tmp_path):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    results = []
    for first in (texts[:20], texts[20:], texts[:20]):
        clf = classifier(start, unfreezing="at_once", memory=tmp_path).fit(first, labels[:20])
        results.append(clf.fit(texts, labels).predict_proba(ASK))
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"direction": "both"}, None, "direction='both', but the earlier fit"),
        ({"warm_start": 1}, None, "warm_start must be True or False"),
        ({"language_model": tiny_lm(emb_dim=5)}, None, "emb_dim=5, but the model to start from has emb_dim=12"),
        ({}, np.eye(2)[[0, 1] * 20], "y has 2 columns without names"),
    ],
)
def test_what_cannot_go_on_is_one_clear_error(start, params, y, message):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start).fit(texts, labels)
    with pytest.raises(ValueError, match=message) as caught:
        clf.set_params(**params).fit(texts, labels if y is None else y)
    assert "\n" not in str(caught.value)


def test_names_after_a_matrix_without_names_are_an_error(start):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    clf = classifier(start).fit(texts, np.eye(2)[[0, 1] * 20])
    with pytest.raises(ValueError, match="y names 'billing', but the 2 labels"):
        clf.fit(texts, labels)


def stars(texts, names):
    """Values that follow from the words."""
    values = {name: [1 + 2.0 * (name in text) + len(text) % 3 for text in texts] for name in names}
    return pd.DataFrame(values)[list(names)]


@pytest.mark.parametrize("y_range", [None, (1, 5)])
@pytest.mark.parametrize("tfidf", [False, True])
def test_a_regressor_goes_on(start, tmp_path, y_range, tfidf):
    texts, _ = make_corpus(60, seed=1)
    model = ULMFiTRegressor(start, y_range=y_range, tfidf=tfidf, random_state=0, warm_start=True)
    model.fit(texts[:30], stars(texts[:30], ["late", "lost"])).save(tmp_path / "model")
    before, row = model.predict(texts), weights_of(model)["head.weight"][0]
    loaded = ULMFiTRegressor.load(tmp_path / "model").set_params(warm_start=True)
    model.fit(texts, stars(texts, ["broken", "lost"]))
    assert model.target_names_.tolist() == ["late", "lost", "broken"]
    np.testing.assert_array_equal(weights_of(model)["head.weight"][0], row)
    np.testing.assert_array_equal(loaded.fit(texts, stars(texts, ["broken", "lost"])).predict(ASK), model.predict(ASK))
    if not tfidf:
        np.testing.assert_allclose(model.predict(texts)[:30, 0], before[:30, 0], atol=1e-3)
    fresh = ULMFiTRegressor(start, y_range=y_range, tfidf=tfidf, random_state=0)
    fresh.fit(texts, stars(texts, ["broken", "lost"]))
    if not tfidf:  # beside the linear model, the share is that of all targets
        np.testing.assert_allclose(model.predict(texts)[:, [2, 1]], fresh.predict(texts), atol=0.02)


def test_a_regressor_refuses_another_range_or_loss(start):
    texts, _ = make_corpus(20, seed=1)
    model = ULMFiTRegressor(start, y_range=(0, 1), random_state=0, warm_start=True).fit(texts, [0, 1] * 10)
    assert model.fit(texts, [1, 0] * 10).predict(texts).shape == (20,)
    with pytest.raises(ValueError, match="loss has changed since the earlier fit"):
        model.set_params(loss="cross_entropy").fit(texts, [0, 1] * 10)
    with pytest.raises(ValueError, match="y_range has changed since the earlier fit"):
        model.set_params(loss="squared_error", y_range=(0, 2)).fit(texts, [0, 1] * 10)


def test_a_language_model_goes_on():
    texts, _ = make_corpus(N_TEXTS, seed=1)
    lm = tiny_lm(max_epochs=2, warm_start=True, random_state=0).fit(texts)
    before, perplexity = lm.state_.weights, lm.perplexity(texts)
    lm.set_params(max_epochs=0).fit(["a kettle", "a kettle"])
    assert "kettle" in lm.vocabulary_
    assert lm.pretrained_ is None
    np.testing.assert_array_equal(
        lm.state_.weights["encoder.rnns.0.weight_hh_l0"], before["encoder.rnns.0.weight_hh_l0"]
    )
    assert lm.set_params(max_epochs=2).fit(texts).perplexity(texts) < perplexity
    fresh = lm.set_params(warm_start=False, min_frequency=1).fit(texts)
    assert "kettle" not in fresh.vocabulary_


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"emb_dim": 5}, "emb_dim=5, but the model to start from has emb_dim=12; .* or pass warm_start=False"),
        ({"direction": "backward"}, "direction='backward', but the earlier fit"),
        ({"language": "de"}, "language='de', but the earlier fit"),
        ({"warm_start": "yes"}, "warm_start must be True or False"),
    ],
)
def test_a_language_model_refuses_what_cannot_go_on(params, message):
    lm = tiny_lm(warm_start=True).fit(make_corpus(20)[0])
    with pytest.raises(ValueError, match=message):
        lm.set_params(**params).fit(["a text", "a text"])


def test_the_command_line_goes_on_from_a_saved_classifier(start, tmp_path, capsys):
    texts, labels = make_corpus(N_TEXTS, seed=1)
    for name, rows in (("one", range(20)), ("two", range(N_TEXTS))):
        content = [
            {"text": texts[i], "topics": "|".join(labels[i] + ["new"] * (name == "two" and i % 2))} for i in rows
        ]
        write_table(tmp_path / f"{name}.csv", ["text", "topics"], content)
    read = ["--text", "text", "--label-column", "topics", "--delimiter", "|", "--quiet"]
    one, two = (str(tmp_path / name) for name in ("one.model", "two.model"))
    assert (
        main(["train", str(tmp_path / "one.csv"), *read, "--out", one, "--language-model", str(start), "--no-tfidf"])
        == 0
    )
    assert main(["train", str(tmp_path / "two.csv"), *read, "--out", two, "--from", one]) == 0
    clf = ULMFiTMultiLabelClassifier.load(two)
    assert clf.label_names_.tolist() == ["billing", "delivery", "technical", "new"]
    assert clf.tfidf is False
    capsys.readouterr()
    clf.set_params(threshold=0.3).save(two)
    three = str(tmp_path / "three.model")  # an option counts with its default value too
    assert main(["train", str(tmp_path / "two.csv"), *read, "--out", three, "--from", two, "--threshold", "auto"]) == 0
    assert ULMFiTMultiLabelClassifier.load(three).threshold == "auto"
    clf.set_params(direction="backward", warm_start=False).fit(texts, labels).save(two)
    wrong_direction = ["--from", two, "--direction", "forward"]
    for wrong in (
        ["--from", str(start)],
        ["--from", one, "--emb-dim", "8"],
        ["--from", one, "--direction", "both"],
        wrong_direction,
    ):
        assert main(["train", str(tmp_path / "two.csv"), *read, "--out", str(tmp_path / "no"), *wrong]) != 0
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
