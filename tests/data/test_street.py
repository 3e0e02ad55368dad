"""The toy street: the same everywhere, boxed exactly, moving smoothly, and seldom busy."""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pytest
import torch

import almining.data.toy.street_film as film
from almining.boxes import iou
from almining.data.street import CLASSES, draw_frame, make_street
from almining.data.toy.images import DrawnImages
from almining.data.toy.street_film import Filming, Stood
from almining.data.toy.street_things import CARS, CONFOUNDERS, THINGS, draw_thing
from almining.data.toy.street_view import cut_out
from almining.data.toy.street_walkers import HEIGHTS, PHASES, Schedule, draw_looks, draw_walker
from almining.data.toy.street_world import FOCAL, LENGTH, Course, lay_out
from tests.data.scenes_seen import digest

DAY = Filming((128, 192), 0.2, "day")
CROWDED = Filming((128, 192), 0.9, "day")
DIGESTS = {"day": "07776ad9070c4e3c5f81b8ac", "dusk": "43645128e0176da47d279b57"}


@cache
def annotated() -> list[list[tuple[list[Stood], np.ndarray, np.ndarray]]]:
    """Return what is in 20 videos of 100 frames, unpainted."""
    return [[DAY.annotate(0, video, frame) for frame in range(100)] for video in range(20)]


def seen_oracle(order: list[Stood], height: int, width: int) -> list[list[tuple[int, int]]]:
    """List the (x, y) at which each drawing is seen: pixel by pixel, the last one there."""
    seen: list[list[tuple[int, int]]] = [[] for _ in order]
    masks = [stood.cutout.mask.tolist() for stood in order]
    for y in range(height):
        for x in range(width):
            for position in reversed(range(len(order))):
                stood, mask = order[position], masks[position]
                dx, dy = x - stood.x, y - stood.y
                if 0 <= dy < len(mask) and 0 <= dx < len(mask[0]) and mask[dy][dx]:
                    seen[position].append((x, y))
                    break
    return seen


@pytest.mark.parametrize("video", range(6))
def test_boxes_are_the_extents_of_what_is_seen(video: int) -> None:
    found = 0
    for frame in (10, 47, 93):
        order = CROWDED.stand(5, video, frame)
        drawn = draw_frame(5, video, frame, busy=0.9)
        boxes, ignore = [], []
        for stood, pixels in zip(order, seen_oracle(order, 128, 192), strict=True):
            if stood.walker is None or not pixels:
                continue
            xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
            boxes.append([min(xs), min(ys), max(xs) + 1, max(ys) + 1])
            little = len(pixels) < 0.35 * sum(map(sum, stood.cutout.mask.tolist()))
            ignore.append(little or len(set(xs)) < 3 or len(set(ys)) < 3)
        assert drawn.boxes.tolist() == boxes
        assert drawn.ignore.tolist() == ignore
        assert len(drawn.walkers) == len(drawn.labels) == len(boxes)
        found += len(boxes)
    assert found


def test_painting_a_pedestrian_black_or_white_changes_its_box_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = 0
    for video in range(8):
        plain = draw_frame(6, video, 60, busy=0.9)
        pictures = []
        for tone in (0, 255):

            def painted(*arguments: object, tone: int = tone) -> object:
                posed = draw_walker(*arguments)  # type: ignore[arg-type]
                sprite = posed.sprite.copy()
                sprite[:, :, :3] = tone
                return posed._replace(sprite=sprite)

            monkeypatch.setattr(film, "draw_walker", painted)
            frame = draw_frame(6, video, 60, busy=0.9)
            monkeypatch.undo()
            assert frame.boxes.tolist() == plain.boxes.tolist()
            pictures.append(frame.image[:, :, 0].astype(int))
        changed = pictures[1] - pictures[0]  # 255 where nothing but a pedestrian is seen
        boxed = np.zeros(changed.shape, np.bool_)
        for x1, y1, x2, y2 in plain.boxes.astype(int).tolist():
            inside = changed[y1:y2, x1:x2]
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.max() > 50  # half-transparent edges may lie over each other
            boxed[y1:y2, x1:x2] = True
            checked += 1
        assert changed[~boxed].max() < 135
    assert checked >= 8


