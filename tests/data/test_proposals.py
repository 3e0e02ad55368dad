from __future__ import annotations

import hashlib
import math
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from almining.boxes import area, flip, iou
from almining.data import proposals
from almining.data.pool import Pool
from almining.data.proposals import Grid, Proposer, SelectiveSearch, cached, grid, recall
from almining.data.readers import read_voc
from almining.data.scenes import make_scenes
from almining.records import Target
from tests.fakes import FlatImages, boxes, flat_pool, labels, target
from tests.oracles import box_iou

NEEDS_CV2 = "OpenCV is absent: selective search is NOT tested; pip install almining[proposals]"


class Fixed:
    """Proposes the same boxes for every image and counts how often it is asked."""

    def __init__(self, found: Tensor, key: str = "fixed") -> None:
        self.found, self.key, self.calls = found, key, 0

    def __call__(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.found


def noise(height: int = 12, width: int = 20, seed: int = 0) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def assert_well_formed(found: Tensor, height: int, width: int) -> None:
    rows = found.tolist()
    assert found.dtype == torch.float32 and found.shape == (len(rows), 4)
    assert rows == sorted(rows) and len({tuple(row) for row in rows}) == len(rows)
    for x1, y1, x2, y2 in rows:
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


# the grid


def test_a_grid_computed_by_hand() -> None:
    # sqrt(4 * 9) = 6; sides 0.5 * 6 * (sqrt 4, 1 / sqrt 4) = 6 x 1.5, steps of at most 3 and 0.75
    found = grid((4, 9), sizes=(0.5,), ratios=(4.0,), stride_share=0.5)
    rows = (0, 2.5 / 3, 5 / 3, 2.5)  # 2.5 pixels of room; a step is never below one pixel
    wanted = [(x, y, x + 6, y + 1.5) for x in (0, 3) for y in rows]
    assert torch.allclose(found, boxes(*wanted))


def test_a_grid_agrees_with_loops() -> None:
    height, width, sizes, ratios, share = 30, 50, (0.2, 0.6, 1.0), (0.4, 1.0, 3.0), 0.4
    wanted = set()
    for size in sizes:
        for ratio in ratios:
            side = size * math.sqrt(height * width)
            w = min(width, max(1, side * math.sqrt(ratio)))
            h = min(height, max(1, side / math.sqrt(ratio)))
            across, down = (
                [0.0] if n == 0 else [i * room / n for i in range(n + 1)]
                for room, n in (
                    (room, math.ceil(room / max(1, share * s)))
                    for room, s in ((width - w, w), (height - h, h))
                )
            )
            wanted |= {(x, y, x + w, y + h) for x in across for y in down}
    found = grid((height, width), sizes=sizes, ratios=ratios, stride_share=share)
    assert_well_formed(found, height, width)
    assert torch.allclose(found, boxes(*sorted(wanted)), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (37, 91), (128, 128)])
def test_the_grid_of_any_size_is_well_formed_and_reaches_every_edge(size: tuple[int, int]) -> None:
    found = grid(size)
    assert_well_formed(found, *size)
    assert float((found[:, 2:] - found[:, :2]).min()) >= 1 - 1e-4
    assert found.amin(0).tolist()[:2] == [0, 0] and found.amax(0).tolist()[2:] == [*size[::-1]]


