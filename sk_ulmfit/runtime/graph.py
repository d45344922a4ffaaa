"""The network over one window of a batch, as a graph of ONNX operators.

Inputs and outputs of the graph, for a batch of texts:

=================  ==========================  ======================================================================
``ids``            (batch, time) int64         token ids of the window
``lengths``        (batch,) int32              how many of them are of each text, from 1 to time
``pooled_from``    (batch,) int32              the first position that is pooled; 0 or less: all are
``h0``, ``c0``...  (1, batch, width) float32   state of each LSTM layer, at first 0
``count``          (batch, 1) float32          how many positions were pooled, at first 0
``total``          (batch, n_pooled) float32   sum of what was pooled, at first 0
``largest``        (batch, width) float32      maximum of what was pooled, at first -1; only without a vector
``outputs``        (batch, n_outputs) float32  outputs of the head for what was read so far
``new_...``                                    all states after the window, from ``new_h0`` on
=================  ==========================  ======================================================================

Memory is that of a window, however long a text is, and no row depends on another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from sk_ulmfit.models.schema import HEAD_WIDTH
from sk_ulmfit.nn.pooled_layers import layer_widths, n_pooled, pooled_layers

OPSET, IR_VERSION = 17, 8

Shape = tuple[int | str, ...]


class Sizes(NamedTuple):
    """What the shape of a network follows from; `vector_dim` is 0 without a vector."""

    n_words: int
    emb_dim: int
    hidden_dim: int
    n_layers: int
    vector_dim: int
    n_outputs: int

    @classmethod
    def of(cls, config: Mapping[str, Any], n_words: int, n_outputs: int) -> Sizes:
        """Return the sizes of a network by its configuration."""
        emb_dim, hidden_dim, n_layers = (config[name] for name in ("emb_dim", "hidden_dim", "n_layers"))
        return cls(n_words, emb_dim, hidden_dim, n_layers, config.get("vector_dim") or 0, n_outputs)

    @property
    def widths(self) -> list[int]:
        """Widths of the layers that run: without the last one if there is a vector, which needs only those below."""
        widths = layer_widths(self.emb_dim, self.hidden_dim, self.n_layers)
        return pooled_layers(widths) if self.vector_dim else widths

    @property
    def n_pooled(self) -> int:
        """Number of features whose mean is taken."""
        return n_pooled(self.emb_dim, self.hidden_dim, self.n_layers) if self.vector_dim else self.emb_dim


class Value(NamedTuple):
    """Type and shape of an array; a name in the shape stands for any size."""

    dtype: np.dtype[Any]
    shape: Shape


class Node(NamedTuple):
    """An operator; attributes are integers, floats or lists of integers."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | float | list[int]]