def test_who_is_hidden_or_outside_has_an_ignored_box_or_none() -> None:
    ignored = [b for video in annotated() for _, boxes, ig in video for b in boxes[ig].tolist()]
    hidden = [b for b in ignored if 0 < b[0] and b[2] < 192]
    assert len(hidden) > 10 and len(ignored) - len(hidden) > 10
    for video in annotated():
        for order, boxes, _ in video:
            assert sum(stood.walker is not None for stood in order) == len(boxes)


def test_less_than_35_percent_is_ignored_and_35_percent_is_not() -> None:
    shares: list[tuple[float, bool]] = []
    for order, boxes, ignore in (found for video in annotated() for found in video):
        if not len(boxes):
            continue
        owners = np.full((128 + 400, 192 + 400), -1)  # with a rim for what leaves the picture
        for position, stood in enumerate(order):
            h, w = stood.cutout.mask.shape
            owners[stood.y + 200 : stood.y + 200 + h, stood.x + 200 : stood.x + 200 + w][
                stood.cutout.mask
            ] = position
        walkers = [position for position, stood in enumerate(order) if stood.walker is not None]
        for position, box, skip in zip(walkers, boxes, ignore, strict=True):
            seen = np.count_nonzero(owners[200:328, 200:392] == position)
            if min(box[2] - box[0], box[3] - box[1]) >= 3:
                shares.append((seen / np.count_nonzero(order[position].cutout.mask), bool(skip)))
    assert all(skip == (share < 0.35) for share, skip in shares)
    assert sum(0.2 < share < 0.35 for share, _ in shares) > 3
    assert sum(0.35 <= share < 0.5 for share, _ in shares) > 3


def test_what_is_wholly_visible_has_the_shape_and_sizes_of_pedestrians() -> None:
    heights, ratios = [], []
    for video in annotated():
        for order, boxes, ignore in video:
            walkers = [stood for stood in order if stood.walker is not None]
            for stood, (x1, y1, x2, y2), skip in zip(walkers, boxes.tolist(), ignore, strict=True):
                if (y2 - y1, x2 - x1) == stood.cutout.mask.shape and not skip:
                    heights.append(y2 - y1)
                    ratios.append((x2 - x1) / (y2 - y1))
    assert 0.2 <= min(ratios) and max(ratios) <= 0.65
    between = np.sqrt(np.multiply(HEIGHTS[1:], HEIGHTS[:-1]))
    shares = np.bincount(np.searchsorted(between, heights), minlength=5) / len(heights)
    assert shares.min() >= 0.08, shares
    assert min(heights) >= 12 and max(heights) <= 73


def test_sizes_are_a_factor_of_a_half_octave_apart() -> None:
    steps = np.divide(HEIGHTS[1:], HEIGHTS[:-1])
    assert steps.min() >= 1.4 and steps.max() <= 1.5


def test_a_fifth_of_the_frames_hold_a_pedestrian() -> None:
    busy = [bool((~ignore).any()) for video in annotated() for _, _, ignore in video]
    assert np.mean(busy) == pytest.approx(0.2, abs=0.05)


def test_pedestrians_come_in_episodes() -> None:
    changes, busy = 0, 0
    for video in annotated():
        there = np.array([len(boxes) > 0 for _, boxes, _ in video])
        busy += there.sum()
        changes += np.count_nonzero(there[1:] & ~there[:-1]) + there[0]
    assert busy / changes > 15  # frames an episode


@pytest.mark.parametrize(("busy", "low", "high"), [(0.0, 0, 0), (0.5, 0.4, 0.6), (1.0, 0.85, 1)])
def test_busy_turns_the_share_of_frames(busy: float, low: float, high: float) -> None:
    filming = Filming((128, 192), busy, "day")
    shown = [len(filming.annotate(2, v, f)[1]) > 0 for v in range(10) for f in range(0, 100, 2)]
    assert low <= np.mean(shown) <= high


