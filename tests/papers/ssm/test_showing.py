"""The small pictures of pastes: what is on them, where, and how large they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from almining.data.pool import Pool
from almining.papers.ssm import Config, paste, paste_all, recipe
from almining.papers.ssm.contexts import lacking
from almining.papers.ssm.pasting import EDGES, paste_at
from almining.papers.ssm.showing import around, pastes
from almining.papers.ssm.validating import Region, Validation, validate
from almining.plain import to_plain
from almining.reasons import shown
from almining.records import Target
from almining.rng import generator
from tests.papers.ssm.spotted import RIGHT, YELLOW, Spotter, pool_of

CONFIG = Config(min_score=0.3)


def coloured(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, height, width, generator=generator(seed))


# a paste, once more


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [(9, 7), (30, 12)])  # the second is reduced
def test_a_paste_comes_out_the_same_again(edge: Any, size: tuple[int, int]) -> None:
    crop, context = coloured(*size, seed=1), coloured(20, 30)
    before = context.clone()
    image, box = paste(crop, context, generator=generator(2), edge=edge)
    assert paste_at(crop, context, box, edge=edge).equal(image) and context.equal(before)


def test_one_of_several_pastes_is_shown_alone() -> None:
    crops, context = [coloured(6, 6, seed=1), coloured(8, 5, seed=2)], coloured(40, 40)
    (canvas,) = paste_all(crops, context, generator=generator(0))
    for row, box in zip(canvas.rows, canvas.boxes, strict=True):
        alone = paste_at(crops[row], context, box)
        x1, y1, x2, y2 = box.int().tolist()
        assert alone[:, y1:y2, x1:x2].equal(canvas.image[:, y1:y2, x1:x2])
        alone[:, y1:y2, x1:x2] = context[:, y1:y2, x1:x2]
        assert alone.equal(context)


# what is around it


@pytest.mark.parametrize(
    ("box", "start"),
    [((40, 50, 64, 70), (28, 36)), ((0, 0, 24, 20), (0, 0)), ((76, 100, 100, 120), (52, 72))],
)
def test_the_window_lies_around_the_box_inside_the_image(
    box: tuple[int, ...], start: tuple[int, int]
) -> None:
    image = coloured(120, 100)
    seen, place = around(image, torch.tensor(box).float(), 96)
    left, top = start  # 48 pixels each way: twice the width
    assert seen.equal((image[:, top : top + 48, left : left + 48] * 255).round().byte())
    moved = [one - by for one, by in zip(box, (left, top, left, top), strict=True)]
    assert place.tolist() == moved


def test_a_small_image_is_shown_whole_and_a_large_one_smaller() -> None:
    seen, place = around(coloured(20, 30), torch.tensor([2.0, 3, 8, 9]), 96)
    assert seen.shape == (3, 20, 30) and place.tolist() == [2, 3, 8, 9]
    seen, place = around(coloured(500, 400), torch.tensor([100.0, 200, 200, 300]), 50)
    assert seen.shape == (3, 50, 50) and place.tolist() == [12.5, 12.5, 37.5, 37.5]


# the data of evidence


def made_of(pool: Pool, region: Region, **more: Any) -> Validation:
    (made,) = validate(Spotter(), pool, [region], generator=generator(0), **more)
    return made


def test_the_pictures_are_of_what_was_validated() -> None:
    pool, region = pool_of(), Region("100", torch.tensor(RIGHT), 1)
    made = made_of(pool, region)
    data: Any = pastes(pool, region, made, CONFIG)
    assert data["contexts"].split("\n") == list(made.contexts) and len(made.contexts) == 5
    assert data["terms"].equal(made.terms) and data["matched"].equal(made.matched)
    assert set(made.contexts) <= set(lacking(pool)[1])
    for n, (x1, y1, x2, y2) in enumerate(data["places"].int().tolist()):
        spot = data[f"paste_{n}"][:, y1:y2, x1:x2]
        assert spot.shape == (3, 10, 10) and spot.eq((YELLOW * 255).byte()[:, None, None]).all()
    nothing: Any = pastes(pool, region, replace_contexts(made, 0), CONFIG)
    assert nothing["terms"].shape == (0,) and nothing["places"].shape == (0, 4)


def replace_contexts(made: Validation, n: int) -> Validation:
    return Validation(made.contexts[:n], made.pasted[:n], made.terms[:n], made.matched[:n], None)


class Large:
    """Noise, which no picture makes smaller."""

    def load(self, image_id: str) -> torch.Tensor:
        return coloured(500, 700, seed=int(image_id))


@pytest.mark.parametrize("images", [1, 5, 9])
def test_a_request_is_small_and_has_at_most_six_pictures(images: int) -> None:
    targets = {str(i): Target(torch.zeros(0, 4), torch.zeros(0).long()) for i in range(10)}
    pool = Pool(("a",), targets | {"99": Target.unknown()}, Large())
    region = Region("99", torch.tensor([0.0, 0, 300, 200]), 1)

    class Blind(Spotter):
        def _found(self, image: torch.Tensor) -> Any:
            return super()._found(image[:, :1, :1])

    (made,) = validate(Blind(), pool, [region], generator=generator(0), images=images)
    data = pastes(pool, region, made, CONFIG)
    shapes = [one.shape for name, one in data.items() if name.startswith("paste_")]
    assert len(shapes) == min(images, 6) and max(max(shape) for shape in shapes) <= 96
    assert min(min(shape[1:]) for shape in shapes) >= 50
    assert len(json.dumps(to_plain(data))) < 100_000


# what is asked


def asked(pool: Pool, **changes: Any) -> list[Any]:
    query = recipe(replace(CONFIG, **changes)).query
    assert query is not None
    return query(Spotter(), pool, 100, generator=generator(0))


@pytest.mark.parametrize("way", ["single", "packed"])
def test_what_is_asked_shows_its_pastes(way: str) -> None:
    for one in asked(pool_of(), way=way):
        strip = shown(one, pool_of()).strip
        assert [caption for _, caption in strip] == ["not found"] * 5
        assert strip[0][0].shape == (3, 120, 144)
    for one in asked(pool_of(), validation="confidence", min_consistency=0.85):
        assert shown(one, pool_of()).strip == () and "terms" not in one.evidence.data


def test_pictures_are_made_of_what_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from almining.papers.ssm import recipes

    calls: list[Region] = []

    def counted(pool: Pool, region: Region, made: Validation, config: Config) -> Any:
        calls.append(region)
        return pastes(pool, region, made, config)

    monkeypatch.setattr(recipes, "pastes", counted)
    made = asked(pool_of(unlabelled=30), per_cycle=4)
    assert [one.image_id for one in calls] == [one.image_id for one in made] and len(made) == 4
