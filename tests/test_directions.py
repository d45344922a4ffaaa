import json
import pickle
import re

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier, language_model
from sk_ulmfit.cli.main import main
from sk_ulmfit.explain.attribution import mean_shares
from sk_ulmfit.lr_finder import lr_find
from sk_ulmfit.training import directions, held_out
from sk_ulmfit.training.prediction import mean_log_odds

TEXTS, LABELS = make_corpus(60)
NEW = [*make_corpus(20, seed=3)[0], "", "unheardof"]


@pytest.fixture(scope="module")
def both():
    return tiny_classifier(direction="both", tfidf=True).fit(TEXTS, LABELS)


@pytest.fixture
def backward_file(tmp_path):
    tiny_lm(direction="backward", random_state=0).fit(TEXTS).save(tmp_path / "backward.lm")
    return tmp_path / "backward.lm"


# --- what it says -----------------------------------------------------------


@pytest.mark.parametrize("settings", [{"tfidf": True}, {"early_stopping": True}, {"unfreezing": "head"}])
def test_probabilities_are_the_mean_of_those_of_the_two_directions(settings):
    forward, backward, both = (
        tiny_classifier(direction=direction, **settings).fit(TEXTS, LABELS)
        for direction in ("forward", "backward", "both")
    )
    one, other = forward.predict_proba(NEW), backward.predict_proba(NEW)
    assert np.abs(one - other).max() > 0.01
    np.testing.assert_allclose(both.predict_proba(NEW), (one + other) / 2, rtol=1e-9)
    for history, of_one in ((both.history_, forward), (both.backward_history_, backward)):
        assert [row["train_loss"] for row in history] == [row["train_loss"] for row in of_one.history_]


def test_a_backward_classifier_reads_from_the_end():
    """What its network says of a text is what the same network says, reading forward, of the text turned round."""
    clf = tiny_classifier(direction="backward").fit(TEXTS, LABELS)
    assert clf.language_model_.state_.config["direction"] == "backward"
    texts = [" ".join(re.findall("[a-z]+", text.lower())) for text in NEW]
    proba = clf.predict_proba(texts)
    clf._fitted.networks[0].config["direction"] = "forward"
    turned = [" ".join(reversed(text.split())) for text in texts]
    assert np.abs(clf.predict_proba(texts) - proba).max() > 1e-4
    np.testing.assert_allclose(clf.predict_proba(turned), proba, atol=1e-6)


def test_thresholds_and_calibration_see_the_mean(monkeypatch):
    seen = {"fit_calibration": [], "_tune": []}

    def watched(name):
        work = getattr(held_out, name)

        def run(y, proba, *args, **kwargs):
            seen[name].append(proba)
            return work(y, proba, *args, **kwargs)

        return run

    for name in seen:
        monkeypatch.setattr(held_out, name, watched(name))
    for calibration in ("platt", None):
        settings = {"threshold": "tune", "calibration": calibration, "validation_fraction": 0.4}
        for direction in ("forward", "backward", "both"):
            tiny_classifier(direction=direction, **settings).fit(TEXTS, LABELS)
    for one, other, mean in (seen["fit_calibration"], seen["_tune"][3:]):
        assert np.abs(one - other).max() > 1e-3
        np.testing.assert_allclose(mean, (one + other) / 2)


