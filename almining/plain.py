"""Values and records as what JSON knows, and back again, exactly.

Targets are written so that a person can read them; other tensors as dtype, shape and base64, or
into a dictionary of tensors for a safetensors file. What JSON has no word for is an object whose
`"$"` says what it is. A number, string or dictionary of a class of one's own comes back plain, a
tensor without its gradient and on the CPU. Writing to disk is left to the callers.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from almining.checks import HUMAN, check_class
from almining.records import Answer, Detections, Evidence, Request, Target

MARK = "$"
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.float8_e4m3fn, torch.float8_e5m2, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8),
        *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
    )
}
FIELDS = {
    Detections: ("boxes", "labels", "scores", "probs", "features"),
    Evidence: ("kind", "data", "text"),
    Answer: ("request_id", "verdict", "target", "by", "seconds"),
}


def to_plain(value: Any, tensors: dict[str, Tensor] | None = None) -> Any:
    """Return a value as what JSON, NaN left out, can hold; `from_plain` makes it the same again.

    Args:
        value: None, a truth value, number, string, list, tuple, frozenset, a dictionary with
            strings for keys, a tensor, `Target`, `Detections`, `Request`, `Evidence` or `Answer`,
            one in another to any depth.
        tensors: where tensors go, contiguous, under names made here; those of a `Target` and a
            `Request`'s box stay in the text. Default: all of them stay in the text.

    Raises:
        ValueError: naming where in the value something else is.

    >>> to_plain({"seconds": 7.8, "boxes": (3, 4)})
    {'seconds': 7.8, 'boxes': {'$': 'tuple', 'items': [3, 4]}}
    >>> from_plain(to_plain(Target.unknown({2})))
    Target(0 boxes, tagged)
    """
    return _write(value, tensors, "value")


def from_plain(value: Any, tensors: Mapping[str, Tensor] | None = None) -> Any:
    """Return what `to_plain` was given.

    Args:
        value: what it returned, as it is or through JSON.
        tensors: the tensors that went beside it, by name.

    Raises:
        ValueError: naming where in the value something is malformed or missing.
    """
    return _read(value, tensors, "value")


def _write(value: Any, tensors: dict[str, Tensor] | None, at: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, float):
        exact = float(value)
        return (
            exact if math.isfinite(exact) else _marked("float", bits=struct.pack(">d", exact).hex())
        )
    if isinstance(value, Tensor):
        return _write_tensor(value, tensors, at)
    if isinstance(value, Target):
        return _write_target(value)
    if isinstance(value, Request):
        return _write_request(value, tensors, at)
    if type(value) in FIELDS:
        given = {name: getattr(value, name) for name in FIELDS[type(value)]}
        return _marked(
            type(value).__name__.lower(),
            **{name: _write(part, tensors, f"{at}.{name}") for name, part in given.items()},
        )
    if isinstance(value, Mapping):
        return _write_mapping(value, tensors, at)
    if type(value) in (list, tuple, frozenset):
        items = [_write(part, tensors, f"{at}[{i}]") for i, part in enumerate(value)]
        if type(value) is list:
            return items
        if type(value) is frozenset:
            items.sort(key=json.dumps)
        return _marked(type(value).__name__, items=items)
    raise ValueError(
        f"{at} is a {type(value).__name__}, which cannot be kept exactly; use None, truth values, "
        "numbers, strings, lists, tuples, frozensets, dictionaries, tensors or records"
    )


def _marked(mark: str, **parts: Any) -> dict[str, Any]:
    return {MARK: mark, **parts}


def _write_mapping(value: Mapping[Any, Any], tensors: dict[str, Tensor] | None, at: str) -> Any:
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{at} has the key {key!r}; keys must be strings, use str(...)")
    items = {str(key): _write(part, tensors, f"{at}[{key!r}]") for key, part in value.items()}
    return _marked("dict", items=items) if MARK in items else items


def _write_tensor(value: Tensor, tensors: dict[str, Tensor] | None, at: str) -> dict[str, Any]:
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in DTYPES or value.layout != torch.strided:
        raise ValueError(
            f"{at} is a tensor of {value.dtype}, {value.layout}, which cannot be kept exactly; "
            f"use a strided one of {', '.join(DTYPES)}"
        )
    kept = value.detach().cpu()
    if tensors is not None:
        number = len(tensors)
        while f"tensor-{number}" in tensors:
            number += 1
        tensors[f"tensor-{number}"] = kept.clone(memory_format=torch.contiguous_format)
        return _marked("tensor", name=f"tensor-{number}")
    data = kept.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return _marked(
        "tensor", dtype=dtype, shape=list(kept.shape), base64=base64.b64encode(data).decode("ascii")
    )


def _write_target(target: Target) -> dict[str, Any]:
    parts: dict[str, Any] = {"boxes": target.boxes.tolist(), "labels": target.labels.tolist()}
    if bool(target.ignore.any()):
        parts["ignore"] = target.ignore.tolist()
    if set(target.origin) - {HUMAN}:
        parts["origin"] = list(target.origin)
    if not bool(target.scores.isnan().all()):
        parts["scores"] = [None if score != score else score for score in target.scores.tolist()]
    for name in ("tags", "absent"):
        if (known := getattr(target, name)) is not None:
            parts[name] = sorted(known)
    if len(target.negatives):
        parts["negatives"] = target.negatives.tolist()
    return _marked("target", **parts, complete=target.complete)


def _write_request(request: Request, tensors: dict[str, Tensor] | None, at: str) -> dict[str, Any]:
    return _marked(
        "request",
        id=request.id,
        image_id=request.image_id,
        kind=request.kind,
        box=None if request.box is None else request.box.tolist(),
        label=request.label,
        score=_write(request.score, tensors, f"{at}.score"),
        evidence=_write(request.evidence, tensors, f"{at}.evidence"),
    )


class _MalformedError(ValueError):
    """Something that `to_plain` does not write; the message says where."""


def _read(value: Any, tensors: Mapping[str, Tensor] | None, at: str) -> Any:
    if isinstance(value, list):
        return [_read(part, tensors, f"{at}[{i}]") for i, part in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, dict):
        raise _MalformedError(f"{at} is a {type(value).__name__}, which JSON does not know")
    if MARK not in value:
        return {key: _read(part, tensors, f"{at}[{key!r}]") for key, part in value.items()}
    read = READERS.get(value[MARK]) if isinstance(value[MARK], str) else None
    if read is None:
        raise _MalformedError(f"{at}[{MARK!r}] = {value[MARK]!r}: use one of {', '.join(READERS)}")
    parts = {key: part for key, part in value.items() if key != MARK}
    try:
        return read(parts, tensors, at)
    except _MalformedError:
        raise
    except (ArithmeticError, KeyError, RuntimeError, TypeError, ValueError, struct.error) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else error
        raise _MalformedError(f"{at} is not a {value[MARK]}: {why}") from error


def _read_float(parts: dict[str, Any], tensors: Any, at: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(_only(parts, "bits")))[0])


def _items(make: Callable[[Any], Any], kind: type) -> Callable[..., Any]:
    def read(parts: dict[str, Any], tensors: Any, at: str) -> Any:
        items = _only(parts, "items")
        if not isinstance(items, kind):
            raise TypeError(f"items must be a {kind.__name__}, got {type(items).__name__}")
        if isinstance(items, dict):
            return {key: _read(part, tensors, f"{at}[{key!r}]") for key, part in items.items()}
        return make(_read(items, tensors, at))

    return read


def _only(parts: dict[str, Any], name: str) -> Any:
    if set(parts) - {name}:
        raise ValueError(f"it has {', '.join(map(repr, parts))} where only {name!r} belongs")
    return parts[name]


def _read_tensor(parts: dict[str, Any], tensors: Mapping[str, Tensor] | None, at: str) -> Tensor:
    if "name" in parts:
        name = _only(parts, "name")
        if tensors is None or name not in tensors:
            raise ValueError(f"tensor {name!r} is not among those that came with the text")
        return tensors[name]
    dtype, shape = parts.pop("dtype"), parts.pop("shape")
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r}: use one of {', '.join(DTYPES)}")
    try:
        data = base64.b64decode(_only(parts, "base64"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its base64 is damaged ({error})") from error
    if len(data) != math.prod(shape) * DTYPES[dtype].itemsize or any(n < 0 for n in shape):
        raise ValueError(f"{len(data)} bytes do not make {dtype} of shape {shape}")
    if not data:
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(data), dtype=DTYPES[dtype]).reshape(shape)


def _rows(rows: list[list[float]], name: str) -> Tensor:
    for row in rows:
        if len(row) != 4:
            raise ValueError(f"{name} holds {row!r}; a box is x1, y1, x2, y2")
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _read_target(parts: dict[str, Any], tensors: Any, at: str) -> Target:
    known = dict(parts)
    given = _rows(known.pop("boxes"), "boxes")
    for label in (labels := known.pop("labels")):
        check_class(label, "labels")
    for name, read in TARGET_FIELDS.items():
        if name in known:
            known[name] = read(known[name])
    return Target(given, torch.tensor(labels, dtype=torch.int64), **known)


TARGET_FIELDS: dict[str, Callable[[Any], Any]] = {
    "ignore": lambda values: torch.tensor(values, dtype=torch.bool),
    "origin": tuple,
    "scores": lambda values: torch.tensor(
        [math.nan if score is None else score for score in values], dtype=torch.float32
    ),
    "negatives": lambda rows: _rows(rows, "negatives"),
}


def _read_request(parts: dict[str, Any], tensors: Any, at: str) -> Request:
    known = dict(parts)
    if known.get("box") is not None:
        known["box"] = _rows([known["box"]], "box")[0]
    for name in ("score", "evidence"):
        known[name] = _read(known.get(name), tensors, f"{at}.{name}")
    return Request(**known)


def _record(make: Callable[..., Any]) -> Callable[..., Any]:
    def read(parts: dict[str, Any], tensors: Any, at: str) -> Any:
        return make(**{name: _read(part, tensors, f"{at}.{name}") for name, part in parts.items()})

    return read


READERS: dict[str, Callable[..., Any]] = {
    "float": _read_float,
    "tuple": _items(tuple, list),
    "frozenset": _items(frozenset, list),
    "dict": _items(dict, dict),
    "tensor": _read_tensor,
    "target": _read_target,
    "request": _read_request,
    **{made.__name__.lower(): _record(made) for made in FIELDS},
}
