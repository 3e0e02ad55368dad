"""MS COCO 2014 and 2017: train and val, whose labels are published.

The images' own server has no valid certificate for https, so they come from the same bucket by its
path. A crowd is an ignored box; the counts by class leave crowds out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.formats.coco import read_coco
from almining.data.pool import Pool

SERVER = "s3.amazonaws.com"
PAGE = "https://cocodataset.org"
TERMS = "annotations CC BY 4.0, images under Flickr's terms"
CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book"),
    *("clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
# VOC's twenty classes as COCO calls them
VOC_NAMES = (
    *("airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "couch"),
    *("train", "tv"),
)


def _archive(kind: str, stem: str, size: int, sha256: str) -> Archive:
    url = f"https://{SERVER}/images.cocodataset.org/{kind}/{stem}.zip"
    return Archive(f"{stem}.zip", url, size, sha256)


# hashes and sizes: tensorflow/datasets, url_checksums/coco.txt
COCO2014 = DataSet(
    "MS COCO 2014",
    (
        _archive(
            *("annotations", "annotations_trainval2014", 252_872_794),
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        ),
        _archive(
            *("zips", "train2014", 13_510_573_713),
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        ),
        _archive(
            *("zips", "val2014", 6_645_013_297),
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        ),
    ),
    PAGE,
    TERMS,
    (SERVER,),
)
COCO2017 = DataSet(
    "MS COCO 2017",
    (
        _archive(
            *("annotations", "annotations_trainval2017", 252_907_541),
            "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
        ),
        _archive(
            *("zips", "train2017", 19_336_861_798),
            "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        ),
        _archive(
            *("zips", "val2017", 815_585_330),
            "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        ),
    ),
    PAGE,
    TERMS,
    (SERVER,),
)


def _read(split: str) -> Callable[[Mapping[str, Path]], Pool]:
    def read(folders: Mapping[str, Path]) -> Pool:
        labels = folders[f"annotations_trainval{split[-4:]}"]
        json = labels / "annotations" / f"instances_{split}.json"
        return read_coco(json, folders[split] / split, strict=False)

    return read


def _split(split: str, images: int, objects: int, *classes: int) -> Split:
    by_class = dict(zip(CLASSES, classes, strict=True)) if classes else {}
    source = "the annotation files, as counted by detectron2 and others"
    return Split(
        f"coco_{split}",
        _read(split),
        Expected(
            source,
            images=images,
            objects=objects,
            counted=sum(classes) if classes else None,
            classes=by_class,
        ),
    )


SPLITS_2014 = (_split("train2014", 82_783, 604_907), _split("val2014", 40_504, 291_875))
SPLITS_2017 = (
    _split(
        *("train2017", 118_287, 860_001),
        *(257253, 7056, 43533, 8654, 5129, 6061, 4570, 9970, 10576, 12842, 1865, 1983, 1283, 9820),
        *(10542, 4766, 5500, 6567, 9223, 8014, 5484, 1294, 5269, 5128, 8714, 11265, 12342, 6448),
        *(6112, 2681, 6623, 2681, 6299, 8802, 3273, 3747, 5536, 6095, 4807, 24070, 7839, 20574),
        *(5474, 7760, 6159, 14323, 9195, 5776, 4356, 6302, 7261, 7758, 2884, 5807, 7005, 6296),
        *(38073, 5779, 8631, 4192, 15695, 4149, 5803, 4960, 2261, 5700, 2854, 6422, 1672, 3334),
        *(225, 5609, 2634, 24077, 6320, 6577, 1464, 4729, 198, 1945),
    ),
    _split(
        *("val2017", 5000, 36_781),
        *(10777, 314, 1918, 367, 143, 283, 190, 414, 424, 634, 101, 75, 60, 411, 427, 202, 218),
        *(272, 354, 372, 252, 71, 266, 232, 371, 407, 540, 252, 299, 115, 241, 69, 260, 327, 145),
        *(148, 179, 267, 225, 1013, 341, 895, 215, 325, 253, 623, 370, 236, 177, 285, 312, 365),
        *(125, 284, 328, 310, 1771, 261, 342, 163, 695, 179, 288, 231, 106, 283, 153, 262, 55),
        *(143, 9, 225, 126, 1129, 267, 274, 36, 190, 11, 57),
    ),
)
SETS = {"2014": (COCO2014, SPLITS_2014), "2017": (COCO2017, SPLITS_2017)}
