"""Predictions on Dask without a cluster, and on a small one with two worker processes."""

import os
import sys
import time
from importlib import import_module

import joblib
import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from sk_ulmfit import ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.models.state import ModelFileError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
dataframe = pytest.importorskip("dask.dataframe")
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402
from dask import bag  # noqa: E402

from sk_ulmfit.distributed import (  # noqa: E402
    WorkerCheckError,
    model_cache,
    predict,
    predict_labels,
    predict_proba,
    worker_threads,
)
from sk_ulmfit.distributed import worker_checks as checks  # noqa: E402

TEXTS, LABELS = make_corpus(40)


@pytest.fixture(scope="module")
def clf():
    return tiny_classifier(language_model=tiny_lm(random_state=0)).fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def path(clf, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mail.model"
    clf.save(path)
    return path


@pytest.fixture(autouse=True)
def _no_models_in_memory():
    model_cache._MODELS.clear()


@pytest.fixture
def mail():
    """Texts with an id, in three partitions with known divisions."""
    frame = pd.DataFrame({"id": [f"mail {i}" for i in range(40)], "text": TEXTS}, index=range(100, 140))
    return dataframe.from_pandas(frame, npartitions=3)


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


def same(predicted, clf):
    np.testing.assert_allclose(predicted.to_numpy(), clf.predict_proba(TEXTS), atol=1e-6)


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_a_data_frame_keeps_its_index_its_divisions_and_chosen_columns(clf, path, mail, scheduler):
    for model in (clf, path):
        predicted = predict_proba(model, mail, column="text", keep="id")
        assert predicted.divisions == mail.divisions
        assert list(predicted.columns) == ["id", *clf.label_names_]
        with dask.config.set(scheduler=scheduler):
            rows = predicted.compute()
        assert rows.index.tolist() == list(range(100, 140))
        assert rows.pop("id").tolist() == [f"mail {i}" for i in range(40)]
        same(rows, clf)
        assert (predicted.dtypes.drop("id") == "float64").all()


@pytest.mark.slow
def test_processes_of_dask_predict_too(clf, path, mail):
    with dask.config.set(scheduler="processes", num_workers=1):
        same(predict_proba(path, mail, column="text").compute(), clf)


def test_a_series_a_bag_and_parquet_files_come_back_in_order(clf, mail, tmp_path):
    same(predict_proba(clf, mail["text"]).compute(), clf)
    same(predict_proba(clf, bag.from_sequence(TEXTS, npartitions=4)).compute(), clf)
    dicts = bag.from_sequence([{"id": i, "body": text} for i, text in enumerate(TEXTS)], npartitions=4)
    with_id = predict_proba(clf, dicts, column="body", keep=["id"]).compute()
    assert with_id.pop("id").tolist() == list(range(40))
    same(with_id, clf)
    with_text = predict_proba(clf, dicts, column="body", keep=["id", "body"]).compute()
    assert with_text.pop("body").tolist() == TEXTS
    mail.to_parquet(tmp_path / "mail")
    for files in (tmp_path / "mail", f"{tmp_path}/mail/*.parquet", f"file://{tmp_path}/mail"):
        rows = predict_proba(clf, files, column="text", keep="id").compute()
        assert rows.pop("id").tolist() == [f"mail {i}" for i in range(40)]
        same(rows, clf)


def test_decisions_and_names_are_those_of_the_model(clf, path, mail, tmp_path):
    decided = predict(clf, mail, column="text")
    assert (decided.dtypes == "int64").all()
    np.testing.assert_array_equal(decided.compute().to_numpy(), clf.predict(TEXTS))
    schema = pa.schema({"id": pa.string(), "predicted_labels": pa.list_(pa.string())})
    labels = predict_labels(path, mail, column="text", keep="id")
    labels.to_parquet(tmp_path / "labels", schema=schema, write_index=False)
    rows = dataframe.read_parquet(tmp_path / "labels").compute()
    assert [tuple(row) for row in rows["predicted_labels"]] == clf.predict_labels(TEXTS)
    all_labels = predict_labels(path, mail, column="text", threshold=0.0).compute()["predicted_labels"]
    assert all(tuple(row) == tuple(clf.label_names_) for row in all_labels)


def test_a_regressor_predicts_values(mail):
    model = ULMFiTRegressor(tiny_lm(), max_epochs=1, random_state=0).fit(TEXTS, np.arange(40.0))
    values = predict(model, mail, column="text").compute()
    np.testing.assert_allclose(values.to_numpy()[:, 0], model.predict(TEXTS), atol=1e-4)
    with pytest.raises(ValueError, match="predict_labels is of classifiers, and the model is a regressor; use predict"):
        predict_labels(model, mail, column="text")


def test_several_columns_are_joined_as_fields(clf, mail):
    from sk_ulmfit.text import join_fields

    rows = predict_proba(clf, mail, column=["id", "text"]).compute()
    joined = [join_fields([f"mail {i}", text]) for i, text in enumerate(TEXTS)]
    np.testing.assert_allclose(rows.to_numpy(), clf.predict_proba(joined), atol=1e-6)


def test_text_columns_are_those_of_the_training(clf, mail, tmp_path):
    clf.save(tmp_path / "noted", metadata={"text": ["text"]})
    same(predict_proba(tmp_path / "noted", mail).compute(), clf)
    with pytest.raises(ValueError, match=r"Name the text column with column=...; the columns are 'id', 'text'"):
        predict_proba(clf, mail)


def test_empty_partitions_stay_empty(clf, mail):
    rows = predict_labels(clf, mail[mail["id"] == "mail 1"], column="text").compute()
    assert rows.index.tolist() == [101]
    empty = predict_proba(clf, mail[mail["id"] == "none"], column="text").compute()
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_text_is_an_error_that_names_its_row(clf, mail, missing):
    frame = mail.compute()
    frame.loc[117, "text"] = missing
    texts = dataframe.from_pandas(frame, npartitions=2)
    predicted = predict_proba(clf, texts, column="text")
    with pytest.raises(ValueError, match=r"index 117: the text is .*every text must be a str\. Replace missing texts"):
        predicted.compute(scheduler="synchronous")


def test_wrong_arguments_are_errors_at_once(clf, mail, tmp_path):
    for arguments, message in [
        ({"texts": TEXTS}, "texts must be a bag, DataFrame or Series of Dask, or the path of Parquet files"),
        ({"texts": tmp_path / "none"}, "holds no Parquet files that can be read"),
        ({"texts": "nosuch://mail"}, "holds no Parquet files that can be read"),
        ({"column": "body"}, "texts has no column 'body'. Its columns are 'id', 'text'."),
        ({"column": "text", "keep": "number"}, "texts has no column 'number'"),
        ({"texts": mail["text"], "keep": "id"}, "texts is a Series"),
        ({"texts": mail["text"], "column": "text"}, "texts is a Series"),
        ({"texts": mail.rename(columns={"id": "billing"}), "column": "text", "keep": "billing"}, "rename them first"),
        ({"model": 3}, "model must be the path of a saved model, or a fitted"),
        ({"n_threads": 0}, "n_threads"),
        ({"texts": mail.rename(columns={"id": "text"}), "column": "text"}, "texts has several columns 'text'"),
        ({"column": "text", "keep": ["id", "id"]}, "Column 'id' is named twice"),
    ]:
        with pytest.raises(ValueError, match=message.replace(".", r"\.")):
            predict_proba(**{"model": clf, "texts": mail, **arguments})
    with pytest.raises(ModelFileError, match="There is no file"):
        predict_proba(tmp_path / "none", mail, column="text")
    with pytest.raises(ValueError, match="threshold"):
        predict_labels(clf, mail, column="text", threshold={"unknown": 0.5})


def test_a_process_loads_a_model_once_and_frees_it_later(clf, path, mail, monkeypatch):
    loaded = []
    load = ULMFiTMultiLabelClassifier.load
    monkeypatch.setattr(
        ULMFiTMultiLabelClassifier, "load", lambda *args, **more: loaded.append(1) or load(*args, **more)
    )
    predicted = predict_proba(path, mail, column="text")
    predicted.compute(scheduler="threads", num_workers=3)
    predict_proba(path, mail, column="text").compute()
    assert len(loaded) == 1
    predict_labels(path, mail, column="text", threshold=0.1).compute()
    predict_labels(path, mail, column="text", threshold=0.2).compute()
    assert len(model_cache._MODELS) == model_cache.MOST
    monkeypatch.setattr(model_cache, "IDLE", 0.0)
    monkeypatch.setattr(model_cache, "_look_again_in", lambda seconds: None)
    model_cache._free_unused()
    assert not model_cache._MODELS
    same(predicted.compute(), clf)


def test_a_model_that_was_replaced_is_noticed(clf, mail, tmp_path):
    clf.save(tmp_path / "model")
    predicted = predict_proba(tmp_path / "model", mail, column="text")
    tiny_classifier(max_epochs=1).fit(TEXTS, LABELS).save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="holds another model now"):
        predicted.compute(scheduler="synchronous")


