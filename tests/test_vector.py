"""The network's vector of a text: formulas, gradients, precision, files, training."""

import itertools

import numpy as np
import pytest
import torch
from conftest import make_corpus, tiny_classifier, tiny_lm, with_vector
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit

from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
from sk_ulmfit.models.assembly import build_classifier, build_language_model
from sk_ulmfit.models.state import load_state
from sk_ulmfit.models.vocabulary import fit_vocabulary
from sk_ulmfit.nn import features, modules, pooling
from sk_ulmfit.nn.features import pooled_features
from sk_ulmfit.nn.losses import MultiLabelLoss
from sk_ulmfit.nn.modules import LinearHead
from sk_ulmfit.text.vocabulary import Vocabulary

CONFIG = {"emb_dim": 5, "hidden_dim": 7, "vector_dim": 4, "label_names": ["a", "b"], "bptt": 4}
DROPOUT = {"input_p": 0.3, "hidden_p": 0.3, "weight_p": 0.5, "embed_p": 0.2}


def make(n_layers=2, max_length=None, dtype=torch.float64, **dropout):
    torch.manual_seed(0)
    model = build_classifier({**CONFIG, "n_layers": n_layers, "max_length": max_length}, 20, 0.0)
    torch.nn.init.normal_(model.vector.word_weight)
    torch.nn.init.normal_(model.vector.bias)
    for name, p in dropout.items():
        setattr(model.encoder, name, p)
    return model.to(dtype)


def random_batch(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 20, (len(lengths), max(lengths)), generator=generator), torch.tensor(lengths)


def as_corpus(ids, lengths):
    lengths = [int(n) for n in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.concatenate([row[:n] for row, n in zip(ids.numpy(), lengths, strict=True)]).astype(np.int32), offsets


def run_lstm(rnn, x):
    """Run one LSTM layer over (time, n_in) in numpy, as its equations say."""
    w_ih, w_hh, b_ih, b_hh = (p.detach().double().numpy() for p in rnn.parameters())
    h = c = np.zeros(w_hh.shape[1])
    outputs = []
    for step in x:
        i, f, g, o = np.split(w_ih @ step + b_ih + w_hh @ h + b_hh, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def reference(model, ids):
    """The vector of one text in plain numpy."""
    embedding = model.encoder.embedding.weight.detach().double().numpy()
    kept = ids if model.max_length is None else ids[-model.max_length :]
    weight = model.vector.word_weight.detach().double().numpy()
    words = sum(weight[i, 0] * embedding[i] for i in kept) / len(kept)
    n_layers = len(model.encoder.rnns)
    pooled, x = [], embedding[ids]
    for rnn in model.encoder.rnns[: max(1, n_layers - 1)]:
        x = run_lstm(rnn, x)
        pooled.append(x[-len(kept) :].mean(0))
    matrix, bias = (p.detach().double().numpy() for p in (model.vector.weight, model.vector.bias))
    assert matrix.shape == (4, 7 * (n_layers - 1) + 5 if n_layers > 1 else 10)
    vector = matrix @ np.concatenate([*pooled, words]) + bias
    return vector / np.linalg.norm(vector)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 14), min_size=1, max_size=9),
    st.sampled_from([None, 1, 3, 6]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 3, 8, 128]),
    st.sampled_from([1, 4, 32]),
)
def test_vectors_equal_the_formula_in_training_and_in_prediction(lengths, max_length, n_layers, rows, window):
    model = make(n_layers, max_length).eval()
    ids, lengths = random_batch(lengths)
    expected = np.array([reference(model, row[:n].numpy()) for row, n in zip(ids, lengths, strict=True)])
    with torch.no_grad():
        assert np.allclose(model.pool(ids, lengths).features.numpy(), expected, atol=1e-10)
        assert torch.allclose(model(ids, lengths), model.head(torch.from_numpy(expected)), atol=1e-10)
    corpus = as_corpus(ids, lengths)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ROWS", rows), ("WINDOW", window), ("LONGEST_WINDOW", 3 * window)):
            patch.setattr(features, name, value)
        found = pooled_features(model.encoder, *corpus, max_length, vector=model.vector)
        logits = pooled_features(model.encoder, *corpus, max_length, model.head, vector=model.vector)
    assert found.shape == (len(lengths), 4)
    assert np.allclose(found.numpy(), expected, atol=1e-10)
    assert torch.allclose(logits, model.head(found), atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 14), min_size=1, max_size=9), st.sampled_from([1, 2, 3]))
