import weakref

import pytest
import torch
from PIL import Image

from almining.data.formats.files import BrokenImageError
from almining.data.pool import DataError, Pool
from almining.data.quarantine import Quarantine
from almining.data.readers import read_folder
from almining.detectors.rcnn import faster_rcnn
from almining.predict import detect, embeddings, regions, stream
from almining.records import Detections
from tests.fakes import FaultyImages, FlatDetector, FlatImages, faulty_pool, flat_pool


def test_streams_in_order_and_batches_do_not_matter() -> None:
    pool, detector = flat_pool(7), FlatDetector()
    torch.nn.init.ones_(detector.linear.weight)
    one = {
        image_id: found.scores
        for image_id, found in detect(detector, pool, batch=1, progress=False)
    }
    three = dict(detect(detector, pool, batch=3, progress=False))
    assert list(one) == list(three) == list(pool.ids)
    assert all(torch.allclose(one[image_id], three[image_id].scores) for image_id in one)


def test_loads_no_more_than_a_batch_ahead() -> None:
    pool, seen = flat_pool(10), []

    def call(images):
        seen.append(len(images))
        return images

    results = stream(call, pool, batch=4, progress=False)
    next(results)
    assert seen == [4]
    assert len(list(results)) == 9 and seen == [4, 4, 2]


def test_images_are_dropped_once_they_are_scored() -> None:
    seen: list[weakref.ref] = []

    def call(images):
        seen.extend(weakref.ref(image) for image in images)
        assert sum(one() is not None for one in seen) == len(images)
        return [float(image.mean()) for image in images]

    for _ in stream(call, flat_pool(10), batch=4, progress=False):
        assert not any(one() is not None for one in seen)
    assert len(seen) == 10


def test_too_few_results_are_refused() -> None:
    with pytest.raises(ValueError, match="1 results for 2 images") as caught:
        list(stream(lambda images: images[:1], flat_pool(4), batch=2, progress=False))
    assert caught.value.__notes__ == ["while scoring images flat-0, flat-1"]


def test_subset_empty_and_embeddings() -> None:
    pool, detector = flat_pool(3), FlatDetector()
    assert [image_id for image_id, _ in detect(detector, pool, ["flat-2"], progress=False)] == [
        "flat-2"
    ]
    assert list(detect(detector, flat_pool(0), progress=False)) == []
    ((_, vector),) = embeddings(detector, pool, ["flat-1"], progress=False)
    assert vector.shape == (3,)


def test_errors_name_the_images() -> None:
    def call(images):
        raise FloatingPointError("score is NaN")

    with pytest.raises(FloatingPointError, match=r"score is NaN \(images flat-0, flat-1\)"):
        list(stream(call, flat_pool(4), batch=2, progress=False))
    with pytest.raises(ValueError, match="no image 'nope'"):
        list(detect(FlatDetector(), flat_pool(1), ["nope"], progress=False))
    with pytest.raises(ValueError, match="batch = 0"):
        list(detect(FlatDetector(), flat_pool(1), batch=0, progress=False))


def test_a_broken_detector_does_not_look_like_an_empty_image() -> None:
    detector = faster_rcnn(("dark", "light"), min_size=32, max_size=64)
    torch.nn.init.constant_(detector.model.roi_heads.box_predictor.cls_score.bias, torch.nan)
    with pytest.raises(FloatingPointError, match=r"not finite.*\(images flat-0, flat-1\)"):
        list(detect(detector, flat_pool(2), progress=False))


def test_any_other_error_says_which_images() -> None:
    def call(images):
        raise KeyError("label")

    with pytest.raises(KeyError) as caught:
        list(stream(call, flat_pool(1), progress=False))
    assert caught.value.__notes__ == ["while scoring images flat-0"]


def faulty(n: int, *bad: int) -> tuple[Pool, FaultyImages]:
    return faulty_pool(flat_pool(n), *bad)


def score(pool: Pool, **options) -> list[str]:
    def call(images):
        assert len(images) > 0  # never asked about nothing
        return images

    return [image_id for image_id, _ in stream(call, pool, progress=False, **options)]


TEN = (0, 1, 15, 16, 17, 31, 500, 998, 999, 640)


