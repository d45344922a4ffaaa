"""Values on a scale go through the stages that labels go through, and into a file and back."""

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector

from sk_ulmfit import ULMFiTLanguageModel
from sk_ulmfit.models.schema import SchemaError, check_config
from sk_ulmfit.models.state import ModelState, load_state, save_state
from sk_ulmfit.nn.losses import SquaredLoss
from sk_ulmfit.training.caching import check_memory
from sk_ulmfit.training.directions import Encoder, merged_config, merged_weights, split, train_networks
from sk_ulmfit.training.prediction import Network, predict_scores, restore_net
from sk_ulmfit.training.settings import ClassifierSettings
from sk_ulmfit.training.task import task_of
from sk_ulmfit.training.valued_texts import check_valued_texts

TEXTS, LABELS = make_corpus(60, seed=3)
Y = np.array([[len(labels), 2.5 * ("delivery" in labels)] for labels in LABELS])


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "vector"
    with_vector(tiny_lm(random_state=0).fit(TEXTS), path, dim=8)
    return ULMFiTLanguageModel.load(path).state_


@pytest.mark.parametrize(
    ("unfreezing", "y_range", "loss"),
    [("head", (0, 3), "squared_error"), ("at_once", None, "squared_error"), ("at_once", (0, 1), "cross_entropy")],
)
def test_values_are_learned_saved_and_predicted(language_model, unfreezing, y_range, loss, tmp_path):
    y = Y / 3 if loss == "cross_entropy" else Y
    data = check_valued_texts(TEXTS, y, y_range=y_range, loss=loss)
    # of a random model, vectors in training and in prediction are far apart with dropout
    params = {"unfreezing": unfreezing, "lr": 0.001, "tfidf": True, "dropout_multiplier": 0.0}
    settings = ClassifierSettings.of(tiny_classifier(**params), seed=0, device="cpu", decisions_from="nothing")
    encoders = [Encoder(language_model, True)]
    networks, linear_model, _ = train_networks(data, encoders, settings, memory=check_memory(None), any_seed=True)
    config = merged_config(networks) | {"one_dimensional": False, "params": {}, "metadata": {}}
    weights = merged_weights([network.weights for network in networks], linear_model)
    save_state(ModelState("regressor", config, networks[0].vocabulary, weights), tmp_path / "m")

    loaded = load_state(tmp_path / "m", "regressor")
    (network,), words = split(loaded)
    net, task = restore_net(network, settings), task_of(loaded.config)
    assert isinstance(net.criterion_, SquaredLoss) == (loss == "squared_error")
    (scores,) = predict_scores([Network(net, network.config)], words, loaded.encode(TEXTS), task, "float32")
    predicted = task.predictions(scores)
    assert (((predicted - y) ** 2).mean(axis=0) < 0.5 * y.var(axis=0)).all()
    if y_range is not None:
        assert y_range[0] <= predicted.min() <= predicted.max() <= y_range[1]


CONFIG = {
    "emb_dim": 12,
    "hidden_dim": 16,
    "n_layers": 2,
    "language": "en",
    "bptt": 10,
    "max_length": None,
    "batch_size": 4,
    "shifts": {},
    "log_odds_range": [[-1, -1], [1, 1]],
    "target_names": ["stars", "length"],
    "target_mean": [3.0, 50.0],
    "target_scale": [1.0, 20.0],
    "y_range": [[1, 0], [5, 100]],
    "loss": "squared_error",
    "one_dimensional": False,
    "params": {},
    "metadata": {},
}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("target_mean", [3.0], "target_mean has 1 numbers for 2 targets"),
        ("target_scale", [1.0, 0.0], "expected a list of numbers above 0"),
        ("y_range", [[1, 0], [5, 0]], "expected a list of least and one of greatest values"),
        ("loss", "absolute", "loss is 'absolute', expected one of"),
        ("label_names", ["a", "b"], "unknown key 'label_names'"),
    ],
)
def test_a_configuration_that_no_regressor_has_is_refused(key, value, expected):
    check_config("regressor", CONFIG)
    with pytest.raises(SchemaError, match=expected):
        check_config("regressor", {**CONFIG, key: value})
