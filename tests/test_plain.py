import json
import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from almining.plain import DTYPES, from_plain, to_plain
from almining.records import Answer, Detections, Evidence, Request, Target
from tests.fakes import boxes, labels, target

FLOATS = st.floats(width=64, allow_nan=True, allow_infinity=True)
BOX = (1.0, 2, 5, 8)


def through_text(value: object, tensors: dict[str, Tensor] | None = None) -> object:
    text = json.dumps(to_plain(value, tensors), allow_nan=False)
    return from_plain(json.loads(text), tensors)


def bits(value: object) -> object:
    """A value as something that `==` compares bit by bit, types included."""
    if isinstance(value, float):
        return "float", struct.pack("<d", value)
    if isinstance(value, Tensor):
        raw = value.contiguous().reshape(-1).view(torch.uint8).tolist()
        return "tensor", str(value.dtype), tuple(value.shape), tuple(raw)
    if isinstance(value, list | tuple):
        return type(value).__name__, tuple(bits(part) for part in value)
    if isinstance(value, dict):
        return "dict", tuple((key, bits(part)) for key, part in value.items())
    if isinstance(value, frozenset):
        return "frozenset", frozenset(bits(part) for part in value)
    if isinstance(value, Target | Detections | Request | Evidence | Answer):
        names = type(value).__slots__
        return type(value).__name__, tuple(bits(getattr(value, name)) for name in names)
    return type(value).__name__, value


def values() -> st.SearchStrategy[object]:
    keys = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=4)
    hashable = st.recursive(
        keys, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
    )
    return st.recursive(
        hashable | tensors(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(st.sampled_from(["$", "items", "a", ""]), inner)
        ),
        max_leaves=6,
    )


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = draw(st.sampled_from([(), (0,), (0, 4), (3,), (2, 3), (1, 0, 2)]))
    count = math.prod(shape) * dtype.itemsize
    raw = draw(st.binary(min_size=count, max_size=count))
    if dtype == torch.bool:
        raw = bytes(byte % 2 for byte in raw)
    if not raw:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    count = draw(st.integers(0, 3))
    numbers = st.lists(st.integers(1, 3), min_size=count, max_size=count)
    known = draw(numbers)
    complete = draw(st.booleans())
    scores = st.just(math.nan) | st.floats(-(2.0**99), 2.0**99, width=32)
    origin = st.sampled_from(["human", "mined", "mined:bib:3"])
    tags = draw(st.none() | st.just(frozenset(known))) if complete else draw(TAGS)
    return Target(
        draw(rectangles(count)),
        labels(*known),
        ignore=torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count))).bool(),
        origin=tuple(draw(st.lists(origin, min_size=count, max_size=count))),
        scores=torch.tensor(draw(st.lists(scores, min_size=count, max_size=count))).float(),
        tags=tags,
        absent=draw(st.none() | st.frozensets(st.integers(7, 9))),
        negatives=draw(rectangles(draw(st.integers(0, 2)))),
        complete=complete,
    )


TAGS = st.none() | st.frozensets(st.integers(1, 6))


def rectangles(count: int) -> st.SearchStrategy[Tensor]:
    side = st.floats(-(2.0**99), 2.0**99, width=32)
    row = st.tuples(side, side, side, side).map(
        lambda r: (min(r[0], r[2]), min(r[1], r[3]), max(r[0], r[2]), max(r[1], r[3]))
    )
    return st.lists(row, min_size=count, max_size=count).map(lambda rows: boxes(*rows))


EVIDENCE = st.builds(
    Evidence,
    st.just("entropy"),
    st.dictionaries(st.text(max_size=3), tensors() | st.text(max_size=3) | FLOATS | st.integers()),
    st.text(max_size=5),
)
REQUESTS = st.builds(
    Request,
    st.just("q1"),
    st.just("a/b é"),
    st.sampled_from(["complete", "tag"]),
    box=st.none() | rectangles(1).map(lambda rows: rows[0]),
    label=st.none() | st.integers(1, 5),
    score=st.none() | st.integers() | st.floats(allow_nan=False),
    evidence=st.none() | EVIDENCE,
)
ANSWERS = st.builds(
    Answer,
    st.just("q1"),
    target=targets(),
    verdict=st.sampled_from([None, "accept", "skip"]),
    by=st.just("me"),
    seconds=st.floats(0, 1e9) | st.integers(0, 9),
)


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    count = draw(st.integers(0, 2))
    probs = torch.tensor([[0.25, 0.75, 0.0]]).repeat(count, 1)
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    return Detections(
        draw(rectangles(count)),
        labels(*[2] * count),
        torch.tensor([-0.0, 0.1][:count]),
        probs=draw(st.sampled_from([None, probs])),
        features=draw(st.sampled_from([None, torch.ones(count, 3, dtype=dtype)])),
    )


@given(values() | targets() | REQUESTS | ANSWERS | detections())
def test_round_trip_is_exact(value: object) -> None:
    assert bits(through_text(value)) == bits(value)
    beside: dict[str, Tensor] = {}
    assert bits(through_text([value, (value,)], beside)) == bits([value, (value,)])


