import copy

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.lr_finder import MIN_POINTS, LearningRateRangeTest, lr_find, smooth, suggest_learning_rate

pytestmark = pytest.mark.filterwarnings("ignore:The loss does not fall")
RATES = np.geomspace(1e-6, 10, 100)


def curve(falls_at=3e-3, explodes_at=0.5, noise=0.0, seed=0):
    """A loss that falls from 3 to 1 around one rate, and explodes at another."""
    losses = 3 - 2 / (1 + falls_at / RATES) + np.expm1(np.minimum(RATES / explodes_at, 20))
    return losses + noise * np.random.default_rng(seed).normal(size=len(losses))


def fastai_valley(rates, losses):
    """The rule of fastai 2 (callback/schedule.py), loop for loop."""
    n = len(losses)
    max_start, max_end, lengths = 0, 0, [1] * n
    for i in range(1, n):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[max_end] < lengths[i]:
                max_end = i
                max_start = max_end - lengths[max_end]
    sections = (max_end - max_start) / 3
    return rates[max_start + int(sections) + int(sections / 2)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_suggestion_is_that_of_fastai(noise, seed):
    losses = curve(noise=noise, seed=seed)
    assert suggest_learning_rate(RATES, losses) == fastai_valley(RATES[10:-5], smooth(losses)[10:-5])


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("falls_at", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_lies_where_the_loss_falls(falls_at, noise):
    suggestion = suggest_learning_rate(RATES, curve(falls_at, 100 * falls_at, noise))
    assert falls_at / 10 < suggestion < 20 * falls_at


@pytest.mark.parametrize(
    "losses",
    [
        np.ones(100),
        np.linspace(1, 3, 100),
        *(np.linspace(1, 3, 100) + 0.2 * np.random.default_rng(seed).normal(size=100) for seed in range(3)),
    ],
)
def test_no_suggestion_where_the_loss_does_not_fall(losses):
    assert suggest_learning_rate(RATES, losses) is None


def test_what_comes_after_a_loss_that_is_no_number_is_left_out():
    losses = curve()
    cut = 80
    broken = np.where(np.arange(100) < cut, losses, np.nan)
    broken[90] = -1e9
    assert suggest_learning_rate(RATES, broken) == suggest_learning_rate(RATES[:cut], losses[:cut])
    with pytest.raises(ValueError, match="at least 10 finite losses, got 3"):
        suggest_learning_rate(RATES, np.where(np.arange(100) < 3, losses, np.inf))
    with pytest.raises(ValueError, match="equally long"):
        suggest_learning_rate(RATES, losses[:50])


def test_smoothing_is_a_weighted_mean_of_all_so_far():
    losses = np.random.default_rng(0).random(30)
    wanted = [np.average(losses[:n], weights=0.98 ** np.arange(n)[::-1]) for n in range(1, 31)]
    assert np.allclose(smooth(losses), wanted)


def test_lr_find_of_a_classifier(corpus):
    texts, labels = corpus
    found = lr_find(tiny_classifier(batch_size=40), texts, labels, n_steps=60)
    n = len(found.losses)
    assert MIN_POINTS <= n <= 60
    assert np.allclose(found.learning_rates, np.geomspace(1e-6, 10, 60)[:n])
    assert np.allclose(found.smoothed_losses, smooth(found.losses))
    assert np.isfinite(found.losses).all()
    assert 1e-5 < found.suggestion < 5
    assert found.parameters == {"lr": found.suggestion}  # a body from random weights has one rate
    tiny_classifier().set_params(**found.parameters)


def test_lr_find_of_a_language_model(corpus, tmp_path):
    tiny_lm(random_state=0).fit(corpus[0]).save(tmp_path / "lm")
    for lm in (tiny_lm(random_state=0), tiny_lm(pretrained=tmp_path / "lm", random_state=0, max_epochs=0)):
        found = lr_find(lm, corpus[0], n_steps=50)
        assert 1e-4 < found.suggestion < 1
        assert found.losses[0] == pytest.approx(np.log(40), rel=0.4)  # nats per token
        assert found.parameters == {"lr": found.suggestion}
        assert not hasattr(lm, "state_")


def regressor(**params):
    return ULMFiTRegressor(tiny_lm(), batch_size=20, bptt=10, random_state=0, **params)


@pytest.mark.parametrize("y_range", [None, (0, 3)])
@pytest.mark.filterwarnings("ignore:1 of 2 targets are known of none")
def test_lr_find_of_a_regressor(corpus, y_range):
    texts, labels = corpus
    model = regressor(y_range=y_range, early_stopping=True).set_params(batch_size=40)
    found = lr_find(model, texts, [len(row) for row in labels], n_steps=60)
    assert MIN_POINTS <= len(found.losses) <= 60
    if y_range is None:
        assert 1e-5 < found.suggestion < 5
        assert found.parameters == {"lr": found.suggestion}
    assert not hasattr(model, "net_")
    unknown = lr_find(model, texts, np.full((len(texts), 2), [1.0, np.nan]) * np.arange(len(texts))[:, None] % 3)
    assert np.isfinite(unknown.losses).all()


def weights_seen(monkeypatch):
    """Note the language model and the earlier head of each network that is tested."""
    import sk_ulmfit.lr_finder as module

    seen, train = [], module.train_classifier

    def note(data, language_model, *args, **kwargs):
        seen.append((language_model.weights, kwargs["earlier"]))
        return train(data, language_model, *args, **kwargs)

    monkeypatch.setattr(module, "train_classifier", note)
    return seen


@pytest.mark.parametrize("kind", ["classifier", "regressor"])
@pytest.mark.parametrize("has_vector", [False, True])
def test_a_fit_that_goes_on_is_tested_from_its_fitted_weights(corpus, tmp_path, monkeypatch, kind, has_vector):
    texts, labels = corpus
    y = labels if kind == "classifier" else [len(row) for row in labels]
    start = tiny_lm(random_state=0)
    if has_vector:
        with_vector(tiny_lm(random_state=0).fit(texts), tmp_path / "start")
        start = tmp_path / "start"
    params = {"language_model": start, "max_epochs": 2, "unfreezing": "at_once", "warm_start": True}
    model = tiny_classifier(**params) if kind == "classifier" else regressor().set_params(**params)
    model.fit(texts, y)
    fitted = {name: tensor.numpy().copy() for name, tensor in model.net_.module_.state_dict().items()}
    seen = weights_seen(monkeypatch)
    lr_find(model, texts, y, n_steps=20, end_lr=1e-3)
    (weights, earlier), name = seen[0], "encoder.rnns.0.weight_hh_l0"
    np.testing.assert_array_equal(weights[name], fitted[name])
    head = "head.weight" if has_vector else "head.2.weight"
    np.testing.assert_array_equal(earlier.weights[head], fitted[head])
    for tensor_name, tensor in model.net_.module_.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), fitted[tensor_name])
    lr_find(model.set_params(warm_start=False), texts, y, n_steps=20, end_lr=1e-3)
    assert seen[1][1] is None
    assert not np.array_equal(seen[1][0][name], fitted[name])