@pytest.mark.parametrize("batch", [1, 2, 16, 300, 2000])
def test_ten_broken_images_of_a_thousand_are_set_aside(batch: int) -> None:
    pool, images = faulty(1000, *TEN)
    aside = Quarantine()
    scored = score(pool, batch=batch, set_aside=aside)
    assert scored == [image_id for image_id in pool.ids if image_id not in images.bad]
    assert aside.ids == tuple(f"flat-{number}" for number in sorted(TEN)) and len(aside) == 10
    assert [finding.record for finding in aside.findings] == [f"image {i}" for i in aside.ids]
    assert tuple(finding.image_id for finding in aside.findings) == aside.ids
    assert all(finding.action == "quarantined" for finding in aside.findings)
    assert images.asked == list(pool.ids)  # each once
    assert repr(aside) == "Quarantine(10 of 1000, limit 0.01)"


@pytest.mark.parametrize("batch", [1, 16, 300])
def test_the_eleventh_stops_early_with_the_exact_list(batch: int) -> None:
    bad = (*TEN[:6], 100, 200, 300, 400, 600)
    pool, images = faulty(1000, *bad)
    with pytest.raises(DataError) as caught:
        score(pool, batch=batch)
    found = [finding.record for finding in caught.value.findings]
    assert found == [f"image flat-{number}" for number in sorted(bad)]
    assert images.asked[-1] == "flat-600"  # nothing after the eleventh is loaded
    (note,) = caught.value.__notes__
    assert note.startswith("stopped: 11 of 1000 images are broken, more than 0.01 of them; mend")


@pytest.mark.parametrize(
    ("n", "bad", "stops"), [(50, 1, True), (99, 1, True), (100, 1, False), (2900, 29, False)]
)
def test_more_than_one_in_a_hundred_is_to_the_letter(n: int, bad: int, stops: bool) -> None:
    pool, _ = faulty(n, *range(bad))
    if stops:
        with pytest.raises(DataError):
            score(pool)
    else:
        with pytest.warns(UserWarning, match=f"{bad} broken images? w.* set aside"):
            assert len(score(pool)) == n - bad


def test_a_batch_in_which_all_are_broken_is_not_called() -> None:
    pool, _ = faulty(12, 4, 5, 6, 7)
    aside = Quarantine(limit=0.5)
    assert score(pool, batch=4, set_aside=aside) == [
        f"flat-{i}" for i in (0, 1, 2, 3, 8, 9, 10, 11)
    ]
    pool, _ = faulty(2, 0, 1)
    assert score(pool, set_aside=Quarantine(limit=1)) == []
    assert list(detect(FlatDetector(), pool, set_aside=Quarantine(limit=1), progress=False)) == []
    assert list(embeddings(FlatDetector(), pool, set_aside=Quarantine(limit=1))) == []


def test_results_do_not_depend_on_broken_neighbours() -> None:
    pool, _ = faulty(100, 3)
    aside = Quarantine()
    with_bad = dict(detect(FlatDetector(), pool, batch=4, set_aside=aside, progress=False))
    sound = aside.without(pool)
    without = dict(detect(FlatDetector(), sound, batch=4, progress=False))
    assert list(with_bad) == list(without) == list(sound.ids)
    assert all(torch.equal(with_bad[i].scores, without[i].scores) for i in without)


def test_what_is_set_aside_is_not_loaded_again_and_leaves_the_pool() -> None:
    pool, images = faulty(200, 7, 8)
    aside = Quarantine()
    score(pool, set_aside=aside)
    images.asked.clear()
    assert len(score(pool, set_aside=aside)) == 198
    assert not {"flat-7", "flat-8"} & set(images.asked)
    rest = aside.without(pool)
    assert len(rest) == 198 and "flat-7" not in rest and rest.findings == aside.findings
    assert aside.without(rest) is rest and len(pool) == 200 and pool.findings == ()


def test_one_warning_says_what_was_lost() -> None:
    pool, _ = faulty(1000, 3, 5, 7, 9)
    with pytest.warns(UserWarning, match="set aside") as seen:
        score(pool)
    (warning,) = seen
    text = str(warning.message)
    assert text.startswith("4 broken images were set aside while scoring: flat-3, flat-5, flat-7,")
    assert "flat-3.jpg" in text and "truncated" in text
    results = stream(lambda images: images, pool, batch=8, progress=False)
    next(results)
    with pytest.warns(UserWarning, match="3 broken images were set aside"):
        results.close()  # the caller has seen enough


def test_a_quarantine_around_gets_what_is_broken() -> None:
    pool, _ = faulty(200, 3)
    with Quarantine() as outer:
        score(pool)
        with Quarantine() as inner:
            score(pool)
        score(pool, set_aside=(given := Quarantine()))
    assert outer.ids == inner.ids == given.ids == ("flat-3",)
    with pytest.warns(UserWarning, match="1 broken"):
        score(pool)


