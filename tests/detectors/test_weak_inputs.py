"""MIST on what goes wrong: every state of knowledge with every kind of proposals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from almining.detectors.weak import Mist
from almining.records import Target
from almining.rng import generator
from tests.detectors.test_weak import TAGGED, Fixed, losses, make, total
from tests.fakes import boxes, labels, target


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(3, 128, 160, generator=generator(0, "image"))


STATES = {
    "tagged": TAGGED,
    "tagged with nothing": Target.unknown(tags=()),
    "unlabelled": Target.unknown(),
    "complete": target((10, 10, 60, 60)),
    "complete and empty": Target(boxes(), labels()),
    "sparse": target((10, 10, 60, 60), complete=False),
    "without area": target((10, 10, 10, 60)),
}
PROPOSALS = {
    "none": Fixed(),
    "one": Fixed((10, 10, 50, 50)),
    "five": Fixed(*[(10 * i, 10, 10 * i + 30, 50) for i in range(5)]),
    "duplicates": Fixed(*[(10, 10, 50, 50)] * 9),
    "without area": Fixed((10, 10, 10, 50), (5, 5, 5, 5)),
    "outside": Fixed((500, 500, 600, 600), (100, 100, 900, 900)),
    "far from the objects": Fixed(*[(90 + i, 90, 110 + i, 120) for i in range(9)]),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("proposals", PROPOSALS)
def test_every_state_with_every_kind_of_proposals(
    shared: Mist, image: Tensor, state: str, proposals: str
) -> None:
    shared.proposer = PROPOSALS[proposals]
    shared.zero_grad()
    loss = total(shared, [image], [STATES[state]])
    loss.backward()
    gradients = [p.grad for p in shared.parameters() if p.grad is not None]
    assert loss.isfinite() and gradients and all(one.isfinite().all() for one in gradients)
    nothing = proposals in ("none", "without area") or state == "unlabelled"
    assert (float(loss.detach()) == 0) == nothing
    (found,) = shared.detect([image])
    assert found.scores.isfinite().all() and (len(found) > 0) == (
        proposals not in ("none", "without area")
    )


@pytest.fixture(scope="module")
def shared() -> Mist:
    return make(drop_block=True)


def test_equal_features_everywhere() -> None:
    flat = torch.full((3, 128, 128), 0.5)
    blind = make(dropout=(0.0, 0.0), prior=0.75)
    for head in blind.refine:
        torch.nn.init.zeros_(head.classify.weight)
    for layer in (blind.classify, blind.compare, blind.head.fc6):
        torch.nn.init.zeros_(layer.weight)
    found = losses(blind, [flat], [TAGGED])
    assert all(value == value and 0 <= value < 10 for value in found.values())
    (seen,) = blind.detect([flat])
    assert torch.allclose(seen.scores, torch.full((len(seen),), 0.25))


def test_an_image_without_objects_teaches_absence_and_one_unknown_nothing(image: Tensor) -> None:
    one = make()
    empty = losses(one, [image], [STATES["complete and empty"]])
    tagless = losses(one, [image], [STATES["tagged with nothing"]])
    assert min(empty["mil"], empty["cls1"], empty["cls3"]) > 0
    assert empty["mil"] == pytest.approx(tagless["mil"])
    assert empty["reg1"] == tagless["reg1"] == 0 and tagless["cls1"] > 0
    partly = replace(Target.unknown(), absent=frozenset({2}))
    found = losses(one, [image], [partly])
    assert found["mil"] > 0 and found["cls1"] == 0  # what else is there is not known
