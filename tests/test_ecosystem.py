"""The tools that docs/guide/ecosystem.md lists, each on a tiny model; a tool that is not installed is skipped."""

import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline

from sk_ulmfit import MultiLabelStratifiedKFold, TextFieldJoiner, __version__

ROOT = Path(__file__).parents[1]
TEXTS, LABELS = make_corpus(40)
NAMES = ["billing", "delivery", "technical"]
Y = np.array([[name in row for name in NAMES] for row in LABELS]).astype(int)
TYPES = ["sk_ulmfit.classifier.ULMFiTMultiLabelClassifier", "sk_ulmfit.language_model.ULMFiTLanguageModel"]


@pytest.fixture(scope="module")
def start():
    """A fitted language model, which clones keep."""
    return FrozenEstimator(tiny_lm(random_state=0).fit(TEXTS))


@pytest.fixture(scope="module")
def clf(start):
    return tiny_classifier(language_model=start, tfidf=True).fit(TEXTS, LABELS)


@pytest.fixture
def unfitted(start):
    return tiny_classifier(language_model=start, max_epochs=1)


@pytest.fixture(scope="module")
def cv():
    return MultiLabelStratifiedKFold(2, shuffle=True, random_state=0)


@pytest.fixture
def _store(tmp_path, monkeypatch):
    """An empty folder with a store of mlflow in a file."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
def test_scikit_learn_searches(unfitted, cv, search):
    options = {"random_state": 0, "n_iter": 2} if search is RandomizedSearchCV else {}
    found = search(unfitted, {"threshold": [0.3, 0.5], "lr": [0.03]}, cv=cv, scoring="f1_micro", **options)
    found.fit(TEXTS, Y)
    assert found.best_estimator_.predict(TEXTS).shape == Y.shape
    assert not np.isnan(found.cv_results_["mean_test_score"]).any()


def test_optuna(unfitted, cv):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def score(trial):
        model = unfitted.set_params(threshold=trial.suggest_float("threshold", 0.2, 0.6))
        return cross_val_score(model, TEXTS, Y, cv=cv, scoring="f1_micro").mean()

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(score, n_trials=2)
    assert 0.2 <= study.best_params["threshold"] <= 0.6


@pytest.mark.usefixtures("_store")
def test_mlflow_logs_a_training_and_keeps_the_model(start):
    mlflow = pytest.importorskip("mlflow")
    from skorch.callbacks import MlflowLogger

    logger = MlflowLogger(terminate_after_train=False)
    with mlflow.start_run() as run:
        clf = tiny_classifier(language_model=start, early_stopping=True).set_params(callbacks=[])
        clf.set_params(callbacks=[logger]).fit(TEXTS, LABELS)
        logged = mlflow.sklearn.log_model(
            clf, name="classifier", skops_trusted_types=TYPES, registered_model_name="support"
        )
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train_loss")
    assert [point.value for point in history] == pytest.approx([row["train_loss"] for row in clf.history_])
    for uri in (logged.model_uri, "models:/support/1"):
        again = mlflow.sklearn.load_model(uri)
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    served = mlflow.pyfunc.load_model(logged.model_uri)
    np.testing.assert_array_equal(served.predict(TEXTS), clf.predict(TEXTS))


@pytest.mark.usefixtures("_store")
@pytest.mark.parametrize("serialization_format", ["skops", "cloudpickle"])
def test_requirements_of_a_model_in_mlflow_name_this_package(clf, tmp_path, serialization_format):
    """As in an environment in which the package is installed from a wheel."""
    mlflow = pytest.importorskip("mlflow")
    site = tmp_path / "site"
    info = site / f"sk_ulmfit-{__version__}.dist-info"
    info.mkdir(parents=True)
    (site / "sk_ulmfit").symlink_to(ROOT / "sk_ulmfit")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sk-ulmfit\nVersion: {__version__}\n")
    (info / "RECORD").write_text("sk_ulmfit/__init__.py,,\n")
    joblib.dump(clf, tmp_path / "clf.joblib")
    code = f"""
import joblib, mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
options = dict(serialization_format={serialization_format!r}, skops_trusted_types={TYPES!r})
mlflow.sklearn.save_model(joblib.load("clf.joblib"), "saved", **options)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    requirements = (tmp_path / "saved" / "requirements.txt").read_text().splitlines()
    assert f"sk-ulmfit=={__version__}" in requirements, requirements
    np.testing.assert_array_equal(
        mlflow.sklearn.load_model(str(tmp_path / "saved")).predict_proba(TEXTS), clf.predict_proba(TEXTS)
    )