def test_tasks_set_the_threads_of_torch_and_set_them_back(clf, mail, monkeypatch):
    seen = []
    predict_proba_of = ULMFiTMultiLabelClassifier.predict_proba

    def watched(self, texts):
        seen.append(torch.get_num_threads())
        return predict_proba_of(self, texts)

    monkeypatch.setattr(ULMFiTMultiLabelClassifier, "predict_proba", watched)
    torch.set_num_threads(2)
    predict_proba(clf, mail, column="text").compute(scheduler="synchronous")
    assert set(seen) == {2}  # one task at a time
    predict_proba(clf, mail, column="text", n_threads=1).compute(scheduler="synchronous")
    assert seen[3:] == [1, 1, 1]
    assert torch.get_num_threads() == 2
    predict_proba(clf, mail, column="text").compute(scheduler="threads")
    assert seen[6:] == [1, 1, 1]


def models_in_memory():
    return len(model_cache._MODELS)


def test_each_worker_loads_the_model_once(client, clf, path, mail):
    client.run(model_cache._MODELS.clear)
    predicted = predict_proba(path, mail.repartition(npartitions=8), column="text")
    assert list(client.run(models_in_memory).values()) == [1, 1]  # the check has loaded it
    assert models_in_memory() == 0
    same(predicted.compute(), clf)
    assert list(client.run(models_in_memory).values()) == [1, 1]


