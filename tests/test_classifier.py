import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skorch
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer
from skorch.callbacks import Callback, EpochScoring

from sk_ulmfit import ULMFiTMultiLabelClassifier
from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.text.encoding import encode_texts
from sk_ulmfit.training.net import LanguageModelNet, MultiLabelNet


def test_learns_labels_that_follow_from_words(fitted):
    texts, labels = make_corpus(60, seed=5)
    y = np.array([[name in row for name in fitted.label_names_] for row in labels])
    assert f1_score(y, fitted.predict(texts), average="micro") > 0.9
    assert fitted.history_[-1]["train_loss"] < fitted.history_[0]["train_loss"]


def test_outputs_have_the_promised_shapes(fitted):
    texts = make_corpus(5, seed=3)[0]
    proba, decided = fitted.predict_proba(texts), fitted.predict(texts)
    assert (proba.shape, proba.dtype) == ((5, 3), np.float64)
    assert (decided.shape, decided.dtype) == ((5, 3), np.int64)
    assert np.all((proba > 0) & (proba < 1))
    assert np.array_equal(decided, proba >= 0.5)
    assert fitted.label_names_.tolist() == ["billing", "delivery", "technical"]
    assert fitted.classes_.tolist() == [[0, 1]] * 3
    assert fitted.n_labels_ == 3
    assert fitted.predict_labels(texts) == [tuple(fitted.label_names_[row == 1]) for row in decided]
    assert isinstance(fitted.net_, skorch.NeuralNet)
    assert [len(g) for g in fitted.net_.module_.layer_groups()] == [1, 4, 4, 8]


# --- promise 2: neighbours do not matter ------------------------------------


def words(n, seed):
    """A text of n words, no two neighbours equal, so that it has n + 1 tokens."""
    known = ["lamp", "late", "broken", "please", "hub", "again", "lost"]
    steps = np.random.default_rng(seed).integers(1, len(known), n)
    return " ".join(known[i] for i in np.cumsum(steps) % len(known))


@pytest.mark.parametrize("max_length", [1400, 7])
def test_predictions_do_not_depend_on_neighbours(corpus, max_length):
    bptt = 10
    clf = tiny_classifier(max_epochs=1, max_length=max_length, bptt=bptt).fit(*corpus)
    texts = [words(n, n) for n in range(3 * bptt + 2)]
    assert encode_texts(texts, clf.vocabulary_, "en").lengths.tolist() == list(range(1, 3 * bptt + 3))
    order = np.random.default_rng(0).permutation(len(texts))
    together = clf.predict_proba([texts[i] for i in order])
    alone = np.concatenate([clf.predict_proba([texts[i]]) for i in order])
    assert np.abs(together - alone).max() < 1e-5
    everything = clf.predict_proba(texts * 3)
    assert np.abs(everything[: len(texts)] - everything[-len(texts) :]).max() < 1e-5


def test_order_of_the_texts_is_kept(fitted):
    texts = make_corpus(30, seed=8)[0]
    order = np.random.default_rng(1).permutation(30)
    shuffled = fitted.predict_proba([texts[i] for i in order])
    assert np.allclose(shuffled, fitted.predict_proba(texts)[order], atol=1e-5)
    from sk_ulmfit.training.batching import DocumentDataset

    through_skorch = fitted.net_.predict_proba(DocumentDataset(encode_texts(texts, fitted.vocabulary_, "en")))
    assert np.allclose(through_skorch, fitted.predict_proba(texts), atol=1e-6)


# --- every form of X and y --------------------------------------------------


def test_threads_may_predict_at_once(fitted):
    from concurrent.futures import ThreadPoolExecutor

    parts = [make_corpus(12, seed=s)[0] for s in range(8)]
    wanted = [fitted.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fitted.predict_proba, parts))
    assert all(np.allclose(a, b, atol=1e-7) for a, b in zip(wanted, found, strict=True))


def test_all_forms_of_texts_give_the_same(fitted):
    texts = make_corpus(6, seed=2)[0]
    wanted = fitted.predict_proba(texts)
    for form in (
        tuple(texts),
        np.array(texts),
        np.array(texts, object),
        np.array(texts, np.dtypes.StringDType()),
        pd.Series(texts, index=range(10, 16)),
        pd.Series(texts, dtype="string"),
        pl.Series(texts),
    ):
        assert np.array_equal(fitted.predict_proba(form), wanted)