def test_skops(clf, tmp_path):
    skops = pytest.importorskip("skops.io")
    skops.dump(clf, tmp_path / "clf.skops")
    assert set(skops.get_untrusted_types(file=tmp_path / "clf.skops")) <= set(TYPES)
    again = skops.load(tmp_path / "clf.skops", trusted=TYPES)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_joblib(clf, unfitted, cv, tmp_path):
    joblib.dump(clf, tmp_path / "clf.joblib")
    mapped = joblib.load(tmp_path / "clf.joblib", mmap_mode="r")
    np.testing.assert_array_equal(mapped.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    alone = cross_val_score(unfitted, TEXTS, Y, cv=cv, scoring="f1_micro")
    np.testing.assert_array_equal(cross_val_score(unfitted, TEXTS, Y, cv=cv, scoring="f1_micro", n_jobs=2), alone)


def test_dask_as_the_backend_of_joblib(unfitted, cv):
    distributed = pytest.importorskip("dask.distributed")
    alone = cross_val_score(unfitted, TEXTS, Y, cv=cv, scoring="f1_micro")
    cluster = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.Client(**cluster), joblib.parallel_config("dask"):
        spread = cross_val_score(unfitted, TEXTS, Y, cv=cv, scoring="f1_micro")
    np.testing.assert_array_equal(spread, alone)


def test_lime(clf):
    lime = pytest.importorskip("lime.lime_text")
    explainer = lime.LimeTextExplainer(class_names=NAMES, random_state=0)
    text = "My lamp is late again"
    explained = explainer.explain_instance(text, clf.predict_proba, labels=(1,), num_samples=60)
    assert {word for word, _ in explained.as_list(label=1)} <= set(text.split())


def test_shap(clf):
    shap = pytest.importorskip("shap")
    explainer = shap.Explainer(clf.predict_proba, shap.maskers.Text(r"\W+"), output_names=NAMES, silent=True)
    explained = explainer(["My lamp is late again"], max_evals=60)
    total = explained.values[0].sum(axis=0) + explained.base_values[0]
    np.testing.assert_allclose(total, clf.predict_proba(["My lamp is late again"])[0], atol=1e-6)


def test_cleanlab(unfitted, cv):
    cleanlab = pytest.importorskip("cleanlab.multilabel_classification.filter")
    proba = cross_val_predict(unfitted, TEXTS, Y, cv=cv, method="predict_proba")
    labels = [np.flatnonzero(row).tolist() for row in Y]
    issues = cleanlab.find_label_issues(labels, proba, return_indices_ranked_by="self_confidence", n_jobs=1)
    assert set(issues) <= set(range(len(TEXTS)))


def test_skrub(start):
    skrub = pytest.importorskip("skrub")
    import pandas as pd

    frame = pd.DataFrame({"id": range(40), "title": ["Help"] * 40, "body": TEXTS})
    steps = skrub.SelectCols(["title", "body"]), TextFieldJoiner(), tiny_classifier(max_epochs=1)
    pipeline = make_pipeline(*steps).fit(frame, LABELS)
    assert pipeline.predict(frame).shape == Y.shape


def test_datasets(unfitted):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": TEXTS, "labels": LABELS})
    clf = unfitted.fit(data["text"], data["labels"])
    scored = data.map(lambda batch: {"proba": clf.predict_proba(batch["text"]).tolist()}, batched=True, batch_size=16)
    np.testing.assert_allclose(scored["proba"][:], clf.predict_proba(TEXTS), atol=1e-6)


def test_fastapi(clf):
    fastapi = pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    app = fastapi.FastAPI()

    @app.post("/labels")
    def labels(texts: list[str]) -> list[list[str]]:
        return clf.predict_labels(texts)

    answer = testclient.TestClient(app).post("/labels", json=TEXTS)
    assert answer.json() == [list(row) for row in clf.predict_labels(TEXTS)]


def test_tensorboard(start, tmp_path):
    pytest.importorskip("tensorboard")
    from skorch.callbacks import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    callbacks = [TensorBoard(SummaryWriter(str(tmp_path)))]
    clf = tiny_classifier(language_model=start, callbacks=callbacks).fit(TEXTS, LABELS)
    events = EventAccumulator(str(tmp_path)).Reload()
    logged = [event.value for event in events.Scalars("Loss/train_loss")]
    assert logged == pytest.approx([row["train_loss"] for row in clf.history_], rel=1e-6)


def test_the_page_names_a_test_of_this_file_for_each_tool():
    page = (ROOT / "docs" / "guide" / "ecosystem.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    defined = set(re.findall(r"^def (test_\w+)\(", Path(__file__).read_text(), re.MULTILINE))
    assert named == defined - {"test_the_page_names_a_test_of_this_file_for_each_tool"}