def test_a_language_model_computes_the_same_vectors(lengths, n_layers):
    model = make(n_layers).eval()
    lm = build_language_model({**CONFIG, "n_layers": n_layers}, 20, 1.0).double().eval()
    lm.encoder, lm.vector = model.encoder, model.vector
    ids, lengths = random_batch(sorted(lengths, reverse=True))
    dropped, raw, vectors = lm.read_texts(ids, lengths)
    assert torch.allclose(vectors, model.pool(ids, lengths).features, atol=1e-10)
    for one, other in zip((dropped, raw), lm(ids, lengths)[:2], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_only_layers_that_run_are_copied_to_fewer_bits(precision):
    model = make(3, dtype=torch.float32).eval()
    ids, lengths = random_batch([9, 4])
    pooled_features(model.encoder, *as_corpus(ids, lengths), None, precision=precision, vector=model.vector)
    assert len(model.encoder._evaluated[precision][1]) == 2
    with torch.no_grad():
        outputs, _ = model.encoder(ids, lengths, precision=precision)  # the last layer too
        model.encoder.eval()  # copies are made anew
        assert torch.equal(outputs, model.encoder(ids, lengths, precision=precision)[0])


def test_no_text_gives_no_vector():
    model = make().eval()
    none = np.empty(0, np.int32), np.array([0])
    assert pooled_features(model.encoder, *none, None, vector=model.vector).shape == (0, 4)
    assert pooled_features(model.encoder, *none, None, model.head, vector=model.vector).shape == (0, 2)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-3), ("int8", 1e-5)])
def test_a_text_alone_has_the_same_vector(precision, tolerance):
    model = make(dtype=torch.float32).eval()
    lengths = [40, 3, 33, 64, 1, 90, 32, 31, 2, 65, 8, 8, 8]
    ids, offsets = as_corpus(*random_batch(lengths))
    together = pooled_features(model.encoder, ids, offsets, 50, precision=precision, vector=model.vector)
    exact = pooled_features(model.encoder, ids, offsets, 50, vector=model.vector)
    assert torch.allclose(together, exact, atol=0.01)
    for row, (a, b) in enumerate(itertools.pairwise(offsets)):
        alone = pooled_features(
            model.encoder, ids[a:b], np.array([0, b - a]), 50, precision=precision, vector=model.vector
        )
        assert torch.allclose(together[row], alone[0], atol=tolerance)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_every_layer_gives_what_the_layer_below_passes_on(precision, n_layers):
    encoder = make(3, dtype=torch.float32).eval().encoder
    ids, lengths = random_batch([9, 6, 6, 2])
    embedded = encoder.embed(ids, None).detach()
    with torch.no_grad():
        outputs, state = encoder.run_lower_layers(embedded, lengths, None, None, precision, n_layers)
        top, other_state = encoder.run_layers(embedded, lengths, None, None, precision)
    assert [x.shape for x in outputs] == [(4, 9, 7), (4, 9, 7), (4, 9, 5)][:n_layers]
    assert len(state) == n_layers
    assert n_layers < 3 or torch.equal(outputs[-1], top)
    for pair in zip(state, other_state[:n_layers], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))
    tolerance = 1e-6 if precision == "float32" else 0.02
    for row, n in enumerate(lengths.tolist()):
        x = embedded[row, :n].double().numpy()
        for rnn, output in zip(encoder.rnns[:n_layers], outputs, strict=True):
            x = run_lstm(rnn, x)
            assert np.allclose(output[row, :n].numpy(), x, atol=tolerance)
            assert not output[row, n:].any()


