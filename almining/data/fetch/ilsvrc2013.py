"""ILSVRC 2013 detection: 200 classes; images and labels need an account.

NOTE-RCNN works on R-CNN's halves of the validation set, val1 and val2, whose lists come with R-CNN;
put there as `val1.txt` and `val2.txt`, one image name a line, they become splits. The images of
training classes that R-CNN adds to val1 are not added here. Pixels are taken to be counted from 0;
the development kit does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from almining.data.fetch.gather import Gathering
from almining.data.fetch.matlab import read_matlab
from almining.data.fetch.prepare import Expected, Split
from almining.data.fetch.sets import Archive, DataSet
from almining.data.formats.parse import read_xml
from almining.data.formats.voc_objects import Objects
from almining.data.pool import Pool

CLASSES = 200
IMAGES, LABELS, DEVKIT = "ILSVRC2013_DET_val", "ILSVRC2013_DET_bbox_val", "ILSVRC2013_devkit"
ILSVRC2013 = DataSet(
    "ILSVRC 2013 detection",
    (
        Archive(f"{IMAGES}.tar", what="validation images"),
        Archive(f"{LABELS}.tgz", what="validation bounding boxes"),
        Archive(f"{DEVKIT}.tgz", what="development kit, which names the classes"),
        Archive("val1.txt", needed=False),
        Archive("val2.txt", needed=False),
    ),
    "https://image-net.org/challenges/LSVRC/2013/2013-downloads.php",
    "for non-commercial research and education",
    account="Register on the page, accept the terms, log in.",
)


def class_names(path: Path) -> dict[str, str]:
    """Return the name of each class by WordNet id, from the kit's `meta_det.mat`.

    Raises:
        FetchError: for a file that is none, or no SciPy.
    """
    return read_matlab(path, _names)


def _names(content: dict[str, Any]) -> dict[str, str]:
    rows = content["synsets"].ravel()[:CLASSES]
    return {str(row["WNID"].ravel()[0]): str(row["name"].ravel()[0]) for row in rows}


def read(folders: Mapping[str, Path], half: str | None = None) -> Pool:
    """Return the validation set, or a half of it.

    Args:
        folders: of the archives.
        half: `"val1.txt"` or `"val2.txt"`, the list of R-CNN.
    """
    (meta,) = sorted(folders[DEVKIT].rglob("meta_det.mat"))[:1] or [
        folders[DEVKIT] / "meta_det.mat"
    ]
    names = class_names(meta)
    images, labels = folders[IMAGES] / IMAGES, folders[LABELS] / LABELS
    stems = [path.stem for path in sorted(images.glob("*.JPEG"))]
    if half is not None:
        listed = {
            line.split()[0] for line in folders[half].read_text().splitlines() if line.strip()
        }
        stems = [stem for stem in stems if stem in listed]
    gathered = Gathering(labels, sorted(names.values()))
    objects = Objects(gathered.classes, origin=0)
    for stem in stems:
        file = labels / f"{stem}.xml"
        root = read_xml(file, gathered.report) if file.is_file() else None
        drawn = gathered.image(stem, images / f"{stem}.JPEG", file=file, labelled=root is not None)
        if drawn is None or root is None:
            continue
        for number, entry in enumerate(root.findall("object"), start=1):
            name = entry.find("name")
            if name is not None:
                name.text = names.get(name.text or "", name.text)
            objects.read(drawn, number, entry)
    return gathered.pool()


SPLITS = (
    Split(
        "ilsvrc2013_val",
        read,
        Expected("the development kit's readme", images=20_121, objects=55_502),
    ),
    Split("ilsvrc2013_val1", partial(read, half="val1.txt"), needs=("val1.txt",)),
    Split("ilsvrc2013_val2", partial(read, half="val2.txt"), needs=("val2.txt",)),
)
SETS = {"ilsvrc2013": (ILSVRC2013, SPLITS)}
