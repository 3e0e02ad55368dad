"""Two views of one image: what a transform makes of it, with boxes mapped there and back.

A view is one of `VIEWS` by name, or any transform of torchvision's v2 that leaves an image an
image: photometric ones, and geometric ones that are affine (flips, crops, scaling, rotation).
torchvision draws from torch's global generator; here that is seeded per image from the generator
that is given, and put back. Notebook: 03_comining_cogeneration.

Source: Co-mining (Wang et al., AAAI 2021) §3.3, Table 4; strengths of colours are the code's.
Differs: the blur variant was never released: here σ is drawn from 0.1 to 2 pixels, p = 0.8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from almining.boxes import clip
from almining.records import Detections, Target
from almining.rng import draw_seed, forked

VIEWS = ("colour", "blur", "none")
View = str | Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """An image as a view shows it.

    Args:
        image: (3, h, w), what the view shows.
        size: (height, width) of the image itself.
        matrix: (2, 3) float64, what takes its points there; None where they stay.
    """

    image: Tensor
    size: tuple[int, int]
    matrix: Tensor | None = None

    def there(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) of the image as boxes of the view, cut to it."""
        return _mapped(boxes, self.matrix, (self.image.shape[1], self.image.shape[2]))

    def back(self, boxes: Tensor) -> Tensor:
        """Return boxes (n, 4) of the view as boxes of the image, cut to it."""
        if self.matrix is None:
            return boxes
        turned = torch.linalg.inv(self.matrix[:, :2])
        return _mapped(boxes, torch.cat([turned, -turned @ self.matrix[:, 2:]], dim=1), self.size)

    def target(self, target: Target) -> Target:
        """Return what is known of the image as what is known of the view."""
        if self.matrix is None:
            return target
        boxes, negatives = self.there(target.boxes), self.there(target.negatives)
        return replace(target, boxes=boxes, negatives=negatives)


def look(view: View, image: Tensor, *, generator: torch.Generator) -> Looked:
    """Return an image as a view shows it.

    Args:
        view: a name of `VIEWS`, or a transform of torchvision's v2.
        image: (3, h, w) in [0, 1].
        generator: one number is drawn, whatever the view, to seed the transform's draws.

    Raises:
        ValueError: for another name, or for a transform that bends boxes as no affine map does.
    """
    seed, size = draw_seed(generator), (image.shape[1], image.shape[2])
    transform = named_view(view) if isinstance(view, str) else view
    if transform is None:
        return Looked(image, size)
    from torchvision.tv_tensors import BoundingBoxes, Image

    probes = _probes(size)
    given = BoundingBoxes(probes, format="XYXY", canvas_size=size, clamping_mode=None)
    with forked(seed, image.device):
        shown, moved = transform(Image(image), given)
    seen = shown.as_subclass(Tensor)
    if torch.equal(moved.as_subclass(Tensor), probes) and seen.shape == image.shape:
        return Looked(seen, size)
    return Looked(seen, size, _affine(_centres(probes), _centres(moved), transform))


@cache
def named_view(name: str) -> Any:
    """Return torchvision's transform of a view by name; None for `"none"`."""
    from torchvision.transforms import v2

    if name == "none":
        return None
    if name == "colour":
        return v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    if name == "blur":
        return v2.RandomApply([v2.GaussianBlur(13, sigma=(0.1, 2.0))], p=0.8)
    known = ", ".join(VIEWS)
    raise ValueError(f"view = {name!r}: use one of {known}, or a transform of torchvision's v2")


def _probes(size: tuple[int, int]) -> Tensor:
    """Return small boxes (4, 4) at the corners of the middle of an image."""
    height, width = size
    points = [(x * width, y * height) for x, y in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75))]
    points.append((0.6 * width, 0.7 * height))
    half_x, half_y = width / 64, height / 64
    return torch.tensor([[x - half_x, y - half_y, x + half_x, y + half_y] for x, y in points])


def _centres(boxes: Tensor) -> Tensor:
    boxes = boxes.as_subclass(Tensor).double()
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _affine(points: Tensor, moved: Tensor, transform: Any) -> Tensor:
    """Return the map (2, 3) that takes three points where they went; the fourth must agree."""
    turned = torch.linalg.solve(points[1:3] - points[0], moved[1:3] - moved[0]).T
    matrix = torch.cat([turned, (moved[0] - turned @ points[0])[:, None]], dim=1)
    off = float((matrix[:, :2] @ points[3] + matrix[:, 2] - moved[3]).abs().max())
    if not off < 0.05 or float(torch.linalg.det(turned).abs()) < 1e-6:
        raise ValueError(
            f"the view {type(transform).__name__} moves boxes as no affine map does ({off:.2g} "
            "pixels off), so they cannot be mapped back; use flips, crops, scaling or rotation"
        )
    return matrix


def _mapped(boxes: Tensor, matrix: Tensor | None, size: tuple[int, int]) -> Tensor:
    if matrix is None:
        return boxes
    x1, y1, x2, y2 = boxes.double().unbind(dim=1)
    corners = torch.stack([x1, y1, x2, y1, x1, y2, x2, y2], dim=1).view(-1, 4, 2)
    matrix = matrix.to(boxes.device)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return clip(torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1).float(), size)


def moved(detections: Detections, change: Callable[[Tensor], Tensor]) -> Detections:
    """Return detections with their boxes changed."""
    return replace(detections, boxes=change(detections.boxes))
