"""Validation in changed copies of a region's own image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from almining.papers.ssm import revisit, revisiting
from almining.records import Detections
from almining.rng import generator
from tests.papers.ssm.spotted import LEFT, RIGHT, Spots, Spotter


def region(box: tuple[float, ...], label: int) -> Detections:
    return Detections(torch.tensor([box]).float(), torch.tensor([label]), torch.tensor([0.9]))


def value(how: str, box: tuple[float, ...] = LEFT, label: int = 2, **options: object) -> float:
    image = Spots().load("100")  # a green spot on the left, a yellow one on the right
    (found,) = revisit(
        Spotter(), [image], [region(box, label)], generator=generator(0), how=how, **options
    )
    return float(found)


def test_a_spot_is_found_in_the_mirrored_image() -> None:
    assert value("flip") == pytest.approx(0.9)
    assert value("flip", label=1) == pytest.approx(0.01)
    assert value("flip", RIGHT, 1) == pytest.approx(0.8)  # its own image: nothing gives it away
    assert value("flip", (20.0, 20, 30, 30)) == 0.0  # nothing there
    assert value("flip", (12.0, 4, 20, 12)) == 0.0  # beside it


class Still:
    """Says that a region is where the brightest pixels are; remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def detect(self, images: list[Tensor]) -> list[Detections]:
        self.seen += images
        found = []
        for image in images:
            ys, xs = (image[0] > 0.5).nonzero(as_tuple=True)
            box = [float(one) for one in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]
            probs = torch.tensor([[0.2, 0.8]])
            found.append(
                Detections(torch.tensor([box]), torch.tensor([1]), torch.tensor([0.8]), probs=probs)
            )
        return found


@pytest.mark.parametrize("how", ["rescale", "flip_rescale"])
def test_boxes_go_where_the_pixels_go(how: str) -> None:
    image = torch.full((3, 60, 80), 0.25)
    image[:, 20:40, 30:60] = 1.0
    detector, draws = Still(), generator(1)
    (found,) = revisit(
        detector, [image], [region((30, 20, 60, 40), 1)], generator=draws, how=how, copies=20
    )
    assert float(found) == pytest.approx(0.8)  # in every copy that shows it
    assert {tuple(one.shape) for one in detector.seen} == {(3, 60, 80)}
    shares = [float((one[0] > 0.5).double().mean()) for one in detector.seen]
    own = 600 / 4800
    assert min(shares) < 0.5 * own and max(shares) > 1.8 * own and len(set(shares)) > 15


def test_a_copy_that_does_not_show_a_region_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisiting, "_rescaled", lambda image, boxes, _: (image, boxes - 1000))
    assert value("rescale") != value("rescale")  # NaN


def test_the_factor_is_from_half_to_double() -> None:
    image, box = torch.rand(3, 40, 40), torch.tensor([[0.0, 0, 40, 40]])
    widths = []
    for seed in range(60):
        _, moved = revisiting._rescaled(image, box, generator(seed))
        widths.append(float(moved[0, 2] - moved[0, 0]) / 40)
    assert 0.5 <= min(widths) < 0.56 and 1.8 < max(widths) <= 2
    assert 20 < sum(one < 1 for one in widths) < 40


def test_what_is_given() -> None:
    assert revisit(Spotter(), [], [], generator=generator(0)) == []
    nothing = region(LEFT, 2).select(torch.tensor([], dtype=torch.long))
    detector = Spotter()
    (empty,) = revisit(detector, [Spots().load("1")], [nothing], generator=generator(0))
    assert empty.shape == (0,) and detector.looked == 0
    for options, message in (({"how": "turn"}, "how"), ({"copies": 0}, "copies = 0")):
        with pytest.raises(ValueError, match=message):
            value(**({"how": "flip"} | options))