def test_the_grid_of_one_pixel_is_that_pixel() -> None:
    assert grid(torch.zeros(3, 1, 1)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("size", [(128, 128), (37, 91)])
def test_the_grid_of_a_mirrored_image_is_the_mirrored_grid(size: tuple[int, int]) -> None:
    found = grid(size)
    mirrored = flip(found, size[1])
    best = iou(mirrored, found).max(dim=1).values
    assert float(best.min()) > 0.9999 and len(best) == len(found)


def test_the_grid_looks_at_the_size_alone() -> None:
    assert torch.equal(grid(noise(seed=1)), grid(noise(seed=2)))
    assert torch.equal(grid(noise()), grid((12, 20))) and not torch.equal(
        grid((12, 20)), grid((20, 12))
    )


def test_options_written_differently_are_the_same_grid() -> None:
    one, other = Grid((0.5, 1.0), (1.0,)), Grid([0.5, 1], iter([1]))  # type: ignore[arg-type]
    assert one == other and one.key == other.key and hash(one) == hash(other)
    assert one.key != Grid((0.5, 1.0), (2.0,)).key != Grid((0.5, 1.0), (2.0,), 0.25).key
    assert torch.equal(one(noise()), grid(noise(), sizes=(0.5, 1.0), ratios=(1.0,)))


def test_the_grid_of_a_larger_image_is_the_grid_enlarged() -> None:
    assert torch.allclose(grid((256, 384)), grid((128, 192)) * 2, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": ()}, r"Grid.sizes = \(\): give at least one number"),
        ({"sizes": 0.5}, r"Grid.sizes = 0.5: give at least one number"),
        ({"sizes": (0.5, 0)}, r"Grid.sizes = 0: a number above 0 and at most 1"),
        ({"sizes": (32,)}, r"Grid.sizes = 32: a number above 0 and at most 1"),
        ({"sizes": (math.nan,)}, r"Grid.sizes = nan: a number above 0"),
        ({"ratios": "12"}, r"Grid.ratios = '1': a number above 0 is needed"),
        ({"ratios": (-1,)}, r"Grid.ratios = -1: a number above 0 is needed"),
        ({"ratios": (math.inf,)}, r"Grid.ratios = inf: a number above 0"),
        ({"stride_share": 0}, r"Grid.stride_share = 0: a number above 0 and at most 1"),
        ({"stride_share": True}, r"Grid.stride_share = True: a number above 0"),
        ({"stride_share": 1.5}, r"Grid.stride_share = 1.5: .* at most 1"),
    ],
)
def test_a_grid_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid((8, 8), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8,), (8.0, 8), 8, None, (True, 8)])
def test_a_grid_refuses_sizes_that_are_none(size: object) -> None:
    with pytest.raises(ValueError, match=r"size = .*\(height, width\) as two integers above 0"):
        grid(size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 8, 8), r"image must be a float32 tensor \(3, h, w\), got \(1, 8, 8\)"),
        (torch.zeros(3, 0, 8), r"got \(3, 0, 8\)"),
        (torch.zeros(2, 3, 8, 8), r"got \(2, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"divide uint8 images by 255"),
    ],
)
@pytest.mark.parametrize("propose", [Grid(), SelectiveSearch(), cached(Grid(), "never-made")])
def test_every_proposer_refuses_what_is_no_image(
    propose: Proposer, image: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        propose(image)
    assert not Path("never-made").exists()


def test_proposers_survive_being_copied_to_a_worker(tmp_path: Path) -> None:
    for proposer in (Grid(), SelectiveSearch(limit=3), cached(Grid(), tmp_path)):
        copy = pickle.loads(pickle.dumps(proposer))
        assert copy == proposer and copy.key == proposer.key


# selective search


@pytest.mark.parametrize("enlarge", [1, 2])
def test_selective_search_finds_the_objects_it_can_see(enlarge: int) -> None:
    pytest.importorskip("cv2", reason=NEEDS_CV2)
    image = torch.full((3, 64, 96), 0.9)
    image[:, 10:30, 20:50] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    found = SelectiveSearch(enlarge=enlarge)(image)
    assert_well_formed(found, 64, 96)
    truth = boxes((20, 10, 50, 30), (0, 0, 96, 64))
    assert float(iou(truth, found).max(dim=1).values.min()) > 0.8


def test_selective_search_is_given_blue_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2", reason=NEEDS_CV2)
    seen = []
    make = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation

    class Spy:
        def __init__(self) -> None:
            self.search = make()

        def setBaseImage(self, pixels: object) -> None:
            seen.append(pixels)
            self.search.setBaseImage(pixels)

        def __getattr__(self, name: str) -> object:
            return getattr(self.search, name)

    monkeypatch.setattr(
        cv2.ximgproc.segmentation, "createSelectiveSearchSegmentation", Spy, raising=True
    )
    image = torch.tensor([1.0, 0.5, 0.1])[:, None, None].expand(3, 6, 9)
    proposals.selective_search(image)
    assert seen[0].shape == (6, 9, 3) and seen[0].dtype == "uint8"
    assert seen[0][5, 8].tolist() == [26, 128, 255]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5)])
