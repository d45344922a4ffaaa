import errno
import pickle

import joblib
import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from skorch.callbacks import Callback

import sk_ulmfit.language_model
import sk_ulmfit.training.directions
from sk_ulmfit import ULMFiTMultiLabelClassifier

TEXTS, LABELS = make_corpus(24)
Y = MultiLabelBinarizer().fit_transform(LABELS)


def counting(real, name, done):
    def counted(*args, **kwargs):
        done.append(name)
        return real(*args, **kwargs)

    return counted


@pytest.fixture
def trained(monkeypatch):
    """Names of the trainings that were really done."""
    done = []
    for module, name in [
        (sk_ulmfit.training.directions, "train_classifier"),
        (sk_ulmfit.language_model, "finetune_language_model"),
    ]:
        monkeypatch.setattr(module, name, counting(getattr(module, name), name, done))
    return done


def same(texts):
    return texts


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_search_over_thresholds_trains_once_per_fold(trained, tmp_path, in_pipeline):
    def search(memory):
        clf = tiny_classifier(memory=memory, max_epochs=1)
        model = make_pipeline(FunctionTransformer(same), clf) if in_pipeline else clf
        prefix = "ulmfitmultilabelclassifier__" if in_pipeline else ""
        grid = {f"{prefix}threshold": [0.3, 0.4, 0.5, 0.6]}
        return GridSearchCV(model, grid, scoring="f1_micro", cv=3).fit(TEXTS, Y)

    remembered = search(tmp_path)
    assert trained.count("train_classifier") == 4
    assert trained.count("finetune_language_model") == 4
    search(tmp_path)
    assert len(trained) == 8
    plain = search(None)
    assert trained.count("train_classifier") == 4 + 13
    np.testing.assert_array_equal(plain.cv_results_["mean_test_score"], remembered.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(plain.predict_proba(TEXTS), remembered.predict_proba(TEXTS))


def test_with_workers_each_model_is_kept_once(tmp_path):
    grid = {"threshold": [0.3, 0.5, 0.6]}
    clf = tiny_classifier(memory=joblib.Memory(tmp_path, verbose=0), max_epochs=1)
    search = GridSearchCV(clf, grid, scoring="f1_micro", cv=2, n_jobs=2).fit(TEXTS, Y)
    assert len(list(tmp_path.rglob("output.pkl"))) == 2 * 3
    alone = clone(clf).set_params(memory=None, threshold=search.best_params_["threshold"]).fit(TEXTS, Y)
    np.testing.assert_array_equal(alone.predict_proba(TEXTS), search.predict_proba(TEXTS))


class Counting(ULMFiTMultiLabelClassifier):
    """Writes a line for every training that is really done, in whichever process."""

    def fit(self, X, y, **params):
        with pytest.MonkeyPatch.context() as patch:
            real = sk_ulmfit.training.directions.train_classifier

            def counted(*args, **kwargs):
                with open(f"{self.memory}.trainings", "a") as file:
                    file.write("trained\n")
                return real(*args, **kwargs)

            patch.setattr(sk_ulmfit.training.directions, "train_classifier", counted)
            return super().fit(X, y, **params)


def test_workers_waste_at_most_one_training(tmp_path):
    clf = Counting(**tiny_classifier(max_epochs=1, memory=tmp_path / "memory").get_params(deep=False))
    GridSearchCV(clf, {"threshold": [0.2, 0.3, 0.4, 0.5]}, scoring="f1_micro", cv=3, n_jobs=2).fit(TEXTS, Y)
    assert len((tmp_path / "memory.trainings").read_text().splitlines()) in (4, 5)


def test_threads_keep_the_models_of_their_seeds(tmp_path):
    def fit(seed):
        return tiny_classifier(memory=tmp_path, random_state=seed, max_epochs=2).fit(TEXTS, Y).predict_proba(TEXTS)

    together = Parallel(n_jobs=3, backend="threading")(delayed(fit)(seed) for seed in range(3))
    for seed, proba in enumerate(together):
        alone = tiny_classifier(random_state=seed, max_epochs=2).fit(TEXTS, Y).predict_proba(TEXTS)
        np.testing.assert_array_equal(proba, alone)


def test_a_search_over_classifier_parameters_finetunes_once_per_fold(trained, tmp_path):
    clf = tiny_classifier(memory=tmp_path, max_epochs=1)
    GridSearchCV(clf, {"lr": [0.01, 0.02, 0.03]}, scoring="f1_micro", cv=KFold(2)).fit(TEXTS, Y)
    assert trained.count("finetune_language_model") == 3
    assert trained.count("train_classifier") == 7


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.2},
        {"top_k": 1},
        {"at_least_one": True},
        {"threshold": 0.3, "top_k": 2},
        {"validation_fraction": 0.5},
        {"n_jobs": 1},
        {"verbose": 1},
        {"max_epochs": np.int64(3)},
    ],
)
def test_what_training_does_not_depend_on_finds_the_model(trained, tmp_path, change):
    clf = tiny_classifier(memory=str(tmp_path))
    clf.fit(TEXTS, Y)
    trained.clear()
    y = np.asfortranarray(Y.astype(float))
    clone(clf).set_params(**change).fit(np.array(TEXTS, object), y, sample_weight=np.full(24, 3))
    assert trained == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lr": 0.02}, ["train_classifier"]),
        ({"tfidf": True}, ["train_classifier"]),
        ({"pos_weight": 2}, ["train_classifier"]),
        ({"early_stopping": True}, ["train_classifier"]),
        ({"threshold": "tune", "validation_fraction": 0.5}, ["train_classifier"]),
        ({"random_state": 1}, ["finetune_language_model", "train_classifier"]),
        ({"lm_epochs": 2}, ["finetune_language_model", "train_classifier"]),
        ({"language_model": tiny_lm(emb_dim=8)}, ["finetune_language_model", "train_classifier"]),
    ],
)
def test_what_training_depends_on_trains_anew(trained, tmp_path, change, expected):
    clf = tiny_classifier(memory=tmp_path)
    clf.fit(TEXTS, Y)
    trained.clear()
    clone(clf).set_params(**change).fit(TEXTS, Y)
    assert trained == expected


