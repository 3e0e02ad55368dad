"""What a page is shown: the image made smaller, the boxes a person starts from, the reasons."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from almining.data.pool import ImageInfo, Pool
from almining.data.readers import read_folder
from almining.records import Detections, Evidence, Request, Target
from almining.review.views import LONGEST, jpeg, predicted, shown, start
from tests.fakes import FlatImages, boxes, flat_pool, labels

COMPLETE = Request("q", "flat-0", "complete")
IMAGE = torch.zeros(3, 16, 24)


def pool_of(target: Target) -> Pool:
    return Pool(("dark", "light"), {"flat-0": target}, FlatImages())


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_small_image_goes_as_it_is() -> None:
    page, pictures = shown(COMPLETE, flat_pool(3))
    assert (page["size"], page["scale"], page["strip"]) == ([16, 24], 1.0, [])
    assert page["why"] == {"text": "", "marks": [], "blocks": None}
    assert opened(pictures[0]).size == (24, 16)


@pytest.mark.parametrize("size", [(3000, 4000), (4000, 300), (1601, 2)])
def test_a_large_image_is_made_smaller_and_keeps_its_coordinates(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    height, width = size
    Image.new("RGB", (width, height), (200, 10, 10)).save(tmp_path / "large.jpg")
    pool = read_folder(tmp_path)
    page, pictures = shown(Request("q", "large", "tag"), pool)
    assert page["size"] == [height, width]
    assert max(opened(pictures[0]).size) == LONGEST
    assert page["scale"] == opened(pictures[0]).width / width
    again, _ = shown(Request("q", "large", "tag"), pool, pool.image("large"))
    assert (again["size"], again["scale"]) == (page["size"], page["scale"])


def test_a_frame_of_a_video_comes_from_the_pool() -> None:
    info = ImageInfo((16, 24), video="film", frame=0, path=Path("film.mp4"))
    target = Target.unknown()
    pool = Pool(("a",), {"flat-0": target}, FlatImages(), infos={"flat-0": info})
    assert opened(shown(COMPLETE, pool)[1][0]).size == (24, 16)


def test_pixels_survive_the_way() -> None:
    image = torch.stack([torch.full((8, 8), value) for value in (0.0, 0.5, 1.0)])
    for one in (image, (image * 255).round().byte()):
        (red, green, blue), *_ = opened(jpeg(one)).getcolors(64)[0][1:]
        assert abs(red) < 4 and abs(green - 128) < 4 and abs(blue - 255) < 4


def test_reasons_go_along() -> None:
    data = {"boxes": boxes((1, 1, 5, 5)), "labels": labels(1), "entropies": torch.tensor([0.5])}
    request = Request("q", "flat-0", "complete", evidence=Evidence("entropy", data, "unsure"))
    page, _ = shown(request, flat_pool(1))
    assert page["why"]["text"] == "unsure"
    assert page["why"]["marks"][0]["box"] == [1, 1, 5, 5]
    data = {"blocks": torch.tensor([[0.0, 0.5]]), "region": 16}
    request = Request("q", "flat-0", "complete", evidence=Evidence("divergence", data, "there"))
    assert shown(request, flat_pool(1))[0]["why"]["blocks"] == {"region": 16, "values": [[0, 0.5]]}


def test_a_person_starts_from_what_is_known_and_predicted() -> None:
    known = Target(
        boxes((1, 1, 5, 5), (8, 1, 12.1, 9), (0, 0, 9, 9)),
        labels(1, 2, 1),
        ignore=torch.tensor([False, False, True]),
        origin=("human", "mined:x:1", "human"),
        scores=torch.tensor([torch.nan, 0.75, torch.nan]),
        complete=False,
    )
    found = Detections(
        boxes((1, 1, 5, 6), (1, 1, 5, 6), (-3, 10, 30, 12), (40, 40, 50, 50)),
        labels(1, 2, 1, 1),
        torch.tensor([0.9, 0.8, 0.5, 0.5]),
    )
    event = start(COMPLETE, pool_of(known), IMAGE, found)
    assert (event["id"], event["do"], event["size"]) == ("start:q", "start", [16, 24])
    assert [(one["key"], one["label"], one["ignore"]) for one in event["known"]] == [
        ("k0", 1, False),
        ("k1", 1, True),
    ]
    exact = known.boxes[1].tolist()
    assert event["proposed"][0] == {
        "key": "m0", "box": exact, "label": 2, "ignore": False, "score": 0.75,
    }  # fmt: skip
    # one that is known is not predicted again, one outside the image is not at all
    assert [one["box"] for one in event["proposed"][1:]] == [[1, 1, 5, 6], [0, 10, 24, 12]]
    assert [one["label"] for one in event["proposed"][1:]] == [2, 1]


def test_a_region_starts_from_itself_and_the_class_it_was_taken_for() -> None:
    region = Request("q", "flat-0", "region", box=torch.tensor([2.0, 2, 40, 9]))
    (one,) = start(region, flat_pool(1), IMAGE, None)["proposed"]
    assert (one["box"], one["label"], one["score"]) == ([2, 2, 24, 9], 1, None)
    why = Evidence("consistency", {"labels": labels(2)}, "two")
    region = Request("q", "flat-0", "region", box=torch.tensor([2.0, 2, 9, 9]), evidence=why)
    assert start(region, flat_pool(1), IMAGE, None)["proposed"][0]["label"] == 2


def test_what_a_detector_finds_is_cut_best_first() -> None:
    class Plain:
        """A detector without parameters."""

        def parameters(self) -> list[torch.Tensor]:
            return []

        def detect(self, images: list[torch.Tensor]) -> list[Detections]:
            places = boxes((1, 1, 5, 6), (2, 1, 5, 6), (3, 1, 5, 6), (4, 1, 5, 6))
            return [Detections(places, labels(1, 2, 1, 2), torch.tensor([0.3, 0.2, 0.9, 0.5]))]

    found = predicted(Plain(), IMAGE, flat_pool(1), 0.3, 2)
    assert (found.boxes[:, 0].tolist(), found.labels.tolist()) == ([3, 4], [1, 2])
    assert len(predicted(Plain(), IMAGE, flat_pool(1), 0.3, 9)) == 3


@pytest.mark.parametrize("kind", ["verify", "tag"])
def test_other_kinds_start_without_boxes(kind: str) -> None:
    request = Request("q", "flat-0", kind, box=torch.tensor([2.0, 2, 9, 9]), label=1)  # type: ignore[arg-type]
    event = start(request, flat_pool(1), IMAGE, None)
    assert event["known"] == event["proposed"] == []