def test_selective_search_of_tiny_images(size: tuple[int, int]) -> None:
    pytest.importorskip("cv2", reason=NEEDS_CV2)
    for propose in (SelectiveSearch(), SelectiveSearch(enlarge=3)):
        found = propose(noise(*size))
        assert_well_formed(found, *size)
        assert [0, 0, size[1], size[0]] in found.tolist()
    assert SelectiveSearch(min_size=41)(noise(*size)).shape == (0, 4)


def test_selective_search_keeps_sides_and_count_within_their_limits() -> None:
    pytest.importorskip("cv2", reason=NEEDS_CV2)
    image = make_scenes(1, seed=3).image("scene-3-0")
    every = SelectiveSearch()(image)
    assert_well_formed(every, 128, 128)
    wide = SelectiveSearch(min_size=20)(image)
    sides = every[:, 2:] - every[:, :2]
    assert torch.equal(wide, every[(sides >= 20).all(dim=1)]) and 0 < len(wide) < len(every)
    few = SelectiveSearch(limit=10)(image)
    assert_well_formed(few, 128, 128)
    assert len(few) == 10 and {*map(tuple, few.tolist())} < {*map(tuple, every.tolist())}
    # evenly through the sizes: the middles of ten tenths
    n, order = len(every), sorted(range(len(every)), key=lambda i: (float(area(every)[i]), i))
    picked = sorted(order[(2 * i + 1) * n // 20] for i in range(10))
    assert few.tolist() == [every[i].tolist() for i in picked]
    assert torch.equal(SelectiveSearch(limit=n)(image), every)


def test_selective_search_options_change_the_boxes() -> None:
    pytest.importorskip("cv2", reason=NEEDS_CV2)
    image = make_scenes(1, seed=3).image("scene-3-0")
    plain = proposals.selective_search(image)
    for options in ({"mode": "quality"}, {"enlarge": 2}, {"base_size": 150}):
        found = proposals.selective_search(image, **options)  # type: ignore[arg-type]
        assert_well_formed(found, 128, 128)
        assert not torch.equal(found, plain)
        assert SelectiveSearch(**options).key != SelectiveSearch().key  # type: ignore[arg-type]
    assert len(proposals.selective_search(image, mode="quality")) > 2 * len(plain)


def test_selective_search_is_the_same_in_every_process() -> None:
    pytest.importorskip("cv2", reason=NEEDS_CV2)
    code = (
        "import sys, hashlib, cv2\n"
        "from almining.data import make_scenes, proposals\n"
        "times = int(sys.argv[1]); cv2.setRNGSeed(times); cv2.setNumThreads(times)\n"
        "image = make_scenes(1, seed=5).image('scene-5-0')\n"
        "for _ in range(times): found = proposals.selective_search(image)\n"
        "print(len(found), hashlib.sha256(found.numpy().tobytes()).hexdigest())\n"
    )
    ran = [
        subprocess.run([sys.executable, "-c", code, times], capture_output=True, text=True)
        for times in ("1", "3")
    ]
    found = SelectiveSearch()(make_scenes(1, seed=5).image("scene-5-0"))
    here = f"{len(found)} {hashlib.sha256(found.numpy().tobytes()).hexdigest()}\n"
    assert [(run.returncode, run.stdout, run.stderr) for run in ran] == [(0, here, "")] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "best"}, "SelectiveSearch.mode = 'best': use 'fast' or 'quality'"),
        ({"base_size": 0}, "SelectiveSearch.base_size = 0: an integer >= 1"),
        ({"min_size": -3}, "SelectiveSearch.min_size = -3: an integer >= 1"),
        ({"limit": 0}, "SelectiveSearch.limit = 0: an integer >= 1"),
        ({"limit": True}, "SelectiveSearch.limit = True: an integer >= 1"),
        ({"enlarge": 1.5}, "SelectiveSearch.enlarge = 1.5: an integer >= 1"),
    ],
)
def test_selective_search_refuses(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        proposals.selective_search(noise(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-0.5, 2.0, math.nan, math.inf])
def test_selective_search_refuses_normalised_images(value: float) -> None:
    image = noise()
    image[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"image spans .*needs finite values in \[0, 1\]"):
        SelectiveSearch()(image)


def test_without_opencv_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install almining\[proposals\].*uninstall"):
        SelectiveSearch()(noise())
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))  # a wheel without ximgproc
    with pytest.raises(ImportError, match=r"one that lacks ximgproc hides it: pip uninstall"):
        SelectiveSearch()(noise())