def test_other_data_train_anew(trained, tmp_path):
    def fit(texts=TEXTS, y=Y, **more):
        trained.clear()
        tiny_classifier(memory=tmp_path, max_epochs=1).fit(texts, y, **more)
        return trained[:]

    both = ["finetune_language_model", "train_classifier"]
    assert fit() == both
    assert fit() == []
    assert fit([*TEXTS[:-1], "another text"]) == both
    assert fit(unlabelled_texts=["another text"]) == both
    assert fit(y=1 - Y) == ["train_classifier"]
    assert fit(y=np.where(np.arange(len(Y))[:, None] == 0, np.nan, Y)) == ["train_classifier"]
    assert fit(y=LABELS) == ["train_classifier"]  # other names
    assert fit(sample_weight=np.arange(1, 25)) == ["train_classifier"]
    assert fit(sample_weight=2 * np.arange(1, 25)) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_ulmfit.training.caching.__version__", "9.9")
        assert fit() == both


def test_the_content_of_a_language_model_counts_not_its_path(trained, tmp_path):
    first, second = (tiny_lm(random_state=seed).fit(TEXTS) for seed in (0, 1))
    path = tmp_path / "lm"

    def fit(model):
        model.save(path)
        trained.clear()
        tiny_classifier(language_model=path, memory=tmp_path / "memory", max_epochs=1).fit(TEXTS, Y)
        return len(trained)

    assert [fit(first), fit(first), fit(second), fit(first)] == [2, 0, 2, 0]


def test_no_seed_finds_the_first_model(trained, tmp_path):
    clf = tiny_classifier(memory=tmp_path, random_state=None)
    first = clone(clf).fit(TEXTS, Y)
    second = clone(clf).fit(TEXTS, Y)
    assert len(trained) == 2
    np.testing.assert_array_equal(first.predict_proba(TEXTS), second.predict_proba(TEXTS))
    tiny_classifier(random_state=0, memory=tmp_path).fit(TEXTS, Y)
    assert len(trained) == 4


def test_a_random_state_moves_on_all_the_same(trained, tmp_path):
    def two_fits(memory):
        rng = np.random.RandomState(0)
        clf = tiny_classifier(memory=memory, random_state=rng, max_epochs=1)
        return [clf.fit(TEXTS, Y).predict_proba(TEXTS) for _ in range(2)] + [rng.randint(1000)]

    plain, cold, warm = two_fits(None), two_fits(tmp_path), two_fits(tmp_path)
    assert len(trained) == 8
    assert plain[2] == cold[2] == warm[2]
    assert not np.array_equal(warm[0], warm[1])
    for one, two, three in zip(plain[:2], cold[:2], warm[:2], strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(two, three)


def test_a_model_from_disk_is_as_good_as_one_just_trained(tmp_path):
    clf = tiny_classifier(
        memory=joblib.Memory(tmp_path, mmap_mode="r", verbose=0), threshold="tune", validation_fraction=0.4
    )
    one, two = clone(clf).fit(TEXTS, Y), clone(clf).fit(TEXTS, Y)
    np.testing.assert_array_equal(one.predict_proba(TEXTS), two.predict_proba(TEXTS))
    np.testing.assert_array_equal(one.thresholds_, two.thresholds_)
    assert one.history_ == two.history_
    lm = two.language_model_
    assert lm.perplexity(TEXTS) == one.language_model_.perplexity(TEXTS)
    two.net_.module_.head.requires_grad_(True)
    for parameter in two.net_.module_.parameters():
        parameter.data.add_(0.0)  # not a memory map
    two.save(tmp_path / "model")
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert loaded.memory is None
    assert loaded.language_model.memory is None
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), one.predict_proba(TEXTS))
    assert pickle.loads(pickle.dumps(two)).predict(TEXTS).shape == Y.shape


