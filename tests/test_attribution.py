import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from scipy.special import expit, logit
from scipy.stats import spearmanr

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.explain import attribution as inspection
from sk_ulmfit.explain.attribution import METHODS, Document
from sk_ulmfit.text.tokenizer import join_fields
from sk_ulmfit.text.vocabulary import TokenIds

PLANTED = {"zubble": "red", "florp": "green", "quixa": "blue", "wimtor": "grey"}


def planted(n, seed, *, one=False):
    """Random words, in which nonsense words stand that alone decide on the labels."""
    rng = np.random.default_rng(seed)
    words = [a + b for a in ("ba", "ko", "mi", "tu", "re") for b in ("lan", "dor", "fin", "pes", "gut", "nim")]
    texts, found = [], []
    for _ in range(n):
        text = list(rng.choice(words, size=rng.integers(8, 20)))
        chosen = rng.permutation(list(PLANTED))[: 1 if one else rng.integers(0, 3)]
        for word in chosen:
            text.insert(rng.integers(0, len(text) + 1), str(word))
        texts.append(" ".join(text))
        found.append([str(word) for word in chosen])
    return texts, found


def fit_planted(**params):
    texts, found = planted(240, seed=0)
    settings = {
        "language_model": tiny_lm(emb_dim=16, hidden_dim=24),
        "max_epochs": 12,
        "dropout_multiplier": 0.2,
        "calibration": "platt",
    }
    return tiny_classifier(**{**settings, **params}).fit(texts, [[PLANTED[word] for word in row] for row in found])


@pytest.fixture(scope="module")
def plain():
    return fit_planted()


@pytest.fixture(scope="module")
def with_a_vector(tmp_path_factory):
    lm = tiny_lm(emb_dim=16, hidden_dim=24).fit(planted(240, seed=0)[0])
    lm = with_vector(lm, tmp_path_factory.mktemp("lm") / "model", dim=16)
    return fit_planted(language_model=lm, unfreezing="at_once", threshold=0.5)