def test_all_forms_of_labels_give_the_same_model(corpus):
    texts, labels = corpus
    names = ["billing", "delivery", "technical"]
    y = np.array([[name in row for name in names] for row in labels]).astype(int)
    wanted = tiny_classifier(max_epochs=1).fit(texts, y)
    assert wanted.label_names_.tolist() == [0, 1, 2]
    proba = wanted.predict_proba(texts[:4])
    forms = [
        (y.astype(bool), [0, 1, 2]),
        (y.astype(np.float32), [0, 1, 2]),
        (y.tolist(), [0, 1, 2]),
        (sparse.csr_matrix(y), [0, 1, 2]),
        (sparse.coo_array(y), [0, 1, 2]),
        (pd.DataFrame(y, columns=names), names),
        (pd.DataFrame(y == 1, columns=names), names),
        (pl.DataFrame(y, schema=names), names),
        (labels, names),
        ([set(row) for row in labels], names),
    ]
    for form, label_names in forms:
        clf = tiny_classifier(max_epochs=1).fit(texts, form)
        assert clf.label_names_.tolist() == label_names
        assert np.array_equal(clf.predict_proba(texts[:4]), proba)


# --- thresholds -------------------------------------------------------------


def test_threshold_is_read_in_predict(fitted):
    texts = make_corpus(20, seed=4)[0]
    clf = copy.copy(fitted)
    proba = clf.predict_proba(texts)
    for threshold, values in (
        (0.2, [0.2] * 3),
        ([0.1, 0.9, 0.5], [0.1, 0.9, 0.5]),
        ({"delivery": 0.05}, [0.5, 0.05, 0.5]),
        (0, [0, 0, 0]),
        (1, [1, 1, 1]),
    ):
        clf.set_params(threshold=threshold)
        assert clf.thresholds_.tolist() == values
        assert np.array_equal(clf.predict(texts), proba >= values)
        assert np.array_equal(clf.predict_proba(texts), proba)


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (1.5, "between 0 and 1, got 1.5"),
        (-0.1, "between 0 and 1"),
        (float("nan"), "between 0 and 1"),
        ([0.5, 0.5], "one number or 3 numbers, one per label; got shape"),
        ({"deliverry": 0.5}, "unknown label 'deliverry'. The labels are 'billing', 'delivery', 'technical'"),
        ("high", "must be 'auto', a number"),
        ("0.5", "must be 'auto', a number"),
        (None, "between 0 and 1"),
    ],
)
def test_bad_thresholds_are_refused_before_any_training(corpus, threshold, message, monkeypatch):
    for net in (MultiLabelNet, LanguageModelNet):
        monkeypatch.setattr(net, "initialize", lambda self: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        tiny_classifier(threshold=threshold).fit(*corpus)


# --- where the body comes from ----------------------------------------------


def test_a_fitted_or_frozen_language_model_is_used_as_it_is(corpus):
    texts, labels = corpus
    lm = tiny_lm(random_state=0).fit([*texts, "zebra giraffe"])
    weights = {name: array.copy() for name, array in lm.state_.weights.items()}
    direct = tiny_classifier(language_model=lm).fit(texts, labels)
    frozen = clone(tiny_classifier(language_model=FrozenEstimator(lm))).fit(texts, labels)
    assert direct.language_model_ is lm
    assert "zebra" in direct.vocabulary_
    assert np.array_equal(direct.predict_proba(texts), frozen.predict_proba(texts))
    assert all(np.array_equal(weights[name], array) for name, array in lm.state_.weights.items())


def test_an_unfitted_language_model_is_fitted_on_all_texts(corpus):
    texts, labels = corpus
    lm = tiny_lm(max_epochs=2)
    clf = tiny_classifier(language_model=lm).fit(texts, labels, unlabelled_texts=["zebra giraffe"] * 3)
    assert not hasattr(lm, "state_")
    assert len(clf.language_model_.history_) == 2
    assert "zebra" in clf.vocabulary_
    assert len(tiny_classifier(language_model=lm, lm_epochs=0).fit(texts, labels).language_model_.history_) == 0


def test_a_path_is_fine_tuned(corpus, tmp_path):
    texts, labels = corpus
    tiny_lm(random_state=0).fit(texts).save(tmp_path / "lm")
    clf = tiny_classifier(language_model=tmp_path / "lm", lm_epochs=1).fit(texts, labels)
    assert clf.language_model_.pretrained == tmp_path / "lm"
    assert len(clf.language_model_.history_) == 1


@pytest.mark.parametrize("wrong", [3, object, FrozenEstimator(clone(tiny_classifier()))])
def test_other_language_models_are_refused(corpus, wrong):
    with pytest.raises(ValueError, match="language_model"):
        tiny_classifier(language_model=wrong).fit(*corpus)


def test_a_frozen_but_unfitted_language_model_is_refused(corpus):
    with pytest.raises(NotFittedError):
        tiny_classifier(language_model=FrozenEstimator(tiny_lm())).fit(*corpus)


# --- repeatable, interruptible, restorable ----------------------------------


def test_same_seed_same_model_and_other_generators_untouched(corpus):
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (tiny_classifier().fit(*corpus).predict_proba(corpus[0]) for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
    assert not np.array_equal(first, tiny_classifier(random_state=1).fit(*corpus).predict_proba(corpus[0]))


class Interrupt(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_gets_out_and_leaves_no_half_trained_model(corpus, early_stopping):
    clf = tiny_classifier(callbacks=[Interrupt()], early_stopping=early_stopping)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*corpus)
    with pytest.raises(NotFittedError):
        clf.predict(corpus[0])
    assert [name for name in dir(clf) if name.endswith("_") and name[0] != "_" and hasattr(clf, name)] == []


def test_ctrl_c_in_a_second_fit_keeps_the_first_model(corpus):
    clf = tiny_classifier().fit(*corpus)
    before = clf.predict_proba(corpus[0])
    clf.set_params(callbacks=[Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(corpus[0][:20], [["other"]] * 10 + [["delivery"]] * 10)
    assert clf.n_labels_ == 3
    assert np.array_equal(clf.predict_proba(corpus[0]), before)


class KeepWeights(Callback):
    def __init__(self, log):
        self.log = log

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        self.log.append(copy.deepcopy(net.module_.state_dict()))


def test_early_stopping_ends_and_restores_the_best_epoch(corpus):
    weights = []
    settings = {"max_epochs": 40, "lr": 0.2, "early_stopping": True, "n_iter_no_change": 2}
    clf = tiny_classifier(**settings, callbacks=[KeepWeights(weights)]).fit(*corpus)
    losses = [row["valid_loss"] for row in clf.history_]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 40
    kept = clf.net_.module_.state_dict()
    assert all(torch.equal(weights[best][name], tensor) for name, tensor in kept.items())
    assert not all(torch.equal(weights[-1][name], tensor) for name, tensor in kept.items())
    again = tiny_classifier(max_epochs=40, lr=0.2, early_stopping=True, n_iter_no_change=39).fit(*corpus)
    assert len(again.history_) == 40


def test_early_stopping_needs_two_texts():
    with pytest.warns(UserWarning, match="are the same"), pytest.raises(ValueError, match="there are only 1"):
        tiny_classifier(early_stopping=True).fit(["a lamp"], [[1, 0]])


def test_pickle_and_copy_predict_alike_and_stay_lean(fitted):
    texts = make_corpus(5, seed=1)[0]
    wanted = fitted.predict_proba(texts)
    pickled = pickle.dumps(fitted)
    assert np.array_equal(pickle.loads(pickled).predict_proba(texts), wanted)
    assert np.array_equal(copy.deepcopy(fitted).predict_proba(texts), wanted)
    assert not fitted.net_.optimizer_.state
    assert b"flickering" in pickled  # the vocabulary, ...
    assert b"again, please" not in pickled  # ... but not the training texts


def test_save_and_load(fitted, tmp_path):
    texts = make_corpus(5, seed=1)[0]
    clf = copy.copy(fitted).set_params(threshold={"delivery": 0.3})
    clf.save(tmp_path / "model", metadata={"note": "ü"})
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(texts), clf.predict_proba(texts))
    assert loaded.predict_labels(texts) == clf.predict_labels(texts)
    assert loaded.metadata_ == {"note": "ü"}
    assert loaded.history_ == clf.history_
    params, saved = loaded.get_params(), clf.get_params()
    for name in ("language_model", "language_model__emb_dim", "device"):
        assert repr(params.pop(name)) == repr(saved.pop(name))
    assert repr(params) == repr(saved)
    loaded.save(tmp_path / "again")
    assert ULMFiTMultiLabelClassifier.load(tmp_path / "again").metadata_ == {"note": "ü"}
    refitted = loaded.fit(*make_corpus(20))
    assert refitted.predict(texts).shape == (5, 3)


def test_integer_and_numpy_labels_survive_saving(tmp_path):
    texts, y = make_corpus(12)[0], [{7}, {np.int64(9), 7}, set(), {9}] * 3
    clf = tiny_classifier(max_epochs=1, threshold={7: 0.0, 9: 1.0}).fit(texts, y)
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.label_names_.tolist() == [7, 9]
    assert loaded.predict_labels(texts[:2]) == [(7,), (7,)]


# --- what users would expect, hostile input included -------------------------


@pytest.mark.parametrize("n_labels", [1, 2, 5])
def test_any_number_of_labels(corpus, n_labels):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (len(corpus[0]), n_labels))
    clf = tiny_classifier(max_epochs=1).fit(corpus[0], y)
    assert clf.predict(corpus[0]).shape == y.shape


def test_one_document_and_batches_of_one():
    with pytest.warns(UserWarning, match="2 of 2 labels are the same"):
        clf = tiny_classifier().fit(["the lamp is broken"], [[1, 0]])
    assert clf.predict(["the lamp is broken"]).tolist() == [[1, 0]]
    texts, labels = make_corpus(9)
    assert np.isfinite(tiny_classifier(batch_size=1).fit(texts, labels).predict_proba(texts)).all()


def test_constant_labels_are_predicted_as_they_are_with_one_warning(corpus):
    texts, labels = corpus
    y = np.array([[1, 0, "delivery" in row] for row in labels])
    with pytest.warns(UserWarning, match=r"2 of 3 labels .*: 0 \(always 1\), 1 \(always 0\)") as caught:
        clf = tiny_classifier().fit(texts, y)
    assert len(caught) == 1
    assert clf.predict(["anything else", *texts])[:, :2].tolist() == [[1, 0]] * 41


def test_empty_and_unknown_texts_predict(fitted):
    proba = fitted.predict_proba(["", "   \n", "qwxz vbnm", "\x00\x01", "🎉🎉🎉", "שלום", "\ud800"])
    assert np.isfinite(proba).all()
    assert np.allclose(proba[0], proba[1])


def test_training_on_empty_texts(corpus):
    texts, labels = corpus
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "1 of 41 training texts is empty")
        clf = tiny_classifier().fit(["", *texts], [[], *labels])
    assert np.isfinite(clf.predict_proba([""])).all()


def test_a_document_of_200_000_tokens(fitted):
    rng = np.random.default_rng(0)
    long = " ".join(rng.choice(["lamp", "late", "again", "hub"], 200_000))
    proba = fitted.predict_proba([long, "the lamp is late"])
    assert np.isfinite(proba).all()
    assert np.allclose(proba[1], fitted.predict_proba(["the lamp is late"])[0], atol=1e-6)


def test_training_on_a_long_document_among_short_ones(corpus):
    texts, labels = corpus
    long = " ".join(np.random.default_rng(0).choice(["lamp", "late", "again", "hub"], 14_000))
    settings = {"max_epochs": 2, "max_length": None, "bptt": 70, "language_model": tiny_lm(bptt=70)}
    clf = tiny_classifier(**settings).fit([long, *texts], [["delivery"], *labels])
    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", r"got a single str. Wrap it in a list: \[X\]"),
        (b"bytes", "got a single bytes"),
        ([["a", "b"], ["c", "d"]], r"X\[0\] is \['a', 'b'\] of type list; every text must be a str"),
        (np.array([["a", "b"]]), r"must be a 1-D sequence of raw texts, got a ndarray of shape \(1, 2\)"),
        (pd.DataFrame({"title": ["a", "b"], "body": ["a", "b"]}), "Pass one text column, for example X"),
        (["a", None], r"X\[1\] is None; every text must be a str. Replace missing texts"),
        (["a", float("nan")], r"X\[1\] is nan \(a missing value\)"),
        (pd.Series(["a", pd.NA], dtype="string"), r"X\[1\] is <NA>"),
        (["a", 3], r"X\[1\] is 3 of type int"),
        ([b"a", "b"], r"X\[0\] is b'a' of type bytes"),
        ([], "X has 0 texts"),
        ({"a", "b"}, "got a set. Pass a list of str"),
        ({"a": 1, "b": 2}, "got a dict"),
        (None, "got a NoneType"),
        ((t for t in ["a"]), "got a generator"),
        (3, "got a int"),
    ],
)
def test_bad_texts_get_one_clear_line(fitted, X, message):
    for call in (lambda: fitted.predict_proba(X), lambda: tiny_classifier().fit(X, [[1, 0], [0, 1]])):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_epochs": 0}, "max_epochs must be an integer at least 1 or None, got 0"),
        ({"max_epochs": 2.5}, "max_epochs must be an integer at least 1 or None, got 2.5"),
        ({"batch_size": True}, "batch_size must be an integer at least 1 or None, got True"),
        ({"lr": -1}, "lr must be a number at least 0 or None, got -1"),
        ({"lr": float("nan")}, "lr must be a number at least 0 or None, got nan"),
        ({"lr_decay": 0.5}, "lr_decay must be a number at least 1"),
        ({"embedding_lr": 0}, "embedding_lr must be a number above 0, 'auto' or None, got 0"),
        ({"max_length": 0}, "max_length must be an integer at least 1 or None, got 0"),
        ({"lm_epochs": -1}, "lm_epochs must be an integer at least 0 or None"),
        ({"validation_fraction": 1.0}, "validation_fraction must be a number between 0 and 1, got 1.0"),
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"device": "cuda:0"}, "is not available on this machine"),
        ({"device": "meta"}, "is not available on this machine"),
        ({"gradient_clip": 0}, "gradient_clip must be a number above 0 or None, got 0"),
        ({"callbacks": 3}, "callbacks must be a list of skorch callbacks"),
        ({"callbacks": [Callback]}, "callbacks must be a list of skorch callbacks"),
        ({"early_stopping": "no"}, "early_stopping must be True or False, got 'no'"),
        ({"n_jobs": "two"}, "n_jobs must be an integer or None, got 'two'"),
        (
            {"language_model__pretrained": tiny_lm()},
            "pretrained must be 'auto', the name of a bundled model, the path of a saved one",
        ),
        ({"language_model__language": ["en"]}, "language must be a language code"),
    ],
)
def test_bad_parameters_get_one_clear_line(corpus, params, message):
    if "device" in params and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match=message) as caught:
        tiny_classifier().set_params(**params).fit(*corpus)
    assert "\n" not in str(caught.value).replace(repr(tiny_lm()), "")