@pytest.mark.parametrize("number", [0.0, -0.0, math.inf, -math.inf, math.nan, 0.1, 5e-324])
def test_floats_keep_their_bits(number: float) -> None:
    assert bits(through_text(number)) == bits(number)


def test_written_targets_can_be_read_by_a_person() -> None:
    known = target(BOX, label=2, origin=("mined",), scores=torch.tensor([0.5]), complete=False)
    assert to_plain(known, {}) == {
        "$": "target",
        "boxes": [[1.0, 2.0, 5.0, 8.0]],
        "labels": [2],
        "origin": ["mined"],
        "scores": [0.5],
        "complete": False,
    }
    both = target(BOX, BOX, complete=False, scores=torch.tensor([math.nan, 0.5]))
    assert to_plain(both)["scores"] == [None, 0.5]


def test_tensors_beside_the_text_are_copies_with_names_of_their_own() -> None:
    shared, row = torch.arange(6.0).reshape(2, 3).T, torch.ones(2)
    beside = {"tensor-1": torch.zeros(1)}
    plain = to_plain({"a": shared, "b": shared}, beside)
    plain_too = to_plain(row, beside)
    row.zero_()
    assert len(beside) == 4 and torch.equal(beside["tensor-1"], torch.zeros(1))
    assert all(kept.is_contiguous() for kept in beside.values())
    assert len({kept.data_ptr() for kept in beside.values()}) == 4
    again = from_plain(plain, beside)
    assert torch.equal(again["a"], shared) and torch.equal(again["b"], shared)
    assert from_plain(plain_too, beside).tolist() == [1, 1]


def test_subclasses_come_back_plain() -> None:
    value = {"score": np.float64(0.25), "name": np.str_("x"), "flag": True}
    again = through_text(value)
    assert [type(part) for part in again.values()] == [float, str, bool]
    weight = torch.nn.Parameter(torch.ones(2))
    assert not through_text(weight).requires_grad


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "value is a object"),
        ({"a": [1, {2}]}, r"value\['a'\]\[1\] is a set, which cannot be kept"),
        ((np.float32(1),), r"value\[0\] is a float32"),
        ({"a": {1: 2}}, r"value\['a'\] has the key 1; keys must be strings"),
        (torch.zeros(1, dtype=torch.complex64), "tensor of torch.complex64"),
        (torch.eye(2).to_sparse(), "torch.sparse_coo, which cannot be kept"),
        (Evidence("k", {"x": torch.zeros(1, dtype=torch.complex64)}, ""), r"value.data\['x'\]"),
    ],
)
def test_what_cannot_be_kept_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_plain(value)


TENSOR = {"$": "tensor", "dtype": "int16", "shape": [2], "base64": "AAAAAA=="}
REQUEST = to_plain(Request("q", "a", "region", box=boxes(BOX)[0]))
TARGET = to_plain(target(BOX))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({1}, "value is a set, which JSON does not know"),
        ([{"$": "pickle"}], r"value\[0\]\['\$'\] = 'pickle': use one of float, tuple"),
        ({"$": ["tuple"]}, "use one of"),
        ({"$": "tuple", "items": 3}, "value is not a tuple: items must be a list, got int"),
        ({"$": "tuple"}, "'items' is missing"),
        ({"$": "dict", "items": [1]}, "items must be a dict"),
        ({"$": "frozenset", "items": [[1]]}, "unhashable"),
        ({"$": "float", "bits": "00"}, "value is not a float"),
        ({"$": "float", "bits": "7ff8000000000000", "x": 1}, "where only 'bits' belongs"),
        (TENSOR | {"shape": [3]}, r"4 bytes do not make int16 of shape \[3\]"),
        (TENSOR | {"shape": [-1, -2]}, "do not make"),
        (TENSOR | {"dtype": "object"}, "dtype = 'object': use one of float64"),
        (TENSOR | {"base64": "AAAAAA=!="}, "base64 is damaged"),
        ({"$": "tensor", "name": "tensor-7"}, "'tensor-7' is not among those"),
        ({"a": TARGET | {"boxes": [[1, 2], [3, 4]]}}, r"value\['a'\] is not a target: boxes holds"),
        (TARGET | {"labels": [1.5]}, "class numbers are whole"),
        (TARGET | {"labels": [1, 2]}, r"must have shape \(1,\)"),
        (TARGET | {"colour": "red"}, "colour"),
        (TARGET | {"boxes": [[5, 2, 1, 8]]}, "x2 >= x1"),
        (REQUEST | {"kind": "guess"}, "value is not a request: Request.kind"),
        (REQUEST | {"score": {"$": "float", "bits": "7ff8000000000000"}}, "is NaN"),
        (REQUEST | {"evidence": {"$": "evidence", "kind": "k", "data": 3, "text": ""}}, "mapping"),
        (REQUEST | {"evidence": {"$": "evidence"}}, "value.evidence is not a evidence"),
        ({"$": "answer", "request_id": "q", "by": "me", "seconds": 1}, "is empty"),
        ({"$": "detections", "boxes": 3}, "value is not a detections"),
    ],
)
def test_malformed_text_is_refused(plain: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_plain(plain, {})
