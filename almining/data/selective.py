"""Selective search: proposals grown from the pixels, through OpenCV.

Part of `data.proposals`, which is where to import it from. OpenCV is the extra `proposals` and is
loaded when a search runs, not before. Left out: the ranks OpenCV gives, drawn partly at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from almining.boxes import area, clip
from almining.checks import check_image

MODES = ("fast", "quality")
NO_OPENCV = (
    "selective search needs OpenCV's ximgproc: pip install almining[proposals]. Every OpenCV wheel "
    "(opencv-python, opencv-contrib-python, each also -headless) writes the same folder cv2, and "
    "one that lacks ximgproc hides it: pip uninstall the others first. data.proposals.grid needs "
    "no OpenCV"
)


@dataclass(frozen=True, slots=True)
class SelectiveSearch:
    """The search of `selective_search`, held with its options.

    >>> SelectiveSearch(limit=300).key
    "1 SelectiveSearch(mode='fast', base_size=50, min_size=1, limit=300, enlarge=1)"
    """

    mode: Literal["fast", "quality"] = "fast"
    base_size: int = 50
    min_size: int = 1
    limit: int | None = None
    enlarge: int = 1

    def __post_init__(self) -> None:
        """Validate."""
        if self.mode not in MODES:
            raise ValueError(f"SelectiveSearch.mode = {self.mode!r}: use 'fast' or 'quality'")
        for name in ("base_size", "min_size", "limit", "enlarge"):
            value = getattr(self, name)
            if name == "limit" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"SelectiveSearch.{name} = {value!r}: an integer >= 1 is needed")

    @property
    def key(self) -> str:
        """Method, its version and its options."""
        return f"1 {self!r}"

    def __call__(self, image: Tensor, /) -> Tensor:
        """Return the boxes (n, 4) of one image; see `selective_search`."""
        pixels = _bgr(image)
        cv2 = _opencv()
        if self.enlarge > 1:
            times = self.enlarge
            pixels = cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR)
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(pixels)
        if self.mode == "fast":
            search.switchToSelectiveSearchFast(self.base_size, self.base_size, 0.8)
        else:
            search.switchToSelectiveSearchQuality(self.base_size, self.base_size, 0.8)
        found = torch.from_numpy(search.process().astype(np.float32)).reshape(-1, 4)  # x y w h
        corners = torch.cat([found[:, :2], found[:, :2] + found[:, 2:]], dim=1) / self.enlarge
        boxes = clip(corners, (image.shape[1], image.shape[2]))
        boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= self.min_size).all(dim=1)]
        # OpenCV's order is drawn at random and never twice the same; the set of boxes is
        return _thinned(torch.unique(boxes, dim=0), self.limit).to(image.device)


def selective_search(
    image: Tensor,
    *,
    mode: Literal["fast", "quality"] = "fast",
    base_size: int = 50,
    min_size: int = 1,
    limit: int | None = None,
    enlarge: int = 1,
) -> Tensor:
    """Return boxes around regions that were grown by merging similar neighbours.

    Args:
        image: (3, h, w) float32 in [0, 1], RGB, not normalised.
        mode: `"fast"`, or `"quality"`: several times the boxes in several times the time.
        base_size: k of the first segmentation and the step to the next ones; smaller begins with
            smaller regions. The paper's 50 is made for such, OpenCV's own 150 for large photos.
        min_size: the shortest side kept, in pixels.
        limit: the most boxes kept, evenly through the order by area. Default: all.
        enlarge: search in the image so many times as large; 2 finds the small objects of a small
            image, in four times the time.

    Returns:
        (n, 4) float32, inside the image, each box once, in lexicographic order of x1 y1 x2 y2; the
        same in every run.

    Raises:
        ModuleNotFoundError: when OpenCV is not installed; says how to install it.
        ImportError: when the OpenCV installed has no ximgproc.
        ValueError: naming the argument, its value and what to do.

    >>> selective_search(torch.zeros(3, 8, 8)).tolist()  # doctest: +SKIP
    [[0.0, 0.0, 8.0, 8.0]]

    Source: Selective Search (Uijlings et al., IJCV 2013) §3, in OpenCV's implementation.
    Differs: OpenCV ranks regions partly at random; the rank is dropped. Steps of k are `base_size`
    (paper: 50 and 100 in fast mode).
    """
    return SelectiveSearch(mode, base_size, min_size, limit, enlarge)(image)


def _bgr(image: Tensor) -> np.ndarray:
    """Return an image as OpenCV wants it: uint8 (h, w, 3), blue first."""
    check_image(image, "image")
    low, high = float(image.min()), float(image.max())
    if not (low >= -1e-5 and high <= 1 + 1e-5):  # false for NaN, too
        raise ValueError(
            f"image spans [{low:g}, {high:g}]; selective search needs finite values in [0, 1], "
            "so propose before normalising"
        )
    bytes_ = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(bytes_.flip(0).permute(1, 2, 0).numpy())


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NO_OPENCV, name="cv2") from error
    if not hasattr(cv2, "ximgproc"):
        raise ImportError(NO_OPENCV, name="cv2")
    return cv2


def _thinned(boxes: Tensor, limit: int | None) -> Tensor:
    """Return at most `limit` boxes, evenly through the order by area, in the order they had."""
    n = len(boxes)
    if limit is None or n <= limit:
        return boxes
    places = (2 * torch.arange(limit) + 1) * n // (2 * limit)
    return boxes[area(boxes).argsort(stable=True)[places].sort().values]