def test_numbers_of_numpy_are_numbers(corpus, tmp_path):
    integers = {"max_epochs": 1, "batch_size": 8, "bptt": 10, "max_length": 20, "lm_epochs": 1, "n_iter_no_change": 1}
    decimals = {"lr": 0.01, "lr_decay": 2.0, "alpha": 1.0, "beta": 1.0, "gradient_clip": 0.2, "dropout_multiplier": 0.1}
    params = {k: np.int64(v) for k, v in integers.items()} | {k: np.float64(v) for k, v in decimals.items()}
    sizes = {k: np.int64(v) for k, v in {"emb_dim": 8, "hidden_dim": 8, "n_layers": 2, "vocab_size": 64}.items()}
    clf = tiny_classifier(**params, language_model=tiny_lm(**sizes)).fit(*corpus)
    clf.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(corpus[0]), clf.predict_proba(corpus[0]))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_diverged_training_does_not_look_finished(corpus, early_stopping):
    clf = tiny_classifier(lr=1e30, gradient_clip=None, early_stopping=early_stopping)
    with pytest.raises(ValueError, match=r"Training diverged: the loss is .* Pass a learning rate below lr=1e\+30"):
        clf.fit(*corpus)
    assert not hasattr(clf, "net_")


def test_the_net_is_left_in_evaluation_mode(fitted):
    texts = make_corpus(4)[0]
    before = fitted.predict_proba(texts)
    ids = torch.tensor([[2, 9, 8]])
    assert fitted.net_.module_(ids, torch.tensor([3])).shape == (1, 3)
    assert np.array_equal(fitted.predict_proba(texts), before)