@pytest.fixture(params=["plain", "with_a_vector"])
def network(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def both():
    return fit_planted(tfidf=True)


@pytest.fixture(params=["plain", "with_a_vector", "both"])
def clf(request):
    return request.getfixturevalue(request.param)


# --- what the scores say ----------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_word_is_first(clf, method):
    texts, found = planted(100, seed=1, one=True)
    explained = clf.explain(texts, list(PLANTED.values()), method)
    first = [e.top_words(PLANTED[word], 1)[0][0] for e, (word,) in zip(explained, found, strict=True)]
    right = sum(a == word for a, (word,) in zip(first, found, strict=True))
    print(f"{method}, {'with' if clf._fitted.linear_model else 'without'} TF-IDF: {right} of 100")
    assert right >= 95


def test_gradients_add_up(clf):
    for e in clf.explain(planted(12, seed=2, one=True)[0], list(PLANTED.values())):
        error = np.abs(e.log_odds - e.baseline - e.scores.sum(axis=0))
        assert (error <= np.maximum(0.15, 0.02 * np.abs(e.scores).sum(axis=0))).all()
        assert np.abs(e.log_odds - e.baseline).max() > 2  # there is something to share


def test_log_odds_and_probabilities_are_those_of_the_model(clf):
    texts = [*planted(3, seed=3)[0], "zubble zubble zubble! ZUBBLE"]
    wanted = clf.predict_proba(texts)
    for method in METHODS:
        explained = clf.explain(texts, list(clf.label_names_), method)
        assert np.array_equal([e.proba for e in explained], wanted)
        log_odds = np.array([e.log_odds for e in explained])
        far = np.abs(log_odds) > 20  # a probability close to 1 does not hold its log-odds
        assert np.allclose(log_odds[~far], logit(wanted)[~far], atol=1e-4)
        assert np.allclose(expit(log_odds), wanted, rtol=1e-4, atol=1e-8)
        assert explained[0].thresholds.tolist() == [0.5] * 4


def test_without_words_the_baseline_is_that_of_unknown_ones(clf):
    """The linear model of the words knows none of these, so both baselines are the prediction for this text."""
    text = "zubble balan kodor."
    (gradient,), (occlusion,) = (clf.explain([text], "red", method) for method in METHODS)
    unheard = logit(clf.predict_proba(["qqa qqb qqc qqd"])[0, clf.label_names_ == "red"])
    assert np.allclose(gradient.baseline, unheard, atol=1e-4)
    assert np.allclose(occlusion.baseline, unheard, atol=1e-4)


def test_occlusion_is_the_difference_of_two_predictions(clf):
    text = "Mifin zubble relan, kodor kodor kodor TUGUT"

    def explained(text):
        return clf.explain([text], ["red", "blue"], "occlusion")[0]

    e = explained(text)
    for word in ("Mifin", "zubble", "relan", "TUGUT"):
        without = explained(text.replace(word, "unheardof")).log_odds
        assert np.allclose(e.scores[e.words.index(word)], e.log_odds - without, atol=1e-3)
    without = explained(text.replace("kodor kodor kodor", "unheardof")).log_odds
    repeated = e.scores[[word == "kodor" for word in e.words]]
    assert np.allclose(repeated, (e.log_odds - without) / 3, atol=1e-3)  # xxwrep 3 kodor, shared


def test_both_methods_agree(clf):
    texts = planted(20, seed=4)[0]
    pairs = zip(*(clf.explain(texts, "green", method) for method in METHODS), strict=True)
    assert np.mean([spearmanr(a.scores[:, 0], b.scores[:, 0])[0] for a, b in pairs]) > 0.6


def test_the_linear_model_is_split_exactly(both):
    vocabulary, labels = both.vocabulary_, np.arange(4)
    ids = Document.of("Zubble zubble balan unheardof kodor florp", vocabulary, "en").ids
    shares = both._fitted.linear_model.token_logits(ids, labels)
    bias = both._fitted.linear_model.logits(TokenIds(ids[:1], np.array([0, 1])))[0]
    assert np.allclose(
        shares.sum(axis=0) + bias, both._fitted.linear_model.logits(TokenIds(ids, np.array([0, len(ids)])))[0]
    )
    assert (shares[ids == vocabulary.unk] == 0).all()
    assert np.allclose(*shares[ids == vocabulary.index("zubble")])


def test_a_model_that_reads_backward():
    backward = tiny_lm(emb_dim=16, hidden_dim=24).fit(planted(60, seed=0)[0])
    backward.state_.config["direction"] = "backward"
    clf = fit_planted(language_model=backward)
    texts, found = planted(30, seed=1, one=True)
    for method in METHODS:
        explained = clf.explain(texts, clf.label_names_, method)
        assert sum(e.top_words(PLANTED[w], 1)[0][0] == w for e, (w,) in zip(explained, found, strict=True)) >= 28
        assert np.allclose([e.log_odds for e in explained], logit(clf.predict_proba(texts)), atol=1e-4)


# --- the gradient -----------------------------------------------------------


def readings(clf, text):
    reading = Document.of(text, clf.vocabulary_, "en")
    return clf.net_.module_, reading.ids, reading.baseline, np.array([0, 2])


@pytest.mark.parametrize("max_length", [None, 5, 1400])
def test_pooling_and_windows_are_those_of_prediction(network, monkeypatch, max_length):
    module, ids, baseline, labels = readings(network, " ".join(planted(3, seed=5)[0]))
    monkeypatch.setattr(module, "max_length", max_length)
    start, end = inspection._inputs(module, baseline), inspection._inputs(module, ids)
    points = np.array([0.3, 0.6, 1.0])  # few, so that no two maxima are so close that rounding decides

    def gradients():
        return inspection._gradients(module, start, end, points, np.ones(3), labels)

    wanted = gradients()
    logits = network.net_.module_(torch.from_numpy(ids[None]).long(), torch.tensor([len(ids)]))
    assert np.allclose(wanted[1][-1], logits.detach().numpy()[0, labels], atol=1e-4)
    for graph, at_once in ((15, 1), (30, 2 * len(ids))):  # one row at a time; two, with windows
        monkeypatch.setattr(inspection, "GRAPH_POSITIONS", graph)
        monkeypatch.setattr(inspection, "POSITIONS", at_once)
        for found, same in zip(gradients(), wanted, strict=True):
            assert np.allclose(found, same, atol=1e-4)


def test_the_gradient_is_that_of_the_network(network):
    """Against differences of the logits over a short way."""
    module, ids, _, labels = readings(network, planted(1, seed=6)[0][0])
    inputs = inspection._inputs(module, ids)
    way = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = inspection._gradients(module, inputs, inputs + way, np.array([0.5]), np.ones(1), labels)[0]
    edges = [inspection._logits(module, (inputs + part * way)[None])[0, labels].detach().numpy() for part in (0, 1)]
    assert np.allclose(found.sum(axis=0), edges[1] - edges[0], rtol=0.02, atol=2e-5)


def test_steps_are_halved_until_the_scores_add_up(network, monkeypatch):
    module, ids, baseline, labels = readings(network, planted(1, seed=2, one=True)[0][0])
    absolute, relative = (0.1, 0.02) if module.vector is None else (0.01, 0.002)  # means bend less than maxima
    monkeypatch.setattr(inspection, "TOLERANCE", absolute)
    monkeypatch.setattr(inspection, "RELATIVE_TOLERANCE", relative)
    errors = []
    for steps, most in ((1, 1), (1, 128)):
        monkeypatch.setattr(inspection, "STEPS", steps)
        monkeypatch.setattr(inspection, "MAX_STEPS", most)
        scores, log_odds, start = inspection.integrated_gradients(module, ids, baseline, labels)
        allowed = np.maximum(absolute, relative * np.abs(scores).sum(axis=0))
        errors.append(np.abs(log_odds - start - scores.sum(axis=0)) / allowed)
    assert errors[0].max() > 1
    assert errors[1].max() < 1.05


# --- what may come in -------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_empty_texts_fields_and_unknown_words(clf, method):
    found = clf.explain(["", " \n", join_fields(["zubble", "kodor"]), "unheardof", "zubble" * 300], "red", method)
    assert [e.words for e in found[:4]] == [[], [], ["zubble", "kodor"], ["unheardof"]]
    assert found[0].scores.shape == (0, 1)
    assert found[0].log_odds == pytest.approx(found[0].baseline, abs=1e-4)
    assert found[2].text == "\nzubble\nkodor"
    assert found[2].scores.shape == (2, 1)
    assert np.allclose(found[3].scores, 0, atol=1e-6)
    for e in found:
        assert str(e)
        assert e.to_html()


def test_which_labels(network):
    texts = ["kodor zubble mifin tulan florp repes gunim balan", "balan kodor"]
    explained = network.explain(texts)
    assert explained[0].labels == list(network.predict_labels(texts)[0]) == ["green", "red"]
    assert network.predict_labels(texts)[1] == ()
    assert explained[1].labels == [network.label_names_[network.predict_proba(texts)[1].argmax()]]
    assert network.explain(texts, ["red", "blue", "red"])[0].labels == ["red", "blue"]
    assert network.explain(texts, np.array(["grey"]))[1].labels == ["grey"]
    for wrong in ("purple", ["red", "purple"], [["red"]], 0):
        with pytest.raises(ValueError, match="which is not one of this classifier's 4 labels: 'blue', 'green'"):
            network.explain(texts, wrong)
    with pytest.raises(ValueError, match="labels is empty; choose from 'blue'"):
        network.explain(texts, [])


def test_wrong_texts_and_methods(network):
    with pytest.raises(ValueError, match=r"texts must be a sequence of raw texts, got a single str. Wrap it in a list"):
        network.explain("zubble")
    with pytest.raises(ValueError, match="method must be one of 'gradient', 'occlusion'; got 'lime'"):
        network.explain(["zubble"], method="lime")
    with pytest.raises(ValueError, match="not fitted"):
        ULMFiTMultiLabelClassifier().explain(["zubble"])


@pytest.mark.parametrize("method", METHODS)
def test_the_model_stays_as_it_was(both, method, tmp_path):
    module, texts = both.net_.module_, planted(3, seed=7)[0]
    module.train()
    module.head[1].eval()
    try:
        before = [part.training for part in module.modules()]
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        rng = torch.get_rng_state()
        explained = both.explain(texts, method=method)
        assert [part.training for part in module.modules()] == before
        assert all(p.grad is None and p.requires_grad for p in module.parameters())
        assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
        assert torch.equal(torch.get_rng_state(), rng)
    finally:
        module.eval()
    both.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model", device="cpu")
    for a, b in zip(loaded.explain(texts, method=method), explained, strict=True):
        assert a.labels == b.labels
        assert np.allclose(a.scores, b.scores, atol=1e-4)


def test_real_words(fitted):
    texts, _ = make_corpus(20, seed=8)
    for method in METHODS:
        explained = fitted.explain([text for text in texts if "lost" in text], "delivery", method)
        assert np.mean([e.top_words("delivery", 2)[0][0] in ("late", "lost") for e in explained]) > 0.7