def test_a_language_model_that_goes_on_is_tested_from_its_fitted_weights():
    texts, _ = make_corpus(60, seed=5)
    lm = tiny_lm(max_epochs=12, lr=0.02, random_state=0, warm_start=True).fit(texts)
    before = lm.perplexity(texts)
    first = lr_find(lm, texts, n_steps=20, end_lr=1e-5).losses[0]
    afresh = lr_find(lm.set_params(warm_start=False), texts, n_steps=20, end_lr=1e-5).losses[0]
    assert first < afresh - 0.5
    assert lm.perplexity(texts) == before


class Spy(LearningRateRangeTest):
    """Notes what the network and the optimiser look like at each step."""

    def on_batch_begin(self, net, training=False, **kwargs):
        super().on_batch_begin(net, training=training, **kwargs)
        self.__dict__.setdefault("seen", []).append(
            ([g["lr"] for g in net.optimizer_.param_groups], all(p.requires_grad for p in net.module_.parameters()))
        )


@pytest.fixture
def spies(monkeypatch):
    made = []

    def make(*args):
        made.append(Spy(*args))
        return made[-1]

    monkeypatch.setattr("sk_ulmfit.lr_finder.LearningRateRangeTest", make)
    return made


def test_groups_keep_their_ratio_and_all_are_trained(corpus, spies):
    body = tiny_lm(random_state=0).fit(corpus[0])
    found = lr_find(tiny_classifier(language_model=body, lr=0.02, batch_size=40), *corpus)
    for (rates, all_trained), rate in zip(spies[0].seen, found.learning_rates, strict=False):
        assert rates == pytest.approx([2 * rate, rate / 2.6**2, rate / 2.6, rate])  # embedding_lr is 2 times lr
        assert all_trained
    assert found.parameters == {"lr": found.suggestion, "embedding_lr": pytest.approx(2 * found.suggestion)}


def test_a_fitted_classifier_is_tested_on_its_own_language_model_as_fit_trains_it(corpus, spies):
    fitted = tiny_classifier(language_model=tiny_lm(max_epochs=8, lr=0.02)).fit(*corpus)
    rates = lr_find(fitted, *corpus, n_steps=20, end_lr=1e-3).learning_rates
    for seen, rate in zip(spies[0].seen, rates, strict=False):
        assert seen[0] == pytest.approx([rate] * 4)  # it began from random weights: one rate