def test_a_street_may_be_all_but_empty() -> None:
    for busy in (1e-320, np.float32(1e-6)):
        assert not any(len(draw_frame(0, 0, f, busy=busy).boxes) for f in (0, 500))  # type: ignore[arg-type]


def test_large_pictures_are_remembered_in_as_much_memory_as_small_ones() -> None:
    small, large = (film._remembering(draw_thing, 4096, height) for height in (128, 1024))
    assert small.cache_info().maxsize == 64 * large.cache_info().maxsize == 4096  # type: ignore[attr-defined]
    assert small is film._remembering(draw_thing, 4096, 128)
    assert small("post", 20.0, np.random.default_rng(0)).shape[2] == 4


def test_who_stands_nearer_is_lower_and_larger() -> None:
    feet, depths, sizes = [], [], []
    for video in annotated():
        for order, boxes, _ in video:
            assert [one.depth for one in order] == sorted((o.depth for o in order), reverse=True)
            for stood in order:
                if stood.walker is not None and len(boxes):
                    feet.append(stood.y + len(stood.cutout.mask))
                    depths.append(1 / stood.depth)
                    sizes.append(len(stood.cutout.mask))
    assert np.corrcoef(feet, depths)[0, 1] > 0.99
    assert np.corrcoef(sizes, depths)[0, 1] > 0.97


@pytest.mark.parametrize("video", range(4))
def test_the_camera_moves_smoothly(video: int) -> None:
    course = Course.draw(3, video)
    way = np.array([course.at(frame) for frame in range(1500)])  # (frames, x z pan tilt)
    # What a metre 4.5 metres away moves on the picture, and what turning adds, in pixels.
    moved = np.diff(way, axis=0) * [FOCAL / 4.5, 10.0, 1.0, 1.0]
    assert np.abs(moved).sum(axis=1).max() < 4
    assert np.abs(np.diff(moved, axis=0)).max() < 0.05
    assert abs(way[-1, 0] - way[0, 0]) > 20  # metres
    assert np.ptp(way[:, 1]) > 0.5 and np.ptp(way[:, 2]) > 12


def test_what_stands_still_moves_by_a_few_pixels_at_most() -> None:
    for video in range(6):
        before: dict[int, Stood] = {}
        for frame in range(60):
            now = {id(one.cutout.mask): one for one in DAY.stand(1, video, frame)}
            for key in before.keys() & now.keys():
                a, b = before[key], now[key]
                if a.walker is None and abs(a.x - b.x) < 60:  # twins share a drawing
                    assert abs(a.x - b.x) <= 4 and abs(a.y - b.y) <= 2
            before = now


def test_neighbouring_frames_are_alike_and_distant_ones_are_not() -> None:
    frames = [draw_frame(1, 0, f).image.astype(int) for f in (0, 1, 200)]
    near, far = (np.abs(frames[0] - other).mean() for other in frames[1:])
    assert near < 0.5 * far


def test_boxes_of_a_pedestrian_move_smoothly() -> None:
    overlaps, moved = [], []
    for video in annotated():
        before: dict[int, np.ndarray] = {}
        for order, boxes, _ in video:
            walkers = [one for one in order if one.walker is not None]
            now = {}
            for stood, box in zip(walkers, boxes, strict=True):
                if (box[3] - box[1], box[2] - box[0]) == stood.cutout.mask.shape:
                    assert stood.walker is not None
                    now[stood.walker] = box
            for walker in before.keys() & now.keys():
                a, b = before[walker], now[walker]
                overlaps.append(float(iou(torch.tensor(a[None]), torch.tensor(b[None]))))
                moved.append(np.abs(a + np.roll(a, 2) - b - np.roll(b, 2))[:2] / 2)
            before = now
    assert len(overlaps) > 300
    assert np.mean(overlaps) > 0.65 and np.mean(np.array(overlaps) < 0.3) < 0.02
    assert np.mean(moved) < 2 and np.max(moved) <= 9  # pixels; legs and arms swing