def test_a_fitted_model_is_in_the_graph_once(client, clf, mail):
    predicted = predict_proba(clf, mail.repartition(npartitions=8), column="text")
    n_bytes = len(distributed.protocol.pickle.dumps(predicted.optimize().dask))
    alone = len(distributed.protocol.pickle.dumps(predict_proba(clf, mail["text"].partitions[0]).optimize().dask))
    assert n_bytes < 1.5 * alone
    same(predicted.compute(), clf)


def set_version(version):
    import_module("sk_ulmfit").__version__ = version


def test_workers_that_cannot_do_it_are_named_at_once(client, path, mail, tmp_path):
    first, second = client.scheduler_info(n_workers=-1)["workers"]
    version = import_module("sk_ulmfit").__version__

    def problem(model=path):
        with pytest.raises(WorkerCheckError) as raised:
            predict_proba(model, mail, column="text")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    client.run(set_version, "0.0.1", workers=[second])
    assert problem() == (
        f"Worker {second}: there is sk_ulmfit 0.0.1, and here {version}; install the same version on every worker."
    )
    client.run(set_version, version, workers=[second])

    damaged = tmp_path / "damaged.model"
    damaged.write_bytes(path.read_bytes()[:-4] + b"oops")
    assert problem(damaged).startswith(f"Worker {first} and 1 other: {damaged} is damaged")
    assert "and 1 other: there is no file" in problem(tmp_path / "none.model")


def test_a_path_that_one_worker_does_not_see(client, path, mail, monkeypatch, tmp_path):
    first, second = client.scheduler_info(n_workers=-1)["workers"]
    monkeypatch.chdir(path.parent)
    client.run(os.chdir, str(path.parent), workers=[first])
    client.run(os.chdir, str(tmp_path), workers=[second])
    own = f"/proc/self/cwd/{path.name}"  # the folder that each process is in
    with pytest.raises(WorkerCheckError, match=f"Worker {second}: there is no file {own}; save the model where all"):
        predict_proba(own, mail, column="text")
    tiny_classifier(max_epochs=1).fit(TEXTS, LABELS).save(tmp_path / path.name)
    with pytest.raises(WorkerCheckError, match=f"Worker {second}: {own} holds another model now"):
        predict_proba(own, mail, column="text")
    monkeypatch.chdir("/")  # the client sees no model; the workers see two
    with pytest.raises(WorkerCheckError, match=r"holds another model than on other workers"):
        predict_proba(own, mail, column="text")


def test_a_worker_without_the_package(mail, path):
    class Answers:
        def run(self, function, on_error):
            hidden = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "sk_ulmfit"}
            sys.modules.update(dict.fromkeys(hidden))
            try:
                return {"tcp://10.0.0.1:1": function()}
            except Exception as error:
                return {"tcp://10.0.0.1:1": error}
            finally:
                sys.modules.update(hidden)

    with pytest.raises(WorkerCheckError, match=r"Worker tcp://10.0.0.1:1: sk_ulmfit cannot be imported there; install"):
        checks.check_package(Answers())


