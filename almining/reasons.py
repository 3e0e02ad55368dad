"""Why a request was made, as what can be shown: boxes with a few words, a map, small pictures.

Strategies return `Evidence` by kind; here each kind becomes marks, blocks and a strip, which `draw`
renders in a figure and `review` on a page. Nothing is drawn here, and no detector is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from almining.checks import check_boxes, check_labels, check_whole
from almining.data.formats.files import BrokenImageError
from almining.data.pool import Pool
from almining.records import Evidence, Request

LONGEST = 160  # pixels of the longer side of a small picture, about
MOST = 6  # small pictures


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """A box of the image that the evidence speaks of.

    Args:
        box: (4,) in pixels.
        text: what is said of it.
        role: what it is to the evidence, such as `"small"` or `"seed head"`.
    """

    box: Tensor
    text: str
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What can be shown of evidence.

    Args:
        text: its sentence.
        marks: boxes, those beneath first.
        blocks: (rows, columns), one number for each region of the image; None where there are none.
        region: side of such a region in pixels.
        strip: small pictures (3, h, w), uint8, each with a caption.
    """

    text: str = ""
    marks: tuple[Mark, ...] = ()
    blocks: Tensor | None = None
    region: int = 0
    strip: tuple[tuple[Tensor, str], ...] = ()


def shown(
    request: Request,
    pool: Pool | None = None,
    *,
    limit: int = 5,
    classes: Sequence[str] | None = None,
) -> Shown:
    """Return what can be shown of why a request was made; of a kind not known here, its text.

    Args:
        request: with its evidence. `"entropy"` has the most uncertain boxes, `"pairs"` the surest
            box-in-box pairs, `"divergence"` the maxima of regions and the frames before and after,
            `"consistency"` the pastes and what each said, `"heads"` what two heads say of a box,
            `"views"` what two views find, what one finds alone first.
        pool: where neighbouring frames come from; they are left out without one, or when broken.
        limit: at most so many boxes, or pairs.
        classes: names of classes 1...C; the pool's by default, numbers without one.

    Raises:
        ValueError: naming what the evidence lacks, or what is malformed.

    >>> data = {"boxes": torch.zeros(1, 4), "entropies": torch.tensor([0.5])}
    >>> why = Evidence("entropy", data, "most uncertain: cat")
    >>> [(mark.role, mark.text) for mark in shown(Request("r", "a", "tag", evidence=why)).marks]
    [('most uncertain', 'entropy 0.50')]
    """
    why = request.evidence
    if why is None:
        return Shown()
    names = pool.classes if classes is None and pool is not None else classes
    kinds: dict[str, Callable[[_Data], dict[str, Any]]] = {
        "entropy": lambda data: {"marks": _uncertain(data, limit)},
        "pairs": lambda data: {"marks": _paired(data, names, limit)},
        "divergence": lambda data: _divergent(data, request, pool),
        "consistency": lambda data: {"strip": _pasted(data, names)},
        "heads": lambda data: {"marks": _heads(data, names)[: 2 * limit]},
        "views": lambda data: {"marks": _views(data, names)[:limit]},
    }
    return Shown(why.text, **kinds[why.kind](_Data(why)) if why.kind in kinds else {})


def class_name(classes: Sequence[str] | None, label: int) -> str:
    """Return the name of a class, or its number where it has none.

    >>> class_name(["cat"], 1), class_name(["cat"], 2), class_name(None, 1)
    ('cat', 'class 2', 'class 1')
    """
    return classes[label - 1] if classes is not None and label <= len(classes) else f"class {label}"


