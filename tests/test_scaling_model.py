"""The model behind the tables of docs/guide/many-machines.md, against its formulas."""

import importlib.util
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model():
    path = ROOT / "benchmarks" / "scaling_model.py"
    spec = importlib.util.spec_from_file_location("scaling_model", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["scaling_model"] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


def network(model, bandwidth=1e9, latency=0.0):
    link = model.Link(bandwidth, latency)
    return model.Network(link, link, 1)


def test_one_process_has_its_measured_rate_and_exchanges_nothing(model):
    training = model.Training(4400.0, 4480, model.Gradient(1e9, 1e3, 60_000, 60_000, 0))
    assert model.training_rate(training, 1, network(model, 1.0)) == pytest.approx(4400)


def test_many_processes_are_bounded_by_the_network(model):
    gradient = model.Gradient(10e6, 1000.0, 60_000, 60_000, 0)
    training = model.Training(1e9, 4480, gradient)  # computing costs next to nothing
    seconds = 2 * 9 / 10 * (10e6 + 60e6) / 1e9  # a ring, 2 (n - 1) / n times the bytes
    assert model.training_rate(training, 10, network(model)) == pytest.approx(10 * 4480 / seconds, rel=1e-2)
    assert model.training_rate(training, 10, network(model, 2e9)) == pytest.approx(20 * 4480 / seconds, rel=1e-2)


def test_rows_that_some_process_has_used_are_added_up_and_never_more_than_all(model):
    gradient = model.Gradient(0.0, 1000.0, 60_000, 4_000, 1_500)
    assert gradient.n_bytes(1) == pytest.approx(5_500 * 1000)
    assert gradient.n_bytes(10) == pytest.approx((4_000 + 1_500 * 10**0.65) * 1000)
    assert gradient.n_bytes(10_000) == 60e6


def test_efficiency_falls_with_processes_and_rises_with_the_batch(model):
    gradient = model.gradient_of(60_000, 256, 576, 2, 4_096, 1_500)
    small, large = (model.Training(4400.0, n, gradient) for n in (4480, 44800))
    values = [model.efficiency(small, n, network(model, latency=1e-4)) for n in (1, 2, 10, 100, 1000)]
    assert values == sorted(values, reverse=True)
    assert model.efficiency(large, 100, network(model)) > model.efficiency(small, 100, network(model))


def test_bytes_of_a_gradient_are_those_of_the_network(model):
    from sk_ulmfit.nn.modules import AWDLSTM

    gradient = model.gradient_of(100, 8, 12, 3, 100, 0)
    encoder = AWDLSTM(100, 8, 12, 3)
    n_embedding = sum(p.numel() for name, p in encoder.named_parameters() if "embedding" in name)
    assert gradient.n_bytes(1) - gradient.layers == 4 * n_embedding == 4 * 100 * 8
    assert gradient.layers == 4 * (sum(p.numel() for p in encoder.parameters()) - n_embedding)


def test_more_machines_of_gpus_use_the_link_between_them(model):
    links = model.Network(model.Link(300e9, 0), model.Link(50e9, 0), 8)
    assert [links.link(n).bandwidth for n in (1, 8, 9, 64)] == [300e9, 300e9, 50e9, 50e9]


def test_prediction_is_bounded_by_workers_or_by_the_scheduler(model):
    assert model.prediction_seconds(1e6, 3e-3, 10, 1000, 1e-3) == pytest.approx(300)
    assert model.prediction_seconds(1e6, 3e-3, 10**6, 1000, 1e-3) == pytest.approx(1)


def test_fits_of_a_search_come_in_rounds_and_the_best_is_fitted_once_more(model):
    assert model.search_seconds(100, 8.0, 1) == 808
    assert model.search_seconds(100, 8.0, 60) == 24
    assert model.search_seconds(100, 8.0, 100) == model.search_seconds(100, 8.0, 1000) == 16


def test_a_corpus_is_bounded_by_processes_by_the_disk_or_by_the_one_that_checks(model):
    job = model.Preparation(1e9, 5.0, 2e6, 1e9, 20e6, 40e6)
    assert model.preparation_seconds(job, 10) == pytest.approx((50.0, 1.2, 5.0))
    bounded = model.preparation_seconds(job, 10**6)
    assert bounded == pytest.approx(((1 + 0.8) * 1e9 / 1e9, (0.8 + 0.4) * 1e9 / 1e9, 5.0))


def test_the_tables_of_the_guide_are_what_the_script_prints(model):
    page = (ROOT / "docs" / "guide" / "many-machines.md").read_text(encoding="utf-8")
    for part in model.report(model.parser().parse_args([])).split("\n\n"):
        if part.startswith("|"):
            assert part in page


def test_an_option_changes_what_it_names(model):
    report = {price: model.report(model.parser().parse_args(["--gpu-price", price])) for price in ("3", "6")}
    assert report["3"] != report["6"]
    assert model.price(7200.0, 8, 3.0) == 48
    assert math.isclose(model.price(3600, 1, 0.05), 0.05)