def threads_of_torch():
    return torch.get_num_threads()


def test_threads_of_workers_are_set_and_set_back(client):
    def in_tasks():
        futures = [client.submit(threads_of_torch, pure=False, workers=[address]) for address in client.ncores()]
        return client.gather(futures)

    before = in_tasks()
    with worker_threads(client, n_threads=3):
        assert in_tasks() == [3, 3]
    assert in_tasks() == before
    with worker_threads():
        assert in_tasks() == [max(1, dask.system.CPU_COUNT // 2)] * 2
    assert in_tasks() == before


NAMES = ["billing", "delivery", "technical"]
Y = np.array([[name in row for name in NAMES] for row in LABELS]).astype(int)


def count_trainings(log, seconds=0.0):
    """Write a line to a file for each training of a network on a worker, and let it last so many seconds more."""
    directions = import_module("sk_ulmfit.training.directions")
    real = directions.train_classifier

    def counted(*args, **kwargs):
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
        time.sleep(seconds)
        return real(*args, **kwargs)

    directions.train_classifier = counted


def test_a_search_on_dask_has_the_same_scores_and_trains_each_model_once(client, tmp_path):
    clf = tiny_classifier(max_epochs=1)
    grid, options = {"threshold": [0.2, 0.5]}, {"scoring": "f1_micro", "cv": KFold(2)}
    alone = GridSearchCV(clf, grid, **options).fit(TEXTS, Y)
    client.run(count_trainings, str(tmp_path / "trainings"))
    clf.set_params(memory=tmp_path / "memory")
    with worker_threads(client), joblib.parallel_config("dask"):
        search = GridSearchCV(clf, grid, **options).fit(TEXTS, Y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    lines = (tmp_path / "trainings").read_text().splitlines()
    assert len(lines) == 2  # one for each fold; the last fit, on all texts, is in this process
    np.testing.assert_array_equal(search.predict_proba(TEXTS), alone.predict_proba(TEXTS))


def fit_alone(memory, ready):
    """Fit at the same time as another worker, and return probabilities."""
    open(f"{ready}-{os.getpid()}", "w").close()
    while len(list(ready.parent.glob(f"{ready.name}-*"))) < 2:
        time.sleep(0.01)
    return tiny_classifier(memory=memory, max_epochs=1).fit(TEXTS, Y).predict_proba(TEXTS)


def test_two_workers_that_want_the_same_model_train_it_once(client, tmp_path):
    client.run(count_trainings, str(tmp_path / "trainings"), 5.0)
    tasks = [
        client.submit(fit_alone, tmp_path / "memory", tmp_path / "ready", workers=[address], pure=False)
        for address in client.ncores()
    ]
    first, second = client.gather(tasks)
    np.testing.assert_array_equal(first, second)
    assert len((tmp_path / "trainings").read_text().splitlines()) == 1


def test_a_fit_in_a_task_starts_no_other_tasks(client):
    """joblib would send the SVMs of each label to the cluster, where they wait for a worker that waits for them."""
    clf = tiny_classifier(max_epochs=1, tfidf=True, n_jobs=2)
    client.get_task_stream(count=1)  # which tasks there are is noted from here on
    with joblib.parallel_config("dask"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sk_ulmfit.training.linear_training.MIN_WORK_FOR_WORKERS", 0)
        client.run(send_all_svms)
        scores = cross_val_score(clf, TEXTS, Y, cv=KFold(2), scoring="f1_micro")
    assert not np.isnan(scores).any()
    keys = [str(task["key"]) for task in client.get_task_stream(count=1000)]
    assert [key for key in keys if "fit_and_score" in key]
    assert not [key for key in keys if "fit_svm" in key]


def send_all_svms():
    import_module("sk_ulmfit.training.linear_training").MIN_WORK_FOR_WORKERS = 0


def kill_once(texts, mark):
    """End the worker that comes first."""
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(1)
    return texts


def test_a_worker_that_is_lost_costs_no_row(client, clf, path, mail, tmp_path):
    texts = mail.repartition(npartitions=8).map_partitions(kill_once, str(tmp_path / "killed"), meta=mail._meta)
    predicted = predict_proba(path, texts, column="text", keep="id").compute()
    assert (tmp_path / "killed").exists()
    assert predicted.pop("id").tolist() == [f"mail {i}" for i in range(40)]
    same(predicted, clf)
    client.wait_for_workers(2)