def test_a_pedestrian_walks_smoothly() -> None:
    schedule = Schedule(1, 0, 0.5, 192.0)
    walks = {walk.number: walk for frame in range(0, 3000, 5) for walk in schedule.walks(frame)}
    for walk in walks.values():
        frames = range(walk.start, walk.start + walk.frames + 1)
        way = np.array([walk.at(frame, 192.0) for frame in frames])
        steps = np.diff(way, axis=0)
        assert np.abs(steps[:, 0]).max() < 6 and np.abs(np.diff(steps[:, 0])).max() < 0.5
        assert np.abs(steps[:, 1]).max() < 1 and np.abs(np.diff(steps[:, 1])).max() < 0.1


def test_a_pedestrian_enters_and_leaves_at_the_side() -> None:
    schedule = Schedule(4, 0, 0.5, 192.0)
    walks = {walk.number: walk for frame in range(0, 3000, 5) for walk in schedule.walks(frame)}
    assert len(walks) > 20
    for walk in walks.values():
        first, last = walk.at(walk.start, 192)[0], walk.at(walk.start + walk.frames, 192)[0]
        assert not 0 < first < 192 and not 0 < last < 192
        assert (first < 0) == walk.rightwards
        assert ((first < 0) == (last < 0)) == bool(walk.turns)
        assert walk.seen(192) and max(walk.seen(192)) < walk.start + walk.frames
    assert {bool(walk.turns) for walk in walks.values()} == {True, False}
    assert any(walk.heights[0] != walk.heights[1] for walk in walks.values())


def test_a_schedule_asked_backwards_is_the_same() -> None:
    forwards, backwards = Schedule(0, 1, 0.4, 192.0), Schedule(0, 1, 0.4, 192.0)
    one = [forwards.walks(frame) for frame in range(0, 2000, 40)]
    other = [backwards.walks(frame) for frame in reversed(range(0, 2000, 40))]
    assert one == other[::-1]


def test_gait_repeats_and_faces_both_ways() -> None:
    looks = draw_looks(np.random.default_rng(1))
    steps = [draw_walker(looks, 60, step, False) for step in range(PHASES)]
    assert len({posed.sprite.tobytes() for posed in steps}) == PHASES
    widths = [posed.sprite.shape[1] for posed in steps]
    assert max(widths) > 1.4 * min(widths)
    for step, posed in enumerate(steps):
        turned = draw_walker(looks, 60, step, True)
        assert np.array_equal(turned.sprite[:, ::-1], posed.sprite)
        assert turned.centre + posed.centre == pytest.approx(posed.sprite.shape[1])
        assert 0 < posed.centre < posed.sprite.shape[1]


def test_slender_things_stand_about_without_a_box() -> None:
    assert set(CONFOUNDERS) <= set(THINGS)
    empty = 0
    for video in range(20):
        names = {thing.name for thing in lay_out(0, video)}
        assert len(names & set(CONFOUNDERS)) >= 5
        for frame in (0, 50):
            order, boxes, _ = DAY.annotate(0, video, frame)
            shapes = [one.cutout.mask.shape for one in order if one.walker is None]
            slender = [w / h for h, w in shapes if 0.2 <= w / h <= 0.65 and 12 <= h <= 73]
            assert slender
            empty += not len(boxes)
    assert empty > 20


@pytest.mark.parametrize("name", THINGS)
def test_things_are_as_tall_as_asked(name: str) -> None:
    sprite = draw_thing(name, 50.0, np.random.default_rng(0))
    assert sprite.shape[2] == 4 and abs(len(sprite) - 50) <= 6


@pytest.mark.parametrize("name", CARS)
def test_cars_are_as_long_as_their_height_asks(name: str) -> None:
    assert abs(draw_thing(name, 30.0, np.random.default_rng(0)).shape[1] - 50) <= 3


@pytest.mark.parametrize("name", CONFOUNDERS)
def test_confounders_are_as_slender_as_pedestrians(name: str) -> None:
    h, w = draw_thing(name, 60.0, np.random.default_rng(0)).shape[:2]
    assert 0.2 <= w / h <= 0.65


def test_a_shadow_is_not_part_of_what_is_seen() -> None:
    sprite = draw_thing("hydrant", 40.0, np.random.default_rng(0))
    cutout = cut_out(sprite)
    assert cutout.mask.shape == sprite.shape[:2]
    assert np.array_equal(cutout.mask, sprite[:, :, 3] >= 128)
    assert cutout.x < 0 and cutout.alpha.size[1] > len(sprite)


