"""What a strict checker knows of single expressions, and which mistakes it finds; `make types` checks it, nothing runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_type

import joblib  # type: ignore[import-untyped]
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator  # type: ignore[import-untyped]

from sk_ulmfit import (
    MultiLabelStratifiedKFold,
    MultiLabelStratifiedShuffleSplit,
    MultiLabelThresholdTuner,
    TextFieldJoiner,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
    ULMFiTRegressor,
)
from sk_ulmfit.calibration import calibrate, fit_calibration
from sk_ulmfit.datasets import (
    NamedIndicator,
    TextTable,
    fetch_goemotions,
    fetch_reuters21578,
    load_folders,
    load_support_messages,
    load_table,
)
from sk_ulmfit.decisions import decide
from sk_ulmfit.explain import Explanation, Explanations, ValueExplanation
from sk_ulmfit.lr_finder import LearningRateCurve, lr_find
from sk_ulmfit.metrics import expected_calibration_error, multilabel_report, ndcg_at_k
from sk_ulmfit.models import ModelState, load_state
from sk_ulmfit.nn.pooling import TextClassifier
from sk_ulmfit.plotting import LearningRateDisplay, ReliabilityDisplay, ThresholdCurveDisplay
from sk_ulmfit.pretraining import pretrain
from sk_ulmfit.text import StreamedTexts, Vocabulary, tokenize
from sk_ulmfit.thresholds import tune_thresholds
from sk_ulmfit.training.net import MultiLabelNet

Floats = NDArray[np.float64]
LabelLists = list[list[str]]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


def of_a_classifier(clf: ULMFiTMultiLabelClassifier, texts: list[str], y: LabelLists) -> None:
    assert_type(clf.fit(texts, y), ULMFiTMultiLabelClassifier)
    assert_type(clf.fit(texts, y, sample_weight=[1, 2.5]).predict(texts), NDArray[np.int64])
    assert_type(clf.predict_proba(texts), Floats)
    assert_type(clf.predict_labels(texts), list[tuple[Any, ...]])
    assert_type(clf.score(texts, y), float)
    assert_type(clf.thresholds_, Floats)
    assert_type(clf.label_names_, NDArray[Any])
    assert_type(clf.classes_, NDArray[np.int64])
    assert_type(clf.n_labels_, int)
    assert_type(clf.net_, MultiLabelNet)
    assert_type(clf.net_.module_, TextClassifier)
    assert_type(clf.backward_net_.module_, TextClassifier)
    assert_type(clf.history_, list[dict[str, Any]])
    assert_type(clf.vocabulary_, Vocabulary)
    assert_type(clf.language_model_, ULMFiTLanguageModel)
    assert_type(clf.backward_language_model_.history_, list[dict[str, Any]])
    assert_type(clf.metadata_, dict[str, Any])
    assert_type(clf.explain(texts), Explanations[Explanation])
    assert_type(clf.explain(texts)[0].proba, Floats)
    assert_type(clf.explain(texts)[:2], Explanations[Explanation])
    assert_type([item.top_words("late") for item in clf.explain(texts)], list[list[tuple[str, float]]])
    assert_type(clf.get_params(), dict[str, Any])
    assert_type(clf.set_params(top_k=2), ULMFiTMultiLabelClassifier)
    assert_type(clf.set_thresholds({"late": 0.3}), ULMFiTMultiLabelClassifier)
    assert_type(clf.set_fit_request(sample_weight=True).set_score_request(), ULMFiTMultiLabelClassifier)
    assert_type(ULMFiTMultiLabelClassifier.load(Path("m"), device="cpu"), ULMFiTMultiLabelClassifier)


class MyClassifier(ULMFiTMultiLabelClassifier):
    """A subclass keeps its type."""


def of_a_subclass(clf: MyClassifier) -> None:
    assert_type(clf.fit(["a"], [["b"]]).set_params(verbose=1), MyClassifier)
    assert_type(MyClassifier.load("m"), MyClassifier)


def parameters_in_all_forms(lm: ULMFiTLanguageModel, numbers: Floats, series: pd.Series) -> None:
    of = ULMFiTMultiLabelClassifier
    of(lm)
    of(FrozenEstimator(lm))
    of(None)
    of(Path("m"))
    of((lm, FrozenEstimator(lm)), direction="both")
    of(threshold=[0.3, 0.4], pos_weight="balanced")
    of(threshold=numbers, pos_weight=numbers)
    of(threshold=series)
    of(threshold={"late": 0.3}, pos_weight={"late": 2})
    of(threshold={"precision": 0.9}, at_least_one="auto", embedding_lr=None)
    of(threshold="f1_macro", at_least_one=True, embedding_lr=1, callbacks=[object()])
    of(random_state=np.random.RandomState(0), memory=joblib.Memory("c"))
    of(random_state=np.int64(3), memory=Path("c"))
    ULMFiTRegressor(y_range=(1, 5))
    ULMFiTRegressor(y_range=[(1, 5), (0, 2.5)])
    ULMFiTRegressor(y_range=numbers)


def mistakes(clf: ULMFiTMultiLabelClassifier, texts: list[str]) -> None:
    ULMFiTMultiLabelClassifier(unfreezing="gradually")  # type: ignore[arg-type]  # pyright: ignore
    ULMFiTMultiLabelClassifier(direction="left")  # type: ignore[arg-type]  # pyright: ignore
    ULMFiTMultiLabelClassifier(threshold="f1")  # type: ignore[arg-type]  # pyright: ignore
    ULMFiTMultiLabelClassifier(3)  # type: ignore[arg-type]  # pyright: ignore
    ULMFiTMultiLabelClassifier(epochs=3)  # type: ignore[call-arg]  # pyright: ignore
    ULMFiTLanguageModel(precision="int8")  # type: ignore[arg-type]  # pyright: ignore
    ULMFiTRegressor(loss="mse")  # type: ignore[arg-type]  # pyright: ignore
    MultiLabelThresholdTuner(clf, scoring="f1")  # type: ignore[arg-type]  # pyright: ignore
    load_support_messages("dev")  # type: ignore[arg-type]  # pyright: ignore
    load_table("t.csv", text="a", blank="none", labels="b")  # type: ignore[call-overload]  # pyright: ignore
    clf.explain(texts, method="lime")  # type: ignore[arg-type]  # pyright: ignore
    clf.fit(texts)  # type: ignore[call-arg]  # pyright: ignore
    clf.histroy_  # pyright: ignore  # noqa: B018


def of_a_language_model(lm: ULMFiTLanguageModel, texts: list[str]) -> None:
    assert_type(lm.fit(texts), ULMFiTLanguageModel)
    assert_type(lm.transform(texts), NDArray[np.float32])
    assert_type(lm.fit_transform(texts), NDArray[np.float32])
    assert_type(lm.set_output(transform="polars"), ULMFiTLanguageModel)
    assert_type(lm.get_feature_names_out(), NDArray[np.object_])
    assert_type(lm.score(texts), float)
    assert_type(lm.perplexity(texts), float)
    assert_type(lm.state_, ModelState)
    assert_type(lm.pretrained_, str | None)
    assert_type(lm.vocabulary_.words, list[str])
    assert_type(ULMFiTLanguageModel.load("en-small"), ULMFiTLanguageModel)
    assert_type(ULMFiTLanguageModel.from_fastai("a.pth", ["the"]), ULMFiTLanguageModel)


def of_a_regressor(model: ULMFiTRegressor, texts: list[str]) -> None:
    assert_type(model.fit(texts, [1.0]), ULMFiTRegressor)
    assert_type(model.predict(texts), Floats)
    assert_type(model.target_names_, NDArray[Any])
    assert_type(model.n_targets_, int)
    assert_type(model.explain(texts), Explanations[ValueExplanation])
    assert_type(ULMFiTRegressor.load("m").history_, list[dict[str, Any]])


def of_a_tuner(tuner: MultiLabelThresholdTuner, texts: list[str], y: LabelLists) -> None:
    assert_type(tuner.fit(texts, y), MultiLabelThresholdTuner)
    assert_type(tuner.best_thresholds_, Floats)
    assert_type(tuner.best_score_, float)
    assert_type(tuner.cv_results_["scores"], Floats)
    assert_type(tuner.predict(texts), NDArray[np.int64])
    assert_type(tuner.set_params(cv=3), MultiLabelThresholdTuner)


def of_splitters(texts: list[str], y: LabelLists) -> None:
    folds: Iterator[Split] = MultiLabelStratifiedKFold(3).split(texts, y)
    assert_type(next(folds)[0], NDArray[np.int64])
    assert_type(next(MultiLabelStratifiedShuffleSplit(test_size=0.2).split(texts, y))[1], NDArray[np.int64])


def of_tables(maybe: bool) -> None:
    assert_type(load_support_messages(), TextTable[list[str], LabelLists])
    assert_type(load_support_messages("test").labels[0][0], str)
    assert_type(load_table("t.csv", text="a", labels=["b"]).labels, LabelLists)
    assert_type(load_table("t.csv", text="a", label_column="b", blank="unknown").texts, list[str])
    assert_type(load_table("t.csv", text="a").labels, None)
    assert_type(load_table("t.csv", text="a", labels="b", stream=True).texts, StreamedTexts)
    assert_type(load_table("t.csv", text="a", stream=maybe).labels, LabelLists | None)
    assert_type(load_folders("f").labels, LabelLists)
    assert_type(load_support_messages().indicator(), NDArray[Any])
    assert_type(load_support_messages().named_indicator(), NamedIndicator)
    assert_type(fetch_reuters21578().target, NDArray[np.int64])
    assert_type(fetch_goemotions(subset="dev").target_names, list[str])
    assert_type(fetch_reuters21578(return_X_y=True), tuple[list[str], NDArray[np.int64]])
    table: TextTable = load_support_messages()
    assert_type(table.label_names, list[str])


def of_texts(joiner: TextFieldJoiner, frame: pd.DataFrame) -> None:
    assert_type(joiner.fit(frame).transform(frame), NDArray[np.object_])
    assert_type(joiner.set_output(transform="pandas").fit_transform(frame), NDArray[np.object_])
    assert_type(joiner.get_feature_names_out(), NDArray[np.object_])
    assert_type(tokenize("a"), list[str])


def of_functions(y: NDArray[np.int64], proba: Floats, lm: ULMFiTLanguageModel, texts: list[str]) -> None:
    assert_type(tune_thresholds(y, proba, metric="f1_micro"), Floats)
    assert_type(tune_thresholds(y, proba, metric={"precision": 0.9}, sample_weight=[1, 2]), Floats)
    assert_type(decide(proba, tune_thresholds(y, proba), top_k=2), NDArray[np.int64])
    assert_type(calibrate(proba, fit_calibration(y, proba, "temperature")), Floats)
    assert_type(ndcg_at_k(y, proba, k=3), float)
    assert_type(expected_calibration_error(y, proba, average="macro"), float)
    assert_type(multilabel_report(y, y), str)
    assert_type(multilabel_report(y, y, as_frame=True), pd.DataFrame)
    assert_type(multilabel_report(y, y, output_dict=True)["labels"]["late"]["f1"], float | None)
    assert_type(lr_find(lm, texts), LearningRateCurve)
    assert_type(lr_find(lm, texts).suggestion, float | None)
    assert_type(lr_find(lm, texts).parameters, dict[str, float])
    assert_type(load_state("m", "classifier"), ModelState)
    assert_type(pretrain("c.txt", "run"), ModelState)


def of_displays(lm: ULMFiTLanguageModel, texts: list[str], y: LabelLists, proba: Floats, ax: Axes) -> None:
    assert_type(LearningRateDisplay.from_estimator(lm, texts, ax=ax).ax_, Axes)
    assert_type(ReliabilityDisplay.from_predictions(y, proba, strategy="quantile", ax=[ax, ax]).figure_, Figure)
    assert_type(ThresholdCurveDisplay.from_predictions(y, proba).plot().axes_, NDArray[np.object_])
