"""Region proposals: where in an image an object could be, said before any class is known.

A detector trained on tags alone chooses among such boxes (BiB §3.1 builds on one), so an object
without a proposal is out of its reach; `recall` measures how many are. Two methods: a multi-scale
`grid`, which needs nothing, and `selective_search`, which needs OpenCV and looks at the pixels.
`Grid` and `SelectiveSearch` hold a method with its options and are called with an image;
`cached` keeps on disk what any of them answers. Left out: methods that are trained (EdgeBoxes
needs a model file, a region proposal network boxes). Notebooks: those on weak supervision.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from almining.boxes import clip
from almining.boxes import iou as overlap
from almining.checks import check_boxes, check_image
from almining.data.pool import Pool
from almining.data.selective import SelectiveSearch as SelectiveSearch
from almining.data.selective import selective_search as selective_search
from almining.progress import bar

SIZES = (0.18, 0.25, 0.36, 0.5, 0.7, 1.0)
RATIOS = (0.5, 1.0, 2.0)
_keeps: ContextVar[bool] = ContextVar("almining.data.proposals", default=True)


class Proposer(Protocol):
    """A method of proposing boxes, with its options; must survive being copied to a worker."""

    @property
    def key(self) -> str:
        """Method and options in one line: two proposers of one key propose the same boxes."""
        ...

    def __call__(self, image: Tensor, /) -> Tensor:
        """Return boxes (n, 4), xyxy in pixels, of an image (3, h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of `grid`, held with its options.

    >>> len(Grid()(torch.zeros(3, 128, 128))), Grid(sizes=[0.5], ratios=[1]).key
    (1198, '1 Grid(sizes=(0.5,), ratios=(1.0,), stride_share=0.3333333333333333)')
    """

    sizes: tuple[float, ...] = SIZES
    ratios: tuple[float, ...] = RATIOS
    stride_share: float = 1 / 3

    def __post_init__(self) -> None:
        """Validate, and write equal options equally."""
        for name, high in (("sizes", 1.0), ("ratios", math.inf)):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, Iterable) else ()
            if not values:
                raise ValueError(f"Grid.{name} = {given!r}: give at least one number, as a tuple")
            checked = tuple(_share(value, f"Grid.{name}", high) for value in values)
            object.__setattr__(self, name, checked)
        stride = _share(self.stride_share, "Grid.stride_share", 1.0)
        object.__setattr__(self, "stride_share", stride)

    @property
    def key(self) -> str:
        """Method, its version and its options."""
        return f"1 {self!r}"

    def __call__(self, image_or_size: Tensor | tuple[int, int], /) -> Tensor:
        """Return the boxes (n, 4) of one image; see `grid`."""
        height, width, device = _size(image_or_size)
        parts = [
            self._scale(height, width, size, ratio) for size in self.sizes for ratio in self.ratios
        ]
        boxes = clip(torch.cat(parts).float(), (height, width))
        return torch.unique(boxes, dim=0).to(device)

    def _scale(self, height: int, width: int, size: float, ratio: float) -> Tensor:
        side = size * math.sqrt(height * width)
        wide = min(max(side * math.sqrt(ratio), 1.0), width)
        high = min(max(side / math.sqrt(ratio), 1.0), height)
        top, left = self._places(height, high), self._places(width, wide)
        y, x = torch.meshgrid(top, left, indexing="ij")
        return torch.stack([x, y, x + wide, y + high], dim=-1).reshape(-1, 4)

    def _places(self, length: int, side: float) -> Tensor:
        """Return where boxes of this side begin: evenly from one edge to the other."""
        room = length - side
        steps = math.ceil(room / max(self.stride_share * side, 1.0) - 1e-9)
        return torch.arange(steps + 1, dtype=torch.float64) * (room / max(steps, 1))


def grid(
    image_or_size: Tensor | tuple[int, int],
    *,
    sizes: tuple[float, ...] = SIZES,
    ratios: tuple[float, ...] = RATIOS,
    stride_share: float = 1 / 3,
) -> Tensor:
    """Return a multi-scale grid of boxes, the same for every image of one size.

    The defaults are the toy world's: about 1,200 boxes on 128 x 128 pixels, of which one covers 98
    of 100 objects at IoU 0.5, but only half of them at 0.7.

    Args:
        image_or_size: an image (3, h, w), or (height, width) in pixels.
        sizes: of a box before clipping, as sqrt(area) over that of the image, above 0 to 1.
        ratios: width / height, each above 0.
        stride_share: the longest step between neighbours, as a share of the box's width and
            height, above 0 to 1; never below one pixel.

    Returns:
        (n, 4) float32, inside the image, at least one pixel wide and high, each box once, in
        lexicographic order of x1 y1 x2 y2. Boxes reach all four edges, so the grid of a mirrored
        image is the mirrored grid.

    Raises:
        ValueError: naming the argument, its value and what to do.

    >>> grid((4, 4), sizes=(0.5,), ratios=(1.0,), stride_share=1.0).tolist()
    [[0.0, 0.0, 2.0, 2.0], [0.0, 2.0, 2.0, 4.0], [2.0, 0.0, 4.0, 2.0], [2.0, 2.0, 4.0, 4.0]]
    """
    return Grid(sizes, ratios, stride_share)(image_or_size)


@dataclass(frozen=True, slots=True)
class Cached:
    """A proposer that keeps its answers in a folder; made by `cached`."""

    proposer: Proposer
    folder: Path

    @property
    def key(self) -> str:
        """The key of the proposer it asks: a cache changes no box."""
        return self.proposer.key

    def path(self, image: Tensor) -> Path:
        """Return the file that holds, or will hold, the boxes of an image."""
        check_image(image, "image")
        digest = hashlib.sha256(f"{self.key}\n{tuple(image.shape)}\n".encode())
        digest.update(_bytes(image))
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def __call__(self, image: Tensor, /) -> Tensor:
        """Return the boxes (n, 4) of one image, from the disk where they are there."""
        path = self.path(image)
        boxes = _read(path)
        if boxes is None:
            boxes = self.proposer(image)
            check_boxes(boxes, f"boxes of {self.key}")
            if _keeps.get():
                _write(path, boxes)
        return boxes.to(image.device)


def cached(proposer: Proposer, folder: str | Path) -> Cached:
    """Return the proposer with a memory on disk.

    A file is named by the content of the image and the proposer's key, so several proposers, pools
    and processes may share a folder. A file that is damaged is written again.

    Args:
        proposer: what is asked when the answer is not there.
        folder: where files go; made when the first is written. Delete it at any time.

    >>> cached(Grid(), "cache/proposals").key == Grid().key
    True
    """
    return Cached(proposer, Path(folder))


@contextmanager
def forgetting() -> Iterator[None]:
    """Let nothing new be `cached` inside: the images are made up, and never seen again."""
    token = _keeps.set(False)
    try:
        yield
    finally:
        _keeps.reset(token)


def recall(
    pool: Pool, proposer: Proposer, *, iou: float = 0.5, progress: bool = True
) -> dict[str, float]:
    """Return which share of a pool's boxes a proposer finds. Images are loaded one at a time.

    Args:
        pool: its complete images are looked at; their ignored boxes are left out.
        proposer: what is measured.
        iou: a box is found when a proposal overlaps it by at least so much; above 0 to 1.
        progress: whether to show a bar.

    Returns:
        `recall` and `recall/<class>` for every class, in [0, 1], NaN where there is no box;
        `boxes`, how many; `images`, how many; `proposals`, the mean number an image.

    Raises:
        ValueError: when no image is complete, `iou` is out of range, or the proposer returns
            something else than boxes (the image is named).

    >>> from almining.data.scenes import make_scenes
    >>> round(recall(make_scenes(5, seed=0), Grid(), progress=False)["recall"], 2)
    1.0
    """
    least = _share(iou, "iou", 1.0)
    ids = [image_id for image_id in pool.ids if pool.target(image_id).complete]
    if not ids:
        raise ValueError(f"{pool!r} has no complete image; recall needs images of known boxes")
    there, found = [torch.zeros(len(pool.classes) + 1, dtype=torch.int64) for _ in range(2)]
    proposals = 0
    for image_id in bar(ids, progress=progress, name="proposing", unit="image"):
        boxes = proposer(pool.image(image_id))
        check_boxes(boxes, f"proposals of {image_id!r}")
        proposals += len(boxes)
        target = pool.target(image_id)
        truth = target.boxes[~target.ignore]
        labels = target.labels[~target.ignore].cpu()
        hit = (overlap(truth, boxes.to(truth.device)) >= least).any(dim=1)  # (n,)
        there += labels.bincount(minlength=len(there))
        found += labels[hit.cpu()].bincount(minlength=len(found))
    figures = {"recall": _ratio(int(found.sum()), int(there.sum()))}
    for label, name in enumerate(pool.classes, start=1):
        figures[f"recall/{name}"] = _ratio(int(found[label]), int(there[label]))
    figures["boxes"], figures["images"] = float(there.sum()), float(len(ids))
    return {**figures, "proposals": proposals / len(ids)}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _share(value: Any, name: str, high: float) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (0 < number <= high and math.isfinite(number)):
        most = "" if math.isinf(high) else f" and at most {high:g}"
        raise ValueError(f"{name} = {value!r}: a number above 0{most} is needed")
    return float(number)


def _size(image_or_size: Tensor | tuple[int, int]) -> tuple[int, int, torch.device]:
    """Return height, width and device of an image or a size."""
    if isinstance(image_or_size, Tensor):
        check_image(image_or_size, "image")
        return image_or_size.shape[1], image_or_size.shape[2], image_or_size.device
    try:
        height, width = image_or_size
        good = all(type(side) is int and side > 0 for side in (height, width))
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(
            f"size = {image_or_size!r}: give an image (3, h, w), or (height, width) as two "
            "integers above 0"
        )
    return height, width, torch.device("cpu")


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().numpy().tobytes()


def _sum(boxes: Tensor) -> Tensor:
    return torch.tensor(list(hashlib.sha256(_bytes(boxes)).digest()), dtype=torch.uint8)


def _read(path: Path) -> Tensor | None:
    """Return the boxes in a file, None where it is missing or damaged."""
    try:
        held = load(path.read_bytes())
        boxes = held["boxes"]
        check_boxes(boxes, "boxes")
        whole = held["sha256"].tolist() == _sum(boxes).tolist()
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    return boxes if whole else None


def _write(path: Path, boxes: Tensor) -> None:
    """Write a file at once: whoever looks sees all of it or nothing."""
    content = save({"boxes": boxes.detach().cpu().contiguous(), "sha256": _sum(boxes)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