def test_an_interrupted_fit_is_not_kept(trained, tmp_path):
    class Interrupt(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    whole = tiny_classifier(memory=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sk_ulmfit.training.callbacks, "ClipGradient", lambda largest: Interrupt())
        with pytest.raises(KeyboardInterrupt):
            clone(whole).fit(TEXTS, Y)
    assert not list(tmp_path.rglob("output.pkl"))
    trained.clear()
    whole.fit(TEXTS, Y)
    assert len(trained) == 2
    np.testing.assert_array_equal(whole.predict_proba(TEXTS), tiny_classifier().fit(TEXTS, Y).predict_proba(TEXTS))


def test_callbacks_are_heard_each_time(trained, tmp_path):
    heard = []

    class Listen(Callback):
        def on_train_end(self, net, **kwargs):
            heard.append(True)

    clf = tiny_classifier(memory=tmp_path, callbacks=[Listen()])
    for _ in range(2):
        with pytest.warns(UserWarning, match="callbacks is not cached"):
            clf.fit(TEXTS, Y)
    assert len(heard) == 2
    assert trained.count("finetune_language_model") == 1


@pytest.mark.parametrize("estimator", [tiny_lm(), tiny_classifier()])
def test_a_folder_that_cannot_be_written_to_is_refused_before_training(trained, tmp_path, estimator, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"memory=.*cannot be written to .*pass another folder"):
        estimator.set_params(memory=tmp_path / "file" / "folder").fit(TEXTS, Y)
    with pytest.raises(ValueError, match=r"memory must be a folder, a joblib\.Memory or None, got 3"):
        estimator.set_params(memory=3).fit(TEXTS, Y)

    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"cannot be written to \(Permission denied\)"):
        estimator.set_params(memory=tmp_path / "read-only").fit(TEXTS, Y)
    assert trained == []
    assert (tmp_path / "file").read_text() == "mine"
    estimator.set_params(memory=None)


def test_where_no_space_is_left_the_model_is_kept_with_one_warning_each(trained, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("joblib.numpy_pickle.dump", full)
    clf = tiny_classifier(memory=tmp_path)
    with pytest.warns(UserWarning, match="could not be stored in .*No space left on device") as caught:
        clf.fit(TEXTS, Y)
    assert len(caught) == 2
    assert len(trained) == 2
    assert clf.predict(TEXTS).shape == Y.shape
    monkeypatch.undo()
    clone(clf).fit(TEXTS, Y)
    assert len(list(tmp_path.rglob("output.pkl"))) == 2


def test_a_folder_that_goes_away_costs_no_model(tmp_path, monkeypatch):
    import shutil

    real = sk_ulmfit.training.directions.train_classifier

    def removes(*args, **kwargs):
        shutil.rmtree(tmp_path / "memory")
        (tmp_path / "memory").write_text("")
        return real(*args, **kwargs)

    monkeypatch.setattr(sk_ulmfit.training.directions, "train_classifier", removes)
    with pytest.warns(UserWarning, match="could not be stored"):
        clf = tiny_classifier(memory=tmp_path / "memory").fit(TEXTS, Y)
    assert clf.predict(TEXTS).shape == Y.shape


def test_a_damaged_entry_is_trained_anew(trained, tmp_path, capsys):
    clf = tiny_classifier(memory=tmp_path)
    expected = clone(clf).fit(TEXTS, Y).predict_proba(TEXTS)
    for path in tmp_path.rglob("output.pkl"):
        path.write_bytes(path.read_bytes()[:100])
    trained.clear()
    np.testing.assert_array_equal(clone(clf).fit(TEXTS, Y).predict_proba(TEXTS), expected)
    assert len(trained) == 2


def test_anything_with_the_interface_of_a_memory_will_do(trained):
    class Dictionary:
        def __init__(self):
            self.kept = {}

        def cache(self, function, ignore=()):
            def call(digest, work):
                if digest not in self.kept:
                    self.kept[digest] = function(digest, work)
                return self.kept[digest]

            return call

    clf = tiny_classifier(memory=Dictionary(), threshold="tune", validation_fraction=0.4)
    clf.fit(TEXTS, Y)
    before, thresholds = clf.predict_proba(TEXTS), clf.thresholds_
    memory = clf.memory
    other = clone(clf).set_params(memory=memory, calibration="platt").fit(TEXTS, Y)
    assert len(trained) == 2
    assert not np.allclose(other.predict_proba(TEXTS), before)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS), before)
    np.testing.assert_array_equal(clf.thresholds_, thresholds)