class _Data:
    """The data of evidence; what is asked for is looked at first."""

    def __init__(self, why: Evidence) -> None:
        """Keep it."""
        self.values, self.about = why.data, f"evidence of kind {why.kind!r}"

    def need(self, *names: str) -> list[Any]:
        """Return values of these names."""
        if missing := [name for name in names if name not in self.values]:
            raise ValueError(f"{self.about} needs data {missing}, got {sorted(self.values)}")
        return [self.values[name] for name in names]

    def boxes(self, name: str = "boxes") -> Tensor:
        """Return boxes (n, 4)."""
        (boxes,) = self.need(name)
        check_boxes(boxes, f"{self.about}: {name}")
        return boxes.detach().cpu()

    def labels(self, n: int) -> list[int]:
        """Return n labels."""
        (labels,) = self.need("labels")
        check_labels(labels, n, f"{self.about}: labels")
        return labels.tolist()

    def numbers(self, name: str, *shape: int) -> Tensor:
        """Return finite numbers of a shape, of which -1 is any size, as float64."""
        (values,) = self.need(name)
        fits = isinstance(values, Tensor) and len(values.shape) == len(shape)
        if not fits or any(n not in (-1, m) for n, m in zip(shape, values.shape, strict=True)):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{self.about}: {name} must be a tensor {shape}, got {got}")
        if not bool(values.isfinite().all()):
            raise ValueError(f"{self.about}: {name} holds a number that is not finite")
        return values.detach().cpu().double()


def _uncertain(data: _Data, limit: int) -> tuple[Mark, ...]:
    data.need("boxes", "entropies")
    boxes = data.boxes()
    values = data.numbers("entropies", len(boxes))
    order = values.argsort(descending=True, stable=True)[:limit].tolist()
    return tuple(
        Mark(boxes[i], f"entropy {float(values[i]):.2f}", "uncertain" if rank else "most uncertain")
        for rank, i in enumerate(order)
    )


def _paired(data: _Data, names: Sequence[str] | None, limit: int) -> tuple[Mark, ...]:
    data.need("boxes", "labels", "scores", "pairs")
    boxes = data.boxes()
    labels, scores = data.labels(len(boxes)), data.numbers("scores", len(boxes))
    pairs = data.numbers("pairs", -1, 2).long()
    if len(pairs) and not 0 <= int(pairs.min()) <= int(pairs.max()) < len(boxes):
        raise ValueError(f"{data.about}: pairs name rows beyond the {len(boxes)} boxes")
    best = scores[pairs].sum(dim=1).argsort(descending=True, stable=True)[:limit]
    small, large = (set(some.tolist()) for some in pairs[best].unbind(dim=1))
    return tuple(
        Mark(boxes[i], f"{class_name(names, labels[i])} {float(scores[i]):.2f}", role)
        for role, rows in (("large", large - small), ("small", small))
        for i in sorted(rows)
    )


def _divergent(data: _Data, request: Request, pool: Pool | None) -> dict[str, Any]:
    data.need("blocks", "region")
    blocks, (region,) = data.numbers("blocks", -1, -1), data.need("region")
    check_whole(region, f"{data.about}: region", 1)
    if not blocks.numel():
        raise ValueError(f"{data.about}: blocks are empty; an image has one at least")
    row, column = divmod(int(blocks.argmax()), blocks.shape[1])
    place = torch.tensor([column, row, column + 1, row + 1]).float() * region
    said: dict[int, float] = {}
    if "offsets" in data.values or "neighbours" in data.values:
        data.need("offsets", "neighbours")
        offsets = data.numbers("offsets", -1).long().tolist()
        scores = data.numbers("neighbours", len(offsets)).tolist()
        said = dict(zip(offsets, scores, strict=True))
    return {
        "marks": (Mark(place, f"{float(blocks.max()):.3g}", "maximum"),),
        "blocks": blocks.float(),
        "region": region,
        "strip": () if pool is None else _neighbours(request.image_id, pool, said),
    }


def _neighbours(image_id: str, pool: Pool, said: dict[int, float]) -> tuple[Any, ...]:
    """Return the frames before and after one, with the scores that are known by offset."""
    here = pool.info(image_id)
    if here.video is None or here.frame is None:
        return ()
    infos = ((pool.info(one), one) for one in pool.ids)
    film = [(i.frame, one) for i, one in infos if i.video == here.video and i.frame is not None]
    frames = sorted(film)
    place, half = frames.index((here.frame, image_id)), MOST // 2
    strip = []
    for frame, one in frames[max(0, place - half) : place] + frames[place + 1 : place + 1 + half]:
        score = said.get(frame - here.frame)
        try:
            picture = _small(pool.image(one))
        except BrokenImageError:
            continue
        strip.append((picture, f"frame {frame}" + ("" if score is None else f": {score:.3g}")))
    return tuple(strip)