@dataclass
class Graph:
    """Operators in the order in which they run, and arrays by name.

    `weights` are those of the model, `constants` those of the graph itself.
    """

    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    weights: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def add(self, output: str | tuple[str, ...], operator: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator, and return the name of its first output."""
        outputs = (output,) if isinstance(output, str) else output
        self.nodes.append(Node(operator, inputs, outputs, attributes))
        return outputs[0]

    def weight(self, name: str, *shape: int, dtype: DTypeLike = np.float32) -> str:
        """Declare an array of the model, and return its name."""
        self.weights[name] = Value(np.dtype(dtype), shape)
        return name

    def constant(self, name: str, value: Any, dtype: DTypeLike) -> str:
        """Add an array of the graph itself, and return its name."""
        self.constants[name] = np.asarray(value, dtype)
        return name

    def state(self, name: str, *shape: int | str) -> str:
        """Declare a state that is carried from window to window, and return the name of its input."""
        value = Value(np.dtype(np.float32), shape)
        self.inputs[name], self.outputs[f"new_{name}"] = value, value
        return name


def network_graph(sizes: Sizes, int8: bool) -> Graph:
    """Return the graph of a network; with `int8`, its matrices are stored in 8 bits with a scale for each row."""
    graph = Graph()
    graph.inputs["ids"] = Value(np.dtype(np.int64), ("batch", "time"))
    graph.inputs["lengths"] = graph.inputs["pooled_from"] = Value(np.dtype(np.int32), ("batch",))
    graph.outputs["outputs"] = Value(np.dtype(np.float32), ("batch", sizes.n_outputs))
    _constants(graph)
    _mask(graph)
    embedded = _embed(graph, sizes, int8)
    layers = _layers(graph, sizes, embedded, int8)
    if sizes.vector_dim:
        _pool_for_vector(graph, sizes, embedded, layers)
        _linear_head(graph, sizes, int8)
    else:
        _pool_for_concat(graph, sizes, layers[-1])
        _concat_head(graph, sizes, int8)
    return graph


def _constants(graph: Graph) -> None:
    graph.constant("zero", 0, np.int32)
    graph.constant("one", 1, np.int32)
    graph.constant("axis_0", [0], np.int64)
    graph.constant("axis_1", [1], np.int64)
    graph.constant("axis_2", [2], np.int64)
    graph.constant("time_axis", 1, np.int64)
    graph.constant("float_one", 1, np.float32)


def _mask(graph: Graph) -> None:
    """Add ``is_pooled`` and ``mask``, (time, batch, 1), and count the pooled positions."""
    graph.add("ids_by_time", "Transpose", "ids", perm=[1, 0])  # (time, batch)
    graph.add("ids_shape", "Shape", "ids")
    graph.add("time_64", "Gather", "ids_shape", "time_axis", axis=0)
    graph.add("time", "Cast", "time_64", to=6)  # int32
    graph.add("position", "Range", "zero", "time", "one")
    graph.add("position_column", "Unsqueeze", "position", "axis_1")  # (time, 1)
    graph.add("is_real", "Less", "position_column", "lengths")  # (time, batch)
    graph.add("is_early", "Less", "position_column", "pooled_from")
    graph.add("is_late", "Not", "is_early")
    graph.add("is_pooled_flat", "And", "is_real", "is_late")
    graph.add("is_pooled", "Unsqueeze", "is_pooled_flat", "axis_2")  # (time, batch, 1)
    graph.add("mask", "Cast", "is_pooled", to=1)  # float32
    graph.state("count", "batch", 1)
    graph.add("n_now", "ReduceSum", "mask", "axis_0", keepdims=0)  # (batch, 1)
    graph.add("new_count", "Add", "count", "n_now")
    graph.add("n", "Max", "new_count", "float_one")


def _matrix(graph: Graph, name: str, n_rows: int, n_columns: int, int8: bool) -> str:
    """Declare a matrix, and return the name of its float32 form."""
    if not int8:
        return graph.weight(name, n_rows, n_columns)
    graph.weight(f"{name}_int8", n_rows, n_columns, dtype=np.int8)
    graph.weight(f"{name}_scale", n_rows, 1)
    graph.add(f"{name}_float", "Cast", f"{name}_int8", to=1)
    return graph.add(name, "Mul", f"{name}_float", f"{name}_scale")


def _embed(graph: Graph, sizes: Sizes, int8: bool) -> str:
    """Look up the words, (time, batch, emb_dim); rows in 8 bits are scaled after the look-up."""
    shape = (sizes.n_words, sizes.emb_dim)
    if not int8:
        return graph.add("embedded", "Gather", graph.weight("embedding", *shape), "ids_by_time", axis=0)
    graph.weight("embedding_int8", *shape, dtype=np.int8)
    graph.weight("embedding_scale", sizes.n_words, 1)
    graph.add("embedded_int8", "Gather", "embedding_int8", "ids_by_time", axis=0)
    graph.add("embedded_float", "Cast", "embedded_int8", to=1)
    graph.add("embedded_scale", "Gather", "embedding_scale", "ids_by_time", axis=0)
    return graph.add("embedded", "Mul", "embedded_float", "embedded_scale")


def _layers(graph: Graph, sizes: Sizes, inputs: str, int8: bool) -> list[str]:
    """Add the LSTM layers that run, and return their outputs, (time, batch, width) each."""
    n_in, outputs = sizes.emb_dim, []
    for layer, width in enumerate(sizes.widths):
        h, c = graph.state(f"h{layer}", 1, "batch", width), graph.state(f"c{layer}", 1, "batch", width)
        weights = [
            graph.add(f"{name}_stack", "Unsqueeze", _matrix(graph, name, 4 * width, columns, int8), "axis_0")
            for name, columns in ((f"input_weight{layer}", n_in), (f"recurrent_weight{layer}", width))
        ]
        bias = graph.weight(f"bias{layer}", 1, 8 * width)
        made = (f"lstm{layer}", f"new_{h}", f"new_{c}")  # (time, 1, batch, width), then the states
        graph.add(made, "LSTM", inputs, *weights, bias, "lengths", h, c, hidden_size=width)
        inputs = graph.add(f"layer{layer}", "Squeeze", made[0], "axis_1")
        outputs.append(inputs)
        n_in = width
    return outputs


def _pool_for_vector(graph: Graph, sizes: Sizes, embedded: str, layers: list[str]) -> None:
    """Add ``features``, (batch, n_pooled): the means of layers and of weighted words."""
    graph.weight("word_weight", sizes.n_words, 1)
    graph.add("weight_of_words", "Gather", "word_weight", "ids_by_time", axis=0)  # (time, batch, 1)
    graph.add("words", "Mul", embedded, "weight_of_words")
    graph.add("pooled", "Concat", *layers, "words", axis=2)
    graph.add("features", "Div", _total(graph, "pooled", sizes.n_pooled), "n")


def _pool_for_concat(graph: Graph, sizes: Sizes, top: str) -> None:
    """Add ``features``, (batch, 3 * emb_dim): [last; max; mean] of the top layer."""
    graph.state("largest", "batch", sizes.emb_dim)
    graph.constant("least", -1, np.float32)  # outputs of an LSTM are larger
    graph.add("last", "Squeeze", f"new_h{sizes.n_layers - 1}", "axis_0")
    graph.add("pooled_or_least", "Where", "is_pooled", top, "least")
    graph.add("largest_now", "ReduceMax", "pooled_or_least", axes=[0], keepdims=0)
    graph.add("new_largest", "Max", "largest", "largest_now")
    graph.add("mean", "Div", _total(graph, top, sizes.n_pooled), "n")
    graph.add("features", "Concat", "last", "new_largest", "mean", axis=1)


def _total(graph: Graph, values: str, width: int) -> str:
    """Add what is pooled of (time, batch, width) to the sum so far, (batch, width)."""
    graph.state("total", "batch", width)
    graph.add("masked", "Mul", values, "mask")
    graph.add("total_now", "ReduceSum", "masked", "axis_0", keepdims=0)
    return graph.add("new_total", "Add", "total", "total_now")


def _linear_head(graph: Graph, sizes: Sizes, int8: bool) -> None:
    """Add the vector, scaled to length 1, and the head on it."""
    matrix = _matrix(graph, "vector_weight", sizes.vector_dim, sizes.n_pooled, int8)
    graph.add("vector", "Gemm", "features", matrix, graph.weight("vector_bias", sizes.vector_dim), transB=1)
    graph.add("length", "ReduceL2", "vector", axes=[1], keepdims=1)
    graph.add("length_above_0", "Max", "length", graph.constant("shortest", 1e-12, np.float32))
    graph.add("unit_vector", "Div", "vector", "length_above_0")
    head = graph.weight("head_weight", sizes.n_outputs, sizes.vector_dim)
    graph.add("outputs", "Gemm", "unit_vector", head, graph.weight("head_bias", sizes.n_outputs), transB=1)


def _concat_head(graph: Graph, sizes: Sizes, int8: bool) -> None:
    """Add the head on [last; max; mean]: two blocks of batch normalisation and a linear map."""
    n_features = 3 * sizes.emb_dim
    normalised = _batch_norm(graph, "norm0", "features", n_features)
    hidden_weight = _matrix(graph, "hidden_weight", HEAD_WIDTH, n_features, int8)
    graph.add("hidden", "Gemm", normalised, hidden_weight, graph.weight("hidden_bias", HEAD_WIDTH), transB=1)
    graph.add("positive", "Relu", "hidden")
    normalised = _batch_norm(graph, "norm1", "positive", HEAD_WIDTH)
    head = graph.weight("head_weight", sizes.n_outputs, HEAD_WIDTH)
    graph.add("outputs", "Gemm", normalised, head, graph.weight("head_bias", sizes.n_outputs), transB=1)


def _batch_norm(graph: Graph, name: str, values: str, width: int) -> str:
    parts = [graph.weight(f"{name}_{part}", width) for part in ("weight", "bias", "running_mean", "running_var")]
    return graph.add(name, "BatchNormalization", values, *parts, epsilon=1e-5)
