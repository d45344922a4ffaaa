"""Graphs as ONNX files: Protocol Buffers in the one form that this package writes.

A file is written, and checked, as a list of pieces: bytes that follow from the graph, and the numbers of its weights
between them. A file that is read must have exactly these bytes, so a stranger's file has the operators of this package
and nothing else: no other code, no paths to other files, no arrays of other sizes.

Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.runtime.graph import IR_VERSION, OPSET, Graph, Node, Value

LARGEST_FILE = 2**31 - 1  # bytes that Protocol Buffers allow
_CODES = {np.dtype(name): code for name, code in (("float32", 1), ("int8", 3), ("int32", 6), ("int64", 7))}
_FLOAT, _INT, _INTS = 1, 2, 7  # types of attributes
_VARINT, _BYTES, _FOUR_BYTES = 0, 2, 5  # how a field is laid out; bytes have their number before them

Weights = Mapping[str, NDArray[Any]]
Piece = bytes | Value  # bytes that follow from the graph, or the numbers of a weight


class OnnxFileError(ValueError):
    """A file is not the graph that was expected."""


def encode(graph: Graph, weights: Weights) -> bytes:
    """Return a graph with its weights as the bytes of an ONNX file."""
    parts: list[bytes] = []
    for name, piece in _pieces(graph):
        if isinstance(piece, bytes):
            parts.append(piece)
            continue
        array = weights[name]
        if array.dtype != piece.dtype or array.shape != piece.shape:
            raise ValueError(f"{name} has type {array.dtype} and shape {array.shape}, expected {piece}.")
        parts.append(_little_endian(array))
    n_bytes = sum(map(len, parts))
    if n_bytes > LARGEST_FILE:
        raise OnnxFileError(f"an ONNX file holds at most {LARGEST_FILE:,} bytes, and this network has {n_bytes:,}")
    return b"".join(parts)


def decode(content: bytes, graph: Graph) -> dict[str, NDArray[Any]]:
    """Return the weights in the bytes of a file, as views; raise OnnxFileError unless it is `graph` exactly."""
    weights: dict[str, NDArray[Any]] = {}
    position = 0
    view = memoryview(content)
    for name, piece in _pieces(graph):
        n_bytes = len(piece) if isinstance(piece, bytes) else _n_bytes(piece)
        part = view[position : position + n_bytes]
        if len(part) < n_bytes or (isinstance(piece, bytes) and part != piece):
            where = f"the weights {name}" if name else "byte " + str(position)
            raise OnnxFileError(f"it is not the graph of this model, from {where} on")
        if isinstance(piece, Value):
            array = np.frombuffer(part, piece.dtype.newbyteorder("<"))
            weights[name] = array.reshape([int(size) for size in piece.shape])
        position += n_bytes
    if position != len(content):
        raise OnnxFileError("bytes follow the graph of this model")
    return weights


def _pieces(graph: Graph) -> Iterator[tuple[str, Piece]]:
    """Yield the pieces of a file, with the name of the weight before or in each."""
    head, tail = _graph_ends(graph)
    tensors = [(name, value, _tensor_start(name, value)) for name, value in graph.weights.items()]
    n_bytes = len(head) + len(tail)
    n_bytes += sum(len(_tensor_field(value, start)) + len(start) + _n_bytes(value) for _, value, start in tensors)
    yield "", b"".join([_integer(1, IR_VERSION), _text(2, "sk_ulmfit"), _tag(7, _BYTES), _varint(n_bytes), head])
    for name, value, start in tensors:
        yield name, _tensor_field(value, start) + start
        yield name, value
    yield "", tail + _message(8, _text(1, "") + _integer(2, OPSET))


def _graph_ends(graph: Graph) -> tuple[bytes, bytes]:
    """Return what a graph has before and after its weights."""
    nodes = b"".join(_message(1, _node(node)) for node in graph.nodes)
    constants = b"".join(
        _message(5, _tensor_start(name, Value(array.dtype, array.shape)) + _little_endian(array))
        for name, array in graph.constants.items()
    )
    inputs = b"".join(_message(11, _value_info(name, value)) for name, value in graph.inputs.items())
    outputs = b"".join(_message(12, _value_info(name, value)) for name, value in graph.outputs.items())
    return nodes + _text(2, "network") + constants, inputs + outputs


def _node(node: Node) -> bytes:
    inputs = b"".join(_text(1, name) for name in node.inputs)
    outputs = b"".join(_text(2, name) for name in node.outputs)
    attributes = b"".join(_message(5, _attribute(name, value)) for name, value in node.attributes.items())
    return inputs + outputs + _text(4, node.operator) + attributes


def _attribute(name: str, value: int | float | list[int]) -> bytes:
    if isinstance(value, list):
        return _text(1, name) + b"".join(_integer(8, number) for number in value) + _integer(20, _INTS)
    if isinstance(value, float):
        return _text(1, name) + _tag(2, _FOUR_BYTES) + struct.pack("<f", value) + _integer(20, _FLOAT)
    return _text(1, name) + _integer(3, value) + _integer(20, _INT)


def _tensor_field(value: Value, start: bytes) -> bytes:
    """Return the tag and the number of bytes of a weight within its graph."""
    return _tag(5, _BYTES) + _varint(len(start) + _n_bytes(value))


def _tensor_start(name: str, value: Value) -> bytes:
    """Return a tensor up to its numbers."""
    dims = b"".join(_integer(1, int(size)) for size in value.shape)
    n_bytes = _varint(_n_bytes(value))
    return dims + _integer(2, _CODES[value.dtype]) + _text(8, name) + _tag(9, _BYTES) + n_bytes


def _value_info(name: str, value: Value) -> bytes:
    dims = (_text(2, size) if isinstance(size, str) else _integer(1, size) for size in value.shape)
    shape = b"".join(_message(1, dim) for dim in dims)
    tensor = _integer(1, _CODES[value.dtype]) + _message(2, shape)
    return _text(1, name) + _message(2, _message(1, tensor))


def _little_endian(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _n_bytes(value: Value) -> int:
    n_bytes = value.dtype.itemsize
    for size in value.shape:
        n_bytes *= int(size)
    return n_bytes


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _tag(field, _BYTES) + _varint(len(content)) + content


def _integer(field: int, value: int) -> bytes:
    return _tag(field, _VARINT) + _varint(value)


def _tag(field: int, layout: int) -> bytes:
    return _varint(field << 3 | layout)


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