def test_the_street_begins_again_at_its_end() -> None:
    things = lay_out(0, 0)
    assert all(0 <= thing.x <= LENGTH for thing in things)
    assert [thing.z for thing in things] == sorted((t.z for t in things), reverse=True)


@pytest.mark.parametrize("domain", ["day", "dusk"])
def test_frames_are_those_the_demos_were_trained_on(domain: str) -> None:
    # When this fails, Pillow or NumPy changed what they draw, or someone changed the world: then
    # the demos and the results on file belong to another world and have to be made again.
    frames = [draw_frame(0, video, 30, busy=0.9, domain=domain) for video in range(4)]
    assert digest(frames) == DIGESTS[domain]


def test_dusk_changes_the_light_and_nothing_else() -> None:
    for video in range(3):
        day, dusk = (draw_frame(0, video, 40, busy=0.9, domain=d) for d in ("day", "dusk"))
        for a, b in zip(day[1:], dusk[1:], strict=True):
            assert np.array_equal(a, b)
        assert dusk.image.mean() < 0.8 * day.image.mean()


def test_seeds_videos_and_frames_differ() -> None:
    frames = [
        draw_frame(s, v, f).image.tobytes() for s in (0, 1) for v in (0, 1) for f in (0, 1, 900)
    ]
    assert len(set(frames)) == len(frames)


def test_every_frame_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    still = Filming((128, 192), 0.0, "day")
    flat = np.full((128, 192, 3), 128, np.uint8)
    one, two = (still._with_grain(flat, dice).astype(float) for dice in (12345, 67891))
    assert 1 < one.std() < 5 and abs(one.mean() - 128) < 0.2
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05
    camera = Course.draw(0, 0).at(0)
    monkeypatch.setattr(Course, "at", lambda *_: camera)
    images = [still.draw(0, 0, frame).image.astype(int) for frame in (0, 1, 0)]
    assert 1 < (images[1] - images[0]).std() < 6 and np.array_equal(images[0], images[2])


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (256, 192), (128, 384)])
def test_the_street_at_another_size(size: tuple[int, int]) -> None:
    frames = [draw_frame(2, video, 40, size=size, busy=0.9) for video in range(3)]
    boxes = np.concatenate([frame.boxes for frame in frames])
    assert all(frame.image.shape == (*size, 3) for frame in frames)
    assert boxes.min() >= 0 and (boxes[:, 2:] <= size[::-1]).all() and len(boxes)
    tall = max(b[3] - b[1] for b in boxes)
    assert tall <= 0.6 * size[0]


def test_neither_global_generator_is_touched() -> None:
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    draw_frame(11, 0, 0, domain="dusk")
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_pool_of_frames_is_complete_and_knows_video_and_frame() -> None:
    pool = make_street(2, 40, seed=7, busy=0.8)
    assert pool.classes == CLASSES == ("pedestrian",)
    assert pool.ids[0] == "street-7-0/000000" and pool.ids[-1] == "street-7-1/000039"
    assert len(pool) == 80 and "80 complete" in repr(pool)
    for image_id in pool.ids[::13]:
        info, target, image = pool.info(image_id), pool.target(image_id), pool.image(image_id)
        assert f"{info.video}/{info.frame:06d}" == image_id
        assert info.size == (128, 192) == tuple(image.shape[1:])
        frame = draw_frame(7, int(image_id.split("/")[0][-1]), info.frame or 0, busy=0.8)
        assert target.boxes.tolist() == frame.boxes.tolist() and target.complete
        assert target.labels.tolist() == frame.labels.tolist()
        assert target.ignore.tolist() == frame.ignore.tolist()
        assert np.array_equal((image * 255).round().byte().permute(1, 2, 0), frame.image)