def test_score_takes_labels_as_fit_does(fitted):
    texts, labels = make_corpus(20, seed=6)
    y = np.array([[name in row for name in fitted.label_names_] for row in labels])
    wanted = (fitted.predict(texts) == y).all(1).mean()
    assert wanted > 0
    assert fitted.score(texts, y) == wanted
    assert fitted.score(texts, labels) == wanted
    assert fitted.score(texts[:1], [[*labels[0], "never seen"]]) == 0


def test_a_name_of_the_users_choice_for_a_callback(corpus):
    tiny_classifier(early_stopping=True, callbacks=[("EarlyStopping", Callback())], max_epochs=1).fit(*corpus)


def test_metadata_must_fit_into_json(fitted, tmp_path):
    with pytest.raises(ValueError, match="metadata must be a mapping of what JSON can hold"):
        fitted.save(tmp_path / "m", metadata={"n": np.int64(1)})
    assert not (tmp_path / "m").exists()


def test_texts_without_words(corpus):
    y = [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="lm_epochs=0 of the classifier"):
        tiny_classifier().fit(["", ""], y)
    assert np.isfinite(tiny_classifier(lm_epochs=0).fit(["", ""], y).predict_proba(["", "a"])).all()


def test_unlabelled_texts_that_cannot_count(corpus):
    lm = tiny_lm().fit(corpus[0])
    with pytest.warns(UserWarning, match="unlabelled_texts are not used"):
        tiny_classifier(language_model=lm, max_epochs=1).fit(*corpus, unlabelled_texts=["zebra"])
    tiny_classifier(max_epochs=1).fit(*corpus, unlabelled_texts=[])


