"""What is shown of a validation: small pictures of a region where it was pasted.

Made of the few regions that are asked about only. Where they lay is known from the validation, so
nothing is drawn anew; of regions that shared an image each is shown alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from almining.data.pool import Pool
from almining.papers.ssm.config import Config
from almining.papers.ssm.pasting import cut, paste_at
from almining.papers.ssm.validating import Region, Validation

MOST = 6  # pastes that are shown of a region
LONGEST = 96  # pixels of the longer side of a picture, at most
BYTES = 72_000  # of a region's pictures together: 96 kB in the run directory
AROUND = 2.0  # a picture is so many times as large as what was pasted
LEAST = 48  # pixels of the validation image that a picture shows, at least


def pastes(
    pool: Pool, region: Region, made: Validation, config: Config
) -> dict[str, Tensor | str | float | int]:
    """Return the data of evidence that shows where a region was pasted and what came of it.

    Args:
        pool: as it was validated.
        region: what was pasted.
        made: what came of it.
        config: how it was pasted.

    Returns:
        Of up to six images, in order: `contexts`, their ids, a line each; `terms` (m,) and
        `matched` (m,), what each said; `paste_0` and so on, (3, h, w) uint8, the image around the
        paste; and `places` (m, 4), where the paste is in that.
    """
    crop = cut(pool.image(region.image_id), region.box)
    contexts = made.contexts[:MOST]
    side = min(LONGEST, math.isqrt(BYTES // max(1, 3 * len(contexts))))
    data: dict[str, Tensor | str | float | int] = {}
    places = []
    for n, (context, box) in enumerate(zip(contexts, made.pasted, strict=False)):
        shown = pool.image(context)
        image = paste_at(crop, shown, box, max_fraction=config.max_fraction, edge=config.edge)
        data[f"paste_{n}"], place = around(image, box, side)
        places.append(place)
    data |= {"contexts": "\n".join(contexts), "terms": made.terms[:MOST]}
    data |= {"matched": made.matched[:MOST]}
    return data | {"places": torch.stack(places) if places else torch.zeros(0, 4)}


def around(image: Tensor, box: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return what is around a box, uint8 of at most `side` pixels, and the box (4,) in it.

    Args:
        image: (3, h, w) in [0, 1].
        box: (4,) inside the image.
        side: pixels of the longer side.

    >>> seen, place = around(torch.zeros(3, 200, 100), torch.tensor([0.0, 100, 40, 160]), 60)
    >>> seen.shape, place.tolist()
    (torch.Size([3, 60, 50]), [0.0, 15.0, 20.0, 45.0])
    """
    longest = float((box[2:] - box[:2]).max())
    window = max(LEAST, math.ceil(AROUND * longest))
    sizes = [min(window, n) for n in image.shape[1:]]
    middle = ((box[:2] + box[2:]) / 2).flip(0).tolist()
    starts = [
        min(max(0, round(at - size / 2)), n - size)
        for at, size, n in zip(middle, sizes, image.shape[1:], strict=True)
    ]
    (top, left), (height, width) = starts, sizes
    seen = image[:, top : top + height, left : left + width]
    small = [max(1, round(n * min(1.0, side / max(sizes)))) for n in sizes]
    if small != sizes:
        seen = interpolate(seen[None], small, mode="bilinear", antialias=True)[0]
    scale = torch.tensor([small[1] / width, small[0] / height] * 2)
    place = (box.cpu() - torch.tensor([left, top, left, top])) * scale
    return (seen.cpu() * 255).round().clamp(0, 255).byte(), place
