"""Cross-image validation of many regions: the paper's way, and cheaper ones.

A region is cut out, pasted into at most N images without its class, and looked for there; what is
found makes its consistency (SSM, Wang et al., CVPR 2018, Eq. 5 and 6). The paper looks at one paste
at a time and pays 620 ms an image where training alone takes 150. Cheaper: several pastes in one
image, and asking the region head of a detector about the pasted box alone. How often the verdict
is then the same is measured in tests/bench/bench_ssm.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from almining.checks import check_choice, check_class, check_one_box, check_whole
from almining.data.pool import Pool
from almining.data.proposals import forgetting
from almining.data.quarantine import CURRENT, Quarantine
from almining.detectors.base import device_of, offers
from almining.papers.ssm.contexts import draw_contexts, lacking
from almining.papers.ssm.equations import Average, image_terms, mean_term
from almining.papers.ssm.pasting import Canvas, Edge, cut, paste_all
from almining.records import Detections

Result = TypeVar("Result")
LOADED = 64  # images kept at a time


class Region(NamedTuple):
    """A box of an image, and the class a detector takes it for.

    Args:
        image_id: the image.
        box: (4,).
        label: j*, 1...C.
    """

    image_id: str
    box: Tensor
    label: int


class Validation(NamedTuple):
    """What came of pasting a region into other images.

    Args:
        contexts: the m images.
        pasted: (m, 4) where the region lay in each.
        terms: (m,) float64, what each said: Eq. 5 without λ.
        matched: (m,) bool, in which something was found there.
        consistency: s of Eq. 6; None where there was no image: the region is undetermined.
    """

    contexts: tuple[str, ...]
    pasted: Tensor
    terms: Tensor
    matched: Tensor
    consistency: float | None


class Way(NamedTuple):
    """How regions are validated.

    Args:
        batch: images that the detector looks at together.
        pack: the most pastes in one image; those of different classes, or of images that suit
            themselves, only share images where enough suit them all.
        head: take the probabilities of the pasted box itself, by the detector's `regions`, instead
            of looking for it.
    """

    batch: int = 1
    pack: int = 1
    head: bool = False


WAYS = {
    "single": Way(),
    "batched": Way(batch=10),
    "packed": Way(batch=10, pack=8),
    "regions": Way(batch=10, head=True),
    "packed_regions": Way(batch=10, pack=8, head=True),
}


def validate(
    detector: Any,
    pool: Pool,
    regions: Sequence[Region],
    *,
    generator: torch.Generator,
    way: str | Way = "single",
    images: int = 5,
    suitable: Mapping[int, Sequence[str]] | None = None,
    crops: Sequence[Tensor] | None = None,
    max_fraction: float = 0.6,
    edge: Edge = "hard",
    min_iou: float = 0.5,
    average: Average = "matched",
    failures_as_zero: bool = True,
) -> list[Validation]:
    """Return what comes of pasting each region into images that are known to lack its class.

    The images, and where in them a region lies, depend on `generator` alone: `"single"`,
    `"batched"` and `"regions"` paste alike. A region without area is undetermined, as one is for
    which there is no image.

    Where an image turns out to be broken, all are looked at, and everything is validated anew as if
    the broken ones were not there: they are pasted into no longer, their own regions are
    undetermined, and a warning names them. Inside a run, or a `Quarantine`'s `survive`, that one
    does so: here it raises.

    Args:
        detector: has `detect`, with `probs`, or `regions`.
        pool: the images of the regions, and those that are pasted into.
        regions: in any order; with `crops`, of images outside the pool, too.
        generator: draws.
        way: one of `WAYS`, or its numbers. `"single"` is the paper's.
        images: N, into how many images a region is pasted at most.
        suitable: `lacking(pool)`, where it is at hand.
        crops: what is pasted, (3, h, w) for each region; cut from the pool's images by default.
        max_fraction: see `paste`.
        edge: see `paste`.
        min_iou: γ.
        average: see `image_terms`.
        failures_as_zero: see `consistency`.

    Raises:
        ValueError: naming the argument and its value, or what the detector lacks.
        DataError: when more than 1% of the pool is broken.

    Source: SSM §3.1 and 3.2, Eq. 5 and 6. N = 5 and γ = 0.5 are those of §4.
    Differs: the reference code rejects an image when one of its boxes fails; here every region
    stands for itself.
    """
    steps = _way(detector, way)
    _check(regions, pool, crops, suitable)
    check_whole(images, "images", 1)
    put = partial(paste_all, generator=generator, max_fraction=max_fraction, edge=edge)
    terms = partial(image_terms, min_iou=min_iou, average=average)
    state = generator.get_state()

    def call(pool: Pool) -> list[Validation]:
        generator.set_state(state)
        known = lacking(pool) if suitable is None else _inside(suitable, pool)
        packs = _packs(regions, known, steps.pack, images)
        made = _canvases(pool, regions, crops, packs, images, put, generator)
        kept: list[list[tuple[str, Tensor, Tensor, Tensor]]] = [[] for _ in regions]
        while some := list(islice(made, steps.batch)):
            looked = _look(detector, [canvas for _, canvas in some], steps.head)
            for (context, canvas), seen in zip(some, looked, strict=True):
                for row, box, found in zip(canvas.rows, canvas.boxes, seen, strict=True):
                    said = terms([found], box[None], regions[row].label)
                    kept[row].append((context, box, *said))
        return [_validation(one, failures_as_zero) for one in kept]

    return without_broken(call, pool, "validating")


def without_broken(call: Callable[[Pool], Result], pool: Pool, doing: str) -> Result:
    """Return what `call` makes of the pool, without its broken images where there are some.

    Args:
        call: takes a pool; what is going on already that sets images aside hears of broken ones.
        pool: whose images may be broken.
        doing: what a warning says was going on.
    """
    if CURRENT.get() is not None:
        return call(pool)
    aside = Quarantine(of=len(pool))
    found = aside.survive(call, pool)
    aside.warn(doing, stacklevel=3)
    return found


def _inside(suitable: Mapping[int, Sequence[str]], pool: Pool) -> dict[int, list[str]]:
    return {label: [i for i in ids if i in pool] for label, ids in suitable.items()}


def _look(detector: Any, canvases: Sequence[Canvas], head: bool) -> list[list[Detections]]:
    """Return, for each image, what is said of each paste in it."""
    device = device_of(detector)
    images = [canvas.image.to(device) for canvas in canvases]
    if not head:
        with forgetting():
            found = [one.to("cpu") for one in detector.detect(images)]
        return [[one] * len(canvas.rows) for one, canvas in zip(found, canvases, strict=True)]
    said = detector.regions(images, [canvas.boxes.to(device) for canvas in canvases])
    rows = [torch.arange(len(canvas.rows)).split(1) for canvas in canvases]
    pairs = zip((one.to("cpu") for one in said), rows, strict=True)
    return [[one.select(row) for row in each] for one, each in pairs]


def _validation(
    said: Sequence[tuple[str, Tensor, Tensor, Tensor]], failures_as_zero: bool
) -> Validation:
    if not said:
        none = torch.zeros(0, dtype=torch.float64)
        return Validation((), torch.zeros(0, 4), none, none.bool(), None)
    contexts, boxes, terms, matched = zip(*said, strict=True)
    term, match = torch.cat(terms), torch.cat(matched)
    value = mean_term(term, match, failures_as_zero=failures_as_zero)
    return Validation(contexts, torch.stack(boxes), term, match, value)


def _canvases(
    pool: Pool,
    regions: Sequence[Region],
    given: Sequence[Tensor] | None,
    packs: Sequence[tuple[list[int], Sequence[str]]],
    count: int,
    put: Callable[..., list[Canvas]],
    generator: torch.Generator,
) -> Iterator[tuple[str, Canvas]]:
    """Yield the images to look at, one at a time, and which image each was before."""
    load = lru_cache(LOADED)(pool.image)

    def crop(row: int) -> Tensor:
        image_id, box, _ = regions[row]
        if given is not None:
            return given[row]
        return cut(load(image_id), box) if image_id in pool else torch.zeros(3, 0, 0)

    for members, suitable in packs:
        cut_out = ((row, crop(row)) for row in members)
        crops = {row: one for row, one in cut_out if one.numel()}
        if not crops:
            continue
        own = {regions[row].image_id for row in crops}
        for context in draw_contexts(suitable, count, without=own, generator=generator):
            for canvas in put(list(crops.values()), load(context)):
                rows = [list(crops)[place] for place in canvas.rows]
                yield context, canvas._replace(rows=rows)


def _packs(
    regions: Sequence[Region], suitable: Mapping[int, Sequence[str]], most: int, count: int
) -> list[tuple[list[int], Sequence[str]]]:
    """Return the regions that share images, class by class, and the images that suit them."""
    packs: list[tuple[list[int], Sequence[str]]] = []
    for row in sorted(range(len(regions)), key=lambda row: regions[row].label):
        known = suitable[regions[row].label]
        if packs and len(packs[-1][0]) < most:
            members, shared = packs[-1]
            if regions[members[-1]].label != regions[row].label:
                mine = set(known)
                shared = [image_id for image_id in shared if image_id in mine]
            own = {regions[one].image_id for one in (*members, row)}.intersection(shared)
            alike = regions[members[0]].label == regions[row].label and not own
            if alike or len(shared) - len(own) >= count:
                packs[-1] = ([*members, row], shared)
                continue
        packs.append(([row], known))
    return packs


def _way(detector: Any, way: str | Way) -> Way:
    if isinstance(way, str):
        check_choice(way, tuple(WAYS), "way")
        way = WAYS[way]
    need = "regions" if way.head else "detect"
    if not offers(detector, need):
        raise ValueError(
            f"{type(detector).__name__} has no {need}, by which way = {way} looks at a paste; "
            f"use {'head=False' if way.head else 'head=True'}, or a detector that has it"
        )
    check_whole(way.batch, "way.batch", 1)
    check_whole(way.pack, "way.pack", 1)
    return way


def _check(
    regions: Sequence[Region],
    pool: Pool,
    crops: Sequence[Tensor] | None,
    suitable: Mapping[int, Sequence[str]] | None,
) -> None:
    if crops is not None and len(crops) != len(regions):
        raise ValueError(f"{len(crops)} crops for {len(regions)} regions; give one for each")
    for row, region in enumerate(regions):
        if crops is None:
            pool.target(region.image_id)  # or says that there is no such image
        check_one_box(region.box, f"regions[{row}].box")
        check_class(region.label, f"regions[{row}].label")
        if region.label > len(pool.classes):
            raise ValueError(
                f"regions[{row}].label = {region.label}, but the pool has {len(pool.classes)} "
                "classes; labels are 1...C"
            )
        if suitable is not None and region.label not in suitable:
            raise ValueError(
                f"suitable names no images for class {region.label} of regions[{row}]; give an "
                "empty list where there are none, or leave it out"
            )