def test_opencv_is_not_loaded_before_a_search() -> None:
    code = (
        "import sys, almining.data.proposals as p; p.grid((9, 9)); assert 'cv2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# the cache


def test_an_answer_in_the_cache_is_not_computed_again(tmp_path: Path) -> None:
    fixed = Fixed(boxes((0, 0, 3, 4), (1.5, 2, 9, 9)))
    propose = cached(fixed, tmp_path / "deep" / "er")
    first, second = propose(noise()), propose(noise().clone())
    assert fixed.calls == 1 and torch.equal(first, second) and torch.equal(first, fixed.found)
    assert cached(fixed, str(tmp_path / "deep" / "er"))(noise()).tolist() == first.tolist()
    assert fixed.calls == 1 and propose.key == "fixed"
    assert [path.name for path in propose.folder.iterdir()] == [propose.path(noise()).name]


def test_another_image_shape_or_key_is_another_answer(tmp_path: Path) -> None:
    one, other = Fixed(boxes((0, 0, 1, 1))), Fixed(boxes(), key="other")
    image = noise(12, 20)
    changed = image.clone()
    changed[2, 11, 19] += 1e-6
    for shown in (image, changed, image.reshape(3, 20, 12), image.transpose(1, 2)):
        cached(one, tmp_path)(shown)
    assert one.calls == 4
    assert cached(other, tmp_path)(image).shape == (0, 4)
    assert cached(other, tmp_path)(image).shape == (0, 4) and other.calls == 1
    assert len(list(tmp_path.iterdir())) == 5
    grids = [cached(Grid((size,)), tmp_path)(image) for size in (0.5, 0.25)]
    assert not torch.equal(*grids)


def _flip_last_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: bytes(len(content)),
        lambda content: b"\xff" * len(content),
        lambda content: b"<html>not found</html>",
        lambda content: content + b"tail",
        _flip_last_bit,
        lambda content: content.replace(b"boxes", b"boxed"),
    ],
    ids=["short", "header", "empty", "zeros", "ones", "html", "long", "bit", "name"],
)
def test_a_damaged_file_is_written_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    fixed = Fixed(boxes((0, 0, 3, 4), (1, 2, 9, 9)))
    propose = cached(fixed, tmp_path)
    propose(noise())
    path = propose.path(noise())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert torch.equal(propose(noise()), fixed.found) and fixed.calls == 2
    assert path.read_bytes() == whole
    assert torch.equal(propose(noise()), fixed.found) and fixed.calls == 2


def test_a_file_of_something_else_is_not_trusted(tmp_path: Path) -> None:
    fixed = Fixed(boxes((0, 0, 3, 4)))
    propose = cached(fixed, tmp_path)
    path = propose.path(noise())
    digest = list(hashlib.sha256(bytes(32)).digest())  # of eight zeros, in whatever shape
    strange = [
        {"boxes": torch.zeros(2, 4)},
        {"boxes": torch.zeros(2, 4), "sha256": torch.zeros(32, dtype=torch.uint8)},
        {"boxes": torch.zeros(2, 4), "sha256": torch.zeros(1)},
        {"boxes": torch.zeros(4, 2), "sha256": torch.tensor(digest, dtype=torch.uint8)},
    ]
    for calls, content in enumerate(strange, start=1):
        save_file(content, path)
        assert torch.equal(propose(noise()), fixed.found) and fixed.calls == calls


