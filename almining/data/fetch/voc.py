"""PASCAL VOC 2007 and 2012: trainval and test, as BiB and SSM use them.

Of 2012 the test set has no published labels, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.formats.voc import VOC_CLASSES, read_voc
from almining.data.pool import Pool

SERVER = "thor.robots.ox.ac.uk"
TERMS = "images under Flickr's terms, for research"


def _archive(year: int, stem: str, size: int, sha256: str) -> Archive:
    url = f"https://{SERVER}/pascal/VOC/voc{year}/{stem}.tar"
    return Archive(f"{stem}.tar", url, size, sha256)


# hashes and sizes: tensorflow/datasets, url_checksums/voc.txt
VOC2007 = DataSet(
    "PASCAL VOC 2007",
    (
        _archive(
            *(2007, "VOCtrainval_06-Nov-2007", 460_032_000),
            "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        ),
        _archive(
            *(2007, "VOCtest_06-Nov-2007", 451_020_800),
            "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        ),
    ),
    "https://www.robots.ox.ac.uk/~vgg/projects/pascal/VOC/voc2007/",
    TERMS,
    (SERVER,),
)
VOC2012 = DataSet(
    "PASCAL VOC 2012",
    (
        _archive(
            *(2012, "VOCtrainval_11-May-2012", 1_999_639_040),
            "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        ),
    ),
    "https://www.robots.ox.ac.uk/~vgg/projects/pascal/VOC/voc2012/",
    TERMS,
    (SERVER,),
)


def _read(stem: str, year: int, split: str) -> Callable[[Mapping[str, Path]], Pool]:
    def read(folders: Mapping[str, Path]) -> Pool:
        root = folders[stem] / "VOCdevkit" / f"VOC{year}"
        return read_voc(root, split, classes=VOC_CLASSES, strict=False)

    return read


def _by_class(*numbers: int) -> dict[str, int]:
    return dict(zip(VOC_CLASSES, numbers, strict=True))


SPLITS_2007 = (
    Split(
        "voc2007_trainval",
        _read("VOCtrainval_06-Nov-2007", 2007, "trainval"),
        Expected(
            "the challenge's table; by class from memory, they add up",
            images=5011,
            objects=15_662,
            counted=12_608,
            classes=_by_class(
                *(306, 353, 486, 290, 505, 229, 1250, 376, 798, 259, 215, 510, 362, 339, 4690),
                *(514, 257, 248, 297, 324),
            ),
        ),
    ),
    Split(
        "voc2007_test",
        _read("VOCtest_06-Nov-2007", 2007, "test"),
        Expected(
            "the challenge's table; by class from memory, they add up",
            images=4952,
            objects=14_976,
            counted=12_032,
            classes=_by_class(
                *(285, 337, 459, 263, 469, 213, 1201, 358, 756, 244, 206, 489, 348, 325, 4528),
                *(480, 242, 239, 282, 308),
            ),
        ),
    ),
)
SPLITS_2012 = (
    Split(
        "voc2012_trainval",
        _read("VOCtrainval_11-May-2012", 2012, "trainval"),
        Expected(
            "the challenge's table; by class with difficult objects, from public counts of 07+12",
            images=11_540,
            counted=27_450,
            objects=31_561,
            all_classes=_by_class(
                *(954, 790, 1221, 999, 1482, 637, 2364, 1227, 2906, 702, 747, 1541, 750, 751),
                *(10_129, 1099, 994, 786, 656, 826),
            ),
        ),
    ),
)
SETS = {"2007": (VOC2007, SPLITS_2007), "2012": (VOC2012, SPLITS_2012)}
