"""What a page is shown of a request: the image, smaller than it is, and why it was picked.

Images leave as JPEG of at most 1600 pixels; boxes stay in pixels of the original.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from almining import reasons
from almining.boxes import area, clip, iou
from almining.checks import HUMAN
from almining.data.formats.files import decode_within
from almining.data.pool import Pool
from almining.label.merging import SAME_OBJECT
from almining.records import Detections, Request, Target
from almining.review.events import START, event
from almining.review.state import Box

LONGEST = 1600  # pixels of the longer side that are sent
QUALITY = 85  # of a JPEG
DIGITS = 2  # of coordinates, after the point


def shown(
    request: Request, pool: Pool, image: Tensor | None = None
) -> tuple[dict[str, Any], list[bytes]]:
    """Return what the page shows of a request, and the pictures beside it.

    Args:
        request: with its evidence.
        pool: with the image, and those the evidence is about.
        image: (3, h, w), where it is loaded already.

    Returns:
        JSON values: "size" (height, width) of the original, "scale" of what is sent, "why" and the
        captions of "strip"; and JPEGs: the image, then those of the strip.
    """
    small, size = _small(request.image_id, pool, image)
    why = reasons.shown(request, pool)
    page = {
        "request": request.id,
        "size": list(size),
        "scale": small.shape[2] / size[1],
        "why": {
            "text": why.text,
            "marks": [
                {"box": rounded(one.box), "text": f"{one.role}: {one.text}"} for one in why.marks
            ],
            "blocks": None
            if why.blocks is None
            else {"region": why.region, "values": why.blocks.tolist()},
        },
        "strip": [caption for _, caption in why.strip],
    }
    return page, [jpeg(small), *(jpeg(picture) for picture, _ in why.strip)]


def start(request: Request, pool: Pool, image: Tensor, found: Detections | None) -> dict[str, Any]:
    """Return the event a request begins with: what is known and what is predicted.

    Complete: a person's boxes are known; mined ones and detections are predicted, where nothing of
    their class is known yet. Region: the region itself is predicted, of the class it was taken for.
    The others have no boxes.

    Args:
        request: what is asked.
        pool: what is known.
        image: (3, h, w).
        found: what a detector says; None where there is none.
    """
    known: list[dict[str, Any]] = []
    proposed: list[dict[str, Any]] = []
    height, width = image.shape[1:]
    if request.kind == "complete":
        target = pool.target(request.image_id).to("cpu")
        person = torch.tensor([origin == HUMAN for origin in target.origin], dtype=torch.bool)
        known = _boxes("k", target.select(person))
        proposed = _boxes("m", target.select(~person))
        if found is not None:
            found = found.to("cpu")
            same = found.labels[:, None] == target.labels
            new = ~((iou(found.boxes, target.boxes) >= SAME_OBJECT) & same).any(dim=1)
            cut = replace(found, boxes=clip(found.boxes, (height, width)))
            proposed += _boxes("p", cut.select(new))
    elif request.kind == "region" and request.box is not None:
        box = clip(request.box[None].cpu(), (height, width))
        region = _boxes("r", Detections(box, _claimed(request), torch.zeros(1)))
        proposed = [one | {"score": None} for one in region]
    given = {"size": [height, width], "known": known, "proposed": proposed}
    return event(request.id, "start", id=f"{START}{request.id}", **given)


def predicted(detector: Any, image: Tensor, pool: Pool, min_score: float, most: int) -> Detections:
    """Return what a detector finds in an image, on the CPU, best first.

    Args:
        detector: of the pool's classes.
        image: (3, h, w).
        pool: with the classes.
        min_score: what scores less is left out.
        most: at most so many.

    Raises:
        ValueError: when it finds a class that the pool does not have.
    """
    with torch.no_grad():
        device = next(iter(detector.parameters()), image).device
        found: Detections = detector.detect([image.to(device)])[0].to("cpu")
    last = max(found.labels.tolist(), default=0)
    if last > len(pool.classes):
        raise ValueError(
            f"the detector finds class {last}, but the pool has {len(pool.classes)} classes; give "
            "the detector of that run"
        )
    sure = found.select(found.scores >= min_score)
    return sure.select(sure.scores.argsort(descending=True, stable=True)[:most])


def as_detections(boxes: Sequence[Box]) -> Detections:
    """Return predicted boxes, one at least, as detections; those without a score have 0."""
    return Detections(
        torch.tensor([box.box for box in boxes], dtype=torch.float32),
        torch.tensor([box.label for box in boxes]),
        torch.tensor([box.score or 0.0 for box in boxes], dtype=torch.float32),
    )


def rounded(box: Tensor) -> list[float]:
    """Return a box (4,) as numbers of the page."""
    return [round(side, DIGITS) for side in box.tolist()]


def jpeg(image: Tensor) -> bytes:
    """Return an image (3, h, w), uint8 or float in [0, 1], as JPEG."""
    pixels = image if image.dtype == torch.uint8 else (image * 255).round().clamp(0, 255).byte()
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _small(image_id: str, pool: Pool, image: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
    """Return an image of at most `LONGEST` pixels, and the (height, width) it has."""
    info = pool.info(image_id)
    if image is None and info.size and info.path and info.video is None:
        return decode_within(info.path, LONGEST)[0], info.size
    image = pool.image(image_id) if image is None else image
    size = (image.shape[1], image.shape[2])
    if max(size) <= LONGEST:
        return image, size
    small = [max(1, round(side * LONGEST / max(size))) for side in size]
    return interpolate(image[None], small, mode="bilinear", antialias=True)[0], size


def _boxes(mark: str, found: Target | Detections) -> list[dict[str, Any]]:
    """Return boxes as a page has them, to the last bit; those without area are left out."""
    made = []
    for row in (area(found.boxes) > 0).nonzero()[:, 0].tolist():
        score = float(found.scores[row])
        ignore = isinstance(found, Target) and bool(found.ignore[row])
        known = {"ignore": ignore, "score": None if score != score else score}
        place = {"box": found.boxes[row].tolist(), "label": int(found.labels[row])}
        made.append({"key": f"{mark}{row}", **place, **known})
    return made


def _claimed(request: Request) -> Tensor:
    """Return the class a region was taken for, (1,); class 1 where nobody says."""
    labels = request.evidence.data.get("labels") if request.evidence else None
    if isinstance(labels, Tensor) and len(labels):
        return labels[:1].cpu()
    return torch.tensor([request.label or 1])