def test_a_text_is_read_by_itself(both):
    together = both.predict_proba(NEW)
    alone = np.concatenate([both.predict_proba([text]) for text in NEW])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_it_comes_back_from_a_file_and_a_pickle(both, tmp_path, capsys):
    both.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    for other in (loaded, pickle.loads(pickle.dumps(both))):
        np.testing.assert_array_equal(other.predict_proba(NEW), both.predict_proba(NEW))
        assert other.backward_history_ == both.backward_history_
    assert loaded.direction == "both"
    loaded.save(tmp_path / "again")
    again = ULMFiTMultiLabelClassifier.load(tmp_path / "again")
    np.testing.assert_array_equal(again.predict_proba(NEW), both.predict_proba(NEW))
    assert main(["info", str(tmp_path / "model"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["direction"] == "both"
    assert len(shown["backward_history"]) == len(both.backward_history_) == 3


@pytest.mark.parametrize("method", ["gradient", "occlusion"])
def test_explanations_are_of_both(both, method):
    texts = NEW[:6]
    explained = both.explain(texts, list(both.label_names_), method)
    np.testing.assert_allclose([e.log_odds for e in explained], logit(both.predict_proba(texts)), atol=1e-4)
    if method == "gradient":
        for e in explained:
            change, scores = e.log_odds - e.baseline, e.scores
            assert (np.abs(change - scores.sum(axis=0)) <= np.maximum(0.12, 0.03 * np.abs(scores).sum(axis=0))).all()
    else:
        e, word = explained[0], explained[0].words[1]
        without = texts[0].replace(word, "unheardof", 1)
        np.testing.assert_allclose(e.scores[1], e.log_odds - logit(both.predict_proba([without]))[0], atol=1e-4)


LOG_ODDS = arrays(np.float64, (2, 3), elements=st.floats(-60, 60))


@given(LOG_ODDS)
def test_the_mean_is_that_of_the_probabilities(log_odds):
    found = mean_log_odds(list(log_odds))
    np.testing.assert_allclose(expit(found), expit(log_odds).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(expit(-found), expit(-log_odds).mean(axis=0), rtol=1e-9)


@given(arrays(np.float64, (2, 3), elements=st.floats(-12, 12)), arrays(np.float64, (2, 3), elements=st.floats(-12, 12)))
def test_shares_of_the_change_add_up(baselines, log_odds):
    shares = mean_shares(list(baselines), list(log_odds))
    change = mean_log_odds(list(log_odds)) - mean_log_odds(list(baselines))
    assert (shares >= 0).all()
    np.testing.assert_allclose((shares * (log_odds - baselines)).sum(axis=0), change, atol=1e-3)


# --- where the bodies come from ---------------------------------------------


def test_a_language_model_takes_the_direction_of_its_start_or_learns_another(tmp_path, backward_file):
    texts = [f"{word} red orange yellow green blue" for word in ("violet", "grey")] * 20
    forward = tiny_lm(max_epochs=8, lr=0.05, random_state=0).fit(texts)
    forward.save(tmp_path / "lm")
    turned = ULMFiTLanguageModel(tmp_path / "lm", direction="backward", max_epochs=0).fit(texts)
    embedding = "encoder.embedding.weight"
    np.testing.assert_array_equal(turned.state_.weights[embedding], forward.state_.weights[embedding])
    assert turned.perplexity(texts) > 3 * forward.perplexity(texts)
    learned = ULMFiTLanguageModel(tmp_path / "lm", direction="backward", max_epochs=8, lr=0.05, random_state=0)
    assert learned.fit(texts).perplexity(texts) < turned.perplexity(texts) / 2
    kept = ULMFiTLanguageModel(backward_file, max_epochs=0).fit(texts)
    assert kept.state_.config["direction"] == "backward"
    assert ULMFiTLanguageModel.load(backward_file).direction == "backward"


def test_a_pair_of_fitted_language_models_is_used_as_it_is(backward_file):
    forward = tiny_lm(random_state=0).fit(TEXTS)
    backward = ULMFiTLanguageModel.load(backward_file)
    pair = (FrozenEstimator(forward), FrozenEstimator(backward))
    clf = clone(tiny_classifier(direction="both", language_model=pair)).fit(TEXTS, LABELS)
    for direction, net, lm in (("forward", clf.net_, pair[0]), ("backward", clf.backward_net_, pair[1])):
        alone = tiny_classifier(direction=direction, language_model=lm).fit(TEXTS, LABELS)
        for a, b in zip(net.module_.parameters(), alone.net_.module_.parameters(), strict=True):
            assert (a == b).all()


def test_a_file_that_reads_backward_says_so_itself(backward_file):
    clf = tiny_classifier(language_model=backward_file, lm_epochs=0).fit(TEXTS, LABELS)
    assert clf.language_model_.state_.config["direction"] == "backward"
    asked = tiny_classifier(language_model=backward_file, lm_epochs=0, direction="backward").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clf.predict_proba(NEW), asked.predict_proba(NEW))


def test_parameters_of_a_pair_are_saved(tmp_path, backward_file):
    pair = (tiny_lm(max_epochs=2), str(backward_file))
    clf = tiny_classifier(direction="both", language_model=pair, lm_epochs=1).fit(TEXTS, LABELS)
    clf.save(tmp_path / "model")
    first, second = ULMFiTMultiLabelClassifier.load(tmp_path / "model").language_model
    assert first.get_params() == pair[0].get_params()
    assert second == str(backward_file)


@pytest.fixture
def trained(monkeypatch):
    """Count the trainings of both stages."""
    counts = {"classifier": 0, "language model": 0}

    def counted(stage, train):
        def run(*args, **kwargs):
            counts[stage] += 1
            return train(*args, **kwargs)

        return run

    monkeypatch.setattr(directions, "train_classifier", counted("classifier", directions.train_classifier))
    finetune = counted("language model", language_model.finetune_language_model)
    monkeypatch.setattr(language_model, "finetune_language_model", finetune)
    return counts


@pytest.mark.parametrize("seed", [0, None])
def test_a_search_trains_a_direction_once(tmp_path, trained, seed):
    settings = {"memory": tmp_path / "memory", "tfidf": True, "random_state": seed}
    for direction, n in (("forward", 1), ("both", 2), ("forward", 2)):
        tiny_classifier(direction=direction, **settings).fit(TEXTS, LABELS)
        assert trained == {"classifier": n, "language model": n}


def test_what_is_remembered_holds_out_the_same_texts(tmp_path, monkeypatch):
    """Of two trainings without a seed, the second one follows the first, wherever that came from."""
    held_out, train = [], directions.train_classifier

    def watched(*args, **kwargs):
        trained = train(*args, **kwargs)
        held_out.append(trained.held_out.rows.tolist())
        return trained

    monkeypatch.setattr(directions, "train_classifier", watched)
    settings = {"memory": tmp_path / "memory", "random_state": None, "threshold": "tune", "validation_fraction": 0.3}
    for direction in ("backward", "forward", "both"):
        tiny_classifier(direction=direction, **settings).fit(TEXTS, LABELS)
    backward, forward, second = held_out
    assert second == forward != backward


def test_a_fit_in_one_direction_forgets_the_other(both):
    clf = clone(both).fit(TEXTS, LABELS).set_params(direction="forward").fit(TEXTS, LABELS)
    assert not [name for name in dir(clf) if name.startswith("backward_") and hasattr(clf, name)]
    alone = tiny_classifier(tfidf=True).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(clf.predict_proba(NEW), alone.predict_proba(NEW))


def test_an_interrupt_in_the_second_network_leaves_what_was_there(both, monkeypatch):
    clf = tiny_classifier(direction="both", tfidf=True).fit(TEXTS, LABELS)
    before, train = clf.predict_proba(NEW), directions.train_classifier

    def interrupted(data, language_model, *args, **kwargs):
        if language_model.config["direction"] == "backward":
            raise KeyboardInterrupt
        return train(data, language_model, *args, **kwargs)

    monkeypatch.setattr(directions, "train_classifier", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(TEXTS[:30], LABELS[:30])
    np.testing.assert_array_equal(clf.predict_proba(NEW), before)


def test_what_was_trained_is_saved_whatever_direction_says_now(both, tmp_path):
    pickle.loads(pickle.dumps(both)).set_params(direction="forward").save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(NEW), both.predict_proba(NEW))


def test_the_two_may_differ_in_size(tmp_path):
    pair = (tiny_lm(), tiny_lm(hidden_dim=20, n_layers=3))
    clf = tiny_classifier(direction="both", language_model=pair).fit(TEXTS, LABELS)
    clf.save(tmp_path / "model")
    assert [len(net.module_.encoder.rnns) for net in (clf.net_, clf.backward_net_)] == [2, 3]
    for other in (ULMFiTMultiLabelClassifier.load(tmp_path / "model"), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(other.predict_proba(NEW), clf.predict_proba(NEW))


def test_a_learning_rate_is_that_of_the_forward_network(both):
    forward = tiny_classifier(tfidf=True).fit(TEXTS, LABELS)
    pair = (tiny_lm(), tiny_lm())
    bodies = tiny_lm(random_state=0).fit(TEXTS), tiny_lm(random_state=0, direction="backward").fit(TEXTS)
    of_fitted = tiny_classifier(direction="both", language_model=bodies)
    for one, wanted in (
        (of_fitted, tiny_classifier(language_model=bodies[0])),
        (clone(of_fitted).set_params(language_model=bodies).fit(TEXTS, LABELS), of_fitted),
        (tiny_classifier(direction="both", language_model=pair), tiny_classifier()),
        (both, forward),
        (tiny_classifier(direction="backward").fit(TEXTS, LABELS).set_params(direction="both"), tiny_classifier()),
    ):
        found, expected = (lr_find(clf, TEXTS, LABELS, n_steps=20) for clf in (one, wanted))
        assert found.losses.tolist() == expected.losses.tolist()
    assert len(lr_find(forward.set_params(direction="backward"), TEXTS, LABELS, n_steps=20).losses)


def test_the_losses_of_both_are_drawn(both):
    pytest.importorskip("matplotlib").use("Agg")
    from sk_ulmfit.plotting import TrainingCurvesDisplay

    stages = ["language model", "classifier", "backward language model", "backward classifier"]
    display = TrainingCurvesDisplay.from_estimator(both)
    assert list(display.histories) == stages
    units = ["token", "label", "token", "label"]
    assert [panel.get_ylabel() for panel in display.plot().axes_] == [f"Loss (nats per {unit})" for unit in units]


# --- what may come in -------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"direction": "up"}, "direction must be one of 'forward', 'backward', 'both'; got 'up'"),
        ({"language_model": (None, None)}, "language_model must be 'auto'.* pair"),
        ({"language_model": (None,), "direction": "both"}, "language_model must be 'auto'.* pair"),
        ({"language_model": tiny_lm(direction="up")}, "direction must be one of 'forward', 'backward'; got 'up'"),
        (
            {"language_model": tiny_lm(direction="forward"), "direction": "both"},
            "language_model has direction='forward', but that of the classifier is 'both'; leave direction of the language model at None",
        ),
        ({"language_model": (tiny_lm(), 5), "direction": "both"}, "language_model must be 'auto'.* got 5 of type int"),
        ({"language_model": (tiny_lm(), tiny_lm(lr=-1)), "direction": "both"}, "lr must be"),
        (
            {"language_model": (tiny_lm(), tiny_lm(direction="forward")), "direction": "both"},
            "language_model has direction='forward'",
        ),
    ],
)
def test_what_is_asked_for_is_checked_before_anything_is_trained(settings, message, trained):
    with pytest.raises(ValueError, match=message):
        tiny_classifier(**settings).fit(TEXTS, LABELS)
    assert trained == {"classifier": 0, "language model": 0}


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_fitted_language_model_reads_one_way(direction):
    fitted = FrozenEstimator(tiny_lm().fit(TEXTS))
    with pytest.raises(ValueError, match=f"reads forward, but direction='{direction}' needs one that reads backward"):
        tiny_classifier(language_model=fitted, direction=direction).fit(TEXTS, LABELS)


def test_a_pair_stands_in_order(backward_file):
    backward, forward = ULMFiTLanguageModel.load(backward_file), tiny_lm().fit(TEXTS)
    for pair, which in (((backward, forward), "first"), ((tiny_lm(), FrozenEstimator(forward)), "second")):
        with pytest.raises(ValueError, match=f"The {which} model of language_model reads .* must read forward and"):
            tiny_classifier(language_model=pair, direction="both").fit(TEXTS, LABELS)


def test_files_of_different_words_are_refused_before_anything_is_trained(tmp_path, backward_file, trained):
    tiny_lm(max_epochs=0).fit(["other words alone"] * 20).save(tmp_path / "other.lm")
    fitted = FrozenEstimator(ULMFiTLanguageModel.load(tmp_path / "other.lm"))
    for first in (tmp_path / "other.lm", "en-small", "auto", fitted):
        with pytest.raises(ValueError, match="know different words; pre-train both on one corpus"):
            tiny_classifier(language_model=(first, backward_file), direction="both").fit(TEXTS, LABELS)
    assert trained["language model"] == 1  # of the first file, above


def test_a_fitted_model_goes_with_one_that_is_to_be_fitted_on_the_same_texts(tmp_path, backward_file):
    tiny_lm().fit(TEXTS).save(tmp_path / "start.lm")
    texts = [*TEXTS[:30], "two new words"] * 4
    labels = [*LABELS[:30], LABELS[0]] * 4
    fitted = FrozenEstimator(ULMFiTLanguageModel(tmp_path / "start.lm", max_epochs=0, min_frequency=1).fit(texts))
    other = ULMFiTLanguageModel(backward_file, max_epochs=0, min_frequency=1)
    clf = tiny_classifier(direction="both", language_model=(fitted, other)).fit(texts, labels)
    assert "two" in clf.vocabulary_.words
    assert clf.backward_language_model_.vocabulary_.words == fitted.vocabulary_.words


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_direction_that_nothing_has_learned_is_pointed_out(tmp_path, direction):
    tiny_lm(max_epochs=1).fit(TEXTS).save(tmp_path / "lm")
    with pytest.warns(UserWarning, match="is to read backward, but .*lm has learned the other direction"):
        tiny_classifier(language_model=tmp_path / "lm", lm_epochs=0, direction=direction).fit(TEXTS, LABELS)


def test_both_read_the_same_words(backward_file):
    other = FrozenEstimator(tiny_lm().fit(["other words alone"] * 20))
    pair = (other, FrozenEstimator(ULMFiTLanguageModel.load(backward_file)))
    with pytest.raises(ValueError, match="know different words"):
        tiny_classifier(language_model=pair, direction="both").fit(TEXTS, LABELS)