def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose = cached(Fixed(boxes((0, 0, 3, 4))), tmp_path)

    def fail(self: Path, target: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        propose(noise())
    assert list(tmp_path.iterdir()) == []


def test_a_proposer_that_returns_no_boxes_is_not_cached(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"boxes of fixed must have shape \(n, 4\), got \(3,\)"):
        cached(Fixed(torch.zeros(3)), tmp_path)(noise())
    assert list(tmp_path.iterdir()) == []


# recall


def _pool(*targets: Target, classes: tuple[str, ...] = ("dark", "light", "rare")) -> Pool:
    pairs = {f"flat-{i}": found for i, found in enumerate(targets)}
    return Pool(classes, pairs, FlatImages())


def test_recall_computed_by_hand() -> None:
    # proposal 10 x 10; IoU with the boxes: 1, 1/2, 49/100, 0; one ignored, one image not complete
    first = Target(
        boxes((0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 7, 7), (0, 0, 9, 9)),
        labels(1, 2, 2, 2),
        ignore=torch.tensor([False, False, False, True]),
    )
    sparse = target((0, 0, 10, 10), complete=False)
    pool = _pool(first, target((12, 12, 14, 14)), target(), sparse)
    found = recall(pool, Fixed(boxes((0, 0, 10, 10), (20, 0, 24, 9))), progress=False)
    assert math.isnan(found.pop("recall/rare"))
    assert found == {
        "recall": 2 / 4,
        "recall/dark": 1 / 2,
        "recall/light": 1 / 2,
        "boxes": 4,
        "images": 3,
        "proposals": 2,
    }
    assert recall(pool, Fixed(boxes((0, 0, 10, 10))), iou=0.49, progress=False)["recall"] == 3 / 4
    assert recall(pool, Fixed(boxes((0, 0, 10, 10))), iou=1, progress=False)["recall"] == 1 / 4


@pytest.mark.parametrize("least", [0.3, 0.5, 0.7])
def test_recall_agrees_with_loops(least: float) -> None:
    pool = make_scenes(6, seed=11, density="coco")
    propose = Grid((0.2, 0.4), (0.7, 1.5), 0.5)
    counts: dict[str, list[bool]] = {name: [] for name in pool.classes}
    for image_id in pool.ids:
        rows = propose(pool.image(image_id)).tolist()
        known = pool.target(image_id)
        for box, label in zip(known.boxes.tolist(), known.labels.tolist(), strict=True):
            counts[pool.classes[label - 1]].append(any(box_iou(box, row) >= least for row in rows))
    found = recall(pool, propose, iou=least, progress=False)
    every = [hit for hits in counts.values() for hit in hits]
    assert found["recall"] == pytest.approx(sum(every) / len(every)) and found["boxes"] == len(
        every
    )
    for name, hits in counts.items():
        wanted = sum(hits) / len(hits) if hits else math.nan
        assert found[f"recall/{name}"] == pytest.approx(wanted, nan_ok=True)


def test_recall_is_the_same_in_any_order_and_from_the_cache(tmp_path: Path) -> None:
    pool = make_scenes(5, seed=2)
    wanted = recall(pool, Grid(), iou=0.7, progress=False)
    turned = recall(pool.subset(pool.ids[::-1]), cached(Grid(), tmp_path), iou=0.7, progress=False)
    assert repr(turned) == repr(wanted) and 0 < wanted["recall"] < 1  # repr: NaN is NaN there


def test_recall_asks_once_an_image_and_for_complete_ones_alone() -> None:
    pool = flat_pool(4).updated({"flat-1": Target.unknown(tags={1})}, cycle=0)
    fixed = Fixed(boxes())
    found = recall(pool, fixed, progress=False)
    assert fixed.calls == 3 and found["recall"] == 0 and found["proposals"] == 0


def test_recall_without_boxes_is_unknown_not_perfect() -> None:
    found = recall(_pool(target()), Fixed(boxes((0, 0, 2, 2))), progress=False)
    assert math.isnan(found["recall"]) and found["boxes"] == 0 and found["proposals"] == 1


def test_recall_refuses() -> None:
    with pytest.raises(ValueError, match="no complete image"):
        recall(_pool(Target.unknown()), Grid(), progress=False)
    with pytest.raises(ValueError, match="no complete image"):
        recall(flat_pool(0), Grid(), progress=False)
    for least in (0, 1.1, math.nan, None):
        with pytest.raises(ValueError, match=r"iou = .*: a number above 0 and at most 1"):
            recall(flat_pool(1), Grid(), iou=least, progress=False)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"proposals of 'flat-0' must have shape \(n, 4\)"):
        recall(flat_pool(1), Fixed(torch.zeros(4)), progress=False)


def test_the_defaults_find_the_objects_of_the_toy_world() -> None:
    pool = make_scenes(40, seed=900_000)
    found = recall(pool, Grid(), progress=False)
    assert found["recall"] > 0.97 and found["proposals"] == 1198


def test_the_defaults_on_real_photos(real_data: Path) -> None:
    pool = read_voc(real_data / "voc2007_subset", "val")
    found = recall(pool.subset(pool.ids[:30]), Grid(), progress=False)
    assert found["recall"] > 0.7
