"""Small archives in the very layout and formats of the real ones, with their quirks."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

Files = Mapping[str, bytes]


def picture(number: int, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    """Return an image of (width, height) pixels."""
    held = io.BytesIO()
    colour = (number * 40 % 256, 90, 160)
    Image.new("RGB", size, colour).save(held, kind)
    return held.getvalue()


def packed(name: str, files: Files) -> bytes:
    """Return an archive of the kind its name says; the folders of its files are members, too."""
    held = io.BytesIO()
    folders = dict.fromkeys(
        "/".join(path.split("/")[:depth]) + "/"
        for path in files
        for depth in range(1, path.count("/") + 1)
        if not path.startswith("..")
    )
    if name.endswith(".zip"):
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in {**dict.fromkeys(folders, b""), **files}.items():
                archive.writestr(zipfile.ZipInfo(path), content)
        return held.getvalue()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path, content in {**dict.fromkeys(folders, b""), **files}.items():
            entry = tarfile.TarInfo(path.rstrip("/"))
            entry.type = tarfile.DIRTYPE if path.endswith("/") else tarfile.REGTYPE
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    plain = held.getvalue()
    return plain if name.endswith(".tar") else gzip.compress(plain, mtime=0)


def xml(name: str, *objects: str, size: tuple[int, int] = (64, 48)) -> bytes:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    text = f"<annotation><folder>x</folder><filename>{name}</filename>{sides}"
    return (text + "".join(objects) + "</annotation>").encode()


def thing(name: str, *box: float, extra: str = "") -> str:
    corners = "".join(
        f"<{corner}>{value}</{corner}>"
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def voc(year: int, split: str, stem: str) -> dict[str, Files]:
    """A split of VOC: parts with boxes of their own, difficult objects, floats, no <difficult>."""
    root = f"VOCdevkit/VOC{year}"
    part = "<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax>"
    part += "<ymax>9</ymax></bndbox></part>"
    marks = "<pose>Left</pose><truncated>1</truncated><difficult>{}</difficult>"
    objects = {
        "000005": [thing("person", 1, 1, 64, 48, extra=marks.format(0) + part)],
        "000007": [
            thing("car", 10, 10.5, 40, 30, extra=marks.format(0)),
            thing("dog", 2, 2, 20, 20, extra=marks.format(1)),
        ],
        "000009": [thing("horse", 3, 4, 30, 40)],
    }
    files = {f"{root}/ImageSets/Main/{split}.txt": "\n".join(objects).encode() + b"\n"}
    files[f"{root}/ImageSets/Main/car_{split}.txt"] = b"000005 -1\n000007  1\n"
    for number, (name, boxes) in enumerate(objects.items()):
        files[f"{root}/Annotations/{name}.xml"] = xml(f"{name}.jpg", *boxes)
        files[f"{root}/JPEGImages/{name}.jpg"] = picture(number)
    files[f"{root}/SegmentationClass/000007.png"] = picture(1, kind="PNG")
    return {f"{stem}.tar": files}


def coco(year: int) -> dict[str, Files]:
    """Train and val: ids with gaps, a crowd as RLE, an image without boxes, a box without width."""
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 90, "name": "tie"}]
    made: dict[str, dict[str, bytes]] = {f"annotations_trainval{year}.zip": {}}
    for split, first in ((f"train{year}", 9), (f"val{year}", 139)):
        prefix = f"COCO_{split}_" if year == 2014 else ""
        names = [f"{prefix}{first + 7 * number:012d}.jpg" for number in range(3)]
        images = [
            {"id": first + 7 * i, "file_name": name, "width": 64, "height": 48, "license": 1}
            for i, name in enumerate(names)
        ]
        rows: list[tuple[int, int, list[float], int]] = [
            (first, 1, [1.25, 2.5, 30.0, 40.0], 0),
            (first, 3, [5.0, 5.0, 20.0, 20.0], 0),
            (first, 1, [0.0, 0.0, 64.0, 20.0], 1),
            (first + 7, 90, [10.0, 10.0, 5.0, 6.0], 0),
            (first + 7, 90, [10.0, 10.0, 0.0, 6.0], 0),
        ]
        annotations = [
            {
                **{"id": 1000 + i, "image_id": image, "category_id": kind, "bbox": box},
                **{"area": box[2] * box[3], "iscrowd": crowd},
                "segmentation": {"counts": [3072], "size": [48, 64]} if crowd else [[1, 1, 2, 2]],
            }
            for i, (image, kind, box, crowd) in enumerate(rows)
        ]
        content = {"info": {}, "licenses": [], "images": images}
        content |= {"annotations": annotations, "categories": categories}
        labels = made[f"annotations_trainval{year}.zip"]
        labels[f"annotations/instances_{split}.json"] = json.dumps(content).encode()
        labels[f"annotations/captions_{split}.json"] = b"{}"
        made[f"{split}.zip"] = {f"{split}/{name}": picture(i) for i, name in enumerate(names)}
    return made


def citypersons() -> dict[str, Files]:
    """Cities; riders and regions to be ignored; a pedestrian too low; one city without any."""
    images, labels = {}, {}
    people = {
        "aachen_000000_000019": [("pedestrian", [10, 10, 30, 80]), ("ignore", [0, 0, 200, 10])],
        "aachen_000001_000019": [("pedestrian", [10, 10, 10, 30]), ("rider", [50, 5, 30, 80])],
        "bochum_000000_000600": [],
    }
    for split in ("train", "val"):
        for number, (name, rows) in enumerate(people.items()):
            city = name.split("_")[0]
            objects = [
                {"instanceId": 24000, "bbox": box, "bboxVis": box, "label": label}
                for label, box in rows
            ]
            content = {"imgHeight": 100, "imgWidth": 200, "objects": objects}
            path = f"gtBboxCityPersons/{split}/{city}/{name}_gtBboxCityPersons.json"
            labels[path] = json.dumps(content).encode()
            path = f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png"
            images[path] = picture(number, (200, 100), "PNG")
    return {
        "leftImg8bit_trainvaltest.zip": {"README": b"", **images},
        "gtBbox_cityPersons_trainval.zip": labels,
    }


def seq(
    frames: list[bytes], *, after: int = 16, count: int | None = None, kind: int = 102
) -> bytes:
    """Return a .seq video as StreamPix writes it, with 8 or 16 bytes after each frame."""
    head = struct.pack("<I", 0xFEED) + "Norpix seq\n".encode("utf-16-le").ljust(24, b"\0")
    head += struct.pack("<iI", 3, 1024) + "made".encode("utf-16-le").ljust(512, b"\0")
    number = len(frames) if count is None else count
    head += struct.pack("<9I", 640, 480, 24, 8, 640 * 480 * 3, kind, number, 0, 0)
    head += struct.pack("<d", 30.0)
    time = struct.pack("<IH", 1234567, 33).ljust(8, b"\0").ljust(after, b"\0")
    body = b"".join(struct.pack("<I", len(one) + 4) + one + time for one in frames)
    return head.ljust(1024, b"\0") + body


def vbb(labels: list[str], frames: list[list[tuple[int, list[float]]]]) -> bytes:
    """Return a .vbb annotation: of each frame (number of the object from 1, x y w h)."""
    kinds = [(name, "O") for name in ("id", "pos", "occl", "lock", "posv")]
    lists = np.empty((1, len(frames)), object)
    for place, rows in enumerate(frames):
        boxes = np.zeros((1, len(rows)), dtype=kinds)
        for i, (number, box) in enumerate(rows):
            zero = np.zeros((1, 1))
            boxes[0, i] = (zero + number, np.array([box], float), zero, zero, np.zeros((1, 4)))
        lists[0, place] = boxes if rows else np.zeros((0, 0))
    names = np.empty((1, len(labels)), object)
    names[0, :] = labels
    held = io.BytesIO()
    content: dict[str, Any] = {"nFrame": float(len(frames)), "objLists": lists, "objLbl": names}
    content |= {"maxObj": float(len(labels)), "log": 0.0}
    savemat(held, {"A": content, "vers": 1.4}, do_compression=True)
    return held.getvalue()


def caltech() -> dict[str, Files]:
    """Sets of videos, each an archive in the archive, and their annotations in another."""
    files, labels = {}, {}
    for name, part in (("set00", "Train"), ("set01", "Train"), ("set06", "Test")):
        frames = [picture(number, (640, 480)) for number in range(4)]
        video = seq(frames, after=16 if name == "set00" else 8)
        files[f"data_and_labels/{part}/{name}.zip"] = packed("x.zip", {f"{name}/V000.seq": video})
        rows: list[list[tuple[int, list[float]]]] = [
            [(1, [11, 21, 40, 100]), (2, [300, 50, 90, 80])],
            [],
            [(1, [12, 21, 40, 100]), (3, [200, 60, 10, 30])],
            [(1, [630, 21, 40, 100])],
        ]
        labels[f"annotations/{name}/V000.vbb"] = vbb(["person", "people", "person"], rows)
    files["data_and_labels/annotations.zip"] = packed("x.zip", labels)
    return {"data_and_labels.zip": files}


def bdd100k() -> dict[str, Files]:
    """Two splits, with lanes among the labels, and an image that stands in no list."""
    images, labels = {}, {}
    for split in ("train", "val"):
        rows = []
        for number in range(4):
            name = f"0000f77c-6257be{number}{split}.jpg"
            images[f"bdd100k/images/100k/{split}/{name}"] = picture(number, (1280, 720))
            if number == 3:
                continue
            box = {"x1": 100.5, "y1": 200.0, "x2": 140.5, "y2": 300.0 - 80 * number}
            things = [
                {"category": "person", "box2d": box, "id": 0, "attributes": {}},
                {"category": "lane", "poly2d": [{"vertices": [[1, 2]]}], "id": 1},
                {"category": "car", "box2d": {"x1": 5, "y1": 5, "x2": 90, "y2": 60}, "id": 2},
            ]
            shown = things if number < 2 else []
            rows.append({"name": name, "attributes": {}, "timestamp": 10000, "labels": shown})
        labels[f"bdd100k/labels/bdd100k_labels_images_{split}.json"] = json.dumps(rows).encode()
    return {"bdd100k_images_100k.zip": images, "bdd100k_labels_release.zip": labels}


def ilsvrc2013() -> dict[str, Files]:
    """Validation images, XML with WordNet ids and pixels from 0, a kit that names the classes."""
    ids = [f"n{number:08d}" for number in range(200)]
    kinds = [(name, "O") for name in ("ILSVRC2013_DET_ID", "WNID", "name", "description")]
    rows = np.zeros((1, 201), dtype=kinds)
    for place, wnid in enumerate([*ids, "n99999999"]):
        rows[0, place] = (np.array([[place + 1]]), wnid, f"thing {199 - place:03d}", "made")
    held = io.BytesIO()
    savemat(held, {"synsets": rows})
    images, labels = {}, {}
    for number in range(1, 5):
        name = f"ILSVRC2012_val_{number:08d}"
        images[f"ILSVRC2013_DET_val/{name}.JPEG"] = picture(number)
        boxes = [thing(ids[0], 0, 0, 63, 47), thing(ids[199], 4, 5, 20, 30)][: number - 1]
        labels[f"ILSVRC2013_DET_bbox_val/{name}.xml"] = xml(name, *boxes)
    return {
        "ILSVRC2013_DET_val.tar": images,
        "ILSVRC2013_DET_bbox_val.tgz": labels,
        "ILSVRC2013_devkit.tgz": {"ILSVRC2013_devkit/data/meta_det.mat": held.getvalue()},
    }


def openimages() -> dict[str, Files | bytes]:
    """The validation set: relative boxes, a group, a box of an image that is not there."""
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    head += "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
    rows = [
        "0001eeaf4aed83f9,freeform,/m/0cmf2,1,0.25,0.75,0,1,0,0,0,0,0\n",
        "0001eeaf4aed83f9,freeform,/m/01g317,1,0,0.5,0.5,1,0,0,1,0,0\n",
        "000595fe6fee6369,freeform,/m/01g317,1,0.1,0.2,0.1,0.3,0,0,0,0,0\n",
        "ffffffffffffffff,freeform,/m/01g317,1,0.1,0.2,0.1,0.3,0,0,0,0,0\n",
    ]
    names = ("0001eeaf4aed83f9", "000595fe6fee6369", "00075905539074f2")
    return {
        "class-descriptions-boxable.csv": b"/m/01g317,Person\n/m/0cmf2,Airplane\n",
        "validation-annotations-bbox.csv": (head + "".join(rows)).encode(),
        "validation.tar.gz": {f"validation/{n}.jpg": picture(i) for i, n in enumerate(names)},
    }


def archives(made: Mapping[str, Files | bytes]) -> dict[str, bytes]:
    """Return the bytes of every file of a set."""
    return {
        name: files if isinstance(files, bytes) else packed(name, files)
        for name, files in made.items()
    }


Maker = Callable[[], Mapping[str, Files | bytes]]
