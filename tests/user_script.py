"""A script as users write them. It must pass ``mypy --strict`` and pyright in strict mode; `make types` checks it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator  # type: ignore[import-untyped]

from sk_ulmfit import (
    MultiLabelStratifiedKFold,
    MultiLabelThresholdTuner,
    TextFieldJoiner,
    ULMFiTLanguageModel,
    ULMFiTMultiLabelClassifier,
    ULMFiTRegressor,
)
from sk_ulmfit.calibration import calibrate, fit_calibration
from sk_ulmfit.datasets import fetch_goemotions, load_support_messages, load_table
from sk_ulmfit.decisions import decide
from sk_ulmfit.lr_finder import lr_find
from sk_ulmfit.metrics import f1_score, mean_average_precision, multilabel_report, multilabel_scorer
from sk_ulmfit.plotting import ReliabilityDisplay, TrainingCurvesDisplay
from sk_ulmfit.thresholds import tune_thresholds


def main(folder: Path, n: int = 60) -> None:
    """Go through what the package offers, on the first `n` messages and with a tiny language model."""
    train, test = load_support_messages(), load_support_messages("test")
    texts: list[str] = train.texts[:n]
    labels: list[list[str]] = train.labels[:n]

    lm = ULMFiTLanguageModel(max_epochs=1, emb_dim=12, hidden_dim=16, n_layers=2, random_state=0).fit(texts)
    losses: list[float] = [row["train_loss"] for row in lm.history_]
    vectors: NDArray[np.float32] = lm.transform(texts)
    lm.save(folder / "lm.model")
    curve = lr_find(lm, texts, n_steps=20)
    rate: float = curve.suggestion or 0.01
    print(len(lm.vocabulary_.words), min(losses), vectors.shape, lm.perplexity(test.texts[:5]), rate)

    clf = ULMFiTMultiLabelClassifier(
        FrozenEstimator(lm),
        max_epochs=1,
        unfreezing="head",
        calibration="platt",
        threshold={"refund": 0.3},
        random_state=0,
    ).fit(texts, labels, sample_weight=np.ones(n))
    proba: NDArray[np.float64] = clf.predict_proba(test.texts[:n])
    names: list[str] = clf.label_names_.tolist()
    print(clf.set_params(top_k=2).predict_labels(texts[:2]), clf.thresholds_.round(2), clf.history_[-1:], clf.n_labels_)
    print(clf.net_.module_, clf.language_model_.perplexity(texts[:2]), clf.get_params()["lr"])
    for word, score in clf.explain(texts[:1], names[:2], method="occlusion")[0].top_words(names[0]):
        print(word.upper(), round(score, 2))
    clf.save(folder / "clf.model", metadata={"by": "me"})
    loaded = ULMFiTMultiLabelClassifier.load(folder / "clf.model")
    print(loaded.metadata_["by"], loaded.predict(texts[:1]).sum())

    truth: NDArray[np.int64] = test.indicator(names)[:n]
    thresholds: NDArray[np.float64] = tune_thresholds(truth, proba, metric={"precision": 0.5})
    decisions: NDArray[np.int64] = decide(
        calibrate(proba, fit_calibration(truth, proba)), thresholds, at_least_one=True
    )
    print(f1_score(truth, decisions, average="micro"), mean_average_precision(truth, proba), truth.mean())
    print(multilabel_report(truth, decisions, label_names=names).splitlines()[0])
    averages: dict[str, float | None] = multilabel_report(truth, decisions, output_dict=True)["averages"]["micro"]
    print(averages["f1"], multilabel_scorer("precision_at_k", k=2)(clf, texts, train.named_indicator()[:n]))
    reliability = ReliabilityDisplay.from_predictions(truth, proba, strategy="quantile")
    reliability.figure_.savefig(folder / "reliability.png")  # pyright: ignore[reportUnknownMemberType]  # of matplotlib
    TrainingCurvesDisplay.from_estimator(lm).axes_[0].set_title("Losses")

    folds = [len(held_out) for _, held_out in MultiLabelStratifiedKFold(3).split(texts, labels)]
    tuner = MultiLabelThresholdTuner(clf.set_params(top_k=None), scoring="f1_micro", cv=0.3).fit(texts, labels)
    print(folds, tuner.best_thresholds_.max(), tuner.best_score_, tuner.predict_labels(texts[:1]))

    stars = [float(len(row)) for row in labels]
    model = ULMFiTRegressor(FrozenEstimator(lm), y_range=(0, 5), max_epochs=1, random_state=0).fit(texts, stars)
    values: NDArray[np.float64] = model.predict(texts)
    print(values.max(), model.score(texts, stars), model.target_names_[0], model.explain(texts[:1])[0].values.item())

    (folder / "mail.csv").write_text("subject,body,topics\nLamp,It flickers,technical;refund\n")
    table = load_table(folder / "mail.csv", text=["subject", "body"], label_column="topics")
    joined = TextFieldJoiner(["subject", "body"]).set_output(transform="default")
    print(table.labels[0][0].upper(), table.texts[0].lower(), joined.columns)


def emotions() -> tuple[list[str], NDArray[np.int64]]:
    """Return public data, which are downloaded."""
    named = fetch_goemotions(subset="dev")
    print(named.target_names[0].upper(), named.target.sum(), named.data[0].upper())
    return fetch_goemotions(return_X_y=True)


if __name__ == "__main__":
    main(Path.cwd())