def test_mismatched_lengths(corpus):
    with pytest.raises(ValueError, match="X has 40 texts, but y has 39 rows"):
        tiny_classifier().fit(corpus[0], corpus[1][:-1])
    with pytest.raises(ValueError, match=r"unlabelled_texts\[1\] is None"):
        tiny_classifier().fit(*corpus, unlabelled_texts=["a", None])


def test_unfitted():
    for method in ("predict", "predict_proba", "predict_labels"):
        with pytest.raises(NotFittedError):
            getattr(tiny_classifier(), method)(["a"])
    with pytest.raises(NotFittedError):
        tiny_classifier().save("model")
    assert not hasattr(tiny_classifier(), "classes_")


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_frozen_encoder_is_run_once_and_kept_as_it_is(monkeypatch, early_stopping):
    texts, labels = make_corpus(120, seed=7)
    lm = tiny_lm(max_epochs=20, emb_dim=24, hidden_dim=32, random_state=0).fit(texts)
    runs = []

    def counted(encoder, ids, offsets, *args, **kwargs):
        runs.append(len(offsets) - 1)
        return pooled_features(encoder, ids, offsets, *args, **kwargs)

    monkeypatch.setattr("sk_ulmfit.training.stages.pooled_features", counted)
    clf = tiny_classifier(language_model=lm, unfreezing="head", max_epochs=30, early_stopping=early_stopping)
    clf.fit(texts, labels)
    assert runs == [len(texts)]
    weights = clf.net_.module_.encoder.state_dict()
    for name, array in lm.state_.weights.items():
        if name.startswith("encoder."):
            assert np.array_equal(weights[name.removeprefix("encoder.")].numpy(), array), name
    other, wanted = make_corpus(60, seed=8)
    probabilities = clf.predict_proba(other)
    truth = MultiLabelBinarizer().fit_transform(wanted)
    assert average_precision_score(truth, probabilities) > truth.mean() + 0.15
    assert clf.history_[-1]["train_loss"] < clf.history_[0]["train_loss"]


def test_a_frozen_encoder_that_has_learned_nothing_is_warned_of():
    texts, labels = make_corpus(20)
    with pytest.warns(UserWarning, match="unfreezing='head' keeps an encoder with random weights"):
        tiny_classifier(unfreezing="head", lm_epochs=0).fit(texts, labels)
    with pytest.raises(ValueError, match="unfreezing must be one of 'auto', 'gradual', 'at_once', 'head'; got 'yes'"):
        tiny_classifier(unfreezing="yes").fit(texts, labels)


def test_scoring_callbacks_work_on_a_frozen_encoder():
    texts, labels = make_corpus(60, seed=7)
    y = MultiLabelBinarizer().fit_transform(labels)
    ranking = EpochScoring("average_precision", lower_is_better=False, name="ranking")
    lm = tiny_lm(random_state=0).fit(texts)
    clf = tiny_classifier(language_model=lm, unfreezing="head", early_stopping=True, callbacks=[ranking])
    clf.fit(texts, y)
    assert all(0 < row["ranking"] <= 1 for row in clf.history_)