def test_a_smaller_pool_is_the_start_of_a_larger_one() -> None:
    small, large = make_street(2, 5, seed=3, busy=0.7), make_street(3, 9, seed=3, busy=0.7)
    for image_id in small.ids:
        assert small.target(image_id).boxes.equal(large.target(image_id).boxes)
        assert small.image(image_id).equal(large.image(image_id))
    assert set(small.ids) < set(large.ids)


@pytest.mark.parametrize(("videos", "frames"), [(0, 5), (5, 0), (0, 0)])
def test_an_empty_pool_of_frames(videos: int, frames: int) -> None:
    pool = make_street(videos, frames, seed=0)
    assert len(pool) == 0 and pool.classes == CLASSES


@pytest.mark.parametrize("keep", [0, 2, 9])
def test_kept_redrawn_and_sent_images_are_equal(keep: int) -> None:
    options = {"size": (96, 128), "busy": 0.6, "domain": "dusk"}
    pool = make_street(2, 2, seed=1, keep=keep, **options)  # type: ignore[arg-type]
    for image_id in pool.ids:
        first = pool.image(image_id)
        sent = pickle.loads(pickle.dumps(pool._images))
        video, frame = int(image_id[9]), int(image_id[-1])
        drawn = torch.from_numpy(draw_frame(1, video, frame, **options).image)  # type: ignore[arg-type]
        assert first.equal(drawn.permute(2, 0, 1).float() / 255)
        assert pool.image(image_id).equal(first) and sent.load(image_id).equal(first)
    assert isinstance(pool._images, DrawnImages)
    assert len(pool._images._kept) == min(keep, 4)
    assert len(pickle.dumps(pool._images)) < 1000


def test_images_of_a_joined_pool_are_found() -> None:
    one, two = make_street(1, 2, seed=0), make_street(1, 2, seed=1)
    both = one.concat(two)
    assert both.image("b/street-1-0/000001").equal(two.image("street-1-0/000001"))


def test_a_callers_changes_do_not_reach_the_kept_image() -> None:
    pool = make_street(1, 1, seed=0)
    pool.image(pool.ids[0]).zero_()
    assert pool.image(pool.ids[0]).max() > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"videos": -1}, "videos = -1 must be a whole number of at least 0; 0 gives an empty pool"),
        ({"videos": 1.5}, "videos = 1.5 must be a whole number"),
        ({"frames": -1}, "frames = -1 must be a whole number of at least 0 and at most 1000000"),
        ({"frames": 10**7}, "frames = 10000000 must be a whole number"),
        ({"seed": -3}, "seed = -3 must be a whole number of at least 0"),
        ({"seed": True}, "seed = True must be a whole number"),
        ({"keep": -1}, "keep = -1 must be a whole number of at least 0; 0 keeps none"),
        ({"size": 128}, "size = 128 must be (height, width) in pixels; (128, 192) is usual"),
        ({"size": (1, 2, 3)}, "size = (1, 2, 3) must be (height, width) in pixels"),
        ({"size": (32, 48)}, "size[0] = 32 must be a whole number of at least 64 and at most 1024"),
        ({"size": (128, 90)}, "size[1] = 90 must be a whole number of at least 96 and at most 384"),
        ({"size": (128, 500)}, "size[1] = 500 must be a whole number of at least 96"),
        ({"busy": 1.2}, "busy = 1.2 must be a share of frames in [0, 1]; 0.2 is that of Caltech"),
        ({"busy": float("nan")}, "busy = nan must be a share of frames in [0, 1]"),
        ({"busy": True}, "busy = True must be a share of frames in [0, 1]"),
        ({"domain": "fog"}, "domain = 'fog' is unknown; choose one of 'day', 'dusk'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError) as error:
        make_street(**({"videos": 1, "frames": 1, "seed": 0} | arguments))  # type: ignore[arg-type]
    assert str(error.value).startswith(said)


def test_bad_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="frame = -1 must be a whole number of at least 0"):
        draw_frame(0, 0, -1)
    with pytest.raises(ValueError, match="frame = 1000000 must be a whole number"):
        draw_frame(0, 0, 1_000_000)
    with pytest.raises(ValueError, match="video = '0' must be a whole number"):
        draw_frame(0, "0", 0)  # type: ignore[arg-type]
