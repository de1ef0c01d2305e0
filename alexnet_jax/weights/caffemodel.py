"""The wire format of `.caffemodel` files: just enough protobuf to find the layers' blobs.

Source: caffe/src/caffe/proto/caffe.proto (NetParameter, LayerParameter, V1LayerParameter,
BlobProto) and protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

# {field of NetParameter: (field of the layer's name, field of its blobs)}
LAYER = {100: (1, 7), 2: (4, 6)}  # `layer`, and `layers` of older files
NAME, FLOATS, DOUBLES, SHAPE, OLD_SHAPE = 1, 5, 8, 7, (1, 2, 3, 4)
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_net(data: bytes) -> tuple[str, dict[str, list[np.ndarray]]]:
    """(name of the network, {layer: its blobs}) of a serialized NetParameter.

    Layers without blobs are left out. Raises ValueError where the bytes are none, or cut short.
    """
    name, layers = "", {}
    for number, value in fields(memoryview(data)):
        if number == NAME:
            name = _text(value)
        elif number in LAYER:
            layer, blobs = _layer(_message(value), *LAYER[number])
            if blobs:
                layers[layer] = blobs
    return name, layers


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field in order: an int of a varint, bytes of everything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"no Caffe network: there is no wire type {kind}")
        if at + size > len(message):
            raise ValueError(
                f"cut short: field {number} has {size:,} bytes, {len(message) - at:,} are left"
            )
        yield number, message[at : at + size]
        at += size


def _layer(message: memoryview, name_field: int, blob_field: int) -> tuple[str, list[np.ndarray]]:
    name, blobs = "", []
    for number, value in fields(message):
        if number == name_field:
            name = _text(value)
        elif number == blob_field:
            try:
                blobs.append(_blob(_message(value)))
            except ValueError as error:
                raise ValueError(f"layer {name!r}: {error}") from error
    return name, blobs


def _blob(message: memoryview) -> np.ndarray:
    """float32 of the blob's shape. A packed field and a single number are both bytes to us."""
    parts: dict[int, list[memoryview]] = {FLOATS: [], DOUBLES: []}
    old: dict[int, int] = {}
    shape: list[int] | None = None
    for number, value in fields(message):
        if number in parts:
            parts[number].append(_message(value))
        elif number == SHAPE:
            shape = _dims(_message(value))
        elif number in OLD_SHAPE and isinstance(value, int):
            old[number] = value
    kind, chunks = ("<f8", parts[DOUBLES]) if parts[DOUBLES] else ("<f4", parts[FLOATS])
    values = np.frombuffer(chunks[0] if len(chunks) == 1 else b"".join(chunks), kind)
    if shape is None:
        shape = [old.get(number, 1) for number in OLD_SHAPE]
    if math.prod(shape) != len(values):
        raise ValueError(f"a blob of shape {shape} has {len(values):,} numbers")
    return values.astype(np.float32, copy=False).reshape(shape)


def _dims(message: memoryview) -> list[int]:
    """BlobShape: dim = 1, packed or not."""
    dims: list[int] = []
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            dims.append(value)
        elif number == 1 and not isinstance(value, int):
            at = 0
            while at < len(value):
                dim, at = _varint(value, at)
                dims.append(dim)
    return dims


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """(number, position after it): seven bits a byte, the lowest first."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut short: it ends within a number")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("no Caffe network: a number of more than ten bytes")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("no Caffe network: a number where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")
