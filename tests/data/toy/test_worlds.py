"""The dials: at their defaults nothing changes, at either end they do what they say, exactly."""

from __future__ import annotations

import hashlib
import inspect
import math
import pickle
import subprocess
import sys
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest

from almining.data.scenes import CLASSES, draw_icon, draw_scene, make_scenes
from almining.data.street import draw_frame
from almining.data.toy import sprites
from almining.data.toy.pens import BLACK, WHITE, Pen
from almining.data.toy.sight import Placed, find_owners
from almining.data.toy.staging import HOMES, Painter
from almining.data.toy.worlds import Dials, World
from tests.data.scenes_seen import box_of, digest, seen_oracle

EQUAL = (1.0,) * 8
CARS = {"car": 1.0, "taxi": 1.0}
ONLY_CARS = (0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
EXTREMES: list[dict[str, Any]] = [
    {"likeness": 0.0},
    {"rows": 0.0},
    {"rows": 1.0, "row_length": 5, "closeness": 1.0},
    {"rows": 1.0, "row_length": 2, "closeness": 0.0},
    {"context_bias": 0.0},
    {"context_bias": 1.0},
    {"occlusion": 0.0},
    {"occlusion": 0.25},
    {"occlusion": 1.0},
    {"truncation": 0.0},
    {"truncation": 1.0},
    {"clutter": 0.0},
    {"clutter": 4.0},
    {"domain": "dusk"},
    {"occlusion": 0.0, "truncation": 1.0, "clutter": 4.0, "rows": 1.0, "closeness": 1.0},
    {"occlusion": 1.0, "truncation": 1.0, "clutter": 4.0, "rows": 1.0, "closeness": 1.0},
]
DIGESTS = {
    "tight": ({"rows": 1.0, "row_length": 5, "closeness": 1.0}, "e6aadd54ad3abf66dac72737"),
    "told by bodies": ({"likeness": 0.0, "context_bias": 0.0}, "df1413e9692563bc274f65d3"),
    "wheels at dusk": ({"parts": True, "domain": "dusk"}, "aeedab55aef63d79f6152328"),
    "crowded": ({"occlusion": 1.0, "truncation": 1.0, "clutter": 3.0}, "d467f74eba11fbe171b04bd9"),
    "tidy": ({"occlusion": 0.0, "truncation": 0.0, "clutter": 0.5}, "73408fe1a41096cff1a3d9e0"),
}


def solid(placed: Placed) -> np.ndarray:
    return placed.sprite[:, :, 3] >= 128


def inside(placed: Placed, size: int = 128) -> np.ndarray:
    """Return the solid pixels (n, 2), x and y, that lie in the picture."""
    ys, xs = np.nonzero(solid(placed))
    at = np.stack([xs + placed.x, ys + placed.y], axis=1)
    return at[((at >= 0) & (at < size)).all(axis=1)]


def orders(n: int, seed: int = 4, density: str = "voc", **dials: Any) -> list[list[Placed]]:
    painter = Painter(density, 128, EQUAL, World(**dials))
    return [painter.plan(seed, index)[1] for index in range(n)]


def objects(order: list[Placed]) -> list[Placed]:
    return [placed for placed in order if placed.label]


def hidden_shares(order: list[Placed]) -> list[float]:
    """List how much others hide of each object, of what lies in the picture."""
    owners = find_owners(order, 128)
    return [
        1 - np.count_nonzero(owners == position) / len(inside(placed))
        for position, placed in enumerate(order)
        if placed.label
    ]


def cut_off(placed: Placed) -> bool:
    return len(inside(placed)) < np.count_nonzero(solid(placed))


def test_the_defaults_are_the_same_everywhere() -> None:
    world, keywords = asdict(World()), inspect.signature(make_scenes).parameters
    assert list(world) == list(Dials.__annotations__)
    assert {name: keywords[name].default for name in world} == world
    assert [field.type for field in fields(World)] == [
        annotation.__forward_arg__ for annotation in Dials.__annotations__.values()
    ]


@pytest.mark.parametrize("density", ["voc", "coco"])
def test_dials_at_their_defaults_change_nothing(density: str) -> None:
    # what the demos were trained on is pinned in test_scenes.py
    plain = (draw_scene(0, i, density=density) for i in range(6))
    turned = (draw_scene(0, i, density=density, **asdict(World())) for i in range(6))
    assert digest(plain) == digest(turned)


@pytest.mark.parametrize("name", DIGESTS)
def test_other_worlds_stay_what_they_are(name: str) -> None:
    dials, known = DIGESTS[name]
    assert digest(draw_scene(0, i, **dials) for i in range(6)) == known  # type: ignore[arg-type]


@pytest.mark.parametrize("dials", EXTREMES, ids=str)
def test_boxes_are_exact_in_any_world(dials: dict[str, Any]) -> None:
    order = orders(1, density="coco", **dials)[0]
    scene = draw_scene(4, 0, density="coco", **dials)
    boxes, labels, seen = [], [], seen_oracle(order, 128)
    for placed, pixels in zip(order, seen, strict=True):
        if placed.label:
            boxes.append(box_of(pixels))
            labels.append(placed.label)
            least = 0.35 - 0.2 * max(dials.get("occlusion", 0.5) - 0.5, 0)
            assert len(pixels) >= least * np.count_nonzero(solid(placed))
    assert scene.boxes.tolist() == boxes and scene.labels.tolist() == labels and labels


@pytest.mark.parametrize("size", [64, 200])
@pytest.mark.parametrize("dials", EXTREMES[-2:], ids=str)
def test_every_world_has_objects_at_every_size(dials: dict[str, Any], size: int) -> None:
    for index in range(6):
        scene = draw_scene(9, index, size=size, parts=True, **dials)
        assert len(scene.labels) >= 1
        assert scene.boxes.min() >= 0 and scene.boxes.max() <= size
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


def test_likeness_recolours_and_moves_nothing() -> None:
    alike, half, own = (orders(24, density="coco", likeness=share) for share in (1.0, 0.5, 0.0))
    recoloured = []
    for one, other, third in zip(alike, half, own, strict=True):
        for a, b, c in zip(one, other, third, strict=True):
            assert (a.x, a.y, a.label, a.depth) == (b.x, b.y, b.label, b.depth)
            assert np.array_equal(a.sprite[:, :, 3], b.sprite[:, :, 3])
            changed = not np.array_equal(a.sprite, b.sprite)
            if 1 <= a.label <= 5 and not np.array_equal(a.sprite, c.sprite):
                recoloured.append(changed)
            else:
                assert not changed
    assert 0.35 < np.mean(recoloured) < 0.65


def test_rows_are_as_likely_and_as_long_as_asked() -> None:
    def mean(**dials: Any) -> float:
        return float(np.mean([len(objects(order)) for order in orders(24, **dials)]))

    assert mean(rows=0.0) < mean() < mean(rows=1.0) < mean(rows=1.0, row_length=5)
    assert mean(rows=1.0, row_length=2) < mean(rows=1.0)


def test_a_longer_row_really_stands() -> None:
    painter = Painter("coco", 128, EQUAL, World(rows=1.0, row_length=5, closeness=1.0))
    most = [np.bincount([p.label for p in objects(painter.plan(4, i)[1])]).max() for i in range(8)]
    assert max(most) >= 5


def test_closer_rows_overlap_more() -> None:
    def overlap(closeness: float) -> float:
        best = []
        for index in range(20):
            scene = draw_scene(4, index, rows=1.0, closeness=closeness, clutter=0.0)
            for i, (box, label) in enumerate(zip(scene.boxes, scene.labels, strict=True)):
                mates = np.delete(scene.boxes, i, axis=0)[np.delete(scene.labels, i) == label]
                if len(mates):
                    sides = np.minimum(mates[:, 2:], box[2:]) - np.maximum(mates[:, :2], box[:2])
                    shared = np.prod(np.maximum(sides, 0), axis=1)
                    areas = np.prod(mates[:, 2:] - mates[:, :2], axis=1)
                    best.append((shared / (areas + np.prod(box[2:] - box[:2]) - shared)).max())
        return float(np.mean(best))

    apart, today, tight = overlap(0.0), overlap(0.5), overlap(1.0)
    assert 2 * apart < today < tight / 2


def wheel_rows(scene_labels: list[int]) -> list[int]:
    return [row for row, label in enumerate(scene_labels) if label == 9]


@pytest.mark.parametrize("density", ["voc", "coco"])
@pytest.mark.parametrize("dials", [{}, {"occlusion": 1.0, "truncation": 1.0}], ids=str)
def test_a_wheel_box_is_the_extent_of_what_is_seen_of_it(
    density: str, dials: dict[str, Any]
) -> None:
    painter = Painter(density, 128, ONLY_CARS, World(parts=True, **dials))
    wheels = 0
    for index in range(3):
        order, scene = painter.plan(2, index)[1], painter.draw(2, index)
        boxes, labels = [], []
        for placed, pixels in zip(order, seen_oracle(order, 128), strict=True):
            if placed.label:
                boxes.append(box_of(pixels))
                labels.append(placed.label)
                assert len(placed.parts) == 2
            for part in placed.parts:
                seen = [(x, y) for x, y in pixels if part[y - placed.y, x - placed.x]]
                assert not seen or len(seen) >= painter.world.least_seen * part.sum()
                if seen:
                    boxes.append(box_of(seen))
                    labels.append(9)
                    wheels += 1
        assert scene.boxes.tolist() == boxes and scene.labels.tolist() == labels
    assert wheels >= 5


def test_no_wheel_is_seen_without_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint all wheels black, then white: whatever changes lies in their boxes and fills them."""
    dials = {"parts": True, "balance": CARS, "density": "coco", "occlusion": 1.0}
    pictures = []
    for tone in (BLACK, WHITE):

        def disc(pen: Pen, x: float, y: float, tone: Any = tone) -> None:
            pen.oval(x, y, sprites.TYRE, sprites.TYRE, tone)

        monkeypatch.setattr(sprites, "_wheel", disc)
        pictures.append([draw_scene(1, i, **dials) for i in range(8)])  # type: ignore[arg-type]
    for dark, light in zip(*pictures, strict=True):
        change = (light.image.astype(float) - dark.image).mean(axis=2) / 220
        boxed = np.zeros((128, 128), bool)
        for row in wheel_rows(light.labels.tolist()):
            x1, y1, x2, y2 = light.boxes[row].astype(int)
            boxed[y1:y2, x1:x2] = True
            wheel = change[y1:y2, x1:x2]
            assert min(wheel[0].max(), wheel[-1].max()) > 0.2  # no box is a pixel too large
            assert min(wheel[:, 0].max(), wheel[:, -1].max()) > 0.2
        assert change[~boxed].max() < 0.6  # antialiased edges, at most half a wheel's


def test_parts_add_boxes_and_change_no_picture_where_nothing_is_hidden() -> None:
    dials: dict[str, Any] = {"occlusion": 0.0, "truncation": 0.0, "balance": CARS}
    for index in range(6):
        plain, parts = draw_scene(2, index, **dials), draw_scene(2, index, parts=True, **dials)
        assert np.array_equal(plain.image, parts.image)
        assert parts.labels.tolist() == [n for label in plain.labels for n in (label, 9, 9)]
        assert parts.boxes[parts.labels < 9].tolist() == plain.boxes.tolist()


def test_a_pool_with_parts_has_a_ninth_class() -> None:
    pool = make_scenes(2, seed=2, parts=True, balance=CARS)
    assert pool.classes == (*CLASSES, "wheel")
    assert 9 in pool.target(pool.ids[0]).labels.tolist()


def test_context_bias_keeps_objects_at_home() -> None:
    def at_home(bias: float) -> float:
        rows = []
        for index in range(24):
            painter = Painter("voc", 128, EQUAL, World(context_bias=bias))
            context, labels = context_of(painter, index)
            rows += [HOMES[CLASSES[label - 1]][context] > 0 for label in labels]
        return float(np.mean(rows))

    anywhere, today, always = at_home(0.0), at_home(0.85), at_home(1.0)
    assert anywhere < 0.5 < today < always == 1.0


def context_of(painter: Painter, index: int) -> tuple[int, list[int]]:
    """Return the number of the context in which a scene plays, and its labels."""
    from almining.data.toy import staging

    found: list[int] = []
    real = staging.lay_ground

    def spy(context: Any, size: int, rng: np.random.Generator) -> Any:
        found.append(staging.CONTEXTS.index(context))
        return real(context, size, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "lay_ground", spy)
        labels = [placed.label for placed in objects(painter.plan(4, index)[1])]
    return found[0], labels


def test_at_no_occlusion_nothing_hides_anything() -> None:
    for order in orders(12, density="coco", occlusion=0.0, rows=1.0, closeness=1.0, clutter=2.0):
        pixels = np.concatenate([inside(placed) for placed in order])
        assert len(np.unique(pixels, axis=0)) == len(pixels)


def test_more_occlusion_hides_more_objects_and_more_of_them() -> None:
    shares = [
        np.concatenate([hidden_shares(order) for order in orders(24, occlusion=dial)])
        for dial in (0.0, 0.25, 0.5, 1.0)
    ]
    often = [float((share > 0.1).mean()) for share in shares]
    assert often == sorted(often) and often[0] == 0 and often[3] > often[2] + 0.1
    most = [float(share.max()) for share in shares]
    assert most[0] == 0 and most[1] <= 0.325 and most[2] <= 0.65 < most[3] <= 0.75


def test_truncation_is_as_frequent_as_asked() -> None:
    shares = []
    for dial in (0.0, 0.5, 0.75, 1.0):
        standing = [placed for order in orders(24, truncation=dial) for placed in objects(order)]
        shares.append(float(np.mean([cut_off(placed) for placed in standing])))
    assert shares[0] == 0 and shares == sorted(shares) and shares[3] > 0.5


def test_clutter_multiplies_bystanders() -> None:
    counts = [
        [sum(not placed.label for placed in order) for order in orders(12, clutter=factor)]
        for factor in (0.0, 1.0, 2.0, 4.0)
    ]
    assert not any(counts[0])
    assert counts[2] == [2 * n for n in counts[1]] and counts[3] == [4 * n for n in counts[1]]


def test_at_dusk_everything_stands_where_it_stood() -> None:
    for index in range(4):
        day, dusk = draw_scene(1, index), draw_scene(1, index, domain="dusk")
        assert day.boxes.tolist() == dusk.boxes.tolist()
        assert day.labels.tolist() == dusk.labels.tolist()
        assert dusk.image.mean() < 0.8 * day.image.mean()


WORLD: dict[str, Any] = {
    "likeness": 0.5,
    "rows": 0.8,
    "row_length": 4,
    "closeness": 0.9,
    "parts": True,
    "context_bias": 0.5,
    "occlusion": 0.8,
    "truncation": 0.8,
    "clutter": 1.5,
    "domain": "dusk",
}


def hashes() -> list[str]:
    """Return what some scenes, an icon and two frames hash to."""
    return [
        digest(draw_scene(3, i, **dials) for dials in ({}, WORLD) for i in (1, 2)),
        hashlib.sha256(draw_icon(3, 4)[0].tobytes()).hexdigest(),
        digest(draw_frame(3, 4, frame, busy=0.8, domain="dusk") for frame in (120, 121)),
    ]


def test_the_same_pictures_in_a_new_process() -> None:
    code = "from tests.data.toy import test_worlds; print(*test_worlds.hashes())"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    draw_frame(3, 4, 700, busy=0.8)  # what was drawn before does not matter
    assert there.stdout.split() == hashes()


def test_kept_redrawn_and_sent_images_of_a_world_are_equal() -> None:
    kept, redrawn = make_scenes(3, seed=1, **WORLD), make_scenes(3, seed=1, keep=0, **WORLD)
    sent = pickle.loads(pickle.dumps(kept._images))
    for index, image_id in enumerate(kept.ids):
        assert image_id == f"scene-1-{index}"
        scene = draw_scene(1, index, **WORLD)
        image = kept.image(image_id)
        assert np.array_equal((image * 255).round().byte().permute(1, 2, 0), scene.image)
        assert redrawn.image(image_id).equal(image) and sent.load(image_id).equal(image)
        assert redrawn.target(image_id).boxes.tolist() == scene.boxes.tolist()


def test_a_smaller_pool_of_a_world_is_the_start_of_a_larger_one() -> None:
    small, large = make_scenes(1, seed=3, **WORLD), make_scenes(2, seed=3, **WORLD)
    assert small.target("scene-3-0").boxes.equal(large.target("scene-3-0").boxes)
    assert small.image("scene-3-0").equal(large.image("scene-3-0"))


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"likeness": 1.5}, "likeness = 1.5 must be a number from 0 to 1; the default is 1"),
        ({"rows": -0.1}, "rows = -0.1 must be a number from 0 to 1; the default is 0.4"),
        ({"closeness": math.nan}, "closeness = nan must be a number from 0 to 1"),
        ({"context_bias": "high"}, "context_bias = 'high' must be a number from 0 to 1"),
        ({"occlusion": True}, "occlusion = True must be a number from 0 to 1; the default is 0.5"),
        ({"truncation": None}, "truncation = None must be a number from 0 to 1"),
        ({"clutter": 5}, "clutter = 5 must be a number from 0 to 4; the default is 1"),
        (
            {"row_length": 1},
            "row_length = 1 must be a whole number of at least 2 and at most 5; for no rows",
        ),
        ({"row_length": 2.5}, "row_length = 2.5 must be a whole number of at least 2"),
        ({"row_length": True}, "row_length = True must be a whole number of at least 2"),
        ({"parts": 1}, "parts = 1 must be True, for boxes around wheels, or False"),
        ({"domain": "noon"}, "domain = 'noon' is unknown; choose one of 'day', 'dusk'"),
        ({"domain": ["dusk"]}, "domain = ['dusk'] is unknown; choose one of 'day', 'dusk'"),
    ],
)
def test_bad_dials_are_refused(dials: dict[str, Any], said: str) -> None:
    for ask in (lambda: make_scenes(1, seed=0, **dials), lambda: draw_scene(0, 0, **dials)):
        with pytest.raises(ValueError) as error:
            ask()
        assert str(error.value).startswith(said)


def test_dials_may_be_whole_or_numpy_numbers() -> None:
    assert World(rows=1, clutter=np.float32(2), row_length=np.int64(4)) == World(
        rows=1.0, clutter=2.0, row_length=4
    )
    with pytest.raises(TypeError, match="closenes"):
        draw_scene(0, 0, closenes=1.0)  # type: ignore[call-arg]
