import pytest
import torch

from almining.detectors.rcnn import faster_rcnn
from almining.predict import detect, embeddings, stream
from tests.fakes import FlatDetector, flat_pool


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
