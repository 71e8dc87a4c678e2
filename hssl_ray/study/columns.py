"""Arrow columns from lists of Python values.

`pa.array` would ask pandas whether the list is one of its own, and import it for that: 0.3 s of every command that
reads a study, where the whole command should take less than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_NUMBERS = {pa.int64(): np.int64, pa.float64(): np.float64}


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as a column of int64, float64, string or bool; None is null.

    Raises:
        TypeError, ValueError: a value is not of the kind.
    """
    there = [value is not None for value in values]
    validity = None if all(there) else _bits(there)
    if kind in _NUMBERS:
        filled = values if validity is None else [0 if value is None else value for value in values]
        return _array(kind, len(values), [validity, pa.py_buffer(np.array(filled, _NUMBERS[kind]))])
    if kind == pa.bool_():
        return _array(kind, len(values), [validity, _bits([bool(value) for value in values])])
    assert kind == pa.string(), kind
    encoded = [b"" if value is None else value.encode() for value in values]
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    return _array(kind, len(values), [validity, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def table(values: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """The columns of a schema, by name."""
    return pa.Table.from_arrays([column(values[field.name], field.type) for field in schema], schema=schema)


def _array(kind: pa.DataType, length: int, buffers: list[pa.Buffer | None]) -> pa.Array:
    return pa.Array.from_buffers(kind, length, buffers)


def _bits(values: Sequence[bool]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array(values, np.bool_), bitorder="little"))