def test_other_errors_of_a_source_are_not_set_aside() -> None:
    class Wrong(FlatImages):
        def load(self, image_id: str) -> torch.Tensor:
            raise ValueError("no source knows this")

    whole = flat_pool(500)
    pool = Pool(whole.classes, {i: whole.target(i) for i in whole.ids}, Wrong())
    with pytest.raises(ValueError, match="no source knows this"):
        score(pool)


def test_a_joined_pool_names_its_own_ids() -> None:
    pool, _ = faulty(100, 3)
    both = pool.concat(flat_pool(10), names=("x", "y"))
    score(both, set_aside=(aside := Quarantine()))
    assert aside.ids == ("x/flat-3",) and aside.findings[0].record == "image x/flat-3"
    assert aside.findings[0].image_id == "x/flat-3"
    assert "x/flat-3" not in aside.without(both)


def test_survive_looks_at_all_once_and_calls_again() -> None:
    pool, _ = faulty(300, 100, 250)
    seen: list[int] = []

    def call(pool: Pool) -> float:
        seen.append(len(pool))
        return sum(float(pool.image(image_id).mean()) for image_id in pool.ids)

    aside = Quarantine(of=len(pool))
    assert aside.survive(call, pool) > 0
    assert seen == [300, 298] and aside.ids == ("flat-100", "flat-250")

    def elsewhere(pool: Pool) -> None:
        raise BrokenImageError("other", "other.jpg", "truncated")

    with pytest.raises(BrokenImageError, match=r"other\.jpg"):
        aside.survive(elsewhere, pool)


@pytest.mark.parametrize("joined", [False, True])
def test_an_image_that_breaks_later_is_set_aside(joined: bool) -> None:
    pool, images = faulty(300)
    pool = pool.concat(flat_pool(2), names=("x", "y")) if joined else pool
    aside = Quarantine(of=len(pool))
    assert len(score(pool, set_aside=aside)) == len(pool)
    images.bad.add("flat-7")  # loaded before
    seen = []
    aside.survive(lambda pool: seen.append(len([pool.image(i) for i in pool.ids])), pool)
    assert aside.ids == ("x/flat-7" if joined else "flat-7",) and seen == [len(pool) - 1]


def test_an_image_that_is_broken_only_once_is_set_aside() -> None:
    pool, images = faulty(300, 7)

    def call(pool: Pool) -> int:
        try:
            return len([pool.image(i) for i in pool.ids])
        finally:
            images.bad.clear()  # sound when it is looked at again

    aside = Quarantine(of=len(pool))
    assert aside.survive(call, pool) == 299 and aside.ids == ("flat-7",)


def test_a_slot_that_goes_on_loading_what_was_set_aside_is_not_called_for_ever() -> None:
    pool, _ = faulty(300, 7)
    aside = Quarantine(of=len(pool))
    with pytest.raises(BrokenImageError, match="flat-7"):
        aside.survive(lambda _: [pool.image(i) for i in pool.ids], pool)
    assert aside.ids == ("flat-7",)


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_a_limit_is_a_share(limit: float) -> None:
    with pytest.raises(ValueError, match=r"limit = .*a share of the images, 0 to 1"):
        Quarantine(limit=limit)


def test_real_files_that_break_are_set_aside(tmp_path) -> None:
    for number in range(100):
        Image.new("RGB", (300, 200)).save(tmp_path / f"{number:02d}.jpg")
    broken = tmp_path / "42.jpg"
    broken.write_bytes(broken.read_bytes()[:700])
    pool = read_folder(tmp_path)
    aside = Quarantine()
    assert len(list(stream(lambda images: images, pool, set_aside=aside, progress=False))) == 99
    (finding,) = aside.findings
    assert finding.file == str(broken) and "truncated" in finding.value


def test_regions_get_the_boxes_of_their_own_image_and_broken_ones_are_left_out() -> None:
    class Boxed(FlatDetector):
        def regions(self, images, given):
            shades = [float(image.mean()) for image in images]
            return [
                Detections(one, torch.ones(len(one)).long(), torch.full((len(one),), shade))
                for one, shade in zip(given, shades, strict=True)
            ]

    pool, _ = faulty_pool(flat_pool(120), 3)
    asked = {f"flat-{i}": torch.full((i % 3, 4), float(i)) for i in range(119, -1, -1)}
    with pytest.warns(UserWarning, match="flat-3"):
        found = dict(regions(Boxed(), pool, asked, batch=7, progress=False))
    assert list(found) == [image_id for image_id in asked if image_id != "flat-3"]
    for image_id, one in found.items():
        assert torch.equal(one.boxes, asked[image_id])
        assert one.scores.tolist() == pytest.approx([int(image_id[5:]) % 10 / 10] * len(one))