def _pasted(data: _Data, names: Sequence[str] | None) -> tuple[tuple[Tensor, str], ...]:
    """Return the pastes, each place framed; none where a region was looked at in another way."""
    if "terms" not in data.values:
        return ()
    terms = data.numbers("terms", -1).tolist()[:MOST]
    count = len(terms)
    pictures = data.need(*(f"paste_{n}" for n in range(count)))
    places = data.boxes("places")
    data.numbers("matched", len(places))
    (label,), matched = data.labels(1), data.need("matched")[0].tolist()
    if len(places) < count:
        raise ValueError(f"{data.about}: {len(places)} places for {count} terms; give one for each")
    strip = []
    for n, picture in enumerate(pictures):
        if not (isinstance(picture, Tensor) and picture.dtype == torch.uint8 and picture.ndim == 3):
            raise ValueError(f"{data.about}: paste_{n} must be a uint8 tensor (3, h, w)")
        said = f"as {class_name(names, label)} {terms[n]:.2f}" if matched[n] else "not found"
        strip.append((_framed(picture.cpu(), places[n]), said))
    return tuple(strip)


def _heads(data: _Data, names: Sequence[str] | None) -> tuple[Mark, ...]:
    data.need("boxes", "labels", "seed", "mixed")
    boxes = data.boxes()
    labels, marks = data.labels(len(boxes)), []
    for i, label in enumerate(labels):
        for name in ("seed", "mixed"):
            probs = data.numbers(name, len(boxes), -1)[i]
            if label >= len(probs):
                raise ValueError(f"{data.about}: {name} has no column for class {label}")
            best = int(probs.argmax())
            said = [(best, class_name(names, best) if best else "background")]
            said += [(label, class_name(names, label))] if best != label else []
            text = ", ".join(f"{one} {float(probs[column]):.2f}" for column, one in said)
            marks.append(Mark(boxes[i], text, f"{name} head"))
    return tuple(marks)


def _views(data: _Data, names: Sequence[str] | None) -> tuple[Mark, ...]:
    """Return what one view finds alone, the surest first, then what both do, once."""
    data.need("boxes", "labels", "scores", "view", "agreed")
    boxes = data.boxes()
    labels, scores = data.labels(len(boxes)), data.numbers("scores", len(boxes))
    view, agreed = data.numbers("view", len(boxes)), data.numbers("agreed", len(boxes)).bool()
    order = scores.argsort(descending=True, stable=True)
    alone, both = order[~agreed[order]], order[(agreed & (view == 0))[order]]
    return tuple(
        Mark(
            boxes[i],
            f"{class_name(names, labels[i])} {float(scores[i]):.2f}",
            "both views" if agreed[i] else "view b" if view[i] else "view a",
        )
        for i in [*alone.tolist(), *both.tolist()]
    )


def _small(image: Tensor) -> Tensor:
    """Return an image of at most `LONGEST` pixels as uint8."""
    sides = image.shape[1:]
    if max(sides) > LONGEST:
        small = [max(1, round(side * LONGEST / max(sides))) for side in sides]
        image = interpolate(image[None], small, mode="bilinear", antialias=True)[0]
    return (image.detach().cpu() * 255).round().clamp(0, 255).byte()


def _framed(picture: Tensor, place: Tensor) -> Tensor:
    """Return a small picture with dashes around a place, enlarged where that keeps it small."""
    times = max(1, LONGEST // max(picture.shape[1:]))
    large = picture.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
    height, width = large.shape[1:]
    x1, y1, x2, y2 = (place * times).round().int().tolist()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    outer = (rows >= y1 - 1) & (rows <= y2) & (columns >= x1 - 1) & (columns <= x2)
    inner = (rows >= y1) & (rows < y2) & (columns >= x1) & (columns < x2)
    dashes = ((rows + columns) // 4 % 2).byte() * 255  # black and white show on any image
    return torch.where(outer & ~inner, dashes, large)