@pytest.mark.parametrize("wrap", [lambda lm: lm, FrozenEstimator], ids=["fitted", "frozen"])
def test_a_fitted_language_model_stays_fitted(corpus, wrap, monkeypatch):
    import sk_ulmfit.lr_finder as module

    seen = []
    train = module.train_classifier

    def note(data, language_model, *args, **kwargs):
        seen.append(language_model)
        return train(data, language_model, *args, **kwargs)

    monkeypatch.setattr(module, "train_classifier", note)
    body = tiny_lm(random_state=0).fit(corpus[0])
    lr_find(tiny_classifier(language_model=wrap(body)), *corpus, n_steps=20, end_lr=0.1)
    assert seen[0] is body.state_


class Never(Callback):
    def on_train_begin(self, net, **kwargs):
        raise AssertionError("the estimator's own callbacks have no part in it")


def test_nothing_else_is_changed(corpus, tmp_path, capsys):
    settings = {
        "threshold": "tune",
        "calibration": "platt",
        "early_stopping": True,
        "tfidf": True,
        "schedule": "one_cycle",
        "memory": tmp_path / "memory",
        "callbacks": [Never()],
        "verbose": 1,
        "random_state": np.random.RandomState(0),
    }
    clf = tiny_classifier(language_model=tiny_lm(verbose=1, memory=tmp_path / "memory"), **settings)
    before = dict(clf.get_params(deep=True))
    states = copy.deepcopy((clf.random_state.get_state()[1], np.random.get_state()[1])), torch.get_rng_state()
    lr_find(clf, *corpus, n_steps=20)
    lr_find(tiny_lm(), corpus[0], n_steps=20)
    lr_find(tiny_classifier(random_state=None), *corpus, n_steps=20)
    assert all(clf.get_params(deep=True)[name] is value for name, value in before.items())
    assert not hasattr(clf, "net_")
    assert not (tmp_path / "memory").exists()
    assert np.array_equal(clf.random_state.get_state()[1], states[0][0])
    assert np.array_equal(np.random.get_state()[1], states[0][1])
    assert torch.equal(torch.get_rng_state(), states[1])
    assert capsys.readouterr().err == ""


def test_one_seed_gives_one_curve(corpus):
    one, two = (lr_find(tiny_classifier(), *corpus, n_steps=20, end_lr=0.1) for _ in range(2))
    assert np.array_equal(one.losses, two.losses)


def test_few_texts_are_read_as_often_as_it_takes(corpus):
    texts, labels = corpus
    weight = np.zeros(len(texts))
    weight[:10] = 1
    found = lr_find(tiny_classifier(), texts, labels, sample_weight=weight, n_steps=40, end_lr=1e-3)
    assert len(found.losses) == 40


def test_the_head_alone_can_be_tested(corpus):
    body = tiny_lm(random_state=0).fit(corpus[0])
    found = lr_find(tiny_classifier(language_model=body, unfreezing="head", batch_size=40), *corpus, n_steps=80)
    assert 1e-5 < found.suggestion < 5
    assert list(found.parameters) == ["lr"]


def test_it_says_when_the_loss_diverges_or_does_not_fall(corpus):
    with pytest.raises(ValueError, match=r"diverges at once, after \d steps from start_lr=1e\+06\. Pass a smaller"):
        lr_find(tiny_lm(random_state=0), corpus[0], start_lr=1e6, end_lr=1e9)
    with pytest.warns(UserWarning, match=r"does not fall between 1\.0e-12 and 1\.0e-11"):
        found = lr_find(tiny_classifier(), *corpus, start_lr=1e-12, end_lr=1e-11, n_steps=20)
    assert found.suggestion is None
    assert found.parameters == {}


def test_a_loss_that_is_no_number_ends_the_test(corpus, monkeypatch):
    end = LearningRateRangeTest.on_batch_end

    def break_it(self, net, loss=None, **kwargs):
        end(self, net, loss=loss * (np.nan if len(self.losses) == 25 else 1), **kwargs)

    monkeypatch.setattr(LearningRateRangeTest, "on_batch_end", break_it)
    found = lr_find(tiny_lm(random_state=0), corpus[0], n_steps=50)
    assert len(found.losses) == len(found.learning_rates) == 25
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "a classifier needs labels"),
        ({"estimator": regressor(), "y": None}, "a regressor needs values"),
        ({"estimator": regressor(), "y": ["a"] * 40}, "every value must be a number"),
        ({"n_steps": 19}, "n_steps must be an integer at least 20"),
        ({"start_lr": 0}, "start_lr must be a number above 0"),
        ({"end_lr": 1e-7}, "end_lr must be a number above 1e-06"),
        ({"estimator": make_pipeline(tiny_lm())}, "got a Pipeline; for a Pipeline, pass its last step"),
        ({"estimator": tiny_classifier(lr=0)}, "lr must be a number above 0"),
        ({"estimator": tiny_lm(), "sample_weight": [1.0] * 40}, "no meaning for a language model"),
    ],
)
def test_wrong_arguments_are_named(corpus, change, message):
    arguments = {"estimator": tiny_classifier(), "X": corpus[0], "y": corpus[1], **change}
    with pytest.raises(ValueError, match=message):
        lr_find(**arguments)