@pytest.mark.parametrize("max_length", [None, 5])
@pytest.mark.parametrize("dropout", [{}, DROPOUT])
@pytest.mark.parametrize(("n_layers", "frozen"), [(2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 2)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_passes_give_the_gradients_of_one_graph(monkeypatch, max_length, dropout, n_layers, frozen, precision):
    in_16_bits = precision == "bfloat16"
    model = make(n_layers, max_length, torch.float32 if in_16_bits else torch.float64, **dropout)
    for group in model.encoder.layer_groups()[:frozen]:
        for parameter in group:
            parameter.requires_grad_(False)
    ids, lengths = random_batch([13, 1, 8, 4, 9])
    weights = torch.randn(5, 4, dtype=model.vector.bias.dtype)

    def gradients(graph_tokens):
        monkeypatch.setattr(pooling, "GRAPH_TOKENS", graph_tokens)
        model.zero_grad()
        torch.manual_seed(3)
        pooled = model.pool(ids, lengths, precision=precision)
        loss = (pooled.features * weights).sum() + 2 * pooled.activation + 3 * pooled.change
        loss.backward()
        return loss.item(), {n: p.grad.to_dense() for n, p in model.named_parameters() if p.grad is not None}

    loss, one_graph = gradients(10**9)
    loss_again, two_passes = gradients(0)
    assert loss == pytest.approx(loss_again, abs=3e-2 if in_16_bits else 1e-12)
    assert one_graph.keys() == two_passes.keys()
    assert {"vector.word_weight", "vector.weight", "vector.bias"} <= one_graph.keys()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert one_graph.keys() == {n for n in trained if not n.startswith(("head.", f"encoder.rnns.{n_layers - 1}."))}
    for name, gradient in one_graph.items():
        tolerance = 0.05 * gradient.norm() if in_16_bits else 1e-10
        assert (gradient - two_passes[name]).norm() <= tolerance, name
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_penalties_are_means_over_the_pooled_outputs(n_layers):
    model = make(n_layers, max_length=6)
    model.encoder.eval()
    ids, lengths = random_batch([9, 3, 6, 1])
    pooled = model.pool(ids, lengths)
    squares, steps = [], []
    for row, n in zip(ids, lengths.tolist(), strict=True):
        x, outputs = model.encoder.embedding.weight[row[:n]].detach().numpy(), []
        for rnn in model.encoder.rnns[: max(1, n_layers - 1)]:
            x = run_lstm(rnn, x)
            outputs.append(x)
        x = np.concatenate(outputs, 1)
        squares += [x[p] ** 2 for p in range(max(n - 6, 0), n)]
        steps += [(x[p] - x[p - 1]) ** 2 for p in range(max(n - 6, 0) + 1, n) if p % 4]
    assert pooled.activation.item() == pytest.approx(np.mean(squares))
    assert pooled.change.item() == pytest.approx(np.mean(steps))


@pytest.mark.parametrize("n_layers", [2, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_last_of_several_layers_does_not_run(monkeypatch, n_layers, precision):
    model = make(n_layers, dtype=torch.float32)
    ran = set()  # output widths of the layers that run: 5 is the last one's
    for name in ("evaluate_layer", "evaluate_layer_8bit", "train_layer"):
        run = getattr(modules, name)
        monkeypatch.setattr(modules, name, lambda *args, run=run: (r := run(*args), ran.add(r[0].shape[1]))[0])
    for rnn in model.encoder.rnns:
        rnn.register_forward_hook(lambda module, args, output: ran.add(module.hidden_size))
    ids, lengths = random_batch([9, 6, 2])
    with torch.no_grad():
        model.eval()
        expected = model.pool(ids, lengths, precision=precision).features
        for parameter in model.encoder.rnns[-1].parameters():
            parameter.fill_(torch.nan)
        assert torch.equal(model.pool(ids, lengths, precision=precision).features, expected)
        vectors = pooled_features(
            model.encoder, *as_corpus(ids, lengths), None, precision=precision, vector=model.vector
        )
    assert torch.allclose(vectors, expected, atol=0.01)
    model.train()
    logits, activation, change = model(ids, lengths, precision=precision)
    (logits.sum() + activation + change).backward()
    assert ran == {7}
    assert all(p.grad is None for p in model.encoder.rnns[-1].parameters())
    assert all(p.grad.to_dense().isfinite().all() for p in model.parameters() if p.grad is not None)


def test_gradients_are_those_of_finite_differences():
    model = make(max_length=4)
    ids, lengths = random_batch([4, 3])
    factor = torch.randn(2, 4, dtype=torch.float64)

    def loss():
        return (model.pool(ids, lengths).features * factor).sum()

    loss().backward()
    for parameter in (model.vector.word_weight, model.vector.weight, model.encoder.embedding.weight):
        gradient = parameter.grad.to_dense()
        row, column = int(ids[0, 1]) % len(parameter), parameter.shape[1] - 1
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[row, column] += step
                values.append(loss().item())
                parameter[row, column] -= step
        assert gradient[row, column].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_gradients_of_words_are_sparse():
    model = make()
    ids, lengths = random_batch([6, 2])
    model.pool(ids, lengths).features.sum().backward()
    used = set(ids[0].tolist()) | set(ids[1, :2].tolist())
    assert model.encoder.embedding.weight.grad.is_sparse
    assert set(model.vector.word_weight.grad.coalesce().indices()[0].tolist()) == used


def test_dropped_words_are_missing_in_the_mean_and_the_input_mask_is_not_in_it():
    model = make(embed_p=0.5, input_p=0.9)
    ids, lengths = random_batch([6])
    torch.manual_seed(1)
    masks = model.encoder.draw_masks(1)
    assert 0 < (masks.embed[ids[0]] == 0).sum() < 6
    with torch.no_grad():
        model.vector.weight[:, :-5] = 0  # the mean of the words alone
        weighted = model.encoder.embedding.weight * masks.embed * model.vector.word_weight
        expected = model.vector(torch.cat([torch.zeros(7, dtype=torch.float64), weighted[ids[0]].mean(0)])[None])
        torch.manual_seed(1)
        vector = model.pool(ids, lengths).features
    assert torch.allclose(vector, expected)


@pytest.mark.parametrize("two_passes", [False, True])
def test_a_document_of_weight_two_is_two_documents(monkeypatch, two_passes):
    if two_passes:
        monkeypatch.setattr(pooling, "GRAPH_TOKENS", 0)
    model = make(max_length=6)
    ids, lengths = random_batch([9, 3, 6, 1])
    y = torch.tensor([[1.0, 0.0], [0.0, float("nan")], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    repeats = torch.tensor([1, 3, 2, 1])

    def gradients(ids, lengths, y, weight):
        model.zero_grad()
        logits, activation, change = model(ids, lengths, weight)
        (MultiLabelLoss()(logits, y, weight) + activation + change).backward()
        return [activation, change, *[p.grad.to_dense() for p in model.parameters() if p.grad is not None]]

    weighted = gradients(ids, lengths, y, repeats / repeats.double().mean())
    twice = [part.repeat_interleave(repeats, 0) for part in (ids, lengths, y)]
    for one, other in zip(weighted, gradients(*twice, torch.ones(7, dtype=torch.float64)), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_the_head_is_linear_drops_only_in_training_and_starts_at_the_base_rates():
    head = LinearHead(400, 3, output_p=0.5)
    x = torch.ones(2, 400)
    assert torch.allclose(head.eval()(x), x @ head.weight.T + head.bias)
    assert torch.equal(head(x, torch.ones(2)), head(x))
    torch.nn.init.ones_(head.weight)
    assert not torch.allclose(head.train()(x), x @ head.weight.T + head.bias)
    head.start_at(logit(np.array([0.1, 0.5, 0.9])))
    assert torch.allclose(torch.sigmoid(head.bias), torch.tensor([0.1, 0.5, 0.9]))
    assert list(head.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_layer_groups_hold_what_learns_once_and_the_vector_is_in_the_top_group(n_layers):
    model = make(n_layers)
    groups = model.layer_groups()
    idle = model.encoder.rnns[1:][-1:]  # the last of several layers
    assert len(groups) == 2 + n_layers - len(idle)
    learning = [p for p in model.parameters() if not any(p is other for other in idle.parameters())]
    assert sorted(map(id, itertools.chain(*groups))) == sorted(map(id, learning))
    assert {id(p) for p in groups[-1]} == {id(p) for part in (model.vector, model.head) for p in part.parameters()}
    lm = build_language_model({**CONFIG, "n_layers": 2}, 20, 1.0)
    assert sorted(map(id, itertools.chain(*lm.layer_groups()))) == sorted(map(id, lm.parameters()))


def test_new_words_have_the_weight_zero():
    lm = build_language_model({**CONFIG, "n_layers": 2}, 16, 1.0)
    weights = {name: tensor.numpy() for name, tensor in lm.state_dict().items()}
    old = Vocabulary.from_counts(["late", "lost"], np.array([2, 1]), max_size=16, min_frequency=1)
    new = Vocabulary.from_counts(["lost", "lamp"], np.array([2, 1]), max_size=16, min_frequency=1)
    fitted = fit_vocabulary(weights, old, new)["vector.word_weight"]
    assert fitted[new.index("lost")] == 1
    assert fitted[new.index("lamp")] == 0


# ---------------------------------------------------------------------------------------------------- whole models


TEXTS, LABELS = make_corpus(60, seed=7)


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return with_vector(tiny_lm(random_state=0).fit(TEXTS), tmp_path_factory.mktemp("lm") / "model")


@pytest.fixture(scope="module")
def clf(lm):
    return tiny_classifier(language_model=lm, max_epochs=2, unfreezing="at_once").fit(TEXTS, LABELS)


@pytest.mark.parametrize("compact", [False, True])
def test_a_language_model_with_a_vector_is_written_in_format_4_and_read_again(lm, tmp_path, compact):
    lm.save(tmp_path / "model", compact=compact)
    assert b'"format_version":"4"' in (tmp_path / "model").read_bytes()
    state = load_state(tmp_path / "model", "language_model")
    assert state.config["vector_dim"] == 6
    for name, array in lm.state_.weights.items():
        rounding = np.abs(array).max() / 127 if compact and array.ndim == 2 else 0.0
        assert np.allclose(state.weights[name], array, atol=rounding), name
    assert np.array_equal(state.weights["vector.word_weight"], lm.state_.weights["vector.word_weight"])


def test_models_without_a_vector_are_written_as_before(tmp_path):
    plain = tiny_lm(random_state=0).fit(TEXTS)
    for compact, version in ((False, b"1"), (True, b"2")):
        plain.save(tmp_path / "model", compact=compact)
        assert b'"format_version":"' + version + b'"' in (tmp_path / "model").read_bytes()
    tiny_classifier(language_model=plain).fit(TEXTS, LABELS).save(tmp_path / "model")
    assert b'"format_version":"3"' in (tmp_path / "model").read_bytes()


def test_fine_tuning_keeps_the_vector(lm, tmp_path):
    lm.save(tmp_path / "start")
    tuned = ULMFiTLanguageModel(tmp_path / "start", max_epochs=1, bptt=10, min_frequency=1, random_state=0)
    tuned.fit([*TEXTS, "a brandnewword in another text", "one more brandnewword"])
    state = tuned.state_
    assert state.config["vector_dim"] == 6
    for name in ("weight", "bias"):
        assert np.array_equal(state.weights[f"vector.{name}"], lm.state_.weights[f"vector.{name}"])
    word = state.vocabulary.index("brandnewword")
    assert state.weights["vector.word_weight"][word] == 0
    old, new = lm.state_.vocabulary.index("late"), state.vocabulary.index("late")
    assert state.weights["vector.word_weight"][new] == lm.state_.weights["vector.word_weight"][old]


def test_a_classifier_has_the_vector_and_a_linear_head(lm, clf, tmp_path):
    module = clf.net_.module_
    assert isinstance(module.head, LinearHead)
    trained = {name: tensor.numpy() for name, tensor in module.vector.state_dict().items()}
    for name, array in trained.items():
        assert not np.array_equal(array, lm.state_.weights[f"vector.{name}"]), name
    clf.save(tmp_path / "model")
    assert b'"format_version":"4"' in (tmp_path / "model").read_bytes()
    again = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_a_frozen_encoder_keeps_its_vector(lm):
    clf = tiny_classifier(language_model=lm, unfreezing="head").fit(TEXTS, LABELS)
    module = clf.net_.module_
    for part in ("encoder", "vector"):
        for name, tensor in getattr(module, part).state_dict().items():
            assert np.array_equal(tensor.numpy(), lm.state_.weights[f"{part}.{name}"])
    assert list(module.head.state_dict()) == ["weight", "bias"]


def test_gradual_unfreezing_trains_the_vector_from_the_first_epoch(lm):
    clf = tiny_classifier(language_model=lm, unfreezing="gradual", max_epochs=1).fit(TEXTS, LABELS)
    module = clf.net_.module_
    assert not np.array_equal(module.vector.weight.detach().numpy(), lm.state_.weights["vector.weight"])
    for name, tensor in module.encoder.rnns.state_dict().items():
        assert np.array_equal(tensor.numpy(), lm.state_.weights[f"encoder.rnns.{name}"])


def test_training_changes_every_layer_but_the_last(lm):
    clf = tiny_classifier(language_model=lm, unfreezing="at_once", max_epochs=1).fit(TEXTS, LABELS)
    for name, tensor in clf.net_.module_.encoder.state_dict().items():
        same = np.array_equal(tensor.numpy(), lm.state_.weights[f"encoder.{name}"])
        assert same == name.startswith("rnns.1."), name


@pytest.mark.parametrize("which", ["both", "forward", "backward"])
def test_two_networks_of_which_one_or_both_have_a_vector(lm, tmp_path, which):
    lms = []
    for direction in ("forward", "backward"):
        one = tiny_lm(direction=direction, random_state=0).fit(TEXTS)
        lms.append(with_vector(one, tmp_path / direction) if which in ("both", direction) else one)
    clf = tiny_classifier(language_model=tuple(lms), direction="both", max_epochs=1).fit(TEXTS, LABELS)
    networks = [clf.net_.module_, clf.backward_net_.module_]
    assert [n.vector is not None for n in networks] == [which in ("both", d) for d in ("forward", "backward")]
    clf.save(tmp_path / "model")
    again = ULMFiTMultiLabelClassifier.load(tmp_path / "model")
    assert np.array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    again.save(tmp_path / "again")
    assert load_state(tmp_path / "again", None).config == load_state(tmp_path / "model", None).config
